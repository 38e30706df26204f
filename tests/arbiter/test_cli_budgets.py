"""The command ``arbiter budgets``: set, listed, shown, taken away, and refused with words."""

from __future__ import annotations

import asyncio
import json

import pytest

from arbiter.cli import main
from blackboard.board import Board
from blackboard.budgets import Amounts, Budgets, Level
from blackboard.testing import RedisServer


def test_budgets_are_set_listed_shown_and_taken_away(
    redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--url", redis_server.url, "--board", board_name]

    def said(*words: str) -> str:
        assert main(["budgets", *words, *place]) == 0
        return capsys.readouterr().out

    async def spend() -> None:
        async with await Board.open(redis_server.url, board=board_name) as board:
            budgets = Budgets(board)
            hold = await budgets.reserve("x", [Level("tenant:acme")], Amounts(tokens=10, money=1_250_000))
            assert hold is not None
            await budgets.settle(hold, Amounts(tokens=2000, money=1_250_000))

    assert said() == ""
    said("set", "tenant:acme", "--tokens", "1000", "--money", "12.5", "--seconds", "2.5")
    asyncio.run(spend())
    table = [line.split() for line in said().splitlines()]
    assert table[1] == ["tenant:acme", "tokens", "1,000", "2,000", "0", "0", "overshot", "by", "1,000"]
    assert table[2][:6] == ["tenant:acme", "money", "12.5", "1.25", "0", "11.25"]
    (record,) = (json.loads(line) for line in said("show", "tenant:acme", "--json").splitlines())
    assert record["units"]["tokens"] == {
        "limit": 1000, "spent": 2000, "reserved": 0, "excess": 1990, "lapsed": 0, "left": 0, "overshoot": 1000,
    }  # fmt: skip
    said("set", "tenant:acme", "--none")
    assert said() == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nobody", "--tokens", "1"], "tenant:"),
        (["board"], "--tokens"),
        (["board", "--tokens", "1", "--none"], "--none alone"),
        (["board", "--tokens", "many"], "Give a number"),
        (["board", "--tokens", "1.5"], "whole number"),
        (["board", "--money", "0.0000001"], "six decimals"),
        (["board", "--tokens", "-1"], "--tokens"),
        (["board", "--seconds", "nan"], "--seconds"),
        (["board", "--money", "1e20"], "--money"),
    ],
)
def test_a_budget_that_is_none_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budgets", "set", *words, "--url", "memory://"]) == 2
    assert says in capsys.readouterr().err
