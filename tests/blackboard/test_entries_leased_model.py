"""Generated histories of several takers who hold, renew, confirm, give back and die: never two holders, nothing lost (G1, G4)."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict import Clock, faults, watch_scripts

from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.errors import LeaseLost

TOPICS = ("a", "b")
TAKERS = st.integers(0, 2)
SECONDS = st.integers(1, 4)
ACTIONS = st.one_of(
    st.tuples(st.just("post"), st.sampled_from(TOPICS)),
    st.tuples(st.just("hold"), TAKERS, st.sampled_from(TOPICS), SECONDS),
    st.tuples(st.just("race"), st.sampled_from(TOPICS), SECONDS),
    st.tuples(st.just("take"), st.sampled_from(TOPICS)),
    st.tuples(st.just("confirm"), TAKERS, st.booleans()),
    st.tuples(st.just("renew"), TAKERS, SECONDS),
    st.tuples(st.just("give_back"), TAKERS),
    st.tuples(st.just("amend"), st.integers(0, 5)),
    st.tuples(st.just("pass"), SECONDS),
)


@dataclass
class Stock:
    """An entry as the model has it."""

    topic: str
    fence: int = 0
    until: float = 0.0
    version: int = 1
    taken: bool = False


@dataclass
class History:
    """Plays actions on a board and on the model. A taker remembers what it held and does not know whether it still does."""

    notes: Entries
    clock: Clock
    model: dict[str, Stock] = field(default_factory=dict[str, Stock])
    hands: dict[int, list[tuple[str, int]]] = field(default_factory=dict[int, list[tuple[str, int]]])
    ended: list[str] = field(default_factory=list[str])
    """What was had for good, by whom it may be."""

    def there(self, topic: str) -> list[str]:
        now = self.clock.seconds
        return [one for one, s in self.model.items() if s.topic == topic and not s.taken and s.until <= now]

    async def play(self, action: tuple[Any, ...]) -> None:
        await getattr(self, f"do_{action[0]}")(*action[1:])

    async def do_post(self, topic: str) -> None:
        self.model[(await self.notes.post(topic, 1)).id] = Stock(topic)

    def took(self, entry: Any, taker: int, seconds: int) -> None:
        one = self.model[entry.id]
        assert one.until <= self.clock.seconds, "nobody else holds it"
        one.version += 1
        one.fence, one.until = one.version, self.clock.seconds + seconds
        assert (entry.fence, entry.leased_until, entry.state) == (one.fence, one.until, "leased")
        self.hands.setdefault(taker, []).append((entry.id, one.fence))

    async def do_hold(self, taker: int, topic: str, seconds: int) -> None:
        expected = self.there(topic)[:1]
        entry = await self.notes.take(topic, lease_seconds=seconds)
        assert ([] if entry is None else [entry.id]) == expected
        if entry is not None:
            self.took(entry, taker, seconds)

    async def do_race(self, topic: str, seconds: int) -> None:
        expected = self.there(topic)[:3]
        got = await asyncio.gather(*(self.notes.take(topic, lease_seconds=seconds) for _ in range(3)))
        assert sorted(one.id for one in got if one is not None) == sorted(expected)
        for taker, entry in enumerate(got):
            if entry is not None:
                self.took(entry, taker, seconds)

    async def do_take(self, topic: str) -> None:
        expected = self.there(topic)[:1]
        entry = await self.notes.take(topic)
        assert ([] if entry is None else [entry.id]) == expected
        if entry is not None:
            self.model[entry.id].taken = True
            self.ended.append(entry.id)

    async def holding(self, taker: int, call: Any) -> Stock | None:
        """The last of what a taker held, where it holds it still: the board must say the same."""
        if not self.hands.get(taker):
            return None
        entry_id, fence = self.hands[taker][-1]
        one = self.model[entry_id]
        if one.fence == fence and one.until > self.clock.seconds and not one.taken:
            written = await call(entry_id, fence)
            one.version += 1
            assert (written.version, written.new) == (one.version, True)
            return one
        with pytest.raises(LeaseLost):
            await call(entry_id, fence)
        return None

    async def do_confirm(self, taker: int, twice: bool) -> None:
        held = await self.holding(taker, self.notes.confirm)
        if held is not None:
            held.taken = True
            entry_id, fence = self.hands[taker].pop()
            self.ended.append(entry_id)
            if twice:
                assert not (await self.notes.confirm(entry_id, fence)).new

    async def do_renew(self, taker: int, seconds: int) -> None:
        held = await self.holding(taker, lambda entry, fence: self.notes.renew(entry, fence, seconds))
        if held is not None:
            held.until = self.clock.seconds + seconds

    async def do_give_back(self, taker: int) -> None:
        held = await self.holding(taker, self.notes.give_back)
        if held is not None:
            held.until = held.fence = 0

    async def do_amend(self, which: int) -> None:
        free = [one for topic in TOPICS for one in self.there(topic)]
        if free:
            entry_id = free[which % len(free)]
            self.model[entry_id].version += 1
            self.model[entry_id].fence = 0
            assert (await self.notes.amend(entry_id, 2)).version == self.model[entry_id].version

    async def do_pass(self, seconds: int) -> None:
        await self.clock.advance(seconds)

    async def end(self) -> None:
        """All takers die. What nobody had for good is there again, and had once."""
        await self.clock.advance(5)
        while (entry := await self.notes.take(">")) is not None:
            self.ended.append(entry.id)
        assert sorted(self.ended) == sorted(self.model)


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory://entries-leased" if request.param == "memory" else request.getfixturevalue("redis_server").url


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=st.lists(ACTIONS, min_size=3, max_size=30), in_run=st.booleans())
def test_whoever_holds_lapses_and_dies_each_entry_has_one_holder_and_none_is_lost(
    url: str, monkeypatch: pytest.MonkeyPatch, history: list[tuple[Any, ...]], in_run: bool
) -> None:
    watch_scripts(monkeypatch)

    async def played() -> None:
        async with await Board.open(url, board=f"t{uuid.uuid4().hex[:12]}") as board:
            clock = Clock(board)
            await clock.advance()
            scope = f"run:{await board.submit('go')}" if in_run else "session:x"
            played = History(Entries(board, scope), clock)
            await played.do_post("a")
            for action in history:
                await played.play(action)
            assert not await faults(board)
            await played.end()
            assert not await faults(board)

    asyncio.run(played())
