"""A selection of the crash matrix: real processes, killed at chosen calls, end in the same answer. The rest by command."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from pydantic import JsonValue

from arbiter.testing.matrix import Case, Outcome, opened
from arbiter.testing.story import Scene
from blackboard.errors import BadInput

SELECTED = {
    "wrapper:complete:2:after": 2,
    "arbiter:commit:5:before": 2,
    "fabricator:catalog_register:1:after": 2,
    "client:submit:4:dropped": 1,
    "wrapper:fail:1:late": 1,
    "resend:1": 1,
    "skew:-86400": 1,
}
"""Cases and how many processes each needs."""


async def forgetful(scene: Scene) -> JsonValue:
    """A story that gives another answer each time, and whose runs are never found again."""
    async with scene.arbiter(roles=()) as one:
        await one.submit("Do it.")
    return secrets.token_hex(4)


@pytest.mark.timeout(180)
async def test_g1_to_g9_the_whole_loop_ends_the_same_whatever_call_it_dies_at() -> None:
    async with opened() as matrix:
        await matrix.baseline()
        at_a_time = asyncio.Semaphore(2)

        async def run(named: str) -> Outcome:
            async with at_a_time:
                return await matrix.run(Case.parse(named))

        outcomes = await asyncio.gather(*map(run, SELECTED))
    assert {one.case.id: (one.word, one.lives, one.problems) for one in outcomes} == {
        named: ("passed", lives, []) for named, lives in SELECTED.items()
    }


@pytest.mark.timeout(120)
async def test_a_story_that_forgets_is_found_out() -> None:
    async with opened("test_crash_matrix:forgetful") as matrix:
        with pytest.raises(RuntimeError, match="without any fault"):
            await matrix.baseline()


def test_the_id_of_a_case_is_the_case() -> None:
    for named in (*SELECTED, "undisturbed", "wrapper:complete:1:before+sweeper:expire:1:after"):
        assert Case.parse(named).id == named
    for wrong in ("wrapper:complete:1", "nobody:complete:1:after", "wrapper:complete:x:after", "client:submit:1:never"):
        with pytest.raises(BadInput):
            Case.parse(wrong)
