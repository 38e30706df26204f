"""A process that works for long looks for cycles less often, because attempts leave none."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.ending import end
from blackboard.heartbeat import Heartbeat
from blackboard.types import Completion, Status
from blackboard.worker import Worker


async def test_an_attempt_leaves_nothing_that_only_a_look_for_cycles_would_find(redis_board: Board) -> None:
    async def handle(attempt: Attempt) -> Completion:
        return attempt.claim.completion(Status.SUCCEEDED, data={"rows": [1, 2, 3]})

    async def attempts(number: int) -> None:
        runs = [await redis_board.submit_call("c", {"n": 1}, lane="work") for _ in range(number)]
        async with asyncio.timeout(30):
            while not all([(await redis_board.summary(run)).status == "succeeded" for run in runs]):
                await asyncio.sleep(0.01)

    heartbeat = Heartbeat(redis_board)
    worker = Worker(redis_board, heartbeat, "w", ["work"], handle, concurrency=8)
    running = asyncio.create_task(worker.run())
    try:
        await attempts(20)
        gc.collect()
        gc.disable()
        await attempts(100)
        assert gc.collect() < 100
    finally:
        gc.enable()
        await worker.drain(0)
        await end([running])
        heartbeat.close()


def test_a_long_lived_process_leaves_what_is_there_alone() -> None:
    program = "import gc\nfrom blackboard import garbage\ngarbage.long_lived()\nprint(gc.get_freeze_count(), *gc.get_threshold())"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) > 1000
    assert said[1] == "10000"
