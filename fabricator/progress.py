"""What a fabrication tells while it goes on, what it remembers, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from pydantic import JsonValue

from blackboard import tracing
from blackboard.attempt import Attempt
from blackboard.events import FabricationStageData
from blackboard.taint import merged, source
from blackboard.types import Completion, Failure, Status, Usage
from fabricator.need import Need
from fabricator.state import FabricationState, Verdict, plain
from registry import Version
from wrapper.models import model_source

if TYPE_CHECKING:
    from strands.models import Model

T = TypeVar("T")
_Outcome = Literal["started", "passed", "failed", "skipped"]


class Ended(Exception):
    """The fabrication is over without a new capability."""

    def __init__(self, status: Status, failure: Failure) -> None:
        super().__init__(failure.message)
        self.status, self.failure = status, failure


class Progress:
    """An attempt at a fabrication, as its log and its checkpoint have it."""

    def __init__(self, attempt: Attempt, need: Need) -> None:
        self._attempt, self._need = attempt, need
        self._state = FabricationState.load(attempt.claim.checkpoint)
        attempt.carried = self._state.usage

    async def _report(
        self,
        stage: str,
        outcome: _Outcome,
        detail: str,
        seconds: float = 0.0,
        *,
        number: int | None = None,
        usage: Usage | None = None,
        evidence: dict[str, JsonValue] | None = None,
    ) -> None:
        """Tell of a stage and, in the same transition, remember everything so far."""
        data = FabricationStageData(
            stage=stage,
            outcome=outcome,
            detail=plain(detail),
            round=len(self._state.candidates) if number is None else number,
            seconds=seconds,
            usage=usage or Usage(),
            evidence=evidence or {},
        )
        if outcome != "started":
            told = {"arbiter.stage": stage, "arbiter.round": data.round, "arbiter.outcome": outcome}
            tracing.past(f"fabricate {stage}", seconds, told, failed=outcome == "failed")
        known = self._state.usage
        await self._attempt.progress("fabrication.stage", data.model_dump(mode="json"), checkpoint=self._state.dump())
        self._attempt.carried = known

    def _asked(self, model: Model) -> Model:
        """A model that is asked now, which its words come from."""
        self._state.brought = [*merged(self._state.brought, (model_source(model),))]
        return model

    def _go_on(self) -> None:
        if self._attempt.cancelled.is_set():
            self._cancel()

    def _cancel(self) -> NoReturn:
        failure = self._failure("cancelled", "The fabrication was cancelled; nothing was registered.")
        raise Ended(Status.CANCELLED, failure)

    async def _unless_cancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a model call, given up when the attempt is cancelled."""
        call = asyncio.ensure_future(work)
        told = asyncio.ensure_future(self._attempt.cancelled.wait())
        try:
            await asyncio.wait({call, told}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                self._cancel()
            return call.result()
        finally:
            for each in (call, told):
                each.cancel()
            await asyncio.gather(call, told, return_exceptions=True)

    def _failure(
        self, type: str, message: str, evidence: dict[str, JsonValue] | None = None, *, retryable: bool = False
    ) -> Failure:
        return self._noted(Failure(type=type, message=message, retryable=retryable, evidence=evidence or {}))

    def _noted(self, failure: Failure) -> Failure:
        facts = dict(failure.evidence)
        if self._state.near:
            facts["near_duplicates"] = [*self._state.near]
        return failure.model_copy(update={"message": plain(failure.message)[:4000], "evidence": facts})

    def _completion(self, status: Status, *, data: JsonValue = None, error: Failure | None = None) -> Completion:
        made = source("generated", self._need.name)
        sources = merged((made,), self._state.brought)
        return self._attempt.claim.completion(status, data, error, usage=self._state.usage, sources=sources)

    def _succeeded(
        self, version: Version, *, reused: bool, verdict: Verdict | None = None, similar: Sequence[str] = ()
    ) -> Completion:
        record = version.exam
        counts: JsonValue = None
        if verdict is not None and not reused:
            counts = verdict.counts()
        elif record is not None:
            counts = {
                "public_cases": record.public_cases, "sealed_cases": record.sealed_cases, "passed": record.passed
            }  # fmt: skip
        data: dict[str, JsonValue] = {
            "capability": version.name,
            "version": version.sha,
            "description": version.manifest.description,
            "input_schema": version.manifest.input_schema,
            "output_schema": version.manifest.output_schema,
            "reused": reused,
            "repairs": max(0, len(self._state.candidates) - 1),
            "exam": counts,
        }
        if similar:
            data["similar"] = [*similar]
        return self._completion(Status.SUCCEEDED, data=data)
