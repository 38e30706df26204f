"""Are bytes and time of a call flat in a long conversation (guarantee G9)?

A request of about 200,000 tokens and then 100 model calls, one after the other: the conversation is the request and all that
was said since. Bytes are what the server keeps for every key of the board, time is from one decision to the next. Held
against each other are the calls of the first and of the last quarter: 1 is flat.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.history import board_bytes
from benchmarks.measure import Spread
from benchmarks.model import InstantModel
from benchmarks.report import Row
from blackboard.testing import RedisServer

CALLS = 100
REQUEST = "word " * 160_000
"""800,000 characters: 200,000 tokens at four characters a token."""
QUARTER = CALLS // 4


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    size: list[tuple[float, float]] = []
    pace: list[tuple[float, float]] = []
    for repetition in range(1 if quick else 3):
        say(f"{CALLS} calls, repetition {repetition + 1}")
        with RedisServer() as server, server.client() as client:
            sizes: list[float] = []
            await _run(server.url, lambda _, kept=sizes, redis=client: kept.append(board_bytes(redis)))
            grown = [later - earlier for earlier, later in pairwise(sizes)]
            size.append((statistics.mean(grown[:QUARTER]), statistics.mean(grown[-QUARTER:])))
            at: list[float] = []
            await _run(server.url, lambda _, kept=at: kept.append(time.perf_counter()))
            passed = [later - earlier for earlier, later in pairwise(at)]
            pace.append((statistics.median(passed[:QUARTER]), statistics.median(passed[-QUARTER:])))
    return [_row("space: bytes a call, last quarter", "B", size), _row("time: a call, last quarter", "s", pace)]


def _row(what: str, unit: str, quarters: list[tuple[float, float]]) -> Row:
    return Row(
        benchmark=f"conversation of 200,000 tokens, {CALLS} calls",
        what=what,
        value=Spread.of([last for _, last in quarters]),
        unit=unit,
        against="first quarter",
        theirs=Spread.of([first for first, _ in quarters]),
        ratio=Spread.of([last / first for first, last in quarters]),
    )


async def _run(url: str, asked: Callable[[int], None]) -> None:
    from arbiter import Arbiter, Limits, capability

    @capability
    def add(a: int, b: int) -> dict[str, Any]:
        """Add two whole numbers."""
        return {"sum": a + b, "note": "x" * 400}

    limits = Limits(rounds=1000, tasks=100_000)
    model = InstantModel(CALLS, asked)
    async with Arbiter(url, model, capabilities=[add], roles=("arbiter",), limits=limits) as arbiter:
        result = await arbiter.run(REQUEST, timeout=120)
    if result.answer != "Done." or len(result.state.rounds) != CALLS + 1:
        raise AssertionError(f"the run ended otherwise: {result.status} {result.error}")
