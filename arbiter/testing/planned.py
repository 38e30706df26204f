"""A fourth story: a plan, some of which is held back, and goes on while other work of its run does.

One branch is over only when what another one holds back has run, and the first item of a list only when the last has: if either
waited for what it has nothing to do with, the run would not end.
"""

from __future__ import annotations

import asyncio

from pydantic import JsonValue

from arbiter.sdk import Arbiter
from arbiter.testing.story import Scene
from blackboard.types import RetryPolicy
from registry import capability
from wrapper.context import current_task

_SOON = RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01)
_open: list[Arbiter] = []
"""What the capability below reads through."""


async def _there(topic: str) -> None:
    task = current_task()
    assert task is not None
    board = _open[-1].entries.within(f"run:{task.run_id}")
    while not (await board.query(topic)).entries:
        await asyncio.sleep(0.01)


@capability(effects="reads", retry=_SOON)
async def linger(until: str) -> str:
    """Go on until something has a result.

    Args:
        until: topic of it
    """
    await _there(until)
    return until


@capability(effects="pure", retry=_SOON)
def say(text: str) -> str:
    """Say it.

    Args:
        text: what
    """
    return text


@capability(effects="reads", retry=_SOON)
async def item(number: int) -> int:
    """Carry one out; the first is over when the last is.

    Args:
        number: of it
    """
    if number == 0:
        await _there("results.item.all_3")
    return number


_PLAN: list[dict[str, JsonValue]] = [
    {"key": "slow", "capability": "linger", "input": {"until": "results.say.chosen"}},
    {"key": "quick", "capability": "say", "input": {"text": "x"}},
    {"key": "chosen", "capability": "say", "input": {"text": {"$ref": "quick"}}, "when": "quick=x"},
    {"key": "other", "capability": "say", "input": {"text": "no"}, "else_of": "chosen"},
    {
        "key": "all",
        "capability": "item",
        "input": {"number": {"$ref": "item"}},
        "each": "request#/numbers",
        "at_once": 2,
    },
    {
        "key": "end",
        "capability": "say",
        "input": {"text": {"$first": ["other", "chosen"]}},
        "after": ["slow"],
        "when": "all.3=3",
    },
]


async def plans(scene: Scene) -> JsonValue:
    """The answer of the plan, and the keys of the tasks it came to."""
    from wrapper.models import ScriptedModel

    never = ScriptedModel(["never asked"])
    async with scene.arbiter(capabilities=(linger, say, item), model=never, roles=("arbiter", "wrapper")) as a:
        _open.append(a)
        run = await a.submit({"numbers": [0, 1, 2, 3]}, plan=_PLAN, idempotency_key="plan")
        result = await a.result(run)
        return [result.status, result.answer, *sorted(task.key for task in result.state.work)]
