"""Asking openly over HTTP: a request that names nobody, and how it stands."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from arbiter import answering
from arbiter.http import answers, bodies, streams
from arbiter.http.access import tenant_of, visible
from arbiter.http.asked import Asked
from arbiter.http.described import KEY, LIMITS, Answer, gives, takes
from arbiter.http.runs import SOURCE, TENANT, WAIT, sources
from arbiter.volunteering import Asking


@takes(
    Asking, Answer(answers.RequestAsked, 202, headers=("Location",)), options=(TENANT, SOURCE, *LIMITS), headers=(KEY,)
)
async def ask(asked: Asked, said: Asking) -> Response:
    """Post a request in a run of its own."""
    client, request = asked.client, asked.request
    run_id = await answering.begin(
        client, said.request(), said.name, None, bodies.idempotency_key(request),
        tenant_of(asked.token, request.query_params.get("tenant"), client.tenant),
        bodies.limits(request, client.limits), sources(asked, said.question),
    )  # fmt: skip
    where = f"/v1/asks/{run_id}/{said.name}"
    return JSONResponse({"run_id": run_id, "name": said.name}, 202, {"Location": where})


@gives(Answer(answers.RequestState), options=(WAIT,))
async def show(asked: Asked) -> Response:
    """How a request stands; with ``wait`` when it has come to something, or as it is after so many seconds."""
    run_id, name = asked.path("run"), asked.path("name")
    wait = WAIT.of(asked.request)
    await visible(asked.board, asked.token, run_id)
    said = await answering.record(asked.client, run_id, name)
    if wait and said["status"] == "open":
        await asked.waited(answering.wait(asked.client, run_id, name, wait))
        said = await answering.record(asked.client, run_id, name)
    return streams.answer(said)
