"""One run as the host sees it: frames in, answers out, one deadline, one verdict.

Nothing a frame says decides who the run is, how long it took or whether it timed out: that comes from here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import secrets
import signal
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from blackboard.types import LONGEST_RETRY_AFTER, Failure, Status
from wrapper.isolation import framing
from wrapper.isolation.channel import CHANNEL_LOST
from wrapper.isolation.children import Child
from wrapper.isolation.job import Broker, BrokerError, Job
from wrapper.isolation.threads import in_thread

log = logging.getLogger("arbiter.isolation")

_METHOD = re.compile(r"[a-z][a-z0-9_.]{0,63}", re.ASCII)
_ERROR_KINDS = frozenset(
    {
        "hash_mismatch",
        "syntax_error",
        "import_error",
        "missing_handler",
        "signature_mismatch",
        "handler_error",
        "retry_later",
        "permanent",
        "exited",
        "not_json",
        "result_too_large",
    }
)
_LARGE = 1 << 16
_ERROR_BYTES = 256 << 10  # evidence ends up in records; it is not a second way to return a result
_EXIT_SECONDS = 1.0
_DRAINS = 30
"""How many such times what a dead child wrote is read and parsed, as long as that gets on."""
_RESULT_SECONDS = 2.0
"""How long the channel may stay open after a result. The child ends its side at once, but may be waiting for a processor."""
_CONFIRM_SECONDS = 0.03
"""How long a verdict on time that ran out waits to hear that the process is gone. It is killed in any case, but freeing a
gigabyte takes the kernel a while, and who waits for the result has waited long enough."""


class NeverStarted(Exception):
    """The child was gone before it looked at the job; another one may take it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The verdict on one run."""

    status: Status
    value: JsonValue = None
    error: Failure | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Call:
    id: int
    method: str
    args: JsonValue


@dataclass(frozen=True, slots=True)
class _Done:
    value: JsonValue = None
    error: Failure | None = None


def failed(type: str, message: str, *, retryable: bool = False, **evidence: JsonValue) -> Ending:
    """A run that failed for a stated reason."""
    return Ending(Status.FAILED, error=Failure(type=type, message=message, retryable=retryable, evidence=evidence))


def _stayed() -> Ending:
    return failed("protocol", "The channel stayed open after the result.")


def _parse(message: dict[str, object]) -> _Call | _Done:
    keys = set(message)
    if keys == {"t", "id", "method", "args"} and message["t"] == "call":
        number, method = message["id"], message["method"]
        if not isinstance(number, int) or isinstance(number, bool):
            raise framing.Violation("a call's id is not a number")
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise framing.Violation("a call's method is not a method name")
        return _Call(number, method, cast(JsonValue, message["args"]))
    if keys == {"t", "value"} and message["t"] == "done":
        return _Done(cast(JsonValue, message["value"]))
    if keys == {"t", "error"} and message["t"] == "done":
        return _Done(error=_failure(message["error"]))
    raise framing.Violation(f"unknown frame with keys {sorted(keys)!r:.200}")


def _failure(said: object) -> Failure:
    if not isinstance(said, dict):
        raise framing.Violation("a result's error is not an object")
    error = cast("dict[str, object]", said)
    kind, name, message, evidence = (error.get(key) for key in ("kind", "type", "message", "evidence"))
    if set(error) != {"kind", "type", "message", "evidence"} or kind not in _ERROR_KINDS:
        raise framing.Violation("a result's error is not one this end knows")
    if not (isinstance(name, str) and isinstance(message, str) and isinstance(evidence, dict)):
        raise framing.Violation("a result's error has fields of the wrong kind")
    facts: dict[str, JsonValue] = {**cast("dict[str, JsonValue]", evidence), "exception": name[:200]}
    text = f"{name[:200]}: {message[:4000]}" if kind in ("handler_error", "import_error") else message[:4000]
    names, wait = facts.pop("names", None), facts.pop("retry_after_seconds", None)
    return Failure(
        type=cast(str, kind),
        message=text,
        retryable=kind == "retry_later",
        evidence=facts,
        names=tuple(str(each)[:100] for each in names[:20]) if isinstance(names, list) else (),
        retry_after_seconds=wait if isinstance(wait, float) and 0 <= wait <= LONGEST_RETRY_AFTER else None,
    )


@dataclass(eq=False, slots=True)
class Conversation:
    """Hands one job to one child and stays until there is a verdict. Use once.

    Args:
        child: parked; the caller buries it afterwards.
        job: what to run.
        request: body of the ``run`` frame.
        broker: answers calls; None refuses them all.
        cancelled: set by the caller to end the run.
        grace_seconds: between SIGTERM and SIGKILL on cancellation.
    """

    child: Child
    job: Job
    request: bytes
    broker: Broker | None
    cancelled: asyncio.Event | None
    grace_seconds: float
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _answers: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    _received: bytearray = field(default_factory=bytearray)
    _parts: int = 0
    _parsing: bool = False
    _answered: bool = False
    _last_call: int = 0
    _open_calls: int = 0
    _calls: int = 0
    _calls_bytes: int = 0
    _done: _Done | None = None
    _overdue: asyncio.TimerHandle | None = None
    """Runs since the result; the code must not go on for longer."""

    async def verdict(self) -> Ending:
        """Run it to its end; the child is dead or dying afterwards.

        Raises:
            NeverStarted: the child never had the job.
        """
        started = self._loop.time()
        if self.child.group is not None:
            try:
                self.child.group.limit(self.job.limits.memory_bytes)
            except OSError as error:
                raise NeverStarted from error
        overstayed: asyncio.Future[None] = self._loop.create_future()
        session = self._loop.create_task(self._session(overstayed))
        stop = self._loop.create_task(self.cancelled.wait()) if self.cancelled is not None else None
        waited: set[asyncio.Future[object]] = {session, self.child.exited}  # type: ignore[arg-type]
        if stop is not None:
            waited.add(stop)  # type: ignore[arg-type]
        waited.add(overstayed)  # type: ignore[arg-type]
        try:
            await asyncio.wait(waited, timeout=self.job.limits.wall_seconds, return_when=asyncio.FIRST_COMPLETED)
            if stop is not None and stop.done():
                ending = await self._cancel()
            elif session.done() or self.child.exited.done():
                ending = await self._ended(session)
            elif overstayed.done():
                ending = await self._late(session)
            else:
                ending = await self._time_out()
        finally:
            self.child.kill()
            if self._overdue is not None:
                self._overdue.cancel()
            for task in (session, stop, *self._answers):
                if task is not None:
                    task.cancel()
            # Bounded: a broker that swallows its cancellation must not hold up the verdict.
            await asyncio.wait([session, *self._answers], timeout=_EXIT_SECONDS)
        seconds = round(self._loop.time() - started, 6)
        return Ending(ending.status, ending.value, ending.error, seconds)

    async def _session(self, overstayed: asyncio.Future[None]) -> None:
        """Send the job, then read until the child ends its side; the result is kept in ``_done``.

        Args:
            overstayed: done when the code goes on after its result, which is a reason not to believe it and to kill it.
        """
        try:
            await self._loop.sock_sendall(self.child.channel, framing.frame(self.request))
        except OSError as error:
            raise NeverStarted from error
        limit = self.job.limits.result_bytes + framing.ENVELOPE_BYTES
        while (header := await self._exactly(framing.HEADER.size)) is not None:
            (size,) = framing.HEADER.unpack(header)
            if self._done is not None:
                raise framing.Violation("bytes after the result")
            if size > max(limit, framing.CALL_BYTES):
                raise framing.Violation(f"frame of {size} bytes")
            body = await self._exactly(size)
            if body is None:
                return
            # Parsing much would hold up every other run of this loop.
            self._parsing = True
            message = await in_thread(framing.decode, body) if size > _LARGE else framing.decode(body)
            self._parsing = False
            said = _parse(message)
            if isinstance(said, _Done):
                if said.error is not None and size > _ERROR_BYTES:
                    raise framing.Violation(f"error of {size} bytes")
                self._done = said
                self._overdue = self._loop.call_later(_RESULT_SECONDS, overstayed.set_result, None)
            elif size > framing.CALL_BYTES:
                raise framing.Violation(f"call of {size} bytes")
            else:
                self._called(said, size)

    async def _exactly(self, count: int) -> bytes | None:
        while len(self._received) < count:
            try:
                part = await self._loop.sock_recv(self.child.channel, 1 << 18)
            except ConnectionError as error:
                # A stream socket is reset when its other end closed with data unread (unix(7)); before any answer was
                # sent, that data can only be the job.
                if not self._answered:
                    raise NeverStarted from error
                return None
            if not part:
                return None
            self._received += part
            self._parts += 1
        taken = bytes(memoryview(self._received)[:count])
        del self._received[:count]
        return taken

    def _called(self, call: _Call, size: int) -> None:
        self._calls += 1
        self._calls_bytes += size
        if self._calls > framing.CALLS or self._calls_bytes > framing.CALLS_BYTES:
            raise framing.Violation(
                f"more than {framing.CALLS:,} calls, or than {framing.CALLS_BYTES >> 20} MiB of them, in one run"
            )
        if call.id <= self._last_call:
            raise framing.Violation("a call's id was used before")
        self._last_call = call.id
        if self._open_calls >= framing.OPEN_CALLS:
            raise framing.Violation(f"more than {framing.OPEN_CALLS} calls at once")
        self._open_calls += 1
        self._answers = {task for task in self._answers if not task.done()}
        self._answers.add(self._loop.create_task(self._answer(call)))

    async def _answer(self, call: _Call) -> None:
        body: bytes
        try:
            value = await self._ask(call)
            body = framing.encode({"t": "ret", "id": call.id, "value": value}, framing.DEPTH + 1)
            if len(body) > framing.RETURN_BYTES:
                raise BrokerError("limit", f"the answer is {len(body)} bytes; at most {framing.RETURN_BYTES} are sent")
        except BrokerError as error:
            body = _refusal(call.id, error.type, error.message)
        except framing.NotJson as error:
            body = _refusal(call.id, "not_json", f"the host's answer is not JSON, at {error.path}")
        except Exception:
            # The boundary to the code. What an unforeseen error says may be a path, an address or worse: that is for
            # people, who find it by the reference; the code is told that there was one.
            reference = secrets.token_hex(8)
            log.exception("%s: call %r of %s was not answered", reference, call.method, self.job.name)
            body = _refusal(call.id, "internal", f"The host could not answer. Its log says why, under {reference}.")
        async with self._sending:
            self._answered = True
            self._open_calls -= 1  # before the child can know that it may send another
            try:
                await self._loop.sock_sendall(self.child.channel, framing.frame(body))
            except OSError:
                pass  # it ended meanwhile; the reader tells how

    def _ask(self, call: _Call) -> Coroutine[None, None, JsonValue]:
        grants = self.job.grants
        if self.broker is None or (grants is not None and call.method not in grants):
            raise BrokerError("denied", f"{call.method} was not granted to this run")
        return cast("Coroutine[None, None, JsonValue]", self.broker(call.method, call.args))

    async def _ended(self, session: asyncio.Task[None]) -> Ending:
        # What the child wrote before it died is still in the socket, so the session gets to read it: while it gets on, which a
        # busy machine may make slow, but not for ever, as a process left behind may hold the channel open.
        for _ in range(_DRAINS):
            before = self._parts
            await asyncio.wait([session], timeout=_EXIT_SECONDS)
            if session.done() or (self._parts == before and not self._parsing):
                break
        if session.done() and not session.cancelled() and (error := session.exception()) is not None:
            if isinstance(error, framing.Violation):
                return failed("protocol", f"The code broke the channel's protocol: {error}.")
            raise error
        if self._done is not None:
            if not session.done():
                return _stayed()
            if self._done.error is not None:
                return Ending(Status.FAILED, error=self._done.error)
            return Ending(Status.SUCCEEDED, self._done.value)
        await asyncio.wait([self.child.exited], timeout=_EXIT_SECONDS)
        if not self.child.exited.done():
            return failed("protocol", "The code closed its channel and went on running.")
        return self._died(self.child.exited.result())

    def _died(self, status: int | None) -> Ending:
        if status is None:
            return failed("isolation", "The zygote ended during the run, and the run with it.", retryable=True)
        code = os.waitstatus_to_exitcode(status)
        if code == CHANNEL_LOST:
            return failed("protocol", "The code broke or closed its channel before its result could be sent.")
        name = _signal_name(-code)
        if self._spent(code):
            limit = self.job.limits.cpu_seconds
            message = f"More than {limit:g} s of processor time were used."
            error = Failure(type="timeout", message=message, evidence={"limit": "cpu_seconds", "signal": "SIGXCPU"})
            return Ending(Status.TIMED_OUT, error=error)
        if code >= 0:
            return failed("exited", f"The process exited with code {code} before its result.", exit_code=code)
        if -code == signal.SIGSYS:
            message = "The process was ended for a system call that no run may make."
            return failed("crashed", message, signal=-code, signal_name=name)
        killed = -code == signal.SIGKILL
        if killed and self.child.group is not None and self.child.group.starved():
            limit = self.job.limits.memory_bytes
            message = f"The kernel killed it: it used more than its {limit >> 20} MiB of memory."
            return failed("crashed", message, signal=-code, signal_name=name, limit="memory_bytes")
        why = "; not by this wrapper, perhaps by the kernel for memory" if killed else ""
        return failed(
            "crashed", f"The process was killed by {name}{why}.", retryable=killed, signal=-code, signal_name=name
        )

    def _spent(self, code: int) -> bool:
        """Whether the processor limit ended it: by its signal, in a box by an exit with the signal's number, or, where
        the code ignored the signal, by the kill a second later. The last two can have other reasons, so the time used
        must bear them out; what the kernel accounts to a process and what it holds against the limit differ."""
        if code == -signal.SIGXCPU:
            return True
        used = self.child.cpu_seconds / max(1, math.ceil(self.job.limits.cpu_seconds))
        return (code == signal.SIGXCPU and used > 0.5) or (code == -signal.SIGKILL and used > 0.8)

    async def _late(self, session: asyncio.Task[None]) -> Ending:
        # It may be this loop that was: then the end of the channel is there to be read.
        await asyncio.wait([session], timeout=_CONFIRM_SECONDS)
        if session.done():
            return await self._ended(session)
        await self._kill(_CONFIRM_SECONDS)
        return _stayed()

    async def _time_out(self) -> Ending:
        limit = self.job.limits.wall_seconds
        await self._kill(_CONFIRM_SECONDS)
        if self._done is not None:
            return _stayed()
        error = Failure(
            type="timeout",
            message=f"No result within {limit:g} s; the process was killed.",
            evidence={"limit": "wall_seconds", "seconds": limit, "stopped": self.child.exited.done()},
        )
        return Ending(Status.TIMED_OUT, error=error)

    async def _cancel(self) -> Ending:
        self.child.signal(signal.SIGTERM)
        await asyncio.wait([self.child.exited], timeout=self.grace_seconds)
        by = "SIGTERM" if self.child.exited.done() else "SIGKILL"
        await self._kill()
        error = Failure(
            type="cancelled",
            message=f"Cancelled; the process was ended by {by}.",
            evidence={"ended_by": by, "stopped": self.child.exited.done()},
        )
        return Ending(Status.CANCELLED, error=error)

    async def _kill(self, seconds: float = _EXIT_SECONDS) -> None:
        self.child.signal(signal.SIGKILL)
        await asyncio.wait([self.child.exited], timeout=seconds)


def _refusal(number: int, type: str, message: str) -> bytes:
    text = message[:4000].encode("utf-8", "replace").decode()
    return framing.encode({"t": "ret", "id": number, "error": {"type": type[:200], "message": text}})


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
