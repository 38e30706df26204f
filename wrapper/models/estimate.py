"""How many tokens was that, when a provider does not say?

Characters are counted, four to a token for prose and two for JSON: the heuristic Strands itself falls back to. Good
enough to make a token limit trip, not good enough to pay an invoice by; whoever uses it marks the usage as estimated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

_CHARACTERS_PER_TEXT_TOKEN = 4
_CHARACTERS_PER_JSON_TOKEN = 2


def _text(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TEXT_TOKEN)


def _json(value: object) -> int:
    return -(-len(json.dumps(value, default=str, ensure_ascii=False)) // _CHARACTERS_PER_JSON_TOKEN)


def _block(block: Mapping[str, Any]) -> int:
    if "text" in block:
        return _text(str(block["text"]))
    if "toolUse" in block:
        return _text(str(block["toolUse"].get("name", ""))) + _json(block["toolUse"].get("input"))
    if "toolResult" in block:
        return sum(_block(part) if "text" in part else _json(part) for part in block["toolResult"].get("content", ()))
    return _json(block)


def estimate_content(content: Iterable[Mapping[str, Any]]) -> int:
    """Tokens in the content blocks of one message (Bedrock Converse shapes)."""
    return sum(_block(block) for block in content)


def estimate_request(
    messages: Iterable[Mapping[str, Any]], tools: Iterable[object] = (), system: str | None = None
) -> int:
    """Tokens a request sends: every message, the tool specifications and the system prompt."""
    conversation = sum(estimate_content(message["content"]) for message in messages)
    return conversation + sum(_json(tool) for tool in tools) + _text(system or "")
