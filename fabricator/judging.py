"""Stages 4 to 6 for one candidate: static policy, contract, exam. Gives a verdict; never asks a model for an opinion."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pydantic import JsonValue

from blackboard.types import Failure, Status
from fabricator import feedback
from fabricator.contract import mismatches
from fabricator.exam import Bench
from fabricator.policy import as_evidence, violations
from fabricator.specification import Specification
from fabricator.state import Verdict, plain

Passed = Callable[[str, str, float], Awaitable[None]]
"""Told of a stage that was passed: its name, a detail for people, seconds."""


class Judge:
    """Judges one candidate.

    Args:
        bench: runs it.
        spec: what it is held to.
        passed: told of each stage passed before the last one; the last one is in the verdict.
        go_on: raises when the fabrication is being cancelled; called after every run.
        extra_imports: modules allowed besides the usual ones.
    """

    def __init__(
        self,
        bench: Bench,
        spec: Specification,
        passed: Passed,
        go_on: Callable[[], None],
        extra_imports: tuple[str, ...],
    ) -> None:
        self._bench, self._spec, self._passed = bench, spec, passed
        self._go_on, self._extra_imports = go_on, extra_imports
        self._began = time.monotonic()

    async def verdict(self) -> Verdict:
        """The first stage it fails, or that it passed.

        Raises:
            IsolationUnavailable: nothing could be run.
        """
        return await self._policy() or await self._contract() or await self._exam()

    def _start(self) -> None:
        self._began = time.monotonic()

    @property
    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    async def _policy(self) -> Verdict | None:
        self._start()
        outcome = await self._bench.inspect()
        self._go_on()
        if outcome.status is not Status.SUCCEEDED or not isinstance(outcome.value, dict):
            said = outcome.error.message if outcome.error else "it could not be read"
            reason = f"The source could not be parsed: {said}"
            return self._failed("policy", reason, feedback.refused([reason]))
        found = violations(outcome.value, self._spec.grants, self._extra_imports)
        if found:
            reason = f"{found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
            return self._failed("policy", reason, feedback.refused(found), {"violations": as_evidence(found)})
        await self._passed("policy", "nothing forbidden", self._seconds)
        return None

    async def _contract(self) -> Verdict | None:
        self._start()
        outcome = await self._bench.load()
        self._go_on()
        value = cast("dict[str, Any]", outcome.value) if isinstance(outcome.value, dict) else {}
        described: object = value.get("handler")
        if outcome.status is not Status.SUCCEEDED or not isinstance(described, dict):
            error = outcome.error or Failure(type="missing_handler", message="the module could not be described")
            told = feedback.unloadable(error.type, error.message, error.evidence)
            evidence: dict[str, JsonValue] = {"type": error.type, "line": error.evidence.get("line")}
            return self._failed("contract", f"{error.type}: {error.message}", told, evidence)
        found = mismatches(cast("dict[str, Any]", described), self._spec.input_schema)
        if found:
            return self._failed("contract", found[0], feedback.unfitting(found), {"problems": [*found]})
        await self._passed("contract", "the handler takes the input", self._seconds)
        return None

    async def _exam(self) -> Verdict:
        self._start()
        public = await self._bench.examine(self._spec.public_cases)
        self._go_on()
        shown = (public.passes, public.total)
        if not public.passed:
            smallest = public.failures[0]
            evidence: dict[str, JsonValue] = {
                "failed": [
                    {"case": each.case.name, "kind": each.kind, "detail": each.detail[:300]}
                    for each in public.failures[:5]
                ],
                "counterexample": {
                    "case": smallest.case.name,
                    "input": feedback.shown(smallest.case.input),
                    "expected": feedback.shown(smallest.case.expected),
                    "got": feedback.shown(smallest.value),
                },
            }
            reason = f"{public.total - public.passes} of {public.total} public cases failed."
            return self._failed("exam_public", reason, feedback.public_failures(public), evidence, public=shown)
        await self._passed("exam_public", f"{public.total} of {public.total} cases", self._seconds)
        self._start()
        sealed = await self._bench.examine(self._spec.sealed_cases)
        self._go_on()
        hidden = (sealed.passes, sealed.total)
        if not sealed.passed:
            reason = f"{sealed.total - sealed.passes} of {sealed.total} sealed cases failed."
            return self._failed("exam_sealed", reason, feedback.sealed_failures(sealed), public=shown, sealed=hidden)
        return Verdict(
            stage="exam_sealed",
            passed=True,
            reason=f"{sealed.total} of {sealed.total} cases",
            public=shown,
            sealed=hidden,
            seconds=self._seconds,
            when=time.time(),
        )

    def _failed(
        self,
        stage: str,
        reason: str,
        told: str,
        evidence: dict[str, JsonValue] | None = None,
        *,
        public: tuple[int, int] = (0, 0),
        sealed: tuple[int, int] = (0, 0),
    ) -> Verdict:
        return Verdict(
            stage=stage,
            passed=False,
            reason=plain(reason)[:1000],
            feedback=plain(told),
            evidence=evidence or {},
            public=public,
            sealed=sealed,
            seconds=self._seconds,
            when=time.time(),
        )
