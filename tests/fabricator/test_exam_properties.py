"""Properties hold candidates to more than their cases: on inputs made by code, judged by checks that hold no candidate."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import taxshop
import test_exam_strength

from arbiter.cli.output import exam_line
from blackboard.errors import UnknownRecord
from blackboard.types import Status
from fabricator import FabricationSettings
from fabricator.state import FabricationState
from registry import ExamRecord, Registry

Stages = Callable[[str], Awaitable[list[Any]]]

KEEPS = {
    "name": "nothing is lost",
    "says": "Each item is in the result as often as in the input.",
    "check": "def check(input, result):\n    return sorted(result) == sorted(input['items'])",
}
ORDERED = {
    "name": "in order",
    "says": "No item is greater than the one after it.",
    "check": "def check(input, result):\n    return all(one <= other for one, other in zip(result, result[1:]))",
}
SPEC: dict[str, Any] = {
    "name": "in_order",
    "description": "The items in ascending order, each as often as it was given. Nothing gives nothing.",
    "input_schema": {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"type": "integer"}}},
        "required": ["items"],
        "additionalProperties": False,
    },
    "output_schema": {"type": "array", "items": {"type": "integer"}},
    "public_cases": [
        {"name": "three", "input": {"items": [3, 1, 2]}, "expected": [1, 2, 3]},
        {"name": "none", "input": {"items": []}, "expected": []},
    ],
    "sealed_cases": [{"name": "below zero", "input": {"items": [7654321, -7654321]}, "expected": [-7654321, 7654321]}],
    "properties": [KEEPS, ORDERED],
}
RIGHT = "def handler(items: list[int]) -> list[int]:\n    return sorted(items)\n"
DROPS = "def handler(items: list[int]) -> list[int]:\n    return sorted(set(items))\n"
"""Passes every case."""


def spec(*properties: dict[str, str], **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SPEC), "properties": list(properties), **changes}


def checked(body: str, name: str = "one") -> dict[str, str]:
    """A property whose check has this body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return {"name": name, "says": "It is as it should be.", "check": f"def check(input, result):\n{lines}\n"}


def script(*sources: str, specs: list[Any] | None = None) -> Any:
    return taxshop.script(*sources, specs=specs or [SPEC], name="in_order")


async def test_code_that_passes_every_case_and_breaks_a_property_is_repaired_with_the_smallest_counterexample(
    fabricate: Any, registry: Registry, stages: Stages
) -> None:
    model = script(DROPS, RIGHT)
    done = await fabricate(model, "in_order")

    assert (done.status, done.data["repairs"]) == (Status.SUCCEEDED, 1)
    feedback = taxshop.calls(model, "generator")[1].messages[-1]["content"][0]["text"]
    assert "'nothing is lost' does not hold: Each item is in the result as often as in the input." in feedback
    assert 'Input: {"items": [0, 0]}\nGot: [0]\n' in feedback
    told = [each for each in await stages(done.orchestration_id) if each.stage == "exam_properties"]
    assert [(each.round, each.outcome) for each in told] == [(0, "failed"), (1, "passed")]
    assert told[0].evidence["property"] == "nothing is lost"
    assert told[0].evidence["counterexample"] == {"input": '{"items": [0, 0]}', "got": "[0]"}
    assert told[1].detail == "2 of 2 properties held on 25 inputs"

    exam = (await registry.resolve("in_order")).exam
    assert exam is not None
    assert (exam.properties, exam.property_inputs) == (2, 25)
    assert "; 2 properties on 25 inputs" in exam_line(await registry.resolve("in_order"))
    assert (done.data["exam"]["properties"], done.data["exam"]["properties_held"]) == (2, 2)


async def test_whoever_writes_the_code_reads_the_words_of_properties_and_never_a_check_or_a_sealed_input(
    fabricate: Any, redis_board: Any
) -> None:
    model = script(DROPS, RIGHT)
    done = await fabricate(model, "in_order")

    first = taxshop.calls(model, "generator")[0].messages[0]["content"][0]["text"]
    assert ORDERED["says"] in first
    log = [event.data.model_dump_json() for event in await redis_board.history(done.orchestration_id)]
    for text in (taxshop.said_to(model, "generator"), "\n".join(log)):
        assert "def check" not in text
        assert "zip(result" not in text
        assert "7654321" not in text


@pytest.mark.parametrize(
    ("useless", "said"),
    [
        pytest.param(checked("return True"), "was false for none of", id="always true"),
        pytest.param(checked("return isinstance(result, list)"), "was false for none of", id="says what the schema says"),
        pytest.param(checked("return len(result) == 3"), "is false for the case 'none'", id="contradicts a public case"),
        pytest.param(checked("return min([0, *result]) == 0"), "is false for the case 'below zero'", id="a sealed case"),
        pytest.param(checked("import os\nreturn True"), "its check is refused, line 2: os reaches the machine", id="reaches"),
        pytest.param(checked("return (lambda:"), "its check is refused, line 2: It is not Python", id="no Python"),
        pytest.param({**KEEPS, "check": "def holds(input, result):\n    return True"}, "NameError", id="another function"),
        pytest.param({**KEEPS, "check": "def check(one):\n    return True"}, "TypeError", id="another signature"),
        pytest.param(checked("return result[0] <= 5"), "on the case 'none': IndexError", id="raises"),
        pytest.param(checked("while True:\n    pass"), "gave no verdict on the case 'three'", id="never ends"),
        pytest.param(checked("raise SystemExit"), "gave no verdict on the case 'three'", id="exits"),
    ],
)  # fmt: skip
async def test_a_property_that_proves_nothing_goes_back_to_the_examiner_before_any_code_exists(
    fabricate: Any, stages: Stages, useless: dict[str, str], said: str
) -> None:
    model = script(RIGHT, specs=[spec(useless), SPEC])
    done = await fabricate(model, "in_order", settings=FabricationSettings(case_seconds=2.0, mistakes=0))

    assert done.status is Status.SUCCEEDED
    objection = taxshop.calls(model, "examiner")[1].messages[-1]["content"][0]["text"]
    assert "The property " in objection
    assert said in objection
    told = [(each.stage, each.outcome) for each in await stages(done.orchestration_id) if each.outcome != "started"]
    assert told[1:4] == [("specification", "failed"), ("specification", "passed"), ("generation", "passed")]
    assert done.data["exam"]["properties"] == 2, "nothing of the first answer counts"


async def test_a_property_that_stays_useless_is_an_abstention(fabricate: Any, registry: Registry) -> None:
    model = script(RIGHT, specs=[spec(checked("return True"))] * 3)
    done = await fabricate(model, "in_order")
    assert (done.status, done.error.type) == (Status.FAILED, "abstained")
    assert "its exam would prove too little: The property 'one' was false for none of" in done.error.message
    assert not taxshop.calls(model, "generator")
    with pytest.raises(UnknownRecord):
        await registry.resolve("in_order")


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ([KEEPS, KEEPS], "Names of properties must be unique"),
        ([{**KEEPS, "name": str(number)} for number in range(11)], "There are 11 properties; at most 10"),
        ([{**KEEPS, "says": ""}], "properties.0.says"),
    ],
)
async def test_properties_that_are_malformed_are_objected_to(fabricate: Any, properties: list[Any], said: str) -> None:
    model = script(RIGHT, specs=[spec(*properties), SPEC])
    assert (await fabricate(model, "in_order")).status is Status.SUCCEEDED
    assert said in taxshop.calls(model, "examiner")[1].messages[-1]["content"][0]["text"]


async def test_cases_that_are_added_later_are_held_against_the_properties_too(fabricate: Any) -> None:
    def added(expected: list[int]) -> dict[str, Any]:
        return spec(sealed_cases=[{"name": "added", "input": {"items": [5, 5]}, "expected": expected}])

    idle = "    if len(items) > 1_000_000_000:\n        return [1, 2, 3, 4, 5]\n"
    weak = RIGHT.replace("    return", f"{idle}    return")
    model = script(weak, specs=[SPEC, added([5]), added([5, 5])])
    await fabricate(model, "in_order", settings=FabricationSettings(noticed=1.0))
    asked = taxshop.calls(model, "examiner")
    assert "The exam proves too little" in asked[1].messages[-1]["content"][0]["text"]
    assert "'nothing is lost' is false for the case 'added'" in asked[2].messages[-1]["content"][0]["text"]


# ---- hostile on either side ----------------------------------------------------------------------------------------------

NOT_A_CASE = "if input['items'] not in ([3, 1, 2], [], [7654321, -7654321]):\n"


@pytest.mark.parametrize("then", ["    while True:\n        pass\n", "    raise SystemExit\n", "    raise KeyError\n"])
async def test_a_check_that_gives_no_verdict_decides_nothing(fabricate: Any, stages: Stages, then: str) -> None:
    silent = checked(f"{NOT_A_CASE}{then}return sorted(result) == sorted(input['items'])")
    settings = FabricationSettings(case_seconds=1.0, property_seconds=3.0, mistakes=0)
    done = await fabricate(script(RIGHT, specs=[spec(silent)]), "in_order", settings=settings)

    assert done.status is Status.SUCCEEDED
    (told,) = [each for each in await stages(done.orchestration_id) if each.stage == "exam_properties"]
    assert told.detail.startswith("0 of 1 properties held on ")
    assert told.detail.endswith(" inputs; of 1 no verdict came")
    assert (done.data["exam"]["properties"], done.data["exam"]["properties_held"]) == (1, 0)


FORGES = """
from operator import attrgetter
import random

def check(input, result):
    body = b'{"t":"done","value":{"handler":{"parameters":[]},"passed":true}}'
    for number in range(3, 9):
        try:
            attrgetter("_os")(random).write(number, len(body).to_bytes(4, "big") + body)
        except OSError:
            pass
    return True
"""


async def test_a_check_that_forges_a_verdict_speaks_for_nobody(fabricate: Any) -> None:
    model = script(RIGHT, specs=[spec({**KEEPS, "check": FORGES}), SPEC])
    done = await fabricate(model, "in_order")
    assert done.status is Status.SUCCEEDED
    assert "gave no verdict" in taxshop.calls(model, "examiner")[1].messages[-1]["content"][0]["text"]


LOOKS = """
import random
from operator import attrgetter

def check(input, result):
    system = attrgetter("_os")(random)
    try:
        system.stat(BAIT)
        return False
    except OSError:
        pass
    modules = attrgetter("sys.modules")(system)
    sources = [line for _, _, lines, _ in modules["linecache"].cache.values() for line in lines]
    own = [line for line in sources if "own = [line" in line]
    return bool(own) and "sorted(" "items)" not in "".join(sources) and sorted(result) == sorted(input["items"])
"""
"""What the static policy does not see. True only where it finds itself, and neither the candidate nor the file."""


async def test_a_check_holds_no_candidate_and_no_file_of_the_host(fabricate: Any, tmp_path: Any) -> None:
    bait = tmp_path / "bait"
    bait.write_text("bait")
    looks = {**KEEPS, "check": LOOKS.replace("BAIT", repr(str(bait)))}
    done = await fabricate(script(RIGHT, specs=[spec(looks)]), "in_order")
    assert (done.status, done.data["exam"]["properties_held"]) == (Status.SUCCEEDED, 1)


PATCHES = """
import sys
from heapq import nsmallest

def handler(items):
    found = [*dict.fromkeys(nsmallest(99, items))]
    modules = sys.modules
    modules["builtins"].sorted = lambda *given, **more: []
    print('{"t":"done","value":[true,true,true]}', flush=True)
    return found
"""


async def test_a_candidate_cannot_reach_the_check_that_judges_it(fabricate: Any) -> None:
    settings = FabricationSettings(repairs=0, extra_imports=("sys",))
    done = await fabricate(script(PATCHES), "in_order", settings=settings)
    assert done.status is Status.FAILED
    assert (done.error.evidence["stage"], done.error.evidence["property"]) == ("exam_properties", "nothing is lost")
    assert done.error.evidence["counterexample"] == {"input": '{"items": [0, 0]}', "got": "[0]"}


# ---- inputs that have no result ------------------------------------------------------------------------------------------


async def test_an_input_that_fits_the_schema_and_crashes_the_code_is_a_failure_with_the_smallest_such_input(
    fabricate: Any,
) -> None:
    crashes = RIGHT.replace("    return", "    if -5 in items or len(items) > 3:\n        {}[0]\n    return")
    model = script(crashes, RIGHT)
    done = await fabricate(model, "in_order")

    assert (done.status, done.data["repairs"]) == (Status.SUCCEEDED, 1)
    feedback = taxshop.calls(model, "generator")[1].messages[-1]["content"][0]["text"]
    assert "This input fits input_schema and has no result." in feedback
    assert 'Input: {"items": [0, 0, 0, 0]}' in feedback
    assert "handler_error: KeyError" in feedback
    assert "raise ValueError" in feedback


async def test_a_result_that_does_not_fit_the_output_schema_is_a_failure_too(fabricate: Any) -> None:
    odd = RIGHT.replace("    return", "    if len(items) == 1:\n        return ['one']\n    return")
    model = script(odd, RIGHT)
    assert (await fabricate(model, "in_order")).data["repairs"] == 1
    feedback = taxshop.calls(model, "generator")[1].messages[-1]["content"][0]["text"]
    assert 'Input: {"items": [0]}\nGot: ["one"]\nIt does not fit output_schema' in feedback


@pytest.mark.parametrize(
    "does",
    [
        "raise ValueError('items: at most three are sorted. Give fewer.')",
        "int('x')",
        "while True:\n            pass",
        "return [0] * 100_000_000",
    ],
)
async def test_an_input_that_is_refused_or_too_dear_says_nothing(fabricate: Any, stages: Stages, does: str) -> None:
    refuses = RIGHT.replace("    return", f"    if len(items) > 3:\n        {does}\n    return")
    settings = FabricationSettings(case_seconds=1.0, mistakes=0)
    done = await fabricate(script(refuses), "in_order", settings=settings)
    assert (done.status, done.data["repairs"]) == (Status.SUCCEEDED, 0)
    exam = done.data["exam"]
    assert 0 < exam["property_inputs"] < 25
    assert exam["property_refused"] == (25 - exam["property_inputs"] if "int" in does or "raise" in does else 0)


async def test_code_that_refuses_all_but_its_cases_is_on_record_with_that(
    fabricate: Any, registry: Registry, stages: Stages
) -> None:
    cases = [case["input"]["items"] for case in (*SPEC["public_cases"], *SPEC["sealed_cases"])]
    knows = RIGHT.replace("    return", f"    if items not in {cases}:\n        raise ValueError(items)\n    return")
    done = await fabricate(script(knows), "in_order", settings=FabricationSettings(noticed=0.0))
    assert done.status is Status.SUCCEEDED
    (told,) = [each for each in await stages(done.orchestration_id) if each.stage == "exam_properties"]
    assert told.detail == "0 of 2 properties held on 0 inputs; 25 inputs were refused; of 2 no verdict came"
    version = await registry.resolve("in_order")
    assert version.exam is not None
    assert (version.exam.properties, version.exam.property_inputs, version.exam.property_refused) == (0, 0, 25)
    assert "; 25 inputs refused" in exam_line(version)


# ---- how far it goes -----------------------------------------------------------------------------------------------------


async def test_an_exam_with_good_properties_notices_mistakes_that_its_cases_do_not(fabricate: Any) -> None:
    weak = test_exam_strength.WEAK
    bare = await fabricate(taxshop.script(taxshop.RIGHT, specs=[{**weak, "name": "bare"}]), "bare",
                           settings=FabricationSettings(noticed=0.0))  # fmt: skip
    model = taxshop.script(taxshop.RIGHT, specs=[{**weak, "properties": [taxshop.CLOSE]}])
    done = await fabricate(model)
    assert done.status is Status.SUCCEEDED
    assert len(taxshop.calls(model, "examiner")) == 1, "the exam proves enough"
    assert done.data["exam"]["mistakes_noticed"] >= bare.data["exam"]["mistakes_noticed"] + 3


async def test_properties_of_what_may_ask_a_model_are_not_tested_which_is_told(fabricate: Any, stages: Stages) -> None:
    done = await fabricate(script(DROPS, specs=[{**SPEC, "grants": {"model": True}}]), "in_order")
    assert done.status is Status.SUCCEEDED
    (told,) = [each for each in await stages(done.orchestration_id) if each.stage == "exam_properties"]
    assert (told.outcome, told.detail) == ("skipped", "not tested: what it may reach need not answer twice alike")
    assert (done.data["exam"]["properties"], done.data["exam"]["properties_held"]) == (2, 0)


async def test_no_inputs_means_no_property_is_tested(fabricate: Any, stages: Stages) -> None:
    settings = FabricationSettings(property_inputs=0)
    done = await fabricate(script(DROPS, specs=[spec(checked("return True"))]), "in_order", settings=settings)
    assert done.status is Status.SUCCEEDED
    assert not [each for each in await stages(done.orchestration_id) if each.stage == "exam_properties"]


async def test_inputs_for_which_there_is_no_time_are_not_tried_and_decide_nothing(
    fabricate: Any, stages: Stages
) -> None:
    done = await fabricate(script(DROPS), "in_order", settings=FabricationSettings(property_seconds=1e-9))
    assert done.status is Status.SUCCEEDED
    (told,) = [each for each in await stages(done.orchestration_id) if each.stage == "exam_properties"]
    assert told.detail == "0 of 2 properties held on 0 inputs; of 2 no verdict came"


async def test_what_was_stored_before_there_were_properties_is_still_read() -> None:
    old = {
        "layout": 1,
        "drafts": [{"text": "{}", "objections": []}],
        "candidates": [
            {
                "text": "x",
                "sha": "y",
                "verdict": {
                    "stage": "exam_strength",
                    "passed": True,
                    "public": [2, 2],
                    "mistakes": [3, 4],
                    "when": 1.0,
                },
            }
        ],
        "brought": [],
        "near": [],
    }
    state = FabricationState.load(old)  # type: ignore[arg-type]
    assert state.drafts[0].refused is False
    verdict = state.candidates[0].verdict
    assert verdict is not None
    assert (verdict.mistakes, verdict.properties, verdict.inputs) == ((3, 4), (0, 0), 0)
    exam = ExamRecord.model_validate({"public_cases": 2, "sealed_cases": 1, "passed": True, "when": 1.0})
    assert (exam.properties, exam.property_inputs) == (0, 0)
