"""Do space and time grow linearly with the rounds of a run (guarantee G9)?

One long run whose rounds are all alike. Space is what the server keeps for every key of the board, asked for at each
decision; time is from one decision to the next. Each is fitted with a line over the first and over the second half of
the run: a ratio of 1 is linear growth, 2 would be what a log that stores its history again in every round shows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.measure import Spread, slope
from benchmarks.model import InstantModel
from benchmarks.report import Row
from blackboard.testing import RedisServer

ROUNDS = 50


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    size: list[tuple[float, float]] = []
    pace: list[tuple[float, float]] = []
    for repetition in range(1 if quick else 3):
        say(f"{ROUNDS} rounds, repetition {repetition + 1}")
        with RedisServer() as server, server.client() as client:
            sizes: list[float] = []
            await _run(server.url, lambda _, kept=sizes, redis=client: kept.append(board_bytes(redis)))
            size.append(_halves(sizes))
            times: list[float] = []
            for _ in range(2 if quick else 4):
                at: list[float] = []
                await _run(server.url, lambda _, kept=at: kept.append(time.perf_counter()))
                passed = [later - earlier for earlier, later in pairwise(at)]
                times = passed if not times else [min(pair) for pair in zip(times, passed, strict=True)]
            half = len(times) // 2
            pace.append((statistics.median(times[:half]), statistics.median(times[half:])))
    return [
        _row("space: bytes a round, second half of a run", "first half", "B", size),
        _row("time: a round, second half of a run", "first half", "s", pace),
    ]


def _row(what: str, against: str, unit: str, halves: list[tuple[float, float]]) -> Row:
    return Row(
        benchmark=f"history, {ROUNDS} rounds",
        what=what,
        value=Spread.of([second for _, second in halves]),
        unit=unit,
        against=against,
        theirs=Spread.of([first for first, _ in halves]),
        ratio=Spread.of([second / first for first, second in halves]),
    )


def _halves(values: list[float]) -> tuple[float, float]:
    half = len(values) // 2
    return slope(values[:half]), slope(values[half:])


def board_bytes(client: Any) -> float:
    keys = list(client.scan_iter(count=1000))
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key, samples=0)
    return float(sum(size or 0 for size in pipe.execute()))


async def _run(url: str, asked: Callable[[int], None]) -> None:
    from arbiter import Arbiter, Limits, capability

    @capability
    def add(a: int, b: int) -> dict[str, Any]:
        """Add two whole numbers."""
        return {"sum": a + b, "note": "x" * 400}

    limits = Limits(rounds=1000, tasks=100_000)
    model = InstantModel(ROUNDS, asked)
    async with Arbiter(url, model, capabilities=[add], roles=("arbiter",), limits=limits) as arbiter:
        result = await arbiter.run("Add two whole numbers, again and again.", timeout=60)
    if result.answer != "Done." or len(result.state.rounds) != ROUNDS + 1:
        raise AssertionError(f"the run ended otherwise: {result.status} {result.error}")
