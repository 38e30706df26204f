"""Plans: the steps that a model posts as data, what each waits for, and what is wrong with them.

A step becomes a task as soon as it is known what task: at once, or, where that depends on what others came to, when they have
ended; see :mod:`arbiter.carrying`. What a plan says is checked whole before anything of it runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple, cast

from pydantic import Field, JsonValue, ValidationError

from blackboard import predicates, references
from blackboard.errors import BadInput
from blackboard.predicates import Predicate
from blackboard.refusing import refused
from blackboard.types import RetryPolicy, Stored

REQUEST = "request"
"""What a reference calls the request itself, unless a task has this key."""
ITEM = "item"
"""What the input of a step with ``each`` calls the item of its task."""
ERROR = "error"
"""What a step that catches calls the error it catches."""
FIRST = "$first"
"""``{"$first": ["<key>#/json/pointer", …]}`` stands for the first of these that there is."""
AT_ONCE = 10
MOST_AT_ONCE = 100
MOST_ATTEMPTS = 10
MOST_SECONDS = 2_592_000
_LISTED = 10


class Step(Stored):
    """One step of a plan."""

    key: str
    capability: str
    input: dict[str, JsonValue]
    after: tuple[str, ...] = ()
    """Keys of steps that must have ended well, or been skipped, or whose failure was caught."""
    premises: tuple[str, ...] = ()
    when: str | None = Field(default=None, min_length=1, max_length=2000)
    """Conditions as in :mod:`blackboard.predicates`, whose paths begin with a key."""
    else_of: str | None = None
    """Key of a step with conditions: this one's turn is only when those, and those that one is the else of, do not hold."""
    each: str | None = Field(default=None, max_length=500)
    """Reference to a list: a task for each of its items."""
    at_once: int = Field(default=AT_ONCE, ge=1, le=MOST_AT_ONCE)
    tolerate: int = Field(default=0, ge=0, le=100_000)
    wait_seconds: float = Field(default=0.0, ge=0, le=MOST_SECONDS)
    retry: RetryPolicy | None = None
    catch: str | None = None
    """Key of a step whose turn is only when this one failed."""

    @property
    def chooses(self) -> bool:
        """Whether it depends on what others come to, what its input has or whether it is its turn."""
        return bool(self.when or self.else_of) or next(_firsts(self.input), None) is not None

    @property
    def dynamic(self) -> bool:
        """Whether it cannot be said beforehand which tasks it becomes, or when."""
        return bool(self.each or self.wait_seconds) or self.chooses


class Plan:
    """Steps by their keys, and what follows from them together."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = {step.key: step for step in steps}
        self.handles = {step.catch: step.key for step in steps if step.catch is not None}
        """By the key of a step that catches, whose failure it catches."""

    def named(self, key: str) -> tuple[str, ...]:
        """Keys into whose results the input of a step points, in its order."""
        own = ({ITEM} if self.steps[key].each else set[str]()) | ({ERROR} if key in self.handles else set[str]())
        return tuple(dict.fromkeys(name for name in _named(self.steps[key].input) if name not in own))

    def conditions(self, key: str) -> Iterator[tuple[str, tuple[Predicate, ...], bool]]:
        """The steps whose conditions decide about one, the conditions, and whether they must hold.

        Raises:
            BadInput: something in them is no condition.
        """
        at, wanted = self.steps.get(key), True
        seen: set[str] = set()
        while at is not None and at.key not in seen:
            seen.add(at.key)
            if at.when is not None:
                yield at.key, predicates.parse(at.when), wanted
            at, wanted = self.steps.get(at.else_of or ""), False

    def asked(self, key: str) -> set[str]:
        """Keys that the conditions about a step ask about."""
        paths = {one.path.partition(".")[0] for _, some, _ in self.conditions(key) for one in some}
        return paths - ({ERROR} if key in self.handles else set[str]())

    def waits(self, key: str) -> set[str]:
        """Keys of all that must be settled before it is known what becomes of a step: also of what may catch their failures."""
        each = self.steps[key].each
        own = {
            *self.steps[key].after,
            *self.named(key),
            *self.asked(key),
            *([references.split(each)[0]] if each else ()),
        }
        caught = {step.catch for other in own if (step := self.steps.get(other)) and step.catch is not None}
        parent = {self.handles[key]} if key in self.handles else set[str]()
        return (own | caught | parent) - ({key} if parent else set[str]())

    def held(self) -> set[str]:
        """Keys of the steps that cannot be posted with the plan, as it depends on what others come to whether and as what."""
        found = {key for key, step in self.steps.items() if step.dynamic or key in self.handles}
        found |= {key for key in self.steps if any(self._catching(other) for other in self.waits(key))}
        while more := {key for key in self.steps.keys() - found if self.waits(key) & found}:
            found |= more
        return found

    def _catching(self, key: str) -> bool:
        return key in self.steps and self.steps[key].catch is not None


class Problem(NamedTuple):
    """Something that is wrong with a plan."""

    step: str
    """Its key; empty where it is the plan as a whole."""
    field: str
    said: str
    """For whoever wrote it, with the key."""

    def __str__(self) -> str:
        return self.said


def summary(steps: Sequence[Mapping[str, JsonValue]]) -> str:
    """A plan in a line, for people."""
    named = ", ".join(str(step.get("key")) for step in steps[:_LISTED])
    more = f", and {len(steps) - _LISTED} more" if len(steps) > _LISTED else ""
    return f"{len(steps)} step{'s' * (len(steps) != 1)}: {named}{more}"


def parse(given: Sequence[JsonValue]) -> tuple[list[Step], list[Problem]]:
    """The steps, and what is wrong with those that are none."""
    steps: list[Step] = []
    wrong: list[Problem] = []
    for one in given:
        try:
            steps.append(Step.model_validate(one))
        except ValidationError as error:
            key, problem = str(cast("Mapping[str, object]", one).get("key")), refused(error)
            wrong.append(Problem(key, problem.field, f"{key}: {problem}"))
    return steps, wrong


def problems(plan: Plan, keys: Collection[str], elsewhere: Collection[str], seconds: float) -> list[Problem]:
    """What is wrong with some steps of a plan, apart from capabilities and inputs; each names step, field, value and remedy.

    Args:
        keys: of the steps that are looked at; the others were before.
        elsewhere: keys of tasks beside the plan.
        seconds: the run has.
    """
    known = {*plan.steps, *elsewhere}
    there = ", ".join(sorted(plan.steps))
    mapped, caught = any(step.each for step in plan.steps.values()), bool(plan.handles)
    catchers = [step.catch for step in plan.steps.values()]
    found: list[Problem] = []
    for key in keys:
        step = plan.steps[key]

        def wrong(field: str, value: object, remedy: str, key: str = key) -> None:
            found.append(Problem(key, field, f"{key}: {BadInput(field, value, remedy)}"))

        if (key == ITEM and mapped) or (key == ERROR and caught):
            wrong("key", key, "It has a meaning of its own in this plan; use another key.")
        for other in step.after:
            if other not in known or other == key:
                found.append(Problem(key, "after", f"{key}: after names {other}, but the keys are {there}."))
        try:
            for other in plan.asked(key) - known - {REQUEST}:
                if other[0] == "@" or other not in plan.steps:
                    wrong("when", step.when, f"{other!r} is no key; a path begins with one of {there}, or {REQUEST}.")
        except BadInput as error:
            wrong("when", error.value, error.remedy)
        if step.each is not None:
            other, _, pointer = step.each.partition("#")
            if (other not in known and other != REQUEST) or other == key:
                wrong("each", step.each, f"Refer to a list as '<key>#/json/pointer'; the keys are {there}, {REQUEST}.")
            elif pointer and not pointer.startswith("/"):
                wrong("each", step.each, "A pointer is empty or begins with '/', as in 'load#/rows'.")
        elif step.tolerate or "at_once" in step.model_fields_set:
            wrong("tolerate" if step.tolerate else "at_once", step.tolerate or step.at_once, "It needs each.")
        if step.else_of is not None:
            other = plan.steps.get(step.else_of)
            if other is None or step.else_of not in keys or other is step or not (other.when or other.else_of):
                wrong(
                    "else_of",
                    step.else_of,
                    "Name another step of this plan that has when, or is itself the else of one.",
                )
            elif key in plan.handles or step.else_of in plan.handles:
                wrong("else_of", step.else_of, "A step that catches is nobody's else and has none; give it when.")
        if step.catch is not None:
            if step.catch not in keys or step.catch == key:
                wrong("catch", step.catch, f"Name another step of this plan: {there}.")
            elif catchers.count(step.catch) > 1:
                wrong("catch", step.catch, "It catches for one step only; give each a step of its own.")
        if step.wait_seconds >= seconds:
            wrong("wait_seconds", step.wait_seconds, f"The whole run has {seconds:g} s.")
        if step.retry is not None and step.retry.max_attempts > MOST_ATTEMPTS:
            wrong("retry.max_attempts", step.retry.max_attempts, f"Give {MOST_ATTEMPTS} or less.")
    return found or _circles(plan)


def _circles(plan: Plan) -> list[Problem]:
    chain = {key: {step.else_of} for key, step in plan.steps.items() if step.else_of is not None}
    for graph in (chain, {key: plan.waits(key) & plan.steps.keys() for key in plan.steps}):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as circle:
            return [Problem("", "", f"these tasks wait for each other: {' -> '.join(circle.args[1])}")]
    return []


def _named(value: JsonValue) -> Iterator[str]:
    for one in _firsts(value):
        yield from (references.split(each)[0] for each in one)
    yield from references.keys(value)


def _firsts(value: JsonValue) -> Iterator[list[str]]:
    """The alternatives of every ``$first`` in a value."""
    if (some := _alternatives(value)) is not None:
        yield some
    elif isinstance(value, dict):
        for one in value.values():
            yield from _firsts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _firsts(one)


def _alternatives(value: JsonValue) -> list[str] | None:
    some = value.get(FIRST) if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(some, list) and some and all(isinstance(one, str) for one in some):
        return cast("list[str]", some)
    return None


def settled(value: JsonValue, there: Collection[str]) -> JsonValue:
    """A copy of an input in which each ``$first`` is a reference to the first key that is there, or to its last alternative."""
    if (some := _alternatives(value)) is not None:
        return {references.MARK: next((one for one in some if references.split(one)[0] in there), some[-1])}
    if isinstance(value, dict):
        return {name: settled(one, there) for name, one in value.items()}
    if isinstance(value, list):
        return [settled(one, there) for one in value]
    return value
