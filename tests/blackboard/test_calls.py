"""Runs that call one capability without decisions: on every engine, with watched scripts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from strict import Play, broken, done, watched_play

from blackboard.errors import BadInput, Conflict, Fenced
from blackboard.types import Completion, Failure, Limits, RetryPolicy, Status

play = watched_play
ONCE = RetryPolicy(max_attempts=1)


async def called(play: Play, **more: Any) -> str:
    return await play.board.submit_call("count", {"n": 1}, **{"lane": "work", "version": "v1", **more})


async def test_g1_an_accepted_call_is_listed_and_its_task_waits_without_a_step(play: Play) -> None:
    run = await called(play, tenant="acme", priority=7)
    summary = await play.board.summary(run)
    assert (summary.tenant, summary.status, summary.round, summary.tasks) == ("acme", "running", 0, 1)
    assert summary.request == 'count {"n":1}'
    assert await play.kinds(run) == ["run.accepted ", "task.posted /0.call"]
    accepted, posted = await play.board.history(run)
    assert accepted.data.call.model_dump() == {"capability": "count", "version": "v1", "priority": 7}
    assert (accepted.data.request, posted.data.input) == (None, {"n": 1})  # G9: an input is in the log once
    assert accepted.data.pins == {"count": "v1"}
    claim = await play.one()
    assert (claim.kind, claim.capability, claim.version, claim.tenant) == ("capability", "count", "v1", "acme")
    assert claim.input() == {"n": 1}


async def test_g5_the_end_of_the_task_is_the_end_of_the_run(play: Play) -> None:
    run = await called(play)
    claim = await play.one()
    await play.board.complete(claim, done(claim, {"rows": [], "n": 12345678901234567890}))
    assert await play.kinds(run) == ["run.accepted ", "task.posted /0.call", "task.completed /0.call", "run.completed "]
    *_, completed, ended = await play.board.history(run)
    assert completed.data.data == {"rows": [], "n": 12345678901234567890}
    assert (ended.data.status, ended.data.rounds, ended.data.error) == ("succeeded", 0, None)
    assert await play.status(run) == "succeeded"
    assert await play.take("arbiter", "work") == []


@pytest.mark.parametrize("status", [Status.FAILED, Status.REFUSED, Status.TIMED_OUT, Status.CANCELLED])
async def test_g3_a_call_ends_with_the_status_and_the_error_of_its_task(play: Play, status: Status) -> None:
    run = await called(play)
    claim = await play.one()
    await play.board.complete(claim, broken(claim, retryable=False, status=status))
    ended = (await play.board.history(run))[-1].data
    assert (ended.status, ended.error.type, ended.error.message) == (status, "handler_error", "broke")


async def test_g3_a_task_that_ends_badly_without_an_error_ends_its_call_all_the_same(play: Play) -> None:
    run = await called(play)
    claim = await play.one()
    await play.board.complete(claim, claim.completion(Status.FAILED))
    assert (await play.status(run), (await play.board.history(run))[-1].data.error) == ("failed", None)


async def test_g4_a_completion_sent_again_ends_a_call_once(play: Play) -> None:
    run = await called(play)
    claim = await play.one()
    await asyncio.gather(*(play.board.complete(claim, done(claim)) for _ in range(5)))
    before = await play.snapshot()
    await play.board.complete(claim, done(claim))
    with pytest.raises(Fenced):
        await play.board.complete(claim, broken(claim))
    assert await play.snapshot() == before
    assert (await play.kinds(run)).count("run.completed ") == 1


async def test_a_failed_attempt_is_repeated_and_the_last_ends_the_call(play: Play) -> None:
    run = await called(play, retry=RetryPolicy(max_attempts=2, interval_seconds=1.0, rate=1.0, cap_seconds=1.0))
    claim = await play.one()
    assert await play.board.fail(claim, broken(claim)) == "delayed"
    assert await play.status(run) == "running"
    await play.clock.advance(1.0)
    await play.board.sweep()
    claim = await play.one()
    assert claim.attempt == 2
    assert await play.board.fail(claim, broken(claim)) == "failed"
    assert await play.status(run) == "failed"


async def test_g6_a_call_whose_worker_dies_each_time_ends(play: Play) -> None:
    run = await called(play, retry=ONCE)
    await play.one()
    await play.clock.advance(2.0)
    await play.board.sweep()
    ended = (await play.board.history(run))[-1].data
    assert (ended.status, ended.error.type) == ("failed", "lease_lost")


@pytest.mark.parametrize("limits", [Limits(task_seconds=5), Limits(seconds=5)])
async def test_g6_a_call_nobody_takes_ends_at_its_deadline(play: Play, limits: Limits) -> None:
    run = await called(play, limits=limits)
    await play.clock.advance(4.9)
    await play.board.sweep()
    assert await play.status(run) == "running"
    await play.clock.advance(0.2)
    await play.board.sweep()
    assert await play.status(run) == "timed_out"


async def test_g7_a_call_that_waits_is_cancelled_at_once_and_one_that_runs_is_told(play: Play) -> None:
    waiting, running = await called(play), await called(play, lane="other")
    claim = await play.one("other")
    assert await play.board.cancel_run(waiting) == "cancelled"
    assert await play.board.cancel_run(running) == "cancelling"
    assert await play.hold(claim) == "cancel"
    await play.board.complete(claim, claim.completion(Status.CANCELLED))
    assert await play.status(running) == "cancelled"
    assert await play.take() == []


async def test_g1_the_same_key_and_call_is_the_same_run_and_changes_nothing(play: Play) -> None:
    run = await called(play, idempotency_key="k")
    before = await play.snapshot()
    # The version that was looked up is another one meanwhile; the one that was asked for is not.
    assert await called(play, idempotency_key="k", version="v2", lane="other", priority=1) == run
    assert await play.snapshot() == before
    known = {"asked_version": None, "tenant": "default", "idempotency_key": "k"}
    assert await play.board.known_call("count", {"n": 1}, **known) == run
    assert await play.board.known_call("count", {"n": 2}, **known) is None
    assert await play.board.known_call("count", {"n": 1}, **{**known, "idempotency_key": "other"}) is None


async def test_g1_concurrent_duplicates_make_one_call(play: Play) -> None:
    runs = await asyncio.gather(*(called(play, idempotency_key="k") for _ in range(20)))
    assert len(set(runs)) == 1
    assert len(await play.take(n=5)) == 1


@pytest.mark.parametrize("other", [{"asked_version": "v2"}, {"capability": "sum"}, {"input": {"n": 2}}])
async def test_g1_the_same_key_with_another_call_is_a_conflict(play: Play, other: dict[str, Any]) -> None:
    await called(play, idempotency_key="k")
    before = await play.snapshot()
    with pytest.raises(Conflict):
        await play.board.submit_call(
            **{"capability": "count", "input": {"n": 1}, "lane": "work", "idempotency_key": "k", **other}
        )
    with pytest.raises(Conflict):
        await play.board.submit({"n": 1}, idempotency_key="k")
    assert await play.snapshot() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [("lane", "Über"), ("priority", 10), ("tenant", "A B"), ("input", {"a": float("nan")}), ("input", {"a": {1}})],
)
async def test_a_call_that_cannot_be_kept_is_refused_before_anything_is_written(
    play: Play, field: str, value: Any
) -> None:
    with pytest.raises(BadInput, match=field):
        await play.board.submit_call(**{"capability": "count", "input": {}, "lane": "work", field: value})
    assert await play.snapshot() == {}


async def test_a_call_is_bounded_by_the_limits_of_its_run(play: Play) -> None:
    limits = Limits(task_seconds=40, attempt_seconds=9, tokens=77)
    await called(play, limits=limits, attempt_seconds=20)
    claim = await play.one()
    assert (claim.deadline, claim.attempt_seconds) == (play.clock.seconds + 40, 9)
    assert claim.limits is not None
    assert (claim.limits.tokens, claim.limits.seconds) == (77, limits.seconds)


async def test_urgent_calls_of_a_tenant_are_taken_first(play: Play) -> None:
    runs = [await called(play, priority=priority) for priority in (1, 9, 5)]
    assert [claim.run_id for claim in await play.take(n=3)] == [runs[1], runs[2], runs[0]]


async def test_calls_and_planned_runs_go_on_beside_each_other(play: Play) -> None:
    planned, call = await play.board.submit("go"), await called(play)
    claim = await play.one()
    await play.plan(await play.step(planned), answer="done")
    await play.board.complete(claim, done(claim))
    assert [await play.status(run) for run in (planned, call)] == ["succeeded", "succeeded"]
    assert {name.rpartition("|")[0] for name in await play.board.outcomes()} == {"count|v1"}


async def test_a_large_input_and_a_large_result_of_a_call_are_stored_apart_and_once(play: Play) -> None:
    play.board.blobs.inline_bytes = 100
    large = {"text": "x" * 1000}
    run = await play.board.submit_call("count", large, lane="work")
    claim = await play.one()
    assert claim.input() == large
    await play.board.complete(claim, done(claim, large))
    _, posted, completed, _ = await play.board.history(run)
    assert posted.data.input.digest == completed.data.data.digest
    assert await play.board.load(run, completed.data.data) == large


async def test_an_error_with_an_awkward_word_reaches_the_end_of_the_run_whole(play: Play) -> None:
    run = await called(play)
    claim = await play.one()
    failure = Failure(type="handler_error", message='a\0b "\\ \U0001f600', evidence={"list": [], "n": 1e300})
    completion: Completion = claim.completion(Status.FAILED, error=failure)
    await play.board.complete(claim, completion)
    *_, completed, ended = await play.board.history(run)
    assert completed.data.error == failure
    assert ended.data.error.message == failure.message


async def test_g7_the_only_task_of_a_call_cancelled_alone_ends_the_call(play: Play) -> None:
    run = await called(play)
    assert await play.board.cancel_task(f"{run}/0.call", "not needed") == "cancelled"
    ended = (await play.board.history(run))[-1].data
    assert (ended.status, ended.error.message) == ("cancelled", "not needed")
