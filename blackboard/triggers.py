"""What capabilities wait for on the board, and which of it a written entry is: triggers, compiled.

A trigger is a topic pattern and conditions. Compiled, the patterns are a tree of words, and the triggers of a pattern are
parted by the first equality among their conditions, so comparing an entry takes time in proportion to what fits it and not
to what is registered.

Sources: knowledge sources with trigger, precondition and obviation (Hayes-Roth, *A blackboard architecture for control*,
Artificial Intelligence 1985); compiling what is waited for (Hewett, AAAI 1994).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal, Self, cast

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from blackboard import predicates
from blackboard.errors import BadInput
from blackboard.predicates import ABSENT, Predicate, value_at
from blackboard.topics import check_pattern
from blackboard.types import Record

MOST = 50
"""Most triggers of one capability."""
LEAST = 0.3
"""How well an entry must answer to what a trigger is ``about``, unless the trigger says."""
Loss = Literal["retracted", "amended", "contradicted"]
_ATTRIBUTES = ("@confidence", "@version")
_BOUND = ("id", "topic", "version", "content", "confidence", "author", "links", "taint", "posted")


class Query(Record):
    """Entries that fit, in the scope of the run.

    Raises:
        BadInput: a malformed pattern or condition.
    """

    topic: str = ">"
    """Pattern of topics."""
    where: str = Field(default="", max_length=2000)
    """Conditions as in :mod:`blackboard.predicates`."""

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        check_pattern(self.topic, "topic")
        predicates.parse(self.where)
        return self

    def __str__(self) -> str:
        return f"{self.topic} {self.where}".strip()


class Trigger(Record):
    """What a capability waits for, and what it is worth when it comes.

    Raises:
        BadInput: a malformed pattern, condition or binding.
    """

    topic: str
    """Pattern of topics: ``claims.invoice.*``. An entry that is posted there, or amended, and fits, makes one activation."""
    where: str = Field(default="", max_length=2000)
    """Conditions on its content, and on ``@confidence`` and ``@version``."""
    about: str = Field(default="", max_length=1000)
    """What it must mean as well, in words, as in ``query(about=…)``: ``who owes us money``."""
    least: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """How well it must answer to ``about``, 0 to 1. Default: :data:`LEAST`."""
    requires: Query | None = None
    """Precondition: it is not picked before this finds something."""
    unless: Query | None = None
    """Obviation: it is not picked any more once this finds something."""
    priority: float = Field(default=5.0, ge=0, le=10, allow_inf_nan=False)
    cost: float = Field(default=1.0, gt=0, le=1e9, allow_inf_nan=False)
    """What it costs, in a unit that the capabilities of the board share."""
    seconds: float | None = Field(default=None, gt=0, le=86_400 * 30)
    """How soon it should be picked; the strategy ``deadline`` goes by it."""
    stop_when: tuple[Loss, ...] = ()
    """What happens to its entry while its task runs that has the task cancelled: ``retracted``, ``amended``, ``contradicted``."""
    bind: dict[str, str] = Field(default_factory=dict, max_length=50)
    """Property of the input to a path of the entry, such as ``content.amount``; without any the input is ``{"entry": …}``."""

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        check_pattern(self.topic, "topic")
        if self.least is not None and not self.about.strip():
            raise BadInput("least", self.least, "Say in about what the entry must answer to by so much.")
        for one in predicates.parse(self.where):
            if one.path[0] == "@" and one.path not in _ATTRIBUTES:
                raise BadInput(
                    "where", one.path, f"Of the entry itself, a trigger may ask {' and '.join(_ATTRIBUTES)}."
                )
        for path in self.bind.values():
            if path.partition(".")[0] not in _BOUND:
                raise BadInput("bind", path, f"Begin a path with one of {', '.join(_BOUND)}, as in content.amount.")
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Manifests are known by the hash of their text: a field that a later version adds must not change it."""
        said = cast("dict[str, Any]", write(self))
        return {name: value for name, value in said.items() if value not in (None, "", {}, (), [])}

    def given(self, entry: Mapping[str, JsonValue]) -> JsonValue:
        """The input of its task.

        Args:
            entry: the entry's record. A path that leads nowhere is left out of the input.
        """
        if not self.bind:
            return {"entry": dict(entry)}
        found = {name: value_at(dict(entry), path) for name, path in self.bind.items()}
        return cast(JsonValue, {name: value for name, value in found.items() if value is not ABSENT})


class AgendaTerms(Record):
    """How the agenda of a run works."""

    strategy: str = Field(default="priority", pattern=r"^[a-z][a-z0-9_]{0,63}$")
    """``priority``, ``expected_value``, ``breadth_first``, ``deadline``, ``fair_share``, or one that a program brings."""
    weights: dict[str, float] = Field(default_factory=dict, max_length=100)
    """Of capabilities, by name; 1 where none is given."""
    concurrency: int = Field(default=4, ge=1, le=500)
    """Most activations picked and not over at a time, beside those that are asked to bid on an open request."""
    depth: int = Field(default=16, ge=1, le=64)
    """Longest chain: an activation's task writes an entry, which makes the next activation."""
    repeats: int = Field(default=3, ge=1, le=64)
    """How often one trigger may stand in a chain before another activation of it counts as ping-pong."""
    until: Query | None = None
    """Once this finds something, nothing more is picked."""
    planned: bool = True
    """False for a run without a model, which is driven by its board alone."""

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        for name, weight in self.weights.items():
            if not 0 < weight <= 1e6:
                raise BadInput(f"weights.{name}", weight, "Give a number above 0, at most 1,000,000.")
        return self

    def header(self) -> str:
        """What the scripts need to know of them."""
        return json.dumps({"c": self.concurrency, "hop": self.depth, "rep": self.repeats})


@dataclass(frozen=True)
class Declared:
    """A trigger of a capability's version, as the board keeps it."""

    key: str
    capability: str
    version: str
    """Content hash."""
    number: int
    """Which of the capability's triggers, from 0."""
    lane: str
    tenant: str
    trigger: Trigger

    @classmethod
    def of(cls, capability: str, version: str, number: int, lane: str, tenant: str, trigger: Trigger) -> Declared:
        """The trigger with its key, which is the same wherever it is made."""
        key = hashlib.sha256(f"{capability}|{version}|{number}".encode()).hexdigest()[:12]
        return cls(key, capability, version, number, lane, tenant, trigger)

    def stored(self) -> str:
        """As JSON; the short fields are what the scripts read."""
        one = self.trigger
        said: dict[str, Any] = {
            "cap": self.capability, "v": self.version, "n": self.number, "lane": self.lane, "tenant": self.tenant,
            "prio": one.priority, "cost": one.cost, "trigger": one.model_dump(mode="json"),
        }  # fmt: skip
        if one.seconds is not None:
            said["sec"] = one.seconds
        return json.dumps(said)

    @classmethod
    def parse(cls, key: str, text: str) -> Declared:
        """What :meth:`stored` made. The same text is parsed once, since any change lets a process read all of them."""
        return _parsed(key, text)

    @cached_property
    def wanted(self) -> tuple[Predicate, ...]:
        """Its conditions."""
        return predicates.parse(self.trigger.where)


@lru_cache(maxsize=65_536)
def _parsed(key: str, text: str) -> Declared:
    said: dict[str, Any] = json.loads(text)
    trigger = Trigger.model_validate(said["trigger"])
    return Declared(key, said["cap"], said["v"], int(said["n"]), said["lane"], said["tenant"], trigger)


@dataclass(slots=True)
class _Node:
    """A place in the tree of words."""

    words: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    """What may follow: a word, or ``*``."""
    here: _Kept | None = None
    """Triggers whose pattern ends here."""
    below: _Kept | None = None
    """Triggers whose pattern ends here with ``>``."""


@dataclass(slots=True)
class _Kept:
    """The triggers of one pattern, each with its conditions."""

    plain: list[Declared] = field(default_factory=list[Declared])
    equal: dict[str, dict[object, list[Declared]]] = field(default_factory=dict[str, "dict[object, list[Declared]]"])
    """Path to value to those whose first equality it is."""

    def add(self, one: Declared) -> None:
        for each in one.wanted:
            if each.sign == "=" and each.path[0] != "@":
                self.equal.setdefault(each.path, {}).setdefault(_kind(each.value), []).append(one)
                return
        self.plain.append(one)

    def fitting(self, content: JsonValue, attributes: Mapping[str, JsonValue]) -> Iterable[Declared]:
        close = list(self.plain)
        for path, values in self.equal.items():
            if (found := value_at(content, path)) is not ABSENT and not isinstance(found, dict | list):
                close += values.get(_kind(found), ())
        return (one for one in close if all(each.fits(content, attributes) for each in one.wanted))


def _kind(value: object) -> object:
    """A value so that two are equal when a condition says so: True is not 1."""
    return (isinstance(value, bool), value)


class Compiled:
    """Triggers, so that those which fit an entry are found without looking at the others."""

    def __init__(self, version: str = "0", triggers: Iterable[Declared] = ()) -> None:
        self.version = version
        self.by_key: dict[str, Declared] = {}
        self._root = _Node()
        for one in triggers:
            self.by_key[one.key] = one
            node = self._root
            words = one.trigger.topic.split(".")
            for word in words if words[-1] != ">" else words[:-1]:
                node = node.words.setdefault(word, _Node())
            kept = node.below if words[-1] == ">" else node.here
            if kept is None:
                kept = _Kept()
                if words[-1] == ">":
                    node.below = kept
                else:
                    node.here = kept
            kept.add(one)

    def fitting(self, topic: str, content: JsonValue, attributes: Mapping[str, JsonValue]) -> Sequence[Declared]:
        """The triggers an entry fits, by capability and their order there."""
        found: list[Declared] = []
        if not self.by_key:
            return found
        nodes = [self._root]
        words = topic.split(".")
        for number, word in enumerate(words):
            following: list[_Node] = []
            for node in nodes:
                if node.below is not None:
                    found += node.below.fitting(content, attributes)
                following += [node.words[each] for each in (word, "*") if each in node.words]
            nodes = following
            if not nodes:
                break
            if number == len(words) - 1:
                for node in nodes:
                    if node.here is not None:
                        found += node.here.fitting(content, attributes)
        return sorted(found, key=lambda one: (one.capability, one.number))
