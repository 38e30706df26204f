"""Accepting runs: a request to be planned, or a call of one capability."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import JsonValue, ValidationError

from blackboard._calling import STEP_LANE, Calling
from blackboard.errors import BadInput
from blackboard.events import ReplayOf, RerunOf
from blackboard.payloads import PAYLOAD_BYTES, STEP_BYTES, dump, fingerprint, join
from blackboard.plan import Undecided, specs
from blackboard.refusing import refused
from blackboard.taint import Taint
from blackboard.triggers import AgendaTerms
from blackboard.types import Limits, RetryPolicy, TaskSpec, type_name

CALL = "call"
"""Key of the only task of a run that calls one capability."""
STEP_ATTEMPTS = 5
"""How often a decision is tried when the process taking it dies."""
STEP_SECONDS = 600.0
_LIMITS, _RETRY = Limits(), RetryPolicy()


class Accepting(Calling):
    """The operations that put runs on the board."""

    async def submit(
        self,
        request: JsonValue,
        *,
        tenant: str = "default",
        idempotency_key: str | None = None,
        limits: Limits | None = None,
        pins: Mapping[str, str] | None = None,
        redrive_of: str | None = None,
        durable: bool = False,
        replay_of: ReplayOf | None = None,
        taint: Taint = (),
        agenda: AgendaTerms | None = None,
        plan: Sequence[Mapping[str, JsonValue]] = (),
        rerun_of: RerunOf | None = None,
    ) -> str:
        """Accept a request. When this returns, the run is on the board and its first step is waiting.

        Args:
            request: text or a JSON object, at most :data:`PAYLOAD_BYTES`.
            tenant: whose work it is; shares the workers fairly with other tenants.
            idempotency_key: the same key with the same request returns the same run.
            limits: bounds of the run.
            pins: capability versions (name to content hash) the run must use.
            redrive_of: the dead letter it is made of.
            durable: return only when a replica has it; see :mod:`blackboard.confirm`.
            replay_of: the archived event the request was made of, for the run's log.
            taint: where the request comes from; see :mod:`blackboard.taint`. Empty counts as unknown.
            agenda: what is written on its board may trigger capabilities; these are the terms. Default: nothing triggers.
            plan: what the run's steps carry out instead of asking a model. Nothing here reads it.
            rerun_of: the run it goes on from, for whoever takes its steps.

        Returns:
            The id of the run.

        Raises:
            BadInput: an empty or oversized request, a malformed tenant.
            Conflict: the key was used before with another request.
            QuotaExceeded: the board or the tenant has as many open runs as it may, or starts them too fast; the error says
                when to try again.
            EngineUnavailable: the server stayed unreachable; repeat the call with the same key.
            Unconfirmed: a durable run was accepted and no replica said in time that it has it; repeat the call with the
                same key.
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
        if replay_of is not None:
            terms["replay_of"] = replay_of.model_dump()
        if agenda is not None:
            terms["agenda"] = agenda.model_dump(mode="json", exclude_none=True)
        asked: JsonValue = request
        if plan:
            terms["plan"] = json.loads(dump([*plan], "plan", STEP_BYTES))
            asked = {"request": request, "plan": terms["plan"]}
        if rerun_of is not None:
            terms["rerun_of"] = rerun_of.model_dump()
            asked = {"request": asked, "rerun_of": terms["rerun_of"]}
        if taint:
            terms["taint"] = [*taint]
        accepted = join(json.dumps(terms), "request", await self.blobs.check(run_id, body, request))
        text = request if isinstance(request, str) else body
        await self._call(
            "submit", self.shard_of(run_id), [STEP_LANE], run_id,
            run_id, tenant, fingerprint(asked), text[:120], accepted,
            int(limits.seconds * 1000), int(STEP_SECONDS * 1000), STEP_ATTEMPTS,
            agenda.header() if agenda is not None else "", confirm=await self._asked(durable),
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
        durable: bool = False,
        taint: Taint = (),
        place: Undecided | None = None,
        key: str = CALL,
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
            limits: ``seconds`` bounds the run, ``task_seconds`` and ``attempt_seconds`` its task, ``tokens`` and ``money``
                what it may ask a model for.
            priority: 0 to 9 among the ready tasks of the tenant in the lane; higher first.
            retry: of the task. Default: ``RetryPolicy()``.
            attempt_seconds: most for one attempt, where that is less than the limits say.
            kind: of the task.
            seconds: deadline of the task instead of ``limits.task_seconds``, and of each attempt.
            redrive_of: the dead letter it is made of.
            durable: return only when a replica has it; see :mod:`blackboard.confirm`.
            taint: where the input comes from, as for :meth:`submit`.
            place, key: give the run and its task the ids of a planned one. Default: a new run, or that of the key.

        Returns:
            The id of the run.

        Raises:
            BadInput: an oversized input, or a malformed lane, tenant or priority.
            Conflict, QuotaExceeded, EngineUnavailable, Unconfirmed, BlobUnavailable: as :meth:`submit`.
        """
        limits = limits or _LIMITS
        place = place or Undecided(run_id_of(tenant, idempotency_key))
        run_id = place.run_id
        try:
            task = TaskSpec(
                key=key, tool_use_id=CALL, kind=kind, capability=capability, version=version, lane=lane, input=input,
                priority=priority, retry=retry or _RETRY, seconds=seconds,
                attempt_seconds=seconds or min(attempt_seconds or limits.attempt_seconds, limits.attempt_seconds),
                taint=taint,
            )  # fmt: skip
        except ValidationError as error:
            raise refused(error) from None
        ((spec, given),) = specs(place, [task], limits)
        body = await self.blobs.check(run_id, given, input)
        terms = {
            "tenant": tenant, "limits": limits.model_dump(mode="json"), "pins": {capability: version} if version else {},
            "call": {"capability": capability, "version": version, "priority": priority},
        } | ({"redrive_of": redrive_of} if redrive_of else {}) | ({"taint": [*taint]} if taint else {})  # fmt: skip
        await self._call(
            "submit_call", self.shard_of(run_id), [lane], run_id,
            run_id, tenant, fingerprint([CALL, capability, asked_version, input]), f"{capability} {given[:120]}"[:120],
            json.dumps(terms), int(limits.seconds * 1000), spec, body, confirm=await self._asked(durable),
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


def run_id_of(tenant: str, idempotency_key: str | None, at: float | None = None) -> str:
    """A new id, or the one that belongs to a key of a tenant.

    Args:
        at: when a new one was made, in seconds since the epoch. Default: now.
    """
    if not re.match(type_name, tenant):
        raise BadInput("tenant", tenant, "Use 1-64 lower-case letters, digits, '.', '_' or '-'.")
    if idempotency_key is None:
        return f"r{int((time.time() if at is None else at) * 1000):011x}{secrets.token_hex(6)}"
    return "r" + hashlib.sha256(f"{tenant}\0{idempotency_key}".encode()).hexdigest()[:23]
