"""The attempts of a worker: begun, stopped when they are late or must end, and reported."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable

from blackboard import current, timings, tracing
from blackboard.attempt import Attempt, AtWork, Handler, Held, internal_error, perform, send
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import BoardFull, EngineUnavailable, Fenced, Unconfirmed
from blackboard.heartbeat import Heartbeat
from blackboard.types import Completion, Status

log = logging.getLogger(__name__)

_OVERTIME_SECONDS = 30.0
"""How long after its time an attempt is stopped here, in case its handler, which knows more, did not do it."""
_STOP_SECONDS = 5.0
"""How long a handler that was told to stop may take before its task is given back all the same."""

_DECIDING = ("step", "control")
"""Kinds whose handlers end them on the board themselves."""


class Attempting:
    """What was claimed, from its beginning to the report on it; :class:`~blackboard.worker.Worker` claims."""

    def __init__(
        self,
        board: Board,
        heartbeat: Heartbeat,
        handle: Handler,
        concurrency: int,
        ended: Callable[[Claim, Completion], None] | None,
    ) -> None:
        self._board, self._heartbeat, self._handle = board, heartbeat, handle
        self._concurrency, self._listener = concurrency, ended
        self._begun: list[Claim] = []
        """What the next turn of the event loop starts."""
        self._active: dict[asyncio.Task[None], Held] = {}
        self._reporting: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        """There is room again, or something else to look at."""
        self._loop: AtWork | None = None
        self._late: asyncio.TimerHandle | None = None
        """For when the first of the attempts is late."""

    async def _finished(self, grace_seconds: float) -> None:
        """Until nothing is worked on: what is not over within the grace time is stopped."""
        while self._begun:
            await asyncio.sleep(0)
        if self._active:
            await asyncio.wait(self._active, timeout=grace_seconds)
        for held in list(self._active.values()):
            if held.stop():
                held.drained = True
                self._leave_later(held)
        if self._late is not None:
            self._late.cancel()
        while self._active:  # those whose handlers go on are left to others meanwhile
            await asyncio.wait(self._active, timeout=_STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    def _start_all(self) -> None:
        begun, self._begun = self._begun, []
        for claim in begun:
            self._start(claim)

    def _start(self, claim: Claim) -> None:
        if claim.claims == 1:
            timings.WAITED.observe(claim.claimed_at() - claim.ready_at, claim.kind, claim.label)
        held = Held(Attempt(self._board, claim))
        held.task = asyncio.create_task(self._attempt(held), name=f"{claim.task_id}#{claim.attempt}")
        self._take(held, held.task)
        self._heartbeat.hold(claim, held.told)
        self._watch(held)

    def _take(self, held: Held, task: asyncio.Task[None]) -> None:
        self._active[task] = held
        assert self._loop is not None
        self._loop.begin(task)
        task.add_done_callback(self._ended)

    def _watch(self, held: Held) -> None:
        """See to it that the attempt is stopped when it is late. One timer for all: nearly none ever is."""
        loop = asyncio.get_running_loop()
        held.late_at = loop.time() + held.attempt.claim.attempt_seconds + _OVERTIME_SECONDS
        if self._late is None or held.late_at < self._late.when():
            if self._late is not None:
                self._late.cancel()
            self._late = loop.call_at(held.late_at, self._stop_late)

    def _stop_late(self) -> None:
        assert self._late is not None
        now, self._late = self._late.when(), None
        for held in self._active.values():
            if held.late_at <= now and held.stop():
                held.late_at, held.late = math.inf, True
                self._leave_later(held)
        following = min((held.late_at for held in self._active.values() if not held.over), default=math.inf)
        if following < math.inf:
            self._late = asyncio.get_running_loop().call_at(following, self._stop_late)

    def _leave_later(self, held: Held) -> None:
        asyncio.get_running_loop().call_later(_STOP_SECONDS, self._leave, held)

    def _leave(self, held: Held) -> None:
        """A handler that was told to stop goes on: its task ends without it."""
        if held.over or held.left or held.task not in self._active:
            return
        held.left = True
        del self._active[held.task]
        assert self._loop is not None
        self._loop.end(held.task)
        self._take(held, asyncio.create_task(self._attempt(held, left=True), name=held.task.get_name()))

    def _room(self) -> int:
        """How many attempts may begin now.

        What only waits for its report to be taken leaves room: the next claim then travels with the report. Not without
        end: a server that takes no reports gets no further claims.
        """
        active = len(self._active) + len(self._begun)
        return min(self._concurrency - active + len(self._reporting), 2 * self._concurrency - active)

    def _ended(self, task: asyncio.Task[None]) -> None:
        full = self._room() <= 0
        held = self._active.pop(task, None)
        if held is None:  # somebody else saw to its end
            _ = task.cancelled() or task.exception()
            return
        self._reporting.discard(task)
        assert self._loop is not None
        self._loop.end(task)
        if full:  # with room already there, more of it is no reason to look again
            self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            about = {"claim": held.attempt.claim}
            shown = None if isinstance(error, EngineUnavailable) else error  # where we were says nothing of a server
            said = "reporting on %s failed; its lease will run out: %s"
            log.error(said, task.get_name(), error, exc_info=shown, extra=about)

    async def _attempt(self, held: Held, *, left: bool = False) -> None:
        """The handler's work and the report on it, in one task: what stops the handler is a cancellation of it.

        Args:
            left: only the report; the handler is still at work.
        """
        claim, outcome = held.attempt.claim, "dropped"
        current.claim.set(claim)
        with tracing.attempt(self._board.source, claim) if not left else tracing.NONE as span:
            try:
                outcome = await self._worked(held, left)
            finally:
                self._heartbeat.drop(claim)
                if outcome:
                    span.ended(outcome)
                    timings.ATTEMPTS.observe(time.monotonic() - claim.received, claim.kind, claim.label, outcome)

    async def _worked(self, held: Held, left: bool) -> str:
        """What an attempt came to: a status, ``given_back`` or ``dropped``; nothing where the report on it is another's."""
        claim = held.attempt.claim
        try:
            completion = held.stopped() if left else await self._performed(held)
            if held.left is not left:
                return ""
            if held.drained:  # whatever the stopped handler says
                with contextlib.suppress(EngineUnavailable, BoardFull):
                    await self._board.release(claim)
                return "given_back"
            if completion is not None:
                return await self._report(held.attempt, completion)
            if not held.lost:
                return Status.SUCCEEDED.value if claim.kind in _DECIDING else "given_back"
        except Fenced as fenced:
            log.info("%s: result dropped, %s", claim.task_id, fenced)
        except Unconfirmed as error:  # it is written; waiting longer would only keep the place
            log.warning("%s: %s", claim.task_id, error)
        return "dropped"

    async def _performed(self, held: Held) -> Completion | None:
        """What became of the handler's work; None where somebody else decides about the task."""
        try:
            return await perform(held.attempt, self._handle)
        except asyncio.CancelledError:
            if not (held.lost or held.late or held.drained):
                assert held.task is not None
                if not held.task.cancelling():
                    return internal_error(held.attempt.claim, "the handler was cancelled by something it waited for")
                held.drained = True  # the event loop itself is being ended
            return held.stopped()
        except (Fenced, EngineUnavailable, Unconfirmed):
            if not held.drained:
                raise
            return None
        finally:
            held.over = True

    async def _report(self, attempt: Attempt, completion: Completion) -> str:
        me = asyncio.current_task()
        assert me is not None
        full = self._room() <= 0
        self._reporting.add(me)
        assert self._loop is not None
        self._loop.end(me)
        if full:
            self._changed.set()
        reported = await send(attempt, completion)
        if self._listener is not None:
            self._listener(attempt.claim, reported)
        if reported.error is not None:
            tracing.note({"error.type": reported.error.type})
        return reported.status.value
