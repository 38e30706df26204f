"""Open requests beside other work of their run: control awards them while that goes on.

A step is taken once no task is open. Other tasks that have nothing to do with a request must not keep it waiting, so the control
task of the run looks at it as well: it awards a request once everybody whom that triggered, directly or over others, is done, or
its time is over. Until then it naps, on a timer of the board, and looks again when something is written about requests, or ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arbiter.asking import entries_of
from arbiter.awarding import Awarding
from arbiter.fold import RunState
from arbiter.taking_over import Predecessor
from blackboard import taking_over
from blackboard.activation import Activation
from blackboard.agenda import Agenda, Beside
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.plan import Undecided, specs
from registry import Registry


@dataclass(frozen=True, slots=True)
class Look:
    """What control knows when it looks at open requests."""

    open: int
    """How many tasks of the run were open before the log was read; see :class:`~blackboard.agenda.Beside`."""
    waiting: Sequence[Activation] | None
    """Activations that wait and are not picked with this look; None where they are too many to be told."""
    picked: Sequence[Activation]
    """Those that become tasks with it."""


async def attend(
    board: Board, registry: Registry, claim: Claim, state: RunState, agenda: Agenda, look: Look
) -> tuple[Beside, tuple[str, ...]]:
    """Award what can be awarded beside other work, and what follows from that.

    Args:
        state: as the log tells it since :attr:`Look.open` was counted.

    Returns:
        What control is to commit, and what was done, in words.
    """
    work = [task for task in state.work if not task.done]
    running = await agenda.some([task.activation for task in work if task.activation is not None])
    chains = await _chains(agenda, [*running, *look.picked, *(look.waiting or ())])
    going = [chains[one.number] for one in (*running, *look.picked)]
    bidding = None if look.waiting is None else frozenset[str]().union(*chains.values())
    stock = await Awarding(
        board, registry, claim, state, entries_of(board, claim.run_id), bidding=bidding, posted=len(look.picked)
    ).take_stock()
    keys = [task.key for task in work if task.activation is None] + [task.key for task in stock.tasks]
    beside = stock.amended or any(
        any(request not in chain for chain in going) or any(key not in own for key in keys)
        for request, own in stock.open.items()
    )
    limits, planned = state.limits, state.agenda is not None and state.agenda.planned
    place = claim.task_id.rpartition("/")[2]  # a round may see one request awarded more than once
    written = specs(Undecided(claim.run_id, claim.round), stock.tasks, limits, entered=planned, place=place)
    tasks = [
        (spec, await board.blobs.check(claim.run_id, text, task.input))
        for (spec, text), task in zip(written, stock.tasks, strict=True)
    ]
    until = stock.until_ms(limits.task_seconds) if beside else None
    offered = await Predecessor(board, state).in_place(stock.tasks)
    taken = await taking_over.told(board, claim.run_id, offered, entered=planned, first=len(look.picked) + 1)
    return Beside(look.open, until, tasks, [task.lane for task in stock.tasks], taken), tuple(stock.told)


async def _chains(agenda: Agenda, some: Iterable[Activation]) -> dict[int, frozenset[str]]:
    """Of each activation the entries that led to it, its own among them."""
    some = list(some)
    known = {one.number: one for one in some}
    above = {one.parent for one in some if one.parent is not None} - known.keys()
    while above:
        found = await agenda.some(sorted(above))
        known |= {one.number: one for one in found}
        above = {one.parent for one in found if one.parent is not None} - known.keys()
    chains: dict[int, frozenset[str]] = {}
    for one in some:
        entries: set[str] = set()
        each: Activation | None = one
        while each is not None:
            entries.add(each.entry)
            each = known.get(each.parent) if each.parent is not None else None
        chains[one.number] = frozenset(entries)
    return chains
