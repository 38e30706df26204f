"""The crash matrix: every script call of some stories, with every fault at it, in real processes on a real server.

Each story is played once undisturbed; its calls and its answer are what the cases are made of and measured by. A case
plays one again with one fault, starts it anew when its process died, and then looks: the same answer, every invariant of
the protocol, no reservation left, each run's log folding to its record, no capability registered or activated more often.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from typing import Any, cast

from arbiter.fold import fold
from arbiter.testing import clock
from arbiter.testing.cases import AFTER_A_CRASH, Case, Outcome, points, worthwhile
from arbiter.testing.clock import Clock
from arbiter.testing.injection import ASKED, BOUNDARIES
from arbiter.testing.player import Job, Told, play
from arbiter.testing.story import LEASE_SECONDS
from blackboard import invariants
from blackboard.board import Board
from blackboard.budgets import LEASE_SECONDS as HOLD_SECONDS
from blackboard.budgets import Budgets
from blackboard.errors import BadInput
from blackboard.testing import KEEPING, RedisServer
from registry import Registry

STORIES = {
    "loop": "arbiter.testing.story:loop",
    "desk": "arbiter.testing.desk:desk",
    "bids": "arbiter.testing.bids:bids",
    "plans": "arbiter.testing.planned:plans",
    "reruns": "arbiter.testing.again:reruns",
}
"""What is played, by its name in the id of a case."""
CASE_SECONDS = 120.0
MOST_LIVES = 6
_STALL_SECONDS = 6.0
_SERVERS = ("server", "stall", "full", "demoted")
"""Faults of the server: such a case has one of its own."""
_FULL_SECONDS = 0.5
_DEMOTED_SECONDS = 0.5


class Matrix:
    """Runs cases. Use :func:`opened`.

    Args:
        server: for cases that leave the server alone; those that do not start one of their own.
        stories: ``module:function`` by name; see :mod:`arbiter.testing.story`.
    """

    def __init__(self, server: RedisServer, stories: Mapping[str, str] = STORIES) -> None:
        self._server, self._stories = server, stories
        self._context = multiprocessing.get_context("forkserver")
        played = [named.partition(":")[0] for named in stories.values()]
        self._context.set_forkserver_preload(["arbiter.testing.preloaded", *played])
        self._number = 0
        self._before: dict[str, Outcome] = {}

    async def baseline(self, story: str) -> Outcome:
        """A story undisturbed: its answer and its calls.

        Raises:
            BadInput: there is no such story here, or it fails without any fault.
        """
        if story not in self._stories:
            raise BadInput("story", story, f"The stories here are {', '.join(self._stories)}.")
        if story not in self._before:
            played = await self._run(Case(story), None)
            if played.problems:
                raise BadInput(
                    "story", self._stories[story], f"It fails without any fault: {'; '.join(played.problems)}"
                )
            self._before[story] = played
        return self._before[story]

    async def cases(self, boundaries: Iterable[str] = BOUNDARIES) -> list[Case]:
        """Every case there is, in a fixed order."""
        wanted = [name for name in BOUNDARIES if name in set(boundaries)]
        found: list[Case] = []
        for story in self._stories:
            calls = points((await self.baseline(story)).calls)
            last = {(called.role, called.script): called.number for called in calls}
            crashes = AFTER_A_CRASH.get(story, ())
            for called in calls:
                if crashes and called.script == "expire":
                    continue  # a lease that ended because the machine was busy: the next process might not see it
                for boundary in wanted:
                    if worthwhile(called, boundary, last[called.role, called.script]):
                        found.append(Case(story, (str(called.at(boundary)),)))
            # What only happens in the process after one that died.
            for first in crashes:
                for boundary in wanted:
                    if boundary not in ASKED:
                        found.append(Case(story, (first, f"sweeper:expire:1:{boundary}")))
            found += [Case(story, skew_seconds=seconds) for seconds in (86_400.0, -86_400.0)]
            found += [Case(story, resend=seed) for seed in (0, 1)]
        return found

    async def run(self, case: Case) -> Outcome:
        """Play one case and check everything."""
        before = await self.baseline(case.story)
        began = time.monotonic()
        try:
            async with asyncio.timeout(CASE_SECONDS):
                outcome = await self._run(case, before)
        except TimeoutError:
            outcome = Outcome(case, [f"G6: it did not end within {CASE_SECONDS:g} s"])
        except Exception as error:  # the other cases are played all the same
            outcome = Outcome(case, [f"{type(error).__name__}: {error}"])
        return replace(outcome, seconds=time.monotonic() - began)

    async def _run(self, case: Case, before: Outcome | None) -> Outcome:
        self._number += 1
        own = any(life.rpartition(":")[2] in _SERVERS for life in case.lives)
        with RedisServer(options=KEEPING) if own else contextlib.nullcontext(self._server) as server:
            name = f"case{os.getpid()}-{self._number}e"  # none of these names begins another
            async with await Board.open(server.url, board=name, lease_seconds=LEASE_SECONDS) as board:
                try:
                    lives = _Lives(self._context, server, board, Job(server.url, name, self._stories[case.story]), case)
                    outcome = await lives.play()
                    await self._judge(board, outcome, before)
                finally:
                    await _forget(board)
        return outcome

    async def _judge(self, board: Board, outcome: Outcome, before: Outcome | None) -> None:
        if before is not None and outcome.answer != before.answer and not outcome.problems:
            outcome.problems.append(f"another answer: {outcome.answer}")
        outcome.problems += await invariants.faults(board)
        await Clock(board).advance(HOLD_SECONDS + 1, sweep=False)
        await Budgets(board).sweep()
        outcome.problems += await invariants.held(board)
        for run in await board.runs(1000):
            state = fold(run.id, await board.history(run.id))
            if (state.status, len(state.rounds)) != (run.status, run.round) or not state.done:
                outcome.problems.append(f"G9 fold of {run.id}: {state.status} {len(state.rounds)}, not {run}")
        outcome.changes = Counter((change.name, change.verb) for change in await Registry(board.catalog).changes())
        if before is None:
            return
        for (name, verb), count in outcome.changes.items():
            usual = max(1, before.changes[name, verb])
            if verb in ("registered", "activated") and count > usual:
                outcome.problems.append(f"G4 {name} was {verb} {count} times, not {usual}")


@contextlib.asynccontextmanager
async def opened(stories: Mapping[str, str] = STORIES) -> AsyncGenerator[Matrix, None]:
    """A matrix on a server of its own."""
    clock.install()
    try:
        with RedisServer(options=("--appendonly", "no")) as server:  # nobody kills this one
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
                await _joined(process)
            await asyncio.gather(*self._relief)  # nobody can look at a server that is still in trouble

    async def _one(self, job: Job) -> Told | None:
        """Play one process to its end; None when it was killed."""
        here, there = self._context.Pipe()
        process = cast(ForkServerProcess, self._context.Process(target=play, args=(there, job)))
        process.start()  # not in a thread: multiprocessing looks after all its processes, which no two threads may at a time
        self._running.append(process)
        there.close()
        while True:
            await _readable(here.fileno())
            try:
                said = here.recv()
            except (EOFError, ConnectionResetError):
                await _joined(process)
                here.close()
                if process.exitcode == -signal.SIGKILL:
                    return None
                return Told(error=f"the process ended with {process.exitcode}")
            if isinstance(said, Told):
                await _joined(process)
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


async def _readable(fd: int) -> None:
    """Return when something can be read there, or its other end was closed."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


async def _joined(process: ForkServerProcess) -> None:
    if process.exitcode is None:
        await _readable(process.sentinel)
    process.join()


async def _forget(board: Board) -> None:
    client: Any = board.client
    keys = [key async for key in client.scan_iter(match=f"*{board.name}*", count=1000)]
    if keys:
        await client.delete(*keys)
