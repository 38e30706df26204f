"""One server for the tests of the registry, emptied for each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from blackboard.testing import RedisServer


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    opened = redis.asyncio.Redis.from_url(
        server.url, decode_responses=True, protocol=2, retry=Retry(NoBackoff(), 0), max_connections=64
    )
    await opened.flushall()
    yield opened
    await opened.aclose()
