"""The order example: the kitchen's capabilities, the scripted cheesecake and its exam, and both demos' scripts."""

import json
import re
import types
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_invoice_data import INVOICES, module

from blackboard import references
from registry import schema
from wrapper.models import script as scripts

ORDERS = INVOICES.parent / "orders"


@cache
def kitchen() -> dict[str, Any]:
    return {each.manifest.name: each for each in module(ORDERS / "capabilities.py").CAPABILITIES}


@cache
def specification() -> dict[str, Any]:
    return json.loads((ORDERS / "script" / "cheesecake.spec.json").read_text(encoding="utf-8"))


def cheesecake(**arguments: Any) -> dict[str, Any]:
    loaded = types.ModuleType("cheesecake_candidate")
    exec((ORDERS / "script" / "cheesecake.py.txt").read_text(encoding="utf-8"), loaded.__dict__)
    return loaded.handler(**arguments)


def test_the_kitchen_can_fry_and_read_but_not_bake() -> None:
    assert set(kitchen()) == {"read_recipe", "fries", "receipt"}
    for each in kitchen().values():
        assert each.manifest.output_schema is not None
        for name, described in each.manifest.input_schema["properties"].items():
            assert described.get("description"), name


def test_large_fries_come_from_the_menu_and_the_recipe() -> None:
    ticket = kitchen()["fries"](order_id="12345", size="large")
    # 210 g of a 600 g batch: 350 of 1000 g potatoes, 31.5 of 90 ml oil, 2.1 of 6 g salt, 1.4 of 4 g seasoning.
    assert [each["quantity"] for each in ticket["ingredients"]] == [350, 32, 3, 2]
    assert (ticket["price_cents"], ticket["price"]) == (475, "4.75")
    assert (ticket["hands_on_minutes"], ticket["total_minutes"]) == (8, 16)
    assert ticket["allergens"] == ["celery"]
    assert schema.validate_output(kitchen()["fries"].manifest, ticket) == []


def test_an_item_or_a_size_that_is_not_on_the_menu_is_refused_with_what_is() -> None:
    with pytest.raises(ValueError, match=r"huge.*fries \(small\)"):
        kitchen()["fries"](order_id="1", size="huge")
    with pytest.raises(ValueError, match=r"pizza.*cheesecake \(slice\)"):
        kitchen()["read_recipe"](item="pizza", size="large")
    with pytest.raises(ValueError, match=r"lemonade.*no recipe"):
        kitchen()["read_recipe"](item="lemonade", size="large")


@pytest.mark.parametrize("part", ["public_cases", "sealed_cases"])
def test_the_scripted_cheesecake_passes_its_exam(part: str) -> None:
    assert 3 <= len(specification()[part]) <= 6
    for case in specification()[part]:
        jsonschema.validate(case["input"], specification()["input_schema"])
        jsonschema.validate(case["expected"], specification()["output_schema"])
        assert cheesecake(**case["input"]) == case["expected"], case["name"]


def test_the_scripted_cheesecake_keeps_its_properties() -> None:
    for each in specification()["properties"]:
        loaded = types.ModuleType("cheesecake_check")
        exec(each["check"], loaded.__dict__)
        for case in specification()["public_cases"] + specification()["sealed_cases"]:
            assert loaded.check(case["input"], cheesecake(**case["input"])), (each["name"], case["name"])
            assert not loaded.check(case["input"], {**case["expected"], "cakes": 99, "allergens": ["", ""]}), each[
                "name"
            ]


def test_a_slice_for_the_order_needs_one_cake_from_the_books() -> None:
    recipe = kitchen()["read_recipe"](item="cheesecake", size="slice")
    given = {"order_id": "12345", "portions": 1, "recipe": recipe}
    jsonschema.validate(given, specification()["input_schema"])
    ticket = cheesecake(**given)
    jsonschema.validate(ticket, specification()["output_schema"])
    assert (ticket["cakes"], ticket["price"], ticket["total_minutes"]) == (1, "5.95", 402)
    assert ticket["allergens"] == ["egg", "gluten", "milk"]


@pytest.mark.parametrize("folder", [ORDERS, INVOICES], ids=["orders", "invoices"])
def test_a_script_names_existing_files_and_a_scene_for_each_of_the_three_roles(folder: Path) -> None:
    script = scripts.load(folder / "script" / "model.json")
    for role in ("Arbiter", "Examiner", "Fabricator"):
        fitting = [scene for scene in script.scenes if scene.fits(f"You are the {role}. …", _asked(folder, role))]
        assert len(fitting) == 1, role


@pytest.mark.parametrize("folder", [ORDERS, INVOICES], ids=["orders", "invoices"])
def test_the_planned_tasks_fit_the_schemas_of_what_they_call(folder: Path) -> None:
    """Runs the script's plan in order with the real functions, and the scripted module for the one that is missing."""
    known = {each.manifest.name: each for each in module(folder / "capabilities.py").CAPABILITIES}
    missing = "cheesecake" if folder == ORDERS else "find_invoice_exceptions"
    spec = json.loads((folder / "script" / f"{missing}.spec.json").read_text(encoding="utf-8"))
    code = types.ModuleType(missing)
    exec((folder / "script" / f"{missing}.py.txt").read_text(encoding="utf-8"), code.__dict__)
    request = json.loads((folder / "event.json").read_text(encoding="utf-8"))
    done: dict[str, Any] = {}
    for step in _planned(folder):
        given = _filled(step["input"], request)
        given = references.resolve(given, {key: done[key] for key in references.keys(given)})
        if step["capability"] == missing:
            jsonschema.validate(given, spec["input_schema"])
            done[step["key"]] = code.handler(**given)
        else:
            called = known[step["capability"]]
            assert schema.validate_input(called.manifest, given) == []
            done[step["key"]] = called.result(called(**called.arguments(given)))
            assert schema.validate_output(called.manifest, done[step["key"]]) == []
    if folder == ORDERS:
        assert done["receipt"]["total_cents"] == 475 + 595
        assert done["receipt"]["allergens"] == ["celery", "egg", "gluten", "milk"]
    else:
        expected = module(INVOICES / "independent.py").expected_answer(INVOICES)
        assert done["summary"]["amount_at_risk_cents"] == expected["amount_at_risk_cents"]


def _asked(folder: Path, role: str) -> str:
    if role == "Arbiter":
        return (folder / "event.json").read_text(encoding="utf-8")
    return "cheesecake" if folder == ORDERS else "find_invoice_exceptions"


def _planned(folder: Path) -> list[dict[str, Any]]:
    """Every direct call and planned task of the arbiter's scene, in order; a direct call's key is its name."""
    arbiter = json.loads((folder / "script" / "model.json").read_text(encoding="utf-8"))["scenes"][0]
    steps: list[dict[str, Any]] = []
    for turn in arbiter["turns"]:
        for block in turn if isinstance(turn, list) else [turn]:
            if isinstance(block, dict) and block.get("tool") == "post_plan":
                steps += block["input"]["tasks"]
            elif isinstance(block, dict) and block.get("tool") not in (None, "request_capability"):
                steps.append({"key": block["tool"], "capability": block["tool"], "input": block["input"]})
    return steps


def _filled(value: Any, request: dict[str, Any]) -> Any:
    text = re.sub(r"\{\{ request\.(\w+) \}\}", lambda found: request[found[1]], json.dumps(value))
    return json.loads(text)
