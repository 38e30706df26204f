"""What whoever holds the token of an attempt says to it. The token is shown as any other, and is all that is needed."""

from __future__ import annotations

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arbiter.callbacks import Callbacks
from arbiter.http import bodies
from blackboard.types import Record


class _Complete(Record):
    output: JsonValue


class _Fail(Record):
    error: str
    cause: str = ""


class _Heartbeat(Record):
    pass


async def complete(request: Request, callbacks: Callbacks, token: str, by: str) -> Response:
    """End the attempt with its result."""
    bodies.options(request)
    said = await bodies.model(request, _Complete)
    return JSONResponse({"task_id": await callbacks.complete(token, said.output, by=by), "status": "succeeded"})


async def fail(request: Request, callbacks: Callbacks, token: str, by: str) -> Response:
    """End the attempt with a failure."""
    bodies.options(request)
    said = await bodies.model(request, _Fail)
    return JSONResponse({"task_id": await callbacks.fail(token, said.error, said.cause, by=by), "status": "failed"})


async def heartbeat(request: Request, callbacks: Callbacks, token: str, by: str) -> Response:
    """Say that it goes on."""
    bodies.options(request)
    await bodies.model(request, _Heartbeat)
    return JSONResponse({"due_seconds": await callbacks.heartbeat(token, by=by)})
