"""Plans that are carried on without the model: choices, maps, waits and caught failures, on a real board."""

from __future__ import annotations

from typing import Any

from arbiter_support import arbiter, call, completions

from arbiter.tools import PLAN
from blackboard.testing import RedisServer


def step(key: str, capability: str, /, _: Any = None, **more: Any) -> dict[str, Any]:
    return {"key": key, "capability": capability, "input": {}, **more}


async def test_a_choice_runs_the_first_step_whose_conditions_hold(redis_server: RedisServer) -> None:
    plan = call(
        PLAN,
        tasks=[
            step("sum", "add", input={"a": 2, "b": 3}),
            step("much", "echo", input={"text": "much"}, when="sum.sum>100"),
            step("some", "echo", input={"text": "some"}, when="sum.sum>1", else_of="much"),
            step("none", "echo", input={"text": "none"}, else_of="some"),
            step("say", "echo", input={"text": {"$first": ["much", "some", "none"]}}),
            step("after", "echo", input={"text": "x"}, after=["much", "some", "none"]),
        ],
    )
    async with arbiter(redis_server.url, [plan, "{{ results.post_plan.tasks.say.data }}"]) as (a, model):
        result = await a.run("Choose.", timeout=60)
    print(model.calls[1].messages[2])
    assert result.answer == "some"
    assert set(completions(result)) == {"sum", "some", "say", "after"}
    assert len(model.calls) == 2
