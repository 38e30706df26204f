"""Compaction beside others that write, read, erase and compact, and whoever dies on the way (G2, G4, G9)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from compaction_support import compacted, log, sizes, some
from entries_support import acme_notes
from strict import Play, killed, watched_play

from blackboard import _script, compaction, entry_log
from blackboard.blobs import Blob
from blackboard.compaction import Compaction, compact
from blackboard.entries import Entries
from blackboard.entry import stream_id
from blackboard.erasure import erase
from blackboard.errors import BlobMissing, Compacted
from blackboard.events import Author
from blackboard.sealing import verify
from blackboard.standing import Standing, Standings

play = watched_play
notes = acme_notes


async def test_a_watch_that_was_overtaken_says_so_and_one_that_was_not_goes_on(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    slow, quick = notes.watch(after=first.position), notes.watch(after=first.position)
    async with contextlib.aclosing(slow), contextlib.aclosing(quick):
        for number in range(3):
            await notes.amend(first.id, number + 2)
            assert (await anext(quick)).data.content == number + 2
        assert (await anext(slow)).data.content == 2
        slow_page = 2  # it had read so many more before
        await compacted(play, notes)
        last = await notes.post("b", 9)
        assert (await anext(quick)).sequence == last.position
        for _ in range(slow_page):
            await anext(slow)
        assert (await anext(slow)).sequence == last.position
    behind = notes.watch(after=first.position)
    async with contextlib.aclosing(behind):
        with pytest.raises(Compacted):
            await anext(behind)


async def test_a_topic_that_is_written_on_before_its_version_is_looked_up_keeps_it(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notes.retract((await notes.post("a", 1)).id)
    look_up = compaction._Scope._look_up  # pyright: ignore[reportPrivateUsage]

    async def meanwhile(self: Any, plan: Any) -> None:
        await notes.post("a", "meanwhile", expect_topic=2)
        await look_up(self, plan)

    monkeypatch.setattr(compaction._Scope, "_look_up", meanwhile)  # pyright: ignore[reportPrivateUsage]
    assert (await compacted(play, notes)).facts == 2
    assert await notes.topic_version("a") == 3


async def test_a_past_that_is_compacted_while_it_is_read_is_read_again(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await notes.post("a", 1)
    await notes.post("b", 1)
    await notes.retract(first.id)
    last = await notes.post("c", 1)
    before = await notes.query(at=last.position)
    page, done = entry_log.page, list[Compaction]()

    async def small(board: Any, owner: str, *bounds: Any) -> Any:
        read = await page(board, owner, *bounds[:2], count=1)
        if not done and read.more:
            done.append(Compaction(""))
            done[0] = await compact(play.board, notes.scope, older_than=0)
        return read

    monkeypatch.setattr(entry_log, "page", small)
    assert await notes.query(at=last.position) == before
    assert done[0].facts == 2
    assert (await verify(notes)).faults == ()


@pytest.mark.parametrize("replied", [False, True])
@pytest.mark.parametrize("dies_at", [0, 1, 3, 6])
async def test_a_process_that_dies_anywhere_leaves_what_the_next_one_finishes(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch, dies_at: int, replied: bool
) -> None:
    monkeypatch.setattr(compaction, "STEP", 3)
    await some(play, notes)
    last = (await notes.post("end", 1)).position
    before = await notes.query()
    with killed(monkeypatch, ("entry_compact",), dies_at, replied), contextlib.suppress(RuntimeError):
        await compact(play.board, notes.scope, older_than=0)
    await play.sound()
    assert (await verify(notes)).faults == ()
    assert (await notes.query(at=last)) == before
    await notes.post("later", 1)
    await compacted(play, notes, before=last)
    assert (await notes.query(at=last)) == before
    facts = [one for one in await log(notes) if one[1]["type"].startswith("entry.")]
    assert len(facts) == 5
    assert await sizes(notes) == [5, 5, 6]


async def test_a_step_that_arrives_twice_or_late_changes_nothing(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "STEP", 3)
    await some(play, notes)
    run, sent = _script.run, []

    async def twice(client: Any, script: Any, *args: Any, **more: Any) -> Any:
        if script.name != "entry_compact":
            return await run(client, script, *args, **more)
        sent.append(args)
        first = await run(client, script, *args, **more)
        assert await run(client, script, *args, **more) == []
        return first

    with monkeypatch.context() as patched:
        patched.setattr(_script, "run", twice)
        assert (await compacted(play, notes)).facts == 8
    before = await log(notes)
    for args in sent:
        assert await run(play.board.client, _script.load("entry_compact", "_entries"), *args) == []
    assert await log(notes) == before


async def test_two_that_compact_at_once_take_everything_out_once(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "STEP", 3)
    await some(play, notes)
    run, other = _script.run, list[Compaction]()

    async def overtaken(client: Any, script: Any, *args: Any, **more: Any) -> Any:
        if script.name == "entry_compact" and not other:
            other.append(Compaction(""))
            other[0] = await compact(play.board, notes.scope, older_than=0)
        return await run(client, script, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(_script, "run", overtaken)
        await compacted(play, notes)
    assert other[0].facts == 8
    (summary,) = [one for one in await log(notes) if one[1]["type"] == "scope.compacted"]
    assert notes._event(*summary).data.facts == 8  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [1, 2])
async def test_what_is_compacted_while_a_log_is_rewritten_does_not_come_back(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    ann = Author(kind="person", name="ann")
    many = [await notes.post("x", number, author=ann if number % 3 else None) for number in range(140)]
    for one in many[:100:2]:
        await notes.retract(one.id)
    run, calls = _script.run, 0

    async def between(client: Any, script: Any, *args: Any, **more: Any) -> Any:
        nonlocal calls
        reply = await run(client, script, *args, **more)
        calls += script.name == "entry_rewrite"
        if calls == after and script.name == "entry_rewrite":
            calls += 10
            await compact(play.board, notes.scope, older_than=0)
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(_script, "run", between)
        await erase(play.board, author="ann")
    await play.sound()
    assert (await verify(notes)).faults == ()
    assert calls > 10
    assert not {one.id for one in many[:100:2]} & {fields["subject"] for _, fields in await log(notes)}
    await compacted(play, notes)
    assert len((await notes.query("x", limit=1000)).entries) == 140 - 50 - len(
        [one for number, one in enumerate(many) if number % 3 and one not in many[:100:2]]
    )


async def test_a_fact_that_is_missing_beside_the_compacted_ones_is_noticed(play: Play, notes: Entries) -> None:
    found = await some(play, notes)
    later = await notes.post("z", 1)
    await compacted(play, notes)
    client: Any = play.board.client
    whole = await log(notes)
    positions = {(await notes.read(found[name])).position for name in ("live", "amended", "lasting")}  # type: ignore[union-attr]
    (summary,) = [at for at, fields in whole if fields["type"] == "scope.compacted"]
    for position in (*positions, later.position, summary):
        await client.xdel(notes.log_key, stream_id(position))
        assert (await verify(notes)).faults != ()
        await client.delete(notes.log_key)
        for at, fields in whole:
            await client.xadd(notes.log_key, fields, id=at)
    assert (await verify(notes)).faults == ()


async def test_large_contents_go_with_their_facts_unless_others_have_them(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, shared, again = "x" * 300_000, "y" * 300_000, "z" * 300_000
    first = await notes.post("a", large)
    blobs = [(await notes.read(first.id, load=False)).content]  # type: ignore[union-attr]
    await notes.amend(first.id, shared)
    other = await notes.post("b", shared)
    await notes.amend(first.id, again)
    await notes.amend(first.id, 1)
    delete, wrote = play.board.blobs.delete, list[str]()

    async def overtaken(owner: str, blob: Any) -> None:
        if blob.beginning.startswith('"zz'):  # somebody found it stored, and writes after it went
            wrote.append((await notes.post("c", again)).id)
        await delete(owner, blob)

    monkeypatch.setattr(play.board.blobs, "delete", overtaken)
    done = await compacted(play, notes)
    assert (done.facts, done.contents) == (3, 1)
    with pytest.raises(BlobMissing):
        await play.board.blobs.load(notes.owner, blobs[0])
    assert (await notes.read(other.id)).content == shared  # type: ignore[union-attr]
    assert (await notes.read(wrote[0])).content == again  # type: ignore[union-attr]


async def test_a_large_content_that_went_just_before_it_was_written_is_stored_again(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, gone = play.board.blobs.check, list[str]()

    async def overtaken(owner: str, text: str, value: Any) -> str:
        body = await check(owner, text, value)
        if not gone:
            gone.append(body)
            await play.board.blobs.delete(owner, Blob(json.loads(body)))
        return body

    monkeypatch.setattr(play.board.blobs, "check", overtaken)
    written = await notes.post("a", "x" * 300_000)
    assert (await notes.read(written.id)).content == "x" * 300_000  # type: ignore[union-attr]
    gone.clear()
    await notes.amend(written.id, "y" * 300_000)
    assert (await notes.read(written.id)).content == "y" * 300_000  # type: ignore[union-attr]


async def test_what_a_standing_watch_has_not_come_to_stays(play: Play, notes: Entries) -> None:
    """It would become no run: neither the version that was superseded nor the one that was retracted."""
    standings = Standings(play.board)
    await standings.add(Standing(name="late", scope=notes.scope, topic="a.>"))
    await standings.add(Standing(name="elsewhere", scope="session:other"), after="-")
    await some(play, notes)
    for older in (0, 3600):
        assert (await compact(play.board, notes.scope, older_than=older)).facts == 0
    assert len(await log(notes)) == 11
    while await standings.sweep(lambda watch, entry, depth: {"from": entry.id, "version": entry.version}):
        pass
    (late,) = [one for one in await standings.list() if one.standing.name == "late"]
    assert late.started == len([one for one in await log(notes) if one[1]["type"] in ("entry.posted", "entry.amended")])
    assert (await compacted(play, notes)).facts == 8


async def test_a_log_that_is_compacted_while_it_is_verified_is_read_once_more_and_never_held_whole(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some(play, notes)
    real, read = entry_log.page, list[int]()

    async def few(board: Any, owner: str, start: str = "-", end: str = "+", count: int = 3) -> Any:
        if len(read) == 1:
            monkeypatch.setattr(entry_log, "page", real)
            await compacted(play, notes)
            monkeypatch.setattr(entry_log, "page", few)
        page = await real(board, owner, start, end, min(count, 3))
        read.append(len(page.events))
        return page

    monkeypatch.setattr(entry_log, "page", few)
    found = await verify(notes)
    assert (found.faults, found.compacted) == ((), 8)
    assert len(read) > 3
    assert max(read) == 3
    assert found.facts == 3
