"""Small things several tests of this room share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from arbiter import Arbiter, Limits, ScriptedModel, capability
from blackboard.types import Completion

GENERIC_ROLES = ("arbiter", "wrapper")


@capability
def add(a: int, b: int) -> dict[str, int]:
    """Add two whole numbers.

    Args:
        a: the first
        b: the second
    """
    return {"sum": a + b}


@capability
def echo(text: str) -> str:
    """Return the text it was given."""
    return text


@capability(effects="pure")
def broken(reason: str) -> str:
    """Fail for a stated reason."""
    raise RuntimeError(reason)


@capability
async def rows(count: int) -> list[dict[str, Any]]:
    """Make rows, numbered from 0."""
    await asyncio.sleep(0)
    return [{"n": n, "text": "x" * 50} for n in range(count)]


FUNCTIONS = (add, echo, broken, rows)


@asynccontextmanager
async def arbiter(url: str, turns: Sequence[Any], **options: Any) -> AsyncIterator[tuple[Arbiter, ScriptedModel]]:
    """An Arbiter on a board of its own that plans by a script."""
    model = options.pop("model", None) or ScriptedModel(list(turns))
    options = {"capabilities": FUNCTIONS, "roles": GENERIC_ROLES, "limits": Limits(), "grace_seconds": 1.0, **options}
    async with Arbiter(url, model, board="t" + uuid.uuid4().hex[:12], **options) as one:
        yield one, model


def call(name: str, /, **given: Any) -> dict[str, Any]:
    return {"tool": name, "input": given}


def completions(result: Any) -> dict[str, Completion]:
    """By task key."""
    return {task.key: task.completion for task in result.state.work}


def answers(result: Any) -> list[Any]:
    """The immediate answers of calls that became no task, in order."""
    return [call.answer for turn in result.state.rounds for call in turn.calls if not call.tasks]
