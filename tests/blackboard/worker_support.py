"""A worker among the others of its board, and handlers. Test modules say ``crew = board_crew``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from strict import Play, faults

from blackboard.attempt import Attempt, Handler
from blackboard.board import Board
from blackboard.ending import end
from blackboard.heartbeat import Heartbeat
from blackboard.sweeper import Sweeper
from blackboard.types import Completion, RetryPolicy, Status
from blackboard.worker import Worker

ONCE = RetryPolicy(max_attempts=1)


@dataclass
class Crew(Play):
    """A board with workers that are stopped when the test ends. Leases outlast any test: what is lost, was taken."""

    heartbeat: Heartbeat = None  # type: ignore[assignment]
    workers: list[tuple[Worker, asyncio.Task[None]]] = None  # type: ignore[assignment]
    sweepers: list[asyncio.Task[None]] = None  # type: ignore[assignment]

    def hire(
        self, handle: Handler, *lanes: str, concurrency: int = 1, heartbeat: Heartbeat | None = None, **more: Any
    ) -> Worker:
        worker = Worker(
            self.board, heartbeat or self.heartbeat, "t", lanes or ("work",), handle, concurrency=concurrency, **more
        )
        self.workers.append((worker, asyncio.create_task(worker.run())))
        return worker

    def sweep(self, every_seconds: float = 0.02) -> None:
        """Do what is due until the test ends."""
        self.sweepers.append(asyncio.create_task(Sweeper(self.board, interval_seconds=every_seconds).run()))

    async def until(self, check: Callable[[], Any], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while True:
                found = check()
                if await found if asyncio.iscoroutine(found) else found:
                    return
                await asyncio.sleep(0.002)

    async def lose(self, task_id: str) -> None:
        """Have the sweep find that its worker fell silent, also where a heartbeat comes between."""
        while await self.state(task_id) == "claimed":
            await self.board.client.zadd(self.shard.prefix + "lease", {task_id: 1})
            await self.board.sweep()

    async def ready(self, task_id: str) -> None:
        """Sweep until it may be claimed again."""

        async def swept() -> bool:
            await self.board.sweep()
            return await self.state(task_id) == "ready"

        await self.until(swept)

    async def ended(self, task_id: str) -> bool:
        return await self.state(task_id) in {s.value for s in Status}

    async def end(self, run: str, task: str) -> Completion:
        task_id = f"{run}/1.{task}"
        await self.until(lambda: self.ended(task_id))
        return next(
            e.data for e in await self.board.history(run) if e.subject == task_id and isinstance(e.data, Completion)
        )


@pytest.fixture
async def board_crew(board: Board) -> AsyncIterator[Crew]:
    board.lease_seconds = 300.0
    crew = Crew(board, None, heartbeat=Heartbeat(board), workers=[], sweepers=[])  # type: ignore[arg-type]
    yield crew
    await end(crew.sweepers)
    for worker, _ in crew.workers:
        await worker.drain(0)
    crew.heartbeat.close()
    for _, running in crew.workers:
        await asyncio.wait_for(running, 30)
    assert await faults(board) == []


async def finish(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data=1)


async def raises(attempt: Attempt) -> Completion:
    raise RuntimeError("no")


async def said(call: Any, value: object) -> bool:
    return await call == value
