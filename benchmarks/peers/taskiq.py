"""taskiq with the stream broker of taskiq-redis, which acknowledges, and results in Redis."""

from __future__ import annotations

import asyncio
import time

from taskiq.api import run_receiver_task  # pyright: ignore
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker  # pyright: ignore

from benchmarks.peers._count import URL, tick

broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=600))


@broker.task
async def noop() -> int:
    tick()
    return 1


def queue(count: int) -> None:
    async def put() -> None:
        await broker.startup()
        for start in range(0, count, 50):
            await asyncio.gather(*(noop.kiq() for _ in range(min(50, count - start))))
        await broker.shutdown()

    asyncio.run(put())


def work() -> None:
    asyncio.run(run_receiver_task(broker, run_startup=True, max_async_tasks=100, max_prefetch=100))


def ask(count: int) -> list[float]:
    async def each() -> list[float]:
        await broker.startup()
        seconds: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await (await noop.kiq()).wait_result(check_interval=0.001, timeout=30)
            seconds.append(time.perf_counter() - began)
        await broker.shutdown()
        return seconds

    return asyncio.run(each())
