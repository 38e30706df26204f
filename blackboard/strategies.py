"""How control rates what waits on an agenda; the highest rating is picked first, and of two alike the older.

A rating is made once, when the activation comes, from what is known of it then, and again when the strategy is changed. So a
pick need not look at all that waits, and the same log under the same strategy gives the same picks.

Sources: priority and focus as in BB1 (Hayes-Roth 1985); expected value as value of information per cost; earliest deadline first
(Liu and Layland, *JACM* 1973).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

CONTROL: Final = "control"
"""First word of the topics of a run's control board."""
TOPIC: Final = f"{CONTROL}.strategy"
"""Where a run's strategy is written."""
DEFAULT: Final = "priority"
TERMS: Final = "terms"
"""Version of the strategy of a run on whose control board nothing is written."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a strategy may know of an activation."""

    number: int
    capability: str
    version: str
    topic: str
    entry: str
    confidence: float
    """Of the entry, 0 to 1."""
    priority: float
    """Of the trigger, 0 to 10."""
    cost: float
    """Of the trigger, above 0."""
    depth: int
    """1 where no activation led to the entry."""
    serial: int
    """The how manieth activation of its capability in the run."""
    made_at: float
    """Seconds since the epoch on the server's clock."""
    due_at: float | None
    """The same; by when it should be picked."""
    success: float
    """Above 0, below 1: how much of its version's tasks succeeded, (s + 1) / (n + 2) (Laplace's rule of succession)."""


Rate = Callable[[Candidate], float]
"""A strategy: a finite number, the higher the sooner."""

_NEVER = 1e12


def priority(one: Candidate) -> float:
    """As the trigger says."""
    return one.priority


def expected_value(one: Candidate) -> float:
    """How sure the entry is, times how often the capability succeeds, divided by what it costs."""
    return one.confidence * one.success / one.cost


def breadth_first(one: Candidate) -> float:
    """What few activations led to comes first."""
    return -float(one.depth)


def deadline(one: Candidate) -> float:
    """What should be picked soonest comes first; what says nothing comes last."""
    return -(one.due_at if one.due_at is not None else _NEVER)


def fair_share(one: Candidate) -> float:
    """Capabilities take turns: the n-th activation of one stands beside the n-th of every other."""
    return -float(one.serial)


STRATEGIES: Final[Mapping[str, Rate]] = {
    one.__name__: one for one in (priority, expected_value, breadth_first, deadline, fair_share)
}


def weighted(rating: float, weight: float) -> float:
    """The rating of a capability that counts more (above 1) or less: what is below 0 comes nearer to it."""
    return rating * weight if rating >= 0 else rating / weight


def laplace(succeeded: int, ended: int) -> float:
    """How probable success is after some tries."""
    return (succeeded + 1) / (ended + 2)
