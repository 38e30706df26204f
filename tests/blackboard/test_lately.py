"""How the latest tasks of a version ended: counted with the end of each, known to the last one, and free for what succeeds."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strict import Play, broken, done, spec, watched_play

import blackboard
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.lately import OWN, WINDOW, Ended, together
from blackboard.types import Failure, RetryPolicy, Status

play = watched_play


def latest(ends: Sequence[bool], of: int = WINDOW) -> Ended:
    """What is to be known of a version whose tasks ended so, oldest first."""
    window = ends[-of:]
    return Ended(sum(ends), len(ends) - sum(ends), sum(window), len(window) - sum(window))


def kept(ends: Sequence[bool]) -> tuple[str | None, str | None]:
    """The same as a shard keeps it."""
    good, failures = 0, list[int]()
    for end in ends:
        good += end
        if not end:
            failures.append(good)
    told = " ".join(map(str, [len(failures), *failures[-WINDOW:]])) if failures else None
    return str(good) if good else None, told


def failing(board: Board, claim: Claim, type: str) -> Any:
    error = Failure(type=type, message="no", retryable=False)
    return board.complete(claim, claim.completion(Status.FAILED, error=error))


@given(st.lists(st.booleans(), max_size=3 * WINDOW))
def test_the_latest_tasks_are_known_to_the_last_one(ends: list[bool]) -> None:
    assert together([kept(ends)]) == latest(ends)


@given(st.lists(st.lists(st.booleans(), max_size=WINDOW), min_size=1, max_size=16))
def test_each_shard_gives_its_part_of_the_latest(shards: list[list[bool]]) -> None:
    found = together([kept(ends) for ends in shards])
    part = -(-WINDOW // len(shards))
    assert found == Ended(*(sum(each) for each in zip(*(latest(ends, part) for ends in shards), strict=True)))
    assert found.lately_succeeded + found.lately_failed < WINDOW + len(shards)


def test_the_script_keeps_as_many_failures_as_are_looked_at() -> None:
    text = (Path(blackboard.__file__).parent / "lua" / "_board.lua").read_text()
    assert re.search(r"^local WINDOW = (\d+) ", text, re.MULTILINE).group(1) == str(WINDOW)  # type: ignore[union-attr]


async def test_it_is_counted_as_tasks_end_however_often_that_is_said(play: Play) -> None:
    chance, ends = random.Random(3), list[bool]()
    await play.run(*(spec(f"k{number}", version="v1") for number in range(130)))
    while claims := await play.take(n=26):
        for claim in claims:
            ends.append(chance.random() < 0.5)
            for _ in range(2):
                await play.board.complete(claim, done(claim) if ends[-1] else broken(claim, retryable=False))
        assert await play.board.ended([("count", "v1"), ("count", "v2")]) == [latest(ends), Ended()]
    assert len(ends) == 130
    assert ends.count(False) > WINDOW
    assert await play.board.ended([]) == []


@pytest.mark.parametrize(
    "type", [*sorted(OWN), "model_error", "limit", "lease_lost", "deadline", "refused", "permanent"]
)
@pytest.mark.engines("redis")
async def test_only_failures_of_its_own_doing_are_counted(play: Play, type: str) -> None:
    await play.run(spec("a", version="v1"), spec("b"))
    for claim in await play.take(n=2):
        await failing(play.board, claim, type)
    assert await play.board.ended([("count", "v1")]) == [latest([False] if type in OWN else [])]


async def test_of_an_attempt_that_is_followed_by_another_only_the_last_is_counted(play: Play) -> None:
    await play.run(spec("a", version="v1", retry=RetryPolicy(max_attempts=2)))
    for _ in range(2):
        claim = await play.one()
        assert await play.board.ended([("count", "v1")]) == [Ended()]
        await play.board.fail(claim, broken(claim))
        await play.clock.advance(60)
        await play.board.sweep()
    assert await play.board.ended([("count", "v1")]) == [latest([False])]
