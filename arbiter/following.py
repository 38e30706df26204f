"""What has become of the steps of a plan: read from the state of its run, as everything is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from pydantic import JsonValue

from arbiter.fold import Round, RunState, Task
from arbiter.plans import Plan, Step, parse
from arbiter.tools import PLAN
from blackboard.events import Call, StepSettled
from blackboard.results import result_entry
from blackboard.taint import Taint, merged
from blackboard.types import Failure, Status

Load = Callable[[JsonValue], Awaitable[JsonValue]]
"""Gives the value that a reference of the board stands for."""
Standing = Literal["held", "going", "succeeded", "failed", "skipped", "cancelled"]


@dataclass(frozen=True, slots=True)
class Source:
    """What a reference can point into: what a task returned, or those of a step with ``each``, as a list in the items' order."""

    tasks: tuple[Task, ...]
    standing: Standing
    many: bool = False

    @property
    def taint(self) -> Taint:
        return merged(*(task.taint for task in self.tasks))

    async def value(self, load: Load) -> JsonValue:
        """What it stands for; of an item whose failure was tolerated, null."""
        data = [
            await load(task.completion.data) if succeeded(task) and task.completion else None for task in self.tasks
        ]
        return data if self.many else data[0]

    def entries(self, run_id: str) -> list[str]:
        """Ids of the entries its results are."""
        return [result_entry(run_id, task.id) for task in self.tasks if succeeded(task)]


@dataclass(slots=True)
class Followed:
    """One step of a plan."""

    step: Step
    call: str
    """The tool call that posted it."""
    tasks: list[Task] = field(default_factory=list[Task])
    """In the order of the items, where it has ``each``."""
    said: StepSettled | None = None
    """What was decided about it without a task."""

    @property
    def failures(self) -> list[Task]:
        return [task for task in self.tasks if task.done and not succeeded(task)]

    @property
    def standing(self) -> Standing:
        if any(not task.done for task in self.tasks):
            return "going"
        if self.said is not None and self.said.state != "mapped":
            return self.said.state
        if self.said is None:
            return _standing(self.tasks[0]) if self.tasks else "held"
        if self.given_up:
            return "failed"
        return "going" if self.left else "succeeded"

    @property
    def left(self) -> int:
        """How many of its items are still to be posted."""
        return self.said.items - len(self.tasks) if self.said is not None and self.said.state == "mapped" else 0

    @property
    def given_up(self) -> bool:
        """Whether more of its items failed than may."""
        return len(self.failures) > self.step.tolerate

    @property
    def error(self) -> Failure:
        """Why it failed."""
        many = self.said is not None and self.said.items and self.given_up
        if self.said is not None and self.said.error is not None and not many:
            return self.said.error
        first = next((task.completion.error for task in self.failures if task.completion), None)
        first = first or Failure(type="unknown", message="no reason was given")
        if self.said is None:
            return first
        message = f"{len(self.failures)} of {self.said.items} items failed, the first of them with {first.type}: {first.message}"
        return Failure(type="items_failed", message=message)

    @property
    def source(self) -> Source:
        return Source(tuple(self.tasks), self.standing, self.said is not None and self.said.state == "mapped")


class Following:
    """The plan of one turn of the model: the steps of all calls that posted any.

    Attributes:
        steps: by their keys, in the order of the plan.
        held: whether some of them were not posted with it.
    """

    def __init__(self, state: RunState, turn: Round) -> None:
        self.turn = turn
        self.after = list(takewhile(lambda other: other.attending, state.rounds[turn.number :]))
        """The rounds that followed it without the model."""
        self.steps: dict[str, Followed] = {}
        for id, step in posted_by(turn.calls, turn.inputs):
            self.steps[step.key] = Followed(step, id)
        self.plan = Plan([one.step for one in self.steps.values()])
        posted = [state.tasks[id] for call in _plans([turn]) for id in call.tasks if id in state.tasks]
        self.held = len(posted) < len(self.steps)
        later = [state.tasks[id] for call in _plans(self.after) for id in call.tasks if id in state.tasks]
        for task in [*posted, *later]:
            key = task.key.partition(".")[0]
            if key in self.steps:
                self.steps[key].tasks.append(task)
        for said in (said for call in _plans(self.after) for said in call.steps):
            if said.key in self.steps:
                self.steps[said.key].said = said

    def settled(self, key: str) -> bool:
        """Whether nothing more comes of a step; what is no step of this plan has ended."""
        return key not in self.steps or self.steps[key].standing not in ("held", "going")

    def caught(self, key: str) -> bool:
        """Whether a step failed and what catches that did well."""
        one = self.steps[key]
        return one.step.catch is not None and self.steps[one.step.catch].standing == "succeeded"


def posted_by(calls: Iterable[Call], inputs: Mapping[str, Mapping[str, JsonValue]]) -> Iterator[tuple[str, Step]]:
    """The steps that some calls posted, each with the id of its call.

    Args:
        inputs: of the calls, by id.
    """
    for call in calls:
        if call.name == PLAN and call.valid:
            given = inputs.get(call.tool_use_id, {}).get("tasks")
            for step in parse(given if isinstance(given, list) else [])[0]:
                yield call.tool_use_id, step


def current(state: RunState) -> Following | None:
    """The plan of the model's last turn, if some of it was held back."""
    if not state.newest:
        return None
    found = Following(state, state.rounds[state.newest - 1])
    return found if found.held else None


def followed(state: RunState) -> list[Following]:
    """The plans of a run, in their order: of each turn of the model, or whoever gave the run its plan, that posted steps."""
    turns = [turn for turn in state.rounds if not turn.attending and _plans([turn])]
    return [Following(state, turn) for turn in turns]


def sources(state: RunState) -> dict[str, Source]:
    """What a reference can point into of all that has ended, by key: of one key the newest."""
    found = {task.key: (task.round, Source((task,), _standing(task))) for task in state.work if task.done}
    for turn in state.rounds:
        if any(said.state == "mapped" for call in turn.calls for said in call.steps):
            number = next(one.number for one in reversed(state.rounds[: turn.number]) if not one.attending)
            for key, one in Following(state, state.rounds[number - 1]).steps.items():
                if one.source.many and (key not in found or found[key][0] <= number):
                    found[key] = (number, one.source)
    return {key: source for key, (_, source) in found.items()}


def succeeded(task: Task) -> bool:
    return task.completion is not None and task.completion.status is Status.SUCCEEDED


def _standing(task: Task) -> Standing:
    if task.completion is None:
        return "going"
    match task.completion.status:
        case Status.SUCCEEDED:
            return "succeeded"
        case Status.CANCELLED:
            return "cancelled"
        case _:
            return "failed"


def _plans(turns: Iterable[Round]) -> list[Call]:
    return [call for turn in turns for call in turn.calls if call.name == PLAN and call.valid]
