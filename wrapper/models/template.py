"""How does a script compute its answers from what really happened?

Strings of a script may hold ``{{ expression }}``, a JMESPath expression (https://jmespath.org) over the conversation:

Data that :mod:`wrapper.models.quoting` framed is taken out of its frame.

``request``  the first user message, parsed as JSON when it is JSON (as a whole, one of its blocks, or a ```json fence)
``results``  data of the last result of each tool, by tool name
``all``      data of all results of each tool, oldest first, by tool name
``last``     data of the last tool result
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import JsonValue

from blackboard.errors import ArbiterError, BadInput
from wrapper.models.quoting import unquoted

_FENCE = re.compile(r"```json\s*\n(.*?)```", re.DOTALL)


class TemplateUnresolved(ArbiterError):
    """An expression of a script found nothing in the conversation, so there is no honest answer to give."""

    def __init__(self, expression: str, known: Mapping[str, Any]) -> None:
        results = ", ".join(sorted(known["results"])) or "none"
        super().__init__(
            f"{{{{ {expression} }}}} is null in this conversation (results of tools so far: {results}). "
            "Correct the expression, or let the script call the tool first."
        )
        self.expression = expression


def first_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the first user message, its blocks joined by line breaks; empty when there is none."""
    return "\n".join(_first_user_blocks(messages))


def _first_user_blocks(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    for message in messages:
        if message["role"] == "user":
            texts = [unquoted(str(block["text"])) for block in message["content"] if "text" in block]
            if texts:
                return texts
    return []


def _request(messages: Sequence[Mapping[str, Any]]) -> JsonValue:
    blocks = _first_user_blocks(messages)
    text = "\n".join(blocks)
    for candidate in (text, *blocks, *_FENCE.findall(text)):
        try:
            return cast("JsonValue", json.loads(candidate))
        except ValueError:
            continue
    return text


def _data(result: Mapping[str, Any]) -> JsonValue:
    parts = [_part(part) for part in result.get("content", ())]
    return parts[0] if len(parts) == 1 else parts


def _part(part: Mapping[str, Any]) -> JsonValue:
    if "json" in part:
        return cast("JsonValue", part["json"])
    text = unquoted(str(part.get("text", "")))
    try:
        return cast("JsonValue", json.loads(text))
    except ValueError:
        return text


def conversation_data(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What expressions may refer to; see the module's docstring."""
    names: dict[str, str] = {}
    every: dict[str, list[JsonValue]] = {}
    last: JsonValue = None
    for message in messages:
        for block in message["content"]:
            if "toolUse" in block:
                names[block["toolUse"]["toolUseId"]] = block["toolUse"]["name"]
            elif "toolResult" in block:
                last = _data(block["toolResult"])
                name = names.get(block["toolResult"]["toolUseId"], "unknown")
                every.setdefault(name, []).append(last)
    results = {name: found[-1] for name, found in every.items()}
    return {"request": _request(messages), "results": results, "all": every, "last": last}


def _split(template: str) -> list[tuple[str, str | None]]:
    """Cut a template into (literal, expression or None) pairs.

    An expression ends at the first ``}}`` that makes it valid JMESPath, because ``{a: {b: c}}`` contains one, too.
    """
    pieces: list[tuple[str, str | None]] = []
    at = 0
    while (opened := template.find("{{", at)) >= 0:
        closed, end, found = opened + 1, -1, ""
        while (closed := template.find("}}", closed + 1)) >= 0:
            found = template[opened + 2 : closed].strip()
            if _compiles(found):
                end = closed + 2
                break
        if end < 0:
            raise BadInput(
                "template", template[opened:], "Write {{ expression }} with a valid JMESPath expression (jmespath.org)."
            )
        pieces.append((template[at:opened], found))
        at = end
    pieces.append((template[at:], None))
    return pieces


def _compiles(expression: str) -> bool:
    try:
        jmespath.compile(expression)
    except JMESPathError:
        return False
    return True


def check(value: JsonValue) -> None:
    """Refuse a value that holds an expression which is not JMESPath.

    Raises:
        BadInput: naming the expression.
    """
    if isinstance(value, str):
        _split(value)
    elif isinstance(value, dict):
        for item in value.values():
            check(item)
    elif isinstance(value, list):
        for item in value:
            check(item)


def render(value: JsonValue, data: Mapping[str, Any]) -> JsonValue:
    """Evaluate every expression in a JSON value.

    A string that is one expression and nothing else keeps the type of its result; inside other text, results that are
    not strings are written as JSON.

    Raises:
        TemplateUnresolved: an expression is null here.
    """
    if isinstance(value, dict):
        return {key: render(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, data) for item in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    pieces = _split(value)
    if len(pieces) == 2 and not pieces[0][0] and not pieces[1][0]:
        return _evaluate(cast("str", pieces[0][1]), data)
    written: list[str] = []
    for literal, expression in pieces:
        written.append(literal)
        if expression is not None:
            found = _evaluate(expression, data)
            written.append(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False))
    return "".join(written)


def _evaluate(expression: str, data: Mapping[str, Any]) -> JsonValue:
    try:
        found = cast("JsonValue", jmespath.search(expression, data))
    except JMESPathError as error:
        raise BadInput("template", expression, f"It cannot be evaluated on this conversation: {error}") from error
    if found is None:
        raise TemplateUnresolved(expression, data)
    return found
