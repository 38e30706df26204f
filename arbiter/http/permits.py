"""Requests that would carry a secret and wait for a person."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import JSONResponse, Response

from arbiter.http import bodies
from arbiter.http.asked import Asked
from blackboard.types import Record


class _Approve(Record):
    sources: tuple[str, ...] = ()
    """Those of the listing: what is not trusted and led to the request, seen by whoever permits it."""


class _Refuse(Record):
    reason: str = Field(default="", max_length=1000)


async def listing(asked: Asked) -> Response:
    """What waits for an answer."""
    bodies.options(asked.request)
    found = await asked.client.permits.list()
    mine = [each for each in found if asked.token.tenant in (None, each.tenant)]
    return JSONResponse({"waiting": [each.model_dump(mode="json") for each in mine]})


async def approve(asked: Asked) -> Response:
    """Permit a request: its run goes on."""
    bodies.options(asked.request)
    said = await bodies.model(asked.request, _Approve)
    permit = await asked.client.permits.approve(
        asked.path("permit"), sources=said.sources, tenant=asked.token.tenant, by=asked.by
    )
    return JSONResponse(permit.model_dump(mode="json"))


async def refuse(asked: Asked) -> Response:
    """Refuse a request: its run goes on, and its task ends."""
    bodies.options(asked.request)
    said = await bodies.model(asked.request, _Refuse)
    permit = await asked.client.permits.refuse(
        asked.path("permit"), reason=said.reason, tenant=asked.token.tenant, by=asked.by
    )
    return JSONResponse(permit.model_dump(mode="json"))
