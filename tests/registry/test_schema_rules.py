"""A schema is refused where the specification's own rules refuse it, however quickly that is found out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from blackboard.errors import BadInput
from registry import sight
from registry.schema import check_schema

WRONG: list[Any] = [
    {"type": "objekt"}, {"properties": []}, {"properties": {"a": {"type": 5}}}, {"properties": {"a": 5}}, {"required": "a"},
    {"required": ["a", "a"]}, {"minimum": "x"}, {"minLength": -1}, {"$ref": 5}, {"$id": "#x#"}, {"items": [1]}, {"allOf": []},
    {"allOf": [{"type": "x"}]}, {"anyOf": {}}, {"$defs": {"a": {"enum": 5}}}, {"dependentRequired": {"a": [1]}}, {"if": 3},
    {"$anchor": "1x"}, {"multipleOf": 0}, {"contains": {"not": {"type": "q"}}}, {"dependencies": {"a": {"type": "q"}}},
    {"definitions": {"a": 7}}, {"$vocabulary": {"x": 1}}, {"unevaluatedItems": "no"}, {"contentSchema": {"type": "n"}},
    {"format": 3}, {"title": 4}, {"propertyNames": {"type": ["string", "string"]}}, {"deprecated": "yes"},
    {"prefixItems": [{}, {"type": "array", "items": {"type": "zz"}}]}, {"$schema": 5}, {"$dynamicRef": []},
]  # fmt: skip
RIGHT: list[Any] = [
    {}, {"type": ["string", "null"], "pattern": "^a+$"}, {"properties": {"a": True, "b": {"const": {"type": 7}}}},
    {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, {"enum": [1, "x", None]}, {"unheard": {"of": 1}},
    {"definitions": {"a": {}}, "dependencies": {"a": ["b"], "c": {"minProperties": 1}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", WRONG, ids=str)
def test_what_the_specification_refuses_is_refused_at_its_place(schema: Any) -> None:
    with pytest.raises(SchemaError):
        Draft202012Validator.check_schema(schema)
    with pytest.raises(BadInput) as refused:
        check_schema("schema", schema)
    assert refused.value.field.startswith(("schema.", "schema["))


@pytest.mark.parametrize("schema", RIGHT, ids=str)
def test_what_the_specification_allows_is_allowed(schema: Any) -> None:
    Draft202012Validator.check_schema(schema)
    check_schema("schema", schema)


TEXTS = ["string", "number", "", "x", "(a)+", "(a", "a{9,1}"]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(-2, 2), st.sampled_from(TEXTS), st.just({}),
    st.lists(st.sampled_from(["a", "b", 1]), max_size=3),
)  # fmt: skip
KEYWORDS = st.sampled_from([*sight._VALUES, *sight._ONE, *sight._LISTS, "properties", "contains", "$ref"])  # pyright: ignore[reportPrivateUsage]
SCHEMAS: Any = st.recursive(
    st.dictionaries(KEYWORDS, VALUES, max_size=2),
    lambda parts: st.dictionaries(
        KEYWORDS, st.one_of(VALUES, parts, st.lists(parts, max_size=2), st.dictionaries(st.sampled_from("ab"), parts, max_size=2))
    ),
    max_leaves=4,
)  # fmt: skip


@given(SCHEMAS)
def test_what_is_valid_at_sight_is_what_the_specification_allows(schema: Any) -> None:
    if sight.valid(schema):
        Draft202012Validator.check_schema(schema)


def test_usual_parameters_are_valid_at_sight_and_what_is_refused_is_not() -> None:
    usual = {"type": "string", "description": "The city.", "minLength": 1, "pattern": "^[a-z]+$", "enum": ["a", "b"]}
    part = {"anyOf": [usual, {"type": "array", "items": {"type": "integer", "minimum": 0}}], "default": None}
    assert sight.valid(
        {"type": "object", "properties": {f"p{number}": part for number in range(3)}, "required": ["p1"]}
    )
    for wrong in WRONG:
        assert not sight.valid(wrong)
