"""A writing operation on entries: who does it, by which name, and what it did. It may be sent more than once."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from blackboard import entry_checks as checks
from blackboard.entry import place
from blackboard.entry_reading import EntryReading
from blackboard.errors import BadInput, ScriptRefused
from blackboard.events import Author

_NOTICED = ("entry_post", "entry_amend", "entry_retract")
"""What a run's agenda notices."""


class Holder(Protocol):
    """A task that is being worked on: a :class:`~blackboard.claims.Claim`, or what ``current_task()`` returns."""

    @property
    def run_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def fence(self) -> str | int: ...
    @property
    def taint(self) -> tuple[str, ...]:
        """Sources of what it works with."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did."""

    id: str
    """Of the entry."""
    version: int
    position: str
    """Of the fact in the scope's log; sorts as text. Reads as of it, and watches after it, begin with what follows."""
    new: bool
    """False when this operation was done already, by this call or by an earlier one."""


class Call:
    """One writing operation.

    Args:
        entries: of the scope it writes in.
        task: the task that writes, if one does.
        operation: its name. Default: a random one.
        said: what makes one operation differ from another.

    Raises:
        BadInput: the task is of another run, or the name is none.
    """

    def __init__(self, entries: EntryReading, task: Holder | None, operation: str | None, said: Sequence[str]) -> None:
        if task is not None and entries.owner != task.run_id:
            raise BadInput("task", task.task_id, f"A task writes in the scope of its own run, run:{task.run_id}.")
        if operation is not None and not checks.NAME.match(operation):
            raise BadInput("operation", operation, "Name it in 1 to 200 printable characters.")
        self._entries, self._task = entries, task
        named = secrets.token_hex(12) if operation is None else operation
        self.operation = named if task is None else f"{task.task_id}\0{named}"
        self._print = hashlib.sha256("\0".join(said).encode()).hexdigest()[:24]

    async def run(self, name: str, expect_topic: int | None, *args: str | int) -> Written:
        """Call a script that writes or refuses."""
        try:
            written = await self.maybe(name, expect_topic, *args)
        except ScriptRefused as refusal:
            raise _named(refusal) from None
        assert written is not None, "only a taking may do nothing"
        return written

    async def maybe(self, name: str, expect_topic: int | None, *args: str | int) -> Written | None:
        """Call a script that may find nothing to do."""
        task, entries = self._task, self._entries
        send = entries._writing if name in _NOTICED else entries.call  # pyright: ignore[reportPrivateUsage]
        reply = await send(
            name, self.operation, self._print, task.task_id if task else "", str(task.fence) if task else "",
            "" if expect_topic is None else expect_topic, *args,
        )  # fmt: skip
        return Written(reply[0], int(reply[1]), place(reply[2]), bool(int(reply[3]))) if reply else None


def signed(author: Author) -> str:
    """Who writes, as a script gets it.

    Raises:
        BadInput: a task, which is named by its lease, or a name that is none.
    """
    if author.kind == "task":
        raise BadInput("author", author.name, "A task writes by its lease: pass it as task.")
    if not checks.NAME.match(author.name) or (author.id is not None and not checks.NAME.match(author.id)):
        raise BadInput("author", author.name, "Name it in 1 to 200 printable characters.")
    return author.model_dump_json(exclude_none=True)


def _named(refusal: ScriptRefused) -> ScriptRefused | BadInput:
    """A refusal of bad input by a script, as the edge says it."""
    if refusal.code == "LINK":
        to, _, remedy = refusal.detail.partition(" ")
        return BadInput("links", to, remedy)
    if refusal.code == "TAINT":
        return BadInput("taint", refusal.detail, "Derive it from fewer entries.")
    return refusal
