"""The calibration of one installation: the shipped one, moved by how this installation's own decisions turned out.

A case is what a ranking looked like and whether its best candidate was what served the need in the end. The shipped model is
what is believed until the cases say otherwise; it counts about as much as :data:`BELIEVED` of them, so a hundred cases move it a
little and thousands overrule it. Fewer than :data:`LEAST`, or fewer than :data:`LEAST_OF_EACH` of right or of wrong ones, are
refused, and so is a fit that does not clearly predict cases it was not fitted on better than the shipped model does.

Sources: cross-validation in the form of Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions" (1974); one
standard error as in Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees" (1984).
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Sequence

from pydantic import ValidationError

from blackboard.errors import BadInput
from blackboard.types import Record
from registry.matching.calibration import Calibration, features, fit, shipped
from registry.matching.interface import Signals

LEAST = 50
LEAST_OF_EACH = 10
BELIEVED = 100
_STRENGTH = BELIEVED / 4
"""A case says at most a quarter about a weight: the variance of a coin."""
_FOLDS = 5
_SURE = 1.0
"""Standard errors by which it has to predict better, so that chance seldom moves what is believed: of sets of 200 cases that
turn out as the shipped model says, one in twenty does."""

Case = tuple[Signals, bool]


class Refit(Record):
    """A calibration fitted on an installation's own cases."""

    calibration: Calibration
    cases: int
    right: int
    """How many of them the best candidate was right in."""
    loss: float
    """Mean logarithmic loss on cases left out of the fit; lower is better."""
    shipped_loss: float
    """The same of the shipped model."""
    base: str
    """Which shipped model it was moved from; of another one it says nothing."""

    def text(self) -> str:
        """To be stored; :func:`read` is the inverse."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    def __str__(self) -> str:
        return (
            f"fitted on {self.cases:,} needs of this board, of which the best candidate served {self.right:,}; "
            f"logarithmic loss {self.loss:.3f}, {self.shipped_loss:.3f} as shipped"
        )


def refit(cases: Sequence[Case]) -> Refit:
    """The shipped calibration, moved by cases. The same cases in another order give the same.

    Raises:
        BadInput: there are too few, or the shipped one predicts them as well.
    """
    usable = sorted(each for each in cases if each[0].found)
    right = sum(truth for _, truth in usable)
    if len(usable) < LEAST or min(right, len(usable) - right) < LEAST_OF_EACH:
        raise BadInput(
            "cases", f"{len(usable)} needs, {right} of them found right",
            f"A refit takes {LEAST} needs, with {LEAST_OF_EACH} found right and {LEAST_OF_EACH} found wrong among them. "
            "Come back when more runs have succeeded.",
        )  # fmt: skip
    prior = shipped()
    loss, gains = 0.0, list[float]()
    for fold in range(_FOLDS):
        kept = [case for at, case in enumerate(usable) if at % _FOLDS != fold]
        tried = fit(kept, prior, _STRENGTH)
        for case in usable[fold::_FOLDS]:
            now = _loss(tried, case)
            loss += now
            gains.append(_loss(prior, case) - now)
    known = loss + sum(gains)
    if statistics.mean(gains) <= _SURE * statistics.stdev(gains) / math.sqrt(len(gains)):
        raise BadInput(
            "cases", f"{len(usable)} needs",
            f"The shipped calibration predicts them as well, or nearly (logarithmic loss {known / len(usable):.3f}, "
            f"refitted {loss / len(usable):.3f}); nothing needs to change.",
        )  # fmt: skip
    return Refit(
        calibration=fit(usable, prior, _STRENGTH),
        cases=len(usable),
        right=right,
        loss=round(loss / len(usable), 4),
        shipped_loss=round(known / len(usable), 4),
        base=_base(),
    )


def read(text: str | None) -> Refit | None:
    """The refit that is stored, if it is of use to this version of the program; None otherwise.

    Raises:
        ValueError: something is stored that is of no use: damaged, or moved from another shipped model.
    """
    if text is None:
        return None
    try:
        found = Refit.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"the stored calibration is damaged: {error.errors()[0]['msg']}") from None
    if found.base != _base() or len(found.calibration.weights) != len(features(Signals())):
        raise ValueError("the stored calibration was fitted for another version of the matcher")
    return found


def _base() -> str:
    return hashlib.sha256(repr(shipped().weights).encode()).hexdigest()[:16]


def _loss(model: Calibration, case: Case) -> float:
    signals, right = case
    likely = min(max(model.probability(signals), 1e-6), 1 - 1e-6)
    return -math.log(likely if right else 1 - likely)
