"""The tasks of the Fabricator: to write a capability that a run lacks, or a better one than the one that fails it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from arbiter.fold import RunState, Task
from blackboard.lately import OWN
from blackboard.taint import Taint
from blackboard.types import RetryPolicy, RetryRule, Status, TaskSpec
from registry import Version

FABRICATOR_LANE = "fabricator"
FABRICATION = "fabricate_"
"""Beginning of the key of a fabrication's task."""
_FABRICATION_RETRY = RetryPolicy(
    max_attempts=10, rules=(RetryRule(errors=("model_error",)), RetryRule(errors=("*",), max_attempts=3))
)
"""A fabrication makes many model calls and goes on where its last attempt stopped, so a busy provider is waited for."""
CALLS = 2
"""A capability that failed every one of so many calls of a run, or more, by its own doing may be replaced."""
_TOLD = 3
_MESSAGE_CHARACTERS = 500
_DEEP, _WIDE = 4, 20
_NAMES: dict[type, str] = {
    dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"
}  # fmt: skip


def fabrication(
    state: RunState,
    name: str,
    need: str,
    hint: JsonValue,
    tool_use_id: str,
    taint: Taint,
    replaced: Version | None = None,
) -> TaskSpec:
    """The task of the Fabricator to write a capability that a run lacks, or to replace a version that fails it."""
    given: dict[str, JsonValue] = {
        "name": name, "need": need, "input_hint": hint, "request": state.request, "tenant": state.tenant
    }  # fmt: skip
    if replaced is not None:
        failed = [task for task in _calls(state, replaced) if not _succeeded(task)]
        given |= {"replaces": replaced.sha, "failures": [_failure(task) for task in failed[-_TOLD:]]}
    return TaskSpec(
        key=FABRICATION + name,
        tool_use_id=tool_use_id,
        kind="fabrication",
        capability="fabricator",
        lane=FABRICATOR_LANE,
        input=given,
        # As long as the run: a specification, several candidates and their exams are many model calls.
        retry=_FABRICATION_RETRY,
        seconds=state.limits.seconds,
        attempt_seconds=state.limits.seconds,
        taint=taint,
    )


def kept(state: RunState, version: Version, runs: bool) -> str:
    """Why the active version of a capability is not replaced for a run; empty when it may be, since it fails.

    Args:
        runs: whether somebody whose word counts vouches for it; else it can do nothing but fail.
    """
    if version.artifact_sha is None:
        return f"it lives in a program, as {version.manifest.kind}, and is not replaced"
    if version.manifest.tenant != state.tenant:
        return "it is not this tenant's own, and is not replaced"
    calls = _calls(state, version)
    if not runs or (len(calls) >= CALLS and not any(map(_succeeded, calls))):
        return ""
    return (
        f"it is replaced when it failed {CALLS} calls of this run by its own doing and succeeded at none (so far it failed "
        f"{sum(not _succeeded(task) for task in calls)} of {len(calls)})"
    )


def _calls(state: RunState, version: Version) -> Sequence[Task]:
    """The tasks of a run that say something about a version."""
    return [
        task
        for task in state.work
        if (task.capability, task.version) == (version.name, version.sha) and (_succeeded(task) or _failed(task))
    ]


def _succeeded(task: Task) -> bool:
    return task.completion is not None and task.completion.status is Status.SUCCEEDED


def _failed(task: Task) -> bool:
    error = task.completion.error if task.completion is not None else None
    return error is not None and error.type in OWN


def _failure(task: Task) -> JsonValue:
    """One failure for whoever writes a better one."""
    error = task.completion.error if task.completion is not None else None
    said: dict[str, JsonValue] = {"input": _shape(task.input)}
    if error is not None:
        said |= {"error": error.type, "message": error.message[:_MESSAGE_CHARACTERS]}
    return said


def _shape(value: JsonValue, depth: int = _DEEP) -> JsonValue:
    """What a value is made of, without what it says."""
    if isinstance(value, dict) and depth:
        return {name: _shape(each, depth - 1) for name, each in [*value.items()][:_WIDE]}
    if isinstance(value, list) and depth:
        return [_shape(each, depth - 1) for each in value[:1]]
    return _NAMES.get(type(value), "null")
