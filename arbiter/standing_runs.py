"""The runs of standing watches: an inquiry that begins with what was written, looked for by every process that plans."""

from __future__ import annotations

import asyncio
import logging

from pydantic import JsonValue
from redis.exceptions import RedisError

from arbiter.inquiry import ENTRIES
from blackboard.board import Board
from blackboard.entry import Entry
from blackboard.errors import BoardFull, EngineUnavailable
from blackboard.standing import STANDING, Standing, Standings

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0


def request(watch: Standing, entry: Entry, depth: int) -> JsonValue:
    """The request of the run that an entry becomes; :class:`~arbiter.inquiry.Inquiry` has its form."""
    first: JsonValue = {
        "topic": entry.topic, "content": entry.content, "confidence": entry.confidence, "derived_from": entry.id,
    }  # fmt: skip
    said: JsonValue = {"name": watch.name, "entry": entry.id, "version": entry.version, "depth": depth}
    return {ENTRIES: [first], STANDING: said}


class StandingRuns:
    """Starts them, until cancelled."""

    def __init__(self, board: Board, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._standings, self._board, self._interval = Standings(board), board, interval_seconds

    async def run(self) -> None:
        while True:
            more = False
            try:
                more = await self._standings.sweep(request)
            except (EngineUnavailable, BoardFull, RedisError) as error:
                log.error("standing watches were not looked at: %s", error)
            await asyncio.sleep(0 if more else self._interval * self._board.random.uniform(0.8, 1.2))
