"""Does code keep the properties of its specification, on inputs that no case has? If not, what is the smallest that shows it?

An input on which the code refuses with a ``ValueError`` says nothing, however many they are: a right parser refuses nearly all
that is made without knowing what it parses. How many were refused is on record. Nor does one that takes it too long or too much
memory: how much an input may cost is not specified. Any other failure is one: a schema promises its caller that what fits it is
taken.

Source: Claessen and Hughes, "QuickCheck: A Lightweight Tool for Random Testing of Haskell Programs" (2000), for properties on
inputs made by code, and for a failing input made smaller as long as it fails in the same way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from pydantic import JsonValue

from fabricator.exam import Answer, Bench, together
from fabricator.inputs import inputs, simpler, size
from fabricator.properties import Checks
from fabricator.specification import Property, Specification

_AT_A_TIME = 10
_AT_ONCE = 4
_MOST_SMALLER = 150
"""Runs to make a failing input smaller."""
_NOT_RUN = "not_run"
"""Instead of an answer, where there was no time left for it."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An input on which code goes wrong: it breaks a property, or ends without a result that fits the output schema."""

    input: Mapping[str, JsonValue]
    answer: Answer
    breaks: Property | None = None

    @property
    def way(self) -> tuple[str, str]:
        """How it goes wrong; a smaller input has to do so in the same way."""
        error = self.answer.error
        return self.answer.kind or (self.breaks.name if self.breaks else ""), "".join(error.names[:1]) if error else ""


@dataclass(slots=True)
class Tried:
    """What was seen so far."""

    inputs: list[Mapping[str, JsonValue]] = field(default_factory=list[Mapping[str, JsonValue]])
    """Those on which there was a result."""
    refused: int = 0
    """How many it refused with a ``ValueError``."""
    held: dict[str, bool] = field(default_factory=dict[str, bool])
    """Properties whose checks gave verdicts, by name."""
    broken: Broken | None = None


class Trial:
    """Tries code on inputs made for a specification.

    Args:
        spec: whose properties are to hold.
        checks: says whether they do.
        seconds: time of all its runs, from :meth:`start` on; what does not fit in is not tried.
        go_on: raises when the fabrication is being cancelled; called after every few runs.
    """

    def __init__(self, spec: Specification, checks: Checks, seconds: float, go_on: Callable[[], None]) -> None:
        self._spec, self._checks, self._seconds, self._go_on = spec, checks, seconds, go_on
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._until = 0.0

    def start(self) -> None:
        """Begin to count the time anew."""
        self._until = time.monotonic() + self._seconds

    async def examine(self, bench: Bench, most: int) -> Tried:
        """Try code on inputs made for it, at most so many; the smallest found for what breaks.

        Raises:
            IsolationUnavailable: nothing could be run.
        """
        self.start()
        tried = await self.keeps(bench, await asyncio.to_thread(inputs, self._spec, most))
        if tried.broken is not None:
            tried.broken = await self._smallest(bench, tried.broken)
        return tried

    async def keeps(self, bench: Bench, given: Sequence[Mapping[str, JsonValue]]) -> Tried:
        """Try code on these inputs, up to the first few among which one breaks."""
        tried = Tried()
        for at in range(0, len(given), _AT_A_TIME):
            if self._over:
                break
            found = await self._try(bench, given[at : at + _AT_A_TIME], self._spec.properties, tried)
            if found:
                tried.broken = min(found, key=lambda each: size(dict(each.input)))
                break
        return tried

    @property
    def _over(self) -> bool:
        return time.monotonic() > self._until

    async def _smallest(self, bench: Bench, broken: Broken) -> Broken:
        left = _MOST_SMALLER
        options = simpler(broken.input, self._spec.input_schema, self._until)
        held_to = (broken.breaks,) if broken.breaks else ()
        while left > 0 and not self._over:
            some = await asyncio.to_thread(list, islice(options, _AT_A_TIME))
            if not some:
                break
            left -= len(some)
            same = [each for each in await self._try(bench, some, held_to, Tried()) if each.way == broken.way]
            if same:
                broken = min(same, key=lambda each: size(dict(each.input)))
                options = simpler(broken.input, self._spec.input_schema, self._until)
        return broken

    async def _try(
        self, bench: Bench, given: Sequence[Mapping[str, JsonValue]], properties: Sequence[Property], tried: Tried
    ) -> list[Broken]:
        answers = await self._answers(bench, given)
        self._go_on()
        broken = [
            Broken(one, answer)
            for one, answer in zip(given, answers, strict=True)
            if answer.kind and not _says_nothing(answer)
        ]
        good = [(one, answer) for one, answer in zip(given, answers, strict=True) if not answer.kind]
        tried.inputs += [one for one, _ in good]
        tried.refused += sum(_refuses(answer) for answer in answers)
        pairs: list[tuple[JsonValue, JsonValue]] = [(dict(one), answer.value) for one, answer in good]
        for each in properties:
            if not pairs or self._over:
                break
            said = await self._checks.say(each, pairs)
            self._go_on()
            verdicts = [verdict for verdict in said if isinstance(verdict, bool)]
            if verdicts:
                tried.held[each.name] = tried.held.get(each.name, True) and all(verdicts)
            broken += [
                Broken(one, answer, each) for (one, answer), verdict in zip(good, said, strict=True) if verdict is False
            ]
        return broken

    async def _answers(self, bench: Bench, given: Sequence[Mapping[str, JsonValue]]) -> list[Answer]:
        async def one(each: Mapping[str, JsonValue]) -> Answer:
            async with self._places:
                return await bench.answer(each) if not self._over else Answer(_NOT_RUN)

        return await together(one(each) for each in given)


def _says_nothing(answer: Answer) -> bool:
    error = answer.error
    if error is None:
        return answer.kind == _NOT_RUN
    return "limit" in error.evidence or _refuses(answer)


def _refuses(answer: Answer) -> bool:
    error = answer.error
    return error is not None and "limit" not in error.evidence and "ValueError" in error.names
