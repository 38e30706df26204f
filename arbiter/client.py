"""What can be done with the runs of a board, by whoever has one open: submit, wait, watch, stop.

:class:`arbiter.Arbiter` adds what a process does itself: opening the board and serving roles.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from arbiter import calls
from arbiter.calls import Call
from arbiter.fold import RunState, current, fold
from arbiter.inquiry import Inquiry
from arbiter.keeping import Keeping, Request
from arbiter.requests import accept
from arbiter.result import RunResult
from blackboard import taint, tracing
from blackboard.blobs import Blob
from blackboard.board import PAUSE_SECONDS
from blackboard.errors import BadInput
from blackboard.events import Event
from blackboard.runs import Where, find
from blackboard.triggers import AgendaTerms
from blackboard.types import Limits, RunSummary
from wrapper.context import current_task

if TYPE_CHECKING:
    from pydantic import JsonValue

    from arbiter.answering import Answered
    from arbiter.stopping import CancelReport
    from arbiter.volunteering import OpenRequest

log = logging.getLogger(__name__)


class Client(Keeping):
    """The operations on runs of an open board, beside those on what is kept there.

    Args:
        tenant: whose runs are submitted, unless a call says otherwise.
        limits: bounds of the runs submitted, unless a call gives its own. Default: ``Limits()``, and for schedules those
            of the process that submits the run.
    """

    _held_place_told = False

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
        plan: Sequence[Mapping[str, JsonValue]] = (),
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
            plan: steps as in ``docs/plans.md``, which are carried out without a model; ``request`` is what they refer to as
                such. Their capabilities are looked up when the run begins.

        Raises:
            BadInput: an empty, oversized or malformed request or source; a call of what there is not, or with an input that does
                not fit; a plan with something wrong in it, or for what has no use for one; a limit of money where this process
                plans with a model whose price it does not know.
            Conflict: the key belongs to a different request.
            ModelUnavailable: the run would have to be planned, and this process, which has the role ``arbiter``, has no model.
            QuotaExceeded: the board or the tenant has as many open runs as it may; the error says when to come again.
            Unconfirmed: with ``durable``, it was accepted, and no replica said in time that it has it.
        """
        if limits is not None and not isinstance(cast(object, limits), Limits):
            raise BadInput("limits", limits, "Write Limits(rounds=…, seconds=…).")
        named = None if sources is None else taint.given(sources)
        if plan:
            from arbiter.given_plans import checked  # with the tools of a planner, which other requests do not need

            plan = checked(plan, request, agenda, limits or self.limits)
        if isinstance(request, Call):
            run_id = await calls.submit(
                self.board, self.registry, request, tenant=tenant or self.tenant, idempotency_key=idempotency_key,
                limits=limits or self.limits, durable=durable, taint=named or (taint.PERSON,),
            )  # fmt: skip
            tracing.submitted(self.board.source, run_id)
            return run_id
        if isinstance(request, Inquiry):
            request, agenda = request.request(), request.terms()
        if not plan and (agenda is None or agenda.planned):
            await self._check_planned(limits or self.limits)
        accepted, key = accept(request, idempotency_key)
        run_id = await self.board.submit(
            accepted, tenant=tenant or self.tenant, idempotency_key=key, limits=limits or self.limits, durable=durable,
            taint=named or taint.of_request(accepted), agenda=agenda, plan=plan,
        )  # fmt: skip
        tracing.submitted(self.board.source, run_id, _traceparent(accepted))
        return run_id

    async def _check_planned(self, limits: Limits) -> None:
        """Refuse a run where it is known that there is no model to plan it, or that the one there is has no price. Here nothing
        is known."""

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
        plan: Sequence[Mapping[str, JsonValue]] = (),
    ) -> RunResult:
        """Submit a request and wait for its end, whatever the end is: see ``result.status``.

        Args:
            sources, agenda, plan: as for :meth:`submit`.
            timeout: seconds to wait; the run itself goes on and can be had later with :meth:`result`.

        Raises:
            TimeoutError: it did not end within ``timeout``.
            BadInput, Conflict: as :meth:`submit`.
        """
        run_id = await self.submit(
            request,
            idempotency_key=idempotency_key,
            tenant=tenant,
            limits=limits,
            sources=sources,
            agenda=agenda,
            plan=plan,
        )
        return await self.result(run_id, timeout=timeout)

    async def rerun(
        self,
        run_id: str,
        *,
        limits: Limits | None = None,
        current_versions: bool = False,
        idempotency_key: str | None = None,
        durable: bool = False,
    ) -> str:
        """Make a new run of one that is over, which takes over what succeeded there: see ``docs/rerun.md``.

        Asked for again, it is the run there is. Where that failed as well, go on from it: ``rerun`` its id.

        Args:
            run_id: a run that is over, however it ended, with a plan or a model that planned it.
            limits: default: those it had.
            current_versions: take over only what the versions returned that are active now. Default: what succeeded stays,
                whichever version it was.
            idempotency_key: gives a rerun of its own, beside that which others asked for.
            durable: return only when a replica has it.

        Returns:
            The id of the new run.

        Raises:
            UnknownRecord: no such run, or it was removed.
            BadInput: it is not over; it is a call or an inquiry; or what :meth:`submit` says of limits.
            Conflict: the key belongs to another rerun or request.
            ModelUnavailable, QuotaExceeded, Unconfirmed: as :meth:`submit`.
        """
        from arbiter import rerunning

        of = await rerunning.predecessor(self.board, run_id)
        limits = limits or rerunning.limits_of(of)
        if not of.plan:
            await self._check_planned(limits)
        made = await rerunning.submit(
            self.board, of, limits=limits, current_versions=current_versions, idempotency_key=idempotency_key,
            durable=durable,
        )  # fmt: skip
        tracing.submitted(self.board.source, made)
        return made

    async def ask(
        self,
        request: OpenRequest,
        *,
        name: str = "asked",
        run_id: str | None = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
        sources: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Answered:
        """Ask openly for something, naming nobody: sources bid, the best bid is awarded the work, and its result comes back.

        Args:
            name: of its topics, ``requests.NAME`` and so on; one that was not used in the run before.
            run_id: a run with an agenda that goes on, to ask there. Default: a run of its own, to which ``tenant`` and
                ``limits`` apply.
            idempotency_key: the same once more, with the same request, is the request that is there.
            sources: as for :meth:`submit`.
            timeout: seconds to wait; the request stays all the same.

        Raises:
            BadInput: a malformed request or name, or a run without an agenda.
            Stale: somebody has asked under this name in the run before.
            TimeoutError: it came to nothing within ``timeout``.
            UnknownRecord: no such run.
            ScriptRefused: ``CLOSED``, the run is over.
            Conflict: the key belongs to another request.
        """
        from arbiter import answering

        run_id = await answering.begin(self, request, name, run_id, idempotency_key, tenant, limits, sources)
        await self._tell_of_held_place(run_id)
        return await answering.wait(self, run_id, name, timeout)

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
                await self._tell_of_held_place(run_id)
                async with contextlib.aclosing(self.board.watch(run_id, volatile=False)) as events:
                    async for event in events:
                        state.apply(event)
        except TimeoutError:
            nobody = ", and no process has begun it (does one serve this board?)" if state.status == "queued" else ""
            raise TimeoutError(
                f"Run {run_id} is still {state.status} after {timeout:g} s{nobody}; it goes on."
            ) from None
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
        await self._tell_of_held_place(run_id)
        async with contextlib.aclosing(self.board.watch(run_id)) as events:
            async for event in events:
                yield event

    async def _tell_of_held_place(self, run_id: str) -> None:
        """Warn, once, when a task of this board waits for a run on it: it keeps the place that the run may need."""
        task = current_task()
        if task is None or self._held_place_told or not await self.board.standing(task.run_id, [task.task_id]):
            return
        over = (await self.board.summary(run_id)).ended_at is not None
        if over or self._held_place_told:  # another task may have said it meanwhile
            return
        self._held_place_told = True
        log.warning(
            "Task %s waits for run %s and keeps its place among the attempts at a time of its process. When all places wait "
            'so, none of what they wait for begins before their deadlines: give more by concurrency={"wrapper": N}, or let '
            "a plan do both.",
            task.task_id,
            run_id,
        )

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

    async def show(self, run_id: str) -> RunResult:
        """A run as it is now, ended or not.

        Raises:
            UnknownRecord: no such run.
        """
        await self.board.summary(run_id)
        return RunResult(await self._with_data(await current(self.board, run_id)))

    async def _with_data(self, state: RunState) -> RunState:
        """The state with what a call returned, wherever it is stored."""
        for task in state.work:
            if state.call and task.completion and isinstance(task.completion.data, Blob):
                data = await self.board.load(state.run_id, task.completion.data)
                task.completion = task.completion.model_copy(update={"data": data})
        return state


def _traceparent(request: JsonValue) -> str | None:
    """The trace that an event says it comes from, as the CloudEvents extension for distributed tracing has it."""
    said = request.get("traceparent") if isinstance(request, dict) and "specversion" in request else None
    return said if isinstance(said, str) else None
