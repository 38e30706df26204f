"""The end of what something waits for brings the run's next step, once, while other work of the run goes on (G2, G3, G5)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence

import pytest
from endings import is_given_back_too_often, is_lost, lapses, seen, steps
from strict import Mutation, Play, broken, done, faults, spec, verdict, watched_play

from blackboard.claims import Claim
from blackboard.errors import ScriptRefused
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.plan import Awaited
from blackboard.types import Limits, RetryPolicy, Status, TaskSpec

play = watched_play
ONCE = RetryPolicy(max_attempts=1)


async def commit(
    play: Play, step: Claim, *tasks: TaskSpec, on: Mapping[str, Sequence[str]] | None = None, off: Sequence[str] = (),
    at: str | None = None, outcome: RunCompletedData | None = None,
) -> None:  # fmt: skip
    planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": [{"text": "…"}]})
    position = await seen(play, step.run_id) if at is None else at
    await play.board.commit_step(
        step, planned, tasks, Limits(), outcome, seen=position, awaited=Awaited(on or {}, off)
    )  # fmt: skip


async def begun(play: Play, *tasks: TaskSpec, on: Mapping[str, Sequence[str]] | None = None) -> str:
    run = await play.board.submit("go")
    await commit(play, await play.step(run), *tasks, on=on)
    return run


def waits(key: str, *names: str, **more: object) -> TaskSpec:
    return spec(key, awaited_by=names, **more)


async def test_g5_the_last_of_a_name_brings_a_step_while_other_tasks_go_on(play: Play) -> None:
    await begun(play, waits("a", "x"), waits("b", "x"), spec("slow"), on={"x": ()})
    a, b, slow = await play.take(n=3)
    await play.board.complete(a, done(a))
    assert await steps(play) == []
    await play.board.complete(b, done(b))
    await play.sound()
    (step,) = await steps(play)
    assert step.round == 2
    await commit(play, step)
    assert await steps(play) == [], "nothing else is waited for"
    await play.board.complete(slow, done(slow))
    (last,) = await steps(play)
    assert last.round == 3, "and the round has its own end"


async def test_g5_what_ends_while_a_step_is_being_taken_brings_another_one_and_only_one(play: Play) -> None:
    run = await begun(
        play, waits("a", "x"), waits("b", "y"), waits("c", "z"), spec("slow"), on={"x": (), "y": (), "z": ()}
    )
    a, b, c, _ = await play.take(n=4)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    read = await seen(play, run)
    await play.board.complete(b, done(b))
    await play.board.complete(c, done(c))
    assert await steps(play) == [], "a run has one step at a time"
    await commit(play, step, at=read)
    await play.sound()
    (another,) = await steps(play)
    await commit(play, another)
    assert await steps(play) == []


async def test_g5_what_a_step_has_read_brings_no_further_one(play: Play) -> None:
    await begun(play, waits("a", "x"), waits("b", "y"), spec("slow"), on={"x": (), "y": ()})
    a, b, _ = await play.take(n=3)
    await play.board.complete(a, done(a))
    await play.board.complete(b, done(b))
    (step,) = await steps(play)
    await commit(play, step)
    assert await steps(play) == []


async def test_g5_a_name_counts_the_tasks_of_earlier_decisions_that_are_still_open(play: Play) -> None:
    run = await begun(play, spec("a"), spec("b"), waits("c", "go"), on={"go": ()})
    a, b, c = await play.take(n=3)
    await play.board.complete(a, done(a))
    await play.board.complete(c, done(c))
    (step,) = await steps(play)
    await commit(play, step, waits("d", "x"), on={"x": [f"{run}/1.a", f"{run}/1.b"]})
    d = await play.one()
    await play.board.complete(d, done(d))
    assert await steps(play) == []
    await play.board.complete(b, done(b))
    assert [claim.round for claim in await steps(play)] == [3]


async def test_g5_a_name_without_an_open_task_is_due_at_once(play: Play) -> None:
    run = await begun(play, waits("a", "go"), spec("slow"), on={"go": ()})
    a, _ = await play.take(n=2)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    await commit(play, step, on={"x": [f"{run}/1.a"]})
    await play.sound()
    assert [claim.round for claim in await steps(play)] == [3]


async def test_g5_a_name_that_is_taken_back_brings_no_step(play: Play) -> None:
    await begun(play, waits("a", "go"), waits("b", "x"), spec("slow"), on={"go": (), "x": ()})
    a, b, _ = await play.take(n=3)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    await commit(play, step, off=["x"])
    await play.board.complete(b, done(b))
    assert await steps(play) == []


async def _completes(play: Play, run: str) -> None:
    claim = await play.one()
    await play.board.complete(claim, done(claim))


async def _fails_twice(play: Play, run: str) -> None:
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    assert await steps(play) == [], "another attempt follows"
    await play.clock.advance(11)
    await play.board.sweep()
    claim = await play.one()
    await play.board.complete(claim, broken(claim, retryable=False))


async def _is_cancelled(play: Play, run: str) -> None:
    await play.board.cancel_task(f"{run}/1.a", "not wanted")


async def _depends_on_what_failed(play: Play, run: str) -> None:
    claim = await play.one("before")
    await play.board.complete(claim, broken(claim))


@pytest.mark.parametrize(
    ("ends", "task"),
    [
        (_completes, waits("a", "x")),
        (_fails_twice, waits("a", "x")),
        (_is_cancelled, waits("a", "x")),
        (lapses, waits("a", "x", seconds=60)),
        (is_lost, waits("a", "x", retry=ONCE)),
        (is_given_back_too_often, waits("a", "x")),
        (_depends_on_what_failed, waits("a", "x", after=("b",))),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_g3_however_it_ends_what_waits_for_it_is_due(
    play: Play, ends: Callable[[Play, str], Coroutine[None, None, None]], task: TaskSpec
) -> None:
    before = [spec("b", lane="before")] if task.after else []
    run = await begun(play, task, *before, spec("slow", lane="other", seconds=500), on={"x": ()})
    await ends(play, run)
    await play.sound()
    assert [claim.round for claim in await steps(play)] == [2]
    assert await play.state(f"{run}/1.slow") == "ready"


async def test_g7_a_cancelled_run_takes_no_further_step(play: Play) -> None:
    run = await begun(play, waits("a", "x"), waits("b", "x"), on={"x": ()})
    a, _ = await play.take(n=2)
    await play.board.cancel_run(run, "enough")
    await play.board.complete(a, done(a))
    assert await steps(play) == []
    await play.sound()


async def test_a_paused_run_takes_the_step_when_it_goes_on(play: Play) -> None:
    run = await begun(play, waits("a", "x"), spec("slow"), on={"x": ()})
    a, _ = await play.take(n=2)
    await play.board.pause_run(run, "a moment")
    await play.board.complete(a, done(a))
    assert await steps(play) == []
    await play.board.resume_run(run)
    assert [claim.round for claim in await steps(play)] == [2]


async def test_g3_a_step_that_fails_beside_other_work_ends_the_run_with_the_last_of_that(play: Play) -> None:
    run = await begun(play, waits("a", "x"), spec("slow"), spec("waits", lane="other"), on={"x": ()})
    a, slow = await play.take(n=2)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    await play.board.complete(step, broken(step))
    assert await play.status(run) == "cancelling"
    assert await play.state(f"{run}/1.waits") == "cancelled"
    assert await play.hold(slow) == "cancel"
    await play.sound()
    await play.board.complete(slow, slow.completion(Status.CANCELLED))
    assert await play.status(run) == "failed"
    assert (await play.board.history(run))[-1].data.error.message == "broke"


async def test_g6_a_worker_that_does_not_stop_for_it_keeps_the_run_from_nothing(play: Play) -> None:
    run = await begun(play, waits("a", "x"), spec("slow"), on={"x": ()})
    a, _ = await play.take(n=2)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    await play.board.complete(step, broken(step))
    await play.clock.advance(16)
    await play.board.sweep(expire=False)
    assert await play.status(run) == "failed"


async def test_g3_no_decision_ends_a_run_while_other_work_of_it_goes_on(play: Play) -> None:
    run = await begun(play, waits("a", "x"), spec("slow"), on={"x": ()})
    a, _ = await play.take(n=2)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    with pytest.raises(ScriptRefused, match="goes on"):
        await commit(play, step, outcome=RunCompletedData(status="succeeded", answer="x", rounds=2))
    assert await play.status(run) == "running"


async def one_step_follows(play: Play) -> bool:
    run = await begun(play, waits("a", "x"), waits("b", "y"), spec("slow"), on={"x": (), "y": ()})
    a, b, _ = await play.take(n=3)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    read = await seen(play, run)
    await play.board.complete(b, done(b))
    await commit(play, step, at=read)
    found = await steps(play)
    for one in found:
        await commit(play, one)
    return len(found) == 1 and await steps(play) == [] and not await faults(play.board)


async def what_ended_before_is_due(play: Play) -> bool:
    run = await begun(play, waits("a", "go"), spec("b"), spec("slow"), on={"go": ()})
    a, b, _ = await play.take(n=3)
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    read = await seen(play, run)
    await play.board.complete(b, done(b))
    await commit(play, step, on={"x": [f"{run}/1.b"]}, at=read)
    return len(await steps(play)) == 1


async def a_failed_step_leaves_nothing(play: Play) -> bool:
    run = await begun(play, waits("a", "x"), spec("slow"), on={"x": ()})
    (a,) = await play.take()
    await play.board.complete(a, done(a))
    (step,) = await steps(play)
    await play.board.complete(step, broken(step))
    return await play.status(run) == "failed" and not await faults(play.board)


@pytest.mark.parametrize(
    ("check", "mutation"),
    [
        (one_step_follows, ("_board", "and not decided_on(t.run, r) then post_step", "then post_step")),
        (one_step_follows, ("_board", "  redis.call('HSET', TURNS, '#', LOGGED)\n", "")),
        (one_step_follows, ("_board", "    if r and active(r) and not decided_on", "    if false and not decided_on")),
        (one_step_follows, ("commit", "local ripe = ended and place(ended) > said.seen", "local ripe = false")),
        (one_step_follows, ("commit", "local ripe = ended and place(ended) > said.seen", "local ripe = ended")),
        (what_ended_before_is_due, ("commit", "== 0 then ripe = true end", "== 0 then end")),
        (a_failed_step_leaves_nothing, ("_board", "if open > 0 then\n        give_up", "if false then\n        give_up")),
        (a_failed_step_leaves_nothing, ("_board", "if open > 0 and t.kind ~= 'step' then", "if open > 0 then")),
    ],
)  # fmt: skip
async def test_each_of_these_guards_is_needed(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[Play], Coroutine[None, None, bool]], mutation: Mutation
) -> None:
    assert await verdict(check, monkeypatch)
    assert not await verdict(check, monkeypatch, mutation)
