"""arq: 100 jobs at a time, looking for work every 5 ms instead of every 500."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from arq.connections import RedisSettings, create_pool  # pyright: ignore
from arq.worker import Worker  # pyright: ignore

from benchmarks.peers._count import URL, tick

settings = RedisSettings.from_dsn(URL)


async def noop(_: Any) -> int:
    tick()
    return 1


def queue(count: int) -> None:
    async def put() -> None:
        pool = await create_pool(settings)
        for _ in range(count // 50):
            await asyncio.gather(*(pool.enqueue_job("noop") for _ in range(50)))
        for _ in range(count % 50):
            await pool.enqueue_job("noop")

    asyncio.run(put())


def work() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    Worker([noop], redis_settings=settings, max_jobs=100, poll_delay=0.005, log_results=False).run()


def ask(count: int) -> list[float]:
    async def each() -> list[float]:
        pool = await create_pool(settings)
        seconds: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            job = await pool.enqueue_job("noop")
            assert job is not None
            await job.result(timeout=30, poll_delay=0.001)
            seconds.append(time.perf_counter() - began)
        return seconds

    return asyncio.run(each())
