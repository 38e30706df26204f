"""One attempt at a capability: resolve, verify, check the input, run, check the result, report. Always a completion.

Only this side reports. Identity, version, timing and cost come from the claim and from what was measured here, never from
the code that ran.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from blackboard import tracing
from blackboard.approval import ApprovalPolicy
from blackboard.attempt import Attempt
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.errors import ArbiterError, BadInput, IsolationUnavailable, UnknownRecord
from blackboard.payloads import PAYLOAD_BYTES, dump
from blackboard.permits import Answer, Permits, Question
from blackboard.taint import Taint, merged
from blackboard.types import Completion, Failure, Status, Usage
from registry import (
    Capability,
    HashMismatch,
    Manifest,
    Registry,
    ResultNotJson,
    SignatureRefused,
    Version,
    origin,
    schema,
)
from wrapper import approving, context, failing, later, reporting
from wrapper.broker import AttemptBroker, Keep, Outside
from wrapper.carrying import Carrying
from wrapper.failing import PeerUnavailable
from wrapper.fitting import misfits, unfit
from wrapper.in_program import FunctionBroker
from wrapper.isolation import BrokerError, Isolation, Job, Outcome
from wrapper.model_choice import NamedModels
from wrapper.models import ModelCallFailed, as_failure
from wrapper.models.converse import LONGEST_WAIT_SECONDS
from wrapper.preparing import prepare, task_of
from wrapper.secrets import Secrets
from wrapper.uses import Uses

if TYPE_CHECKING:
    from strands.models import Model

    from wrapper.spending import Spending

LOG_CHARACTERS = 16_000
"""How much of stdout and of stderr a completion carries: the end of it."""
_REPEATABLE = ("reads", "writes")
_STOP_SECONDS = 0.5
"""How long an async function may take to stop before it is taken to go on."""


class _Exited(Exception):
    """A function of the embedding program tried to end the process."""


class Executor:
    """Handles capability tasks for a :class:`~blackboard.worker.Worker`.

    Args:
        registry: where versions and their code come from.
        isolation: gives what runs generated code, started.
        functions: the capabilities of the embedding program, by name; may grow.
        model: gives the model brokered to isolated code; None refuses such calls.
        spending: reserves each of those calls; without it they only count.
        outside: what granted requests may reach. Default: public addresses, and secrets from the environment.
        renew: asks the peer that a manifest belongs to what it offers, when ``functions`` do not have it as it is there.
        approval: which tasks a person is asked about beside those whose manifests say so, and how.
    """

    def __init__(
        self,
        registry: Registry,
        isolation: Callable[[], Awaitable[Isolation]],
        functions: Mapping[str, Capability[..., Any]],
        model: Callable[[], Model] | None = None,
        spending: Spending | None = None,
        outside: Outside | None = None,
        renew: Callable[[Manifest], Awaitable[None]] | None = None,
        approval: ApprovalPolicy | None = None,
    ) -> None:
        self._renew = renew
        self._approval = approval or ApprovalPolicy()
        self._outside = outside or Outside(Secrets())
        self._registry, self._isolation, self._functions, self._model = registry, isolation, functions, model
        self._spending = spending
        self._named_models = NamedModels()

    async def handle(self, attempt: Attempt) -> Completion | None:
        """The completion of one attempt; None when it waits for a person, or for an answer from outside, and was let go of."""
        claim = attempt.claim
        try:
            given = claim.input()
        except BadInput as error:
            return _failed(claim, "unresolved_reference", str(error))
        try:
            with tracing.span(f"load {claim.capability}") as span:
                version, source = await self._registry.load(claim.capability, claim.version)
                span.set({"arbiter.version": version.sha, "arbiter.manifest.kind": version.manifest.kind})
        except UnknownRecord as error:
            return _failed(claim, "unknown_capability", str(error))
        except HashMismatch as error:
            return _failed(claim, "hash_mismatch", str(error))
        except SignatureRefused as error:
            failure = Failure(type="signature", message=str(error), evidence={"reason": error.reason, "key": error.key})
            return claim.completion(Status.REFUSED, error=failure, version=error.sha)
        found = await unfit(version.manifest, given)
        if found or not isinstance(given, dict):
            return _failed(
                claim, "input_schema", f"The input does not fit: {'; '.join(found) or 'not an object'}", version
            )
        if (why := approving.refusal(claim.said)) is not None:
            return claim.completion(Status.REFUSED, error=why, version=version.sha)
        if await approving.asked(attempt, version, given, self._approval):
            return None
        if source is not None:
            return await self._isolated(attempt, version, source, given)
        return await self._in_process(attempt, version, given)

    # ---- generated code --------------------------------------------------------------------------------------------

    async def _isolated(
        self, attempt: Attempt, version: Version, source: str, given: Mapping[str, JsonValue]
    ) -> Completion | None:
        claim, manifest = attempt.claim, version.manifest
        try:
            isolation = await self._isolation()
        except IsolationUnavailable as error:
            failure = Failure(type="isolation", message=f"Not run: {error}", retryable=True)
            return claim.completion(Status.REFUSED, error=failure, version=version.sha)
        uses, permits = Uses(attempt.board, claim, manifest.name), Permits(attempt.board)

        async def permit(request: Carrying, untrusted: Taint) -> tuple[Answer, Question]:
            question = Question(manifest.name, version.sha, request.secrets, untrusted, *request[1:])
            try:
                return await permits.ask(claim, question), question
            except ArbiterError as error:
                raise BrokerError("secret", f"Nobody can be asked whether it may be used: {error}") from None

        broker = AttemptBroker(
            manifest, self._guarded(self._model, claim, manifest), self._outside, _keeper(attempt),
            lambda name: self._guarded_one(self._named_models.get(name), claim, manifest), uses, claim.taint, permit,
            Entries(attempt.board, f"run:{claim.run_id}", checker=schema, meaning=self._registry.meaning), claim,
        )  # fmt: skip
        seconds = min(claim.attempt_seconds, manifest.limits.attempt_seconds)
        job = prepare(manifest, source, version.artifact_sha or "", given, task_of(claim), wall_seconds=seconds)
        try:
            outcome = await _ended_at_excess(isolation, job, broker, attempt.cancelled)
        finally:
            await uses.close("" if broker.question is not None else broker.excess)
        if broker.question is not None:
            await permits.rest(claim, broker.question)
            return None
        if broker.exhausted is not None and outcome.error is not None and outcome.error.type == "handler_error":
            none = {"budget": broker.exhausted.level, "unit": broker.exhausted.unit, "asked": broker.exhausted.asked}
            evidence = {**outcome.error.evidence, **none}
            error = outcome.error.model_copy(update={"type": "limit", "retryable": False, "evidence": evidence})
            outcome = replace(outcome, error=error)
        elif broker.failed is not None and outcome.error is not None and outcome.error.type == "handler_error":
            outcome = replace(outcome, error=_by_its_model(outcome.error, broker.failed))
        usage = broker.usage.model_copy(update={"seconds": round(outcome.seconds, 6)})
        more: dict[str, Any] = {
            "version": version.sha,
            "usage": usage,
            "isolation": outcome.isolation,
            "sources": merged(broker.sources, origin(manifest)),
            "stdout": broker.clean(outcome.stdout[-LOG_CHARACTERS:]),
            "stderr": broker.clean(outcome.stderr[-LOG_CHARACTERS:]),
        }
        if broker.ruling is not None:
            facts = {**broker.ruling.evidence(), "secret": broker.withheld}
            failure = Failure(type="taint", message=f"It was ended: {broker.excess}"[:4000], evidence=facts)
            return claim.completion(Status.REFUSED, error=failure, **more)
        if broker.exceeded.is_set():
            message = f"It asked for more than it was granted and was ended: {broker.excess}"
            return claim.completion(Status.REFUSED, error=Failure(type="grant", message=message[:4000]), **more)
        found = await misfits(manifest, outcome.value) if outcome.status is Status.SUCCEEDED else []
        return self._judged(claim, version, outcome, found, more)

    def _guarded(
        self, model: Callable[[], Model] | None, claim: Claim, manifest: Manifest
    ) -> Callable[[], Model] | None:
        """The model for one attempt at a capability, whose every call is reserved."""
        return None if model is None else lambda: self._guarded_one(model(), claim, manifest)

    def _guarded_one(self, model: Model, claim: Claim, manifest: Manifest) -> Model:
        if self._spending is None:
            return model
        return self._spending.guard(
            model, claim, limits=claim.limits, capability=manifest.name,
            attempt_tokens=manifest.limits.tokens, attempt_money=manifest.limits.money,
        )  # fmt: skip

    def _judged(
        self, claim: Claim, version: Version, outcome: Outcome, found: Sequence[str], more: dict[str, Any]
    ) -> Completion:
        """The completion of what ran; ``found`` is how its result differs from the output schema."""
        if outcome.status is not Status.SUCCEEDED:
            error = outcome.error or Failure(type="crashed", message="it ended without a result")
            repeatable = error.retryable or version.manifest.effects in _REPEATABLE
            if outcome.status is not Status.CANCELLED and error.type in ("crashed", "timeout", "handler_error"):
                error = error.model_copy(update={"retryable": repeatable})
            return claim.completion(outcome.status, error=error, **more)
        if found:
            failure = Failure(
                type="output_schema",
                message=f"The result does not fit the output schema: {'; '.join(found)}",
                evidence={"result": _beginning(outcome.value)},
            )
            return claim.completion(Status.FAILED, error=failure, **more)
        return claim.completion(Status.SUCCEEDED, data=outcome.value, **more)

    # ---- functions of the embedding program ------------------------------------------------------------------------

    async def _function(self, claim: Claim, version: Version) -> Capability[..., Any] | Completion:
        """What this program has of a version, renewed where it can be; or the end of an attempt at what it does not have."""
        manifest = version.manifest
        capability = self._functions.get(manifest.name)
        if self._renew is not None and (capability is None or capability.manifest.content_hash() != version.sha):
            try:
                await self._renew(manifest)
            except PeerUnavailable as error:
                return claim.completion(Status.FAILED, error=_raised(error, True, None), version=version.sha)
            capability = self._functions.get(manifest.name)
        if capability is None:
            return _failed(
                claim, "unknown_capability", f"This program does not have the {manifest.kind} {manifest.name}."
            )
        if capability.manifest.content_hash() != version.sha:
            message = f"This program has another version of {manifest.name} than the run is pinned to; start a new run."
            return _failed(claim, "hash_mismatch", message, version)
        return capability

    async def _in_process(self, attempt: Attempt, version: Version, given: dict[str, JsonValue]) -> Completion | None:
        claim, manifest = attempt.claim, version.manifest
        capability = await self._function(claim, version)
        if isinstance(capability, Completion):
            return capability
        seconds = min(claim.attempt_seconds, manifest.limits.attempt_seconds)
        entries = Entries(attempt.board, f"run:{claim.run_id}", checker=schema, meaning=self._registry.meaning)
        broker = FunctionBroker(manifest, entries, claim, merged(claim.taint, capability.sources))
        more: dict[str, Any] = {"version": version.sha, "isolation": "inprocess"}
        repeatable = manifest.effects in _REPEATABLE
        token, outside = "", capability.sources
        if capability.callback:
            outside = merged(outside, [later.source_of(manifest.name)])
            token = await attempt.board.open_callback(
                claim, sources=outside, version=version.sha, repeatable=repeatable
            )
        started = time.perf_counter()
        work = asyncio.ensure_future(_invoke(capability, given, attempt, broker, token))
        stop = asyncio.ensure_future(attempt.cancelled.wait())
        try:
            await asyncio.wait({work, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            more["sources"] = merged(capability.sources, broker.sources)
            if not work.done():
                stopped = await _stopped(work, capability)
                more["usage"] = Usage(seconds=round(time.perf_counter() - started, 6))
                if attempt.cancelled.is_set():
                    said = "It was stopped." if stopped else "It was told to stop and may go on unseen."
                    failure = Failure(type="cancelled", message=said, evidence={"stopped": stopped})
                    return claim.completion(Status.CANCELLED, error=failure, **more)
                failure = Failure(
                    type="timeout",
                    message=f"It did not return within {seconds:g} s.",
                    retryable=repeatable,
                    evidence={"stopped": stopped},
                )
                return claim.completion(Status.TIMED_OUT, error=failure, **more)
            if broker.excess:
                _ = work.cancelled() or work.exception()  # whatever it made of the refusal
                message = f"It asked for more than it was granted: {broker.excess}"
                more["usage"] = Usage(seconds=round(time.perf_counter() - started, 6))
                return claim.completion(Status.REFUSED, error=Failure(type="grant", message=message[:4000]), **more)
            value, usage = work.result()
        except Exception as error:
            if isinstance(error, later.Later) and token:
                await attempt.board.wait_for_callback(
                    claim, error.seconds, error.heartbeat_seconds,
                    sources=merged(outside, broker.sources), repeatable=repeatable,
                )  # fmt: skip
                return None
            more["usage"] = Usage(seconds=round(time.perf_counter() - started, 6))
            failure = _raised(error, repeatable, capability.function)
            return claim.completion(Status.FAILED, error=failure, **more)
        finally:
            stop.cancel()
            work.cancel()  # when this attempt itself is stopped, what it started must not go on unseen
        more["usage"] = usage
        most = min(manifest.limits.output_bytes, PAYLOAD_BYTES)
        if len(json.dumps(value)) > most:
            failure = Failure(type="result_too_large", message=f"The result is larger than {most:,} bytes.")
            return claim.completion(Status.FAILED, error=failure, **more)
        found = await misfits(manifest, value)
        return self._judged(claim, version, Outcome(Status.SUCCEEDED, value), found, more)


async def _ended_at_excess(isolation: Isolation, job: Job, broker: AttemptBroker, cancelled: asyncio.Event) -> Outcome:
    """Run a job; whoever asks for more than its grants is ended like a cancelled one."""
    stop = asyncio.Event()

    async def follow() -> None:
        waits = [asyncio.ensure_future(each.wait()) for each in (cancelled, broker.exceeded)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
        finally:
            for each in waits:
                each.cancel()

    following = asyncio.ensure_future(follow())
    try:
        return await isolation.run(job, broker, stop)
    finally:
        following.cancel()


def _keeper(attempt: Attempt) -> Keep:
    async def keep(name: str, value: JsonValue) -> JsonValue:
        text = dump(value, f"output {name}", PAYLOAD_BYTES)
        return dict(await attempt.board.blobs.keep(attempt.claim.run_id, text, value))

    return keep


async def _stopped(work: asyncio.Future[Any], capability: Capability[..., Any]) -> bool:
    """Cancel a call and say whether nothing of it goes on, for certain: a thread cannot be stopped."""
    work.cancel()
    await asyncio.wait({work}, timeout=_STOP_SECONDS)
    return work.done() and not capability.in_thread


def _by_its_model(error: Failure, cause: ModelCallFailed) -> Failure:
    """The failure of code whose last model call failed. What was repeated there is not repeated once more by the task."""
    told = as_failure(cause, f"{error.message} ({cause})"[:4000])
    return told.model_copy(
        update={
            "retryable": (told.retry_after_seconds or 0.0) > LONGEST_WAIT_SECONDS,
            "evidence": {**error.evidence, **told.evidence},
            "names": (*told.names, *error.names),
        }
    )


async def _invoke(
    capability: Capability[..., Any], given: dict[str, JsonValue], attempt: Attempt, broker: FunctionBroker, token: str
) -> tuple[JsonValue, Usage]:
    sources = merged(attempt.claim.taint, capability.sources)
    context.enter(replace(task_of(attempt.claim), taint=sources, token=token))
    reporting.enter(attempt)
    broker.enter()
    try:
        return await capability.invoke(given)
    except SystemExit as error:  # would end this process: asyncio lets it through
        raise _Exited(f"The function called exit({error.code!r}) instead of returning.") from error


def _raised(error: Exception, repeatable: bool, function: object) -> Failure:
    begun = _from_its_code(error, function)
    if isinstance(error, BadInput) and begun is None:  # what the function itself asked of us is its own affair
        return Failure(type="input_schema", message=str(error))
    if isinstance(error, _Exited):
        return Failure(type="exited", message=str(error))
    if isinstance(error, ResultNotJson):
        return Failure(type="not_json", message=str(error)[:2000])
    kind = failing.kind(error)
    trace = "".join(traceback.format_exception(type(error), error, begun or error.__traceback__))[-4000:]
    said = failing.said(error)
    return Failure(
        type=kind,
        message=(f"{type(error).__name__}: {said}" if kind == "handler_error" else said)[:2000],
        retryable=kind in ("retry_later", "peer_unavailable") or (kind == "handler_error" and repeatable),
        evidence={"traceback": failing.sayable(trace)},
        names=tuple(failing.class_names(error)),
        retry_after_seconds=failing.wait(error),
    )


def _from_its_code(error: Exception, function: object) -> TracebackType | None:
    """The traceback from the function's file on: what leads there says nothing to its author. None if it was not there."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    at = error.__traceback__ if code is not None else None
    while at is not None and code is not None and at.tb_frame.f_code.co_filename != code.co_filename:
        at = at.tb_next
    return at


def _failed(claim: Claim, kind: str, message: str, version: Version | None = None) -> Completion:
    failure = Failure(type=kind, message=message[:4000])
    return claim.completion(Status.FAILED, error=failure, version=version.sha if version else claim.version)


def _beginning(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)[:2000]
