"""JSON from outside: one meaning for every reader, or a refusal that says which key stands twice and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackboard import strict_json
from blackboard.errors import BadInput
from blackboard.settings_file import table

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_says_one_thing_is_read_as_it_is(value: Any) -> None:
    assert strict_json.loads(json.dumps(value)) == value
    assert strict_json.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("text", ['{"a": ["\\ud800"]}', '{"\\uDC00": 1}', '"\\udc00\\ud800"', '"\ud800"'])
def test_half_of_a_surrogate_pair_is_no_text(text: str) -> None:
    with pytest.raises(strict_json.NotStrict, match="half of a surrogate pair"):
        strict_json.loads(text)


def test_a_whole_surrogate_pair_and_an_escaped_escape_are_read() -> None:
    assert strict_json.loads('["\\ud83d\\ude00", "\\\\ud800"]') == ["😀", "\\ud800"]


@given(JSON, st.text(), JSON, JSON)
def test_a_key_that_stands_twice_is_never_read(outer: Any, key: str, first: Any, last: Any) -> None:
    name = json.dumps(key)
    twice = f"{{{name}: {json.dumps(first)}, {name}: {json.dumps(last)}}}"
    with pytest.raises(strict_json.NotStrict, match="stands twice"):
        strict_json.loads(f'[{json.dumps(outer)}, {{"held": {twice}}}]')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": 2, "a": 3}', 'the key "a" stands twice'),
        ('{"a": 1, "\\u0061": 3}', 'the key "a" stands twice'),
        ('{"rules": [{}, {"if": {"x": 1, "x": 1}}]}', 'the key "x" stands twice in $.rules[1].if'),
        ('{"a": {"b": 1, "b": 2}, "a": 0}', 'the key "a" stands twice'),
        ('{"' + "k" * 500 + '": {"b": 1, "b": 2}}', f'the key "b" stands twice in $.{"k" * 79}'),
        ("[NaN]", "NaN is no number of JSON"),
        ("-Infinity", "-Infinity is no number of JSON"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_refusal_names_the_key_and_the_object(text: str, said: str) -> None:
    with pytest.raises(strict_json.NotStrict) as refused:
        strict_json.loads(text)
    assert str(refused.value) == said


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", b"\xff"])
def test_what_is_no_json_is_no_less_an_error(text: str | bytes) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        strict_json.loads(text)
    assert not isinstance(refused.value, strict_json.NotStrict)


def test_settings_that_say_a_thing_twice_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "approval.json"
    file.write_text('{"effects": ["irreversible"], "effects": []}')
    with pytest.raises(BadInput, match='the key "effects" stands twice') as refused:
        table(file, "approval", "Write an object.")
    assert (refused.value.field, refused.value.value) == ("approval", str(file))
