"""When a result is the expected one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabricator.comparison import difference

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def test_a_name_as_long_as_a_value_is_not_told_whole() -> None:
    name = "k" * 1_000_000
    for expected, got in (({}, {name: 1}), ({name: 1}, {}), ({name: {"a": 1}}, {name: {"a": 2}})):
        said = difference(expected, got)
        assert said is not None
        assert len(said) < 1_000


@given(JSON)
def test_every_value_equals_itself_after_a_round_trip_and_in_any_order(value: Any) -> None:
    def backwards(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: backwards(item[key]) for key in reversed(item)}
        return [backwards(each) for each in item] if isinstance(item, list) else item

    assert difference(value, json.loads(json.dumps(backwards(value)))) is None


@given(JSON, JSON)
def test_it_is_symmetric(one: Any, other: Any) -> None:
    assert (difference(one, other) is None) == (difference(other, one) is None)


@pytest.mark.parametrize(
    ("expected", "got"),
    [(1, 1.0), (0.3, 0.1 + 0.2), (-0.0, 0), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (10**400, 10**400)],
)
def test_numbers_are_numbers(expected: Any, got: Any) -> None:
    assert difference(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got", "said"),
    [
        (True, 1, "$: expected true, got 1"),
        (0, False, "$: expected 0, got false"),
        (1, "1", '$: expected 1, got "1"'),
        (None, 0, "$: expected null, got 0"),
        (None, {}, "$: expected null, got {}"),
        (2**53, 2**53 + 1, f"$: expected {2**53}, got {2**53 + 1}"),
        (10**400, 1.5, "$: expected 1"),
        (0.3, 0.31, "$: expected 0.3, got 0.31"),
        ([1, 2], [2, 1], "$[0]: expected 1, got 2"),
        ([1], [1, 2], "$: expected 1 items, got 2"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "$.a[0].b: expected 1, got 2"),
        ({"a": 1}, {}, "$.a: expected 1, got nothing"),
        ({}, {"a": 1}, "$.a: expected no such member, got 1"),
        ({"a": None}, {}, "$.a: expected null, got nothing"),
    ],
)
def test_what_differs_is_named_with_its_place(expected: Any, got: Any, said: str) -> None:
    assert (difference(expected, got) or "").startswith(said)
