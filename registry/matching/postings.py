"""Where words occur and what they count for there, and the sum of that over the words of a need."""

from __future__ import annotations

from array import array
from bisect import bisect_left

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

    def places(self) -> list[Places]:
        return [places for places in (self.strong, self.weak) if places is not None]

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


def add(scores: dict[int, float], best: dict[int, float], places: Places, weight: float) -> None:
    """Add what a word counts for, as far as it is more than what already stands for the same word of the need."""
    values = map(weight.__mul__, places.impacts)
    if not best:
        best.update(zip(places.slots, values, strict=True))
        if not scores:
            scores.update(best)
            return
        for slot, value in best.items():
            scores[slot] = scores.get(slot, 0.0) + value
        return
    for slot, value in zip(places.slots, values, strict=True):
        old = best.get(slot, 0.0)
        if value > old:
            best[slot] = value
            scores[slot] = scores.get(slot, 0.0) + value - old
