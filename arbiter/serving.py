"""What a process does beside submitting: the workers of its roles, and what they share."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from blackboard.attempt import Handler
from blackboard.board import STEP_LANE, Board
from blackboard.budgets import Budgets
from blackboard.claims import Claim
from blackboard.ending import end
from blackboard.errors import ArbiterError, BadInput, IsolationUnavailable, ModelUnavailable
from blackboard.heartbeat import Heartbeat
from blackboard.peers import Peers
from blackboard.retention import Retirer
from blackboard.sweeper import Sweeper
from blackboard.types import Completion
from blackboard.worker import Worker, worker_name
from registry import Capability, Manifest, Registry
from registry.peers import peer_of

if TYPE_CHECKING:
    from strands.models import Model

    from arbiter.aws.receiving import Receiver, Submit
    from arbiter.illustrating import Illustrator
    from wrapper.broker import Outside
    from wrapper.isolation import Isolation
    from wrapper.peers.following import Following
    from wrapper.peers.peer import Peer
    from wrapper.secrets import Secrets
    from wrapper.spending import Spending

log = logging.getLogger(__name__)

Role = Literal["arbiter", "fabricator", "wrapper"]
ROLES: tuple[Role, ...] = ("arbiter", "fabricator", "wrapper")
CONCURRENCY: Mapping[Role, int] = {"arbiter": 16, "fabricator": 2, "wrapper": 4}
"""How many attempts a process works on at a time, by role. Planning waits for models; running code needs processors."""
GENERIC_LANE = "generic"
WITHOUT = "Without a model a run needs a plan of its own (plan=, --plan), an agenda without a planner, or to be a call."
"""What a process can do that has no model."""

ModelName = Literal["model", "fabricator_model", "examiner_model"]


class Serving:
    """The workers of one process, started once and closed once.

    Args:
        options: as they were given to :class:`arbiter.Arbiter`.
        functions: the capabilities of this program by name; looked at whenever lanes are decided. Those of peers come and
            go here.
    """

    def __init__(self, options: Mapping[str, Any], functions: dict[str, Capability[..., Any]]) -> None:
        self._options = options
        self._functions = functions
        self.roles: tuple[Role, ...] = tuple(dict.fromkeys(options["roles"]))
        self._lanes = tuple(options["lanes"])
        self._concurrency: dict[Role, int] = {**CONCURRENCY, **(options["concurrency"] or {})}
        self._resolved: dict[str, Model] = {}
        self.isolation: Isolation | None = None
        self._isolation_lock = asyncio.Lock()
        self.spending: Spending | None = None
        self._workers: list[Worker] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._intake: list[asyncio.Task[None]] = []
        self.receiving: list[Receiver] = []
        """From which queues requests come."""
        self.following: Following | None = None
        self._secrets: Secrets | None = None
        self._place: tuple[Registry, Peers, str] | None = None
        self._unplanned = False

    async def resolve_models(self) -> None:
        """Find out before serving whether the models can be had.

        A process that plans and was given no model serves without one where the default cannot be had: plans that runs are
        given, agendas and calls need none. :meth:`planning` says of the others what they lack.

        Raises:
            BadInput, MissingExtra, ModelUnavailable: one that was named cannot, or it is all that this process is for; the
                message says what to do.
        """
        if not {"arbiter", "fabricator"} & set(self.roles):
            return
        for which in ("model", "fabricator_model", "examiner_model"):
            try:
                await asyncio.to_thread(self.model, which)
            except ModelUnavailable as error:
                if self._needed(which):
                    raise
                if not self._unplanned:
                    log.warning("This process serves without a model. %s", error)
                self._unplanned = True

    def _needed(self, which: ModelName) -> bool:
        fallbacks: dict[ModelName, list[ModelName]] = {
            "model": ["model"], "fabricator_model": ["fabricator_model", "model"],
            "examiner_model": ["examiner_model", "fabricator_model", "model"],
        }  # fmt: skip
        named = any(self._options[name] is not None for name in fallbacks[which]) or os.environ.get("ARBITER_MODEL")
        return bool(named or "arbiter" not in self.roles or self._options["illustrate"])

    async def planning(self) -> None:
        """Find out whether this process can plan, where it could not when it started.

        Raises:
            ModelUnavailable: it cannot; the message says what to do.
        """
        if not self._unplanned:
            return
        try:
            await asyncio.to_thread(self.model)
        except ModelUnavailable as error:
            raise ModelUnavailable(f"{error} {WITHOUT}") from None
        self._unplanned = False

    @property
    def plans(self) -> bool:
        """Whether it has a model that plans, as far as is known."""
        return not self._unplanned

    async def close(self, grace_seconds: float) -> None:
        """No new claims; running work finishes within the grace time, the rest is released to others at once."""
        await end(self._intake)
        self._intake.clear()
        await asyncio.gather(*(worker.drain(grace_seconds) for worker in self._workers))
        if self.following is not None:
            await self.following.close()
            self.following = None
        await end(self._tasks)
        self._workers.clear()
        self._tasks.clear()
        if self.isolation is not None:
            await self.isolation.close()
            self.isolation = None
        if self.spending is not None:
            await self.spending.settled()
            self.spending = None

    def look_again(self) -> None:
        """The functions have changed."""
        for worker in self._workers:
            worker.look_again()

    async def start(self, board: Board, registry: Registry, heartbeat: Heartbeat) -> None:
        """Begin to serve the roles."""
        if self.roles:
            from wrapper.prices import Prices
            from wrapper.spending import Spending

            self.spending = Spending(Budgets(board), Prices.of(self._options["prices"]))

        def employ(
            role: Role,
            lanes: Sequence[str] | Callable[[], Sequence[str]],
            handle: Handler,
            ended: Callable[[Claim, Completion], None] | None = None,
        ) -> None:
            worker = Worker(board, heartbeat, role, lanes, handle, concurrency=self._concurrency[role], ended=ended)
            self._workers.append(worker)
            self._keep(worker.run, worker.name)

        if "arbiter" in self.roles:
            from arbiter.delivering import Delivery
            from arbiter.planner import Planner
            from arbiter.standing_runs import StandingRuns
            from wrapper.addresses import authorities, networks

            planner = Planner(
                registry, self.model, spending=self.spending, strategies=self._options["strategies"],
                policy=self._options["taint"], choosing=self._options["choosing"],
                recalling=self._options["recalling"], approval=self._options["approval"],
                instructions=self._options["instructions"],
            )  # fmt: skip
            employ("arbiter", [STEP_LANE], planner.handle)
            self._keep(StandingRuns(board).run, "standing")
            private = networks(self._options["private_addresses"])
            self._keep(Delivery(board, self._known_secrets, private, authorities()).run, "webhooks")
        if "fabricator" in self.roles:
            from arbiter.fabrications import FABRICATOR_LANE
            from fabricator import Fabricator

            fabricator = Fabricator(
                registry,
                self._isolate,
                lambda: self.model("fabricator_model"),
                examiner_model=lambda: self.model("examiner_model"),
                settings=self._options["fabrication"],
                spending=self.spending,
                outside=self._outside(),
                policy=self._options["taint"],
            )
            employ("fabricator", [FABRICATOR_LANE], fabricator.handle)
        if "wrapper" in self.roles or self._options["capabilities"] or self._options["peers"]:
            from arbiter.reflecting import Reflection
            from wrapper.execute import Executor

            named = self._options["model"] is not None or os.environ.get("ARBITER_MODEL") or self._resolved
            model = self.model if named else None
            executor = Executor(
                registry, self._isolate, self._functions, model, self.spending, self._outside(), self._renew,
                self._options["approval"],
            )  # fmt: skip
            self._place = registry, Peers(board.catalog), worker_name("peers")
            reflection = Reflection(registry) if "wrapper" in self.roles and self._options["reflect"] else None
            employ("wrapper", self._work_lanes, executor.handle, reflection and reflection.ended)
            if reflection is not None:
                self._keep(reflection.run, "reflection")
        # Who serves functions alone sees to their retries and deadlines as well, and to what whoever died held.
        if self.roles or self._place is not None:
            self._keep(Sweeper(board).run, "sweeper")
            self._keep(Budgets(board).keep_swept, "budgets")
        if self.roles:
            self._keep(registry.keep_encoded, "matching")
            if self._options["illustrate"]:
                self._keep(self.illustrator(board, registry).keep_illustrated, "illustrating")
            if (retention := self._options["retention"]) is not None:
                self._keep(Retirer(board, retention).run, "retention")
        if "wrapper" in self.roles:
            self._keep(partial(self._warm, registry), "isolation")

    def illustrator(self, board: Board, registry: Registry) -> Illustrator:
        """Has example needs written by the model of the fabricator."""
        from arbiter.illustrating import Illustrator
        from wrapper.prices import Prices
        from wrapper.spending import Spending

        spending = self.spending or Spending(Budgets(board), Prices.of(self._options["prices"]))
        return Illustrator(registry, lambda: self.model("fabricator_model"), spending)

    def receive(self, queues: Sequence[str], submit: Submit) -> None:
        """Take requests from queues, each ``URL`` or ``TENANT=URL``.

        Raises:
            BadInput: no URL of a queue, or no tenant.
        """
        from arbiter.aws.receiving import Receiver

        self.receiving = [Receiver(each, submit) for each in queues]
        for each in self.receiving:
            self._keep(each.run, f"queue {each.state.name}", self._intake)

    async def follow(self, *peers: Peer) -> None:
        """Serve peers; each was asked once what it offers when this returns, whether or not it answered.

        Raises:
            BadInput: this process serves no work, or a peer of this kind and name already.
        """
        from wrapper.peers.following import Following

        if self._place is None:
            raise BadInput("peers", [each.name for each in peers], "Give them to a process with the role 'wrapper'.")
        if self.following is None:
            self.following = Following(self._functions, self.look_again)
        secrets, following = self._known_secrets(), self.following
        registry, said, process = self._place
        await asyncio.gather(*(following.add(each, registry, said, process, secrets) for each in peers))

    async def _renew(self, manifest: Manifest) -> None:
        if self.following is not None:
            await self.following.renew(manifest)

    def _outside(self) -> Outside:
        from wrapper.addresses import authorities, networks
        from wrapper.broker import Outside

        private = networks(self._options["private_addresses"])
        return Outside(self._known_secrets(), private, authorities(), self._options["taint"])

    def _known_secrets(self) -> Secrets:
        from wrapper.secrets import Secrets

        if self._secrets is None:
            self._secrets = Secrets(self._options["secrets"])
        return self._secrets

    def _work_lanes(self) -> list[str]:
        generic = list(self._lanes) if "wrapper" in self.roles else []
        own = [one.manifest.action for one in self._functions.values() if peer_of(one.manifest) is None]
        return [*generic, *own, *(self.following.lanes() if self.following is not None else ())]

    def _keep(
        self, run: Callable[[], Awaitable[None]], name: str, among: list[asyncio.Task[None]] | None = None
    ) -> None:
        async def kept() -> None:
            while True:
                try:
                    return await run()
                except ArbiterError as error:
                    log.error("%s: %s", name, error)
                except Exception:
                    log.exception("%s failed and is started again", name)
                await asyncio.sleep(1.0)

        (self._tasks if among is None else among).append(asyncio.create_task(kept(), name=name))

    async def _warm(self, registry: Registry) -> None:
        """Have isolated children waiting before they are needed, where there is or may soon be generated code."""
        expected = "fabricator" in self.roles or any(
            version.manifest.kind == "artifact" for version in await registry.list()
        )
        if expected:
            try:
                await self._isolate()
            except IsolationUnavailable as error:
                # Said once here; every task that needs it is refused with the same words.
                log.error("%s", error)

    async def _isolate(self) -> Isolation:
        async with self._isolation_lock:
            if self.isolation is None:
                given: str | Isolation | None = self._options["isolation"]
                if given is None or isinstance(given, str):
                    from wrapper.isolation import detection

                    self.isolation, _ = await detection.find(given)
                else:
                    await given.start()
                    self.isolation = given
            return self.isolation

    def model(self, which: ModelName = "model") -> Model:
        if which == "examiner_model" and self._options[which] is None:
            which = "fabricator_model"
        if which == "fabricator_model" and self._options[which] is None:
            which = "model"
        if which not in self._resolved:
            from wrapper.models import resolve
            from wrapper.worst_case import bound_output

            given = self._options[which]
            made = resolve(given)
            self._resolved[which] = bound_output(made) if given is None or isinstance(given, str) else made
        return self._resolved[which]
