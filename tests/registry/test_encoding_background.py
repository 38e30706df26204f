"""A registry that matches by meaning: nothing waits for the encoder or the store of vectors but who asked for a meaning."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import redis
import redis.asyncio

from blackboard.catalog import Catalog
from blackboard.ending import end
from blackboard.errors import ModelUnavailable
from blackboard.testing import RedisServer
from blackboard.vectors import Vectors
from registry import Manifest, Registry
from registry.matching.encoders import CallableEncoder
from registry.matching.hybrid import HybridMatcher

pytest.importorskip("numpy")

TOPICS = (("sea", "ocean", "boat", "sail"), ("money", "dollar", "pay"), ("snow", "cold", "winter"))
CODE = "def handler() -> None:\n    pass\n"
TOOLS = {"voyage": "Books a boat.", "charge": "Takes dollars from a card.", "slope": "Says how much snow there is."}


class Encoder:
    """A number for each topic; can be held up, can fail, and knows the threads it was called in."""

    def __init__(self, turn: int = 0) -> None:
        self.turn, self.asked, self.threads = turn, list[str](), set[int]()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.broken: Exception | None = None

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.entered.set()
        assert self.gate.wait(20)
        if self.broken is not None:
            raise self.broken
        self.asked += texts
        self.threads.add(threading.get_ident())
        rows = [[sum(text.lower().count(word) for word in topic) for topic in TOPICS] for text in texts]
        return [[0.1, *(row[self.turn :] + row[: self.turn])] for row in rows]


class Store:
    """A store of vectors that knows the threads it was called in."""

    def __init__(self, server: RedisServer) -> None:
        self.kept = Vectors(redis.Redis.from_url(server.url), "test")
        self.threads = set[int]()

    def get(self, identity: str, hashes: Sequence[str]) -> Sequence[bytes | None]:
        self.threads.add(threading.get_ident())
        return self.kept.get(identity, hashes)

    def put(self, identity: str, vectors: Sequence[tuple[str, bytes]]) -> None:
        self.threads.add(threading.get_ident())
        self.kept.put(identity, vectors)


def made(client: redis.asyncio.Redis, encoder: Encoder, identity: str = "meaning:1", store: Any = None) -> Registry:
    return Registry(Catalog(client, "test"), matcher=HybridMatcher(CallableEncoder(encoder, identity), store))


async def stocked(registry: Registry, tools: dict[str, str] | None = None) -> None:
    for name, about in (TOOLS if tools is None else tools).items():
        manifest = Manifest(name=name, description=about, input_schema={"type": "object"})
        await registry.register(manifest, source=CODE)


async def first(registry: Registry, need: str) -> str | None:
    found = await registry.shortlist(need, floor=0.01)
    return found[0].name if found else None


async def entered(encoder: Encoder) -> None:
    assert await asyncio.to_thread(encoder.entered.wait, 20)


@contextlib.asynccontextmanager
async def following(registry: Registry) -> Any:
    task = asyncio.create_task(registry.keep_encoded())
    try:
        yield task
    finally:
        await end([task])


async def complete(registry: Registry) -> None:
    """Until the background has made every vector."""
    async with asyncio.timeout(30):
        while not registry._offered.matcher._vectors or registry._offered.matcher.missing:  # type: ignore[attr-defined]
            await asyncio.sleep(0)


async def test_the_encoder_and_the_store_are_called_in_threads_and_the_loop_goes_on_meanwhile(
    client: redis.asyncio.Redis, server: RedisServer
) -> None:
    encoder, store = Encoder(), Store(server)
    registry = made(client, encoder, store=store)
    await stocked(registry)
    encoder.gate.clear()
    encoder.entered.clear()
    search = asyncio.create_task(first(registry, "cross the ocean"))
    await entered(encoder)
    assert len(await registry.list()) == 3, "others are served while somebody waits for the encoder"
    assert not search.done()
    encoder.gate.set()
    assert await search == "voyage"
    assert (await registry.decide("something for the winter and then pay it")).candidates
    assert (
        await registry.similar(Manifest(name="trip", description="Books a boat.", input_schema={"type": "object"}))
        is not None
    )
    assert threading.get_ident() not in encoder.threads | store.threads


async def test_missing_vectors_are_made_in_the_background_after_the_start_and_after_changes(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.listing.FOLLOW_SECONDS", 0.0)
    encoder = Encoder()
    registry = made(client, encoder)
    await stocked(registry)
    async with following(registry):
        await complete(registry)
        before = len(encoder.asked)
        assert await first(registry, "cross the ocean") == "voyage"
        assert encoder.asked[before:] == ["cross the ocean"], "a search makes the vector of its need and no other"
        await stocked(registry, {"sled": "Rides through the cold."})
        await registry.list()
        await complete(registry)
        assert await first(registry, "something for the winter") in ("slope", "sled")
        # A lesson changes the texts, and with them the vector.
        await registry.learn("r1", "acme", 1.0, [("charge", "a boat for the ocean")])
        await registry.list()
        await complete(registry)
        assert "a boat for the ocean" in encoder.asked


async def test_a_new_encoder_embeds_anew_in_the_background_and_every_answer_meanwhile_is_right(
    client: redis.asyncio.Redis, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.listing.FOLLOW_SECONDS", 0.0)
    monkeypatch.setattr(HybridMatcher, "pending", _one_at_a_time(HybridMatcher.pending))
    store = Store(server)
    old = made(client, Encoder(), store=store)
    await stocked(old)
    while await old._offered.encode_some():
        pass
    by_words = Registry(Catalog(client, "test"))
    encoder = Encoder(turn=1)  # the same lengths, other meanings: comparing old with new would be wrong
    new = made(client, encoder, "meaning:2", store)
    encoder.gate.clear()
    async with following(new):
        await entered(encoder)
        for need in ("a boat", "snow", "dollars from a card"):
            # Not prepared while the encoder is held up: by the words, as if there were no encoder.
            found = new._offered.seen_by(None).search(need, k=3)
            wanted = by_words._offered
            await by_words.list()
            assert found == wanted.seen_by(None).search(need, k=3)
        encoder.gate.set()
        await complete(new)
        assert await first(new, "cross the ocean") == "voyage"
    assert store.kept.get("meaning:2", ["x"]) == [None]


def _one_at_a_time(pending: Any) -> Any:
    return lambda self, most=1: pending(self, 1)


@pytest.mark.parametrize("broken", [ModelUnavailable("the encoder is away"), OSError("the encoder is away")])
async def test_without_its_encoder_matching_goes_by_words_and_says_so(
    client: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture, broken: Exception
) -> None:
    encoder = Encoder()
    encoder.broken = broken
    registry = made(client, encoder)
    await stocked(registry)
    assert await first(registry, "snow") == "slope"
    assert "by words alone: " in caplog.text
    assert "the encoder is away" in caplog.text
    encoder.broken = None
    assert await first(registry, "something for the winter") == "slope"


async def test_a_capability_that_changed_while_its_vector_was_made_does_not_get_the_old_one(
    client: redis.asyncio.Redis,
) -> None:
    encoder = Encoder()
    registry = made(client, encoder)
    await stocked(registry)
    await registry.list()
    encoder.gate.clear()
    encoder.entered.clear()
    making = asyncio.create_task(registry._offered.encode_some())
    await entered(encoder)
    await stocked(registry, {"voyage": "Melts snow."})
    await registry.list()
    encoder.gate.set()
    await making
    assert registry._offered.matcher.missing == 1  # type: ignore[attr-defined]
    while await registry._offered.encode_some():
        pass
    assert await first(registry, "cross the ocean") is None or await first(registry, "a cold winter") in TOOLS
    assert "voyage" in [each.name for each in await registry.shortlist("winter", floor=0.01)][:2]


async def test_a_matcher_without_an_encoder_needs_nobody_in_the_background(client: redis.asyncio.Redis) -> None:
    await asyncio.wait_for(Registry(Catalog(client, "test")).keep_encoded(), 30)
