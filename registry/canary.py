"""Whether a version that was made to take the place of another one may: a share of the runs use it, and both are compared.

Compared are the tasks of both since the canary began that succeeded or failed by the version's own doing. Let ``p`` be the
share of its tasks that the active version succeeds at, ``q`` that of the canary. The canary

* **takes the place** of the active one once the tasks speak against ``q < p - MARGIN``;
* is **ended** once they speak against ``q >= p``.

They speak against it when the likelihood of what happened, averaged over rates it may have come from, is :data:`AGAINST` times
what the best of the rates in question gives. That is looked at after any task, as often as one likes: among canaries as good as
the active version at most 1 in :data:`AGAINST` is ever ended, among those that are worse by more than the margin at most as many
ever take its place. What lies between may come to either. It is assumed that tasks are independent and that each version's
rate stays; how many tasks either version gets does not matter.

Sources: a mixture's likelihood against the greatest of the hypothesis (Wasserman, Ramdas, Balakrishnan, "Universal inference",
2020), bounded at all times at once (Ville's inequality; Robbins, "Statistical methods related to the law of the iterated
logarithm", 1970).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import JsonValue

from blackboard.catalog_records import Trial
from blackboard.lately import Ended
from registry.matching.evidence import TRIES, bounds
from registry.versions import Version

MARGIN = 0.1
"""By how much less often a canary that takes the place of the active version may succeed."""
AGAINST = 20.0
"""How much likelier what happened must be than a hypothesis makes it for that to be given up: wrongly once in so many cases."""
FEWEST = 3
"""Tasks of a canary below which nothing follows."""
_SUCCEEDED, _FAILED = 1.0, 0.25
"""The rates it is averaged over: a Beta distribution of a mean of four in five, most of it near to always and never."""
_MOST = 100_000
_STEPS = 60

Counts = tuple[float, float]
"""Tasks that succeeded and failed."""


class Verdict(NamedTuple):
    """What a trial came to."""

    version: Version
    """The canary."""
    became: Literal["active", "retired"]
    reason: str
    numbers: dict[str, JsonValue]
    """What it was taken from."""

    def __str__(self) -> str:
        done = "took the place of the active version" if self.became == "active" else "was ended"
        return f"the canary {self.version.name} {self.version.sha[:12]} {done}: {self.reason}"


def tries(run: str, name: str, share: float) -> bool:
    """Whether a run is among those that use the canary of a capability; the same whenever it is asked."""
    digest = hashlib.sha256(f"{name}\0{run}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def proven(ended: Ended) -> bool:
    """Whether a version did so well lately that another one has to be compared with it."""
    cautious, _ = bounds(ended.lately_succeeded, ended.lately_failed)
    return ended.lately_succeeded + ended.lately_failed >= TRIES and cautious >= 0.5


def since(trial: Trial, active: Ended, canary: Ended) -> tuple[Counts, Counts]:
    """The tasks of the active version and of the canary since the trial began."""
    before = trial.before
    return (
        (max(0, active.succeeded - before[0]), max(0, active.failed - before[1])),
        (max(0, canary.succeeded - before[2]), max(0, canary.failed - before[3])),
    )


def decide(canary: Version, active: Counts, counts: Counts) -> Verdict | None:
    """What a trial comes to with these tasks of both versions; None as long as that is open."""
    if sum(counts) < FEWEST:
        return None
    became: Literal["active", "retired"]
    if good := not_worse(active, counts) >= AGAINST:
        became = "active"
    elif worse(active, counts) >= AGAINST:
        became = "retired"
    else:
        return None
    said = f"{told(counts)}, of the active version's {told(active)}"
    why = f"it fails at most {MARGIN:.0%} more often" if good else "it fails more often"
    numbers: dict[str, JsonValue] = {
        "canary": {"sha": canary.sha, "succeeded": counts[0], "failed": counts[1]},
        "active": {"succeeded": active[0], "failed": active[1]},
        "margin": MARGIN,
        "error": 1 / AGAINST,
    }
    return Verdict(canary, became, f"{said}, so {why}", numbers)


def told(counts: Counts) -> str:
    """Counts in words."""
    return f"{counts[0]:.0f} of {sum(counts):.0f} tasks succeeded"


def not_worse(active: Counts, canary: Counts) -> float:
    """How much speaks against a canary that is worse by more than the margin; 1 is nothing."""
    together = _averaged((active[0] + canary[0], active[1] + canary[1]))
    apart = _averaged(active) + _averaged(canary)
    top = max(together, apart)
    seen = top + math.log((math.exp(together - top) + math.exp(apart - top)) / 2)
    p, q = _rate(active, 1.0), _rate(canary, 0.0)
    if q <= p - MARGIN:
        return _times(seen - _likelihood(active, p) - _likelihood(canary, q))
    best = _greatest(lambda p: _likelihood(active, p) + _likelihood(canary, p - MARGIN), MARGIN)
    return _times(seen - best)


def worse(active: Counts, canary: Counts) -> float:
    """How much speaks against a canary that is as good as the active version; 1 is nothing."""
    p, q = _rate(active, 0.0), _rate(canary, 1.0)
    if q < p:
        p = q = _rate((active[0] + canary[0], active[1] + canary[1]), 0.0)
    best = _likelihood(active, p) + _likelihood(canary, q)
    return _times(_averaged(active) + _averaged(canary) - best)


def missing(active: Counts, canary: Counts, share: float) -> int | None:
    """About how many more tasks a canary needs to take the place of the active version, if none of them fails and that one goes
    on as it did; None when that cannot be foreseen."""

    def enough(more: int) -> bool:
        old = more * (1 - share) / share
        rate = _rate(active, 1.0)
        after = (active[0] + old * rate, active[1] + old * (1 - rate))
        return not_worse(after, (canary[0] + more, canary[1])) >= AGAINST

    least, most = 0, 1
    while not enough(most):
        least, most = most, 2 * most
        if most > _MOST:
            return None
    while most - least > 1:
        half = (least + most) // 2
        least, most = (least, half) if enough(half) else (half, most)
    return most


def _averaged(counts: Counts) -> float:
    """The logarithm of the likelihood of counts, averaged over rates."""
    return _log_beta(_SUCCEEDED + counts[0], _FAILED + counts[1]) - _log_beta(_SUCCEEDED, _FAILED)


def _likelihood(counts: Counts, rate: float) -> float:
    return _weighed(counts[0], rate) + _weighed(counts[1], 1 - rate)


def _weighed(number: float, chance: float) -> float:
    if number <= 0:
        return 0.0
    return number * math.log(chance) if chance > 0 else -math.inf


def _rate(counts: Counts, without: float) -> float:
    return counts[0] / sum(counts) if sum(counts) else without


def _greatest(concave: Callable[[float], float], low: float) -> float:
    """The greatest value of a function between ``low`` and 1."""
    high = 1.0
    for _ in range(_STEPS):
        third = (high - low) / 3
        if concave(low + third) < concave(high - third):
            low += third
        else:
            high -= third
    return concave((low + high) / 2)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times(logarithm: float) -> float:
    return math.exp(min(logarithm, 700.0))
