"""The registry on a real Redis server: versions by content, one active, verified, listed without reloading."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from blackboard.catalog import Catalog
from blackboard.errors import BadInput, Conflict, ScriptRefused, UnknownRecord
from blackboard.testing import RedisServer
from blackboard.types import Status
from registry import ExamRecord, HashMismatch, Manifest, Registry, capability

PREFIX = "arb:{test/main#reg}:"
CODE = "def handler(a: int) -> int:\n    return a\n"


class Counting:
    """A client that counts the calls made through it and the bytes of text that came back."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client, self.calls, self.received = client, 0, 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        async def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            reply = await method(*args, **options)
            self.received += len(json.dumps(reply))
            return reply

        return call


@pytest.fixture
def registry(client: redis.asyncio.Redis) -> Registry:
    return Registry(Catalog(client, "test"))


def make(name: str = "echo", **changes: Any) -> Manifest:
    given = {
        "name": name,
        "description": f"Says {name.replace('_', ' ')} back.",
        "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "output_schema": {"type": "array", "items": {}, "examples": []},
    }
    return Manifest(**{**given, **changes})


def exam(passed: bool = True, cases: int = 3) -> ExamRecord:
    return ExamRecord(
        public_cases=cases, sealed_cases=1, passed=passed, failures=() if passed else ("case 2",), when=1.0
    )


async def test_a_registered_capability_resolves_and_its_source_is_verified(registry: Registry) -> None:
    version = await registry.register(make(), source=CODE, exam=exam())
    assert (version.name, version.state, version.exam) == ("echo", "active", exam())
    assert version.sha == make().content_hash(CODE)
    assert await registry.resolve("echo") == version
    assert await registry.resolve("echo", version.sha) == version
    assert version.manifest == make()
    assert await registry.source(version) == CODE


async def test_registering_the_same_content_again_is_the_same_version(registry: Registry) -> None:
    first = await registry.register(make(), source=CODE, exam=exam())
    again = await registry.register(make(provenance={"run": "2"}), source=CODE, exam=exam())
    assert again == first
    assert len(await registry.versions("echo")) == 1
    assert len(await registry.changes()) == 3


async def test_a_function_is_registered_without_source(registry: Registry) -> None:
    @capability
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    version = await registry.register(add.manifest)
    assert version.state == "active"
    with pytest.raises(BadInput, match="no source"):
        await registry.source(version)
    with pytest.raises(BadInput, match="without source"):
        await registry.register(add.manifest, source=CODE)


@pytest.mark.parametrize("source", [None, "", "  \n", "x" * 2_000_000, "\ud800"])
async def test_an_artifact_needs_code_that_can_be_stored(
    registry: Registry, client: redis.asyncio.Redis, source: str | None
) -> None:
    with pytest.raises(BadInput, match="source"):
        await registry.register(make(), source=source)
    assert await client.dbsize() == 0


async def test_what_failed_its_exam_is_not_activated(registry: Registry, client: redis.asyncio.Redis) -> None:
    with pytest.raises(BadInput, match="failed its exam"):
        await registry.register(make(), source=CODE, exam=exam(False))
    with pytest.raises(BadInput, match=r"exam\.passed"):
        await registry.register(make(), source=CODE, exam={"public_cases": 1, "sealed_cases": 0, "when": 0})
    assert await client.dbsize() == 0
    draft = await registry.register(make(), source=CODE, exam=exam(False), activate=False)
    assert draft.state == "draft"
    assert await registry.list() == []
    with pytest.raises(ScriptRefused, match="EXAM"):
        await registry.activate("echo", draft.sha)
    with pytest.raises(UnknownRecord, match="no active version"):
        await registry.resolve("echo")
    assert (await registry.examine("echo", draft.sha, exam())).state == "examined"
    assert (await registry.activate("echo", draft.sha)).state == "active"


async def test_unknown_names_come_with_what_is_close(registry: Registry) -> None:
    await registry.register(make("parse_invoice"), source=CODE)
    for call in (
        registry.resolve("parse_invoces"),
        registry.versions("parse_invoces"),
        registry.retire("parse_invoces"),
    ):
        with pytest.raises(UnknownRecord, match="parse_invoice"):
            await call
    with pytest.raises(UnknownRecord, match="no version 'abc'"):
        await registry.resolve("parse_invoice", "abc")


async def test_a_damaged_artifact_or_manifest_is_never_used(registry: Registry, client: redis.asyncio.Redis) -> None:
    """G10: what runs is what was registered."""
    version = await registry.register(make(), source=CODE)
    assert version.artifact_sha is not None
    await client.hset(PREFIX + "artifacts", version.artifact_sha, CODE + "import os\n")
    with pytest.raises(HashMismatch, match="artifact of echo"):
        await Registry(Catalog(client, "test")).source(version)
    await client.hdel(PREFIX + "artifacts", version.artifact_sha)
    with pytest.raises(HashMismatch, match="nothing"):
        await Registry(Catalog(client, "test")).source(version)

    field = f"echo|{version.sha}"
    text = await client.hget(PREFIX + "manifest", field)
    assert text is not None
    await client.hset(PREFIX + "manifest", field, text.replace('"pure"', '"reads"'))
    fresh = Registry(Catalog(client, "test"))
    with pytest.raises(HashMismatch, match="manifest of echo"):
        await fresh.resolve("echo")


async def test_another_artifact_cannot_be_slipped_under_a_version(
    registry: Registry, client: redis.asyncio.Redis
) -> None:
    good = await registry.register(make(), source=CODE)
    evil = await registry.register(make("other"), source="def handler(): ...")
    field = f"echo|{good.sha}"
    header = json.loads(await client.hget(PREFIX + "header", field) or "")
    await client.hset(PREFIX + "header", field, json.dumps({**header, "artifact": evil.artifact_sha}))
    with pytest.raises(HashMismatch):
        await Registry(Catalog(client, "test")).resolve("echo")


async def test_one_damaged_record_does_not_hide_the_others(registry: Registry, client: redis.asyncio.Redis) -> None:
    version = await registry.register(make("broken"), source=CODE)
    await registry.register(make("whole"), source=CODE)
    await client.hset(PREFIX + "manifest", f"broken|{version.sha}", "{}")
    fresh = Registry(Catalog(client, "test"))
    assert [each.name for each in await fresh.list()] == ["whole"]
    assert "hash" in fresh.unreadable["broken"]
    await fresh.register(make("broken", description="Repaired."), source=CODE)
    assert [each.name for each in await fresh.list()] == ["broken", "whole"]
    assert fresh.unreadable == {}


async def test_tenants_see_their_own_and_what_is_everybodys(registry: Registry) -> None:
    await registry.register(make("shared"), source=CODE)
    await registry.register(make("acmes", tenant="acme"), source=CODE)
    assert [each.name for each in await registry.list("acme")] == ["acmes", "shared"]
    assert [each.name for each in await registry.list("rival")] == ["shared"]
    assert [each.name for each in await registry.list()] == ["acmes", "shared"]
    assert [each.name for each in await registry.shortlist("acmes", tenant="rival")] == []
    assert [each.name for each in await registry.shortlist("acmes", tenant="acme")][:1] == ["acmes"]
    with pytest.raises(Conflict, match="acme"):
        await registry.register(make("acmes", tenant="rival"), source=CODE)


async def test_the_list_is_kept_and_only_changes_are_fetched(client: redis.asyncio.Redis) -> None:
    counting = Counting(client)
    writer = Registry(Catalog(client, "test"))
    reader = Registry(Catalog(counting, "test"))  # pyright: ignore[reportArgumentType]
    for number in range(30):
        await writer.register(make(f"cap_{number}"), source=CODE)
    assert len(await reader.list()) == 30
    counting.calls = counting.received = 0
    for _ in range(10):
        assert len(await reader.list()) == 30
        await reader.shortlist("say cap 3 back")
    assert counting.calls == 20
    assert counting.received < 20 * 60, "an unchanged list costs a revision number, not a list"
    await writer.register(make("cap_3", description="Newer."), source=CODE)
    await writer.retire("cap_4")
    counting.calls = counting.received = 0
    names = {each.name: each for each in await reader.list()}
    assert names["cap_3"].manifest.description == "Newer."
    assert "cap_4" not in names
    assert counting.received < 3000, "only what changed is read"
    assert [each.name for each in await reader.shortlist("newer")] == ["cap_3"]


async def test_what_was_registered_is_listed_at_once_by_every_reader(client: redis.asyncio.Redis) -> None:
    readers = [Registry(Catalog(client, "test")) for _ in range(3)]
    for number in range(10):
        await readers[number % 3].register(make(f"cap_{number}"), source=CODE)
        for reader in readers:
            assert f"cap_{number}" in [each.name for each in await reader.list()]


async def test_versions_registered_at_once_are_all_kept_and_one_is_active(client: redis.asyncio.Redis) -> None:
    registries = [Registry(Catalog(client, "test")) for _ in range(4)]
    await asyncio.gather(
        *(
            registries[number % 4].register(make(description=f"Number {number}."), source=CODE, exam=exam())
            for number in range(16)
        )
    )
    versions = await registries[0].versions("echo")
    assert len(versions) == 16
    active = [version for version in versions if version.state == "active"]
    assert len(active) == 1
    for registry in registries:
        assert [each.sha for each in await registry.list()] == [active[0].sha]


async def test_going_back_to_an_older_version_is_guarded_and_recorded(registry: Registry) -> None:
    old = await registry.register(make(), source=CODE)
    new = await registry.register(make(description="Newer."), source=CODE, expected_active=old.sha)
    with pytest.raises(Conflict):
        await registry.register(make(description="Raced."), source=CODE, expected_active=old.sha)
    with pytest.raises(Conflict):
        await registry.register(make(description="Raced."), source=CODE, expected_active=None)
    back = await registry.activate("echo", old.sha, expected_active=new.sha, reason="worse results")
    assert back.state == "active"
    assert (await registry.resolve("echo", new.sha)).state == "retired", "a pinned version still resolves"
    assert [(each.verb, each.reason) for each in await registry.changes()][-2:] == [
        ("retired", f"superseded by {old.sha}"),
        ("activated", "worse results"),
    ]
    ((_, record),) = await registry._catalog.audit(("activated",), 10)  # pyright: ignore
    assert (record["subject"], record["reason"]) == (f"echo|{old.sha}", "worse results")


async def test_retiring_takes_a_capability_off_the_list_once(registry: Registry) -> None:
    version = await registry.register(make(), source=CODE)
    retired = await registry.retire("echo", reason="unused")
    assert retired is not None
    assert (retired.sha, retired.state) == (version.sha, "retired")
    assert await registry.retire("echo") is None
    assert await registry.list() == []
    assert await registry.names() == ["echo"]
    assert await registry.source(version) == CODE


async def test_a_repeated_operation_leaves_a_replaced_version_alone(registry: Registry) -> None:
    """A fabrication that is started again after a crash must not bring back what was replaced meanwhile."""
    await registry.register(make(), source=CODE, operation="task-7")
    newer = await registry.register(make(description="Newer."), source=CODE)
    again = await registry.register(make(), source=CODE, operation="task-7")
    assert again.state == "retired"
    assert (await registry.resolve("echo")).sha == newer.sha


async def test_outcomes_are_counted_for_each_version(client: redis.asyncio.Redis) -> None:
    async def counters() -> dict[str, int]:
        return {"echo|a|succeeded": 3, "echo|a|failed": 1, "echo|b|timed_out": 2, "echoes|a|failed": 9}

    registry = Registry(Catalog(client, "test"), counters)
    assert await registry.outcomes("echo") == {
        "a": {Status.SUCCEEDED: 3, Status.FAILED: 1},
        "b": {Status.TIMED_OUT: 2},
    }
    assert await Registry(Catalog(client, "test")).outcomes("echo") == {}


async def test_a_shortlist_is_bounded_ranked_and_keeps_what_is_pinned(registry: Registry) -> None:
    words = ("parse invoice", "send email", "translate text", "match purchase order", "convert currency")
    for number, text in enumerate(words):
        await registry.register(make(f"cap_{number}", description=text), source=CODE)
    best = await registry.shortlist("invoices to be parsed")
    assert [each.name for each in best] == ["cap_0"]
    assert 0 < best[0].score <= 1
    assert best[0].version.manifest.description == "parse invoice"
    assert len(await registry.shortlist("parse, send, translate, match, convert", k=2)) == 2
    assert len(await registry.shortlist("nothing in common", k=3, floor=0)) == 3
    pinned = await registry.shortlist("invoice", k=2, always=("cap_4", "gone", "cap_1"))
    assert [each.name for each in pinned] == ["cap_4", "cap_1"]
    with_best = await registry.shortlist("invoice", k=3, always=("cap_4",))
    assert [each.name for each in with_best] == ["cap_4", "cap_0"]
    with pytest.raises(BadInput, match="at least one"):
        await registry.shortlist("x", k=0)


async def test_the_registry_survives_a_killed_server() -> None:
    with RedisServer() as server:
        client = redis.asyncio.Redis.from_url(
            server.url, decode_responses=True, protocol=2, retry=Retry(NoBackoff(), 0)
        )
        registry = Registry(Catalog(client, "test"))
        version = await registry.register(make(), source=CODE)
        server.restart()
        assert [each.sha for each in await registry.list()] == [version.sha]
        assert await Registry(Catalog(client, "test")).source(version) == CODE
        await client.aclose()


async def test_several_are_resolved_at_once_and_what_is_unknown_or_damaged_is_none(registry: Registry) -> None:
    one = await registry.register(make("one"), source="def handler(): return 1")
    two = await registry.register(make("two"), source="def handler(): return 2")
    found = await registry.resolve_many([("two", None), ("nobody", None), ("one", one.sha), ("one", "0" * 64)])
    assert [each and each.sha for each in found] == [two.sha, None, one.sha, None]
