"""The tasks of the Fabricator: to write a capability that a run lacks."""

from __future__ import annotations

from pydantic import JsonValue

from arbiter.fold import RunState
from blackboard.taint import Taint
from blackboard.types import RetryPolicy, RetryRule, TaskSpec

FABRICATOR_LANE = "fabricator"
FABRICATION = "fabricate_"
"""Beginning of the key of a fabrication's task."""
_FABRICATION_RETRY = RetryPolicy(
    max_attempts=10, rules=(RetryRule(errors=("model_error",)), RetryRule(errors=("*",), max_attempts=3))
)
"""A fabrication makes many model calls and goes on where its last attempt stopped, so a busy provider is waited for."""


def fabrication(state: RunState, name: str, need: str, hint: JsonValue, tool_use_id: str, taint: Taint) -> TaskSpec:
    """The task of the Fabricator to write a capability that a run lacks."""
    return TaskSpec(
        key=FABRICATION + name,
        tool_use_id=tool_use_id,
        kind="fabrication",
        capability="fabricator",
        lane=FABRICATOR_LANE,
        input={"name": name, "need": need, "input_hint": hint, "request": state.request, "tenant": state.tenant},
        # As long as the run: a specification, several candidates and their exams are many model calls.
        retry=_FABRICATION_RETRY,
        seconds=state.limits.seconds,
        attempt_seconds=state.limits.seconds,
        taint=taint,
    )
