"""Doing the work: claiming tasks, reporting on them, ending them, and committing decisions."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

import redis.asyncio
from pydantic import JsonValue, ValidationError

from blackboard import _script, claims, results, retries, taking_over
from blackboard._bell import Bell
from blackboard._calling import STEP_LANE, Calling
from blackboard._keys import Shard
from blackboard._sending import Kept
from blackboard.claims import Claim
from blackboard.confirm import Confirm
from blackboard.errors import BadInput
from blackboard.events import (
    FabricationStage,
    FabricationStageData,
    RoundPlannedData,
    RunCompletedData,
    TaskProgressed,
)
from blackboard.lately import OWN
from blackboard.payloads import PAYLOAD_BYTES, REPORT_BYTES, STEP_BYTES, dump, dump_completion, join
from blackboard.plan import Awaited, Early, Wait, specs
from blackboard.redaction import cleaned, cleaned_completion, cleaned_failure
from blackboard.refusing import refused
from blackboard.types import Completion, Limits, Status, TaskSpec, Usage

_BELL_SLACK_SECONDS = 5.0
_TYPE_CHARACTERS = 64
_REPORTS = {FabricationStage.kind, TaskProgressed.kind}


class Woken(NamedTuple):
    """What a claim behind a doorbell has taken."""

    claims: list[Claim]
    wait: float | None
    """As :meth:`Working.claim_or_wait` says it."""


class Working(Calling):
    """The operations of the roles."""

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
        return await self._claims(
            self.client, worker, place, place.last_claim(worker), lanes, nonce or secrets.token_hex(8), n, seconds
        )

    async def _claims(
        self, client: Any, worker: str, place: Shard, last: str, lanes: Sequence[str], nonce: str, n: int,
        seconds: float | None,
    ) -> tuple[list[Claim], float | None]:  # fmt: skip
        rows = await _script.run(
            client, _script.load("claim"), [*place.declare(lanes), last],
            [len(lanes), *lanes, worker, nonce, int(self.lease_seconds * 1000), n],
            recover=self.engine.ensure, seconds=seconds,
        )  # fmt: skip
        wait = float(rows.pop()[1]) / 1000 if rows and not rows[-1][0] else None
        return [claims.parse(row, worker) for row in rows], wait

    def bell(self, lanes: Sequence[str], seconds: float, shard: int = 0) -> Bell:
        """A wait for a lane's doorbell, at most ``seconds``, for :meth:`claim_when_rung`. Close it in the end.

        Use it only after an empty claim, and where :attr:`~blackboard.engine.Engine.wired`.
        """
        if self._sleepers is None:
            self._sleepers = Kept(self._sleeper(seconds))
        return Bell(self._sleepers, self.client, [self.shards[shard].bell(lane) for lane in lanes], seconds)

    async def claim_when_rung(
        self, bell: Bell, worker: str, lanes: Sequence[str], *, n: int, nonce: str, shard: int = 0
    ) -> Woken:
        """Claim as soon as the wait for a doorbell is over, without a round trip in between.

        The server makes the claim even when nobody reads its answer any more, so a call that was cancelled or failed has to
        be settled by :meth:`claimed_when_rung` with the same nonce.

        Args:
            nonce: as for :meth:`claim`; unique to this wait.

        Raises:
            EngineUnavailable: the connection was lost and the server did not answer again.
        """
        place = self.shards[shard]
        taken, wait = await self._claims(bell, worker, place, _awoken(place, worker), lanes, nonce, n, 0.0)
        if bell.repeated and not taken:
            taken = await self.claimed_when_rung(worker, lanes, nonce=nonce, shard=shard)
        return Woken(taken, wait)

    async def claimed_when_rung(self, worker: str, lanes: Sequence[str], *, nonce: str, shard: int = 0) -> list[Claim]:
        """What :meth:`claim_when_rung` with this nonce has taken. From here on it takes nothing any more."""
        place = self.shards[shard]
        taken, _ = await self._claims(self.client, worker, place, _awoken(place, worker), lanes, nonce, 0, None)
        return taken

    async def _written(self, claim: Claim, completion: Completion) -> tuple[str, str]:
        """The completion as it is stored, and the part of it that is its result."""
        fields, data = dump_completion(claim, completion)
        if data == "null":
            return fields, data
        # An entry refers to what is stored apart; what is not would stand on the board twice.
        most = results.INLINE_BYTES if claim.entry else None
        data = await self.blobs.check(claim.run_id, data, completion.data, most)
        return join(fields, "data", data), data

    async def _ending(self, claim: Claim, completion: Completion, data: str, end: Callable[..., Awaitable[Any]]) -> Any:
        """Call the script that ends an attempt with what it is told of the entry that may come of it."""
        told = results.report(claim, completion, data)
        if not told:
            return await end()
        shard, topic, content = (
            self.shard_of(claim.run_id),
            results.topic(claim, completion),
            results.content(completion),
        )

        async def write(schemas: str) -> Any:
            if not claim.watched:
                return await end(*told, "", "", schemas)
            return await self.triggers.noticed(
                shard, lambda *triggers: end(*told, *triggers, schemas), topic, content
            )  # fmt: skip

        if completion.status is not Status.SUCCEEDED:  # why it failed is said, whatever schemas there are
            return await write("")
        return await self.schemas.judged(shard, self.checker, topic, content, write)

    async def wait_for_work(self, lanes: Sequence[str], seconds: float, shard: int = 0) -> bool:
        """Sleep until a lane's doorbell rings, at most ``seconds``. Call it only after an empty claim."""
        place = self.shards[shard]
        bells = [place.bell(lane) for lane in lanes]
        return await cast(Awaitable[Any], self._sleeper(seconds).blpop(bells, timeout=seconds)) is not None

    def _sleeper(self, seconds: float) -> redis.asyncio.Redis:
        if self._bells is None:
            self._bells = self.engine.blocking_client(seconds + _BELL_SLACK_SECONDS)
        return self._bells

    async def ring(self, lanes: Sequence[str], shard: int = 0) -> None:
        """Wake one sleeper of each lane without posting anything."""

        def push() -> Awaitable[Any]:
            pipe = self.client.pipeline(transaction=False)
            for lane in lanes:
                pipe.lpush(self.shards[shard].bell(lane), "1")
                pipe.ltrim(self.shards[shard].bell(lane), 0, 63)
            return pipe.execute()

        await self._read(push)

    async def complete(self, claim: Claim, completion: Completion, *, durable: bool = False) -> None:
        """End a task. Its dependants, and the run's next step when it was the last open one, become ready with it.

        Raises:
            Fenced: the task is no longer held by this claim; the completion was dropped.
            Unfitting: the result does not fit the schema of the topic it would stand on; the task is still held.
            BadInput: the result is larger than :data:`PAYLOAD_BYTES`, or the rest is larger than :data:`REPORT_BYTES`.
            BlobUnavailable: the store of large values cannot be used; the task is still held.
            Unconfirmed: with ``durable``, it was written and no replica said in time that it has it.
        """
        completion = cleaned_completion(completion)
        body, data = await self._written(claim, completion)
        confirm, took = await self._asked(durable), _took(claim, completion)
        if claim.usual and completion.status is Status.SUCCEEDED and await self._end_call(claim, body, took, confirm):
            return
        _, _, *over = await self._ending(claim, completion, data, lambda *entry: self._call(
            "complete", self.shard_of(claim.run_id), self._released(claim), claim.run_id,
            claim.task_id, claim.fence, completion.status.value, body, told(completion), f"{took[0]} {took[1]}", *entry,
            confirm=confirm, entered=bool(claim.entry),
        ))  # fmt: skip
        self._ended_with(claim, over)

    async def _end_call(self, claim: Claim, body: str, took: tuple[int, int], confirm: Confirm | None) -> bool:
        """The end of a call as most of them are; False where something happened to it, and nothing was written."""
        counted = [f"{claim.capability}|{claim.version}", *took] if claim.version else []
        return bool(await self._sent(
            _script.load("complete_call", ""), self.shard_of(claim.run_id).declare_call(claim.run_id, bool(counted)),
            [claim.task_id, claim.usual, body, *counted], self.shard_of(claim.run_id), confirm=confirm,
        ))  # fmt: skip

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
        completion = cleaned_completion(completion)
        assert completion.error is not None
        ruling = retries.ruling(claim.retry, completion.error)
        if ruling.key and not ruling.again:
            await self.complete(claim, completion)
            return completion.status.value
        ceiling = ruling.ceiling(retries.failures(ruling, claim.attempt, claim.failures))
        asked = completion.error.retry_after_seconds or 0.0
        spent = completion.usage - (carried or Usage())
        body, data = await self._written(claim, completion)
        error, delay = completion.error.model_dump_json(), int(self.random.uniform(0, ceiling) * 1000)
        state, _, *over = await self._ending(claim, completion, data, lambda *entry: self._call(
            "fail", self.shard_of(claim.run_id), self._released(claim), claim.run_id,
            claim.task_id, claim.fence, completion.status.value, body,
            delay, error,
            retries.ms(asked), spent.model_dump_json(), ruling.key, ruling.max_attempts,
            "" if ruling.max_age_seconds is None else retries.ms(ruling.max_age_seconds),
            told(completion), *entry,
            confirm=self.confirm,
        ))  # fmt: skip
        self._ended_with(claim, over)
        return str(state)

    def _ended_with(self, claim: Claim, over: Sequence[str]) -> None:
        """Tell of a planned run that ended with a task of it. Of a call, and of a decision, whoever worked on it tells."""
        if claim.round > 0 and claim.kind != "step":
            self._over(claim.run_id, over)

    async def release(self, claim: Claim) -> None:
        """Give an unfinished task back at once, without spending its attempt.

        The claim counts all the same: a task that was claimed 10 times, or three times as often as it has attempts if
        that is more, is not given back again but ends as failed, with an error of type ``poison``.

        Raises:
            Fenced: the task is no longer held by this claim.
        """
        reply = await self._call(
            "release", self.shard_of(claim.run_id), self._released(claim), claim.run_id, claim.task_id, claim.fence
        )
        if isinstance(reply, list):
            self._over(claim.run_id, cast("list[str]", reply))

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
                raise refused(error, "data") from None
        if kind == FabricationStage.kind:
            data = cleaned(data)
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
        *,
        durable: bool = False,
        unplanned: bool = False,
        seen: str = "",
        wait: Wait | None = None,
        awaited: Awaited | None = None,
        early: Early | None = None,
    ) -> bool:
        """Commit one arbiter decision: conversation, plan, tasks, barrier and events, in one script.

        Args:
            claim: the step being taken.
            planned: the model's message and what became of each of its calls.
            tasks: the tasks to post; empty goes straight to the next step.
            outcome: given, the run ends with it and ``tasks`` must be empty.
            seen: position of the run's log at which this decision read it. What ended since and something waited for brings the
                next step at once. A task made from an entry that was retracted,
                amended or contradicted since is posted and stopped, and its end says so.
            wait: without tasks, the next step comes with the next fact about an entry of the run, or when its time is over; with
                tasks, control looks at the open requests of the run meanwhile, as it does after each decision of a model.
            awaited: what waits for tasks of the run, beside its next step.
            early: given, the run's next step may come while work goes on, and the run may end while it does.
            unplanned: no model plans this run, so each task carries what the whole run may use.

        Returns:
            Whether the run is over, where ``outcome`` is given: False where it is once what goes on has stopped.

        Raises:
            Fenced: another process took the step, or the run is being stopped. Nothing was written.
            BadInput: duplicate or malformed keys, unknown or circular dependencies, too many or too large tasks, a
                message that cannot be stored.
            Unconfirmed: with ``durable``, it was written and no replica said in time that it has it.
        """
        if outcome is not None and tasks:
            raise BadInput("tasks", len(tasks), "A run that ends posts no tasks.")
        written = specs(claim, tasks, limits, entered=not unplanned, seen=seen, tell=early is not None)
        lanes = sorted({STEP_LANE, *(task.lane for task in tasks)})
        flat: list[str] = []
        for (header, given), task in zip(written, tasks, strict=True):
            flat += [header, await self.blobs.check(claim.run_id, given, task.input)]
        if outcome is not None and outcome.error is not None:
            outcome = outcome.model_copy(update={"error": cleaned_failure(outcome.error)})
        told = dump(planned.model_dump(mode="json", exclude_none=True), "planned", STEP_BYTES)
        answer = dump(outcome.model_dump(mode="json", exclude_none=True), "outcome", STEP_BYTES) if outcome else ""
        waits, held_back = str(wait or ("" if planned.attending else "-")), (awaited or Awaited({})).told(seen, early)
        confirm = await self._asked(durable)
        with claim.deciding():
            reply = await taking_over.sent(self, claim.run_id, tasks, lambda taken: self._call(
                "commit", self.shard_of(claim.run_id), lanes, claim.run_id,
                claim.task_id, claim.fence, told,
                outcome.status if outcome else "", answer, len(written), *flat, waits, held_back, *taken, confirm=confirm,
                prelude=taking_over.PRELUDE if taken else "_results",
            ), entered=not unplanned)  # fmt: skip
        return outcome is not None and reply != 2


def _awoken(place: Shard, worker: str) -> str:
    """Where the last claim behind a doorbell is remembered: beside the worker's others, which may come meanwhile."""
    return place.last_claim(f"{worker}:bell")


def _took(claim: Claim, completion: Completion) -> tuple[int, int]:
    """Milliseconds of the attempt in this process, and tokens of the task."""
    return max(0, round(1000 * (time.monotonic() - claim.received))), completion.usage.total_tokens


def told(completion: Completion) -> str:
    """What a script may read of an error, whose evidence it must not: type and message."""
    error = completion.error
    if error is None:
        return ""
    short = {"short": error.type[:_TYPE_CHARACTERS]} if len(error.type) > _TYPE_CHARACTERS else {}
    own = {"own": 1} if error.type in OWN else {}
    return json.dumps({"type": error.type, "message": error.message, **short, **own})
