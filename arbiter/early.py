"""The model is asked though work of its run goes on: because a task failed, or because the round lasts.

It is asked by a step beside that work, as a plan is carried on. How far that step had read the log is recorded with its round, so
whoever reads the log later knows which results the model had, and which were told it afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import JsonValue

from arbiter import asking
from arbiter.fold import Round, RunState, Task
from arbiter.following import current
from blackboard.attempt import Attempt
from blackboard.events import RoundPlannedData
from blackboard.plan import Early
from blackboard.types import Status

if TYPE_CHECKING:
    from arbiter.following import Following

STALLED = "stalled"
"""What a step is given that is taken because the round lasts."""
REST = "The run was answered while this was at work."
MOST_SECONDS = 86_400.0
_FAILED = (Status.FAILED, Status.TIMED_OUT, Status.REFUSED)


def at_work(state: RunState) -> list[Task]:
    """The tasks that are not over."""
    return [task for task in state.work if not task.done]


def beside(state: RunState) -> bool:
    """Whether anything but the step itself goes on."""
    return any(not task.done for task in state.tasks.values() if task.kind != "step")


def due(state: RunState, step: Task) -> bool:
    """Whether a step beside other work asks the model. The last round there may be is kept for when all of that is over."""
    if state.limits.round_seconds is None or not at_work(state) or state.decisions + 1 >= state.limits.rounds:
        return False
    return not _bound(state, current(state)) and (step.input == STALLED or _failed(state))


def terms(
    state: RunState, *, asked: bool = False, held: bool = False, stop: Mapping[str, str] | None = None
) -> Early | None:
    """When the step after one comes, if work goes on then; None where only the end of all work brings it.

    Args:
        asked: the step asked the model.
        held: it leaves steps of a plan held back.
        stop: the tasks it stops, each with why.
    """
    limits = state.limits
    if limits.round_seconds is None or state.plan:
        return None
    again: float | None = None
    if state.decisions + asked + 1 < limits.rounds and not held and not (asking.pending(state) and not asked):
        rounds = [turn.early for turn in state.rounds if not turn.attending]
        rounds += [beside(state)] if asked else []
        since = next((number for number, early in enumerate(reversed(rounds)) if not early), len(rounds))
        again = min(limits.round_seconds * 2.0 ** min(since, 20), MOST_SECONDS)
        if not asked and _failed(state):
            again = 0.0
    return Early(None if again is None else round(again * 1000), stop or {}, REST)


async def pass_over(attempt: Attempt, state: RunState) -> None:
    """Take a step beside other work that has nothing to do."""
    said = "The model is asked when more is over."
    planned = RoundPlannedData(
        round=attempt.claim.round, message={"role": "assistant", "content": [{"text": said}]}, taint=state.taint,
        attending=True, carrying=True,
    )  # fmt: skip
    await attempt.board.commit_step(attempt.claim, planned, (), state.limits, seen=state.sequence, early=terms(state))


def as_of(state: RunState, seen: str | None) -> RunState:
    """The state with its tasks as they were when the log had been read so far; the state itself where nobody says how far."""
    if seen is None:
        return state
    tasks = {
        id: task
        if task.done and task.ended <= seen
        else replace(task, completion=None, ended_at=None, ended="", state="running")
        for id, task in state.tasks.items()
        if task.posted <= seen
    }
    return replace(state, tasks=tasks)


def later(state: RunState, turn: Round) -> tuple[list[Task], list[Task]]:
    """Tasks of earlier rounds that were at work when a round's model was asked: those that have ended since, and the others.

    Args:
        state: as it was when the model was asked next.
    """
    if not turn.early:
        return [], []
    earlier = [task for task in state.work if task.round < turn.number and (not task.done or task.ended > turn.seen)]
    return [task for task in earlier if task.done], [task for task in earlier if not task.done]


def stand(task: Task) -> dict[str, JsonValue]:
    """What the model is told of a task that is not over."""
    since = task.posted_at.isoformat(timespec="seconds")
    return {"status": "at work", "since": since, "note": "Its result follows later, under its key."}


def _bound(state: RunState, plan: Following | None) -> bool:
    """Whether something must be over before the model can decide anew: a plan that holds steps back, an open request."""
    held = plan is not None and any(
        one.standing == "held" or (one.left and not one.given_up) for one in plan.steps.values()
    )
    return held or bool(asking.pending(state))


def _failed(state: RunState) -> bool:
    """Whether a task failed that the model was not told of."""
    newest = next((turn for turn in reversed(state.rounds) if not turn.attending), None)
    seen = newest.seen if newest is not None else ""
    return any(
        task.completion is not None and task.completion.status in _FAILED and task.ended > seen for task in state.work
    )
