"""Clients whose next call loses its reply or its connection; the one after it is answered like any other."""

from __future__ import annotations

from typing import Any

import redis

from blackboard import _script


class Troubled:
    """A client whose next call loses its reply or its connection."""

    def __init__(self, client: Any, script: _script.Script, how: str) -> None:
        self._client, self._script, self._how, self._over = client, script, how, False

    async def evalsha(self, sha: str, count: int, *rest: Any) -> Any:
        if self._over:
            return await self._client.evalsha(sha, count, *rest)
        self._over = True
        if self._how == "lost" or not _wired(self._client):
            if self._how != "torn":
                await self._client.eval(self._script.text, count, *rest)
            raise redis.ConnectionError("the reply was lost")
        pool = self._client.connection_pool
        connection = await pool.get_connection()
        try:
            request = b"".join(connection.pack_command("EVAL", self._script.text, count, *rest))
            await connection.send_packed_command([request[: len(request) // 2] if self._how == "torn" else request])
        finally:
            await connection.disconnect()
            await pool.release(connection)
        raise redis.ConnectionError("the connection was closed")

    async def eval(self, text: str, count: int, *rest: Any) -> Any:
        return await self._client.eval(text, count, *rest)


class TroubledThread:
    """The same for the thread of the heartbeat."""

    def __init__(self, client: Any, script: _script.Script, how: str) -> None:
        self._client, self._script, self._how, self._over = client, script, how, False

    def evalsha(self, sha: str, count: int, *rest: Any) -> Any:
        if self._over:
            return self._client.evalsha(sha, count, *rest)
        self._over = True
        if self._how == "lost" or not _wired(self._client):
            if self._how != "torn":
                self._client.eval(self._script.text, count, *rest)
            raise redis.ConnectionError("the reply was lost")
        connection = self._client.connection_pool.get_connection()
        try:
            request = b"".join(connection.pack_command("EVAL", self._script.text, count, *rest))
            connection.send_packed_command([request[: len(request) // 2] if self._how == "torn" else request])
        finally:
            connection.disconnect()
            self._client.connection_pool.release(connection)
        raise redis.ConnectionError("the connection was closed")

    def eval(self, text: str, count: int, *rest: Any) -> Any:
        return self._client.eval(text, count, *rest)


def _wired(client: Any) -> bool:
    """Whether there is a socket to be cut: not for the engine in memory, nor for a cluster's client."""
    return hasattr(client, "connection_pool") and not type(client).__module__.startswith("fakeredis")
