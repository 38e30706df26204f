"""Does a result fit its schema? Asked so that what code returns cannot hold up whoever asks.

A schema is trusted, a result is not. Megabytes take seconds to walk, so they are walked beside the event loop. A regular
expression can take for ever on a text made for it, and nothing in this process could stop it; where that is possible, schema
and result are handed to an isolated process, which can be killed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import islice

from pydantic import JsonValue

from blackboard.types import Status
from registry import Manifest, validate_output
from wrapper.isolation import Isolation, Job, JobLimits

CHECK_SECONDS = 10.0
"""How long a schema with expressions may take on one result."""
_FEW = 2_000
_STEPS = 10_000_000
"""What an expression may cost here, at worst; some tenths of a second."""
_UNBOUNDED = re.compile(r"(?<!\\)(?:\\\\)*(?:[*+]|\{\d*,\})")
_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{\d*,)")
_SOURCE = """
from jsonschema import Draft202012Validator
from referencing import Registry

def handler(schema, value):
    found = []
    for error in Draft202012Validator(schema, registry=Registry()).iter_errors(value):
        path = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in error.absolute_path)
        found.append(f"value{path}: {error.message}"[:300])
        if len(found) == 10:
            break
    return found
"""


async def misfits(isolation: Isolation, manifest: Manifest, value: JsonValue) -> list[str]:
    """How a result of isolated code differs from the output schema; empty when it fits.

    Args:
        isolation: that the code ran in.
    """
    schema = manifest.output_schema
    if schema is None or not isinstance(value, str | list | dict):
        return validate_output(manifest, value)
    if _costly(schema, value):
        return await _apart(isolation, schema, value)
    if _large(value):
        return await asyncio.to_thread(validate_output, manifest, value)
    return validate_output(manifest, value)


async def _apart(isolation: Isolation, schema: dict[str, JsonValue], value: JsonValue) -> list[str]:
    limits = JobLimits(wall_seconds=CHECK_SECONDS, cpu_seconds=CHECK_SECONDS)
    job = Job.of(_SOURCE, name="schema", input={"schema": schema, "value": value}, limits=limits, grants=())
    outcome = await isolation.run(job)
    if outcome.status is Status.SUCCEEDED and isinstance(outcome.value, list):
        return [str(each) for each in outcome.value]
    why = outcome.error.message if outcome.error is not None else "the answer was none"
    return [f"value: it could not be held against the expressions of its schema: {why}"[:500]]


def _costly(schema: JsonValue, value: JsonValue) -> bool:
    """Whether an expression of the schema could take long on a text as long as the longest one of the value.

    A search by an expression with *k* repetitions without end, none of them in a group that is repeated itself, takes at most
    some length to the power of *k* + 1 steps; with such a group there is no bound worth the name.
    """
    patterns = list(_patterns(schema))
    if not patterns:
        return False
    if any(map(_REPEATED_GROUP.search, patterns)):
        return True
    most = max(len(_UNBOUNDED.findall(each)) for each in patterns)
    return most > 0 and _longest(value) ** (most + 1) > _STEPS


def _patterns(schema: JsonValue) -> Iterator[str]:
    left = [schema]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if isinstance(pattern := one.get("pattern"), str):
                yield pattern
            if isinstance(properties := one.get("patternProperties"), dict):
                yield from properties
            left += one.values()
        elif isinstance(one, list):
            left += one


def _longest(value: JsonValue) -> int:
    longest, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            longest = max(longest, len(one))
        elif isinstance(one, dict):
            longest = max(longest, max(map(len, one), default=0))
            left += one.values()
        elif isinstance(one, list):
            left += one
    return longest


def _large(value: JsonValue) -> bool:
    """Whether a result has more than a few thousand values; looks at no more than that."""
    left, inner = _FEW, [value]
    while inner and left > 0:
        one = inner.pop()
        if isinstance(one, list | dict):
            members = list(islice(one.values() if isinstance(one, dict) else one, left))
            left -= len(members)
            inner += [each for each in members if isinstance(each, list | dict)]
    return left <= 0
