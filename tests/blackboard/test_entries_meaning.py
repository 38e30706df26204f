"""Entries found by what they mean: filtered, then ranked; the same after every change as when built from nothing (G9)."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict import Play, watched_play

from blackboard import meaning as meanings
from blackboard import topics
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.entry_search import Found
from blackboard.errors import BadInput, ModelUnavailable
from blackboard.meaning import Meaning, text_of
from registry.matching import Document, LexicalMatcher
from registry.matching.encoders import CallableEncoder
from registry.matching.hybrid import HybridMatcher
from registry.matching.passages import meaning

play = watched_play


@pytest.fixture
def notes(play: Play) -> Entries:
    return Entries(play.board, "tenant:acme", meaning=meaning())


def ids(found: Found) -> list[str]:
    assert [one.id for one in found.entries] == [one.id for one in found.ranks]
    return [one.id for one in found.entries]


async def test_the_best_answer_comes_first_and_says_what_spoke_for_it(notes: Entries) -> None:
    invoice = await notes.post("claims.invoice.1", {"supplier": "Acme", "note": "invoice for roof tiles, paid late"})
    tiles = await notes.post("claims.order.1", {"supplier": "Acme", "note": "tiles ordered"})
    await notes.post("weather.rome", {"forecast": "rain"})
    found = await notes.query(about="which invoice was paid late")
    assert ids(found)[0] == invoice.id
    assert any("paid" in reason for reason in found.ranks[0].reasons)
    assert 0 < found.ranks[0].score <= 1
    assert set(ids(await notes.query(about="roof tiles"))) == {invoice.id, tiles.id}
    assert ids(await notes.query(about="roof tiles", limit=1)) == [invoice.id]
    assert ids(await notes.query(about="submarine")) == []
    assert found.position == await notes.position()


async def test_topic_conditions_and_links_are_looked_at_before_anything_is_ranked(notes: Entries) -> None:
    many = [await notes.post("noise.a", f"paid late paid late {number}") for number in range(20)]
    low = await notes.post("claims.invoice.1", {"amount": 10, "text": "somebody paid"})
    high = await notes.post("claims.invoice.2", {"amount": 99, "text": "nobody paid"}, links=[("contradicts", low.id)])
    assert set(ids(await notes.query("claims.>", about="paid late", limit=2))) == {low.id, high.id}
    assert ids(await notes.query("claims.>", "amount>=50", about="paid late")) == [high.id]
    assert ids(await notes.query(about="paid late", links_to=low.id)) == [high.id]
    assert ids(await notes.query(about="paid late", links_to=low.id, rel="supports")) == []
    assert ids(await notes.query(where="amount=10", about="paid late", links_to=many[0].id)) == []


async def test_what_changes_is_found_as_it_is_now_and_as_it_was_then(play: Play, notes: Entries) -> None:
    sea = await notes.post("a", "the boat sails")
    other = await notes.post("b", "a boat was sold")
    short = await notes.post("c", "boat", seconds=5)
    assert set(ids(await notes.query(about="boat"))) == {sea.id, other.id, short.id}
    before = await notes.position()
    await notes.amend(sea.id, "the train leaves")
    await notes.retract(other.id)
    assert ids(await notes.query(about="boat")) == [short.id]
    worse = await notes.post("d", "not so much a boat as something else that has more words than one")
    assert ids(await notes.query(about="boat", limit=1)) == [short.id]
    await play.clock.advance(5)
    assert ids(await notes.query(about="boat", limit=1)) == [worse.id]
    assert ids(await notes.query(about="train")) == [sea.id]
    assert set(ids(await notes.query(about="boat", at=before))) == {sea.id, other.id, short.id}
    assert ids(await notes.query("b", "@version=1", about="boat", at=before)) == [other.id]


async def test_a_content_that_is_stored_apart_is_found_by_its_beginning_and_given_whole(notes: Entries) -> None:
    large = {"title": "annual report", "text": "x" * 400_000}
    written = await notes.post("big", large)
    (found,) = (await notes.query(about="annual report")).entries
    assert (found.id, found.content) == (written.id, large)
    (unread,) = (await notes.query(about="annual report", load=False)).entries
    assert unread.content != large


async def test_questions_that_cannot_be_answered_are_refused(play: Play, notes: Entries) -> None:
    for bad in ({"about": " "}, {"about": "x" * 4001}, {"about": "a", "after": "b"}, {"about": "a", "limit": 101}):
        with pytest.raises(BadInput):
            await notes.query(**bad)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadInput, match="ranks them"):
        await Entries(play.board, "public").query(about="a")


async def test_memory_is_bounded_by_dropping_the_scopes_that_were_not_asked_for(play: Play) -> None:
    kept = Meaning(meaning().ranking, most_characters=3000)
    scopes = [Entries(play.board, f"session:s{number}", meaning=kept) for number in range(3)]
    for entries in scopes:
        await entries.post("a", "boat " * 200)
    for entries in (*scopes[:2], scopes[0], scopes[2]):
        assert len(ids(await entries.query(about="boat"))) == 1
    assert kept.scopes == ("session:s0", "session:s2")
    assert len(ids(await scopes[1].query(about="boat"))) == 1, "what was dropped is built again"
    for number in range(3):
        await scopes[0].post("b", f"ship {number} " * 200)
    with pytest.raises(BadInput, match="too many to rank"):
        await scopes[0].query(about="boat")


async def test_a_log_that_lost_its_end_is_read_anew(board: Board) -> None:
    notes = Entries(board, "tenant:acme", meaning=meaning())
    first = await notes.post("a", "boat")
    second = await notes.post("b", "boat house")
    assert set(ids(await notes.query(about="boat"))) == {first.id, second.id}
    shard, client = board.shard_of(notes.owner), board.client
    last: Any = (await client.xrevrange(shard.log(notes.owner), count=1))[0][0]
    await client.xdel(shard.log(notes.owner), last)
    heads = shard.entries(notes.owner)[0]
    await client.hdel(heads, second.id)
    third = await notes.post("c", "boat trip")
    assert set(ids(await notes.query(about="boat"))) == {first.id, third.id}


async def test_a_log_of_many_pages_is_read_whole(redis_board: Board) -> None:
    notes = Entries(redis_board, "tenant:acme", meaning=meaning())
    posted: list[str] = []
    for start in range(0, 1200, 100):
        written = await asyncio.gather(*(notes.post("a", f"boat w{number}") for number in range(start, start + 100)))
        posted += [one.id for one in written]
    for number in (0, 499, 500, 501, 1199):
        assert ids(await notes.query(about=f"w{number}", limit=1)) == [posted[number]]
    await notes.amend(posted[3], "a train")
    assert ids(await notes.query(about="train")) == [posted[3]]


async def test_an_index_whose_question_was_cancelled_is_built_anew(play: Play, monkeypatch: Any) -> None:
    kept = meaning()
    notes = Entries(play.board, "session:s", meaning=kept)
    await notes.post("a", "boat")
    waiting = asyncio.Event()

    async def never(work: Any) -> Any:
        waiting.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(meanings, "_apart", never)
        asked = asyncio.ensure_future(notes.query(about="boat"))
        await waiting.wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert kept.scopes == (), "a thread may still be at it"
    assert len(ids(await notes.query(about="boat"))) == 1


async def test_what_was_ranked_and_changed_meanwhile_is_ranked_again(notes: Entries, monkeypatch: Any) -> None:
    first = await notes.post("a", "boat boat")
    second = await notes.post("b", "boat and other things")
    read = Entries.several
    changed: list[str] = []

    async def overtaken(self: Entries, entry_ids: Any) -> Any:
        if not changed:
            changed.append(first.id)
            await notes.amend(first.id, "a train")
        return await read(self, entry_ids)

    monkeypatch.setattr(Entries, "several", overtaken)
    assert ids(await notes.query(about="boat", limit=1)) == [second.id]


def test_a_content_is_read_as_names_and_values_in_their_order() -> None:
    assert text_of({"a": [1, {"b": "two words"}], "c": None, "d": True}) == "a: 1 b: two words c: d: true"
    assert len(text_of(["x" * 3000] * 5)) == 4000
    assert text_of(None) == ""


# ---- by meaning --------------------------------------------------------------------------------------------------------

TOPICS = (("sea", "ocean", "boat", "sail"), ("money", "dollar", "pay"), ("snow", "cold", "winter"))


def encode(texts: Any) -> list[list[float]]:
    return [[0.1, *(sum(text.lower().count(word) for word in topic) for topic in TOPICS)] for text in texts]


async def test_an_encoder_finds_what_has_no_word_in_common(play: Play) -> None:
    pytest.importorskip("numpy")
    notes = Entries(play.board, "session:s", meaning=meaning(HybridMatcher(CallableEncoder(encode, "test"))))
    for number in range(30):
        await notes.post("noise", f"dollar pay {number}")
    boat = await notes.post("x.a", "a boat")
    cold = await notes.post("x.b", "winter")
    assert ids(await notes.query(about="ocean"))[0] == boat.id
    assert ids(await notes.query("x.b", about="ocean")) == [cold.id], "the filter comes before the nearest are chosen"


def test_a_text_and_the_questions_it_is_held_against_are_encoded_as_what_they_are() -> None:
    pytest.importorskip("numpy")
    asked: list[str] = []

    class Asymmetric(CallableEncoder):
        def __init__(self) -> None:
            super().__init__(encode, "documents")
            self.needs = CallableEncoder(lambda texts: [*map(asked.append, texts)] and encode(texts), "needs")

    near, far = meaning(HybridMatcher(Asymmetric())).scores("t", "a boat", ["ocean", "winter"])
    assert near > 0.9 > far
    assert asked == ["ocean", "winter"]


async def test_an_encoder_that_cannot_be_reached_is_said_and_nothing_is_lost(play: Play) -> None:
    pytest.importorskip("numpy")
    up: list[bool] = []

    def function(texts: Any) -> Any:
        if not up:
            raise ModelUnavailable("no encoder")
        return encode(texts)

    notes = Entries(play.board, "session:s", meaning=meaning(HybridMatcher(CallableEncoder(function, "test"))))
    boat = await notes.post("a", "a boat")
    with pytest.raises(ModelUnavailable):
        await notes.query(about="ocean")
    up.append(True)
    assert ids(await notes.query(about="ocean")) == [boat.id]


def test_a_filter_that_leaves_little_still_finds_the_nearest_of_it() -> None:
    pytest.importorskip("numpy")
    matcher = HybridMatcher(CallableEncoder(encode, "test"), at_once=10_000)
    for number in range(1500):
        matcher.add(f"n{number:04}", Document("n", f"boat {number}"))
    matcher.add("far", Document("far", "winter"))
    found = matcher.search("ocean", k=3, allowed=lambda name: name == "far").candidates
    assert [each.name for each in found] == ["far"]


# ---- from nothing ------------------------------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from(["boat", "sail", "pay", "money", "snow", "train", "4711"]), min_size=1, max_size=5)
ACTIONS = st.one_of(
    st.tuples(st.just("post"), st.sampled_from(["a", "a.b", "c"]), WORDS.map(" ".join)),
    st.tuples(st.just("amend"), st.integers(0, 9), WORDS.map(" ".join)),
    st.tuples(st.just("retract"), st.integers(0, 9), st.just("")),
    st.tuples(st.just("ask"), st.just(0), WORDS.map(" ".join)),
)


def expected(entries: Any, about: str, pattern: str) -> list[tuple[str, float]]:
    """By one matcher that is made now and knows nothing but what is live."""
    matcher = LexicalMatcher(read_at_most=1 << 30)
    by_id = {entry.id: entry for entry in entries}
    for entry in entries:
        matcher.add(entry.id, Document(entry.topic.replace(".", " "), entry.content))
    found = matcher.search(about, k=100, allowed=lambda one: topics.matches(pattern, by_id[one].topic))
    return [(one.name, one.score) for one in found.candidates]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(ACTIONS, max_size=20), WORDS.map(" ".join), st.sampled_from([">", "a.>", "a"]))
async def test_g9_an_index_that_followed_every_change_equals_one_built_from_nothing(
    redis_board: Board, actions: list[tuple[Any, ...]], about: str, pattern: str
) -> None:
    scope = f"session:{uuid.uuid4().hex}"
    notes = Entries(redis_board, scope, meaning=meaning())
    posted: list[str] = []
    for kind, first, second in actions:
        if kind == "post":
            posted.append((await notes.post(first, second)).id)
        elif kind == "ask":
            await notes.query(about=second)
        elif posted:
            entry = await notes.read(posted[first % len(posted)])
            assert entry is not None
            if entry.state == "live":
                await (notes.amend(entry.id, second) if kind == "amend" else notes.retract(entry.id))
    followed = await notes.query(pattern, about=about)
    anew = await Entries(redis_board, scope, meaning=meaning()).query(pattern, about=about)
    assert followed == anew
    wanted = expected((await notes.query()).entries, about, pattern)
    assert [(one.id, one.score) for one in followed.ranks] == wanted
    past = await notes.query(pattern, about=about, at=followed.position) if actions and posted else followed
    assert [(one.id, one.score) for one in past.ranks] == wanted
