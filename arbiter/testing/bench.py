"""A bench for capabilities: a real board, a clock to turn, and a crash at every call of a request.

Here a process is one Arbiter inside the test's own process. When it dies, not one further call of it reaches the board,
and another one takes over. That needs nothing to be importable or picklable, so it works in a test, a notebook and a
shell alike. Real processes and real signals are for ``python -m arbiter.testing matrix --story``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from arbiter.keeping import Request
from arbiter.result import RunResult
from arbiter.sdk import Arbiter
from arbiter.testing import clock, injection
from arbiter.testing.cases import Case, Outcome, points
from arbiter.testing.clock import Clock
from arbiter.testing.injection import ASKED, BOUNDARIES, Dead, Life
from blackboard import invariants
from blackboard.budgets import LEASE_SECONDS as HOLD_SECONDS
from blackboard.budgets import Budgets
from blackboard.ending import end
from blackboard.testing import RedisServer
from registry import Capability

if TYPE_CHECKING:
    from strands.models import Model

IN_PROCESS = tuple(name for name in BOUNDARIES if name not in ASKED)
"""The faults a :class:`Harness` can make."""
LEASE_SECONDS = 15.0
MOST_LIVES = 4

Same = Callable[[RunResult], JsonValue]


@dataclass(frozen=True, slots=True)
class Report:
    """What a crash matrix has found."""

    request: Request
    outcomes: tuple[Outcome, ...]
    calls: int
    """Script calls of the undisturbed run."""

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.problems)

    @property
    def ok(self) -> bool:
        """Whether some fault was really met, and every case ended as it must."""
        return not self.failed and any(outcome.word == "passed" for outcome in self.outcomes)

    def __str__(self) -> str:
        words = Counter(outcome.word for outcome in self.outcomes)
        said = f"{len(self.outcomes)} crashes and lost calls: {words['passed']} passed, {words['failed']} failed"
        if words["not reached"]:
            said += f", {words['not reached']} at calls that did not come again"
        return "\n".join([said, *(f"  {one.case.id}: {'; '.join(one.problems)}" for one in self.failed)])


def same(result: RunResult) -> JsonValue:
    """What must be equal in every case, unless the caller says otherwise: the end, the answer, each task's end and data."""
    tasks: dict[str, JsonValue] = {
        task.id.partition("/")[2]: [task.state, task.completion.data if task.completion else None]
        for task in result.state.work
    }
    return {"status": result.status, "answer": result.answer, "tasks": tasks}


@dataclass(slots=True)
class Harness:
    """What :func:`harness` gives."""

    arbiter: Arbiter
    """Serves every role on a board of its own, whose clock is :attr:`clock`."""
    clock: Clock
    """Turn it instead of sleeping: leases, deadlines and retries follow."""
    url: str
    _options: dict[str, Any] = field(default_factory=dict[str, Any])

    async def run(self, request: Request, **options: Any) -> RunResult:
        """:meth:`arbiter.Arbiter.run` on the harness's own board."""
        return await self.arbiter.run(request, **options)

    async def crash_matrix(
        self,
        request: Request,
        *,
        boundaries: Sequence[str] = IN_PROCESS,
        only: Sequence[str] = (),
        limit: int | None = None,
        seed: int = 0,
        same: Same = same,
        timeout: float = 30.0,
    ) -> Report:
        """Run a request once for every fault at every script call it makes, each time on a fresh board.

        After a crash the request is submitted again under the same idempotency key to another Arbiter, as a restarted
        program would do, when the leases of the dead one are over.

        Args:
            boundaries: which faults; see :data:`arbiter.testing.BOUNDARIES`. Default: all that need no other process.
            only: ids of cases, to repeat those a report has named.
            limit: play so many cases, chosen by ``seed``. Default: all.
            same: what of a result must be equal in every case. Default: status, answer, and each task's end and data.
            timeout: seconds for one case.

        Returns:
            The :class:`Report`; ``report.ok`` says whether all is well.

        Raises:
            BadInput: an id of a case that is none.
            RuntimeError: the request breaks an invariant without any fault.
        """
        with _quiet():
            before = await self._case(Case(), request, same, None, timeout)
            if before.problems:
                raise RuntimeError(f"This fails without any fault: {before.problems}")
            cases = [Case.parse(one) for one in only] or [
                Case(lives=(str(called.at(name)),)) for called in points(before.calls) for name in boundaries
            ]
            if limit is not None and limit < len(cases):
                cases = sorted(random.Random(seed).sample(cases, limit))
            outcomes = [await self._case(case, request, same, before.answer, timeout) for case in cases]
        return Report(request, tuple(outcomes), len(before.calls))

    async def _case(self, case: Case, request: Request, same: Same, expected: JsonValue, timeout: float) -> Outcome:
        outcome, began = Outcome(case), time.monotonic()
        options = {**self._options, "board": _name()}
        fired = 0
        try:
            async with asyncio.timeout(timeout):
                for number in range(MOST_LIVES):
                    named = [case.lives[number]] if number < len(case.lives) and case.lives[number] else []
                    life = Life([injection.Fault.parse(one) for one in named])
                    result = await _live(life, options, request)
                    outcome.lives, fired = number + 1, fired + len(life.fired)
                    if result is not None:
                        outcome.answer, outcome.calls = same(result), life.calls
                        break
                    await self._recover(options)
        except TimeoutError:
            outcome.problems.append(f"G6: it did not end within {timeout:g} s")
        outcome.fired = fired >= sum(bool(one) for one in case.lives)
        await self._judge(outcome, options, expected)
        outcome.seconds = time.monotonic() - began
        return outcome

    async def _recover(self, options: dict[str, Any]) -> None:
        """The leases of the dead are over and its retries due."""
        async with _bystander(options) as bystander:
            turned = Clock(bystander.board)
            await turned.advance(options["lease_seconds"] + 1)
            await turned.advance(2)

    async def _judge(self, outcome: Outcome, options: dict[str, Any], expected: JsonValue) -> None:
        async with _bystander(options) as bystander:
            outcome.problems += await invariants.faults(bystander.board)
            await Clock(bystander.board).advance(HOLD_SECONDS + 1, sweep=False)
            await Budgets(bystander.board).sweep()
            outcome.problems += await invariants.held(bystander.board)
            changes = Counter((change.name, change.verb) for change in await bystander.registry.changes())
        if expected is not None and outcome.answer != expected and not outcome.problems:
            outcome.problems.append(f"another result: {outcome.answer}")
        twice = [key for key, count in changes.items() if count > 1 and key[1] in ("registered", "activated")]
        outcome.problems += [f"G4 {name} was {verb} twice" for name, verb in twice]


@contextlib.asynccontextmanager
async def harness(
    capabilities: Sequence[Capability[..., Any]] = (),
    model: str | Model | None = None,
    *,
    url: str | None = None,
    lease_seconds: float = LEASE_SECONDS,
    **options: Any,
) -> AsyncGenerator[Harness, None]:
    """A bench with a server of its own, on which capabilities are run, aged and crashed.

    Args:
        capabilities, model, options: as for :class:`arbiter.Arbiter`.
        url: a server to use instead of a fresh one; boards with new names are made on it and stay.
        lease_seconds: nobody has to wait for it: :attr:`Harness.clock` passes it.

    Raises:
        EngineUnavailable: no ``redis-server`` was found and no ``url`` was given.
    """
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(RedisServer()).url
        clock.install()
        stack.callback(clock.uninstall)
        stack.callback(injection.uninstall)
        given: dict[str, Any] = {
            "url": url, "model": model, "capabilities": tuple(capabilities), "lease_seconds": lease_seconds,
            "grace_seconds": 1.0, **options,
        }  # fmt: skip
        board: dict[str, Any] = {"board": _name()}
        async with Arbiter(**given, **board) as served:
            yield Harness(served, Clock(served.board), url, given)


async def _live(life: Life, options: dict[str, Any], request: Request) -> RunResult | None:
    """One process, from its start to the request's end; None when it died."""
    one = Arbiter(**options)

    async def living() -> RunResult:
        injection.begin(life)
        await one.start()
        return await one.run(request, idempotency_key=options["board"])

    work, death = asyncio.create_task(living()), asyncio.create_task(life.died.wait())
    try:
        await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED)
        if not life.dead:
            return await work
        return None
    except Dead:
        return None
    finally:
        await end([work, death])
        with contextlib.suppress(Dead):
            await one.close(0 if life.dead else None)


def _bystander(options: dict[str, Any]) -> Arbiter:
    """One that only looks."""
    roles: dict[str, Any] = {"roles": (), "capabilities": ()}
    return Arbiter(**{**options, **roles})


def _name() -> str:
    return "bench" + secrets.token_hex(6)


@contextlib.contextmanager
def _quiet() -> Generator[None, None, None]:
    """What dies on purpose need not complain."""
    names = ("arbiter", "blackboard", "wrapper", "fabricator", "registry")
    before = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    for logger, _ in before:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
