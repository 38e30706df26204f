"""Errors as RFC 9457 problem details: what went wrong, which field, what to do. Never where in our code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from blackboard.errors import (
    ArbiterError,
    BadInput,
    BlobError,
    BlobMissing,
    BlobUnavailable,
    BoardFull,
    Compacted,
    Conflict,
    EngineUnavailable,
    IsolationUnavailable,
    MissingExtra,
    ModelUnavailable,
    Oversized,
    QuotaExceeded,
    ScriptRefused,
    Unconfirmed,
    UnknownRecord,
)
from blackboard.redaction import clean
from blackboard.tokens import TokenRefused
from registry import HashMismatch, SignatureRefused

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:arbiter:problem:"
_AGAIN_SECONDS = 5
_SHOWN = 120
_NOWHERE = "Nothing is here. Routes for programs begin with /v1 and are listed in docs/http.md; the page for people is /console."


class Malformed(BadInput):
    """The request cannot be read as what it says it is."""


class Forbidden(ArbiterError):
    """The token is valid and does not open this.

    Args:
        message: what it lacks.
        scope: the one that is missing; empty where it is not that.
    """

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class NotToken(ArbiterError):
    """No token was shown."""


class Unsupported(BadInput):
    """A media type that is not understood here."""


class TooSlow(ArbiterError):
    """The request did not arrive in time."""


_STATUS: tuple[tuple[type[ArbiterError], int, str], ...] = (
    (Malformed, 400, "malformed"),
    (NotToken, 401, "unauthorized"),
    (TokenRefused, 401, "unauthorized"),
    (Forbidden, 403, "forbidden"),
    (TooSlow, 408, "too_slow"),
    (Oversized, 413, "too_large"),
    (Unsupported, 415, "unsupported_media_type"),
    (Compacted, 410, "compacted"),
    (BadInput, 422, "bad_input"),
    (UnknownRecord, 404, "unknown"),
    (Conflict, 409, "conflict"),
    (QuotaExceeded, 429, "quota_exceeded"),
    (ScriptRefused, 409, "refused"),
    (SignatureRefused, 409, "signature"),
    (HashMismatch, 409, "hash_mismatch"),
    (Unconfirmed, 503, "unconfirmed"),
    (EngineUnavailable, 503, "engine_unavailable"),
    (BlobUnavailable, 503, "blob_unavailable"),
    (BlobMissing, 410, "blob_missing"),
    (BlobError, 500, "blob_damaged"),
    (BoardFull, 507, "board_full"),
    (IsolationUnavailable, 503, "isolation_unavailable"),
    (ModelUnavailable, 503, "model_unavailable"),
    (MissingExtra, 503, "missing_extra"),
    (ArbiterError, 500, "internal_error"),
)
"""The first that fits counts."""


def body(error: Exception) -> tuple[dict[str, Any], dict[str, str]]:
    """An error as a problem, and the headers that go with it."""
    if isinstance(error, HTTPException):
        said = _NOWHERE if error.detail == HTTPStatus.NOT_FOUND.phrase else str(error.detail)
        return _problem(error.status_code, "http", said), dict(error.headers or {})
    status, code = next(((s, c) for kind, s, c in _STATUS if isinstance(error, kind)), (500, "internal_error"))
    if status == 500 and not isinstance(error, ArbiterError):
        return _problem(500, code, "This is a defect of the server; its log says more."), {}
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    detail = str(error)
    if isinstance(error, ScriptRefused) and not isinstance(error, QuotaExceeded):
        detail = _sentence(error.detail)
    if isinstance(error, BadInput):
        shown = repr(error.value)
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
        more = {"field": error.field, "value": clean(shown), "remedy": clean(error.remedy)}
        if found := getattr(error, "problems", None):
            more["problems"] = [{"field": clean(field), "detail": clean(said)} for field, said in found]
    elif isinstance(error, QuotaExceeded):
        more = {"subject": error.subject, "retry_after_seconds": error.retry_after_seconds}
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    elif isinstance(error, Forbidden) and error.scope:
        more = {"scope": error.scope}
        headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.scope}"'
    elif isinstance(error, NotToken):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, TokenRefused):
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    if status == 503:
        headers["Retry-After"] = str(1 if isinstance(error, Unconfirmed) else _AGAIN_SECONDS)
    if status in (408, 413):  # what is still on its way is not read
        headers["Connection"] = "close"
    return _problem(status, code, detail, more), headers


def _sentence(detail: str) -> str:
    first = detail.partition(" ")[0]
    begun = first.capitalize() if first.isalpha() and first.islower() else first  # an id is as it is
    return f"{begun}{detail.removeprefix(first).rstrip('.')}."


def _problem(status: int, code: str, detail: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    kind = "about:blank" if code == "http" else PREFIX + code
    return {"type": kind, "title": title, "status": status, "detail": clean(detail), **(more or {})}


def answer(_: Request | None, error: Exception) -> Response:
    """The response to an error."""
    said, headers = body(error)
    return JSONResponse(said, said["status"], headers, MEDIA_TYPE)
