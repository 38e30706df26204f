"""Asking for a better capability than the one that fails: when that is allowed, what is told, and what the run uses then."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import taxshop
from arbiter_support import answers, arbiter, broken, call, completions

from arbiter import Arbiter, ScriptedModel, events
from arbiter.fold import fold
from blackboard.testing import RedisServer
from blackboard.types import Failure, Status
from registry import Manifest, Version

ROLES: Any = ("arbiter", "fabricator", "wrapper")
FAILS = 'def handler(net_cents: int, rate_bp: int = 0) -> dict[str, int]:\n    raise KeyError("no such rate")\n'
HALF = FAILS.replace("    raise", "    if rate_bp:\n        return {}\n    raise")
ASKED = call("request_capability", name="add_tax", need="Add tax to a net amount in cents, at a rate in basis points.")
NET = {"net_cents": 1000, "rate_bp": 2000}


async def there(a: Arbiter, source: str = FAILS, sign: bool = True, **changes: Any) -> Version:
    """A capability of the tenant that was written before."""
    about = taxshop.SPEC | {"description": "Add tax, as it was first understood.", "output_schema": {"type": "object"}}
    kept = ("name", "description", "input_schema", "output_schema")
    made = Manifest(**{**{each: about[each] for each in kept}, "tenant": "default", **changes})
    return await a.registry.register(made, source=source, sign=sign)


async def test_a_better_one_is_asked_for_made_and_used_when_the_one_there_is_fails(redis_server: RedisServer) -> None:
    maker = taxshop.script(taxshop.RIGHT)
    tried = [call("add_tax", **NET), call("add_tax", net_cents=5)]
    turns = [tried, ASKED, call("add_tax", **NET), "{{ results.add_tax.total_cents }}"]
    async with arbiter(redis_server.url, turns, roles=ROLES, fabricator_model=maker, capabilities=()) as (a, _):
        old = await there(a)
        result = await a.run("Add tax.", timeout=60)
        assert (result.answer, result.status) == ("1200", "succeeded")
        new = await a.registry.resolve("add_tax")
    assert result.state.pins == {"add_tax": new.sha}
    assert [task.version for task in result.state.work if task.kind == "capability"] == [old.sha, old.sha, new.sha]
    making = completions(result)["fabricate_add_tax"]
    assert (making.data["version"], making.data["reused"]) == (new.sha, False)
    (given,) = [task.input for task in result.state.work if task.kind == "fabrication"]
    assert given["replaces"] == old.sha
    assert given["failures"] == [
        {"input": of, "error": "handler_error", "message": "KeyError: 'no such rate'"}
        for of in ({"net_cents": "integer", "rate_bp": "integer"}, {"net_cents": "integer"})
    ]
    assert "no such rate" in str(maker.calls[1].messages)


async def test_what_nobody_vouches_for_any_more_is_made_anew_when_a_run_asks(redis_server: RedisServer) -> None:
    turns = [ASKED, call("add_tax", **NET), "{{ results.add_tax.total_cents }}"]
    given: Any = {"roles": ROLES, "fabricator_model": taxshop.script(taxshop.RIGHT), "capabilities": ()}
    async with arbiter(redis_server.url, turns, **given) as (a, _):
        old = await there(a, sign=False)
        result = await a.run("Add tax.", timeout=60)
        assert (result.answer, (await a.registry.resolve("add_tax")).sha != old.sha) == ("1200", True)


@pytest.mark.parametrize(
    ("tried", "source", "changes", "said"),
    [
        ([], FAILS, {}, "failed 0 of 0"),
        ([call("add_tax", net_cents=5)], FAILS, {}, "failed 1 of 1"),
        ([call("add_tax", net_cents=5), call("add_tax", **NET)], HALF, {}, "failed 1 of 2"),
        ([call("add_tax", net_cents=5)] * 2, FAILS, {"tenant": "*"}, "not this tenant's own"),
    ],
    ids=["not called", "called once", "succeeded once", "everybody's"],
)
async def test_one_that_did_not_fail_enough_is_not_replaced_and_the_model_is_told_why(
    redis_server: RedisServer, tried: list[Any], source: str, changes: Any, said: str
) -> None:
    turns = [*([tried] if tried else []), ASKED, "No."]
    async with arbiter(redis_server.url, turns, roles=ROLES, capabilities=()) as (a, model):
        await there(a, source, **changes)
        result = await a.run("Add tax.", timeout=60)
    assert not [task for task in result.state.work if task.kind == "fabrication"]
    answer = str(answers(result)[-1])
    assert "add_tax exists already: call it, or choose another name" in answer
    assert said in answer
    assert answer.endswith("Nothing was requested.")
    assert "exists already" in json.dumps(model.calls[-1].messages[-1])


async def test_a_function_of_a_program_is_not_replaced(redis_server: RedisServer) -> None:
    asked = call("request_capability", name="broken", need="Do what broken does, without failing.")
    turns = [[call("broken", reason="a"), call("broken", reason="b")], asked, "No."]
    async with arbiter(redis_server.url, turns, roles=ROLES, capabilities=(broken,)) as (a, _):
        result = await a.run("Try.", timeout=60)
    assert "lives in a program" in str(answers(result)[-1])


@pytest.mark.parametrize("kind", ["input_schema", "model_error", "deadline"])
async def test_what_others_did_is_no_failure_of_what_is_called(redis_server: RedisServer, kind: str) -> None:
    turns = [[call("add_tax", net_cents=5), call("add_tax", net_cents=6)], ASKED, "No."]
    async with arbiter(redis_server.url, turns, roles=("arbiter",), capabilities=()) as (a, _):
        await there(a)
        run, done = await a.submit("Add tax."), 0
        async with asyncio.timeout(60):
            while done < 2:
                await a.board.wait_for_work(["generic"], 1)
                for claim in await a.board.claim("w", ["generic"]):
                    error = Failure(type=kind, message="No.")
                    await a.board.complete(claim, claim.completion(Status.FAILED, error=error))
                    done += 1
        result = await a.result(run, timeout=60)
    assert "failed 0 of 0" in str(answers(result)[-1])


async def test_one_that_was_retired_since_the_run_used_it_is_made_anew(redis_server: RedisServer) -> None:
    class Meanwhile(ScriptedModel):
        async def stream(self, *args: Any, **more: Any) -> Any:
            if len(self.calls) == 1:
                await a.registry.retire("add_tax", reason="it fails")
            async for event in super().stream(*args, **more):
                yield event

    model = Meanwhile(
        [call("add_tax", net_cents=5), ASKED, call("add_tax", **NET), "{{ results.add_tax.total_cents }}"]
    )
    maker = taxshop.script(taxshop.RIGHT)
    async with arbiter(redis_server.url, [], model=model, roles=ROLES, fabricator_model=maker, capabilities=()) as (
        a,
        _,
    ):
        await there(a)
        assert (await a.run("Add tax.", timeout=60)).answer == "1200"
    assert "no such rate" in str(maker.calls[1].messages)


async def test_a_run_whose_version_was_gone_back_from_meanwhile_uses_the_one_that_is_active(
    redis_server: RedisServer,
) -> None:
    tried = [call("add_tax", net_cents=5), call("add_tax", **NET)]
    turns = [tried, ASKED, call("add_tax", **NET), "{{ results.add_tax.total_cents }}"]

    class Meanwhile(ScriptedModel):
        async def stream(self, *args: Any, **more: Any) -> Any:
            if len(self.calls) == 1:
                await a.registry.activate("add_tax", old.sha)
            async for event in super().stream(*args, **more):
                yield event

    async with arbiter(redis_server.url, [], model=Meanwhile(turns), roles=ROLES, capabilities=()) as (a, _):
        old = await there(a, taxshop.RIGHT)
        await there(a, FAILS, description="Add tax, better.")
        result = await a.run("Add tax.", timeout=60)
        log = await a.board.history(result.run_id)
    asked = [number for number, event in enumerate(log) if isinstance(event, events.RoundPlanned)][1]
    assert fold(result.run_id, log[:asked]).pins == {"add_tax": result.state.work[0].version}
    assert fold(result.run_id, log[: asked + 1]).pins == {}
    assert "has another version by now" in str(answers(result)[0])
    assert result.answer == "1200"
    assert result.state.pins == {"add_tax": old.sha}
