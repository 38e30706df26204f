"""Signatures on versions, on a real Redis server: what counts, what does not, and that nothing can be changed unseen."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import fakeredis
import pytest
import redis.asyncio
import signing_support
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signing_support import CODE, EXAM, PREFIX, another, key, make, refusal, signed

from blackboard.catalog import Catalog
from blackboard.errors import Conflict, UnknownRecord
from registry import ExamRecord, Grants, HashMismatch, Registry, Signature, SignatureRefused
from registry.content import canonical, sha256
from registry.signing import Verifier, key_id, statement

client = signing_support.client
registry = signing_support.registry


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
    good = Signature.read(signed(1).text).signature
    other = good[:where] + digit + good[where + 1 :]
    verifier, public = Verifier(), bytes.fromhex(key().public)
    assert verifier._holds(said, good, public)  # pyright: ignore[reportPrivateUsage]
    assert verifier._holds(said, other, public) == (other == good)  # pyright: ignore[reportPrivateUsage]
    assert key_id(public) == key().key
