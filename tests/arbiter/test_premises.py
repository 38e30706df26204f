"""A task whose entry is retracted, amended or contradicted while it runs is stopped where its trigger says so."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from arbiter_support import arbiter, call

from arbiter import (
    AgendaTerms,
    Arbiter,
    Grants,
    Inquiry,
    Posting,
    Query,
    RunResult,
    ScriptedModel,
    TopicGrants,
    Trigger,
    capability,
)
from blackboard.agenda import Agenda
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.invariants import faults
from blackboard.testing import RedisServer
from wrapper import sdk

GRANTS = Grants(topics=TopicGrants(read=("claims.*",), write=("claims.*", "done")))
ALL = ("retracted", "amended", "contradicted")


class Slow:
    """A source that works on a claim until it is let go; it remembers what it saw."""

    def __init__(self, *stop_when: Any) -> None:
        self.began, self.let_go = asyncio.Event(), asyncio.Event()
        self.seen: list[Any] = []

        @capability(
            name="slow", effects="writes", grants=GRANTS,
            triggers=[Trigger(topic="claims.a", bind={"amount": "content.amount"}, stop_when=stop_when)],
        )  # fmt: skip
        async def slow(amount: int) -> int:
            """Work on a claim."""
            self.seen.append(amount)
            self.began.set()
            await self.let_go.wait()
            await sdk.call_async("entry.post", {"topic": "done", "content": amount})
            return amount

        self.source = slow


async def begun(a: Arbiter, slow: Slow, **terms: Any) -> tuple[str, Entry]:
    """A run in which the source works on the claim: its id, and the claim."""
    until = AgendaTerms(until=Query(topic="done"), **terms)
    run_id = await a.submit(Inquiry([Posting("claims.a", {"amount": 1})], until))
    await asyncio.wait_for(slow.began.wait(), 30)
    slow.began.clear()
    (claim,) = (await a.entries.within(f"run:{run_id}").query("claims.a")).entries
    return run_id, claim


async def stopped(a: Arbiter, run_id: str) -> RunResult:
    """The run, which has to end by itself."""
    result = await a.result(run_id, timeout=60)
    assert await faults(a.board) == []
    return result


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_task_is_cancelled_when_its_entry_is_retracted(redis_server: RedisServer, concurrency: int) -> None:
    slow = Slow("retracted")
    async with arbiter(redis_server.url, ["unused"], capabilities=(slow.source,)) as (a, _):
        run_id, claim = await begun(a, slow, concurrency=concurrency)
        await a.entries.within(f"run:{run_id}").retract(claim.id, "it was a mistake")
        result = await stopped(a, run_id)
    (task,) = result.state.work
    assert task.completion is not None
    assert task.completion.status == "cancelled"
    assert task.stopping == f"the entry it was made from was retracted: {claim.id}"
    assert (result.status, result.error and result.error.type) == ("failed", "stagnation")


async def test_g5_a_retraction_while_control_picks_is_not_lost(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, decide, retracted = Slow("retracted"), Agenda.decide, list[str]()

    async def late(self: Agenda, claim: Any, number: int, told: Any, picks: Any, **more: Any) -> None:
        if picks and not retracted:
            entries = Entries(a.board, f"run:{self.run_id}")
            (claim_,) = (await entries.query("claims.a")).entries
            retracted.append((await entries.retract(claim_.id)).id)
        await decide(self, claim, number, told, picks, **more)

    monkeypatch.setattr(Agenda, "decide", late)
    async with arbiter(redis_server.url, ["unused"], capabilities=(slow.source,)) as (a, _):
        result = await a.run(Inquiry([Posting("claims.a", {"amount": 1})], AgendaTerms()), timeout=60)
        assert await faults(a.board) == []
    (task,) = result.state.work
    assert retracted
    assert task.completion is not None
    assert task.completion.status == "cancelled"


async def test_a_task_is_stopped_when_its_entry_is_amended_and_what_it_says_now_is_worked_on(
    redis_server: RedisServer,
) -> None:
    slow = Slow("amended")
    async with arbiter(redis_server.url, ["unused"], capabilities=(slow.source,)) as (a, _):
        run_id, claim = await begun(a, slow, concurrency=1)
        await a.entries.within(f"run:{run_id}").amend(claim.id, {"amount": 2})
        await asyncio.wait_for(slow.began.wait(), 30)
        slow.let_go.set()
        result = await stopped(a, run_id)
    assert slow.seen == [1, 2]
    assert (result.status, result.answer) == ("succeeded", "2")
    assert [task.completion and task.completion.status.value for task in result.state.work] == [
        "cancelled",
        "succeeded",
    ]


async def test_a_task_is_cancelled_when_its_entry_is_contradicted(redis_server: RedisServer) -> None:
    slow = Slow("contradicted")
    async with arbiter(redis_server.url, ["unused"], capabilities=(slow.source,)) as (a, _):
        run_id, claim = await begun(a, slow)
        entries = a.entries.within(f"run:{run_id}")
        await entries.post("claims.b", {"amount": 3}, links=[("supports", claim.id)])
        doubt = await entries.post("claims.b", {"amount": 2}, links=[("contradicts", claim.id)])
        result = await stopped(a, run_id)
    (task,) = result.state.work
    assert task.completion is not None
    assert task.completion.status == "cancelled"
    assert task.stopping == f"the entry it was made from is contradicted by {doubt.id}"


@pytest.mark.parametrize("fact", ALL)
async def test_a_task_is_cancelled_when_what_its_entry_is_derived_from_is_lost(
    redis_server: RedisServer, fact: str
) -> None:
    slow = Slow(fact)
    async with (
        arbiter(redis_server.url, ["unused"], capabilities=(slow.source,), roles=()) as (a, _),
        AsyncExitStack() as processes,
    ):
        run_id = await a.submit(Inquiry([Posting("letters", 1)], AgendaTerms(until=Query(topic="done"))))
        entries = a.entries.within(f"run:{run_id}")
        letter = await entries.post("letter", "120, please")
        read = await entries.post("read", 120, links=[("derived_from", letter.id)])
        claim = await entries.post("claims.a", {"amount": 120}, links=[("derived_from", read.id)])
        await processes.enter_async_context(
            Arbiter(
                redis_server.url, ScriptedModel(["unused"]), board=a.board.name, roles=["arbiter"],
                capabilities=[slow.source], grace_seconds=1.0,
            )
        )  # fmt: skip
        await asyncio.wait_for(slow.began.wait(), 30)
        if fact == "retracted":
            await entries.retract(letter.id)
        elif fact == "amended":
            await entries.amend(letter.id, "10, please")
        else:
            await entries.post("doubts", 1, links=[("contradicts", letter.id)])
        result = await stopped(a, run_id)
    (task,) = result.state.work
    assert task.completion is not None
    assert task.completion.status == "cancelled"
    assert task.stopping.startswith(f"the entry it was made from, {claim.id}, is derived from one that ")


async def test_a_task_goes_on_whatever_becomes_of_its_entry_unless_its_trigger_says_otherwise(
    redis_server: RedisServer,
) -> None:
    slow = Slow()
    async with arbiter(redis_server.url, ["unused"], capabilities=(slow.source,)) as (a, _):
        run_id, claim = await begun(a, slow)
        entries = a.entries.within(f"run:{run_id}")
        await entries.post("claims.b", 1, links=[("contradicts", claim.id)])
        await entries.retract(claim.id)
        await asyncio.wait_for(_looked(a, run_id, 2), 30)
        slow.let_go.set()
        result = await stopped(a, run_id)
    assert (result.status, result.answer) == ("succeeded", "1")


async def _looked(a: Arbiter, run_id: str, times: int) -> None:
    """Until control has looked so often."""
    seen = 0
    async for event in a.board.watch(run_id):
        seen += event.kind == "agenda.decided"
        if seen == times:
            return


async def test_what_a_task_writes_about_its_own_entry_does_not_stop_it(redis_server: RedisServer) -> None:
    done = asyncio.Event()

    @capability(
        effects="writes", grants=GRANTS, triggers=[Trigger(topic="claims.a", where="@version=1", stop_when=ALL)]
    )
    async def corrects(entry: dict[str, Any]) -> int:
        """Correct the claim, and go on."""
        await sdk.call_async("entry.amend", {"entry": entry["id"], "content": {"amount": 5}})
        doubt = {"topic": "claims.b", "content": 1, "links": [["contradicts", entry["id"]]]}
        await sdk.call_async("entry.post", doubt)
        await asyncio.wait_for(done.wait(), 30)
        await sdk.call_async("entry.post", {"topic": "done", "content": 5})
        return 5

    async with arbiter(redis_server.url, ["unused"], capabilities=(corrects,)) as (a, _):
        until = AgendaTerms(until=Query(topic="done"))
        run_id = await a.submit(Inquiry([Posting("claims.a", {"amount": 1})], until))
        await asyncio.wait_for(_looked(a, run_id, 2), 30)
        done.set()
        result = await stopped(a, run_id)
    assert (result.status, result.answer) == ("succeeded", "5")


async def test_a_planner_is_told_that_a_task_lost_its_premise_and_decides_anew(redis_server: RedisServer) -> None:
    slow = Slow("retracted")

    @capability(effects="writes", grants=Grants(topics=TopicGrants(read=("claims.*",), write=("claims.*",))))
    async def claim(amount: int) -> str:
        """Make a claim, and withdraw it once somebody works on it."""
        made = await sdk.call_async("entry.post", {"topic": "claims.a", "content": {"amount": amount}})
        assert isinstance(made, dict)
        if amount == 1:
            await asyncio.wait_for(slow.began.wait(), 30)
            await sdk.call_async("entry.retract", {"entry": made["id"]})
        slow.let_go.set() if amount == 2 else None
        return str(made["id"])

    turns = [call("claim", amount=1), call("claim", amount=2), "It is 2."]
    made = (slow.source, claim)
    async with arbiter(redis_server.url, turns, capabilities=made) as (a, model):
        result = await a.run("Claim something.", agenda=AgendaTerms(), timeout=30)
    ends = [(task.capability, task.completion and task.completion.status.value) for task in result.state.work]
    assert ends == [("claim", "succeeded"), ("slow", "cancelled"), ("claim", "succeeded"), ("slow", "succeeded")]
    assert "the entry it was made from was retracted" in json.dumps(model.calls[1].messages)
    assert result.answer == "It is 2."
