"""Is the server there, does it let us in, and is it new enough? Asked once, when an engine is opened.

Managed services refuse many questions, so everything but ``PING`` may be refused here without harm.
"""

from __future__ import annotations

import logging
import re
import ssl
from typing import Any, Literal, NamedTuple, Protocol, cast

import redis
import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, InvalidResponse, ResponseError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from blackboard import _tls
from blackboard._address import Address
from blackboard._script import unwritable
from blackboard.errors import BadInput, EngineUnavailable

CONNECT_SECONDS = 5.0
"""How long an unreachable server is tried when an engine is opened."""

_SILENCE_SECONDS = 1.0
"""How long it is tried before the log says so."""

LOADING_SECONDS = 120.0
"""How long a server that is reading its data from disk is waited for."""

FLOORS = {"redis": (6, 2), "valkey": (7, 2)}
"""The oldest servers the scripts were tested on."""


class NotThisKind(redis.RedisError):
    """What answers is neither a cluster node nor a Sentinel, or knows nothing of the service: no use in asking again."""


_log = logging.getLogger(__name__)


class _Connecting(Protocol):
    def asynchronous(self, timeout_seconds: float, *, blocking: bool) -> redis.asyncio.Redis: ...


def version(text: str) -> tuple[int, ...]:
    """``"7.0.15"`` as ``(7, 0, 15)``; empty when there is no number in it."""
    match = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def spelled(number: tuple[int, ...]) -> str:
    """``(7, 0, 15)`` as ``"7.0.15"``."""
    return ".".join(str(part) for part in number)


class Found(NamedTuple):
    """What was found behind a URL."""

    label: str
    durability: Literal["unknown", "replicated"]
    node_timeout_ms: float | None
    """After what silence a cluster takes a node for dead; many services do not tell."""


async def probe(clients: _Connecting, address: Address, connect_seconds: float) -> Found:
    """Connect, bounded in time, and look at the server.

    Args:
        clients: where to get a connection.
        address: where it leads, for the messages.
        connect_seconds: how long an unreachable server is tried.

    Returns:
        The server's name and version for people, such as ``redis 7.0.15``, whether every write reaches a replica and a
        disk: ``unknown`` or ``replicated``, and of a cluster when it notices a dead node.

    Raises:
        EngineUnavailable: unreachable, refused, too old, or not a server a board can live on.
    """
    cluster = address.scheme.endswith("+cluster")
    client = clients.asynchronous(max(0.05, min(connect_seconds, 5.0)), blocking=True)
    try:
        await _connect(client, address, connect_seconds)
        each = await _facts_of_all(client) if cluster else [await _facts(client)]
        node_timeout_ms = await _node_timeout(client) if cluster else None
    finally:
        await client.aclose()
    found = [_judge(facts, address) for facts in each]
    return Found(found[0], "replicated" if each and all(map(_replicated, each)) else "unknown", node_timeout_ms)


def _replicated(facts: dict[str, str]) -> bool:
    """Whether this primary writes a log and refuses writes that no replica would get.

    The number of good replicas is only told where ``min-replicas-to-write`` is set.
    """
    return (
        facts.get("aof_enabled") == "1"
        and int(facts.get("connected_slaves", "0")) > 0
        and "min_slaves_good_slaves" in facts
    )


async def _connect(client: redis.asyncio.Redis, address: Address, seconds: float) -> None:
    def enough(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        waited = state.seconds_since_start or 0.0
        return waited >= (max(seconds, LOADING_SECONDS) if isinstance(error, BusyLoadingError) else seconds)

    def told(state: RetryCallState) -> None:
        nonlocal silent
        if silent and (state.seconds_since_start or 0.0) >= _SILENCE_SECONDS:
            silent = False
            error = state.outcome.exception() if state.outcome is not None else None
            _log.warning("waiting for %s: %s", address.masked, error)

    silent = True
    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_passing),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=enough,
            before_sleep=told,
            reraise=True,
        ):
            with attempt:
                await cast(Any, client).ping()
    except (redis.RedisError, OSError) as error:
        raise await _refusal(error, address, seconds) from error


def _cause(error: BaseException, *kinds: type[BaseException]) -> BaseException | None:
    """The error of one of these kinds behind ``error``: the client wraps what happens while it connects."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, kinds):
        seen = seen.__cause__ or seen.__context__
    return seen


def _passing(error: BaseException) -> bool:
    """Whether trying again may help: the server may be starting. Wrong credentials and certificates stay wrong."""
    if _cause(error, AuthenticationError, ssl.SSLError, ResponseError, NotThisKind) is not None:
        return False
    return isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError))


async def _refusal(error: Exception, address: Address, seconds: float) -> Exception:
    where, said = address.masked, str(error)
    other = _cause(error, NotThisKind)
    if other is not None:
        return EngineUnavailable(f"{where}: {other}")
    match _cause(error, AuthenticationError, ssl.SSLError, BusyLoadingError, InvalidResponse, ResponseError):
        case ssl.SSLCertVerificationError() as cause:
            return EngineUnavailable(
                f"The certificate of {where} was not accepted ({cause.verify_message}). "
                "Name the authority that signed it: ?ssl_ca_certs=/path/to/ca.pem."
            )
        case ssl.SSLError() as cause:
            return EngineUnavailable(f"TLS with {where} failed ({cause.reason}). A server without TLS needs redis://.")
        case AuthenticationError() as cause:
            return EngineUnavailable(
                f"{where} refused the credentials ({cause}). Write them into the URL: redis://user:password@host:6379/0."
            )
        case BusyLoadingError():
            return EngineUnavailable(f"{where} is still loading its data after {LOADING_SECONDS:g} s. Try again later.")
        case InvalidResponse():
            return EngineUnavailable(f"What listens at {where} does not speak Redis. Check host and port.")
        case ResponseError() as cause if "out of range" in str(cause):
            return BadInput("url", where, f"The server has no such database ({cause}). Use database 0.")
        case ResponseError() as cause if unwritable(cause):
            return EngineUnavailable(
                f"{where} cannot write to its disk, so it takes nothing. Make room where its data are, and call again."
            )
        case ResponseError() as cause:
            return EngineUnavailable(f"{where} refused the connection: {cause}")
        case _:
            usual = "Start it, correct the URL, or leave the URL out to use a local server."
            return EngineUnavailable(
                f"No Redis answered at {where} within {seconds:g} s ({said or type(error).__name__}). "
                f"{await _tls.remedy(address) or usual}"
            )


async def _facts_of_all(client: redis.asyncio.Redis) -> list[dict[str, str]]:
    """The same of every primary of a cluster; of none, when all refuse."""
    try:
        told: Any = await cast(Any, client).info(target_nodes="primaries")
    except ResponseError:
        return [{}]
    one = "redis_version" in told
    return [{str(k): str(v) for k, v in info.items()} for info in ([told] if one else told.values())]


async def _node_timeout(client: redis.asyncio.Redis) -> float | None:
    try:
        return float((await cast(Any, client).config_get("cluster-node-timeout"))["cluster-node-timeout"])
    except (redis.RedisError, KeyError, TypeError, ValueError):
        return None


async def _facts(client: redis.asyncio.Redis) -> dict[str, str]:
    """What the server says about itself, from ``HELLO`` and ``INFO``; either may be refused."""
    facts: dict[str, str] = {}
    untyped = cast(Any, client)
    try:
        hello: Any = await untyped.execute_command("HELLO", "2")
        pairs: Any = hello.items() if hasattr(hello, "items") else zip(hello[::2], hello[1::2], strict=False)
        facts.update({f"hello_{key}": str(value) for key, value in pairs})
    except ResponseError:
        pass
    try:
        info: Any = await untyped.info()
        facts.update({str(key): str(value) for key, value in info.items()})
    except ResponseError:
        pass
    return facts


def _judge(facts: dict[str, str], address: Address) -> str:
    where = address.masked
    kind = "valkey" if "valkey_version" in facts or facts.get("hello_server") == "valkey" else "redis"
    number = version(facts.get(f"{kind}_version") or facts.get("hello_version") or "")
    floor = FLOORS[kind]
    if number and number < floor:
        raise EngineUnavailable(
            f"{where} is {kind} {spelled(number)}; at least {kind} {spelled(floor)} is needed. Upgrade the server."
        )
    mode = facts.get("redis_mode") or facts.get("server_mode") or facts.get("hello_mode")
    if mode == "sentinel":
        raise EngineUnavailable(
            f"{where} is a Sentinel. Write {_instead(address, 'sentinel')}/service/0 with the name of its service."
        )
    if mode == "cluster" and not address.hosts:
        raise EngineUnavailable(f"{where} is a node of a cluster. Write {_instead(address, 'cluster')} instead.")
    if "slave" in (facts.get("role"), facts.get("hello_role")) or facts.get("hello_role") == "replica":
        raise EngineUnavailable(f"{where} is a read-only replica. Name its primary instead.")
    return _praise(kind, number, facts, where)


def _instead(address: Address, kind: str) -> str:
    """The URL to write for a server that turned out to be part of something larger."""
    base, _, rest = address.masked.partition("://")
    if base == "unix":
        return f"redis+{kind}://host:port"
    return f"{base}+{kind}://" + rest.partition("/")[0].partition("?")[0]


def _praise(kind: str, number: tuple[int, ...], facts: dict[str, str], where: str) -> str:
    policy = facts.get("maxmemory_policy")
    if policy not in (None, "noeviction") and facts.get("maxmemory") != "0":
        _log.warning(
            "%s may drop keys when its memory is full (maxmemory-policy is %s): runs would be lost. "
            "Set maxmemory-policy noeviction.",
            where,
            policy,
        )
    name = f"{kind} {spelled(number)}" if number else "Redis of unknown version"
    return f"{name} (append-only file off: a restart loses data)" if facts.get("aof_enabled") == "0" else name
