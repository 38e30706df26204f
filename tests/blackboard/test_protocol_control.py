"""G7: cancelling single tasks, letting runs rest and go on; on every engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from strict import Play, broken, done, spec, watched_play

from blackboard import _script
from blackboard.errors import BadInput, Fenced, ScriptRefused, UnknownRecord
from blackboard.types import Completion, Limits, RetryPolicy, Status

play = watched_play


async def ends(play: Play, run: str) -> dict[str, Completion]:
    found: dict[str, Completion] = {}
    for event in await play.board.history(run):
        if event.type.endswith("task.completed.v1"):
            assert event.subject not in found
            found[event.subject.partition(".")[2]] = event.data
    return found


# ---- one task --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "blocked", "delayed"])
async def test_g7_a_waiting_task_ends_at_once_with_those_behind_it_and_the_run_goes_on(play: Play, state: str) -> None:
    run = await play.run(spec("first"), spec("a", ["first"] if state == "blocked" else ()), spec("then", ["a"]))
    if state == "delayed":
        first, a = await play.take(n=2)
        await play.board.fail(a, broken(a))
    else:
        first = await play.one()
    assert await play.state(f"{run}/1.a") == state
    assert await play.board.cancel_task(f"{run}/1.a", "not wanted") == "cancelled"
    got = await ends(play, run)
    assert got["a"].status == got["then"].status == Status.CANCELLED
    assert got["a"].error is not None
    assert got["a"].error.message == "not wanted"
    assert got["a"].error.evidence == {"stopped": True}
    await play.board.complete(first, done(first))
    assert (await play.step(run)).round == 2


async def test_g7_a_running_task_is_told_reports_and_the_others_go_on(play: Play) -> None:
    run = await play.run(spec("a"), spec("b"))
    a, b = await play.take(n=2)
    assert await play.board.cancel_task(a.task_id) == "cancelling"
    assert await play.hold(a) == "cancel"
    assert await play.hold(b) == ""
    await play.board.complete(a, a.completion(Status.CANCELLED))
    await play.board.complete(b, done(b))
    assert (await play.step(run)).round == 2
    assert [event for event in await play.kinds(run) if "cancelling" in event] == ["task.cancelling /1.a"]


async def test_g7_a_running_task_that_does_not_stop_is_ended_after_the_grace_and_its_fate_is_unknown(
    play: Play,
) -> None:
    run = await play.run(spec("a"), spec("b"))
    a, b = await play.take(n=2)
    await play.board.cancel_task(a.task_id)
    for _ in range(4):
        await play.clock.advance(5)
        await play.hold(a)
        await play.hold(b)
    await play.board.sweep()
    got = await ends(play, run)
    assert got["a"].status == Status.CANCELLED
    assert got["a"].error is not None
    assert got["a"].error.evidence == {"stopped": False}
    with pytest.raises(Fenced):
        await play.board.complete(a, done(a))
    await play.board.complete(b, done(b))


async def test_g7_cancelling_a_task_twice_or_late_changes_nothing(play: Play) -> None:
    run = await play.run(spec("a"), spec("b"))
    a, b = await play.take(n=2)
    states = await asyncio.gather(*(play.board.cancel_task(a.task_id) for _ in range(3)))
    assert set(states) == {"cancelling"}
    before = await play.snapshot()
    await play.board.cancel_task(a.task_id)
    assert await play.snapshot() == before
    await play.board.complete(b, done(b))
    assert await play.board.cancel_task(b.task_id) == "succeeded"
    await play.board.release(a)
    assert (await ends(play, run))["a"].error.evidence == {"stopped": True}  # type: ignore[union-attr]


async def test_a_decision_is_not_cancelled_by_itself_and_unknown_tasks_are_said_so(play: Play) -> None:
    run = await play.board.submit("go")
    with pytest.raises(ScriptRefused, match="cancel the run"):
        await play.board.cancel_task(f"{run}/s1")
    with pytest.raises(UnknownRecord):
        await play.board.cancel_task(f"{run}/1.nothing")


# ---- rest ------------------------------------------------------------------------------------------------------------


async def test_g7_nothing_of_a_paused_run_is_handed_out_until_it_goes_on(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]), spec("c"))
    other = await play.run(spec("x"))
    assert await play.board.pause_run(run, "wait") == "paused"
    assert [claim.run_id for claim in await play.take(n=9)] == [other]
    assert await play.status(run) == "paused"
    assert await play.board.resume_run(run) == "running"
    assert [claim.key for claim in await play.take(n=9)] == ["a", "c"]
    assert await play.kinds(run, "run.paused", "run.resumed") == ["run.paused ", "run.resumed "]


async def test_a_run_that_was_never_begun_rests_too(play: Play) -> None:
    run = await play.board.submit("go")
    await play.board.pause_run(run)
    assert await play.take("arbiter", n=9) == []
    assert await play.status(run) == "paused"
    assert await play.board.resume_run(run) == "queued"
    await play.step(run)


async def test_what_runs_ends_and_what_follows_from_it_rests(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]), spec("c", retry=RetryPolicy(max_attempts=2)))
    a, c = await play.take(n=2)
    await play.board.pause_run(run)
    assert await play.hold(a) == ""
    await play.board.complete(a, done(a))
    assert await play.board.fail(c, broken(c)) == "paused"
    await play.clock.advance(100)
    await play.board.sweep()
    assert await play.take(n=9) == []
    await play.board.resume_run(run)
    await play.clock.advance(40)
    await play.board.sweep()
    assert {claim.key for claim in await play.take(n=9)} == {"b", "c"}


async def test_the_next_decision_rests_and_one_being_taken_may_be_committed(play: Play) -> None:
    run = await play.board.submit("go")
    step = await play.step(run)
    await play.board.pause_run(run)
    await play.plan(step, spec("a"))
    assert await play.take(n=9) == []
    await play.board.resume_run(run)
    a = await play.one()
    await play.board.pause_run(run)
    await play.board.complete(a, done(a))
    assert await play.take("arbiter", n=9) == []
    await play.board.resume_run(run)
    assert (await play.step(run)).round == 2


async def test_given_back_work_of_a_paused_run_rests(play: Play) -> None:
    run = await play.run(spec("a"))
    a = await play.one()
    await play.board.pause_run(run)
    await play.board.release(a)
    await play.board.release(a)
    assert await play.take(n=9) == []
    await play.board.resume_run(run)
    assert (await play.one()).attempt == 1


async def test_time_stands_still_for_a_paused_run(play: Play) -> None:
    run = await play.run(spec("a", seconds=20), limits=Limits(seconds=30))
    await play.clock.advance(10)
    await play.board.pause_run(run)
    await play.clock.advance(1000)
    await play.board.sweep()
    assert await play.status(run) == "paused"
    await play.board.resume_run(run)
    a = await play.one()
    assert a.deadline == pytest.approx(play.clock.seconds + 10)
    await play.clock.advance(11)
    await play.hold(a, 100)
    await play.board.sweep()
    assert (await ends(play, run))["a"].status == Status.TIMED_OUT
    await play.clock.advance(10)
    await play.board.sweep()
    assert await play.status(run) == "timed_out"


async def test_g6_a_pause_ends_by_itself(play: Play) -> None:
    run = await play.run(spec("a", lane="work"), spec("b", lane="other"))
    await play.board.pause_run(run, seconds=60)
    await play.clock.advance(59)
    await play.board.sweep()
    assert await play.status(run) == "paused"
    await play.clock.advance(2)
    await play.board.sweep()
    assert await play.status(run) == "running"
    assert len(await play.take("work", "other", n=9)) == 2


async def test_a_paused_run_can_be_cancelled(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]))
    await play.board.pause_run(run)
    assert await play.board.cancel_run(run) == "cancelled"
    assert {one.status for one in (await ends(play, run)).values()} >= {Status.CANCELLED}
    assert await play.board.resume_run(run) == "cancelled"


async def test_a_paused_run_ends_when_the_decision_being_taken_is_the_answer(play: Play) -> None:
    run = await play.board.submit("go")
    step = await play.step(run)
    await play.board.pause_run(run)
    await play.plan(step, answer="done")
    assert await play.status(run) == "succeeded"
    before = await play.snapshot()
    assert await play.board.resume_run(run) == "succeeded"
    assert await play.board.pause_run(run) == "succeeded"
    await play.clock.advance(100_000)
    await play.board.sweep()
    assert await play.snapshot() == before


async def test_pausing_and_resuming_twice_or_at_once_is_doing_it_once(play: Play) -> None:
    run = await play.run(spec("a"), spec("b"))
    await asyncio.gather(*(play.board.pause_run(run) for _ in range(3)))
    before = await play.snapshot()
    await play.board.pause_run(run)
    assert await play.snapshot() == before
    await asyncio.gather(*(play.board.resume_run(run) for _ in range(3)))
    assert await play.kinds(run, "run.paused", "run.resumed") == ["run.paused ", "run.resumed "]
    assert len(await play.take(n=9)) == 2


async def test_g4_a_copy_of_a_pause_or_of_its_end_that_comes_late_does_nothing(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, ...]] = []
    whole = _script.run

    async def kept(*args: Any, **more: Any) -> Any:
        sent.append(args)
        return await whole(*args, **more)

    run = await play.run(spec("a"))
    with monkeypatch.context() as watched:
        watched.setattr(_script, "run", kept)
        await play.board.pause_run(run)
        await play.board.resume_run(run)
    pausing, *resuming = sent
    before = await play.snapshot()
    assert await whole(*pausing) == ["running", 0]
    assert await play.snapshot() == before
    await play.board.pause_run(run)
    before = await play.snapshot()
    for call in resuming:
        assert (await whole(*call))[0] in ("paused", "lanes")
    assert await play.snapshot() == before
    await play.board.resume_run(run)
    assert [claim.key for claim in await play.take()] == ["a"]


async def test_a_task_of_a_paused_run_can_be_cancelled(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]), spec("c"))
    await play.board.pause_run(run)
    await play.board.cancel_task(f"{run}/1.a")
    await play.board.resume_run(run)
    assert [claim.key for claim in await play.take(n=9)] == ["c"]


@pytest.mark.parametrize("seconds", [0, -1, 31 * 86_400])
async def test_a_pause_without_an_end_is_refused(play: Play, seconds: float) -> None:
    run = await play.board.submit("go")
    with pytest.raises(BadInput, match="ends by itself"):
        await play.board.pause_run(run, seconds=seconds)
    with pytest.raises(UnknownRecord):
        await play.board.pause_run("r00")
    with pytest.raises(UnknownRecord):
        await play.board.resume_run("r00")
