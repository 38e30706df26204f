"""How well it is known that nothing fits: of cases where something does, and as many where nothing does.

What three bands of probability come to is counted too: the surest are used, the least likely fabricated, and of those
between the model is asked, which sees the best five. What that is worth depends on whether a right one is among them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from registry.matching.decision import Prices, costs

_FOLDS = 5
_BINS = 10


class Case(NamedTuple):
    """One need, asked of a registry that has something for it or nothing."""

    confidence: float
    """That the best candidate is right, as it was said."""
    present: bool
    right: bool
    """The best candidate is a right one."""
    shown: bool
    """A right one is among the best five."""


@dataclass(frozen=True, slots=True)
class Band:
    """What is done with some of the cases at the default prices."""

    share: float
    """Of all cases."""
    right: float
    """Share of this band's cases that end well: what is used is right; what is fabricated was not there; of those asked,
    nothing fits or a right one is shown, so a model that judges well ends well. 0 for a band without cases."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """How well it is known whether anything fits."""

    auroc: float
    right: float
    """Share of right decisions: a right best candidate accepted, or rightly refused; the threshold is from other folds."""
    best_f1: float
    error: float
    """Expected calibration error of the probabilities, in ten equal parts of the cases."""
    curve: Sequence[tuple[float, float]]
    """Share of the cases decided, and share of those decided wrongly, the surest first."""
    used: Band
    asked: Band
    fabricated: Band
    cost: float
    """Mean cost of a case at the default prices: mistakes, questions, and what is fabricated because a right one that is
    there was not shown."""

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def knowing(cases: Sequence[Case]) -> Abstention:
    """What the cases come to; at least one, in no order of their own."""
    right = 0
    for fold in range(_FOLDS):
        threshold = _threshold([case for at, case in enumerate(cases) if at % _FOLDS != fold])
        right += sum(_decided(case, threshold) for case in cases[fold::_FOLDS])
    said = [case.confidence for case in cases]
    f1 = 0.0
    positives = sum(case.present for case in cases)
    for accepted, hits in _cumulated(sorted(cases, key=lambda case: -case.confidence)):
        f1 = max(f1, 2 * hits / (accepted + positives))
    surest = sorted(cases, key=lambda case: -max(case.confidence, 1 - case.confidence))
    wrong = 0
    curve: list[tuple[float, float]] = []
    for number, case in enumerate(surest, 1):
        wrong += not _decided(case, 0.5)
        if number % max(1, len(surest) // 50) == 0:
            curve.append((number / len(surest), wrong / number))
    bands, cost = _bands(cases, Prices())
    return Abstention(
        auroc=auroc(
            [case.confidence for case in cases if case.present], [case.confidence for case in cases if not case.present]
        ),
        right=right / len(cases),
        best_f1=f1,
        error=calibration_error(said, [case.right for case in cases]),
        curve=curve,
        used=bands["use"],
        asked=bands["ask"],
        fabricated=bands["fabricate"],
        cost=cost,
    )


def auroc(present: Sequence[float], absent: Sequence[float]) -> float:
    """How likely a case where something fits scores above one where nothing does; ties count half."""
    ordered = sorted(absent)
    if not ordered or not present:
        return 0.5
    below = [bisect_left(ordered, value) for value in present]
    upto = [bisect_left(ordered, math.nextafter(value, math.inf)) for value in present]
    return sum(below + upto) / 2 / (len(present) * len(ordered))


def calibration_error(said: Sequence[float], truth: Sequence[bool]) -> float:
    """Mean distance between what is said and what is so, over ten equal parts of the cases by what is said."""
    cases = sorted(zip(said, truth, strict=True))
    size = max(1, math.ceil(len(cases) / _BINS))
    parts = [cases[start : start + size] for start in range(0, len(cases), size)]
    return sum(abs(sum(p for p, _ in part) - sum(t for _, t in part)) for part in parts) / max(1, len(cases))


def _bands(cases: Sequence[Case], prices: Prices) -> tuple[dict[str, Band], float]:
    counted, well = Counter[str](), Counter[str]()
    cost = 0.0
    for case in cases:
        ways = costs(case.confidence, prices)
        way = min(ways, key=lambda each: (ways[each], each))
        counted[way] += 1
        if way == "use":
            ends_well, mistake = case.right, prices.wrong_match
        elif way == "fabricate":
            ends_well, mistake = not case.present, prices.needless_fabrication
        else:
            ends_well, mistake = case.shown or not case.present, prices.needless_fabrication
            cost += prices.question
        well[way] += ends_well
        cost += 0.0 if ends_well else mistake
    bands = {
        way: Band(counted[way] / len(cases), well[way] / max(1, counted[way])) for way in ("use", "ask", "fabricate")
    }
    return bands, cost / len(cases)


def _decided(case: Case, threshold: float) -> bool:
    """Whether a threshold decides a case rightly."""
    return case.right if case.confidence >= threshold else not case.present


def _threshold(cases: Sequence[Case]) -> float:
    """The one that decides most of the cases rightly."""
    ordered = sorted(cases, key=lambda case: -case.confidence)
    right = sum(not case.present for case in ordered)
    best, threshold = right, 1.1
    for case in ordered:
        right += case.right - (not case.present)
        if right > best:
            best, threshold = right, case.confidence
    return threshold


def _cumulated(cases: Iterable[Case]) -> Iterable[tuple[int, int]]:
    hits = 0
    for accepted, case in enumerate(cases, 1):
        hits += case.present
        yield accepted, hits
