"""RQ with its ``SimpleWorker``, which does not fork for each job: its fastest."""

from __future__ import annotations

import time

import redis
from rq import Queue, SimpleWorker  # pyright: ignore

from benchmarks.peers._count import URL, tick

client = redis.Redis.from_url(URL)
jobs = Queue("noop", connection=client)


def noop() -> int:
    tick()
    return 1


def queue(count: int) -> None:
    for start in range(0, count, 500):
        jobs.enqueue_many([Queue.prepare_data(noop) for _ in range(min(500, count - start))])


def work() -> None:
    SimpleWorker([jobs], connection=client, log_job_description=False).work(logging_level="ERROR")


def ask(count: int) -> list[float]:
    seconds: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        result = jobs.enqueue(noop).latest_result(timeout=30)
        assert result is not None
        assert result.return_value == 1
        seconds.append(time.perf_counter() - began)
    return seconds
