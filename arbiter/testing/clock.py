"""A clock that tests turn: the server's time as the board's scripts see it. Test-only.

Leases, deadlines, retries and everything else that waits is decided on the server's clock, inside the scripts. Here each
script's text is given a prelude that adds to that time what a key on the board says, so that a test moves it instead of
sleeping. Every process that takes part must call :func:`install`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from blackboard import _script
from blackboard.board import Board

PRELUDE = r"""
local R = redis
local redis = {error_reply = R.error_reply, status_reply = R.status_reply, sha1hex = R.sha1hex, pcall = R.pcall,
  call = function(command, ...)
    if command ~= 'TIME' then return R.call(command, ...) end
    local now = R.call('TIME')
    local turned = R.call('GET', string.match(KEYS[1], '^[^}]*}') .. ':@clock')
    if not turned then return now end
    local us = now[1] * 1000000 + now[2] + turned
    return {string.format('%.0f', math.floor(us / 1000000)), string.format('%.0f', us % 1000000)}
  end}
"""

_SWEEPS = 20
"""Most sweeps of one turn: what is due may make something else due at once."""

_production = _script.load


@cache
def _load(name: str, prelude: str = "_board") -> _script.Script:
    text = _production(name, prelude).text
    first, newline, rest = text.partition("\n")
    if first.startswith("#!"):
        return _script.Script(name, first + newline + PRELUDE + rest)
    return _script.Script(name, PRELUDE + text)


def install() -> None:
    """From here on this process's scripts read the turned clock."""
    _script.load = cast(Any, _load)


def uninstall() -> None:
    """Back to the server's own time."""
    _script.load = _production


class Clock:
    """Turns the clock of one board. It runs on; :meth:`advance` puts it forward."""

    def __init__(self, board: Board) -> None:
        self._board = board
        install()

    async def advance(self, seconds: float, *, sweep: bool = True) -> None:
        """Put the clock forward and do what has become due: leases that ended, deadlines, retries.

        Args:
            seconds: how far; not negative, because the server's time never goes back.
            sweep: False only moves the time and leaves the rest to the sweepers of the board.
        """
        if seconds < 0:
            raise ValueError(f"seconds is {seconds}: the server's time does not go back")
        places = {shard.prefix.partition("}")[0] + "}:@clock" for shard in self._board.shards}
        places |= {f"arb:{{{self._board.namespace}/{self._board.name}#{part}}}:@clock" for part in ("reg", "budget")}
        for place in sorted(places):
            turned = await self._turned(place) + round(seconds * 1_000_000)
            await _script.retrying(lambda at=(place, turned): cast(Any, self._board.client).set(*at))
        for _ in range(_SWEEPS if sweep else 0):
            if await self._board.sweep() > 0:
                return

    async def offset(self) -> float:
        """How many seconds the board's clock is ahead of the server's own."""
        place = self._board.shards[0].prefix.partition("}")[0] + "}:@clock"
        return await self._turned(place) / 1_000_000

    async def _turned(self, place: str) -> int:
        return int(await _script.retrying(lambda: cast(Any, self._board.client).get(place)) or 0)
