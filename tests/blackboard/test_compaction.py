"""Compaction: what counts no more leaves a lasting log, and the rest reads as before, whoever dies on the way (G2, G9)."""

from __future__ import annotations

from typing import Any

import pytest
from compaction_support import compacted, log, sizes, some
from entries_support import acme_notes, ids, told
from strict import Play, watched_play

from blackboard import _script, compaction
from blackboard.audit import Audit
from blackboard.compaction import compact
from blackboard.entries import Entries
from blackboard.entry import stream_id
from blackboard.erasure import erase
from blackboard.errors import BadInput, Compacted, ScriptRefused
from blackboard.events import Author
from blackboard.sealing import verify
from registry.matching.passages import meaning

play = watched_play
notes = acme_notes


async def test_what_counts_no_more_is_gone_and_the_rest_reads_as_before(play: Play, notes: Entries) -> None:
    found = await some(play, notes)
    before, versions = await notes.query(), await sizes(notes)
    last = await notes.position()
    amended = await notes.read(found["amended"])
    dry = await compact(play.board, notes.scope, older_than=0, dry_run=True)
    assert (await notes.query(), len(await log(notes))) == (before, 11)
    done = await compacted(play, notes)
    assert (dry.facts, dry.entries, dry.readable_from) == (done.facts, done.entries, done.readable_from)
    # The retracted and the taken with their end, the expired, and what was amended three times.
    assert (done.facts, done.entries, done.readable_from) == (8, 3, last)
    after = await notes.query()
    assert after.entries == before.entries
    assert await notes.query(at=last) == before
    assert await notes.read(found["amended"]) == amended
    assert [one.content for one in await notes.history(found["amended"])] == [{"says": "amended 2"}]
    for gone in ("retracted", "taken", "expired"):
        assert await notes.read(found[gone]) is None
    assert versions == [6, 6, 11]
    assert await sizes(notes) == [3, 3, 4], "the operation that posted the amended one is remembered with it"
    assert len(await log(notes)) == 4
    assert (await compacted(play, notes)).facts == 0, "there is nothing left to do"
    assert len(await log(notes)) == 4


async def test_the_summary_says_what_is_gone_and_how_it_can_be_shown(play: Play, notes: Entries) -> None:
    await some(play, notes)
    facts = [notes._event(*one) for one in await log(notes)]  # pyright: ignore[reportPrivateUsage]
    done = await compacted(play, notes)
    (summary,) = [one for one in await log(notes) if one[1]["type"] == "scope.compacted"]
    data: Any = notes._event(*summary).data  # pyright: ignore[reportPrivateUsage]
    assert (data.facts, data.entries, data.readable_from) == (done.facts, done.entries, done.readable_from)
    assert data.topics == {
        "a.amended": {"posted": 1, "amended": 2}, "a.retracted": {"posted": 1, "retracted": 1},
        "a.taken": {"posted": 1, "taken": 1}, "a.expired": {"posted": 1},
    }  # fmt: skip
    left = {at for at, _ in await log(notes)}
    gone = [one for one in facts if stream_id(one.sequence) not in left]
    assert (data.first, data.last) == (gone[0].sequence, gone[-1].sequence)
    lines = [compaction.line_of(one) for one in reversed(gone)]
    assert data.sha256 == compaction.added("", lines), "whoever kept them can show that it was these"
    assert (data.kept, data.kept_upto) == (3, facts[-1].sequence)
    (record,) = (await Audit(play.board).list("kind=entries.compacted")).entries
    assert record.subject == notes.scope


async def test_the_past_before_it_is_refused_with_the_first_position_that_can_be_read(
    play: Play, notes: Entries
) -> None:
    first = await notes.post("a", 1)
    second = await notes.amend(first.id, 2)
    third = await notes.post("b", 3)
    fourth = await notes.amend(first.id, 4)
    last = await notes.post("c", 5)
    done = await compacted(play, notes, before=third.position)
    assert (done.facts, done.readable_from) == (1, third.position)
    asked = [
        lambda at: notes.read(first.id, at=at),
        lambda at: notes.query(at=at),
        lambda at: anext(notes.watch(after=at)),
    ]
    for ask in asked:
        for at in (first.position, second.position):
            with pytest.raises(Compacted, match=third.position) as refused:
                await ask(at)
            assert refused.value.readable_from == third.position
    assert (await notes.read(first.id, at=third.position)).content == 2  # type: ignore[union-attr]
    assert (await notes.read(first.id, at=fourth.position)).content == 4  # type: ignore[union-attr]
    assert await told(notes, 2, after=third.position) == [("amended", fourth.position), ("posted", last.position)]
    left = [
        ("amended", second.position),
        ("posted", third.position),
        ("amended", fourth.position),
        ("posted", last.position),
    ]
    assert await told(notes, 4, after="-") == left, "all there is begins with what is left"


async def test_what_is_younger_stays(play: Play, notes: Entries) -> None:
    old = await notes.post("a", 1, operation="first")
    amended = await notes.amend(old.id, 2, operation="second")
    await play.clock.advance(100)
    await notes.amend(old.id, 3, operation="third")
    brief = await notes.post("b", 1, seconds=30)
    assert (await compacted(play, notes, older_than=100)).facts == 1
    assert (await compacted(play, notes, older_than=100)).facts == 0
    await play.clock.advance(50)
    assert (await compacted(play, notes, older_than=40)).facts == 1
    assert (await notes.read(brief.id, load=False)).state == "expired"  # type: ignore[union-attr]
    await play.clock.advance(50)
    assert (await compacted(play, notes, older_than=40)).facts == 1, "nothing was written meanwhile, and it has expired"
    assert await notes.read(brief.id) is None
    assert amended.version == 2


async def test_operations_are_known_as_long_as_what_they_wrote(play: Play, notes: Entries) -> None:
    live = await notes.post("a", 1, operation="post")
    await notes.amend(live.id, 2, operation="one")
    two = await notes.amend(live.id, 3, operation="two")
    gone = await notes.post("b", 1, operation="brief")
    await notes.retract(gone.id, operation="retract")
    await compacted(play, notes)
    assert await notes.post("a", 1, operation="post") == live.__class__(live.id, 1, live.position, False)
    assert (await notes.amend(live.id, 3, operation="two")).position == two.position
    anew = await notes.post("b", 1, operation="brief")
    assert (anew.id, anew.version, anew.new) == (gone.id, 1, True), "beyond the horizon it is done again"
    assert await notes.topic_version("b") == 1
    await play.sound()
    assert (await verify(notes)).faults == ()
    with pytest.raises(ScriptRefused):
        await notes.retract(f"{notes.owner}/e/{'0' * 24}", operation="retract")


async def test_topics_begin_anew_only_where_nothing_is_left_on_them(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for topic in ("a", "b"):
        await notes.retract((await notes.post(topic, 1)).id)
    kept = await notes.post("c", 1)
    await notes.retract((await notes.post("c", 2)).id)
    run, wrote = _script.run, []

    async def meanwhile(client: Any, script: Any, *args: Any, **more: Any) -> Any:
        if script.name == "entry_compact" and not wrote:
            wrote.append(1)
            await notes.post("b", "meanwhile", expect_topic=2)
        return await run(client, script, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(_script, "run", meanwhile)
        await compacted(play, notes)
    assert [await notes.topic_version(topic) for topic in "abc"] == [0, 3, 3]
    await notes.post("a", 2, expect_topic=0)
    await notes.post("c", 2, expect_topic=3)
    await play.sound()
    assert (await verify(notes)).faults == ()
    assert kept.id in ids(await notes.query("c"))


async def test_what_had_expired_by_then_has_expired_also_where_its_end_is_told_later(
    play: Play, notes: Entries
) -> None:
    brief = await notes.post("a", 1, seconds=5, author=Author(kind="person", name="ann"))
    await notes.post("b", 1)
    await play.clock.advance(10)
    gone = await notes.retract((await notes.post("c", 1)).id)
    before = await notes.query(at=gone.position)
    await erase(play.board, author="ann")
    await compacted(play, notes, before=gone.position)
    assert await notes.query(at=gone.position) == before
    assert (await notes.read(brief.id, at=gone.position)).state == "expired"  # type: ignore[union-attr]


async def test_links_and_order_of_what_was_amended_stay(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    second = await notes.post("a", 2, links=[("supports", first.id)])
    await notes.amend(first.id, 10)
    await notes.amend(second.id, 20)
    before = await notes.query("a")
    await compacted(play, notes)
    assert await notes.query("a", at=before.position) == before
    assert (await notes.query("a")).entries == before.entries
    assert ids(await notes.query(links_to=first.id)) == [second.id]
    assert (await notes.take("a")).id == first.id  # type: ignore[union-attr]
    await notes.amend(second.id, 200)
    await compacted(play, notes)
    (entry,) = (await notes.query("a")).entries
    assert (entry.content, entry.posted, entry.version) == (200, second.position, 3)


async def test_many_topics_are_counted_by_how_they_begin(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "TOPICS", 4)
    monkeypatch.setattr(compaction, "STEP", 3)
    for number in range(6):
        await notes.retract((await notes.post(f"claims.invoice.{number}", 1)).id)
        if number < 2:
            await notes.retract((await notes.post(f"claims.order.{number}", 1)).id)
    await notes.retract((await notes.post("other", 1)).id)
    await notes.post("claims.invoice.0", 2)
    await compacted(play, notes)
    (summary, *_) = [one for one in await log(notes) if one[1]["type"] == "scope.compacted"]
    topics: Any = notes._event(*summary).data.topics  # type: ignore[attr-defined]
    assert len(topics) <= 4
    assert sum(sum(kinds.values()) for kinds in topics.values()) == 18
    await notes.retract((await notes.post("claims.invoice.9", 1)).id)
    await compacted(play, notes)


async def test_what_is_ranked_follows_a_compaction(play: Play, notes: Entries) -> None:
    ranked = Entries(play.board, notes.scope, meaning=meaning())
    first = await ranked.post("a", "roof tiles")
    assert [one.id for one in (await ranked.query(about="tiles")).entries] == [first.id]
    other = await notes.post("b", "more tiles for another roof")
    assert len((await ranked.query(about="tiles")).entries) == 2
    await notes.retract(first.id)
    await compacted(play, notes)
    index = ranked._meaning.of(notes.owner)  # type: ignore[union-attr]
    assert [one.id for one in (await ranked.query(about="tiles")).entries] == [other.id]
    assert index.known.keys() == {other.id}, "the last fact it knew is still there, and the retraction is not"


async def test_the_log_of_a_run_and_what_makes_no_sense_are_refused(play: Play) -> None:
    run = await play.run()
    bad: list[dict[str, Any]] = [
        {"scope": f"run:{run}"}, {"scope": "what"}, {"scope": "public", "older_than": -1},
        {"scope": "public", "older_than": float("nan")}, {"scope": "public", "before": "yesterday"},
    ]  # fmt: skip
    for given in bad:
        with pytest.raises(BadInput):
            await compact(play.board, **given)
    assert (await compact(play.board, "public", older_than=0)).facts == 0
    assert (await Audit(play.board).list("kind=entries.compacted")).entries == ()
