"""A fifth story: a run that fails late, and its rerun, which takes over what succeeded and does the rest."""

from __future__ import annotations

from pydantic import JsonValue

from arbiter.testing.story import Scene
from blackboard.accepting import run_id_of
from blackboard.types import RetryPolicy
from registry import capability
from wrapper.context import current_task
from wrapper.failing import Permanent

_KEY = "again"


@capability(effects="writes", retry=RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01))
def carry(number: int) -> int:
    """Carry one out; the last cannot be in the first run.

    Args:
        number: of it
    """
    task = current_task()
    if number == 2 and task is not None and task.run_id == run_id_of("default", _KEY):
        raise Permanent("not in this run")
    return number


_PLAN: list[dict[str, JsonValue]] = [
    {"key": "one", "capability": "carry", "input": {"number": 7}},
    {"key": "two", "capability": "carry", "input": {"number": {"$ref": "one"}}},
    {
        "key": "all",
        "capability": "carry",
        "input": {"number": {"$ref": "item"}},
        "each": "request#/numbers",
        "at_once": 1,
        "after": ["two"],
    },
    {"key": "end", "capability": "carry", "input": {"number": {"$ref": "all#/2"}}},
]


async def reruns(scene: Scene) -> JsonValue:
    """How both ended, what the second came to, and which of its tasks were taken over."""
    from wrapper.models import ScriptedModel

    never = ScriptedModel(["never asked"])
    async with scene.arbiter(capabilities=(carry,), model=never, roles=("arbiter", "wrapper")) as a:
        first = await a.result(await a.submit({"numbers": [0, 1, 2]}, plan=_PLAN, idempotency_key=_KEY))
        result = await a.result(await a.rerun(first.run_id))
        done = {task.key: task.completion for task in result.state.work}
        taken = sorted(key for key, one in done.items() if one is not None and one.taken_over_from)
        return [first.status, result.status, result.answer, *taken]
