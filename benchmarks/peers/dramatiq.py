"""Dramatiq on Redis: four threads, results kept."""

from __future__ import annotations

import os
import signal
import time

os.environ.setdefault("dramatiq_queue_prefetch", "100")

import dramatiq  # pyright: ignore
from dramatiq.brokers.redis import RedisBroker  # pyright: ignore
from dramatiq.results import Results  # pyright: ignore
from dramatiq.results.backends.redis import RedisBackend  # pyright: ignore

from benchmarks.peers._count import URL, tick

broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop() -> int:
    tick()
    return 1


def queue(count: int) -> None:
    for _ in range(count):
        noop.send()


def work() -> None:
    dramatiq.Worker(broker, worker_threads=4).start()
    signal.pause()


def ask(count: int) -> list[float]:
    seconds: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        noop.send().get_result(block=True, timeout=30_000)
        seconds.append(time.perf_counter() - began)
    return seconds
