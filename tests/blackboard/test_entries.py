"""Entries: posted, found, amended, retracted, taken, watched, as of any moment; on every engine (G2, G4, G9, G11)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from strict import Play, done, spec, watched_play

from blackboard import _script, feed, predicates
from blackboard.board import Board
from blackboard.entries import ENTRY_BYTES, Entries
from blackboard.entry import owner_of
from blackboard.entry_checks import LABELS, LINKS
from blackboard.entry_reading import Found
from blackboard.errors import BadInput, Conflict, Fenced, Oversized, ScriptRefused, Stale, UnknownRecord
from blackboard.events import Author
from blackboard.retention import retire
from blackboard.types import Status
from registry import schema

play = watched_play
NOBODY = "public:/e/" + "0" * 24


@pytest.fixture
def notes(play: Play) -> Entries:
    return Entries(play.board, "tenant:acme", checker=schema)


def ids(found: Found) -> list[str]:
    return [entry.id for entry in found.entries]


async def told(entries: Entries, count: int, **given: Any) -> list[tuple[str, str]]:
    """The next facts of a watch: type and position."""
    found: list[tuple[str, str]] = []
    async with contextlib.aclosing(entries.watch(**given)) as events:
        async for event in events:
            found.append((event.type[len("dev.arbiter.entry.") : -len(".v1")], event.sequence))
            if len(found) == count:
                break
    return found


# ---- what an entry is ------------------------------------------------------------------------------------------------


async def test_an_entry_is_read_back_as_it_was_posted(notes: Entries) -> None:
    first = await notes.post("claims.invoice.4711", {"amount": 1.1, "lines": [], "none": {}})
    written = await notes.post(
        "claims.invoice.4712", ["a", 12345678901234567], confidence=0.25, links=[("contradicts", first.id)],
        taint=["web:example.com"], author=Author(kind="event", name="/shop", id="7"),
    )  # fmt: skip
    entry = await notes.read(written.id)
    assert entry is not None
    assert (entry.topic, entry.content, entry.confidence) == ("claims.invoice.4712", ["a", 12345678901234567], 0.25)
    assert (entry.version, entry.state, entry.taint, entry.supersedes) == (1, "live", ("web:example.com",), None)
    assert [(link.rel, link.to) for link in entry.links] == [("contradicts", first.id)]
    assert entry.author == Author(kind="event", name="/shop", id="7")
    assert entry.position == entry.posted == written.position
    other = await notes.read(first.id)
    assert other is not None
    assert other.content == {"amount": 1.1, "lines": [], "none": {}}
    assert await notes.read(notes.owner + NOBODY[7:]) is None


async def test_what_an_entry_says_is_amended_as_a_new_fact_and_its_past_stays(notes: Entries) -> None:
    first = await notes.post("a", 1, confidence=0.5, taint=["x"])
    other = await notes.post("b", 2)
    second = await notes.amend(first.id, 3, author=Author(kind="person", name="ann"))
    third = await notes.amend(first.id, confidence=0.9, taint=["y"])
    entry = await notes.read(first.id)
    assert entry is not None
    assert (entry.content, entry.confidence, entry.version, entry.posted) == (3, 0.9, 3, first.position)
    assert set(entry.taint) == {"x", "y", "person"}, "of whoever said something new, too"
    assert entry.supersedes == second.position
    chain = await notes.history(first.id)
    assert [(one.content, one.confidence, one.author.name) for one in chain] == [
        (1, 0.5, "program"), (3, 0.5, "ann"), (3, 0.9, "program"),
    ]  # fmt: skip
    assert [one.position for one in chain] == [first.position, second.position, third.position]
    for position, content in ((first.position, 1), (other.position, 1), (second.position, 3)):
        past = await notes.read(first.id, at=position)
        assert past is not None
        assert past.content == content
    assert await notes.read(other.id, at=first.position) is None


async def test_a_retracted_entry_is_found_by_its_id_and_in_the_past_only(notes: Entries) -> None:
    first = await notes.post("a", 1)
    second = await notes.post("a.b", 2, links=[("supports", first.id)])
    assert ids(await notes.query(links_to=first.id)) == [second.id]
    before = await notes.position()
    gone = await notes.retract(second.id, "wrong")
    assert ids(await notes.query()) == [first.id]
    assert ids(await notes.query(links_to=first.id)) == []
    entry = await notes.read(second.id)
    assert entry is not None
    assert (entry.state, entry.content, entry.version) == ("retracted", 2, 2)
    assert ids(await notes.query(at=before)) == [first.id, second.id]
    assert ids(await notes.query(links_to=first.id, rel="supports", at=before)) == [second.id]
    assert ids(await notes.query(at=gone.position)) == [first.id]
    for change in (notes.amend(second.id, 3), notes.retract(second.id)):
        with pytest.raises(ScriptRefused, match="ENDED"):
            await change
    with pytest.raises(UnknownRecord):
        await notes.retract(notes.owner + NOBODY[7:])


async def test_scopes_do_not_see_each_other(play: Play) -> None:
    run = await play.run()
    scopes = ["public", f"run:{run}", "session:s", "tenant:s", "group:s"]
    for number, scope in enumerate(scopes):
        await Entries(play.board, scope).post("a", number, operation="same")
    for number, scope in enumerate(scopes):
        assert [one.content for one in (await Entries(play.board, scope).query()).entries] == [number]
    found = (await Entries(play.board, "public").query()).entries[0]
    with pytest.raises(BadInput, match="within"):
        await Entries(play.board, "tenant:s").read(found.id)


async def test_a_time_to_live_ends_on_the_servers_clock(play: Play, notes: Entries) -> None:
    short = await notes.post("a", 1, seconds=10)
    long = await notes.post("a", 2, seconds=10)
    await notes.amend(long.id, seconds=None)
    await play.clock.advance(9.999)
    assert len((await notes.query("a")).entries) == 2
    await play.clock.advance(0.001)
    assert ids(await notes.query("a")) == [long.id]
    entry = await notes.read(short.id)
    assert entry is not None
    assert entry.state == "expired"
    taken = await notes.take("a")
    assert taken is not None
    assert taken.id == long.id
    assert await notes.take("a") is None
    with pytest.raises(ScriptRefused, match="expired"):
        await notes.amend(short.id, 1)
    later = await notes.post("b", 3)
    assert ids(await notes.query(">", at=later.position)) == [later.id]
    assert short.id in ids(await notes.query(">", at=short.position))
    index = await play.board.client.zrange(play.shard.entries(notes.owner)[3], 0, -1)
    assert len(index) == 1, "what expired left the index with the next post"


async def test_a_large_content_is_stored_apart_and_read_as_if_it_were_not(notes: Entries, play: Play) -> None:
    large = {"text": "x" * 400_000, "n": 7}
    written = await notes.post("big", large)
    assert (await play.board.client.xinfo_stream(play.shard.log(notes.owner)))["length"] == 1
    stored = (await play.board.client.xrange(play.shard.log(notes.owner)))[0][1]["data"]
    assert len(stored) < 10_000
    entry = await notes.read(written.id)
    assert entry is not None
    assert entry.content == large
    assert len((await notes.query("big", "n=7")).entries) == 1
    unread = await notes.read(written.id, load=False)
    assert unread is not None
    assert isinstance(unread.content, dict)
    assert unread.content["$blob"]
    await notes.amend(written.id, confidence=0.1)
    again = await notes.read(written.id, at=await notes.position())
    assert again is not None
    assert again.content == large


# ---- finding ---------------------------------------------------------------------------------------------------------


async def test_entries_are_found_by_pattern_in_the_order_of_topic_and_posting(notes: Entries) -> None:
    topics = [
        "claims.order.1",
        "claims.invoice.4711",
        "claims",
        "claims.invoice.4711.line",
        "claimsx.a",
        "claims.order.4711",
    ]
    posted = {(await notes.post(topic, topic)).id: topic for topic in topics}
    again = await notes.post("claims.order.1", "again")
    expected = {
        "claims.*.4711": ["claims.invoice.4711", "claims.order.4711"],
        "claims.>": ["claims.invoice.4711", "claims.invoice.4711.line", "claims.order.1", "again", "claims.order.4711"],
        "claims": ["claims"],
        "*": ["claims"],
        "*.*": ["claimsx.a"],
        "claims.order.1": ["claims.order.1", "again"],
        "nothing.>": [],
    }
    for pattern, contents in expected.items():
        for at in (None, await notes.position()):
            found = await notes.query(pattern, at=at)
            assert [one.content for one in found.entries] == contents, (pattern, at)
    assert len((await notes.query(">")).entries) == len(posted) + 1
    assert again.version == 1


@pytest.mark.parametrize("where", ["a? " * 21, "a? " * 5_000, "x=" + "1" * 30_000])
def test_more_conditions_than_may_be_are_refused_before_they_are_read(where: str) -> None:
    """Isolated code asks with them: reading a hundred thousand of them first would hold up the whole worker."""
    with pytest.raises(BadInput, match="where"):
        predicates.parse(where)
    assert predicates.parse("a=" + "[" * 15_000)[0].value == "[" * 15_000


async def test_conditions_on_fields_choose_and_never_raise(notes: Entries) -> None:
    contents: list[Any] = [
        {"amount": 100, "customer": {"name": "Acme Ltd"}, "tags": ["late"]}, {"amount": "100"}, {"amount": None}, 7, "text", [],
    ]  # fmt: skip
    for number, content in enumerate(contents):
        await notes.post("a", content, confidence=number / 10, taint=["web"] if number == 3 else [])
    expected = {
        "amount>=100": [0], "amount=100": [0], 'amount="100"': [1], "amount=null": [2], "amount!=100": [1, 2],
        "customer.name~ACME": [0], "tags.0=late": [0], "tags.1?": [], "amount?": [0, 1, 2], "@confidence>=0.4": [4, 5],
        "@taint=web": [3], "@author=program amount>50 amount<=100": [0], "missing<1": [],
        "@kind=program @version=1 amount>99": [0],
    }  # fmt: skip
    for where, numbers in expected.items():
        found = await notes.query("a", where)
        assert [one.content for one in found.entries] == [contents[number] for number in numbers], where
        assert ids(await notes.query("a", where, at=found.position)) == ids(found)


async def test_a_search_goes_on_where_the_page_before_ended(notes: Entries) -> None:
    target = await notes.post("target", 0)
    for number in range(25):
        links = [("supports", target.id), ("answers", target.id)] if number % 2 else []
        await notes.post(f"t.{number % 4}", {"n": number}, links=links)
    end = await notes.position()
    for given in ({}, {"where": "n>=3"}, {"links_to": target.id}, {"links_to": target.id, "rel": "answers"}):
        for at in (None, end):
            whole = ids(await notes.query(">", at=at, **given))
            pages: list[str] = []
            after = None
            while True:
                page = await notes.query(">", limit=4, after=after, at=at, **given)
                pages += ids(page)
                after = page.after
                if after is None:
                    break
            assert pages == whole, (given, at)
            assert len(pages) == len(set(pages))


async def test_a_thousand_entries_that_do_not_fit_are_passed_over(notes: Entries) -> None:
    for number in range(0, 1100, 100):
        await asyncio.gather(*(notes.post(f"x.{n}.no", n) for n in range(number, number + 100)))
    wanted = await notes.post("x.zzz.yes", "here")
    assert ids(await notes.query("x.*.yes")) == [wanted.id]
    taken = await notes.take("x.*.yes")
    assert taken is not None
    assert taken.id == wanted.id


# ---- once, and conditionally -----------------------------------------------------------------------------------------


async def test_g4_a_write_that_is_sent_again_has_one_effect_and_the_same_answer(play: Play, notes: Entries) -> None:
    async def all_of_it() -> list[Any]:
        first = await notes.post("a", {"n": 1}, operation="post", seconds=60)
        second = await notes.post("a", 2, operation="other", links=[("supports", first.id)])
        amended = await notes.amend(first.id, 3, operation="amend")
        gone = await notes.retract(second.id, "no", operation="retract")
        taken = await notes.take("a", operation="take")
        assert taken is not None
        return [(one.id, one.version, one.position) for one in (first, second, amended, gone)] + [taken]

    answers = await all_of_it()
    before = await play.snapshot()
    assert await all_of_it() == answers
    assert await play.snapshot() == before
    assert not (await notes.post("a", {"n": 1}, operation="post", seconds=60)).new


async def test_g4_an_operation_with_other_content_is_refused(notes: Entries) -> None:
    first = await notes.post("a", 1, operation="x")
    for other in (
        notes.post("a", 2, operation="x"),
        notes.post("b", 1, operation="x"),
        notes.post("a", 1, confidence=0.5, operation="x"),
        notes.amend(first.id, 1, operation="x"),
        notes.retract(first.id, operation="x"),
        notes.take("a", operation="x"),
    ):
        with pytest.raises(Conflict):
            await other
    assert len((await notes.query()).entries) == 1


async def test_a_conditional_write_happens_only_at_that_version(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1, expect_topic=0)
    before = await play.snapshot()
    for late in (
        notes.post("a", 2, expect_topic=0),
        notes.amend(first.id, 2, expect=2),
        notes.amend(first.id, 2, expect_topic=0),
        notes.retract(first.id, expect=7),
        notes.retract(first.id, expect_topic=3),
    ):
        with pytest.raises(Stale):
            await late
    assert await play.snapshot() == before
    assert await notes.topic_version("a") == 1
    assert (await notes.amend(first.id, 2, expect=1, expect_topic=1)).version == 2
    assert (await notes.retract(first.id, expect=2)).version == 3
    assert await notes.topic_version("a") == 3
    assert await notes.topic_version("b") == 0


async def test_of_many_that_write_at_the_same_version_one_does(notes: Entries) -> None:
    results = await asyncio.gather(*(notes.post("a", n, expect_topic=0) for n in range(8)), return_exceptions=True)
    assert sorted(isinstance(one, Stale) for one in results) == [False] + [True] * 7
    (entry,) = (await notes.query("a")).entries
    await asyncio.gather(*(notes.amend(entry.id, n) for n in range(8)))
    last = await notes.read(entry.id)
    assert last is not None
    assert last.version == 9
    assert len({one.content for one in await notes.history(entry.id)}) >= 8


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
    told = await feed.told(play.board, play.board.shard_of(notes.owner), before, 10)
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


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic",
    ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "ä", "a/b", "a\n", "x" * 65, ".".join("a" * 17), 7, None],
)
async def test_a_malformed_topic_is_refused(notes: Entries, topic: Any) -> None:
    with pytest.raises(BadInput, match="topic"):
        await notes.post(topic, 1)


@pytest.mark.parametrize("pattern", ["", "a.>.b", "a*", "**", ">a", "a.>>", "a b", 7])
async def test_a_malformed_pattern_is_refused(notes: Entries, pattern: Any) -> None:
    for call in (notes.query(pattern), notes.take(pattern), told(notes, 1, pattern=pattern)):
        with pytest.raises(BadInput, match="pattern"):
            await call


@pytest.mark.parametrize(
    "where", ["amount", "=3", "a=", "a<null", "a<true", "@nothing=1", "a=1 2", "a=[1]", 'a="x', "a=1 " * 21]
)
async def test_a_bad_condition_is_refused(notes: Entries, where: str) -> None:
    for call in (notes.query("a", where), notes.take("a", where), told(notes, 1, where=where)):
        with pytest.raises(BadInput, match="where"):
            await call


async def test_what_does_not_fit_is_refused_and_nothing_is_written(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    before = await play.snapshot()
    for field, bad in (
        ("confidence", notes.post("a", 1, confidence=1.1)),
        ("confidence", notes.post("a", 1, confidence=float("nan"))),
        ("confidence", notes.post("a", 1, confidence="high")),  # type: ignore[arg-type]
        ("seconds", notes.take("a", seconds=float("nan"))),
        ("confidence", notes.amend(first.id, confidence=-0.1)),
        ("content", notes.post("a", float("nan"))),
        ("seconds", notes.post("a", 1, seconds=0)),
        ("seconds", notes.post("a", 1, seconds=float("inf"))),
        ("links", notes.post("a", 1, links=[("likes", first.id)])),  # type: ignore[list-item]
        ("links", notes.post("a", 1, links=[("supports", notes.owner + NOBODY[7:])])),
        ("links", notes.post("a", 1, links=[("supports", NOBODY)])),
        ("entry", notes.post("a", 1, links=[("supports", "nonsense")])),
        ("links", notes.post("a", 1, links=[("supports", f"{notes.owner}/e/{n:024x}") for n in range(LINKS + 1)])),
        ("taint", notes.post("a", 1, taint=[str(n) for n in range(LABELS + 1)])),
        ("taint", notes.post("a", 1, taint=["a\nb"])),
        ("operation", notes.post("a", 1, operation="")),
        ("entry", notes.read("nonsense")),
        ("limit", notes.query(limit=0)),
        ("rel", notes.query(rel="supports")),
        ("position", notes.query(at="yesterday")),
        ("reason", notes.retract(first.id, "x" * 2001)),
    ):
        with pytest.raises(BadInput, match=field):
            await bad
    with pytest.raises(Oversized):
        await notes.post("a", "x" * ENTRY_BYTES)
    with pytest.raises(UnknownRecord):
        await Entries(play.board, "run:r0123").post("a", 1)
    assert await play.snapshot() == before
    for scope in ("", "run:", "public:x", "tenant:A", "nobody", "run:a b", "group:../x"):
        with pytest.raises(BadInput, match="scope"):
            Entries(play.board, scope)


async def test_links_lead_to_older_entries_so_no_chain_comes_back(notes: Entries) -> None:
    first = await notes.post("a", 1)
    second = await notes.post("a", 2, links=[("derived_from", first.id)])
    for target in (first.id, second.id):
        with pytest.raises(BadInput, match="not older"):
            await notes.amend(first.id, links=[("supports", target)])
    third = await notes.post("a", 3, links=[("derived_from", second.id)])
    await notes.amend(third.id, links=[("supports", first.id)])
    assert ids(await notes.query(links_to=second.id)) == []
    assert ids(await notes.query(links_to=first.id)) == [second.id, third.id]


async def test_the_taint_of_what_an_entry_was_derived_from_is_its_own(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1, taint=["web:x"])
    second = await notes.post("a", 2, taint=["mail"], links=[("derived_from", first.id)])
    unrelated = await notes.post("a", 2, links=[("contradicts", first.id)])
    far = await Entries(play.board, "public").post("a", 3, links=[("derived_from", second.id)])
    for written, expected in ((second, {"web:x", "mail"}), (unrelated, {"program:program"})):
        entry = await notes.read(written.id)
        assert entry is not None
        assert set(entry.taint) == expected
    entry = await Entries(play.board, "public").read(far.id)
    assert entry is not None
    assert set(entry.taint) == {"web:x", "mail", "program:program"}


async def test_what_is_written_comes_from_the_writer_unless_the_writer_says_otherwise(
    play: Play, notes: Entries
) -> None:
    run = await play.run(spec("a", taint=("http:example.com",)))
    claim = await play.one()
    own = Entries(play.board, f"run:{run}")
    expected = [
        (notes, await notes.post("a", 1), ("program:program",)),
        (notes, await notes.post("a", 1, author=Author(kind="person", name="ann")), ("person",)),
        (notes, await notes.post("a", 1, author=Author(kind="event", name="/shop 1")), ("event:/shop%201",)),
        (notes, await notes.post("a", 1, taint=["person"]), ("person",)),
        (own, await own.post("a", 1, task=claim), claim.taint),
        (own, await own.post("a", 1, task=claim, taint=["web:x"]), ("web:x", *claim.taint)),
    ]
    for entries, written, labels in expected:
        entry = await entries.read(written.id)
        assert entry is not None
        assert entry.taint == labels
    first = expected[3][1].id
    await notes.amend(first, confidence=0.5)
    assert (entry := await notes.read(first)) is not None
    assert entry.taint == ("person",), "nothing new was said"
    await notes.amend(first, 2)
    assert (entry := await notes.read(first)) is not None
    assert set(entry.taint) == {"person", "program:program"}


async def test_a_late_copy_of_a_schema_that_was_replaced_changes_nothing(
    notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, ...]] = []
    real = _script.run

    async def run(*args: Any, **more: Any) -> Any:
        if args[1].name == "topic_schema":
            sent.append(args)
        return await real(*args, **more)

    monkeypatch.setattr(_script, "run", run)
    await notes.set_schema("a", {"type": "string"})
    await notes.set_schema("a", {"type": "number"})
    await notes.set_schema("b", {})
    await notes.set_schema("b", None)
    for late in (*sent, *reversed(sent)):
        with contextlib.suppress(Stale):
            await real(*late)
    assert await notes.schemas() == {"a": {"type": "number"}}
    await asyncio.gather(*(notes.set_schema(f"c{number}", {}) for number in range(5)))
    assert len(await notes.schemas()) == 6


async def test_a_schema_of_a_topic_is_kept_by_whoever_writes_there(play: Play, notes: Entries) -> None:
    old = await notes.post("claims.1", "before there was a schema")
    stale = Entries(play.board, "tenant:acme", checker=schema)
    await stale.post("other", 1)
    await notes.set_schema("claims.*", {"type": "object", "required": ["amount"]})
    await notes.set_schema("claims.>", {"properties": {"amount": {"type": "number"}}})
    assert set(await notes.schemas()) == {"claims.*", "claims.>"}
    before = await play.snapshot()
    for entries in (notes, stale, Entries(play.board, "tenant:acme", checker=schema)):
        for bad in ("text", {}, {"amount": "1"}):
            with pytest.raises(BadInput, match="content"):
                await entries.post("claims.1", bad)
        with pytest.raises(BadInput, match="content"):
            await entries.amend(old.id, {"amount": []})
    with pytest.raises(BadInput, match="schema"):
        await notes.set_schema("claims.*", {"type": "nonsense"})
    with pytest.raises(BadInput, match="schema"):
        await Entries(play.board).set_schema("claims.*", {})
    with pytest.raises(BadInput, match="have a schema"):
        await Entries(play.board, "tenant:acme").post("claims.1", {"amount": 1})
    assert await play.snapshot() == before
    await notes.amend(old.id, {"amount": 1})
    await stale.post("claims.1", {"amount": 2})
    await stale.post("elsewhere", "anything")
    await notes.set_schema("claims.*", None)
    await notes.set_schema("claims.>", None)
    await stale.post("claims.1", "anything again")
    assert await notes.schemas() == {}


# ---- with the run ----------------------------------------------------------------------------------------------------


async def test_retention_takes_the_entries_of_a_run_with_it_and_no_others(play: Play, notes: Entries) -> None:
    kept = await notes.post("a", 1)
    before = {key for key in await play.snapshot() if not key.startswith(("run:r", "ev", "vt", "use"))}
    run = await play.run()
    mine = Entries(play.board, f"run:{run}")
    first = await mine.post("a", "x" * 400_000, seconds=60)
    await mine.post("b", 1, links=[("supports", first.id)])
    await play.plan(await play.step(run), answer="done")
    await retire(play.board, run)
    after = set(await play.snapshot())
    assert {key for key in after if run in key} == set()
    assert before <= after
    assert ids(await notes.query()) == [kept.id]
    again = await play.run(idempotency_key=None)
    assert (await Entries(play.board, f"run:{again}").query()).entries == ()


async def test_what_a_run_wrote_is_carried_by_its_file(board: Board, tmp_path: Path) -> None:
    from arbiter.run_files import export_run, import_run

    run = await board.submit_call("x", 1, lane="work")
    notes = Entries(board, f"run:{run}")
    first = await notes.post("a.b", "x" * 400_000, confidence=0.5, taint=["t"])
    second = await notes.post("a.c", [], links=[("contradicts", first.id)])
    await notes.amend(second.id, {})
    gone = await notes.post("a.d", 1, links=[("supports", first.id)])
    await notes.retract(gone.id, "no")
    claims = [await board.claim("w", ["work"], shard=shard) for shard in range(len(board.shards))]
    (claim,) = (claim for found in claims for claim in found)
    await board.complete(claim, claim.completion(Status.SUCCEEDED, 1))
    file = tmp_path / "run.jsonl"
    file.write_text("".join([line async for line in export_run(board, run)]))
    async with await Board.open(f"memory://{board.name}-copy", board="copy") as copy:
        await import_run(copy, file)
        copied = Entries(copy, f"run:{run}")
        assert await copied.query() == await notes.query()
        assert await copied.query(links_to=first.id) == await notes.query(links_to=first.id)
        assert await copied.read(gone.id) == await notes.read(gone.id)
        assert await copied.history(second.id) == await notes.history(second.id)
        assert await copied.topic_version("a.c") == 2
        with pytest.raises(ScriptRefused, match="CLOSED"):
            await copied.post("a", 1)


def test_owners_of_scopes_and_runs_are_never_the_same() -> None:
    owners = [owner_of(scope) for scope in ("public", "run:public", "run:tenant", "tenant:public", "group:public")]
    assert len(set(owners)) == len(owners)
