"""What code returns is held against its schema without holding up the host, however the text was made."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from registry import Manifest
from wrapper import fitting
from wrapper.fitting import misfits, unfit


def manifest(schema: dict[str, Any]) -> Manifest:
    return Manifest(name="x", description="x", input_schema={"type": "object"}, output_schema=schema)


def text(pattern: str) -> Manifest:
    return manifest({"type": "object", "properties": {"t": {"type": "string", "pattern": pattern}}})


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(?:a*)*b$", "^([a-z]+,){2,}x$"])
@pytest.mark.parametrize("length", [60, 1_000_000])
async def test_a_text_made_for_an_expression_ends_as_a_misfit_and_the_host_goes_on(pattern: str, length: int) -> None:
    """By backtracking, sixty characters would take longer than anybody lives."""
    found = await asyncio.wait_for(misfits(text(pattern), {"t": "a" * length + "!"}), 30)
    assert len(found) == 1
    assert found[0].startswith("t: ")


async def test_expressions_for_names_count_too() -> None:
    made = manifest({"type": "object", "patternProperties": {"^(x+)+$": {"type": "integer"}}})
    assert await misfits(made, {"xx": 1}) == []
    assert await misfits(made, {"xx": "1"}) == ["xx: '1' is not of type 'integer'"]
    assert await misfits(made, {"x" * 60 + "!": "1"}) == []


@pytest.mark.parametrize(
    ("value", "beside"),
    [
        ({"t": "a"}, False),
        ({"t": "a" * 1_000_000}, True),
        ({"a" * 1_000_000: 1}, True),
        ({"t": "a", "more": [0] * 3_000}, True),
        ({"t": "a", "more": ["a" * 1_000] * 300}, True),
    ],
)
async def test_what_is_large_is_looked_at_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, value: Any, beside: bool
) -> None:
    seen: list[bool] = []

    def looked(made: Manifest, given: Any) -> list[str]:
        seen.append(threading.current_thread() is not threading.main_thread())
        return []

    monkeypatch.setattr(fitting, "validate_output", looked)
    monkeypatch.setattr(fitting, "validate_input", looked)
    await misfits(text("a"), value)
    await unfit(text("a"), value)
    assert seen == [beside, beside]
