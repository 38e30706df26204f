"""How a worker keeps and loses its leases, drains, and gets over trouble."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, cast

import pytest
from redis.exceptions import RedisError
from strict import done, spec
from worker_support import ONCE, Crew, board_crew, finish, raises, said

from blackboard import attempting
from blackboard import worker as worker_module
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.errors import BoardFull, EngineUnavailable, Fenced
from blackboard.sweeper import Sweeper
from blackboard.types import Completion, Status, TaskSpec

crew = board_crew


# ---- leases --------------------------------------------------------------------------------------------------------


async def test_g6_a_handler_that_blocks_the_event_loop_keeps_its_lease(crew: Crew) -> None:
    lease = crew.shard.prefix + "lease"

    async def handle(attempt: Attempt) -> Completion:
        with crew.board.engine.sync_client() as client:
            first: Any = client.zscore(lease, attempt.claim.task_id)
            for _ in range(6000):
                if cast(Any, client.zscore(lease, attempt.claim.task_id)) > first:
                    return await finish(attempt)
                time.sleep(0.005)  # noqa: ASYNC251
        raise AssertionError("the lease was not renewed")

    run = await crew.run(spec("a", retry=ONCE))
    crew.hire(handle)
    end = await crew.end(run, "a")
    assert (end.status, end.attempts) == ("succeeded", 1)


async def test_g4_the_loser_of_a_task_is_stopped_and_its_result_dropped(crew: Crew) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def slow(attempt: Attempt) -> Completion:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            return attempt.claim.completion(Status.SUCCEEDED, data="late")
        raise AssertionError

    run = await crew.run(spec("a"))
    crew.hire(slow)
    await asyncio.wait_for(begun.wait(), 30)
    await crew.lose(f"{run}/1.a")
    await asyncio.wait_for(stopped.wait(), 30)
    for worker, running in crew.workers:
        await worker.drain(0)
        await running
    await crew.ready(f"{run}/1.a")
    again = await crew.one()
    assert again.attempt == 2
    await crew.board.complete(again, done(again, "second"))
    assert (await crew.end(run, "a")).data == "second"


async def test_g4_the_loser_hears_of_it_even_when_the_same_process_holds_the_next_claim(crew: Crew) -> None:
    told: list[str] = []
    await crew.run(spec("a"))
    old = await crew.one()
    crew.heartbeat.hold(old, lambda word: told.append("old " + word))
    await crew.lose(old.task_id)
    await crew.ready(old.task_id)
    new = await crew.one()
    crew.heartbeat.hold(new, lambda word: told.append("new " + word))
    await crew.until(lambda: told)
    assert set(told) == {"old lost"}
    crew.heartbeat.drop(old)
    assert list(crew.heartbeat._held) == [(new.task_id, new.fence)]  # pyright: ignore[reportPrivateUsage]


async def test_g4_a_handler_that_ended_its_task_itself_is_not_stopped_by_a_heartbeat_that_finds_it_gone(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, followed = crew.board._call, asyncio.Event()  # pyright: ignore[reportPrivateUsage]
    beats = 0

    async def beat() -> None:
        nonlocal beats
        with crew.board.engine.sync_client() as client:
            crew.heartbeat.beat(client)
        beats += 1
        for _ in range(5):
            await asyncio.sleep(0)

    async def answered_late(*given: Any, **more: Any) -> Any:
        answer = await call(*given, **more)
        if given[0] == "commit":
            await beat()
        return answer

    monkeypatch.setattr(crew.board, "_call", answered_late)

    async def decide(attempt: Attempt) -> None:
        await crew.plan(attempt.claim, answer="so")
        await beat()
        followed.set()

    await crew.board.submit({"q": "?"})
    worker = crew.hire(decide, "arbiter")
    await asyncio.wait_for(followed.wait(), 30)
    await worker.drain(1)
    assert beats == 2


async def test_g6_the_heartbeat_thread_survives_whatever_a_beat_raises(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, failed = crew.heartbeat.beat, []

    def sometimes(client: object) -> None:
        if len(failed) < 2:
            failed.append(1)
            raise ValueError("a bug" if len(failed) == 1 else "another")
        beat(client)

    monkeypatch.setattr(crew.heartbeat, "beat", sometimes)
    await crew.run(spec("a"))
    claim = await crew.one()
    crew.heartbeat.hold(claim, lambda word: None)
    first = await crew.board.client.zscore(crew.shard.prefix + "lease", claim.task_id)

    async def renewed() -> bool:
        return await crew.board.client.zscore(crew.shard.prefix + "lease", claim.task_id) > first

    await crew.until(renewed)


async def test_g7_a_handler_hears_of_the_cancellation_and_its_report_ends_the_run(crew: Crew) -> None:
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        begun.set()
        await asyncio.wait_for(attempt.cancelled.wait(), 30)
        return attempt.claim.completion(Status.CANCELLED)

    run = await crew.run(spec("a"))
    crew.hire(handle)
    await asyncio.wait_for(begun.wait(), 30)
    assert await crew.board.cancel_run(run) == "cancelling"
    await crew.until(lambda: said(crew.status(run), "cancelled"))


# ---- draining ------------------------------------------------------------------------------------------------------


async def test_draining_claims_nothing_more_and_lets_running_work_finish(crew: Crew) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        begun.set()
        await go.wait()
        return await finish(attempt)

    run = await crew.run(spec("a"), spec("b"))
    worker = crew.hire(handle)
    await asyncio.wait_for(begun.wait(), 30)
    drained = asyncio.create_task(worker.drain(60))
    await asyncio.sleep(0)
    go.set()
    await asyncio.wait_for(drained, 30)
    assert sorted([await crew.state(f"{run}/1.{k}") for k in "ab"]) == ["ready", "succeeded"]


async def test_draining_gives_back_at_once_what_does_not_finish_and_another_takes_it(crew: Crew) -> None:
    begun = asyncio.Event()

    async def endless(attempt: Attempt) -> Completion:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # a handler may tidy up
        raise AssertionError

    run = await crew.run(spec("a", retry=ONCE))
    worker = crew.hire(endless)
    await asyncio.wait_for(begun.wait(), 30)
    crew.hire(finish)
    await asyncio.sleep(0.02)
    await worker.drain(0.05)
    end = await crew.end(run, "a")  # long before the lease is over
    assert (end.status, end.attempts) == ("succeeded", 1)


async def test_a_handler_that_swallows_its_cancellation_cannot_keep_a_drained_task(crew: Crew) -> None:
    begun = asyncio.Event()

    async def stubborn(attempt: Attempt) -> Completion:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        return attempt.claim.completion(Status.CANCELLED)

    run = await crew.run(spec("a"))
    worker = crew.hire(stubborn)
    await asyncio.wait_for(begun.wait(), 30)
    await worker.drain(0)
    assert await crew.state(f"{run}/1.a") == "ready"


async def test_a_handler_that_will_not_stop_cannot_hold_up_the_drain(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempting, "_STOP_SECONDS", 0.05)
    begun, over = asyncio.Event(), asyncio.Event()

    async def deaf(attempt: Attempt) -> Completion:
        begun.set()
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        return await finish(attempt)

    run = await crew.run(spec("a"))
    worker = crew.hire(deaf)
    await asyncio.wait_for(begun.wait(), 30)
    await asyncio.wait_for(worker.drain(0), 30)
    assert await crew.state(f"{run}/1.a") == "ready"
    over.set()


async def test_draining_does_not_interrupt_a_report_under_way(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    complete, sending = crew.board.complete, asyncio.Event()

    async def slowly(claim: Any, completion: Completion) -> None:
        sending.set()
        await asyncio.sleep(0.1)
        await complete(claim, completion)

    monkeypatch.setattr(crew.board, "complete", slowly)
    run = await crew.run(spec("a"))
    worker = crew.hire(finish)
    await asyncio.wait_for(sending.wait(), 30)
    await worker.drain(0)
    assert await crew.state(f"{run}/1.a") == "succeeded"


async def test_what_was_claimed_while_the_drain_began_is_given_back(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, asked = crew.board.claim_or_wait, asyncio.Event()

    async def slowly(worker: str, lanes: Any, **more: Any) -> Any:
        found = await claim(worker, lanes, **more)
        if list(lanes) == ["work"]:
            asked.set()
            await asyncio.sleep(0.05)
        return found

    run = await crew.run(spec("a"))
    monkeypatch.setattr(crew.board, "claim_or_wait", slowly)
    worker = crew.hire(raises)
    await asyncio.wait_for(asked.wait(), 30)
    await worker.drain(0)
    await asyncio.wait_for(crew.workers[0][1], 30)
    assert await crew.state(f"{run}/1.a") == "ready"
    assert (await crew.header(f"{run}/1.a"))["att"] == 0


# ---- trouble -------------------------------------------------------------------------------------------------------


async def test_a_refused_claim_does_not_end_the_worker(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, errors = (
        crew.board.claim_or_wait,
        [EngineUnavailable("gone"), BoardFull("full"), RedisError("?")],
    )
    monkeypatch.setattr(worker_module, "_REFUSED_SECONDS", 0.01)

    async def refused(worker: str, lanes: Any, **more: Any) -> Any:
        if errors and list(lanes) == ["work"]:
            raise errors.pop()
        return await claim(worker, lanes, **more)

    monkeypatch.setattr(crew.board, "claim_or_wait", refused)
    run = await crew.run(spec("a"))
    crew.hire(finish)
    await crew.end(run, "a")
    assert not errors


async def test_g6_one_task_that_cannot_be_swept_does_not_keep_the_others_waiting(crew: Crew) -> None:
    run = await crew.run(spec("bad", seconds=0.001), spec("good", seconds=0.002))
    await crew.board.client.hset(crew.shard.tasks, f"{run}/1.bad", "{")
    header = await crew.board.client.hget(crew.shard.tasks, f"{run}/1.good")
    assert header
    await asyncio.sleep(0.01)
    await crew.board.client.hset(
        crew.shard.tasks, f"{run}/1.bad", '{"run":"' + run + '","lane":"work","state":"ready"}'
    )
    await crew.board.sweep()
    assert await crew.state(f"{run}/1.good") == "timed_out"
    await crew.wipe()


async def test_a_sweeper_survives_what_the_server_refuses(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, errors = crew.board.sweep, [EngineUnavailable("gone"), BoardFull("full"), RedisError("?")]
    swept = asyncio.Event()

    async def refused(**more: Any) -> float:
        if errors:
            raise errors.pop()
        swept.set()
        return await sweep(**more)

    monkeypatch.setattr(crew.board, "sweep", refused)
    crew.sweep(0.01)
    await asyncio.wait_for(swept.wait(), 30)


async def test_g6_after_a_server_start_leases_get_their_time_before_they_are_taken(
    redis_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper = Sweeper(redis_board)
    uptime = (await redis_board.client.info("server"))["uptime_in_seconds"]
    redis_board.lease_seconds = uptime + 100
    assert not await sweeper._leases_are_fair()  # pyright: ignore[reportPrivateUsage]
    redis_board.lease_seconds = -1
    assert await sweeper._leases_are_fair()  # pyright: ignore[reportPrivateUsage]


def test_specs_are_what_the_tests_think() -> None:
    assert isinstance(spec("a"), TaskSpec)
    assert issubclass(Fenced, Exception)
