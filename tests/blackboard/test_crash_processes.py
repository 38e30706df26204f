"""Real processes, really killed: SIGKILL, SIGSTOP past the lease, the server's death, calls sent twice; then every
invariant is checked. ``ARBITER_CHAOS_SECONDS=60 ARBITER_SEED=7`` runs the longer version.

This file is also the program of the processes: ``python test_crash_processes.py URL BOARD LEASE SEED ROLE``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from strict import TERMINAL, Play, done, faults, spec, watch_scripts

from blackboard import _script
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.heartbeat import Heartbeat
from blackboard.sweeper import Sweeper
from blackboard.testing import KEEPING, RedisServer
from blackboard.types import Completion, Failure, RetryPolicy, Status
from blackboard.worker import Worker

SEED = int(os.environ.get("ARBITER_SEED", "1"))
SECONDS = float(os.environ.get("ARBITER_CHAOS_SECONDS", "2.0"))
ROUNDS = 2
PATIENT = RetryPolicy(max_attempts=50, interval_seconds=0.05, cap_seconds=0.1)


# ---- the processes -------------------------------------------------------------------------------------------------


async def _process(url: str, name: str, lease: float, seed: int, role: str) -> None:
    chance = random.Random(seed)
    watch_scripts(pytest.MonkeyPatch())
    run = _script.run

    async def twice(*args: Any, **more: Any) -> Any:
        reply = await run(*args, **more)
        if chance.random() < 0.05:
            with contextlib.suppress(_script.ScriptRefused):
                await run(*args, **more)
        return reply

    _script.run = twice
    async with await Board.open(url, board=name, lease_seconds=lease) as board:
        heartbeat = Heartbeat(board)
        play = Play(board, None)  # type: ignore[arg-type]

        async def plan(attempt: Attempt) -> None:
            n = attempt.claim.round
            edges: dict[str, tuple[str, ...]] = {"a": (), "b": (), "c": ("a", "b"), "d": ("c",)} if n <= ROUNDS else {}
            tasks = [
                spec(k, after, retry=PATIENT, input=[n, *({"$ref": d} for d in after)]) for k, after in edges.items()
            ]
            await play.plan(attempt.claim, *tasks, answer=None if tasks else "end")

        async def work(attempt: Attempt) -> Completion:
            if role == "hang":
                print(attempt.claim.task_id, flush=True)
                time.sleep(60)  # noqa: ASYNC251  killed in here
            await asyncio.sleep(chance.uniform(0, 0.03))
            if chance.random() < 0.03:
                error = Failure(type="handler_error", message="chance", retryable=True)
                return attempt.claim.completion(Status.FAILED, error=error)
            given: Any = attempt.claim.input()
            return done(attempt.claim, sum(given))

        workers = [Worker(board, heartbeat, "w", ["work"], work, concurrency=2)]
        if role != "hang":
            workers.append(Worker(board, heartbeat, "p", ["arbiter"], plan))
        print("ready", flush=True)
        await asyncio.gather(*(w.run() for w in workers), Sweeper(board, interval_seconds=0.1).run())


# ---- the tests -----------------------------------------------------------------------------------------------------


class Crowd:
    """Processes started by a test; all are gone when it ends."""

    def __init__(self, url: str, board: str, lease: float) -> None:
        self._args = (url, board, str(lease))
        self.running: list[subprocess.Popen[str]] = []
        self._number = 0

    def hire(self, role: str = "work") -> subprocess.Popen[str]:
        self._number += 1
        log = sys.stderr if os.environ.get("ARBITER_CHAOS_LOG") else subprocess.DEVNULL
        process = subprocess.Popen(
            [sys.executable, __file__, *self._args, str(SEED * 1000 + self._number), role],
            stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        self.running.append(process)
        return process

    async def said(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return (await asyncio.to_thread(process.stdout.readline)).strip()

    def end(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    with RedisServer(options=KEEPING) as server:
        yield server


async def test_g3_g6_a_task_held_by_a_process_that_is_killed_is_done_by_another_once(server: RedisServer) -> None:
    async with await Board.open(server.url, board="kill", lease_seconds=1.0) as board:
        play = Play(board, None)  # type: ignore[arg-type]
        crowd = Crowd(server.url, "kill", 1.0)
        try:
            holder = crowd.hire("hang")
            assert await crowd.said(holder) == "ready"
            run = await play.run(spec("a", input=[20, 1], retry=PATIENT))
            task = await crowd.said(holder)
            lease = board.shard_of(run).prefix + "lease"
            first: Any = await board.client.zscore(lease, task)
            async with asyncio.timeout(30):  # its heartbeat goes on, although its event loop is blocked
                while not cast(Any, await board.client.zscore(lease, task)) > first:
                    await asyncio.sleep(0.02)
            holder.kill()
            async with asyncio.timeout(30):
                while not (claims := await play.take(worker="other")):
                    await asyncio.sleep(0.02)
                    await board.sweep()
            (claim,) = claims
            assert (claim.task_id, claim.attempt) == (task, 2)
            await board.complete(claim, done(claim, 21))
            ends = [e for e in await board.history(run) if e.subject == task and isinstance(e.data, Completion)]
            assert [(e.data.data, e.data.attempts) for e in ends] == [(21, 2)]
            assert await faults(board) == []
        finally:
            crowd.end()


async def test_chaos_processes_and_server_die_and_freeze_and_every_run_ends_right(server: RedisServer) -> None:
    chance = random.Random(SEED)
    lease = 0.5
    async with await Board.open(server.url, board="chaos", lease_seconds=lease) as board:
        crowd = Crowd(server.url, "chaos", lease)
        done_by: Counter[str] = Counter()
        try:
            workers = [crowd.hire() for _ in range(3)]
            for worker in workers:
                assert await crowd.said(worker) == "ready"
            runs: list[str] = []
            running: list[str] = []
            frozen: list[tuple[subprocess.Popen[str], float]] = []
            started, next_fault = time.monotonic(), 0.2
            while (now := time.monotonic() - started) < SECONDS or done_by.total() < 3:
                running = [run for run in running if (await board.summary(run)).status not in TERMINAL]
                if len(running) < 12:
                    run = await board.submit("go", idempotency_key=f"k{len(runs)}", tenant=chance.choice("ab"))
                    runs.append(run)
                    running.append(run)
                    if len(runs) % 9 == 8:
                        await board.cancel_run(running[0])
                if now > next_fault:
                    next_fault = now + 0.3
                    fault = chance.choice(("kill", "kill", "freeze", "freeze", "server"))
                    done_by[fault] += 1
                    free = [w for w in workers if w not in [f for f, _ in frozen]]
                    if fault == "server":
                        server.kill9()
                        await asyncio.sleep(0.02)
                        server.start()
                    elif fault == "freeze" and len(free) > 1:
                        victim = chance.choice(free)
                        os.kill(victim.pid, signal.SIGSTOP)
                        frozen.append((victim, now + lease * 1.6))
                    elif free:
                        victim = chance.choice(free)
                        victim.kill()
                        workers.remove(victim)
                        workers.append(crowd.hire())
                for victim, until in list(frozen):
                    if now > until:
                        os.kill(victim.pid, signal.SIGCONT)
                        frozen.remove((victim, until))
                await asyncio.sleep(chance.uniform(0.02, 0.08))
            for victim, _ in frozen:
                os.kill(victim.pid, signal.SIGCONT)
            async with asyncio.timeout(60 + SECONDS):
                for run in runs:
                    while (await board.summary(run)).status not in TERMINAL:
                        await asyncio.sleep(0.05)
        finally:
            crowd.end()
        bad = await faults(board)
        assert bad == [], f"seed {SEED}, faults {done_by}: {bad[:5]}"
        for run in runs:
            summary = await board.summary(run)
            assert summary.status in ("succeeded", "cancelled"), (SEED, summary)
            if summary.status == "succeeded":
                ends = [
                    e for e in await board.history(run) if isinstance(e.data, Completion) and e.data.node == "count"
                ]
                values = {e.subject.removeprefix(run): e.data.data for e in ends}
                expected = {f"/{n}.{k}": v for n in (1, 2) for k, v in (("a", n), ("b", n), ("c", 3 * n), ("d", 4 * n))}
                assert values == expected
        print(f"seed {SEED}: {len(runs)} runs, {await board.client.hlen(board.shards[0].tasks)} tasks, {dict(done_by)}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    url_, name_, lease_, seed_, role_ = sys.argv[1:]
    asyncio.run(_process(url_, name_, float(lease_), int(seed_), role_))
