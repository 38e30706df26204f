"""The states of runs this process planned for lately, so that a step reads only what is new in its run's log.

It is a cache and no more: the log is the truth, any process may take any step, and a state that does not fit the step is
read anew. Large values stay where they are, except for those the model is shown.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel

from arbiter import conversation
from arbiter.fold import RunState
from arbiter.recalling import View
from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.events import RunAccepted, TaskCompleted

if TYPE_CHECKING:
    from strands.types.content import Message

RUNS = 256
BYTES = 64 << 20
"""How much is kept at most, counted as JSON of the events; the run used longest ago goes first."""


@dataclass(slots=True)
class Known:
    """A state and how much it was made of."""

    state: RunState
    bytes: int = 0
    said: list[Message] = field(default_factory=lambda: [])  # noqa: PIE807 - a bare list has no type
    """The conversation as it was shown to the model last; all of it is settled, since a step comes after its round."""
    view: View | None = None
    """What the conversation begins with; None before it was looked at."""
    tokens: int = 0
    """Estimate of the messages that are counted."""
    counted: int = 0

    def begin(self, view: View) -> None:
        """Let the conversation begin anew."""
        self.view, self.said, self.tokens, self.counted = view, [], 0, 0


class States:
    """Folded states by run. One that is in use is not in the cache, so no two steps share one."""

    def __init__(self, *, runs: int = RUNS, size: int = BYTES) -> None:
        self._runs, self._size = runs, size
        self._kept: OrderedDict[tuple[str, str], Known] = OrderedDict()
        self._total = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def read(self, board: Board, claim: Claim) -> Known:
        """The state of a step's run as the log tells it now. Give it back with :meth:`keep` after the step.

        Raises:
            BlobError: the request, or a result the model is shown, cannot be loaded.
        """
        known = self._kept.pop((board.source, claim.run_id), None)
        if known is not None:
            self._total -= known.bytes
            if await _advance(board, known) and _fits(known.state, claim):
                return known
        known = Known(RunState(claim.run_id))
        await _advance(board, known)
        return known

    async def advance(self, board: Board, known: Known) -> None:
        """Go on with what was written since it was read; it must be in use."""
        await _advance(board, known)

    def keep(self, board: Board, known: Known) -> None:
        """Put a state back for the run's next step."""
        self._kept[board.source, known.state.run_id] = known
        self._total += known.bytes
        while self._kept and (len(self._kept) > self._runs or self._total > self._size):
            self._total -= self._kept.popitem(last=False)[1].bytes


def _fits(state: RunState, claim: Claim) -> bool:
    return len(state.rounds) == claim.round - (claim.kind == "step") and claim.task_id in state.tasks


async def _advance(board: Board, known: Known) -> bool:
    """Apply what is new. False when the log has begun anew: the run was removed and submitted again."""
    state = known.state
    began = state.sequence == "-"
    for event in await board.history(state.run_id, state.sequence):
        if isinstance(event, RunAccepted) and not began:
            return False
        state.apply(event)
        known.bytes += len(event.data.model_dump_json()) if isinstance(event.data, BaseModel) else 100
        if isinstance(event, TaskCompleted) and (task := state.tasks.get(event.subject)) and task.completion:
            data = task.completion.data
            if isinstance(data, Blob) and data.bytes <= conversation.WHOLE_BYTES:
                known.bytes += data.bytes
                task.completion = task.completion.model_copy(update={"data": await board.load(state.run_id, data)})
    if isinstance(state.request, Blob) and state.request.bytes <= conversation.REQUEST_BYTES:
        known.bytes += state.request.bytes
        state.request = await board.load(state.run_id, state.request)
    return True
