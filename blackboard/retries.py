"""What a retry policy says about one failure, and how a policy travels with its task.

The rule is found here, where the error is known in full; whether another attempt follows is decided by the script that
ends the attempt, from the counts in the task's header. A task's header carries the policy's three numbers as ``rp`` and,
only where there is more to say, ``rr``: the rules (text no script reads), the age, and what they mean for a lost lease,
of which nobody but a script can speak.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from blackboard.types import Failure, RetryPolicy, RetryRule

LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a policy says about a failure."""

    key: str
    """The rule's name in the counts of the task's header: ``r0`` for the first; empty for the policy's own numbers."""
    again: bool
    """Whether such an error is tried again at all, while attempts and time are left."""
    max_attempts: int
    """How many attempts may fail under the rule."""
    max_age_seconds: float | None
    interval_seconds: float
    rate: float
    cap_seconds: float

    def ceiling(self, number: int) -> float:
        """The longest wait after the ``number``-th failure under the rule, in seconds."""
        if not self.interval_seconds:
            return 0.0
        try:
            return min(self.cap_seconds, self.interval_seconds * self.rate ** (number - 1))
        except OverflowError:
            return self.cap_seconds


def ruling(policy: RetryPolicy, failure: Failure) -> Ruling:
    """What the first rule that knows the failure says, else the policy's own numbers."""
    names = (failure.type, *failure.names)
    for number, rule in enumerate(policy.rules):
        if any(fnmatchcase(name, pattern) for pattern in rule.errors for name in names):
            return _ruling(f"r{number}", policy, rule, failure.retryable)
    return _ruling("", policy, None, failure.retryable)


def _ruling(key: str, policy: RetryPolicy, rule: RetryRule | None, says: bool) -> Ruling:
    own = rule.model_dump(exclude={"errors", "retry"}) if rule is not None else {}
    numbers = {name: own.get(name, getattr(policy, name)) for name in _NUMBERS}
    return Ruling(key, says if rule is None or rule.retry is None else rule.retry, **numbers)


_NUMBERS = ("max_attempts", "max_age_seconds", "interval_seconds", "rate", "cap_seconds")


def failures(ruling: Ruling, attempt: int, counts: Mapping[str, int]) -> int:
    """How many attempts failed under a rule when the attempt with this number does too.

    Counts are kept for rules; what they do not hold failed under the policy's own numbers.
    """
    if ruling.key:
        return counts.get(ruling.key, 0) + 1
    return max(1, attempt - sum(counts.values()))


def header(policy: RetryPolicy) -> dict[str, Any]:
    """The policy as the posted task's header carries it."""
    own: dict[str, Any] = {
        "max": policy.max_attempts,
        "rp": [policy.interval_seconds, policy.rate, policy.cap_seconds],
    }
    more: dict[str, Any] = {}
    if policy.max_age_seconds is not None:
        more["age"] = ms(policy.max_age_seconds)
    if policy.rules:
        more["rules"] = json.dumps([rule.model_dump(mode="json") for rule in policy.rules], separators=(",", ":"))
        lost = ruling(policy, Failure(type=LEASE_LOST, message="", retryable=True))
        if lost.key:
            more["lost"] = for_script(lost)
    return own | ({"rr": more} if more else {})


def for_script(ruling: Ruling) -> dict[str, Any]:
    """A ruling about what only a script will notice, as it stands in a header."""
    said: dict[str, Any] = {
        "key": ruling.key,
        "max": ruling.max_attempts,
        "first": ms(ruling.interval_seconds),
        "rate": ruling.rate,
        "cap": ms(ruling.cap_seconds),
    }
    if ruling.max_age_seconds is not None:
        said["age"] = ms(ruling.max_age_seconds)
    if not ruling.again:
        said["never"] = 1
    return said


def policy(header: Mapping[str, Any]) -> RetryPolicy:
    """The policy of a task from its header; also from one that an earlier version wrote."""
    more: Mapping[str, Any] = header.get("rr") or {}
    most, numbers = int(header["max"]), tuple(header.get("rp") or ())[:3]
    if not more:
        return _plain(most, numbers)
    said = _numbers(most, numbers)
    if "age" in more:
        said["max_age_seconds"] = more["age"] / 1000
    if "rules" in more:
        said["rules"] = json.loads(more["rules"])
    return RetryPolicy.model_validate(said)


def _numbers(most: int, numbers: tuple[float, ...]) -> dict[str, Any]:
    named = zip(("interval_seconds", "rate", "cap_seconds"), numbers, strict=True) if numbers else ()
    return {"max_attempts": most, **dict(named)}


@lru_cache(maxsize=256)
def _plain(most: int, numbers: tuple[float, ...]) -> RetryPolicy:
    """A policy of three numbers. There are few different ones, and every claim reads its task's."""
    return RetryPolicy.model_validate(_numbers(most, numbers))


def ms(seconds: float) -> int:
    """Whole milliseconds, as headers and scripts have them."""
    return max(0, round(seconds * 1000))
