"""The SDK: one object that opens a board, serves the roles it was given and runs requests.

    async with Arbiter(model="bedrock:…", capabilities=[price]) as a:
        result = await a.run("What do 12 boxes cost?")

The same object is the daemon's core (``arbiter serve``) and a notebook's; only who waits for what differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import JsonValue

from arbiter import calls
from arbiter.calls import Call
from arbiter.fold import RunState, fold
from arbiter.requests import accept
from arbiter.result import RunResult
from blackboard.blobs import Blob
from blackboard.board import LEASE_SECONDS, PAUSE_SECONDS, STEP_LANE, Board
from blackboard.budgets import Budget, Budgets, LevelReport
from blackboard.confirm import Confirm
from blackboard.ending import end
from blackboard.errors import ArbiterError, BadInput, IsolationUnavailable
from blackboard.events import Event
from blackboard.heartbeat import Heartbeat
from blackboard.quotas import Quotas
from blackboard.retention import RETENTION, Retention, Retirer
from blackboard.runs import Where, find
from blackboard.schedule import CatchUp, Overlap, Scheduled
from blackboard.schedules import Schedules
from blackboard.types import Limits, RunSummary
from blackboard.worker import Handler, Sweeper, Worker
from registry import Capability, Registry, Signer

if TYPE_CHECKING:
    from strands.models import Model

    from arbiter.dead_letters import DeadLetters
    from arbiter.stopping import CancelReport
    from fabricator import FabricationSettings
    from wrapper.broker import Outside
    from wrapper.isolation import Isolation
    from wrapper.spending import Price, Prices, Spending

log = logging.getLogger(__name__)

Role = Literal["arbiter", "fabricator", "wrapper"]
ROLES: tuple[Role, ...] = ("arbiter", "fabricator", "wrapper")
CONCURRENCY: Mapping[Role, int] = {"arbiter": 16, "fabricator": 2, "wrapper": 4}
"""How many attempts a process works on at a time, by role. Planning waits for models; running code needs processors."""
GRACE_SECONDS = 10.0
GENERIC_LANE = "generic"

Request = str | Mapping[str, JsonValue] | Call


class Arbiter:
    """Plans requests against a registry of capabilities, has missing ones fabricated, runs them, and answers.

    Args:
        url: the board: ``redis://``, ``rediss://``, ``unix://`` or ``memory://``. None takes ``ARBITER_REDIS_URL`` and,
            without it, the supervised local server of ``data_dir``.
        model: a model string (``bedrock:…``, ``anthropic:…``, ``openai:…``, ``ollama:…``, ``scripted:FILE``,
            ``recorded:FILE``) or a Strands model; plans, fabricates, and is what generated code is brokered. Default:
            ``ARBITER_MODEL``, then Bedrock. Needed only where a role uses it.
        data_dir: folder of the local server. Default ``~/.arbiter``.
        namespace, board: name the board.
        capabilities: functions and agents of this program, made with :func:`arbiter.capability`.
        roles: what this process does beside submitting: any of ``arbiter``, ``fabricator``, ``wrapper``; empty for a pure
            client. Capabilities given here are served in any case.
        limits: bounds of runs submitted here, unless a call gives its own.
        tenant: whose runs they are.
        fabricator_model: another model for writing capabilities. Default: ``model``.
        examiner_model: another model for specifying them and setting their exams. Default: ``fabricator_model``.
        fabrication: how far a fabrication goes. Default: ``FabricationSettings()``.
        budgets: set on the board when this starts; what is there already stays. See :meth:`set_budget`.
        prices: the price table for budgets of money: a ``Prices``, a mapping, or the path of a file. Default: the file that
            ``ARBITER_PRICES`` names.
        lanes: lanes of generated code this process serves in the role ``wrapper``.
        concurrency: attempts at a time by role; the rest keep :data:`CONCURRENCY`.
        lease_seconds: how long a process may be silent before its work is given to another.
        grace_seconds: how long :meth:`close` lets running work finish.
        signing_key: the key that signs what is fabricated or registered here: PEM, base64 of its 32 raw bytes, or a path.
            Default: ``ARBITER_SIGNING_KEY``, then a key in ``data_dir`` that is made when it is first needed.
        isolation: what generated code runs in: ``zygote-ns``, ``zygote-lsm`` or ``process``, or an object with the methods
            of ``wrapper.isolation.Isolation``. Default: what ``ARBITER_ISOLATION`` names, then the strongest of the first
            two that proves itself; without one, generated code is refused. ``process`` is no sandbox.
        secrets: values for the handles that grants name: a mapping, a callable, or the path of a JSON file only this user can
            read. Default: ``ARBITER_SECRET_<HANDLE>``, or the file that ``ARBITER_SECRETS_FILE`` names.
        private_addresses: addresses or networks (``10.0.0.7``, ``10.1.0.0/16``) that granted requests may go to although they
            are not public.
        retention: which finished runs are kept, while a process with a role is there to remove the others; None keeps all.
        durable: True, or a ``Confirm``: acceptances, decisions, ends and cancellations made by this process wait until
            replicas have them; see ``docs/operations.md``.

    Raises:
        BadInput: an unknown role or isolation, or something that is not a capability.
    """

    def __init__(
        self,
        url: str | None = None,
        model: str | Model | None = None,
        *,
        data_dir: Path | str | None = None,
        namespace: str = "arbiter",
        board: str = "main",
        capabilities: Sequence[Capability[..., Any]] = (),
        roles: Sequence[Role] = ROLES,
        limits: Limits | None = None,
        tenant: str = "default",
        fabricator_model: str | Model | None = None,
        examiner_model: str | Model | None = None,
        fabrication: FabricationSettings | None = None,
        budgets: Sequence[Budget] = (),
        prices: Prices | Mapping[str, Price] | str | Path | None = None,
        lanes: Sequence[str] = (GENERIC_LANE,),
        concurrency: Mapping[Role, int] | None = None,
        lease_seconds: float = LEASE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        isolation: str | Isolation | None = None,
        retention: Retention | None = RETENTION,
        durable: bool | Confirm = False,
        signing_key: str | Path | None = None,
        secrets: Callable[[str], str | None] | Mapping[str, str] | Path | str | None = None,
        private_addresses: Sequence[str] = (),
    ) -> None:
        for role in roles:
            if role not in ROLES:
                raise BadInput("roles", role, f"Use any of {', '.join(ROLES)}.")
        for one in capabilities:
            _checked(one)
        if isinstance(isolation, str) or os.environ.get("ARBITER_ISOLATION"):
            from wrapper.isolation.detection import wanted

            wanted(isolation if isinstance(isolation, str) else None)
        self._options: dict[str, Any] = {
            "url": url, "model": model, "data_dir": data_dir, "namespace": namespace, "board": board,
            "capabilities": capabilities, "roles": roles, "limits": limits, "tenant": tenant,
            "fabricator_model": fabricator_model, "examiner_model": examiner_model, "fabrication": fabrication,
            "budgets": budgets, "prices": prices,
            "lanes": lanes, "concurrency": concurrency, "lease_seconds": lease_seconds, "grace_seconds": grace_seconds,
            "retention": retention, "durable": durable, "signing_key": signing_key, "isolation": isolation,
            "secrets": secrets, "private_addresses": private_addresses,
        }  # fmt: skip
        self.roles = tuple(dict.fromkeys(roles))
        self.limits = limits or Limits()
        self.tenant = tenant
        self._lanes = tuple(lanes)
        self._concurrency = {**CONCURRENCY, **(concurrency or {})}
        self._grace_seconds = grace_seconds
        self._models = {"model": model, "fabricator_model": fabricator_model, "examiner_model": examiner_model}
        self._resolved: dict[str, Model] = {}
        self._functions: dict[str, Capability[..., Any]] = {}
        self._board: Board | None = None
        self._registry: Registry | None = None
        self._heartbeat: Heartbeat | None = None
        self._spending: Spending | None = None
        self._isolation: Isolation | None = None
        self._isolation_lock = asyncio.Lock()
        self._workers: list[Worker] = []
        self._tasks: list[asyncio.Task[None]] = []

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Open the board and begin to serve the roles.

        Raises:
            EngineUnavailable: no usable Redis.
            BadInput, MissingExtra, ModelUnavailable: the model cannot be had; the message says what to do.
        """
        if self._board is not None:
            return self
        if {"arbiter", "fabricator"} & set(self.roles):
            await asyncio.to_thread(self._model)
            await asyncio.to_thread(self._model, "fabricator_model")
            await asyncio.to_thread(self._model, "examiner_model")
        options = self._options
        durable: bool | Confirm = options["durable"]
        self._board = board = await Board.open(
            options["url"], data_dir=options["data_dir"], namespace=options["namespace"], board=options["board"],
            lease_seconds=options["lease_seconds"], confirm=Confirm() if durable is True else durable or None,
        )  # fmt: skip
        try:
            self._registry = Registry(board.catalog, board.outcomes, signer=self._signer)
            self._heartbeat = Heartbeat(board)
            for budget in options["budgets"]:
                await self.set_budget(budget)
            await self._serve(board, self._registry, self._heartbeat)
            await self.register(*options["capabilities"])
        except BaseException:
            await self.close(0)
            raise
        return self

    async def _serve(self, board: Board, registry: Registry, heartbeat: Heartbeat) -> None:
        if self.roles:
            from wrapper.spending import Prices, Spending

            self._spending = Spending(Budgets(board), Prices.of(self._options["prices"]))

        def employ(role: Role, lanes: Sequence[str] | Callable[[], Sequence[str]], handle: Handler) -> None:
            worker = Worker(board, heartbeat, role, lanes, handle, concurrency=self._concurrency[role])
            self._workers.append(worker)
            self._keep(worker.run, worker.name)

        if "arbiter" in self.roles:
            from arbiter.planner import Planner

            employ("arbiter", [STEP_LANE], Planner(registry, self._model, spending=self._spending).handle)
        if "fabricator" in self.roles:
            from arbiter.decisions import FABRICATOR_LANE
            from fabricator import Fabricator

            fabricator = Fabricator(
                registry,
                self._isolate,
                lambda: self._model("fabricator_model"),
                examiner_model=lambda: self._model("examiner_model"),
                settings=self._options["fabrication"],
                spending=self._spending,
                outside=self._outside(),
            )
            employ("fabricator", [FABRICATOR_LANE], fabricator.handle)
        if "wrapper" in self.roles or self._options["capabilities"]:
            from wrapper.execute import Executor

            named = self._models["model"] is not None or os.environ.get("ARBITER_MODEL") or self._resolved
            model = self._model if named else None
            executor = Executor(registry, self._isolate, self._functions, model, self._spending, self._outside())
            employ("wrapper", self._work_lanes, executor.handle)
        if self.roles:
            self._keep(Sweeper(board).run, "sweeper")
            self._keep(Budgets(board).keep_swept, "budgets")
            if (retention := self._options["retention"]) is not None:
                self._keep(Retirer(board, retention).run, "retention")
        if "wrapper" in self.roles:
            self._keep(self._warm, "isolation")

    def _outside(self) -> Outside:
        from wrapper.broker import Outside
        from wrapper.fetching import networks
        from wrapper.secrets import Secrets

        return Outside(Secrets(self._options["secrets"]), networks(self._options["private_addresses"]))

    def _signer(self) -> Signer:
        return Signer.find(self._options["signing_key"], self._options["data_dir"])

    def _work_lanes(self) -> list[str]:
        generic = list(self._lanes) if "wrapper" in self.roles else []
        return [*generic, *(one.manifest.action for one in self._functions.values())]

    def _keep(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        async def kept() -> None:
            while True:
                try:
                    return await run()
                except ArbiterError as error:
                    log.error("%s: %s", name, error)
                except Exception:
                    log.exception("%s failed and is started again", name)
                await asyncio.sleep(1.0)

        self._tasks.append(asyncio.create_task(kept(), name=name))

    async def _warm(self) -> None:
        """Have isolated children waiting before they are needed, where there is or may soon be generated code."""
        expected = "fabricator" in self.roles or any(
            version.manifest.kind == "artifact" for version in await self.registry.list()
        )
        if expected:
            try:
                await self._isolate()
            except IsolationUnavailable as error:
                # Said once here; every task that needs it is refused with the same words.
                log.error("%s", error)

    async def _isolate(self) -> Isolation:
        async with self._isolation_lock:
            if self._isolation is None:
                given: str | Isolation | None = self._options["isolation"]
                if given is None or isinstance(given, str):
                    from wrapper.isolation import detection

                    self._isolation, _ = await detection.find(given)
                else:
                    await given.start()
                    self._isolation = given
            return self._isolation

    def _model(self, which: Literal["model", "fabricator_model", "examiner_model"] = "model") -> Model:
        if which == "examiner_model" and self._models[which] is None:
            which = "fabricator_model"
        if which == "fabricator_model" and self._models[which] is None:
            which = "model"
        if which not in self._resolved:
            from wrapper.models import resolve
            from wrapper.spending import bound_output

            given = self._models[which]
            made = resolve(given)
            self._resolved[which] = bound_output(made) if given is None or isinstance(given, str) else made
        return self._resolved[which]

    async def close(self, grace_seconds: float | None = None) -> None:
        """Drain: no new claims, running work finishes within the grace time, the rest is released to others at once."""
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        await asyncio.gather(*(worker.drain(grace) for worker in self._workers))
        await end(self._tasks)
        self._workers.clear()
        self._tasks.clear()
        if self._isolation is not None:
            await self._isolation.close()
            self._isolation = None
        if self._heartbeat is not None:
            await asyncio.to_thread(self._heartbeat.close)
            self._heartbeat = None
        if self._spending is not None:
            await self._spending.settled()
            self._spending = None
        if self._board is not None:
            await self._board.close()
            self._board = None
            self._registry = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def board(self) -> Board:
        """The open board.

        Raises:
            ArbiterError: not started.
        """
        if self._board is None:
            raise ArbiterError("This Arbiter is not started: use 'async with Arbiter(...)' or 'await a.start()'.")
        return self._board

    @property
    def registry(self) -> Registry:
        """The capabilities of the board.

        Raises:
            ArbiterError: not started.
        """
        if self._registry is None:
            raise ArbiterError("This Arbiter is not started: use 'async with Arbiter(...)' or 'await a.start()'.")
        return self._registry

    @property
    def model_label(self) -> str:
        """The planning model as people should read it; says so when it is scripted or recorded."""
        from wrapper.models import describe

        return describe(self._model())

    @property
    def sandboxed(self) -> bool:
        """False when an operator named the isolation ``process``, which keeps code from neither files nor network."""
        given: str | Isolation | None = self._options["isolation"]
        if given is not None and not isinstance(given, str):
            return given.label != "process"
        return (given or os.environ.get("ARBITER_ISOLATION")) != "process"

    @property
    def isolation_label(self) -> str:
        """What generated code runs in here; ``not started`` until it is warm, ``process`` as soon as that was named."""
        if self._isolation is None and not self.sandboxed:
            return "process"
        return self._isolation.label if self._isolation is not None else "not started"

    # ---- use -------------------------------------------------------------------------------------------------------

    async def register(self, *capabilities: Capability[..., Any]) -> None:
        """Make functions or agents of this program available to every run of the board, for as long as it serves them.

        Raises:
            BadInput: something that is not a capability; decorate it with :func:`arbiter.capability`.
        """
        for one in capabilities:
            manifest = _checked(one).manifest
            await self.registry.register(manifest)
            self._functions[manifest.name] = one
        for worker in self._workers:
            worker.look_again()

    async def submit(
        self,
        request: Request,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
        durable: bool = False,
    ) -> str:
        """Accept a request and return the id of its run; it is on the board when this returns.

        Args:
            request: text, a JSON object, a CloudEvents 1.0 event, whose identity is then the idempotency key, or a
                :class:`~arbiter.calls.Call`, which is carried out without a model.
            idempotency_key: the same key with the same request is the same run.
            durable: return only when a replica has it. Give a key or an event, so that the call can be repeated.

        Raises:
            BadInput: an empty, oversized or malformed request; a call of what there is not, or with an input that does
                not fit.
            Conflict: the key belongs to a different request.
            QuotaExceeded: the board or the tenant has as many open runs as it may; the error says when to come again.
            Unconfirmed: with ``durable``, it was accepted, and no replica said in time that it has it.
        """
        if isinstance(request, Call):
            return await calls.submit(
                self.board, self.registry, request, tenant=tenant or self.tenant, idempotency_key=idempotency_key,
                limits=limits or self.limits, durable=durable,
            )  # fmt: skip
        accepted, key = accept(request, idempotency_key)
        return await self.board.submit(
            accepted, tenant=tenant or self.tenant, idempotency_key=key, limits=limits or self.limits, durable=durable
        )

    async def run(
        self,
        request: Request,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """Submit a request and wait for its end, whatever the end is: see ``result.status``.

        Args:
            timeout: seconds to wait; the run itself goes on and can be had later with :meth:`result`.

        Raises:
            TimeoutError: it did not end within ``timeout``.
            BadInput, Conflict: as :meth:`submit`.
        """
        run_id = await self.submit(request, idempotency_key=idempotency_key, tenant=tenant, limits=limits)
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
                async with contextlib.aclosing(self.board.watch(run_id)) as events:
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

    def run_sync(
        self,
        request: Request,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
    ) -> RunResult:
        """:meth:`run` for programs without an event loop; starts and closes everything around the one call.

        Works inside a running loop too, which it blocks.
        """

        async def once() -> RunResult:
            async with Arbiter(**self._options) as inner:
                return await inner.run(
                    request, idempotency_key=idempotency_key, tenant=tenant, limits=limits, timeout=timeout
                )

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(once())
        outcome: list[RunResult] = []
        raised: list[BaseException] = []

        def apart() -> None:
            try:
                outcome.append(asyncio.run(once()))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=apart, name="arbiter-run-sync")
        thread.start()
        thread.join()
        if raised:
            raise raised[0]
        return outcome[0]

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
        if self._spending is not None:
            await self._spending.settled()
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

        Raises:
            BadInput: something is malformed, or the schedule would never occur.
            Conflict: a different schedule has this name.
        """
        from arbiter.schedules import schedule_of

        if isinstance(request, Call):
            raise BadInput(
                "request", request, "A call cannot be scheduled; schedule a request that asks for it in words."
            )
        wanted = schedule_of(
            name, request, at=at, rate=rate, cron=cron, timezone=timezone, start=start, end=end, window=window,
            catch_up=catch_up, overlap=overlap, delete_after_completion=delete_after_completion,
            tenant=tenant or self.tenant, limits=limits or self._options["limits"],
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
    def dead_letters(self) -> DeadLetters:
        """The work that was given up, to list, look at, put back and discard.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.dead_letters import DeadLetters

        return DeadLetters(self.board, self.registry)

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


def _checked(one: object) -> Capability[..., Any]:
    if not isinstance(one, Capability):
        raise BadInput("capabilities", one, "Decorate the function, or wrap the agent, with arbiter.capability.")
    return cast("Capability[..., Any]", one)
