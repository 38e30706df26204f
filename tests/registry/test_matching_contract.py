"""Whether a capability can be used for a sub-task: what it requires, returns, does and asks for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue, ValidationError

from registry import Contract, Manifest
from registry.matching.contract import JSON_TYPES


def make(
    properties: dict[str, Any] | None = None, required: list[str] | None = None, output: dict[str, Any] | None = None
) -> Manifest:
    """A manifest with such a schema."""
    given: dict[str, JsonValue] = {"type": "object", "properties": properties or {}, "required": [*(required or [])]}
    return Manifest(name="one", description="One thing.", input_schema=given, output_schema=output)


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("city", "city"),
        ("account_id", "accountId"),
        ("account_id", "account"),
        ("date", "start_date"),
        ("invoices", "invoice"),
        ("city", "place"),
        ("location", "city"),
        ("phone_number", "mobile number"),
        ("id", "id"),
        ("q", "q"),
        ("größe", "größe"),
        ("为", "为"),
        ("A", "a"),
    ],
)
def test_a_required_input_is_supplied_by_a_name_that_says_the_same(wanted: str, there: str) -> None:
    assert Contract(inputs=("other", there)).objections(make({wanted: {}}, [wanted])) == []


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("city", "country"),
        ("start_date", "end_date"),
        ("account_id", "order_id"),
        ("account_id", "user_id"),
        ("bank", "account"),
        ("q", "p"),
        ("amount", ""),
        ("a", "the"),
    ],
)
def test_another_name_supplies_nothing(wanted: str, there: str) -> None:
    assert Contract(inputs=(there,)).objections(make({wanted: {}}, [wanted])) == [f"needs {wanted}"]


def test_what_the_schema_gives_a_default_or_a_choice_for_can_always_be_supplied() -> None:
    properties = {
        "city": {"type": "string"},
        "units": {"enum": ["metric", "imperial"]},
        "version": {"const": 2},
        "verbose": {"type": "boolean"},
        "days": {"type": "integer", "default": 3},
        "optional": {"type": "string"},
    }
    manifest = make(properties, ["city", "units", "version", "verbose", "days"])
    assert Contract(inputs=()).objections(manifest) == ["needs city"]
    assert Contract(inputs=("city",)).objections(manifest) == []
    assert Contract().objections(manifest) == []


def test_a_required_input_that_the_schema_does_not_describe_is_needed_all_the_same() -> None:
    assert Contract(inputs=()).objections(make(None, ["key"])) == ["needs key"]


@pytest.mark.parametrize(
    ("wanted", "output"),
    [
        ("string", {"type": "string"}),
        ("number", {"type": "integer"}),
        ("string", {"type": ["string", "null"]}),
        ("number", {"type": "object", "properties": {"name": {"type": "string"}, "total": {"type": "number"}}}),
        ("array", {"type": "object"}),
        ("array", {"type": "object", "properties": {"rows": {}}}),
        ("array", {"type": "object", "properties": {"rows": True}}),
        ("array", None),
        ("array", {}),
    ],
)
def test_an_output_fits_when_it_or_a_property_of_it_may_be_of_the_type(
    wanted: Any, output: dict[str, Any] | None
) -> None:
    assert Contract(output=wanted).objections(make(output=output)) == []


@pytest.mark.parametrize(
    ("wanted", "output", "said"),
    [
        ("object", {"type": "string"}, "returns string, not object"),
        ("integer", {"type": "number"}, "returns number, not integer"),
        ("string", {"type": "integer"}, "returns integer, not string"),
        ("number", {"type": "string"}, "returns string, not number"),
        ("array", {"type": ["string", "null"]}, "returns null or string, not array"),
        ("array", {"type": "object", "properties": {"name": {"type": "string"}}}, "returns object, not array"),
        ("string", {"type": "array", "items": {"type": "string"}}, "returns array, not string"),
    ],
)
def test_an_output_of_other_types_does_not(wanted: Any, output: dict[str, Any], said: str) -> None:
    assert Contract(output=wanted).objections(make(output=output)) == [said]


def test_a_type_that_is_none_is_refused() -> None:
    assert "object" in JSON_TYPES
    with pytest.raises(ValidationError):
        Contract.model_validate({"output": "date"})
