"""Reading runs: where they stand, what happened, and what happens now."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, cast

from pydantic import JsonValue

from blackboard import lately
from blackboard._calling import Calling
from blackboard.errors import UnknownRecord
from blackboard.events import Event
from blackboard.lately import Ended
from blackboard.subscriptions import LEASE_SECONDS, Begin, Subscriber, Subscription
from blackboard.types import RunSummary, summarise

Stands = Literal["blocked", "ready", "running", "delayed", "waiting"]
"""Where a task stands that is not over."""
_SAID: dict[str, Stands] = {
    "blocked": "blocked", "ready": "ready", "claimed": "running", "delayed": "delayed", "waiting": "waiting",
}  # fmt: skip


class Reading(Calling):
    """The operations that change nothing."""

    async def summary(self, run_id: str) -> RunSummary:
        """State of one run.

        Raises:
            UnknownRecord: no such run.
        """
        shard = self.shard_of(run_id)
        raw = await self._read(lambda: self.client.hget(shard.runs, run_id))
        if raw is None:
            raise UnknownRecord("UNKNOWN", f"no run {run_id} on board {self.namespace}/{self.name}")
        return summarise(run_id, json.loads(raw))

    async def runs(self, limit: int = 50) -> list[RunSummary]:
        """The latest runs, newest first."""
        found: list[RunSummary] = []
        for shard in self.shards:
            ids: list[str] = await self._read(lambda s=shard: cast(Any, self.client).zrevrange(s.index, 0, limit - 1))
            if ids:
                rows: list[str | None] = await self._read(lambda s=shard, i=ids: self.client.hmget(s.runs, i))
                found += [summarise(run_id, json.loads(raw)) for run_id, raw in zip(ids, rows, strict=True) if raw]
        return sorted(found, key=lambda run: run.created_at, reverse=True)[:limit]

    async def history(self, run_id: str, after: str = "-") -> list[Event]:
        """The run's log: every event with data, in order.

        Args:
            after: the ``sequence`` of the last event already known; ``-`` for all.
        """
        return [event for _, event in await self.feed.read_log(self.client, self.shard_of(run_id), run_id, after)]

    async def standing(self, run_id: str, tasks: Sequence[str]) -> dict[str, tuple[Stands, int]]:
        """Where tasks of a run stand that are not over, which its log does not tell: who claims one writes nothing there.

        Returns:
            By id where it stands, and how many attempts were begun. Tasks that are over, rest or are unknown are left out.
        """
        if not tasks:
            return {}
        shard = self.shard_of(run_id)
        raw: list[str | None] = await self._read(lambda: self.client.hmget(shard.tasks, [*tasks]))
        found = {id: json.loads(header) for id, header in zip(tasks, raw, strict=True) if header}
        return {id: (_SAID[t["state"]], int(t.get("att") or 0)) for id, t in found.items() if t["state"] in _SAID}

    def watch(self, run_id: str, after: str = "-", *, volatile: bool = True) -> AsyncGenerator[Event, None]:
        """The run's events from its acceptance to its end, as they happen; volatile ones from now on.

        The log is the source and is read again when notifications fail to come, so none of its events is missed or
        repeated.

        Args:
            after: the ``sequence`` of the last event of the log that is known already; ``-`` for all. One that is not in
                the log, because a failover has undone it, stands for all of them.
            volatile: False leaves those out, for whoever only waits for the end: it is there sooner and costs less.

        Raises:
            UnknownRecord: no such run.
            ValueError: ``after`` is no sequence.
        """
        return self.feed.watch(self, run_id, after, volatile)

    def subscribe(
        self,
        name: str,
        *,
        kinds: Sequence[str] = ("*",),
        tenant: str | None = None,
        after: Begin = "now",
        lease_seconds: float = LEASE_SECONDS,
    ) -> Subscriber:
        """A consumer of a durable subscription: an asynchronous iterator of the events of all runs and scopes.

        Each event comes at least once, to one of the consumers of that name, and is done with when its consumer comes back for
        the next. Those of a run come in order; between runs there is none. Use it in ``async with``, so that what it holds when
        it ends is not kept until its lease is over.

        Args:
            name: of the subscription; it is made when there is none, and stays until it is removed.
            kinds: types of events, as ``task.completed``, or how they begin, as ``run.*``.
            tenant: whose runs and scope are meant. Default: everybody's.
            after: ``beginning`` starts a new one with the oldest events that the board's feeds still have.
            lease_seconds: how long an event may take before another consumer gets it, 1 to 86,400.

        Raises:
            BadInput: malformed, or a kind that there is not.
        """
        return Subscriber(self, Subscription(name=name, kinds=tuple(kinds), tenant=tenant), after, lease_seconds)

    async def outcomes(self) -> dict[str, int]:
        """Completions counted per capability version: ``name|content hash|status`` to a number."""
        total: dict[str, int] = {}
        for shard in self.shards:
            counts: dict[str, str] = await self._read(lambda s=shard: self.client.hgetall(s.outcomes))
            for key, count in counts.items():
                total[key] = total.get(key, 0) + int(count)
        return total

    async def spent(self) -> dict[str, int]:
        """What successful tasks took, per capability version: ``name|content hash|`` and ``n`` (how many were measured),
        ``ms`` (of the attempt that succeeded) or ``tokens`` (of all attempts), to a sum."""
        total: dict[str, int] = {}
        for shard in self.shards:
            counts: dict[str, str] = await self._read(lambda s=shard: self.client.hgetall(s.use))
            for key, count in counts.items():
                if key.startswith("s:"):
                    total[key[2:]] = total.get(key[2:], 0) + int(count)
        return total

    async def ended(self, versions: Sequence[tuple[str, str]]) -> list[Ended]:
        """How the tasks of versions ended, each given by name and content hash; failures are those of its own doing."""
        if not versions:
            return []
        names = [f"{name}|{sha}" for name, sha in versions]
        counted: list[list[tuple[str | None, str | None]]] = [[] for _ in names]
        for shard in self.shards:
            # Failures first: a success that is counted in between is then one too many, and never one too few.
            failures: list[str | None] = await self._read(
                lambda s=shard: self.client.hmget(s.use, [f"f:{name}" for name in names])
            )
            succeeded: list[str | None] = await self._read(
                lambda s=shard: self.client.hmget(s.outcomes, [f"{name}|succeeded" for name in names])
            )
            for of, good, bad in zip(counted, succeeded, failures, strict=True):
                of.append((good, bad))
        return [lately.together(each) for each in counted]

    async def load(self, run_id: str, value: JsonValue) -> JsonValue:
        """The value a :class:`~blackboard.blobs.Blob` of a run stands for; anything else is returned as it is.

        Raises:
            BlobError: it is missing or damaged, or its store cannot be reached.
        """
        return await self.blobs.load(run_id, value)
