"""The catalog's scripts on every engine: atomic, idempotent, one active version of a name."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import catalog_support
import pytest
import redis.asyncio
from catalog_support import everything, keys, put, sha, sign_and_revoke, signed

from blackboard.catalog import Catalog
from blackboard.errors import BadInput, Conflict, ScriptRefused, UnknownRecord
from blackboard.trust import Trust

server = catalog_support.server
client = catalog_support.client
catalog = catalog_support.catalog


async def test_a_registered_version_comes_back_as_it_went_in(catalog: Catalog) -> None:
    written = await put(catalog, "add", "1", exam='{"failures": []}', verdict="passed")
    stored = await catalog.get("add")
    assert stored is not None
    assert (written.changed, written.state, written.previous) == (True, "active", None)
    assert stored.sha == written.sha == sha("add1")
    assert json.loads(stored.manifest) == {"name": "add", "version": "1", "list": [], "big": 1795249573459123456}
    assert stored.exam == '{"failures": []}'
    assert stored.artifact_sha is not None
    assert await catalog.artifact(stored.artifact_sha) == "def handler(): return '1'"
    assert stored.created_at == written.created_at > 1_600_000_000
    assert await catalog.names() == {"add": "*"}
    assert await catalog.shas("add") == [stored.sha]
    assert [change.verb for change in await catalog.changes()] == ["registered", "examined", "activated"]


async def test_unknown_things_are_none_or_empty(catalog: Catalog) -> None:
    assert await catalog.get("nothing") is None
    assert await catalog.get("nothing", sha("x")) is None
    assert await catalog.artifact(sha("x")) is None
    assert await catalog.shas("nothing") == []
    assert await catalog.names() == {}
    assert await catalog.changes() == []
    with pytest.raises(UnknownRecord):
        await catalog.set_state("nothing", None, "retired")
    await put(catalog, "add", "1")
    with pytest.raises(UnknownRecord):
        await catalog.set_state("add", sha("other"), "active")


async def test_sending_any_change_twice_has_no_second_effect(catalog: Catalog, client: redis.asyncio.Redis) -> None:
    """G4: the re-sent call answers as the first one did and leaves every key as it was."""
    await put(catalog, "add", "1")
    calls = [
        lambda: put(catalog, "add", "2", operation="o1"),
        lambda: put(catalog, "add", "3", operation="o2", activate=False),
        lambda: catalog.set_state("add", sha("add3"), "examined", exam='{"n": 1}', verdict="passed", operation="o3"),
        lambda: catalog.set_state("add", sha("add3"), "active", operation="o4"),
        lambda: catalog.set_state("add", None, "retired", operation="o5", reason="slow"),
    ]
    for call in calls:
        first = await call()
        assert first.changed
        before = await everything(client)
        assert await call() == first
        assert await everything(client) == before


async def test_a_late_duplicate_does_not_undo_what_came_after_it(catalog: Catalog, client: redis.asyncio.Redis) -> None:
    await put(catalog, "add", "1", operation="first")
    await put(catalog, "add", "2")
    before = await everything(client)
    await put(catalog, "add", "1", operation="first")
    assert await everything(client) == before
    await client.delete(*[key for key in await keys(client) if ":op:" in key])
    await put(catalog, "add", "1", operation="first")
    assert await everything(client) == before, "the operation that made a version is remembered for ever"
    await put(catalog, "add", "1")
    active = await catalog.get("add")
    assert active is not None
    assert active.sha == sha("add1"), "a new call for the same content is a new wish"


async def test_activating_a_version_retires_the_one_before(catalog: Catalog) -> None:
    first = await put(catalog, "add", "1")
    second = await put(catalog, "add", "2")
    assert second.previous == first.sha
    states = [version.state for version in await catalog.get_many([("add", first.sha), ("add", second.sha)]) if version]
    assert states == ["retired", "active"]
    back = await catalog.set_state("add", first.sha, "active", reason="rollback")
    assert back.previous == second.sha
    assert [(change.verb, change.sha[:4]) for change in await catalog.changes()] == [
        ("registered", first.sha[:4]),
        ("activated", first.sha[:4]),
        ("registered", second.sha[:4]),
        ("retired", first.sha[:4]),
        ("activated", second.sha[:4]),
        ("retired", second.sha[:4]),
        ("activated", first.sha[:4]),
    ]


async def test_a_version_remembers_that_another_took_its_place_until_it_is_retired_for_its_own_sake(
    catalog: Catalog,
) -> None:
    first = await put(catalog, "add", "1")
    second = await put(catalog, "add", "2")

    async def replaced() -> list[bool]:
        found = await catalog.get_many([("add", first.sha), ("add", second.sha)])
        return [version.replaced for version in found if version is not None]

    assert await replaced() == [True, False]
    await catalog.set_state("add", first.sha, "active")
    assert await replaced() == [False, True]
    assert (await catalog.set_state("add", second.sha, "retired", reason="too slow")).changed
    assert not (await catalog.set_state("add", second.sha, "retired")).changed
    await catalog.set_state("add", None, "retired")
    assert await replaced() == [False, False]
    changes = await catalog.changes()
    assert [(each.verb, each.sha == first.sha, each.reason) for each in changes[-2:]] == [
        ("retired", False, "too slow"), ("retired", True, ""),
    ]  # fmt: skip


async def test_what_is_forgiven_a_version_stays_until_somebody_forgives_it_anew(catalog: Catalog) -> None:
    first = await put(catalog, "add", "1")
    await put(catalog, "add", "2")
    for forgiven, kept in ((20, 20), (None, 20), (3, 3), (0, 0)):
        await catalog.set_state("add", first.sha, "active", forgiven=forgiven)
        version = await catalog.get("add")
        assert version is not None
        assert version.forgiven == kept
        await put(catalog, "add", "2")


async def test_the_lifecycle_refuses_moves_it_does_not_have(catalog: Catalog, client: redis.asyncio.Redis) -> None:
    draft = await put(catalog, "add", "1", activate=False)
    assert draft.state == "draft"
    before = await everything(client)
    with pytest.raises(ScriptRefused, match="EXAM"):
        await catalog.set_state("add", draft.sha, "examined")
    with pytest.raises(ScriptRefused, match="EXAM"):
        await catalog.set_state("add", draft.sha, "active", exam="{}", verdict="failed")
    with pytest.raises(ScriptRefused, match="EXAM"):
        await put(catalog, "sub", "1", exam="{}", verdict="failed")
    assert await everything(client) == before, "a refusal writes nothing"
    assert (await catalog.set_state("add", draft.sha, "examined", exam="{}", verdict="passed")).state == "examined"
    assert (await catalog.set_state("add", draft.sha, "active")).state == "active"
    with pytest.raises(ScriptRefused, match="STATE"):
        await catalog.set_state("add", draft.sha, "examined")
    assert (await catalog.set_state("add", draft.sha, "retired")).state == "retired"
    assert not (await catalog.set_state("add", draft.sha, "retired")).changed
    assert await catalog.get("add") is None


async def test_a_failed_exam_keeps_a_version_from_becoming_active(catalog: Catalog) -> None:
    failed = await put(catalog, "add", "1", activate=False, exam='{"n": 1}', verdict="failed")
    assert failed.state == "draft"
    with pytest.raises(ScriptRefused, match="EXAM"):
        await catalog.set_state("add", failed.sha, "active")
    with pytest.raises(ScriptRefused, match="EXAM"):
        await put(catalog, "add", "1")
    again = await put(catalog, "add", "1", exam='{"n": 2}', verdict="passed")
    assert again.state == "active"


async def test_an_expected_active_version_guards_against_a_race(catalog: Catalog) -> None:
    first = await put(catalog, "add", "1", expected_active="")
    with pytest.raises(Conflict):
        await put(catalog, "add", "2", expected_active="")
    second = await put(catalog, "add", "2", expected_active=first.sha)
    assert not (await put(catalog, "add", "2", expected_active=first.sha)).changed, "what was asked is already so"
    with pytest.raises(Conflict):
        await catalog.set_state("add", None, "retired", expected_active=first.sha)
    assert (await catalog.set_state("add", None, "retired", expected_active=second.sha)).changed


async def test_a_name_belongs_to_the_tenant_that_registered_it(catalog: Catalog, client: redis.asyncio.Redis) -> None:
    await put(catalog, "add", "1", tenant="acme")
    before = await everything(client)
    with pytest.raises(Conflict, match="acme"):
        await put(catalog, "add", "2", tenant="rival")
    assert await everything(client) == before


async def test_pointers_tell_only_what_changed(catalog: Catalog) -> None:
    for name in ("add", "sub", "mul"):
        await put(catalog, name, "1")
    start = await catalog.pointers()
    assert start.full
    assert set(start.active) == {"add", "sub", "mul"}
    same = await catalog.pointers(start.revision)
    assert (same.full, same.active, same.revision) == (False, {}, start.revision)
    await put(catalog, "add", "2")
    await catalog.set_state("sub", None, "retired")
    await put(catalog, "div", "1", activate=False)
    delta = await catalog.pointers(start.revision)
    assert not delta.full
    assert delta.active == {"add": sha("add2"), "sub": None, "div": None}


async def test_a_reader_too_far_behind_gets_the_whole_list(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(catalog, "add", "1")
    start = await catalog.pointers()
    monkeypatch.setattr("blackboard.catalog._MOST_CHANGES", 4)
    await put(catalog, "sub", "1")
    await put(catalog, "mul", "1")
    assert not (await catalog.pointers(start.revision)).full
    await put(catalog, "div", "1")
    late = await catalog.pointers(start.revision)
    assert late.full
    assert set(late.active) == {"add", "sub", "mul", "div"}


async def test_a_reader_ahead_of_the_server_gets_the_whole_list(catalog: Catalog, client: redis.asyncio.Redis) -> None:
    """A failover may lose the newest changes: a revision the log does not hold tells nothing."""
    await put(catalog, "add", "1")
    revision = (await catalog.pointers()).revision
    for lost in (str(int(revision) + 5000), str(int(revision) - 1)):
        pointers = await catalog.pointers(lost)
        assert pointers.full
        assert pointers.active == {"add": sha("add1")}


async def test_the_log_can_be_followed_in_pieces(catalog: Catalog) -> None:
    for number in range(5):
        await put(catalog, "add", str(number))
    whole = await catalog.changes()
    pieces, cursor = [], "0"
    while piece := await catalog.changes(cursor, limit=2):
        pieces += piece
        cursor = piece[-1].cursor
    assert pieces == whole
    assert len(whole) == 5 * 3 - 1
    assert whole[0].type == "dev.arbiter.capability.registered.v1"


async def test_oversized_and_unencodable_texts_are_refused_before_anything_is_written(
    catalog: Catalog, client: redis.asyncio.Redis
) -> None:
    with pytest.raises(BadInput, match="source"):
        await put(catalog, "add", "1", source="x" * 2_000_000)
    with pytest.raises(BadInput, match="surrogate"):
        await put(catalog, "add", "1", source="\ud800")
    with pytest.raises(BadInput, match="manifest"):
        await put(catalog, "add", "1", manifest="x" * 300_000)
    assert await keys(client) == []
    with pytest.raises(BadInput, match="board"):
        Catalog(client, "test", "No Board")


async def test_versions_registered_at_once_are_all_kept_and_one_is_active(catalog: Catalog) -> None:
    written = await asyncio.gather(*(put(catalog, "add", str(number)) for number in range(20)))
    shas = await catalog.shas("add")
    assert sorted(shas) == sorted(one.sha for one in written)
    versions = [version for version in await catalog.get_many([("add", one) for one in shas]) if version]
    assert sorted(version.state for version in versions) == ["active"] + ["retired"] * 19
    active = await catalog.get("add")
    assert active is not None
    assert active.state == "active"
    cursors = [tuple(map(int, change.cursor.split("-"))) for change in await catalog.changes(limit=1000)]
    assert all(earlier < later for earlier, later in pairwise(cursors))


async def test_one_version_registered_at_once_by_many_is_registered_once(catalog: Catalog) -> None:
    written = await asyncio.gather(*(put(catalog, "add", "1") for _ in range(20)))
    assert sum(one.changed for one in written) == 1
    assert await catalog.shas("add") == [sha("add1")]
    assert [change.verb for change in await catalog.changes()] == ["registered", "activated"]


async def test_changes_about_keys_sent_twice_have_no_second_effect(
    catalog: Catalog, client: redis.asyncio.Redis
) -> None:
    """G4: signing, trusting and revoking."""
    await sign_and_revoke(catalog)
    before, trust = await everything(client), Trust(catalog)
    stored = await catalog.get("key", sha("key1"))
    assert stored is not None
    await trust.sign(stored, signed((await trust.read()).now_ms, "2" * 32), "sign-1")
    assert not await trust.add("2" * 32, "cd", by="bob")
    assert not await trust.revoke("1" * 32, by="bob", after_ms=1, before_ms=2)
    assert not await trust.revoke_version("key", stored.sha, by="bob")
    assert await everything(client) == before
    assert [entry.verb for entry in reversed(await trust.audit())] == [
        "trusted", "signed", "trusted", "revoked", "signed", "revoked"
    ]  # fmt: skip
