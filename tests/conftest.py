"""Fixtures shared by all tests: real servers, and boards on every engine."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from blackboard.board import Board
from blackboard.testing import RedisServer

ENGINES = ("redis", "memory")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real Redis server per test process; tests use boards of their own on it."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def board_name() -> str:
    return "t" + uuid.uuid4().hex[:12]


@pytest.fixture(params=ENGINES)
async def board(request: pytest.FixtureRequest, redis_server: RedisServer, board_name: str) -> AsyncIterator[Board]:
    """A fresh board on each engine: whatever uses it is part of the conformance suite."""
    url = redis_server.url if request.param == "redis" else f"memory://{board_name}"
    async with await Board.open(url, board=board_name, lease_seconds=1.0) as board:
        yield board


@pytest.fixture
async def redis_board(redis_server: RedisServer, board_name: str) -> AsyncIterator[Board]:
    """A fresh board on a real server, for what only a server can show."""
    async with await Board.open(redis_server.url, board=board_name, lease_seconds=1.0) as board:
        yield board
