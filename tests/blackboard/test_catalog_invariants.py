"""What holds of the catalog at any moment, after any calls, and of every script of it."""

from __future__ import annotations

import asyncio
import json

import catalog_support
import fakeredis
from catalog_support import connect, put, sha, sign_and_revoke
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackboard.catalog import Catalog
from blackboard.catalog_records import Sharing
from blackboard.errors import ScriptRefused
from blackboard.testing import RedisServer
from blackboard.trust import Trust

server = catalog_support.server


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
        await put(catalog, "add", "2", canary=SHARE)
        await catalog.set_state("add", sha("add2"), "retired")
        await catalog.set_state("add", sha("add2"), "canary", canary=SHARE)
        await catalog.set_state("add", sha("add2"), "active")
        await catalog.set_state("add", sha("add1"), "canary", canary=SHARE)
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


SHARE = Sharing(0.5, (1, 2, 3, 4))
STEP = st.tuples(
    st.sampled_from(
        ["register", "draft", "pass", "fail", "activate", "retire", "retire_active", "canary", "try", "revoke", "again"]
    ),
    st.sampled_from(["a", "b"]),
    st.integers(0, 2),
    st.booleans(),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEP, max_size=15))
def test_any_sequence_of_calls_keeps_the_invariants(steps: list[tuple[str, str, int, bool]]) -> None:
    """At most one active version of a name, the pointer names it, its canary has that state, and the log rebuilds them (G9)."""

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
            found = {each: await catalog.get(*each) for each in states}
            assert {
                (name, one.canary) for (name, _), one in found.items() if one and one.canary and one.state == "active"
            } == {key for key, state in states.items() if state == "canary"}
            assert {key for key, one in found.items() if one and one.trial} == {
                key for key, state in states.items() if state == "canary"
            }
            assert {states[key] for key, one in found.items() if one and one.retired_for} <= {"retired"}
            for name in await client.hkeys("arb:{test/main#reg}:withdrawn"):
                assert held.get(name) is None, "what is active is not withdrawn"
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
            case "canary":
                await put(catalog, name, str(version), canary=SHARE, operation=operation)
            case "try":
                await catalog.set_state(name, one, "canary", canary=SHARE, operation=operation)
            case "revoke":
                await Trust(catalog).revoke_version(name, one, by="ann")
            case "retire":
                await catalog.set_state(name, one, "retired", operation=operation, decided=("retired", "ann"))
            case "again":
                await put(catalog, name, str(version), operation=operation, unasked=True)
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
