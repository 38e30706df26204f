"""What comes in: bodies within bounds of size and time, requests in four forms, and options.

CloudEvents 1.0 over HTTP: structured mode is ``application/cloudevents+json``; in binary mode the attributes are ``ce-``
headers and the body is the data. (Source: CloudEvents HTTP Protocol Binding 1.0.2, section 3.)
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.requests import ClientDisconnect, Request

from arbiter.http.problems import Malformed, TooSlow, Unsupported
from blackboard import strict_json
from blackboard.errors import BadInput, Oversized
from blackboard.refusing import refused
from blackboard.types import Limits

BODY_BYTES = 8 * 1024 * 1024
"""Largest body of a request."""
BODY_SECONDS = 30.0
"""How long a body may take to arrive."""
KEY_CHARACTERS = 255
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_MODES = f"Send text/plain, application/json, {_STRUCTURED}, or the data of an event with ce- headers."

B = TypeVar("B", bound=BaseModel)


class CloudEvent(BaseModel):
    """CloudEvents 1.0, JSON format; with extensions."""

    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"]
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    data: JsonValue = None
    data_base64: str | None = None


FORMS: Mapping[str, Any] = {
    "text/plain": str, "application/json": dict[str, JsonValue] | str, _STRUCTURED: CloudEvent,
}  # fmt: skip
"""What a request may be, by media type; with ``ce-`` headers any other one is an event's data."""


async def read(request: Request) -> bytes:
    """The body.

    Raises:
        Oversized: it is too large; what is left of it is not read.
        TooSlow: it did not arrive in time.
    """
    said = request.headers.get("content-length", "0")
    if not said.isdigit() or int(said) > BODY_BYTES:
        raise _too_large(f"{said:.20} bytes")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > BODY_BYTES:
                    raise _too_large(f"more than {BODY_BYTES:,} bytes")
    except TimeoutError:
        raise TooSlow(f"The body did not arrive within {BODY_SECONDS:g} s.") from None
    except ClientDisconnect:
        raise TooSlow("The connection was closed before the body had arrived.") from None
    return bytes(content)


def _too_large(said: str) -> Oversized:
    return Oversized(
        "body", said, f"At most {BODY_BYTES:,} bytes are taken; keep larger data elsewhere and pass its URL."
    )


async def model(request: Request, kind: type[B]) -> B:
    """The body as a JSON object of known fields; an empty one has the defaults.

    Raises:
        Malformed: it is no JSON, or not strict (see :mod:`blackboard.strict_json`).
        BadInput: a field that is unknown, missing or malformed.
        Oversized, TooSlow: as :func:`read`.
        Unsupported: it is not said to be JSON.
    """
    content = await read(request)
    if content and _media(request) != "application/json":
        raise Unsupported("content-type", _media(request), "Send application/json.")
    value = _json(content) if content else {}
    if not isinstance(value, dict):
        raise Malformed("body", type(value).__name__, "Send a JSON object.")
    return checked(kind, value)


def checked(kind: type[B], value: Any) -> B:
    """A value of a model.

    Raises:
        BadInput: it does not fit, with the field that does not.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise refused(error, whole="body") from None


async def request_of(request: Request) -> str | dict[str, JsonValue]:
    """The request to be planned: text, a JSON object, or a CloudEvent.

    Raises:
        Malformed: text that is not UTF-8, or JSON that is none, not strict, or no object.
        Unsupported: another media type.
        Oversized, TooSlow: as :func:`read`.
    """
    media, content = _media(request), await read(request)
    if any(name.startswith("ce-") for name in request.headers):
        return _binary(request, media, content)
    if media in ("application/json", _STRUCTURED):
        value = _json(content)
        if isinstance(value, str) and media == "application/json":
            return value
        if not isinstance(value, dict):
            raise Malformed("body", type(value).__name__, "Send a JSON object, or a string.")
        if media == _STRUCTURED and "specversion" not in value:
            raise BadInput("request.specversion", None, "CloudEvents requires 'specversion' as '1.0'.")
        return value
    if media == "text/plain":
        return _text(content)
    if media == _BATCH:
        raise Unsupported("content-type", media, "Send one event at a time.")
    raise Unsupported("content-type", media, _MODES)


def _binary(request: Request, media: str, content: bytes) -> dict[str, JsonValue]:
    event: dict[str, JsonValue] = {}
    for name, value in request.headers.items():
        if name.startswith("ce-"):
            event[name.removeprefix("ce-")] = unquote(value)
    if "specversion" not in event:  # it would be a request without the identity its sender gave it
        raise BadInput("request.specversion", None, "CloudEvents requires the header 'ce-specversion: 1.0'.")
    if media:
        event["datacontenttype"] = request.headers["content-type"]
    if not content:
        return event
    if media == "application/json" or media.endswith("+json"):
        event["data"] = _json(content)
    elif media.startswith("text/"):
        event["data"] = _text(content)
    else:
        event["data_base64"] = base64.b64encode(content).decode()
    return event


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("body", "bytes", f"It is not UTF-8: {error.reason} at byte {error.start}.") from None


def _json(content: bytes) -> JsonValue:
    text = _text(content)
    try:
        return cast(JsonValue, strict_json.loads(text))
    except ValueError as error:
        raise Malformed("body", "text", f"It is not strict JSON: {error}.") from None


def idempotency_key(request: Request) -> str | None:
    """The ``Idempotency-Key`` header, quoted or not; None without one.

    Raises:
        BadInput: it is empty, too long, or given twice.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(given) > 1 or not 0 < len(key) <= KEY_CHARACTERS:
        raise BadInput("Idempotency-Key", key, f"Give one, of 1 to {KEY_CHARACTERS} characters.")
    return key


def limits(request: Request, default: Limits) -> Limits:
    """Bounds of a run from the query; what is not given is as by default.

    Raises:
        BadInput: not a number, or outside of what is allowed.
    """
    given = {name: request.query_params[name] for name in Limits.model_fields if name in request.query_params}
    return checked(Limits, {**default.model_dump(), **given}) if given else default
