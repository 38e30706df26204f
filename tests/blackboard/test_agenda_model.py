"""Random histories of an agenda against a model: one activation of each trigger a written version fits, nothing lost, every
pick the first by the recorded ratings, the loop guards kept, and the same picks again from the log (G2, G4, G9, G12)."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from agenda_support import decide, declare
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strict import Clock, Play, done, faults, spec, watch_scripts

from arbiter.replay_agenda import replayed
from blackboard import topics
from blackboard.agenda import Agenda
from blackboard.board import STEP_LANE, Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.triggers import AgendaTerms, Declared, Trigger

LEASE = 5.0
TERMS = AgendaTerms(concurrency=2, depth=3, repeats=2)
CRASHES = 2
"""Most of a history: a task has three attempts."""

PICK = st.integers(0, 99)
TRIGGERS = st.lists(
    st.builds(
        Trigger, topic=st.sampled_from(["a", "b", "a.*", "*", ">"]), where=st.sampled_from(["", "n>=2", "n=1"]),
        priority=st.integers(0, 3),
    ),
    min_size=1,
    max_size=2,
)  # fmt: skip
ACTIONS = st.one_of(
    st.tuples(st.just("register"), st.sampled_from(["c0", "c1", "c2"]), TRIGGERS),
    st.tuples(st.just("register"), st.sampled_from(["c0", "c1", "c2"]), TRIGGERS),
    st.tuples(st.just("retire"), st.sampled_from(["c0", "c1", "c2"])),
    st.tuples(st.just("post"), st.sampled_from(["a", "b", "a.x"]), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("post"), st.sampled_from(["a", "b", "a.x"]), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("amend"), PICK, st.integers(0, 3)),
    st.tuples(st.just("retract"), PICK),
    st.tuples(st.just("again")),
    st.tuples(st.just("decide")),
    st.tuples(st.just("work")),
    *[st.tuples(st.just("react"), st.sampled_from(["a", "b", "a.x"]), st.integers(0, 3))] * 4,
    st.tuples(st.just("finish"), PICK),
    st.tuples(st.just("crash")),
    st.tuples(st.just("promote"), PICK, PICK),
    st.tuples(st.sampled_from(["block", "unblock"]), PICK),
    st.tuples(st.just("rerate"), PICK, st.integers(-3, 9)),
)


@dataclass
class Known:
    """An activation as the model has it."""

    number: int
    trigger: str
    entry: str
    version: int
    priority: float
    chain: tuple[str, ...] = ()
    parent: int | None = None
    state: str = "waiting"
    pin: float | None = None
    ended: bool = False

    @property
    def place(self) -> tuple[float, int]:
        return (-self.priority if self.pin is None else self.pin, self.number)


@dataclass
class Model:
    """What the terms and the triggers say of a history."""

    triggers: dict[str, list[Declared]] = field(default_factory=dict[str, list[Declared]])
    entries: dict[str, tuple[str, int, bool]] = field(default_factory=dict[str, tuple[str, int, bool]])
    """Topic, version, and whether it is live."""
    made: list[Known] = field(default_factory=list[Known])
    pins: int = 0

    def written(self, entry: str, n: int, above: Known | None) -> None:
        topic, version, _ = self.entries[entry]
        for capability in sorted(self.triggers):
            for one in self.triggers[capability]:
                fits = topics.matches(one.trigger.topic, topic)
                if fits and {"": True, "n>=2": n >= 2, "n=1": n == 1}[one.trigger.where]:
                    chain = () if above is None else (*above.chain, above.trigger)
                    new = Known(len(self.made) + 1, one.key, entry, version, one.trigger.priority, chain)
                    new.parent = None if above is None else above.number
                    if len(chain) + 1 > TERMS.depth or chain.count(one.key) >= TERMS.repeats:
                        new.state = "stopped"
                    self.made.append(new)

    @property
    def busy(self) -> int:
        return sum(one.state == "picked" and not one.ended for one in self.made)

    @property
    def waiting(self) -> list[Known]:
        return sorted((one for one in self.made if one.state == "waiting"), key=lambda one: one.place)

    def stale(self, one: Known) -> bool:
        _, version, live = self.entries[one.entry]
        return not live or version != one.version


class History:
    """Applies each action to the board and to the model."""

    def __init__(self, play: Play, run: str) -> None:
        self.play, self.run = play, run
        self.agenda, self.notes = Agenda(play.board, run), Entries(play.board, f"run:{run}")
        self.model = Model()
        self.held: list[Claim] = []
        self.sent: tuple[str, dict[str, int], str] | None = None
        self.number = self.crashes = 0

    async def go(self, action: tuple[Any, ...]) -> None:
        await getattr(self, action[0])(*action[1:])
        await self.compare(action)

    async def compare(self, action: object) -> None:
        made = await self.agenda.activations()
        assert [(one.number, one.trigger, one.entry, one.entry_version, one.chain, one.parent) for one in made] == [
            (one.number, one.trigger, one.entry, one.version, one.chain, one.parent) for one in self.model.made
        ], action
        assert [one.state for one in made] == [one.state for one in self.model.made], action
        view = await self.agenda.view(fresh=500, best=500)
        assert (view.running, view.waiting) == (self.model.busy, len(self.model.waiting)), action
        fresh = [replace(one, rating=one.priority) for one in view.fresh]
        order = sorted([*view.best, *fresh], key=lambda one: one.place)
        assert [one.number for one in order] == [one.number for one in self.model.waiting], action

    async def register(self, capability: str, triggers: list[Trigger]) -> None:
        self.number += 1
        made = await declare(self.play, capability, *triggers, revision=self.number, sha=f"v{self.number}")
        self.model.triggers[capability] = made

    async def retire(self, capability: str) -> None:
        self.number += 1
        await declare(self.play, capability, revision=self.number)
        self.model.triggers.pop(capability, None)

    async def post(self, topic: str, n: int, by_task: bool) -> None:
        self.number += 1
        task = self.held[0] if by_task and self.held else None
        operation = f"o{self.number}"
        written = await self.notes.post(topic, {"n": n}, operation=operation, task=task)
        if task is None:
            self.sent = (topic, {"n": n}, operation)
        self.model.entries[written.id] = (topic, 1, True)
        above = None if task is None else self.model.made[int(task.key.removeprefix("@")) - 1]
        self.model.written(written.id, n, above)

    async def again(self) -> None:
        if self.sent is not None:
            topic, content, operation = self.sent
            assert not (await self.notes.post(topic, content, operation=operation)).new

    def some(self, pick: int) -> str | None:
        live = [entry for entry, (_, _, live) in self.model.entries.items() if live]
        return live[pick % len(live)] if live else None

    async def amend(self, pick: int, n: int) -> None:
        if (entry := self.some(pick)) is not None:
            await self.notes.amend(entry, {"n": n})
            topic, version, _ = self.model.entries[entry]
            self.model.entries[entry] = (topic, version + 1, True)
            self.model.written(entry, n, None)

    async def retract(self, pick: int) -> None:
        if (entry := self.some(pick)) is not None:
            await self.notes.retract(entry)
            self.model.entries[entry] = (*self.model.entries[entry][:2], False)

    async def decide(self) -> None:
        """What control does: drop what lost its entry, pick the first of the rest as far as there is room."""
        claims = await self.play.take(STEP_LANE, worker="control")
        if not claims:
            return
        view = await self.agenda.view(fresh=500, best=500)
        room = TERMS.concurrency - self.model.busy
        aside: list[Known] = []
        picks: list[Known] = []
        for one in self.model.waiting:
            if len(picks) >= room:
                break
            (aside if self.model.stale(one) else picks).append(one)
        dropped = [(one.number, "obviated", "its entry has changed") for one in aside]
        await decide(self.play, claims[0], view, [one.number for one in picks], aside=dropped)
        for one in aside:
            one.state = "obviated"
        for one in picks:
            one.state = "picked"

    async def work(self) -> None:
        self.held += await self.play.take()

    async def finish(self, pick: int) -> None:
        if self.held:
            claim = self.held.pop(pick % len(self.held))
            await self.play.board.complete(claim, done(claim))
            self.model.made[int(claim.key.removeprefix("@")) - 1].ended = True

    async def react(self, topic: str, n: int) -> None:
        """A whole turn: what is picked writes something, which may lead to more."""
        await self.decide()
        await self.work()
        if self.held:
            await self.post(topic, n, True)
            await self.finish(0)

    async def crash(self) -> None:
        """Whoever works on something, control included, dies with it."""
        if self.crashes < CRASHES:
            self.crashes += 1
            await self.play.take(STEP_LANE, worker="control")
            for seconds in (LEASE + 1, 30.0):
                await self.play.clock.advance(seconds)
                await self.play.board.sweep()
            self.held.clear()

    async def changed(self, verb: str, pick: int, *given: float) -> Known | None:
        able = {"unblock": ("blocked",), "block": ("waiting",)}.get(verb, ("waiting",))
        among = [one for one in self.model.made if one.state in able]
        if not among:
            return None
        one = among[pick % len(among)]
        for _ in range(1 + pick % 2):
            await getattr(self.agenda, verb)(
                one.number, *given, by="ann", operation=f"{verb}{len(self.model.made)}-{self.number}"
            )
        self.number += 1
        return one

    async def promote(self, *picks: int) -> None:
        for pick in picks:
            if (one := await self.changed("promote", pick)) is not None:
                self.model.pins += 1
                one.pin = -(1e12 + self.model.pins)

    async def block(self, pick: int) -> None:
        if (one := await self.changed("block", pick)) is not None:
            one.state = "blocked"

    async def unblock(self, pick: int) -> None:
        if (one := await self.changed("unblock", pick)) is not None:
            one.state = "waiting"

    async def rerate(self, pick: int, rating: int) -> None:
        if (one := await self.changed("rerate", pick, float(rating))) is not None:
            one.pin = -float(rating)

    async def to_the_end(self) -> None:
        """Nothing that waits is forgotten: it is decided on and worked on until nothing is left."""
        for _ in range(2 * len(self.model.made) + 2):
            await self.decide()
            await self.work()
            while self.held:
                await self.finish(0)
        await self.compare("end")
        assert not self.model.waiting
        assert not self.model.busy
        assert all(made == again for made, again in replayed(await self.play.board.history(self.run)))


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return "memory://agenda-model" if request.param == "memory" else request.getfixturevalue("redis_server").url


ANY = [Trigger(topic=">")]
PING_PONG = [("post", "a", 0, False), *[("react", "a", 0)] * 4]
TOO_DEEP = [
    ("register", "c1", [Trigger(topic="b")]), ("register", "c2", [Trigger(topic="a.x")]), ("post", "a", 0, False),
    ("react", "b", 0), ("react", "a.x", 0), ("react", "a", 0),
]  # fmt: skip
PROMOTED = [("post", "a", 0, False), ("post", "a", 1, False), ("promote", 0, 1), ("decide",)]
"""Histories that chance finds too seldom."""


@example(first=ANY, history=PING_PONG)
@example(first=[Trigger(topic="a")], history=TOO_DEEP)
@example(first=ANY, history=PROMOTED)
@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(first=TRIGGERS, history=st.lists(ACTIONS, min_size=4, max_size=24))
def test_g2_whatever_happens_to_an_agenda_it_holds_what_the_model_says_and_picks_in_its_order(
    url: str, monkeypatch: pytest.MonkeyPatch, first: list[Trigger], history: list[tuple[Any, ...]]
) -> None:
    watch_scripts(monkeypatch)

    async def played() -> None:
        async with await Board.open(url, board=f"t{uuid.uuid4().hex[:12]}", lease_seconds=LEASE) as board:
            play = Play(board, Clock(board))
            await play.clock.advance()
            run = await play.run(spec("t", lane="other"), agenda=TERMS)
            one = History(play, run)
            await one.go(("register", "c0", first))
            for action in history:
                await one.go(action)
            assert await faults(board) == []
            await one.to_the_end()
            assert await faults(board) == []

    asyncio.run(played())
