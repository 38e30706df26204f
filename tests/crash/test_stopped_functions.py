"""What an attempt started ends with it, when its process drains or its lease is lost."""

from __future__ import annotations

import asyncio

import pytest
from arbiter_support import arbiter, call

from arbiter import capability
from arbiter.testing import Clock
from blackboard.testing import RedisServer


@pytest.mark.usefixtures("servers_time")
@pytest.mark.parametrize("how", ["drain", "lost"])
async def test_an_asynchronous_function_ends_with_the_attempt_that_called_it(
    redis_server: RedisServer, how: str
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @capability
    async def waits() -> None:
        """Wait for a long time."""
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    turns = [call("waits"), "done"]
    async with asyncio.timeout(30):
        async with arbiter(redis_server.url, turns, capabilities=(waits,), grace_seconds=0.0) as (
            a,
            _,
        ):
            clock = Clock(a.board)
            await a.submit("Wait.")
            await began.wait()
            if how == "lost":
                await clock.advance(1000)
                await ended.wait()
        await ended.wait()
