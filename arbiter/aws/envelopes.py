"""What a message asks for, and events as entries of a bus: CloudEvents 1.0 in the envelope of EventBridge, and back.

Sources: CloudEvents 1.0, JSON format and extension ``dataref``; Amazon EventBridge, "AWS service events" and "PutEvents".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import JsonValue

from arbiter.requests import accept
from blackboard import strict_json, taint
from blackboard.errors import BadInput
from blackboard.events import Event

_ENVELOPE = ("id", "source", "detail-type", "detail")


def request_of(body: str) -> str | dict[str, JsonValue]:
    """The request in the body of a message: an event of EventBridge, a CloudEvent, another JSON object, or text.

    What begins with a brace is meant as JSON. A string of JSON is the text it stands for, anything else the text it is.

    Raises:
        BadInput: nothing but spaces, JSON that is none or not strict, or an event that lacks what it must have.
    """
    start = body.strip()
    if not start:
        raise BadInput("body", body, "Send text, a JSON object or an event.")
    if start[0] not in '{"':
        return body
    try:
        value = cast(JsonValue, strict_json.loads(body))
    except ValueError as error:
        if start[0] == '"':
            return body
        raise BadInput("body", body, f"It is not strict JSON: {error}.") from None
    if not isinstance(value, dict):
        return str(value)
    request = (
        from_eventbridge(value) if "specversion" not in value and all(map(value.__contains__, _ENVELOPE)) else value
    )
    accept(request, None)
    return request


def from_eventbridge(envelope: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The CloudEvent in an envelope: the one that is its detail as a whole, else one that is made of it.

    ``detail-type`` becomes the type; ``account``, ``region`` and ``resources`` extensions, the latter with spaces between.
    """
    detail = envelope["detail"]
    if isinstance(detail, dict) and "specversion" in detail:
        return detail
    event: dict[str, JsonValue] = {
        "specversion": "1.0", "id": envelope["id"], "source": envelope["source"], "type": envelope["detail-type"],
        "datacontenttype": "application/json",
    }  # fmt: skip
    event |= {name: envelope[name] for name in ("time", "account", "region") if isinstance(envelope.get(name), str)}
    resources = envelope.get("resources")
    if isinstance(resources, list) and resources:
        event["resources"] = " ".join(map(str, resources))
    return {**event, "data": detail}


def sources_of(request: JsonValue, queue: str) -> taint.Taint:
    """Where a request from a queue comes from: the queue, and an event's own source."""
    return taint.merged((taint.source("sqs", queue),), set(taint.of_request(request)) - {taint.PERSON})


def text_of(event: Event, most: int) -> str:
    """An event in structured mode; one of more than ``most`` bytes without its data, which ``dataref`` says where to find.

    ``dataref`` is a route of the HTTP API, relative to wherever the board is served; the event has its ``id`` there.
    """
    text = event.model_dump_json()
    if len(text.encode()) <= most:
        return text
    said = event.model_dump(mode="json", exclude={"data"})
    return json.dumps({**said, "dataref": f"/v1/{_log(event)}"}, ensure_ascii=False)


def _log(event: Event) -> str:
    owner = event.partitionkey
    return f"entries/events?scope={owner}&after=-" if ":" in owner else f"runs/{owner}/events"


def entry_of(event: Event, text: str, bus: str) -> dict[str, Any]:
    """An event as an entry for ``PutEvents``: the whole of it is the detail."""
    return {
        "EventBusName": bus, "Source": event.source, "DetailType": event.type, "Detail": text, "Time": event.time,
        "Resources": [event.subject],
    }  # fmt: skip
