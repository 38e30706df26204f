"""Calls from outside as runs of the board: durable, checked, watched, and stopped when whoever asked goes away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from arbiter.calls import Call
from arbiter.client import Client
from arbiter.result import RunResult
from blackboard.errors import ArbiterError
from blackboard.events import TaskProgressed
from blackboard.taint import Taint
from registry import Version

log = logging.getLogger(__name__)

MOST = 64
"""Capabilities that are listed; the rest is found by searching."""

Report = Callable[[float, float | None, str | None], Awaitable[None]]
"""Is told how far a call is, of how much, and in words."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Args:
        tenant: whose runs its calls are, and whose capabilities it sees.
        sources: where what it says comes from.
    """

    tenant: str
    sources: Taint


class Offered:
    """What is offered to others.

    Args:
        client: of the board; started.
        only: offer no other capabilities, by name.
    """

    def __init__(self, client: Client, only: Sequence[str] | None = None) -> None:
        self.client, self._only = client, None if only is None else frozenset(only)
        self._stopping: set[asyncio.Task[str]] = set()

    async def versions(self, caller: Caller) -> list[Version]:
        """The active capabilities a caller may use and that can be had now, by name."""
        return [each for each in await self.client.registry.offered(caller.tenant) if self._open(each.name)]

    async def find(self, caller: Caller, name: str) -> Version | None:
        """One of them; None when it is not offered."""
        return next((each for each in await self.versions(caller) if each.name == name), None)

    async def search(self, caller: Caller, query: str, limit: int) -> list[Version]:
        """Those that fit a need, best first."""
        found = await self.client.registry.shortlist(query, k=max(limit, MOST), tenant=caller.tenant)
        return [each.version for each in found if self._open(each.name)][:limit]

    def _open(self, name: str) -> bool:
        return self._only is None or name in self._only

    async def carry_out(
        self,
        caller: Caller,
        name: str,
        given: Mapping[str, JsonValue],
        *,
        key: str | None = None,
        report: Report | None = None,
        accepted: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Call a capability and wait for its end. When whoever waits here is cancelled, so is the run, unless it has a key: by
        that it can be found again.

        Args:
            key: the same key with the same call is the same run.
            report: is told of progress.
            accepted: is told the run's id.

        Raises:
            BadInput: there is no such capability for this caller, or its input does not fit.
            Conflict: the key belongs to another call.
            QuotaExceeded: the board or the tenant has too many open runs.
        """
        return await self._carried(caller, Call(name, given), key, report, accepted)

    async def plan(
        self, caller: Caller, request: str, *, key: str | None = None, accepted: Callable[[str], None] | None = None
    ) -> RunResult:
        """Have a request in words planned and wait for its end; otherwise as :meth:`carry_out`.

        Raises:
            BadInput, Conflict, QuotaExceeded: as :meth:`carry_out`.
        """
        return await self._carried(caller, request, key, None, accepted)

    async def _carried(
        self,
        caller: Caller,
        request: Call | str,
        key: str | None,
        report: Report | None,
        accepted: Callable[[str], None] | None,
    ) -> RunResult:
        run_id = await self.client.submit(request, tenant=caller.tenant, idempotency_key=key, sources=caller.sources)
        if accepted is not None:
            accepted(run_id)
        try:
            async with contextlib.aclosing(self.client.stream(run_id=run_id)) as events:
                async for event in events:
                    if report is not None and isinstance(event, TaskProgressed):
                        await _told(report, event.data)
            return await self.client.show(run_id)
        except asyncio.CancelledError:
            if key is not None:
                raise
            # In a task of its own: nothing may be waited for in here, and the run must not go on for nobody.
            stopping = asyncio.create_task(self.client.cancel(run_id, "whoever called went away"))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopped)
            raise

    def _stopped(self, stopping: asyncio.Task[str]) -> None:
        self._stopping.discard(stopping)
        if not stopping.cancelled() and isinstance(error := stopping.exception(), ArbiterError):
            log.error("a run whose caller went away goes on: %s", error)

    async def settled(self) -> None:
        """Wait until the runs whose callers went away are cancelled."""
        await asyncio.gather(*self._stopping, return_exceptions=True)


async def _told(report: Report, data: object) -> None:
    if not isinstance(data, Mapping):
        return
    said: Mapping[str, object] = data  # pyright: ignore[reportUnknownVariableType]
    progress, total, message = said.get("progress"), said.get("total"), said.get("message")
    if isinstance(progress, int | float):
        await report(
            float(progress),
            float(total) if isinstance(total, int | float) else None,
            message if isinstance(message, str) else None,
        )


def trouble(result: RunResult) -> str | None:
    """Why a call did not succeed, in words for whoever called; None when it did."""
    if result.status == "succeeded":
        return None
    error = result.state.error
    task = next(
        (task.completion.error for task in result.state.work if task.completion and task.completion.error), None
    )
    why = task or error
    return f"{result.status}: {why.type}: {why.message}" if why is not None else str(result.status)
