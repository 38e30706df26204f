"""How long until somebody else has a task whose worker was killed?

A worker process claims one task whose handler never ends; it is killed with SIGKILL some time after a heartbeat's turn, a
different one each time. Timed until another process's worker, with a sweeper as every process has one, is handed the task.
Held against the lease itself, the least that can be promised without knowing that a process is dead.
``python -m benchmarks.recovery URL LEASE`` is the victim.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.measure import Spread
from benchmarks.processes import Child
from benchmarks.report import Row
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.heartbeat import Heartbeat
from blackboard.sweeper import Sweeper
from blackboard.testing import RedisServer
from blackboard.types import Completion, Status
from blackboard.worker import Worker

LANE = "bench"
LEASES = (1.0, 3.0, 15.0)
LEASE = "the lease"


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await recovered((0.5,), 3, say) if quick else await recovered(LEASES, 3, say)


async def recovered(leases: Sequence[float], kills: int, say: Callable[[str], None]) -> list[Row]:
    """The rows: ``kills`` workers killed for each of the ``leases`` (seconds)."""
    found: list[Row] = []
    with RedisServer() as server:
        for number, lease in enumerate(leases):
            seconds: list[float] = []
            async with await Board.open(server.url, board=f"b{number}", lease_seconds=lease) as board:
                for kill in range(kills):
                    say(f"lease of {lease:g} s, worker {kill + 1} of {kills}")
                    # Spread over a heartbeat's interval: how much of the lease is left is chance.
                    seconds.append(await _killed(server, board, number, lease, lease / 3 * (kill + 0.5) / kills))
            each = Spread.of(seconds)
            found.append(
                Row(
                    benchmark="recovery", what=f"SIGKILL to the next attempt, lease of {lease:g} s", value=each, unit="s",
                    against=LEASE, theirs=Spread(lease, lease, lease),
                    ratio=Spread(each.median / lease, each.least / lease, each.most / lease),
                )
            )  # fmt: skip
    return found


async def _killed(server: RedisServer, board: Board, number: int, lease: float, later: float) -> float:
    taken = asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        taken.set()
        return attempt.claim.completion(Status.SUCCEEDED)

    async with Child("benchmarks.recovery", server.url, f"b{number}", str(lease)) as victim:
        await victim.says(30.0)
        await board.submit_call("noop", {}, lane=LANE)
        await victim.says(30.0)
        heartbeat = Heartbeat(board)
        worker = Worker(board, heartbeat, "bench", [LANE], handle, concurrency=1)
        running = asyncio.create_task(worker.run())
        sweeping = asyncio.create_task(Sweeper(board).run())
        try:
            await asyncio.sleep(lease / 3 + later)
            assert not taken.is_set(), "the task was taken from a living worker"
            victim.kill()
            began = time.perf_counter()
            async with asyncio.timeout(10 * lease + 30):
                await taken.wait()
            return time.perf_counter() - began
        finally:
            sweeping.cancel()
            await worker.drain(1.0)
            await running
            await asyncio.to_thread(heartbeat.close)
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping


async def _victim(url: str, name: str, lease: float) -> None:
    async def handle(attempt: Attempt) -> Completion:
        print(json.dumps(attempt.claim.task_id), flush=True)
        await asyncio.Event().wait()
        raise AssertionError

    async with await Board.open(url, board=name, lease_seconds=lease) as board:
        print(json.dumps("ready"), flush=True)
        await Worker(board, Heartbeat(board), "victim", [LANE], handle, concurrency=1).run()


if __name__ == "__main__":
    asyncio.run(_victim(sys.argv[1], sys.argv[2], float(sys.argv[3])))
