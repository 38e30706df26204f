"""What a failover costs and loses: ``python -m benchmarks.failover``.

Four writers repeat a script that changes a record and adds an entry, as a transition does, with the client and the
repetitions of the board. The primary is killed under them. Counted
are the seconds until the next answered write, the acknowledged writes that the promoted replica does not have, for a
replica that keeps up and for one whose link was cut half a second before, and the writes whose caller was told that they
are not confirmed. A single server is killed and started again. The rate is that of the case divided by that of plain
writes to the same servers, which take turns every half second; the median of the turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from blackboard import _script, confirm
from blackboard.confirm import Confirm
from blackboard.engine import open_engine
from blackboard.errors import Unconfirmed
from blackboard.testing import RedisServer
from blackboard.testing_several import RedisCluster, SentinelSet

WRITERS = 4
SECONDS = 2.0
CUT_SECONDS = 0.5
TURN_SECONDS = 0.5
TURNS = 7
WRITE = _script.Script(
    "write",
    "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) "
    "redis.call('XADD', KEYS[2], '*', 'w', ARGV[1], 'n', ARGV[2]) return 1",
)
KEYS = ("{failover}h", "{failover}s")
MARK = "{failover}m"


async def measure(
    url: str, primary: Callable[[], RedisServer], *, cut: bool, how: Confirm | None = None, back: bool = False
) -> dict[str, float]:
    """Kill the primary under load; what came of it.

    Args:
        cut: drop the link to its replicas half a second before.
        how: wait for replicas after each write.
        back: start the killed server again, for one without replicas.
    """
    engine = await open_engine(url)
    client: Any = engine.client()
    acknowledged: set[tuple[str, str]] = set()
    unconfirmed: set[tuple[str, str]] = set()
    answered: dict[str, int] = {}
    gaps: list[float] = []
    stop = asyncio.Event()

    async def write(name: str) -> None:
        number, last = 0, time.monotonic()
        while not stop.is_set():
            number += 1
            one = (name, str(number))
            try:
                if how is None:
                    await _script.run(client, WRITE, KEYS, one)
                else:
                    await confirm.run(client, WRITE, KEYS, one, how, MARK)
                acknowledged.add(one)
            except Unconfirmed:
                unconfirmed.add(one)
            answered[name] = number
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    writers = [asyncio.create_task(write(f"w{n}")) for n in range(WRITERS)]
    await asyncio.sleep(SECONDS)
    victim = await asyncio.to_thread(primary)
    if cut:
        await asyncio.to_thread(_cut, victim)
        await asyncio.sleep(CUT_SECONDS)
    before = dict(answered)
    victim.kill9()
    if back:
        await asyncio.to_thread(victim.start)
    while not all(answered[name] > before[name] + 5 for name in before):
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*writers)
    # A repeated call may have added its entry twice, so distinct ones are counted, not entries.
    entries: list[tuple[str, dict[str, str]]] = await client.xrange(KEYS[1])
    kept = {(f["w"], f["n"]) for _, f in entries}
    await engine.close()
    return {
        "acknowledged": len(acknowledged), "lost": len(acknowledged - kept), "unconfirmed": len(unconfirmed),
        "gap": max(gaps),
    }  # fmt: skip


async def ratio(url: str, primary: Callable[[], RedisServer], how: Confirm | None, fsync: str) -> float:
    """The rate of writes that are waited for, or that go to disk at once, relative to plain ones."""
    engine = await open_engine(url)
    client: Any = engine.client()
    server: Any = primary().client()

    async def rate(how: Confirm | None, fsync: str) -> float:
        server.config_set("appendfsync", fsync)
        count, until = 0, time.monotonic() + TURN_SECONDS

        async def write(name: str) -> None:
            nonlocal count
            while time.monotonic() < until:
                if how is None:
                    await _script.run(client, WRITE, KEYS, [name, "0"])
                else:
                    with contextlib.suppress(Unconfirmed):
                        await confirm.run(client, WRITE, KEYS, [name, "0"], how, MARK)
                count += 1

        await asyncio.gather(*(write(f"r{n}") for n in range(WRITERS)))
        return count / TURN_SECONDS

    pairs = [(await rate(None, "everysec"), await rate(how, fsync)) for _ in range(TURNS)]
    await engine.close()
    server.close()
    return statistics.median(with_it / plain for plain, with_it in pairs)


def _cut(primary: RedisServer) -> None:
    """The replica can no longer follow: its link is dropped and it is not let in again."""
    client: Any = primary.client()
    with contextlib.closing(client):
        client.execute_command("ACL", "SETUSER", "default", "-psync", "-replconf", "-sync")
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


class _Single(RedisServer):
    """A server without replicas."""

    def master(self) -> RedisServer:
        return self


async def main() -> int:
    careful = ("--min-replicas-to-write", "1")
    always = ("--appendfsync", "always")
    one, two = Confirm(), lambda: SentinelSet(replicas=2)
    cases: list[tuple[str, str, Callable[[], Any], bool, Confirm | None]] = [
        ("cluster, link up", "cluster", RedisCluster, False, None),
        ("cluster, link cut 0.5 s before", "cluster", RedisCluster, True, None),
        ("the same, WAIT 1", "cluster", RedisCluster, True, one),
        ("Sentinel, two replicas, links up", "sentinel", two, False, None),
        ("Sentinel, links cut 0.5 s before", "sentinel", two, True, None),
        ("the same, WAIT 1", "sentinel", two, True, one),
        ("the same, min-replicas-to-write 1", "sentinel", lambda: SentinelSet(replicas=2, options=careful), True, None),
        ("the same, both", "sentinel", lambda: SentinelSet(replicas=2, options=careful), True, one),
        ("one server, everysec, restarted", "single", lambda: _Single(tcp=True), False, None),
        ("one server, always, restarted", "single", lambda: _Single(tcp=True, options=always), False, None),
    ]
    for name, kind, made, cut, how in cases:
        several = made()
        with several:
            primary = (lambda s=several: s.owner(KEYS[0])) if kind == "cluster" else several.master
            fsync = "always" if "always" in name else "everysec"
            rate = 1.0 if how is None and fsync == "everysec" else await ratio(several.url, primary, how, fsync)
            found = await measure(several.url, primary, cut=cut, how=how, back=kind == "single")
        print(
            f"{name:34} acknowledged {found['acknowledged']:7,}   lost {found['lost']:6,}   "
            f"unconfirmed {found['unconfirmed']:4,}   longest wait {found['gap']:.1f} s   rate {rate:.2f}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
