"""Entries that are taken and watched, and tasks that write them; on every engine (G4, G11)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest
from entries_support import acme_notes, ids, told
from strict import Play, done, spec, watched_play

from blackboard import feed, feed_since
from blackboard.entries import Entries
from blackboard.errors import BadInput, Fenced, ScriptRefused
from blackboard.events import Author

play = watched_play
notes = acme_notes


# ---- taking ----------------------------------------------------------------------------------------------------------


async def test_each_entry_is_taken_by_exactly_one_and_the_oldest_first(notes: Entries) -> None:
    for number in range(12):
        await notes.post("work.todo", number)
    first = await notes.take("work.*")
    assert first is not None
    assert (first.content, first.state) == (0, "taken")
    got = await asyncio.gather(*(notes.take("work.>") for _ in range(20)))
    taken = [one.content for one in got if one is not None]
    assert sorted(taken) == list(range(1, 12))
    assert (await notes.query()).entries == ()


async def test_a_taker_waits_until_something_fits(notes: Entries) -> None:
    takers = [asyncio.create_task(notes.take("bid.*", "n>=5", seconds=30)) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(8):
        await notes.post("bid.one", {"n": number})
    got = await asyncio.gather(*takers)
    assert sorted(one.content["n"] for one in got if one is not None and isinstance(one.content, dict)) == [5, 6, 7]
    assert len((await notes.query()).entries) == 5


async def test_a_taker_gives_up_at_its_deadline(notes: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    await notes.post("a", 1)
    assert await notes.take("b", seconds=0.01) is None
    assert len((await notes.query()).entries) == 1


async def test_a_taker_waits_although_no_notice_comes(notes: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices only save time: the board is looked at again when there are none."""
    monkeypatch.setattr(feed, "RECONCILE_SECONDS", 0.01)
    waiting = asyncio.create_task(notes.take("a", seconds=30))
    await asyncio.sleep(0)
    await notes._board.feed.close()  # pyright: ignore[reportPrivateUsage]
    written = await notes.post("a", 1)
    taken = await waiting
    assert taken is not None
    assert taken.id == written.id


# ---- watching --------------------------------------------------------------------------------------------------------


async def test_a_watch_resumes_without_gap_or_repetition(notes: Entries) -> None:
    first = await notes.post("a.x", 1)
    waiting = asyncio.create_task(told(notes, 4, pattern="a.>", after="-"))
    await notes.post("b", 0)
    second = await notes.amend(first.id, 2)
    other = await notes.post("a.y", 3)
    gone = await notes.retract(first.id)
    expected = [
        ("posted", first.position), ("amended", second.position), ("posted", other.position), ("retracted", gone.position),
    ]  # fmt: skip
    assert await waiting == expected
    for number in range(3):
        assert await told(notes, 3 - number, pattern="a.>", after=expected[number][1]) == expected[number + 1 :]
    taken = asyncio.create_task(told(notes, 1, pattern="a.>", after=gone.position))
    await notes.take("a.y")
    assert [kind for kind, _ in await taken] == ["taken"]


async def test_a_watch_from_what_was_read_tells_all_that_follows(notes: Entries) -> None:
    """Everything is either in the answer or told by the watch, and nothing is in both."""
    writers = [asyncio.create_task(notes.post("n", number)) for number in range(60)]
    await writers[20]
    found = await notes.query("n", limit=1000)
    watching = asyncio.create_task(told(notes, 60 - len(found.entries), pattern="n", after=found.position))
    await asyncio.gather(*writers)
    rest = await watching if len(found.entries) < 60 else []
    places = [one.position for one in found.entries] + [at for _, at in rest]
    assert Counter(places) == Counter({task.result().position: 1 for task in writers})


async def test_a_watch_that_hears_of_a_failover_tells_what_the_log_says_now_and_repeats_nothing(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written after a failover may stand before what was read and is undone."""
    client, log = play.board.client, play.shard.log("session:other")
    other = Entries(play.board, "session:other")
    kept, undone, instead = [(await other.post("a", n)).position for n in range(3)]
    facts = await client.xrange(log)
    await client.delete(log)
    for _, fields in facts[:2]:
        await client.xadd(log, fields, id=("1-1", "1-5")[fields["data"].startswith('{"content":1')])

    async def changes(*_: Any) -> Any:
        yield False
        await client.delete(log)
        await client.xadd(log, facts[0][1], id="1-1")
        await client.xadd(log, facts[2][1], id="1-3")
        yield True

    monkeypatch.setattr(play.board.feed, "changes", changes)
    found = [event.data.content async for event in other.watch(after="-")]
    assert found == [0, 1, 2]
    assert kept < undone < instead
    await play.wipe()


async def test_whoever_follows_the_board_hears_of_entries_of_every_scope(play: Play, notes: Entries) -> None:
    before = await play.board.feed.end(play.shard)
    async with contextlib.aclosing(play.board.feed.follow(play.board)) as events:
        following = asyncio.ensure_future(anext(events))
        while not play.board.feed._everything:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0)
        written = await notes.post("a", {"n": 1})
        event = await following
    assert (event.subject, event.data.content, event.partitionkey) == (written.id, {"n": 1}, "tenant:acme")
    told = await feed_since.told(play.board, play.board.shard_of(notes.owner), before, 10)
    assert [one.subject for one in told.events] == [written.id]


async def test_a_watch_chooses_by_content(notes: Entries) -> None:
    await notes.post("a", {"n": 1})
    second = await notes.post("a", {"n": 2})
    assert await told(notes, 1, where="n>1", after="-") == [("posted", second.position)]


async def test_a_watch_of_a_run_ends_with_it_and_its_entries_stay_readable(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    written = await notes.post("a", 1)
    waiting = asyncio.create_task(told(notes, 99, after="-"))
    await play.plan(await play.step(run), answer="done")
    assert await waiting == [("posted", written.position)]
    for late in (notes.post("a", 2), notes.amend(written.id, 2), notes.retract(written.id), notes.take("a")):
        with pytest.raises(ScriptRefused, match="CLOSED"):
            await late
    assert ids(await notes.query()) == [written.id]
    kinds = await play.kinds(run, "entry.posted", "run.completed")
    assert [kind.partition(" ")[0] for kind in kinds] == ["entry.posted", "run.completed"]


async def test_whoever_waits_for_something_to_take_is_told_that_its_run_is_over(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    waiting = asyncio.ensure_future(notes.take("a", seconds=600))
    other = asyncio.ensure_future(notes.take("b", seconds=600))
    await asyncio.sleep(0)
    await notes.post("a", 1)
    taken = await waiting
    assert taken is not None
    await play.board.cancel_run(run, "enough")
    async with asyncio.timeout(60):
        with pytest.raises(ScriptRefused, match="CLOSED"):
            await other


# ---- tasks that write ------------------------------------------------------------------------------------------------


async def test_g4_a_task_writes_under_its_lease_and_is_named_as_the_author(play: Play) -> None:
    run = await play.run(spec("a", capability="count", version="f" * 64))
    claim = await play.one()
    notes = Entries(play.board, f"run:{run}")
    written = await notes.post("a", 1, task=claim, operation="1")
    entry = await notes.read(written.id)
    assert entry is not None
    author = entry.author
    assert (author.kind, author.name, author.version) == ("task", "count", "f" * 64)
    assert (author.task, author.run, author.attempt) == (claim.task_id, run, 1)
    await play.board.release(claim)
    for late in (
        notes.post("a", 2, task=claim),
        notes.amend(written.id, 2, task=claim),
        notes.retract(written.id, task=claim),
        notes.take("a", task=claim),
    ):
        with pytest.raises(Fenced):
            await late
    again = await play.one()
    assert (await notes.post("a", 1, task=claim, operation="1")).id == written.id, "what was done before is answered"
    assert not (await notes.post("a", 1, task=again, operation="1")).new
    await play.board.complete(again, done(again))
    with pytest.raises(Fenced):
        await notes.post("a", 3, task=again)


async def test_a_task_writes_in_the_scope_of_its_own_run_only(play: Play, notes: Entries) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    with pytest.raises(BadInput, match="own run"):
        await notes.post("a", 1, task=claim)
    with pytest.raises(BadInput, match="lease"):
        await notes.post("a", 1, author=Author(kind="task", name="count"))
