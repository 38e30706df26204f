"""Putting dead letters back: as a program and as a person does it, once however often and whoever dies in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import taxshop
from arbiter_support import FUNCTIONS, arbiter, call
from cli_process import arbiter as command
from cli_process import records

from arbiter import Arbiter, BadInput, Call, Limits, ScriptedModel, UnknownRecord, capability
from arbiter.dead_letters import DeadLetters
from blackboard.errors import EngineUnavailable
from blackboard.testing import RedisServer
from fabricator import FabricationSettings

UNASKED = ["never asked"]


def shop(broken: bool, version: int = 1) -> Any:
    """A capability that fails while something is wrong with the world; ``version`` makes it another version."""

    @capability(name="shop", description=f"Sells things, version {version}.", effects="pure")
    def sell(item: str) -> str:
        if broken:
            raise RuntimeError("the till is stuck")
        return f"{item} sold by {version}"

    return sell


async def test_a_task_that_was_given_up_becomes_a_call_with_the_same_input_and_the_active_version(
    redis_server: RedisServer,
) -> None:
    turns = [call("shop", item="tea"), "It could not be sold."]
    limits = Limits(task_seconds=77)
    async with arbiter(redis_server.url, turns, capabilities=(shop(True),)) as (a, _):
        first = await a.run("Sell tea.", tenant="acme", limits=limits, timeout=60)
        assert first.status == "succeeded"  # the planner dealt with it; the work was given up all the same
        (letter,) = (await a.dead_letters.list()).letters
        full = await a.dead_letters.get(letter.id)
        assert (letter.id, letter.type, full.payload) == (f"{first.run_id}/1.shop", "handler_error", {"item": "tea"})
        assert full.error is not None
        assert "the till is stuck" in full.error.message

        await a.register(shop(False, version=2))
        run_id = await a.dead_letters.redrive(letter.id)
        result = await a.result(run_id, timeout=60)
        assert (result.status, result.data) == ("succeeded", "tea sold by 2")
        assert (result.state.redrive_of, result.state.tenant) == (letter.id, "acme")
        assert result.state.limits.model_dump() == limits.model_dump()
        assert (await a.dead_letters.header(letter.id)).redriven_as == run_id

        assert await a.dead_letters.redrive(letter.id) == run_id
        another = await a.dead_letters.redrive(letter.id, again=True)
        assert another != run_id
        assert (await a.result(another, timeout=60)).ok
        same = await a.dead_letters.redrive(letter.id, again=True, same_version=True)
        refused = await a.result(same, timeout=60)
    # This program has the second version only, and the call is pinned to the first.
    assert refused.error is not None
    assert refused.error.type == "hash_mismatch"


async def test_a_fabrication_that_was_given_up_is_made_after_all(redis_server: RedisServer) -> None:
    """With a fabricator that has learned better meanwhile; what it makes can be called."""
    asked = call("request_capability", name="add_tax", need="Add tax to a net amount in cents.")
    roles: Any = ("arbiter", "fabricator", "wrapper")
    bad = taxshop.script(taxshop.WRONG)
    once = FabricationSettings(repairs=0)
    async with arbiter(
        redis_server.url, [asked, "It could not be made."], roles=roles, fabricator_model=bad, fabrication=once
    ) as (a, _):
        assert (await a.run("Add tax.", timeout=60)).status == "succeeded"
        (letter,) = (await a.dead_letters.list()).letters
        assert (letter.kind, letter.type) == ("fabrication", "fabrication_failed")
        board = a.board.name
    good = taxshop.script(taxshop.RIGHT)
    async with Arbiter(redis_server.url, ScriptedModel(UNASKED), board=board, fabricator_model=good) as a:
        run_id = await a.dead_letters.redrive(letter.id)
        made = await a.result(run_id, timeout=60)
        assert made.ok, made.error
        assert (made.data["capability"], made.state.redrive_of) == ("add_tax", letter.id)
        assert await a.dead_letters.redrive(letter.id) == run_id
        called = await a.run(Call("add_tax", {"net_cents": 1000, "rate_bp": 2000}), timeout=60)
        assert called.data == {"total_cents": 1200, "tax_cents": 200}


async def test_a_run_that_failed_becomes_a_run_with_the_same_request(redis_server: RedisServer) -> None:
    silent = [True]
    async with arbiter(redis_server.url, [lambda *_: "" if silent else "Well."], capabilities=()) as (a, _):
        failed = await a.run({"order": 1}, timeout=60)
        assert (failed.status, failed.error and failed.error.type) == ("failed", "empty_answer")
        silent.clear()
        run_id = await a.dead_letters.redrive(failed.run_id)
        result = await a.result(run_id, timeout=60)
    assert (result.answer, result.state.request, result.state.redrive_of) == ("Well.", {"order": 1}, failed.run_id)


async def test_g4_many_who_put_a_letter_back_at_once_make_one_run(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED, capabilities=(shop(True),)) as (a, _):
        failed = await a.run(Call("shop", {"item": "tea"}), timeout=60)
        letters = a.dead_letters
        made = await asyncio.gather(*(letters.redrive(failed.run_id, same_version=n % 2 == 0) for n in range(10)))
        assert len(set(made)) == 1
        assert len(await a.runs()) == 2
        assert (await letters.header(failed.run_id)).redriven == 1


async def test_g4_a_redrive_that_dies_before_it_could_tell_makes_one_run(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with arbiter(redis_server.url, UNASKED, capabilities=(shop(True),)) as (a, _):
        failed = await a.run(Call("shop", {"item": "tea"}), timeout=60)
        letters = a.dead_letters

        async def dies(*_: object) -> None:
            raise EngineUnavailable("killed")

        with monkeypatch.context() as patch:
            patch.setattr(DeadLetters, "mark", dies)
            with pytest.raises(EngineUnavailable):
                await letters.redrive(failed.run_id)
        assert (await letters.header(failed.run_id)).redriven_as is None
        (made,) = {run.id for run in await a.runs()} - {failed.run_id}
        await a.registry.retire("shop")  # not even what changed meanwhile makes another one of it
        assert await letters.redrive(failed.run_id) == made
        assert (await letters.header(failed.run_id)).redriven_as == made


async def test_many_are_put_back_by_a_filter_and_one_that_cannot_be_stops_none(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED, capabilities=(*FUNCTIONS, shop(True))) as (a, _):
        sold = [(await a.run(Call("shop", {"item": f"{n}"}), timeout=60)).run_id for n in range(3)]
        other = (await a.run(Call("broken", {"reason": "x"}), timeout=60)).run_id
        assert [one.letter.id async for one in a.dead_letters.redrive_where("capability=shop", dry_run=True)] == sold[
            ::-1
        ]
        assert len(await a.runs()) == 4
        await a.register(shop(False, version=2))
        await a.registry.retire("broken")
        told = [one async for one in a.dead_letters.redrive_where("kind=call", limit=10)]
        for one in told:
            if one.run_id is not None:
                assert (await a.result(one.run_id, timeout=60)).ok
        assert {one.letter.id: one.problem == "" for one in told} == {other: False, **dict.fromkeys(sold, True)}
        assert "broken" in next(one.problem for one in told if one.problem)
        assert [one.letter.id async for one in a.dead_letters.redrive_where(dry_run=True)] == [other]
        with pytest.raises(BadInput, match="where"):
            await anext(a.dead_letters.redrive_where("colour=red"))


async def test_a_letter_that_cannot_be_put_back_says_why(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED, capabilities=(shop(True),)) as (a, _):
        with pytest.raises(UnknownRecord, match=r"no dead letter 'r1/1\.a'"):
            await a.dead_letters.redrive("r1/1.a")
        failed = await a.run(Call("shop", {"item": "tea"}), timeout=60)

        @capability(name="shop", effects="pure")
        def sell(item: int) -> int:
            """Sell by number."""
            return item

        await a.register(sell)
        with pytest.raises(BadInput, match=r"call\.input"):
            await a.dead_letters.redrive(failed.run_id)
        assert (await a.dead_letters.header(failed.run_id)).redriven == 0
        assert await a.dead_letters.discard(failed.run_id) == 1


async def test_letters_show_themselves_as_a_table(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED, capabilities=(shop(True),)) as (a, _):
        await a.run(Call("shop", {"item": "tea"}), timeout=60)
        page = await a.dead_letters.list()
    bundle = page._repr_mimebundle_()
    assert "<table" in bundle["text/html"]
    for text in bundle.values():
        assert "shop" in text
        assert "handler_error" in text


def test_the_commands_list_show_put_back_and_discard(redis_server: RedisServer, board_name: str) -> None:
    on = ["--url", redis_server.url, "--board", board_name]

    async def play() -> None:
        def run(*words: str) -> Any:
            return asyncio.to_thread(command, "dead", *words, *on)

        async with Arbiter(redis_server.url, board=board_name, capabilities=[shop(True)], roles=()) as a:
            ids = [(await a.run(Call("shop", {"item": f"tea{n}"}), timeout=60)).run_id for n in range(3)]
            listed = await run("list", "--json", "--where", "capability=shop", "--limit", "2")
            assert [letter["id"] for letter in records(listed.stdout)] == ids[:0:-1]
            assert "--after" in listed.stderr
            shown = (await run("list")).stdout
            assert all(word in shown for word in (*ids, "shop", "handler_error", "failed"))
            shown = (await run("show", ids[0])).stdout
            assert all(word in shown for word in ("tea0", "the till is stuck", "attempt 1"))
            (full,) = records((await run("show", ids[0], "--json")).stdout)
            assert full["payload"] == {"item": "tea0"}

            rehearsed = await run("redrive", "--where", "", "--dry-run")
            assert "3 dead letters would be put back" in rehearsed.stderr
            assert len(await a.runs()) == 3
            await a.register(shop(False, version=2))
            done = await run("redrive", ids[0], "--json")
            (told,) = records(done.stdout)
            assert (await a.result(told["run_id"], timeout=60)).data == "tea0 sold by 2"
            done = await run("redrive", "--where", "redriven=no")
            assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
            assert "2 dead letters put back" in done.stderr
            await a.registry.retire("shop")
            done = await run("redrive", "--where", "kind=call", "--again", "--limit", "1")
            assert done.returncode == 1
            assert "1 could not be" in done.stderr

            for words in (("redrive",), ("discard",), ("discard", ids[0], "--where", "")):
                refused = await run(*words)
                assert (refused.returncode, "--where" in refused.stderr) == (2, True), words
            assert (await run("show", "r1")).returncode == 2
            assert (await run("list", "--where", "colour=red")).returncode == 2
            assert "1 dead letter would be discarded" in (await run("discard", ids[0], "--dry-run")).stderr
            assert "1 dead letter discarded" in (await run("discard", ids[0])).stderr
            assert "2 dead letters discarded" in (await run("discard", "--where", "capability=shop")).stderr
            assert "no dead letters" in (await run("list")).stderr

    asyncio.run(play())
