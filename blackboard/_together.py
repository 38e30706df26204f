"""Script calls that are made at the same time travel together: one write, one connection, one waiting.

A process that works on many tasks makes many small calls. One by one, each costs the client library more than the
server: a connection taken from the pool and given back, a packing in Python, two time-outs. Together they cost one of
each, and the server reads and answers them in one go. A call that is alone is sent at once; those that come while it is
under way go as soon as there is a free line.

Nothing is promised by this beyond what single calls promise: they are carried out in the order in which they were made
on one line, each on its own, and a lost connection fails every call whose answer it has not brought.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import hiredis
import redis
import redis.asyncio
from redis.exceptions import ResponseError

from blackboard._sending import Kept
from blackboard.ending import end

LINES = 2
"""Connections in use for this at a time: while one waits for answers, the other can send."""
_MOST_CALLS = 64
_MOST_BYTES = 64 * 1024
"""A call larger than this goes alone, so that small ones need not wait for it."""

_Call = tuple[bytes, "asyncio.Future[Any]"]


class Client(redis.asyncio.Redis):
    """A client of one server whose ``evalsha`` shares connections with the calls around it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        cast(Any, super()).__init__(*args, **options)
        self._calls: list[_Call] = []
        self._lines: set[asyncio.Task[None]] = set()
        self._kept = Kept(self)
        self._starting = False
        self._seconds: float = self.connection_pool.connection_kwargs["socket_timeout"]

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:  # pyright: ignore
        packed = cast(bytes, cast(Any, hiredis).pack_command(("EVALSHA", sha, numkeys, *keys_and_args)))
        if len(packed) > _MOST_BYTES:
            return await cast(Any, super()).evalsha(sha, numkeys, *keys_and_args)
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append((packed, reply))
        self._serve()
        return await reply

    async def aclose(self, *args: Any, **options: Any) -> None:
        waiting, self._calls, self._starting = self._calls, [], False
        for _, reply in waiting:
            if not reply.done():
                reply.set_exception(redis.ConnectionError("the client was closed"))
        await end(list(self._lines))
        await self._kept.close()
        await cast(Any, super()).aclose(*args, **options)

    def _serve(self, ended: asyncio.Task[None] | None = None) -> None:
        """See to it that somebody takes what waits."""
        if ended is not None:
            self._lines.discard(ended)
        if self._calls and not self._starting and len(self._lines) < LINES:
            self._starting = True
            line = asyncio.create_task(self._line())
            self._lines.add(line)
            line.add_done_callback(self._serve)

    def _take(self) -> list[_Call]:
        self._starting = False
        waiting = [call for call in self._calls if not call[1].done()]
        self._calls = waiting[_MOST_CALLS:]
        return waiting[:_MOST_CALLS]

    async def _line(self) -> None:
        """Send what waits and hand out the answers, until nothing waits."""
        calls: list[_Call] | None = None
        try:
            connection = await self._kept.take()
            try:
                while calls := self._take():
                    await self._exchange(connection, calls)
            finally:
                await self._kept.give(connection)
        except BaseException as error:
            if calls is None:  # no connection could be had: those that wait for it hear of it now
                calls = self._take()
            lost = error if isinstance(error, redis.RedisError) else redis.ConnectionError(f"given up: {error!r}")
            for _, reply in calls:
                if not reply.done():
                    reply.set_exception(lost)
            if not isinstance(error, Exception):
                raise

    async def _exchange(self, connection: Any, calls: list[_Call]) -> None:
        await connection.send_packed_command([packed for packed, _ in calls])
        try:
            async with asyncio.timeout(self._seconds):
                for _, reply in calls:
                    try:
                        answer = await connection.read_response(timeout=math.inf)
                    except ResponseError as error:
                        if not reply.done():
                            reply.set_exception(error)
                    else:
                        if not reply.done():
                            reply.set_result(answer)
        except TimeoutError:
            raise redis.TimeoutError(f"no answer within {self._seconds:g} s") from None
