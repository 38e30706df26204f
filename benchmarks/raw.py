"""Bare Redis as a unit to count in: one task after the other, four commands each."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from benchmarks.measure import Sample
from blackboard.testing import RedisServer

SERIAL = "XADD, XREADGROUP, HSET, XACK one after the other"
_BODY = "x" * 190


def serial(server: RedisServer, count: int) -> Sample:
    """``count`` rounds of ``XADD``, ``XREADGROUP``, ``HSET``, ``XACK`` through the synchronous client, 190 bytes each.

    The least a queue of one consumer asks of Redis for a task whose result is kept, without any batching.
    """
    client: Any = server.client()
    with contextlib.closing(client):
        client.delete("raw:queue", "raw:results")
        client.xgroup_create("raw:queue", "group", "0", mkstream=True)
        latencies: list[float] = []
        began = time.perf_counter()
        for _ in range(count):
            start = time.perf_counter()
            client.xadd("raw:queue", {"d": _BODY})
            found = client.xreadgroup("group", "worker", {"raw:queue": ">"}, count=1)
            (entry, _), *_ = found[0][1]
            client.hset("raw:results", entry, _BODY)
            client.xack("raw:queue", "group", entry)
            latencies.append(time.perf_counter() - start)
        seconds = time.perf_counter() - began
        client.delete("raw:queue", "raw:results")
    return Sample(count, seconds, latencies)
