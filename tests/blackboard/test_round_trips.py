"""What the board asks of the server: nothing that it can know already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis.utils

from blackboard.attempt import Attempt
from blackboard.board import STEP_LANE, Board
from blackboard.events import RoundPlannedData
from blackboard.heartbeat import Heartbeat
from blackboard.types import Completion, Limits, Status, TaskSpec, Usage
from blackboard.worker import Worker

LANE = "bench"


async def post(board: Board, number: int) -> None:
    while not (steps := await board.claim("driver", [STEP_LANE])):
        await board.wait_for_work([STEP_LANE], 1.0)
    planned = RoundPlannedData(
        round=steps[0].round, message={"role": "assistant", "content": []}, calls=(), usage=Usage(), model="none"
    )
    tasks = [TaskSpec(key=f"t{n}", tool_use_id=f"t{n}", capability="c", lane=LANE) for n in range(number)]
    await board.commit_step(steps[0], planned, tasks, Limits())


def counted(board: Board, lane: str) -> Callable[[], int]:
    """How often the first shard of this board was asked for work of a lane."""
    claim = board.claim_or_wait
    asked = 0

    async def counting(worker: str, lanes: Any, **more: Any) -> Any:
        nonlocal asked
        asked += lane in lanes and more.get("shard", 0) == 0
        return await claim(worker, lanes, **more)

    board.claim_or_wait = counting  # type: ignore[method-assign]
    return lambda: asked


async def test_a_worker_with_room_asks_once_for_each_ring(board: Board) -> None:
    await board.submit("one after the other")
    asked = counted(board, LANE)
    started: asyncio.Queue[str] = asyncio.Queue()

    async def handle(attempt: Attempt) -> Completion:
        started.put_nowait(attempt.claim.task_id)
        return attempt.claim.completion(Status.SUCCEEDED)

    heartbeat = Heartbeat(board)
    worker = Worker(board, heartbeat, "w", [LANE], handle, concurrency=8)
    running = asyncio.create_task(worker.run())
    try:
        for _ in range(10):
            await post(board, 1)
            await asyncio.wait_for(started.get(), 30)
    finally:
        await worker.drain(2)
        await running
        heartbeat.close()
    assert asked() <= 12  # one before the first sleep, one for each task, one spare


async def test_a_claim_that_empties_a_lane_silences_its_doorbell(board: Board) -> None:
    await board.submit("a burst")
    await post(board, 30)
    assert len(await board.claim("w", [LANE], n=30)) == 30
    assert await board.wait_for_work([LANE], 5) is True, "it cannot know yet that there is no more"
    assert await board.claim("w", [LANE], n=1) == []
    assert await board.wait_for_work([LANE], 0.05) is False


async def test_a_doorbell_rings_on_while_there_is_work(board: Board) -> None:
    await board.submit("a burst")
    await post(board, 3)
    assert len(await board.claim("w", [LANE], n=2)) == 2
    assert await board.wait_for_work([LANE], 5) is True


async def test_a_connection_begins_without_reading_what_its_library_was_installed_with(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> str:
        raise AssertionError("the metadata were read")

    monkeypatch.setattr(redis.utils, "get_lib_version", read)
    another = await Board.open(board.engine.url, board=board.name, shards=len(board.shards))
    async with another:
        await another.submit("it is there")
        with another.engine.sync_client() as client:
            client.ping()
