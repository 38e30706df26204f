"""The commands refit and forget, on boards that runs were carried out on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, arbiter, call
from cli_process import arbiter as command
from cli_process import records

from arbiter import doctor
from arbiter.planner import Planner
from blackboard.lessons import Lessons
from blackboard.testing import RedisServer

RIGHT = "whole quokka wombat"
"""Few of its words are known, and what has them serves it."""
WRONG = "make rows numbered from 0 whole"
"""Nearly the same as what does not serve it."""


def searching() -> list[Any]:
    """The turns of a run: ten searches in one, of which half find first what serves them in the end."""
    searches = [call("search_capabilities", query=f"{need} {n}") for n in range(5) for need in (RIGHT, WRONG)]
    return [searches, call("add", a=1, b=2), "3"]


async def test_a_board_is_refitted_from_its_own_runs_and_says_so_everywhere(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forgetful(*_: Any) -> None:
        """The process ended before what it served was kept."""

    monkeypatch.setattr(Planner, "_learn", forgetful)
    environment = {"ARBITER_REDIS_URL": redis_server.url}

    async def run(board: str, *words: str) -> Any:
        return await asyncio.to_thread(command, *words, "--board", board, cwd=tmp_path, env=environment)

    async with arbiter(redis_server.url, searching() * 6, capabilities=FUNCTIONS) as (a, _):
        name = a._options["board"]
        for number in range(4):
            await a.run(f"Do the sums of {number}.", timeout=30)
        few = await run(name, "capabilities", "refit")
        assert few.returncode == 2
        assert "50 needs" in few.stderr
        for number in range(4, 6):
            last = await a.run(f"Do the sums of {number}.", timeout=30)
        assert (await a.registry.decide(WRONG)).own_cases == 0
        sure = (await a.registry.decide(WRONG)).probability

        tried = records((await run(name, "capabilities", "refit", "--dry-run", "--json")).stdout)[0]
        assert (tried["cases"] >= 60, tried["changed"], tried["runs"]) == (True, False, 6)
        assert tried["loss"] < tried["shipped_loss"]
        assert tried["learnt"] == 0
        fitted = await run(name, "capabilities", "refit")
        assert "every process decides by a calibration fitted on" in fitted.stderr
        decision = await a.registry.decide(WRONG)
        assert decision.own_cases == tried["cases"]
        assert decision.probability < sure
        told = await doctor._matching(redis_server.url, None, "arbiter", name)
        assert (told.level, "probabilities fitted on" in told.said) == ("ok", True)
        await Lessons(a.board.catalog).calibrate("{", "ann", {})
        damaged = await doctor._matching(redis_server.url, None, "arbiter", name)
        assert (damaged.level, "refit" in damaged.remedy) == ("warn", True)
        assert f"{RIGHT} 0" in (await a.registry.lessons("add"))["default"], (
            "what the processes did not keep is found in the logs"
        )
    shown = records((await run(name, "why", last.run_id, "--json")).stdout)
    assert [each["served"] for each in shown[1:3]] == [["add"], ["add"]]
    words = (await run(name, "why", last.run_id)).stdout
    assert "served in the end by add: the best candidate" in words
    assert "served in the end by add: not the best candidate" in words
    back = await run(name, "capabilities", "refit", "--shipped")
    assert "go by the shipped calibration" in back.stderr


async def test_what_was_learnt_is_shown_and_can_be_forgotten(redis_server: RedisServer, tmp_path: Path) -> None:
    environment = {"ARBITER_REDIS_URL": redis_server.url}
    async with arbiter(redis_server.url, ["hello"], capabilities=FUNCTIONS) as (a, _):
        name = a._options["board"]
        for tenant in ("acme", "rival"):
            await a.registry.learn("r1", tenant, 1.0, [("add", f"sums of {tenant}")])

        async def run(*words: str) -> Any:
            return await asyncio.to_thread(command, *words, "--board", name, cwd=tmp_path, env=environment)

        shown = json.loads((await run("capabilities", "show", "add", "--json")).stdout)
        assert shown["served"] == {"acme": ["sums of acme"], "rival": ["sums of rival"]}
        assert "acme: sums of acme" in (await run("capabilities", "show", "add")).stdout
        assert (await run("capabilities", "forget")).returncode == 2
        assert "no capability 'adds'" in (await run("capabilities", "forget", "adds")).stderr
        assert "1 pair" in (await run("capabilities", "forget", "add", "--tenant", "acme")).stderr
        assert await a.registry.lessons("add") == {"rival": ("sums of rival",)}
