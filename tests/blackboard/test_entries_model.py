"""Generated histories of entries against a model in plain Python: written twice, at stale versions, by many at once (G2, G4, G9).

After each history every invariant must hold, and every moment of it must still be readable as the model remembers it.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict import faults, watch_scripts

from blackboard import topics
from blackboard.board import Board
from blackboard.entries import Entries, Written
from blackboard.errors import BadInput, Conflict, ScriptRefused, Stale

WORDS = st.sampled_from(["a", "b", "c-1"])
TOPICS = st.lists(WORDS, min_size=1, max_size=3).map(".".join)
PATTERNS = st.tuples(
    st.lists(WORDS | st.just("*"), min_size=0, max_size=3), st.booleans()
).filter(lambda one: bool(one[0]) or one[1]).map(lambda one: ".".join([*one[0], *([">"] if one[1] else [])]))  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | st.just(0.1),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["n", "content", "supersedes"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
WHICH = st.integers(0, 5)
"""Which of the entries so far."""
OFF = st.integers(-1, 1)
"""How far beside the right version a conditional write is; 0 is right."""
ACTIONS = st.one_of(
    st.tuples(st.just("post"), TOPICS, JSON, st.none() | WHICH),
    st.tuples(st.just("post_if"), TOPICS, JSON, OFF),
    st.tuples(st.just("amend"), WHICH, JSON, st.none() | OFF),
    st.tuples(st.just("link"), WHICH, WHICH),
    st.tuples(st.just("retract"), WHICH, st.none() | OFF),
    st.tuples(st.just("take"), PATTERNS, st.integers(1, 4)),
    st.tuples(st.just("race"), TOPICS, st.integers(2, 4)),
    st.tuples(st.just("again"), st.integers(0, 30)),
    st.tuples(st.just("misuse"), st.integers(0, 30)),
)


@dataclass(frozen=True)
class Known:
    topic: str
    content: Any
    order: int
    version: int = 1
    state: str = "live"
    links: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Model:
    """What the entries of one scope must be."""

    entries: dict[str, Known] = field(default_factory=dict[str, Known])
    topics: dict[str, int] = field(default_factory=dict[str, int])
    moments: list[tuple[str, dict[str, Known]]] = field(default_factory=list[tuple[str, dict[str, Known]]])

    def wrote(self, written: Written, entry: Known) -> None:
        assert written.new
        assert written.version == entry.version
        assert not self.moments or self.moments[-1][0] < written.position
        self.entries[written.id] = entry
        self.topics[entry.topic] = self.topics.get(entry.topic, 0) + 1
        self.moments.append((written.position, dict(self.entries)))

    def live(self, pattern: str) -> list[str]:
        return found(self.entries, pattern)


def found(entries: dict[str, Known], pattern: str) -> list[str]:
    chosen = [(known.topic, known.order, one) for one, known in entries.items() if known.state == "live"]
    return [one for topic, _, one in sorted(chosen) if topics.matches(pattern, topic)]


class History:
    """Plays actions on a board and on the model."""

    def __init__(self, notes: Entries) -> None:
        self.notes, self.model = notes, Model()
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any], Written]] = []

    async def call(self, name: str, *args: Any, **more: Any) -> Written:
        more["operation"] = f"o{len(self.calls)}"
        written = await getattr(self.notes, name)(*args, **more)
        self.calls.append((name, args, more, written))
        return written

    def one(self, which: int) -> str | None:
        every = list(self.model.entries)
        return every[which % len(every)] if every else None

    async def refused(self, call: Any, *errors: type[Exception]) -> None:
        with pytest.raises(errors):
            await call

    async def play(self, action: tuple[Any, ...]) -> None:
        await getattr(self, action[0])(*action[1:])

    async def post(self, topic: str, content: Any, which: int | None) -> None:
        target = None if which is None else self.one(which)
        links = [("supports", target)] if target else []
        written = await self.call("post", topic, content, links=links)
        self.model.wrote(written, Known(topic, content, len(self.model.moments), links=frozenset(links)))

    async def post_if(self, topic: str, content: Any, off: int) -> None:
        now = self.model.topics.get(topic, 0)
        if off:
            return await self.refused(self.notes.post(topic, content, expect_topic=now + off), Stale)
        written = await self.call("post", topic, content, expect_topic=now)
        self.model.wrote(written, Known(topic, content, len(self.model.moments)))

    async def amend(self, which: int, content: Any, off: int | None) -> None:
        entry = self.one(which)
        if entry is None:
            return
        known = self.model.entries[entry]
        expect = None if off is None else known.version + off
        if known.state != "live":
            return await self.refused(self.notes.amend(entry, content, expect=expect), ScriptRefused)
        if off:
            return await self.refused(self.notes.amend(entry, content, expect=expect), Stale)
        written = await self.call("amend", entry, content, expect=expect)
        self.model.wrote(written, replace(known, content=content, version=known.version + 1))

    async def link(self, which: int, to: int) -> None:
        entry, target = self.one(which), self.one(to)
        if entry is None or target is None:
            return
        known, older = self.model.entries[entry], self.model.entries[target]
        links = [("answers", target)]
        if known.state != "live":
            return await self.refused(self.notes.amend(entry, links=links), ScriptRefused)
        if older.order >= known.order:
            return await self.refused(self.notes.amend(entry, links=links), BadInput)
        written = await self.call("amend", entry, links=links)
        self.model.wrote(written, replace(known, links=frozenset(links), version=known.version + 1))

    async def retract(self, which: int, off: int | None) -> None:
        entry = self.one(which)
        if entry is None:
            return
        known = self.model.entries[entry]
        expect = None if off is None else known.version + off
        if known.state != "live" or off:
            return await self.refused(self.notes.retract(entry, expect=expect), ScriptRefused)
        written = await self.call("retract", entry, expect=expect)
        self.model.wrote(written, replace(known, state="retracted", version=known.version + 1))

    async def take(self, pattern: str, takers: int) -> None:
        expected = self.model.live(pattern)[:takers]
        got = [
            one for one in await asyncio.gather(*(self.notes.take(pattern) for _ in range(takers))) if one is not None
        ]
        assert sorted(one.id for one in got) == sorted(expected)
        for entry in sorted(got, key=lambda one: one.version):
            known = self.model.entries[entry.id]
            assert (entry.content, entry.topic, entry.state) == (known.content, known.topic, "taken")
            self.model.entries[entry.id] = replace(known, state="taken", version=known.version + 1)
            self.model.topics[known.topic] += 1
        if got:
            self.model.moments.append((await self.notes.position(), dict(self.model.entries)))

    async def race(self, topic: str, writers: int) -> None:
        now = self.model.topics.get(topic, 0)
        every = await asyncio.gather(
            *(self.notes.post(topic, n, expect_topic=now) for n in range(writers)), return_exceptions=True
        )
        (written,) = (one for one in every if isinstance(one, Written))
        assert sum(isinstance(one, Stale) for one in every) == writers - 1
        entry = await self.notes.read(written.id)
        assert entry is not None
        self.model.wrote(written, Known(topic, entry.content, len(self.model.moments)))

    async def again(self, which: int) -> None:
        """A call whose reply was lost is sent again, however much happened since."""
        if self.calls:
            name, args, more, before = self.calls[which % len(self.calls)]
            assert await getattr(self.notes, name)(*args, **more) == replace(before, new=False)

    async def misuse(self, which: int) -> None:
        if self.calls:
            _, _, more, _ = self.calls[which % len(self.calls)]
            await self.refused(self.notes.post("other", "else", operation=more["operation"]), Conflict)

    async def check(self, pattern: str) -> None:
        model, notes = self.model, self.notes
        now = await notes.query(pattern, limit=1000)
        assert [one.id for one in now.entries] == model.live(pattern)
        for entry_id, known in model.entries.items():
            entry = await notes.read(entry_id)
            assert entry is not None
            assert (entry.topic, entry.content, entry.version, entry.state) == (
                known.topic, known.content, known.version, known.state,
            )  # fmt: skip
            assert {(link.rel, link.to) for link in entry.links} == known.links
            linking = {
                one for one, k in model.entries.items() if k.state == "live" and entry_id in {to for _, to in k.links}
            }
            assert {one.id for one in (await notes.query(links_to=entry_id, limit=1000)).entries} == linking
        for position, then in model.moments[::3]:
            past = await notes.query(pattern, at=position, limit=1000)
            assert [one.id for one in past.entries] == found(then, pattern)
            assert [one.content for one in past.entries] == [then[one.id].content for one in past.entries]


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory://entries-model" if request.param == "memory" else request.getfixturevalue("redis_server").url


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=st.lists(ACTIONS, max_size=25), pattern=PATTERNS, in_run=st.booleans())
def test_whatever_is_written_in_whatever_order_the_board_has_what_it_says(
    url: str, monkeypatch: pytest.MonkeyPatch, history: list[tuple[Any, ...]], pattern: str, in_run: bool
) -> None:
    watch_scripts(monkeypatch)

    async def played() -> None:
        async with await Board.open(url, board=f"t{uuid.uuid4().hex[:12]}") as board:
            scope = f"run:{await board.submit('go')}" if in_run else "session:x"
            played = History(Entries(board, scope))
            for action in history:
                await played.play(action)
            await played.check(pattern)
            assert not await faults(board)

    asyncio.run(played())


@given(wide=PATTERNS, narrow=PATTERNS, topic=TOPICS)
def test_a_pattern_covers_another_only_if_it_means_all_of_its_topics(wide: str, narrow: str, topic: str) -> None:
    if topics.covers(wide, narrow) and topics.matches(narrow, topic):
        assert topics.matches(wide, topic)
    assert topics.matches(wide, topic) == topics.covers(wide, topic)


def test_what_a_pattern_covers_is_exact_for_few_words() -> None:
    """Every pair of patterns of at most two words over one letter, against all topics of at most three words of two letters."""
    words = ["a", "z"]
    every = [*words, *(f"{a}.{b}" for a in words for b in words)]
    every += [f"{a}.{b}.{c}" for a in words for b in words for c in words]
    some = ["a", "*", ">", "a.a", "a.*", "*.a", "*.*", "a.>", "*.>"]
    for wide in some:
        for narrow in some:
            meant = [topic for topic in every if topics.matches(narrow, topic)]
            assert topics.covers(wide, narrow) == all(topics.matches(wide, topic) for topic in meant), (wide, narrow)
