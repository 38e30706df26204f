"""The tasks of one decision, checked as a whole and written as the commit script takes them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any, NamedTuple

from blackboard import retries
from blackboard.claims import Claim
from blackboard.errors import BadInput
from blackboard.payloads import PAYLOAD_BYTES, dump
from blackboard.types import Limits, TaskSpec

TASKS_PER_ROUND = 500
_KEY = re.compile(r"^[^/#\x00-\x1f\x7f]{1,128}\Z")
"""A task's key is part of its id, its place on the agenda and references to it."""


def entry_name(task_id: str) -> str:
    """What the id of the entry ends with that the task's end becomes. No operation can have the name it is made of."""
    return hashlib.sha256(f"\0{task_id}".encode()).hexdigest()[:24]


class Undecided(NamedTuple):
    """Where the tasks of a run belong that no decision posts."""

    run_id: str
    round: int = 0


class Wait(NamedTuple):
    """What a run waits for that has nothing else to do: something is written on its board, or a time is over."""

    until_ms: int
    """Since the epoch, on the server's clock."""
    facts: int
    """How many facts about entries the decision to wait knew; see :attr:`blackboard.agenda.View.facts`."""

    def __str__(self) -> str:
        return f"{self.until_ms} {self.facts}"


class Awaited(NamedTuple):
    """What a run holds back until tasks have ended, by names of its own. Once all tasks of a name have ended, the run's next step
    comes, whatever else of it goes on. The tasks of the decision itself say who waits for them."""

    on: Mapping[str, Sequence[str]]
    """By each new name, ids of tasks that were posted before and wait as well. One without any open task is due at once."""
    off: Sequence[str] = ()
    """Names that nothing waits by any more."""

    def told(self, seen: str, early: Early | None = None) -> str:
        """As the commit script takes it."""
        said = {"seen": seen, "on": [[name, *ids] for name, ids in self.on.items()], "off": [*self.off]}
        return json.dumps(said | (early.told() if early is not None else {}))


class Early(NamedTuple):
    """Of a run whose model is asked though work goes on: when its next step comes, and what is stopped. A failure of a task that
    the decision posts brings the step at once."""

    again_ms: int | None = None
    """After so long, unless there was one before. None: time brings none."""
    stop: Mapping[str, str] = MappingProxyType({})
    """By the ids of tasks that are stopped, why."""
    rest: str = ""
    """Why what goes on is stopped, where the decision ends the run; empty: such a decision is refused."""

    def told(self) -> dict[str, Any]:
        """As the commit script takes it."""
        said: dict[str, Any] = {} if self.again_ms is None else {"again": self.again_ms}
        if self.stop:
            said["stop"] = [[id, why] for id, why in self.stop.items()]
        return said | ({"rest": self.rest} if self.rest else {})


def specs(
    claim: Claim | Undecided,
    tasks: Sequence[TaskSpec],
    limits: Limits,
    *,
    entered: bool = False,
    seen: str = "",
    place: str = "",
    bids: bool = False,
    tell: bool = False,
) -> list[tuple[str, str]]:
    """Spec and input of each task, as the commit script takes them.

    Args:
        seen: the position at which entries that the tasks are made from were read; empty where nobody says.
        entered: a model plans the run: what they come to stands on its board, as entries, and its decisions see to what the run
            may use. In any other each task carries that itself.
        place: what stands before its key in the id of each, where that is not the number of the round.
        bids: they are asked to bid on an open request.
        tell: their failure brings the run's next step.

    Raises:
        BadInput: duplicate or malformed keys, unknown or circular dependencies, a delay of one that has any, too many tasks, an
            input that is not JSON.
        Oversized: an input larger than :data:`~blackboard.payloads.PAYLOAD_BYTES`.
    """
    if len(tasks) > TASKS_PER_ROUND:
        raise BadInput("tasks", len(tasks), f"Post at most {TASKS_PER_ROUND} tasks in a round.")
    by_key = {task.key: task for task in tasks}
    if len(by_key) != len(tasks):
        raise BadInput("tasks", [task.key for task in tasks], "Keys must be unique within a round.")
    for task in tasks:
        if not _KEY.match(task.key):
            raise BadInput("tasks.key", task.key, "Use 1-128 printable characters other than '/' and '#'.")
        if task.delay_seconds and task.after:
            raise BadInput("delay_seconds", task.delay_seconds, f"{task.key} waits for others: leave it or after away.")
        for key in task.after:
            if key not in by_key:
                raise BadInput("after", key, f"Name a task of the same round: {', '.join(sorted(by_key))}.")
    if any(task.after for task in tasks):
        try:
            TopologicalSorter({task.key: set(task.after) for task in tasks}).prepare()
        except CycleError as error:
            raise BadInput("after", error.args[1], "Dependencies must not form a circle.") from None
    waiting: dict[str, list[TaskSpec]] = {key: [] for key in by_key}
    for task in tasks:
        for key in dict.fromkeys(task.after):
            waiting[key].append(task)

    def task_id(key: str) -> str:
        return f"{claim.run_id}/{place or claim.round}.{key}"

    written: list[tuple[str, str]] = []
    for task in tasks:
        after = list(dict.fromkeys(task.after))
        spec: dict[str, Any] = {
            "id": task_id(task.key), "kind": task.kind, "cap": task.capability, "lane": task.lane,
            "tuid": task.tool_use_id, "key": task.key, "round": claim.round, "prio": task.priority,
            "ms": int((task.delay_seconds + (task.seconds or limits.task_seconds)) * 1000),
            "ats": int((task.attempt_seconds or limits.attempt_seconds) * 1000),
        }  # fmt: skip
        spec |= retries.header(task.retry)
        if task.delay_seconds:
            spec["nap"] = retries.ms(task.delay_seconds)
        if bids:
            spec["bid"] = 1
        if tell:
            spec["tell"] = 1
        if not entered:
            spec["lim"] = {"tokens": limits.tokens, "seconds": limits.seconds}
            if limits.money is not None:
                spec["lim"]["money"] = limits.money
        head: dict[str, Any] = {
            "kind": task.kind, "cap": task.capability, "key": task.key, "run": claim.run_id, "prio": task.priority,
        }  # fmt: skip
        if task.version:
            spec["version"] = head["version"] = task.version
        spec["head"] = json.dumps(head, separators=(",", ":"))[1:-1] + ","
        if task.taint:
            spec["src"] = [*task.taint]
        if entered:
            spec["ent"] = entry_name(task_id(task.key))
            if task.made_from:
                spec |= {"made": [*dict.fromkeys(task.made_from)], "seen": seen}
        if after:
            spec |= {"need": len(after), "deps": [task_id(key) for key in after]}
        if task.awaited_by:
            spec["wk"] = [*task.awaited_by]
        if waiting[task.key]:
            spec["outs"] = [task_id(other.key) for other in waiting[task.key]]
            spec["olanes"] = sorted({other.lane for other in waiting[task.key]})
        written.append((json.dumps(spec), dump(task.input, f"tasks.{task.key}.input", PAYLOAD_BYTES)))
    return written
