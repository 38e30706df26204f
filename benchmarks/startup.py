"""How long until a program can begin, how long until its first answer, and how much memory does it take?

Every sample is a process of its own. Times are of the whole process, interpreter included, except where a row says
otherwise; memory is the kernel's peak of resident pages for the process itself, servers and children not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Measured, Sample, Spread, in_turn, ratio
from benchmarks.report import Row
from blackboard.engine import stop_local

_PEAK = """
import resource
from pathlib import Path
try:
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
"""
_IMPORT = "{statement}\n" + _PEAK + "print(peak)"
_ANSWER = (
    """
import asyncio, json, sys, time
from arbiter import Arbiter, capability
from benchmarks.model import InstantModel

@capability
def add(a: int, b: int) -> dict[str, int]:
    "Add two whole numbers."
    return {"sum": a + b}

async def main():
    began = time.perf_counter()
    roles = tuple(sys.argv[2].split(","))
    async with Arbiter(model=InstantModel(1), data_dir=sys.argv[1], capabilities=[add], roles=roles) as a:
        result = await a.run("Add two whole numbers.")
        seconds = time.perf_counter() - began
    assert result.answer == "Done.", result.status
    return seconds

seconds = asyncio.run(main())
"""
    + _PEAK
    + """
print(json.dumps([seconds, peak]))
"""
)
_AGENT = (
    """
import asyncio, json, time
from strands import Agent, tool
from benchmarks.model import InstantModel

@tool
def add(a: int, b: int) -> dict:
    "Add two whole numbers."
    return {"status": "success", "content": [{"json": {"sum": a + b}}]}

began = time.perf_counter()
asyncio.run(Agent(model=InstantModel(1), tools=[add], callback_handler=None).invoke_async("Add two whole numbers."))
seconds = time.perf_counter() - began
"""
    + _PEAK
    + """
print(json.dumps([seconds, peak]))
"""
)

NOTHING, ARBITER, SDK, STRANDS = "python", "import arbiter", "from arbiter import Arbiter, capability", "import strands"
_STATEMENTS = {NOTHING: "", ARBITER: "import arbiter", SDK: SDK, STRANDS: "import strands"}
AGENT = "strands.Agent"
_ALL = "arbiter,fabricator,wrapper"
COLD, WARM, PLANNING = "no server yet", "server running", "server running, planning only"


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await _imports(3 if quick else 7, say) + await _first_answer(1 if quick else 4, say)


async def _imports(repetitions: int, say: Callable[[str], None]) -> list[Row]:
    peaks: dict[str, list[float]] = {name: [] for name in _STATEMENTS}

    def alternative(name: str, statement: str) -> Callable[[], Any]:
        async def one() -> Sample:
            began = time.perf_counter()
            said = await _python(_IMPORT.format(statement=statement))
            seconds = time.perf_counter() - began
            peaks[name].append(float(said))
            return Sample(1, seconds)

        return one

    measured = await in_turn({name: alternative(name, one) for name, one in _STATEMENTS.items()}, repetitions, say)
    found: list[Row] = []
    for name in (ARBITER, SDK):
        for number, other in enumerate((NOTHING, STRANDS)):
            found.append(_row(f"{name}: process" if number == 0 else "", measured, name, other))
    for name in (ARBITER, SDK):
        for number, other in enumerate((NOTHING, STRANDS)):
            mine, theirs = Spread.of(peaks[name]), Spread.of(peaks[other])
            quotient = mine.median / theirs.median
            what = f"{name}: peak memory" if number == 0 else ""
            found.append(Row("startup", what, mine, "B", against=other, theirs=theirs, ratio=Spread(*[quotient] * 3)))
    return found


async def _first_answer(repetitions: int, say: Callable[[str], None]) -> list[Row]:
    inside: dict[str, list[float]] = {name: [] for name in (COLD, WARM, PLANNING, AGENT)}
    peaks: dict[str, list[float]] = {name: [] for name in inside}
    with tempfile.TemporaryDirectory(prefix="arb-b-") as folder:
        places = iter(range(1000))
        current = Path(folder)

        def alternative(name: str) -> Callable[[], Any]:
            async def one() -> Sample:
                nonlocal current
                if name == COLD:
                    with contextlib.suppress(Exception):
                        stop_local(current)
                    current = Path(folder) / str(next(places))
                roles = "arbiter" if name == PLANNING else _ALL
                program = (_AGENT,) if name == AGENT else (_ANSWER, str(current), roles)
                began = time.perf_counter()
                said = await _python(*program)
                whole = time.perf_counter() - began
                seconds, peak = json.loads(said)
                inside[name].append(seconds)
                peaks[name].append(peak)
                return Sample(1, whole)

            return one

        try:
            measured = await in_turn({name: alternative(name) for name in inside}, repetitions, say)
        finally:
            with contextlib.suppress(Exception):
                stop_local(current)
    found: list[Row] = []
    for name in (COLD, WARM, PLANNING):
        value = Spread.of(inside[name][1:])
        theirs = Spread.of(inside[AGENT][1:])
        found.append(
            Row(
                "startup", f"from start to first answer, imports done, {name}", value, "s", against=AGENT,
                theirs=theirs, ratio=Spread(*[value.median / theirs.median] * 3),
            )
        )  # fmt: skip
    for name in (COLD, WARM, PLANNING):
        found.append(_row(f"whole program, {name}", measured, name, AGENT))
    value, theirs = Spread.of(peaks[WARM]), Spread.of(peaks[AGENT])
    found.append(
        Row(
            "startup", "peak memory of that program, all roles", value, "B", against=AGENT, theirs=theirs,
            ratio=Spread(*[value.median / theirs.median] * 3),
        )
    )  # fmt: skip
    return found


def _row(what: str, measured: Measured, name: str, other: str) -> Row:
    return Row(
        benchmark="startup",
        what=what,
        value=Spread.of([sample.each for sample in measured[name]]),
        unit="s",
        against=other,
        theirs=Spread.of([sample.each for sample in measured[other]]),
        ratio=ratio(measured[name], measured[other]),
    )


async def _python(code: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complaint = await process.communicate()
    if process.returncode:
        raise AssertionError(f"a measured program failed:\n{complaint.decode()[-2000:]}")
    return said.decode()
