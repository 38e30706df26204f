"""What isolated code may put into a request to a model: words and bytes of its own, nothing that is fetched for it.

A provider reads what a request points at with the rights of whoever asks. Bedrock takes an ``s3Location`` in place of an image's
or a document's bytes, and reads it as the wrapper; others take an address. Code that was granted a model was granted neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from wrapper.isolation import BrokerError, NotGranted

_MEDIA = ("image", "document", "video", "audio")


def check(request: Mapping[str, JsonValue]) -> None:
    """Refuse what is no request, or has the provider read something.

    Args:
        request: ``{"messages", "tool_specs", "system_prompt", "tool_choice", "model_id"}``; all but the first may be absent.

    Raises:
        BrokerError: ``bad_request``.
        NotGranted: a part is named by where it lies, not given.
    """
    system, tools, choice = (request.get(name) for name in ("system_prompt", "tool_specs", "tool_choice"))
    if not isinstance(system, str | None):
        raise BrokerError("bad_request", "system_prompt is a text.")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(each, dict) for each in tools)):
        raise BrokerError("bad_request", "tool_specs is a list of objects.")
    if not isinstance(choice, dict | None):
        raise BrokerError("bad_request", "tool_choice is an object.")
    messages = request["messages"]
    for message in cast("list[JsonValue]", messages):
        if isinstance(message, dict):
            _check_blocks(message.get("content"))


def _check_blocks(blocks: JsonValue) -> None:
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, dict):
            continue
        for kind in _MEDIA:
            if isinstance(part := block.get(kind), dict):
                _check_source(kind, part.get("source"))
        if isinstance(result := block.get("toolResult"), dict):
            _check_blocks(result.get("content"))
        if "guardContent" in block:
            _check_blocks([block["guardContent"]])


def _check_source(kind: str, source: JsonValue) -> None:
    if isinstance(source, dict) and list(source) == ["bytes"]:
        given = source["bytes"]
        # As sdk and Strands send bytes; a text in their place is an address to some providers.
        if isinstance(given, dict) and list(given) == ["$bytes"] and isinstance(given["$bytes"], str):
            return
    raise NotGranted(
        f"A message has a {kind} that is not given as bytes: what it points at would be read with the rights of this wrapper."
    )
