"""Connections that do not lose a cancellation while they send, and that are kept between uses.

The client library sends inside ``asyncio.wait_for``, which before Python 3.12 drops a cancellation that arrives in the
instant in which the sending has ended (python/cpython#86296). Whoever was cancelled then goes on for ever, and a time-out
around it never comes. It also costs a task for each command. ``asyncio.timeout`` does neither.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import redis
import redis.asyncio
from redis.driver_info import DriverInfo

DRIVER = DriverInfo()
"""What connections say of their library. Made once: it looks its version up in the metadata that were installed with it, which
costs more than all else that a connection begins with."""


@cache
def steady(kind: type[Any]) -> type[Any]:
    """The same kind of connection, with a sending that can be cancelled at any time."""
    return kind if issubclass(kind, _Steady) else type(f"Steady{kind.__name__}", (_Steady, kind), {})


class _Steady:
    is_connected: bool
    socket_timeout: float | None
    connect_check_health: Any
    check_health: Any
    disconnect: Any
    _send_packed_command: Any

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()
        if isinstance(command, str):
            command = command.encode()
        parts = [command] if isinstance(command, bytes) else command
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command(parts)
        except BaseException as error:  # half a command may be on its way: nothing can follow it
            await self.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise redis.TimeoutError("Timeout writing to socket") from None
            if isinstance(error, OSError):
                raise redis.ConnectionError(f"Error while writing to socket: {error}") from error
            raise


class Kept:
    """Connections that are kept between uses: taking one from its pool and giving it back costs more than a call."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._idle: list[Any] = []

    async def take(self) -> Any:
        """One that was kept and is still good, or one from the pool."""
        while self._idle:
            connection = self._idle.pop()
            with contextlib.suppress(redis.RedisError, OSError):
                if not await connection.can_read():  # nothing was asked: what is there is the end of the connection
                    return connection
            await self.drop(connection)
        return await self._pool.get_connection()

    async def give(self, connection: Any) -> None:
        """Keep one that owes no reply."""
        if connection.is_connected:
            self._idle.append(connection)
        else:
            await self._pool.release(connection)

    async def drop(self, connection: Any) -> None:
        """Close one whose replies nobody will read."""
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    async def close(self) -> None:
        """Give all back to the pool."""
        while self._idle:
            await self._pool.release(self._idle.pop())
