"""Transitions that are acknowledged only when replicas have them.

A write that a primary has acknowledged is lost when the primary dies before its replicas heard of it. ``WAIT`` tells how
many replicas have what *this connection* wrote, so it goes behind the transition in one pipeline on one connection, never
through a pool or a cluster client on its own. A repeated call of an idempotent script writes nothing, and then ``WAIT``
may speak of whatever the connection wrote before; so a harmless write to the same slot stands between the two.

What this cannot do: a confirmed write still goes if the confirming replica is not the one that is promoted.
Source: the Redis documentation of ``WAIT`` and ``WAITAOF``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio
from redis.exceptions import ResponseError

from blackboard import _script
from blackboard.engine import Engine
from blackboard.errors import BadInput, EngineUnavailable, Unconfirmed

MOST_SECONDS = 4.0
"""Longest wait: a reply that takes longer would look like a lost connection."""
_KEPT_MS = 86_400_000


@dataclass(frozen=True)
class Confirm:
    """What a durable transition waits for.

    Args:
        replicas: how many must have it.
        seconds: how long is waited for them, at most :data:`MOST_SECONDS`.
        logged: they, and the primary, must have it in their append-only files on disk (``WAITAOF``, Redis 7.2).

    Raises:
        BadInput: a number out of bounds.
    """

    replicas: int = 1
    seconds: float = 0.2
    logged: bool = False

    def __post_init__(self) -> None:
        if self.replicas < (0 if self.logged else 1):
            raise BadInput(
                "confirm.replicas", self.replicas, "Use 1 or more, or logged=True for the primary's own file."
            )
        if not 0 < self.seconds <= MOST_SECONDS:
            raise BadInput("confirm.seconds", self.seconds, f"Use more than 0 and at most {MOST_SECONDS:g} seconds.")


async def check(engine: Engine, how: Confirm) -> None:
    """Refuse what can never be confirmed, before anything is written.

    Raises:
        BadInput: an engine that has no replicas at all.
        EngineUnavailable: a primary has fewer replicas now than are asked for, or cannot wait for its file.
    """
    if engine.durability == "memory":
        raise BadInput("confirm", how, "memory:// lasts as long as this process; use servers with replicas.")
    if engine.durability in ("local", "local-sync") and how.replicas:
        raise BadInput(
            "confirm", how, "The local server has no replicas; durability='local-sync' writes to disk at once."
        )
    client = cast(Any, engine.client())
    if how.logged:
        try:
            one = {"target_nodes": "random"} if engine.cluster else {}
            await _script.retrying(lambda: client.execute_command("WAITAOF", 0, 0, 1, **one))
        except ResponseError as error:
            raise EngineUnavailable(
                f"{engine.url} cannot confirm with WAITAOF ({error}). Leave out logged, or use Redis 7.2 or later."
            ) from error
    more = {"target_nodes": "primaries"} if engine.cluster else {}
    try:
        told: Any = await _script.retrying(lambda: client.info("replication", **more), seconds=engine.patience_seconds)
    except ResponseError:  # a service that does not tell: the first call finds out
        return
    for said in [told] if "role" in told else told.values():
        if int(said.get("connected_slaves", how.replicas)) < how.replicas:
            raise EngineUnavailable(
                f"{engine.url} has {said['connected_slaves']} replicas connected, and durable transitions ask for "
                f"{how.replicas}. Start the replicas, or ask for fewer."
            )


async def run(
    client: redis.asyncio.Redis,
    script: _script.Script,
    keys: Sequence[str],
    args: Sequence[str | int],
    how: Confirm,
    mark: str,
    recover: Callable[[], Awaitable[None]] | None = None,
) -> Any:
    """Call a script as :func:`blackboard._script.run` does, and return when replicas have what it wrote.

    Args:
        mark: key in the same slot for the harmless write; it goes by itself a day after its last use.

    Raises:
        Unconfirmed: written, but not by so many in time.
        ScriptRefused, EngineUnavailable: as the plain call; nothing was written, or nobody knows.
    """
    wait = ("WAITAOF", 1, how.replicas) if how.logged else ("WAIT", how.replicas)
    commands = [
        ("EVALSHA", script.sha, len(keys), *keys, *args),
        ("SET", mark, "1", "NX"),
        ("PEXPIRE", mark, _KEPT_MS),  # a write that a full server takes, so that ends of work can be confirmed there
        (*wait, int(how.seconds * 1000)),
    ]
    deadline = time.monotonic() + _script.patience(client)
    while True:
        try:
            reply, _, marked, confirmed = await _together(client, keys[0], commands)
        except redis.RedisError as error:
            reply, marked, confirmed = error, None, None
        if not isinstance(reply, Exception):
            break
        # Refused, a script nobody knows, a slot or a primary that is elsewhere now: the plain call finds out which, mends
        # what can be mended, and is the same transition.
        await _script.run(client, script, keys, args, recover=recover)
        if time.monotonic() > deadline:
            break
    own, have = _counted(confirmed) if marked in (1, True) else (0, 0)
    if have < how.replicas or own < how.logged:
        raise Unconfirmed(
            f"{script.name} was written, not yet confirmed: {have} of {how.replicas} replicas within {how.seconds:g} s. "
            "Repeat the call as it was, with the same key; it has no second effect."
        )
    return reply


def _counted(reply: object) -> tuple[int, int]:
    """How many primaries and how many replicas have it, as ``WAIT`` or ``WAITAOF`` said; none where it was an error."""
    if isinstance(reply, list):
        primaries, replicas = cast("list[int]", reply)
        return primaries, replicas
    return (0, reply) if isinstance(reply, int) else (0, 0)


async def _together(client: redis.asyncio.Redis, key: str, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
    """The replies of commands sent on one connection, errors among them."""
    several = getattr(client, "together", None)
    if several is not None:
        return await several(key, commands)
    pipe = cast(Any, client).pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return await pipe.execute(raise_on_error=False)
