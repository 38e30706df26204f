"""Does what is due on a board: leases that ran out, timers, deadlines, schedules."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from redis.exceptions import RedisError

from blackboard.board import Board
from blackboard.errors import BoardFull, EngineUnavailable
from blackboard.schedules import Schedules

log = logging.getLogger(__name__)


class Sweeper:
    """Does what is due on a board, once a second or when the next thing is due, until cancelled."""

    def __init__(self, board: Board, *, interval_seconds: float = 1.0) -> None:
        self._board, self._interval = board, interval_seconds
        self._schedules = Schedules(board)

    async def run(self) -> None:
        while True:
            try:
                nearest = await self._board.sweep(expire=await self._leases_are_fair())
                nearest = min(nearest, await self._schedules.sweep())
            except (EngineUnavailable, BoardFull, RedisError) as error:
                log.error("sweep failed: %s", error)
                nearest = self._interval
            await asyncio.sleep(max(0.01, min(nearest, self._interval * self._board.random.uniform(0.8, 1.2))))

    async def _leases_are_fair(self) -> bool:
        """False for one lease time after a server start: leases ran out while nobody could renew them."""
        if self._board.engine.cluster:  # many servers: the sweep itself notices which shard was away
            return True
        try:
            server: dict[str, Any] = await cast(Any, self._board.client).info("server")
        except RedisError:
            return True
        return server.get("uptime_in_seconds", 1 << 30) > self._board.lease_seconds
