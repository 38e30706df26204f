"""Celery on Redis: solo pool, results kept, messages acknowledged when received (its default)."""

from __future__ import annotations

import time

from celery import Celery  # pyright: ignore

from benchmarks.peers._count import URL, tick

app = Celery("peer", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=100, broker_connection_retry_on_startup=True, worker_redirect_stdouts=False)


@app.task(name="noop")
def noop() -> int:
    tick()
    return 1


def queue(count: int) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            noop.apply_async(producer=producer)


def work() -> None:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    app.worker_main(["--quiet", "worker", "--pool", "solo", "--concurrency", "1", *quiet])


def ask(count: int) -> list[float]:
    seconds: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        noop.delay().get(timeout=30)
        seconds.append(time.perf_counter() - began)
    return seconds
