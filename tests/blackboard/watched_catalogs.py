"""A client of a server, and one of a server in this process, for tests of what the catalog keeps: its scripts are watched."""

from __future__ import annotations

from collections.abc import AsyncIterator

import fakeredis
import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from strict import PRELUDE

from blackboard import _script
from blackboard.testing import RedisServer


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts of the catalog may touch what they declare, and refuse nothing after a write."""
    load = _script.load
    watched = PRELUDE.replace("{GET = 1", "{HMGET = 1, HGETALL = 1, LRANGE = 1, GET = 1").replace(
        "{SET = 1", "{HSETNX = 1, RPUSH = 1, SET = 1"
    )

    def loaded(name: str, prelude: str = "_board") -> _script.Script:
        script = load(name, prelude)
        return _script.Script(name, watched + script.text) if prelude == "_catalog" else script

    monkeypatch.setattr(_script, "load", loaded)


@pytest.fixture(params=["redis", "fakeredis"])
async def client(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    if request.param == "fakeredis":
        opened: redis.asyncio.Redis = fakeredis.FakeAsyncRedis(decode_responses=True)
    else:
        opened = redis.asyncio.Redis.from_url(
            redis_server.url, decode_responses=True, protocol=2, retry=Retry(NoBackoff(), 0)
        )
    yield opened
    await opened.aclose()
