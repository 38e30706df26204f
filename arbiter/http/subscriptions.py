"""Durable subscriptions over HTTP: which there are, how far each is, and the end of one."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from arbiter.http import answers, streams
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, gives, takes
from arbiter.http.runs import Nothing
from blackboard.errors import UnknownRecord
from blackboard.subscriptions import Subscriptions


@gives(Answer(answers.Subscriptions))
async def listing(asked: Asked) -> Response:
    """The subscriptions; of a tenant's token those to the tenant's events."""
    found = await Subscriptions(asked.board).list()
    mine = [one.model_dump(mode="json") for one in found if asked.token.tenant in (None, one.tenant)]
    return streams.answer({"subscriptions": mine})


@takes(Nothing, Answer(answers.Removed))
async def remove(asked: Asked, _: Nothing) -> Response:
    """Hand nothing out any more."""
    name = asked.path("name")
    if not await Subscriptions(asked.board).remove(name, tenant=asked.token.tenant):
        raise UnknownRecord("UNKNOWN", f"no subscription {name} on this board")
    return JSONResponse({"name": name, "status": "removed"})
