"""The claim loop: drains, wakes, keeps leases, hears of cancellations, and turns whatever a handler does into an end."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from strict import broken, spec
from worker_support import ONCE, Crew, board_crew, finish, raises, said

from blackboard import attempting, payloads
from blackboard import worker as worker_module
from blackboard.attempt import Attempt, Handler
from blackboard.claims import Claim
from blackboard.errors import BadInput, BoardFull
from blackboard.types import Completion, RetryPolicy, RetryRule, Status
from blackboard.worker import Worker

crew = board_crew


# ---- what a handler may do -----------------------------------------------------------------------------------------


async def exits(attempt: Attempt) -> Completion:
    sys.exit(3)


async def cancels_itself(attempt: Attempt) -> Completion:
    raise asyncio.CancelledError


async def returns_nonsense(attempt: Attempt) -> Completion:
    return {"not": "a completion"}  # type: ignore[return-value]


async def returns_nan(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data=float("nan"))


async def returns_too_much(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data="x" * (1 << 20))


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
    crew: Crew, monkeypatch: pytest.MonkeyPatch, handle: Handler, kind: str
) -> None:
    monkeypatch.setattr(payloads, "PAYLOAD_BYTES", 1 << 20)  # what is too large need not keep a processor busy
    run = await crew.run(spec("a", retry=ONCE), spec("next", lane="other"))
    crew.hire(handle)
    crew.hire(finish, "other")
    end = await crew.end(run, "a")
    assert (end.status, end.error and end.error.type) == ("failed", kind)
    await crew.end(run, "next")


@pytest.mark.parametrize(
    ("handle", "kinds"), [(raises, ["internal_error"]), (returns_nan, ["not_json"]), (finish, ["none"])]
)
async def test_whoever_listens_is_told_of_each_attempt_once_its_end_is_written(
    crew: Crew, handle: Handler, kinds: list[str]
) -> None:
    heard: list[str] = []

    def ended(claim: Claim, completion: Completion) -> None:
        heard.append(completion.error.type if completion.error is not None else "none")
        written.append(asyncio.create_task(crew.ended(claim.task_id)))

    written: list[asyncio.Task[bool]] = []
    run = await crew.run(spec("a", retry=ONCE))
    worker = crew.hire(handle, ended=ended)
    await crew.end(run, "a")
    await worker.drain(30)
    assert heard == kinds
    assert all([await each for each in written])


async def test_a_retryable_failure_is_tried_again_and_a_final_one_is_not(crew: Crew) -> None:
    tried: list[str] = []

    async def handle(attempt: Attempt) -> Completion:
        tried.append(attempt.claim.key)
        return broken(attempt.claim, retryable=attempt.claim.key == "again")

    run = await crew.run(*(spec(k, retry=RetryPolicy(max_attempts=3, interval_seconds=0)) for k in ("again", "final")))
    crew.hire(handle)
    crew.sweep()
    assert (await crew.end(run, "again")).attempts == 3
    assert (await crew.end(run, "final")).attempts == 1
    assert sorted(tried) == ["again", "again", "again", "final"]


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
    crew.sweep()
    assert (await crew.end(run, "always")).attempts == 3
    assert (await crew.end(run, "never")).attempts == 1


@pytest.mark.parametrize("stubborn", [False, True])
async def test_g6_an_attempt_ends_after_its_time_whatever_its_handler_does(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    monkeypatch.setattr(attempting, "_OVERTIME_SECONDS", 0.01)
    monkeypatch.setattr(attempting, "_STOP_SECONDS", 0.01)
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
    crew.sweep()
    assert (await crew.end(run, "a")).status == "succeeded"
    (error,) = [event.data.error for event in await crew.board.history(run) if event.kind == "task.retried"]
    assert (error.type, error.message) == ("board_full", "no memory")


async def test_a_handler_that_ended_its_task_itself_returns_nothing(crew: Crew) -> None:
    async def handle(attempt: Attempt) -> None:
        await crew.plan(attempt.claim, answer="42")

    run = await crew.board.submit("go")
    crew.hire(handle, "arbiter")
    await crew.until(lambda: said(crew.status(run), "succeeded"))


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
    now, most, full = 0, 0, asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.01)
        now -= 1
        return await finish(attempt)

    run = await crew.run(*(spec(f"t{i}") for i in range(12)))
    crew.hire(handle, concurrency=3)
    await crew.until(lambda: said(crew.board.client.exists(crew.shard.prefix + "lease"), 0) if most else False)
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
    monkeypatch.setattr(worker_module, "BELL_SECONDS", 3600.0)  # nobody looks by the clock
    crew.hire(finish, "arbiter")
    crew.hire(finish)
    await asyncio.sleep(0.1)  # both sleep
    run = await crew.board.submit("go")
    await crew.until(lambda: said(crew.status(run), "failed"))  # a step without a decision


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
    await asyncio.wait_for(seen.wait(), 30)


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
    await asyncio.wait_for(seen.wait(), 30)


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
    first = asyncio.create_task(crew.board.wait_for_work(["work"], 30))
    await asyncio.sleep(0.05)
    busy = crew.hire(slow)
    await asyncio.sleep(0.05)  # it sleeps on the bell
    run = await crew.board.submit("go")
    step = await crew.step(run)
    bells = crew.shard.bell("work")
    await crew.plan(step, spec("a"))
    assert await first
    busy.look_again()  # as when a task of its own ends just then
    await asyncio.wait_for(started.wait(), 30)
    crew.hire(fast)
    await asyncio.sleep(0.05)
    other = await crew.board.submit("more")
    await crew.plan(await crew.step(other), spec("b"))
    await asyncio.wait_for(ended.wait(), 30)
    hold.set()
    await crew.end(run, "a")
    assert await crew.board.client.llen(bells) <= 64
