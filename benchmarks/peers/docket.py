"""docket (pydocket): ten tasks at a time, its default, which is faster than a hundred; looking every 10 ms, not every 250."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from docket import Docket, Worker  # pyright: ignore

from benchmarks.peers._count import URL, tick


async def noop() -> int:
    tick()
    return 1


def queue(count: int) -> None:
    async def put() -> None:
        async with Docket("peer", URL) as docket:
            for start in range(0, count, 50):
                await asyncio.gather(*(docket.add(noop)() for _ in range(min(50, count - start))))

    asyncio.run(put())


def work() -> None:
    async def employed() -> None:
        async with Docket("peer", URL) as docket:
            docket.register(noop)
            soon = timedelta(milliseconds=10)
            async with Worker(
                docket, concurrency=10, minimum_check_interval=soon, scheduling_resolution=soon
            ) as worker:
                await worker.run_forever()

    asyncio.run(employed())


def ask(count: int) -> list[float]:
    async def each() -> list[float]:
        seconds: list[float] = []
        async with Docket("peer", URL) as docket:
            for _ in range(count):
                began = time.perf_counter()
                execution = await docket.add(noop)()
                await execution.get_result(timeout=timedelta(seconds=30))
                seconds.append(time.perf_counter() - began)
        return seconds

    return asyncio.run(each())
