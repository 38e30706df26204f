"""Which task is running: for capabilities that talk to systems with idempotency keys or fences.

Standard library only: every child process imports it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TaskContext:
    """The task behind the current call of a capability.

    ``idempotency_key`` is the same for every attempt at the task: an external system that honours it sees one request.
    ``fence`` rises with every attempt: an external store that remembers the highest can refuse a superseded one.
    """

    run_id: str
    task_id: str
    idempotency_key: str
    attempt: int
    fence: int
    taint: tuple[str, ...] = ()
    """Sources of what the task works with, for what it writes on the board; isolated code is not told."""
    token: str = field(default="", repr=False)
    """Ends this attempt for whoever holds it; empty unless the function was declared with ``callback=True``."""


_current: ContextVar[TaskContext | None] = ContextVar("arbiter_task", default=None)
_only: TaskContext | None = None


def current_task() -> TaskContext | None:
    """The task that is calling this function, or None outside of one. An exam makes one up."""
    return _current.get() or _only


def enter(context: TaskContext) -> None:
    """Set the task of the current asyncio task or thread."""
    _current.set(context)


def fill(context: TaskContext) -> None:
    """Set the task of the whole process, which runs nothing else: whatever thread asks, that is the task."""
    global _only
    _only = context
