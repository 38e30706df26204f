"""Requests that would carry a secret and wait for a person."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import JSONResponse, Response

from arbiter.http import operating_answers as answers
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, gives, takes
from blackboard.permits import Permit
from blackboard.types import Record


class PermitApproval(Record):
    sources: tuple[str, ...] = ()
    """Those of the listing: what is not trusted and led to the request, seen by whoever permits it."""


class PermitRefusal(Record):
    reason: str = Field(default="", max_length=1000)


@gives(Answer(answers.Permits))
async def listing(asked: Asked) -> Response:
    """What waits for an answer."""
    found = await asked.client.permits.list()
    mine = [each for each in found if asked.token.tenant in (None, each.tenant)]
    return JSONResponse({"waiting": [each.model_dump(mode="json") for each in mine]})


@takes(PermitApproval, Answer(Permit))
async def approve(asked: Asked, said: PermitApproval) -> Response:
    """Permit a request: its run goes on."""
    permit = await asked.client.permits.approve(
        asked.path("permit"), sources=said.sources, tenant=asked.token.tenant, by=asked.by
    )
    return JSONResponse(permit.model_dump(mode="json"))


@takes(PermitRefusal, Answer(Permit))
async def refuse(asked: Asked, said: PermitRefusal) -> Response:
    """Refuse a request: its run goes on, and its task ends."""
    permit = await asked.client.permits.refuse(
        asked.path("permit"), reason=said.reason, tenant=asked.token.tenant, by=asked.by
    )
    return JSONResponse(permit.model_dump(mode="json"))
