"""Who keeps children ready, and for whom: one zygote at a time, replaced when it dies or has served long enough."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine

from blackboard.errors import IsolationUnavailable
from wrapper.isolation.children import Child, Link, LinkLost

log = logging.getLogger("arbiter.isolation")

_REFILL_SECONDS = 0.005


class Parking:
    """Parked children of the current zygote. For one event loop.

    Args:
        begin: starts what children come from. Raises IsolationUnavailable.
        size: children kept ready.
        recycle_runs, recycle_seconds: a zygote is replaced after that many runs or seconds, whichever comes first.
    """

    def __init__(
        self,
        *,
        begin: Callable[[], Awaitable[Link]],
        size: int,
        recycle_runs: int,
        recycle_seconds: float,
    ) -> None:
        self._begin, self._size = begin, size
        self._recycle_runs, self._recycle_seconds = recycle_runs, recycle_seconds
        self._link: Link | None = None
        self._starting = asyncio.Lock()
        self._lot: deque[Child] = deque()
        self._waiting: deque[asyncio.Future[Child]] = deque()
        self._forking = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._replacing = False
        self._closed = False

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the current zygote, if one runs."""
        return self._link.pid if self._link is not None and self._link.alive else None

    @property
    def landlock(self) -> int:
        """Version of Landlock that children of the current zygote are confined by; 0 for none."""
        return self._link.landlock if self._link is not None else 0

    @property
    def ungrouped(self) -> str | None:
        """Why children of the current zygote are in no control groups; empty when they are, None while there is none."""
        return self._link.ungrouped if self._link is not None else None

    @property
    def parked(self) -> int:
        """Children that are ready now."""
        return len(self._lot)

    async def start(self) -> None:
        """Have a warm zygote and begin to park. Raises IsolationUnavailable."""
        await self._current()
        self._fill()

    async def take(self) -> Child:
        """A ready child, for one run; give it back with :meth:`bury`.

        Raises:
            IsolationUnavailable: there is none and none can be made.
        """
        for _ in range(3):
            link = await self._current()
            self._consider_replacing(link)
            child = self._parked()
            if child is None:
                future: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
                self._fill()
                try:
                    child = await future
                except LinkLost:
                    continue
                except asyncio.CancelledError:
                    if future.done() and not future.cancelled() and future.exception() is None:
                        self._discard(future.result())
                    raise
            child.link.runs += 1
            child.link.active += 1
            self._fill_soon()
            return child
        raise IsolationUnavailable("The zygote ended three times in a row before it gave a child.")

    def bury(self, child: Child) -> asyncio.Task[None]:
        """See a taken child off, in the background."""
        return self._background(self._bury(child))

    async def close(self) -> None:
        """End the zygote and every child, running ones included, and wait until nothing is left."""
        self._closed = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(IsolationUnavailable("This isolation was closed."))
        self._waiting.clear()
        while self._lot:
            self._discard(self._lot.popleft())
        if self._link is not None:
            await self._link.stop()
            self._link = None
        while self._tasks:
            await asyncio.wait(self._tasks)

    def abandon(self) -> None:
        """End the zygote after the event loop it served is gone."""
        if self._link is not None:
            self._link.abandon()
            self._link = None

    def _parked(self) -> Child | None:
        while self._lot:
            child = self._lot.popleft()
            if child.link is self._link and child.link.alive and child.alive():
                return child
            self._discard(child)
        return None

    async def _current(self) -> Link:
        if self._closed:
            raise IsolationUnavailable("This isolation was closed.")
        if self._link is not None and self._link.alive:
            return self._link
        async with self._starting:
            if self._link is None or not self._link.alive:
                if self._link is not None:
                    log.warning("zygote %s ended; starting another", self._link.pid)
                    await self._link.stop()
                    self._link = None
                link = await self._begin()
                if self._closed:
                    await link.stop()
                    raise IsolationUnavailable("This isolation was closed.")
                self._link = link
        return self._link

    def _consider_replacing(self, link: Link) -> None:
        due = link.runs >= self._recycle_runs or time.monotonic() - link.started_at >= self._recycle_seconds
        if due and not self._replacing:
            self._replacing = True
            self._background(self._replace(link))

    async def _replace(self, old: Link) -> None:
        """Warm a successor, then retire the old zygote once its runs have ended."""
        try:
            successor = await self._begin()
        except IsolationUnavailable as error:
            log.warning("zygote %s goes on, its successor did not start: %s", old.pid, error)
            old.runs, old.started_at = 0, time.monotonic()
            return
        finally:
            self._replacing = False
        if self._closed or self._link is not old:
            await successor.stop()
            return
        self._link = successor
        while self._lot:
            self._discard(self._lot.popleft())
        self._fill()
        if old.active == 0:
            await old.stop()

    def _fill_soon(self) -> None:
        """Fill a little later: a fork costs milliseconds of processor that the run just begun can use better."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_REFILL_SECONDS, self._fill)

    def _fill(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        link = self._link
        if self._closed or link is None or not link.alive:
            return
        while len(self._lot) + self._forking < self._size + len(self._waiting):
            self._forking += 1
            self._background(self._park(link))

    async def _park(self, link: Link) -> None:
        child: Child | None = None
        try:
            child = await link.fork()
        except (LinkLost, IsolationUnavailable) as error:
            if isinstance(error, IsolationUnavailable):
                log.warning("%s", error)
            while self._waiting:
                future = self._waiting.popleft()
                if not future.done():
                    future.set_exception(error)
                    break
        finally:
            self._forking -= 1
        if self._closed or link is not self._link:  # the zygote was replaced meanwhile: its successor owes the place
            if child is not None:
                self._discard(child)
            self._fill()
            return
        if child is None:
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(child)
                return
        self._lot.append(child)

    def _discard(self, child: Child) -> None:
        child.kill()
        self._background(child.link.bury(child))

    async def _bury(self, child: Child) -> None:
        link = child.link
        child.kill()
        try:
            await link.bury(child)
        finally:
            link.active -= 1
        if link is not self._link and link.active == 0:
            await link.stop()

    def _background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work of the isolation failed", exc_info=error)
