"""The exam: each case one run in the isolation of production, judged by the host from its own copy of the expectation.

A candidate is given the input of one case at a time, in a process that ends with it. It never holds an expectation, and
nothing it prints or claims is read as a verdict. How much an exam proves is measured with mistakes that are planted in what
passed it (:mod:`wrapper.isolation.mutation`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast

from pydantic import JsonValue

from blackboard.ending import end
from blackboard.errors import IsolationUnavailable
from blackboard.types import Failure, Status
from fabricator.comparison import difference
from fabricator.specification import Case
from registry import Manifest
from registry.manifest import canonical
from wrapper.context import TaskContext
from wrapper.fitting import misfits
from wrapper.isolation import Broker, Isolation, Job, Outcome
from wrapper.isolation.mutation import planted
from wrapper.preparing import made_up_task, prepare

T = TypeVar("T")
_TRIES = 3
_LEAST_SECONDS = 3.0
_LONGER = 10

Sitting = Callable[[], AbstractAsyncContextManager[tuple[TaskContext, Broker | None]]]
"""Opens what is there for one run: the task that the code is told it works at, and what answers its calls."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a candidate did in one case."""

    case: Case
    passed: bool
    kind: str = ""
    """``wrong_result``, ``output_schema``, or the isolation's word for how the run failed."""
    detail: str = ""
    value: JsonValue = None
    evidence: Mapping[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one run with one input: a result that fits the output schema, or how it went wrong."""

    kind: str = ""
    """``output_schema``, or the isolation's word for how the run failed; empty when there is a result."""
    detail: str = ""
    value: JsonValue = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class PartResult:
    """How a candidate did in one part of the exam. Cases after one that timed out are not run."""

    total: int
    results: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        return len(self.results) == self.total and all(each.passed for each in self.results)

    @property
    def passes(self) -> int:
        return sum(each.passed for each in self.results)

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        """Failed cases, the one with the shortest input first."""
        failed = (each for each in self.results if not each.passed)
        return tuple(sorted(failed, key=lambda each: len(canonical(each.case.input))))


class Bench:
    """Runs one candidate.

    Args:
        isolation: the one production uses.
        manifest: the candidate is examined under its limits and grants.
        source: of the candidate.
        case_seconds: most time of one run.
        sitting: opens what each run of a case has beside its input. Default: a made-up task, and nothing that is granted.
        cancelled: ends a run early.
    """

    def __init__(
        self,
        isolation: Isolation,
        manifest: Manifest,
        source: str,
        *,
        case_seconds: float,
        sitting: Sitting | None = None,
        cancelled: asyncio.Event | None = None,
    ) -> None:
        self._isolation, self._manifest, self._source = isolation, manifest, source
        self._sitting, self._cancelled = sitting or self._alone, cancelled
        self._seconds = min(case_seconds, manifest.limits.attempt_seconds)
        self._slowest = 0.0
        # What is no UTF-8 ends as a syntax error of the candidate, so it is hashed all the same.
        self._sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()

    def inspect(self) -> Awaitable[Outcome]:
        """What the source contains, read in a child; nothing of it is imported."""
        return until_told(partial(self._apart, "inspect"))

    def load(self) -> Awaitable[Outcome]:
        """Import the module in a child and describe its handler.

        Code can tell this from a call, which does it no good: what it shows here, each case holds it to.
        """
        return until_told(partial(self._apart, "import"))

    async def examine(self, cases: Sequence[Case]) -> PartResult:
        """Run one part of the exam, case by case."""
        results: list[CaseResult] = []
        for case in cases:
            outcome = await until_told(partial(self._sit, case.input, self._seconds))
            self._slowest = max(self._slowest, outcome.seconds)
            if outcome.status is Status.CANCELLED:
                break
            results.append(await self._judged(case, outcome))
            if outcome.status is Status.TIMED_OUT:
                break
        return PartResult(len(cases), tuple(results))

    async def mistakes(self, most: int) -> list[Mapping[str, JsonValue]]:
        """Mistakes that could be planted in the source, found in a child: see :func:`wrapper.isolation.mutation.mistakes`."""
        outcome = await until_told(partial(self._apart, "mistakes", {"most": most}))
        return cast("list[Mapping[str, JsonValue]]", outcome.value) if isinstance(outcome.value, list) else []

    async def notices(
        self,
        mistake: Mapping[str, JsonValue],
        cases: Sequence[Case],
        keeps: Callable[[Bench], Awaitable[bool]] | None = None,
    ) -> bool:
        """Whether the source with a mistake planted in it fails any of the cases. One that takes far longer than the source
        itself does fails, too. ``keeps`` is asked of one that passes them all whether it keeps the properties as well."""
        changed = planted(self._source.encode(), mistake).decode()
        bench = Bench(
            self._isolation,
            self._manifest,
            changed,
            case_seconds=self._few_seconds,
            sitting=self._sitting,
            cancelled=self._cancelled,
        )
        for case in cases:
            if not (await bench.examine([case])).passed:
                return True
        return keeps is not None and not await keeps(bench)

    async def answer(self, given: Mapping[str, JsonValue]) -> Answer:
        """What the code makes of an input that no case has; it may take far longer than the cases did."""
        return await self._answer(await until_told(partial(self._sit, given, self._few_seconds)))

    @property
    def _few_seconds(self) -> float:
        return min(self._seconds, max(_LEAST_SECONDS, _LONGER * self._slowest))

    async def _apart(
        self, op: Literal["inspect", "import", "mistakes"], given: Mapping[str, JsonValue] = MappingProxyType({})
    ) -> Outcome:
        """Look at the code without calling it; nothing is granted there."""
        job = replace(self._job(given, made_up_task(self._manifest.name), self._seconds), op=op, grants=())
        return await self._isolation.run(job, None, self._cancelled)

    async def _sit(self, given: Mapping[str, JsonValue], seconds: float) -> Outcome:
        async with self._sitting() as (task, broker):
            return await self._isolation.run(self._job(given, task, seconds), broker, self._cancelled)

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[tuple[TaskContext, Broker | None]]:
        yield made_up_task(self._manifest.name), None

    def _job(self, given: Mapping[str, JsonValue], task: TaskContext, seconds: float) -> Job:
        """As production makes it, for a task of the same form, so that a candidate has nothing to tell an exam by."""
        return prepare(self._manifest, self._source, self._sha256, given, task, wall_seconds=seconds)

    async def _judged(self, case: Case, outcome: Outcome) -> CaseResult:
        answer = await self._answer(outcome)
        if answer.kind:
            evidence = answer.error.evidence if answer.error else None
            return CaseResult(case, False, answer.kind, answer.detail, answer.value, evidence)
        if found := difference(case.expected, answer.value):
            return CaseResult(case, False, "wrong_result", found, answer.value)
        return CaseResult(case, True, value=answer.value)

    async def _answer(self, outcome: Outcome) -> Answer:
        error = outcome.error
        if outcome.status is not Status.SUCCEEDED:
            kind, message = (error.type, error.message) if error else ("crashed", "it ended without a result")
            return Answer(kind, message, error=error)
        if found := await misfits(self._manifest, outcome.value):
            return Answer("output_schema", "; ".join(found), outcome.value)
        return Answer(value=outcome.value)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order; where one raises, none of the others goes on."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end(tasks)


async def until_told(run: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """One run; another one when what ended it was not the code: a killed zygote is no fault of the candidate.

    Raises:
        IsolationUnavailable: the isolation failed in every try.
    """
    tries = 1
    while True:
        outcome = await run()
        error = outcome.error
        if error is None or not error.retryable:
            return outcome
        if tries < _TRIES:
            tries += 1
        elif error.type == "isolation":
            raise IsolationUnavailable(f"{_TRIES} runs in a row were ended from outside. {error.message}")
        else:
            return outcome
