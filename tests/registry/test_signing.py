"""Signatures on versions, on a real Redis server: what counts, what does not, and that nothing can be changed unseen."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import fakeredis
import pytest
import redis.asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from blackboard.catalog import Catalog
from blackboard.errors import BadInput, Conflict, ScriptRefused, UnknownRecord
from blackboard.testing import RedisServer
from registry import ExamRecord, Grants, HashMismatch, Manifest, Registry, Signature, SignatureRefused, Signer
from registry.content import canonical, sha256
from registry.signing import Verifier, key_id, statement

PREFIX = "arb:{test/main#reg}:"
CODE = "def handler(a: int) -> int:\n    return a\n"
EXAM = ExamRecord(public_cases=3, sealed_cases=1, passed=True, examiner="one", when=1.0)


def key(number: int = 1) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32), f"key {number}")


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


async def test_g10_what_was_registered_here_is_signed_and_runs_and_says_by_whom(
    registry: Registry, client: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        version = await registry.register(make(), source=CODE, exam=EXAM)
    assert key().key in caplog.text, "trusting the first key is told"
    loaded = await another(client, 2).load("echo")
    assert (loaded.source, loaded.version) == (CODE, version)
    assert version.signature is not None
    assert version.signature.key == key().key
    assert abs(version.signature.created_at - version.created_at) < 5
    caplog.clear()
    await registry.register(make("other"), source=CODE)
    assert not caplog.records
    audit = [(entry.verb, entry.subject, entry.key) for entry in reversed(await registry.trust.audit())]
    assert audit[:2] == [
        ("trusted", key().key, key().key),
        ("signed", f"echo|{version.sha}", key().key),
    ]


async def test_g10_code_without_a_signature_never_runs_until_somebody_signs_it(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    version = await registry.register(make(), source=CODE, exam=EXAM)
    field = f"echo|{version.sha}"
    await client.hdel(PREFIX + "signatures", field)
    with pytest.raises(SignatureRefused, match="arbiter capabilities sign echo") as caught:
        await registry.load("echo")
    assert caught.value.reason == "unsigned"
    assert not await registry.vouched(version)
    signed = await registry.sign("echo", version.sha)
    assert signed.signature is not None
    assert (await another(client).load("echo")).source == CODE
    assert [change.verb for change in await registry.changes()][-1] == "signed"
    with pytest.raises(UnknownRecord):
        await registry.sign("echo", "0" * 64)


async def test_g10_one_changed_byte_of_anything_that_is_stored_refuses(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    """Every byte of manifest, exam record, signature, public key and code, one at a time, in a process that has run it."""
    version = await registry.register(make(), source=CODE, exam=EXAM)
    field = f"echo|{version.sha}"
    places = [
        ("manifest", field), ("exam", field), ("signatures", field), ("artifacts", version.artifact_sha or ""),
        ("trust", key().key),
    ]  # fmt: skip
    for name, where in places:
        text = await client.hget(PREFIX + name, where)
        assert text is not None
        counted = (
            range(len(text)) if name != "trust" else range(text.index(key().public), text.index(key().public) + 64)
        )
        for number in counted:
            other = chr(ord(text[number]) ^ 1)
            await client.hset(PREFIX + name, where, text[:number] + other + text[number + 1 :])
            for reader in (registry, another(client)):
                assert await refusal(reader) in ("hash", "damaged", "mismatch", "unknown_key", "exam"), (name, number)
        for changed in (text + " ", text[:-1], text + "x"):
            await client.hset(PREFIX + name, where, changed)
            if name != "trust":
                assert await refusal(registry)
        await client.hset(PREFIX + name, where, text)
        assert (await registry.load("echo")).source == CODE


def test_every_field_of_the_statement_is_signed() -> None:
    said: dict[str, Any] = {
        "name": "echo", "sha": "1" * 64, "manifest": "{}", "artifact_sha": "2" * 64, "exam": "{}", "grants": Grants(model=True),
        "created": "17", "key": key().key,
    }  # fmt: skip
    other: dict[str, Any] = {
        "name": "echo2", "sha": "3" * 64, "manifest": "[]", "artifact_sha": "4" * 64, "exam": None,
        "grants": Grants(), "created": "18",
        "key": key(2).key,
    }  # fmt: skip
    texts = {statement(**said), *(statement(**{**said, name: value}) for name, value in other.items())}
    assert len(texts) == 9
    assert b"arbiter-version-1" in statement(**said)


async def test_g10_grants_or_code_cannot_be_changed_together_with_all_hashes(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    """Whoever writes to Redis can make everything fit but the signature."""
    version = await registry.register(make(), source=CODE, exam=EXAM)
    for wanted, source in ((make(grants=Grants(model=True)), CODE), (make(), "def handler(a): return 'evil'\n")):
        forged = another(client)
        before = {name: await client.hgetall(PREFIX + name) for name in ("header", "signatures", "exam")}
        sha = wanted.content_hash(source)
        written = await Catalog(client, "test").register(
            name="echo", sha=sha, tenant="*", manifest=wanted.text(), source=source,
            artifact_sha=sha256(source), exam=canonical(EXAM.model_dump()),
            verdict="passed",
        )  # fmt: skip
        assert written.state == "active"
        assert await refusal(forged) == "unsigned"
        header = json.loads(before["header"][f"echo|{version.sha}"])
        forged_header = {
            **json.loads(await client.hget(PREFIX + "header", f"echo|{sha}") or ""),
            "signer": header["signer"],
        }
        await client.hset(PREFIX + "header", f"echo|{sha}", json.dumps({**forged_header, "signed": header["signed"]}))
        await client.hset(PREFIX + "signatures", f"echo|{sha}", before["signatures"][f"echo|{version.sha}"])
        assert await refusal(forged) == "mismatch", "the signature of another version was copied"


async def test_g10_an_exam_that_was_failed_or_replaced_is_no_evidence(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    failed = ExamRecord(public_cases=3, sealed_cases=1, passed=False, failures=("case 2",), when=1.0)
    draft = await registry.register(make(), source=CODE, exam=failed, activate=False)
    assert await refusal(registry, "echo", draft.sha) == "exam"
    await client.hset(PREFIX + "exam", f"echo|{draft.sha}", canonical(EXAM.model_dump(mode="json")))
    assert await refusal(registry, "echo", draft.sha) == "mismatch"
    examined = await registry.examine("echo", draft.sha, EXAM.model_copy(update={"sealed_cases": 2}))
    assert examined.state == "examined"
    assert (await registry.load("echo", draft.sha)).source == CODE


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
        signed = key().signed(
            name="echo",
            sha="1" * 64,
            manifest="{}",
            artifact_sha="2" * 64,
            exam=None,
            grants=Grants(),
            created_ms=now + off,
        )
        with pytest.raises(ScriptRefused, match="clock") as caught:
            await Catalog(client, "test").register(
                name="echo", sha="1" * 64, tenant="*", manifest="{}", source="x", artifact_sha="2" * 64, signed=signed
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


async def test_an_exam_that_changes_while_a_person_looks_is_not_signed(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    version = await registry.register(make(), source=CODE, exam=EXAM)
    trust_sign = registry.trust.sign

    async def meanwhile(*args: Any) -> None:
        await client.hset(PREFIX + "exam", f"echo|{version.sha}", "{}")
        await trust_sign(*args)

    registry.trust.sign = meanwhile  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="exam"):
        await registry.sign("echo", version.sha)


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


async def test_functions_of_a_program_need_no_signature_but_code_cannot_pass_as_one(
    client: redis.asyncio.Redis,
) -> None:
    registry = another(client)
    manifest = make(kind="function", action="local.echo", grants=Grants())
    await registry.register(manifest)
    assert (await registry.load("echo")).source is None
    header = json.loads(await client.hget(PREFIX + "header", f"echo|{manifest.content_hash()}") or "")
    await client.hset(
        PREFIX + "header", f"echo|{manifest.content_hash()}", json.dumps({**header, "artifact": "1" * 64})
    )
    assert await refusal(registry) == "hash"


TAMPER = st.tuples(
    st.sampled_from(["manifest", "exam", "signatures", "artifacts", "trust", "header"]),
    st.sampled_from(["flip", "insert", "delete", "truncate", "remove", "swap"]),
    st.integers(0, 5000),
    st.integers(1, 127),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=st.lists(TAMPER, min_size=1, max_size=3))
def test_g10_whatever_is_tampered_with_only_what_was_signed_runs(changes: list[tuple[str, str, int, int]]) -> None:
    """Random changes of what is stored: a version either loads exactly as it was signed, or does not load."""

    async def play() -> None:
        client = fakeredis.FakeAsyncRedis(decode_responses=True)
        registry = Registry(Catalog(client, "test"), signer=key())
        other = await registry.register(make("other"), source="def handler(): return 2\n", exam=EXAM)
        version = await registry.register(make(), source=CODE, exam=EXAM)
        for name, how, where, bits in changes:
            place, its_place = (f"echo|{version.sha}", f"other|{other.sha}")
            if name == "artifacts":
                place, its_place = str(version.artifact_sha), str(other.artifact_sha)
            elif name == "trust":
                place = its_place = key().key
            text = await client.hget(PREFIX + name, place)
            if text is None:
                continue
            at = where % max(1, len(text))
            changed = {
                "flip": text[:at] + chr((ord(text[at : at + 1] or "x") ^ bits) or 1) + text[at + 1 :],
                "insert": text[:at] + chr(bits) + text[at:],
                "delete": text[:at] + text[at + 1 :],
                "truncate": text[:at],
                "swap": await client.hget(PREFIX + name, its_place) or "",
                "remove": "",
            }[how]
            await client.hset(PREFIX + name, place, changed)
        for reader in (registry, Registry(Catalog(client, "test"), signer=key())):
            try:
                loaded = await reader.load("echo", version.sha)
            except (SignatureRefused, HashMismatch, UnknownRecord):
                continue
            same = loaded.version.model_copy(
                update={name: getattr(version, name) for name in ("state", "created_at", "updated_at")}
            )
            assert (loaded.source, same) == (CODE, version)
        await client.aclose()

    asyncio.run(play())


@settings(max_examples=200, deadline=None)
@given(where=st.integers(0, 127), digit=st.sampled_from("0123456789abcdef"))
def test_no_other_signature_is_one(where: int, digit: str) -> None:
    said = statement(
        name="echo",
        sha="1" * 64,
        manifest="{}",
        artifact_sha="2" * 64,
        exam=None,
        grants=Grants(),
        created="1",
        key=key().key,
    )
    signed = key().signed(
        name="echo", sha="1" * 64, manifest="{}", artifact_sha="2" * 64, exam=None, grants=Grants(), created_ms=1
    )
    good = Signature.read(signed.text).signature
    other = good[:where] + digit + good[where + 1 :]
    verifier, public = Verifier(), bytes.fromhex(key().public)
    assert verifier._holds(said, good, public)  # pyright: ignore[reportPrivateUsage]
    assert verifier._holds(said, other, public) == (other == good)  # pyright: ignore[reportPrivateUsage]
    assert key_id(public) == key().key
