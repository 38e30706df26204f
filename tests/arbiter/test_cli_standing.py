"""The command ``arbiter standing``: watches are stored once, listed, removed, and refused with words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arbiter.cli import main
from blackboard.testing import RedisServer


@pytest.fixture
def said(redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*words: str, code: int = 0) -> str:
        assert main(["standing", *words, "--url", redis_server.url, "--board", board_name]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return call


def test_a_watch_is_stored_once_listed_and_removed(said: Any) -> None:
    words = ("add", "desk", "--scope", "session:desk", "--topic", "claims.*", "--where", "amount>=100")
    more = ("--until", "checked.>", "--limit-tasks", "7")
    assert said(*words, *more).strip() == "desk  session:desk claims.* amount>=100: 0 runs"
    assert said(*words, *more) == said("list")
    assert "another definition" in said(*words, code=2)
    (record,) = map(json.loads, said("list", "--json").splitlines())
    assert (record["name"], record["agenda"]["until"]["topic"], record["limits"]["tasks"], record["started"]) == (
        "desk", "checked.>", 7, 0,
    )  # fmt: skip
    assert said("remove", "desk").strip() == "removed desk"
    assert said("list") == ""
    assert "no standing watch desk" in said("remove", "desk", code=2)


def test_what_cannot_be_watched_is_refused_with_words(said: Any) -> None:
    assert "session:NAME" in said("add", "x", "--scope", "run:r1", code=2)
    assert "Traceback" not in said("add", "x", "--scope", "public", "--where", "amount", code=2)
    assert "after" in said("add", "x", "--scope", "public", "--after", "yesterday", code=2)
    assert "strategy" in said("add", "x", "--scope", "public", "--strategy", "No", code=2)
