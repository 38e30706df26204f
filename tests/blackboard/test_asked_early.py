"""A run's next step comes though work goes on: when a task fails, or after a time; once, and beside no other (G2 to G7)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

import pytest
from early_runs import ANSWER, answered, asked, begun, commit, lasting
from endings import is_given_back_too_often, is_lost, lapses, seen, steps
from strict import Play, broken, done, spec, watched_play

from blackboard.errors import ScriptRefused
from blackboard.events import RunCompletedData
from blackboard.plan import Early
from blackboard.types import Failure, RetryPolicy, Status, TaskSpec

play = watched_play
ONCE = RetryPolicy(max_attempts=1)


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
        assert not await commit(play, step, outcome=ANSWER), "what goes on has not stopped yet"
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
