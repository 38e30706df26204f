"""Tasks of planned runs whose premise goes are stopped by the script that writes so (G2, G3, G7)."""

from __future__ import annotations

from typing import Any

import pytest
from strict import Mutation, Play, done, spec, verdict, watched_play

from blackboard.entries import Entries
from blackboard.types import Status

play = watched_play


async def resting(play: Play, *keys: str) -> tuple[str, Entries, str]:
    """A run with a task for each key, made from one entry: the run, its entries, and that entry."""
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    claim = await notes.post("claims.a", 1)
    await play.plan(await play.step(run), *(spec(key, made_from=(claim.id,)) for key in keys))
    return run, notes, claim.id


async def ended(play: Play, run: str) -> dict[str, tuple[str, str]]:
    """Status and message of each task that ended, by key."""
    found: dict[str, tuple[str, str]] = {}
    for event in await play.board.history(run):
        if event.kind == "task.completed" and event.data.node != "arbiter":
            error = event.data.error
            found[event.subject.rpartition(".")[2]] = (event.data.status.value, error.message if error else "")
    return found


@pytest.mark.parametrize("fact", ["retracted", "amended", "contradicted"])
async def test_g7_a_running_task_is_told_and_one_that_waits_ends_with_the_next_sweep(play: Play, fact: str) -> None:
    run, notes, entry = await resting(play, "runs", "waits")
    claim = await play.one()
    if fact == "retracted":
        await notes.retract(entry)
        why = f"the entry it was made from was retracted: {entry}"
    elif fact == "amended":
        await notes.amend(entry, 2)
        why = f"the entry it was made from was amended, to version 2: {entry}"
    else:
        other = await notes.post("claims.b", 2, links=[("contradicts", entry)])
        why = f"the entry it was made from is contradicted by {other.id}"
    assert await play.hold(claim) == "cancel"
    await play.board.sweep()
    assert await ended(play, run) == {"waits": ("cancelled", why)}
    await play.board.complete(claim, claim.completion(Status.CANCELLED))
    assert (await play.step(run)).round == 2, "the model is asked again"
    told = [event.data.reason for event in await play.board.history(run) if event.kind == "task.cancelling"]
    assert told == [why, why]


async def test_what_was_stopped_before_it_began_is_handed_to_nobody_and_ends_with_the_plain_reason(play: Play) -> None:
    run, notes, entry = await resting(play, "a", "b")
    await notes.retract(entry)
    assert await play.take(n=2) == []
    await play.sound()
    await play.board.sweep()
    why = f"the entry it was made from was retracted: {entry}"
    assert await ended(play, run) == {"a": ("cancelled", why), "b": ("cancelled", why)}
    assert (await play.step(run)).round == 2


async def test_a_task_that_does_not_rest_on_the_entry_goes_on(play: Play) -> None:
    run, notes, entry = await resting(play, "a")
    other = await notes.post("claims.b", 1)
    claim = await play.one()
    await notes.retract(other.id)
    await notes.post("claims.c", 1, links=[("supports", entry)])
    assert await play.hold(claim) == ""
    await play.board.complete(claim, done(claim))
    assert (await ended(play, run))["a"][0] == "succeeded"


async def test_what_a_task_itself_says_of_its_entry_is_its_own(play: Play) -> None:
    _, notes, entry = await resting(play, "a")
    claim = await play.one()
    await notes.amend(entry, 2, task=claim)
    assert await play.hold(claim) == ""
    await play.board.complete(claim, done(claim))


async def test_the_result_of_a_task_it_waited_for_is_a_premise(play: Play) -> None:
    run = await play.run(spec("load"), spec("sum", ["load"]))
    load = await play.one()
    await play.board.complete(load, done(load))
    claim = await play.one()
    notes = Entries(play.board, f"run:{run}")
    await notes.post("doubts", "the file is an old one", links=[("contradicts", load.entry)])
    assert await play.hold(claim) == "cancel"
    await play.board.complete(claim, claim.completion(Status.CANCELLED))


async def test_what_waits_for_a_task_that_is_stopped_is_not_started(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    entry = await notes.post("claims.a", 1)
    await play.plan(await play.step(run), spec("a", made_from=(entry.id,)), spec("b", ["a"]))
    await notes.retract(entry.id)
    await play.board.sweep()
    assert {key: status for key, (status, _) in (await ended(play, run)).items()} == {
        "a": "cancelled",
        "b": "cancelled",
    }
    assert (await play.step(run)).round == 2


@pytest.mark.parametrize("fact", ["retracted", "amended", "contradicted"])
async def test_g2_what_is_lost_between_reading_and_deciding_stops_the_task_it_was_to_be_made_of(
    play: Play, fact: str
) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    entry = await notes.post("claims.a", 1)
    step = await play.step(run)
    seen = (await play.board.history(run))[-1].sequence
    await play.clock.advance(0.01)
    await lose(notes, entry.id, fact)
    await play.decide(step, spec("a", made_from=(entry.id,)), seen=seen)
    await play.board.sweep()
    assert (await ended(play, run))["a"][0] == "cancelled"
    assert (await play.step(run)).round == 2


@pytest.mark.parametrize("amended", [False, True])
async def test_what_was_held_and_given_back_between_reading_and_deciding_stops_nothing(
    play: Play, amended: bool
) -> None:
    """A lease counts as a version of the entry and says nothing."""
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    entry = await notes.post("claims.a", 1)
    if amended:
        await notes.amend(entry.id, 2)
    step = await play.step(run)
    seen = (await play.board.history(run))[-1].sequence
    await play.clock.advance(0.01)
    held = await notes.take("claims.a", lease_seconds=5)
    assert held is not None
    await notes.give_back(entry.id, held.fence or 0)
    await play.decide(step, spec("a", made_from=(entry.id,)), seen=seen)
    claim = await play.one()
    assert await play.hold(claim) == ""
    await play.board.complete(claim, done(claim))


async def test_what_was_amended_before_it_was_read_stops_nothing(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    entry = await notes.post("claims.a", 1)
    await notes.amend(entry.id, 2)
    await notes.post("claims.b", 1, links=[("contradicts", entry.id)])
    step = await play.step(run)
    seen = (await play.board.history(run))[-1].sequence
    await play.decide(step, spec("a", made_from=(entry.id,)), seen=seen)
    claim = await play.one()
    assert await play.hold(claim) == ""
    await play.board.complete(claim, done(claim))


async def test_a_task_of_a_paused_run_ends_once_it_goes_on(play: Play) -> None:
    run, notes, entry = await resting(play, "a")
    await play.board.pause_run(run)
    await notes.retract(entry)
    await play.board.sweep()
    assert await ended(play, run) == {}
    await play.clock.advance(5)
    await play.board.resume_run(run)
    await play.clock.advance(0.01)
    await play.board.sweep()
    assert (await ended(play, run))["a"][0] == "cancelled"


async def lose(notes: Entries, entry: str, fact: str) -> None:
    if fact == "retracted":
        await notes.retract(entry)
    elif fact == "amended":
        await notes.amend(entry, 2)
    else:
        await notes.post("claims.b", 2, links=[("contradicts", entry)])


@pytest.mark.parametrize("fact", ["retracted", "amended", "contradicted"])
async def test_g7_what_is_lost_several_derivations_away_stops_the_task_and_says_how_it_rests_on_it(
    play: Play, fact: str
) -> None:
    run, notes, first = await derived(play, 3)
    last = (await notes.query("derived.2")).entries[0].id
    await play.plan(await play.step(run), spec("a", made_from=(last,)), spec("b"))
    claims = {claim.key: claim for claim in await play.take(n=2)}
    await lose(notes, first, fact)
    assert [await play.hold(claims[key]) for key in ("a", "b")] == ["cancel", ""]
    (why,) = [event.data.reason for event in await play.board.history(run) if event.kind == "task.cancelling"]
    assert why.startswith(f"the entry it was made from, {last}, is derived from one that ")
    for claim in claims.values():
        await play.board.complete(claim, claim.completion(Status.CANCELLED))


async def test_a_result_rests_on_what_its_task_was_made_from(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    entry = await notes.post("claims.a", 1)
    await play.plan(await play.step(run), spec("load", made_from=(entry.id,)), spec("sum", ["load"]))
    load = await play.one()
    await play.board.complete(load, done(load))
    claim = await play.one()
    await notes.retract(entry.id)
    assert await play.hold(claim) == "cancel"
    await play.board.complete(claim, claim.completion(Status.CANCELLED))


async def test_derivations_are_followed_over_so_many_entries_the_nearest_first(play: Play) -> None:
    run, notes, first = await derived(play, 300)
    near, far = [(await notes.query(f"derived.{n}")).entries[0].id for n in (254, 255)]
    step = await play.step(run)
    await play.plan(step, spec("near", made_from=(near,)), spec("far", made_from=(far,)))
    claims = {claim.key: claim for claim in await play.take(n=2)}
    await notes.retract(first)
    assert [await play.hold(claims[key]) for key in ("near", "far")] == ["cancel", ""]
    for claim in claims.values():
        await play.board.complete(claim, claim.completion(Status.CANCELLED))


async def test_what_was_derived_from_it_and_taken_away_stops_nothing(play: Play) -> None:
    run, notes, _ = await derived(play, 1)
    step = await play.step(run)
    seen = (await play.board.history(run))[-1].sequence
    entry = (await notes.query("derived.0")).entries[0].id
    await play.clock.advance(0.01)
    await notes.take("claims.first")
    await play.decide(step, spec("a", made_from=(entry,)), seen=seen)
    claim = await play.one()
    assert await play.hold(claim) == ""
    await play.board.complete(claim, done(claim))


async def derived(play: Play, length: int) -> tuple[str, Entries, str]:
    """A run whose entries are derived one from the other: the run, its entries, and the first, ``claims.first``."""
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    before = first = (await notes.post("claims.first", 1)).id
    for n in range(length):
        before = (await notes.post(f"derived.{n}", n, links=[("derived_from", before)])).id
    return run, notes, first


# ---- the checks have teeth ---------------------------------------------------------------------------------------------


async def stopped_in_time(play: Play, fact: str = "contradicted") -> bool:
    run, notes, entry = await resting(play, "runs", "waits")
    claim = await play.one()
    await lose(notes, entry, fact)
    told = await play.hold(claim)
    await play.board.sweep()
    return told == "cancel" and set(await ended(play, run)) == {"waits"}


async def stopped_on_retraction(play: Play) -> bool:
    return await stopped_in_time(play, "retracted")


async def its_own_words_stop_nothing(play: Play) -> bool:
    _, notes, entry = await resting(play, "a")
    claim = await play.one()
    await notes.amend(entry, 2, task=claim)
    return await play.hold(claim) == ""


async def lost_before_the_decision(play: Play) -> bool:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    entry = await notes.post("claims.a", 1)
    step = await play.step(run)
    seen = (await play.board.history(run))[-1].sequence
    await play.clock.advance(0.01)
    await notes.retract(entry.id)
    await play.decide(step, spec("a", made_from=(entry.id,)), seen=seen)
    await play.board.sweep()
    return "a" in await ended(play, run)


async def nothing_stopped_is_begun(play: Play) -> bool:
    _, notes, entry = await resting(play, "a")
    await notes.retract(entry)
    return await play.take() == []


async def stopped_far_away(play: Play) -> bool:
    run, notes, first = await derived(play, 2)
    last = (await notes.query("derived.1")).entries[0].id
    await play.plan(await play.step(run), spec("a", made_from=(last,)))
    claim = await play.one()
    await notes.retract(first)
    return await play.hold(claim) == "cancel"


async def lost_far_away_before_the_decision(play: Play) -> bool:
    run, notes, first = await derived(play, 2)
    last = (await notes.query("derived.1")).entries[0].id
    step = await play.step(run)
    seen = (await play.board.history(run))[-1].sequence
    await play.clock.advance(0.01)
    await notes.retract(first)
    await play.decide(step, spec("a", made_from=(last,)), seen=seen)
    await play.board.sweep()
    return "a" in await ended(play, run)


@pytest.mark.parametrize(
    ("check", "mutation"),
    [
        (stopped_in_time, ("_premises", "if link.rel == 'contradicts'", "if false")),
        (stopped_in_time, ("_premises", "redis.call('ZADD', DUE, n2s(MS), 't:' .. id)", "redis.call('ZREM', DUE, '')")),
        (stopped_on_retraction, ("_premises", "if h.ver > 1", "if false")),
        (stopped_on_retraction, ("_premises", "if entries[one] then return one end", "")),
        (nothing_stopped_is_begun, ("claim", "and not t.cxl", "")),
        (stopped_far_away, ("_premises", "queue[#queue + 1] = other", "")),
        (lost_far_away_before_the_decision, ("_premises", "queue[#queue + 1] = {link.to, from}", "")),
        (its_own_words_stop_nothing, ("_premises", "and id ~= by", "")),
        (lost_before_the_decision, ("commit", "if why then", "if false then")),
    ],
)
async def test_taking_a_guard_out_is_noticed(check: Any, mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await verdict(check, monkeypatch)
    assert not await verdict(check, monkeypatch, mutation)
