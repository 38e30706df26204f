"""How a function says that its answer comes later, from outside: a webhook, a long job, a person in another tool."""

from __future__ import annotations

from blackboard import taint
from blackboard.callbacks import LEAST_SECONDS, MOST_SECONDS

SECONDS = 3600.0


class Later(Exception):
    """Raise it from a capability that was declared with ``callback=True``, once ``current_task().token`` is handed out.

    The attempt leaves this process and waits on the board. Whoever holds the token ends it: with an output, which has to fit
    the capability's schema, or with a failure, which the task's retry policy judges like any other.

    Args:
        seconds: how long to wait at the most, on the server's clock; up to 30 days. Time stands still for the task and its run.
        heartbeat_seconds: longest time without a sign of life from whoever holds the token, from 1 s on; None asks for none.

    Raises:
        ValueError: a time out of its range.
    """

    def __init__(self, seconds: float = SECONDS, heartbeat_seconds: float | None = None) -> None:
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"seconds: {seconds!r} was refused. Give more than 0, and at most 30 days.")
        if heartbeat_seconds is not None and not LEAST_SECONDS <= heartbeat_seconds <= MOST_SECONDS:
            raise ValueError(
                f"heartbeat_seconds: {heartbeat_seconds!r} was refused. Give 1 or more, and at most 30 days."
            )
        self.seconds, self.heartbeat_seconds = float(seconds), heartbeat_seconds
        super().__init__("Its answer comes from outside; that takes a function that was declared with callback=True.")


def source_of(capability: str) -> str:
    """The label of what comes from outside as the answer of a capability."""
    return taint.source("callback", capability)
