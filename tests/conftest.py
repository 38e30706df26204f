"""Fixtures shared by all tests: real servers, and boards on every engine."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from blackboard.board import Board
from blackboard.testing import RedisCluster, RedisServer, SentinelSet

ENGINES = ("redis", "memory")
"""What every test that uses ``board`` runs on."""
SPREAD = ("shards", "cluster", "sentinel")
"""What the tests of the protocol run on besides: three shards on one server, three masters with replicas, Sentinels."""
PROTOCOL = {
    "test_protocol_tasks",
    "test_protocol_runs",
    "test_protocol_quotas",
    "test_protocol_control",
    "test_protocol_retries",
    "test_calls",
    "test_dead_letters",
}


os.environ.setdefault("ARBITER_SIGNING_KEY", base64.b64encode(os.urandom(32)).decode())
"""One key for every process of a test run, so that none is made in the home of whoever runs the tests."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "board" in metafunc.fixturenames:
        spread = SPREAD if metafunc.module.__name__.rpartition(".")[2] in PROTOCOL else ()
        metafunc.parametrize("board", (*ENGINES, *spread), indirect=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real Redis server per test process; tests use boards of their own on it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """One real cluster per test process, for tests that leave it whole."""
    with RedisCluster(node_timeout_ms=5000) as cluster:  # patient: a busy machine must not look like a dead node
        yield cluster


@pytest.fixture(scope="session")
def sentinel_set() -> Iterator[SentinelSet]:
    """One primary with a replica and Sentinels per test process, for tests that leave it whole."""
    with SentinelSet(down_after_ms=5000) as several:
        yield several


@pytest.fixture
def board_name() -> str:
    return "t" + uuid.uuid4().hex[:12]


@pytest.fixture
async def board(request: pytest.FixtureRequest, board_name: str) -> AsyncIterator[Board]:
    """A fresh board on each engine: whatever uses it is part of the conformance suite."""
    shards = None
    match request.param:
        case "memory":
            url = f"memory://{board_name}"
        case "cluster":
            url, shards = request.getfixturevalue("redis_cluster").url, 6
        case "sentinel":
            url = request.getfixturevalue("sentinel_set").url
        case "shards":
            url, shards = request.getfixturevalue("redis_server").url, 3
        case _:
            url = request.getfixturevalue("redis_server").url
    async with await Board.open(url, board=board_name, lease_seconds=1.0, shards=shards) as board:
        yield board


@pytest.fixture
async def redis_board(redis_server: RedisServer, board_name: str) -> AsyncIterator[Board]:
    """A fresh board on a real server, for what only a server can show."""
    async with await Board.open(redis_server.url, board=board_name, lease_seconds=1.0) as board:
        yield board
