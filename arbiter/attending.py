"""A step of a planned run that asks no model, because the run's open requests need something first.

It is taken when nothing waits on the agenda and no task is open, as the steps of an inquiry are, and is committed like every
step. What is left for the model is the end of each request, which stands in the log as the reply to its call.
"""

from __future__ import annotations

from arbiter import asking
from arbiter.awarding import AWARD, Awarding
from arbiter.fold import RunState
from arbiter.taking_over import Predecessor
from arbiter.tools import OPEN
from arbiter.volunteering import ANSWERS, REQUESTS, UNANSWERED
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.events import Call, RoundPlannedData
from blackboard.plan import Wait
from blackboard.taint import merged, read
from blackboard.types import TaskSpec
from registry import Registry

SAID = 4000


async def take_step(attempt: Attempt, state: RunState, registry: Registry, predecessor: Predecessor) -> bool:
    """Do what the open requests of a run need next, and commit that as its step.

    Returns:
        False where they need nothing: nothing was committed, and the model is asked.
    """
    if not state.rounds:
        return False
    board, claim = attempt.board, attempt.claim
    entries = asking.entries_of(board, claim.run_id)
    open_ = asking.pending(state)
    told: list[str] = []
    tasks: list[TaskSpec] = []
    replies: list[Call] = []
    taint = state.taint
    wait: Wait | None = None
    if open_ and not any(turn.attending and not turn.carrying for turn in state.rounds[state.newest :]):
        for one in open_:
            if await asking.post(entries, one):
                told.append(f"{REQUESTS}.{one.name} is on the board")
            else:
                why = f"Somebody has asked under the name {one.name!r} already. Ask under another one."
                replies.append(_reply(one, why))
    else:
        stock = await Awarding(board, registry, claim, state, entries).take_stock()
        told, tasks = stock.told, stock.tasks
        for one in open_:
            if (end := await _end(entries, one.name)) is not None:
                taint = merged(taint, read(end.taint))
                done = next((task for task in reversed(state.work) if task.key == AWARD + one.name), None)
                said = end.content if isinstance(end.content, dict) else {}
                why = str(said.get("reason") or "no reason is given")
                task = done.id if done is not None and end.topic == f"{ANSWERS}.{one.name}" else None
                replies.append(_reply(one, why, task))
            elif not told and one.name not in stock.waiting:
                replies.append(_reply(one, "It was taken off the board."))
        if not told and not replies:
            if not open_ or stock.wait is None:  # what others asked for keeps the model from nothing while nobody bids
                return False
            told = [*stock.waiting.values()]
        wait = stock.wait
    said = "\n".join([*told, *(f"{REQUESTS}.{one.name} is over" for one in open_ if _in(replies, one))])
    planned = RoundPlannedData(
        round=claim.round, message={"role": "assistant", "content": [{"text": said[:SAID]}]}, calls=tuple(replies),
        taint=taint, attending=True,
    )  # fmt: skip
    tasks = await predecessor.offer(tasks)
    await board.commit_step(claim, planned, tasks, state.limits, seen=state.sequence, wait=wait)
    return True


async def close(board: Board, claim: Claim, state: RunState, registry: Registry) -> None:
    """Say of each request that is open that there will be no answer: the model gives the run's with this step."""
    entries = asking.entries_of(board, claim.run_id)
    await Awarding(board, registry, claim, state, entries).close(
        "the run was answered before anybody's bid could be awarded"
    )


async def _end(entries: Entries, name: str) -> Entry | None:
    """What a request came to: its answer, or why there is none."""
    for first in (ANSWERS, UNANSWERED):
        found = await entries.query(f"{first}.{name}", limit=1, load=first == UNANSWERED)
        if found.entries:
            return found.entries[0]
    return None


def _reply(one: asking.Asked, why: str, task: str | None = None) -> Call:
    if task is not None:
        return Call(tool_use_id=one.tool_use_id, name=OPEN, tasks=(task,))
    return Call(tool_use_id=one.tool_use_id, name=OPEN, answer={"unanswered": why})


def _in(replies: list[Call], one: asking.Asked) -> bool:
    return any(call.tool_use_id == one.tool_use_id for call in replies)
