"""How far the record of a version speaks for it: the lower bound of its success, what it costs, and a try for what is new.

A score is multiplied by a **factor**, made of three parts.

* *Success*: ``0.3 + 0.7 · bound``, where ``bound`` is one standard deviation below the mean of a Beta distribution that began
  as if the version had succeeded four times in five, with no doubt held against it. The doubt comes with the tasks and goes
  with many of them.
* *Cost*: ``(1 - 0.1 · s / (s + 10)) · (1 - 0.1 · t / (t + 5000))`` for means of ``s`` seconds and ``t`` tokens of a success: a
  tenth each at the most, half of that at ten seconds and at five thousand tokens.
* *A try*: a version ranks as if it were a little better than the best of those it competes with, while it was tried in less than
  a tenth of that one's tasks, or less than three times, and may still turn out as good: while its mean and two standard
  deviations reach that one's lower bound. So what is new is tried, a bounded share of the time, and what failed is not tried on.

Sources: a Beta prior and a bound of what follows from it; the last part is optimism in the face of uncertainty (Lai and Robbins,
"Asymptotically efficient adaptive allocation rules", 1985) with a cap on its share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from blackboard.types import Status

_SUCCEEDED, _TRIED = 4.0, 5.0
_LEAST = 0.3
"""What the worst record leaves of a score: what fits best and always failed still shows, below what works."""
_AGAINST = (Status.FAILED, Status.TIMED_OUT)
"""Cancelled work and refusals by policy say nothing about the code."""
_DEAR = 0.1
_USUAL_SECONDS, _USUAL_TOKENS = 10.0, 5000.0
TRIES = 3
"""How often something new is tried, whatever the others did."""
SHARE = 0.1
"""Which part of the tasks of the best it competes with a new version may have beyond that."""
_AHEAD = 1.02


class Record(NamedTuple):
    """What is known of a version."""

    outcomes: Mapping[Status, int] = {}
    """How its tasks ended."""
    measured: int = 0
    """Of how many successes it is known what they took."""
    seconds: float = 0.0
    """What they took together."""
    tokens: int = 0

    @property
    def succeeded(self) -> int:
        return self.outcomes.get(Status.SUCCEEDED, 0)

    @property
    def tried(self) -> int:
        """Tasks that say something about the code."""
        return self.succeeded + sum(self.outcomes.get(each, 0) for each in _AGAINST)

    @property
    def failed(self) -> int:
        """Those of them that speak against it."""
        return self.tried - self.succeeded

    @property
    def mean_seconds(self) -> float | None:
        """What a success takes; None when none was measured."""
        return self.seconds / self.measured if self.measured else None

    @property
    def mean_tokens(self) -> float | None:
        return self.tokens / self.measured if self.measured else None


def bounds(succeeded: int, failed: int) -> tuple[float, float]:
    """The share of tasks a version will succeed at, cautiously (0.8 without any) and hopefully."""
    tried = succeeded + failed
    mean = (succeeded + _SUCCEEDED) / (tried + _TRIED)
    spread = math.sqrt(mean * (1 - mean) / (tried + _TRIED + 1))
    return max(0.0, mean - spread * tried / (tried + _TRIED)), min(1.0, mean + 2 * spread)


def factor(record: Record) -> float:
    """What a score is multiplied by for success and cost: 1 for what always succeeded and costs nothing."""
    cautious, _ = bounds(record.succeeded, record.failed)
    seconds, tokens = record.mean_seconds or 0.0, record.mean_tokens or 0.0
    cost = (1 - _DEAR * seconds / (seconds + _USUAL_SECONDS)) * (1 - _DEAR * tokens / (tokens + _USUAL_TOKENS))
    return (_LEAST + (1 - _LEAST) * min(1.0, cautious / 0.99)) * cost


def factors(records: Sequence[Record]) -> list[tuple[float, bool]]:
    """What the scores of versions that compete are multiplied by, and whether one is tried because it is new."""
    plain = [factor(record) for record in records]
    best = max(range(len(records)), key=lambda at: (plain[at] if records[at].tried else 0.0, -at), default=None)
    if best is None or not records[best].tried:
        return [(each, False) for each in plain]
    reached, _ = bounds(records[best].succeeded, records[best].failed)
    weighed: list[tuple[float, bool]] = []
    for at, (record, each) in enumerate(zip(records, plain, strict=True)):
        _, hopeful = bounds(record.succeeded, record.failed)
        new = at != best and record.tried < max(TRIES, SHARE * records[best].tried) and hopeful >= reached
        weighed.append((max(each, _AHEAD * plain[best]), True) if new else (each, False))
    return weighed


def words(record: Record, new: bool = False) -> str:
    """The record as a reason; empty when there is none."""
    said = [f"succeeded {record.succeeded} of {record.tried}"] if record.tried else []
    if record.mean_seconds is not None:
        said.append(f"{record.mean_seconds:.2g} s")
    if record.mean_tokens:
        said.append(f"{record.mean_tokens:,.0f} tokens")
    return ", ".join([*said, "new, to be tried"] if new else said)
