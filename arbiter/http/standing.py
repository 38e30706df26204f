"""Standing watches over HTTP: what is written in a scope that lasts becomes runs."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import JSONResponse, Response

from arbiter.http import answers, bodies, streams
from arbiter.http.access import opens, tenant_of
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, gives, takes
from arbiter.http.problems import Forbidden
from arbiter.http.runs import Nothing
from blackboard.errors import UnknownRecord
from blackboard.standing import Standing, Standings, Stood
from blackboard.triggers import AgendaTerms
from blackboard.types import Limits, Record


class AddedWatch(Record):
    name: str
    scope: str | None = None
    """Default: the tenant's."""
    topic: str = ">"
    where: str = ""
    agenda: AgendaTerms = AgendaTerms()
    tenant: str | None = None
    limits: Limits = Field(default_factory=Limits)
    after: str | None = None


@gives(Answer(answers.StandingWatches))
async def listing(asked: Asked) -> Response:
    """The watches; of a tenant's token those whose runs are the tenant's."""
    found = await Standings(asked.board).list()
    return streams.answer({"standing": [_record(one) for one in found if _mine(asked, one)]})


@takes(AddedWatch, Answer(answers.StandingWatch, 201), Answer(answers.StandingWatch))
async def add(asked: Asked, said: AddedWatch) -> Response:
    """Store a watch, or find it already there. The token must see what is watched."""
    tenant = tenant_of(asked.token, said.tenant, asked.client.tenant)
    scope = said.scope or f"tenant:{tenant}"
    if "entries:read" not in asked.token.scopes:
        raise Forbidden(
            "This token lacks the scope entries:read, and its runs would be shown what is watched.", "entries:read"
        )
    if asked.token.tenant is not None and scope != f"tenant:{tenant}":
        raise Forbidden(f"This token is confined to tenant {tenant}: it watches tenant:{tenant} only.")
    opens(asked.token, scope)
    wanted = bodies.checked(
        Standing,
        {
            "name": said.name, "scope": scope, "topic": said.topic, "where": said.where, "agenda": said.agenda,
            "tenant": tenant, "limits": said.limits,
        },
    )  # fmt: skip
    standings = Standings(asked.board)
    there = {one.standing.name: one for one in await standings.list()}.get(said.name)
    if there is not None and not _mine(asked, there):
        raise Forbidden(f"The name {said.name} is taken.")
    return JSONResponse(_record(await standings.add(wanted, after=said.after)), 201 if there is None else 200)


@takes(Nothing, Answer(answers.Removed))
async def remove(asked: Asked, _: Nothing) -> Response:
    """Watch no more; its runs go on."""
    name = asked.path("name")
    if not await Standings(asked.board).remove(name, tenant=asked.token.tenant):
        raise UnknownRecord("UNKNOWN", f"no standing watch {name} on this board")
    return JSONResponse({"name": name, "status": "removed"})


def _mine(asked: Asked, one: Stood) -> bool:
    return asked.token.tenant in (None, one.standing.tenant)


def _record(one: Stood) -> dict[str, Any]:
    said = one.model_dump(mode="json", exclude={"nonce"})
    return {**said.pop("standing"), **said}
