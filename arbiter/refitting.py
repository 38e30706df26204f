"""What the runs of a board say about its matcher, collected from their logs."""

from __future__ import annotations

from typing import NamedTuple

from arbiter.fold import fold
from arbiter.outcomes import cases, lessons, outcomes
from blackboard.board import Board
from blackboard.runs import Where, find
from blackboard.taint import TaintPolicy
from registry import Registry
from registry.matching.refit import Case

RUNS = 5000
"""How many runs are read, the latest first."""
_PAGE = 100


class Collected(NamedTuple):
    """What was read."""

    runs: int
    cases: list[Case]
    """Of each need it is known of: what the ranking looked like, and whether its best candidate served it."""
    learnt: int
    """Needs that were kept or renewed: of runs whose process ended before it could do so."""


async def collect(board: Board, registry: Registry | None, policy: TaintPolicy, *, most: int = RUNS) -> Collected:
    """Read the latest runs that succeeded, and keep the needs they served that nobody kept yet.

    Args:
        registry: where needs are kept; None keeps none.
        policy: which sources are trusted; what others led to says nothing.
        most: runs at most.

    Raises:
        EngineUnavailable: the server stayed unreachable.
    """
    found: list[Case] = []
    runs = learnt = 0
    after: str | None = None
    while runs < most:
        page = await find(board, Where(status=("succeeded",)), limit=min(_PAGE, most - runs), after=after)
        for run in page.runs:
            state = fold(run.id, await board.history(run.id))
            said = outcomes(state, policy)
            found += cases(said)
            if registry is not None and (needs := lessons(said)):
                learnt += await registry.learn(run.id, state.tenant, run.ended_at or 0.0, needs)
        runs += len(page.runs)
        after = page.after
        if after is None:
            break
    return Collected(runs, found, learnt)
