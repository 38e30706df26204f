"""Claims, calls sent twice, progress and cancellation: on every engine, with watched scripts and a fake clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from strict import Play, broken, done, spec, watched_play

from blackboard.claims import Claim
from blackboard.errors import BadInput, Fenced, UnknownRecord
from blackboard.types import Limits, RetryPolicy, Status

play = watched_play

ONCE = RetryPolicy(max_attempts=1)
LEASE = 1.0  # of the board fixture


# ---- claiming ----------------------------------------------------------------------------------------------------


async def test_g4_a_claim_sent_again_returns_the_same_tasks_and_takes_no_more(play: Play) -> None:
    await play.run(*(spec(f"t{i}") for i in range(6)))
    first = await play.take(n=2, nonce="x")
    before = await play.snapshot()
    again = await asyncio.gather(*(play.take(n=2, nonce="x") for _ in range(5)))
    assert all(claims == first for claims in again)
    assert await play.snapshot() == before
    assert len(await play.take(n=2, nonce="y")) == 2


async def test_a_repeated_claim_leaves_out_what_has_ended_meanwhile(play: Play) -> None:
    await play.run(spec("a"), spec("b"))
    a, b = await play.take(n=2, nonce="x")
    await play.board.complete(a, done(a))
    assert await play.take(n=2, nonce="x") == [b]
    await play.board.release(b)
    assert await play.take(n=2, nonce="x") == []


async def test_no_task_is_claimed_twice_by_many_workers(play: Play) -> None:
    await play.run(*(spec(f"t{i}") for i in range(30)))
    got = await asyncio.gather(*(play.take(n=2, worker=f"w{i}") for i in range(20)))
    ids = [claim.task_id for claims in got for claim in claims]
    assert len(ids) == len(set(ids)) == 30


async def test_priority_comes_before_age_inside_a_tenant(play: Play) -> None:
    await play.run(spec("late", priority=5), spec("low", priority=1), spec("high", priority=9))
    await play.clock.advance(1)
    await play.run(spec("younger", priority=5), spec("higher", priority=9))
    assert [c.key for c in await play.take(n=5)] == ["high", "higher", "late", "younger", "low"]


async def test_g12_tenants_with_backlog_take_turns(play: Play) -> None:
    await play.run(*(spec(f"t{i}") for i in range(40)), tenant="greedy")
    await play.run(*(spec(f"t{i}") for i in range(8)), tenant="modest")
    first = Counter([claim.tenant for _ in range(16) for claim in await play.take()])
    assert first == {"greedy": 8, "modest": 8}


async def test_g12_a_tenant_that_was_idle_does_not_get_its_absence_back(play: Play) -> None:
    await play.run(*(spec(f"t{i}") for i in range(30)), tenant="busy")
    for _ in range(10):
        await play.take()
    await play.run(*(spec(f"t{i}") for i in range(20)), tenant="late")
    assert Counter([c.tenant for _ in range(10) for c in await play.take()]) == {"busy": 5, "late": 5}


async def test_lanes_are_served_in_the_order_given_and_others_not_at_all(play: Play) -> None:
    await play.run(spec("a", lane="one"), spec("b", lane="two"), spec("c", lane="three"))
    assert [c.key for c in await play.take("two", "one", n=5)] == ["b", "a"]


async def test_a_tenants_name_cannot_reach_into_another_ones_agenda(play: Play) -> None:
    await play.run(spec("x"), tenant="ab")
    await play.run(spec("y"), tenant="a")
    await play.run(spec("z"), tenant="a.b")
    assert {(c.tenant, c.key) for c in await play.take(n=9)} == {("ab", "x"), ("a", "y"), ("a.b", "z")}


async def test_a_claim_carries_what_the_worker_needs(play: Play) -> None:
    run = await play.run(
        spec("a", version="v", input={"n": []}, seconds=50, attempt_seconds=7), limits=Limits(seconds=100)
    )
    claim = await play.one()
    assert (claim.run_id, claim.round, claim.version, claim.attempt, claim.max_attempts) == (run, 1, "v", 1, 3)
    assert claim.deadline == pytest.approx(play.clock.seconds + 50, abs=0.001)
    assert claim.attempt_seconds == 7
    assert claim.input() == {"n": []}


# ---- every call twice, and with an old fence -----------------------------------------------------------------------

Ending = Callable[[Play, Claim], Awaitable[Any]]

ENDINGS: dict[str, Ending] = {
    "complete": lambda p, c: p.board.complete(c, done(c)),
    "complete_failed": lambda p, c: p.board.complete(c, broken(c)),
    "fail_retry": lambda p, c: p.board.fail(c, broken(c)),
    "release": lambda p, c: p.board.release(c),
    "progress": lambda p, c: p.board.progress(c, 1, "task.progressed", {"p": 1}, {"mark": 1}),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_g4_a_call_sent_twice_or_many_times_at_once_has_one_effect(play: Play, ending: str) -> None:
    await play.run(spec("a"), spec("b", ["a"]), spec("other"))
    claim = await play.one()
    await ENDINGS[ending](play, claim)
    before = await play.snapshot()
    await ENDINGS[ending](play, claim)
    await asyncio.gather(*(ENDINGS[ending](play, claim) for _ in range(8)))
    assert await play.snapshot() == before


@pytest.mark.parametrize("ending", ENDINGS)
async def test_g4_first_calls_racing_have_one_effect(play: Play, ending: str) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    version = (await play.header(claim.task_id))["ver"]
    await asyncio.gather(*(ENDINGS[ending](play, claim) for _ in range(8)))
    assert (await play.header(claim.task_id))["ver"] == version + 1
    assert (await play.kinds(run, "task.posted")).count("task.posted /s2") == ending.startswith("complete")


@pytest.mark.engines("redis", "memory", "valkey")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("lost_by", ["lease", "release", "deadline", "run_deadline", "cancel", "completed"])
async def test_g4_the_holder_of_an_old_claim_changes_nothing(play: Play, ending: str, lost_by: str) -> None:
    run = await play.run(spec("a", seconds=50), limits=Limits(seconds=100))
    old = await play.one()
    match lost_by:
        case "lease":
            await play.clock.advance(LEASE + 0.001)
            await play.board.sweep()
            await play.clock.advance(10)
            await play.board.sweep()
            assert (await play.one(worker="next")).attempt == 2
        case "release":
            await play.board.release(old)
            assert (await play.one(worker="next")).attempt == 1
        case "deadline":
            await play.clock.advance(50.001)
            assert await play.hold(old) == ""
            await play.board.sweep()
            assert await play.state(old.task_id) == "timed_out"
        case "run_deadline":
            await play.clock.advance(100.001)
            await play.board.sweep()
            assert await play.status(run) == "timed_out"
        case "cancel":
            await play.board.cancel_run(run)
            await play.clock.advance(60)
            await play.board.sweep(expire=False)
            assert await play.status(run) == "cancelled"
        case _:
            await play.board.complete(old, old.completion(Status.REFUSED))
    before = await play.snapshot()
    if (lost_by, ending) == ("cancel", "release"):
        await play.board.release(old)  # as if repeated: the task is given up and ended either way
    else:
        with pytest.raises(Fenced):
            await ENDINGS[ending](play, old)
    assert await play.snapshot() == before
    assert await play.hold(old) == "lost"


async def test_g3_of_two_contradicting_ends_the_first_stands(play: Play) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    await play.board.complete(claim, done(claim, 1))
    with pytest.raises(Fenced):
        await play.board.complete(claim, broken(claim))
    await play.board.complete(claim, done(claim, 2))  # the same word again: taken for a repetition, and dropped
    ends = [
        e.data.data
        for e in await play.board.history(claim.run_id)
        if e.subject == claim.task_id and e.data.model_fields_set >= {"status"}
    ]
    assert ends == [1]


async def test_g4_fences_rise_even_when_the_clock_goes_backwards(play: Play) -> None:
    await play.run(spec("a"))
    fences = []
    for _ in range(4):
        claim = await play.one()
        fences.append(int(claim.fence))
        await play.board.release(claim)
        await play.clock.advance(-3600)
    assert fences == sorted(set(fences))


async def test_calls_about_a_task_that_never_was_say_so(play: Play) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    await play.board.client.hdel(play.shard.tasks, claim.task_id)
    for ending in ENDINGS.values():
        with pytest.raises(UnknownRecord):
            await ending(play, claim)
    await play.wipe()


# ---- progress ------------------------------------------------------------------------------------------------------


async def test_a_report_sent_again_is_one_event_and_the_next_attempt_finds_the_checkpoint(play: Play) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    for number in (1, 1, 2, 2, 1, 3):
        await play.board.progress(
            claim, number, "task.progressed", {"n": number}, {"at": number} if number < 3 else None
        )
    assert [e.data["n"] for e in await play.board.history(run) if e.type.endswith("progressed.v1")] == [1, 2, 3]
    await play.board.fail(claim, broken(claim))
    await play.clock.advance(20)
    await play.board.sweep()
    again = await play.one()
    assert again.checkpoint == {"at": 2}
    await play.board.progress(again, 1, "task.progressed", {"n": 4})
    assert len(await play.kinds(run, "task.progressed")) == 4


@pytest.mark.parametrize(
    ("kind", "data"),
    [("run.completed", {"status": "succeeded"}), ("task.completed", {}), ("fabrication.stage", {"stage": 1})],
)
async def test_a_report_cannot_pose_as_a_transition_nor_break_the_log(play: Play, kind: str, data: Any) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    before = await play.snapshot()
    with pytest.raises(BadInput):
        await play.board.progress(claim, 1, kind, data)
    assert await play.snapshot() == before


# ---- cancelling ----------------------------------------------------------------------------------------------------


async def test_g7_cancelling_before_the_start_ends_the_run_at_once(play: Play) -> None:
    run = await play.board.submit("go")
    assert await play.board.cancel_run(run, "not needed") == "cancelled"
    assert await play.take("arbiter") == []
    assert (await play.board.history(run))[-1].data.error.message == "not needed"
    before = await play.snapshot()
    assert await play.board.cancel_run(run, "again") == "cancelled"
    assert await play.snapshot() == before


async def test_g7_what_waits_ends_at_once_and_what_runs_is_told_and_reports(play: Play) -> None:
    run = await play.run(
        spec("held"), spec("ready", lane="elsewhere"), spec("blocked", ["held"]), spec("delayed", priority=9)
    )
    delayed = await play.one()
    await play.board.fail(delayed, broken(delayed))
    held = await play.one()
    assert await play.board.cancel_run(run, "enough") == "cancelling"
    for key in ("ready", "blocked", "delayed"):
        assert await play.state(f"{run}/1.{key}") == "cancelled"
    assert await play.hold(held) == "cancel"
    before = await play.snapshot()
    assert await play.board.cancel_run(run) == "cancelling"
    assert await play.snapshot() == before
    await play.sound()
    await play.board.complete(held, held.completion(Status.CANCELLED))
    assert await play.status(run) == "cancelled"
    assert await play.take("elsewhere", "work", "arbiter") == []


@pytest.mark.parametrize("how", ["fail", "release", "lease", "succeed"])
async def test_g7_a_task_of_a_cancelled_run_is_not_tried_again_however_it_ends(play: Play, how: str) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.cancel_run(run)
    match how:
        case "fail":
            assert await play.board.fail(claim, broken(claim)) == "failed"
        case "release":
            await play.board.release(claim)
            await play.board.release(claim)
        case "lease":
            await play.clock.advance(LEASE + 0.001)
            await play.board.sweep()
        case _:
            await play.board.complete(claim, done(claim))
    assert await play.status(run) == "cancelled"
    expected = {"fail": "failed", "succeed": "succeeded"}.get(how, "cancelled")
    assert await play.state(claim.task_id) == expected


async def test_g7_a_task_that_does_not_stop_is_ended_after_the_grace(play: Play) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.cancel_run(run)
    for _ in range(3):
        await play.clock.advance(4.9)
        assert await play.hold(claim) == "cancel"
        await play.hold(claim, 10)
        await play.board.sweep()
        assert await play.status(run) == "cancelling"
    await play.clock.advance(0.5)
    await play.board.sweep()
    assert await play.status(run) == "cancelled"
    assert await play.hold(claim) == "lost"


async def test_g7_the_grace_of_a_cancellation_does_not_outlast_the_runs_deadline(play: Play) -> None:
    run = await play.run(spec("a"), limits=Limits(seconds=5))
    await play.one()
    await play.board.cancel_run(run)
    await play.clock.advance(5.001)
    await play.board.sweep(expire=False)
    assert await play.status(run) == "cancelled"


async def test_g7_a_cancelled_run_counts_each_end_and_its_agenda_is_forgotten(play: Play) -> None:
    run = await play.run(*(spec(f"t{i}") for i in range(10)))
    await play.board.cancel_run(run)
    assert len([k for k in await play.kinds(run, "task.completed") if k != "task.completed /s1"]) == 10
    other = await play.run(spec("fresh"))
    assert [c.run_id for c in await play.take(n=3)] == [other]
    left = await play.snapshot()
    assert "r:work" not in left
    assert "q:work" not in left


# ---- beginning later ---------------------------------------------------------------------------------------------


async def test_g6_a_task_with_a_delay_is_ready_when_that_is_over_and_its_time_begins_then(play: Play) -> None:
    run = await play.run(spec("now"), spec("later", delay_seconds=50, seconds=20))
    (now,) = await play.take(n=5)
    await play.board.complete(now, done(now))
    await play.clock.advance(40)
    await play.board.pause_run(run)
    await play.clock.advance(100)
    await play.board.resume_run(run)
    await play.clock.advance(9.9)
    await play.board.sweep()
    assert (now.key, await play.take()) == ("now", [])
    await play.clock.advance(0.2)
    await play.board.sweep()
    later = await play.one()
    await play.hold(later, 60)
    await play.clock.advance(19.5)
    await play.board.sweep()
    await play.board.complete(later, done(later))
    assert await play.state(later.task_id) == "succeeded"
    assert (await play.step(run)).round == 2


async def test_a_task_that_waits_for_others_has_no_delay(play: Play) -> None:
    with pytest.raises(BadInput, match=r"delay_seconds: 5\.0 was refused\. b waits for others"):
        await play.run(spec("a"), spec("b", ["a"], delay_seconds=5))
