"""What the tests of peers share: servers on loopback that come and go, a clock that is turned by hand, followers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn

from blackboard.board import Board
from blackboard.peers import Peers
from registry import Capability, Registry
from wrapper.peers import Peer
from wrapper.peers.follower import Follower
from wrapper.peers.following import Following
from wrapper.secrets import Secrets


class Turned:
    """Seconds that pass when a test says so: what a follower sleeps by."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def __call__(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, waiting))
        await waiting

    @property
    def next(self) -> float:
        """In how many seconds the first sleeper wakes."""
        return min((due for due, waiting in self._sleepers if not waiting.done()), default=math.inf) - self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds
        for due, waiting in self._sleepers:
            if due <= self.now and not waiting.done():
                waiting.set_result(None)
        self._sleepers = [each for each in self._sleepers if not each[1].done()]


class Served:
    """An ASGI application on one port of loopback, which can be stopped and started again."""

    def __init__(self, make: Callable[[], Any], path: str = "") -> None:
        self._make = make
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._socket.close()
        self.url = f"http://127.0.0.1:{self.port}{path}"
        self._server: uvicorn.Server | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        config = uvicorn.Config(
            self._make(), host="127.0.0.1", port=self.port, log_config=None, timeout_graceful_shutdown=0, ws="none"
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        self._running = asyncio.create_task(self._server.serve())
        await until(lambda: self._server is not None and self._server.started)

    async def stop(self) -> None:
        if self._server is not None and self._running is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._running
            self._server = None


@contextlib.asynccontextmanager
async def served(make: Callable[[], Any], path: str = "") -> AsyncIterator[Served]:
    one = Served(make, path)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@contextlib.asynccontextmanager
async def followed(
    board: Board, *peers: Peer, clock: Turned | None = None, process: str = "here", secrets: Secrets | None = None
) -> AsyncIterator[tuple[Follower, dict[str, Capability[..., Any]]]]:
    """A process that serves peers: the follower of the first, and what it can call."""
    functions: dict[str, Capability[..., Any]] = {}
    following = Following(functions, lambda: None, clock or asyncio.sleep)
    registry = Registry(board.catalog)
    followers = [
        await following.add(peer, registry, Peers(board.catalog), process, secrets or Secrets({})) for peer in peers
    ]
    try:
        yield followers[0], functions
    finally:
        await following.close()


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


class Watching:
    """What another process sees: a registry of its own, whose memory of what is said ends when the test says so."""

    def __init__(self, board: Board) -> None:
        self.seconds = 0.0
        self.registry = Registry(board.catalog, clock=lambda: self.seconds)

    async def names(self, need: str) -> list[str]:
        self.seconds += 1.0
        return [match.name for match in await self.registry.shortlist(need, floor=0)]

    async def unavailable(self) -> dict[str, str]:
        self.seconds += 1.0
        return dict(await self.registry.unavailable())
