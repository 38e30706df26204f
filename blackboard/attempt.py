"""One attempt at a task: what its handler sees of it, and how its end is told."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import cast

from pydantic import JsonValue

from blackboard import claims, timings, tracing
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import (
    BadInput,
    BlobError,
    BoardFull,
    EngineUnavailable,
    Fenced,
    Oversized,
    Unconfirmed,
    Unfitting,
)
from blackboard.retries import ruling
from blackboard.types import Completion, Failure, Status, Usage

log = logging.getLogger(__name__)


_NOTHING = Usage()
_GOES_ON = ("delayed", "paused")
"""States of a task that another attempt follows."""


class Attempt:
    """A claim being worked on, as its handler sees it."""

    def __init__(self, board: Board, claim: Claim) -> None:
        self.board, self.claim = board, claim
        self.cancelled = asyncio.Event()
        """Set when the run is being cancelled: stop, and return a completion with status ``cancelled``."""
        self.carried = _NOTHING
        """For handlers whose checkpoint adds up usage over attempts: what it holds by now. Their completions count it all."""
        self.accepted: float | None = claim.ready_at if claim.round == 0 else None
        """When the run was accepted that ends with this task, in seconds since the epoch on the server's clock. That a call ends
        its run is known; of a decision its handler says so."""
        self._reports = 0
        self._reporting = asyncio.Lock()

    async def progress(self, kind: str, data: JsonValue, checkpoint: JsonValue = None) -> None:
        """Append an event about this attempt and, in the same script, replace the task's checkpoint.

        Raises:
            Fenced: the task is no longer held; stop working on it.
        """
        async with self._reporting:  # a later report that overtakes would make the earlier one look like a repetition
            self._reports += 1
            await self.board.progress(self.claim, self._reports, kind, data, checkpoint)

    def run_ended(self, status: str) -> None:
        """Tell of the run, which has ended with this task."""
        if self.accepted is not None:
            kind = "call" if self.claim.round == 0 else "planned"
            seconds = max(0.0, self.claim.now() - self.accepted)
            timings.RUNS.observe(seconds, kind, status)
            tracing.run(self.board.source, self.claim.run_id, kind, seconds, status)


Handler = Callable[[Attempt], Awaitable[Completion | None]]
"""Does the work of an attempt. Returns its completion, or None when it has already ended the task itself.

A failed completion whose error is retryable is tried again while attempts and time are left, unless a rule of the task's
retry policy knows the error and says otherwise.
"""


class AtWork:
    """The attempts of all workers in one event loop whose handlers may be at work."""

    def __init__(self) -> None:
        self._attempts: set[asyncio.Task[None]] = set()
        self.idle = asyncio.Event()
        """Set while there are none."""
        self.idle.set()

    def begin(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.add(attempt)
        self.idle.clear()

    def end(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if not self._attempts:
            self.idle.set()


class Held:
    """An attempt of this worker, and what happened to it."""

    __slots__ = ("attempt", "drained", "late", "late_at", "left", "lost", "over", "task")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.task: asyncio.Task[None] | None = None
        self.late_at = 0.0
        """When it is late, on the event loop's clock."""
        self.over = False
        """Its handler has ended."""
        self.left = False
        """Its handler was told to stop and did not: somebody else ends the attempt."""
        self.lost = self.late = self.drained = False
        """Why it was told to."""

    def told(self, word: str) -> None:
        """What a heartbeat brought back."""
        self.attempt.cancelled.set()
        if word == "lost" and not self.attempt.claim.decided and self.stop():
            self.lost = True

    def stop(self) -> bool:
        """Tell the handler to stop; False when there is none at work."""
        if self.over or self.left or self.task is None:
            return False
        return self.task.cancel()

    def stopped(self) -> Completion | None:
        """What became of an attempt whose handler said nothing more; None where others decide about it."""
        return overdue(self.attempt.claim) if self.late and not self.lost else None


async def perform(attempt: Attempt, handle: Handler) -> Completion | None:
    """The handler's completion; whatever it raises becomes one, because a task must end in any case.

    Raises:
        Fenced, EngineUnavailable, Unconfirmed: the board decides about the task, not this attempt.
    """
    claim = attempt.claim
    started = time.perf_counter()
    try:
        attempt.claim = await claims.load(claim, attempt.board.blobs)
        if attempt.claim.trouble is not None:
            raise attempt.claim.trouble
        completion = await handle(attempt)
        if not isinstance(cast(object, completion), Completion | None):
            raise TypeError(f"the handler returned {type(completion).__name__} instead of a Completion")
        return completion
    except (Fenced, EngineUnavailable, Unconfirmed):
        raise
    except BadInput as error:
        failure = Failure(type="bad_input", message=str(error))
    except BlobError as error:
        failure = Failure(type=error.code, message=str(error), retryable=error.retryable)
    except BoardFull as error:
        failure = Failure(type="board_full", message=str(error), retryable=True)
    except (Exception, SystemExit) as error:  # a handler that calls exit() ends its task and not this process
        log.exception("%s: the handler raised", claim.task_id)
        return internal_error(
            claim,
            f"{type(error).__name__}: {error}"[:2000],
            traceback=traceback.format_exc()[-4000:],
            seconds=round(time.perf_counter() - started, 3),
        )
    return claim.completion(Status.FAILED, error=failure)


async def send(attempt: Attempt, completion: Completion) -> Completion:
    """Report how an attempt ended, or have it tried again where its task's retry policy says so.

    Returns:
        What was reported: another completion than the one that was given, where its result could not be taken.

    Raises:
        Fenced: the task is no longer held.
        Unconfirmed: written, and no replica said in time that it has it.
        EngineUnavailable, BoardFull: the server took nothing.
    """
    claim, state = attempt.claim, completion.status.value
    ended = completion.status in (Status.SUCCEEDED, Status.CANCELLED)
    try:
        if completion.error is not None and not ended and ruling(claim.retry, completion.error).again:
            state = await attempt.board.fail(claim, completion, carried=attempt.carried)
        else:
            await attempt.board.complete(claim, completion)
    except BadInput as error:
        kind = "result_too_large" if isinstance(error, Oversized) else "not_json"
        failure = Failure(type="topic_schema" if isinstance(error, Unfitting) else kind, message=str(error))
        completion = claim.completion(Status.FAILED, error=failure, usage=completion.usage, sources=completion.taint)
        await attempt.board.complete(claim, completion)
        state = completion.status.value
    except BlobError as error:  # a result that could not be stored is no result
        failure = Failure(type=error.code, message=str(error), retryable=error.retryable)
        completion = claim.completion(Status.FAILED, error=failure, usage=completion.usage)
        state = await attempt.board.fail(claim, completion)
    if state not in _GOES_ON:
        attempt.run_ended(state)
    return completion


def overdue(claim: Claim) -> Completion:
    """How an attempt ends that was not over in time."""
    message = f"The attempt was not over after {claim.attempt_seconds:g} s and was stopped."
    failure = Failure(type="timeout", message=message, retryable=True)
    return claim.completion(Status.TIMED_OUT, error=failure)


def internal_error(claim: Claim, message: str, **evidence: JsonValue) -> Completion:
    """How an attempt ends whose handler raised what it should not."""
    failure = Failure(type="internal_error", message=message, retryable=True, evidence=evidence)
    return claim.completion(Status.FAILED, error=failure)
