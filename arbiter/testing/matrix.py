"""The crash matrix: every script call of a story, with every fault at it, in real processes on a real server.

The story is played once undisturbed; its calls and its answer are what the cases are made of and measured by. A case
plays it again with one fault, starts it anew when its process died, and then looks: the same answer, every invariant of
the protocol, each run's log folding to its record, each capability registered once.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, cast

from pydantic import JsonValue

from arbiter.fold import fold
from arbiter.testing import clock
from arbiter.testing.clock import Clock
from arbiter.testing.injection import ASKED, BOUNDARIES, Called, Fault
from arbiter.testing.player import Job, Told, play
from arbiter.testing.story import LEASE_SECONDS
from blackboard import invariants
from blackboard.board import Board
from blackboard.testing import RedisServer
from registry import Registry

LOOP = "arbiter.testing.story:loop"
CASE_SECONDS = 60.0
MOST_LIVES = 6
_STALL_SECONDS = 6.0
_FULL_SECONDS = 0.5
_READS = ("due", "schedule_due", "catalog_versions", "catalog_pointers", "catalog_load", "catalog_keys")
_ENOUGH = {"beat": 2, "catalog_versions": 1, "catalog_pointers": 1, "catalog_load": 1, "catalog_keys": 1, "claim": 4}
"""Of calls that only read, or that are all alike, the first ones are enough."""


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One row of the enumeration. :attr:`id` reproduces it."""

    lives: tuple[str, ...] = ("",)
    """The fault of each process in turn; after the last of them one without a fault."""
    skew_seconds: float = 0.0
    resend: int | None = None

    @property
    def id(self) -> str:
        if self.skew_seconds:
            return f"skew:{self.skew_seconds:g}"
        if self.resend is not None:
            return f"resend:{self.resend}"
        return "+".join(self.lives) or "undisturbed"

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case with this id."""
        kind, _, value = text.partition(":")
        if kind == "skew":
            return cls(skew_seconds=float(value))
        if kind == "resend":
            return cls(resend=int(value))
        if text == "undisturbed":
            return cls()
        return cls(tuple(str(Fault.parse(one)) for one in text.split("+")))

    @property
    def row(self) -> tuple[str, str]:
        """Role and script, or what else it is about."""
        if self.skew_seconds:
            return "all", "clock skew"
        if self.resend is not None:
            return "all", "every call delivered again"
        fault = Fault.parse(self.lives[-1])
        return fault.role, fault.script + (" after a crash" if len(self.lives) > 1 else "")

    @property
    def column(self) -> str:
        return "case" if self.skew_seconds or self.resend is not None else Fault.parse(self.lives[-1]).boundary


@dataclass(slots=True)
class Outcome:
    """How a case ended."""

    case: Case
    problems: list[str] = field(default_factory=list[str])
    fired: bool = True
    """False: the call never came, so nothing was tested."""
    seconds: float = 0.0
    lives: int = 1
    calls: list[Called] = field(default_factory=list[Called])
    answer: JsonValue = None

    @property
    def word(self) -> str:
        return "failed" if self.problems else "passed" if self.fired else "not reached"


class Matrix:
    """Runs cases of one story. Use :func:`opened`.

    Args:
        server: for cases that leave the server alone; those that do not start one of their own.
        story: ``module:function``; see :mod:`arbiter.testing.story`.
    """

    def __init__(self, server: RedisServer, story: str = LOOP) -> None:
        self._server, self._story = server, story
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["arbiter.testing.preloaded"])
        self._number = 0
        self._before: Outcome | None = None

    async def baseline(self) -> Outcome:
        """The story undisturbed: its answer and its calls."""
        if self._before is None:
            self._before = await self._run(Case(("",)), None)
            if self._before.problems:
                raise RuntimeError(f"The story fails without any fault: {self._before.problems}")
        return self._before

    async def cases(self, boundaries: Iterable[str] = BOUNDARIES) -> list[Case]:
        """Every case there is, in a fixed order."""
        wanted = [name for name in BOUNDARIES if name in set(boundaries)]
        called_at = points((await self.baseline()).calls)
        found: list[Case] = []
        seen: Counter[tuple[str, str]] = Counter()
        for called in called_at:
            seen[called.role, called.script] += 1
            for boundary in wanted:
                if boundary not in ASKED or _worth_asking(called, boundary, seen[called.role, called.script]):
                    found.append(Case((str(called.at(boundary)),)))
        # What only happens in the process after one that died.
        for first in ("wrapper:complete:1:before", "arbiter:commit:5:before", "fabricator:progress:9:after"):
            for boundary in wanted:
                if boundary not in ASKED:
                    found.append(Case((first, f"sweeper:expire:1:{boundary}")))
        found += [Case(skew_seconds=86_400.0), Case(skew_seconds=-86_400.0), Case(resend=0), Case(resend=1)]
        return found

    async def run(self, case: Case) -> Outcome:
        """Play one case and check everything."""
        expected = (await self.baseline()).answer
        began = time.monotonic()
        try:
            async with asyncio.timeout(CASE_SECONDS):
                outcome = await self._run(case, expected)
        except TimeoutError:
            outcome = Outcome(case, [f"G6: it did not end within {CASE_SECONDS:g} s"])
        return replace(outcome, seconds=time.monotonic() - began)

    async def _run(self, case: Case, expected: JsonValue) -> Outcome:
        self._number += 1
        own = any(life.rpartition(":")[2] in ("server", "stall", "full") for life in case.lives)
        with RedisServer() if own else contextlib.nullcontext(self._server) as server:
            name = f"case{os.getpid()}-{self._number}"
            async with await Board.open(server.url, board=name, lease_seconds=LEASE_SECONDS) as board:
                try:
                    lives = _Lives(self._context, server, board, Job(server.url, name, self._story), case)
                    outcome = await lives.play()
                    await self._judge(board, outcome, expected)
                finally:
                    await _forget(board)
        return outcome

    async def _judge(self, board: Board, outcome: Outcome, expected: JsonValue) -> None:
        if expected is not None and outcome.answer != expected and not outcome.problems:
            outcome.problems.append(f"another answer: {outcome.answer}")
        outcome.problems += await invariants.faults(board)
        for run in await board.runs(1000):
            state = fold(run.id, await board.history(run.id))
            if (state.status, len(state.rounds)) != (run.status, run.round) or not state.done:
                outcome.problems.append(f"G9 fold of {run.id}: {state.status} {len(state.rounds)}, not {run}")
        changes = Counter((change.name, change.verb) for change in await Registry(board.catalog).changes())
        twice = [key for key, count in changes.items() if count > 1 and key[1] in ("registered", "activated")]
        outcome.problems += [f"G4 {name} was {verb} twice" for name, verb in twice]


@contextlib.asynccontextmanager
async def opened(story: str = LOOP) -> AsyncGenerator[Matrix, None]:
    """A matrix on a server of its own."""
    clock.install()
    try:
        with RedisServer() as server:
            yield Matrix(server, story)
    finally:
        clock.uninstall()


class _Lives:
    """The processes of one case, one after the other, or beside each other for a zombie."""

    def __init__(self, context: Any, server: RedisServer, board: Board, job: Job, case: Case) -> None:
        self._context, self._server, self._board, self._job, self._case = context, server, board, job, case
        self._clock = Clock(board)
        self._running: list[ForkServerProcess] = []

    async def play(self) -> Outcome:
        case = self._case
        outcome = Outcome(case)
        fired = 0
        try:
            for number in range(MOST_LIVES):
                fault = case.lives[number] if number < len(case.lives) else ""
                job = replace(self._job, faults=(fault,) if fault else (), skew_seconds=case.skew_seconds)
                told = await self._one(replace(job, resend=case.resend))
                outcome.lives = number + 1
                if told is None or told.refused:  # killed, or its program ended: leases run out, retries are due
                    fired += told.fired if told else 1
                    if told:
                        await asyncio.sleep(_FULL_SECONDS)
                    sweep = not any(":expire:" in life for life in case.lives)  # there the next process is to do it
                    await self._clock.advance(LEASE_SECONDS + 1, sweep=sweep)
                    await self._clock.advance(2, sweep=sweep)
                    continue
                fired += told.fired
                outcome.answer, outcome.calls = told.answer, told.calls
                outcome.fired = fired >= sum(bool(life) for life in case.lives)
                outcome.problems += [told.error] if told.error else []
                outcome.problems += [f"G4 changed by a repeated call: {key}" for key in told.changed]
                return outcome
            outcome.problems.append(f"no process lived to the end, of {MOST_LIVES}")
            return outcome
        finally:
            for process in self._running:
                if process.is_alive():
                    process.kill()
                await asyncio.to_thread(process.join)

    async def _one(self, job: Job) -> Told | None:
        """Play one process to its end; None when it was killed."""
        here, there = self._context.Pipe()
        process = cast(ForkServerProcess, self._context.Process(target=play, args=(there, job)))
        await asyncio.to_thread(process.start)
        self._running.append(process)
        there.close()
        while True:
            try:
                said = await _received(here)
            except (EOFError, ConnectionResetError):
                await asyncio.to_thread(process.join)
                here.close()
                if process.exitcode == -signal.SIGKILL:
                    return None
                return Told(error=f"the process ended with {process.exitcode}")
            if isinstance(said, Told):
                await asyncio.to_thread(process.join)
                here.close()
                return said
            await self._trouble(str(said), process, job)
            here.send("go on")

    async def _trouble(self, what: str, process: ForkServerProcess, job: Job) -> None:
        match what:
            case "server":
                await asyncio.to_thread(self._server.restart)
            case "stall":
                self._server.stall()
                asyncio.get_running_loop().call_later(_STALL_SECONDS, self._server.resume)
            case "full":
                with self._server.client() as operator:
                    operator.config_set("maxmemory", "1")  # pyright: ignore[reportUnknownMemberType]
                asyncio.get_running_loop().call_later(_FULL_SECONDS, self._relieve)
            case "zombie":
                assert process.pid is not None
                os.kill(process.pid, signal.SIGSTOP)
                await self._clock.advance(LEASE_SECONDS + 1)
                await self._clock.advance(2)
                told = await self._one(replace(job, faults=()))
                os.kill(process.pid, signal.SIGCONT)
                if told is None or told.error:
                    raise RuntimeError(f"the process beside the frozen one failed: {told}")
            case _:
                raise ValueError(what)

    def _relieve(self) -> None:
        with self._server.client() as operator:
            operator.config_set("maxmemory", "0")  # pyright: ignore[reportUnknownMemberType]


async def _received(connection: Connection) -> Any:
    """What the process says next; waits in the event loop, so that a time-out of the case ends it."""
    while not connection.poll():
        await asyncio.sleep(0.005)
    return connection.recv()


def points(calls: Sequence[Called]) -> list[Called]:
    """The calls at which faults are worth making: all that change something, and of those that are all alike the first."""

    def enough(called: Called) -> int:
        if called.role == "sweeper" or (called.role, called.script) == ("client", "catalog_register"):
            return 2
        return _ENOUGH.get(called.script, 1_000)

    return [called for called in calls if called.number <= enough(called)]


def _worth_asking(called: Called, boundary: str, seen: int) -> bool:
    """Faults outside the process are slow to make: they come at the calls that change most."""
    if called.script in _READS:
        return False
    match boundary:
        case "children":
            return called.role in ("fabricator", "wrapper") and called.script in ("progress", "claim", "complete")
        case "stall" | "full":
            return seen == 1 and called.script in ("submit", "commit", "complete", "progress", "claim", "beat")
        case "zombie":
            return called.script in ("commit", "complete", "fail", "progress") and seen in (1, 4, 9, 17)
        case _:
            return seen <= 3


async def _forget(board: Board) -> None:
    client: Any = board.client
    keys = [key async for key in client.scan_iter(match=f"*{board.name}*", count=1000)]
    if keys:
        await client.delete(*keys)
