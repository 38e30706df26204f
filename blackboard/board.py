"""The board's operations: each state change is one script, called through the one typed binding here.

Every mutating call is idempotent and is repeated while the server is unreachable, so callers need no retries of their
own. The operations are in the modules this class is made of: accepting, reading, working, controlling, sweeping, approvals,
callbacks.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Literal, cast

from redis.exceptions import ResponseError

from blackboard import _keys, _script, _stores
from blackboard import confirm as _confirm
from blackboard._calling import STEP_LANE as STEP_LANE
from blackboard.accepting import Accepting
from blackboard.accepting import run_id_of as run_id_of
from blackboard.approvals import Approving
from blackboard.blobs import Blobs
from blackboard.callbacks import CallingBack
from blackboard.confirm import Confirm
from blackboard.controlling import PAUSE_SECONDS as PAUSE_SECONDS
from blackboard.engine import open_engine
from blackboard.errors import BadInput, EngineUnavailable
from blackboard.reading import Reading
from blackboard.sweeping import Sweeping
from blackboard.types import type_name

LEASE_SECONDS = 15.0
FORMAT = "1"
MOST_SHARDS = 256


class Board(Accepting, Reading, CallingBack, Sweeping, Approving):
    """One blackboard. Open it with :meth:`open`; use it as an asynchronous context manager or call :meth:`close`."""

    @classmethod
    async def open(
        cls,
        url: str | None = None,
        *,
        data_dir: Path | str | None = None,
        namespace: str = "arbiter",
        board: str = "main",
        lease_seconds: float = LEASE_SECONDS,
        cancel_grace_seconds: float = 15.0,
        shards: int | None = None,
        blobs: str | None = None,
        inline_bytes: int | None = None,
        durability: Literal["local", "local-sync"] | None = None,
        confirm: Confirm | None = None,
    ) -> Board:
        """Open a board, making it when it is new.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``, ``redis+sentinel://`` or
                ``memory://``; None takes ``ARBITER_REDIS_URL`` and, without it, the supervised local server of
                ``data_dir``.
            data_dir: folder of the local server. Default ``~/.arbiter``.
            namespace, board: name the board; several may share a server.
            lease_seconds: how long a silent worker keeps a task. Heartbeats come every third of it.
            cancel_grace_seconds: how long a running task may take to stop after a cancellation.
            shards: over how many parts, each in one slot of a cluster, the runs are spread; fixed when the board is
                made. Default: what the board has; for a new one 16 on a cluster and 1 elsewhere.
            blobs: where large values go: ``redis``, ``file:///folder`` or ``s3://bucket/prefix``; fixed when the board is
                made. Default: what the board has; for a new one ``ARBITER_BLOBS``, then ``redis``.
            inline_bytes: largest value that stands on the board itself; kept for those who open it later. Default:
                what the board has, then :data:`~blackboard.blobs.INLINE_BYTES`.
            durability: of the local server, as for :func:`~blackboard.engine.open_engine`.
            confirm: given, every acceptance, decision, end and cancellation waits for replicas, as with ``durable=True``.

        Raises:
            BadInput: a malformed URL or name, another number of shards or store than the board has, or a confirmation
                that this engine can never give.
            EngineUnavailable: no usable server, or fewer replicas than are to confirm; the message says what to do.
        """
        for field, value in (("namespace", namespace), ("board", board)):
            if not re.match(type_name, value):
                raise BadInput(field, value, "Use 1-64 lower-case letters, digits, '.', '_' or '-'.")
        if shards is not None and not 1 <= shards <= MOST_SHARDS:
            raise BadInput("shards", shards, f"Use 1 to {MOST_SHARDS}.")
        _stores.check_options(blobs, inline_bytes)
        engine = await open_engine(url, data_dir=data_dir, durability=durability)
        if confirm is not None:
            try:
                await _confirm.check(engine, confirm)
            except BaseException:
                await engine.close()
                raise
        key = _keys.meta(namespace, board)
        client = engine.client()

        async def fixed() -> dict[str, str]:
            made: dict[str, str] = await cast(Awaitable[Any], client.hgetall(key))
            if "format" not in made:
                # The format last: where it is found, everything else is there.
                await cast(Awaitable[Any], client.hsetnx(key, "shards", str(shards or (16 if engine.cluster else 1))))
                await cast(Awaitable[Any], client.hsetnx(key, "format", FORMAT))
                made = await cast(Awaitable[Any], client.hgetall(key))
            return made

        try:
            made = await _script.retrying(fixed, seconds=engine.patience_seconds)
        except ResponseError as error:
            await engine.close()
            raise EngineUnavailable(f"The server refused the board's first command: {error}") from error
        if made["format"] != FORMAT:
            await engine.close()
            raise EngineUnavailable(
                f"Board {namespace}/{board} has format {made['format']}, this version reads {FORMAT}. "
                "Use another board name or the version that made it."
            )
        if shards is not None and int(made["shards"]) != shards:
            await engine.close()
            raise BadInput(
                "shards", shards, f"Board {namespace}/{board} has {made['shards']}, for good. Leave the argument out."
            )
        opened = cls(engine, namespace, board, int(made["shards"]), lease_seconds, cancel_grace_seconds)
        try:
            place, inline = await _stores.settle(opened._read, client, key, made, blobs, inline_bytes)
        except BaseException:
            await engine.close()
            raise
        store = _stores.open_store(place, namespace, board, client, opened.shard_of, opened._read)
        opened.blobs = Blobs(store, inline)
        opened.confirm = confirm
        return opened

    async def close(self) -> None:
        """Close every connection. The server goes on."""
        await self.feed.close()
        await self.engine.close()

    async def __aenter__(self) -> Board:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def durability(self) -> str:
        """What an acknowledged write survives: ``memory``, ``local``, ``local-sync`` or, for servers given by URL,
        ``replicated`` or ``unknown``; see :class:`~blackboard.engine.Engine`. ``confirmed`` where every transition waits for
        replicas.
        """
        return self.engine.durability if self.confirm is None else "confirmed"
