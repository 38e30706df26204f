"""What does it cost to load and call code in a process of its own?

Ours hands one source text and its input to a process that was forked from a warm one, has given up what it must not
have, answers once and is killed. The alternatives load and call the same source: in this process (no isolation at all),
in a new interpreter that has nothing but the standard library, and in a new interpreter that has Strands at hand, as
ours has.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

from benchmarks.measure import Sample, Spread, in_turn, timed
from benchmarks.report import Row, rows
from blackboard.types import Status
from wrapper.isolation import Job, ProcessIsolation

SOURCE = '''"""Adds."""


def handler(a: int, b: int) -> dict:
    return {"sum": a + b}
'''
_FRESH = """
import json, sys
job = json.load(sys.stdin)
space = {}
exec(compile(job["source"], "capability", "exec"), space)
json.dump(space["handler"](**job["input"]), sys.stdout)
"""
INPUT = {"a": 1, "b": 2}
PARKED, UNPARKED, BOTH = "load and call, a process parked", "the same, nothing parked", "the same, two at a time"
IN_PROCESS, BARE, STRANDS = "importlib in this process", "new python -I -S", "new python + import strands"


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    repetitions = 3 if quick else 5
    count = 40 if quick else 150
    starts = [await _start() for _ in range(2 if quick else 4)]
    async with ProcessIsolation() as parked, ProcessIsolation(parked=0) as unparked, ProcessIsolation() as shared:

        async def with_parked() -> Sample:
            latencies: list[float] = []
            for _ in range(count):
                while parked.parked == 0:
                    await asyncio.sleep(0.001)
                start = time.perf_counter()
                await _call(parked)
                latencies.append(time.perf_counter() - start)
            return Sample(count, sum(latencies), latencies)

        async def two() -> Sample:
            began = time.perf_counter()
            both = await asyncio.gather(*(timed(lambda: _call(shared), count) for _ in range(2)))
            singles = [one for sample in both for one in sample.latencies]
            return Sample(2 * count, time.perf_counter() - began, singles)

        alternatives: dict[str, Any] = {
            PARKED: with_parked,
            UNPARKED: lambda: timed(lambda: _call(unparked), count),
            BOTH: two,
            IN_PROCESS: lambda: timed(_in_process, count),
            BARE: lambda: timed(lambda: _fresh("-I", "-S", "-c", _FRESH), 10),
            STRANDS: lambda: timed(lambda: _fresh("-c", "import strands\n" + _FRESH), 1),
        }
        measured = await in_turn(alternatives, repetitions, say)
    found = rows("isolation", measured, [PARKED], [BARE, STRANDS, IN_PROCESS], "calls/s")
    found += rows("isolation", measured, [UNPARKED, BOTH], [BARE], "calls/s")
    strands = Spread.of([sample.each for sample in measured[STRANDS]])
    first = Spread.of(starts)
    found.append(
        Row(
            "isolation", "from nothing to the first result", first, "s", against=STRANDS, theirs=strands,
            ratio=Spread(*[first.median / strands.median] * 3),
        )
    )  # fmt: skip
    return found


async def _start() -> float:
    began = time.perf_counter()
    async with ProcessIsolation() as isolation:
        await _call(isolation)
        return time.perf_counter() - began


async def _call(isolation: ProcessIsolation) -> None:
    outcome = await isolation.run(Job.of(SOURCE, input=INPUT))
    if outcome.status is not Status.SUCCEEDED or outcome.value != {"sum": 3}:
        raise AssertionError(f"the call ended otherwise: {outcome}")


class _Loader:
    """Loads a module from source in memory, as a hot-load does."""

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(SOURCE, module.__name__, "exec"), module.__dict__)


async def _in_process() -> None:
    spec = spec_from_loader("capability_" + hashlib.sha256(SOURCE.encode()).hexdigest()[:16], _Loader())  # type: ignore[arg-type]
    assert spec is not None
    module = module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    if module.handler(**INPUT) != {"sum": 3}:
        raise AssertionError("the call ended otherwise")


async def _fresh(*options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *options, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    said, _ = await process.communicate(json.dumps({"source": SOURCE, "input": INPUT}).encode())
    if json.loads(said) != {"sum": 3}:
        raise AssertionError("the call ended otherwise")
