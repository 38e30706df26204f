"""Retry rules: which error is tried again, when, how often, until when; on every engine, with a clock that is turned."""

from __future__ import annotations

import json
from typing import Any

import pytest
from strict import Play, spec, watched_play

from blackboard import _script
from blackboard.claims import Claim
from blackboard.errors import Fenced
from blackboard.types import Completion, Failure, RetryPolicy, RetryRule, Status, Usage

play = watched_play

PATIENT = {"interval_seconds": 0.0, "max_attempts": 9}


def failed(
    claim: Claim, type: str, *, names: tuple[str, ...] = (), wait: float | None = None, **more: Any
) -> Completion:
    error = Failure(type=type, message="it broke", retryable=True, names=names, retry_after_seconds=wait)
    return claim.completion(Status.FAILED, error=error, **more)


def longest(play: Play) -> None:
    """No chance: every wait is as long as its policy allows."""
    play.board.random.uniform = lambda a, b: b  # type: ignore[method-assign]


async def retried(play: Play, run: str) -> list[Any]:
    return [event.data for event in await play.board.history(run) if event.kind == "task.retried"]


async def ended(play: Play, run: str) -> Completion:
    """How the work of a run ended, steps left out."""
    (end,) = [
        event.data
        for event in await play.board.history(run)
        if event.kind == "task.completed" and event.data.tool_use_id != "step"
    ]
    return end


async def fail(play: Play, type: str, **more: Any) -> str:
    """Claim the one task there is, fail it, and wait until it is ready again if it is."""
    claim = await play.one()
    state = await play.board.fail(claim, failed(claim, type, **more))
    if state == "delayed":
        due = await play.board.client.zscore(play.shard.prefix + "wait", claim.task_id)
        await play.clock.advance(float(due) / 1000 - play.clock.seconds)
        await play.board.sweep()
    return state


async def test_a_rule_bounds_the_failures_that_are_its_own_and_the_policy_all_of_them(play: Play) -> None:
    rules = (RetryRule(errors=("throttled",), max_attempts=3), RetryRule(errors=("http_5*",), max_attempts=2))
    run = await play.run(spec("a", retry=RetryPolicy(**PATIENT, rules=rules)))
    errors = ["throttled", "other", "http_503", "throttled", "other", "http_500"]
    assert [await fail(play, error) for error in errors] == ["delayed"] * 5 + ["failed"]
    end = await ended(play, run)
    assert (end.attempts, end.error.type) == (6, "http_500")
    assert end.error.message == "it broke. No attempt follows: 2 of 2 failed in this way."

    policy = RetryPolicy(max_attempts=2, interval_seconds=0, rules=rules[1:])
    await play.plan(await play.step(run), spec("b", retry=policy))
    assert [await fail(play, error) for error in ("other", "http_500")] == ["delayed", "failed"]


async def test_the_first_rule_that_knows_the_error_by_any_of_its_names_decides(play: Play) -> None:
    longest(play)
    rules = (
        RetryRule(errors=("ConnectionResetError",), interval_seconds=1),
        RetryRule(errors=("timeout", "Connection*"), interval_seconds=2),
        RetryRule(errors=("*",), interval_seconds=3),
    )
    run = await play.run(spec("a", retry=RetryPolicy(max_attempts=9, interval_seconds=9, rules=rules)))
    for names in (("ConnectionResetError", "ConnectionError"), ("ConnectionError", "OSError"), ("KeyError",)):
        await fail(play, "handler_error", names=names)
    await fail(play, "timeout")
    # The wait of a rule grows with its own failures: the second under the second rule waits twice as long.
    assert [data.delay_ms for data in await retried(play, run)] == [1000, 2000, 3000, 4000]


async def test_a_rule_takes_from_its_policy_what_it_leaves_out(play: Play) -> None:
    longest(play)
    policy = RetryPolicy(
        max_attempts=9, interval_seconds=1, rate=3, cap_seconds=5, rules=(RetryRule(errors=("e",), cap_seconds=2),)
    )
    run = await play.run(spec("a", retry=policy))
    for error in ("e", "e", "x", "x", "x"):
        await fail(play, error)
    # Failures under a rule are no failures under the policy's own numbers.
    assert [data.delay_ms for data in await retried(play, run)] == [1000, 2000, 1000, 3000, 5000]


async def test_a_rule_can_say_never(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(rules=(RetryRule(errors=("auth",), retry=False),))))
    assert await fail(play, "auth") == "failed"
    assert (await ended(play, run)).attempts == 1


@pytest.mark.parametrize(("backoff", "asked", "delay"), [(1.0, 7.25, 7250), (9.0, 7.25, 9000), (0.0, 0.0, 0)])
async def test_the_wait_that_was_asked_for_is_waited_at_least(
    play: Play, backoff: float, asked: float, delay: int
) -> None:
    longest(play)
    run = await play.run(spec("a", retry=RetryPolicy(interval_seconds=backoff)))
    await fail(play, "throttled", wait=asked)
    assert [data.delay_ms for data in await retried(play, run)] == [delay]
    assert (await play.one()).attempt == 2


async def test_g6_a_wait_that_does_not_fit_before_the_deadline_ends_the_task_now_and_says_so(play: Play) -> None:
    run = await play.run(spec("a", seconds=60, input={"n": []}))
    await play.clock.advance(10)
    claim = await play.one()
    body = failed(claim, "throttled", wait=50.5, data={"empty": [], "digits": 0.1}, stdout='said "so"')
    assert await play.board.fail(claim, body) == "failed"
    end = await ended(play, run)
    assert end.error.message == (
        "it broke. No attempt follows: a wait of 50.5 s does not fit before the deadline of the task, 50.0 s from now."
    )
    assert (end.data, end.stdout, end.error.retry_after_seconds) == ({"empty": [], "digits": 0.1}, 'said "so"', 50.5)
    assert (await play.step(run)).round == 2


@pytest.mark.parametrize("whose", ["policy", "rule"])
async def test_g6_no_attempt_begins_beyond_the_age_that_counts_from_the_posting(play: Play, whose: str) -> None:
    age = {"max_age_seconds": 10.0}
    policy = RetryPolicy(**PATIENT, **age) if whose == "policy" else RetryPolicy(
        **PATIENT, rules=(RetryRule(errors=("throttled",), **age),)
    )  # fmt: skip
    run = await play.run(spec("first"), spec("a", ["first"], retry=policy))
    first = await play.one()
    await play.clock.advance(0.5)
    await play.hold(first, 100)
    await play.clock.advance(3.5)
    await play.board.complete(first, first.completion(Status.SUCCEEDED, data=1))  # only now the other is ready
    assert await fail(play, "throttled", wait=6.0) == "delayed"
    assert await fail(play, "throttled", wait=0.001) == "failed"
    (end,) = [e.data for e in await play.board.history(run) if e.kind == "task.completed" and e.data.attempts == 2]
    assert "age at which the last attempt may begin, 0.0 s from now" in end.error.message


async def test_the_age_stands_still_while_the_run_is_paused(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(**PATIENT, max_age_seconds=10)))
    await play.clock.advance(4)
    await play.board.pause_run(run)
    await play.clock.advance(100)
    await play.board.resume_run(run)
    assert await fail(play, "x", wait=6.0) == "delayed"
    assert await fail(play, "x", wait=0.001) == "failed"


async def lose(play: Play) -> None:
    """A worker takes the one task and falls silent until its lease is over."""
    await play.one()
    await play.clock.advance(1.001)
    await play.board.sweep()


async def test_a_lost_lease_is_an_error_that_rules_know(play: Play) -> None:
    longest(play)
    rules = (RetryRule(errors=("lease_*",), max_attempts=3, interval_seconds=10, rate=3),)
    run = await play.run(spec("a", seconds=200, retry=RetryPolicy(max_attempts=9, rules=rules)))
    await lose(play)
    await play.clock.advance(10)
    await play.board.sweep()
    assert await fail(play, "other") == "delayed"
    await lose(play)
    await play.clock.advance(30)
    await play.board.sweep()
    assert [(data.error.type, data.delay_ms) for data in await retried(play, run)] == [
        ("lease_lost", 10_000), ("other", 500), ("lease_lost", 30_000)
    ]  # fmt: skip
    await lose(play)
    end = await ended(play, run)
    assert (end.status, end.error.type) == ("failed", "lease_lost")
    assert end.error.message.endswith("during attempt 4. No attempt follows: 3 of 3 failed in this way.")


async def test_a_rule_may_forbid_another_attempt_after_a_lost_lease(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(rules=(RetryRule(errors=("lease_lost",), retry=False),))))
    await lose(play)
    end = await ended(play, run)
    assert (end.attempts, end.error.type) == (1, "lease_lost")
    assert end.error.message.endswith("A retry rule says that none follows.")


async def test_g6_a_lost_lease_is_no_way_around_the_age(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(**PATIENT, max_age_seconds=1.05)))
    await lose(play)
    assert "age at which the last attempt may begin" in (await ended(play, run)).error.message


async def test_g4_a_failure_sent_again_or_late_after_another_claim_changes_nothing(play: Play) -> None:
    rules = (RetryRule(errors=("throttled",), max_attempts=2),)
    run = await play.run(spec("a", retry=RetryPolicy(**PATIENT, rules=rules)))
    first = await play.one()
    await play.board.fail(first, failed(first, "throttled", wait=5.0))
    before = await play.snapshot()
    assert await play.board.fail(first, failed(first, "throttled", wait=5.0)) == "delayed"
    assert await play.snapshot() == before
    await play.clock.advance(5)
    await play.board.sweep()
    for _ in ("ready", "claimed"):
        before = await play.snapshot()
        with pytest.raises(Fenced):
            await play.board.fail(first, failed(first, "throttled", wait=5.0))
        assert await play.snapshot() == before
        second = await play.take()
    # Counted once: the second failure is the last of two.
    assert second == []
    (again,) = [json.loads(raw) for raw in (await play.board.client.hgetall(play.shard.tasks)).values() if "rc" in raw]
    assert (again["state"], again["att"], again["rc"]) == ("claimed", 2, {"r0": 1})
    assert len(await retried(play, run)) == 1


async def test_what_a_repeated_attempt_consumed_is_in_the_log_without_what_its_checkpoint_carries_on(
    play: Play,
) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(**PATIENT)))
    claim = await play.one()
    spent = Usage(input_tokens=10, output_tokens=5, model_calls=2, seconds=1.5)
    await play.board.fail(claim, failed(claim, "x", usage=spent))
    await play.board.sweep()
    claim = await play.one()
    await play.board.fail(claim, failed(claim, "x", usage=spent), carried=Usage(input_tokens=4, model_calls=1))
    one, two = await retried(play, run)
    assert one.usage == spent
    assert two.usage == Usage(input_tokens=6, output_tokens=5, model_calls=1, seconds=1.5)


async def test_a_claim_tells_the_whole_policy_and_what_failed_so_far(play: Play) -> None:
    rules = (
        RetryRule(errors=("a", "[xy]?*"), retry=True, max_attempts=4, rate=1.5, max_age_seconds=30.25),
        RetryRule(errors=("lease_lost",), retry=False, cap_seconds=0),
    )
    policy = RetryPolicy(
        max_attempts=7, interval_seconds=0.1, rate=1.7, cap_seconds=3, max_age_seconds=60.5, rules=rules
    )
    await play.run(spec("a", retry=policy))
    assert (await play.one()).retry == policy


async def test_tasks_and_calls_of_the_version_before_are_understood(play: Play) -> None:
    """A header with three numbers and no counts; a ``fail`` without the arguments that came later."""
    await play.run(spec("a", retry=RetryPolicy(max_attempts=2, interval_seconds=2, rate=3, cap_seconds=4)))
    claim = await play.one()
    header = await play.header(claim.task_id)
    assert header["rp"] == [2, 3, 4]
    assert not {"rr", "rc"} & set(header), "policies without rules are stored as they were"
    assert claim.retry == RetryPolicy(max_attempts=2, interval_seconds=2, rate=3, cap_seconds=4)
    error = json.dumps({"type": "handler_error", "message": "m", "retryable": True})
    body = json.dumps({"orchestration_id": claim.run_id, "tool_use_id": "t", "node": "n", "status": "failed"})
    args = [2, "arbiter", "work", claim.task_id, claim.fence, "failed", body, 1500, error]
    keys = [*play.shard.declare(["arbiter", "work"], claim.run_id), *play.shard.results(claim.run_id)]
    assert await _script.run(play.board.client, _script.load("fail", "_results"), keys, args) == ["delayed", 1]
    (data,) = await retried(play, claim.run_id)
    assert (data.delay_ms, data.usage) == (1500, Usage())
