"""Facts about source are read in a child; parsing imports nothing, importing tells the real signature."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from typing import Any, Literal, cast

import pytest

from blackboard.types import Status
from wrapper.isolation import Job, Outcome, ProcessIsolation


@pytest.fixture
async def isolation() -> AsyncIterator[ProcessIsolation]:
    async with ProcessIsolation(preload_strands=False, parked=1) as running:
        yield running


async def ask(isolation: ProcessIsolation, source: str, op: Literal["inspect", "import"] = "inspect") -> Outcome:
    return await isolation.run(Job.of(textwrap.dedent(source), op=op))


async def facts(isolation: ProcessIsolation, source: str) -> dict[str, Any]:
    outcome = await ask(isolation, source)
    assert outcome.status is Status.SUCCEEDED, outcome
    return cast("dict[str, Any]", outcome.value)


HANDLER = '''
raise SystemExit("inspection must not run this")
async def handler(a: int, b: "list[str]" = [], *, c, d=1, **rest) -> dict:
    """Does it.

    More."""
'''


async def test_the_handler_is_described_without_running_anything(isolation: ProcessIsolation) -> None:
    found = await facts(isolation, HANDLER)
    assert found["syntax_error"] is None
    assert found["source_bytes"] == len(HANDLER)
    assert found["handler"] == {
        "parameters": [
            {"name": "a", "required": True, "annotation": "int", "kind": "positional_or_keyword"},
            {"name": "b", "required": False, "annotation": "'list[str]'", "kind": "positional_or_keyword"},
            {"name": "c", "required": True, "annotation": None, "kind": "keyword_only"},
            {"name": "d", "required": False, "annotation": None, "kind": "keyword_only"},
            {"name": "rest", "required": False, "annotation": None, "kind": "var_keyword"},
        ],
        "is_async": True,
        "accepts_kwargs": True,
        "docstring": "Does it.\n\nMore.",
        "returns": "dict",
        "line": 3,
    }


async def test_a_loaded_handler_is_described_as_it_really_is(isolation: ProcessIsolation) -> None:
    source = """
    import functools
    def wrong(): ...
    def right(a: int, *, b: str = "x"):
        "Right."
    handler = functools.wraps(right)(lambda *args, **kw: right(*args, **kw))
    """
    parsed = await facts(isolation, source)
    assert (parsed["handler"], parsed["handler_assigned"]) == (None, True)
    loaded = cast("dict[str, Any]", (await ask(isolation, source, "import")).value)["handler"]
    assert [(each["name"], each["required"], each["annotation"]) for each in loaded["parameters"]] == [
        ("a", True, "int"),
        ("b", False, "str"),
    ]
    assert (loaded["is_async"], loaded["accepts_kwargs"], loaded["docstring"]) == (False, False, "Right.")


async def test_importing_reports_the_same_typed_failures_as_a_call(isolation: ProcessIsolation) -> None:
    for source, type in (("import nothing_here", "import_error"), ("x = 1", "missing_handler"), ("(", "syntax_error")):
        outcome = await ask(isolation, source, "import")
        assert outcome.error is not None
        assert outcome.error.type == type


async def test_a_syntax_error_is_a_fact_with_its_place(isolation: ProcessIsolation) -> None:
    found = await facts(isolation, "def handler(\n  x x\n")
    assert found["handler"] is None
    assert found["syntax_error"]["line"] in (1, 2)
    assert found["syntax_error"]["message"]
    assert (await facts(isolation, "a\0b"))["syntax_error"]["message"]


async def test_what_a_policy_asks_about_is_all_there(isolation: ProcessIsolation) -> None:
    found = await facts(
        isolation,
        """
        import os.path as p, json
        from urllib import request as r
        from . import sibling
        def handler(ключ):
            run = eval
            __import__("socket").socket()
            getattr(handler, "__globals__")
            os.environ.get("X")
            return ().__class__.__bases__[0].__subclasses__()
        """,
    )
    imports = [(each["module"], each["names"], each["level"], each["line"]) for each in found["imports"]]
    assert sorted(imports) == [
        ("", ["sibling"], 1, 4),
        ("json", [], 0, 2),
        ("os.path", [], 0, 2),
        ("urllib", ["request"], 0, 3),
    ]
    assert {each["name"] for each in found["builtins"]} == {"eval", "__import__", "getattr"}
    assert {each["name"] for each in found["dunders"]} == {"__import__", "__class__", "__bases__", "__subclasses__"}
    assert {"os.environ", "os.environ.get"} <= {each["name"] for each in found["attributes"]}
    assert {"__import__", "getattr", "os.environ.get"} <= {each["name"] for each in found["calls"]}
    assert [each["name"] for each in found["non_ascii_identifiers"]] == ["ключ"]
    assert [each["name"] for each in found["strings"]] == ["__globals__"]
    assert {each["line"] for each in found["builtins"]} == {6, 7, 8}
    assert found["truncated"] == []


async def test_a_source_made_to_exhaust_the_parser_costs_one_child_and_nothing_else(
    isolation: ProcessIsolation,
) -> None:
    for source in ("(" * 100_000 + ")" * 100_000, "-" * 200_000 + "1", "x" + ".a" * 100_000, "a=1;" * 10_000):
        outcome = await ask(isolation, source)
        assert outcome.status is not Status.SUCCEEDED or isinstance(outcome.value, dict)
    assert (await facts(isolation, "def handler(): ..."))["handler"]["parameters"] == []


async def test_lists_too_long_to_be_useful_are_cut_and_say_so(isolation: ProcessIsolation) -> None:
    found = await facts(isolation, "\n".join(f"import m{n}" for n in range(3000)))
    assert len(found["imports"]) == 2000
    assert found["truncated"] == ["imports"]
