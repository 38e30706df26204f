"""Entries: posted, found, amended, retracted, written once and conditionally, as of any moment; on every engine (G2, G4, G9)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from entries_support import NOBODY, acme_notes, ids
from strict import Play, watched_play

from blackboard import predicates, topics
from blackboard.entries import Entries
from blackboard.errors import BadInput, Conflict, ScriptRefused, Stale, UnknownRecord
from blackboard.events import Author

play = watched_play
notes = acme_notes


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


@pytest.mark.engines("redis", "cluster")
async def test_a_thousand_entries_that_do_not_fit_are_passed_over(notes: Entries) -> None:
    written = [f"x.{n}.no" for n in range(570)] + [f"x.all.39.{n}" for n in range(130)]
    written += [f"x.{'all' if n % 3 else 'all-b'}.{n}" for n in range(400)]
    for number in range(0, 1100, 100):
        await asyncio.gather(*(notes.post(topic, 0) for topic in written[number : number + 100]))
    wanted = await notes.post("x.zzz.yes", "here")
    assert ids(await notes.query("x.*.yes")) == [wanted.id]
    for pattern in ("x.*.399", "x.*.no", "x.*.2.>", "x.*.39.*", "*.all.7", "*.*.398", "x.*.a", "x.*.zz"):
        found = await notes.query(pattern, "@version=1", limit=1000)
        fitting = [f"{topic}\0" for topic in written if topics.covers(pattern, topic)]
        assert [f"{one.topic}\0" for one in found.entries] == sorted(fitting), pattern
        assert found.after is None
    some = await notes.query("x.*.no", "@version=1", limit=300)
    rest = await notes.query("x.*.no", "@version=1", limit=300, after=some.after)
    assert (len(some.entries), len({*ids(some), *ids(rest)}), rest.after) == (300, 570, None)
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
