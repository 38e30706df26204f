"""What can be done with a board, by whoever has one open: submit, wait, watch, stop, schedule, account.

:class:`arbiter.Arbiter` adds what a process does itself: opening the board and serving roles.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import JsonValue

from arbiter import calls
from arbiter.agendas import RunAgenda
from arbiter.calls import Call
from arbiter.fold import RunState, fold
from arbiter.inquiry import Inquiry
from arbiter.requests import accept
from arbiter.result import RunResult
from blackboard import erasure, promotion, taint
from blackboard.audit import Audit
from blackboard.blobs import Blob
from blackboard.board import PAUSE_SECONDS, Board
from blackboard.budgets import Budget, Budgets, LevelReport
from blackboard.entries import Entries, Written
from blackboard.entry import owner_of_entry, scope_of
from blackboard.errors import BadInput
from blackboard.events import Event
from blackboard.permits import Permits
from blackboard.quotas import Quotas
from blackboard.runs import Where, find
from blackboard.schedule import CatchUp, Overlap, Scheduled
from blackboard.schedules import Schedules
from blackboard.strategies import Rate
from blackboard.tokens import Tokens
from blackboard.triggers import AgendaTerms
from blackboard.types import Limits, RunSummary
from registry import Registry, schema

if TYPE_CHECKING:
    from arbiter.dead_letters import DeadLetters
    from arbiter.overview import Capabilities
    from arbiter.peers import Peers
    from arbiter.stopping import CancelReport

Request = str | Mapping[str, JsonValue] | Call | Inquiry


class Client(ABC):
    """The operations on an open board.

    Args:
        tenant: whose runs are submitted, unless a call says otherwise.
        limits: bounds of the runs submitted, unless a call gives its own. Default: ``Limits()``, and for schedules those
            of the process that submits the run.
    """

    def __init__(self, tenant: str, limits: Limits | None) -> None:
        self.tenant = tenant
        self.limits = limits or Limits()
        self._own_limits = limits
        self._strategies: Mapping[str, Rate] = {}

    @property
    @abstractmethod
    def board(self) -> Board:
        """The open board."""

    @property
    @abstractmethod
    def registry(self) -> Registry:
        """The capabilities of the board."""

    async def submit(
        self,
        request: Request,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
        durable: bool = False,
        sources: Sequence[str] | None = None,
        agenda: AgendaTerms | None = None,
    ) -> str:
        """Accept a request and return the id of its run; it is on the board when this returns.

        Args:
            request: text, a JSON object, a CloudEvents 1.0 event, whose identity is then the idempotency key, a
                :class:`~arbiter.calls.Call`, which is carried out without a model, or an
                :class:`~arbiter.inquiry.Inquiry`, which is answered by whoever volunteers.
            idempotency_key: the same key with the same request is the same run.
            durable: return only when a replica has it. Give a key or an event, so that the call can be repeated.
            sources: where the request comes from, such as ``("mail:inbox",)``; see ``docs/taint.md``. Default: an event from
                its ``source``, anything else from ``person``.
            agenda: lets what is written on the run's board trigger capabilities, on these terms. An :class:`Inquiry` has its own.

        Raises:
            BadInput: an empty, oversized or malformed request or source; a call of what there is not, or with an input that does
                not fit.
            Conflict: the key belongs to a different request.
            QuotaExceeded: the board or the tenant has as many open runs as it may; the error says when to come again.
            Unconfirmed: with ``durable``, it was accepted, and no replica said in time that it has it.
        """
        named = None if sources is None else taint.given(sources)
        if isinstance(request, Call):
            return await calls.submit(
                self.board, self.registry, request, tenant=tenant or self.tenant, idempotency_key=idempotency_key,
                limits=limits or self.limits, durable=durable, taint=named or (taint.PERSON,),
            )  # fmt: skip
        if isinstance(request, Inquiry):
            request, agenda = request.request(), request.terms()
        accepted, key = accept(request, idempotency_key)
        return await self.board.submit(
            accepted, tenant=tenant or self.tenant, idempotency_key=key, limits=limits or self.limits, durable=durable,
            taint=named or taint.of_request(accepted), agenda=agenda,
        )  # fmt: skip

    async def run(
        self,
        request: Request,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
        sources: Sequence[str] | None = None,
        agenda: AgendaTerms | None = None,
    ) -> RunResult:
        """Submit a request and wait for its end, whatever the end is: see ``result.status``.

        Args:
            sources, agenda: as for :meth:`submit`.
            timeout: seconds to wait; the run itself goes on and can be had later with :meth:`result`.

        Raises:
            TimeoutError: it did not end within ``timeout``.
            BadInput, Conflict: as :meth:`submit`.
        """
        run_id = await self.submit(
            request, idempotency_key=idempotency_key, tenant=tenant, limits=limits, sources=sources, agenda=agenda
        )
        return await self.result(run_id, timeout=timeout)

    async def result(self, run_id: str, *, timeout: float | None = None) -> RunResult:
        """Wait for a run's end.

        Raises:
            BlobError: what a call returned is stored apart and cannot be had; the run has ended all the same.
            UnknownRecord: no such run.
            TimeoutError: it did not end within ``timeout`` seconds.
        """
        state = RunState(run_id)
        try:
            async with asyncio.timeout(timeout):
                async with contextlib.aclosing(self.board.watch(run_id, volatile=False)) as events:
                    async for event in events:
                        state.apply(event)
        except TimeoutError:
            raise TimeoutError(f"Run {run_id} is still {state.status} after {timeout:g} s; it goes on.") from None
        return RunResult(await self._with_data(state))

    async def stream(
        self,
        request: Request | None = None,
        *,
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The typed events of a run as they happen, from its acceptance to its end.

        Args:
            request: submitted first; or give ``run_id`` to follow a run that exists.
        """
        if (request is None) == (run_id is None):
            raise BadInput("request", request, "Give either a request or a run_id.")
        if run_id is None:
            assert request is not None
            run_id = await self.submit(request, idempotency_key=idempotency_key, tenant=tenant, limits=limits)
        async with contextlib.aclosing(self.board.watch(run_id)) as events:
            async for event in events:
                yield event

    async def cancel(self, run_id: str, reason: str = "cancelled by request") -> str:
        """Stop a run; durable when this returns. See :meth:`blackboard.board.Board.cancel_run`."""
        return await self.board.cancel_run(run_id, reason)

    async def cancel_task(self, task_id: str, reason: str = "cancelled by request") -> str:
        """Stop one task of a run that goes on. See :meth:`blackboard.board.Board.cancel_task`."""
        return await self.board.cancel_task(task_id, reason)

    async def cancel_where(self, where: str | Where, reason: str = "cancelled by request") -> dict[str, str]:
        """Stop every run that is meant and not over: ``tenant=acme since=1h``; an empty text means all.

        Returns:
            Run id to its state afterwards.

        Raises:
            BadInput: a term that cannot be understood.
        """
        from arbiter.stopping import each

        meant = Where.parse(where) if isinstance(where, str) else where
        return {run: state async for run, state in each(self.board, meant, lambda r: self.board.cancel_run(r, reason))}

    async def cancel_report(self, run_id: str) -> CancelReport:
        """What became of each task of a run that was cancelled: finished, stopped, unknown, or still stopping.

        Raises:
            UnknownRecord: no such run.
        """
        from arbiter.stopping import report

        await self.board.summary(run_id)
        return report(fold(run_id, await self.board.history(run_id)))

    async def pause(self, run_id: str, reason: str = "paused by request", *, seconds: float = PAUSE_SECONDS) -> str:
        """Let a run rest; its deadlines move on with it. See :meth:`blackboard.board.Board.pause_run`."""
        return await self.board.pause_run(run_id, reason, seconds=seconds)

    async def resume(self, run_id: str) -> str:
        """Let a paused run go on. See :meth:`blackboard.board.Board.resume_run`."""
        return await self.board.resume_run(run_id)

    @property
    def quotas(self) -> Quotas:
        """The quotas of the board, to set, remove and report.

        Raises:
            ArbiterError: not started.
        """
        return Quotas(self.board)

    async def set_budget(self, budget: Budget) -> None:
        """Give a level of the board a budget, or another one; what the level has spent counts. Holds for every process.

        Raises:
            BadInput: no unit of it has a bound.
        """
        await Budgets(self.board).set(budget)

    async def remove_budget(self, level: str) -> None:
        """Take a level's budget away."""
        await Budgets(self.board).remove(level)

    async def budgets(self, *levels: str) -> list[LevelReport]:
        """What the levels named may spend, have spent and hold; without names, all levels that were given a budget."""
        return await Budgets(self.board).report(*levels)

    async def runs(self, limit: int = 50, *, where: str | Where = "") -> list[RunSummary]:
        """The latest runs, newest first; a list that shows itself as a table in notebooks.

        Args:
            where: which, as text (``status=failed tenant=acme since=1h text~invoice``) or as a :class:`Where`. For more
                than a page use :func:`blackboard.runs.find`.

        Raises:
            BadInput: a term that cannot be understood.
        """
        from arbiter.display import Runs

        meant = Where.parse(where) if isinstance(where, str) else where
        return Runs((await find(self.board, meant, limit=limit)).runs)

    async def capabilities(self, tenant: str | None = None, *, every: bool = False) -> Capabilities:
        """What the board can do, with versions, health, success, time and tokens; a list that notebooks show as a table.

        Args:
            tenant: only what this tenant may use. Default: that of this object.
            every: all versions of every capability, and not only the active ones.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.overview import overview

        return await overview(self.registry, tenant or self.tenant, every=every)

    async def schedule(
        self,
        name: str,
        request: Request,
        *,
        at: str | datetime | None = None,
        rate: str | timedelta | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        window: float | timedelta = 0.0,
        catch_up: CatchUp | None = None,
        overlap: Overlap = "skip",
        delete_after_completion: bool = False,
        enabled: bool | None = None,
        replace: bool = False,
        tenant: str | None = None,
        limits: Limits | None = None,
        sources: Sequence[str] | None = None,
    ) -> Scheduled:
        """Have a request submitted at its times: exactly one run for each occurrence, by any process with a role.

        Adding the same schedule again changes nothing. Give exactly one of ``at``, ``rate`` and ``cron``.

        Args:
            name: identifies the schedule on the board.
            request: as for :meth:`submit`; ``{{occurrence}}`` (UTC), ``{{local}}`` and ``{{schedule}}`` in its texts are
                filled in. A CloudEvents event gets its ``id`` and ``time``.
            at: once; a time without an offset is meant in ``timezone``.
            rate: every so often, ``"15 minutes"`` or a timedelta; counts from ``start``, else from now.
            cron: five fields, or ``@hourly`` to ``@yearly``, on the wall clock of ``timezone``.
            timezone: IANA name.
            start, end: no occurrence before or after; both inclusive.
            window: seconds within which each occurrence is delayed, by a part of its own that is always the same.
            catch_up: occurrences missed while nothing ran: ``none`` skips them, ``last`` makes up for the latest, ``all``
                for at most 100. Default: ``last`` for ``at``, else ``none``.
            overlap: ``skip`` an occurrence while the run before goes on, or ``allow`` it.
            delete_after_completion: remove the schedule when it will not occur again.
            enabled: False stores it at rest. Default: enabled or, replacing another, as that was.
            replace: take the place of a different schedule of this name.
            tenant, limits: of the runs. Default: those of this object.
            sources: where the request comes from, as for :meth:`submit`.

        Raises:
            BadInput: something is malformed, or the schedule would never occur.
            Conflict: a different schedule has this name.
        """
        from arbiter.schedules import schedule_of

        if isinstance(request, Call | Inquiry):
            raise BadInput(
                "request",
                request,
                "A call or an inquiry cannot be scheduled; schedule a request that asks for it in words.",
            )
        wanted = schedule_of(
            name, request, at=at, rate=rate, cron=cron, timezone=timezone, start=start, end=end, window=window,
            catch_up=catch_up, overlap=overlap, delete_after_completion=delete_after_completion,
            tenant=tenant or self.tenant, limits=limits or self._own_limits,
            sources=sources,
        )  # fmt: skip
        return await self.schedules.add(wanted, enabled=enabled, replace=replace)

    @property
    def schedules(self) -> Schedules:
        """The schedules of the board, to list, get, remove, enable, disable and run now.

        Raises:
            ArbiterError: not started.
        """
        return Schedules(self.board)

    @property
    def entries(self) -> Entries:
        """What is written on the board for others to find, to post, query, amend, retract, take and watch: that of this
        object's tenant. ``entries.within("run:ID")`` is that of a run; see :class:`blackboard.entries.Entries`.

        Raises:
            ArbiterError: not started.
        """
        return Entries(self.board, f"tenant:{self.tenant}", checker=schema, meaning=self.registry.meaning)

    def agenda(self, run_id: str) -> RunAgenda:
        """The agenda of a run, to look at, ask and overrule; see :class:`arbiter.agendas.RunAgenda`.

        Raises:
            ArbiterError: not started.
        """
        return RunAgenda(self.board, self.registry, run_id, self._strategies)

    async def promote(self, entry_id: str, to: str, *, topic: str | None = None) -> Written:
        """Keep what an entry says in a scope that lasts longer. See :func:`blackboard.promotion.promote`."""
        return await promotion.promote(
            self.entries.within(scope_of(owner_of_entry(entry_id))), entry_id, to, topic=topic
        )

    async def erase(
        self,
        *,
        author: str | None = None,
        run: str | None = None,
        tenant: str | None = None,
        scope: str | None = None,
        reason: str = "",
    ) -> erasure.Erased:
        """Take what somebody wrote, or what a run or a tenant did, off the board. See :func:`blackboard.erasure.erase`."""
        return await erasure.erase(self.board, author=author, run=run, tenant=tenant, scope=scope, reason=reason)

    @property
    def dead_letters(self) -> DeadLetters:
        """The work that was given up, to list, look at, put back and discard.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.dead_letters import DeadLetters

        return DeadLetters(self.board, self.registry)

    @property
    def permits(self) -> Permits:
        """The requests that would carry a secret and wait for a person, to list, approve and refuse.

        Raises:
            ArbiterError: not started.
        """
        return Permits(self.board)

    @property
    def peers(self) -> Peers:
        """The peers of the board, to list.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.peers import Peers

        return Peers(self.board, self.registry)

    @property
    def audit(self) -> Audit:
        """Who did what to the board, and what code used of what it was granted, to list and follow.

        Raises:
            ArbiterError: not started.
        """
        return Audit(self.board)

    @property
    def tokens(self) -> Tokens:
        """The tokens of the HTTP API, to create, list and revoke.

        Raises:
            ArbiterError: not started.
        """
        return Tokens(self.board.catalog)

    async def show(self, run_id: str) -> RunResult:
        """A run as it is now, ended or not.

        Raises:
            UnknownRecord: no such run.
        """
        await self.board.summary(run_id)
        return RunResult(await self._with_data(fold(run_id, await self.board.history(run_id))))

    async def _with_data(self, state: RunState) -> RunState:
        """The state with what a call returned, wherever it is stored."""
        for task in state.work:
            if state.call and task.completion and isinstance(task.completion.data, Blob):
                data = await self.board.load(state.run_id, task.completion.data)
                task.completion = task.completion.model_copy(update={"data": data})
        return state
