"""What a call that runs in this process tells of its progress: events of its task, not too many of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar

from pydantic import JsonValue

from blackboard.attempt import Attempt
from blackboard.errors import ArbiterError

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
"""No more than one report in so long; those between are left out."""
MOST = 600
"""Reports of one attempt."""
WORDS = 500


class Reporter:
    """The reports of one attempt.

    Args:
        attempt: whose progress it is.
        clock: seconds that only grow.
    """

    def __init__(self, attempt: Attempt, clock: Callable[[], float] = time.monotonic) -> None:
        self._attempt, self._clock = attempt, clock
        self._next, self._made = 0.0, 0
        self._telling = asyncio.Lock()

    async def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far it is. Whatever keeps the report from the board does not keep the work from going on."""
        now = self._clock()
        if now < self._next or self._made >= MOST:
            return
        self._next, self._made = now + EVERY_SECONDS, self._made + 1
        data: dict[str, JsonValue] = {"progress": progress}
        if total is not None:
            data["total"] = total
        if message:
            data["message"] = message[:WORDS]
        async with self._telling:
            try:
                await self._attempt.progress("task.progressed", data)
            except ArbiterError as error:
                log.info("%s: its progress is not on the board: %s", self._attempt.claim.task_id, error)

    async def settled(self) -> None:
        """Wait until what was reported is on the board: after the end of the task there is no place for it."""
        async with self._telling:
            pass


_current: ContextVar[Reporter | None] = ContextVar("arbiter_reporter", default=None)


def enter(attempt: Attempt) -> None:
    """Set the attempt of the current asyncio task."""
    _current.set(Reporter(attempt))


def reporter() -> Reporter | None:
    """The reporter of the attempt that is calling; None outside of one."""
    return _current.get()
