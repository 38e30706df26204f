"""Loops over the Redis client end when they are told to, and the feed reads no more often than it must."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from blackboard._sending import steady
from blackboard.board import STEP_LANE, Board
from blackboard.ending import end
from blackboard.events import RoundPlannedData
from blackboard.sweeper import Sweeper
from blackboard.testing import RedisServer
from blackboard.types import Limits, TaskSpec, Usage


async def test_a_task_that_drops_a_cancellation_is_ended_all_the_same() -> None:
    dropped = 0

    async def stubborn() -> None:
        nonlocal dropped
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                dropped += 1
                if dropped > 2:
                    raise

    async def failing() -> None:
        raise ValueError("nobody asks")

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end(tasks), 30)
    assert dropped == 3
    assert all(task.done() for task in tasks)


@pytest.mark.parametrize("engine", ["redis", "cluster", "sentinel"])
async def test_a_command_cancelled_in_the_instant_in_which_it_was_sent_raises_that_it_was(
    request: pytest.FixtureRequest, engine: str, board_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"redis": "redis_server", "cluster": "redis_cluster", "sentinel": "sentinel_set"}
    send: Any = AbstractConnection._send_packed_command
    kinds: set[type] = set()

    async with await Board.open(request.getfixturevalue(places[engine]).url, board=board_name) as board:
        client: Any = board.client
        await client.get(board_name)
        asking = asyncio.current_task()
        assert asking is not None

        async def sent(self: AbstractConnection, command: Any) -> None:
            kinds.add(type(self))
            await send(self, command)
            asyncio.get_running_loop().call_soon(asking.cancel)

        monkeypatch.setattr(AbstractConnection, "_send_packed_command", sent)
        with pytest.raises(asyncio.CancelledError):
            await client.get(board_name)
        monkeypatch.undo()
        asking.uncancel()
        assert await client.get(board_name) is None
    assert all(kind is steady(kind) for kind in kinds)


async def test_g6_a_sweeper_cancelled_once_ends_wherever_it_is(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it would wait for ever: it asks for the server's uptime at every sweep."""
    send: Any = AbstractConnection._send_packed_command
    sweeping = asyncio.create_task(Sweeper(board, interval_seconds=0.01).run())

    async def sent(self: AbstractConnection, command: Any) -> None:
        await send(self, command)
        if b"INFO" in b"".join(command) and not sweeping.cancelling():
            asyncio.get_running_loop().call_soon(sweeping.cancel)

    monkeypatch.setattr(AbstractConnection, "_send_packed_command", sent)
    ended, _ = await asyncio.wait({sweeping}, timeout=30)
    await end({sweeping} - ended)
    assert ended


async def test_a_board_closes_whatever_its_feed_is_doing_at_that_moment(redis_server: RedisServer) -> None:
    name = "t" + uuid.uuid4().hex[:12]
    for _ in range(25):
        async with await Board.open(redis_server.url, board=name) as board:
            watching = board.watch(await board.submit("watched"))
            await anext(watching)
            await board.submit("something to read")
            # The feed pauses for some 5 ms after a reply; the critical instant is when it sends its next command.
            await asyncio.sleep(0.0045 + random.random() * 0.003)
            await asyncio.wait_for(board.close(), 30)


async def test_notices_of_the_log_that_come_together_are_served_by_one_read(redis_server: RedisServer) -> None:
    async with await Board.open(redis_server.url, board="t" + uuid.uuid4().hex[:12]) as board:
        run_id = await board.submit("many tasks")
        (step,) = await board.claim("w", [STEP_LANE])
        watching = board.watch(run_id)
        seen = [await anext(watching) for _ in range(2)]
        reads = 0
        read_log = board.feed.read_log

        async def counted(*args: object) -> object:
            nonlocal reads
            reads += 1
            return await read_log(*args)  # type: ignore[arg-type]

        board.feed.read_log = counted  # type: ignore[method-assign,assignment]
        planned = RoundPlannedData(
            round=1, message={"role": "assistant", "content": []}, calls=(), usage=Usage(), model="none"
        )
        tasks = [TaskSpec(key=f"t{n}", tool_use_id=f"t{n}", capability="c", lane="bench") for n in range(100)]
        await board.commit_step(step, planned, tasks, Limits())
        async with asyncio.timeout(30):
            while len(seen) < 2 + 1 + 1 + 100:  # the step's end, the plan, the tasks
                event = await anext(watching)
                if event.type != "dev.arbiter.task.claimed.v1":
                    seen.append(event)
        history = await board.history(run_id)
        await watching.aclose()
    assert [event.id for event in seen] == [event.id for event in history]
    assert reads - 1 <= 5
