"""Durable subscriptions over HTTP: which there are, how far each is, and the end of one."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from arbiter.http import bodies, streams
from arbiter.http.asked import Asked
from blackboard.errors import UnknownRecord
from blackboard.subscriptions import Subscriptions
from blackboard.types import Record


async def listing(asked: Asked) -> Response:
    """The subscriptions; of a tenant's token those to the tenant's events."""
    bodies.options(asked.request)
    found = await Subscriptions(asked.board).list()
    mine = [one.model_dump(mode="json") for one in found if asked.token.tenant in (None, one.tenant)]
    return streams.answer({"subscriptions": mine})


async def remove(asked: Asked) -> Response:
    """Hand nothing out any more."""
    bodies.options(asked.request)
    await bodies.model(asked.request, Record)
    name = asked.path("name")
    if not await Subscriptions(asked.board).remove(name, tenant=asked.token.tenant):
        raise UnknownRecord("UNKNOWN", f"no subscription {name} on this board")
    return JSONResponse({"name": name, "status": "removed"})
