"""What tasks of planned runs come to stands on their board, written by the script that ends them (G2, G3, G4, G9)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from agenda_support import activated, control, decide, declare, look, told
from strict import Mutation, Play, broken, done, faults, spec, verdict, watched_play

from blackboard import _script
from blackboard.agenda import Agenda, Compared, View
from blackboard.attempt import Attempt, send
from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.errors import Stale, Unfitting
from blackboard.events import RoundPlannedData
from blackboard.results import result_entry
from blackboard.sealing import verify
from blackboard.triggers import AgendaTerms, Trigger
from blackboard.types import Limits, RetryPolicy, Status
from registry import schema

play = watched_play
ONCE = RetryPolicy(max_attempts=1)


async def entries(play: Play, run: str, pattern: str = ">") -> list[Entry]:
    return list((await Entries(play.board, f"run:{run}").query(pattern)).entries)


async def test_g2_what_a_task_returned_is_an_entry_of_its_run_as_soon_as_it_has_ended(play: Play) -> None:
    run = await play.run(spec("load", taint=("event:/orders",)))
    claim = await play.one()
    assert await entries(play, run) == []
    await play.board.complete(
        claim, claim.completion(Status.SUCCEEDED, data={"rows": [1, 2.5]}, sources=("http:a.example",))
    )
    (entry,) = await entries(play, run, "results.count.*")
    assert (entry.topic, entry.content, entry.confidence) == ("results.count.load", {"rows": [1, 2.5]}, 1.0)
    assert (entry.author.kind, entry.author.name, entry.author.task) == ("task", "count", claim.task_id)
    assert entry.taint == ("event:/orders", "http:a.example")
    assert entry.id == claim.entry == result_entry(run, claim.task_id)
    assert await play.kinds(run, "task.completed", "entry.posted", "task.posted") == [
        "task.posted /s1", "task.completed /s1", "task.posted /1.load", "task.completed /1.load",
        f"entry.posted {entry.id.removeprefix(run)}", "task.posted /s2",
    ]  # fmt: skip


async def test_g4_a_completion_that_is_sent_again_writes_one_entry(play: Play) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    await play.board.complete(claim, done(claim))
    assert len(await entries(play, run)) == 1


async def test_a_result_is_derived_from_those_it_waited_for_and_from_what_its_task_was_made_of(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    hint = await notes.post("hints.bank", "look there", taint=["mail:a.example"])
    await play.plan(await play.step(run), spec("a"), spec("b", ["a"], made_from=(hint.id,)))
    for _ in range(2):
        claim = await play.one()
        await play.board.complete(claim, done(claim))
    (first,) = await entries(play, run, "results.count.a")
    (second,) = await entries(play, run, "results.count.b")
    assert [(link.rel, link.to) for link in second.links] == [("derived_from", hint.id), ("derived_from", first.id)]
    assert "mail:a.example" in second.taint, "it has the sources of what it is derived from"
    found = await notes.query(links_to=first.id, rel="derived_from")
    assert [one.id for one in found.entries] == [second.id]


async def test_a_large_result_is_stored_once_and_read_as_if_it_were_in_the_entry(play: Play) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    value = "x" * 200_000
    await play.board.complete(claim, done(claim, value))
    (entry,) = await entries(play, run)
    assert entry.content == value
    posted = [event for event in await play.board.history(run) if event.kind in ("task.completed", "entry.posted")]
    assert isinstance(posted[-1].data.content, Blob)
    assert posted[-1].data.content == posted[-2].data.data


@pytest.mark.parametrize(
    "value", [None, [], {}, "", "ü\u2028😀", {"data": "@1 2"}, [[], {"a": []}], 12345678901234567890]
)
async def test_any_result_stands_there_as_it_was_returned_and_with_its_seal(play: Play, value: Any) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.complete(claim, claim.completion(Status.SUCCEEDED, data=value))
    assert [entry.content for entry in await entries(play, run)] == [value]
    seen = await verify(Entries(play.board, f"run:{run}"))
    assert (seen.sealed, seen.faults) == (1, ())


async def test_a_failure_is_an_entry_on_a_topic_of_its_own_only_when_no_attempt_follows(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(max_attempts=2)))
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    assert await entries(play, run) == []
    await play.clock.advance(30)
    await play.board.sweep()
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    (entry,) = await entries(play, run)
    assert (entry.topic, entry.content) == (
        "failures.count.a", {"status": "failed", "error": {"type": "handler_error", "message": "broke"}},
    )  # fmt: skip


async def test_what_nobody_reports_is_an_entry_as_well(play: Play) -> None:
    run = await play.run(spec("gone", retry=ONCE), spec("late", seconds=100))
    assert (await play.one()).key == "gone"
    await play.clock.advance(50)
    await play.board.sweep()
    await play.clock.advance(51)
    await play.board.sweep()
    said: dict[str, Any] = {entry.topic: entry.content for entry in await entries(play, run)}
    told = {topic: (content["status"], content["error"]["type"]) for topic, content in said.items()}
    assert told == {
        "failures.count.gone": ("failed", "lease_lost"), "failures.count.late": ("timed_out", "deadline")
    }  # fmt: skip
    found = await verify(Entries(play.board, f"run:{run}"))
    assert (found.sealed, found.unsealed, found.faults) == (2, 0, ()), "a script cannot hash"
    key, client = play.board.shard_of(run).log(run), play.board.client
    log: Any = await client.xrange(key)
    await client.delete(key)
    for at, fields in log:
        posted = fields["type"] == "entry.posted" and "lease_lost" in fields["data"]
        changed = {**fields, "data": fields["data"].replace("lease_lost", "permanent")} if posted else fields
        await client.xadd(key, changed, id=at)
    (fault,) = (await verify(Entries(play.board, f"run:{run}"))).faults
    assert "its content is not what was written" in fault
    await client.delete(key)
    for at, fields in log:
        await client.xadd(key, fields, id=at)


async def test_what_was_cancelled_has_no_entry(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]), spec("c"))
    await play.board.cancel_task(f"{run}/1.a", "not needed")
    assert await entries(play, run) == []


async def test_runs_that_no_model_plans_have_none(play: Play) -> None:
    run = await play.run()
    step = await play.step(run)
    planned = RoundPlannedData(round=1, message={"role": "assistant", "content": [{"text": "…"}]})
    await play.board.commit_step(step, planned, [spec("a")], Limits(), unplanned=True)
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    assert (claim.entry, await entries(play, run)) == ("", [])


async def test_a_key_that_is_no_word_of_a_topic_is_written_as_one(play: Play) -> None:
    run = await play.run(spec("a.b ü"), spec("x" * 128))
    for claim in await play.take(n=2):
        await play.board.complete(claim, done(claim))
    assert {entry.topic for entry in await entries(play, run)} == {"results.count.a_b___", "results.count." + "x" * 64}


async def test_a_result_that_does_not_fit_the_schema_of_its_topic_ends_its_task_as_failed(play: Play) -> None:
    run = await play.run(spec("bad"), spec("good"))
    first, second = await play.take(n=2)
    await strict(play)
    with pytest.raises(Unfitting, match="nothing is here that judges"):
        await play.board.complete(first, done(first, {"total": 1}))
    play.board.checker = schema
    with pytest.raises(Unfitting, match="'three' is not of type 'number'"):
        await play.board.complete(first, done(first, {"total": "three"}))
    assert await entries(play, run) == [], "the task goes on"
    ended = first.completion(Status.SUCCEEDED, data={"total": "three"}, sources=("http:a.example",))
    await send(Attempt(play.board, first), ended)
    await send(Attempt(play.board, second), done(second, {"total": 3}))
    failed, result = await entries(play, run)
    assert (failed.topic, result.topic) == ("failures.count.bad", "results.count.good")
    assert failed.content["error"]["type"] == "topic_schema"
    assert "results.count.*" in failed.content["error"]["message"]
    assert "http:a.example" in failed.taint, "the message says what the result said"


async def strict(play: Play) -> None:
    """What results and failures must look like from here on, as somebody in another process says it."""
    async with await Board.open(play.board.engine.url, namespace=play.board.namespace, board=play.board.name) as other:
        notes = Entries(other, checker=schema)
        await notes.set_schema("results.count.*", {"type": "object", "properties": {"total": {"type": "number"}}})
        await notes.set_schema("failures.>", {"type": "string"})


# ---- agendas -----------------------------------------------------------------------------------------------------------


async def test_a_result_triggers_what_waits_for_it_once_and_the_chain_is_known(play: Play) -> None:
    await declare(play, "check", Trigger(topic="results.count.*", where="total>=3"))
    run = await play.run(spec("small"), spec("large"), agenda=AgendaTerms())
    first, second = await play.take(n=2)
    for claim in (first, second):
        await play.board.complete(claim, done(claim, {"total": 4 if claim.key == "large" else 1}))
    await look(play, run)  # it makes them
    await look(play, run, None)
    task = await activated(play)
    assert (task.capability, task.key) == ("check", "@1")
    await play.board.complete(task, done(task))
    assert await play.kinds(run, "agenda.activated") == ["agenda.activated /agenda"]
    assert (await play.step(run)).round == 2


async def lost(play: Play) -> tuple[str, Agenda]:
    """A run with an agenda one of whose tasks was lost with its worker, which nobody reports, and its agenda."""
    await declare(play, "check", Trigger(topic="failures.>", where="error.type=lease_lost"))
    run = await play.run(spec("gone", retry=ONCE), spec("other"), agenda=AgendaTerms())
    await play.take()
    await play.clock.advance(30)
    await play.board.sweep()
    return run, Agenda(play.board, run)


async def compare(play: Play, run: str, view: View, number: int = 1) -> None:
    """What control commits that has compared what is uncompared."""
    entry = view.uncompared or ""
    compiled = await play.board.triggers.current(play.shard)
    keys = " ".join(one.key for one in compiled.by_key.values())
    claim = await control(play)
    await Agenda(play.board, run).decide(
        claim, number, told(), [], ends=True, facts=view.facts, rated_all=True,
        compared=Compared(entry, compiled.version, keys),
    )  # fmt: skip


async def test_a_failure_that_nobody_reports_triggers_once_control_has_compared_it(play: Play) -> None:
    run, agenda = await lost(play)
    view = await agenda.view()
    (entry,) = await entries(play, run, "failures.count.gone")
    assert view.uncompared == entry.id
    await compare(play, run, view)
    (one,) = await agenda.activations()
    assert (one.capability, one.entry, one.topic) == ("check", entry.id, "failures.count.gone")
    assert (await agenda.view()).uncompared is None


async def test_control_that_knew_nothing_of_it_leaves_it_to_the_next(play: Play) -> None:
    run, agenda = await lost(play)
    before = replace(await agenda.view(), uncompared=None)
    await decide(play, await control(play), before)
    view = await agenda.view()
    assert view.uncompared is not None
    await compare(play, run, view)
    assert len(await agenda.activations()) == 1


async def test_it_is_compared_again_where_the_triggers_changed_meanwhile(play: Play) -> None:
    run, agenda = await lost(play)
    view, claim = await agenda.view(), await control(play)
    compiled = await play.board.triggers.current(play.shard)
    await declare(play, "more", Trigger(topic="failures.>"))
    old = Compared(view.uncompared or "", compiled.version, "")
    with pytest.raises(Stale):
        await agenda.decide(claim, 1, told(), [], ends=True, facts=view.facts, rated_all=True, compared=old)
    await decide(play, claim, replace(view, uncompared=None))
    await compare(play, run, await agenda.view())
    assert sorted(one.capability for one in await agenda.activations()) == ["check", "more"]


async def test_a_result_compared_with_old_triggers_is_compared_again(play: Play) -> None:
    run = await play.run(spec("a"), agenda=AgendaTerms())
    claim = await play.one()
    assert claim.watched
    await declare(play, "check", Trigger(topic="results.>"))
    await play.board.complete(claim, done(claim))
    await look(play, run)
    assert await play.kinds(run, "agenda.activated") == ["agenda.activated /agenda"]


# ---- the checks have teeth ---------------------------------------------------------------------------------------------


async def every_end_is_there(play: Play) -> bool:
    run = await play.run(spec("a"), spec("b", retry=ONCE))
    for claim in await play.take(n=2):
        ends = play.board.complete if claim.key == "a" else play.board.fail
        await ends(claim, done(claim) if claim.key == "a" else broken(claim))
    said = [entry.topic for entry in await entries(play, run)]
    return said == ["failures.count.b", "results.count.a"] and not await faults(play.board)


async def stale_triggers_are_refused(play: Play) -> bool:
    run = await play.run(spec("a"), agenda=AgendaTerms())
    claim = await play.one()
    await declare(play, "check", Trigger(topic="results.>"))
    await play.board.complete(claim, done(claim))
    await look(play, run)
    return len(await play.kinds(run, "agenda.activated")) == 1


async def stale_schemas_are_refused(play: Play) -> bool:
    play.board.checker = schema
    await play.run(spec("a"), spec("b"), agenda=AgendaTerms())
    claims = await play.take(n=2)
    await strict(play)
    for claim in claims:
        await send(Attempt(play.board, claim), done(claim, {"total": "three"}))
    return [one.topic for one in await entries(play, claims[0].run_id)] == ["failures.count.a", "failures.count.b"]


@pytest.mark.parametrize(
    ("check", "mutation"),
    [
        (stale_schemas_are_refused, ("_results", "if now ~= judged", "if false")),
        (every_end_is_there, ("_board", "if t.ent and enter and status", "if false and status")),
        (every_end_is_there, ("_results", "redis.call('ZADD', FOUND, 0,", "redis.call('ZREM', FOUND,")),
        (every_end_is_there, ("_results", "if REPORT then\n    facts", "if false then\n    facts")),
        (stale_triggers_are_refused, ("_results", "if now ~= ARGV[at + 2]", "if false")),
        (stale_triggers_are_refused, ("_results", "a.m = 1", "a.m = nil")),
    ],
)
async def test_taking_a_guard_out_is_noticed(check: Any, mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await verdict(check, monkeypatch)
    assert not await verdict(check, monkeypatch, mutation)


def test_only_scripts_that_end_tasks_have_what_writes_results() -> None:
    assert "enter = function" not in _script.load("claim").text
    assert "enter = function" in _script.load("complete", "_results").text
