"""Tasks whose premise has gone: an activation's task was made from an entry, which may be retracted, amended or contradicted.

Control looks when such a fact was written while something ran, in the same turn in which it picks. A task that is stopped ends as
cancelled with the reason; what an amended entry says now has made activations of its own, and a planner is told of every end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from arbiter.fold import RunState, Task
from blackboard.activation import Activation
from blackboard.agenda import Agenda
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.triggers import Trigger

Declared = Callable[[Activation], Awaitable[Trigger | None]]
"""Gives the trigger of an activation, if its version can still be used."""


async def stop_what_lost_its_own(
    board: Board, entries: Entries, agenda: Agenda, state: RunState, declared: Declared
) -> list[str]:
    """Cancel the run's open tasks whose trigger says so; their ids. Doing it once more changes nothing."""
    running = {task.activation: task for task in state.work if task.activation is not None and not task.done}
    stopped: list[str] = []
    for one in await agenda.some(list(running)):
        trigger, task = await declared(one), running[one.number]
        if trigger is not None and trigger.stop_when and (why := await _lost(entries, one, trigger, task)):
            await board.cancel_task(task.id, why, by="agenda")
            stopped.append(task.id)
    return stopped


async def _lost(entries: Entries, one: Activation, trigger: Trigger, task: Task) -> str:
    """How an activation's entry lost what its task was made for; empty when it did not. What the task itself wrote is its own."""
    entry = await entries.read(one.entry, load=False)
    if entry is None:
        return ""
    if "retracted" in trigger.stop_when and entry.state == "retracted":
        return f"the entry it was made from was retracted: {one.entry}"
    own = entry.author.task == task.id
    if "amended" in trigger.stop_when and entry.counts and entry.said_version != one.entry_version and not own:
        return f"the entry it was made from was amended, to version {entry.said_version}: {one.entry}"
    if "contradicted" not in trigger.stop_when:
        return ""
    after: str | None = None
    while True:
        found = await entries.query(links_to=one.entry, rel="contradicts", after=after, load=False)
        for each in found.entries:
            newer = int(each.position.partition("-")[0]) >= one.made_at * 1000
            if newer and each.author.task != task.id:
                return f"the entry it was made from is contradicted by {each.id}"
        if (after := found.after) is None:
            return ""
