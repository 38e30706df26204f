"""What the tests of signatures share; they say which fixtures they use: ``registry = signing_support.registry``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
import redis.asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from blackboard.catalog import Catalog
from blackboard.catalog_records import Signed
from blackboard.testing import RedisServer
from registry import ExamRecord, Grants, HashMismatch, Manifest, Registry, SignatureRefused, Signer

PREFIX = "arb:{test/main#reg}:"
CODE = "def handler(a: int) -> int:\n    return a\n"
EXAM = ExamRecord(public_cases=3, sealed_cases=1, passed=True, examiner="one", when=1.0)


def key(number: int = 1) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32), f"key {number}")


def signed(created_ms: int) -> Signed:
    """What key 1 says of a version that does not exist, as of a time."""
    return key().signed(
        name="echo",
        sha="1" * 64,
        manifest="{}",
        artifact_sha="2" * 64,
        exam=None,
        grants=Grants(),
        created_ms=created_ms,
    )


@pytest.fixture(params=["redis", "memory"])
async def client(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    if request.param == "memory":
        opened: redis.asyncio.Redis = fakeredis.FakeAsyncRedis(decode_responses=True)
    else:
        opened = redis.asyncio.Redis.from_url(
            server.url, decode_responses=True, protocol=2, retry=Retry(NoBackoff(), 0), max_connections=64
        )
    await opened.flushall()
    yield opened
    await opened.aclose()


@pytest.fixture
def registry(client: redis.asyncio.Redis) -> Registry:
    return Registry(Catalog(client, "test"), signer=key())


def another(client: redis.asyncio.Redis, number: int = 1) -> Registry:
    """A registry of another process, with nothing in its memory."""
    return Registry(Catalog(client, "test"), signer=key(number))


def make(name: str = "echo", **changes: Any) -> Manifest:
    given = {
        "name": name,
        "description": f"Says {name} back.",
        "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "grants": Grants(http_hosts=("api.example.com",)),
    }
    return Manifest(**{**given, **changes})


async def refusal(registry: Registry, name: str = "echo", sha: str | None = None) -> str:
    """The word for why a version is not run."""
    with pytest.raises((SignatureRefused, HashMismatch)) as caught:
        await registry.load(name, sha)
    return caught.value.reason if isinstance(caught.value, SignatureRefused) else "hash"
