"""Activations: what an agenda holds, as its header or its run's log tells it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from blackboard import events
from blackboard.errors import BadInput
from blackboard.events import Event

State = Literal["waiting", "parked", "blocked", "picked", "obviated", "stopped"]
STATES: tuple[State, ...] = ("waiting", "parked", "blocked", "picked", "obviated", "stopped")
FACTS = "agenda."
"""How the types of the events about agendas begin."""
_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,127})/a/([1-9][0-9]{0,9})\Z")


@dataclass(frozen=True, slots=True)
class Activation:
    """A capability that was triggered by an entry."""

    run_id: str
    number: int
    """1, 2, 3 … on the run's agenda."""
    trigger: str
    """Key of the trigger; the same for the same one of a capability's version."""
    capability: str
    version: str
    lane: str
    entry: str
    entry_version: int
    """What the entry said when it triggered; an activation whose entry was changed since is not picked."""
    topic: str
    confidence: float
    priority: float
    cost: float
    depth: int
    """1 where no activation led to the entry."""
    serial: int
    """The how manieth of its capability in the run."""
    made_at: float
    """Seconds since the epoch on the server's clock."""
    seconds: float | None = None
    """How soon it should be picked."""
    parent: int | None = None
    """The activation whose task wrote the entry."""
    chain: tuple[str, ...] = ()
    """Triggers of the activations that led to it, the first of them first."""
    state: State = "waiting"
    """``parked``: its precondition does not hold yet. ``stopped``: a loop guard did. How a picked one ended is its task's end."""
    rating: float | None = None
    pin: float | None = None
    """Where somebody put it, by promoting it or giving it a rating: the less, the sooner; else it stands at ``-rating``."""
    meaning: float | None = None
    """How well its entry answers to what the trigger is about, 0 to 1, once that was judged."""
    task: str | None = None
    why: str = ""
    """Of its state."""

    @property
    def id(self) -> str:
        return f"{self.run_id}/a/{self.number}"

    @property
    def due_at(self) -> float | None:
        """By when it should be picked, in seconds since the epoch."""
        return None if self.seconds is None else self.made_at + self.seconds

    @property
    def place(self) -> tuple[float, int]:
        """Where it stands among those that wait and were rated; the first is picked first."""
        return (self.pin if self.pin is not None else -(self.rating or 0.0), self.number)

    def record(self) -> dict[str, Any]:
        """As plain JSON, without what says nothing."""
        names = (name for name in self.__slots__ if name not in ("run_id", "number"))
        said: dict[str, Any] = {"id": self.id} | {name: getattr(self, name) for name in names}
        return {name: value for name, value in said.items() if value not in (None, "", (), False)}


def number_of(activation: str | int, run_id: str) -> int:
    """The number in an activation's id.

    Raises:
        BadInput: it is none of this run.
    """
    if isinstance(activation, int) and activation > 0:
        return activation
    match = _ID.match(str(activation))
    if match is None or match[1] != run_id:
        raise BadInput("activation", activation, f"Pass the id of one of this run: {run_id}/a/1.")
    return int(match[2])


def run_of(activation: str) -> str:
    """The run in an activation's id.

    Raises:
        BadInput: it is no id of an activation.
    """
    match = _ID.match(activation)
    if match is None:
        raise BadInput("activation", activation, "Pass the id of an activation: RUN/a/1.")
    return match[1]


def parse(run_id: str, raw: str) -> Activation:
    """The activation in a header of the agenda."""
    x: dict[str, Any] = json.loads(raw)
    return Activation(
        run_id=run_id, number=int(x["q"]), trigger=x["tr"], capability=x["cap"], version=x["v"], lane=x["lane"],
        entry=x["e"], entry_version=int(x["ev"]), topic=x["topic"], confidence=float(x["conf"]), priority=float(x["prio"]),
        cost=float(x["cost"]), depth=int(x["hop"]), serial=int(x["k"]), made_at=x["at"] / 1000, seconds=x.get("sec"),
        parent=None if x.get("up") is None else int(x["up"]), chain=tuple(x.get("chain") or ()), state=x["st"],
        rating=None if x.get("rt") is None else float(x["rt"]), pin=None if x.get("pin") is None else float(x["pin"]),
        meaning=None if x.get("mn") is None else float(x["mn"]), task=x.get("task"), why=x.get("why", ""),
    )  # fmt: skip


@dataclass(slots=True)
class AgendaFold:
    """The agenda of a run after some of its facts."""

    run_id: str
    activations: dict[int, Activation] = field(default_factory=dict[int, Activation])
    """By number, in the order they were made."""
    strategy_version: str = ""
    """By which they were rated last."""
    version: int = 0
    """How many facts there are."""

    def apply(self, log: Iterable[Event]) -> AgendaFold:
        """Go on by some events; those that are not about the agenda are passed over."""
        for event in log:
            data = event.data
            if isinstance(event, events.AgendaActivated):
                self._made(event.data)
            elif isinstance(event, events.AgendaDecided):
                self._decided(event.data)
            elif isinstance(event, events.AgendaChanged):
                self._changed(event.data)
            else:
                continue
            del data
            self.version += 1
        return self

    def _made(self, data: events.AgendaActivatedData) -> None:
        for one in data.activations:
            self.activations[one.number] = Activation(
                run_id=self.run_id, number=one.number, trigger=one.trigger, capability=one.capability,
                version=one.version, lane=one.lane, entry=data.entry, entry_version=data.entry_version, topic=data.topic,
                confidence=data.confidence, priority=one.priority, cost=one.cost, depth=data.depth, serial=one.serial,
                made_at=data.at_ms / 1000, seconds=one.seconds, parent=data.parent, chain=data.chain, state=one.state,
                why=one.why,
            )  # fmt: skip

    def _decided(self, data: events.AgendaDecidedData) -> None:
        for one in data.rated:
            known = self.activations[one.number]
            known = replace(known, state="waiting", why="") if known.state == "parked" else known
            known = known if one.meaning is None else replace(known, meaning=one.meaning)
            self.activations[one.number] = known if known.pin is not None else replace(known, rating=one.rating)
        for one in data.aside:
            self.activations[one.number] = replace(self.activations[one.number], state=one.state, why=one.why)
        for one in data.picked:
            known = self.activations[one.number]
            self.activations[one.number] = replace(known, state="picked", task=one.task)
        self.strategy_version = data.strategy_version or self.strategy_version

    def _changed(self, data: events.AgendaChangedData) -> None:
        known = self.activations[data.number]
        match data.change:
            case "block":
                known = replace(known, state="blocked", why=data.reason)
            case "unblock":
                known = replace(known, state="waiting", why="")
            case "promote":
                known = replace(known, pin=-(1e12 + self.version + 1))
            case "rerate":
                known = replace(known, pin=-(data.rating or 0.0), rating=data.rating)
        self.activations[data.number] = known
