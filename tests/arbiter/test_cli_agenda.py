"""The command ``arbiter agenda``: looked at, explained, overruled, focused, and refused with words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from arbiter import AgendaTerms, Arbiter, Trigger, capability
from arbiter.cli import main
from blackboard.testing import RedisServer


@capability(triggers=[Trigger(topic="a", priority=3), Trigger(topic="a", priority=7)])
def look(entry: dict[str, Any]) -> None:
    """Look at it."""


@pytest.fixture
def run(redis_server: RedisServer, board_name: str) -> str:
    """A run nobody serves, on whose agenda two activations wait."""

    async def made() -> str:
        async with Arbiter(redis_server.url, board=board_name, roles=()) as a:
            await a.register(look)
            run = await a.submit("Go.", agenda=AgendaTerms())
            await a.entries.within(f"run:{run}").post("a", 1)
            return run

    return asyncio.run(made())


@pytest.fixture
def said(redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str, code: int = 0, noted: bool = False) -> str:
        assert main(["agenda", *words, "--url", redis_server.url, "--board", board_name]) == code
        out, err = capsys.readouterr()
        return err if code or noted else out

    return call


def test_an_agenda_is_looked_at_explained_and_overruled(said: Any, run: str) -> None:
    found = [json.loads(line) for line in said("list", run, "--json").splitlines()]
    assert [(one["id"], one["state"], one["priority"]) for one in found] == [
        (f"{run}/a/1", "waiting", 3.0), (f"{run}/a/2", "waiting", 7.0),
    ]  # fmt: skip
    assert said("recommend", run, "--limit", "1").startswith(f"{run}/a/2  look: the highest rating by priority")
    assert said("block", f"{run}/a/2", "--reason", "not now", "--key", "x").strip() == "blocked"
    assert said("unblock", f"{run}/a/2").strip() == "waiting"
    assert said("block", f"{run}/a/2", "--key", "x").strip() == "waiting", "the same change once more"
    assert said("promote", f"{run}/a/1").strip() == "waiting"
    assert json.loads(said("rerate", f"{run}/a/2", "9.5", "--json")) == {"activation": f"{run}/a/2", "state": "waiting"}
    assert said("recommend", run).splitlines()[0] == f"{run}/a/1  look: somebody promoted it"
    assert "given the rating 9.5 by" in said("explain", f"{run}/a/2")
    assert "no such activations" not in said("list", run, "--state", "waiting")
    assert "STATE" in said("list", run)


def test_a_strategy_is_written_on_the_control_board(said: Any, run: str) -> None:
    written = said("focus", run, "fair_share", "--weight", "look=2").strip()
    assert written.startswith(f"{run}/e/")
    assert "by fair_share" in said("recommend", run)
    assert "none of the built-in ones" in said("focus", run, "fair_shar", noted=True)


def test_what_cannot_be_meant_is_refused_with_words(said: Any, run: str) -> None:
    assert "activation" in said("explain", "nothing", code=2)
    assert "no activation 9" in said("block", f"{run}/a/9", code=2)
    assert "RATING" in said("rerate", f"{run}/a/1", "high", code=2)
    assert "state" in said("list", run, "--state", "gone", code=2)
    assert "weights" in said("focus", run, "priority", "--weight", "look=-1", code=2)
