"""How a step of a plan is written: the JSON Schema of :class:`arbiter.plans.Step`, in words for a model."""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from arbiter.plans import AT_ONCE, MOST_AT_ONCE, MOST_ATTEMPTS, MOST_SECONDS

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
            "minLength": 1,
            "maxLength": 2000,
            "description": "Conditions, all of which must hold, or it is skipped. Each is a key and a path with dots, one of "
            "= != < <= > >= ~ (contains) ? (is there), and a value: check.total>100 check.state=open load.rows.0? What is absent "
            "fulfils none.",
        },
        "else_of": {
            "type": "string",
            "description": "Key of a task with when, or which is itself the else of one: this one runs only if those conditions "
            "do not hold, and its own when, if it has one, does.",
        },
        "each": {
            "type": "string",
            "maxLength": 500,
            "description": "Where a list is, as '<key>#/pointer' or 'request#/pointer': it runs once for each item, which its "
            'input refers to as {"$ref": "item#/pointer"}. Its result is the list of their results, in the same order.',
        },
        "at_once": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_AT_ONCE,
            "description": f"With each: how many items at a time. Default {AT_ONCE}.",
        },
        "tolerate": {
            "type": "integer",
            "minimum": 0,
            "maximum": 100_000,
            "description": "With each: how many items may fail; their results are null. Default 0.",
        },
        "wait_seconds": {
            "type": "number",
            "minimum": 0,
            "maximum": MOST_SECONDS,
            "description": "It starts that long after it could have.",
        },
        "retry": {
            "type": "object",
            "description": f"In place of the capability's own policy: max_attempts (at most {MOST_ATTEMPTS}), interval_seconds, "
            "rate, cap_seconds, and rules, a list of {errors: [types], retry, max_attempts, ...}.",
        },
        "catch": {
            "type": "string",
            "description": "Key of a task that runs only if this one fails; its input may refer to "
            '{"$ref": "error#/type"} and {"$ref": "error#/message"}. If it succeeds, what comes after this one goes on.',
        },
    },
    "required": ["key", "capability", "input"],
    "additionalProperties": False,
}
