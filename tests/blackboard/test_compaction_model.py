"""Random histories with expiry, erasure and compaction: what can be read reads as before, and an index that followed all of it
answers like one that is built from nothing (G2, G9)."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict import Clock, faults, watch_scripts

from blackboard import compaction, entry_log
from blackboard.board import Board
from blackboard.compaction import compact
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.erasure import erase
from blackboard.errors import Compacted
from blackboard.events import Author
from blackboard.sealing import verify
from registry.matching.passages import meaning

WORDS = st.lists(st.sampled_from(["boat", "sail", "pay", "snow"]), min_size=1, max_size=3).map(" ".join)
WHICH = st.integers(0, 9)
AUTHORS = st.sampled_from(["ann", "bob"])
ACTIONS = st.one_of(
    st.tuples(st.just("post"), st.sampled_from(["a", "a.b", "c"]), WORDS, AUTHORS, st.sampled_from([None, 5.0, 50.0])),
    st.tuples(st.just("post"), st.sampled_from(["a", "a.b", "c"]), WORDS, AUTHORS, st.none()),
    st.tuples(st.just("amend"), WHICH, WORDS, AUTHORS),
    st.tuples(st.just("retract"), WHICH),
    st.tuples(st.just("take"), st.sampled_from(["a", ">"])),
    st.tuples(st.just("wait"), st.sampled_from([3.0, 30.0])),
    st.tuples(st.just("erase"), AUTHORS),
    st.tuples(st.just("ask"), WORDS),
    st.tuples(st.just("compact"), WHICH),
)
SEVERAL = st.lists(ACTIONS, min_size=4, max_size=18).map(lambda some: [*some, ("compact", 1), ("ask", "boat sail")])


class History:
    """Plays actions on one scope, and compares what each compaction leaves with what was there before it."""

    def __init__(self, board: Board, clock: Clock, scope: str) -> None:
        self.board, self.clock, self.scope = board, clock, scope
        self.notes = Entries(board, scope, meaning=meaning())
        self.posted: list[str] = []
        self.moments: list[str] = []

    async def play(self, action: tuple[Any, ...]) -> None:
        await getattr(self, action[0])(*action[1:])

    async def post(self, topic: str, content: str, author: str, seconds: float | None) -> None:
        by = Author(kind="person", name=author)
        written = await self.notes.post(topic, content, author=by, seconds=seconds)
        self.posted.append(written.id)
        self.moments.append(written.position)

    async def _live(self, which: int) -> Entry | None:
        entry = await self.notes.read(self.posted[which % len(self.posted)]) if self.posted else None
        return entry if entry is not None and entry.state == "live" else None

    async def amend(self, which: int, content: str, author: str) -> None:
        if (entry := await self._live(which)) is not None:
            by = Author(kind="person", name=author)
            self.moments.append((await self.notes.amend(entry.id, content, author=by)).position)

    async def retract(self, which: int) -> None:
        if (entry := await self._live(which)) is not None:
            self.moments.append((await self.notes.retract(entry.id)).position)

    async def take(self, pattern: str) -> None:
        await self.notes.take(pattern)

    async def wait(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    async def erase(self, author: str) -> None:
        await erase(self.board, author=author, scope=self.scope)

    async def ask(self, about: str) -> None:
        followed = await self.notes.query(about=about)
        anew = await Entries(self.board, self.scope, meaning=meaning()).query(about=about)
        assert (followed.entries, followed.ranks) == (anew.entries, anew.ranks)

    async def then(self, position: str) -> tuple[Entry, ...] | None:
        try:
            return (await self.notes.query(at=position)).entries
        except Compacted:
            return None

    async def compact(self, which: int) -> None:
        moments = self.moments
        before = None if not which or not moments else moments[-1 - which % len(moments)]
        then = {position: await self.then(position) for position in moments}
        now = (await self.notes.query()).entries
        done = await compact(self.board, self.scope, before=before, older_than=0.0)
        assert (await self.notes.query()).entries == now
        mark = await entry_log.mark(self.board, self.notes.owner)
        assert done.readable_from == mark.readable_from
        for position in moments:
            expected = then[position]
            if mark.readable_from is not None and position < mark.readable_from:
                expected = None
            elif expected is not None and position == mark.readable_from:  # as of its time
                expected = tuple(one for one in expected if one.expires_at is None or one.expires_at * 1000 > mark.ms)
            assert await self.then(position) == expected
        assert (await verify(self.notes)).faults == ()


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory://compaction-model" if request.param == "memory" else request.getfixturevalue("redis_server").url


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=SEVERAL, step=st.sampled_from([1, 2, 200]))
def test_g9_whatever_is_compacted_of_whatever_history_the_rest_reads_and_ranks_as_before(
    url: str, monkeypatch: pytest.MonkeyPatch, history: list[tuple[Any, ...]], step: int
) -> None:
    watch_scripts(monkeypatch)
    monkeypatch.setattr(compaction, "STEP", step)

    async def played() -> None:
        async with await Board.open(url, board=f"t{uuid.uuid4().hex[:12]}") as board:
            clock = Clock(board)
            await clock.advance()
            one = History(board, clock, "session:x")
            for action in history:
                await one.play(action)
            assert not await faults(board)

    asyncio.run(played())
