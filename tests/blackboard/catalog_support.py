"""What the tests of the catalog share; they say which fixtures they use: ``catalog = catalog_support.catalog``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator

import fakeredis
import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from blackboard.catalog import Catalog
from blackboard.catalog_records import Signed, Written
from blackboard.engine import open_engine
from blackboard.testing import RedisServer
from blackboard.trust import Trust


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


def connect(server: RedisServer) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        server.url, decode_responses=True, protocol=2, retry=Retry(NoBackoff(), 0), max_connections=64
    )


@pytest.fixture(params=["redis", "fakeredis", "cluster", "valkey"])
async def client(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    if request.param == "fakeredis":
        opened = fakeredis.FakeAsyncRedis(decode_responses=True)
        yield opened
        await opened.aclose()
        return
    other = {"cluster": "redis_cluster", "valkey": "valkey_server"}.get(request.param)
    engine = await open_engine(request.getfixturevalue(other).url if other else server.url)
    for key in await keys(engine.client()):
        await engine.client().delete(key)
    yield engine.client()
    await engine.close()


async def keys(client: redis.asyncio.Redis) -> list[str]:
    """The keys of the registry under test, wherever they are."""
    return sorted([key async for key in client.scan_iter(match="arb:[{]test/main#reg[}]:*", count=1000)])


@pytest.fixture
def catalog(client: redis.asyncio.Redis) -> Catalog:
    return Catalog(client, "test", "main")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def put(catalog: Catalog, name: str, version: str, **more: object) -> Written:
    source = f"def handler(): return {version!r}"
    given = {
        "name": name,
        "sha": sha(name + version),
        "tenant": "*",
        "manifest": json.dumps({"name": name, "version": version, "list": [], "big": 1795249573459123456}),
        "source": source,
        "artifact_sha": sha(source),
        **more,
    }
    return await catalog.register(**given)


async def everything(client: redis.asyncio.Redis) -> dict[str, object]:
    """The whole content of the database, except the remembered replies."""
    content: dict[str, object] = {}
    for key in await keys(client):
        if ":op:" in key:
            continue
        kind = await client.type(key)
        read = {"hash": client.hgetall, "string": client.get}.get(kind)
        if read is not None:
            content[key] = await read(key)
        elif kind == "list":
            content[key] = await client.lrange(key, 0, -1)
        else:
            content[key] = await client.xrange(key)
    return content


def signed(now_ms: int, key: str = "1" * 32) -> Signed:
    return Signed(text="{}", key=key, public="ab", created=str(now_ms), by="ann")


async def sign_and_revoke(catalog: Catalog) -> None:
    """Every change about keys and signatures, once."""
    trust = Trust(catalog)
    await put(catalog, "key", "1", signed=signed((await trust.read()).now_ms))
    await trust.add("2" * 32, "cd", by="ann")
    await trust.revoke("1" * 32, by="ann", after_ms=1, before_ms=2)
    stored = await catalog.get("key")
    assert stored is not None
    await trust.sign(stored, signed((await trust.read()).now_ms, "2" * 32), "sign-1")
    loaded = await catalog.load("key")
    assert loaded is not None
    assert (loaded.source, loaded.version.signature) == ("def handler(): return '1'", "{}")
    assert loaded.trust is not None
    assert json.loads(loaded.trust)["public"] == "cd"
    await trust.revoke_version("key", stored.sha, by="ann")
