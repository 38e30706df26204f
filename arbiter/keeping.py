"""What a board keeps beside runs, for whoever has one open: quotas, budgets, schedules, entries, letters, records of people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import JsonValue

from arbiter.agendas import RunAgenda
from arbiter.calls import Call
from arbiter.inquiry import Inquiry
from blackboard import compaction, erasure, promotion
from blackboard.audit import Audit
from blackboard.board import Board
from blackboard.budgets import Budget, Budgets, LevelReport
from blackboard.entries import Entries, Written
from blackboard.entry import owner_of_entry, scope_of
from blackboard.errors import BadInput
from blackboard.permits import Permits
from blackboard.quotas import Quotas
from blackboard.schedule import CatchUp, Overlap, Scheduled
from blackboard.schedules import Schedules
from blackboard.standing import Standings
from blackboard.strategies import Rate
from blackboard.subscriptions import LEASE_SECONDS, Begin, Subscriber, Subscriptions
from blackboard.tokens import Tokens
from blackboard.types import Limits
from blackboard.webhooks import Webhooks
from registry import Registry, schema

if TYPE_CHECKING:
    from arbiter.approving import Approvals
    from arbiter.callbacks import Callbacks
    from arbiter.dead_letters import DeadLetters
    from arbiter.overview import Capabilities
    from arbiter.peers import Peers

Request = str | Mapping[str, JsonValue] | Call | Inquiry
"""What can be submitted: words, a JSON object or event, a call of one capability, an inquiry."""


class Keeping(ABC):
    """The operations on what an open board keeps beside runs.

    Args:
        tenant: whose entries and schedules are meant, unless a call says otherwise.
        limits: of runs that a schedule submits, unless it gives its own; None leaves them to the process that submits.
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
        plan: Sequence[Mapping[str, JsonValue]] = (),
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
            plan: steps that its runs carry out without a model, as for :meth:`submit`; nothing is filled in there.

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
            sources=sources, plan=plan,
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

    async def compact(
        self, scope: str | None = None, *, before: str | None = None, older_than: float = compaction.OLDER_SECONDS
    ) -> compaction.Compaction:
        """Take out of a scope's log what counts no more; one summary stays. See :func:`blackboard.compaction.compact`.

        Args:
            scope: default: this object's tenant's.
        """
        return await compaction.compact(
            self.board, scope or f"tenant:{self.tenant}", before=before, older_than=older_than
        )

    @property
    def standing(self) -> Standings:
        """The standing watches of the board, to add, list and remove; see ``docs/agenda.md``.

        Raises:
            ArbiterError: not started.
        """
        return Standings(self.board)

    def subscribe(
        self,
        name: str,
        *,
        kinds: Sequence[str] = ("*",),
        tenant: str | None = None,
        after: Begin = "now",
        lease_seconds: float = LEASE_SECONDS,
    ) -> Subscriber:
        """A consumer of a durable subscription to the events of the board. See :meth:`blackboard.board.Board.subscribe`."""
        return self.board.subscribe(name, kinds=kinds, tenant=tenant, after=after, lease_seconds=lease_seconds)

    @property
    def subscriptions(self) -> Subscriptions:
        """The durable subscriptions of the board, to add, list and remove; see ``docs/subscriptions.md``.

        Raises:
            ArbiterError: not started.
        """
        return Subscriptions(self.board)

    @property
    def webhooks(self) -> Webhooks:
        """The outgoing webhooks of the board, to set, list and remove; see ``docs/subscriptions.md``.

        Raises:
            ArbiterError: not started.
        """
        return Webhooks(self.board)

    @property
    def dead_letters(self) -> DeadLetters:
        """The work that was given up, to list, look at, put back and discard.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.dead_letters import DeadLetters

        return DeadLetters(self.board, self.registry)

    @property
    def approvals(self) -> Approvals:
        """The tasks that wait for a person, to list, approve, refuse and answer.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.approving import Approvals

        return Approvals(self.board, self.registry)

    @property
    def callbacks(self) -> Callbacks:
        """The attempts that are ended from outside, by whoever holds their token: to complete, to fail, to keep alive.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.callbacks import Callbacks

        return Callbacks(self.board, self.registry)

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
