"""Questions of the planning model to a person: a task that asks when it is begun, and whose result is the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from blackboard.approval import Approval, ApprovalPolicy
from blackboard.attempt import Attempt
from blackboard.board import STEP_LANE
from blackboard.taint import Taint
from blackboard.types import Completion, Failure, RetryPolicy, Status, TaskSpec

ASK = "ask_person"
"""The tool, and what its tasks call themselves."""
_RETRY = RetryPolicy(max_attempts=10)
"""Asking is all there is to do, so a process that dies over it is no reason to give up."""


def problem(given: Mapping[str, Any]) -> str | None:
    """What is wrong with what the model asks, beyond what a schema can say; None where nothing is."""
    options, otherwise = given.get("options"), given.get("otherwise")
    if options is not None and otherwise is not None and otherwise not in options:
        return f"otherwise is {otherwise!r}, which is not among the options."
    return None


def question(key: str, tool_use_id: str, given: Mapping[str, Any], taint: Taint) -> TaskSpec:
    """The task of a question."""
    return TaskSpec(
        key=key, tool_use_id=tool_use_id, kind="question", capability=ASK, lane=STEP_LANE, input=dict(given),
        retry=_RETRY, taint=taint,
    )  # fmt: skip


async def handle(attempt: Attempt, policy: ApprovalPolicy) -> Completion | None:
    """One attempt at a question: asked, and None; or what came of it."""
    claim, given = attempt.claim, cast("dict[str, Any]", attempt.claim.input())
    said = claim.said
    if said is None:
        terms = policy.settle(Approval(seconds=given.get("seconds")))
        await attempt.board.ask_person(claim, given, terms, kind="question", otherwise=given.get("otherwise"))
        return None
    if said.state == "answered":
        return claim.completion(Status.SUCCEEDED, data={"answer": said.text, "answered": bool(said.by)})
    message = (
        "Nobody answered in time." if said.state == "expired" else f"{said.by} did not want to answer: {said.text}"
    )
    failure = Failure(type="approval", message=message[:4000], evidence={"by": said.by})
    return claim.completion(Status.REFUSED, error=failure)
