"""What does it cost to load and call code behind walls, in a process of its own?

Ours hands one source text and its input to a process that was forked from a warm one, has given up what it must not
have, answers once and is killed. The alternatives load and call the same source: in this process (no isolation at all),
in ours without walls, in a process that the standard library forks from a warm one, in a new interpreter that has
nothing but the standard library, alone and in a box made by bubblewrap, and in a new interpreter that has Strands at
hand, as ours has.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_loader
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.left_over import children, private_bytes
from benchmarks.measure import Sample, Spread, in_turn, timed
from benchmarks.report import Row, rows
from blackboard.types import Status
from wrapper.isolation import Job, JobLimits, ProcessIsolation, box
from wrapper.isolation.detection import find

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
PARKED, UNPARKED = "load and call, processes parked", "the same, nothing parked"
IN_ROW, BOTH = "the same, one right after the other", "the same, two at a time"
IN_PROCESS, BARE, STRANDS = "importlib in this process", "new python -I -S", "new python + import strands"
UNWALLED, FORKSERVER, BOXED = "ours without walls", "multiprocessing forkserver, warm", "bwrap + python -I -S"
WALL_SECONDS = 0.1
_ALL = 2 * (os.cpu_count() or 1)
"""How many processes are kept parked."""
_STUCK = "import hashlib\ndef handler():\n    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10 ** 9)\n"


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    repetitions = 3 if quick else 5
    count = 40 if quick else 150
    parked, _ = await find()
    backend = type(parked)
    say(f"walls: {parked.label}, {', '.join(parked.layers)}")
    starts = [await _start(backend) for _ in range(2 if quick else 4)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["strands", "benchmarks.isolation"])
    async with parked, backend(parked=0) as unparked, backend() as shared, ProcessIsolation() as unwalled:

        async def with_parked(isolation: ProcessIsolation, least: int) -> Sample:
            latencies: list[float] = []
            for _ in range(count):
                while isolation.parked < least:
                    await asyncio.sleep(0.001)
                start = time.perf_counter()
                await _call(isolation)
                latencies.append(time.perf_counter() - start)
            return Sample(count, sum(latencies), latencies)

        async def two() -> Sample:
            began = time.perf_counter()
            both = await asyncio.gather(*(timed(lambda: _call(shared), count) for _ in range(2)))
            singles = [one for sample in both for one in sample.latencies]
            return Sample(2 * count, time.perf_counter() - began, singles)

        alternatives: dict[str, Any] = {
            PARKED: lambda: with_parked(parked, _ALL),
            IN_ROW: lambda: with_parked(parked, 1),
            UNPARKED: lambda: timed(lambda: _call(unparked), count),
            BOTH: two,
            UNWALLED: lambda: with_parked(unwalled, _ALL),
            FORKSERVER: lambda: timed(lambda: asyncio.to_thread(_forked, context), 10),
            IN_PROCESS: lambda: timed(_in_process, count),
            BARE: lambda: timed(lambda: _fresh("-I", "-S", "-c", _FRESH), 10),
            STRANDS: lambda: timed(lambda: _fresh("-c", "import strands\n" + _FRESH), 1),
        }
        if shutil.which("bwrap"):
            inside = [*box.bubblewrap([], frozenset()), sys.executable]
            alternatives[BOXED] = lambda: timed(lambda: _fresh("-I", "-S", "-c", _FRESH, program=inside), 10)
        measured = await in_turn(alternatives, repetitions, say)
        private = await _private_bytes(parked)
        late = [await _overshoot(parked) for _ in range(5 if quick else 20)]
    against = [name for name in (UNWALLED, FORKSERVER, BARE, BOXED, STRANDS, IN_PROCESS) if name in measured]
    found = rows("isolation", measured, [PARKED], against, "calls/s")
    found += rows("isolation", measured, [IN_ROW, UNPARKED, BOTH], [BARE], "calls/s")
    strands = Spread.of([sample.each for sample in measured[STRANDS]])
    first = Spread.of(starts)
    found.append(
        Row(
            "isolation", "from nothing to the first result, proof not counted", first, "s", against=STRANDS,
            theirs=strands, ratio=Spread(*[first.median / strands.median] * 3),
        )
    )  # fmt: skip
    found.append(Row("isolation", "memory of its own, a parked process", Spread.of(private), "B"))
    found.append(Row("isolation", f"verdict after a limit of {WALL_SECONDS:g} s, stuck in C", Spread.of(late), "s"))
    return found


async def _private_bytes(isolation: ProcessIsolation) -> list[float]:
    await _all_parked(isolation)
    assert isolation.zygote_pid is not None
    return [float(private_bytes(pid)) for pid in children(isolation.zygote_pid)]


async def _all_parked(isolation: ProcessIsolation) -> None:
    while isolation.parked < _ALL:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # until what was killed is buried


async def _overshoot(isolation: ProcessIsolation) -> float:
    """Seconds to the verdict on code that holds the interpreter in C."""
    began = time.perf_counter()
    await isolation.run(Job.of(_STUCK, limits=JobLimits(wall_seconds=WALL_SECONDS)))
    return time.perf_counter() - began


def _answer(connection: Connection) -> None:
    job = json.loads(connection.recv_bytes())
    space: dict[str, Any] = {}
    exec(compile(job["source"], "capability", "exec"), space)
    connection.send_bytes(json.dumps(space["handler"](**job["input"])).encode())


def _forked(context: Any) -> None:
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs,))
    process.start()
    theirs.close()
    ours.send_bytes(json.dumps({"source": SOURCE, "input": INPUT}).encode())
    if json.loads(ours.recv_bytes()) != {"sum": 3}:
        raise AssertionError("the call ended otherwise")
    process.join()
    ours.close()


async def _start(backend: type[ProcessIsolation]) -> float:
    began = time.perf_counter()
    async with backend() as isolation:
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


async def _fresh(*options: str, program: Sequence[str] = (sys.executable,)) -> None:
    process = await asyncio.create_subprocess_exec(
        *program, *options, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    said, _ = await process.communicate(json.dumps({"source": SOURCE, "input": INPUT}).encode())
    if json.loads(said) != {"sum": 3}:
        raise AssertionError("the call ended otherwise")
