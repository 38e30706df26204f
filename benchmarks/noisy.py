"""How long does a single task wait behind somebody else's many? Counted in claims, not in seconds.

Somebody has queued many tasks; another adds one. One worker then claims one task at a time and completes it; counted is how
many it claims before the single one. Held against a queue that serves in order of arrival, where that is all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Spread
from benchmarks.report import Row
from blackboard.board import STEP_LANE, Board
from blackboard.events import RoundPlannedData
from blackboard.testing import RedisServer
from blackboard.types import Limits, Status, TaskSpec, Usage

LANE = "bench"
_LIMITS = Limits(rounds=1000, tasks=100_000)
ARRIVAL = "in order of arrival"


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    return await waited(500, 100, say) if quick else await waited(10_000, 500, say)


async def waited(calls: int, tasks: int, say: Callable[[str], None]) -> list[Row]:
    """The rows: behind ``calls`` calls of another tenant, and behind ``tasks`` tasks of another run of the same tenant."""
    with RedisServer() as server:
        async with await Board.open(server.url, board="tenants") as board:
            for start in range(0, calls, 50):
                if start % 1000 == 0:
                    say(f"another tenant's calls: {start:,} of {calls:,}")
                await asyncio.gather(
                    *(board.submit_call("noop", {}, lane=LANE, tenant="loud") for _ in range(min(50, calls - start)))
                )
            mine = await board.submit_call("noop", {}, lane=LANE, tenant="quiet")
            between_tenants = await _claims_before(board, mine, calls)
        async with await Board.open(server.url, board="runs") as board:
            say(f"another run's tasks: {tasks:,}")
            await _run(board, tasks)
            mine = await _run(board, 1)
            between_runs = await _claims_before(board, mine, tasks)
    return [
        _row(f"one task behind {calls:,} of another tenant: claims until its own", between_tenants, calls),
        _row(f"one task behind {tasks:,} of another run of the tenant: claims until its own", between_runs, tasks),
    ]


async def _run(board: Board, tasks: int) -> str:
    """A run whose first decision posted so many tasks."""
    run_id = await board.submit("bench", limits=_LIMITS)
    (step,) = await board.claim("planner", [STEP_LANE])
    assert step.run_id == run_id
    message: Any = {"role": "assistant", "content": []}
    planned = RoundPlannedData(round=step.round, message=message, calls=(), usage=Usage(), model="none")
    specs = [TaskSpec(key=f"t{n}", tool_use_id=f"t{n}", capability="bench", lane=LANE) for n in range(tasks)]
    await board.commit_step(step, planned, specs, _LIMITS)
    return run_id


async def _claims_before(board: Board, run_id: str, most: int) -> int:
    for number in range(1, most + 2):
        (claim,) = await board.claim("bench", [LANE])
        if claim.run_id == run_id:
            return number
        await board.complete(claim, claim.completion(Status.SUCCEEDED))
    raise AssertionError("it was never claimed")


def _row(what: str, claims: int, others: int) -> Row:
    theirs = others + 1
    quotient = claims / theirs
    return Row(
        benchmark="noisy", what=what, value=Spread(claims, claims, claims), unit="", against=ARRIVAL,
        theirs=Spread(theirs, theirs, theirs), ratio=Spread(quotient, quotient, quotient),
    )  # fmt: skip
