"""Clients of a store that is several servers: a cluster, or a primary that Sentinels name.

Both follow the rules of a single server's clients (nothing is re-sent by redis-py, blocking calls have connections of
their own) and add three:

* What a failover or a slot on its way to another node makes the client raise is a :class:`redis.ConnectionError` in the
  end, so that whoever repeats calls repeats these too. redis-py raises a kind of error that is no ``RedisError`` when a
  cluster does not answer.
* At most so many calls at a time go to one node of a cluster. Its client has no waiting line: it refuses the call after
  the last connection.
* ``patience_seconds`` on each client says how long a call has to be repeated to outlast a failover.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.retry
import redis.sentinel
from redis._parsers import AsyncCommandsParser
from redis.asyncio.cluster import PipelineCommand
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisClusterException, ResponseError

from blackboard._address import Address
from blackboard._probe import NotThisKind
from blackboard._script import RETRY_SECONDS, passing
from blackboard._sending import DRIVER, steady

_AT_ONCE = 64
"""Calls to one node at a time; further ones wait."""
_MANY = 100_000

NODE_TIMEOUT_MS = 15_000
"""``cluster-node-timeout`` of a cluster that does not tell its own: the server's default."""
_DOWN_AFTER_MS = 30_000
"""``down-after-milliseconds`` of Sentinels that do not tell: their default."""


def patience(detection_ms: float) -> float:
    """How long calls are repeated where a dead primary is noticed after so many milliseconds: twice that and some."""
    return max(RETRY_SECONDS, 2 * detection_ms / 1000 + 5)


class _Commands(AsyncCommandsParser):
    """Where each command has its keys: asked once for all clients of a cluster, as it takes longer than to connect."""

    def __init__(self, known: dict[str, Any]) -> None:
        super().__init__()
        self.commands = known

    async def initialize(self, node: Any = None) -> None:
        if node is not None and self.commands:
            self.node = node
            return
        known = self.commands
        await super().initialize(node)
        known.update(self.commands)
        self.commands = known


class _AsyncCluster(redis.asyncio.RedisCluster):
    patience_seconds = RETRY_SECONDS

    def __init__(self, at_once: int, commands: dict[str, Any], **options: Any) -> None:
        cast(Any, super()).__init__(**options)
        known = cast(Any, self)
        known.commands_parser = _Commands(commands)
        kind = steady(known.connection_kwargs["connection_class"])
        known.connection_kwargs["connection_class"] = kind
        for node in known.nodes_manager.startup_nodes.values():
            node.connection_class = kind
        self._room: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(at_once))
        self._looking = asyncio.Lock()

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            # One call at a time looks at the cluster anew: when many begin at once, each closes connections the others
            # have just opened.
            if self._initialize:
                async with self._looking:
                    await self.initialize()
            return await cast(Any, super()).execute_command(*args, **kwargs)
        except RedisClusterException as error:
            raise _translated(error) from error
        except AttributeError as error:  # a connection that another call has closed in the same instant
            raise redis.ConnectionError(f"connection closed: {error}") from error

    async def together(self, key: str, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Commands one after the other on one connection to the node that serves a key; errors are among the replies."""
        try:
            if self._initialize:
                async with self._looking:
                    await self.initialize()
            node: Any = cast(Any, self).get_node_from_key(key)
            sent = [PipelineCommand(number, *command) for number, command in enumerate(commands)]
            async with self._room[node.name]:
                await node.execute_pipeline(sent)
        except RedisClusterException as error:
            raise _translated(error) from error
        except AttributeError as error:
            raise redis.ConnectionError(f"connection closed: {error}") from error
        return [command.result for command in sent]

    async def _execute_command(self, target_node: Any, *args: Any, **kwargs: Any) -> Any:
        async with self._room[target_node.name]:
            return await cast(Any, super())._execute_command(target_node, *args, **kwargs)


class _Cluster(redis.cluster.RedisCluster):
    patience_seconds = RETRY_SECONDS

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return cast(Any, super()).execute_command(*args, **kwargs)
        except RedisClusterException as error:
            raise _translated(error) from error


def _translated(error: RedisClusterException) -> redis.RedisError:
    if "Cluster mode is not enabled" in f"{error} {error.__cause__}":
        return NotThisKind("it is a single server and no cluster. Write redis:// or rediss://.")
    return redis.ConnectionError(str(error))


class ClusterClients:
    """Clients of a Redis Cluster."""

    def __init__(self, address: Address) -> None:
        self._hosts = address.hosts
        self._given = _options(address)
        self._commands: dict[str, Any] = {}
        self.patience_seconds = RETRY_SECONDS

    def asynchronous(self, timeout_seconds: float, *, blocking: bool) -> redis.asyncio.Redis:
        client = _AsyncCluster(
            _MANY if blocking else _AT_ONCE,
            self._commands,
            startup_nodes=[redis.asyncio.cluster.ClusterNode(host, port) for host, port in self._hosts],
            retry=redis.asyncio.retry.Retry(NoBackoff(), 0),
            max_connections=_MANY,
            require_full_coverage=False,
            **_timed(self._given, timeout_seconds),
        )
        client.patience_seconds = self.patience_seconds
        return cast(redis.asyncio.Redis, client)

    def synchronous(self, timeout_seconds: float) -> redis.Redis:
        """A client for other threads. It connects at once.

        Raises:
            redis.ConnectionError: no node answers now.
        """
        try:
            client = cast(Any, _Cluster)(
                startup_nodes=[redis.cluster.ClusterNode(host, port) for host, port in self._hosts],
                retry=redis.retry.Retry(NoBackoff(), 0),
                require_full_coverage=False,
                **_timed(self._given, timeout_seconds),
            )
        except RedisClusterException as error:
            raise _translated(error) from error
        client.patience_seconds = self.patience_seconds
        return cast(redis.Redis, client)


class _SentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Connections to the primary of the moment; callers beyond the last one wait."""


class _AsyncPrimary(redis.asyncio.Redis):
    patience_seconds = RETRY_SECONDS

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await cast(Any, super()).execute_command(*args, **options)
        except ResponseError as error:
            if _demoted(error):
                await cast(Any, self.connection_pool).disconnect(inuse_connections=False)
            raise

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await cast(Any, self.connection_pool).sentinel_manager.aclose()


class _Primary(redis.Redis):
    patience_seconds = RETRY_SECONDS

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return cast(Any, super()).execute_command(*args, **options)
        except ResponseError as error:
            if _demoted(error):
                self.connection_pool.disconnect(inuse_connections=False)
            raise

    def close(self) -> None:
        super().close()
        for sentinel in cast(Any, self.connection_pool).sentinel_manager.sentinels:
            sentinel.close()


def _demoted(error: ResponseError) -> bool:
    """Whether a primary of before refused: its connections lead to the wrong server."""
    return isinstance(error, ReadOnlyError) or (passing(error) and "READONLY" in str(error))


class SentinelClients:
    """Clients of the server that Sentinels name as primary, asked again for every new connection."""

    def __init__(self, address: Address) -> None:
        self._hosts, self._service = address.hosts, address.name
        self._given = _options(address)
        self._theirs = {**{k: v for k, v in self._given.items() if k.startswith("ssl")}, **dict(address.sentinel)}
        self.patience_seconds = RETRY_SECONDS

    def asynchronous(self, timeout_seconds: float, *, blocking: bool) -> redis.asyncio.Redis:
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        sentinel = redis.asyncio.Sentinel(
            self._hosts, sentinel_kwargs={**self._asking(timeout_seconds), "retry": retry}
        )
        pool = cast(Any, _SentinelPool)(
            self._service,
            sentinel,
            retry=retry,
            max_connections=_MANY if blocking else _AT_ONCE,
            **_timed(self._given, timeout_seconds),
        )
        pool.connection_class = steady(pool.connection_class)
        client = cast(_AsyncPrimary, _AsyncPrimary.from_pool(pool))
        client.patience_seconds = self.patience_seconds
        return client

    def synchronous(self, timeout_seconds: float) -> redis.Redis:
        retry = redis.retry.Retry(NoBackoff(), 0)
        sentinel: Any = cast(Any, redis.Sentinel)(
            self._hosts, sentinel_kwargs={**self._asking(timeout_seconds), "retry": retry}
        )
        pool = cast(Any, redis.sentinel.SentinelConnectionPool)(
            self._service, sentinel, retry=retry, **_timed(self._given, timeout_seconds)
        )
        client = cast(_Primary, _Primary.from_pool(pool))
        client.patience_seconds = self.patience_seconds
        return client

    async def learn(self) -> None:
        """Ask the Sentinels whether they know the service, and after what silence they take its primary for dead.

        Raises:
            NotThisKind: the first that answers is no Sentinel or does not watch the service.
        """
        for host, port in self._hosts:
            client: Any = redis.asyncio.Redis(
                host=host, port=port, retry=redis.asyncio.retry.Retry(NoBackoff(), 0), **self._asking(2.0)
            )
            try:
                told: dict[str, Any] = await client.sentinel_masters()
            except ResponseError as error:
                if "unknown command" in str(error).lower():
                    raise NotThisKind(f"{host}:{port} is no Sentinel. Write redis:// for a single server.") from error
                continue
            except (redis.RedisError, OSError):
                continue
            finally:
                await client.aclose()
            if self._service not in told:
                known = ", ".join(sorted(told)) or "none"
                raise NotThisKind(f"the Sentinel watches no service {self._service}. It knows: {known}.")
            self.patience_seconds = patience(float(told[self._service].get("down-after-milliseconds", _DOWN_AFTER_MS)))
            return

    def _asking(self, timeout_seconds: float) -> dict[str, Any]:
        return {
            **self._theirs,
            "decode_responses": True,
            "protocol": 2,
            "socket_timeout": min(timeout_seconds, 2.0),
            "socket_connect_timeout": min(timeout_seconds, 2.0),
            "driver_info": DRIVER,
        }


def _options(address: Address) -> dict[str, Any]:
    """Credentials, database and TLS parameters of the URL, as arguments of a client."""
    read: dict[str, Any] = dict(cast(Any, redis.connection).parse_url(address.full))
    for name in ("host", "port"):
        read.pop(name, None)
    if address.scheme.endswith("+cluster"):
        read.pop("db", None)
    if read.pop("connection_class", None) is not None:
        read["ssl"] = True
    return read


def _timed(given: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
    return {
        "socket_connect_timeout": min(timeout_seconds, 5.0),
        **given,
        "decode_responses": True,
        "protocol": 2,
        "socket_timeout": timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "driver_info": DRIVER,
    }


def clients_of(address: Address) -> ClusterClients | SentinelClients:
    """What talks to the servers of a ``+cluster`` or ``+sentinel`` URL."""
    return ClusterClients(address) if address.scheme.endswith("+cluster") else SentinelClients(address)
