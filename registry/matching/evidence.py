"""How far a capability's record speaks for it: the lower bound of its success, kind to what is new.

A version without a record starts as if it had succeeded four times in five, with no doubt held against it; so something new
is tried, a few times. The doubt comes with the tasks and goes with many of them.

Source: a Beta prior, and the bound one standard deviation below the mean of what follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from blackboard.types import Status

_SUCCEEDED, _TRIED = 4.0, 5.0
_LEAST = 0.3
"""What the worst record leaves of a score: what fits best and always failed still shows, below what works."""
_AGAINST = (Status.FAILED, Status.TIMED_OUT)
"""Cancelled work and refusals by policy say nothing about the code."""


def lower_bound(succeeded: int, failed: int) -> float:
    """The share of tasks a version will succeed at, cautiously; 0.8 without any."""
    tried = succeeded + failed
    mean = (succeeded + _SUCCEEDED) / (tried + _TRIED)
    spread = math.sqrt(mean * (1 - mean) / (tried + _TRIED + 1))
    return max(0.0, mean - spread * tried / (tried + _TRIED))


def factor(outcomes: Mapping[Status, int]) -> float:
    """What a score is multiplied by: 1 for a version that always succeeded, down to 0.3; just under 1 for a new one."""
    bound = lower_bound(outcomes.get(Status.SUCCEEDED, 0), sum(outcomes.get(each, 0) for each in _AGAINST))
    return _LEAST + (1 - _LEAST) * min(1.0, bound / 0.99)


def words(outcomes: Mapping[Status, int]) -> str:
    """The record as a reason; empty when there is none."""
    succeeded = outcomes.get(Status.SUCCEEDED, 0)
    failed = sum(outcomes.get(each, 0) for each in _AGAINST)
    if not succeeded + failed:
        return ""
    return f"succeeded {succeeded} of {succeeded + failed}"
