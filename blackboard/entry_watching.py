"""What happens to the entries of a scope, told as it happens."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from blackboard import entry_log, events, predicates, topics
from blackboard.entry import FACTS, checked_position, stream_id, told
from blackboard.entry_log import order
from blackboard.events import Event
from blackboard.predicates import Predicate, Where

if TYPE_CHECKING:
    from blackboard.entry_reading import EntryReading

_RECENT = 4096
"""Facts a watch remembers, to tell what a failover undid and put others in its place."""


async def watch(
    reading: EntryReading, pattern: str, where: Where, after: str | None, load: bool
) -> AsyncGenerator[Event, None]:
    """See :meth:`~blackboard.entry_reading.EntryReading.watch`."""
    topics.check_pattern(pattern)
    wanted = predicates.parse(where)
    if after is None:
        after = await reading.position()
    start = after if after == "-" else stream_id(checked_position(after))
    board, cursor, recent = reading.board, start, deque[str](maxlen=_RECENT)
    reached = "" if start == "-" else start
    async with contextlib.aclosing(board.feed.changes(board.shard_of(reading.owner), reading.owner)) as changes:
        async for rewound in changes:
            # A replica that became primary may lack the end of what was read and give its places to other facts.
            told_before = set(recent) if rewound else set[str]()
            if rewound:
                cursor = recent[0] if len(recent) == _RECENT else start
            more = True
            while more:
                page = await entry_log.page(board, reading.owner, "-" if cursor == "-" else f"({cursor}")
                if reached:
                    page.mark.check("after", reached)
                for position, fields in page.events:
                    cursor = position
                    if position in told_before:
                        continue
                    recent.append(position)
                    if not reached or order(position) > order(reached):
                        reached = position
                    if fields["type"] == events.RunCompleted.kind:
                        return
                    if not fields["type"].startswith(FACTS):
                        continue
                    event = events.parse(position, fields, reading.owner, board.source)
                    if topics.matches(pattern, event.data.topic):
                        event = await reading.with_content(event) if load or wanted else event
                        if _fits(event, wanted):
                            yield event
                more = page.more


def _fits(event: Event, wanted: Sequence[Predicate]) -> bool:
    entry = told(event, None)
    return entry is None or all(one.fits(entry.content, entry.attributes) for one in wanted)
