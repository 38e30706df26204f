"""Mistakes to be planted in source are found in a child, change one place each, and leave a program that can be parsed."""

from __future__ import annotations

import ast
import inspect
import statistics
import textwrap
from functools import cache
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blackboard.types import Status
from wrapper.isolation import Job, ProcessIsolation
from wrapper.isolation.mutation import mistakes, planted

MODULES = [inspect.getsource(module) for module in (statistics, textwrap)]


def texts(source: str) -> list[tuple[str, str, str]]:
    """What is replaced, by what, and the kind."""
    data = source.encode()
    return [
        (data[each["start"] : each["end"]].decode(), str(each["text"]), str(each["what"]))
        for each in cast("list[dict[str, Any]]", mistakes(source, 1000))
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", [("a < b", "(a <= b)", "a comparison turned")]),
        ("x = a < b < c", []),
        ("x = a + b", [("a + b", "(a - b)", "another operator")]),
        ("x += y", [("x += y", "x -= y", "another operator")]),
        ("x = a and b", [("a and b", "(a or b)", "and for or")]),
        ("if a: f()", [("a", "(not (a))", "a condition reversed"), ("f()", "pass", "a step left out")]),
        ("x = -1", [("1", "(2)", "a number changed")]),
        ("x = True", [("True", "False", "true for false")]),
        ('x = "é" "b"', [('"é" "b"', "'ébx'", "a text changed")]),
        ("for i in y:\r\n    break\r\n", [("break", "pass", "a step left out")]),
        ('def f(a: "int" = 1) -> "int":\n    "Doc 1."\n', [("1", "(2)", "a number changed")]),
        ('raise ValueError("no " + "way")', []),
        ('x = f"{1 + 2} {y}"', []),
        ("import os\n", []),
        ("x = (", []),
        ("", []),
    ],
)
def test_what_is_planted_where(source: str, expected: list[tuple[str, str, str]]) -> None:
    assert texts(source) == expected


@pytest.mark.parametrize("source", MODULES)
@pytest.mark.parametrize("most", [0, 1, 12])
def test_at_most_so_many_are_spread_over_the_source(source: str, most: int) -> None:
    found = mistakes(source, most)
    assert len(found) == most
    places = [cast(int, each["start"]) for each in found]
    assert places == sorted(places)
    if most == 12:
        half = len(source.encode()) / 2
        assert 2 <= sum(place < half for place in places) <= 10
    assert found == mistakes(source, most), "the same source has the same mistakes"


@cache
def of(module: int) -> list[dict[str, object]]:
    return mistakes(MODULES[module], 60)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(range(len(MODULES))), st.integers(0, 59))
def test_each_leaves_another_program_that_differs_in_one_place(module: int, number: int) -> None:
    source, mistake = MODULES[module], of(module)[number]
    changed = planted(source.encode(), mistake)
    start, end = cast(int, mistake["start"]), cast(int, mistake["end"])
    assert changed[:start] == source.encode()[:start]
    assert changed.endswith(source.encode()[end:])
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))


async def test_a_child_finds_them_and_runs_nothing() -> None:
    source = 'raise SystemExit("this must not run")\nx = 1 + 2\n'
    async with ProcessIsolation(preload_strands=False, parked=1) as isolation:
        outcome = await isolation.run(Job.of(source, op="mistakes", input={"most": 2}))
        assert (outcome.status, outcome.value) == (Status.SUCCEEDED, mistakes(source, 2))
        broken = await isolation.run(Job.of("def (", op="mistakes", input={"most": 2}))
        assert (broken.status, broken.value) == (Status.SUCCEEDED, [])
