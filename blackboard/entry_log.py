"""Reading the log of a scope, of whose past a part may have been compacted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

from blackboard import _keys, _script
from blackboard._calling import Calling
from blackboard.entry import place, stream_id
from blackboard.errors import Compacted, Stale

PRELUDE = "_entries"
_PAGE = 500
_PUT = 200
_ATTEMPTS = 200

Logged = tuple[str, dict[str, str]]
"""Position, as the stream has it, and fields of an event."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the past of a scope was compacted."""

    upto: str = ""
    """First position that can be read as it was, as the stream has it; empty where nothing was compacted."""
    ms: float = 0.0
    """Its time, in milliseconds since the epoch on the server's clock."""
    at: str = ""
    """Position of the summary: another one means that something was taken out meanwhile."""

    @property
    def readable_from(self) -> str | None:
        """The first position that can be read as it was; None where all can."""
        return place(self.upto) if self.upto else None

    def check(self, field: str, position: str) -> None:
        """Refuse a position before the first readable one.

        Raises:
            Compacted: it is.
        """
        if self.upto and order(stream_id(position)) < order(self.upto):
            raise Compacted(field, position, place(self.upto))


@dataclass(frozen=True, slots=True)
class Page:
    """Some events of a log, and what was compacted of it when they were read."""

    mark: Mark
    events: Sequence[Logged]
    more: bool


def order(stream: str) -> tuple[int, int]:
    """What a stream's ids sort by."""
    ms, _, number = stream.partition("-")
    return int(ms), int(number or 0)


async def page(board: Calling, owner: str, start: str = "-", end: str = "+", count: int = _PAGE) -> Page:
    """At most ``count`` events of a log, about a megabyte, from ``start`` to ``end`` as ``XRANGE`` has them."""
    shard: _keys.Shard = board.shard_of(owner)
    reply: list[str] = await _script.run(
        board.client, _script.load("entry_log", PRELUDE), [*shard.declare_entries(owner), shard.compacted(owner)],
        [owner, start, end, count], recover=board.engine.ensure,
    )  # fmt: skip
    upto, ms, at, more = reply[:4]
    found: list[Logged] = []
    left = iter(reply[4:])
    for position in left:
        fields = list(islice(left, int(next(left))))
        found.append((position, dict(zip(fields[::2], fields[1::2], strict=True))))
    return Page(Mark(upto, float(ms or 0), at), found, bool(int(more)))


async def mark(board: Calling, owner: str) -> Mark:
    """How far the past of a scope was compacted."""
    key = board.shard_of(owner).compacted(owner)
    said: Mapping[str, str] = await board.repeated(lambda: cast(Any, board.client).hgetall(key))
    return Mark(said.get("upto", ""), float(said.get("ms", 0)), said.get("at", ""))


async def pages(board: Calling, owner: str, start: str = "-", end: str = "+") -> AsyncGenerator[Page, None]:
    """One page after the other. Between two with different marks, facts were taken out."""
    while True:
        one = await page(board, owner, start, end)
        yield one
        if not one.more:
            return
        start = "(" + one.events[-1][0]


async def whole(board: Calling, owner: str, end: str = "+") -> tuple[Mark, list[Logged]]:
    """All events up to a position, none taken out between the first and the last of them."""
    for attempt in range(_ATTEMPTS):
        found: list[Logged] = []
        first: Mark | None = None
        async with contextlib.aclosing(pages(board, owner, end=end)) as read:
            async for one in read:
                first = first or one.mark
                if one.mark != first:
                    break
                found += one.events
            else:
                assert first is not None, "there is always a page"
                return first, found
        await asyncio.sleep(min(0.2, 0.01 * attempt))
    raise Stale("STALE", f"{owner} is being compacted all the time; ask again")


async def rewrite(board: Calling, owner: str, put: Mapping[str, str] | None = None) -> None:
    """Copy a log, a bounded part at a time, and put the copy in its place: all of it takes no more room than what is in it.

    Args:
        put: what some facts say from now on, by their positions as the stream has them.
    """
    shard = board.shard_of(owner)
    keys = [*shard.declare_entries(owner), shard.rewritten(owner)]
    said = dict(put or {})
    while True:
        newest: list[Logged] = await board.repeated(lambda: cast(Any, board.client).xrevrange(keys[-1], count=1))
        cursor, done = (newest[0][0] if newest else ""), 0
        while not done:
            following = [one for one in said if not cursor or order(one) > order(cursor)][:_PUT]
            flat = [part for one in following for part in (one, said[one])]
            reply = await _script.run(
                board.client, _script.load("entry_rewrite", PRELUDE), keys, [owner, cursor, *flat],
                recover=board.engine.ensure,
            )  # fmt: skip
            if not reply:
                break  # another goes on with it, or this very call was done before
            cursor, done = str(reply[0]), int(reply[1])
        if done or not newest:
            return


async def owners(board: Calling, only: str | None = None) -> AsyncGenerator[str, None]:
    """Every scope in which something was written. Looks through all keys of the servers, unless one is named."""
    if only is not None:
        yield only
        return
    seen: set[str] = set()
    for shard in board.shards:
        start, end = shard.entries("\0")[0].split("\0")
        async for key in cast(Any, board.client).scan_iter(match=f"{start}*{end}", count=1000):
            owner = str(key).removeprefix(start).removesuffix(end)
            if owner not in seen:
                seen.add(owner)
                yield owner
