"""What a board can do, as a table: how versions did, whether they are well, harmless in a notebook."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from arbiter_support import FUNCTIONS, arbiter, call
from cli_process import arbiter as command
from cli_process import records

from arbiter.overview import Capabilities, CapabilityRow, overview
from blackboard.testing import RedisServer
from registry import Manifest, Registry

CODE = "def handler() -> None:\n    pass\n"
EVIL = "<script>alert('x')</script>"


def manifest(name: str, description: str) -> Manifest:
    return Manifest(name=name, description=description, input_schema={"type": "object"})


async def test_each_capability_says_how_it_did_and_whether_it_is_well(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    turns = [[call("add", a=1, b=2), *[call("broken", reason="no")] * 4], "done"]
    async with arbiter(redis_server.url, turns, capabilities=FUNCTIONS) as (a, _):
        await a.run("Try all.", timeout=60)
        for about in ("first", "second"):
            await a.registry.register(manifest("made", about), source=CODE, sign=False)
        registry = Registry(a.board.catalog, a.board.outcomes, spent=a.board.spent)
        found = {row.name: row for row in await overview(registry)}
        assert (found["add"].calls, found["add"].success, found["add"].health) == (1, 1.0, "well")
        assert found["add"].seconds is not None
        assert (found["broken"].calls, found["broken"].success, found["broken"].health) == (4, 0.0, "failing")
        assert found["broken"].why == "4 of 4 tasks failed"
        assert (found["echo"].calls, found["echo"].success, found["echo"].health) == (0, None, "new")
        assert (found["made"].versions, found["made"].health) == (2, "unsigned")
        signed = await a.registry.register(manifest("signed", "as it is"), source=CODE)
        assert {row.name: row.health for row in await overview(registry)}["signed"] == "new"
        assert signed.signature is not None
        await a.registry.trust.revoke(signed.signature.key, by="me")
        row = {row.name: row for row in await overview(registry)}["signed"]
        assert (row.health, signed.signature.key in row.why) == ("unsigned", True)
        every = [(row.name, row.state, row.health) for row in await overview(registry, every=True)]
        assert ("made", "retired", "retired") in every
        await a.registry.retire("echo", by="ann@host")
        (away,) = [row for row in await overview(registry, every=True) if row.name == "echo"]
        assert (away.health, away.why) == ("retired", "by ann@host")
        await a.registry.activate("echo", away.sha)
        assert len(every) == len(found) + 2
        assert {row.name for row in await a.capabilities()} == {*found, "signed"}
        board = a._options["board"]

        def run(*words: str) -> str:
            env = {"ARBITER_REDIS_URL": redis_server.url, "COLUMNS": "200"}
            return command("capabilities", *words, "--board", board, cwd=tmp_path, env=env).stdout

        told = {one["name"]: one for one in records(await asyncio.to_thread(run, "--json"))}
        assert (told["broken"]["health"], told["broken"]["success"], told["made"]["versions"]) == ("failing", 0.0, 2)
        assert told["add"]["outcomes"] == {"succeeded": 1}
        table = await asyncio.to_thread(run, "--all")
        assert "HEALTH" in table
        assert "of 2" in table
        assert "100 %" in table


def test_a_table_in_a_notebook_is_harmless_and_says_the_same_as_text() -> None:
    row = CapabilityRow(
        name=EVIL, sha="a" * 64, state="active", versions=3, kind=EVIL, effects="pure", calls=4, success=0.75, seconds=1.5,
        tokens=1234.0, health="away", why=EVIL, description=EVIL,
    )  # fmt: skip
    shown = Capabilities([row])._repr_mimebundle_()
    assert "<script>" not in shown["text/html"]
    for part in ("aaaaaaaaaaaa of 3", "75 %", "1.5", "1,234", "away"):
        assert part in shown["text/html"]
    assert "away" in shown["text/plain"]
    assert Capabilities()._repr_mimebundle_()["text/plain"] == "no capabilities"
    assert json.dumps(row.model_dump(mode="json"))


async def test_only_what_the_tenant_may_use_is_listed(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["x"], capabilities=(), tenant="rival") as (a, _):
        hidden = manifest("hidden", "of acme").model_copy(update={"tenant": "acme"})
        await a.registry.register(hidden, source=CODE)
        assert await a.capabilities() == []
        assert [row.name for row in await a.capabilities("acme")] == ["hidden"]
        with pytest.raises(StopIteration):
            next(iter(await a.capabilities(every=True)))
