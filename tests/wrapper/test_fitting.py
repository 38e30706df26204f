"""What code returns is held against its schema without holding up the host, however the text was made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from registry import Manifest
from wrapper import fitting
from wrapper.fitting import misfits
from wrapper.isolation import Job, Outcome, ProcessIsolation
from wrapper.isolation.detection import find

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Counted:
    """An isolation that counts what is run in it."""

    def __init__(self, inner: ProcessIsolation) -> None:
        self.inner, self.label, self.runs = inner, inner.label, 0

    async def start(self) -> None:
        await self.inner.start()

    async def run(self, job: Job, broker: Any = None, cancelled: asyncio.Event | None = None) -> Outcome:
        self.runs += 1
        return await self.inner.run(job, broker, cancelled)

    async def close(self) -> None:
        await self.inner.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[ProcessIsolation]:
    isolation, _ = await find(preload_strands=False, parked=1)
    yield isolation
    await isolation.close()


@pytest.fixture
def isolation(running: ProcessIsolation) -> Counted:
    return Counted(running)


def manifest(schema: dict[str, Any]) -> Manifest:
    return Manifest(name="x", description="x", input_schema={"type": "object"}, output_schema=schema)


def text(pattern: str) -> Manifest:
    return manifest({"type": "object", "properties": {"t": {"type": "string", "pattern": pattern}}})


HANGS = "a" * 60 + "!"


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(?:a*)*b$", "^([a-z]+,){2,}x$"])
async def test_a_text_made_for_an_expression_ends_as_a_misfit_and_the_host_goes_on(
    isolation: Counted, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.setattr(fitting, "CHECK_SECONDS", 1.0)
    found = await asyncio.wait_for(misfits(isolation, text(pattern), {"t": HANGS}), 30)
    assert found
    assert isolation.runs == 1


async def test_what_is_checked_apart_is_judged_as_here(isolation: Counted) -> None:
    made = text("^([a-z]+ ?)+$")
    assert await misfits(isolation, made, {"t": "hello there"}) == []
    (said,) = await misfits(isolation, made, {"t": "!"})
    assert said.startswith("value.t: '!' does not match")
    (said,) = await misfits(isolation, made, {"t": 5})
    assert said == "value.t: 5 is not of type 'string'"
    assert isolation.runs == 3


@pytest.mark.parametrize(
    ("pattern", "length", "apart"),
    [
        ("^[a-z]{1,64}$", 1_000_000, False),
        ("^[A-Z]{2}-[0-9]{4}$", 1_000_000, False),
        ("^[a-z0-9-]+$", 3_000, False),
        ("[a-z]+$", 4_000, True),
        ("^[a-z]+@[a-z]+$", 200, False),
        ("^[a-z]+@[a-z]+$", 300, True),
        (r"^\*\+$", 1_000_000, False),
        (r"^a{3,}b{2,}c*$", 100, True),
    ],
)
async def test_only_what_could_take_long_is_checked_apart(
    isolation: Counted, pattern: str, length: int, apart: bool
) -> None:
    await misfits(isolation, text(pattern), {"t": "a" * length})
    assert isolation.runs == int(apart)


async def test_expressions_for_names_count_too(isolation: Counted) -> None:
    made = manifest({"type": "object", "patternProperties": {"^(x+)+$": {"type": "integer"}}})
    assert await misfits(isolation, made, {"xx": 1}) == []
    assert await misfits(isolation, made, {"xx": "1"}) == ["value.xx: '1' is not of type 'integer'"]
    assert isolation.runs == 2


async def test_a_result_too_large_to_be_handed_over_is_a_misfit(isolation: Counted) -> None:
    (said,) = await misfits(isolation, text("^(a+)+$"), {"t": "a" * (5 << 20)})
    assert "could not be held against" in said
