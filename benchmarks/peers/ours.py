"""This project's board: direct calls, one worker loop of 32, every result on the board."""

from __future__ import annotations

import asyncio
import time

from benchmarks.peers._count import URL, tick
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.events import RunCompleted
from blackboard.heartbeat import Heartbeat
from blackboard.types import Completion, Status
from blackboard.worker import Worker

LANE = "noop"


async def noop(attempt: Attempt) -> Completion:
    tick()
    return attempt.claim.completion(Status.SUCCEEDED, data=1)


def queue(count: int) -> None:
    async def put() -> None:
        async with await Board.open(URL) as board:
            for start in range(0, count, 50):
                await asyncio.gather(*(_submit(board) for _ in range(min(50, count - start))))

    asyncio.run(put())


def work() -> None:
    async def employed() -> None:
        async with await Board.open(URL) as board:
            await Worker(board, Heartbeat(board), "bench", [LANE], noop, concurrency=32).run()

    asyncio.run(employed())


def ask(count: int) -> list[float]:
    async def each() -> list[float]:
        seconds: list[float] = []
        async with await Board.open(URL) as board:
            for _ in range(count):
                began = time.perf_counter()
                async for event in board.watch(await _submit(board), volatile=False):
                    if isinstance(event, RunCompleted):
                        assert event.data.status == "succeeded"
                seconds.append(time.perf_counter() - began)
        return seconds

    return asyncio.run(each())


async def _submit(board: Board) -> str:
    return await board.submit_call("noop", {}, lane=LANE)
