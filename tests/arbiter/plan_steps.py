"""What tests of plans share."""

from __future__ import annotations

from typing import Any

from arbiter import RunResult, ScriptedModel, capability
from arbiter.following import Followed, Following
from arbiter.tools import PLAN
from wrapper.models.quoting import unquoted


@capability
def half(n: int) -> dict[str, int]:
    """Half of an even number."""
    if n % 2:
        raise ValueError(f"{n} is odd")
    return {"n": n // 2}


def step(key: str, capability_name: str, /, given: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"key": key, "capability": capability_name, "input": given or {}, **more}


def say(key: str, text: Any, **more: Any) -> dict[str, Any]:
    return step(key, "echo", {"text": text}, **more)


def ref(where: str) -> dict[str, str]:
    return {"$ref": where}


def post(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"tool": PLAN, "input": {"tasks": [*steps]}}


def told(model: ScriptedModel, request: int = -1) -> dict[str, Any]:
    """What the model was told of each step of its plan."""
    import json

    content = model.calls[request].messages[-1]["content"]
    block = next(part["toolResult"] for part in content if "toolResult" in part)
    found = json.loads(unquoted(block["content"][0]["text"]))["tasks"]
    return found | {"": block["status"]}


def followed(result: RunResult, turn: int = 1) -> dict[str, Followed]:
    """What became of the steps of the plan of a round."""
    return Following(result.state, result.state.rounds[turn - 1]).steps


def keys(result: RunResult) -> list[str]:
    """Of the tasks, in the order they were posted."""
    return [task.key for task in result.state.work]
