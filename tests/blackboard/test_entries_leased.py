"""Entries that are taken under a lease: one holder at a time, and nothing lost when it dies (G1, G4, G9); on every engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from compaction_support import compacted
from entries_support import NOBODY, acme_notes, ids, told
from strict import Play, spec, watched_play

from blackboard import feed
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.erasure import erase
from blackboard.errors import BadInput, Conflict, Fenced, LeaseLost, ScriptRefused, Stale, UnknownRecord
from blackboard.events import Author
from blackboard.sealing import verify
from registry.matching import passages

play = watched_play
notes = acme_notes


async def held(notes: Entries, pattern: str = "a", lease_seconds: float = 10, **more: Any) -> tuple[Entry, int]:
    """What was taken under a lease, and its fence."""
    entry = await notes.take(pattern, lease_seconds=lease_seconds, **more)
    assert entry is not None
    assert entry.fence is not None
    return entry, entry.fence


# ---- the lease -------------------------------------------------------------------------------------------------------


async def test_what_is_held_is_found_by_nobody_until_it_is_confirmed_and_then_it_is_taken(
    play: Play, notes: Entries
) -> None:
    first = await notes.post("a", {"n": 1})
    entry, fence = await held(notes)
    assert (entry.id, entry.content, entry.state, entry.version, fence) == (first.id, {"n": 1}, "leased", 2, 2)
    assert entry.leased_until == play.clock.seconds + 10
    assert await notes.take("a") is None
    assert await notes.take("a", lease_seconds=1) is None
    assert ids(await notes.query()) == []
    read = await notes.read(first.id)
    assert read is not None
    assert (read.state, read.record()["fence"]) == ("leased", 2)
    done = await notes.confirm(first.id, fence)
    assert (done.version, done.new) == (3, True)
    await play.clock.advance(100)
    assert await notes.take("a") is None
    read = await notes.read(first.id)
    assert read is not None
    assert (read.state, read.leased_until) == ("taken", None)
    assert await told(notes, 3, after="-") == [
        ("posted", first.position), ("leased", entry.changed), ("taken", done.position)
    ]  # fmt: skip
    assert not (await notes.confirm(first.id, fence)).new, "a taker that lost the reply asks again"


async def test_what_a_dead_taker_held_comes_back_where_it_was(play: Play, notes: Entries) -> None:
    first, second = await notes.post("a", 1), await notes.post("a", 2)
    await held(notes)
    assert ids(await notes.query("a")) == [second.id]
    await play.clock.advance(9.999)
    assert ids(await notes.query("a")) == [second.id]
    await play.clock.advance(0.001)
    found = await notes.query("a")
    assert ids(found) == [first.id, second.id]
    assert (found.entries[0].fence, found.entries[0].leased_until, found.entries[0].state) == (None, None, "live")
    entry, fence = await held(notes)
    assert (entry.id, entry.content, fence) == (first.id, 1, 3)
    assert (await verify(notes)).faults == ()


async def test_who_comes_too_late_is_told_and_changes_nothing(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    _, lapsed = await held(notes)
    await play.clock.advance(10)
    before = await play.snapshot()

    async def too_late() -> None:
        for late in (
            notes.confirm(first.id, lapsed), notes.renew(first.id, lapsed, 10), notes.give_back(first.id, lapsed),
        ):  # fmt: skip
            with pytest.raises(LeaseLost):
                await late

    await too_late()
    assert await play.snapshot() == before
    _, fence = await held(notes, author=Author(kind="person", name="ann"))
    await too_late()
    assert (await notes.confirm(first.id, fence)).version == 4
    await too_late()
    with pytest.raises(UnknownRecord):
        await notes.confirm(notes.owner + NOBODY[7:], fence)
    assert issubclass(LeaseLost, Stale)


async def test_a_lease_that_is_renewed_in_time_goes_on_under_the_same_fence(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    _, fence = await held(notes)
    for _ in range(3):
        await play.clock.advance(9)
        await notes.renew(first.id, fence, 10)
    assert await notes.take("a") is None
    entry = await notes.read(first.id)
    assert entry is not None
    assert (entry.version, entry.fence, entry.leased_until) == (5, fence, play.clock.seconds + 10)
    await notes.renew(first.id, fence, 1)
    await play.clock.advance(1)
    assert ids(await notes.query("a")) == [first.id], "the last word counts, also when it is a shorter time"


async def test_what_is_given_back_is_there_at_once(play: Play, notes: Entries) -> None:
    first, second = await notes.post("a", 1), await notes.post("a", 2)
    _, fence = await held(notes)
    await notes.give_back(first.id, fence)
    assert ids(await notes.query("a")) == [first.id, second.id]
    with pytest.raises(LeaseLost):
        await notes.confirm(first.id, fence)
    assert (await held(notes))[0].id == first.id


async def test_of_many_takers_one_holds_each_entry(play: Play, notes: Entries) -> None:
    for number in range(5):
        await notes.post("a", number)
    takers = [notes.take("a", lease_seconds=10) for _ in range(4)] + [notes.take("a") for _ in range(4)]
    got = [one.content for one in await asyncio.gather(*takers) if one is not None]
    assert sorted(got) == list(range(5))


async def test_nobody_changes_what_another_holds(notes: Entries) -> None:
    first = await notes.post("a", 1)
    _, fence = await held(notes)
    for change in (notes.amend(first.id, 2), notes.retract(first.id)):
        with pytest.raises(ScriptRefused, match="LEASED"):
            await change
    await notes.give_back(first.id, fence)
    assert (await notes.amend(first.id, 2)).version == 4
    entry = await notes.read(first.id)
    assert entry is not None
    assert (entry.content, entry.fence) == (2, None)
    assert [one.content for one in await notes.history(first.id)] == [1, 2]


async def test_a_lease_outlasts_the_time_to_live_of_what_is_held(play: Play, notes: Entries) -> None:
    await notes.post("a", 1, seconds=5)
    second = await notes.post("a", 2, seconds=5)
    first, fence = await held(notes)
    _, other = await held(notes)
    await play.clock.advance(6)
    await notes.post("b", 3)  # sweeps what has expired
    assert (await notes.confirm(first.id, fence)).version == 3
    await notes.give_back(second.id, other)
    assert await notes.take("a") is None
    entry = await notes.read(second.id)
    assert entry is not None
    assert entry.state == "expired"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 86_401, True, "9"])
async def test_what_is_no_lease_is_refused(notes: Entries, seconds: Any) -> None:
    first = await notes.post("a", 1)
    with pytest.raises(BadInput, match="lease_seconds"):
        await notes.take("a", lease_seconds=seconds)
    with pytest.raises(BadInput, match="lease_seconds"):
        await notes.renew(first.id, 2, seconds)
    for fence in (0, True, 2**53):
        with pytest.raises(BadInput, match="fence"):
            await notes.confirm(first.id, fence)
    assert ids(await notes.query()) == [first.id]


# ---- once ------------------------------------------------------------------------------------------------------------


async def test_g4_each_step_that_is_sent_again_has_one_effect_and_the_same_answer(play: Play, notes: Entries) -> None:
    for number in range(3):
        await notes.post("a", number, operation=f"post {number}")

    async def all_of_it() -> list[Any]:
        first, fence = await held(notes, operation="take")
        renewed = await notes.renew(first.id, fence, 20, operation="renew")
        return [first.id, first.content, fence, renewed.position]

    answers = await all_of_it()
    before = await play.snapshot()
    assert await all_of_it() == answers
    assert await play.snapshot() == before
    done = await notes.confirm(answers[0], answers[2], operation="confirm")
    assert (await notes.confirm(answers[0], answers[2], operation="confirm")).position == done.position
    assert (await held(notes, operation="take"))[0].state == "taken", "whoever took it and has it is told so"
    for other in (
        notes.take("a", operation="take"),
        notes.take("a", lease_seconds=11, operation="take"),
        notes.give_back(answers[0], answers[2], operation="confirm"),
    ):
        with pytest.raises(Conflict):
            await other


async def test_an_operation_whose_lease_is_over_says_so_and_takes_nothing_else(play: Play, notes: Entries) -> None:
    await notes.post("a", 1)
    await notes.post("a", 2)
    await held(notes, operation="mine")
    await play.clock.advance(10)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await notes.take("a", lease_seconds=10, operation="mine")
        other = await notes.take("a")
        assert other is not None


async def test_a_task_that_lost_its_own_lease_confirms_nothing(play: Play) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    mine = Entries(play.board, f"run:{run}")
    first = await mine.post("a", 1)
    entry, fence = await held(mine, task=claim, operation="take")
    await play.board.release(claim)
    for late in (
        mine.confirm(first.id, fence, task=claim), mine.renew(first.id, fence, 9, task=claim),
        mine.give_back(first.id, fence, task=claim),
    ):  # fmt: skip
        with pytest.raises(Fenced):
            await late
    again = await play.one()
    assert (await held(mine, task=again, operation="take"))[0] == entry, "its next attempt goes on with what it held"
    done = await mine.confirm(first.id, fence, task=again)
    now = await mine.read(first.id)
    assert now is not None
    assert (now.state, now.changed) == ("taken", done.position)


# ---- waiting ---------------------------------------------------------------------------------------------------------


async def test_who_waits_is_woken_when_what_another_held_is_given_back(notes: Entries) -> None:
    first = await notes.post("a", 1)
    _, fence = await held(notes, lease_seconds=3600)
    waiting = asyncio.create_task(notes.take("a", seconds=60))
    await asyncio.sleep(0)
    await notes.give_back(first.id, fence)
    taken = await waiting
    assert taken is not None
    assert taken.id == first.id


async def test_who_waits_has_it_when_the_lease_of_another_lapses(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fact tells of a lapse, and the feed is trusted in its silence for longer than this test may take."""
    monkeypatch.setattr(feed, "RECONCILE_SECONDS", 3600)
    first = await notes.post("a", 1)
    await held(notes, lease_seconds=0.2)
    looked: list[float | None] = []
    query = notes.query

    async def noticed(*args: Any, **more: Any) -> Any:
        found = await query(*args, **more)
        looked.append(found.lapse)
        if len(looked) == 2:
            await play.clock.advance(0.2)
        return found

    monkeypatch.setattr(notes, "query", noticed)
    async with asyncio.timeout(60):
        taken = await notes.take("a", seconds=3600)
    assert taken is not None
    assert (taken.id, taken.version) == (first.id, 3)
    assert looked[:2] == [0.2, 0.2]
    assert looked[-1] is None


async def test_who_waits_gives_up_at_the_deadline_although_another_holds_it(notes: Entries) -> None:
    await notes.post("a", 1)
    await held(notes, lease_seconds=3600)
    assert await notes.take("a", seconds=0.01) is None


async def test_who_waits_for_what_another_holds_is_told_that_the_run_is_over(play: Play) -> None:
    run = await play.run()
    mine = Entries(play.board, f"run:{run}")
    first = await mine.post("a", 1)
    _, fence = await held(mine, lease_seconds=3600)
    waiting = asyncio.create_task(mine.take("a", seconds=600))
    await asyncio.sleep(0)
    await play.board.cancel_run(run, "enough")
    with pytest.raises(ScriptRefused, match="CLOSED"):
        await waiting
    with pytest.raises(ScriptRefused, match="CLOSED"):
        await mine.confirm(first.id, fence)


# ---- the past, and what becomes of the log ---------------------------------------------------------------------------


async def test_g9_every_moment_of_a_lease_reads_again_as_it_was(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    entry, fence = await held(notes)
    during = (await notes.post("b", 2)).position
    await notes.renew(first.id, fence, 5)
    await play.clock.advance(6)
    lapsed = (await notes.post("b", 3)).position
    _, again = await held(notes)
    back = (await notes.give_back(first.id, again)).position
    taken = await notes.take("a")
    assert taken is not None
    states = {first.position: "live", entry.changed: "leased", during: "leased", lapsed: "live", back: "live"}
    for position, state in states.items():
        past = await notes.read(first.id, at=position)
        assert past is not None
        assert (past.state, past.fence) == (state, fence if state == "leased" else None), position
        assert (first.id in ids(await notes.query("a", at=position))) == (state == "live")
    assert (await verify(notes)).faults == ()


async def test_what_is_held_is_not_compacted_and_its_leases_go_with_it(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1, seconds=5)
    _, fence = await held(notes, lease_seconds=60)
    await notes.renew(first.id, fence, 60)
    await play.clock.advance(10)
    assert (await compacted(play, notes, older_than=0)).entries == 0
    await notes.confirm(first.id, fence)
    second = await notes.post("b", 1)
    _, other = await held(notes, "b")
    await notes.give_back(second.id, other)
    await notes.amend(second.id, 2)
    done = await compacted(play, notes, older_than=0)
    assert (done.facts, done.entries) == (4 + 3, 1)
    assert await notes.read(first.id) is None
    assert (await verify(notes)).faults == ()


async def test_what_is_held_is_erased_all_the_same(play: Play, notes: Entries) -> None:
    first = await notes.post("a", "private", author=Author(kind="person", name="ann"))
    _, fence = await held(notes)
    done = await erase(play.board, author="ann", scope=notes.scope, by="desk")
    assert done.entries == 1
    with pytest.raises(LeaseLost, match="erased"):
        await notes.confirm(first.id, fence)
    entry = await notes.read(first.id)
    assert entry is not None
    assert (entry.state, entry.content) == ("erased", None)


async def test_whoever_held_it_is_forgotten_and_what_it_says_stays(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    _, fence = await held(notes, author=Author(kind="person", name="ann"))
    await notes.give_back(first.id, fence)
    done = await erase(play.board, author="ann", scope=notes.scope, by="desk")
    assert (done.facts, done.entries) == (1, 0)
    assert ids(await notes.query("a")) == [first.id]


async def test_by_meaning_what_is_held_is_not_found_and_what_lapsed_is(play: Play) -> None:
    asked = Entries(play.board, "tenant:acme", meaning=passages.meaning())
    first = await asked.post("a", "the bank of Acme")
    second = await asked.post("a", "Acme wants money")

    async def found() -> list[str]:
        now = ids(await asked.query(about="bank of Acme"))
        fresh = Entries(play.board, "tenant:acme", meaning=passages.meaning())
        assert ids(await fresh.query(about="bank of Acme")) == now
        return now

    assert await found() == [first.id, second.id]
    entry, fence = await held(asked)
    assert entry.id == first.id
    assert await found() == [second.id]
    await asked.renew(first.id, fence, 20)
    await play.clock.advance(15)
    assert await found() == [second.id]
    await play.clock.advance(5)
    assert await found() == [first.id, second.id]
    _, fence = await held(asked)
    assert await found() == [second.id]
    await asked.give_back(first.id, fence)
    assert await found() == [first.id, second.id]
    _, fence = await held(asked)
    await asked.confirm(first.id, fence)
    await play.clock.advance(60)
    assert await found() == [second.id]
