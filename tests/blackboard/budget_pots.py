"""What tests of budgets share: pots under a clock that is turned; ``pots = budget_pots.pots`` names the fixture."""

from __future__ import annotations

from typing import Any

import pytest
from strict import PRELUDE

from blackboard import _script
from blackboard.board import Board
from blackboard.budgets import Budgets, Level, UnitReport

DAY = 86_400
NOON = 1_800_000_000 // DAY * DAY + DAY // 2

_STRICT = PRELUDE.replace("READS = {", "READS = {HGETALL = 1, EXISTS = 1, ").replace(
    "WRITES = {", "WRITES = {PEXPIRE = 1, "
)


class Clock:
    """The server's clock as the scripts see it. It stands still until it is turned."""

    def __init__(self, board: Board) -> None:
        self._board, self.now = board, float(NOON)
        self._key = f"arb:{{{board.namespace}/{board.name}#budget}}:holds@clock"

    async def advance(self, seconds: float = 0.0) -> None:
        self.now += seconds
        await self._board.client.set(self._key, str(round(self.now * 1_000_000)))


@pytest.fixture
async def clock(board: Board, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Watched scripts, and a clock that stands still."""
    made: dict[str, _script.Script] = {}
    real = _script.load

    def load(name: str, prelude: str = "_board") -> _script.Script:
        if prelude != "_budget":
            return real(name, prelude)
        if name not in made:
            made[name] = _script.Script(name, _STRICT + real(name, prelude).text)
        return made[name]

    monkeypatch.setattr(_script, "load", load)
    clock = Clock(board)
    await clock.advance()
    return clock


@pytest.fixture
def pots(board: Board, clock: Clock) -> Budgets:
    return Budgets(board)


async def one(pots: Budgets, level: str, unit: Any = "tokens") -> UnitReport:
    (report,) = await pots.report(level)
    return report.units[unit]


async def stored(board: Board) -> dict[str, Any]:
    """Everything that is stored about budgets."""
    found: dict[str, Any] = {}
    prefix = f"arb:{{{board.namespace}/{board.name}#budget}}:"
    async for key in board.client.scan_iter(match=prefix.replace("{", "[{]").replace("}", "[}]") + "*", count=1000):
        kind = await board.client.type(key)
        if kind == "hash":
            found[key] = await board.client.hgetall(key)
        elif kind == "zset":
            found[key] = await board.client.zrange(key, 0, -1, withscores=True)
        elif kind == "set":
            found[key] = await board.client.smembers(key)
    return found


def levels(*names: str) -> list[Level]:
    return [Level(name) for name in names]


TREE = levels("board", "tenant:acme", "run:r1", "task:r1/a")
