"""From how sure a ranking looks to how often such a ranking is right: a logistic model of a few signals.

What is shipped beside this module was fitted on 26 public corpora, those for development and others of commands and of tools
that agents use, each of which counts about the same: on the whole of each, and on parts of 5 to 90 capabilities.
``arbiter eval matching DIR --refit FILE`` fits one so on corpora of yours. An installation refits it from its own outcomes: the
shipped model is then what is believed until they say otherwise.

Source: Platt, "Probabilistic Outputs for Support Vector Machines" (1999), for the idea; the fit is Newton's method for a
logistic model with a Gaussian prior.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from blackboard.errors import BadInput
from blackboard.types import Record
from registry.matching.interface import Signals

PRIOR = 0.5
"""How likely something fits of which nothing is known."""
_FILE = Path(__file__).with_name("calibration.json")
_STEPS = 30
_LEAST = 1e-6
_MANY = 50
"""From how many capabilities on it says all it can how far the best stands before the others."""


class Calibration(Record):
    """Weights of the logistic model, one for each feature in :func:`features`."""

    weights: tuple[float, ...]
    cases: int = 0
    """How many cases it was fitted on."""

    def probability(self, signals: Signals) -> float:
        """How likely the best candidate is right; 0 when nothing was found."""
        if not signals.found:
            return 0.0
        return _logistic(sum(weight * value for weight, value in zip(self.weights, features(signals), strict=True)))


def features(signals: Signals) -> tuple[float, ...]:
    """What the model sees of a ranking; all of it between -1 and about 1, or little more where meanings rank.

    Few on purpose: what more was tried (the share of a need that is covered or known to anybody, a mention of the name, the
    second best) told more in the corpora it was fitted on and less in others. Among few capabilities it says little how far the
    best stands before the others. Rankings by words and those by meanings as well have weights of their own.
    """
    score = min(max(signals.score, _LEAST), 1 - _LEAST)
    many = min(1.0, signals.known / _MANY)
    odds, said = math.log(score / (1 - score)) / 4, signals.nearer or signals.alike
    seen = (1.0, odds, signals.answered, said, signals.standing * many, math.log1p(signals.known) / 10, many)
    nothing = (0.0,) * len(seen)
    return (*nothing, *seen) if signals.nearer else (*seen, *nothing)


def fit(
    cases: Sequence[tuple[Signals, bool]],
    prior: Calibration | None = None,
    strength: float = 2.0,
    counts: Sequence[float] | None = None,
) -> Calibration:
    """The model that explains the cases best.

    Args:
        cases: what a ranking looked like, and whether its best candidate was right.
        prior: what to believe as far as the cases do not say. Default: that no signal says anything.
        strength: how many cases' worth the prior is, roughly; at least a little, so that a fit exists.
        counts: how much each case counts. Default: all 1.

    Raises:
        BadInput: no case.
    """
    if not cases:
        raise BadInput("cases", 0, "Give at least one case to fit on.")
    counted = zip(cases, counts if counts is not None else [1.0] * len(cases), strict=True)
    rows = [(features(signals), float(right), count) for (signals, right), count in counted if signals.found]
    size = len(features(Signals()))
    centre = list(prior.weights) if prior is not None else [0.0] * size
    weights = list(centre)
    free = (0, size // 2) if prior is None else ()
    hold = [max(strength, 1e-3) * (1e-3 if at in free else 1.0) for at in range(size)]

    def likely(tried: Sequence[float]) -> float:
        """How well weights explain the cases and the prior: the logarithm, up to a constant."""
        value = -sum(each * (tried[at] - centre[at]) ** 2 for at, each in enumerate(hold)) / 2
        for row, truth, count in rows:
            said = _logistic(sum(weight * part for weight, part in zip(tried, row, strict=True)))
            value += count * math.log(said if truth else 1 - said)
        return value

    for _ in range(_STEPS):
        slope = [hold[at] * (centre[at] - weights[at]) for at in range(size)]
        bend = [[hold[at] if at == other else 0.0 for other in range(size)] for at in range(size)]
        for row, truth, count in rows:
            said = _logistic(sum(weight * value for weight, value in zip(weights, row, strict=True)))
            spread = count * max(said * (1 - said), 1e-9)
            for at, value in enumerate(row):
                slope[at] += count * (truth - said) * value
                for other in range(at + 1):
                    bend[at][other] += spread * value * row[other]
        for at in range(size):
            for other in range(at):
                bend[other][at] = bend[at][other]
        step = _solve(bend, slope)
        best = likely(weights)
        # A whole step may land beyond the best point, where the next one would lead back and forth.
        share = 1.0
        while share > 1e-6 and likely(_moved(weights, step, share)) < best:
            share /= 2
        weights = _moved(weights, step, share)
        if max(map(abs, step)) * share < 1e-6:
            break
    return Calibration(weights=tuple(round(weight, 6) for weight in weights), cases=len(cases))


@lru_cache(maxsize=1)
def shipped() -> Calibration:
    """The model that comes with the package."""
    return Calibration.model_validate(json.loads(_FILE.read_text("utf-8")))


def _moved(weights: Sequence[float], step: Sequence[float], share: float) -> list[float]:
    return [weight + share * each for weight, each in zip(weights, step, strict=True)]


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The solution of a small system of linear equations, by elimination."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for at in range(size):
        pivot = max(range(at, size), key=lambda row: abs(rows[row][at]))
        rows[at], rows[pivot] = rows[pivot], rows[at]
        for below in range(at + 1, size):
            share = rows[below][at] / rows[at][at]
            for column in range(at, size + 1):
                rows[below][column] -= share * rows[at][column]
    found = [0.0] * size
    for at in reversed(range(size)):
        known = sum(rows[at][column] * found[column] for column in range(at + 1, size))
        found[at] = (rows[at][size] - known) / rows[at][at]
    return found
