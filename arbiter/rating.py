"""Rating by a strategy, which may be a program's own: where it raises or never returns, the default rates, on record."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from blackboard import strategies
from blackboard.activation import Activation
from blackboard.agenda import Strategy
from blackboard.events import RatedActivation
from blackboard.strategies import Candidate, Rate
from blackboard.types import Status
from registry import Registry

log = logging.getLogger(__name__)

SECONDS = 5.0
"""How long a program's strategy may take for one page of candidates."""


class Rating:
    """The strategies of this process.

    Args:
        own: those of the program, by name, beside :data:`blackboard.strategies.STRATEGIES`.
    """

    def __init__(self, registry: Registry, own: Mapping[str, Rate]) -> None:
        self._registry, self._own, self._seconds = registry, dict(own), SECONDS
        self._hung: dict[str, threading.Thread] = {}
        self._trouble: dict[str, str] = {}

    def used(self, strategy: Strategy) -> tuple[str, str]:
        """The strategy that rates where this one was asked for, and why it is another."""
        if strategy.trouble:
            return strategies.DEFAULT, strategy.trouble
        if strategy.name not in self._own and strategy.name not in strategies.STRATEGIES:
            return strategies.DEFAULT, f"this process has no strategy {strategy.name!r}"
        trouble = self._trouble.get(strategy.name, "")
        return (strategies.DEFAULT, trouble) if trouble else (strategy.name, "")

    async def rate(self, strategy: Strategy, some: Sequence[Activation]) -> list[RatedActivation]:
        """A rating for each of some activations; see :meth:`used` for who made it."""
        if not some:
            return []
        candidates = [await self._candidate(one) for one in some]
        ratings: list[float] | None = None
        if not strategy.trouble and (own := self._own.get(strategy.name)) is not None:
            ratings = await self._by_own(strategy.name, own, candidates)
        if ratings is None:
            rate = strategies.STRATEGIES[self.used(strategy)[0]]
            ratings = [rate(one) for one in candidates]
        return [
            RatedActivation(
                number=one.number, success=one.success,
                rating=strategies.weighted(rating, strategy.weights.get(one.capability, 1.0)),
            )
            for one, rating in zip(candidates, ratings, strict=True)
        ]  # fmt: skip

    async def _candidate(self, one: Activation) -> Candidate:
        ended = (await self._registry.record(one.capability, one.version)).outcomes
        tried = sum(number for status, number in ended.items() if status is not Status.CANCELLED)
        return candidate(one, strategies.laplace(ended.get(Status.SUCCEEDED, 0), tried))

    async def _by_own(self, name: str, rate: Rate, candidates: Sequence[Candidate]) -> list[float] | None:
        """What a program's strategy says, in a thread of its own; None, with the trouble on record, where it says nothing."""
        hung = self._hung.get(name)
        if hung is not None and hung.is_alive():
            return None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[float]] = loop.create_future()

        def said(outcome: list[float] | Exception) -> None:
            if not done.done():
                if isinstance(outcome, Exception):
                    done.set_exception(outcome)
                else:
                    done.set_result(outcome)

        def work() -> None:
            try:
                outcome: list[float] | Exception = [_finite(rate(one)) for one in candidates]
            except Exception as error:
                outcome = error
            try:
                loop.call_soon_threadsafe(said, outcome)
            except RuntimeError:  # the loop is closed: nobody waits any more
                log.warning("strategy %s answered after its process had stopped", name)

        thread = threading.Thread(target=work, name=f"strategy-{name}", daemon=True)
        thread.start()
        try:
            ratings = await asyncio.wait_for(done, self._seconds)
        except TimeoutError:
            self._hung[name] = thread
            self._trouble[name] = f"{name} did not answer within {self._seconds:g} s"
            return None
        except Exception as error:
            self._trouble[name] = f"{name} raised {type(error).__name__}: {error}"[:500]
            return None
        self._trouble.pop(name, None)
        return ratings


def candidate(one: Activation, success: float) -> Candidate:
    """What a strategy may know of an activation."""
    return Candidate(
        number=one.number, capability=one.capability, version=one.version, topic=one.topic, entry=one.entry,
        confidence=one.confidence, priority=one.priority, cost=one.cost, depth=one.depth, serial=one.serial,
        made_at=one.made_at, due_at=one.due_at, success=success,
    )  # fmt: skip


def _finite(rating: Any) -> float:
    if not isinstance(rating, int | float) or not math.isfinite(rating) or abs(rating) > 1e11:
        raise ValueError(f"a rating is a finite number of at most 1e11 either way, not {rating!r}")
    return float(rating)
