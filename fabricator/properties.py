"""What the checks of properties say of results, and whether a property says anything at all.

A check is written by the examiner and as hostile as any code: it passes the static policy and runs in an isolated process of
its own, which holds inputs and results and never the candidate. The host hands it its own copies, so that neither of the two
can speak for the other; all a check can decide is its own property.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import JsonValue

from blackboard.types import Status
from fabricator import inputs
from fabricator.exam import together, until_told
from fabricator.policy import violations
from fabricator.specification import Property, Specification
from registry import Grants
from registry.manifest import canonical
from wrapper.isolation import Isolation, Job, JobLimits, Outcome

MOST_WRONG = 60
"""Wrong results on which a property is tried before it is used."""
_CHARACTERS = 1_000_000
"""Of the inputs and results that one process is given."""
_AT_ONCE = 4

Pair = tuple[JsonValue, JsonValue]
"""An input and a result."""
Said = bool | str
"""What a check says of a pair, or why it says nothing."""

_HARNESS = """

def handler(input, result):
    def say(one, other):
        try:
            return bool(check(one, other))
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:300]
    return [say(*each) for each in zip(input, result)]
"""


class Checks:
    """Runs the checks of properties.

    Args:
        isolation: the one production uses.
        seconds: most time of one process.
        cancelled: ends a run early.
    """

    def __init__(self, isolation: Isolation, *, seconds: float, cancelled: asyncio.Event | None = None) -> None:
        self._isolation, self._seconds, self._cancelled = isolation, seconds, cancelled
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def objections(self, spec: Specification) -> list[str]:
        """Why properties of a specification prove nothing, or contradict its cases; empty when all are of use.

        Each has to be true for what every case expects, and false for at least one result that is wrong.

        Raises:
            IsolationUnavailable: nothing could be run.
        """
        if not spec.properties:
            return []
        wrong = await asyncio.to_thread(inputs.wrong_results, spec, MOST_WRONG)
        found = await together(self._objection(each, spec, wrong) for each in spec.properties)
        return [each for each in found if each]

    async def say(self, one: Property, pairs: Sequence[Pair]) -> list[Said]:
        """What a check says of each pair.

        Raises:
            IsolationUnavailable: nothing could be run.
        """
        said: list[Said] = []
        for some in _parts(pairs):
            given: dict[str, JsonValue] = {"input": [each for each, _ in some], "result": [each for _, each in some]}
            outcome = await self._run(Job.of(
                one.check + _HARNESS, name="check", input=given, limits=JobLimits(wall_seconds=self._seconds),
                grants=(), packages=(),
            ))  # fmt: skip
            value = outcome.value
            if isinstance(value, list) and len(value) == len(some) and outcome.status is Status.SUCCEEDED:
                said += [each if isinstance(each, bool) else str(each)[:300] for each in value]
            else:
                said += [outcome.error.message[:300] if outcome.error else "it gave no list of verdicts"] * len(some)
        return said

    async def _objection(self, one: Property, spec: Specification, wrong: Sequence[Pair]) -> str:
        job = Job.of(one.check + _HARNESS, name="check", op="inspect", grants=())
        looked = await self._run(job)
        found = violations(looked.value, Grants()) if isinstance(looked.value, dict) else ["it could not be read"]
        if found:
            return f"{_named(one)}: its check is refused, {found[0]}"
        right = await self.say(one, [(dict(case.input), case.expected) for case in spec.cases])
        for case, said in zip(spec.cases, right, strict=True):
            if isinstance(said, str):
                return f"{_named(one)}: its check gave no verdict on the case {case.name!r}: {said}"
            if not said:
                return (
                    f"{_named(one)} is false for the case {case.name!r} and what it expects; one of the two is wrong. "
                    "Correct it, or leave the property out."
                )
        if not any(said is False for said in await self.say(one, wrong)):
            return (
                f"{_named(one)} was false for none of {len(wrong)} wrong results, such as those of other cases, so it proves "
                "nothing; say more in it, or leave it out."
            )
        return ""

    async def _run(self, job: Job) -> Outcome:
        async with self._places:
            return await until_told(lambda: self._isolation.run(job, None, self._cancelled))


def _named(one: Property) -> str:
    return f"The property {one.name!r}"


def _parts(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs, so many at a time as one process is given."""
    parts: list[list[Pair]] = [[]]
    room = _CHARACTERS
    for pair in pairs:
        room -= sum(len(canonical(each)) for each in pair)
        if room < 0 and parts[-1]:
            parts.append([])
            room = _CHARACTERS
        parts[-1].append(pair)
    return [each for each in parts if each]
