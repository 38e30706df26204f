"""The tools the arbiter offers the model besides the capabilities themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import JsonValue

from arbiter import board_tools
from arbiter.plan_schema import STEP
from arbiter.questions import ASK
from blackboard.taint import PERSON
from registry import Version, origin
from registry.matching.contract import JSON_TYPES
from wrapper.models import quoted

if TYPE_CHECKING:
    from strands.types.tools import ToolSpec

SEARCH: Final = "search_capabilities"
REQUEST: Final = "request_capability"
PLAN: Final = "post_plan"
OPEN: Final = "open_request"
"""Only in runs with an agenda: without one nobody hears it."""
WAIT: Final = "wait_for_tasks"
STOP: Final = "stop_tasks"
"""Both only in runs whose model is asked though tasks are at work."""


def _spec(name: str, description: str, properties: dict[str, JsonValue], required: list[str]) -> ToolSpec:
    schema: dict[str, JsonValue] = {
        "type": "object",
        "properties": properties,
        "required": [*required],
        "additionalProperties": False,
    }
    return {"name": name, "description": description, "inputSchema": {"json": schema}}


def built_in() -> list[ToolSpec]:
    """Specifications of the arbiter's own tools, in Bedrock's inner ``toolSpec`` shape."""
    return [
        _spec(
            SEARCH,
            "Search the registry for capabilities that are not among the tools shown. What is found becomes callable in "
            "the next round.",
            {
                "query": {"type": "string", "description": "What the capability should do, in plain words."},
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 20,
                    "description": "How many at most. Default 5.",
                },
                "inputs": {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1, "maxLength": 100},
                    "maxItems": 50,
                    "description": "Names of all values you can supply. What requires others is left out. Leave it away "
                    "if you can supply whatever is asked for.",
                },
                "output": {
                    "type": "string",
                    "enum": [*JSON_TYPES],
                    "description": "JSON type that the next task needs. What returns none is left out.",
                },
            },
            ["query"],
        ),
        _spec(
            REQUEST,
            "Ask the Fabricator to write a capability that does not exist. It is specified, written, examined and, if it "
            "passes, callable in the next round under the given name. Use it only when no capability fits, or to have one that "
            "was written like this and keeps failing replaced: then ask under its name.",
            {
                "name": {
                    "type": "string",
                    "pattern": "^[a-z][a-z0-9_]{0,63}$",
                    "description": "Name of the new capability, a verb phrase such as 'convert_currency'.",
                },
                "need": {
                    "type": "string",
                    "minLength": 10,
                    "description": "What it must do: inputs, outputs and rules, precisely enough to test it.",
                },
                "input_hint": {"description": "An example or a sketch of the input it will be called with."},
            },
            ["name", "need"],
        ),
        _spec(
            PLAN,
            "Post several tasks at once. Tasks that do not depend on each other run in parallel. A task may use what an "
            'earlier one returned: put {"$ref": "<key>#/json/pointer"} where the value belongs. Use it whenever data '
            "flows from one capability to the next, so that the data need not pass through you. A plan may choose (when, "
            "else_of), loop (each), wait and catch failures; you are asked again when it is over. After a choice, "
            '{"$first": ["<key>#/pointer", ...]} is the first result there is.',
            {
                "tasks": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 100,
                    "items": STEP,
                }
            },
            ["tasks"],
        ),
        *board_tools.specs(),
    ]


def open_request() -> ToolSpec:
    """The tool by which the model asks without naming who shall do it."""
    return _spec(
        OPEN,
        "Ask openly for something without naming who shall do it. Whoever watches the board may bid; the best bid is awarded "
        "the work, and its result is the result of this call. Use it when you do not know which capability has the answer.",
        {
            "name": {
                "type": "string",
                "pattern": "^[a-z][a-z0-9_]{0,63}$",
                "description": "A name for the request that was not used in this run before.",
            },
            "question": {
                "type": "string",
                "minLength": 1,
                "maxLength": 2000,
                "description": "What is wanted, in the words by which those who can would know it.",
            },
            "input": {"type": "object", "description": "What whoever does it is given."},
            "seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 2592000,
                "description": "How long bids count. Default 60.",
            },
            "fabricate": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"},
                    "need": {"type": "string", "minLength": 10},
                    "input_hint": {},
                },
                "required": ["name", "need"],
                "additionalProperties": False,
                "description": f"The capability to have written, as by {REQUEST}, if nobody bids. Default: give up then.",
            },
        },
        ["name", "question"],
    )


def ask_person() -> ToolSpec:
    """The tool by which the model asks a person."""
    return _spec(
        ASK,
        "Ask a person, whose answer is the result of this call: for a decision or a fact that only people have. It may take "
        "hours, and perhaps nobody answers; other calls of the same turn are carried out meanwhile.",
        {
            "question": {"type": "string", "minLength": 1, "maxLength": 4000, "description": "What you want to know."},
            "options": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 200},
                "minItems": 2,
                "maxItems": 20,
                "description": "The answers to choose from. Leave it away for an answer in words.",
            },
            "purpose": {"type": "string", "maxLength": 2000, "description": "What the answer is needed for."},
            "seconds": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 2592000,
                "description": "How long to wait. Leave it away unless the request says it.",
            },
            "otherwise": {
                "type": "string",
                "minLength": 1,
                "maxLength": 2000,
                "description": "The answer to go on with if nobody answers. Without it you are told that nobody did.",
            },
        },
        ["question"],
    )


def early() -> list[ToolSpec]:
    """The tools for tasks that are still at work."""
    return [
        _spec(
            WAIT,
            "Wait for the tasks that are still at work. You are asked again when all are over, when one fails, or after a while.",
            {},
            [],
        ),
        _spec(
            STOP,
            "Stop tasks that are still at work and have lost their point. What depends on them is not started. You are told how "
            "they ended like of every end.",
            {
                "tasks": {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1, "maxLength": 128},
                    "minItems": 1,
                    "maxItems": 100,
                    "description": "Their keys. Of tasks with the same key, all that are at work are stopped.",
                },
                "why": {"type": "string", "minLength": 1, "maxLength": 500, "description": "Why they are pointless."},
            },
            ["tasks", "why"],
        ),
    ]


def specs(
    capabilities: list[Version], *, agenda: bool = False, questions: bool = False, asked_early: bool = False
) -> list[ToolSpec]:
    """The whole tool list: the arbiter's own first, so that the beginning of the prompt never changes.

    Args:
        agenda: the run has one.
        questions: the model may ask a person.
        asked_early: the model is asked though tasks are at work.
    """
    more = [*([open_request()] if agenda else ()), *([ask_person()] if questions else ())]
    more += early() if asked_early else ()
    return [*built_in(), *more, *map(_offer, capabilities)]


def _offer(version: Version) -> ToolSpec:
    """A capability's specification: its own words framed, its schema without any."""
    manifest = version.manifest
    notes: dict[str, JsonValue] = {}
    bare = _bare(manifest.input_schema, "", notes)
    words = manifest.description
    if notes:
        words += f"\n\nNotes on its input, by JSON pointer into the schema:\n{json.dumps(notes, ensure_ascii=False)}"
    framed = quoted(words, "description of a capability", origin(manifest) or (PERSON,))
    return {"name": manifest.name, "description": framed, "inputSchema": {"json": bare}}


def _bare(schema: JsonValue, at: str, notes: dict[str, JsonValue]) -> Any:
    """A schema with nothing but its rules. What else it says, to readers or under keywords of its own, goes to ``notes``."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        here = f"{at}/{name}"
        if name in _NAMED and isinstance(value, dict):
            kept[name] = {key: _bare(each, f"{here}/{key}", notes) for key, each in value.items()}
        elif name in _NESTED and isinstance(value, list):
            kept[name] = [_bare(each, f"{here}/{number}", notes) for number, each in enumerate(value)]
        elif name in _NESTED:
            kept[name] = _bare(value, here, notes)
        elif name in _RULES or (name == "default" and not isinstance(value, str | list | dict)):
            kept[name] = value
        elif name not in ("$schema", "$id"):
            notes[here] = value
    return kept


_RULES = frozenset(
    {
        "type", "enum", "const", "required", "dependentRequired", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "multipleOf", "minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "minContains", "maxContains",
        "minProperties", "maxProperties", "$ref", "$dynamicRef", "$anchor", "$dynamicAnchor",
    }
)  # fmt: skip
"""What decides about a value. Whatever else a schema has is text to readers, of which it may have any under any name."""
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_NESTED = frozenset(
    {
        "items", "prefixItems", "additionalItems", "unevaluatedItems", "contains", "additionalProperties", "propertyNames",
        "unevaluatedProperties", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "contentSchema",
    }
)  # fmt: skip
