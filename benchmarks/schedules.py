"""How late does a schedule fire?

200 one-shot schedules on an otherwise idle board, with one process that sweeps it. Lag is from the moment a schedule names
to the moment at which the server accepted its run, both on the server's clock; the latter is stored in milliseconds. Held
against a program that sleeps until the same moments and submits the same requests itself, which is the least that a timer
in one process can do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.measure import Sample, in_turn, percentile, ratio
from benchmarks.report import Row, Spread
from blackboard.board import Board
from blackboard.recurrence import shown
from blackboard.schedule import Schedule
from blackboard.schedules import Schedules
from blackboard.sweeper import Sweeper
from blackboard.testing import RedisServer

SCHEDULES = 200
APART_SECONDS = 0.02
_STORING_SECONDS = 0.02
"""For storing one schedule; the first one's time comes when all are stored, so that the storing does not disturb."""
SPREAD, TOGETHER, SLEEPING = "one every 20 ms", "all at one moment", "asyncio.sleep and submit, one every 20 ms"


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    count = 50 if quick else SCHEDULES
    with RedisServer() as server:
        boards = iter(range(1000))

        def alternative(
            fire: Callable[[Board, Sequence[float]], Awaitable[None]], apart: float
        ) -> Callable[[], Awaitable[Sample]]:
            async def one() -> Sample:
                async with await Board.open(server.url, board=f"b{next(boards)}") as board:
                    first = time.time() + 0.5 + _STORING_SECONDS * count  # the server's clock is this machine's
                    moments = [round(first + k * apart, 3) for k in range(count)]
                    await fire(board, moments)
                    return await _lags(board, dict(enumerate(moments)))

            return one

        measured = await in_turn(
            {
                SPREAD: alternative(_scheduled, APART_SECONDS),
                TOGETHER: alternative(_scheduled, 0.0),
                SLEEPING: alternative(_asleep, APART_SECONDS),
            },
            1 if quick else 2,
            say,
        )
    found: list[Row] = []
    for name in (SPREAD, TOGETHER):
        lags = [lag for sample in measured[name] for lag in sample.latencies]
        found.append(
            Row(
                benchmark=f"schedules, {count} at their times", what=f"lag, {name}",
                value=Spread.of([sample.each for sample in measured[name]]), unit="s",
                p50=percentile(lags, 0.5), p99=percentile(lags, 0.99), against=SLEEPING,
                theirs=Spread.of([sample.each for sample in measured[SLEEPING]]),
                ratio=ratio(measured[name], measured[SLEEPING]),
            )
        )  # fmt: skip
    return found


async def _scheduled(board: Board, moments: Sequence[float]) -> None:
    schedules = Schedules(board)
    for k, moment in enumerate(moments):
        await schedules.add(Schedule(name=f"s{k}", when=f"at({shown(round(moment * 1000))})", request=str(k)))
    sweeping = asyncio.create_task(Sweeper(board).run())
    while any(one.status != "completed" for one in await schedules.list()):
        await asyncio.sleep(max(0.2, moments[-1] - time.time() + 0.2))
    sweeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeping


async def _asleep(board: Board, moments: Sequence[float]) -> None:
    async def one(number: int, moment: float) -> None:
        await asyncio.sleep(moment - time.time())
        await board.submit(str(number), idempotency_key=str(number))

    await asyncio.gather(*(one(number, moment) for number, moment in enumerate(moments)))


async def _lags(board: Board, moments: dict[int, float]) -> Sample:
    runs = await board.runs(len(moments) + 1)
    assert len(runs) == len(moments), f"{len(runs)} runs for {len(moments)} occurrences"
    lags = [max(0.0, run.created_at - moments[int(run.request)]) for run in runs]
    return Sample(len(lags), sum(lags), lags)
