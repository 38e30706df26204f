"""The board's operations: each state change is one script, called through the one typed binding here.

Every mutating call is idempotent and is repeated while the server is unreachable, so callers need no retries of their
own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import redis
import redis.asyncio
from pydantic import JsonValue, ValidationError
from redis.exceptions import ResponseError

from blackboard import _keys, _script, _stores, claims, events, retries
from blackboard.blobs import Blobs
from blackboard.catalog import Catalog
from blackboard.claims import Claim
from blackboard.engine import Engine, open_engine
from blackboard.errors import BadInput, BoardFull, EngineUnavailable, UnknownRecord
from blackboard.events import (
    Event,
    FabricationStage,
    FabricationStageData,
    RoundPlannedData,
    RunCompletedData,
    TaskProgressed,
)
from blackboard.feed import Feed
from blackboard.payloads import PAYLOAD_BYTES, REPORT_BYTES, STEP_BYTES, dump, dump_completion, fingerprint, join
from blackboard.plan import Undecided, specs
from blackboard.types import (
    Completion,
    Limits,
    RetryPolicy,
    RunSummary,
    Status,
    TaskSpec,
    Usage,
    summarise,
    type_name,
)

log = logging.getLogger(__name__)

STEP_LANE = "arbiter"
CALL = "call"
"""Key of the only task of a run that calls one capability."""
STEP_ATTEMPTS = 5
"""How often a decision is tried when the process taking it dies."""
STEP_SECONDS = 600.0
LEASE_SECONDS = 15.0
FORMAT = "1"
MOST_SHARDS = 256
PAUSE_SECONDS = 86_400.0
"""After which a paused run goes on by itself."""
MOST_PAUSE_SECONDS = 30 * 86_400.0
TROUBLE_SECONDS = 1.0
"""A call that is answered later than this met a server that was away."""
_BELL_SLACK_SECONDS = 5.0
_TYPE_CHARACTERS = 64
_REPORTS = {FabricationStage.kind, TaskProgressed.kind}


class Board:
    """One blackboard. Open it with :meth:`open`; use it as an asynchronous context manager or call :meth:`close`."""

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
        self.random = random.Random()
        """Source of jitter; replace it in tests."""
        self._bells: redis.asyncio.Redis | None = None
        self._spared: dict[int, float] = {}

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

        Raises:
            BadInput: a malformed URL or name, or another number of shards or store than the board has.
            EngineUnavailable: no usable server; the message says what to do.
        """
        for field, value in (("namespace", namespace), ("board", board)):
            if not re.match(type_name, value):
                raise BadInput(field, value, "Use 1-64 lower-case letters, digits, '.', '_' or '-'.")
        if shards is not None and not 1 <= shards <= MOST_SHARDS:
            raise BadInput("shards", shards, f"Use 1 to {MOST_SHARDS}.")
        _stores.check_options(blobs, inline_bytes)
        engine = await open_engine(url, data_dir=data_dir)
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
        """What an acknowledged write survives: ``memory``, ``local`` or, for servers given by URL, ``replicated`` or
        ``unknown``; see :class:`~blackboard.engine.Engine`.
        """
        return self.engine.durability

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
    ) -> Any:
        keys = shard.declare(lanes, run_id)
        return await _script.run(
            self.client, _script.load(name), keys, [len(lanes), *lanes, *args], recover=self.engine.ensure,
            seconds=seconds,
        )  # fmt: skip

    # ---- runs ------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        request: JsonValue,
        *,
        tenant: str = "default",
        idempotency_key: str | None = None,
        limits: Limits | None = None,
        pins: Mapping[str, str] | None = None,
        redrive_of: str | None = None,
    ) -> str:
        """Accept a request. When this returns, the run is on the board and its first step is waiting.

        Args:
            request: text or a JSON object, at most :data:`PAYLOAD_BYTES`.
            tenant: whose work it is; shares the workers fairly with other tenants.
            idempotency_key: the same key with the same request returns the same run.
            limits: bounds of the run.
            pins: capability versions (name to content hash) the run must use.
            redrive_of: the dead letter it is made of.

        Returns:
            The id of the run.

        Raises:
            BadInput: an empty or oversized request, a malformed tenant.
            Conflict: the key was used before with another request.
            QuotaExceeded: the board or the tenant has as many open runs as it may, or starts them too fast; the error says
                when to try again.
            EngineUnavailable: the server stayed unreachable; repeat the call with the same key.
            BlobUnavailable: the store of large values cannot be used; repeat the call with the same key.
        """
        if request is None or request in ("", {}, []) or (isinstance(request, str) and not request.strip()):
            raise BadInput("request", request, "Say what is to be done, as text or as a JSON object.")
        limits = limits or Limits()
        body = dump(request, "request", PAYLOAD_BYTES)
        run_id = run_id_of(tenant, idempotency_key)
        terms: dict[str, Any] = {
            "tenant": tenant, "limits": limits.model_dump(mode="json"), "pins": dict(pins or {}),
        } | ({"redrive_of": redrive_of} if redrive_of else {})  # fmt: skip
        accepted = join(json.dumps(terms), "request", await self.blobs.check(run_id, body, request))
        text = request if isinstance(request, str) else body
        await self._call(
            "submit", self.shard_of(run_id), [STEP_LANE], run_id,
            run_id, tenant, fingerprint(request), text[:120], accepted,
            int(limits.seconds * 1000), int(STEP_SECONDS * 1000), STEP_ATTEMPTS,
        )  # fmt: skip
        return run_id

    async def submit_call(
        self,
        capability: str,
        input: JsonValue,
        *,
        lane: str,
        version: str | None = None,
        asked_version: str | None = None,
        tenant: str = "default",
        idempotency_key: str | None = None,
        limits: Limits | None = None,
        priority: int = 5,
        retry: RetryPolicy | None = None,
        attempt_seconds: float | None = None,
        kind: Literal["capability", "fabrication"] = "capability",
        seconds: float | None = None,
        redrive_of: str | None = None,
    ) -> str:
        """Accept a run that calls one capability without a model. When this returns, its only task is on the board.

        The run ends when the task ends, in the same script, with its status and its error.

        Args:
            capability: what is called. Nothing here asks whether it exists; :class:`arbiter.Arbiter` does.
            input: of the task, at most :data:`PAYLOAD_BYTES`.
            lane: where the task waits.
            version: content hash the task is pinned to; None leaves the choice to the worker.
            asked_version: the version that was asked for, which is part of what the same key must find again. One that
                was only looked up is not.
            tenant, idempotency_key: as for :meth:`submit`.
            limits: ``seconds`` bounds the run, ``task_seconds`` and ``attempt_seconds`` its task, ``tokens`` what it may
                ask a model for.
            priority: 0 to 9 among the ready tasks of the tenant in the lane; higher first.
            retry: of the task. Default: ``RetryPolicy()``.
            attempt_seconds: most for one attempt, where that is less than the limits say.
            kind: of the task.
            seconds: deadline of the task instead of ``limits.task_seconds``, and of each attempt.
            redrive_of: the dead letter it is made of.

        Returns:
            The id of the run.

        Raises:
            BadInput: an oversized input, or a malformed lane, tenant or priority.
            Conflict, EngineUnavailable, BlobUnavailable: as :meth:`submit`.
        """
        limits = limits or Limits()
        run_id = run_id_of(tenant, idempotency_key)
        try:
            task = TaskSpec(
                key=CALL, tool_use_id=CALL, kind=kind, capability=capability, version=version, lane=lane, input=input,
                priority=priority, retry=retry or RetryPolicy(), seconds=seconds,
                attempt_seconds=seconds or min(attempt_seconds or limits.attempt_seconds, limits.attempt_seconds),
            )  # fmt: skip
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise BadInput(str(first["loc"][0]), first["input"], f"{first['msg'].rstrip('.')}.") from None
        ((header, given),) = specs(Undecided(run_id), [task], limits)
        spec = json.loads(header) | {"lim": {"tokens": limits.tokens, "seconds": limits.seconds}}
        body = await self.blobs.check(run_id, given, input)
        terms = {
            "tenant": tenant, "limits": limits.model_dump(mode="json"), "pins": {capability: version} if version else {},
            "call": {"capability": capability, "version": version, "priority": priority},
        } | ({"redrive_of": redrive_of} if redrive_of else {})  # fmt: skip
        await self._call(
            "submit_call", self.shard_of(run_id), [lane], run_id,
            run_id, tenant, fingerprint([CALL, capability, asked_version, input]), f"{capability} {given[:120]}"[:120],
            json.dumps(terms), int(limits.seconds * 1000), json.dumps(spec), body,
        )  # fmt: skip
        return run_id

    async def known_call(
        self, capability: str, input: JsonValue, *, asked_version: str | None, tenant: str, idempotency_key: str
    ) -> str | None:
        """The run that :meth:`submit_call` with these arguments has made already; None when there is none."""
        run_id = run_id_of(tenant, idempotency_key)
        shard = self.shard_of(run_id)
        raw: str | None = await self._read(lambda: self.client.hget(shard.runs, run_id))
        same = raw is not None and json.loads(raw)["sha"] == fingerprint([CALL, capability, asked_version, input])
        return run_id if same else None

    async def cancel_run(self, run_id: str, reason: str = "cancelled by request") -> str:
        """Stop a run: what waits ends at once, what runs is told to stop and gets the grace time.

        Returns:
            The state of the run afterwards: ``cancelling``, or how it had already ended.

        Raises:
            UnknownRecord: no such run.
        """
        state, _ = await self._call(
            "cancel_run", self.shard_of(run_id), [STEP_LANE], run_id,
            run_id, reason, int(self.cancel_grace_seconds * 1000),
        )  # fmt: skip
        return str(state)

    async def cancel_task(self, task_id: str, reason: str = "cancelled by request") -> str:
        """Stop one task of a run that goes on: one that waits ends at once, a running one is told and gets the grace time.

        Its dependants end with it, as after any end without success; the planner is told like of every end.

        Returns:
            The state of the task afterwards: ``cancelling``, ``cancelled``, or how it had already ended.

        Raises:
            UnknownRecord: no such task.
            ScriptRefused: ``STEP``, it is a decision of the run; cancel the run instead.
        """
        run_id = task_id.partition("/")[0]
        state, _ = await self._call(
            "cancel_task", self.shard_of(run_id), [STEP_LANE], run_id,
            task_id, reason, int(self.cancel_grace_seconds * 1000),
        )  # fmt: skip
        return str(state)

    async def pause_run(self, run_id: str, reason: str = "paused by request", *, seconds: float = PAUSE_SECONDS) -> str:
        """Let a run rest: what runs is left to end, nothing else of it is handed out, and its deadlines move on.

        Args:
            seconds: after which it goes on by itself.

        Returns:
            The state of the run afterwards: ``paused``, or what it is when it cannot be paused any more.

        Raises:
            UnknownRecord: no such run.
            BadInput: a time that is not positive and at most 30 days.
        """
        if not 0 < seconds <= MOST_PAUSE_SECONDS:
            raise BadInput("seconds", seconds, "A pause ends by itself: give more than 0 and at most 30 days.")
        state, _ = await self._call(
            "pause_run", self.shard_of(run_id), (), run_id, run_id, reason, int(seconds * 1000), secrets.token_hex(8)
        )
        return str(state)

    async def resume_run(self, run_id: str, lanes: Sequence[str] = (), *, only_when_over: bool = False) -> str:
        """Let a paused run go on where it stood.

        Args:
            lanes: of its waiting tasks, where they are known; saves a call.
            only_when_over: only when the time of its pause is over.

        Returns:
            The state of the run afterwards.

        Raises:
            UnknownRecord: no such run.
        """
        named, operation = {STEP_LANE, *lanes}, secrets.token_hex(8)
        while True:
            state, *more = await self._call(
                "resume_run", self.shard_of(run_id), sorted(named), run_id, run_id, int(only_when_over), operation
            )
            if state != "lanes":
                return str(state)
            named |= set(more)

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

    def watch(self, run_id: str) -> AsyncGenerator[Event, None]:
        """The run's events from its acceptance to its end, as they happen; volatile ones from now on.

        The log is the source and is read again when notifications fail to come, so none of its events is missed or
        repeated.

        Raises:
            UnknownRecord: no such run.
        """
        return self.feed.watch(self, run_id)

    async def outcomes(self) -> dict[str, int]:
        """Completions counted per capability version: ``name|content hash|status`` to a number."""
        total: dict[str, int] = {}
        for shard in self.shards:
            counts: dict[str, str] = await self._read(lambda s=shard: self.client.hgetall(s.outcomes))
            for key, count in counts.items():
                total[key] = total.get(key, 0) + int(count)
        return total

    # ---- work ------------------------------------------------------------------------------------------------------

    async def claim(
        self,
        worker: str,
        lanes: Sequence[str],
        *,
        n: int = 1,
        nonce: str | None = None,
        shard: int = 0,
        seconds: float | None = None,
        load: bool = True,
    ) -> list[Claim]:
        """Take up to ``n`` ready tasks from lanes of one shard, in the order the lanes are given.

        Within a lane tenants with backlog take turns by weight, a tenant's runs take turns, and a task of a higher priority
        stands so many turns ahead. What a :class:`~blackboard.quotas.Quota` holds back is passed over.

        Args:
            worker: unique to this worker's process and start.
            nonce: unique to this call; a repetition of the call with the same nonce returns the same claims.
            load: False leaves large values where they are, for :func:`blackboard.claims.load` to fetch under the lease's
                heartbeat.
            seconds: how long the call is repeated while the server is unreachable. Default: to outlast a failover.
        """
        taken, _ = await self.claim_or_wait(worker, lanes, n=n, nonce=nonce, shard=shard, seconds=seconds)
        return [await claims.load(claim, self.blobs) for claim in taken] if load else taken

    async def claim_or_wait(
        self,
        worker: str,
        lanes: Sequence[str],
        *,
        n: int = 1,
        nonce: str | None = None,
        shard: int = 0,
        seconds: float | None = None,
    ) -> tuple[list[Claim], float | None]:
        """:meth:`claim` without loading large values, for claim loops.

        Returns:
            The claims and, where quotas hold work back, in how many seconds to look again; else None.
        """
        place = self.shards[shard]
        args = [worker, nonce or secrets.token_hex(8), int(self.lease_seconds * 1000), n]
        rows = await _script.run(
            self.client, _script.load("claim"), [*place.declare(lanes), place.last_claim(worker)],
            [len(lanes), *lanes, *args], recover=self.engine.ensure, seconds=seconds,
        )  # fmt: skip
        wait = float(rows.pop()[1]) / 1000 if rows and not rows[-1][0] else None
        return [claims.parse(row, worker) for row in rows], wait

    async def load(self, run_id: str, value: JsonValue) -> JsonValue:
        """The value a :class:`~blackboard.blobs.Blob` of a run stands for; anything else is returned as it is.

        Raises:
            BlobError: it is missing or damaged, or its store cannot be reached.
        """
        return await self.blobs.load(run_id, value)

    async def _written(self, claim: Claim, completion: Completion) -> str:
        fields, data = dump_completion(claim, completion)
        if data == "null":
            return fields
        return join(fields, "data", await self.blobs.check(claim.run_id, data, completion.data))

    async def wait_for_work(self, lanes: Sequence[str], seconds: float, shard: int = 0) -> bool:
        """Sleep until a lane's doorbell rings, at most ``seconds``. Call it only after an empty claim."""
        client = self._bells
        if client is None:
            client = self._bells = self.engine.blocking_client(seconds + _BELL_SLACK_SECONDS)
        place = self.shards[shard]
        bells = [place.bell(lane) for lane in lanes]
        return await cast(Awaitable[Any], client.blpop(bells, timeout=seconds)) is not None

    async def ring(self, lanes: Sequence[str], shard: int = 0) -> None:
        """Wake one sleeper of each lane without posting anything."""

        def push() -> Awaitable[Any]:
            pipe = self.client.pipeline(transaction=False)
            for lane in lanes:
                pipe.lpush(self.shards[shard].bell(lane), "1")
                pipe.ltrim(self.shards[shard].bell(lane), 0, 63)
            return pipe.execute()

        await self._read(push)

    async def complete(self, claim: Claim, completion: Completion) -> None:
        """End a task. Its dependants, and the run's next step when it was the last open one, become ready with it.

        Raises:
            Fenced: the task is no longer held by this claim; the completion was dropped.
            BadInput: the result is larger than :data:`PAYLOAD_BYTES`, or the rest is larger than :data:`REPORT_BYTES`.
            BlobUnavailable: the store of large values cannot be used; the task is still held.
        """
        body = await self._written(claim, completion)
        await self._call(
            "complete", self.shard_of(claim.run_id), self._released(claim), claim.run_id,
            claim.task_id, claim.fence, completion.status.value, body, _told(completion),
        )  # fmt: skip

    async def fail(self, claim: Claim, completion: Completion, *, carried: Usage | None = None) -> str:
        """End an attempt without a result: another one after a delay, or the end when the retry policy has none left.

        The delay is random within what the policy says, and at least ``error.retry_after_seconds``. One that does not
        fit before the task's deadline, or the age the policy allows, ends the task now, and its error says so. An error
        of which a rule says that it is never retried ends the task as well.

        Args:
            carried: the part of ``completion.usage`` that the checkpoint carries into the next attempt's; it is not
                counted to this one.

        Returns:
            ``delayed``, ``paused`` where its run is, or the status the task ended with.

        Raises:
            Fenced: the task is no longer held by this claim.
        """
        if completion.error is None or completion.status is Status.SUCCEEDED:
            raise BadInput(
                "completion", completion.status.value, "A failed attempt needs an error; use complete() instead."
            )
        ruling = retries.ruling(claim.retry, completion.error)
        if ruling.key and not ruling.again:
            await self.complete(claim, completion)
            return completion.status.value
        ceiling = ruling.ceiling(retries.failures(ruling, claim.attempt, claim.failures))
        asked = completion.error.retry_after_seconds or 0.0
        spent = completion.usage - (carried or Usage())
        body = await self._written(claim, completion)
        state, _ = await self._call(
            "fail", self.shard_of(claim.run_id), self._released(claim), claim.run_id,
            claim.task_id, claim.fence, completion.status.value, body,
            int(self.random.uniform(0, ceiling) * 1000), completion.error.model_dump_json(),
            retries.ms(asked), spent.model_dump_json(), ruling.key, ruling.max_attempts,
            "" if ruling.max_age_seconds is None else retries.ms(ruling.max_age_seconds),
            _told(completion),
        )  # fmt: skip
        return str(state)

    async def release(self, claim: Claim) -> None:
        """Give an unfinished task back at once, without spending its attempt.

        The claim counts all the same: a task that was claimed 10 times, or three times as often as it has attempts if
        that is more, is not given back again but ends as failed, with an error of type ``poison``.

        Raises:
            Fenced: the task is no longer held by this claim.
        """
        await self._call(
            "release", self.shard_of(claim.run_id), self._released(claim), claim.run_id, claim.task_id, claim.fence
        )

    async def progress(
        self, claim: Claim, number: int, kind: str, data: JsonValue, checkpoint: JsonValue = None
    ) -> None:
        """Append an event about a running attempt and, with it, replace the task's checkpoint.

        Args:
            number: counts 1, 2, 3 ... within the claim, so that a repeated call is recognised.
            kind: ``fabrication.stage`` or ``task.progressed``; other events are the scripts' to make.
            checkpoint: what a later attempt should find in ``claim.checkpoint``; None keeps the last one.

        Raises:
            Fenced: the task is no longer held by this claim.
            BadInput: another kind, data that does not fit it, or that is too large.
        """
        if kind not in _REPORTS:
            raise BadInput("kind", kind, f"Report one of: {', '.join(sorted(_REPORTS))}.")
        if kind == FabricationStage.kind:
            try:
                FabricationStageData.model_validate(data)
            except ValidationError as error:
                raise BadInput("data", data, f"It does not fit {kind}: {error}") from error
        told, kept = dump(data, "data", REPORT_BYTES), ""
        if checkpoint is not None:
            text = dump(checkpoint, "checkpoint", PAYLOAD_BYTES)
            kept = await self.blobs.check(claim.run_id, text, checkpoint)
        await self._call(
            "progress", self.shard_of(claim.run_id), (), claim.run_id,
            claim.task_id, claim.fence, number, kind, told, kept,
        )  # fmt: skip

    async def commit_step(
        self,
        claim: Claim,
        planned: RoundPlannedData,
        tasks: Sequence[TaskSpec],
        limits: Limits,
        outcome: RunCompletedData | None = None,
    ) -> None:
        """Commit one arbiter decision: conversation, plan, tasks, barrier and events, in one script.

        Args:
            claim: the step being taken.
            planned: the model's message and what became of each of its calls.
            tasks: the tasks to post; empty goes straight to the next step.
            outcome: given, the run ends with it and ``tasks`` must be empty.

        Raises:
            Fenced: another process took the step, or the run is being stopped. Nothing was written.
            BadInput: duplicate or malformed keys, unknown or circular dependencies, too many or too large tasks, a
                message that cannot be stored.
        """
        if outcome is not None and tasks:
            raise BadInput("tasks", len(tasks), "A run that ends posts no tasks.")
        written = specs(claim, tasks, limits)
        lanes = sorted({STEP_LANE, *(task.lane for task in tasks)})
        flat: list[str] = []
        for (header, given), task in zip(written, tasks, strict=True):
            flat += [header, await self.blobs.check(claim.run_id, given, task.input)]
        told = dump(planned.model_dump(mode="json", exclude_none=True), "planned", STEP_BYTES)
        answer = dump(outcome.model_dump(mode="json", exclude_none=True), "outcome", STEP_BYTES) if outcome else ""
        await self._call(
            "commit", self.shard_of(claim.run_id), lanes, claim.run_id,
            claim.task_id, claim.fence, told,
            outcome.status if outcome else "", answer, len(written), *flat,
        )  # fmt: skip

    async def sweep(self, *, limit: int = 50, expire: bool = True) -> float:
        """Do what is due: wake waiting tasks, take back tasks of silent workers, end what passed its deadline.

        Any number of processes may sweep at once.

        Args:
            expire: False leaves leases alone, as for one lease time after the server was started.

        Returns:
            Seconds until something will be due, at most 60.
        """
        nearest = 60.0
        several = len(self.shards) > 1
        for shard in self.shards:
            began = time.monotonic()
            try:
                rows: list[list[str]] = await self._call(
                    "due", shard, (), None, limit, int(expire), seconds=TROUBLE_SECONDS if several else None
                )
            except EngineUnavailable as error:
                self._spare_leases(shard)
                if not several:
                    raise
                log.error("shard %d was not swept: %s", shard.number, error)  # the others must not wait for it
                nearest = min(nearest, TROUBLE_SECONDS)
                continue
            if time.monotonic() - began > TROUBLE_SECONDS:
                self._spare_leases(shard)
            spared = time.monotonic() < self._spared.get(shard.number, 0.0)
            for kind, *rest in rows:
                if kind == "next":
                    nearest = min(nearest, max(int(rest[0]) / 1000, 0.2 if spared else 0.0))
                    continue
                if kind == "expire" and spared:
                    continue
                subject, run_id, *lanes = rest
                args: tuple[str | int, ...] = (subject,)
                if kind == "expire":
                    args = (subject, 100, 60_000, int(self.random.uniform(0, 1000)))
                try:
                    if kind == "resume_run":
                        await self.resume_run(run_id, lanes, only_when_over=True)
                    else:
                        await self._call(kind, shard, sorted({STEP_LANE, *lanes}), run_id, *args)
                except (ResponseError, BoardFull) as error:  # one that cannot be dealt with must not stop the others
                    log.error("%s of %s failed: %s", kind, subject, error)
        return nearest

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _spare_leases(self, shard: _keys.Shard) -> None:
        """A shard that was away, as in a failover, gets one lease time: nobody could renew a lease there meanwhile."""
        self._spared[shard.number] = time.monotonic() + self.lease_seconds

    def _released(self, claim: Claim) -> list[str]:
        return sorted({STEP_LANE, claim.lane, *claim.lanes})

    async def _read(self, command: Callable[[], Any]) -> Any:
        """The reply of a command that may be repeated; a lost connection is no reason to give up on it."""

        async def call() -> Any:
            try:
                return await command()
            except redis.ConnectionError:
                await self.engine.ensure()
                raise

        return await _script.retrying(call, seconds=self.engine.patience_seconds)


def _told(completion: Completion) -> str:
    """What a script may read of an error, whose evidence it must not: type and message."""
    error = completion.error
    if error is None:
        return ""
    short = {"short": error.type[:_TYPE_CHARACTERS]} if len(error.type) > _TYPE_CHARACTERS else {}
    return json.dumps({"type": error.type, "message": error.message, **short})


def run_id_of(tenant: str, idempotency_key: str | None) -> str:
    """A new id, or the one that belongs to a key of a tenant."""
    if not re.match(type_name, tenant):
        raise BadInput("tenant", tenant, "Use 1-64 lower-case letters, digits, '.', '_' or '-'.")
    if idempotency_key is None:
        return f"r{int(time.time() * 1000):011x}{secrets.token_hex(6)}"
    return "r" + hashlib.sha256(f"{tenant}\0{idempotency_key}".encode()).hexdigest()[:23]
