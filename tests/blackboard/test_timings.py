"""How long things took: what is observed where, under which labels, and that there are never too many of those."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from strict import Play, broken, done, spec, watched_play
from worker_support import Crew, board_crew, finish

from blackboard import timings
from blackboard.attempt import Attempt, send
from blackboard.board import STEP_LANE
from blackboard.claims import Claim
from blackboard.errors import EngineUnavailable, Fenced
from blackboard.timings import BOUNDS, MOST_NAMES, OTHER, Histogram
from blackboard.types import Completion, Limits, RetryPolicy, Status

play, crew = watched_play, board_crew


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test counts from nothing."""
    for name in ("WAITED", "ATTEMPTS", "RUNS"):
        old: Histogram = getattr(timings, name)
        monkeypatch.setattr(timings, name, Histogram(old.name, old.help, old.labels))


def counted(histogram: Histogram) -> dict[tuple[str, ...], int]:
    return {tuple(each.labels.values()): sum(each.counts) for each in histogram.series()}


def test_a_duration_falls_into_the_first_bucket_whose_bound_it_does_not_exceed() -> None:
    one = Histogram("x", "x", ("kind",))
    for seconds in (0.001, 0.0011, 900.0, 900.1, -5.0):
        one.observe(seconds, "a")
    (series,) = one.series()
    assert series.labels == {"kind": "a"}
    assert [series.counts[at] for at in (0, 1, len(BOUNDS) - 1, len(BOUNDS))] == [2, 1, 1, 1]
    assert sum(series.counts) == 5
    assert series.total == pytest.approx(1800.1021)


def test_names_beyond_the_first_hundred_count_as_others() -> None:
    one = Histogram("x", "x", ("capability", "outcome"), ("capability",))
    for number in range(MOST_NAMES + 50):
        one.observe(1.0, f"c{number:03}", "failed")
    one.observe(1.0, "c000", "succeeded")
    one.observe(1.0, "c149", "succeeded")
    found = counted(one)
    assert len(found) == MOST_NAMES + 3
    assert found[OTHER, "failed"] == 50
    assert found["c000", "succeeded"] == found[OTHER, "succeeded"] == 1


def test_nothing_is_lost_between_threads() -> None:
    one = Histogram("x", "x", ("kind",))

    def observe() -> None:
        for _ in range(2000):
            one.observe(0.5, "a")

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert counted(one) == {("a",): 8000}


async def test_a_claim_knows_since_when_its_task_could_be_had(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]))
    await play.clock.advance(3.0)
    first = await play.one()
    assert (first.claimed_at() - first.ready_at, first.claims) == (pytest.approx(3.0, abs=0.01), 1)
    await play.board.complete(first, done(first))
    await play.clock.advance(2.0)
    second = await play.one()  # it became ready when what it waited for had ended
    assert (second.key, second.claimed_at() - second.ready_at) == ("b", pytest.approx(2.0, abs=0.01))
    await play.board.release(second)
    again = await play.one()
    assert (again.task_id, again.claims, again.attempt) == (f"{run}/1.b", 2, 1)
    await play.board.complete(again, done(again))


async def test_a_run_that_ran_out_of_time_is_counted_by_whoever_sweeps_it_and_once(play: Play) -> None:
    run = await play.run(limits=Limits(seconds=20))
    call = await play.board.submit_call("c", {}, lane="work", limits=Limits(seconds=30, task_seconds=30))
    await play.clock.advance(25.0)
    await play.board.sweep()
    await play.board.sweep()
    assert await play.status(run) == "timed_out"
    assert counted(timings.RUNS) == {("planned", "timed_out"): 1}
    assert timings.RUNS.series()[0].total == pytest.approx(25.0, abs=0.01)
    assert await play.status(call) == "running"


@pytest.mark.parametrize("ending", ["at once", "complete", "fail", "release", "expire", "lapse", "lapse_run"])
async def test_a_planned_run_that_was_cancelled_is_counted_once_by_whatever_ends_it(play: Play, ending: str) -> None:
    run = await play.run(spec("a", seconds=9 if ending == "lapse" else 300), limits=Limits(seconds=1000))
    claim = None if ending == "at once" else await play.one()
    play.board.cancel_grace_seconds = 100 if ending in ("expire", "lapse") else 15
    await play.clock.advance(5.0)
    await play.board.cancel_run(run)
    await play.board.cancel_run(run)
    if claim is not None:
        assert counted(timings.RUNS) == {}
        match ending:
            case "complete":
                await play.board.complete(claim, done(claim))
                await play.board.complete(claim, done(claim))  # its answer was lost
            case "fail":
                await play.board.fail(claim, broken(claim))
            case "release":
                await play.board.release(claim)
            case "expire":
                await play.clock.advance(play.board.lease_seconds + 1)
            case _:
                await play.clock.advance(20.0)
        await play.board.sweep(expire=ending == "expire")
        await play.board.sweep(expire=ending == "expire")
    assert await play.status(run) == "cancelled"
    assert counted(timings.RUNS) == {("planned", "cancelled"): 1}
    await play.sound()


async def test_waits_attempts_and_calls_are_counted_by_their_kind_and_end(crew: Crew) -> None:
    async def handle(attempt: Attempt) -> Completion:
        if attempt.claim.capability == "bad":
            return broken(attempt.claim)
        return await finish(attempt)

    for name in ("good", "bad", "good"):
        await crew.board.submit_call(name, {}, lane="work", retry=RetryPolicy(max_attempts=2, interval_seconds=0.001))
    crew.sweep()
    crew.hire(handle)
    await crew.until(lambda: sum(counted(timings.ATTEMPTS).values()) == 4)
    # A wait ends with the first claim: what lies between attempts is no wait for a worker.
    assert counted(timings.WAITED) == {("capability", "good"): 2, ("capability", "bad"): 1}
    assert counted(timings.ATTEMPTS) == {("capability", "good", "succeeded"): 2, ("capability", "bad", "failed"): 2}
    assert counted(timings.RUNS) == {("call", "succeeded"): 2, ("call", "failed"): 1}


async def test_a_run_ends_with_the_last_attempt_at_its_call_and_counts_from_its_acceptance(play: Play) -> None:
    await play.board.submit_call("c", {}, lane="work")
    waited = []
    for number in range(3):
        await play.clock.advance(60.0)
        await play.board.sweep()
        claim = await play.one()
        attempt = Attempt(play.board, claim)
        waited.append(claim.claimed_at() - claim.ready_at)
        await send(attempt, broken(claim) if number < 2 else done(claim))
        assert counted(timings.RUNS) == ({} if number < 2 else {("call", "succeeded"): 1})
    assert waited == [pytest.approx(60.0 * n, abs=1) for n in (1, 2, 3)]
    assert timings.RUNS.series()[0].total == pytest.approx(180.0, abs=1)


async def test_what_was_not_reported_here_is_told_apart(crew: Crew) -> None:
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Any:
        claim: Claim = attempt.claim
        if claim.kind == "step":
            return None  # as a planner does that has committed it
        if claim.capability == "fenced":
            raise Fenced("FENCED", "gone")
        begun.set()
        await asyncio.Event().wait()
        return claim.completion(Status.SUCCEEDED)

    await crew.board.submit("go")
    worker = crew.hire(handle, STEP_LANE)
    await crew.until(lambda: counted(timings.ATTEMPTS) == {("step", "", "succeeded"): 1})
    await worker.drain(0)
    await crew.board.submit_call("fenced", {}, lane="work")
    other = crew.hire(handle)
    await crew.until(lambda: ("capability", "fenced", "dropped") in counted(timings.ATTEMPTS))
    await crew.board.submit_call("slow", {}, lane="work")
    await begun.wait()
    await other.drain(0)
    assert counted(timings.ATTEMPTS) == {
        ("step", "", "succeeded"): 1, ("capability", "fenced", "dropped"): 1, ("capability", "slow", "given_back"): 1,
    }  # fmt: skip


@pytest.mark.parametrize(("error", "traced"), [(RuntimeError("no"), True), (EngineUnavailable("no"), False)])
async def test_what_is_said_of_a_report_that_failed_names_its_claim_and_why(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, traced: bool
) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(crew.board, "complete", fails)
    run = await crew.board.submit_call("c", {}, lane="work")
    crew.hire(finish)
    await crew.until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.message == f"reporting on {run}/0.call#1 failed; its lease will run out: no"
    assert (record.exc_info is not None) is traced, "where we were says nothing of a server that is away"
    assert record.claim.task_id == f"{run}/0.call"  # type: ignore[attr-defined]
    assert counted(timings.ATTEMPTS) == {("capability", "c", "dropped"): 1}
