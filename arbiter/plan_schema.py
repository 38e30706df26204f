"""How a step of a plan is written: the JSON Schema of :class:`arbiter.plans.Step`, in words for a model.

It stands in every request to a model, so it is short: bounds are said to whoever is beyond them.
"""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from arbiter.plans import AT_ONCE

STEP: Final[dict[str, JsonValue]] = {
    "type": "object",
    "properties": {
        "key": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
        "capability": {"type": "string"},
        "input": {"type": "object"},
        "after": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Keys of tasks to wait for, beside those referred to in the input.",
        },
        "premises": {
            "type": "array",
            "maxItems": 8,
            "items": {"type": "string", "maxLength": 300},
            "description": "Ids of entries it rests on, beside what the input refers to. It is stopped, "
            "and you are told, when one of them is retracted, amended or contradicted.",
        },
        "when": {
            "type": "string",
            "description": "Conditions, or it is skipped: key.path, one of = != < <= > >= ~ (contains) ? (is there), value, as "
            "check.total>100 check.state=open load.rows.0?",
        },
        "else_of": {
            "type": "string",
            "description": "Key of a task with when or else_of: this one runs if those conditions do not hold, and its own do.",
        },
        "each": {
            "type": "string",
            "description": 'Where a list is: key#/pointer. It runs for each item, {"$ref": "item#/pointer"} in its input; its '
            "result is the list of results.",
        },
        "at_once": {"type": "integer", "description": f"Items at a time. Default {AT_ONCE}."},
        "tolerate": {"type": "integer", "description": "Items that may fail, with null as result. Default 0."},
        "wait_seconds": {"type": "number"},
        "retry": {
            "type": "object",
            "description": "max_attempts, interval_seconds, rate, cap_seconds, rules: [{errors, retry, ...}].",
        },
        "catch": {
            "type": "string",
            "description": 'Key of a task that runs if this one fails, told by {"$ref": "error#/type"} and error#/message. If it '
            "succeeds, what comes after goes on.",
        },
    },
    "required": ["key", "capability", "input"],
    "additionalProperties": False,
}
