"""What tests of schedules share: a clock that is turned; ``times = schedule_times.times`` names the fixture."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from blackboard import _script
from blackboard.board import Board
from blackboard.schedule import Schedule, Scheduled
from blackboard.schedules import Schedules

NOON = datetime.fromisoformat("2027-01-01T12:00:00Z").timestamp()

CLOCK = """
local R = redis
local redis = {call = function(command, ...)
  if command ~= 'TIME' then return R.call(command, ...) end
  local now = R.call('GET', KEYS[1] .. '@clock')
  return {string.sub(now, 1, -7), string.sub(now, -6)}
end}
"""

_load = _script.load


class Times:
    """Schedules under a clock that stands still until it is turned."""

    def __init__(self, board: Board) -> None:
        self.board, self.schedules, self.now = board, Schedules(board), NOON

    async def at(self, seconds: float) -> None:
        self.now = NOON + seconds
        key = self.board.shards[0].prefix + "schedule:defs@clock"
        await self.board.client.set(key, str(round(self.now * 1_000_000)))

    async def add(self, when: str = "rate(1 minute)", **more: Any) -> Scheduled:
        options = {name: more.pop(name) for name in ("enabled", "replace") if name in more}
        return await self.schedules.add(Schedule(**{"name": "s", "when": when, "request": "go", **more}), **options)

    async def sweep(self, seconds: float) -> float:
        await self.at(seconds)
        return await self.schedules.sweep()

    async def get(self) -> Scheduled:
        return await self.schedules.get("s")

    async def requests(self) -> list[str]:
        return sorted(run.request for run in await self.board.runs(1000))

    async def counts(self) -> tuple[int, int, int, int]:
        s = await self.get()
        return s.fired, s.missed, s.overlapped, s.failed


@pytest.fixture
async def times(board: Board, monkeypatch: pytest.MonkeyPatch) -> Times:
    def load(name: str, prelude: str = "_board") -> _script.Script:
        script = _load(name, prelude)
        return _script.Script(name, CLOCK + script.text) if prelude == "_schedule" else script

    monkeypatch.setattr(_script, "load", load)
    made = Times(board)
    await made.at(0)
    return made


def dies(schedules: Schedules, monkeypatch: pytest.MonkeyPatch, method: str, *, after: bool) -> None:
    """The next call of a step ends its process: before the step, or when it is done and nobody knows."""
    whole = getattr(schedules, method)

    async def dying(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(schedules, method, whole)
        if after:
            await whole(*args, **more)
        raise asyncio.CancelledError("killed")

    monkeypatch.setattr(schedules, method, dying)
