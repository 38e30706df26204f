"""What a failover costs and loses: ``python -m benchmarks.failover``.

Four writers repeat a script that changes a record and adds an entry, as a transition does, with the client and the
repetitions of the board. The primary is killed under them. Counted
are the seconds until the next acknowledged write and the acknowledged writes the promoted replica does not have, for a
replica that keeps up and for one whose link was cut half a second before.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any

from blackboard import _script
from blackboard.engine import open_engine
from blackboard.testing import RedisCluster, RedisServer, SentinelSet

WRITERS = 4
SECONDS = 2.0
CUT_SECONDS = 0.5
WRITE = _script.Script(
    "write",
    "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) "
    "redis.call('XADD', KEYS[2], '*', 'w', ARGV[1], 'n', ARGV[2]) return 1",
)
KEYS = ("{failover}h", "{failover}s")


async def measure(url: str, primary: Callable[[], RedisServer], *, cut: bool) -> dict[str, float]:
    """Kill the primary under load; what came of it."""
    engine = await open_engine(url)
    client: Any = engine.client()
    acknowledged: dict[str, int] = {}
    gaps: list[float] = []
    stop = asyncio.Event()

    async def write(name: str) -> None:
        number, last = 0, time.monotonic()
        while not stop.is_set():
            number += 1
            await _script.run(client, WRITE, KEYS, [name, number])
            acknowledged[name] = number
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    writers = [asyncio.create_task(write(f"w{n}")) for n in range(WRITERS)]
    await asyncio.sleep(SECONDS)
    victim = await asyncio.to_thread(primary)
    if cut:
        await asyncio.to_thread(_cut, victim)
        await asyncio.sleep(CUT_SECONDS)
    before = dict(acknowledged)
    victim.kill9()
    while not all(acknowledged[name] > before[name] + 50 for name in before):
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*writers)
    # A repeated call may have added its entry twice, so distinct ones are counted, not entries.
    entries: list[tuple[str, dict[str, str]]] = await client.xrange(KEYS[1])
    total, kept = sum(acknowledged.values()), len({(f["w"], f["n"]) for _, f in entries})
    await engine.close()
    return {"acknowledged": total, "lost": max(0, total - kept), "gap": max(gaps)}


def _cut(primary: RedisServer) -> None:
    """The replica can no longer follow: its link is dropped and it is not let in again."""
    client: Any = primary.client()
    with contextlib.closing(client):
        client.execute_command("ACL", "SETUSER", "default", "-psync", "-replconf", "-sync")
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


async def main() -> int:
    careful = ("--min-replicas-to-write", "1")
    cases: list[tuple[str, Callable[[], Any], bool]] = [
        ("cluster, link up", RedisCluster, False),
        ("cluster, link cut 0.5 s before", RedisCluster, True),
        ("Sentinel, link up", SentinelSet, False),
        ("Sentinel, link cut 0.5 s before", SentinelSet, True),
        ("the same, min-replicas-to-write 1", lambda: SentinelSet(replicas=2, options=careful), True),
    ]
    for name, made, cut in cases:
        several = made()
        with several:
            primary = several.master if isinstance(several, SentinelSet) else (lambda s=several: s.owner(KEYS[0]))
            found = await measure(several.url, primary, cut=cut)
        print(
            f"{name:34} acknowledged {found['acknowledged']:8,.0f}   lost {found['lost']:6,.0f}   "
            f"longest wait {found['gap']:.1f} s",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
