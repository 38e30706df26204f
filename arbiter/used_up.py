"""Whether a run has used up what it may spend: then its agenda picks nothing more, as a planned run's model is not asked."""

from __future__ import annotations

from arbiter.fold import RunState
from blackboard.board import Board
from blackboard.budgets import Budgets


async def used_up(board: Board, state: RunState) -> str:
    """What of it is used up, in words; empty while nothing is.

    A budget is, once a call of one of the run's tasks found no room there and would find none if all that is reserved came back.
    Those that only some capabilities, models or tasks spend from are not asked about: others may go on.
    """
    limits, used = state.limits, state.usage.total_tokens
    if used >= limits.tokens:
        return f"the run has used {used:,} of its {limits.tokens:,} tokens"
    shared = {f"run:{state.run_id}", "board", "board/day", f"tenant:{state.tenant}", f"tenant:{state.tenant}/day"}
    errors = [task.completion.error for task in state.work if task.completion and task.completion.error]
    refused = {
        (str(error.evidence.get("budget")), str(error.evidence.get("unit"))): error
        for error in errors
        if error.evidence.get("budget") in shared
    }
    levels = sorted({level for level, _ in refused})
    for report in await Budgets(board).report(*levels) if levels else ():
        for unit, account in report.units.items():
            if (error := refused.get((report.level, unit))) is None:
                continue
            asked = error.evidence.get("asked")
            if isinstance(asked, int | float) and asked > account.limit - account.spent:
                return f"the budget of {report.level} has no room any more: {error.message}"[:1000]
    return ""
