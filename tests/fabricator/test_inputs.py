"""Inputs made for properties: they fit the schema, hit its limits, come out the same each time, and cost little."""

from __future__ import annotations

import math
import random
from itertools import islice
from typing import Any

import pytest
import taxshop
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fabricator import inputs
from fabricator.specification import Specification
from registry.manifest import canonical


def spec(schema: Any, *cases: Any, sealed: Any = None, **changes: Any) -> Specification:
    public = [{"name": str(number), "input": case, "expected": number} for number, case in enumerate(cases)]
    hidden = [] if sealed is None else [{"name": "sealed", "input": sealed, "expected": -1}]
    said = {**taxshop.SPEC, "input_schema": schema, "output_schema": {"type": "integer"}, **changes}
    return Specification.model_validate({**said, "public_cases": public, "sealed_cases": hidden})


def one(**schema: Any) -> Specification:
    """A specification whose input has one member."""
    return spec({"type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False})


def values(made: Specification, most: int = 40) -> list[Any]:
    return [each["x"] for each in inputs.inputs(made, most)]


_NUMBERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional={
        "minimum": st.integers(-50, 0), "maximum": st.integers(10, 10_000), "exclusiveMinimum": st.integers(-50, 0),
        "exclusiveMaximum": st.floats(10, 1e6), "multipleOf": st.sampled_from([1, 2, 5, 0.5]),
    },
)  # fmt: skip
_TEXTS = st.fixed_dictionaries(
    {"type": st.just("string")}, optional={"minLength": st.integers(0, 5), "maxLength": st.integers(5, 80)}
)
_PLAIN = st.one_of(
    _NUMBERS,
    _TEXTS,
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["integer", "null"]}),
    st.builds(lambda given: {"enum": given}, st.lists(st.integers() | st.text(max_size=3), min_size=1, max_size=4)),
    st.builds(lambda given: {"const": given}, st.integers()),
    st.just({"type": "string", "format": "date"}),
    st.just({"$ref": "#/$defs/known"}),
)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner},
            optional={"minItems": st.integers(0, 2), "maxItems": st.integers(2, 9)},
        ),
        _objects(inner),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
        st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner}),
    )


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.dictionaries(st.sampled_from("abcd"), inner, min_size=1)
    return members.flatmap(
        lambda some: st.builds(
            lambda needed: {
                "type": "object", "properties": some, "required": sorted(needed), "additionalProperties": False
            },
            st.sets(st.sampled_from(sorted(some))),
        )
    )  # fmt: skip


_SCHEMAS = _objects(st.recursive(_PLAIN, _nested, max_leaves=6))


@settings(max_examples=80, deadline=None)
@given(_SCHEMAS)
def test_every_input_fits_its_schema_and_there_are_some(schema: Any) -> None:
    schema = {**schema, "$defs": {"known": {"type": "integer", "minimum": 3}}}
    made = inputs.inputs(spec(schema), 12)
    assert made
    assert len({canonical(each) for each in made}) == len(made) <= 12
    validator = Draft202012Validator(schema)
    for each in made:
        validator.validate(each)
    for less in islice(inputs.simpler(made[-1], schema, math.inf), 10):
        validator.validate(less)
        assert inputs.size(less) < inputs.size(made[-1])


@settings(max_examples=30, deadline=None)
@given(_SCHEMAS, st.integers(0, 1000))
def test_the_same_specification_gives_the_same_inputs(schema: Any, seed: int) -> None:
    schema = {**schema, "$defs": {"known": {"type": "integer", "minimum": 3}}}
    first = inputs.inputs(spec(schema), 12)
    random.seed(seed)
    assert inputs.inputs(spec(schema), 12) == first


def test_another_specification_gives_others() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    assert inputs.inputs(spec(schema), 30) != inputs.inputs(spec(schema, description="Something else."), 30)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer"}, [0, 1, -1]),
        ({"type": "integer", "minimum": -5, "maximum": 5}, [-5, 5, -4, 4, 0]),
        ({"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 9}, [3, 8]),
        ({"type": "integer", "minimum": 7, "multipleOf": 7}, [7, 14]),
        ({"type": "number"}, [0, 0.5, -1]),
        ({"type": "string"}, ["", "a", "ß", "a" * 60]),
        ({"type": "string", "minLength": 2, "maxLength": 4}, ["aa", "ßa", "aaaa"]),
        ({"type": "boolean"}, [True, False]),
        ({"type": ["integer", "null"]}, [0, None]),
        ({"enum": ["x", "y"]}, ["x", "y"]),
        ({"type": "array", "items": {"const": 1}}, [[], [1], [1] * 5]),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2, "uniqueItems": True}, [[True, False]]),
        ({"type": "string", "format": "date"}, ["2024-02-29"]),
    ],
)  # fmt: skip
def test_the_limits_of_a_schema_are_among_its_inputs(schema: Any, expected: list[Any]) -> None:
    found = values(one(**schema))
    for each in expected:
        assert any(each == other and type(each) is type(other) for other in found), (each, found)


def test_inputs_vary_those_of_public_cases_and_take_texts_that_no_schema_says_from_them() -> None:
    schema = {
        "type": "object",
        "properties": {"code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, "n": {"type": "integer"}},
        "required": ["code", "n"],
        "additionalProperties": False,
    }
    made = inputs.inputs(spec(schema, {"code": "AB-1234", "n": 77}, sealed={"code": "ZZ-9876", "n": 4_321}), 20)
    assert len(made) == 20
    assert any(each["n"] == 78 or each["n"] == 770 for each in made)
    assert not [each for each in made if "ZZ-9876" in canonical(each) or each["n"] == 4_321], "sealed cases stay sealed"
    assert {"code": "AB-1234", "n": 77} not in made, "what a case has is examined already"


def test_a_schema_that_branches_without_end_or_allows_nothing_gives_no_input_and_no_trouble() -> None:
    tree = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/t"}, "b": {"$ref": "#/$defs/t"}},
        "required": ["a", "b"],
    }
    endless = {**tree, "$defs": {"t": tree}}
    assert inputs.inputs(spec(endless), 5) == []
    assert values(one(type="integer", minimum=5, maximum=4), 5) == []
    assert values(one(type="array", minItems=10**9), 5) == []
    assert values(one(type="string", minLength=10**9), 5) == []
    assert values(one(type="integer", minimum=10**400), 5) == []
    assert values(one(allOf=[{"$ref": "#"}]), 5) == []


def test_wrong_results_fit_the_output_schema_and_are_none_that_the_case_expects() -> None:
    made = Specification.model_validate(taxshop.SPEC)
    wrong = inputs.wrong_results(made, 60)
    expected = {canonical(case.input): canonical(case.expected) for case in made.cases}
    assert len(wrong) > 20
    assert {canonical(each) for each, _ in wrong} == set(expected)
    for each, result in wrong:
        Draft202012Validator(made.output_schema).validate(result)
        assert canonical(result) != expected[canonical(each)]
    others = {canonical(case.expected) for case in made.cases}
    assert any(canonical(result) in others for _, result in wrong), "results of other cases are among them"


def test_simpler_inputs_leave_out_shorten_and_keep_alike_what_is_alike() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "array"}, "y": {"type": "string"}}, "required": ["x"]}
    less = list(inputs.simpler({"x": [94, 7, 94], "y": "bc"}, schema, math.inf))
    assert less == sorted(less, key=inputs.size)
    for each in (
        {"x": [94, 7, 94]},
        {"x": [7, 94], "y": "bc"},
        {"x": [0, 7, 0], "y": "bc"},
        {"x": [94, 7, 94], "y": "c"},
    ):
        assert each in less
    assert list(inputs.simpler({"x": []}, schema, math.inf)) == []
    assert list(inputs.simpler({"x": [1, 2]}, schema, 0.0)) == [], "the time for it is over"
