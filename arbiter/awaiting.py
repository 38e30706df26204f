"""What the held-back steps of a plan wait for, as the board is told of it when tasks are posted.

A step that is held back is due when all it waits for is over, whatever else of its run goes on, and so are the next items of one
with ``each`` when one of its items has ended. The board counts: with the task that makes something due it posts the step that
carries the plan on. A held-back step is told once, with the decision that posts the last of what it waits for. Its name has the
turn that planned it: tasks of an earlier plan may still be at work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from arbiter.plans import Plan
from blackboard.plan import Awaited
from blackboard.types import TaskSpec


def first(plan: Plan, tasks: Sequence[TaskSpec], turn: int) -> tuple[list[TaskSpec], Awaited]:
    """The tasks of the decision that posts a plan, and what is held back for them.

    Args:
        turn: number of its round.
    """
    held = plan.steps.keys() - {task.key for task in tasks}
    names = [key for key in plan.steps if key in held and not plan.waits(key) & held]
    marked = [_awaited(task, [name for name in names if task.key in plan.waits(name)], turn) for task in tasks]
    return marked, Awaited(dict.fromkeys((_name(turn, name) for name in names), ()))


def further(
    plan: Plan, tasks: Sequence[TaskSpec], turn: int, *, held: Collection[str], unfinished: Collection[str], due: Collection[str],
    closed: Collection[str], open_: Mapping[str, Sequence[tuple[str, str]]],
) -> tuple[list[TaskSpec], Awaited]:  # fmt: skip
    """The tasks of a decision that carries a plan on, and what is held back for them and for those that go on.

    Args:
        turn: number of the round that posted the plan.
        held: steps that are still not posted.
        unfinished: steps of whose items some are still not posted.
        due: those of both that had no place in this decision.
        closed: steps of which all is posted, or known not to be, with this decision.
        open_: id and key of each task that goes on, by step.
    """
    on: dict[str, list[str]] = {key: [] for key in due}
    waits = {key: plan.waits(key) for key in held if key not in on}
    for key, names in waits.items():
        if names & {*closed} and not names & {*held, *unfinished}:
            on[key] = [id for other in names for id, _ in open_.get(other, ())]
    marked: list[TaskSpec] = []
    for task in tasks:
        step = task.key.partition(".")[0]
        mine = [key for key, names in waits.items() if key in on and step in names]
        marked.append(_awaited(task, [*mine, *([task.key] if step in unfinished else [])], turn))
    off = [_name(turn, key) for step in closed if plan.steps[step].each for _, key in open_.get(step, ())]
    return marked, Awaited({_name(turn, key): ids for key, ids in on.items()}, off)


def _awaited(task: TaskSpec, keys: Sequence[str], turn: int) -> TaskSpec:
    return task.model_copy(update={"awaited_by": tuple(_name(turn, key) for key in keys)}) if keys else task


def _name(turn: int, key: str) -> str:
    return f"{turn}.{key}"
