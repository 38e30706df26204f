"""What every part of a board stands on: its connections, its shards, and the one way a script is called."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio

from blackboard import _keys, _script, _stores, events, timings, tracing
from blackboard import confirm as _confirm
from blackboard._sending import Kept
from blackboard.blobs import Blobs
from blackboard.catalog import Catalog
from blackboard.claims import Claim
from blackboard.confirm import Confirm
from blackboard.engine import Engine
from blackboard.feed import Feed
from blackboard.schema_index import Checker, SchemaIndex
from blackboard.trigger_index import TriggerIndex

STEP_LANE = "arbiter"
"""Where the arbiter's decisions wait."""
ENDING = frozenset({"complete", "fail", "release", "expire", "lapse", "commit", "callback_said", "callback_lapse"})
"""Scripts that look at a run's board, or write there what a task came to."""


class Calling:
    """The base of :class:`~blackboard.board.Board`."""

    def __init__(
        self, engine: Engine, namespace: str, board: str, shards: int, lease_seconds: float, cancel_grace_seconds: float
    ) -> None:
        self.engine = engine
        self.namespace, self.name = namespace, board
        self.lease_seconds = lease_seconds
        self.cancel_grace_seconds = cancel_grace_seconds
        self.source = events.source(namespace, board)
        self.shards = [_keys.Shard(namespace, board, k) for k in range(shards)]
        self.client = engine.client()
        self.blobs = Blobs(_stores.RedisStore(self.client, self.shard_of, self._read))
        self.catalog = Catalog(self.client, namespace, board)
        self.feed = Feed(engine, self.shards, self.source)
        self.triggers = TriggerIndex(self.client, self.shards, engine.ensure)
        self.schemas = SchemaIndex(self.client, self._read)
        self.checker: Checker | None = None
        """Judges what tasks come to, where topics of results have schemas; see :class:`~blackboard.schema_index.SchemaIndex`."""
        self.random = random.Random()
        """Source of jitter; replace it in tests."""
        self.confirm: Confirm | None = None
        self._confirmable: Confirm | None = None
        self._bells: redis.asyncio.Redis | None = None
        self._sleepers: Kept | None = None
        self._spared: dict[int, float] = {}

    def shard_of(self, run_id: str) -> _keys.Shard:
        return self.shards[_keys.shard_number(run_id, len(self.shards))]

    async def _call(
        self,
        name: str,
        shard: _keys.Shard,
        lanes: Sequence[str],
        run_id: str | None,
        *args: str | int,
        seconds: float | None = None,
        confirm: Confirm | None = None,
        entered: bool = True,
        prelude: str = "_results",
    ) -> Any:
        keys, script = shard.declare(lanes, run_id), _script.load(name)
        if run_id is not None and name in ENDING and entered:
            keys, script = [*keys, *shard.results(run_id)], _script.load(name, prelude)
        return await self._sent(script, keys, [len(lanes), *lanes, *args], shard, seconds=seconds, confirm=confirm)

    async def _sent(
        self,
        script: _script.Script,
        keys: Sequence[str],
        args: Sequence[str | int],
        shard: _keys.Shard,
        *,
        seconds: float | None = None,
        confirm: Confirm | None = None,
    ) -> Any:
        recover = self.engine.ensure
        if confirm is not None:
            return await _confirm.run(self.client, script, keys, args, confirm, shard.confirmed, recover=recover)
        return await _script.run(self.client, script, keys, args, recover=recover, seconds=seconds)

    def _over(self, run_id: str, told: Sequence[str]) -> None:
        """Tell of a run that a script ended, if it did: how, how many milliseconds after its acceptance, and its kind."""
        if told:
            status, took, kind = told
            timings.RUNS.observe(int(took) / 1000, kind, status)
            tracing.run(self.source, run_id, kind, int(took) / 1000, status)

    async def _asked(self, durable: bool) -> Confirm | None:
        """What a call waits for. That the servers can confirm at all is looked at once."""
        if not durable or self.confirm is not None:
            return self.confirm
        if self._confirmable is None:
            how = Confirm()
            await _confirm.check(self.engine, how)
            self._confirmable = how
        return self._confirmable

    def _released(self, claim: Claim) -> list[str]:
        return sorted({STEP_LANE, claim.lane, *claim.lanes})

    async def repeated(self, command: Callable[[], Any]) -> Any:
        """The reply of a command that only reads, repeated while the server is unreachable. For modules of this package."""
        return await self._read(command)

    async def _read(self, command: Callable[[], Any]) -> Any:
        """The reply of a command that may be repeated; a lost connection is no reason to give up on it."""

        async def call() -> Any:
            try:
                return await command()
            except redis.ConnectionError:
                await self.engine.ensure()
                raise

        return await _script.retrying(call, seconds=self.engine.patience_seconds)
