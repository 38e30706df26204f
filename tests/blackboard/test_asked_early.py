"""A run's next step comes though work goes on: when a task fails, or after a time; once, and beside no other (G2 to G7)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

import pytest
from endings import is_given_back_too_often, is_lost, lapses, seen, steps
from strict import Mutation, Play, broken, done, faults, spec, verdict, watched_play

from blackboard.claims import Claim
from blackboard.errors import ScriptRefused
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.plan import Early
from blackboard.types import Failure, Limits, RetryPolicy, Status, TaskSpec

play = watched_play
ONCE = RetryPolicy(max_attempts=1)
REST = Early(rest="it was answered")
ANSWER = RunCompletedData(status="succeeded", answer="x", rounds=2)


async def commit(
    play: Play, step: Claim, *tasks: TaskSpec, early: Early | None = REST, at: str | None = None,
    outcome: RunCompletedData | None = None,
) -> bool:  # fmt: skip
    planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": [{"text": "…"}]})
    position = await seen(play, step.run_id) if at is None else at
    return await play.board.commit_step(step, planned, tasks, Limits(), outcome, seen=position, early=early)


async def begun(play: Play, *tasks: TaskSpec, early: Early | None = REST) -> str:
    run = await play.board.submit("go", limits=Limits(seconds=3000))
    await commit(play, await play.step(run), *tasks, early=early)
    return run


async def asked(play: Play, *tasks: TaskSpec) -> tuple[str, Claim, Claim]:
    """A run whose step is taken because ``a`` failed while ``slow`` is at work: run, step and the claim of ``slow``."""
    run = await begun(play, spec("a"), spec("slow"), *tasks)
    a, slow = await play.take(n=2)
    await play.board.complete(a, broken(a))
    (step,) = await steps(play)
    return run, step, slow


# ---- a task fails ------------------------------------------------------------------------------------------------------


async def _is_reported(play: Play, run: str) -> None:
    claim = await play.one()
    await play.board.complete(claim, broken(claim))


async def _is_refused(play: Play, run: str) -> None:
    claim = await play.one()
    await play.board.complete(claim, broken(claim, status=Status.REFUSED))


async def _fails_thrice(play: Play, run: str) -> None:
    for _ in range(3):
        assert await steps(play) == [], "another attempt follows"
        claim = await play.one()
        await play.board.fail(claim, broken(claim))
        await play.clock.advance(11)
        await play.board.sweep()


@pytest.mark.parametrize(
    ("fails", "task"),
    [
        (_is_reported, spec("a")),
        (_is_refused, spec("a")),
        (_fails_thrice, spec("a")),
        (lapses, spec("a", seconds=60)),
        (is_lost, spec("a", retry=ONCE)),
        (is_given_back_too_often, spec("a")),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_g5_however_a_task_fails_the_next_step_comes_though_others_are_at_work(
    play: Play, fails: Callable[[Play, str], Coroutine[None, None, None]], task: TaskSpec
) -> None:
    run = await begun(play, task, spec("slow", lane="other", seconds=500))
    await fails(play, run)
    await play.sound()
    (step,) = await steps(play)
    assert step.round == 2
    assert await play.state(f"{run}/1.slow") == "ready"
    await commit(play, step)
    assert await steps(play) == [], "the failure was told"
    slow = await play.one("other")
    await play.board.complete(slow, done(slow))
    assert [claim.round for claim in await steps(play)] == [3], "and the rest has its own end"


async def test_g5_what_ends_well_or_was_cancelled_brings_no_step_while_others_are_at_work(play: Play) -> None:
    run = await begun(play, spec("a"), spec("b", lane="other"), spec("slow"))
    a, _ = await play.take(n=2)
    await play.board.complete(a, done(a))
    await play.board.cancel_task(f"{run}/1.b", "not wanted")
    assert await steps(play) == []


async def test_g5_a_report_of_a_failure_that_is_sent_twice_brings_one_step(play: Play) -> None:
    await begun(play, spec("a"), spec("slow"))
    a, _ = await play.take(n=2)
    for _ in range(3):
        await play.board.complete(a, broken(a))
    (step,) = await steps(play)
    for _ in range(2):
        await commit(play, step)
    assert await steps(play) == []


async def test_g5_the_failure_of_the_last_task_brings_one_step(play: Play) -> None:
    await begun(play, spec("a"), spec("b", ["a"]))
    a = await play.one()
    await play.board.complete(a, broken(a))
    await play.sound()
    (step,) = await steps(play)
    await commit(play, step, spec("c"))
    assert await steps(play) == []


async def test_g5_failures_while_the_step_is_being_taken_bring_another_one_and_only_one(play: Play) -> None:
    run, step, slow = await asked(play, spec("b"), spec("c"))
    read = await seen(play, run)
    b, c = await play.take(n=2)
    await play.board.complete(b, broken(b))
    await play.board.complete(c, broken(c))
    assert await steps(play) == [], "a run has one step at a time"
    await commit(play, step, at=read)
    await play.sound()
    (another,) = await steps(play)
    await commit(play, another)
    assert await steps(play) == []
    await play.board.complete(slow, done(slow))
    assert [claim.round for claim in await steps(play)] == [4]


async def test_g5_the_last_task_ends_while_the_step_is_being_taken_and_is_told_by_the_next(play: Play) -> None:
    run, step, slow = await asked(play)
    read = await seen(play, run)
    await play.board.complete(slow, done(slow))
    assert await steps(play) == []
    await commit(play, step, at=read)
    await play.sound()
    assert [claim.round for claim in await steps(play)] == [3]


async def test_g5_a_decision_that_posts_more_is_followed_when_all_of_it_is_over(play: Play) -> None:
    _, step, slow = await asked(play)
    await commit(play, step, spec("more"))
    more = await play.one()
    await play.board.complete(more, done(more))
    assert await steps(play) == []
    await play.board.complete(slow, done(slow))
    assert [claim.round for claim in await steps(play)] == [3]


async def test_g4_a_process_that_dies_with_the_step_leaves_it_to_another(play: Play) -> None:
    _, step, slow = await asked(play)
    await play.clock.advance(31)
    await play.board.sweep()
    await play.clock.advance(11)
    await play.board.sweep()
    again = [claim for claim in await steps(play) if claim.kind == "step"]
    assert [claim.task_id for claim in again] == [step.task_id]
    with pytest.raises(ScriptRefused):
        await commit(play, step)
    await commit(play, *again)
    assert slow.task_id


# ---- the round lasts ---------------------------------------------------------------------------------------------------


async def lasting(play: Play, seconds: float = 60) -> tuple[str, Claim]:
    run = await begun(play, spec("slow", seconds=2000), early=Early(round(seconds * 1000)))
    slow = await play.one()
    await play.hold(slow, 3000)
    return run, slow


async def test_g6_the_next_step_comes_when_the_time_is_over_and_not_before(play: Play) -> None:
    run, slow = await lasting(play)
    await play.clock.advance(59)
    await play.board.sweep()
    assert await steps(play) == []
    await play.clock.advance(1)
    for _ in range(2):
        await play.board.sweep()
    await play.sound()
    (step,) = await steps(play)
    assert (step.round, step.input()) == (2, "stalled")
    await commit(play, step)
    await play.clock.advance(600)
    await play.board.sweep()
    assert await steps(play) == [], "the decision said no time"
    await play.board.complete(slow, done(slow))
    assert [claim.round for claim in await steps(play)] == [3]
    assert await play.status(run) == "running"


async def test_g6_the_sweeper_is_told_when_the_time_will_be_over(play: Play) -> None:
    await lasting(play, 20)
    assert await play.board.sweep() == pytest.approx(20)


async def test_g6_each_decision_sets_the_time_anew(play: Play) -> None:
    await lasting(play)
    await play.clock.advance(60)
    await play.board.sweep()
    (step,) = await steps(play)
    await commit(play, step, early=Early(120_000))
    await play.clock.advance(119)
    await play.board.sweep()
    assert await steps(play) == []
    await play.clock.advance(1)
    await play.board.sweep()
    assert len(await steps(play)) == 1


async def test_g5_no_time_brings_a_step_beside_one_that_is_being_taken_or_a_second_for_a_round_that_is_over(
    play: Play,
) -> None:
    _, slow = await lasting(play)
    await play.board.complete(slow, done(slow))
    (step,) = await steps(play)
    await play.hold(step, 3000)
    await play.clock.advance(61)
    await play.board.sweep()
    await play.sound()
    assert await steps(play) == []
    await commit(play, step, spec("next"), early=None)
    await play.clock.advance(100)
    await play.board.sweep()
    assert await steps(play) == []


async def test_g5_the_time_of_an_earlier_round_does_not_count_in_a_later_one(play: Play) -> None:
    _, slow = await lasting(play)
    await play.board.complete(slow, done(slow))
    (step,) = await steps(play)
    await commit(play, step, spec("next"), early=None)
    await play.clock.advance(61)
    await play.board.sweep()
    assert await steps(play) == []


async def test_g5_the_last_task_ends_while_a_step_waits_that_time_brought(play: Play) -> None:
    _, slow = await lasting(play)
    await play.clock.advance(60)
    await play.board.sweep()
    await play.board.complete(slow, done(slow))
    await play.sound()
    (step,) = await steps(play)
    await commit(play, step, spec("next"))
    assert await steps(play) == []


async def test_g6_a_run_whose_time_is_over_takes_no_step_for_its_round(play: Play) -> None:
    run, _ = await lasting(play)
    await play.clock.advance(3001)
    await play.board.sweep(expire=False)
    assert await play.status(run) == "timed_out"
    assert await play.kinds(run, "task.posted") == ["task.posted /s1", "task.posted /1.slow"]


async def test_a_pause_stops_the_time_which_counts_anew_when_the_run_goes_on(play: Play) -> None:
    run, _ = await lasting(play)
    await play.clock.advance(50)
    await play.board.pause_run(run, "a moment", seconds=1000)
    await play.clock.advance(100)
    await play.board.sweep()
    await play.sound()
    assert await steps(play) == []
    await play.board.resume_run(run)
    await play.clock.advance(59)
    await play.board.sweep()
    assert await steps(play) == []
    await play.clock.advance(1)
    await play.board.sweep()
    assert len(await steps(play)) == 1


async def test_g7_a_cancelled_run_takes_no_further_step(play: Play) -> None:
    run, _ = await lasting(play, 5)
    b = await begun(play, spec("a"), spec("slow"))
    a, _ = await play.take(n=2)
    await play.board.cancel_run(run, "enough")
    await play.board.cancel_run(b, "enough")
    await play.board.complete(a, broken(a))
    await play.clock.advance(6)
    await play.board.sweep(expire=False)
    assert await steps(play) == []
    await play.sound()


# ---- what a decision stops, and an answer ------------------------------------------------------------------------------


async def test_g7_a_decision_stops_tasks_in_its_script(play: Play) -> None:
    run, step, slow = await asked(
        play, spec("waits", lane="other"), spec("behind", ["waits"]), spec("kept", lane="other")
    )
    why = "it has lost its point"
    stop = {f"{run}/1.{key}": why for key in ("slow", "waits", "a")}
    await commit(play, step, early=Early(stop=stop))
    assert await play.hold(slow, 100) == "cancel"
    assert await play.kinds(run, "task.cancelling") == ["task.cancelling /1.slow", "task.cancelling /1.waits"]
    await play.board.sweep()
    states = {key: await play.state(f"{run}/1.{key}") for key in ("a", "waits", "behind", "kept")}
    assert states == {"a": "failed", "waits": "cancelled", "behind": "cancelled", "kept": "ready"}
    await play.clock.advance(16)
    await play.board.sweep()
    assert await play.state(slow.task_id) == "cancelled", "its worker did not say in time that it stopped"
    assert await steps(play) == [], "one is kept"


async def answered(play: Play) -> tuple[str, Claim]:
    run, step, slow = await asked(play, spec("waits", lane="other"))
    assert not await commit(play, step, outcome=ANSWER)
    assert await play.state(f"{run}/1.waits") == "cancelled"
    assert await play.hold(slow) == "cancel"
    assert await play.status(run) == "cancelling"
    await play.sound()
    return run, slow


async def test_g7_a_run_that_is_answered_ends_so_when_what_goes_on_has_stopped(play: Play) -> None:
    run, slow = await answered(play)
    assert await play.board.cancel_run(run, "too late") == "cancelling"
    await play.board.complete(slow, slow.completion(Status.CANCELLED))
    over = (await play.board.history(run))[-1].data
    assert (await play.status(run), over.status, over.answer) == ("succeeded", "succeeded", "x")


async def test_g6_a_worker_that_does_not_stop_keeps_the_answer_no_longer_than_the_grace(play: Play) -> None:
    run, _ = await answered(play)
    await play.clock.advance(16)
    await play.board.sweep(expire=False)
    assert await play.status(run) == "succeeded"


async def test_g4_an_answer_that_is_sent_twice_has_one_effect(play: Play) -> None:
    _, step, slow = await asked(play)
    for _ in range(2):
        await commit(play, step, outcome=ANSWER)
    await play.board.complete(slow, slow.completion(Status.CANCELLED))
    await commit(play, step, outcome=ANSWER)


async def test_g3_an_answer_is_the_end_where_nothing_that_goes_on_has_begun(play: Play) -> None:
    run = await begun(play, spec("a"), spec("waits", lane="other"))
    a = await play.one()
    await play.board.complete(a, broken(a))
    (step,) = await steps(play)
    assert await commit(play, step, outcome=ANSWER)
    assert await play.status(run) == "succeeded"


async def test_g3_a_decision_may_also_give_the_run_up_while_work_goes_on(play: Play) -> None:
    run, step, slow = await asked(play)
    failure = Failure(type="empty_answer", message="nothing was said")
    await commit(play, step, outcome=RunCompletedData(status="failed", rounds=2, error=failure))
    await play.board.complete(slow, slow.completion(Status.CANCELLED))
    assert (await play.status(run), (await play.board.history(run))[-1].data.error) == ("failed", failure)
    assert await play.board.client.hexists(play.shard.dead, run)


# ---- each guard --------------------------------------------------------------------------------------------------------


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
