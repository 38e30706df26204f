"""What an attempt at a capability is run as: one job, made in one place for tasks and for exams.

Code that could tell its exam from its work could behave in the one and not in the other. So whatever of a job reaches the
process the code runs in (limits, names, the task) is decided here, from the manifest, the same for both. What differs,
such as how long the host waits, stays with the host.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from pydantic import JsonValue

from blackboard.accepting import run_id_of
from blackboard.claims import Claim
from blackboard.plan import Undecided
from registry import Manifest
from wrapper.context import TaskContext
from wrapper.isolation import Job, JobLimits
from wrapper.isolation.framing import RESULT_BYTES

_ROUNDS = 3


def prepare(
    manifest: Manifest,
    source: str,
    sha256: str,
    given: Mapping[str, JsonValue],
    task: TaskContext,
    *,
    wall_seconds: float,
) -> Job:
    """The job of one attempt.

    Args:
        manifest: gives the name and every limit the code can see.
        source, sha256: the code and its hash.
        given: its input.
        task: what ``sdk.current_task()`` tells it.
        wall_seconds: how long the host waits for a result; nothing the code can ask for.
    """
    limits = manifest.limits
    return Job(
        source=source,
        sha256=sha256,
        name=manifest.name,
        input=given,
        limits=JobLimits(
            wall_seconds=wall_seconds,
            # Not what the host waits, which an exam may shorten: a process can read this limit of its own.
            cpu_seconds=max(1.0, limits.attempt_seconds),
            memory_bytes=limits.memory_mb << 20,
            result_bytes=min(limits.output_bytes, RESULT_BYTES),
        ),
        task=task,
        packages=manifest.grants.importable(),
    )


def task_of(claim: Claim) -> TaskContext:
    """What code is told about the task of a claim."""
    # The task's id is its idempotency key: no other task ever has it, and every attempt at this one does.
    return TaskContext(claim.run_id, claim.task_id, claim.task_id, claim.attempt, int(claim.fence))


def made_up_task(name: str) -> TaskContext:
    """A task that is nobody's, for an exam: ids and numbers of the form a planner's call of this capability has."""
    place = made_up_place()
    task_id = f"{place.run_id}/{place.round}.{name}"
    return TaskContext(place.run_id, task_id, task_id, attempt=1, fence=int((time.time() - claim_age()) * 1e6))


def made_up_place() -> Undecided:
    """Where such a task is. Its run is as old as one whose planning model was asked first, which its id tells."""
    return Undecided(run_id_of("exam", None, time.time() - _aged(0.2, 100.0)), 1 + secrets.randbelow(_ROUNDS))


def claim_age() -> float:
    """Seconds between the claim of such a task, which its fence tells, and its start: its code is loaded and verified."""
    return _aged(0.002, 0.02)


def _aged(least: float, most: float) -> float:
    """Seconds between two bounds, each order of magnitude as likely as the others."""
    return least * (most / least) ** (secrets.randbelow(1 << 20) / (1 << 20))
