"""A wait for doorbells on the server, and one script call that may be put behind it before it is over.

A worker that sleeps and then claims needs two round trips after the ring, and its process has to be woken in between. A
server keeps what a waiting client has sent behind its ``BLPOP`` and carries it out when the wait is over, so the claim can
be there already. Nothing is promised beyond what the two calls promise: the claim is carried out once when the bell rings
or the wait is over, or never when the connection was gone by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import hiredis
import redis.asyncio
from redis.exceptions import ResponseError

from blackboard._sending import Kept


class Bell:
    """One wait, on a connection of its own. It is a client for the one script call behind it; see :meth:`evalsha`.

    Args:
        sleepers: connections for commands that wait on the server.
        client: makes the call where it is too late to put it behind the wait, and whenever it has to be repeated.
        bells: keys of the lists that are popped from.
        seconds: longest wait; the call is made after it as well.
    """

    def __init__(self, sleepers: Kept, client: redis.asyncio.Redis, bells: Sequence[str], seconds: float) -> None:
        self._sleepers = sleepers
        self._client: Any = client
        self._wait = ("BLPOP", *bells, seconds)
        self._connection: Any = None
        self._owed = 0
        """Replies that are still to be read."""
        self._called = False
        self.over: asyncio.Future[bool] | None = None
        """Whether a bell rang, once the wait is over. None before :meth:`listen`."""
        self.repeated = False
        """Whether the call was made again, so that the first one may still come."""

    async def listen(self) -> None:
        """Begin to wait before there is a call to put behind."""
        self._connection = await self._sleepers.take()
        await self._send(self._wait)
        self.over = asyncio.ensure_future(self._rang())

    async def _send(self, *commands: tuple[Any, ...], healthy: bool = True) -> None:
        self._owed += len(commands)
        packed: list[bytes] = [cast(Any, hiredis).pack_command(command) for command in commands]
        await self._connection.send_packed_command(packed, check_health=healthy)

    async def _answer(self) -> Any:
        try:
            reply = await self._connection.read_response()
        except ResponseError:
            self._owed -= 1
            raise
        self._owed -= 1
        return reply

    async def _rang(self) -> bool:
        return await self._answer() is not None

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """The reply to the call, made as soon as the wait is over."""
        if self._called or (self.over is not None and self.over.done()):
            self.repeated = self._called
            return await self._client.evalsha(sha, numkeys, *keys_and_args)
        self._called = True
        call = ("EVALSHA", sha, numkeys, *keys_and_args)
        if self.over is None:
            self._connection = await self._sleepers.take()
            await self._send(self._wait, call)
            await self._rang()
        else:
            # Its health is not looked after: for that it would have to answer now.
            await self._send(call, healthy=False)
            await self.over
        return await self._answer()

    async def eval(self, text: str, numkeys: int, *keys_and_args: Any) -> Any:
        self._called = True
        return await self._client.eval(text, numkeys, *keys_and_args)

    async def close(self) -> None:
        """Give the connection back; one with a reply still to come is closed."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self.over is not None:
            self.over.add_done_callback(
                lambda over: over.cancelled() or over.exception()
            )  # looked at, and not reported
        if not self._owed:
            await self._sleepers.give(connection)
            return
        if self.over is not None:
            self.over.cancel()
        await self._sleepers.drop(connection)
