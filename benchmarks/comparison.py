"""What do other task queues take for the same no-op on the same server?

Each queue gets a fresh server (log flushed once a second) and one worker process. *A queued no-op*: so many are put on the
server first, then the worker is started; timed is from the end of the first tenth to the last one, by the no-ops
themselves. *Submit to result*: one at a time, by a second process that waits for the result the way the queue offers.
Before and after each queue the serial loop of bare Redis (``raw``) is timed on the same server.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.measure import Sample, Spread, percentile, ratio
from benchmarks.processes import Child
from benchmarks.raw import SERIAL, serial
from benchmarks.report import Row
from blackboard.testing import RedisServer

OURS = "ours"
PEERS = {
    "celery": "celery", "rq": "rq", "dramatiq": "dramatiq", "arq": "arq", "taskiq": "taskiq-redis", "docket": "pydocket"
}  # fmt: skip
"""Module under ``benchmarks/peers`` and the distribution it needs."""
PYTHONS = "ARBITER_BENCH_PYTHONS"
"""Environment variable: further interpreters in which peers may be installed, separated by ``:``."""
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Peer:
    name: str
    version: str
    python: str

    def __str__(self) -> str:
        return "the board" if self.name == OURS else f"{self.name} {self.version}"


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await compare(1000, 60, 1, say) if quick else await compare(4000, 200, 3, say)


async def compare(count: int, asks: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    """The rows, from ``count`` queued no-ops and ``asks`` single ones of each queue, ``repetitions`` times."""
    peers = [Peer(OURS, "", sys.executable)]
    for name, distribution in PEERS.items():
        found = await _installed(name, distribution)
        if found is None:
            print(f"peers: {distribution} is not installed and left out", file=sys.stderr)
        else:
            peers.append(found)
    queued: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    asked: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    units: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    for repetition in range(repetitions):
        for peer in peers:
            say(f"{peer}, repetition {repetition + 1} of {repetitions}")
            with RedisServer(tcp=True) as server:
                before = serial(server, max(100, count // 4))
                one, many = await _one(peer, server, count, asks)
                after = serial(server, max(100, count // 4))
            queued[peer.name].append(one)
            asked[peer.name].append(many)
            units[peer.name].append(
                Sample(
                    before.units + after.units, before.seconds + after.seconds, [*before.latencies, *after.latencies]
                )
            )
    found = [_row(f"a queued no-op: {p}", queued[p.name], SERIAL, units[p.name], "no-ops/s", False) for p in peers]
    found += [_row(f"submit to result: {p}", asked[p.name], SERIAL, units[p.name], "", True) for p in peers]
    for what, measured in (("a queued no-op", queued), ("submit to result", asked)):
        for number, peer in enumerate(peers[1:]):
            title = f"{what}: the board against each" if number == 0 else ""
            row = _row(title, measured[OURS], str(peer), measured[peer.name], "", False)
            drift = ratio(units[peer.name], units[OURS])
            found.append(replace(row, ratio=_times(row.ratio, drift)))
    return found


def _times(one: Spread | None, other: Spread) -> Spread | None:
    """A ratio of times that were taken minutes apart, corrected by what bare Redis took beside each."""
    return one and Spread(one.median * other.median, one.least * other.median, one.most * other.median)


async def _one(peer: Peer, server: RedisServer, count: int, asks: int) -> tuple[Sample, Sample]:
    env = {"BENCH_URL": server.url, "BENCH_COUNT": str(count)}

    def child(role: str, number: int) -> Child:
        return Child("benchmarks.peers", peer.name, role, str(number), python=peer.python, env=env)

    async with child("queue", count) as putting:
        await putting.says(_PATIENCE_SECONDS)
    async with child("work", 0) as worker:
        each = float(await worker.says(_PATIENCE_SECONDS))
        async with child("ask", asks) as asking:
            latencies: list[float] = await asking.says(_PATIENCE_SECONDS)
    latencies = latencies[len(latencies) // 10 :]  # the first ones open connections
    return Sample(count, each * count), Sample(len(latencies), sum(latencies), latencies)


async def _installed(name: str, distribution: str) -> Peer | None:
    """Where the peer can be imported: here, or in one of the interpreters named by :data:`PYTHONS`."""
    for python in (sys.executable, *filter(None, os.environ.get(PYTHONS, "").split(os.pathsep))):
        code = f"import {name}; from importlib.metadata import version; print(version({distribution!r}))"
        process = await asyncio.create_subprocess_exec(
            python, "-I", "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        said, _ = await process.communicate()
        if process.returncode == 0:
            return Peer(name, said.decode().split()[-1], python)
    return None


def _row(what: str, mine: Sequence[Sample], against: str, theirs: Sequence[Sample], rate: str, singles: bool) -> Row:
    latencies = [one for sample in mine for one in sample.latencies] if singles else []
    return Row(
        benchmark="peers", what=what, value=Spread.of([one.each for one in mine]), unit="s", rate=rate,
        p50=percentile(latencies, 0.5) if latencies else None, p99=percentile(latencies, 0.99) if latencies else None,
        against=against, theirs=Spread.of([one.each for one in theirs]), ratio=ratio(mine, theirs),
    )  # fmt: skip
