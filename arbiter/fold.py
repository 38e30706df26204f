"""A run's state, folded from its event log. The log is the run: planner, displays and tests all read it through here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, cast

from pydantic import JsonValue

from blackboard import events
from blackboard.events import (
    ApprovalAnsweredData,
    ApprovalAskedData,
    Call,
    CallbackAnsweredData,
    CallbackWaitingData,
    Called,
    Context,
    Event,
    FabricationStageData,
    RerunOf,
    RunPausedData,
)
from blackboard.taint import UNKNOWN, Taint, merged, read
from blackboard.triggers import AgendaTerms
from blackboard.types import Completion, Failure, Limits, Usage

if TYPE_CHECKING:
    from blackboard.board import Board

TaskState = Literal[
    "blocked", "ready", "running", "delayed", "waiting", "succeeded", "failed", "refused", "timed_out", "cancelled"
]


UNPINNED = ""
"""In the place of a version: the run uses the active one again, whichever that is when it needs it."""


@dataclass(slots=True)
class Task:
    """One task as the log tells it."""

    id: str
    key: str
    kind: Literal["step", "control", "fabrication", "question", "capability"]
    capability: str
    tool_use_id: str
    round: int
    posted_at: datetime
    state: TaskState
    activation: int | None = None
    """Of the run's agenda, where it carries one out."""
    version: str | None = None
    after: tuple[str, ...] = ()
    """Ids of the tasks it waits for."""
    posted_taint: Taint = UNKNOWN
    """Where its input comes from, as far as whoever posted it knew."""
    input: JsonValue = None
    completion: Completion | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    retries: list[Failure] = field(default_factory=list[Failure])
    """Why earlier attempts were repeated."""
    stages: list[FabricationStageData] = field(default_factory=list[FabricationStageData])
    stopping: str = ""
    """Why it was told to stop while it ran."""
    asked: ApprovalAskedData | None = None
    """What a person was asked before it went on."""
    said: ApprovalAnsweredData | None = None
    """What became of that."""
    awaited: CallbackWaitingData | None = None
    """How long its last attempt waited, or waits, for an answer from outside."""
    answered: CallbackAnsweredData | None = None
    """Who gave the last answer from outside."""
    beside: bool = False
    """Of a step: other work of its run was open when it was posted."""
    posted: str = ""
    ended: str = ""
    """Positions in the log; empty while it is not over."""

    @property
    def done(self) -> bool:
        return self.completion is not None

    @property
    def for_person(self) -> ApprovalAskedData | None:
        """What it waits for a person to say; None where it does not."""
        return self.asked if self.said is None and not self.done else None

    @property
    def for_outside(self) -> CallbackWaitingData | None:
        """What it waits for from outside; None where it does not."""
        return self.awaited if self.state == "waiting" else None

    @property
    def taint(self) -> Taint:
        """Where its input comes from and, once it ended, its result."""
        return merged(self.posted_taint, read(self.completion.taint) if self.completion else ())

    @property
    def seconds(self) -> float | None:
        """From posting to the end, waiting included."""
        return (self.ended_at - self.posted_at).total_seconds() if self.ended_at else None


@dataclass(slots=True)
class Round:
    """One decision of the model."""

    number: int
    at: datetime
    message: dict[str, JsonValue]
    calls: tuple[Call, ...]
    usage: Usage
    model: str
    considered: tuple[str, ...] = ()
    taint: Taint = UNKNOWN
    """Where all that the model had seen comes from."""
    matches: tuple[dict[str, JsonValue], ...] = ()
    """Decisions of the registry's matcher, each a :class:`registry.matching.MatchDecision`."""
    context: Context | None = None
    """What its conversation began with, where that was chosen anew for it."""
    attending: bool = False
    """Nobody asked the model: its calls say what became of earlier ones."""
    carrying: bool = False
    """It was taken to carry a plan on, and not for open requests."""
    instructions: str = ""
    """Hash of the operator's instructions that the model was given; empty without any."""
    seen: str = ""
    """How far the log was read for it."""
    early: bool = False
    """Its model was asked though tasks were still at work."""

    @property
    def inputs(self) -> dict[str, dict[str, JsonValue]]:
        """What the model gave each of its calls, by the call's id."""
        blocks = self.message.get("content")
        found: dict[str, dict[str, JsonValue]] = {}
        for block in cast("list[dict[str, dict[str, JsonValue]]]", blocks if isinstance(blocks, list) else []):
            use = block.get("toolUse")
            if use is not None and isinstance(use.get("input"), dict):
                found[str(use["toolUseId"])] = cast("dict[str, JsonValue]", use["input"])
        return found


@dataclass(slots=True)
class RunState:
    """Everything the log says about a run."""

    run_id: str
    request: JsonValue = None
    request_taint: Taint = UNKNOWN
    """Where the request comes from."""
    call: Called | None = None
    """Of a run that calls one capability without a model; ``request`` is then its input."""
    redrive_of: str | None = None
    """The dead letter it was made of."""
    rerun_of: RerunOf | None = None
    """The run it goes on from."""
    agenda: AgendaTerms | None = None
    """Terms of its agenda, if it has one."""
    plan: tuple[dict[str, JsonValue], ...] = ()
    """The steps of a run that was given its plan; no model is asked."""
    tenant: str = ""
    limits: Limits = field(default_factory=Limits)
    status: str = "queued"
    """``queued``, ``running``, ``paused``, ``cancelling``, or how it ended."""
    paused: RunPausedData | None = None
    """Why it was paused last, and until when."""
    answer: str | None = None
    error: Failure | None = None
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    rounds: list[Round] = field(default_factory=list[Round])
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    """By id, steps included, in the order they were posted."""
    pins: dict[str, str] = field(default_factory=dict[str, str])
    sequence: str = "-"
    """Position of the last event applied."""
    usage: Usage = field(default_factory=Usage)
    """What the rounds, the ended tasks and their repeated attempts consumed."""

    @property
    def newest(self) -> int:
        """The last round in which the model was asked; 0 where it was not yet. What was done without it follows."""
        return next((turn.number for turn in reversed(self.rounds) if not turn.attending), 0)

    @property
    def decisions(self) -> int:
        """How many rounds there were that count for ``limits.rounds``: those in which no model was asked do not."""
        return sum(not turn.attending for turn in self.rounds)

    def apply(self, event: Event) -> None:
        """Advance by one event. An event at or before :attr:`sequence` that is in the log is ignored."""
        data = event.data
        if isinstance(event, events.TaskClaimed):
            task = self.tasks.get(event.subject)
            if task and not task.done:
                task.state, task.attempts = "running", event.data.attempt
            return
        if isinstance(event, (events.TaskReady, events.TaskReleased)):
            task = self.tasks.get(event.subject)
            if task and not task.done:
                task.state = "ready"
            return
        if self.sequence != "-" and event.sequence <= self.sequence:
            return
        self.sequence = event.sequence
        match event:
            case events.RunAccepted():
                self.request, self.tenant, self.limits = data.request, data.tenant, data.limits
                self.pins.update(data.pins)
                self.request_taint = read(data.taint)
                self.call, self.redrive_of, self.accepted_at = data.call, data.redrive_of, event.time
                self.agenda, self.plan, self.rerun_of = data.agenda, data.plan, data.rerun_of
                if data.call is not None:
                    self.status = "running"
            case events.RoundPlanned():
                self.rounds.append(
                    Round(
                        data.round,
                        event.time,
                        data.message,
                        data.calls,
                        data.usage,
                        data.model,
                        data.considered,
                        read(data.taint),
                        data.matches,
                        data.context,
                        data.attending,
                        data.carrying,
                        data.instructions,
                        data.seen or event.sequence,
                        data.seen is not None,
                    )
                )
                self.pins = {name: sha for name, sha in (self.pins | data.pins).items() if sha != UNPINNED}
                self.usage += data.usage
                self.status = "paused" if self.status == "paused" else "running"
            case events.TaskPosted():
                self.tasks[data.task] = Task(
                    id=data.task, key=data.key, kind=data.kind, capability=data.capability, version=data.version,
                    tool_use_id=data.tool_use_id, round=data.round, posted_at=event.time, state=data.state,
                    after=data.after, input=data.input, posted_taint=read(data.taint), activation=data.activation,
                    beside=data.kind == "step" and any(not task.done for task in self.tasks.values()),
                    posted=event.sequence,
                )  # fmt: skip
                if self.call is not None:
                    self.request = data.input
            case events.TaskRetried():
                task = self.tasks[event.subject]
                task.state, task.attempts = "delayed", data.attempt
                task.retries.append(data.error)
                self.usage += data.usage
            case events.FabricationStage():
                self.tasks[event.subject].stages.append(data)
            case events.TaskCancelling():
                self.tasks[event.subject].stopping = data.reason
            case events.ApprovalAsked():
                self.tasks[event.subject].asked = data
                self.tasks[event.subject].state = "delayed"
            case events.ApprovalAnswered():
                self.tasks[event.subject].said = data
                self.tasks[event.subject].state = "ready"
            case events.CallbackWaiting():
                self.tasks[event.subject].awaited, self.tasks[event.subject].answered = data, None
                self.tasks[event.subject].state = "waiting"
            case events.CallbackAnswered():
                self.tasks[event.subject].answered = data
            case events.TaskCompleted():
                task = self.tasks[event.subject]
                task.completion, task.ended_at, task.ended = data, event.time, event.sequence
                self.usage += data.usage
                task.state, task.attempts = data.status.value, data.attempts
            case events.RunPaused():
                self.status, self.paused = "paused", data
            case events.RunResumed():
                self.status = "running" if self.rounds or self.call else "queued"
            case events.RunCancelling():
                self.status = "cancelling"
            case events.RunCompleted():
                self.status, self.answer, self.error = data.status, data.answer, data.error
                self.ended_at = event.time
            case _:
                pass

    @property
    def work(self) -> list[Task]:
        """The tasks without the arbiter's own steps."""
        return [task for task in self.tasks.values() if task.kind not in ("step", "control")]

    @property
    def taint(self) -> Taint:
        """Where all that is known to the run comes from: its request, what its model was shown, what its tasks returned."""
        return merged(self.request_taint, *(turn.taint for turn in self.rounds), *(task.taint for task in self.work))

    @property
    def data(self) -> JsonValue:
        """What a call returned; None for every other run, and unless it succeeded."""
        ended = [task.completion for task in self.work if task.completion] if self.call and self.done else []
        return ended[0].data if ended and self.status == "succeeded" else None

    @property
    def done(self) -> bool:
        return self.ended_at is not None

    @property
    def seconds(self) -> float | None:
        """From acceptance to the end."""
        return (self.ended_at - self.accepted_at).total_seconds() if self.ended_at and self.accepted_at else None


def fold(run_id: str, log: Iterable[Event]) -> RunState:
    """The state after a run's events."""
    state = RunState(run_id)
    for event in log:
        state.apply(event)
    return state


async def current(board: Board, run_id: str) -> RunState:
    """The state of a run as it is now: what its log tells, and of tasks that are not over where they stand.

    A run that is unknown has no events, and so a state without any.
    """
    state = fold(run_id, await board.history(run_id))
    unfinished = [task.id for task in state.tasks.values() if not task.done]
    for id, (stands, attempts) in (await board.standing(run_id, unfinished)).items():
        state.tasks[id].state, state.tasks[id].attempts = stands, attempts
    return state
