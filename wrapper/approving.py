"""A person before an attempt: asked about exactly what a task was given, and what they said is what happens."""

from __future__ import annotations

from pydantic import JsonValue

from blackboard.approval import ApprovalPolicy, Said
from blackboard.attempt import Attempt
from blackboard.types import Failure
from registry import Version


async def asked(attempt: Attempt, version: Version, given: JsonValue, policy: ApprovalPolicy) -> bool:
    """Whether a person has to be asked about a task first; then it is let go of, and comes again with what was said.

    Raises:
        Fenced: the task is no longer held.
        BlobUnavailable: what it was given is large, and the store of large values cannot be used.
    """
    manifest = version.manifest
    wanted = policy.needed(manifest.name, manifest.effects, manifest.approval)
    if wanted is None or attempt.claim.said is not None:
        return False
    terms = policy.settle(wanted)
    otherwise = "approve" if terms.otherwise == "approve" else None
    await attempt.board.ask_person(attempt.claim, given, terms, otherwise=otherwise, version=version.sha)
    return True


def refusal(said: Said | None) -> Failure | None:
    """Why a task is not done, where a person has refused it or none has answered; None where it may be."""
    if said is None or said.state == "approved":
        return None
    if said.state == "expired":
        return Failure(type="approval", message="Nobody approved it in time, so it was not done.", evidence={"by": ""})
    why = said.text.strip() or "no reason was given"
    message = f"{said.by} refused it: {why.removesuffix('.')}."
    return Failure(type="approval", message=message[:4000], evidence={"by": said.by, "reason": said.text})
