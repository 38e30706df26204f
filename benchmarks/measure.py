"""Taking samples in turn and summarising them.

Machines are shared and their speed drifts, so alternatives are never measured one after the other: every repetition
measures all of them, and a ratio is taken inside one repetition, where both met the same machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition of one alternative."""

    units: float
    """How many units (tasks, rounds, calls) were done."""
    seconds: float
    """Wall-clock time all of them took together."""
    latencies: Sequence[float] = field(default_factory=tuple)
    """Seconds of single units, where they can be told apart."""
    processor: float = 0.0
    """Processor seconds of all of them, of every process that took part; 0 where it was not measured."""

    @property
    def each(self) -> float:
        """Seconds a unit."""
        return self.seconds / self.units


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most of a few repetitions."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


Measured = Mapping[str, Sequence[Sample]]
"""Samples by alternative, one for each repetition, in the same order for all."""


async def in_turn(
    alternatives: Mapping[str, Callable[[], Awaitable[Sample]]],
    repetitions: int,
    say: Callable[[str], None],
    processor: Callable[[], Awaitable[float]] | None = None,
) -> Measured:
    """Measure every alternative once in each repetition; the first repetition only warms up.

    ``processor`` reads the processor seconds used so far by everything that takes part.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in alternatives}
    for repetition in range(repetitions + 1):
        for name, measure in alternatives.items():
            say(f"{name}, {f'repetition {repetition} of {repetitions}' if repetition else 'warming up'}")
            before = await processor() if processor is not None else 0.0
            sample = await measure()
            if processor is not None:
                sample = replace(sample, processor=await processor() - before)
            if repetition:
                samples[name].append(sample)
    return samples


async def timed(unit: Callable[[], Awaitable[object]], count: int) -> Sample:
    """Do a unit ``count`` times, one after the other."""
    latencies: list[float] = []
    began = time.perf_counter()
    for _ in range(count):
        start = time.perf_counter()
        await unit()
        latencies.append(time.perf_counter() - start)
    return Sample(count, time.perf_counter() - began, latencies)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> Spread:
    """Our time divided by theirs, repetition by repetition."""
    return Spread.of([mine.each / other.each for mine, other in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def slope(ys: Sequence[float]) -> float:
    """Growth a step, by least squares over equally spaced values."""
    return statistics.linear_regression(range(len(ys)), ys).slope
