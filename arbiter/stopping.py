"""What a cancellation came to, task by task; and stopping, pausing or resuming many runs at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Literal

from pydantic import Field

from arbiter.fold import RunState, Task
from blackboard.board import Board
from blackboard.runs import Where, find
from blackboard.types import Record, Status

Fate = Literal["finished", "stopped", "unknown", "stopping"]
GOING_ON = ("queued", "running", "paused")
_PAGE = 200


class CancelReport(Record):
    """A run that was told to stop, and what became of each of its tasks."""

    run_id: str
    status: str
    """``cancelling`` until everything has ended; or how the run ended."""
    tasks: dict[str, Fate] = Field(default_factory=dict)
    """By task id, the arbiter's own steps left out. ``finished``: it ended by itself, before or after the cancellation.
    ``stopped``: nothing of it runs, for certain. ``unknown``: its end is on the board, and whether its worker still works
    on it nobody can say; its result cannot count any more. ``stopping``: it was told and has not answered."""

    def count(self, fate: Fate) -> int:
        """How many tasks came to this."""
        return sum(one == fate for one in self.tasks.values())


def report(state: RunState) -> CancelReport:
    """What became of the tasks of a run."""
    return CancelReport(run_id=state.run_id, status=state.status, tasks={task.id: _fate(task) for task in state.work})


def _fate(task: Task) -> Fate:
    done = task.completion
    if done is None:
        return "stopping"
    stopped = done.error.evidence.get("stopped") if done.error else None
    if stopped is False:
        return "unknown"
    if done.status is Status.CANCELLED:
        return "stopped" if stopped is True else "unknown"
    return "finished"


async def each(
    board: Board, where: Where, act: Callable[[str], Coroutine[Any, Any, str]]
) -> AsyncGenerator[tuple[str, str], None]:
    """Do something to every run that is meant and not over, newest first, and tell its id and state afterwards.

    Runs that come meanwhile are not looked at. Interrupted, it has done what it told; doing it again does the rest.
    """
    going = set(GOING_ON) & set(where.status or GOING_ON)
    meant = where.model_copy(update={"status": tuple(sorted(going))})
    after: str | None = None
    while going:
        page = await find(board, meant, limit=_PAGE, after=after)
        for run in page.runs:
            yield run.id, await act(run.id)
        if (after := page.after) is None:
            return
