"""What is left after a great many runs behind walls, of code that leaves what it can?

Everything is counted before and after: processes beside the parked ones, mounts, files, descriptors, sockets, control groups,
System V objects, and the memory of the warm process and of this one. Each run is one of a dozen kinds, most of them
unfriendly: some end themselves, crash, start threads, fill their scratch or their output, or hang until their time is up, which
also shows how late a verdict comes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import Spread, percentile
from benchmarks.report import Row
from blackboard.types import Status
from wrapper.isolation import Job, JobLimits, ProcessIsolation
from wrapper.isolation.detection import find

RUNS = 10_000
AT_ONCE = 4
WARM_UP = 100
LIMIT = 0.1
"""Seconds of a run that hangs."""

_HANGS = "import hashlib\ndef handler():\n    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10 ** 9)\n"
_KINDS = (
    "def handler():\n    return 1\n",
    "async def handler():\n    return 1\n",
    "import os\ndef handler():\n    os._exit(1)\n",
    "def handler():\n    raise ValueError('no')\n",
    "import ctypes\ndef handler():\n    ctypes.string_at(0)\n",
    "import threading\ndef handler():\n    threading.Thread(target=threading.Event().wait).start()\n    return 1\n",
    "def handler():\n    for n in range(50):\n        open(f'file{n}', 'wb').write(b'x' * 10_000)\n    return 1\n",
    "def handler():\n    print('x' * 100_000)\n    return 1\n",
    "import os\ndef handler():\n    return [os.pipe() for _ in range(50)]\n",
    "import signal\ndef handler():\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    return bytearray(20_000_000) and 1\n",
    "import socket\nkept = []\ndef handler():\n    kept.extend(socket.socketpair() for _ in range(20))\n    return 1\n",
    "import os\ndef handler():\n    os.close(3)\n    return 1\n",
)


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    proven, _ = await find(parked=0)
    await proven.close()
    return await count(type(proven), 300 if quick else RUNS, say)


async def count(backend: type[ProcessIsolation], runs: int, say: Callable[[str], None]) -> list[Row]:
    """Run that many, and give what there is more of than before."""
    late: list[float] = []
    async with backend(parked=2, recycle_runs=2 * runs + 1000, recycle_seconds=86_400) as isolation:
        for number in range(0, WARM_UP, AT_ONCE):  # what is made once is there
            await _some(isolation, number, late)
        before = await _settled(isolation)
        for number in range(0, runs, AT_ONCE):
            if number % 200 == 0:
                say(f"{number} of {runs} runs")
            await _some(isolation, number, late)
        after = await _settled(isolation)
    gone = _outside()
    left = {what: after[what] - before[what] for what in before}
    left |= {f"{what}, once it is closed": gone[what] - before[what] for what in ("mounts here", "files of runs")}
    rows = [
        Row("left over", f"after {runs:,} runs: {what}", Spread(*[float(more)] * 3), "B" if "memory" in what else "")
        for what, more in left.items()
    ]
    rows.append(
        Row(
            "left over", f"verdict on a run of {LIMIT:g} s that hangs in C, after its time", Spread.of(late), "s",
            p50=percentile(late, 0.5), p99=percentile(late, 0.99),
        )
    )  # fmt: skip
    return rows


async def _some(isolation: ProcessIsolation, number: int, late: list[float]) -> None:
    """A few runs at once, each of the next kind; every so often one that hangs."""
    jobs = [Job.of(_KINDS[(number + each) % len(_KINDS)]) for each in range(AT_ONCE)]
    if number % 100 == 0:
        jobs[0] = Job.of(_HANGS, limits=JobLimits(wall_seconds=LIMIT))
    outcomes = await asyncio.gather(*map(isolation.run, jobs))
    if number % 100 == 0:
        if outcomes[0].status is not Status.TIMED_OUT:
            raise AssertionError(f"what hangs ended as {outcomes[0]}")
        late.append(outcomes[0].seconds - LIMIT)


async def _settled(isolation: ProcessIsolation) -> dict[str, int]:
    """The counts, once what was killed is buried: when two looks in a row see the same processes."""
    seen = -1
    zygote = isolation.zygote_pid
    assert zygote is not None
    while isolation.parked < 2 or (found := len(list(_descendants(zygote)))) != seen or found > isolation.parked:
        seen = len(list(_descendants(zygote)))
        await asyncio.sleep(0.1)
    gc.collect()
    return {
        "processes beside the parked": len(list(_descendants(zygote))) - isolation.parked,
        "processes of this one": len(list(_descendants(os.getpid()))),
        "mounts of the warm process": _lines(f"/proc/{zygote}/mountinfo"),
        "descriptors of the warm process": len(_descriptors(zygote)),
        "descriptors here": len(_descriptors(os.getpid())),
        "sockets of both": sum(
            each.startswith("socket:") for pid in (zygote, os.getpid()) for each in _descriptors(pid)
        ),
        "memory of the warm process": private_bytes(zygote),
        "memory here": private_bytes(os.getpid()),
        **_outside(),
    }


def _outside() -> dict[str, int]:
    """What can be seen without the warm process."""
    return {
        "mounts here": _lines("/proc/self/mountinfo"),
        "files of runs": len(list(Path(tempfile.gettempdir()).glob("arbiter-run-*"))),
        "control groups": sum(1 for _ in Path("/sys/fs/cgroup").rglob("cgroup.procs")),
        "System V objects": sum(_lines(f"/proc/sysvipc/{kind}") for kind in ("shm", "sem", "msg")),
    }


def private_bytes(pid: int) -> int:
    """Bytes of memory that only this process has."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(map(int, re.findall(r"Private_(?:Clean|Dirty):\s+(\d+)", text)))


def children(pid: int) -> list[int]:
    """Processes that a process started and has not buried."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def _descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from _descendants(child)


def _descriptors(pid: int) -> list[str]:
    found: list[str] = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(entry.path))
        except OSError:
            pass  # the one that reads this
    return found


def _lines(path: str) -> int:
    try:
        return Path(path).read_text().count("\n")
    except OSError:
        return 0
