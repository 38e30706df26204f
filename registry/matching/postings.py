"""Where words occur and what they count for there, and the sum of that over the words of a need."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

_STRONG = 120
"""What a word must count for, in 255ths, to be read before the places where it counts less: in a name, or in few words."""


class Places:
    """Where a word occurs and what it counts for there, in 255ths."""

    __slots__ = ("impacts", "peak", "slots")

    def __init__(self) -> None:
        self.slots = array("I")
        self.impacts = bytearray()
        self.peak = 0

    def remove(self, slot: int) -> None:
        at = bisect_left(self.slots, slot)
        impact = self.impacts[at]
        del self.slots[at], self.impacts[at]
        if impact == self.peak:
            self.peak = max(self.impacts, default=0)


class Posting:
    """The places of a word, the strong ones apart."""

    __slots__ = ("number", "size", "strong", "weak")

    def __init__(self, number: int) -> None:
        self.number, self.size = number, 0
        self.strong: Places | None = None
        self.weak: Places | None = None

    def add(self, slot: int, impact: int) -> None:
        self.size += 1
        if impact >= _STRONG:
            places = self.strong
            if places is None:
                places = self.strong = Places()
        else:
            places = self.weak
            if places is None:
                places = self.weak = Places()
        places.slots.append(slot)
        places.impacts.append(impact)
        if impact > places.peak:
            places.peak = impact

    def remove(self, slot: int, impact: int) -> None:
        places = self.strong if impact >= _STRONG else self.weak
        if places is not None:
            places.remove(slot)
            self.size -= 1


def add(best: dict[int, float], places: Places, weight: float) -> None:
    """Count what a word counts for in place of what stands for the same word of the need already, where it is more."""
    known = best.get
    for slot, impact in zip(places.slots, places.impacts, strict=True):
        value = weight * impact
        if value > known(slot, 0.0):
            best[slot] = value


def total(bests: Iterable[dict[int, float]]) -> dict[int, float]:
    """What the words of a need count for together."""
    scores: dict[int, float] = {}
    for best in bests:
        # Most capabilities that have one word of a need have no other.
        several = {slot: scores[slot] + best[slot] for slot in scores.keys() & best.keys()}
        scores |= best
        scores |= several
    return scores
