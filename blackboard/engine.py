"""Which Redis a board's URL stands for, and how this code talks to it.

A URL names a server (``redis://``, ``rediss://``, ``unix://``), several (``redis+cluster://``, ``redis+sentinel://``) or a
store inside this process (``memory://``). Without one, a local server is started for the data directory and shared by
every process that opens it.

The rules for clients are in one place, :class:`_WireClients`: redis-py's own retries are off, because they re-send
calls that may have been carried out; a client that blocks on the server has its own connections and a longer time-out;
replies are plain lists on every server (RESP2).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.retry
from redis.backoff import NoBackoff

from blackboard import _address, _local, _together
from blackboard._probe import CONNECT_SECONDS, NotThisKind, probe
from blackboard._script import RETRY_SECONDS
from blackboard._sending import DRIVER, steady
from blackboard.errors import BadInput, EngineUnavailable, MissingExtra

Durability = Literal["memory", "local", "local-sync", "replicated", "unknown"]

COMMAND_SECONDS = 5.0
"""How long a reply is waited for before the connection is given up."""

_POOL = 64
"""Connections of one command client. Callers beyond it wait for a free one instead of failing."""


class Clients(Protocol):
    """Where an engine's connections come from."""

    def asynchronous(self, timeout_seconds: float, *, blocking: bool) -> redis.asyncio.Redis: ...

    def synchronous(self, timeout_seconds: float) -> redis.Redis: ...


class Engine:
    """What a board's URL resolved to. Made by :func:`open_engine`.

    An engine belongs to the event loop it was opened in; only :meth:`sync_client` is for other threads.

    Attributes:
        url: the URL, without its secrets.
        durability: ``memory`` (lasts as long as this process), ``local`` (the supervised server: survives crashes of
            every process; a power failure may cost the last second), ``local-sync`` (that survives a power failure too:
            every write is on disk before it is acknowledged), ``replicated`` (every primary writes a log and
            refuses writes that no replica would get: survives one host, but for the replicas' lag) or ``unknown``
            (somebody else's server).
        label: one line for people.
        cluster: whether the keys are spread over several servers by their hash tags.
        wired: whether one server is at the other end of a connection, which keeps what is sent behind a waiting command
            and carries it out after it. Not for a cluster, nor for the store inside this process.
        patience_seconds: how long calls are repeated to outlast a failover.
    """

    def __init__(
        self,
        *,
        url: str,
        durability: Durability,
        label: str,
        clients: Clients,
        revive: Callable[[], None] | None = None,
        cluster: bool = False,
        patience_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.url, self.durability, self.label = url, durability, label
        self.cluster, self.patience_seconds = cluster, patience_seconds
        self.wired = not cluster and durability != "memory"
        self._clients, self._revive = clients, revive
        self._command: redis.asyncio.Redis | None = None
        self._async: list[redis.asyncio.Redis] = []
        self._sync: list[redis.Redis] = []

    def __repr__(self) -> str:
        return f"Engine({self.url!r}, durability={self.durability!r})"

    def client(self) -> redis.asyncio.Redis:
        """The client for commands that answer at once; the same one at every call.

        Replies are decoded, the time-out is :data:`COMMAND_SECONDS`, nothing is retried.
        """
        if self._command is None:
            self._command = self._clients.asynchronous(COMMAND_SECONDS, blocking=False)
            self._async.append(self._command)
        return self._command

    def blocking_client(self, block_seconds: float) -> redis.asyncio.Redis:
        """A client of its own for commands that wait on the server, at most ``block_seconds`` each."""
        client = self._clients.asynchronous(block_seconds + COMMAND_SECONDS, blocking=True)
        self._async.append(client)
        return client

    def sync_client(self, timeout_seconds: float = 2.0) -> redis.Redis:
        """A client of its own for a thread without an event loop, such as the one that renews leases."""
        client = self._clients.synchronous(timeout_seconds)
        self._sync.append(client)
        return client

    async def ensure(self) -> None:
        """Bring the supervised local server back when it is gone; nothing for any other engine.

        The clients made before stay good: the server comes back on the same socket.

        Raises:
            EngineUnavailable: it could not be brought back; the message says why.
        """
        if self._revive is not None:
            await asyncio.to_thread(self._revive)

    async def close(self) -> None:
        """Close every client made here. A server is never stopped by this; see :func:`stop_local`."""
        asynchronous, synchronous = self._async, self._sync
        self._command, self._async, self._sync = None, [], []
        for client in asynchronous:
            await client.aclose()
        for client in synchronous:
            client.close()


async def open_engine(
    url: str | None = None,
    *,
    data_dir: Path | str | None = None,
    durability: Literal["local", "local-sync"] | None = None,
    connect_seconds: float = CONNECT_SECONDS,
) -> Engine:
    """Find the board's Redis, check that it answers and is new enough.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``, ``redis+sentinel://`` or ``memory://``.
            Default: ``ARBITER_REDIS_URL``; when that is not set either, the supervised local server of ``data_dir``.
        data_dir: where the local server keeps its data. Default: ``ARBITER_DATA_DIR``, then ``~/.arbiter``.
        durability: what the local server's acknowledged writes survive: ``local-sync`` writes them to disk first, ``local``
            once a second. Kept beside the data for everybody. Default: ``ARBITER_DURABILITY``, then what is kept.
        connect_seconds: how long an unreachable server is tried. One that is loading its data is waited for longer.

    Returns:
        The engine. Close it when the board is closed.

    Raises:
        BadInput: the URL cannot be one, or ``durability`` is asked of a server that is not the local one.
        EngineUnavailable: the server cannot be reached or started, refuses the credentials, or is too old.
        MissingExtra: the URL needs an optional dependency that is not installed.
    """
    if find_spec("hiredis") is None:
        raise MissingExtra("The reply parser hiredis is not installed: pip install 'redis[hiredis]'")
    if url is None:
        url = os.environ.get("ARBITER_REDIS_URL") or None
    if url is None:
        return await _open_local(_data_dir(data_dir), connect_seconds, _sync(durability))
    address = _address.read(url)
    if durability is not None:
        remedy = "It is a setting of the local server. Set appendfsync of your server, or leave the URL out."
        raise BadInput("durability", durability, remedy)
    if address.scheme == "memory":
        from blackboard import _memory

        return Engine(
            url=address.masked,
            durability="memory",
            label=_memory.label(address.name),
            clients=_memory.MemoryClients(address.name),
        )
    if address.hosts:
        return await _open_several(address, connect_seconds)
    clients = _WireClients(address.full)
    found = await probe(clients, address, connect_seconds)
    return Engine(
        url=address.masked, durability=found.durability, label=f"{found.label} at {address.masked}", clients=clients
    )


def stop_local(data_dir: Path | str | None = None) -> bool:
    """Stop the supervised local server of a data directory, after it has written everything to disk.

    Args:
        data_dir: as for :func:`open_engine`.

    Returns:
        True when a server was running and has ended, False when none was.

    Raises:
        EngineUnavailable: the server did not end.
    """
    return _local.stop(_data_dir(data_dir))


async def _open_several(address: _address.Address, connect_seconds: float) -> Engine:
    from blackboard import _several

    clients = _several.clients_of(address)
    cluster = isinstance(clients, _several.ClusterClients)
    if not cluster:
        try:
            await clients.learn()
        except NotThisKind as error:
            raise EngineUnavailable(f"{address.masked}: {error}") from error
    found = await probe(clients, address, connect_seconds)
    if cluster:
        clients.patience_seconds = _several.patience(found.node_timeout_ms or _several.NODE_TIMEOUT_MS)
    return Engine(
        url=address.masked,
        durability=found.durability,
        label=f"{'cluster of ' if cluster else ''}{found.label} at {address.masked}",
        clients=clients,
        cluster=cluster,
        patience_seconds=clients.patience_seconds,
    )


def _sync(durability: str | None) -> bool | None:
    """Whether writes go to disk at once; None when nobody says."""
    wanted = durability or os.environ.get("ARBITER_DURABILITY") or None
    if wanted not in (None, "local", "local-sync"):
        raise BadInput(
            "durability", wanted, "Use local or local-sync; ARBITER_DURABILITY is for the local server only."
        )
    return None if wanted is None else wanted == "local-sync"


async def _open_local(data_dir: Path, connect_seconds: float, sync: bool | None) -> Engine:
    local = await asyncio.to_thread(_local.start, data_dir, sync)
    address = _address.read(local.url)
    clients = _WireClients(address.full)
    await probe(clients, address, connect_seconds)

    def revive() -> None:
        again = _local.start(data_dir)
        if again.url != local.url:
            raise EngineUnavailable(
                f"The local server came back on another socket ({again.url} instead of {local.url}). "
                "Open the board again."
            )

    level = "local-sync" if local.sync else "local"
    return Engine(url=local.url, durability=level, label=local.label, clients=clients, revive=revive)


def _data_dir(data_dir: Path | str | None) -> Path:
    chosen = data_dir if data_dir is not None else os.environ.get("ARBITER_DATA_DIR") or Path.home() / ".arbiter"
    return Path(chosen).expanduser()


class _WireClients:
    """Clients of a server behind a socket."""

    def __init__(self, url: str) -> None:
        self._url = url

    def asynchronous(self, timeout_seconds: float, *, blocking: bool) -> redis.asyncio.Redis:
        options = self._options(timeout_seconds)
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        kind: Any = redis.asyncio.ConnectionPool if blocking else redis.asyncio.BlockingConnectionPool
        size = 100_000 if blocking else _POOL
        pool = kind.from_url(self._url, retry=retry, max_connections=size, **options)
        pool.connection_class = steady(pool.connection_class)
        return (redis.asyncio.Redis if blocking else _together.Client).from_pool(pool)

    def synchronous(self, timeout_seconds: float) -> redis.Redis:
        options = self._options(timeout_seconds)
        retry = redis.retry.Retry(NoBackoff(), 0)
        pool = cast(Any, redis.ConnectionPool).from_url(self._url, retry=retry, **options)
        return redis.Redis.from_pool(pool)

    def _options(self, timeout_seconds: float) -> dict[str, Any]:
        options: dict[str, Any] = {
            "decode_responses": True,
            "protocol": 2,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": min(timeout_seconds, COMMAND_SECONDS),
            "health_check_interval": 15,
            "driver_info": DRIVER,
        }
        if not self._url.startswith("unix:"):
            options["socket_keepalive"] = True
        return options
