"""Any policy, any failures, any waits: the board decides as a plain model does, and never beyond a bound."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict import Clock, Play, faults, spec, watch_scripts

from blackboard.board import Board
from blackboard.retries import header, ruling
from blackboard.retries import policy as read
from blackboard.types import Failure, RetryPolicy, RetryRule, Status

ERRORS = ("timeout", "throttled", "http_500", "http_503", "auth")
NUMBERS = st.sampled_from([0.0, 0.3, 1.0, 5.0])
RULES = st.builds(
    RetryRule,
    errors=st.lists(st.sampled_from([*ERRORS, "http_5*", "*", "t*"]), min_size=1, max_size=2).map(tuple),
    retry=st.sampled_from([None, True, False]),
    max_attempts=st.none() | st.integers(1, 4),
    interval_seconds=st.none() | NUMBERS,
    rate=st.none() | st.sampled_from([1.0, 2.0, 1e300]),
    cap_seconds=st.none() | NUMBERS,
    max_age_seconds=st.none() | st.sampled_from([1.0, 4.0]),
)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(4, 6),
    interval_seconds=NUMBERS,
    rate=st.sampled_from([1.0, 3.0]),
    cap_seconds=NUMBERS,
    max_age_seconds=st.none() | st.sampled_from([4.0, 8.0]),
    rules=st.lists(RULES, max_size=3).map(tuple),
)


@dataclass
class Failing:
    error: str
    says: bool
    wait: float | None
    took: float
    chance: float


FAILURES = st.lists(
    st.builds(
        Failing, st.sampled_from(ERRORS), st.just(True) | st.booleans(), st.none() | NUMBERS,
        st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.0, 0.5, 1.0]),
    ),
    min_size=6, max_size=6,
)  # fmt: skip
DEADLINE = 20.0


@dataclass
class Model:
    """What ``docs/retries.md`` says, in milliseconds since the posting."""

    policy: RetryPolicy
    now: int = 0
    attempts: int = 0
    under: list[int] = field(default_factory=list)
    """The rule of each failure so far; -1 is the policy itself."""

    def fails(self, one: Failing) -> int | None:
        """The wait before another attempt; None when there is none."""
        self.now += round(one.took * 1000)
        self.attempts += 1
        number, rule = -1, None
        for n, r in enumerate(self.policy.rules):
            if any(fnmatchcase(one.error, pattern) for pattern in r.errors):
                number, rule = n, r
                break
        self.under.append(number)
        times = self.under.count(number)

        def own(name: str) -> float:
            value = getattr(rule, name) if rule else None
            return getattr(self.policy, name) if value is None else value

        if not (one.says if rule is None or rule.retry is None else rule.retry):
            return None
        if self.attempts >= self.policy.max_attempts or times >= own("max_attempts"):
            return None
        longest = own("interval_seconds")
        for _ in range(times - 1):
            longest = min(longest * own("rate"), 1e9)
        backoff = one.chance * min(own("cap_seconds"), longest)
        delay = max(int(backoff * 1000), round((one.wait or 0) * 1000))
        last = min(DEADLINE, own("max_age_seconds") or DEADLINE)
        return None if self.now + delay > last * 1000 else delay


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(policy=POLICIES, failures=FAILURES)
def test_g4_g6_whether_and_when_another_attempt_follows_is_what_the_model_says(
    monkeypatch: pytest.MonkeyPatch, policy: RetryPolicy, failures: list[Failing]
) -> None:
    with monkeypatch.context() as patch:
        watch_scripts(patch)
        asyncio.run(_compare(policy, failures))


async def _compare(policy: RetryPolicy, failures: list[Failing]) -> None:
    name = "x" + uuid.uuid4().hex[:12]
    async with await Board.open(f"memory://{name}", board=name, lease_seconds=100.0) as board:
        play, model = Play(board, Clock(board)), Model(policy)
        await play.clock.advance()
        run = await play.run(spec("a", retry=policy, seconds=DEADLINE))
        delays: list[int] = []
        for one in failures:
            claim = await play.one()
            await play.clock.advance(one.took)
            board.random.uniform = lambda low, high, one=one: low + one.chance * (high - low)  # type: ignore[method-assign]
            error = Failure(type=one.error, message="m", retryable=one.says, retry_after_seconds=one.wait)
            completion = claim.completion(Status.FAILED, error=error)
            if ruling(claim.retry, error).again:  # as a worker does
                await board.fail(claim, completion)
            else:
                await board.complete(claim, completion)
            expected = model.fails(one)
            assert await play.state(claim.task_id) == ("failed" if expected is None else "delayed")
            if expected is None:
                break
            delays.append(expected)
            await play.clock.advance(expected / 1000)
            model.now += expected
            await board.sweep()
        told = [event.data.delay_ms for event in await board.history(run) if event.kind == "task.retried"]
        assert told == delays
        assert await faults(board) == []


@given(policy=POLICIES)
def test_a_policy_survives_the_header_of_its_task(policy: RetryPolicy) -> None:
    assert read(header(policy)) == policy


@given(policy=POLICIES, number=st.integers(1, 2000))
def test_waits_grow_up_to_their_cap_and_are_finite(policy: RetryPolicy, number: int) -> None:
    for error in ERRORS:
        found = ruling(policy, Failure(type=error, message=""))
        waits = [found.ceiling(n) for n in range(1, number + 1, 97)]
        assert all(0 <= one <= found.cap_seconds for one in waits)
        assert all(a <= b for a, b in pairwise(waits))
