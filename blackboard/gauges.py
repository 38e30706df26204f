"""What a board counts anyway, read without looking through anything: for metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from blackboard.board import Board
from blackboard.types import Record


class Gauges(Record):
    """Numbers of one board, each of its moment."""

    runs: int = 0
    """On the board, whatever their state."""
    claimed: int = 0
    """Tasks that somebody works on."""
    delayed: int = 0
    """Tasks that wait for another attempt or for a person."""
    ready: Mapping[str, int] = Field(default_factory=dict)
    """Tasks that wait for a worker, by lane."""
    letters: int = 0
    """Dead letters."""
    dropped: int = 0
    """Dead letters that had to make room for later ones."""


async def gauges(board: Board, lanes: Sequence[str]) -> Gauges:
    """The numbers of all shards together; one call for each shard.

    Args:
        lanes: those whose queues are told.

    Raises:
        EngineUnavailable: the server stayed unreachable.
    """
    total: dict[str, int] = dict.fromkeys(("runs", "claimed", "delayed", "letters", "dropped"), 0)
    ready = dict.fromkeys(lanes, 0)
    for shard in board.shards:

        def ask(shard: Any = shard) -> Any:
            pipe: Any = board.client.pipeline(transaction=False)
            for key in (shard.index, shard.lease, shard.wait, shard.deadx):
                pipe.zcard(key)
            pipe.hget(shard.dead, "")
            for lane in lanes:
                pipe.zcard(shard.lane(lane)[1])
            return pipe.execute()

        runs, claimed, delayed, letters, dropped, *waiting = await board.repeated(ask)
        for name, value in zip(total, (runs, claimed, delayed, letters, dropped), strict=True):
            total[name] += int(value or 0)
        for lane, value in zip(lanes, waiting, strict=True):
            ready[lane] += int(value)
    return Gauges.model_validate({**total, "ready": ready})
