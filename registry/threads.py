"""Runs functions that may never return, in threads that nobody waits for: neither the end of the program nor other work.

A thread cannot be stopped. An executor's threads are few and shared with all that the program does beside, and an interpreter
waits for them when it ends; so a function that hangs is kept away from them. A thread whose function returned takes the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

MOST_LEFT = 8
"""How many calls of one function may go on after they were given up, before no other is begun."""
_IDLE_SECONDS = 30.0
_Work = Callable[[], None]


class StillRunning(RuntimeError):
    """Earlier calls of a function were given up and have not returned, so no other is begun."""


class Unstoppable:
    """The calls of one function."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0

    async def run(self, function: Callable[[], T]) -> T:
        """What the function returns; it goes on, unseen, when this is cancelled.

        Raises:
            StillRunning: :data:`MOST_LEFT` earlier calls go on like that.
            Exception: whatever it raises.
        """
        if self._left >= MOST_LEFT:
            raise StillRunning(
                f"{self._left} earlier calls of it were given up and have not returned; a function in a thread cannot be "
                "stopped. Let it end in time by itself, and start this program again."
            )
        loop, context = asyncio.get_running_loop(), copy_context()
        found: asyncio.Future[T] = loop.create_future()
        returned = given_up = False

        def work() -> None:
            nonlocal returned
            try:
                said, tell = context.run(function), found.set_result
            except StopIteration as error:  # which a future does not take
                said, tell = RuntimeError(f"It raised {error!r}."), found.set_exception
            except BaseException as error:
                said, tell = error, found.set_exception
            with self._lock:
                returned = True
                self._left -= given_up
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_tell, found, tell, said)

        _hand_out(work)
        try:
            return await found
        except asyncio.CancelledError:
            with self._lock:
                given_up = not returned
                self._left += given_up
            raise


def _tell(found: asyncio.Future[Any], tell: Callable[[Any], None], said: object) -> None:
    if not found.done():
        tell(said)


_lock = threading.Lock()
_idle: list[SimpleQueue[_Work]] = []


def _hand_out(work: _Work) -> None:
    with _lock:
        inbox = _idle.pop() if _idle else None
    if inbox is None:
        inbox = SimpleQueue[_Work]()
        threading.Thread(target=_serve, args=(inbox,), name="arbiter-function", daemon=True).start()
    inbox.put(work)


def _serve(inbox: SimpleQueue[_Work]) -> None:
    while True:
        try:
            work = inbox.get(timeout=_IDLE_SECONDS)
        except Empty:
            with _lock:
                if inbox not in _idle:
                    continue  # it is being handed something
                _idle.remove(inbox)
            return
        work()
        del work
        with _lock:
            _idle.append(inbox)


def _forget() -> None:
    """A forked process has none of these threads."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_forget)
