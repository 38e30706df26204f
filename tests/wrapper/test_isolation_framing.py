"""Frames say what was said, or are refused: on both ends, whatever is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from wrapper.isolation import framing

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_JSON)
def test_every_json_value_survives_a_frame(value: JsonValue) -> None:
    body = framing.encode({"value": value}, framing.DEPTH + 4)
    assert framing.decode(body) == {"value": value}


@given(st.binary(max_size=200))
def test_decoding_any_bytes_gives_an_object_or_a_violation(body: bytes) -> None:
    try:
        assert isinstance(framing.decode(body), dict)
    except framing.Violation:
        pass


def test_depth_is_counted_the_same_on_both_ends() -> None:
    value: JsonValue = 0
    for _ in range(framing.DEPTH):
        value = [value]
    framing.check(value)
    with pytest.raises(framing.NotJson, match="deeper"):
        framing.check([value])


def test_more_lists_and_objects_than_are_taken_are_refused_before_they_are_made() -> None:
    """A frame of two bytes for each would take eighty times its size in the host."""
    crowd = framing.CONTAINERS + 1
    for one in (b"[]", b"{}"):
        with pytest.raises(framing.Violation, match="more than 500,000"):
            framing.decode(b'{"t":"done","value":[' + b",".join([one] * crowd) + b"]}")
    with pytest.raises(framing.NotJson, match="more than 500,000"):
        framing.check([[]] * crowd)
    framing.check([[]] * (framing.CONTAINERS - 1))
    text = "[{" * crowd + '\\"'
    assert framing.decode(framing.encode({"value": text})) == {"value": text}, "brackets in text are text"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text('ab[{"\\é'),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=30,
    )
)
def test_what_is_json_goes_through_unchanged(value: JsonValue) -> None:
    try:
        body = framing.encode({"v": value})
    except framing.NotJson as error:
        assert "surrogate" in error.reason  # noqa: PT017
        return
    assert framing.decode(body) == {"v": value}


def test_the_sdk_outside_a_run_says_where_it_works() -> None:
    from wrapper import sdk

    with pytest.raises(RuntimeError, match="only inside a capability"):
        sdk.call("model.invoke", {})
    with pytest.raises(RuntimeError, match="only inside a capability"):
        sdk.model()
