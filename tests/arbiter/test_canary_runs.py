"""Planned runs and canaries: each run is on one side for all of its rounds, and whoever had a version made uses it at once."""

from __future__ import annotations

from typing import Any

import pytest
import taxshop
from arbiter_support import answers, arbiter, call, completions
from test_replacing import ASKED, FAILS, NET, ROLES, there

from arbiter import Arbiter, Call, ScriptedModel
from blackboard.testing import RedisServer
from registry import Version, canary

WORKS = taxshop.RIGHT


async def proven(a: Arbiter, source: str = WORKS) -> Version:
    """An active version that did well for others."""
    old = await there(a, WORKS if source == WORKS else source)
    for number in range(4):
        assert (await a.run(Call("add_tax", {"net_cents": number}), timeout=60)).status == "succeeded"
    return old


def everybody(monkeypatch: pytest.MonkeyPatch, on: bool) -> None:
    """Every run is on this side."""
    monkeypatch.setattr(canary, "tries", lambda run, name, share: on)


async def test_a_run_is_on_one_side_whatever_becomes_of_the_canary_while_it_goes_on(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody(monkeypatch, True)

    class Meanwhile(ScriptedModel):
        async def stream(self, *args: Any, **more: Any) -> Any:
            if len(self.calls) == 1:
                await a.registry.retire("add_tax", new.sha, reason="enough")
            async for event in super().stream(*args, **more):
                yield event

    model = Meanwhile([call("add_tax", **NET), call("add_tax", **NET), "done"])
    async with arbiter(redis_server.url, [], model=model, roles=ROLES, capabilities=()) as (a, _):
        old = await proven(a)
        new = await there_too(a, WORKS)
        result = await a.run("Add tax.", timeout=60)
        assert [task.version for task in result.state.work] == [new.sha, new.sha]
        assert result.state.pins == {"add_tax": new.sha}
        assert "Add tax, better." in str(model.calls[0].tool_specs)
        assert (await a.registry.resolve("add_tax")).sha == old.sha


async def there_too(a: Arbiter, source: str) -> Version:
    """A canary beside it."""
    made = (await a.registry.resolve("add_tax")).manifest.model_copy(update={"description": "Add tax, better."})
    found = await a.registry.register(made, source=source, canary=0.5)
    assert found.state == "canary"
    return found


@pytest.mark.parametrize("number", range(3))
async def test_which_side_a_run_is_on_follows_from_its_id(redis_server: RedisServer, number: int) -> None:
    turns = [call("add_tax", **NET), "done"]
    async with arbiter(redis_server.url, turns, roles=ROLES, capabilities=()) as (a, _):
        old = await proven(a)
        new = await there_too(a, WORKS)
        result = await a.run("Add tax.", timeout=60)
        side = new if canary.tries(result.run_id, "add_tax", 0.5) else old
        assert [task.version for task in result.state.work] == [side.sha]


async def test_what_was_made_for_a_run_is_used_by_it_at_once_and_tried_by_others(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody(monkeypatch, False)
    half = 'def handler(net_cents: int, rate_bp: int = 0) -> dict[str, int]:\n    return {"n": 1 // (not rate_bp)}\n'
    tried = [call("add_tax", **NET), call("add_tax", **NET)]
    turns = [tried, ASKED, call("add_tax", **NET), "{{ results.add_tax.total_cents }}"]
    given: Any = {"roles": ROLES, "fabricator_model": taxshop.script(WORKS), "capabilities": ()}
    async with arbiter(redis_server.url, turns, **given) as (a, _):
        old = await proven(a, half)
        result = await a.run("Add tax.", timeout=60)
        assert result.answer == "1200"
        new = completions(result)["fabricate_add_tax"].data["version"]
        assert [task.version for task in result.state.work if task.kind == "capability"] == [old.sha, old.sha, new]
        assert (await a.registry.resolve("add_tax", new)).trial is not None
        assert (await a.registry.resolve("add_tax")).sha == old.sha
        assert (await a.run(Call("add_tax", {"net_cents": 1}), timeout=60)).state.work[0].version == old.sha


async def test_without_a_share_what_was_made_takes_the_place_at_once(redis_server: RedisServer) -> None:
    from fabricator import FabricationSettings

    half = 'def handler(net_cents: int, rate_bp: int = 0) -> dict[str, int]:\n    return {"n": 1 // (not rate_bp)}\n'
    tried = [call("add_tax", **NET), call("add_tax", **NET)]
    turns = [tried, ASKED, call("add_tax", **NET), "done"]
    given: Any = {
        "roles": ROLES, "fabricator_model": taxshop.script(WORKS), "capabilities": (),
        "fabrication": FabricationSettings(canary=0),
    }  # fmt: skip
    async with arbiter(redis_server.url, turns, **given) as (a, _):
        old = await proven(a, half)
        await a.run("Add tax.", timeout=60)
        assert (await a.registry.resolve("add_tax")).sha != old.sha


async def test_a_run_that_its_canary_fails_goes_back_to_the_active_version_and_has_none_made(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody(monkeypatch, True)
    tried = [call("add_tax", **NET), call("add_tax", net_cents=5)]
    turns = [tried, ASKED, call("add_tax", **NET), "{{ results.add_tax.total_cents }}"]
    async with arbiter(redis_server.url, turns, roles=ROLES, capabilities=(), reflect=False) as (a, _):
        old = await proven(a)
        new = await there_too(a, FAILS)
        result = await a.run("Add tax.", timeout=60)
        assert [task.version for task in result.state.work] == [new.sha, new.sha, old.sha]
    assert "was on trial; the version before it is used from the next turn on" in str(answers(result)[0])
    assert result.answer == "1200"
    assert result.state.pins == {"add_tax": old.sha}
