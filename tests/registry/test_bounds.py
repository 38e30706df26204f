"""Checking costs no more than it is given, and says what an unbounded check says wherever that ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from blackboard.errors import BadInput
from registry import bounds
from registry.schema import check_schema, problems

TEXT = {"type": "string"}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps, so that using them up takes no time."""
    monkeypatch.setattr(bounds, "STEPS", 100_000)


def said(schema: Any, value: Any) -> list[str]:
    return problems(json.dumps(schema), value)


def test_a_name_as_long_as_a_value_is_not_told_whole() -> None:
    value = {"k" * 1_000_000: dict.fromkeys("abc", "x")}
    schema = {"additionalProperties": {"additionalProperties": {"type": "integer"}}}
    lines = said(schema, value)
    assert len(lines) == 3
    assert all(len(line) < 1_000 and line.endswith("'x' is not of type 'integer'") for line in lines)


# ---- expressions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    ["^(?=.*[A-Z]).+$", "(?!x)y", "(?<=a)b", r"(a)\1", "a{2000}", "[", "(" * 5_000 + ")" * 5_000, "a" * 5_000],
)
@pytest.mark.parametrize("place", ["property", "name", "inside", "definition"])
def test_an_expression_that_could_take_for_ever_or_is_none_is_refused_where_it_stands(pattern: str, place: str) -> None:
    leaf = {"type": "string", "pattern": pattern}
    schema: dict[str, Any] = {
        "property": {"type": "object", "properties": {"t": leaf}},
        "name": {"type": "object", "patternProperties": {pattern: {}}},
        "inside": {"type": "object", "anyOf": [{"properties": {"t": {"items": {"not": leaf}}}}]},
        "definition": {"type": "object", "$defs": {"t": leaf}},
    }[place]
    with pytest.raises(BadInput) as refused:
        check_schema("input_schema", schema, top="object")
    assert str(refused.value).startswith("input_schema")


def test_the_refusal_names_the_place_and_says_how_to_write_it() -> None:
    schema = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^(?=x)"}}}
    with pytest.raises(BadInput, match=r"input_schema\.properties\.code\.pattern.*linear time.*looking ahead"):
        check_schema("input_schema", schema)


def test_words_that_are_no_expressions_are_left_alone() -> None:
    check_schema(
        "s",
        {
            "type": "object",
            "properties": {"pattern": {"type": "string", "default": "(?=x)"}, "x": {"default": {"pattern": "(?=x)"}}},
            "examples": [{"pattern": "(?=x)"}],
        },
    )


def test_a_stored_schema_with_such_an_expression_fits_nothing_and_says_why() -> None:
    """What an earlier version registered is not judged again when it is read."""
    (problem,) = said({"properties": {"t": {"pattern": "^(?=a)"}}}, {"t": "a"})
    assert problem.startswith("schema: invalid perl operator")
    assert said({"properties": {"t": {"pattern": "^(?=a)"}}}, {"u": "a"}) == []


@pytest.mark.parametrize(
    ("pattern", "fits", "not_fits"),
    [
        ("^[a-z0-9]+(?:-[a-z0-9]+)*$", "a-b-c", "a--b"),
        (r"^\d{4}-\d{2}-\d{2}$", "2026-01-31", "2026-1-31"),
        (r"^é+$", "éé", "e"),
        (r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$", "a.b@c.de", "a@b"),
        (r"\\u0041", r"\u0041", "A"),
        (r"^a\Z", "a", "ab"),
        ("", "anything", None),
    ],
)
def test_expressions_mean_what_they_mean_elsewhere(pattern: str, fits: str, not_fits: str | None) -> None:
    check_schema("s", {"pattern": pattern})
    assert said({"pattern": pattern}, fits) == []
    assert not_fits is None or said({"pattern": pattern}, not_fits) != []
    assert said({"pattern": pattern}, 5) == []


def test_half_of_a_surrogate_pair_is_no_reason_to_break() -> None:
    assert said({"pattern": "^a"}, "a\ud800") == []
    assert said({"pattern": "^.$"}, "\ud800") == []


def test_a_text_too_long_for_a_large_expression_does_not_fit(few: None) -> None:
    schema = {"pattern": "(?:(?:a?){30}){30}b"}
    check_schema("s", schema)
    (problem,) = said(schema, "a" * 2_000)
    assert said(schema, "a" * 20) != []
    assert "takes too much" in problem


# ---- the rest of a schema ------------------------------------------------------------------------------------------------


def laughs(depth: int, keyword: str = "allOf") -> dict[str, Any]:
    """A few hundred characters that are 2**depth schemas."""
    each = {f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {"type": "object", "allOf": [{"$ref": "#/$defs/d0"}], "$defs": {**each, f"d{depth}": {"minProperties": 0}}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_references_that_branch_without_end_are_refused(keyword: str) -> None:
    schema = laughs(60, keyword)
    if keyword == "anyOf":  # the first branch fits, so the others are not looked at
        schema["$defs"]["d60"] = {"minProperties": 1}
    with pytest.raises(BadInput, match="fewer references branch"):
        check_schema("input_schema", schema, top="object")
    check_schema("input_schema", laughs(5), top="object")


def test_a_schema_that_costs_only_with_a_value_lets_that_value_not_fit(few: None) -> None:
    schema = {"properties": {"x": laughs(40)}, "$defs": laughs(40)["$defs"]}
    check_schema("s", schema)
    assert said(schema, {}) == []
    (problem,) = said(schema, {"x": {}})
    assert "takes too much" in problem


def test_each_check_is_given_steps_of_its_own(few: None) -> None:
    schema = {"properties": {"x": laughs(40)}, "$defs": laughs(40)["$defs"]}
    said(schema, {"x": {}})
    assert said({"type": "integer"}, 5) == []


def test_items_are_compared_in_the_time_it_takes_to_read_them() -> None:
    """By comparing each with each, this would be two hundred million comparisons, ten minutes of them."""
    many: list[Any] = [{"n": n} for n in range(20_000)]
    assert said({"uniqueItems": True}, many) == []
    assert "non-unique" in said({"uniqueItems": True}, [*many, {"n": 5}])[0]


@pytest.mark.parametrize(("words", "bounded"), [(2_000, True), (10, False)])
def test_a_long_list_of_words_times_a_long_list_of_items_is_bounded(few: None, words: int, bounded: bool) -> None:
    schema = {"items": {"enum": [f"w{n}" for n in range(words)]}}
    found = said(schema, [f"w{words - 1}"] * 1_000)
    assert bool(found) == bounded, found


@pytest.mark.parametrize("schema", [{"x": "y" * 1_100_000}, {"pattern": "a{99999999999}"}])
def test_what_is_huge_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        check_schema("s", schema)


def test_what_decides_about_members_by_expressions_in_two_ways_is_refused() -> None:
    schema = {"type": "object", "patternProperties": {"^a": {}}, "unevaluatedProperties": False}
    with pytest.raises(BadInput, match="unevaluatedProperties"):
        check_schema("s", schema)
    check_schema("s", {"type": "object", "properties": {"a": {}}, "unevaluatedProperties": False})


# ---- the same as ever ----------------------------------------------------------------------------------------------------

scalars = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, 0.5, -0.0]) | st.text("ab1é", max_size=3)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3)
)
patterns = st.sampled_from(["^a", "b$", "^[ab]+$", "a|1", "^$", "é"])


def schemas() -> Any:
    leaf = st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "object", "array", "integer", "null"]), "pattern": patterns,
            "enum": st.lists(scalars, min_size=1, max_size=3), "const": scalars, "uniqueItems": st.booleans(),
            "minLength": st.integers(0, 2), "required": st.lists(st.text("ab", max_size=2), max_size=2, unique=True),
        },
    )  # fmt: skip

    def around(inner: Any) -> Any:
        return st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
                "patternProperties": st.dictionaries(patterns, inner, max_size=2),
                "additionalProperties": st.booleans() | inner, "items": inner, "not": inner,
                "anyOf": st.lists(inner, min_size=1, max_size=2), "contains": inner, "propertyNames": inner,
                "uniqueItems": st.booleans(),
            },
        )  # fmt: skip

    return st.recursive(leaf, around, max_leaves=6)


@given(schemas(), values)
def test_a_value_fits_exactly_when_it_fits_without_bounds(schema: Any, value: Any) -> None:
    bounds.give(bounds.STEPS)
    assert bounds.validator(json.dumps(schema)).is_valid(value) == Draft202012Validator(schema).is_valid(value)
