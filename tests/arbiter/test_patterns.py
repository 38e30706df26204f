"""Event patterns: every field named must match, and what is no pattern is refused with the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.patterns import Pattern
from blackboard.errors import BadInput

EVENT: dict[str, Any] = {
    "type": "dev.arbiter.task.completed.v1", "source": "/arbiter/arbiter/main", "subject": "r1/1.a",
    "data": {"status": "failed", "attempts": 2, "error": {"type": "handler_error", "retryable": True}, "node": None,
             "labels": ["red", "Green"], "parts": [{"n": 1}, {"n": 7}], "empty": []},
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ({"subject": ["r1/1.a"]}, None),
        ({"subject": ["r2", "r1/1.a"]}, None),
        ({"subject": ["r1"]}, "subject"),
        ({"subject": [{"prefix": "r1/"}]}, None),
        ({"subject": [{"prefix": "1"}]}, "subject"),
        ({"subject": [{"suffix": ".a"}], "type": [{"suffix": ".v2"}]}, "type"),
        ({"data": {"status": [{"equals-ignore-case": "FAILED"}]}}, None),
        ({"data": {"status": [{"anything-but": "succeeded"}]}}, None),
        ({"data": {"status": [{"anything-but": ["succeeded", "failed"]}]}}, "data.status"),
        ({"data": {"status": [{"anything-but": {"prefix": "fa"}}]}}, "data.status"),
        ({"data": {"absent": [{"anything-but": "x"}]}}, "data.absent"),
        ({"data": {"attempts": [2]}}, None),
        ({"data": {"attempts": ["2"]}}, "data.attempts"),
        ({"data": {"attempts": [{"numeric": [">", 1, "<=", 2]}]}}, None),
        ({"data": {"attempts": [{"numeric": ["=", 3]}]}}, "data.attempts"),
        ({"data": {"status": [{"numeric": [">", 0]}]}}, "data.status"),
        ({"data": {"error": {"retryable": [True]}}}, None),
        ({"data": {"error": {"retryable": [1]}}}, "data.error.retryable"),
        ({"data": {"error": {"retryable": [{"numeric": ["=", 1]}]}}}, "data.error.retryable"),
        ({"data": {"node": [None]}}, None),
        ({"data": {"error": [{"exists": True}], "gone": [{"exists": False}]}}, None),
        ({"data": {"status": [{"exists": False}]}}, "data.status"),
        ({"data": {"status": {"deeper": ["x"]}}}, "data.status.deeper"),
        ({"data": {"status": {"deeper": [{"exists": False}]}}}, None),
        ({"data": {"labels": ["red"]}}, None),
        ({"data": {"labels": ["green"]}}, "data.labels"),
        ({"data": {"empty": [{"exists": False}]}}, None),
        ({"data": {"parts": {"n": [{"numeric": [">", 5]}]}}}, None),
        ({"data": {"parts": {"n": [8]}}}, "data.parts.n"),
        ({"$or": [{"subject": ["x"]}, {"data": {"attempts": [2]}}]}, None),
        ({"$or": [{"subject": ["x"]}, {"data": {"attempts": [3]}}], "type": ["y"]}, "$or"),
        ({"type": [{"prefix": "dev."}, {"suffix": "nothing"}]}, None),
    ],
)  # fmt: skip
def test_a_pattern_tells_whether_an_event_is_meant_and_which_field_is_not(pattern: Any, first: str | None) -> None:
    assert Pattern(pattern).mismatch(EVENT) == first
    assert Pattern(json.dumps(pattern)).matches(EVENT) is (first is None)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{", "not strict JSON"),
        ('{"type": ["x"], "type": ["y"]}', 'the key "type" stands twice'),
        ({}, "object of fields"),
        ([], "object of fields"),
        ({"type": "x"}, "pattern.type: 'x'"),
        ({"type": []}, "An empty list"),
        ({"type": [["x"]]}, "A list is in no list"),
        ({"type": [{"prefix": 1}]}, "Use prefix, suffix"),
        ({"type": [{"wildcard": "*"}]}, "Use prefix, suffix"),
        ({"type": [{"prefix": "a", "suffix": "b"}]}, "Use one operator"),
        ({"data": {"n": [{"numeric": [">"]}]}}, "pattern.data.n: .*numeric bounds"),
        ({"data": {"n": [{"numeric": ["~", 1]}]}}, "numeric bounds"),
        ({"data": {"n": [{"numeric": [">", True]}]}}, "numeric bounds"),
        ({"$or": {}}, "list of patterns"),
        ({"$or": [{"type": []}]}, "An empty list"),
    ],
)  # fmt: skip
def test_what_is_no_pattern_is_refused_with_the_field(pattern: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Pattern(pattern)


def test_a_pattern_that_goes_too_deep_is_refused() -> None:
    deep: Any = {"a": ["x"]}
    for _ in range(20):
        deep = {"a": deep}
    with pytest.raises(BadInput, match="At most 16 levels"):
        Pattern(deep)


LEAF = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2)
)


@given(
    event=st.dictionaries(st.text("ab", max_size=1), VALUE, max_size=3), wanted=st.lists(LEAF, min_size=1, max_size=3)
)
def test_anything_but_is_the_opposite_of_any_of_for_a_field_with_one_value(
    event: dict[str, Any], wanted: list[Any]
) -> None:
    value = event.get("a", [])
    if isinstance(value, list):
        return
    any_of, but = Pattern({"a": wanted}), Pattern({"a": [{"anything-but": wanted}]})
    assert any_of.matches(event) is not but.matches(event)
    assert Pattern({"$or": [{"a": [one]} for one in wanted]}).matches(event) is any_of.matches(event)
