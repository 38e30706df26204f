"""What whoever holds the token of an attempt says to it. The token is shown as any other, and is all that is needed."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arbiter.callbacks import Callbacks
from arbiter.http import operating_answers as answers
from arbiter.http.described import Answer, takes
from arbiter.http.runs import Nothing
from blackboard.types import Record


class Outside(NamedTuple):
    """A request by whoever holds the token of an attempt."""

    request: Request
    callbacks: Callbacks
    token: str
    by: str
    """For the record."""


class CallbackOutput(Record):
    output: JsonValue


class CallbackFailure(Record):
    error: str
    cause: str = ""


@takes(CallbackOutput, Answer(answers.CallbackTaken))
async def complete(one: Outside, said: CallbackOutput) -> Response:
    """End the attempt with its result."""
    return JSONResponse(
        {"task_id": await one.callbacks.complete(one.token, said.output, by=one.by), "status": "succeeded"}
    )


@takes(CallbackFailure, Answer(answers.CallbackTaken))
async def fail(one: Outside, said: CallbackFailure) -> Response:
    """End the attempt with a failure."""
    task = await one.callbacks.fail(one.token, said.error, said.cause, by=one.by)
    return JSONResponse({"task_id": task, "status": "failed"})


@takes(Nothing, Answer(answers.CallbackDue))
async def heartbeat(one: Outside, _: Nothing) -> Response:
    """Say that it goes on."""
    return JSONResponse({"due_seconds": await one.callbacks.heartbeat(one.token, by=one.by)})
