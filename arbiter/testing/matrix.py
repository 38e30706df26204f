"""The crash matrix: every script call of some stories, with every fault at it, in real processes on a real server.

Each story is played once undisturbed; its calls and its answer are what the cases are made of and measured by. A case
plays one again with one fault, starts it anew when its process died, and then looks: the same answer, every invariant of
the protocol, no reservation left, each run's log folding to its record, each capability registered once.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
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
from blackboard.budgets import LEASE_SECONDS as HOLD_SECONDS
from blackboard.budgets import Budgets
from blackboard.errors import BadInput
from blackboard.testing import KEEPING, RedisServer
from registry import Registry

STORIES = {"loop": "arbiter.testing.story:loop", "desk": "arbiter.testing.desk:desk"}
"""What is played, by its name in the id of a case."""
CASE_SECONDS = 60.0
MOST_LIVES = 6
_STALL_SECONDS = 6.0
_SERVERS = ("server", "stall", "full", "demoted")
"""Faults of the server: such a case has one of its own."""
_FULL_SECONDS = 0.5
_DEMOTED_SECONDS = 0.5
_READS = (
    "due", "budget_due", "budget_read", "schedule_due", "schedule_read", "catalog_versions", "catalog_pointers",
    "catalog_load", "catalog_keys", "entry_read", "entry_query", "agenda_read",
)  # fmt: skip
_KILLS = ("before", "after")
_ALIKE = 2
"""Of calls of one script by one role, so many are given every fault; the process is killed at further ones too."""
_FEW = {"claim": 3, "release": 2, "beat": 2, "catalog_register": 1, "submit_call": 2, "trim_lane": 1, "budget_reserve": 2,
        "budget_settle": 2}  # fmt: skip
"""Of these even so many are enough: one is like the other. The last one of each script always counts."""
_AFTER_A_CRASH = {
    "loop": ("wrapper:complete:1:before", "arbiter:commit:5:before", "fabricator:progress:9:after"),
    "desk": ("wrapper:fail:1:before", "client:release:1:before"),
}
"""What kills the first process where the second is to find a lease that ended."""


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One row of the enumeration. :attr:`id` reproduces it."""

    story: str = "loop"
    """One of the matrix's stories, by name."""
    lives: tuple[str, ...] = ("",)
    """The fault of each process in turn; after the last of them one without a fault."""
    skew_seconds: float = 0.0
    resend: int | None = None

    @property
    def id(self) -> str:
        if self.skew_seconds:
            what = f"skew:{self.skew_seconds:g}"
        elif self.resend is not None:
            what = f"resend:{self.resend}"
        else:
            what = "+".join(self.lives) or "undisturbed"
        return what if self.story == "loop" else f"{self.story}/{what}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case with this id."""
        story, _, what = text.rpartition("/")
        story = story or "loop"
        kind, _, value = what.partition(":")
        if kind == "skew":
            return cls(story, skew_seconds=float(value))
        if kind == "resend":
            return cls(story, resend=int(value))
        if what == "undisturbed":
            return cls(story)
        return cls(story, tuple(str(Fault.parse(one)) for one in what.split("+")))

    @property
    def row(self) -> tuple[str, str]:
        """Role and script, or what else it is about."""
        if self.skew_seconds:
            way = "ahead" if self.skew_seconds > 0 else "behind"
            return "all", f"the process's own clock a day {way}"
        if self.resend is not None:
            how = "in another order" if self.resend else "backwards"
            return "all", f"every call delivered again after the end, {how}"
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
    """Runs cases. Use :func:`opened`.

    Args:
        server: for cases that leave the server alone; those that do not start one of their own.
        stories: ``module:function`` by name; see :mod:`arbiter.testing.story`.
    """

    def __init__(self, server: RedisServer, stories: Mapping[str, str] = STORIES) -> None:
        self._server, self._stories = server, stories
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["arbiter.testing.preloaded"])
        self._number = 0
        self._before: dict[str, Outcome] = {}

    async def baseline(self, story: str) -> Outcome:
        """A story undisturbed: its answer and its calls.

        Raises:
            BadInput: there is no such story here.
            RuntimeError: it fails without any fault.
        """
        if story not in self._stories:
            raise BadInput("story", story, f"The stories here are {', '.join(self._stories)}.")
        if story not in self._before:
            played = await self._run(Case(story), None)
            if played.problems:
                raise RuntimeError(f"The story {story} fails without any fault: {played.problems}")
            self._before[story] = played
        return self._before[story]

    async def cases(self, boundaries: Iterable[str] = BOUNDARIES) -> list[Case]:
        """Every case there is, in a fixed order."""
        wanted = [name for name in BOUNDARIES if name in set(boundaries)]
        found: list[Case] = []
        for story in self._stories:
            calls = points((await self.baseline(story)).calls)
            last = {(called.role, called.script): called.number for called in calls}
            for called in calls:
                for boundary in wanted:
                    if _worthwhile(called, boundary, last[called.role, called.script]):
                        found.append(Case(story, (str(called.at(boundary)),)))
            # What only happens in the process after one that died.
            for first in _AFTER_A_CRASH.get(story, ()):
                for boundary in wanted:
                    if boundary not in ASKED:
                        found.append(Case(story, (first, f"sweeper:expire:1:{boundary}")))
            found += [Case(story, skew_seconds=seconds) for seconds in (86_400.0, -86_400.0)]
            found += [Case(story, resend=seed) for seed in (0, 1)]
        return found

    async def run(self, case: Case) -> Outcome:
        """Play one case and check everything."""
        expected = (await self.baseline(case.story)).answer
        began = time.monotonic()
        try:
            async with asyncio.timeout(CASE_SECONDS):
                outcome = await self._run(case, expected)
        except TimeoutError:
            outcome = Outcome(case, [f"G6: it did not end within {CASE_SECONDS:g} s"])
        except Exception as error:  # the other cases are played all the same
            outcome = Outcome(case, [f"{type(error).__name__}: {error}"])
        return replace(outcome, seconds=time.monotonic() - began)

    async def _run(self, case: Case, expected: JsonValue) -> Outcome:
        self._number += 1
        own = any(life.rpartition(":")[2] in _SERVERS for life in case.lives)
        with RedisServer(options=KEEPING) if own else contextlib.nullcontext(self._server) as server:
            name = f"case{os.getpid()}-{self._number}e"  # none of these names begins another
            async with await Board.open(server.url, board=name, lease_seconds=LEASE_SECONDS) as board:
                try:
                    lives = _Lives(self._context, server, board, Job(server.url, name, self._stories[case.story]), case)
                    outcome = await lives.play()
                    await self._judge(board, outcome, expected)
                finally:
                    await _forget(board)
        return outcome

    async def _judge(self, board: Board, outcome: Outcome, expected: JsonValue) -> None:
        if expected is not None and outcome.answer != expected and not outcome.problems:
            outcome.problems.append(f"another answer: {outcome.answer}")
        outcome.problems += await invariants.faults(board)
        await Clock(board).advance(HOLD_SECONDS + 1, sweep=False)
        await Budgets(board).sweep()
        outcome.problems += await invariants.held(board)
        for run in await board.runs(1000):
            state = fold(run.id, await board.history(run.id))
            if (state.status, len(state.rounds)) != (run.status, run.round) or not state.done:
                outcome.problems.append(f"G9 fold of {run.id}: {state.status} {len(state.rounds)}, not {run}")
        changes = Counter((change.name, change.verb) for change in await Registry(board.catalog).changes())
        twice = [key for key, count in changes.items() if count > 1 and key[1] in ("registered", "activated")]
        outcome.problems += [f"G4 {name} was {verb} twice" for name, verb in twice]


@contextlib.asynccontextmanager
async def opened(stories: Mapping[str, str] = STORIES) -> AsyncGenerator[Matrix, None]:
    """A matrix on a server of its own."""
    clock.install()
    try:
        with RedisServer(options=KEEPING) as server:
            yield Matrix(server, stories)
    finally:
        clock.uninstall()


class _Lives:
    """The processes of one case, one after the other, or beside each other for a zombie."""

    def __init__(self, context: Any, server: RedisServer, board: Board, job: Job, case: Case) -> None:
        self._context, self._server, self._board, self._job, self._case = context, server, board, job, case
        self._clock = Clock(board)
        self._running: list[ForkServerProcess] = []
        self._relief: list[asyncio.Task[None]] = []

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
            await asyncio.gather(*self._relief)  # nobody can look at a server that is still in trouble

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
                self._afterwards(_STALL_SECONDS, self._server.resume)
            case "full":
                self._operate("CONFIG", "SET", "maxmemory", "1")
                self._afterwards(_FULL_SECONDS, lambda: self._operate("CONFIG", "SET", "maxmemory", "0"))
            case "demoted":
                self._operate("REPLICAOF", "127.0.0.1", "1")  # nobody answers there, so it keeps its data
                self._afterwards(_DEMOTED_SECONDS, lambda: self._operate("REPLICAOF", "NO", "ONE"))
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

    def _afterwards(self, seconds: float, relieve: Callable[[], None]) -> None:
        async def relief() -> None:
            await asyncio.sleep(seconds)
            relieve()

        self._relief.append(asyncio.create_task(relief()))

    def _operate(self, *command: str) -> None:
        with self._server.client() as operator:
            cast(Any, operator).execute_command(*command)


async def _received(connection: Connection) -> Any:
    """What the process says next; waits in the event loop, so that a time-out of the case ends it."""
    while not connection.poll():
        await asyncio.sleep(0.005)
    return connection.recv()


def points(calls: Sequence[Called]) -> list[Called]:
    """The calls at which faults are worth making: all that change something, and of those that are all alike the first
    ones and the last."""
    last = {(called.role, called.script): called.number for called in calls}

    def enough(called: Called) -> int:
        if called.script in _READS:
            return 1
        return 2 if called.role == "sweeper" else _FEW.get(called.script, 1_000)

    def counts(called: Called) -> bool:
        if called.number <= enough(called):
            return True
        # How often a process sweeps, renews and asks for work is not the same each time.
        steady = called.script not in (*_READS, "claim", "beat") and called.role != "sweeper"
        return steady and called.number == last[called.role, called.script]

    return [called for called in calls if counts(called)]


def _worthwhile(called: Called, boundary: str, last: int) -> bool:
    """Kills come at every call. What leaves the process alive comes at the first of a kind and the last; what only
    somebody else can do is slow to make and comes at the calls that change most."""
    number = called.number
    if boundary in _KILLS:
        return True
    if boundary not in ASKED:
        return number <= _ALIKE or number == last
    if called.script in _READS:
        return False
    match boundary:
        case "children" | "midway":
            wanted = ("progress", "claim", "complete")[: 3 if boundary == "children" else 2]
            return called.role in ("fabricator", "wrapper") and called.script in wanted
        case "stall":
            return number == 1 and called.script in (
                "submit", "commit", "complete", "complete_call", "progress", "claim", "beat"
            )  # fmt: skip
        case "full" | "demoted":
            return number == 1
        case "zombie":
            return called.script in (
                "commit",
                "complete",
                "complete_call",
                "fail",
                "progress",
                "retire_run",
                "entry_post",
            ) and number in (1, 4, 9, 17)
        case _:
            return number == 1


async def _forget(board: Board) -> None:
    client: Any = board.client
    keys = [key async for key in client.scan_iter(match=f"*{board.name}*", count=1000)]
    if keys:
        await client.delete(*keys)
