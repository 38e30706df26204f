"""Open requests beside other work of their run: what comes of them while that goes on, and how many are asked at once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from arbiter_support import arbiter
from test_volunteering import ASKED, SOON, bidder, entry, fail, look_up

from arbiter import (
    AgendaTerms,
    Arbiter,
    Capability,
    Inquiry,
    OpenRequest,
    Posting,
    ScriptedModel,
    Trigger,
    capability,
    current_task,
)
from arbiter.answering import record
from arbiter.replay_agenda import replayed
from blackboard.agenda import BIDDERS, Agenda
from blackboard.events import AgendaDecided
from blackboard.invariants import faults
from blackboard.testing import RedisServer

WORK = Posting("work.a", 1)


def busy(a: list[Arbiter], *topics: str, bids: bool = False) -> Capability[..., Any]:
    """Work that goes on until something stands on each of some topics of its run.

    Args:
        bids: it bids at its end, which is too late.
    """

    @capability(triggers=[Trigger(topic="work.*")])
    async def toil(entry: dict[str, Any]) -> str:
        """Wait."""
        task = current_task()
        assert task is not None
        notes = a[0].entries.within(f"run:{task.run_id}")
        missing = set(topics)
        async with asyncio.timeout(40):
            async for fact in notes.watch(">", after="-"):
                missing.discard(fact.data.topic)
                if not missing:
                    break
        if bids:
            (asked,) = (await notes.query("requests.bank")).entries
            await notes.post("bids.bank", {"capability": "fail"}, links=[("answers", asked.id)], operation="late")
        return "it was there"

    return toil


@pytest.mark.parametrize("dies", ["before", "after"])
async def test_g2_when_its_time_is_over_a_request_is_awarded_once_beside_other_work_whoever_dies(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    boards: list[Arbiter] = []
    decide, died = Agenda.decide, list[str]()

    async def dying(self: Agenda, *given: Any, **more: Any) -> None:
        posts = more["beside"] is not None and more["beside"].tasks
        if dies != "before" or not posts or died:
            await decide(self, *given, **more)
        if posts and not died:
            heartbeat = boards[0]._heartbeat
            assert heartbeat is not None
            with boards[0].board.engine.sync_client() as client:
                heartbeat.beat(client)  # after the decision it finds that control is over, and stops nobody for that
            await asyncio.sleep(0)
            died.append(dies)
            raise ConnectionError("the process dies here")

    monkeypatch.setattr(Agenda, "decide", dying)

    @capability(triggers=[Trigger(topic="requests.*")])
    async def brood(entry: dict[str, Any]) -> None:
        """Never come to a bid."""
        await asyncio.Event().wait()

    sources = (look_up, fail, brood, bidder("sure", 0.5, capability="look_up"), busy(boards, "answers.bank", bids=True))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        boards.append(a)
        request = ASKED.model_copy(update={"seconds": 3.0})
        result = await a.run(Inquiry([Posting("requests.bank", request.content()), WORK]), timeout=60)
        award, answer = await entry(a, result.run_id, "awards.bank"), await entry(a, result.run_id, "answers.bank")
        said = await record(a, result.run_id, "bank")
        log = await a.board.history(result.run_id)
        assert await faults(a.board) == []
    assert {task.capability: task.state for task in result.state.work} == {
        "brood": "timed_out", "sure": "succeeded", "toil": "succeeded", "look_up": "succeeded",
    }  # fmt: skip
    assert (award.version, answer.content["supplier"]) == (1, "Acme")
    assert [one["considered"] for one in said["bids"]] == [True, False], "what came late changed nothing"
    told = [one for event in log if isinstance(event, AgendaDecided) for one in event.data.told]
    assert "requests.bank: look_up gets to work" in told
    assert died == [dies]


async def test_the_award_does_not_wait_for_those_who_outlast_a_request_that_was_amended(
    redis_server: RedisServer,
) -> None:
    @capability(triggers=[Trigger(topic="requests.*")])
    async def brood(entry: dict[str, Any]) -> None:
        """Never come to a bid."""
        await asyncio.Event().wait()

    sources = (look_up, brood, bidder("sure", 0.9, capability="look_up"))
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        run_id = await a.submit(Inquiry([Posting("requests.bank", ASKED.content())]))
        notes, amended = a.entries.within(f"run:{run_id}"), False
        async with asyncio.timeout(40):
            async for fact in notes.watch(">", after="-"):
                if fact.data.topic == "bids.bank" and not amended:  # whoever bid is asked anew, and bids again
                    amended = True
                    request = await entry(a, run_id, "requests.bank")
                    await notes.amend(request.id, {**request.content, "seconds": 1.0})
                if fact.data.topic == "answers.bank":
                    break
        brooding = [task for task in (await a.show(run_id)).state.work if task.capability == "brood"]
        assert not all(task.done for task in brooding), "one is not over, and nobody waits for it"
        await a.cancel(run_id)
        async with asyncio.timeout(30):
            while (await a.board.summary(run_id)).ended_at is None:
                await asyncio.sleep(0.02)
        assert await faults(a.board) == []


async def test_beside_other_work_the_next_bid_gets_its_turn_and_what_nobody_bids_on_is_unanswered(
    redis_server: RedisServer,
) -> None:
    boards: list[Arbiter] = []
    sources = (
        fail, look_up, bidder("sure", 0.9, capability="fail"), bidder("unsure", 0.3, capability="look_up"),
        busy(boards, "answers.bank", "unanswered.song"),
    )  # fmt: skip
    song = OpenRequest(question="Who sings?", seconds=SOON)
    known = [Posting("requests.bank", ASKED.content()), Posting("requests.song", song.content()), WORK]
    async with arbiter(redis_server.url, ["unused"], capabilities=sources) as (a, _):
        boards.append(a)
        result = await a.run(Inquiry(known), timeout=60)
        assert await faults(a.board) == []
    assert [task.state for task in result.state.work if task.capability == "toil"] == ["succeeded"]
    assert [task.capability for task in result.state.work if task.key == "award.bank"] == ["fail", "look_up"]


async def test_bidders_are_asked_at_once_up_to_a_bound_whatever_else_may_run_at_a_time() -> None:
    gate = asyncio.Event()
    more = 2

    @capability(triggers=[Trigger(topic="requests.*", where=f"seconds>{n}") for n in range(BIDDERS + more)])
    async def consider(entry: dict[str, Any]) -> None:
        """Consider a bid."""
        await gate.wait()

    @capability(
        triggers=[Trigger(topic="requests.*", where="question~W", priority=9), Trigger(topic="work.*", priority=9)]
    )
    async def other(entry: dict[str, Any]) -> None:
        """Do something else."""
        await gate.wait()

    known = [Posting(f"work.{n}", n) for n in "abc"]
    terms = AgendaTerms(concurrency=1, strategy="fair_share")
    asked = Posting("requests.bank", ASKED.model_copy(update={"seconds": 60.0}).content())
    never = ScriptedModel(["unused"])
    async with Arbiter(f"memory://{uuid4().hex}", never, roles=["arbiter"], capabilities=[consider, other]) as a:
        run_id = await a.submit(Inquiry([*known, asked], terms))
        agenda = a.agenda(run_id)
        async with asyncio.timeout(40):
            while len(picked := await agenda.activations("picked")) < BIDDERS + 1:
                await asyncio.sleep(0.02)
        assert sum(one.topic.startswith("work.") for one in picked) == 1
        assert len(picked) == BIDDERS + 1
        assert await faults(a.board) == []
        gate.set()
        async with asyncio.timeout(40):
            while (await agenda.activations("waiting")) or not all(
                one.done for one in (await a.show(run_id)).state.work
            ):
                await asyncio.sleep(0.02)
        ended = [task.state for task in (await a.show(run_id)).state.work]
        await a.cancel(run_id)
        async with asyncio.timeout(30):
            while (await a.board.summary(run_id)).ended_at is None:
                await asyncio.sleep(0.02)
        assert await faults(a.board) == []
        assert all(made == again for made, again in replayed(await a.board.history(run_id)))
    assert ended == ["succeeded"] * (BIDDERS + more + 1 + len(known))
