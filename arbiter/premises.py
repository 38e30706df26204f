"""Tasks whose premise has gone: an activation's task was made from an entry, which may be retracted, amended or
contradicted, as may what that is derived from.

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
from blackboard.entry import Entry, owner_of_entry
from blackboard.triggers import Trigger

FOLLOWED = 256
"""Entries that are followed along ``derived_from``, the nearest first, as the scripts do for the tasks that a model planned."""
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
    """How an activation's entry, or one that it is derived from, lost what its task was made for; empty when none did. What the
    task itself wrote is its own."""
    known, level = {one.entry}, [one.entry]
    while level:
        found = await entries.several(level)
        for entry in found:
            why = await _gone(entries, entry, one, trigger, task)
            if why and entry.id == one.entry:
                return f"the entry it was made from {why}"
            if why:
                return f"the entry it was made from, {one.entry}, is derived from one that {why}"
        above = [link.to for entry in found for link in entry.links if link.rel == "derived_from"]
        level = [each for each in dict.fromkeys(above) if each not in known and owner_of_entry(each) == entries.owner]
        level = level[: FOLLOWED - len(known)]
        known.update(level)
    return ""


async def _gone(entries: Entries, entry: Entry, one: Activation, trigger: Trigger, task: Task) -> str:
    far = entry.id != one.entry

    def since(position: str) -> bool:
        return int(position.partition("-")[0]) >= one.made_at * 1000

    if "retracted" in trigger.stop_when and entry.state == "retracted" and (not far or since(entry.changed)):
        return f"was retracted: {entry.id}"
    if "amended" in trigger.stop_when and entry.counts and entry.author.task != task.id:
        amended = entry.said_version > 1 and since(entry.position) if far else entry.said_version != one.entry_version
        if amended:
            return f"was amended, to version {entry.said_version}: {entry.id}"
    if "contradicted" not in trigger.stop_when:
        return ""
    after: str | None = None
    while True:
        found = await entries.query(links_to=entry.id, rel="contradicts", after=after, load=False)
        for each in found.entries:
            if since(each.position) and each.author.task != task.id:
                return f"is contradicted by {each.id}"
        if (after := found.after) is None:
            return ""
