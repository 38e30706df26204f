"""Use a capability, compose several, have one made, or let the model choose: whichever is expected to cost least.

No threshold is set anywhere. What is stated is what the mistakes cost; with the probability that the best candidate is
right, that settles what to do. Where both mistakes are likely enough, asking the model, which sees the contracts of the
best candidates, is the cheapest: the band in the middle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from blackboard.types import Record
from registry.matching.calibration import PRIOR, Calibration, shipped
from registry.matching.covering import several
from registry.matching.interface import Candidate, Findings, Searching
from registry.matching.refit import Refit
from registry.matching.words import plain_words

Outcome = Literal["use", "compose", "fabricate", "ask"]

_NOTHING: dict[Outcome, float] = {"fabricate": 0.0}
LOOKED_AT = 10
"""Candidates a decision looks at."""
_SHOWN = 5
_PARTS = 4
_WORTH_SAYING = 0.1
_BLIND = 0.5
"""Share of a need that has to be comparable for what was not found to say anything."""
_UNTOLD = (
    "most of it cannot be compared with the words of the capabilities: it is in another language or script than they are, or in "
    "a script without blanks between words. Whether one fits is as likely as not"
)
_BETWEEN = re.compile(r"(?:[.;!?]\s+|,?\s+(?:and then|then|and also|and)\s+|\n+)", re.IGNORECASE)


class Prices(Record):
    """What mistakes and questions cost, in one unit of your choice; only their ratios matter."""

    wrong_match: float = Field(default=3.0, gt=0)
    """A capability is used that does not do what was needed: a wrong answer, or a failed task."""
    needless_fabrication: float = Field(default=2.0, gt=0)
    """One is made that was there already: minutes, and money."""
    question: float = Field(default=0.5, ge=0)
    """The model is asked, with the contracts of the best candidates before it; what it still gets wrong is in the price."""


class MatchCandidate(Record):
    """A candidate as it is recorded."""

    name: str
    score: float
    reasons: tuple[str, ...] = ()


class MatchDecision(Record):
    """What to do about a need, and everything that led to it."""

    need: str
    """Shortened to its beginning."""
    outcome: Outcome
    chosen: tuple[str, ...] = ()
    """The capability to use, or those to compose, in the need's order."""
    probability: float
    """That what is chosen is right; for ``fabricate`` that nothing fits; for ``ask`` that the best candidate is right, or
    that anything is where :attr:`note` says that this is not known."""
    costs: dict[str, float]
    """What each way is expected to cost, at :attr:`prices`."""
    prices: Prices
    candidates: tuple[MatchCandidate, ...] = ()
    """The best, the chosen one among them."""
    signals: tuple[float, ...] = ()
    """What the probability was made from; see :class:`registry.matching.interface.Signals`."""
    several: float = 0.0
    """That the need takes several capabilities, the best candidate among them."""
    note: str = ""
    """Why it is not known whether anything fits, where words could not tell."""
    left_out: tuple[str, ...] = ()
    """What fits best of what may not be used, each with the reason."""
    own_cases: int = 0
    """How many decisions of this installation its calibration was fitted on; 0 for the one that is shipped."""

    @property
    def best_fits(self) -> float:
        """That the best candidate alone is what is needed, whatever was decided; 0 where there is none."""
        return 1 - self.costs["use"] / self.prices.wrong_match if self.candidates and "use" in self.costs else 0.0

    @property
    def doubts(self) -> str:
        """What keeps it from being plain, in words: that words could not tell, or that the need takes several; mostly empty."""
        said = [self.note] if self.note else []
        if self.several >= _WORTH_SAYING:
            said.append(f"the need takes several capabilities (p {self.several:.2f})")
        return "; ".join(said)


class Looked(NamedTuple):
    """What a search for a need found, and what was left out of it."""

    matcher: Searching
    need: str
    findings: Findings
    passing: Callable[[str], bool] | None
    refused: Mapping[str, str]
    """Names of what may not be used, each with the reason."""


def look(
    matcher: Searching,
    need: str,
    *,
    k: int = LOOKED_AT,
    allowed: Callable[[str], bool] | None = None,
    left_out: Callable[[str], str] | None = None,
) -> Looked:
    """Search for a need, among what may be used.

    Args:
        matcher: knows the capabilities.
        need: in words.
        k: candidates at most; a decision looks at the first ten.
        allowed: which capabilities there are for this need.
        left_out: why one of them may not be used, in words; empty when it may.
    """
    refused: dict[str, str] = {}

    def usable(name: str) -> bool:
        if allowed is not None and not allowed(name):
            return False
        why = left_out(name) if left_out is not None else ""
        if why:
            refused[name] = why
        return not why

    passing = None if allowed is None and left_out is None else usable
    return Looked(matcher, need, matcher.search(need, k=max(k, LOOKED_AT), allowed=passing), passing, refused)


def decide(
    matcher: Searching,
    need: str,
    *,
    prices: Prices | None = None,
    calibration: Calibration | None = None,
    refit: Refit | None = None,
    allowed: Callable[[str], bool] | None = None,
    left_out: Callable[[str], str] | None = None,
    ranked: Callable[[Sequence[Candidate]], Sequence[Candidate]] = tuple,
) -> MatchDecision:
    """What to do about a need: :func:`look`, and :func:`conclude` from it."""
    looked = look(matcher, need, allowed=allowed, left_out=left_out)
    return conclude(looked, prices=prices, calibration=calibration, refit=refit, ranked=ranked)


def conclude(
    looked: Looked,
    *,
    prices: Prices | None = None,
    calibration: Calibration | None = None,
    refit: Refit | None = None,
    ranked: Callable[[Sequence[Candidate]], Sequence[Candidate]] = tuple,
) -> MatchDecision:
    """What to do about a need that was searched for.

    Args:
        looked: what was found.
        prices: what mistakes cost. Default: a wrong match half as much again as a needless fabrication.
        calibration: from signals to probabilities. Default: that of ``refit``, then the one that is shipped.
        refit: the installation's own.
        ranked: the candidates in the order their records suggest. Default: as they match.
    """
    prices, calibration = prices or Prices(), calibration or (refit.calibration if refit else shipped())
    matcher, need, found, passing, refused = looked
    order = ranked(found.candidates[:LOOKED_AT])
    best = order[:_SHOWN]
    right = calibration.probability(found.signals)
    ways = costs(right, prices) if found.candidates else _NOTHING.copy()
    blind = found.compared < _BLIND and right < PRIOR
    fits = PRIOR if blind else right
    if blind:
        ways |= {"fabricate": fits * prices.needless_fabrication, "ask": prices.question}
    chosen: tuple[str, ...] = ()
    # What is left out is told of the need itself, not of its parts, and what would have fitted best of that.
    missed = matcher.search(need, k=_SHOWN, allowed=refused.__contains__).candidates if refused else ()
    said = tuple(f"{each.name}: {refused[each.name]}" for each in missed)
    parts = _parts(matcher, need, calibration, passing)
    composed = tuple(dict.fromkeys(name for name, _ in parts))
    together = math.prod(likely for _, likely in parts)
    more = several(order, need)
    alone = right * (1 - more)
    if found.candidates and len(composed) > 1:
        ways["compose"] = (1 - together) * prices.wrong_match
        for name, likely in parts:
            # Where another one would be used for a part by itself, the best of the whole hardly does that part too.
            if name != best[0].name and _cheapest(costs(likely, prices)) == "use":
                alone = min(alone, 1 - likely)
    if found.candidates:
        ways["use"] = (1 - alone) * prices.wrong_match
    outcome = _cheapest(ways)
    probability = fits
    if outcome == "use":
        chosen, probability = (best[0].name,), alone
    elif outcome == "fabricate":
        probability = 1 - fits
    elif outcome == "compose":
        chosen, probability = composed, together
    return MatchDecision(
        need=need[:500],
        outcome=outcome,
        chosen=chosen,
        probability=round(probability, 4),
        costs={way: round(cost, 4) for way, cost in sorted(ways.items())},
        prices=prices,
        candidates=tuple(map(_recorded, best)),
        signals=tuple(round(value, 4) for value in found.signals),
        several=round(more, 4),
        note=_UNTOLD if blind else "",
        left_out=said,
        own_cases=refit.cases if refit else 0,
    )


def costs(right: float, prices: Prices) -> dict[Outcome, float]:
    """What each way is expected to cost when the best candidate is right with this probability."""
    return {
        "use": (1 - right) * prices.wrong_match,
        "fabricate": right * prices.needless_fabrication,
        "ask": prices.question,
    }


def parts_of(need: str) -> list[str]:
    """The parts a need may have that several capabilities serve; itself when it has one."""
    return [part for part in _BETWEEN.split(need[:2000]) if len(plain_words(part)) >= 2]


def _parts(
    matcher: Searching, need: str, calibration: Calibration, allowed: Callable[[str], bool] | None
) -> list[tuple[str, float]]:
    """The best capability for each part of a need, and how likely it is right; none where a part has none."""
    parts = parts_of(need)
    found = [matcher.search(part, k=2, allowed=allowed) for part in parts] if 2 <= len(parts) <= _PARTS else []
    if not all(each.candidates for each in found):
        return []
    return [(each.candidates[0].name, calibration.probability(each.signals)) for each in found]


def _cheapest(ways: Mapping[Outcome, float]) -> Outcome:
    return min(ways, key=lambda way: (ways[way], way))


def _recorded(candidate: Candidate) -> MatchCandidate:
    return MatchCandidate(name=candidate.name, score=round(candidate.score, 4), reasons=candidate.reasons)
