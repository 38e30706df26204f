"""The SDK: one object that opens a board, serves the roles it was given and runs requests.

    async with Arbiter(model="bedrock:…", capabilities=[price]) as a:
        result = await a.run("What do 12 boxes cost?")

The same object is the daemon's core (``arbiter serve``) and a notebook's; only who waits for what differs.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from arbiter import encoding, refusing
from arbiter.client import Client
from arbiter.keeping import Request
from arbiter.result import RunResult
from arbiter.serving import GENERIC_LANE, ROLES, Role, Serving
from blackboard import tracing
from blackboard.approval import ApprovalPolicy
from blackboard.audit import Audit
from blackboard.board import LEASE_SECONDS, Board
from blackboard.budgets import Budget, LevelReport
from blackboard.confirm import Confirm
from blackboard.errors import ArbiterError, BadInput
from blackboard.heartbeat import Heartbeat
from blackboard.redaction import install, remember_credentials
from blackboard.retention import RETENTION, Retention
from blackboard.strategies import Rate
from blackboard.taint import TaintPolicy
from blackboard.types import Limits
from registry import Capability, Matcher, Registry, Signer, schema

if TYPE_CHECKING:
    from pydantic import JsonValue
    from strands.models import Model

    from arbiter.aws.receiving import QueueState
    from arbiter.choosing import Choosing
    from arbiter.illustrating import Illustrated
    from arbiter.peers import ServedPeers
    from arbiter.recalling import Recalling
    from fabricator import FabricationSettings
    from wrapper.isolation import Isolation
    from wrapper.peers import Peer
    from wrapper.prices import Price, Prices

GRACE_SECONDS = 10.0


class Arbiter(Client):
    """Plans requests against a registry of capabilities, has missing ones fabricated, runs them, and answers.

    Args:
        url: the board: ``redis://``, ``rediss://``, ``unix://`` or ``memory://``. None takes ``ARBITER_REDIS_URL`` and,
            without it, the supervised local server of ``data_dir``.
        model: a model string (``bedrock:…``, ``anthropic:…``, ``openai:…``, ``ollama:…``, ``scripted:FILE``,
            ``recorded:FILE``) or a Strands model; plans, fabricates, and is what generated code is brokered. Default:
            ``ARBITER_MODEL``, then Bedrock. Needed only where a role uses it; where it is the default that cannot be had, runs
            with a plan of their own, calls and agendas without a planner are carried out all the same.
        data_dir: folder of the local server. Default ``~/.arbiter``.
        namespace, board: name the board.
        capabilities: functions and agents of this program, made with :func:`arbiter.capability`.
        peers: MCP servers and A2A agents whose tools this process offers and calls, such as ``McpPeer``; see
            ``docs/peers.md``. They are asked once before :meth:`start` returns.
        roles: what this process does beside submitting: any of ``arbiter``, ``fabricator``, ``wrapper``; empty for a pure
            client. Capabilities given here are served in any case.
        limits: bounds of runs submitted here, unless a call gives its own.
        tenant: whose runs they are.
        fabricator_model: another model for writing capabilities. Default: ``model``.
        examiner_model: another model for specifying them and setting their exams. Default: ``fabricator_model``.
        fabrication: how far a fabrication goes, and who grants what it asks for: a ``FabricationSettings``, a mapping, or the
            path of a JSON or TOML file. Default: the file that ``ARBITER_FABRICATION`` names, then
            ``FabricationSettings()``; see ``docs/grants.md``.
        budgets: set on the board when this starts; what is there already stays. See :meth:`set_budget`.
        prices: the price table for budgets of money: a ``Prices``, a mapping, or the path of a file. Default: the file that
            ``ARBITER_PRICES`` names.
        lanes: lanes of generated code this process serves in the role ``wrapper``.
        concurrency: attempts at a time by role; the rest keep :data:`CONCURRENCY`.
        lease_seconds: how long a process may be silent before its work is given to another.
        grace_seconds: how long :meth:`close` lets running work finish.
        signing_key: the key that signs what is fabricated or registered here: PEM, base64 of its 32 raw bytes, or a path.
            Default: ``ARBITER_SIGNING_KEY``, then a key in ``data_dir`` that is made when it is first needed.
        isolation: what generated code runs in: ``zygote-ns``, ``zygote-lsm``, ``seatbelt`` or ``process``, or an object with
            the methods of ``wrapper.isolation.Isolation``. Default: what ``ARBITER_ISOLATION`` names, then the strongest of
            the first three that proves itself; without one, generated code is refused. ``process`` is no sandbox.
        secrets: values for the handles that grants name: a mapping, a callable, or the path of a JSON file only this user can
            read. Default: ``ARBITER_SECRET_<HANDLE>``, or the file that ``ARBITER_SECRETS_FILE`` names.
        private_addresses: addresses or networks (``10.0.0.7``, ``10.1.0.0/16``) that granted requests may go to although they
            are not public.
        taint: which sources of content are trusted, and what content from the others may do in the roles of this process: a
            ``TaintPolicy``, a mapping, or the path of a JSON or TOML file. Default: the file that ``ARBITER_TAINT_POLICY``
            names, then ``TaintPolicy()``; see ``docs/taint.md``.
        approval: which tasks wait for a person beside those whose capability says so, how a person is asked, and whether the
            planning model may ask one: an ``ApprovalPolicy``, a mapping, or the path of a JSON or TOML file. Default: the file
            that ``ARBITER_APPROVAL_POLICY`` names, then ``ApprovalPolicy()``; see ``docs/approvals.md``.
        matcher: ranks the capabilities for a need, or the name of an encoder to rank by meaning as well: a folder,
            ``package:NAME`` or ``bedrock:MODEL``. Default: the encoder that ``ARBITER_ENCODER`` names, then a new
            ``LexicalMatcher``; see ``docs/matching.md``.
        strategies: by which agendas may be rated in the role ``arbiter``, by name, beside the built-in ones; see
            ``docs/agenda.md``.
        choosing: which capabilities the planning model is shown: effects and grants that are allowed, how much of the model's
            context tools may take; a ``Choosing``, a mapping, or the path of a JSON or TOML file. Default: the file that
            ``ARBITER_CHOOSING`` names, then ``Choosing()``; see ``docs/matching.md``.
        recalling: how much of the board, and of what earlier runs remembered, it is shown. Default: ``Recalling()``.
        instructions: what it is told besides by whoever operates this: text behind the system prompt, of at most 20,000
            characters; see ``docs/models.md``.
        retention: which finished runs are kept, while a process with a role is there to remove the others; None keeps all.
        reflect: whether this process, in the role ``wrapper``, goes back from generated code that fails to an earlier version, or
            retires it; see ``docs/reflection.md``.
        illustrate: whether this process has its model write example needs of what is offered and has none, in the background,
            which costs tokens; see ``docs/matching.md``.
        from_sqs: URLs of SQS queues this process takes requests from, for ``tenant``, or ``TENANT=URL`` for another, and within
            ``limits``; see ``docs/aws.md``.
        durable: True, or a ``Confirm``: acceptances, decisions, ends and cancellations made by this process wait until
            replicas have them; see ``docs/operations.md``.

    Raises:
        BadInput: an unknown role or isolation, a malformed policy or setting, or one with which work would never be done.
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
        peers: Sequence[Peer] = (),
        roles: Sequence[Role] = ROLES,
        limits: Limits | None = None,
        tenant: str = "default",
        fabricator_model: str | Model | None = None,
        examiner_model: str | Model | None = None,
        fabrication: FabricationSettings | Mapping[str, Any] | str | Path | None = None,
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
        taint: TaintPolicy | Mapping[str, Any] | str | Path | None = None,
        approval: ApprovalPolicy | Mapping[str, Any] | str | Path | None = None,
        matcher: Matcher | str | None = None,
        strategies: Mapping[str, Rate] | None = None,
        choosing: Choosing | Mapping[str, Any] | str | Path | None = None,
        recalling: Recalling | None = None,
        instructions: str | None = None,
        reflect: bool = True,
        illustrate: bool = False,
        from_sqs: Sequence[str] = (),
    ) -> None:
        from arbiter.choosing import Choosing

        self._options: dict[str, Any] = {
            "url": url, "model": model, "data_dir": data_dir, "namespace": namespace, "board": board,
            "capabilities": capabilities, "peers": peers, "roles": roles, "limits": limits, "tenant": tenant,
            "fabricator_model": fabricator_model, "examiner_model": examiner_model, "fabrication": fabrication,
            "budgets": budgets, "prices": prices,
            "lanes": lanes, "concurrency": concurrency, "lease_seconds": lease_seconds, "grace_seconds": grace_seconds,
            "retention": retention, "durable": durable, "signing_key": signing_key, "isolation": isolation,
            "secrets": secrets, "private_addresses": private_addresses, "taint": TaintPolicy.of(taint), "matcher": matcher,
            "approval": ApprovalPolicy.of(approval),
            "strategies": dict(strategies or {}), "choosing": Choosing.of(choosing), "recalling": recalling,
            "instructions": instructions,
            "reflect": reflect, "illustrate": illustrate, "from_sqs": from_sqs,
        }  # fmt: skip
        refusing.check(self._options)
        if fabrication is not None or "fabricator" in roles:
            from fabricator import FabricationSettings

            self._options["fabrication"] = FabricationSettings.of(fabrication)
        super().__init__(tenant, limits)
        self._strategies = self._options["strategies"]
        self._grace_seconds = grace_seconds
        self._functions: dict[str, Capability[..., Any]] = {}
        self._serving = Serving(self._options, self._functions)
        self.roles = self._serving.roles
        self._board: Board | None = None
        self._registry: Registry | None = None
        self._heartbeat: Heartbeat | None = None

    # ---- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Open the board and begin to serve the roles.

        Raises:
            EngineUnavailable: no usable Redis.
            BadInput, MissingExtra, ModelUnavailable: a model that was named cannot be had; the message says what to do. Without
                any, this process carries out what needs none.
        """
        if self._board is not None:
            return self
        options = self._options
        install()
        remember_credentials(options["url"])
        tracing.start()
        await self._serving.resolve_models()
        durable: bool | Confirm = options["durable"]
        self._board = board = await Board.open(
            options["url"], data_dir=options["data_dir"], namespace=options["namespace"], board=options["board"],
            lease_seconds=options["lease_seconds"], confirm=Confirm() if durable is True else durable or None,
        )  # fmt: skip
        board.checker = schema
        try:
            self._registry = Registry(
                board.catalog,
                board.outcomes,
                await encoding.matcher(board, options["matcher"], options["namespace"], options["board"]),
                signer=self._signer,
                triggers=board.triggers,
                spent=board.spent,
                ended=board.ended,
            )
            self._heartbeat = Heartbeat(board)
            if not self.sandboxed and {"fabricator", "wrapper"} & set(self.roles):
                # On record before the first code runs.
                await Audit(board).note(
                    "isolation.lowered", f"{os.getpid()}@{socket.gethostname()}", detail={"backend": "process"}
                )
            for budget in options["budgets"]:
                await self.set_budget(budget)
            await self._serving.start(board, self._registry, self._heartbeat)
            await self.register(*options["capabilities"])
            if options["peers"]:
                await self._serving.follow(*options["peers"])
            if options["from_sqs"]:
                await self._check_planned(self.limits)
                self._serving.receive(options["from_sqs"], self.submit)
        except BaseException:
            await self.close(0)
            raise
        return self

    def _signer(self) -> Signer:
        return Signer.find(self._options["signing_key"], self._options["data_dir"])

    async def close(self, grace_seconds: float | None = None) -> None:
        """Drain: no new claims, running work finishes within the grace time, the rest is released to others at once."""
        grace = self._grace_seconds if grace_seconds is None else grace_seconds
        await self._serving.close(grace)
        if self._heartbeat is not None:
            await asyncio.to_thread(self._heartbeat.close)
            self._heartbeat = None
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
        """The planning model as people should read it; says so when it is scripted or recorded, and when there is none."""
        if not self._serving.plans:
            return "none"
        from wrapper.models import describe

        return describe(self._serving.model())

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
        if self._serving.isolation is None and not self.sandboxed:
            return "process"
        return self._serving.isolation.label if self._serving.isolation is not None else "not started"

    # ---- use -------------------------------------------------------------------------------------------------------

    async def register(self, *capabilities: Capability[..., Any]) -> None:
        """Make functions or agents of this program available to every run of the board, for as long as it serves them.

        One whose name a person has retired stays so, which is logged; ``registry.activate`` offers it again.

        Raises:
            BadInput: something that is not a capability; decorate it with :func:`arbiter.capability`.
        """
        for one in capabilities:
            manifest = refusing.capability(one).manifest
            await self.registry.register(manifest, unasked=True)
            self._functions[manifest.name] = one
        self._serving.look_again()

    async def illustrate(
        self, names: Sequence[str] | None = None, *, at_once: int = 4, told: Callable[[Illustrated], None] | None = None
    ) -> list[Illustrated]:
        """Have the model write example needs of capabilities, by which every process matches from then on.

        What was written already is not asked for again, so a call that broke off is made again. The model is
        ``fabricator_model``, else ``model``; its calls count in the budgets of the board.

        Args:
            names: of active capabilities. Default: all that have few needs of their own, and none that were written.
            at_once: model calls at a time.
            told: called with each as it is done.

        Raises:
            BadInput: a name in place of a list, or no call at a time.
            UnknownRecord: no such capability.
            MissingExtra, ModelUnavailable: the model cannot be had; what a call of it comes to is told of the capability.
        """
        if isinstance(names, str):
            raise BadInput("names", names, "Write a list, even of one.")
        if at_once < 1:
            raise BadInput("at_once", at_once, "Ask for at least one.")
        writer = self._serving.illustrator(self.board, self.registry)
        return await writer.illustrate(await writer.meant(names), at_once=at_once, told=told)

    @property
    def peers(self) -> ServedPeers:
        """The peers of the board, to list; to add more that this process serves, and to ask them again.

        Raises:
            ArbiterError: not started.
        """
        from arbiter.peers import ServedPeers

        return ServedPeers(self.board, self.registry, self._serving)

    @property
    def queues(self) -> list[QueueState]:
        """How this process fares with each queue of ``from_sqs``."""
        return [each.state for each in self._serving.receiving]

    async def look_at_queues(self) -> list[str]:
        """What each of them is like, in a line, or why it cannot be reached."""
        return [await each.said() for each in self._serving.receiving]

    async def _check_planned(self, limits: Limits) -> None:
        spending = self._serving.spending
        if "arbiter" not in self.roles:
            return
        await self._serving.planning()
        if limits.money is None or spending is None:
            return
        if spending.prices.cost(self.model_label, 0, 0) is None:
            raise BadInput(
                "limits.money", limits.money, f"Nobody knows the price of {self.model_label}, which plans here: put it into "
                "the price table (prices=…, or the file that ARBITER_PRICES names), or give no limit of money.",
            )  # fmt: skip

    async def budgets(self, *levels: str) -> list[LevelReport]:
        if self._serving.spending is not None:
            await self._serving.spending.settled()
        return await super().budgets(*levels)

    def run_sync(
        self,
        request: Request,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
        plan: Sequence[Mapping[str, JsonValue]] = (),
    ) -> RunResult:
        """:meth:`run` for programs without an event loop; starts and closes everything around the one call.

        Works inside a running loop too, which it blocks.
        """

        async def once() -> RunResult:
            async with Arbiter(**self._options) as inner:
                return await inner.run(
                    request, idempotency_key=idempotency_key, tenant=tenant, limits=limits, timeout=timeout, plan=plan
                )

        if not _in_a_loop():
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


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
