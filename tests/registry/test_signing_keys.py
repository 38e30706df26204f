"""Whose signatures count: keys a board trusts, and what is left of those it revoked."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
import signing_support
from signing_support import CODE, PREFIX, another, key, make, refusal, signed

from blackboard.catalog import Catalog
from blackboard.errors import BadInput, ScriptRefused, UnknownRecord
from registry import Registry

client = signing_support.client
registry = signing_support.registry


async def test_g10_a_key_the_board_does_not_trust_signs_nothing(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    await registry.register(make(), source=CODE)
    stranger = another(client, 2)
    before = await client.dbsize(), await client.hgetall(PREFIX + "header")
    for attempt in (stranger.register(make("other"), source=CODE), stranger.check_signer()):
        with pytest.raises(ScriptRefused, match="arbiter keys trust") as caught:
            await attempt
        assert caught.value.code == "UNTRUSTED"
    assert (await client.dbsize(), await client.hgetall(PREFIX + "header")) == before
    assert await registry.trust.add(key(2).key, key(2).public, by="ann", note="the second machine")
    assert not await registry.trust.add(key(2).key, key(2).public, by="ann")
    version = await stranger.register(make("other"), source=CODE)
    assert (await registry.load("other")).version == version
    await client.hdel(PREFIX + "trust", key(2).key)
    assert await refusal(registry, "other") == "unknown_key"
    assert (await registry.load("echo")).source == CODE, "each signer's own"
    entry = await client.hget(PREFIX + "trust", key().key)
    await client.hset(PREFIX + "trust", key(2).key, str(entry))
    assert await refusal(registry, "other") == "damaged", "another key under its id"


async def test_of_many_first_signers_one_is_trusted(client: redis.asyncio.Redis) -> None:
    ended = await asyncio.gather(
        *(another(client, number).register(make(f"cap_{number}"), source=CODE) for number in range(1, 9)),
        return_exceptions=True,
    )
    assert sum(not isinstance(each, BaseException) for each in ended) == 1
    assert len((await another(client).trust.read()).keys) == 1


async def test_g10_a_revoked_key_counts_for_nothing_at_once_and_for_ever(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    version = await registry.register(make(), source=CODE)
    held = another(client)
    assert (await held.load("echo")).source == CODE
    assert await registry.trust.revoke(key().key, by="ann", reason="a laptop was stolen")
    assert not await registry.trust.revoke(key().key, by="ann")
    for reader in (registry, held):
        assert await refusal(reader) == "revoked_key"
        assert await refusal(reader, "echo", version.sha) == "revoked_key", "runs that pinned it too"
    for attempt in (
        registry.register(make("other"), source=CODE),
        registry.sign("echo", version.sha),
        registry.check_signer(),
        registry.trust.add(key().key, key().public, by="ann"),
    ):
        with pytest.raises(ScriptRefused) as caught:
            await attempt
        assert caught.value.code == "REVOKED"
    audit = (await registry.trust.audit(1))[0]
    assert (audit.verb, audit.key, audit.by, audit.reason) == ("revoked", key().key, "ann", "a laptop was stolen")
    with pytest.raises(UnknownRecord):
        await registry.trust.revoke("0" * 32, by="ann")
    with pytest.raises(BadInput, match="32 hexadecimal"):
        await registry.trust.revoke("all", by="ann")


async def test_g10_what_a_key_signed_before_or_after_a_time_can_be_revoked(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    early = await registry.register(make("early"), source=CODE)
    between = (await registry.trust.read()).now_ms + 1
    while (await registry.trust.read()).now_ms <= between:
        pass
    late = await registry.register(make("late"), source=CODE)
    assert early.signature is not None
    assert int(early.signature.created) < between < int(late.signature.created if late.signature else 0)
    await registry.trust.revoke(key().key, by="ann", before_ms=between)
    assert await refusal(registry, "early") == "revoked_key"
    assert (await registry.load("late")).source == CODE
    await registry.sign("early", early.sha)
    assert (await registry.load("early")).source == CODE, "the key itself goes on"
    await registry.trust.revoke(key().key, by="ann", after_ms=between)
    assert await refusal(registry, "late") == "revoked_key"
    assert await refusal(registry, "early") == "revoked_key"
    with pytest.raises(BadInput, match="later"):
        await registry.trust.revoke(key().key, by="ann", after_ms=5, before_ms=5)


async def test_a_signature_cannot_be_dated_back(registry: Registry, client: redis.asyncio.Redis) -> None:
    """With a stolen key, but only the board's own scripts, what is signed after the theft stays after it."""
    now = (await registry.trust.read()).now_ms
    for off in (-601_000, 601_000):
        with pytest.raises(ScriptRefused, match="clock") as caught:
            await Catalog(client, "test").register(
                name="echo",
                sha="1" * 64,
                tenant="*",
                manifest="{}",
                source="x",
                artifact_sha="2" * 64,
                signed=signed(now + off),
            )
        assert caught.value.code == "CLOCK"
    assert await client.dbsize() == 0


async def test_g10_a_revoked_version_never_runs_again_whoever_signs_it(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    version = await registry.register(make(), source=CODE)
    revoked = await registry.revoke("echo", version.sha, reason="it leaks")
    assert (revoked.state, revoked.revoked) == ("retired", True)
    assert await registry.list() == []
    assert await refusal(registry, "echo", version.sha) == "revoked"
    for attempt in (
        registry.register(make(), source=CODE),
        registry.activate("echo", version.sha),
        registry.sign("echo", version.sha),
    ):
        with pytest.raises(ScriptRefused) as caught:
            await attempt
        assert caught.value.code == "REVOKED"
    again = await registry.revoke("echo", version.sha)
    assert again == revoked
    other = await registry.register(make(description="Mended."), source=CODE)
    assert (await registry.load("echo")).version == other


async def test_a_new_key_signs_from_now_on_and_old_signatures_go_on_counting(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    old = await registry.register(make(), source=CODE)
    await registry.trust.add(key(2).key, key(2).public, by="ann")
    rotated = another(client, 2)
    new = await rotated.register(make("other"), source=CODE)
    assert (new.signature and new.signature.key) == key(2).key
    assert (await rotated.load("echo")).source == CODE
    assert (await rotated.register(make(), source=CODE)).signature == old.signature, "a signature that counts is kept"
    await registry.trust.revoke(key().key, by="ann")
    assert await refusal(rotated) == "revoked_key"
    await rotated.register(make(), source=CODE)
    assert (await rotated.load("echo")).version.signature != old.signature, "one that does not is replaced"


async def test_a_process_may_accept_fewer_keys_than_the_board(
    registry: Registry, client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even somebody who can write to the board's Redis, trust entries included, gets nothing run here."""
    await registry.register(make(), source=CODE)
    monkeypatch.setenv("ARBITER_TRUSTED_KEYS", f"{key(2).key}, {key().key}")
    assert (await registry.load("echo")).source == CODE
    monkeypatch.setenv("ARBITER_TRUSTED_KEYS", key(2).key)
    assert await refusal(registry) == "unknown_key"
    monkeypatch.setenv("ARBITER_TRUSTED_KEYS", "everybody")
    with pytest.raises(BadInput, match="ARBITER_TRUSTED_KEYS"):
        await registry.load("echo")
