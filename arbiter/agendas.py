"""A run's agenda for programs and commands: that of the board, and what this board's capabilities make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from arbiter.fold import fold
from blackboard.activation import Activation
from blackboard.agenda import Agenda
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.strategies import Rate
from registry import Registry


@dataclass(frozen=True, slots=True)
class Recommended:
    """An activation that would be picked now."""

    activation: Activation
    why: str


class RunAgenda(Agenda):
    """The agenda of one run; see :class:`blackboard.agenda.Agenda`.

    Args:
        strategies: of this program, as the process that picks has them.
    """

    def __init__(
        self, board: Board, registry: Registry, run_id: str, strategies: Mapping[str, Rate] | None = None
    ) -> None:
        super().__init__(board, run_id)
        self._registry, self._strategies = registry, strategies

    async def recommend(self, k: int = 5) -> list[Recommended]:
        """What would be picked now, the best first, and why. Nothing is changed.

        Args:
            k: at most so many, 1 to 100.

        Raises:
            BadInput: another ``k``.
            UnknownRecord: no such run.
        """
        from arbiter.control import Control  # what recommending needs, no program pays for that only looks

        if not 1 <= k <= 100:
            raise BadInput("k", k, "Ask for 1 to 100.")
        await self._board.summary(self.run_id)
        state = fold(self.run_id, await self._board.history(self.run_id))
        found = await Control(self._registry, self._strategies).recommend(self._board, self.run_id, state, k)
        return [Recommended(one, why) for one, why in found]
