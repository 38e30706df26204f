"""What does a task cost on the board, against bare Redis?

Every alternative talks to one server through one client library over one unix socket. Two are not ours:

- *stream queue*: the least Redis can be asked to do for a task, ``XADD``, ``XREADGROUP``, ``XACK`` through redis-py.
  It keeps no record of the task, no fence, no deadline, no dependants and no event for anybody else.
- *same calls, empty script*: exactly the calls the board made, with as many keys and bytes in both directions, to a
  script that does nothing. What is above it is the work of the board's scripts and of its Python; what is in it is the
  price of the client library, the socket and the server's loop.

Processor time is that of this program and the server together. It hardly changes when others use the machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from benchmarks.measure import Sample, in_turn, timed
from benchmarks.report import Row, rows
from blackboard.attempt import Attempt, Handler
from blackboard.board import STEP_LANE, Board
from blackboard.claims import Claim
from blackboard.events import RoundPlannedData
from blackboard.heartbeat import Heartbeat
from blackboard.testing import RedisServer
from blackboard.types import Completion, Limits, Status, TaskSpec, Usage
from blackboard.worker import Worker

PAYLOAD: JsonValue = {"kind": "bench", "text": "x" * 160}
"""About 190 bytes as JSON; the input and the result of every task."""
LANE = "bench"
LIMITS = Limits(rounds=1000, tasks=100_000)
STREAM, FLOOR = "stream queue", "same calls, empty script"
_EMPTY = "return string.rep('x', tonumber(ARGV[#ARGV]))"
_WORKERS, _CONCURRENCY = 4, 8


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    found: list[Row] = []
    repetitions = 3 if quick else 5
    with RedisServer() as server:
        async with await Board.open(server.url) as board:
            bench = Bench(board)
            await bench.prepare()
            for size, count in ((1, 60), (10, 20), (50, 6)):
                found += await _batches(bench, size, count if quick else 4 * count, repetitions, say)
            found += await _through_workers(bench, 200 if quick else 500, repetitions, say)
            found += await _hand_off(bench, 40 if quick else 150, repetitions, say)
    return found


@dataclass
class Call:
    """One call the board made to the server."""

    keys: int
    args: tuple[str | int, ...]
    reply: int


@dataclass
class Bench:
    """A board with a run that is never done, and the bare client beside it."""

    board: Board
    floor: str = ""
    run_id: str = ""
    _recorded: list[Call] | None = field(default=None)

    async def prepare(self) -> None:
        client: Any = self.board.client
        self.floor = await client.script_load(_EMPTY)
        await client.xgroup_create("{bare}queue", "group", "0", mkstream=True)
        evalsha = client.evalsha

        async def recording(sha: str, keys: int, *rest: str | int) -> Any:
            reply = await evalsha(sha, keys, *rest)
            if self._recorded is not None:
                self._recorded.append(Call(keys, rest, len(json.dumps(reply))))
            return reply

        client.evalsha = recording

    async def processor(self) -> float:
        """Processor seconds used so far by this program and by the server."""
        server: Any = await self.board.client.info("cpu")  # type: ignore[misc]
        return float(server["used_cpu_user"] + server["used_cpu_sys"]) + time.process_time()

    async def record(self, what: Callable[[], Any]) -> list[Call]:
        """What the board asks the server for while ``what`` is done."""
        self._recorded = []
        try:
            await what()
            return self._recorded
        finally:
            self._recorded = None

    async def step(self) -> Claim:
        """The run's next step, claimed; a new run when the last one has had many rounds."""
        while True:
            claims = await self.board.claim("driver", [STEP_LANE])
            if claims and claims[0].round < 900 and claims[0].run_id == self.run_id:
                return claims[0]
            if claims or not self.run_id:
                self.run_id = await self.board.submit("bench", limits=LIMITS)
            else:
                await self.board.wait_for_work([STEP_LANE], 1.0)

    async def post(self, step: Claim, size: int) -> None:
        planned = RoundPlannedData(
            round=step.round, message={"role": "assistant", "content": []}, calls=(), usage=Usage(), model="none"
        )
        tasks = [
            TaskSpec(key=f"t{n}", tool_use_id=f"t{n}", capability="bench", lane=LANE, input=PAYLOAD)
            for n in range(size)
        ]
        await self.board.commit_step(step, planned, tasks, LIMITS)

    async def round(self, size: int) -> list[float]:
        """Post, claim and complete ``size`` tasks; seconds from posting to the end of each."""
        start = time.perf_counter()
        await self.post(await self.step(), size)
        claims = await self.board.claim("worker", [LANE], n=size)

        async def complete(claim: Claim) -> float:
            await self.board.complete(claim, claim.completion(Status.SUCCEEDED, data=PAYLOAD))
            return time.perf_counter() - start

        return list(await asyncio.gather(*map(complete, claims)))

    async def replay(self, calls: Sequence[Call], at_once: int = 1) -> None:
        """The same calls to a script that does nothing."""
        waiting = iter(calls)

        async def caller() -> None:
            for call in waiting:
                await self.board.client.evalsha(self.floor, call.keys, *call.args, call.reply)  # type: ignore[misc,arg-type]

        await asyncio.gather(*(caller() for _ in range(at_once)))

    async def stream(self, size: int) -> None:
        """Post, claim and acknowledge ``size`` entries of a stream, in three round trips."""
        client: Any = self.board.client
        body = json.dumps(PAYLOAD)
        if size == 1:
            await client.xadd("{bare}queue", {"d": body})
        else:
            pipe = client.pipeline(transaction=False)
            for _ in range(size):
                pipe.xadd("{bare}queue", {"d": body})
            await pipe.execute()
        found = await client.xreadgroup("group", "worker", {"{bare}queue": ">"}, count=size)
        await client.xack("{bare}queue", "group", *(entry[0] for entry in found[0][1]))


async def _batches(bench: Bench, size: int, count: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    calls = []
    for _ in range(3):
        calls = await bench.record(lambda: bench.round(size))
    ours = "one task: post, claim, complete" if size == 1 else f"{size} tasks at once: post, claim, complete"

    async def board() -> Sample:
        latencies: list[float] = []
        began = time.perf_counter()
        for _ in range(count):
            latencies += await bench.round(size)
        return Sample(count * size, time.perf_counter() - began, latencies)

    async def stream() -> Sample:
        return _times(await timed(lambda: bench.stream(size), count), size)

    async def floor() -> Sample:
        # What was done at once is replayed at once: the completions.
        first, rest = calls[: len(calls) - size], calls[len(calls) - size :]

        async def once() -> None:
            await bench.replay(first)
            await bench.replay(rest, at_once=size)

        return _times(await timed(once, count), size)

    measured = await in_turn({ours: board, FLOOR: floor, STREAM: stream}, repetitions, say, bench.processor)
    return rows("board", measured, [ours], [FLOOR, STREAM], "tasks/s")


def _times(sample: Sample, size: int) -> Sample:
    return Sample(sample.units * size, sample.seconds, sample.latencies)


async def _through_workers(bench: Bench, tasks: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    """Worker loops with a handler that does nothing, several in one process."""
    ours = f"{tasks} tasks through {_WORKERS} worker loops of {_CONCURRENCY}"

    async def handle(attempt: Attempt) -> Completion:
        return attempt.claim.completion(Status.SUCCEEDED, data=PAYLOAD)

    async def all_of_them() -> None:
        await bench.post(await bench.step(), tasks)
        held = await bench.step()  # there is a next step as soon as the last task has ended
        await bench.board.release(held)

    async def board() -> Sample:
        async with _employed(bench.board, handle, _WORKERS, _CONCURRENCY):
            began = time.perf_counter()
            await all_of_them()
            return Sample(tasks, time.perf_counter() - began)

    async def recorded() -> None:
        async with _employed(bench.board, handle, _WORKERS, _CONCURRENCY):
            await all_of_them()

    calls = await bench.record(recorded)

    async def floor() -> Sample:
        began = time.perf_counter()
        await bench.replay(calls[:2])
        await bench.replay(calls[2:], at_once=_WORKERS * _CONCURRENCY)
        return Sample(tasks, time.perf_counter() - began)

    async def stream() -> Sample:
        client: Any = bench.board.client
        body = json.dumps(PAYLOAD)
        left = tasks

        async def consumer(name: str) -> None:
            nonlocal left
            while left > 0:
                found = await client.xreadgroup("group", name, {"{bare}queue": ">"}, count=_CONCURRENCY)
                if not found:
                    await asyncio.sleep(0)
                    continue
                # As in the worker loop, each task ends on its own.
                await asyncio.gather(*(client.xack("{bare}queue", "group", entry[0]) for entry in found[0][1]))
                left -= len(found[0][1])

        began = time.perf_counter()
        pipe = client.pipeline(transaction=False)
        for _ in range(tasks):
            pipe.xadd("{bare}queue", {"d": body})
        await pipe.execute()
        await asyncio.gather(*(consumer(f"c{n}") for n in range(_WORKERS)))
        return Sample(tasks, time.perf_counter() - began)

    measured = await in_turn({ours: board, FLOOR: floor, STREAM: stream}, repetitions, say, bench.processor)
    return rows("board", measured, [ours], [FLOOR, STREAM], "tasks/s")


@asynccontextmanager
async def _employed(board: Board, handle: Handler, workers: int, concurrency: int) -> AsyncGenerator[None, None]:
    heartbeat = Heartbeat(board)
    employed = [Worker(board, heartbeat, "bench", [LANE], handle, concurrency=concurrency) for _ in range(workers)]
    running = [asyncio.create_task(worker.run()) for worker in employed]
    await asyncio.sleep(0.02)  # until each has looked once and sleeps on the doorbell
    try:
        yield
    finally:
        await asyncio.gather(*(worker.drain(1.0) for worker in employed))
        await asyncio.gather(*running)
        await asyncio.to_thread(heartbeat.close)


async def _hand_off(bench: Bench, count: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    """From just before posting until a sleeping worker's handler has the task."""
    ours, bare = "hand-off: posting to a sleeping worker's handler", "LPUSH to BLPOP"
    pause = 0.004

    async def board() -> Sample:
        started: asyncio.Queue[float] = asyncio.Queue()

        async def handle(attempt: Attempt) -> Completion:
            started.put_nowait(time.perf_counter())
            return attempt.claim.completion(Status.SUCCEEDED, data=PAYLOAD)

        latencies: list[float] = []
        async with _employed(bench.board, handle, 1, 1):
            for _ in range(count):
                step = await bench.step()
                await asyncio.sleep(pause)  # until the worker sleeps again
                start = time.perf_counter()
                await bench.post(step, 1)
                latencies.append(await started.get() - start)
        return Sample(count, sum(latencies), latencies)

    async def raw() -> Sample:
        client: Any = bench.board.client
        sleeper: Any = bench.board.engine.blocking_client(5.0)
        body = json.dumps(PAYLOAD)

        async def pop() -> float:
            await sleeper.blpop(["{bare}list"], timeout=5.0)
            return time.perf_counter()

        latencies: list[float] = []
        for _ in range(count):
            popped = asyncio.ensure_future(pop())
            await asyncio.sleep(pause)
            start = time.perf_counter()
            await client.lpush("{bare}list", body)
            latencies.append(await popped - start)
        await sleeper.aclose()
        return Sample(count, sum(latencies), latencies)

    measured = await in_turn({ours: board, bare: raw}, repetitions, say)
    return rows("board", measured, [ours], [bare])
