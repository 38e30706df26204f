"""Each guard of steps that come though work goes on is needed: without it one of these plays comes to something else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

import pytest
from early_runs import answered, asked, commit, lasting
from endings import seen, steps
from strict import Mutation, Play, broken, done, faults, spec, verdict

from blackboard.plan import Early
from blackboard.types import Status


async def one_step_for_a_failure(play: Play) -> bool:
    run, step, slow = await asked(play, spec("b"), spec("c"))
    read = await seen(play, run)
    b, c = await play.take(n=2)
    await play.board.complete(b, broken(b))
    await commit(play, step, at=read)
    (another,) = await steps(play)
    await commit(play, another)
    await play.board.complete(c, done(c))
    none = await steps(play) == []
    await play.board.complete(slow, done(slow))
    return none and len(await steps(play)) == 1 and not await faults(play.board)


async def one_step_for_a_time(play: Play) -> bool:
    _, slow = await lasting(play)
    await play.clock.advance(60)
    await play.board.sweep()
    later = await play.board.sweep()
    (step,) = await steps(play)
    await play.hold(step, 3000)
    if later == 0 or await faults(play.board):
        return False
    await commit(play, step, early=Early(60_000))
    await play.board.complete(slow, done(slow))
    (step,) = await steps(play)
    await play.hold(step, 3000)
    await play.clock.advance(61)
    await play.board.sweep()
    return await steps(play) == [] and not await faults(play.board)


async def the_time_of_a_paused_run_stands_still(play: Play) -> bool:
    run, _ = await lasting(play)
    await play.board.pause_run(run, "a moment", seconds=1000)
    await play.clock.advance(61)
    await play.board.sweep()
    none = await steps(play) == [] and not [event for event in await play.kinds(run, "task.posted") if "/s2" in event]
    await play.board.resume_run(run)
    await play.clock.advance(61)
    await play.board.sweep()
    return none and len(await steps(play)) == 1


async def the_time_ends_with_its_run(play: Play) -> bool:
    run, _ = await lasting(play)
    await play.board.cancel_run(run, "enough")
    await play.clock.advance(16)
    await play.board.sweep()
    return not await faults(play.board)


async def an_answer_is_kept(play: Play) -> bool:
    run, slow = await answered(play)
    await play.board.complete(slow, slow.completion(Status.CANCELLED))
    return (await play.board.history(run))[-1].data.answer == "x" and not await faults(play.board)


async def what_is_stopped_is_told_once(play: Play) -> bool:
    run, step, slow = await asked(play)
    await play.board.cancel_task(slow.task_id, "by a person")
    await commit(play, step, early=Early(stop={slow.task_id: "again", f"{run}/1.a": "over"}))
    return len(await play.kinds(run, "task.cancelling")) == 1 and not await faults(play.board)


@pytest.mark.parametrize(
    ("check", "mutation"),
    [
        (one_step_for_a_failure, ("_board", "if t.tell and (given_up(status)", "if false and (given_up(status)")),
        (one_step_for_a_failure, ("_board", "if t.tell and (given_up(status)", "if t.tell and (true")),
        (one_step_for_a_time, ("lapse_run", "and active(r) and not decided_on(ARGV[A], r)", "and active(r)")),
        (one_step_for_a_time, ("lapse_run", "  redis.call('ZREM', DUE, 's:' .. ARGV[A])\n", "")),
        (one_step_for_a_time, ("lapse_run", "    redis.call('HSET', TURNS, '#', '0-0')", "    --")),
        (one_step_for_a_time, ("due", "if string.sub(m, 1, 2) == 's:' then", "if false then")),
        (the_time_of_a_paused_run_stands_still, ("pause_run", "if r.again then", "if false then")),
        (the_time_of_a_paused_run_stands_still, ("resume_run", "if r.again then", "if false then")),
        (the_time_ends_with_its_run, ("_board", "DUE, 'r:' .. run, 's:' .. run)", "DUE, 'r:' .. run)")),
        (an_answer_is_kept, ("commit", "    redis.call('HSET', TURNS, '!', ARGV[A + 4])\n", "")),
        (an_answer_is_kept, ("_board", "if answer then finish_run", "if false then finish_run")),
        (what_is_stopped_is_told_once, ("commit", "and not terminal(x) and not x.cxl then", "and not x.cxl then")),
        (what_is_stopped_is_told_once, ("commit", "and not terminal(x) and not x.cxl then", "and not terminal(x) then")),
    ],
)  # fmt: skip
async def test_each_of_these_guards_is_needed(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[Play], Coroutine[None, None, bool]], mutation: Mutation
) -> None:
    assert await verdict(check, monkeypatch)
    assert not await verdict(check, monkeypatch, mutation)
