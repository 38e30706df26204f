"""Rows of a reference table, many at a time: the good ones come in, of each other one is said what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.peers.records import import_records

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}


def row(tool: str = "add", **changes: Any) -> dict[str, Any]:
    config = {"filename": f"{tool}.py", "schema": SCHEMA, "description": f"Does {tool}.", "action": {"target": "tools"}}
    return {"toolId": tool, "config": {**config, **changes}}


def test_good_rows_come_in_and_bad_ones_are_named_with_row_field_value_and_remedy() -> None:
    found = import_records(
        [row("add"), row("sub", schema="{"), row("mul", description=""), row("add"), {"config": {}}, row("neg")]
    )
    assert [one.manifest.name for one in found.imported] == ["add", "neg"]
    assert [one.filename for one in found.imported] == ["add.py", "neg.py"]
    assert [(each.number, each.name, each.problem.field, each.problem.value) for each in found.refused] == [
        (1, "sub", "rows[1].schema", "{"),
        (2, "mul", "rows[2].description", ""),
        (3, "add", "rows[3].toolId", "add"),
        (4, "", "rows[4].toolId", None),
    ]
    assert all(each.problem.remedy for each in found.refused)
    assert "rows[0]" in found.refused[2].problem.remedy


def test_rows_as_dynamodb_exports_them_come_in() -> None:
    exported = {
        "Item": {
            "agentId": {"S": "Order-Validator"},
            "version": {"N": "3"},
            "config": {
                "M": {
                    "filename": {"S": "agent.py"},
                    "schema": {"S": json.dumps(SCHEMA)},
                    "description": {"S": "Validates orders."},
                    "action": {"M": {"type": {"S": "sqs"}, "target": {"S": "https://sqs/1/Agents"}}},
                    "ratio": {"N": "0.5"},
                    "sizes": {"NS": ["1", "2.5"]},
                    "categories": {"L": [{"S": "orders"}, {"NULL": True}, {"BOOL": False}]},
                }
            },
        }
    }
    (one,) = import_records([exported]).imported
    assert (one.manifest.name, one.manifest.action, one.filename) == ("order_validator", "agents", "agent.py")
    kept = one.manifest.provenance["record"]
    assert kept["version"] == 3  # type: ignore[index, call-overload]
    assert (kept["ratio"], kept["sizes"], kept["categories"]) == (0.5, [1, 2.5], ["orders", None, False])  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"N": "many"}, "extra"),
        ({"N": None}, "extra"),
        ({"NS": ["1", "x"]}, "extra"),
        ({"NS": 1}, "extra"),
        ({"M": 3}, "extra"),
        ({"L": 3}, "extra"),
        ({"M": {"inner": {"L": [{"S": "fine"}, "bare"]}}}, "extra.inner[1]"),
    ],
)
def test_a_value_that_is_not_of_its_dynamodb_type_keeps_only_its_own_row_out(value: Any, field: str) -> None:
    def typed(name: str, **more: Any) -> dict[str, Any]:
        texts = {"toolId": name, "filename": f"{name}.py", "schema": json.dumps(SCHEMA), "description": "Adds."}
        return {**{key: {"S": text} for key, text in texts.items()}, "blob": {"B": "aGk="}, **more}

    found = import_records([typed("bad", extra=value), typed("add")])
    assert [one.manifest.name for one in found.imported] == ["add"]
    assert [each.problem.field for each in found.refused] == [f"rows[0].{field}"]


def test_capabilities_of_a_table_are_for_whom_it_is_read() -> None:
    for given, tenant in (({}, "*"), ({"tenant": "acme"}, "acme")):
        (one,) = import_records([row("add")], **given).imported
        assert one.manifest.tenant == tenant


@pytest.mark.parametrize("state", ["inactive", "Maintenance"])
def test_rows_that_are_switched_off_stay_out(state: str) -> None:
    found = import_records([row("add", state=state), {**row("sub"), "state": state}, row("neg", state="active")])
    assert found.off == ("add", "sub")
    assert [one.manifest.name for one in found.imported] == ["neg"]
    assert found.refused == ()


def test_what_is_no_row_is_said_to_be_none() -> None:
    found = import_records([3, [], "x"])  # type: ignore[list-item]
    assert [each.problem.field for each in found.refused] == ["rows[0]", "rows[1]", "rows[2]"]
