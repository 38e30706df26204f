"""A run that was ended from outside says nothing about the candidate."""

from __future__ import annotations

import asyncio

import pytest

from blackboard.errors import IsolationUnavailable
from blackboard.types import Failure, Status
from fabricator.exam import Bench
from fabricator.specification import Case
from registry import Manifest
from wrapper.isolation import Broker, Job, Outcome

ENDED = Failure(type="isolation", message="The zygote ended during the run, and the run with it.", retryable=True)
CASES = [Case(name="one", input={}, expected=1)]


class Interrupted:
    """An isolation whose first runs are ended from outside; the others return 1."""

    label = "process"

    def __init__(self, interruptions: int, error: Failure = ENDED) -> None:
        self.left, self.error = interruptions, error

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, job: Job, broker: Broker | None = None, cancelled: asyncio.Event | None = None) -> Outcome:
        self.left -= 1
        return Outcome(Status.FAILED, error=self.error) if self.left >= 0 else Outcome(Status.SUCCEEDED, 1)


def bench(isolation: Interrupted) -> Bench:
    manifest = Manifest(name="one", description="gives one", input_schema={"type": "object"})
    return Bench(isolation, manifest, "def handler():\n    return 1\n", case_seconds=1.0)


async def test_an_interrupted_case_is_run_again() -> None:
    assert (await bench(Interrupted(2)).examine(CASES)).passed


async def test_an_isolation_that_always_fails_is_not_the_candidates_fault() -> None:
    with pytest.raises(IsolationUnavailable):
        await bench(Interrupted(9)).examine(CASES)


async def test_a_candidate_that_is_killed_each_time_fails_its_exam() -> None:
    killed = Failure(type="crashed", message="killed by SIGKILL", retryable=True)
    assert not (await bench(Interrupted(9, killed)).examine(CASES)).passed
