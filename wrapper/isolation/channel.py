"""The child's end of the private channel: one job in, calls out and answers in, one result out.

Calls may come from the main thread, from the threads Strands runs synchronous tools in, and from coroutines, all at
once. At most :data:`~wrapper.isolation.framing.OPEN_CALLS` are in flight; further ones queue here. One daemon thread,
started by the first call, reads the answers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import cast

from wrapper.isolation import framing

CHANNEL_LOST = 97
"""Exit code of a child whose code broke the channel it had to answer on."""
_HEAD_BYTES = 64


class CallError(RuntimeError):
    """The host answered a call with an error. ``type`` is its stable word, for example ``denied``."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type, self.message = type, message


class Channel:
    """One per child. Thread-safe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._open: dict[int, Future[object]] = {}
        self._queued: deque[tuple[bytes, Future[object]]] = deque()
        self._last = 0
        self._reader: threading.Thread | None = None

    def _exactly(self, count: int) -> bytes | None:
        parts: list[bytes] = []
        while count:
            try:
                part = os.read(self._fd, min(count, 1 << 18))
            except OSError:
                return None
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def read(self, limit: int) -> bytes | None:
        """Body of the next frame, or None at the end.

        Raises:
            Violation: the frame is larger than ``limit`` bytes.
        """
        header = self._exactly(framing.HEADER.size)
        if header is None:
            return None
        (size,) = framing.HEADER.unpack(header)
        if size > limit:
            raise framing.Violation(f"frame of {size} bytes")
        return self._exactly(size)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def call(self, method: str, args: object) -> Future[object]:
        """Ask the host; the future holds the answer or a :class:`CallError`."""
        future: Future[object] = Future()
        future.set_running_or_notify_cancel()
        try:
            # The number goes in front when it is sent, so that numbers rise in the order of sending.
            body = framing.encode({"method": method, "args": args}, framing.DEPTH + 1)
        except framing.NotJson as error:
            future.set_exception(CallError("not_json", str(error)))
            return future
        if len(body) + _HEAD_BYTES > framing.CALL_BYTES:
            message = f"the call is {len(body)} bytes; at most {framing.CALL_BYTES} are sent"
            future.set_exception(CallError("limit", message))
            return future
        with self._lock:
            self._queued.append((body, future))
            self._pump()
            if self._reader is None:
                self._reader = threading.Thread(target=self._listen, name="arbiter-channel", daemon=True)
                self._reader.start()
        return future

    def _pump(self) -> None:
        while self._queued and len(self._open) < framing.OPEN_CALLS:
            body, future = self._queued.popleft()
            self._last += 1
            self._open[self._last] = future
            try:
                self._write(framing.frame(b'{"t":"call","id":%d,' % self._last + body[1:]))
            except OSError as error:
                del self._open[self._last]
                future.set_exception(CallError("protocol", f"the channel to the host is broken: {error}"))

    def _listen(self) -> None:
        try:
            while (body := self.read(framing.RETURN_BYTES)) is not None:
                answer = framing.decode(body)
                with self._lock:
                    future = self._open.pop(cast(int, answer["id"]))
                    self._pump()
                if "error" in answer:
                    error = cast("dict[str, str]", answer["error"])
                    future.set_exception(CallError(error["type"], error["message"]))
                else:
                    future.set_result(answer["value"])
        finally:
            with self._lock:
                waiting = [*self._open.values(), *(each[1] for each in self._queued)]
                self._open.clear()
                self._queued.clear()
            for future in waiting:
                future.set_exception(CallError("protocol", "the channel to the host ended"))

    def finish(self, body: bytes) -> bool:
        """Send the one terminal frame and end the sending side; False if the channel no longer takes it."""
        with self._lock:
            try:
                self._write(framing.frame(body))
                end = socket.socket(fileno=self._fd)
                try:
                    end.shutdown(socket.SHUT_WR)
                finally:
                    end.detach()
            except (OSError, ValueError):
                return False
        return True


_current: Channel | None = None
_hosted: ContextVar[Callable[[str, object], Future[object]] | None] = ContextVar("arbiter_hosted", default=None)


def attach(channel: Channel) -> None:
    """Make this the process's channel."""
    global _current
    _current = channel


def hosted(ask: Callable[[str, object], Future[object]]) -> None:
    """Answer the calls of the current asyncio task, and of the threads it starts, in this process."""
    _hosted.set(ask)


def current() -> Channel:
    """The process's channel.

    Raises:
        RuntimeError: this process is not an isolated run.
    """
    if _current is None:
        raise RuntimeError("wrapper.sdk works only inside a capability that an Arbiter wrapper is running")
    return _current


def call(method: str, args: object) -> object:
    """Ask the host and wait.

    Raises:
        CallError: the host refused.
        RuntimeError: called outside of a capability, or where the answer would be waited for by whoever has to give it.
    """
    ask = _hosted.get()
    if ask is None:
        return current().call(method, args).result()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ask(method, args).result()
    raise RuntimeError(
        f"{method} would block this program's event loop: make the function a 'def', or await call_async()"
    )


async def call_async(method: str, args: object) -> object:
    """Ask the host without blocking the event loop. Raises :class:`CallError`."""
    return await asyncio.wrap_future((_hosted.get() or current().call)(method, args))
