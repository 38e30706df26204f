"""A run that waits until something is written or a time is over, and one that waits for bids beside other work: durable, and
once (G2, G5, G6, G7)."""

from __future__ import annotations

import asyncio

import pytest
from agenda_support import control, decide, declare
from strict import Mutation, Play, done, spec, verdict, watched_play

from blackboard.agenda import Agenda, Beside
from blackboard.board import STEP_LANE
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.events import RoundPlannedData
from blackboard.plan import Undecided, Wait, specs
from blackboard.triggers import AgendaTerms, Trigger
from blackboard.types import Limits

play = watched_play
SECONDS = 50


async def wait(play: Play, step: Claim, facts: int) -> None:
    """The decision to wait."""
    planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": []}, attending=True)
    until = Wait(int(play.clock.seconds * 1000) + SECONDS * 1000, facts)
    await play.board.commit_step(step, planned, (), Limits(), wait=until)


async def waiting(play: Play, *, unknown: int = 0) -> tuple[str, Entries]:
    """A run that waits, and its entries.

    Args:
        unknown: how many facts the decision did not know of.
    """
    run = await play.run(agenda=AgendaTerms())
    notes = Entries(play.board, f"run:{run}")
    await notes.post("requests.bank", 1)
    await wait(play, await play.step(run), 1 - unknown)
    return run, notes


async def step_after_a_look(play: Play, run: str) -> bool:
    """Whether control is there, finds nothing to pick, and the next decision follows."""
    await decide(play, await control(play), await Agenda(play.board, run).view())
    return (await play.step(run)).round == 2


async def nothing(play: Play) -> bool:
    return await play.take(STEP_LANE, "work", n=5) == []


async def the_next_fact_ends_it(play: Play) -> bool:
    run, notes = await waiting(play)
    await play.clock.advance(SECONDS / 2)
    await play.board.sweep()
    early = not await nothing(play)
    await notes.post("bids.bank", 1)
    return not early and await step_after_a_look(play, run)


async def its_time_ends_it(play: Play) -> bool:
    run, _ = await waiting(play)
    await play.clock.advance(SECONDS + 1)
    await play.board.sweep()
    return await step_after_a_look(play, run)


async def what_was_written_while_it_was_decided_ends_it(play: Play) -> bool:
    run, _ = await waiting(play, unknown=1)
    return (await play.step(run)).round == 2


async def what_it_triggers_is_picked(play: Play) -> bool:
    run, notes = await waiting(play)
    await declare(play, "check", Trigger(topic="bids.*"))
    await notes.post("bids.bank", 1)
    await decide(play, await control(play), await Agenda(play.board, run).view(), [1])
    return (await play.one()).key == "@1"


async def a_pause_does_not_use_up_its_time(play: Play) -> bool:
    run, _ = await waiting(play)
    await play.board.pause_run(run)
    await play.clock.advance(2 * SECONDS)
    await play.board.sweep()
    await play.board.resume_run(run)
    await play.board.sweep()
    early = not await nothing(play)
    await play.clock.advance(SECONDS + 1)
    await play.board.sweep()
    return not early and await step_after_a_look(play, run)


async def what_is_written_in_a_pause_ends_it_afterwards(play: Play) -> bool:
    run, notes = await waiting(play)
    await play.board.pause_run(run)
    await notes.post("bids.bank", 1)
    early = not await nothing(play)
    await play.board.resume_run(run)
    return not early and await step_after_a_look(play, run)


async def a_decision_to_wait_in_a_paused_run_waits_afterwards(play: Play) -> bool:
    run = await play.run(agenda=AgendaTerms())
    await Entries(play.board, f"run:{run}").post("requests.bank", 1)
    step = await play.step(run)
    await play.board.pause_run(run)
    await wait(play, step, 1)
    await play.board.resume_run(run)
    await play.board.sweep()
    early = not await nothing(play)
    await play.clock.advance(SECONDS + 1)
    await play.board.sweep()
    return not early and await step_after_a_look(play, run)


async def a_run_that_waits_is_cancelled_at_once(play: Play) -> bool:
    run, _ = await waiting(play)
    await play.board.cancel_run(run)
    return await play.status(run) == "cancelled"


async def beside(play: Play, *, stale: bool = False) -> tuple[str, Entries, Claim]:
    """A run that waits for bids while a task of its own goes on, its entries, and that task.

    Args:
        stale: a second task is cancelled while control looks, of which nothing is written.
    """
    run = await play.run(*[spec("t"), spec("u")][: 1 + stale], agenda=AgendaTerms())
    notes = Entries(play.board, f"run:{run}")
    task = await play.one()
    await notes.post("requests.bank", 1)
    claim, view = await control(play), await Agenda(play.board, run).view()
    if stale:
        await play.board.cancel_task(f"{run}/1.{'u' if task.key == 't' else 't'}")
    await decide(play, claim, view, beside=nap(play, view.open))
    return run, notes, task


def nap(play: Play, open_: int, tasks: tuple[tuple[str, str], ...] = ()) -> Beside:
    return Beside(open_, int(play.clock.seconds * 1000) + SECONDS * 1000, tasks, ["work"] * len(tasks))


async def looks(play: Play) -> bool:
    return [claim.kind for claim in await play.take(STEP_LANE, "control", n=5)] == ["control"]


async def a_bid_is_looked_at_beside_other_work(play: Play) -> bool:
    _, notes, _ = await beside(play)
    early = not await nothing(play)
    await notes.post("claims.other", 1)
    other = not await nothing(play)
    await notes.post("bids.bank", 1)
    return not early and not other and await looks(play)


async def the_time_of_a_request_ends_beside_other_work(play: Play) -> bool:
    await beside(play)
    await play.clock.advance(SECONDS + 1)
    await play.board.sweep()
    return await looks(play)


async def what_ends_is_looked_at_and_nothing_else_open_means_a_step(play: Play) -> bool:
    run, _, task = await beside(play)
    await play.board.complete(task, done(task))
    return await step_after_a_look(play, run)


async def what_ended_while_control_looked_is_looked_at(play: Play) -> bool:
    await beside(play, stale=True)
    return await looks(play)


async def a_decision_about_a_model_s_tasks_has_requests_looked_at_beside_them(play: Play) -> bool:
    run = await play.run(agenda=AgendaTerms())
    step = await play.step(run)
    await Entries(play.board, f"run:{run}").post("requests.bank", 1)
    planned = RoundPlannedData(round=1, message={"role": "assistant", "content": []})
    await play.board.commit_step(step, planned, [spec("t")], Limits())
    return await looks(play)


async def what_is_posted_for_a_request_is_a_task_of_the_run(play: Play) -> bool:
    run, notes, _ = await beside(play)
    await notes.post("bids.bank", 1)
    claim, view = await control(play), await Agenda(play.board, run).view()
    tasks = tuple(specs(Undecided(run, 1), [spec("award.bank")], Limits(), place="c2"))
    await decide(play, claim, view, beside=nap(play, view.open, tasks))
    before = await play.snapshot()
    await decide(play, claim, view, beside=nap(play, view.open, tasks))
    once = await play.snapshot() == before
    return once and [task.task_id for task in await play.take(n=5)] == [f"{run}/c2.award.bank"]


CHECKS = [
    the_next_fact_ends_it, its_time_ends_it, what_was_written_while_it_was_decided_ends_it, what_it_triggers_is_picked,
    a_pause_does_not_use_up_its_time, what_is_written_in_a_pause_ends_it_afterwards,
    a_decision_to_wait_in_a_paused_run_waits_afterwards, a_run_that_waits_is_cancelled_at_once,
    a_bid_is_looked_at_beside_other_work, the_time_of_a_request_ends_beside_other_work,
    what_ends_is_looked_at_and_nothing_else_open_means_a_step, what_ended_while_control_looked_is_looked_at,
    a_decision_about_a_model_s_tasks_has_requests_looked_at_beside_them, what_is_posted_for_a_request_is_a_task_of_the_run,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=[one.__name__ for one in CHECKS])
async def test_a_run_waits_until_something_is_written_or_its_time_is_over(play: Play, check: object) -> None:
    assert callable(check)
    assert await check(play)


async def test_a_decision_to_wait_that_is_sent_again_changes_nothing(play: Play) -> None:
    run = await play.run(agenda=AgendaTerms())
    await Entries(play.board, f"run:{run}").post("requests.bank", 1)
    step = await play.step(run)
    await wait(play, step, 1)
    before = await play.snapshot()
    await wait(play, step, 1)
    assert await play.snapshot() == before


async def test_many_who_write_and_sweep_at_the_end_of_its_time_end_it_once(play: Play) -> None:
    run, notes = await waiting(play)
    await play.clock.advance(SECONDS + 1)
    await asyncio.gather(*(notes.post("bids.bank", n) for n in range(5)), *(play.board.sweep() for _ in range(5)))
    assert await step_after_a_look(play, run)
    assert await nothing(play)


MUTATIONS: dict[str, tuple[object, Mutation]] = {
    "nobody is roused": (the_next_fact_ends_it, ("_board", "and rouse(a.ctl) end", "and false end")),
    "no timer": (its_time_ends_it, ("_board", "redis.call('ZADD', WAIT, n2s(MS + s.nap), s.id)", "")),
    "no wait": (the_next_fact_ends_it, ("commit", "a.f <= tonumber(facts)", "false")),
    "late facts": (what_was_written_while_it_was_decided_ends_it, ("commit", "a.f <= tonumber(facts)", "true")),
    "a pause forgets": (what_is_written_in_a_pause_ends_it_afterwards, ("_board", "t.was, t.ms = 'ready', nil", "")),
    "at once after a pause": (
        a_decision_to_wait_in_a_paused_run_waits_afterwards, ("_board", "rest(s.id, t, s.nap)", "rest(s.id, t, 0)"),
    ),
    "everything rouses it": (
        a_bid_is_looked_at_beside_other_work, ("_board", "(due or not a.beside) and rouse", "rouse"),
    ),
    "bids rouse nobody": (
        a_bid_is_looked_at_beside_other_work, ("_noticing", "bids = true, ", ""),
    ),
    "requests rouse nobody": (
        the_time_of_a_request_ends_beside_other_work, ("_noticing", "a.rq == a.f or", ""),
    ),
    "no nap beside other work": (
        the_time_of_a_request_ends_beside_other_work,
        ("agenda_decide", "post_control(run, RUN, a, math.max(0, till - MS))", ""),
    ),
    "what ends rouses nobody": (
        what_ends_is_looked_at_and_nothing_else_open_means_a_step, ("_board", "local asked = a.beside or", "local asked ="),
    ),
    "what ended meanwhile": (
        what_ended_while_control_looked_is_looked_at, ("agenda_decide", "(a.f > facts or fewer)", "(a.f > facts)"),
    ),
    "no look after a model's decision": (
        a_decision_about_a_model_s_tasks_has_requests_looked_at_beside_them, ("commit", "n > 0 and a.rq and", "false and"),
    ),
    "what is awarded is forgotten": (
        what_is_posted_for_a_request_is_a_task_of_the_run,
        ("agenda_decide", "for _, one in ipairs(further) do begin(one[1], one[2]) end", ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "change"), MUTATIONS.values(), ids=MUTATIONS)
async def test_a_check_fails_when_its_line_is_missing(
    monkeypatch: pytest.MonkeyPatch, check: object, change: Mutation
) -> None:
    assert callable(check)
    assert not await verdict(check, monkeypatch, change), "nobody noticed"
