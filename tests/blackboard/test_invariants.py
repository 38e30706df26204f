"""The reading of a whole board notices what is missing, left over or counted wrongly."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from strict import Play, broken, done, spec, watched_play

from blackboard import _keys
from blackboard.board import Board
from blackboard.budgets import Amounts, Budget, Budgets, Level
from blackboard.dead_letters import DeadLetters
from blackboard.invariants import faults, held
from blackboard.retention import retire
from blackboard.schedule import Schedule
from blackboard.schedules import Schedules
from blackboard.types import Limits, RetryPolicy, Status

play = watched_play
ONCE = RetryPolicy(max_attempts=1)
LEVEL = Level("board")
Tamper = Callable[[Any, Board], Awaitable[object]]


def dead(board: Board) -> str:
    return board.shards[0].dead


async def lived(board: Board, play: Play) -> str:
    """A board on which work was given up, is budgeted and scheduled. Returns the task that failed."""
    run = await play.run(spec("a", retry=ONCE), spec("b"))
    for claim in await play.take(n=2):
        await (board.fail(claim, broken(claim)) if claim.key == "a" else board.complete(claim, done(claim)))
    budgets = Budgets(board)
    await budgets.set(Budget(level="board", tokens=100))
    await budgets.reserve("r", [LEVEL], Amounts(tokens=7))
    await Schedules(board).add(Schedule(name="daily", when="rate(1 day)", request="go"))
    return f"{run}/1.a"


async def letter_gone(client: Any, board: Board) -> None:
    await DeadLetters(board).discard(*await client.hkeys(dead(board)))


async def letter_too_many(client: Any, board: Board) -> None:
    shard = board.shards[0]
    (task,) = [task for task in await client.hkeys(shard.tasks) if task.endswith("1.b")]
    (letter,) = await client.hvals(shard.dead)
    await client.hset(shard.dead, task, letter)
    await client.zadd(shard.deadx, {task: json.loads(letter)["at"]})


async def pot_emptied(client: Any, board: Board) -> None:
    await client.hincrby(_keys.budgets(board.namespace, board.name) + "pot:board", "r:tokens", -7)


async def reservation_without_end(client: Any, board: Board) -> None:
    await client.zrem(_keys.budgets(board.namespace, board.name) + "due", "r")


async def schedule_asleep(client: Any, board: Board) -> None:
    await client.zrem(_keys.schedules(board.shards[0])[2], "daily")


async def definition_gone(client: Any, board: Board) -> None:
    await client.hdel(_keys.schedules(board.shards[0])[0], "daily")


@pytest.mark.parametrize(("tamper", "named"), [
    (letter_gone, "G3 given up without a dead letter"),
    (letter_too_many, "G3 dead letter of what was not given up"),
    (pot_emptied, "G8 pot of board"),
    (reservation_without_end, "G8 reservation without an end"),
    (schedule_asleep, "G6 schedule nobody will look at"),
    (definition_gone, "G2 schedule without a definition"),
])  # fmt: skip
async def test_what_does_not_fit_together_is_named(play: Play, tamper: Tamper, named: str) -> None:
    await lived(play.board, play)
    assert await faults(play.board) == []
    await tamper(play.board.client, play.board)
    assert any(line.startswith(named) for line in await faults(play.board))
    await play.wipe()


async def test_letters_that_were_discarded_are_not_looked_for(play: Play) -> None:
    task = await lived(play.board, play)
    await DeadLetters(play.board).discard(task)
    assert await faults(play.board, discarded=[task]) == []
    play.discarded.append(task)


async def test_g8_what_is_held_is_named_until_it_is_settled(play: Play) -> None:
    await lived(play.board, play)
    assert await held(play.board) == ["G8 still held: r"]
    hold = await Budgets(play.board).reserve("r", [LEVEL], Amounts(tokens=7))
    assert hold is not None
    await Budgets(play.board).refund(hold)
    assert await held(play.board) == await faults(play.board) == []


async def test_tasks_that_end_with_their_run_have_no_letter_and_need_none(play: Play) -> None:
    run = await play.board.submit("go", limits=Limits(seconds=5))
    await play.plan(await play.step(run), spec("a"), spec("b", ["a"]))
    await play.one()
    await play.clock.advance(6)
    await play.board.sweep()
    assert await play.status(run) == "timed_out"
    assert [one.id for one in (await DeadLetters(play.board).list()).letters] == [run]
    assert await faults(play.board) == []


async def test_a_run_that_was_removed_and_one_of_its_key_after_it_fit_together(play: Play) -> None:
    for _ in range(2):
        run = await play.board.submit_call("count", 1, lane="work", idempotency_key="k")
        claim = await play.one()
        await play.board.complete(claim, claim.completion(Status.SUCCEEDED, data=1))
        assert await faults(play.board) == []
        await retire(play.board, run)
        assert await faults(play.board) == []
    await play.board.submit_call("count", 1, lane="work", idempotency_key="k")
    await play.one()
    assert await faults(play.board) == []
