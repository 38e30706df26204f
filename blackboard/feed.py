"""Following events: one reader per process and shard, fanned out in memory, and the run's log as the source of truth.

Notifications only say that there is something to read. A watcher reads the log from its own position whenever it is
notified, and again when it has heard nothing for a while, so a lost notification delays an event and loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import hiredis
import redis
import redis.asyncio

from blackboard import _keys, _script, events
from blackboard._sending import Kept
from blackboard.ending import end
from blackboard.events import Event

if TYPE_CHECKING:
    from blackboard.board import Board
    from blackboard.engine import Engine
    from blackboard.reading import Reading

log = logging.getLogger(__name__)

RECONCILE_SECONDS = 5.0
"""How long a watcher trusts silence before it reads the log again."""
_BLOCK_SECONDS = 5.0
_PAGE = 500
_BITE_SECONDS = 0.005
"""The pause between two readings of a feed that nobody here waits for."""
_READS_PER_SECOND, _BURST = 1000.0, 16.0
"""How often a feed is read without a pause because somebody waits for what it brings, and how often in a row."""

_WAITING = 16
"""How many runs a process waits for with a connection each; what is more is told by the feed."""

Entry = tuple[str, dict[str, str]]

_RECENT = 4096
"""How many positions a tailer remembers, to find where a feed that lost its end goes on."""
_REWOUND: Entry = ("", {})
"""Put among the notices: read the log from its beginning, some of what was told is undone."""


class Feed:
    """The tailers of a board's shards and those who listen to them."""

    def __init__(self, engine: Engine, shards: Sequence[_keys.Shard], source: str) -> None:
        self._engine, self._shards, self._source = engine, shards, source
        self._listeners: dict[str, set[asyncio.Queue[Entry]]] = defaultdict(set)
        self._everything: set[Callable[[tuple[_keys.Shard, Entry]], object]] = set()
        self._tailers: dict[int, asyncio.Task[None]] = {}
        self._client: redis.asyncio.Redis | None = None
        self._started = asyncio.Lock()
        self._joined = asyncio.Event()
        self._waiting = 0
        self._kept: Kept | None = None

    async def close(self) -> None:
        tailers, self._tailers = self._tailers, {}
        await end(tailers.values())

    async def _start(self, shards: Sequence[_keys.Shard]) -> None:
        async with self._started:
            for shard in shards:
                if shard.number in self._tailers:
                    continue
                client = self._client = self._client or self._engine.blocking_client(_BLOCK_SECONDS)
                position = await _script.retrying(
                    lambda c=client, s=shard: _last(c, s), seconds=self._engine.patience_seconds
                )
                self._tailers[shard.number] = asyncio.create_task(self._tail(client, shard, position))

    async def _tail(self, client: redis.asyncio.Redis, shard: _keys.Shard, position: str) -> None:
        recent: deque[str] = deque([position], maxlen=_RECENT)
        doubtful = False
        allowed, last = _BURST, time.monotonic()
        while True:
            try:
                if doubtful:
                    position = await self._resume(client, shard, recent)
                    doubtful = False
                reply = await cast(
                    Awaitable[Any], client.xread({shard.feed: position}, count=_PAGE, block=int(_BLOCK_SECONDS * 1000))
                )
            except redis.RedisError:
                doubtful = True
                await asyncio.sleep(0.1)
                with contextlib.suppress(Exception):  # a watcher reports it: its own reads fail the same way
                    await self._engine.ensure()
                continue
            entries: list[Entry] = reply[0][1] if reply else []
            wanted = False
            for entry in entries:
                position = entry[0]
                recent.append(position)
                for queue in self._listeners.get(entry[1]["run"], ()):
                    queue.put_nowait(entry)
                    wanted = True
                for everything in self._everything:
                    everything((shard, entry))
            # Each reply costs more than the entries in it, so a feed is read in bites. What somebody here waits for is
            # handed on at once, as long as that does not happen too often.
            now = time.monotonic()
            allowed, last = min(_BURST, allowed + (now - last) * _READS_PER_SECOND), now
            if wanted and allowed >= 1:
                allowed -= 1
            elif entries:
                self._joined.clear()
                with contextlib.suppress(TimeoutError):  # nobody waited for these; whoever comes may wait for the next
                    async with asyncio.timeout(_BITE_SECONDS):
                        await self._joined.wait()
            else:
                await asyncio.sleep(0)

    async def _resume(self, client: redis.asyncio.Redis, shard: _keys.Shard, recent: deque[str]) -> str:
        """Where to read on after a lost connection: after the last entry that is still there.

        A replica that became primary may lack the end of what was read, and whatever it writes from then on may be
        older by its clock: reading on after the last position would pass over it. Runs are told to read their log anew.
        """
        position = recent[-1]
        if position == "0-0":
            return position
        found: list[Entry] = await cast(Awaitable[Any], client.xrange(shard.feed, position, position))
        if found:
            return position
        first: list[Entry] = await cast(Awaitable[Any], client.xrange(shard.feed, count=1))
        if first and _order(first[0][0]) > _order(position):
            return position  # the feed is only kept so long, and it went on
        kept: list[Entry] = await cast(Awaitable[Any], client.xrange(shard.feed, recent[0], position))
        there = {entry[0] for entry in kept}
        while recent and recent[-1] not in there:
            recent.pop()
        if not recent:
            recent.append("0-0")
        log.warning(
            "Shard %d was rewound in a failover: its feed ended at %s and now goes on after %s. What was acknowledged in "
            "between is undone and is done again.",
            shard.number, position, recent[-1],
        )  # fmt: skip
        for queues in self._listeners.values():
            for queue in queues:
                queue.put_nowait(_REWOUND)
        return recent[-1]

    async def end(self, shard: _keys.Shard) -> str:
        """The position of the newest entry of a shard's feed, for :func:`~blackboard.feed_since.told`."""
        client = self._engine.client()
        return await _script.retrying(lambda: _last(client, shard), seconds=self._engine.patience_seconds)

    async def read_log(
        self,
        client: redis.asyncio.Redis,
        shard: _keys.Shard,
        run_id: str,
        after: str,
        upto: str = "+",
        only: tuple[str, ...] = ("",),
    ) -> list[tuple[str, Event]]:
        """Stream position and event of the run's log after a position (``-``, a stream id or a ``sequence``).

        Args:
            only: how the types of the events begin that are meant.
        """
        start = after if after == "-" else "(" + _stream_id(after)
        found = await self._entries(client, shard.log(run_id), start, upto)
        return [
            (position, events.parse(position, fields, run_id, self._source))
            for position, fields in found
            if fields["type"].startswith(only)
        ]

    async def _entries(self, client: redis.asyncio.Redis, key: str, start: str, upto: str) -> list[Entry]:
        found: list[Entry] = []
        while True:
            page: list[Entry] = await _script.retrying(
                lambda s=start: cast(Awaitable[Any], client.xrange(key, min=s, max=upto, count=_PAGE)),
                seconds=self._engine.patience_seconds,
            )
            found += page
            if len(page) < _PAGE:
                return found
            start = "(" + page[-1][0]

    async def changes(self, shard: _keys.Shard, owner: str) -> AsyncGenerator[bool, None]:
        """Comes round whenever there may be something new in a log, at once the first time, and after a silence all the same.

        Yields:
            True: read it from the beginning, a failover undid some of what was told.
        """
        await self._start([shard])
        queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._listeners[owner].add(queue)
        self._joined.set()
        try:
            yield False
            while True:
                heard: list[Entry] = []
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RECONCILE_SECONDS):
                        while not any(one is _REWOUND or one[1]["at"] for one in heard):
                            heard.append(await queue.get())
                while not queue.empty():
                    heard.append(queue.get_nowait())
                yield any(one is _REWOUND for one in heard)
        finally:
            self._unlisten(owner, queue)

    def _unlisten(self, owner: str, queue: asyncio.Queue[Entry]) -> None:
        listeners = self._listeners[owner]
        listeners.discard(queue)
        if not listeners:
            del self._listeners[owner]

    async def log(self, board: Reading, run_id: str) -> AsyncGenerator[Event, None]:
        """The events of the run's log to its end, on a connection that waits for them."""
        key, cursor, told = board.shard_of(run_id).log(run_id), "0-0", set[str]()
        client = self._client = self._client or self._engine.blocking_client(_BLOCK_SECONDS)
        kept = self._kept = self._kept or Kept(client)
        connection: Any = None
        self._waiting += 1
        try:
            found, wait = list[Entry](), 0.0
            while True:
                for position, fields in found:
                    cursor = position
                    if position in told:
                        continue
                    told.add(position)
                    event = events.parse(position, fields, run_id, self._source)
                    yield event
                    if isinstance(event, events.RunCompleted):
                        return
                try:
                    if connection is None:
                        connection = await kept.take()
                    found = await _read(connection, key, cursor, wait)
                except redis.RedisError:
                    if connection is not None:
                        broken, connection = connection, None
                        await kept.drop(broken)
                    await asyncio.sleep(0.1)
                    with contextlib.suppress(Exception):  # the read below fails the same way, and reports it
                        await self._engine.ensure()
                    # What was read may be undone, and what is written then may be older by the new server's clock.
                    found = await self._entries(board.client, key, "-", "+")
                if not found and not wait:
                    await board.summary(run_id)  # whoever has a log is known
                elif not found:  # silence may be that of a server that is no longer the primary
                    found = await self._entries(board.client, key, cursor, "+")
                    if cursor != "0-0" and (not found or found[0][0] != cursor):
                        found = await self._entries(board.client, key, "-", "+")
                wait = RECONCILE_SECONDS
        finally:
            self._waiting -= 1
            if connection is not None:
                await kept.give(connection)

    async def watch(
        self, board: Reading, run_id: str, after: str = "-", volatile: bool = True
    ) -> AsyncGenerator[Event, None]:
        if not volatile and after == "-" and self._engine.wired and self._waiting < _WAITING:
            async with contextlib.aclosing(self.log(board, run_id)) as logged:
                async for event in logged:
                    yield event
            return
        shard, cursor = board.shard_of(run_id), "-"
        await self._start([shard])
        queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._listeners[run_id].add(queue)
        self._joined.set()
        try:
            if after != "-":
                key, last = shard.log(run_id), _stream_id(after)
                known: list[Entry] = await _script.retrying(
                    lambda: cast(Awaitable[Any], board.client.xrange(key, last, last)),
                    seconds=self._engine.patience_seconds,
                )
                if known and known[0][1]["type"] == events.RunCompleted.kind:
                    return
                cursor = last if known else "-"  # a failover has undone it: all that is true now is told
            upto = "+"
            notices: deque[Entry] = deque()
            told: set[str] = set()
            while True:
                found = await self.read_log(board.client, shard, run_id, cursor, upto)
                if not found and cursor == "-":  # whoever has a log is known
                    await board.summary(run_id)
                for position, event in found:
                    cursor = position
                    if position in told:
                        continue
                    told.add(position)
                    yield event
                    if isinstance(event, events.RunCompleted):
                        return
                upto = "+"
                while upto == "+":
                    if not notices:
                        try:
                            async with asyncio.timeout(RECONCILE_SECONDS):
                                notices.append(await queue.get())
                        except TimeoutError:
                            break
                    while not queue.empty():
                        notices.append(queue.get_nowait())
                    if notices[0] is _REWOUND:
                        notices.popleft()
                        cursor = "-"
                        break
                    position, fields = notices.popleft()
                    # Reading no further than the notice keeps volatile events in their place among those of the log;
                    # notices of the log that follow one another are served by one read.
                    if fields["at"] and _order(fields["at"]) > _order(cursor):
                        upto = fields["at"]
                        while notices and notices[0] is not _REWOUND and notices[0][1]["at"]:
                            upto = notices.popleft()[1]["at"]
                    elif volatile and not fields["at"] and _order(position) > _order(cursor):
                        yield events.parse(position, fields, run_id, self._source)
        finally:
            self._unlisten(run_id, queue)

    async def stirring(self) -> AsyncGenerator[set[int], None]:
        """Numbers of the shards whose feed may have something new: all the first time, and after a silence all the same."""
        await self._start(self._shards)
        stirred, some = {shard.number for shard in self._shards}, asyncio.Event()

        def stir(told: tuple[_keys.Shard, Entry]) -> None:
            stirred.add(told[0].number)
            some.set()

        self._everything.add(stir)
        try:
            while True:
                found = set(stirred)
                stirred.clear()
                some.clear()
                yield found
                try:
                    async with asyncio.timeout(RECONCILE_SECONDS):
                        await some.wait()
                except TimeoutError:
                    stirred.update(shard.number for shard in self._shards)
        finally:
            self._everything.discard(stir)

    async def follow(self, board: Board) -> AsyncGenerator[Event, None]:
        """Every event of the board from now on, with the data of those that are in a log. Best effort."""
        await self._start(self._shards)
        queue: asyncio.Queue[tuple[_keys.Shard, Entry]] = asyncio.Queue()
        self._everything.add(queue.put_nowait)
        try:
            while True:
                shard, (position, fields) = await queue.get()
                run_id, at = fields["run"], fields["at"]
                if not at:
                    yield events.parse(position, fields, run_id, self._source)
                    continue
                key = shard.log(run_id)
                entries: list[Entry] = await _script.retrying(
                    lambda k=key, a=at: cast(Awaitable[Any], board.client.xrange(k, min=a, max=a)),
                    seconds=self._engine.patience_seconds,
                )
                for found, stored in entries:
                    yield events.parse(found, stored, run_id, self._source)
        finally:
            self._everything.discard(queue.put_nowait)


async def _read(connection: Any, key: str, after: str, seconds: float) -> list[Entry]:
    """What a log has after a position; what comes first within so many seconds where it has nothing.

    On a connection of the caller's, which a reply that is not read leaves closed.
    """
    block = ("BLOCK", int(seconds * 1000)) if seconds else ()
    command = ("XREAD", "COUNT", _PAGE, *block, "STREAMS", key, after)
    await connection.send_packed_command([cast(Any, hiredis).pack_command(command)])
    reply: list[Any] | None = await connection.read_response()
    entries: list[tuple[str, list[str]]] = reply[0][1] if reply else []
    return [(position, dict(zip(flat[::2], flat[1::2], strict=True))) for position, flat in entries]


async def _last(client: redis.asyncio.Redis, shard: _keys.Shard) -> str:
    newest: list[Entry] = await cast(Awaitable[Any], client.xrevrange(shard.feed, count=1))
    return newest[0][0] if newest else "0-0"


def _stream_id(position: str) -> str:
    ms, _, seq = position.partition("-")
    return f"{int(ms)}-{int(seq or 0)}"


def _order(position: str) -> tuple[int, int]:
    ms, _, seq = position.partition("-")
    return int(ms), int(seq)
