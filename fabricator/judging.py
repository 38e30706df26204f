"""Static policy, contract, exam and its properties, for one candidate. Gives a verdict; never asks a model for an opinion."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, cast

from pydantic import JsonValue

from blackboard.types import Failure, Status
from fabricator import feedback
from fabricator.contract import mismatches
from fabricator.exam import Bench, together
from fabricator.policy import as_evidence, violations
from fabricator.settings import FabricationSettings
from fabricator.specification import Specification
from fabricator.state import Verdict, plain
from fabricator.trial import Trial, Tried
from registry import Grants

_LET_PASS = 3
"""So many mistakes at least have to go unnoticed before an exam is called weak: some change nothing that anybody could notice."""
_AT_ONCE = 4

Passed = Callable[[str, str, float, Literal["passed", "skipped"]], Awaitable[None]]
"""Told of a stage that was passed, or skipped: its name, a detail for people, seconds, which of the two."""


class Judge:
    """Judges one candidate.

    Args:
        bench: runs it.
        spec: what it is held to.
        passed: told of each stage passed before the last one; the last one is in the verdict.
        go_on: raises when the fabrication is being cancelled; called after every run.
        settings: modules allowed besides the usual ones, and how much an exam has to prove.
        trial: tries code on inputs that no case has.
    """

    def __init__(
        self,
        bench: Bench,
        spec: Specification,
        passed: Passed,
        go_on: Callable[[], None],
        settings: FabricationSettings,
        trial: Trial,
    ) -> None:
        self._bench, self._spec, self._passed = bench, spec, passed
        self._go_on, self._settings, self._trial = go_on, settings, trial
        self._tried: Tried | None = None
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
        found = violations(outcome.value, self._spec.grants, self._settings.extra_imports)
        if found:
            reason = f"{found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
            return self._failed("policy", reason, feedback.refused(found), {"violations": as_evidence(found)})
        await self._passed("policy", "nothing forbidden", self._seconds, "passed")
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
        await self._passed("contract", "the handler takes the input", self._seconds, "passed")
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
        await self._passed("exam_public", f"{public.total} of {public.total} cases", self._seconds, "passed")
        self._start()
        sealed = await self._bench.examine(self._spec.sealed_cases)
        self._go_on()
        hidden = (sealed.passes, sealed.total)
        if not sealed.passed:
            reason = f"{sealed.total - sealed.passes} of {sealed.total} sealed cases failed."
            return self._failed("exam_sealed", reason, feedback.sealed_failures(sealed), public=shown, sealed=hidden)
        await self._passed("exam_sealed", f"{sealed.total} of {sealed.total} cases", self._seconds, "passed")
        return await self._properties(shown, hidden) or await self._strength(shown, hidden)

    @cached_property
    def _alone(self) -> bool:
        """Whether it reaches nothing outside. Each run of what may ask a model costs, and need not come out twice alike."""
        return self._spec.grants.model_copy(update={"packages": ()}) == Grants()

    async def _properties(self, public: tuple[int, int], sealed: tuple[int, int]) -> Verdict | None:
        """Whether it keeps the properties on inputs that no case has."""
        properties, most = self._spec.properties, self._settings.property_inputs
        if not properties or not most:
            return None
        self._start()
        if not self._alone:
            said = "not tested: what it may reach need not answer twice alike"
            await self._passed("exam_properties", said, self._seconds, "skipped")
            return None
        tried = self._tried = await self._trial.examine(self._bench, most)
        if tried.broken is None:
            silent = len(properties) - len(tried.held)
            detail = f"{len(tried.held)} of {len(properties)} properties held on {len(tried.inputs)} inputs"
            detail += f"; {tried.refused} inputs were refused" if tried.refused else ""
            detail += f"; of {silent} no verdict came" if silent else ""
            await self._passed("exam_properties", detail, self._seconds, "passed")
            return None
        reason, evidence = feedback.broken_in_short(tried.broken)
        return self._failed(
            "exam_properties", reason, feedback.broken(tried.broken), evidence, public=public, sealed=sealed
        )

    async def _strength(self, public: tuple[int, int], sealed: tuple[int, int]) -> Verdict:
        """How much it proves that the exam was passed: mistakes are planted in what passed it, one at a time."""
        self._start()
        planted: list[Mapping[str, JsonValue]] = []
        if self._alone:
            planted = await self._bench.mistakes(self._settings.mistakes)
        found = await self._noticed(planted)
        self._go_on()
        missed = [mistake for mistake, noticed in zip(planted, found, strict=True) if not noticed]
        weak = len(missed) >= _LET_PASS and len(missed) > (1 - self._settings.noticed) * len(planted)
        reason = f"{sum(found)} of {len(planted)} planted mistakes noticed" if planted else "no mistake was planted"
        return Verdict(
            stage="exam_strength",
            passed=True,
            reason=f"{reason}: the exam proves too little" if weak else reason,
            evidence={"unnoticed": [{"line": each["line"], "what": each["what"]} for each in missed]} if missed else {},
            public=public,
            sealed=sealed,
            mistakes=(sum(found), len(planted)),
            properties=self._held,
            inputs=len(self._tried.inputs) if self._tried else 0,
            refused=self._tried.refused if self._tried else 0,
            weak=weak,
            seconds=self._seconds,
            when=time.time(),
        )

    @property
    def _held(self) -> tuple[int, int]:
        return (sum(self._tried.held.values()) if self._tried else 0), len(self._spec.properties)

    async def _keeps(self, bench: Bench) -> bool:
        """Whether changed code keeps the properties, on inputs for which the code itself had results."""
        return self._tried is None or (await self._trial.keeps(bench, self._tried.inputs)).broken is None

    async def _noticed(self, planted: Sequence[Mapping[str, JsonValue]]) -> list[bool]:
        places = asyncio.Semaphore(_AT_ONCE)
        self._trial.start()

        async def one(mistake: Mapping[str, JsonValue]) -> bool:
            async with places:
                self._go_on()
                return await self._bench.notices(mistake, self._spec.cases, self._keeps)

        return await together(one(mistake) for mistake in planted)

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
            properties=self._held,
            seconds=self._seconds,
            when=time.time(),
        )
