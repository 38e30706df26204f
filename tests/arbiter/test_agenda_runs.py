"""Runs whose capabilities volunteer: from the first entry to the answer, by every strategy, and explained (G2 to G6, G9)."""

from __future__ import annotations

import asyncio
from typing import Any

import agenda_stage
import arbiter_support
import pytest
from agenda_stage import Stage, arbiter, inquiry

from arbiter import (
    AgendaTerms,
    BadInput,
    Inquiry,
    Limits,
    Posting,
    Query,
    ScriptedModel,
    Trigger,
    capability,
    current_task,
)
from blackboard.invariants import faults
from blackboard.testing import RedisServer

stage = agenda_stage.stage


# ---- from the first entry to the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["memory", "redis"])
async def test_sources_that_know_nothing_of_each_other_answer_an_inquiry(
    stage: Stage, engine: str, redis_server: Any, board_name: str
) -> None:
    words = stage.source("words", Trigger(topic="letters.*"), posts={"words.one": "hello"})
    phrase = stage.source("phrase", Trigger(topic="words.>"), posts={"phrase": {"text": "hello there"}})
    url = redis_server.url if engine == "redis" else ""
    async with arbiter(stage, words, phrase, url=url, board=board_name) as a:
        asked = inquiry("letters.a", until=Query(topic="phrase", where="text~hello"))
        result = await a.run(asked, timeout=60)
        assert (result.status, result.answer) == ("succeeded", '{"text": "hello there"}')
        assert stage.ran == ["words", "phrase"]
        assert [one.state for one in await a.agenda(result.run_id).activations()] == ["picked", "picked"]


async def test_a_run_ends_well_when_nobody_has_anything_more_to_say_and_nothing_was_awaited(stage: Stage) -> None:
    async with arbiter(stage, stage.source("once", Trigger(topic="a"))) as a:
        result = await a.run(inquiry("a", "b"), timeout=60)
        assert (result.status, result.answer) == ("succeeded", "Activations: 1 picked.")


async def test_a_run_that_finds_no_answer_says_who_waited_for_what(stage: Stage) -> None:
    judge = stage.source("judge", Trigger(topic="a", requires=Query(topic="rules.>")))
    async with arbiter(stage, judge) as a:
        result = await a.run(inquiry("a", until=Query(topic="verdict")), timeout=60)
        assert result.status == "failed"
        assert result.error is not None
        assert result.error.type == "stagnation"
        assert "1 parked" in result.error.message
        assert "nothing fits rules.> yet" in result.error.message
        assert stage.ran == []


async def test_nothing_more_is_picked_once_the_answer_is_there(stage: Stage) -> None:
    first = stage.source("first", Trigger(topic="a", priority=9), posts={"answer": "yes"})
    later = stage.source("later", Trigger(topic=">", priority=1))
    async with arbiter(stage, first, later) as a:
        result = await a.run(inquiry("a", until=Query(topic="answer"), concurrency=1), timeout=60)
        assert (result.answer, stage.ran) == ("yes", ["first"])
        why = [one.why for one in await a.agenda(result.run_id).activations("obviated")]
        assert len(why) == 2
        assert all("until which the run goes on" in one for one in why)


async def test_a_precondition_is_waited_for_and_an_obviation_spares_the_work(stage: Stage) -> None:
    needs = stage.source("needs", Trigger(topic="a", requires=Query(topic="ready", where="ok=true"), priority=9))
    makes = stage.source("makes", Trigger(topic="a", priority=5), posts={"ready": {"ok": True}})
    spared = stage.source("spared", Trigger(topic="a", unless=Query(topic="ready"), priority=1))
    async with arbiter(stage, needs, makes, spared) as a:
        result = await a.run(inquiry("a", concurrency=1), timeout=60)
        assert stage.ran == ["makes", "needs"]
        found = {one.capability: one for one in await a.agenda(result.run_id).activations()}
        assert (found["spared"].state, found["needs"].state) == ("obviated", "picked")
        said = str(await a.agenda(result.run_id).explain(found["needs"].id))
        assert said.index("parked: nothing fits ready ok=true yet") < said.index("picked as")


async def test_what_was_amended_or_retracted_meanwhile_is_not_worked_on(stage: Stage) -> None:
    async def change(entry: dict[str, Any]) -> None:
        """Change the others."""
        notes = stage.notes()
        found = {one.topic: one for one in (await notes.query("b.*")).entries}
        await notes.amend(found["b.x"].id, {"n": 9}, task=current_task())
        await notes.retract(found["b.y"].id, task=current_task())

    first = capability(change, triggers=[Trigger(topic="a", priority=9)])
    reads = stage.source("reads", Trigger(topic="b.*", where="n>=1"))
    async with arbiter(stage, first, reads) as a:
        result = await a.run(inquiry("a", "b.x", "b.y", concurrency=1), timeout=60)
        found = [(one.topic, one.entry_version, one.state) for one in await a.agenda(result.run_id).activations()]
        assert found == [("a", 1, "picked"), ("b.x", 1, "obviated"), ("b.y", 1, "obviated"), ("b.x", 2, "picked")]


async def test_what_somebody_holds_or_gave_back_meanwhile_is_worked_on(stage: Stage) -> None:
    """A lease counts as a version of the entry, says nothing, and may lapse without a word."""

    async def hold(entry: dict[str, Any]) -> None:
        """Hold one of the others, and have held the second."""
        notes = stage.notes()
        await notes.take("b.x", lease_seconds=3600, task=current_task())
        held = await notes.take("b.y", lease_seconds=3600, task=current_task())
        assert held is not None
        await notes.give_back(held.id, held.fence or 0, task=current_task())

    first = capability(hold, triggers=[Trigger(topic="a", priority=9)])
    reads = stage.source("reads", Trigger(topic="b.*", where="n>=1"))
    async with arbiter(stage, first, reads) as a:
        result = await a.run(inquiry("a", "b.x", "b.y", concurrency=1), timeout=60)
        found = [(one.topic, one.entry_version, one.state) for one in await a.agenda(result.run_id).activations()]
        assert found == [("a", 1, "picked"), ("b.x", 1, "picked"), ("b.y", 1, "picked")]


async def test_the_limit_of_tasks_holds_for_activations(stage: Stage) -> None:
    endless = stage.source("endless", Trigger(topic="a"))
    async with arbiter(stage, endless) as a:
        result = await a.run(inquiry(*["a"] * 6), limits=Limits(tasks=2), timeout=60)
        assert stage.ran == ["endless"] * 2
        states = [one.state for one in await a.agenda(result.run_id).activations()]
        assert sorted(states) == ["obviated"] * 4 + ["picked"] * 2


async def test_two_sources_that_feed_each_other_for_ever_are_stopped(stage: Stage) -> None:
    ping = stage.source("ping", Trigger(topic="pong"), posts={"ping": 1})
    pong = stage.source("pong", Trigger(topic="ping"), posts={"pong": 1})
    async with arbiter(stage, ping, pong) as a:
        result = await a.run(inquiry("pong"), timeout=30)
        assert stage.ran == ["ping", "pong"] * 3
        (stopped,) = await a.agenda(result.run_id).activations("stopped")
        assert "ping-pong" in stopped.why
        assert result.answer == "Activations: 6 picked, 1 stopped."


async def test_a_revoked_version_is_not_picked(stage: Stage) -> None:
    slow = stage.source("slow", Trigger(topic="a", priority=9))
    other = stage.source("other", Trigger(topic="a"))
    async with arbiter(stage, slow, other) as a:
        stage.gate.clear()
        run = await a.submit(inquiry("a", concurrency=1))
        while not stage.ran:
            await asyncio.sleep(0.01)
        version = await a.registry.resolve("other")
        await a.registry.revoke("other", version.sha)
        stage.gate.set()
        await a.result(run, timeout=60)
        assert stage.ran == ["slow"]
        (dropped,) = await a.agenda(run).activations("obviated")
        assert "cannot be used any more" in dropped.why


async def test_a_retired_capability_is_triggered_no_more_and_a_new_version_instead_of_the_old(stage: Stage) -> None:
    old = stage.source("one", Trigger(topic="a"))
    new = stage.source("one", Trigger(topic="b"))
    async with arbiter(stage, old, stage.source("two", Trigger(topic="a"))) as a:
        await a.registry.register(new.manifest)
        await a.registry.retire("two")
        result = await a.run(inquiry("a", "b"), timeout=60)
        assert [one.topic for one in await a.agenda(result.run_id).activations()] == ["b"]


async def test_triggers_whose_registration_died_half_way_are_there_for_the_next_run(stage: Stage) -> None:
    late = stage.source("late", Trigger(topic="a"))
    async with arbiter(stage, late) as a:
        board = a.board
        await board.client.delete(*(shard.triggers for shard in board.shards))
        a.registry._declared = a.registry._declared_at = None  # pyright: ignore[reportPrivateUsage] - as in another process
        await a.run(inquiry("a"), timeout=60)
        assert stage.ran == ["late"]


async def test_an_inquiry_that_makes_no_sense_is_refused_before_anything_is_written(stage: Stage) -> None:
    async with arbiter(stage) as a:
        for asked in (Inquiry([]), Inquiry([Posting("a..b", 1)]), Inquiry([Posting("a", 1, confidence=2)])):
            with pytest.raises(BadInput):
                await a.submit(asked)
        assert not await a.runs()


async def test_an_inquiry_s_key_finds_its_run_again(stage: Stage) -> None:
    async with arbiter(stage, stage.source("once", Trigger(topic="a"))) as a:
        first = await a.run(inquiry("a"), idempotency_key="k", timeout=60)
        again = await a.run(inquiry("a"), idempotency_key="k", timeout=60)
        assert (first.run_id, stage.ran) == (again.run_id, ["once"])


# ---- overruling ------------------------------------------------------------------------------------------------------------


async def test_people_overrule_control_while_the_run_goes_on(stage: Stage) -> None:
    hold = stage.source("hold", Trigger(topic="h", priority=10))
    sources = [stage.source(f"s{n}", Trigger(topic="a", priority=n)) for n in (1, 2, 3, 4)]
    async with arbiter(stage, hold, *sources) as a:
        stage.gate.clear()
        run = await a.submit(inquiry("h", "a", concurrency=1))
        agenda = a.agenda(run)
        while not stage.ran or len(await agenda.activations("waiting")) < 4:
            await asyncio.sleep(0.01)
        number = {one.capability: one.id for one in await agenda.activations()}
        await agenda.promote(number["s1"], by="ann", reason="first of all")
        await agenda.block(number["s4"], by="ann", reason="too dear")
        await agenda.rerate(number["s2"], 7, by="ben")
        advised = await agenda.recommend(2)
        assert [(one.activation.capability, one.why) for one in advised] == [
            ("s1", "somebody promoted it"), ("s2", "somebody put it there"),
        ]  # fmt: skip
        stage.gate.set()
        result = await a.result(run, timeout=60)
        assert stage.ran == ["hold", "s1", "s2", "s3"]
        assert "promoted before everything that waits by ann: first of all" in str(await agenda.explain(number["s1"]))
        assert "picked as" in str(await agenda.explain(number["s1"]))
        assert "blocked by ann: too dear" in str(await agenda.explain(number["s4"]))
        assert result.answer == "Activations: 1 blocked, 4 picked."


# ---- beside a plan -----------------------------------------------------------------------------------------------------------


async def test_what_a_planned_run_writes_triggers_others_and_its_model_is_told_what_came_of_it(stage: Stage) -> None:
    async def collect() -> str:
        """Collect what there is."""
        await stage.notes().post("found", {"n": 1}, task=current_task())
        return "collected"

    volunteer = stage.source("volunteer", Trigger(topic="found"))
    model = ScriptedModel([{"tool": "collect", "input": {}}, "Done."])
    async with arbiter(stage, capability(collect), volunteer, model=model) as a:
        result = await a.run("Collect it.", agenda=AgendaTerms(), timeout=60)
        assert (result.status, result.answer, stage.ran) == ("succeeded", "Done.", ["volunteer"])
        assert len(result.state.rounds) == 2
        shown = str(model.calls[-1].messages)
        assert "volunteer saw found" in shown


async def test_without_an_agenda_nothing_is_triggered(stage: Stage) -> None:
    async def collect() -> str:
        """Collect what there is."""
        await stage.notes().post("found", {"n": 1}, task=current_task())
        return "collected"

    model = ScriptedModel([{"tool": "collect", "input": {}}, "Done."])
    async with arbiter(stage, capability(collect), stage.source("volunteer", Trigger(topic="found")), model=model) as a:
        await a.run("Collect it.", timeout=60)
        assert stage.ran == []


async def test_a_task_that_runs_out_of_time_wakes_who_waits_for_failures(redis_server: RedisServer) -> None:
    @capability
    async def never() -> str:
        """Take for ever."""
        await asyncio.sleep(60)
        return "never"

    @capability(
        triggers=[Trigger(topic="failures.never.*", where="status=timed_out", bind={"why": "content.error.message"})]
    )
    def note(why: str) -> str:
        """Note why something failed."""
        return f"noted: {why}"

    turns, limits = [arbiter_support.call("never"), "done"], Limits(task_seconds=0.5)
    async with arbiter_support.arbiter(redis_server.url, turns, capabilities=(never, note), limits=limits) as (a, _):
        result = await a.run("Go.", agenda=AgendaTerms(), timeout=60)
        made = await a.agenda(result.run_id).activations()
        assert await faults(a.board) == []
    assert [(one.capability, one.topic) for one in made] == [("note", "failures.never.never")]
