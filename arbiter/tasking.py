"""From a call or a step to a task: what its input must be, and what is posted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic import JsonValue

from blackboard.taint import Taint
from blackboard.types import Limits, RetryPolicy, TaskSpec
from registry import Version, schema

LISTED_PROBLEMS = 10


class Invalid(Exception):
    """A call that cannot be carried out; the message is for the model."""


def check(name: str, schema_text: str, value: JsonValue) -> None:
    """That an input fits its schema.

    Raises:
        Invalid: it does not.
    """
    found = schema.problems(schema_text, value)
    if found:
        listed = "; ".join(found[:LISTED_PROBLEMS])
        raise Invalid(f"The input of {name} does not fit its schema, so nothing was done: {listed}")


def check_shape(name: str, input_schema: Mapping[str, JsonValue], given: JsonValue) -> None:
    """What can be said before references are resolved: missing and unknown names at the top.

    Raises:
        Invalid: there are some.
    """
    if not isinstance(given, dict):
        raise Invalid(f"The input of {name} must be an object.")
    properties = cast("dict[str, JsonValue]", input_schema.get("properties", {}))
    missing = [p for p in cast("list[str]", input_schema.get("required", [])) if p not in given]
    unknown = [p for p in given if p not in properties] if input_schema.get("additionalProperties") is False else []
    if missing or unknown:
        said = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unknown: {', '.join(unknown)}"] * bool(unknown)
        raise Invalid(f"The input of {name} does not fit its schema: {'; '.join(said)}.")


def spec(
    key: str, tool_use_id: str, version: Version, given: JsonValue, limits: Limits, taint: Taint, *,
    after: Sequence[str] = (), made_from: Sequence[str] = (), retry: RetryPolicy | None = None, delay: float = 0.0,
) -> TaskSpec:  # fmt: skip
    """The task that carries a call of a capability out.

    Args:
        retry: in the place of the manifest's.
        delay: seconds until it may begin.
    """
    manifest = version.manifest
    return TaskSpec(
        key=key,
        tool_use_id=tool_use_id,
        capability=manifest.name,
        version=version.sha,
        lane=manifest.action,
        input=given,
        after=tuple(dict.fromkeys(after)),
        retry=retry or manifest.retry,
        attempt_seconds=min(manifest.limits.attempt_seconds, limits.attempt_seconds),
        delay_seconds=delay,
        taint=taint,
        made_from=tuple(dict.fromkeys(made_from)),
    )
