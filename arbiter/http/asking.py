"""Asking openly over HTTP: a request that names nobody, and how it stands."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from arbiter import answering
from arbiter.http import bodies, streams
from arbiter.http.access import tenant_of, visible
from arbiter.http.asked import Asked
from arbiter.http.runs import LIMITS, WAIT_SECONDS, sources
from arbiter.volunteering import Asking


async def ask(asked: Asked) -> Response:
    """Post a request in a run of its own."""
    bodies.options(asked.request, "tenant", "source", *LIMITS)
    client, request = asked.client, asked.request
    wanted = await bodies.model(request, Asking)
    run_id = await answering.begin(
        client, wanted.request(), wanted.name, None, bodies.idempotency_key(request),
        tenant_of(asked.token, request.query_params.get("tenant"), client.tenant),
        bodies.limits(request, client.limits), sources(asked, wanted.question),
    )  # fmt: skip
    where = f"/v1/asks/{run_id}/{wanted.name}"
    return JSONResponse({"run_id": run_id, "name": wanted.name}, 202, {"Location": where})


async def show(asked: Asked) -> Response:
    """How a request stands; with ``wait`` when it has come to something, or as it is after so many seconds."""
    bodies.options(asked.request, "wait")
    run_id, name = asked.path("run"), asked.path("name")
    wait = bodies.number(asked.request, "wait", 0, WAIT_SECONDS)
    await visible(asked.board, asked.token, run_id)
    said = await answering.record(asked.client, run_id, name)
    if wait and said["status"] == "open":
        await asked.waited(answering.wait(asked.client, run_id, name, wait))
        said = await answering.record(asked.client, run_id, name)
    return streams.answer(said)
