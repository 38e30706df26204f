"""What a run takes over from the one it goes on from: results of the tasks that succeeded there, for calls with the same input.

All of it is read from the logs when tasks are posted, so any process may take any step. The script that posts the tasks sees
to it that no result is taken over twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from arbiter.fold import RunState, Task, fold
from blackboard import events, references
from blackboard.board import Board
from blackboard.claims import task_key
from blackboard.errors import ArbiterError, BadInput, BlobMissing
from blackboard.events import EntryFactData, Event
from blackboard.payloads import fingerprint
from blackboard.results import result_entry
from blackboard.taint import read
from blackboard.types import Status, TakenOver, TaskSpec


class PredecessorGone(ArbiterError):
    """The run that another one goes on from was removed meanwhile."""


@dataclass(frozen=True, slots=True)
class _Result:
    """A task that succeeded, and the state of its run."""

    state: RunState
    task: Task


@dataclass(slots=True)
class _Facts:
    """What the log of a run says about entries of its board."""

    posted: dict[str, events.EntryPostedData] = field(default_factory=dict[str, events.EntryPostedData])
    lost: dict[str, str] = field(default_factory=dict[str, str])
    """By id, the last position at which it was amended, retracted, erased or contradicted."""
    writers: set[str] = field(default_factory=set[str])
    """Tasks that did something to entries themselves."""
    compacted: bool = False

    def kept(self, state: RunState, task: Task, since: str) -> bool:
        """Whether what a task came to still counts: neither its result nor what that was made from was taken back.

        Args:
            since: position at which the task was posted.
        """
        own = result_entry(state.run_id, task.id)
        if own not in self.posted:
            return not self.compacted
        if own in self.lost:
            return False
        known, queue = {own}, [own]
        for entry in queue:
            for link in self.posted[entry].links if entry in self.posted else ():
                if link.rel == "derived_from" and link.to not in known:
                    known.add(link.to)
                    queue.append(link.to)
        return all(self.lost.get(entry, "") < since for entry in queue)


class Predecessor:
    """The run that a run goes on from; for a run that goes on from none it takes over nothing.

    Args:
        state: of the run that posts tasks, as its step knows it.
    """

    def __init__(self, board: Board, state: RunState) -> None:
        self._board, self._state = board, state

    async def offer(self, tasks: Sequence[TaskSpec]) -> list[TaskSpec]:
        """The tasks, those first that are over at once, each behind what it waits for.

        Raises:
            PredecessorGone: its log is not there any more.
            BlobUnavailable: a large value cannot be had for now.
        """
        rerun_of = self._state.rerun_of
        if rerun_of is None or not any(task.kind == "capability" for task in tasks):
            return [*tasks]
        taken = {done.taken_over_from for task in self._state.work if (done := task.completion) is not None}
        there = await results(self._board, rerun_of.run)
        if there is None:
            raise PredecessorGone(
                f"Run {rerun_of.run}, which this one goes on from, was removed meanwhile: nobody knows what succeeded there."
            )
        by_name: dict[str, list[_Result]] = defaultdict(list)
        for one in there:
            if one.task.id not in taken:
                by_name[one.task.capability].append(one)
        by_call: dict[str, dict[str, list[_Result]]] = {}
        found: dict[str, TaskSpec] = {}
        data: dict[str, JsonValue] = {}
        left = list(tasks)
        while True:
            before = len(found)
            for task in list(left):
                given = _resolved(task, data) if task.kind == "capability" else None
                if given is None:
                    continue
                if task.capability not in by_call:
                    by_call[task.capability] = await self._by_input(by_name[task.capability])
                same = by_call[task.capability].get(fingerprint(given[0]), [])
                for one in [one for one in same if not rerun_of.current_versions or _version(one.task) == task.version]:
                    was = await self._taken_over(one)
                    if was is not None:
                        same.remove(one)
                        found[task.key], data[task.key] = task.model_copy(update={"taken_over": was}), was.data
                        left.remove(task)
                        break
            if len(found) == before:
                return [*found.values(), *left]

    async def in_place(self, tasks: Sequence[TaskSpec]) -> list[TaskSpec]:
        """The same of tasks that wait for none, in the order in which they are given."""
        found = {task.key: task for task in await self.offer(tasks)}
        return [found[task.key] for task in tasks]

    async def _by_input(self, some: Sequence[_Result]) -> dict[str, list[_Result]]:
        found: dict[str, list[_Result]] = defaultdict(list)
        for one in some:
            try:
                found[fingerprint(await self._given(one))].append(one)
            except (BadInput, BlobMissing):  # what it was given is not known any more
                continue
        return found

    async def _given(self, one: _Result) -> JsonValue:
        """The input of a task, references to others replaced by what they stood for."""
        given = await self._board.load(one.state.run_id, one.task.input)
        named = {*references.keys(given)}
        data: dict[str, JsonValue] = {}
        for id in one.task.after:
            done = one.state.tasks[id].completion
            if task_key(id) in named and done is not None:
                data[task_key(id)] = await self._board.load(one.state.run_id, done.data)
        return references.resolve(given, data) if data else given

    async def _taken_over(self, one: _Result) -> TakenOver | None:
        done = one.task.completion
        assert done is not None
        try:
            data = await self._board.load(one.state.run_id, done.data)
        except BlobMissing:
            return None
        return TakenOver(task=one.task.id, data=data, version=_version(one.task), taint=read(done.taint))


async def results(board: Board, run_id: str) -> list[_Result] | None:
    """What succeeded in a run, and in those it goes on from and was not taken over by it; None where its log is gone.

    Left out is what was taken back since, or was made from that, and what did something to the entries of its run's board: those
    are there only.
    """
    log = await board.history(run_id)
    if not log:
        return None
    state, facts, since = fold(run_id, log), _facts(log), _posted(log)
    found = [
        _Result(state, task)
        for task in state.work
        if task.kind == "capability"
        and task.completion is not None
        and task.completion.status is Status.SUCCEEDED
        and task.id not in facts.writers
        and facts.kept(state, task, since[task.id])
    ]
    if state.rerun_of is None:
        return found
    taken = {done.taken_over_from for task in state.work if (done := task.completion) is not None}
    earlier = await results(board, state.rerun_of.run) or ()
    return found + [one for one in earlier if one.task.id not in taken]


def _posted(log: Sequence[Event]) -> dict[str, str]:
    return {event.subject: event.sequence for event in log if isinstance(event, events.TaskPosted)}


def _facts(log: Sequence[Event]) -> _Facts:
    found, against = _Facts(), list[tuple[str, str, str]]()
    for event in log:
        if isinstance(event, events.ScopeCompacted):
            found.compacted = True
        data = event.data
        if not isinstance(data, EntryFactData):
            continue
        match event:
            case events.EntryPosted():
                found.posted[event.subject] = event.data
                against += [
                    (event.subject, link.to, event.sequence) for link in event.data.links if link.rel == "contradicts"
                ]
            case events.EntryAmended() | events.EntryRetracted() | events.EntryErased():
                found.lost[event.subject] = event.sequence
            case _:
                pass
        if data.erased is not None:
            found.lost[event.subject] = event.sequence
        writer = data.author.task
        if writer is not None and event.subject != result_entry(event.run_id, writer):
            found.writers.add(writer)
    for entry, other, at in against:
        if entry not in found.lost:
            found.lost[other] = max(found.lost.get(other, ""), at)
    return found


def _resolved(task: TaskSpec, data: Mapping[str, JsonValue]) -> tuple[JsonValue] | None:
    """What a task is given, as far as that is known already; None where it is not, or something it waits for is not over."""
    if not all(key in data for key in task.after):
        return None
    try:
        return (references.resolve(task.input, {key: data[key] for key in task.after}) if task.after else task.input,)
    except BadInput:
        return None


def _version(task: Task) -> str | None:
    return task.completion.version if task.completion is not None else None
