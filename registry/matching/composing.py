"""How well needs are decided that take several capabilities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from registry.matching.decision import MatchDecision


@dataclass(frozen=True, slots=True)
class Composing:
    """What is decided about needs that several capabilities serve together."""

    needs: int
    composed: float
    """Share of the needs that ``compose`` was decided for."""
    right: float
    """Share of those with the right ones named, none missing and none too many; 0 where there are none."""
    cost: float
    """Mean cost of a need at the prices of its decision: one used alone, or others composed, are a wrong match; what is
    fabricated was there; a question ends in that too where not all of them are among the best five shown."""

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def composing(cases: Sequence[tuple[MatchDecision, Collection[str]]]) -> Composing:
    """What decisions come to.

    Args:
        cases: each with what serves the need, all together; at least one.
    """
    composed = [set(decision.chosen) == set(needed) for decision, needed in cases if decision.outcome == "compose"]
    return Composing(
        needs=len(cases),
        composed=len(composed) / len(cases),
        right=sum(composed) / max(1, len(composed)),
        cost=sum(_cost(decision, set(needed)) for decision, needed in cases) / len(cases),
    )


def _cost(decision: MatchDecision, needed: set[str]) -> float:
    prices = decision.prices
    if decision.outcome == "ask":
        shown = {each.name for each in decision.candidates}
        return prices.question + (0.0 if needed <= shown else prices.needless_fabrication)
    if decision.outcome == "fabricate":
        return prices.needless_fabrication
    return 0.0 if set(decision.chosen) == needed else prices.wrong_match
