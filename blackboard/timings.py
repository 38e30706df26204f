"""How long things took in this process: histograms, kept in its memory and read by whoever tells metrics.

Each is written where both of its times are known anyway, so nothing is asked of the board for them. Times of the board are on
its server's clock. As in every client of Prometheus they are of one process since its start: what asks adds them up.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""Upper bounds of the buckets, in seconds."""
MOST_NAMES = 100
"""How many names of capabilities, and how many of models, are told apart; whatever comes later counts as :data:`OTHER`."""
OTHER = "(other)"


class Series(NamedTuple):
    """What was observed under one set of labels."""

    labels: Mapping[str, str]
    counts: tuple[int, ...]
    """How many fell into each bucket, those beyond the last bound at the end; not added up."""
    total: float
    """All seconds together."""


class Histogram:
    """Durations by labels. Those named in ``bounded`` have values without end, so only the first ones are told apart.

    Args:
        name, help: as they are exposed.
        labels: names of the labels.
        bounded: which of them take any name.
    """

    def __init__(self, name: str, help: str, labels: tuple[str, ...], bounded: tuple[str, ...] = ()) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._bounded = [(labels.index(label), set[str]()) for label in bounded]
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def observe(self, seconds: float, *values: str) -> None:
        """Count a duration under the values of the labels, in their order. A negative one, as by clocks that differ, is none."""
        seconds = max(0.0, seconds)
        with self._lock:
            found = self._series.get(values)
            if found is None:
                values = self._known(values)
                found = self._series.setdefault(values, ([0] * (len(BOUNDS) + 1), [0.0]))
            found[0][bisect_left(BOUNDS, seconds)] += 1
            found[1][0] += seconds

    def _known(self, values: tuple[str, ...]) -> tuple[str, ...]:
        kept = list(values)
        for at, names in self._bounded:
            if kept[at] not in names and len(names) >= MOST_NAMES:
                kept[at] = OTHER
            else:
                names.add(kept[at])
        return tuple(kept)

    def series(self) -> list[Series]:
        """What was observed so far, in the order of the labels."""
        with self._lock:
            return [
                Series(dict(zip(self.labels, values, strict=True)), tuple(counts), total[0])
                for values, (counts, total) in sorted(self._series.items())
            ]


WAITED = Histogram(
    "arbiter_task_wait_seconds", "From when a task could be claimed to its first claim, by this process.",
    ("kind", "capability"), ("capability",),
)  # fmt: skip
ATTEMPTS = Histogram(
    "arbiter_attempt_seconds", "From a claim by this process until the end of the attempt was written.",
    ("kind", "capability", "outcome"), ("capability",),
)  # fmt: skip
RUNS = Histogram(
    "arbiter_run_seconds", "From the acceptance of a run to its end, where this process ended it.", ("kind", "outcome")
)
MODEL_CALLS = Histogram(
    "arbiter_model_call_seconds", "Requests of this process to models, by what asked.",
    ("kind", "model", "outcome"), ("model",),
)  # fmt: skip
HISTOGRAMS = (WAITED, ATTEMPTS, RUNS, MODEL_CALLS)
