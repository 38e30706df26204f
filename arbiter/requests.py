"""What may enter: text, a JSON object, or a CloudEvents 1.0 event. Refused at the edge when malformed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from blackboard.errors import BadInput

_REQUIRED = ("id", "source", "type")


def accept(request: str | Mapping[str, JsonValue], idempotency_key: str | None) -> tuple[JsonValue, str | None]:
    """The request as it is stored, and its idempotency key.

    An object with ``specversion`` is taken as a CloudEvents 1.0 event: its required attributes are checked, and its identity
    (``source`` and ``id``) becomes the idempotency key unless one is given, so that an event delivered twice is one run.

    Raises:
        BadInput: neither text nor an object, or an event without a required attribute.
    """
    if isinstance(request, str):
        return request, idempotency_key
    if not isinstance(cast(object, request), Mapping):
        raise BadInput("request", request, "Pass text, a JSON object, or a CloudEvents event.")
    event = dict(request)
    if "specversion" not in event:
        return event, idempotency_key
    if event["specversion"] != "1.0":
        raise BadInput("request.specversion", event["specversion"], "Only CloudEvents version '1.0' is understood.")
    for name in _REQUIRED:
        value = event.get(name)
        if not isinstance(value, str) or not value:
            raise BadInput(f"request.{name}", value, f"CloudEvents requires {name!r} as a non-empty string.")
    return event, idempotency_key or f"{event['source']}\0{event['id']}"
