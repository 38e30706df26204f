"""How credible something is after what supports and contradicts it: weights of evidence, added up.

An entry of confidence *c* that supports a claim says that the claim is right with probability (1 + c) / 2: nothing at 0, nearly
certain at 1. Its weight is the logarithm of the odds of that, and independent weights add up to those of the claim:

    logit(credibility) = logit(prior) + sum of logit((1 + c) / 2) over what supports it - the same over what contradicts it

The order of evidence does not count, what has no confidence changes nothing, equal evidence for and against cancels, and nothing
is ever quite certain. What rests on the same source is not independent and counts for too much: the caller says what is counted.

Source: I. J. Good, *Probability and the Weighing of Evidence* (1950) and *Weight of Evidence: A Brief Survey* (Bayesian
Statistics 2, 1985); as a pool of opinions, R. F. Bordley, *A multiplicative formula for aggregating probability assessments*
(Management Science 28, 1982).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from blackboard.errors import BadInput

CERTAIN = 0.999
"""Most that any one opinion counts for; its opposite is the least."""


def weight(confidence: float) -> float:
    """The weight of an entry of some confidence, as natural logarithm of odds; 0 for none.

    Raises:
        BadInput: a confidence outside of 0 to 1.
    """
    if not 0.0 <= confidence <= 1.0:
        raise BadInput("confidence", confidence, "Give 0 to 1.")
    return _logit((1.0 + confidence) / 2.0)


def pooled(prior: float, supports: Iterable[float] = (), contradicts: Iterable[float] = ()) -> float:
    """How credible a claim is.

    Args:
        prior: how credible it is by itself, 0 to 1; 0.5 where nothing is known.
        supports, contradicts: confidences of the independent entries that do.

    Returns:
        Above 0 and below 1.

    Raises:
        BadInput: a number outside of 0 to 1.
    """
    if not 0.0 <= prior <= 1.0:
        raise BadInput("prior", prior, "Give 0 to 1.")
    odds = math.fsum([_logit(prior), *map(weight, supports), *(-weight(one) for one in contradicts)])
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds))))


def _logit(probability: float) -> float:
    bounded = max(1.0 - CERTAIN, min(CERTAIN, probability))
    return math.log(bounded / (1.0 - bounded))
