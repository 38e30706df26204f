"""The claim loop: drains, wakes, keeps leases, hears of cancellations, and turns whatever a handler does into an end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis.exceptions import RedisError
from strict import Play, broken, done, faults, spec

from blackboard import worker as worker_module
from blackboard.attempt import Attempt, Handler
from blackboard.board import Board
from blackboard.errors import BadInput, BoardFull, EngineUnavailable, Fenced
from blackboard.heartbeat import Heartbeat
from blackboard.sweeper import Sweeper
from blackboard.types import Completion, RetryPolicy, RetryRule, Status, TaskSpec
from blackboard.worker import Worker

ONCE = RetryPolicy(max_attempts=1)


@dataclass
class Crew(Play):
    """A board with workers that are stopped when the test ends."""

    heartbeat: Heartbeat = None  # type: ignore[assignment]
    workers: list[tuple[Worker, asyncio.Task[None]]] = None  # type: ignore[assignment]

    def hire(self, handle: Handler, *lanes: str, concurrency: int = 1, heartbeat: Heartbeat | None = None) -> Worker:
        worker = Worker(
            self.board, heartbeat or self.heartbeat, "t", lanes or ("work",), handle, concurrency=concurrency
        )
        self.workers.append((worker, asyncio.create_task(worker.run())))
        return worker

    async def until(self, check: Callable[[], Any], seconds: float = 3) -> None:
        async with asyncio.timeout(seconds):
            while True:
                found = check()
                if await found if asyncio.iscoroutine(found) else found:
                    return
                await asyncio.sleep(0.002)

    async def ended(self, task_id: str) -> bool:
        return await self.state(task_id) in {s.value for s in Status}

    async def end(self, run: str, task: str) -> Completion:
        task_id = f"{run}/1.{task}"
        await self.until(lambda: self.ended(task_id))
        return next(
            e.data for e in await self.board.history(run) if e.subject == task_id and isinstance(e.data, Completion)
        )


@asynccontextmanager
async def _crew(board: Board) -> AsyncIterator[Crew]:
    crew = Crew(board, None, heartbeat=Heartbeat(board), workers=[])  # type: ignore[arg-type]
    yield crew
    for worker, _ in crew.workers:
        await worker.drain(0)
    crew.heartbeat.close()
    for _, running in crew.workers:
        await asyncio.wait_for(running, 2)


@pytest.fixture
async def crew(board: Board) -> AsyncIterator[Crew]:
    async with _crew(board) as crew:
        yield crew
    assert await faults(board) == []


@pytest.fixture
async def quick(board: Board) -> AsyncIterator[Crew]:
    """Leases of 0.3 s."""
    board.lease_seconds = 0.3
    async with _crew(board) as crew:
        yield crew
    assert await faults(board) == []


async def finish(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data=1)


# ---- what a handler may do -----------------------------------------------------------------------------------------


async def raises(attempt: Attempt) -> Completion:
    raise RuntimeError("no")


async def exits(attempt: Attempt) -> Completion:
    sys.exit(3)


async def cancels_itself(attempt: Attempt) -> Completion:
    raise asyncio.CancelledError


async def returns_nonsense(attempt: Attempt) -> Completion:
    return {"not": "a completion"}  # type: ignore[return-value]


async def returns_nan(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data=float("nan"))


async def returns_too_much(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data="x" * (64 << 20))


async def returns_half_a_character(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data="\ud800")


async def reads_a_reference_that_leads_nowhere(attempt: Attempt) -> Completion:
    raise BadInput("$ref", "a#/b", "There is none.")


@pytest.mark.parametrize(
    ("handle", "kind"),
    [
        (raises, "internal_error"),
        (exits, "internal_error"),
        (cancels_itself, "internal_error"),
        (returns_nonsense, "internal_error"),
        (returns_nan, "not_json"),
        (returns_too_much, "result_too_large"),
        (returns_half_a_character, "not_json"),
        (reads_a_reference_that_leads_nowhere, "bad_input"),
    ],
)
async def test_g3_whatever_a_handler_does_its_task_ends_with_a_word_for_it(
    crew: Crew, handle: Handler, kind: str
) -> None:
    run = await crew.run(spec("a", retry=ONCE), spec("next", lane="other"))
    crew.hire(handle)
    crew.hire(finish, "other")
    end = await crew.end(run, "a")
    assert (end.status, end.error and end.error.type) == ("failed", kind)
    await crew.end(run, "next")


async def test_a_retryable_failure_is_tried_again_and_a_final_one_is_not(crew: Crew) -> None:
    tried: list[str] = []

    async def handle(attempt: Attempt) -> Completion:
        tried.append(attempt.claim.key)
        return broken(attempt.claim, retryable=attempt.claim.key == "again")

    run = await crew.run(*(spec(k, retry=RetryPolicy(max_attempts=3, interval_seconds=0)) for k in ("again", "final")))
    crew.hire(handle)
    sweeper = asyncio.create_task(Sweeper(crew.board, interval_seconds=0.02).run())
    assert (await crew.end(run, "again")).attempts == 3
    assert (await crew.end(run, "final")).attempts == 1
    assert sorted(tried) == ["again", "again", "again", "final"]
    sweeper.cancel()


async def test_a_rule_overrules_what_the_error_says_of_itself(crew: Crew) -> None:
    async def handle(attempt: Attempt) -> Completion:
        return broken(attempt.claim, retryable=attempt.claim.key == "never")

    never, always = (RetryRule(errors=("handler_error",), retry=word) for word in (False, True))
    run = await crew.run(
        *(
            spec(key, retry=RetryPolicy(max_attempts=3, interval_seconds=0, rules=(rule,)))
            for key, rule in {"never": never, "always": always}.items()
        )
    )
    crew.hire(handle)
    sweeper = asyncio.create_task(Sweeper(crew.board, interval_seconds=0.02).run())
    assert (await crew.end(run, "always")).attempts == 3
    assert (await crew.end(run, "never")).attempts == 1
    sweeper.cancel()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_g6_an_attempt_ends_after_its_time_whatever_its_handler_does(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    monkeypatch.setattr(worker_module, "_OVERTIME_SECONDS", 0.01)
    monkeypatch.setattr(worker_module, "_STOP_SECONDS", 0.01)
    over = asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                if not stubborn:
                    raise
        return await finish(attempt)

    run = await crew.run(spec("a", attempt_seconds=0.01, retry=ONCE), spec("next", lane="other"))
    crew.hire(handle)
    crew.hire(finish, "other")
    end = await crew.end(run, "a")
    assert (end.status, end.error and end.error.type) == ("timed_out", "timeout")
    assert "after 0.01 s" in end.error.message
    over.set()
    await crew.end(run, "next")


async def test_a_handler_that_meets_a_full_server_is_tried_again(crew: Crew) -> None:
    async def handle(attempt: Attempt) -> Completion:
        if attempt.claim.attempt == 1:
            raise BoardFull("no memory")
        return await finish(attempt)

    run = await crew.run(spec("a", retry=RetryPolicy(interval_seconds=0)))
    crew.hire(handle)
    sweeper = asyncio.create_task(Sweeper(crew.board, interval_seconds=0.02).run())
    assert (await crew.end(run, "a")).status == "succeeded"
    (error,) = [event.data.error for event in await crew.board.history(run) if event.kind == "task.retried"]
    assert (error.type, error.message) == ("board_full", "no memory")
    sweeper.cancel()


async def test_a_handler_that_ended_its_task_itself_returns_nothing(crew: Crew) -> None:
    async def handle(attempt: Attempt) -> None:
        await crew.plan(attempt.claim, answer="42")

    run = await crew.board.submit("go")
    crew.hire(handle, "arbiter")
    await crew.until(lambda: _is(crew.status(run), "succeeded"))


async def _is(call: Any, value: object) -> bool:
    return await call == value


async def test_reports_made_at_once_are_all_kept_in_order(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = crew.board.progress

    async def first_ones_slowly(claim: Any, number: int, *rest: Any) -> None:
        await asyncio.sleep(0.02 if number < 3 else 0)
        await progress(claim, number, *rest)

    monkeypatch.setattr(crew.board, "progress", first_ones_slowly)

    async def handle(attempt: Attempt) -> Completion:
        await asyncio.gather(*(attempt.progress("task.progressed", {"n": n}, {"n": n}) for n in range(20)))
        return await finish(attempt)

    run = await crew.run(spec("a"))
    crew.hire(handle)
    await crew.end(run, "a")
    assert [e.data["n"] for e in await crew.board.history(run) if e.type.endswith("progressed.v1")] == list(range(20))


async def test_concurrency_is_used_and_never_exceeded(crew: Crew) -> None:
    now, most = 0, 0

    async def handle(attempt: Attempt) -> Completion:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return await finish(attempt)

    run = await crew.run(*(spec(f"t{i}") for i in range(12)))
    crew.hire(handle, concurrency=3)
    await crew.until(lambda: _is(crew.board.client.exists(crew.shard.prefix + "lease"), 0) if most else False)
    for i in range(12):
        await crew.end(run, f"t{i}")
    assert most == 3


async def test_a_report_on_its_way_makes_room_for_the_next_attempt_but_not_without_end(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, taken, begun = crew.board.complete, asyncio.Event(), list[str]()

    async def when_taken(claim: Any, completion: Completion) -> None:
        await taken.wait()
        await complete(claim, completion)

    async def handle(attempt: Attempt) -> Completion:
        begun.append(attempt.claim.key)
        return await finish(attempt)

    monkeypatch.setattr(crew.board, "complete", when_taken)
    run = await crew.run(*(spec(f"t{i}") for i in range(9)))
    crew.hire(handle, concurrency=2)
    await crew.until(lambda: len(begun) >= 4)
    await asyncio.sleep(0.05)
    assert len(begun) == 4, "two attempts at a time, and as many reports that wait"
    taken.set()
    for i in range(9):
        await crew.end(run, f"t{i}")


# ---- waking --------------------------------------------------------------------------------------------------------


async def test_a_bell_wakes_a_sleeping_worker_at_once(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    crew.hire(finish, "arbiter")
    crew.hire(finish)
    await asyncio.sleep(0.1)  # both sleep
    started = time.monotonic()
    run = await crew.board.submit("go")
    await crew.until(lambda: _is(crew.status(run), "failed"))  # a step without a decision
    assert time.monotonic() - started < 1.5


async def test_work_posted_right_after_an_empty_claim_is_not_slept_on(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, posted = crew.board.claim_or_wait, asyncio.Event()

    async def claim_then_post(worker: str, lanes: Any, **more: Any) -> Any:
        found = await claim(worker, lanes, **more)
        if not found[0] and not posted.is_set() and list(lanes) == ["work"]:
            posted.set()
            await crew.run(spec("a"))
        return found

    monkeypatch.setattr(crew.board, "claim_or_wait", claim_then_post)
    seen = asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        seen.set()
        return await finish(attempt)

    crew.hire(handle)
    await asyncio.wait_for(seen.wait(), 2)


async def test_a_worker_told_of_new_lanes_looks_at_once(crew: Crew) -> None:
    lanes, seen = ["work"], asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        seen.set()
        return await finish(attempt)

    worker = Worker(crew.board, crew.heartbeat, "t", lambda: lanes, handle)
    crew.workers.append((worker, asyncio.create_task(worker.run())))
    await crew.run(spec("a", lane="new"))
    await asyncio.sleep(0.05)
    lanes.append("new")
    worker.look_again()
    await asyncio.wait_for(seen.wait(), 2)


async def test_a_token_that_reaches_a_full_worker_is_passed_on(crew: Crew) -> None:
    """A wait on the bell goes on while its worker is busy; a token it takes then belongs to somebody with room."""
    if crew.board.durability == "memory":
        pytest.skip("the emulation does not serve waiters in the order they came")
    hold, started, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(attempt: Attempt) -> Completion:
        started.set()
        await hold.wait()
        return await finish(attempt)

    async def fast(attempt: Attempt) -> Completion:
        ended.set()
        return await finish(attempt)

    # Whoever waits first gets the token: this one takes that of the first task, so that the worker claims without it.
    first = asyncio.create_task(crew.board.wait_for_work(["work"], 3))
    await asyncio.sleep(0.05)
    busy = crew.hire(slow)
    await asyncio.sleep(0.05)  # it sleeps on the bell
    run = await crew.board.submit("go")
    step = await crew.step(run)
    bells = crew.shard.bell("work")
    await crew.plan(step, spec("a"))
    assert await first
    busy.look_again()  # as when a task of its own ends just then
    await asyncio.wait_for(started.wait(), 2)
    crew.hire(fast)
    await asyncio.sleep(0.05)
    other = await crew.board.submit("more")
    await crew.plan(await crew.step(other), spec("b"))
    await asyncio.wait_for(ended.wait(), 2)
    hold.set()
    await crew.end(run, "a")
    assert await crew.board.client.llen(bells) <= 64


# ---- leases --------------------------------------------------------------------------------------------------------


async def test_g6_a_handler_that_blocks_the_event_loop_keeps_its_lease(quick: Crew) -> None:
    async def handle(attempt: Attempt) -> Completion:
        time.sleep(0.6)  # noqa: ASYNC251  twice the lease
        return await finish(attempt)

    run = await quick.run(spec("a", retry=ONCE))
    quick.hire(handle)
    other = asyncio.create_task(Sweeper(quick.board, interval_seconds=0.05).run())
    end = await quick.end(run, "a")
    assert (end.status, end.attempts) == ("succeeded", 1)
    other.cancel()


async def test_g4_the_loser_of_a_task_is_stopped_and_its_result_dropped(quick: Crew) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def slow(attempt: Attempt) -> Completion:
        begun.set()
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            stopped.set()
            return attempt.claim.completion(Status.SUCCEEDED, data="late")
        raise AssertionError

    run = await quick.run(spec("a"))
    quick.hire(slow)
    await asyncio.wait_for(begun.wait(), 2)
    await quick.board.client.zadd(quick.shard.prefix + "lease", {f"{run}/1.a": 1})  # as if it had been silent
    await quick.board.sweep()
    await asyncio.wait_for(stopped.wait(), 2)
    for worker, running in quick.workers:
        await worker.drain(0)
        await running
    await asyncio.sleep(0.15)
    await quick.board.sweep()
    again = await quick.one()
    assert again.attempt == 2
    await quick.board.complete(again, done(again, "second"))
    assert (await quick.end(run, "a")).data == "second"


async def test_g4_the_loser_hears_of_it_even_when_the_same_process_holds_the_next_claim(quick: Crew) -> None:
    told: list[str] = []
    await quick.run(spec("a"))
    old = await quick.one()
    quick.heartbeat.hold(old, lambda word: told.append("old " + word))
    await quick.board.client.zadd(quick.shard.prefix + "lease", {old.task_id: 1})
    await quick.board.sweep()
    await asyncio.sleep(0.11)
    await quick.board.sweep()
    new = await quick.one()
    quick.heartbeat.hold(new, lambda word: told.append("new " + word))
    await quick.until(lambda: told)
    assert set(told) == {"old lost"}
    quick.heartbeat.drop(old)
    assert list(quick.heartbeat._held) == [(new.task_id, new.fence)]  # pyright: ignore[reportPrivateUsage]


async def test_g6_the_heartbeat_thread_survives_whatever_a_beat_raises(
    quick: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, failed = quick.heartbeat.beat, []

    def sometimes(client: object) -> None:
        if len(failed) < 2:
            failed.append(1)
            raise ValueError("a bug" if len(failed) == 1 else "another")
        beat(client)

    monkeypatch.setattr(quick.heartbeat, "beat", sometimes)
    await quick.run(spec("a"))
    claim = await quick.one()
    quick.heartbeat.hold(claim, lambda word: None)
    first = await quick.board.client.zscore(quick.shard.prefix + "lease", claim.task_id)

    async def renewed() -> bool:
        return await quick.board.client.zscore(quick.shard.prefix + "lease", claim.task_id) > first

    await quick.until(renewed)


async def test_g7_a_handler_hears_of_the_cancellation_and_its_report_ends_the_run(quick: Crew) -> None:
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        begun.set()
        await asyncio.wait_for(attempt.cancelled.wait(), 2)
        return attempt.claim.completion(Status.CANCELLED)

    run = await quick.run(spec("a"))
    quick.hire(handle)
    await asyncio.wait_for(begun.wait(), 2)
    assert await quick.board.cancel_run(run) == "cancelling"
    await quick.until(lambda: _is(quick.status(run), "cancelled"))


# ---- draining ------------------------------------------------------------------------------------------------------


async def test_draining_claims_nothing_more_and_lets_running_work_finish(crew: Crew) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        begun.set()
        await go.wait()
        return await finish(attempt)

    run = await crew.run(spec("a"), spec("b"))
    worker = crew.hire(handle)
    await asyncio.wait_for(begun.wait(), 2)
    drained = asyncio.create_task(worker.drain(5))
    await asyncio.sleep(0)
    go.set()
    await asyncio.wait_for(drained, 2)
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
    await asyncio.wait_for(begun.wait(), 2)
    crew.hire(finish)
    await asyncio.sleep(0.02)
    started = time.monotonic()
    await worker.drain(0.05)
    end = await crew.end(run, "a")
    assert (end.status, end.attempts) == ("succeeded", 1)
    assert time.monotonic() - started < 0.9, "faster than the lease"


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
    await asyncio.wait_for(begun.wait(), 2)
    await worker.drain(0)
    assert await crew.state(f"{run}/1.a") == "ready"


async def test_a_handler_that_will_not_stop_cannot_hold_up_the_drain(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_STOP_SECONDS", 0.05)
    begun, over = asyncio.Event(), asyncio.Event()

    async def deaf(attempt: Attempt) -> Completion:
        begun.set()
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        return await finish(attempt)

    run = await crew.run(spec("a"))
    worker = crew.hire(deaf)
    await asyncio.wait_for(begun.wait(), 2)
    await asyncio.wait_for(worker.drain(0), 1)
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
    await asyncio.wait_for(sending.wait(), 2)
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
    await asyncio.wait_for(asked.wait(), 2)
    await worker.drain(0)
    await asyncio.wait_for(crew.workers[0][1], 2)
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
    sweeper = asyncio.create_task(Sweeper(crew.board, interval_seconds=0.01).run())
    await asyncio.wait_for(swept.wait(), 2)
    sweeper.cancel()


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
