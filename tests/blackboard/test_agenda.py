"""The agenda: what waits is picked once, by whoever holds the control task, and people overrule it (G2 to G7, G9, G11, G12)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agenda_support import activated, control, decide, declare, driven, look, pick, picked, told
from strict import Play, broken, done, watched_play

from blackboard.agenda import Agenda
from blackboard.audit import Audit
from blackboard.board import STEP_LANE
from blackboard.entries import Entries
from blackboard.errors import BadInput, Fenced, ScriptRefused, Stale, UnknownRecord
from blackboard.events import RatedActivation
from blackboard.triggers import AgendaTerms, Trigger

play = watched_play


async def waiting(play: Play, n: int, **terms: Any) -> tuple[str, Entries, Agenda]:
    """A run on whose agenda n activations wait, of priority 1, 2, 3 …"""
    run, notes = await driven(play, **terms)
    for one in range(n):
        await declare(play, f"c{one}", Trigger(topic=f"t{one}", priority=one + 1))
        await notes.post(f"t{one}", one)
    return run, notes, Agenda(play.board, run)


async def states(agenda: Agenda) -> list[str]:
    return [one.state for one in await agenda.activations()]


async def controls(play: Play, run: str) -> int:
    return len([one for one in await play.kinds(run, "task.posted") if "/c" in one])


# ---- picking -----------------------------------------------------------------------------------------------------------


async def test_what_is_picked_is_a_task_of_the_run_with_leases_retries_and_an_end(play: Play) -> None:
    run, _, agenda = await waiting(play, 2)
    claim = await picked(play, run)
    assert (claim.capability, claim.kind, claim.key) == ("c1", "capability", "@2")
    await play.board.fail(claim, broken(claim))
    assert await play.state(claim.task_id) == "delayed"
    await play.clock.advance(20)
    await play.board.sweep()
    again = await activated(play)
    assert (again.task_id, again.attempt) == (claim.task_id, 2)
    await play.board.complete(again, done(again))
    explained = await agenda.explain(2)
    assert (explained.outcome, explained.activation.state) == ("succeeded", "picked")


async def test_a_decision_that_is_sent_again_changes_nothing_and_an_older_holder_is_refused(play: Play) -> None:
    run, _, agenda = await waiting(play, 2)
    first = await control(play)
    view = await agenda.view()
    await play.clock.advance(700)
    await play.board.sweep()
    await play.clock.advance(5)
    await play.board.sweep()
    second = await control(play)
    with pytest.raises(Fenced):
        await decide(play, first, view, [1])
    await decide(play, second, view, [1])
    await decide(play, second, view, [1])
    assert await states(agenda) == ["picked", "waiting"]
    with pytest.raises(Fenced):
        await decide(play, first, view, [1])
    assert run in second.task_id


async def test_no_more_are_picked_at_a_time_than_the_terms_say(play: Play) -> None:
    run, _, agenda = await waiting(play, 3, concurrency=2)
    claim = await control(play)
    with pytest.raises(Stale, match="no room"):
        await decide(play, claim, await agenda.view(), [1, 2, 3])
    await decide(play, claim, await agenda.view(), [1, 2])
    assert await controls(play, run) == 1, "there is no room: nobody is asked to pick"
    task = await activated(play)
    await play.board.complete(task, done(task))
    assert await controls(play, run) == 2, "room again, and one that waits"
    await look(play, run, None)
    assert await states(agenda) == ["picked"] * 3


async def test_a_control_task_is_posted_once_however_much_is_written(play: Play) -> None:
    run, notes, agenda = await waiting(play, 1)
    await asyncio.gather(*(notes.post("t0", n) for n in range(5)))
    assert await controls(play, run) == 1
    claim = await control(play)
    view = await agenda.view()
    await notes.post("t0", 9)
    await decide(play, claim, view)
    assert await controls(play, run) == 2, "what came while it looked is looked at"


async def test_no_control_task_stands_beside_a_decision_and_the_decision_posts_it(play: Play) -> None:
    run = await play.run(agenda=AgendaTerms())
    await declare(play, "check", Trigger(topic="a"))
    notes = Entries(play.board, f"run:{run}")
    await notes.post("a", 1)
    assert await controls(play, run) == 0
    await play.plan(await play.step(run))
    assert await controls(play, run) == 1, "a decision without tasks is followed by control, not by the next decision"


async def test_the_next_decision_comes_when_nothing_waits_and_no_task_is_open(play: Play) -> None:
    run, _, _ = await waiting(play, 1)
    own = await play.one()
    await play.board.complete(own, done(own))
    assert await play.kinds(run, "task.completed") == ["task.completed /s1", "task.completed /1.t"]
    claim = await picked(play, run)
    await play.board.complete(claim, done(claim))
    step = await play.step(run)
    assert step.round == 2
    await play.plan(step, answer="done")


async def test_an_agenda_that_drops_all_that_waits_leads_to_the_next_decision(play: Play) -> None:
    run, _, agenda = await waiting(play, 1)
    own = await play.one()
    await play.board.complete(own, done(own))
    claim = await control(play)
    await decide(play, claim, await agenda.view(), aside=[(1, "obviated", "no use")])
    assert (await play.step(run)).round == 2
    assert await states(agenda) == ["obviated"]


async def test_control_that_fails_for_good_ends_its_run_when_nothing_else_goes_on(play: Play) -> None:
    run, _, _ = await waiting(play, 1)
    own = await play.one()
    await play.board.complete(own, done(own))
    claim = await control(play)
    await play.board.complete(claim, broken(claim, retryable=False))
    assert await play.status(run) == "failed"


async def test_control_whose_worker_dies_is_taken_by_another(play: Play) -> None:
    run, _, agenda = await waiting(play, 1)
    await control(play)
    await play.clock.advance(30)
    await play.board.sweep()
    await play.clock.advance(5)
    await play.board.sweep()
    assert (await picked(play, run)).capability == "c0"
    assert await states(agenda) == ["picked"]


async def test_a_cancelled_run_ends_its_control_task_and_picks_nothing_more(play: Play) -> None:
    run, _, agenda = await waiting(play, 2)
    claim = await control(play)
    view = await agenda.view()
    own = await play.one()
    await play.board.cancel_run(run)
    with pytest.raises(Fenced):
        await decide(play, claim, view, [1])
    await play.board.complete(own, done(own))
    assert await play.status(run) == "cancelled"
    assert await states(agenda) == ["waiting", "waiting"]


async def test_a_paused_run_rests_with_what_was_picked_and_picks_nothing_more(play: Play) -> None:
    run, notes, agenda = await waiting(play, 2)
    await look(play, run, [1])
    await play.board.pause_run(run)
    await notes.post("t0", 7)
    assert await play.take(STEP_LANE, "work", n=5) == []
    await play.board.resume_run(run)
    assert (await activated(play)).key == "@1"
    await look(play, run, None)
    assert await states(agenda) == ["picked", "picked", "waiting"]


async def test_nobody_cancels_a_control_task(play: Play) -> None:
    await waiting(play, 1)
    claim = await control(play)
    with pytest.raises(ScriptRefused, match="STEP"):
        await play.board.cancel_task(claim.task_id)


async def test_cancelling_the_task_of_an_activation_makes_room_for_another(play: Play) -> None:
    run, _, agenda = await waiting(play, 2, concurrency=1)
    await look(play, run, [1])
    task = (await agenda.activations())[0].task
    assert task is not None
    await play.board.cancel_task(task)
    await look(play, run, None)
    assert await states(agenda) == ["picked", "picked"]


async def test_what_is_rated_and_set_aside_in_parts_is_written_once(play: Play) -> None:
    run, _, agenda = await waiting(play, 2)
    claim = await control(play)
    view = await agenda.view()
    for _ in range(2):
        await decide(play, claim, view, aside=[(1, "parked", "not yet")], ends=False)
    await decide(play, claim, await agenda.view(), [2], number=2)
    assert await states(agenda) == ["parked", "picked"]
    assert (await play.kinds(run, "agenda.decided")).count("agenda.decided /agenda") == 2


async def test_what_is_parked_is_looked_at_again_after_the_next_fact_only(play: Play) -> None:
    run, notes, agenda = await waiting(play, 1)
    claim = await control(play)
    await decide(play, claim, await agenda.view(), aside=[(1, "parked", "not yet")])
    assert await controls(play, run) == 1
    await notes.post("else", 1)
    assert await controls(play, run) == 2
    claim = await control(play)
    (one,) = (await agenda.view(parked=5)).aside
    said = told(rated=(RatedActivation(number=one.number, rating=3.0),))
    await agenda.decide(claim, 1, said, [], ends=True, facts=(await agenda.view()).facts, rated_all=True)
    assert await states(agenda) == ["waiting"]
    assert await controls(play, run) == 3


# ---- overruling --------------------------------------------------------------------------------------------------------


async def test_what_is_promoted_stands_first_and_what_is_rated_by_a_person_keeps_that(play: Play) -> None:
    run, _, agenda = await waiting(play, 4)
    await look(play, run)
    assert [one.number for one in await agenda.waiting()] == [4, 3, 2, 1]
    await agenda.promote(1, by="ann", reason="urgent")
    await agenda.promote(f"{run}/a/2", by="ann")
    await agenda.rerate(3, 0.5, by="ben")
    assert [one.number for one in await agenda.waiting()] == [2, 1, 4, 3]
    claim = await control(play)
    rated = tuple(RatedActivation(number=n, rating=9.0) for n in (1, 2, 3, 4))
    view = await agenda.view()
    await agenda.decide(claim, 1, told(rated=rated), [], ends=True, facts=view.facts, rated_all=True)
    assert [one.number for one in await agenda.waiting()] == [2, 1, 4, 3], "no strategy changes what a person said"
    verbs = [(one.kind, one.subject, one.by) for one in (await Audit(play.board).list()).entries]
    assert sorted(verbs) == [("activation.promoted", f"{run}/a/1", "ann"), ("activation.promoted", f"{run}/a/2", "ann"),
                             ("activation.rerated", f"{run}/a/3", "ben")]  # fmt: skip


async def test_what_is_blocked_is_not_picked_until_it_is_unblocked(play: Play) -> None:
    run, _, agenda = await waiting(play, 2)
    claim = await control(play)
    view = await agenda.view()
    assert await agenda.block(2, by="ann", reason="not now") == "blocked"
    with pytest.raises(Stale, match="does not wait"):
        await decide(play, claim, view, [2])
    await decide(play, claim, await agenda.view(), [1])
    assert await states(agenda) == ["picked", "blocked"]
    with pytest.raises(ScriptRefused, match="STATE"):
        await agenda.promote(2, by="ann")
    assert await agenda.unblock(2, by="ann") == "waiting"
    await look(play, run, None)
    assert await states(agenda) == ["picked", "picked"]
    with pytest.raises(ScriptRefused, match="ENDED"):
        await agenda.block(2, by="ann")


async def test_a_change_that_comes_twice_or_late_is_made_once(play: Play) -> None:
    run, _, agenda = await waiting(play, 1)
    await agenda.block(1, by="ann", operation="x")
    await agenda.unblock(1, by="ann", operation="y")
    assert await agenda.block(1, by="ann", operation="x") == "waiting"
    assert len(await play.kinds(run, "agenda.changed")) == 2
    assert "blocked by ann" in str(await agenda.explain(1))


async def test_a_run_whose_last_activation_is_blocked_goes_on_to_its_next_decision(play: Play) -> None:
    run, _, agenda = await waiting(play, 1)
    await agenda.block(1, by="ann")
    claim = await control(play)
    own = await play.one()
    await play.board.complete(own, done(own))
    await decide(play, claim, await agenda.view())
    assert (await play.step(run)).round == 2


async def test_what_nobody_can_mean_is_refused(play: Play) -> None:
    run, _, agenda = await waiting(play, 1)
    for which in ("x", f"{run}/a/0", "other/a/1", f"{run}/e/1"):
        with pytest.raises(BadInput, match="activation"):
            await agenda.promote(which, by="ann")
    with pytest.raises(UnknownRecord):
        await agenda.block(7, by="ann")
    with pytest.raises(UnknownRecord):
        await agenda.explain(7)
    with pytest.raises(BadInput, match="rating"):
        await agenda.rerate(1, float("nan"), by="ann")
    with pytest.raises(BadInput, match="by"):
        await agenda.block(1, by=" ")
    with pytest.raises(BadInput, match="state"):
        await agenda.activations("gone")
    with pytest.raises(BadInput, match="weights"):
        await agenda.focus("priority", {"c0": -1})
    with pytest.raises(UnknownRecord):
        await Agenda(play.board, "nobody").activations()


async def test_a_task_that_cannot_be_posted_leaves_the_agenda_as_it_was(play: Play) -> None:
    _, _, agenda = await waiting(play, 1)
    claim = await control(play)
    view = await agenda.view()
    wrong = pick(claim.run_id, claim, 1)
    wrong = type(wrong)(wrong.number, wrong.spec.replace('"lane": "work"', '"lane": "nowhere"'), wrong.input, "work")
    with pytest.raises(ScriptRefused, match="LANE"):
        await agenda.decide(claim, 1, told(), [wrong], ends=True, facts=view.facts, rated_all=True)
    assert await states(agenda) == ["waiting"]
