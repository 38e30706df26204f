"""What a shard's feed tells after a position, for those who were away; who follows is told by :mod:`blackboard.feed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from blackboard import _keys, _script, events
from blackboard.entry_log import Logged, order
from blackboard.events import Event

if TYPE_CHECKING:
    from blackboard.board import Board

_PAGE = 500
_AGAIN_MS = 60_000


class Told(NamedTuple):
    """What a shard's feed tells after a position."""

    shard: int
    events: list[Event]
    """Those of the logs, with data; volatile ones are left out."""
    position: str
    gap: tuple[float, float] | None = None
    """From when until when, in seconds since the epoch, the feed does not tell any more."""


async def told(board: Board, shard: _keys.Shard, position: str, limit: int) -> Told:
    """What happened on a shard after a position, at most ``limit`` entries.

    A position that is not in the feed any more means that the feed was trimmed, and then there is a gap; or that a failover
    has undone it, and then what the last minute before it still tells is told again.
    """
    client = cast(Any, board.client)
    patience = board.engine.patience_seconds
    gap = None
    entries: list[Logged] = await _script.retrying(
        lambda: client.xrange(shard.feed, min=position, count=limit + 1), seconds=patience
    )
    if position != "0-0" and (not entries or entries[0][0] != position):
        first: list[Logged] = await _script.retrying(lambda: client.xrange(shard.feed, count=1), seconds=patience)
        if first and order(first[0][0]) > order(position):
            gap = (order(position)[0] / 1000, order(first[0][0])[0] / 1000 + 1)
        elif first:
            again = f"{max(0, order(position)[0] - _AGAIN_MS)}-0"
            entries = await _script.retrying(
                lambda: client.xrange(shard.feed, min=again, count=limit), seconds=patience
            )
    elif position != "0-0":
        entries = entries[1:]
    found: list[Event] = []
    for _, fields in entries:
        if fields["at"]:
            stored: list[Logged] = await _script.retrying(
                lambda f=fields: client.xrange(shard.log(f["run"]), min=f["at"], max=f["at"]), seconds=patience
            )
            found += [events.parse(at, data, fields["run"], board.source) for at, data in stored]
    return Told(shard.number, found, entries[-1][0] if entries else position, gap)


async def ids_after(board: Board, shard: _keys.Shard, position: str) -> set[str]:
    """The ids of the events that a shard's feed tells after a position."""
    client, found = cast(Any, board.client), set[str]()
    while True:
        page: list[Logged] = await _script.retrying(
            lambda at=position: client.xrange(shard.feed, min=f"({at}", count=_PAGE),
            seconds=board.engine.patience_seconds,
        )
        found |= {fields["id"] for _, fields in page}
        if len(page) < _PAGE:
            return found
        position = page[-1][0]
