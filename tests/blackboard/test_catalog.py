"""The catalog's scripts on every engine: atomic, idempotent, one active version of a name."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import fakeredis
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from blackboard.catalog import Catalog
from blackboard.catalog_records import Signed, Written
from blackboard.engine import open_engine
from blackboard.errors import BadInput, Conflict, ScriptRefused, UnknownRecord
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


@pytest.fixture(params=["redis", "fakeredis", "cluster", "sentinel"])
async def client(request: pytest.FixtureRequest, server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    if request.param == "fakeredis":
        opened = fakeredis.FakeAsyncRedis(decode_responses=True)
        yield opened
        await opened.aclose()
        return
    several = {"cluster": "redis_cluster", "sentinel": "sentinel_set"}.get(request.param)
    engine = await open_engine(request.getfixturevalue(several).url if several else server.url)
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


async def test_a_half_registered_version_is_never_visible(server: RedisServer) -> None:
    """G2: whoever follows pointers or the log finds the manifest and the artifact of what they name, at any moment."""
    writing, reading = connect(server), connect(server)
    await writing.flushall()
    done = asyncio.Event()

    async def write() -> None:
        for number in range(150):
            await put(Catalog(writing, "test"), f"cap_{number % 7}", str(number))
        done.set()

    async def read() -> int:
        catalog, seen, cursor = Catalog(reading, "test"), 0, "0"
        while not done.is_set():
            pointers = await catalog.pointers()
            changes = await catalog.changes(cursor, limit=20)
            cursor = changes[-1].cursor if changes else cursor
            named = [(name, sha) for name, sha in pointers.active.items()]
            named += [(change.name, change.sha) for change in changes]
            for version in await catalog.get_many(named):
                assert version is not None
                assert json.loads(version.manifest)["name"] == version.name
                assert version.artifact_sha is not None
                assert await catalog.artifact(version.artifact_sha)
                seen += 1
        return seen

    try:
        _, seen = await asyncio.gather(write(), read())
        assert seen > 50
    finally:
        await writing.aclose()
        await reading.aclose()


async def test_the_catalog_survives_a_killed_server() -> None:
    with RedisServer() as server:
        client = connect(server)
        catalog = Catalog(client, "test")
        written = await put(catalog, "add", "1")
        server.restart()
        stored = await catalog.get("add")
        assert stored is not None
        assert stored.sha == written.sha
        assert not (await put(catalog, "add", "1")).changed
        await client.aclose()


async def test_every_key_a_script_touches_is_declared_and_in_one_slot(server: RedisServer) -> None:
    """Refuses, on the server, every key that is not in KEYS."""
    from blackboard import _script

    guard = """
local __declared = {}
for _, key in ipairs(KEYS) do __declared[key] = true end
local __call = redis.call
local redis = setmetatable({call = function(command, ...)
  local key = ...
  if key and not __declared[key] then error('undeclared key ' .. tostring(key)) end
  return __call(command, ...)
end}, {__index = redis})
"""
    client = connect(server)
    await client.flushall()
    catalog = Catalog(client, "test")
    names = (
        "catalog_register", "catalog_state", "catalog_versions", "catalog_pointers", "catalog_load", "catalog_sign",
        "catalog_trust", "catalog_revoke", "catalog_keys", "catalog_permit_ask", "catalog_permit_answer", "catalog_permits",
    )  # fmt: skip
    plain = {name: _script.load(name, "_catalog") for name in names}
    saved = {name: (script.text, script.sha) for name, script in plain.items()}
    try:
        for name, script in plain.items():
            guarded = _script.Script(name, guard + script.text)
            script.text, script.sha = guarded.text, guarded.sha
        await put(catalog, "add", "1", exam="{}", verdict="passed")
        await put(catalog, "add", "2")
        await catalog.set_state("add", sha("add1"), "active")
        await catalog.set_state("add", None, "retired")
        await catalog.get("add", sha("add1"))
        await sign_and_revoke(catalog)
        for number, ms in enumerate(("0", "60000")):
            id = str(number)
            asked = [id, ms, "r1", "r1/1.a", "default", "{}", "{}", "w", "1"]
            assert (await catalog.call("catalog_permit_ask", asked))[0] == "waiting"
        assert await catalog.call("catalog_permit_answer", ["1", "approved", "ann", "", "{}"]) == ["1"]
        assert len(await catalog.call("catalog_permits", [""])) == 4, "the one that was over made room"
        pointers = await catalog.pointers()
        await put(catalog, "add", "3")
        assert (await catalog.pointers(pointers.revision)).active == {"add": sha("add3")}
    finally:
        for name, script in plain.items():
            script.text, script.sha = saved[name]
    keys = await client.keys("*")
    assert keys
    assert all(key.startswith("arb:{test/main#reg}:") for key in keys)
    await client.aclose()


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


STEP = st.tuples(
    st.sampled_from(["register", "draft", "pass", "fail", "activate", "retire", "retire_active"]),
    st.sampled_from(["a", "b"]),
    st.integers(0, 2),
    st.booleans(),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=15))
def test_any_sequence_of_calls_keeps_the_invariants(steps: list[tuple[str, str, int, bool]]) -> None:
    """At most one active version of a name, the pointer names it, and the log rebuilds the states (G9)."""

    async def play() -> None:
        client = fakeredis.FakeAsyncRedis(decode_responses=True)
        catalog = Catalog(client, "test")
        held: dict[str, str | None] = {}
        revision: str | None = None
        for number, (what, name, version, twice) in enumerate(steps):
            for _ in range(2 if twice else 1):
                await step(catalog, what, name, version, f"op{number}")
            pointers = await catalog.pointers(revision)
            held, revision = ({} if pointers.full else held) | dict(pointers.active), pointers.revision
            states = await read_states(catalog)
            told = {(change.name, change.sha): change.state for change in await catalog.changes(limit=1000)}
            assert told == states
            assert {key for key, state in states.items() if state == "active"} == {
                (name, one) for name, one in held.items() if one
            }
        await client.aclose()

    asyncio.run(play())


async def step(catalog: Catalog, what: str, name: str, version: int, operation: str) -> None:
    one = sha(name + str(version))
    try:
        match what:
            case "register":
                await put(catalog, name, str(version), operation=operation)
            case "draft":
                await put(catalog, name, str(version), activate=False, operation=operation)
            case "pass":
                await put(
                    catalog, name, str(version), activate=False, exam="[1]", verdict="passed", operation=operation
                )
            case "fail":
                await put(
                    catalog, name, str(version), activate=False, exam="[0]", verdict="failed", operation=operation
                )
            case "activate":
                await catalog.set_state(name, one, "active", operation=operation)
            case "retire":
                await catalog.set_state(name, one, "retired", operation=operation)
            case _:
                await catalog.set_state(name, None, "retired", operation=operation)
    except ScriptRefused:
        pass


async def read_states(catalog: Catalog) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for name in await catalog.names():
        wanted = [(name, one) for one in await catalog.shas(name)]
        for version in await catalog.get_many(wanted):
            assert version is not None
            assert (name, version.sha) not in found
            found[name, version.sha] = version.state
    return found
