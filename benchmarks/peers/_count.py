"""Counting no-ops where they are carried out, alike for every queue."""

from __future__ import annotations

import itertools
import json
import os
import time

URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")
COUNT = int(os.environ.get("BENCH_COUNT", "0"))
WARM = COUNT // 10
"""The first tenth is not timed: it holds the start of the worker."""
_numbers = itertools.count(1)
_began = 0.0


def tick() -> None:
    """Called by each no-op; the last of :data:`COUNT` prints the seconds an average one took."""
    global _began
    number = next(_numbers)
    if number == WARM + 1:
        _began = time.perf_counter()
    elif number == COUNT:
        print(json.dumps((time.perf_counter() - _began) / (COUNT - WARM - 1)), flush=True)
