"""Example needs from the SDK, the daemon's core and the command line: who is asked, what it costs, what a failure leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, GENERIC_ROLES, add, arbiter, echo
from cli_process import arbiter as command
from cli_process import records

from arbiter import Arbiter, BadInput, Budget, Example, ScriptedModel, capability, illustrating
from arbiter.illustrating import Illustrator
from blackboard.errors import EngineUnavailable, UnknownRecord
from blackboard.testing import RedisServer
from registry import Registry
from registry.illustrating import Illustrating
from wrapper.models.quoting import unquoted

NEEDS = {
    "add": ["what do 3 apples and 4 pears come to", "sum up my two bills", "7 plus 9 please"],
    "echo": ["say it back to me", "repeat after me", "parrot these words"],
    "rows": ["give me a list of 5 things", "a table to play with", "some lines of filler"],
    "broken": ["crash on purpose please", "make it go wrong", "throw a fit for me"],
}
SYSTEM = "^You write how people ask"


def writer(*spoilt: str) -> ScriptedModel:
    """Writes the example needs of each capability; of some the provider refuses to."""

    def turn(messages: list[Any], _: Any) -> str:
        name = json.loads(unquoted(messages[0]["content"][0]["text"]))["name"]
        if name in spoilt:
            raise RuntimeError(f"the provider is out of words for {name}")
        return json.dumps({"needs": NEEDS[name]})

    return ScriptedModel([{"system": SYSTEM, "turns": [turn] * 20}])


def asked(model: ScriptedModel) -> list[str]:
    return [json.loads(unquoted(call.messages[0]["content"][0].get("text", "")))["name"] for call in model.calls]


async def test_what_was_written_is_matched_and_not_asked_for_again(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [], model=writer(), roles=()) as (a, model):
        seen: list[str] = []
        done = await a.illustrate(told=lambda one: seen.append(one.name))
        assert {one.name: one.outcome for one in done} == dict.fromkeys(NEEDS, "written")
        assert sorted(seen) == sorted(asked(model)) == sorted(NEEDS)
        assert all(one.tokens > 0 for one in done)
        assert [each.name for each in await a.registry.shortlist("parrot this")] == ["echo"]
        assert await a.illustrate() == []
        again = await a.illustrate(["add"])
        assert [(one.outcome, list(one.needs)) for one in again] == [("there", NEEDS["add"])]
        assert len(model.calls) == len(NEEDS)
        with pytest.raises(UnknownRecord, match="Did you mean add"):
            await a.illustrate(["ad"])
        with pytest.raises(BadInput, match="list"):
            await a.illustrate("add")
        with pytest.raises(BadInput, match="at_once"):
            await a.illustrate(at_once=0)


async def test_another_model_writes_them_anew_where_it_is_asked_to_by_name(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [], model=writer(), roles=(), capabilities=[add]) as (a, _):
        await a.illustrate()
        other = ScriptedModel([json.dumps({"needs": ["a and b taken together", *NEEDS["add"]]})], label="another")
        async with Arbiter(redis_server.url, other, board=a.board.name, roles=()) as b:
            assert await b.illustrate() == []
            (one,) = await b.illustrate(["add"])
            assert (one.outcome, len(one.needs)) == ("written", 4)
            found = await a.registry.example_needs("add")
            assert found is not None
            assert (found.model, len(found.needs)) == (other.label, 4)


async def test_a_call_that_fails_leaves_the_rest_and_the_next_call_goes_on(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [], model=writer("echo"), roles=()) as (a, _):
        done = {one.name: one for one in await a.illustrate(at_once=1)}
        assert {name: one.outcome for name, one in done.items()} == {
            "add": "written", "broken": "written", "echo": "failed", "rows": "written",
        }  # fmt: skip
        assert "out of words for echo" in done["echo"].why
        async with Arbiter(redis_server.url, writer(), board=a.board.name, roles=()) as b:
            assert [(one.name, one.outcome) for one in await b.illustrate()] == [("echo", "written")]


async def test_failures_in_a_row_end_it(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [], model=writer(*NEEDS), roles=()) as (a, model):
        done = await a.illustrate(at_once=1)
        assert [one.outcome for one in done] == ["failed", "failed", "failed", "left"]
        assert len(model.calls) == 3


async def test_a_budget_is_not_overspent_and_calls_are_on_its_account(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [], model=writer(), roles=()) as (a, model):
        await a.set_budget(Budget(level="board", tokens=1_000_000))
        await a.set_budget(Budget(level="capability:echo", tokens=10))
        done = {one.name: one for one in await a.illustrate(at_once=1)}
        assert [one.outcome for one in done.values()] == ["written", "written", "failed", "left"]
        assert "capability:echo" in done["echo"].why
        (level,) = await a.budgets("board")
        spent = sum(one.tokens for one in done.values())
        assert level.units["tokens"].spent == spent > 0
        assert asked(model) == ["add", "broken"]


async def test_two_at_once_do_not_pay_twice(redis_server: RedisServer) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async with arbiter(redis_server.url, [], model=writer(), roles=(), capabilities=[echo]) as (a, _):
        slow = writer()
        stream = slow.stream

        async def waiting(*given: Any, **more: Any) -> Any:
            begun.set()
            await go_on.wait()
            async for event in stream(*given, **more):
                yield event

        slow.stream = waiting  # pyright: ignore[reportAttributeAccessIssue]
        async with Arbiter(redis_server.url, slow, board=a.board.name, roles=()) as b:
            first = asyncio.create_task(b.illustrate())
            await begun.wait()
            assert [one.outcome for one in await a.illustrate()] == ["taken"]
            go_on.set()
            assert [one.outcome for one in await first] == ["written"]
            begun.clear(), go_on.clear()
            await a.registry.forget_example_needs("echo")
            given_up = asyncio.create_task(b.illustrate())
            await begun.wait()
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert [one.outcome for one in await a.illustrate()] == ["written"], "who was cancelled has let go"


async def test_where_nothing_usable_is_written_nobody_asks_again(redis_server: RedisServer) -> None:
    nothing = ScriptedModel(["no", "no"])
    async with arbiter(redis_server.url, [], model=nothing, roles=(), capabilities=[echo]) as (a, _):
        (one,) = await a.illustrate()
        assert (one.outcome, one.needs) == ("none", ())
        assert "JSON" in one.why
        assert await a.illustrate() == []
        assert [one.outcome for one in await a.illustrate(["echo"])] == ["there"]


async def test_what_has_examples_of_its_own_costs_nothing(redis_server: RedisServer) -> None:
    examples = [Example(input={"text": "x"}, description=f"need {n}") for n in range(3)]
    own = capability(name="own", description="Says it.", examples=examples)(echo.function)
    async with arbiter(redis_server.url, [], model=writer(), roles=(), capabilities=[own]) as (a, model):
        assert await a.illustrate() == []
        assert [one.outcome for one in await a.illustrate(["own"])] == ["enough"]
        assert len(model.calls) == 0


async def test_a_server_that_is_gone_is_no_answer_of_the_model(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> bool:
        raise EngineUnavailable("the server is away")

    async with arbiter(redis_server.url, [], model=writer(), roles=(), capabilities=[echo]) as (a, _):
        monkeypatch.setattr(Illustrating, "illustrate", gone)
        with pytest.raises(EngineUnavailable):
            await a.illustrate()


async def test_a_process_that_was_told_to_writes_what_is_lacking_and_goes_on_with_what_comes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(illustrating, "REST_SECONDS", 0.01)
    kept: asyncio.Queue[str] = asyncio.Queue()
    keep = Registry.illustrate

    async def told(self: Registry, version: Any, *given: Any) -> bool:
        done = await keep(self, version, *given)
        kept.put_nowait(version.name)
        return done

    monkeypatch.setattr(Registry, "illustrate", told)
    options: dict[str, Any] = {"model": writer(), "roles": GENERIC_ROLES, "illustrate": True}
    async with arbiter(redis_server.url, [], capabilities=[add, echo], **options) as (a, model):
        assert {await asyncio.wait_for(kept.get(), 30) for _ in range(2)} == {"add", "echo"}
        await a.register(FUNCTIONS[3])
        assert await asyncio.wait_for(kept.get(), 30) == "rows"
        assert sorted(asked(model)) == ["add", "echo", "rows"]
    async with arbiter(redis_server.url, [], model=writer(), roles=GENERIC_ROLES) as (a, model):
        assert not any(task.get_name() == "illustrating" for task in asyncio.all_tasks()), "off by default"
    with pytest.raises(BadInput, match="illustrate"):
        Arbiter(redis_server.url, roles=("wrapper",), illustrate=True)


async def test_after_a_failure_the_background_rests_for_longer(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rests: list[float] = []
    sleep = asyncio.sleep

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)
        if seconds == illustrating.TROUBLE_SECONDS:
            raise asyncio.CancelledError

    async with arbiter(redis_server.url, [], model=writer("echo"), roles=(), capabilities=[add, echo]) as (a, _):
        found = Illustrator(a.registry, lambda: writer("echo"), a._serving.illustrator(a.board, a.registry)._spending)
        monkeypatch.setattr("arbiter.illustrating.asyncio.sleep", rest)
        with pytest.raises(asyncio.CancelledError):
            await found.keep_illustrated()
    assert illustrating.REST_SECONDS not in rests
    assert "no example needs of echo" in caplog.text


async def test_the_command_writes_shows_and_forgets_them(redis_server: RedisServer, tmp_path: Path) -> None:
    scenes = [{"system": SYSTEM, "turns": [json.dumps({"needs": NEEDS["add"]}), json.dumps({"needs": NEEDS["echo"]})]}]
    (tmp_path / "model.json").write_text(json.dumps({"scenes": scenes}))
    environment = {"ARBITER_REDIS_URL": redis_server.url}
    async with arbiter(redis_server.url, ["hello"], capabilities=[add, echo]) as (a, _):

        async def run(*words: str) -> Any:
            return await asyncio.to_thread(
                command, "capabilities", *words, "--board", a.board.name, cwd=tmp_path, env=environment
            )

        assert (await run("illustrate")).returncode == 2
        assert (await run("illustrate", "add", "--all")).returncode == 2
        written = await run("illustrate", "--all", "--model", "scripted:model.json", "--at-once", "1", "--json")
        assert {line["name"]: line["outcome"] for line in records(written.stdout)} == {
            "add": "written",
            "echo": "written",
        }
        assert "example needs of 2 written, for" in written.stderr
        again = await run("illustrate", "add", "--model", "scripted:model.json")
        assert "add: has example needs already" in again.stdout
        shown = json.loads((await run("show", "add", "--json")).stdout)
        assert shown["example_needs"]["needs"] == NEEDS["add"]
        assert shown["example_needs"]["model"].startswith("scripted")
        assert shown["served"] == {}
        text = (await run("show", "add")).stdout
        assert "Example needs, written by scripted" in text
        assert "not served" in text
        assert "sum up my two bills" in text
        assert "Needs it served" not in text
        assert (await run("forget", "add", "--examples", "--tenant", "acme")).returncode == 2
        assert (await run("forget", "--examples")).returncode == 2
        assert "are forgotten" in (await run("forget", "add", "--examples")).stderr
        assert await a.registry.example_needs("add") is None
