"""A selection of the crash matrix: real processes, killed at chosen calls, end in the same answer. The rest by command."""

from __future__ import annotations

import ast
import asyncio
import secrets
from pathlib import Path

import pytest
from pydantic import JsonValue

from arbiter.testing.cases import Case, Outcome
from arbiter.testing.injection import BOUNDARIES, ROLES, Fault
from arbiter.testing.matrix import STORIES, opened
from arbiter.testing.story import Scene
from blackboard.errors import BadInput
from registry import Manifest

SELECTED = {
    "arbiter:commit:5:before": 2,
    "wrapper:complete:2:after": 2,
    "fabricator:catalog_register:1:after": 2,
    "client:submit:4:dropped": 1,
    "wrapper:fail:1:late": 1,
    "fabricator:progress:4:children": 1,
    "fabricator:progress:6:midway": 1,
    "skew:-86400": 1,
    "resend:1": 1,
    "desk/client:retire_run:1:after": 2,
    "desk/client:pause_run:1:lost": 1,
    "desk/client:quota_write:1:torn": 1,
    "desk/client:submit_call:1:twice": 1,
    "desk/sweeper:budget_lapse:1:server": 1,
    "desk/arbiter:commit:1:stall": 1,
    "desk/client:submit_call:1:full": 2,
    "desk/client:dead_mark:1:demoted": 1,
    "desk/client:complete:1:zombie": 1,
    "desk/wrapper:fail:1:before+sweeper:expire:1:twice": 2,
    "desk/client:entry_post:4:after": 2,
    "desk/client:entry_take:2:lost": 1,
    "desk/client:entry_lease:2:after": 2,
    "desk/client:entry_lease:1:late": 1,
    "desk/client:entry_amend:1:before": 2,
    "desk/client:entry_compact:2:after": 2,
    "desk/client:entry_compact:1:late": 1,
    "desk/client:callback_open:1:after": 2,
    "desk/client:callback_wait:1:after": 2,
    "desk/client:callback_said:2:before": 2,
    "desk/client:callback_said:2:late": 1,
    "desk/sweeper:callback_lapse:1:lost": 1,
    "desk/client:catalog_illustrate:1:after": 2,
    "desk/client:catalog_illustrating:1:late": 1,
    "desk/client:catalog_state:2:late": 1,
    "desk/client:catalog_state:3:after": 2,
    "desk/resend:0": 1,
    "bids/arbiter:commit:2:after": 2,
    "bids/arbiter:entry_amend:1:after": 2,
    "bids/sweeper:wake:1:lost": 1,
    "bids/arbiter:agenda_decide:4:after": 2,
    "plans/arbiter:commit:2:after": 2,
    "plans/arbiter:commit:3:before": 2,
    "plans/wrapper:complete:1:after": 2,
    "plans/wrapper:complete:3:late": 1,
    "reruns/arbiter:commit:7:after": 2,
    "reruns/arbiter:commit:8:before": 2,
    "reruns/client:submit:2:after": 2,
}
"""Cases and how many processes each needs, one after the other."""
ROOT = Path(__file__).parents[2]


async def forgetful(scene: Scene) -> JsonValue:
    """A story that gives another answer each time, and whose runs are never found again."""
    async with scene.arbiter(roles=()) as one:
        await one.submit("Do it.")
    return secrets.token_hex(4)


async def registering(scene: Scene) -> JsonValue:
    """A story that registers something else each time."""
    async with scene.arbiter(roles=()) as one:
        given = {"name": "each", "description": secrets.token_hex(4), "input_schema": {"type": "object"}}
        await one.registry.register(Manifest.of(given), source="def handler():\n    return 1\n")
    return True


@pytest.mark.timeout(400)
async def test_g1_to_g9_the_whole_loop_ends_the_same_whatever_call_it_dies_at() -> None:
    async with opened() as matrix:
        at_a_time = asyncio.Semaphore(4)

        async def run(named: str) -> Outcome:
            async with at_a_time:
                return await matrix.run(Case.parse(named))

        for story in STORIES:
            await matrix.baseline(story)
        outcomes = await asyncio.gather(*map(run, SELECTED))
    assert {one.case.id: (one.word, one.lives, one.problems) for one in outcomes} == {
        named: ("passed", lives, []) for named, lives in SELECTED.items()
    }


@pytest.mark.timeout(120)
async def test_a_story_that_forgets_is_found_out() -> None:
    async with opened({"forgetful": "test_crash_matrix:forgetful"}) as matrix:
        with pytest.raises(BadInput, match="without any fault"):
            await matrix.baseline("forgetful")
        with pytest.raises(BadInput, match="forgetful"):
            await matrix.run(Case("other"))


@pytest.mark.timeout(120)
async def test_what_is_registered_once_more_after_a_crash_is_found_out() -> None:
    async with opened({"registering": "test_crash_matrix:registering"}) as matrix:
        outcome = await matrix.run(Case.parse("registering/client:catalog_register:1:after"))
    assert (outcome.lives, outcome.problems) == (2, [
        "G4 each was registered 2 times, not 1", "G4 each was activated 2 times, not 1"
    ])  # fmt: skip


@pytest.mark.timeout(120)
async def test_every_script_of_the_board_is_given_every_fault() -> None:
    """Reads and writes alike: a process can die at either. What makes no sense at a script is left out by its kind."""
    async with opened() as matrix:
        cases = await matrix.cases()
    faults = [Fault.parse(case.lives[-1]) for case in cases if case.lives[-1]]
    bids = {case.row for case in cases if case.story == "bids"}
    assert bids >= {("sweeper", "wake"), ("arbiter", "entry_amend")}  # its time is over; it is awarded anew
    called: dict[str, set[str]] = {}
    for fault in faults:
        called.setdefault(fault.script, set()).add(fault.boundary)
    written = {path.stem for path in (ROOT / "blackboard" / "lua").glob("[!_]*.lua")}
    assert set(called) == written
    everywhere = {"before", "after", "lost", "dropped", "torn", "twice", "late"}
    assert {script: everywhere - made for script, made in called.items() if everywhere - made} == {}
    assert {fault.boundary for fault in faults} == set(BOUNDARIES)
    assert {role for role, _ in (case.row for case in cases)} == {*ROLES, "all"}


def test_the_selection_has_every_kind_of_fault() -> None:
    cases = [Case.parse(named) for named in SELECTED]
    assert {case.column for case in cases} == {*BOUNDARIES, "case"}


def test_every_script_call_goes_through_the_one_place_where_faults_are_made() -> None:
    found: list[str] = []
    for room in ("blackboard", "registry", "wrapper", "fabricator", "arbiter"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("_script"):
                    taken = {alias.name for alias in node.names} & {"run", "run_sync", "load"}
                    found += [f"{file.relative_to(ROOT)}:{node.lineno} {name}" for name in sorted(taken)]
    assert found == []


def test_the_id_of_a_case_is_the_case() -> None:
    for named in (*SELECTED, "undisturbed", "desk/undisturbed", "desk/skew:86400"):
        assert Case.parse(named).id == named
    for wrong in ("wrapper:complete:1", "nobody:complete:1:after", "wrapper:complete:x:after", "client:submit:1:never"):
        with pytest.raises(BadInput):
            Case.parse(wrong)
