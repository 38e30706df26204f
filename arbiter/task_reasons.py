"""Why a task is what it is: what made it, why this capability and version, what it waited for, how its attempts ended.

All of it is read from the log of its run; nothing is decided anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from arbiter.fold import Round, RunState, Task
from blackboard import events
from blackboard.errors import BadInput
from blackboard.events import (
    ApprovalAnsweredData,
    ApprovalAskedData,
    Call,
    CallbackAnsweredData,
    CallbackWaitingData,
    Event,
    FabricationStageData,
)
from blackboard.types import Failure, Record
from registry.matching import MatchDecision


class AwaitedTask(Record):
    """A task that another one waited for."""

    task: str
    capability: str
    state: str
    seconds: float | None
    """From its posting to its end; None while it is not over."""


class AttemptEnd(Record):
    """How an attempt ended. One that goes on has no end, and one that was given back unfinished is not counted."""

    number: int
    ended: str
    """``repeated`` where another one follows, else the status of the task."""
    at: float
    """Seconds since the epoch."""
    error: Failure | None = None
    delay_seconds: float | None = None
    """After which the next one could begin."""


class TaskReasons(Record):
    """What the log of a run says about one of its tasks. ``None`` and empty where it says nothing."""

    task: str
    capability: str
    kind: str
    state: str
    posted_in: int
    """The round; 0 for the task of a call, and for one that a person or the agenda brought."""
    tool: str | None = None
    """The tool by which the planning model had it posted."""
    given: JsonValue = None
    """What the model gave that tool."""
    activation: int | None = None
    """Of the run's agenda, which it carries out."""
    version: str | None = None
    pinned_in: int | None = None
    """The round that fixed the version for the rest of the run; 0: the acceptance of the run."""
    shown: int = 0
    """How many capabilities the model of its round was shown, where this was one of them."""
    decided_in: int | None = None
    """The round of the decision."""
    decision: MatchDecision | None = None
    """The latest decision of the matcher, up to the task's round, that has its capability as chosen, else as a candidate; for a
    fabrication the latest."""
    made_by: str | None = None
    """The fabrication in this run that made the capability."""
    waited_for: tuple[AwaitedTask, ...] = ()
    waited_seconds: float = 0.0
    """From posting to the end of the last of them."""
    asked: ApprovalAskedData | None = None
    """What a person was asked about it."""
    said: ApprovalAnsweredData | None = None
    awaited: CallbackWaitingData | None = None
    """How long its last attempt waited, or waits, for an answer from outside."""
    answered: CallbackAnsweredData | None = None
    """Who gave the last answer from outside."""
    taken_over_from: str | None = None
    """The task of an earlier run whose result it has."""
    attempts: tuple[AttemptEnd, ...] = ()
    begun: int = 0
    """How many attempts there were."""
    worker: str | None = None
    """Of the last attempt."""
    stopping: str = ""
    """Why it was told to stop while it ran."""
    stages: tuple[FabricationStageData, ...] = ()
    """Of a fabrication."""


def reasons(state: RunState, log: Sequence[Event], task_id: str) -> TaskReasons:
    """Why a task is what it is.

    Args:
        state: of its run, as far as the log goes.
        log: of its run.
        task_id: ``run/task``.

    Raises:
        BadInput: the run has no such task; the remedy lists those it has.
    """
    task = state.tasks.get(task_id)
    if task is None:
        names = ", ".join(one.id.partition("/")[2] for one in state.work[:20]) or "no task yet"
        raise BadInput("TASK", task_id, f"The run has {names}{', …' if len(state.work) > 20 else ''}.")
    turn = next((one for one in state.rounds if one.number == task.round), None)
    call = next((one for one in turn.calls if task.id in one.tasks), None) if turn else None
    decided = _decided(state, task)
    awaited = [state.tasks[id] for id in task.after if id in state.tasks]
    ended = [one.ended_at for one in awaited if one.ended_at]
    return TaskReasons(
        task=task.id, capability=task.capability, kind=task.kind, state=task.state, posted_in=task.round,
        tool=call.name if call else None, given=_given(state, turn, call, task) if turn and call else None,
        activation=task.activation,
        version=(task.completion.version if task.completion else None) or task.version,
        pinned_in=_pinned(log, task),
        shown=len(turn.considered) if turn and task.capability in turn.considered else 0,
        decided_in=decided[0] if decided else None, decision=decided[1] if decided else None,
        made_by=next((one.id for one in state.work if _made(one, task)), None),
        waited_for=tuple(
            AwaitedTask(task=one.id, capability=one.capability, state=one.state, seconds=one.seconds) for one in awaited
        ),
        waited_seconds=max(0.0, (max(ended) - task.posted_at).total_seconds()) if ended else 0.0,
        asked=task.asked, said=task.said, awaited=task.awaited, answered=task.answered,
        taken_over_from=task.completion.taken_over_from if task.completion else None,
        attempts=_attempts(log, task), begun=task.attempts,
        worker=task.completion.worker if task.completion else None,
        stopping=task.stopping, stages=tuple(task.stages),
    )  # fmt: skip


def _decided(state: RunState, task: Task) -> tuple[int, MatchDecision] | None:
    """The round and the decision that led to a task's capability."""
    found = [
        (turn.number, MatchDecision.model_validate(each))
        for turn in state.rounds
        if turn.number <= task.round
        for each in turn.matches
    ]
    found.reverse()
    if task.kind == "fabrication":
        return found[0] if found else None
    for names in (_chosen, _candidates):
        for number, decision in found:
            if task.capability in names(decision):
                return number, decision
    return None


def _chosen(decision: MatchDecision) -> tuple[str, ...]:
    return decision.chosen


def _candidates(decision: MatchDecision) -> tuple[str, ...]:
    return tuple(each.name for each in decision.candidates)


def _given(state: RunState, turn: Round, call: Call, task: Task) -> dict[str, JsonValue] | None:
    """What the model gave the call that posted a task; of one that a plan posted later, the step of the plan."""
    if not turn.carrying:
        return turn.inputs.get(call.tool_use_id)
    planned = next(one for one in reversed(state.rounds[: turn.number]) if not one.attending)
    steps = planned.inputs.get(call.tool_use_id, {}).get("tasks")
    key = task.key.partition(".")[0]
    given = steps if isinstance(steps, list) else []
    return next((step for step in given if isinstance(step, dict) and step.get("key") == key), None)


def _pinned(log: Sequence[Event], task: Task) -> int | None:
    if task.version is None:
        return None
    for event in log:
        if not isinstance(event, events.RunAccepted | events.RoundPlanned):
            continue
        if event.data.pins.get(task.capability) == task.version:
            return event.data.round if isinstance(event, events.RoundPlanned) else 0
    return None


def _made(one: Task, task: Task) -> bool:
    return (
        one.kind == "fabrication"
        and one.id != task.id
        and one.capability == task.capability
        and one.round <= task.round
    )


def _attempts(log: Sequence[Event], task: Task) -> tuple[AttemptEnd, ...]:
    found: list[AttemptEnd] = []
    for event in log:
        if event.subject != task.id:
            continue
        at = event.time.timestamp()
        if isinstance(event, events.TaskRetried):
            said = event.data
            found.append(
                AttemptEnd(
                    number=said.attempt, ended="repeated", at=at, error=said.error, delay_seconds=said.delay_ms / 1000
                )
            )
        elif isinstance(event, events.TaskCompleted):
            done = event.data
            found.append(AttemptEnd(number=done.attempts, ended=done.status.value, at=at, error=done.error))
    return tuple(found)
