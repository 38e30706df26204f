"""What do many finished and many waiting runs cost, and do they slow the next task down?

*Finished* runs are direct calls that were done; *parked* ones are direct calls in a lane that nobody serves. Memory is the
growth of the server's ``used_memory`` divided by their number. *One task* is a call submitted, claimed and completed, one
after the other, on the board that holds them; held against the same on an empty board of the same server, in turn.

    python -m benchmarks.load --finished 100000 --parked 10000
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.board import PAYLOAD
from benchmarks.measure import Sample, Spread, in_turn, timed
from benchmarks.report import Row, markdown, rows
from blackboard.board import Board
from blackboard.testing import RedisServer
from blackboard.types import Status

LANE, PARKED = "bench", "parked"
_AT_ONCE = 50


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await loaded(2000, 200, 50, 3, say) if quick else await loaded(100_000, 10_000, 300, 5, say)


async def loaded(finished: int, parked: int, tasks: int, repetitions: int, say: Callable[[str], None]) -> list[Row]:
    """The rows, with so many runs of each kind on the board and ``tasks`` single ones timed in each repetition."""
    found: list[Row] = []
    with RedisServer() as server:
        async with await Board.open(server.url, board="full") as full, await Board.open(server.url, board="e") as empty:
            await _finish(full, 200, lambda _: None)  # what a board needs at all is not counted
            for what, count, make in (
                (f"{finished:,} finished", finished, _finish),
                (f"{parked:,} parked", parked, _park),
            ):
                before = await _memory(full)
                await make(full, count, lambda done, what=what: say(f"{what} runs: {done:,}"))
                each = (await _memory(full) - before) / count
                found.append(Row("load", f"{what} runs: memory of one", Spread(each, each, each), "B"))
            ours = f"one task beside {finished:,} finished and {parked:,} parked runs"
            bare = "one task on an empty board"
            measured = await in_turn(
                {ours: lambda: _tasks(full, tasks), bare: lambda: _tasks(empty, tasks)}, repetitions, say
            )
            found += rows("load", measured, [ours], [bare], "tasks/s")
    return found


async def _memory(board: Board) -> int:
    client: Any = board.client
    return int((await client.info("memory"))["used_memory"])


async def _finish(board: Board, count: int, say: Callable[[int], None]) -> None:
    for start in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - start)
        await asyncio.gather(*(board.submit_call("noop", PAYLOAD, lane=LANE) for _ in range(size)))
        claims = await board.claim("bench", [LANE], n=size)
        await asyncio.gather(*(board.complete(c, c.completion(Status.SUCCEEDED, data=PAYLOAD)) for c in claims))
        if start % 1000 == 0:
            say(start)


async def _park(board: Board, count: int, say: Callable[[int], None]) -> None:
    for start in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - start)
        await asyncio.gather(*(board.submit_call("noop", PAYLOAD, lane=PARKED) for _ in range(size)))
        if start % 1000 == 0:
            say(start)


async def _tasks(board: Board, count: int) -> Sample:
    async def one() -> None:
        await board.submit_call("noop", PAYLOAD, lane=LANE)
        (claim,) = await board.claim("bench", [LANE])
        await board.complete(claim, claim.completion(Status.SUCCEEDED, data=PAYLOAD))

    return await timed(one, count)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description="What many runs on a board cost.")
    parser.add_argument("--finished", type=int, default=100_000, metavar="N", help="finished runs (100000)")
    parser.add_argument("--parked", type=int, default=10_000, metavar="N", help="waiting runs (10000)")
    options = parser.parse_args()
    told = asyncio.run(
        loaded(options.finished, options.parked, 300, 5, lambda text: print(f"\r\x1b[K{text}", end="", file=sys.stderr))
    )
    print(file=sys.stderr)
    print(markdown(told))


if __name__ == "__main__":
    main()
