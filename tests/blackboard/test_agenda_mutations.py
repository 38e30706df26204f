"""The checks of agendas have teeth: each guard of their scripts is taken out in turn, and the check that stands for it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from agenda_support import at_once, control, decide, declare, declared, driven, look, picked, told
from strict import Check, Mutation, Play, done, faults, verdict

from blackboard.agenda import Agenda
from blackboard.entries import Entries
from blackboard.errors import Stale
from blackboard.events import RatedActivation
from blackboard.triggers import AgendaTerms, Declared, Trigger


async def waits(play: Play, **terms: Any) -> tuple[str, Entries, Agenda]:
    run, notes = await driven(play, **terms)
    await declare(play, "check", Trigger(topic="a"))
    await notes.post("a", 1)
    return run, notes, Agenda(play.board, run)


async def states(agenda: Agenda) -> list[str]:
    return [one.state for one in await agenda.activations()]


async def sound(play: Play) -> bool:
    return not await faults(play.board)


async def what_was_compared_with_old_triggers_is_compared_again(play: Play) -> bool:
    _, notes, agenda = await waits(play)
    await declare(play, "later", Trigger(topic="a"))
    await notes.post("a", 2)
    return len(await states(agenda)) == 3 and await sound(play)


async def other_tenants_are_not_triggered(play: Play) -> bool:
    await declare(play, "theirs", Trigger(topic="a"), tenant="acme")
    _, _, agenda = await waits(play)
    return await states(agenda) == ["waiting"]


async def chain(play: Play, **terms: int) -> list[str]:
    run, notes, agenda = await waits(play, **terms)
    for _ in range(3):
        if "waiting" not in await states(agenda):
            break
        claim = await picked(play, run)
        await notes.post("a", 1, task=claim)
        await play.board.complete(claim, done(claim))
    return await states(agenda)


async def a_chain_ends_at_its_depth(play: Play) -> bool:
    return await chain(play, depth=2, repeats=9) == ["picked", "picked", "stopped"]


async def ping_pong_ends(play: Play) -> bool:
    return await chain(play, depth=9, repeats=1) == ["picked", "stopped"]


async def all_of_a_storm_is_made(play: Play) -> bool:
    run, notes = await driven(play)
    await at_once(play, [one for n in range(501) for one in declared(f"c{n}", Trigger(topic="a"))])
    await notes.post("a", 1)
    await look(play, run)
    return len(await Agenda(play.board, run).activations()) == 501 and await sound(play)


async def a_decision_sent_again_changes_nothing(play: Play) -> bool:
    run, _, agenda = await waits(play)
    claim, view = await control(play), await agenda.view()
    for _ in range(2):
        await decide(play, claim, view, ends=False)
    return (await play.kinds(run)).count("agenda.decided /agenda") == 1


async def concurrency_is_kept(play: Play) -> bool:
    _, notes, agenda = await waits(play, concurrency=1)
    await notes.post("a", 2)
    try:
        await decide(play, await control(play), await agenda.view(), [1, 2])
    except Stale:
        return True
    return False


async def what_was_blocked_is_not_picked(play: Play) -> bool:
    _, _, agenda = await waits(play)
    claim, view = await control(play), await agenda.view()
    await agenda.block(1, by="ann")
    try:
        await decide(play, claim, view, [1])
    except Stale:
        return True
    return False


async def one_control_task_at_a_time(play: Play) -> bool:
    run, notes, _ = await waits(play)
    await notes.post("a", 2)
    return (await play.kinds(run, "task.posted")).count("task.posted /c1") == 1 and await sound(play)


async def no_control_task_beside_a_decision(play: Play) -> bool:
    run = await play.run(agenda=AgendaTerms())
    await declare(play, "check", Trigger(topic="a"))
    await Entries(play.board, f"run:{run}").post("a", 1)
    await play.plan(await play.step(run))
    return [one for one in await play.kinds(run) if "/c1" in one] == ["task.posted /c1"] and await sound(play)


async def room_is_given_back(play: Play) -> bool:
    run, notes, agenda = await waits(play, concurrency=1)
    await notes.post("a", 2)
    claim = await picked(play, run)
    await play.board.complete(claim, done(claim))
    await look(play, run, None)
    return await states(agenda) == ["picked", "picked"] and await sound(play)


async def a_change_that_comes_late_is_made_once(play: Play) -> bool:
    _, _, agenda = await waits(play)
    await agenda.block(1, by="ann", operation="x")
    await agenda.unblock(1, by="ann")
    return await agenda.block(1, by="ann", operation="x") == "waiting"


async def what_a_person_rated_stays(play: Play) -> bool:
    _, _, agenda = await waits(play)
    await agenda.rerate(1, 3, by="ann")
    said = told(rated=(RatedActivation(number=1, rating=9.0),))
    await agenda.decide(await control(play), 1, said, [], ends=True, facts=1, rated_all=True)
    return [one.rating for one in await agenda.waiting()] == [3.0]


async def late_triggers_change_nothing(play: Play) -> bool:
    await declare(play, "check", Trigger(topic="a"), revision=2)
    await declare(play, "check", Trigger(topic="b"), revision=1, sha="old")
    kept: Sequence[Declared] = (await play.board.triggers.fetch(play.shard)).fitting("a", 1, {})
    return [one.version for one in kept] == ["v1"]


async def what_is_parked_is_looked_at_again(play: Play) -> bool:
    run, notes, agenda = await waits(play)
    await decide(play, await control(play), await agenda.view(), aside=[(1, "parked", "not yet")])
    await notes.post("b", 1)
    return (await play.kinds(run)).count("task.posted /c2") == 1


async def the_next_decision_follows_what_was_dropped(play: Play) -> bool:
    run, _, agenda = await waits(play)
    own = await play.one()
    await play.board.complete(own, done(own))
    await decide(play, await control(play), await agenda.view(), aside=[(1, "obviated", "no use")])
    return (await play.step(run)).round == 2


async def what_is_left_of_a_run_is_nothing(play: Play) -> bool:
    from blackboard.retention import retire

    run, _, _ = await waits(play)
    await play.board.cancel_run(run)
    await retire(play.board, run)
    return not [key async for key in play.board.client.scan_iter(match="*", count=1000) if run in key]


MUTATIONS: list[tuple[str, Mutation, Check]] = [
    (
        "any triggers will do",
        ("_noticing", "if now ~= version then", "if false then"),
        what_was_compared_with_old_triggers_is_compared_again,
    ),
    (
        "everybody's triggers",
        ("_activations", "(d.tenant == '*' or d.tenant == RUN.tenant)", "true"),
        other_tenants_are_not_triggered,
    ),
    ("no depth", ("_activations", "src.hop > RUN.ag.hop", "false"), a_chain_ends_at_its_depth),
    ("no ping-pong", ("_activations", "times >= RUN.ag.rep", "false"), ping_pong_ends),
    ("a chain is forgotten", ("_noticing", "src.chain[#src.chain + 1] = above.tr", ""), ping_pong_ends),
    ("the rest of a storm is lost", ("_noticing", "redis.call('RPUSH'", "local _ = ('RPUSH'"), all_of_a_storm_is_made),
    (
        "the rest of a storm is never made",
        ("agenda_decide", "if not (more(a, run) and redis.call('LINDEX', MORE, 0)) then a.m = nil end", "a.m = nil"),
        all_of_a_storm_is_made,
    ),
    (
        "no memory of decisions",
        ("agenda_decide", "if a.call == call then return 0 end", ""),
        a_decision_sent_again_changes_nothing,
    ),
    (
        "no bound on what is picked",
        ("agenda_decide", "if not room(RUN, a, #picked - bids) or", "if"),
        concurrency_is_kept,
    ),
    (
        "what was blocked counts",
        ("agenda_decide", "x.st == 'waiting' or x.st == 'parked'", "true"),
        what_was_blocked_is_not_picked,
    ),
    (
        "many control tasks",
        ("_board", "if a.ctl then return (due or not a.beside) and rouse(a.ctl) end", ""),
        one_control_task_at_a_time,
    ),
    (
        "control beside a decision",
        ("_board", "if decided_on(run, r) then return false end", ""),
        no_control_task_beside_a_decision,
    ),
    (
        "a decision without control",
        ("commit", "elseif not attended and redis.call('SCARD', OPEN) == 0 then", "elseif n == 0 then"),
        no_control_task_beside_a_decision,
    ),
    (
        "room is never given back",
        ("_board", "if t.act then a.busy = a.busy - 1 else a.ctl, a.beside = nil, nil end", "a.ctl = nil"),
        room_is_given_back,
    ),
    (
        "nobody looks when there is room",
        ("_board", "if r and active(r) and attend(t.run, r, a, asked) and not RIPE then return end", ""),
        room_is_given_back,
    ),
    (
        "no memory of changes",
        ("agenda_change", "if done == op then return {x.st, 0} end", ""),
        a_change_that_comes_late_is_made_once,
    ),
    (
        "strategies overrule people",
        ("agenda_decide", "if not x.pin then x.rt = one[2] end", "x.rt = one[2]"),
        what_a_person_rated_stays,
    ),
    (
        "the last to write wins",
        ("triggers_write", "tonumber(at) >= tonumber(revision)", "false"),
        late_triggers_change_nothing,
    ),
    ("what is parked is forgotten", ("_board", "a.p > 0 and a.f > a.seen", "false"), what_is_parked_is_looked_at_again),
    (
        "nothing follows",
        ("agenda_decide", "if open == 0 then\n    post_step(run, RUN)", "if open == 0 then"),
        the_next_decision_follows_what_was_dropped,
    ),
    (
        "an agenda outlives its run",
        ("retire_run", "for i = FIXED + 3 * NL + 4, #KEYS do", "for i = FIXED + 3 * NL + 7, #KEYS do"),
        what_is_left_of_a_run_is_nothing,
    ),
]


@pytest.mark.parametrize(("change", "check"), [one[1:] for one in MUTATIONS], ids=[one[0] for one in MUTATIONS])
async def test_a_check_fails_when_its_guard_is_missing(
    monkeypatch: pytest.MonkeyPatch, change: Mutation, check: Check
) -> None:
    assert await verdict(check, monkeypatch), "the check fails on the scripts as they are"
    assert not await verdict(check, monkeypatch, change), "nobody noticed"
