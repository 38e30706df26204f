"""What one reply of the model comes to: calls with their answers, and the tasks to post."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from arbiter import awaiting
from arbiter.following import posted_by
from arbiter.plans import Plan
from blackboard.events import Call
from blackboard.plan import Awaited
from blackboard.taint import Taint
from blackboard.types import TaskSpec
from registry.matching import MatchDecision
from wrapper.models import ToolUse


@dataclass(slots=True)
class Decision:
    """What one reply of the model comes to."""

    calls: list[Call] = field(default_factory=list[Call])
    tasks: list[TaskSpec] = field(default_factory=list[TaskSpec])
    pins: dict[str, str] = field(default_factory=dict[str, str])
    found: list[str] = field(default_factory=list[str])
    """Capabilities to offer from the next round on."""
    matches: list[MatchDecision] = field(default_factory=list[MatchDecision])
    """What the matcher decided about each search."""
    recalled: Taint = ()
    """Where entries come from that calls are answered with."""
    stop: dict[str, str] = field(default_factory=dict[str, str])
    """By the ids of tasks that are at work and are to be stopped, why."""

    def awaited(self, uses: Sequence[ToolUse], turn: int) -> tuple[list[TaskSpec], Awaited]:
        """The tasks, marked with what the plans among the calls hold back for them.

        Args:
            turn: number of the round.
        """
        inputs = {use.id: use.input or {} for use in uses}
        return awaiting.first(Plan([step for _, step in posted_by(self.calls, inputs)]), self.tasks, turn)

    @property
    def invalid(self) -> bool:
        return any(not call.valid for call in self.calls)


def direct_keys(uses: list[ToolUse]) -> Iterator[str]:
    """A key for the task of each call: the name of the capability, with a number from the second call on."""
    seen: dict[str, int] = {}
    taken = {use.name for use in uses}
    for use in uses:
        seen[use.name] = seen.get(use.name, 0) + 1
        key = use.name if seen[use.name] == 1 else f"{use.name}_{seen[use.name]}"
        while key in taken and key != use.name:
            seen[use.name] += 1
            key = f"{use.name}_{seen[use.name]}"
        yield key


def without_orphans(decision: Decision, task_id: Callable[[str], str]) -> Decision:
    """Withdraw calls that wait for a task of the same turn whose own call turned out invalid."""
    while True:
        keys = {task.key for task in decision.tasks}
        orphans = {task.key: [key for key in task.after if key not in keys] for task in decision.tasks}
        orphans = {key: missing for key, missing in orphans.items() if missing}
        if not orphans:
            return decision
        lost = {task_id(key): missing for key, missing in orphans.items()}
        for i, call in enumerate(decision.calls):
            hit = [missing for task, missing in lost.items() if task in call.tasks]
            if hit:
                decision.tasks = [task for task in decision.tasks if task_id(task.key) not in call.tasks]
                decision.calls[i] = Call(
                    tool_use_id=call.tool_use_id,
                    name=call.name,
                    valid=False,
                    answer=f"Nothing was posted: it waits for {', '.join(hit[0])}, which was invalid in this turn.",
                )
