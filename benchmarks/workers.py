"""How much do several worker processes get done, against the same calls to scripts that do nothing?

Tasks are direct calls with an input and a result of about 190 bytes, all queued before the workers start. Each worker is a
process with one worker loop; its no-ops are timed from the sending of the claim that brings them to the taking of their
report. Every call such a worker made is recorded, and as many processes replay them to a script that does nothing, with as
many keys and bytes both ways, one process for each worker and as many calls at a time as the worker had attempts:

* *same calls, empty script*: through redis-py, each call on a connection of the pool, which is what redis-py offers;
* *the same, sent together*: through the board's client, which sends calls of the same moment in one write.

``python -m benchmarks.workers work|replay`` is such a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.exceptions import ResponseError

from benchmarks.board import PAYLOAD
from benchmarks.measure import Sample, in_turn
from benchmarks.processes import Child
from benchmarks.raw import SERIAL, serial
from benchmarks.report import Row, rows
from blackboard import garbage
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.heartbeat import Heartbeat
from blackboard.testing import RedisServer
from blackboard.types import Completion, Status
from blackboard.worker import Worker

LANE = "bench"
CONCURRENCY = 32
PROCESSES = (1, 2, 4)
FLOOR, TOGETHER = "same calls, empty script", "the same, sent together"
EMPTY = "return string.rep('x', tonumber(ARGV[#ARGV]))"
_PATIENCE_SECONDS = 120.0
Call = tuple[int, tuple[Any, ...], int]
"""Number of keys, keys and arguments, size of the reply."""


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await several((1, 2), 2000, 1, say) if quick else await several(PROCESSES, 6000, 3, say)


async def several(processes: Sequence[int], tasks: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    """The rows, for so many tasks a repetition shared by each number of worker processes."""
    found: list[Row] = []
    with RedisServer(tcp=True) as server:
        async with await Board.open(server.url) as board:
            calls = server.directory / "calls"
            calls.write_text(json.dumps(await _recorded(board, min(tasks, 1000))), "utf-8")
            for number in processes:
                ours = f"{number} worker process{'es' if number > 1 else ''}"
                measured = await in_turn(
                    {
                        ours: lambda n=number: _ours(board, server, n, tasks),
                        FLOOR: lambda n=number: _floor(board, server, n, tasks, calls, "one"),
                        TOGETHER: lambda n=number: _floor(board, server, n, tasks, calls, "together"),
                        SERIAL: lambda: asyncio.to_thread(serial, server, max(100, tasks // 5)),
                    },
                    repetitions, say,
                )  # fmt: skip
                found += rows("workers", measured, [ours], [FLOOR, TOGETHER, SERIAL], "tasks/s")
    return found


async def queue(board: Board, count: int) -> None:
    """Put so many direct calls on the board."""
    for start in range(0, count, 50):
        await asyncio.gather(*(board.submit_call("noop", PAYLOAD, lane=LANE) for _ in range(min(50, count - start))))


async def _ended(board: Board) -> None:
    """Until no task is open: each has a deadline as long as it is."""
    client: Any = board.client
    while await client.zcard(board.shards[0].prefix + "due"):
        await asyncio.sleep(0.01)


async def _at_rest(board: Board, *, anew: bool) -> None:
    """Until the server does not write its log anew, in a process of its own beside what is timed; ``anew``: it does so first."""
    client: Any = board.client
    if anew:
        with contextlib.suppress(ResponseError):  # it does so already
            await client.bgrewriteaof()
    while (told := await client.info("persistence"))["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"]:
        await asyncio.sleep(0.01)


async def _recorded(board: Board, count: int) -> list[Call]:
    """What a worker asks the server for while it does ``count`` tasks."""
    client: Any = board.client
    evalsha, calls = client.evalsha, list[Call]()

    async def recording(sha: str, keys: int, *rest: str | int) -> Any:
        reply = await evalsha(sha, keys, *rest)
        calls.append((keys, rest, len(json.dumps(reply))))
        return reply

    await queue(board, count)
    client.evalsha = recording
    try:
        async with _Employed(board, []):
            await _ended(board)
    finally:
        client.evalsha = evalsha
    return calls


class _Employed:
    """A worker loop that notes the seconds from claim to report of each task."""

    def __init__(self, board: Board, latencies: list[float]) -> None:
        self._board, self._heartbeat, self._latencies = board, Heartbeat(board), latencies
        self._worker = Worker(board, self._heartbeat, "bench", [LANE], _noop, concurrency=CONCURRENCY)

    async def __aenter__(self) -> None:
        claim, complete = self._board.claim_or_wait, self._board.complete
        began: dict[str, float] = {}

        async def claiming(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            found, wait = await claim(*args, **options)
            began.update((one.task_id, start) for one in found)
            return found, wait

        async def completing(one: Any, completion: Completion) -> None:
            await complete(one, completion)
            self._latencies.append(time.perf_counter() - began.pop(one.task_id))

        self._board.claim_or_wait, self._board.complete = claiming, completing  # type: ignore[method-assign]
        self._before = claim, complete
        self._running = asyncio.create_task(self._worker.run())

    async def __aexit__(self, *_: object) -> None:
        await self._worker.drain(5.0)
        await self._running
        self._board.claim_or_wait, self._board.complete = self._before  # type: ignore[method-assign]
        await asyncio.to_thread(self._heartbeat.close)


async def _noop(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, data=PAYLOAD)


async def _ours(board: Board, server: RedisServer, number: int, tasks: int) -> Sample:
    await queue(board, tasks)
    await _at_rest(board, anew=True)
    return await _started_together(
        [Child("benchmarks.workers", "work", server.url) for _ in range(number)], tasks, lambda: _ended(board)
    )


async def _floor(board: Board, server: RedisServer, number: int, tasks: int, calls: Path, how: str) -> Sample:
    await _at_rest(board, anew=False)  # nothing was queued for it
    given = (server.url, str(calls), str(tasks // number), how)
    return await _started_together([Child("benchmarks.workers", "replay", *given) for _ in range(number)], tasks, None)


async def _started_together(children: Sequence[Child], tasks: int, ended: Callable[[], Any] | None) -> Sample:
    """Start programs, tell all at once to go on when all are ready, and gather the latencies they saw."""
    async with AsyncExitStack() as stack:
        for child in children:
            await stack.enter_async_context(child)
        for child in children:
            await child.says(_PATIENCE_SECONDS)
        began = time.perf_counter()
        for child in children:
            child.tell("go")
        if ended is not None:
            await ended()
        else:
            for child in children:
                await child.says(_PATIENCE_SECONDS)
        seconds = time.perf_counter() - began
        for child in children:
            child.tell("stop")
        found = [await child.says(_PATIENCE_SECONDS) for child in children]
    return Sample(tasks, seconds, [one for latencies in found for one in latencies])


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


async def _work(url: str) -> None:
    async with await Board.open(url) as board:
        latencies: list[float] = []
        # On all the connections it has.
        await asyncio.gather(*(board.claim("nobody", ["empty"]) for _ in range(CONCURRENCY)))
        garbage.long_lived()
        print(json.dumps("ready"), flush=True)
        await _line()
        async with _Employed(board, latencies):
            await _line()
        print(json.dumps(latencies), flush=True)


async def _replay(url: str, recorded: list[Call], tasks: int, how: str) -> None:
    """Recorded calls to an empty script, until as many were made as ``tasks`` tasks take."""
    ends = sum(size < 100 for _, _, size in recorded)  # the reply to a report is short, that to a claim is not
    async with await Board.open(url) as board:
        client: Any = board.client
        empty = await client.script_load(EMPTY)
        call = partial(redis.asyncio.Redis.evalsha, client) if how == "one" else client.evalsha
        await asyncio.gather(*(call(empty, 0, 0) for _ in range(CONCURRENCY)))  # on all the connections it has
        garbage.long_lived()
        print(json.dumps("ready"), flush=True)
        await _line()
        wanted = iter(recorded[k % len(recorded)] for k in range(len(recorded) * tasks // ends))
        latencies: list[float] = []

        async def caller() -> None:
            for keys, rest, size in wanted:
                start = time.perf_counter()
                await call(empty, keys, *rest, size)
                latencies.append(time.perf_counter() - start)

        await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
        print(json.dumps("done"), flush=True)
        await _line()
        print(json.dumps(latencies), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["work", url]:
                asyncio.run(_work(url))
            case ["replay", url, calls, tasks, how]:
                asyncio.run(_replay(url, json.loads(Path(calls).read_text("utf-8")), int(tasks), how))
            case _:
                raise SystemExit("work URL, or replay URL CALLS TASKS one|together")
