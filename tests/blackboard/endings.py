"""Ways in which a task ends that nobody reports, and the steps of runs that come of it."""

from __future__ import annotations

from strict import Play

from blackboard.board import STEP_LANE
from blackboard.claims import Claim


async def lapses(play: Play, run: str) -> None:
    await play.clock.advance(61)
    await play.board.sweep()


async def is_lost(play: Play, run: str) -> None:
    await play.one()
    await play.clock.advance(31)
    await play.board.sweep()


async def is_given_back_too_often(play: Play, run: str) -> None:
    for _ in range(10):
        await play.board.release(await play.one())


async def seen(play: Play, run: str) -> str:
    """How far the log of a run goes."""
    return (await play.board.history(run))[-1].sequence


async def steps(play: Play) -> list[Claim]:
    return await play.take(STEP_LANE, n=9, worker="planner")
