"""Leases, retries and deadlines of tasks: whoever falls silent, fails or comes too late, on every engine."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from strict import Play, broken, done, spec, watched_play

from blackboard import _script
from blackboard.types import Limits, RetryPolicy, Status

play = watched_play

ONCE = RetryPolicy(max_attempts=1)
LEASE = 1.0  # of the board fixture


async def test_g6_a_silent_workers_task_is_ready_again_and_ends_as_failed_when_attempts_run_out(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(max_attempts=2)))
    for attempt in (1, 2):
        claim = await play.one(worker=f"w{attempt}")
        assert claim.attempt == attempt
        await play.clock.advance(LEASE - 0.001)
        await play.board.sweep()
        assert await play.state(claim.task_id) == "claimed"
        await play.clock.advance(0.002)
        await play.board.sweep()
        await play.clock.advance(0.2)
        await play.board.sweep()
    end = (await play.board.history(run))[-3].data
    assert (end.status, end.error.type, end.attempts, end.worker) == ("failed", "lease_lost", 2, "w2")
    assert (await play.step(run)).round == 2


async def test_g6_a_heartbeat_keeps_the_task_beyond_its_lease(play: Play) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    for _ in range(10):
        await play.clock.advance(LEASE * 0.9)
        assert await play.hold(claim) == ""
        await play.board.sweep()
    await play.board.complete(claim, done(claim))


async def test_g4_expire_looks_again_so_a_heartbeat_in_the_gap_keeps_the_task(play: Play) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    await play.clock.advance(LEASE + 1)
    await play.hold(claim)  # between a sweeper's look and its expire
    keys = play.shard.declare(["arbiter", "work"], claim.run_id)
    args = [2, "arbiter", "work", claim.task_id, 100, 60_000]
    assert await _script.run(play.board.client, _script.load("expire"), keys, args) == 0
    assert await play.state(claim.task_id) == "claimed"


async def test_g6_sweepers_may_race(play: Play) -> None:
    run = await play.run(
        *(spec(f"t{i}", retry=ONCE) for i in range(10)), *(spec(f"d{i}", seconds=5, priority=1) for i in range(5))
    )
    await play.take(n=8)
    await play.clock.advance(10)
    await asyncio.gather(*(play.board.sweep() for _ in range(6)))
    await play.sound()
    assert Counter([await play.state(f"{run}/1.t{i}") for i in range(10)]) == {"failed": 8, "ready": 2}
    assert {await play.state(f"{run}/1.d{i}") for i in range(5)} == {"timed_out"}


async def test_g6_a_sweep_without_expiry_spares_leases_and_nothing_else(play: Play) -> None:
    await play.run(spec("a"), spec("b", seconds=5))
    a, _ = await play.take(n=2)
    await play.clock.advance(10)
    await play.board.sweep(expire=False)
    assert await play.state(a.task_id) == "claimed"
    assert await play.state(a.task_id.replace("1.a", "1.b")) == "timed_out"


@pytest.mark.parametrize(("attempt", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 10.0)])
async def test_a_failed_attempt_waits_at_most_its_interval_rate_and_cap(
    play: Play, attempt: int, longest: float
) -> None:
    policy = RetryPolicy(max_attempts=9, interval_seconds=1.0, rate=2.0, cap_seconds=10.0)
    await play.run(spec("a", retry=policy))
    play.board.random.uniform = lambda low, high: high  # type: ignore[method-assign]
    for _ in range(attempt):
        claim = await play.one()
        assert await play.board.fail(claim, broken(claim)) == "delayed"
        nearest = await play.board.sweep()
        await play.clock.advance(nearest - 0.001)
        await play.board.sweep()
        assert await play.state(claim.task_id) == "delayed"
        await play.clock.advance(0.001)
        await play.board.sweep()
    assert nearest == pytest.approx(longest)
    assert (await play.one()).attempt == attempt + 1


async def test_g3_the_last_failed_attempt_ends_the_task_with_its_error(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(max_attempts=2, interval_seconds=0)))
    first = await play.one()
    assert await play.board.fail(first, broken(first)) == "delayed"
    await play.board.sweep()
    second = await play.one()
    assert await play.board.fail(second, broken(second, status=Status.TIMED_OUT)) == "timed_out"
    assert await play.kinds(run, "task.retried", "task.completed") == [
        "task.completed /s1",
        "task.retried /1.a",
        "task.completed /1.a",
    ]


async def test_g6_no_attempt_is_planned_beyond_the_deadline(play: Play) -> None:
    await play.run(spec("a", seconds=5, retry=RetryPolicy(max_attempts=9, interval_seconds=100, cap_seconds=100)))
    play.board.random.uniform = lambda low, high: high  # type: ignore[method-assign]
    claim = await play.one()
    assert await play.board.fail(claim, broken(claim)) == "failed"


@pytest.mark.parametrize("state", ["ready", "claimed", "delayed", "blocked"])
async def test_g6_a_deadline_ends_a_task_in_any_state(play: Play, state: str) -> None:
    run = await play.run(spec("first"), spec("a", ["first"] if state == "blocked" else (), seconds=60, priority=9))
    if state in ("claimed", "delayed"):
        claim = await play.one()
        if state == "delayed":
            await play.board.fail(claim, broken(claim))
    assert await play.state(f"{run}/1.a") == state
    await play.clock.advance(60.001)
    if state == "claimed":
        await play.hold(claim)
    await play.board.sweep(expire=False)
    assert await play.state(f"{run}/1.a") == "timed_out"
    assert [c.key for c in await play.take(n=5)] == ["first"]
    end = (await play.board.history(run))[-2].data
    assert end.error.type == "deadline"


async def test_g6_a_tasks_deadline_never_lies_beyond_its_runs(play: Play) -> None:
    run = await play.run(spec("a", seconds=5000), limits=Limits(seconds=10))
    assert (await play.one()).deadline == pytest.approx(play.clock.seconds + 10, abs=0.01)
    await play.clock.advance(10.001)
    await play.board.sweep()
    assert await play.status(run) == "timed_out"
    assert (await play.board.history(run))[-1].data.error.type == "deadline"
    assert await play.state(f"{run}/1.a") == "timed_out"


async def test_g6_a_run_nobody_ever_takes_up_ends_at_its_deadline(play: Play) -> None:
    run = await play.board.submit("go", limits=Limits(seconds=30))
    await play.clock.advance(30.001)
    await play.board.sweep()
    assert await play.status(run) == "timed_out"


async def test_g6_a_sweep_says_when_it_is_needed_next(play: Play) -> None:
    assert await play.board.sweep() == 60
    await play.run(spec("a", seconds=30))
    assert await play.board.sweep() == pytest.approx(30, abs=0.01)
    await play.one()
    assert await play.board.sweep() == pytest.approx(LEASE, abs=0.01)
    assert await play.board.sweep(expire=False) == pytest.approx(30, abs=0.01)


async def test_g6_a_step_whose_takers_keep_dying_ends_the_run(play: Play) -> None:
    run = await play.board.submit("go")
    for _ in range(5):
        await play.step(run)
        await play.clock.advance(LEASE + 0.001)
        await play.board.sweep()
        await play.clock.advance(60)
        await play.board.sweep()
    assert await play.status(run) == "failed"
    assert (await play.board.history(run))[-1].data.error.type == "lease_lost"


async def test_releasing_does_not_spend_an_attempt(play: Play) -> None:
    await play.run(spec("a", retry=ONCE))
    for _ in range(5):
        claim = await play.one()
        assert claim.attempt == 1
        await play.board.release(claim)
    claim = await play.one()
    assert await play.board.fail(claim, broken(claim)) == "failed"
