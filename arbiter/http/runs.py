"""Runs over HTTP: submitting and calling, looking, following, drawing, stopping."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field, JsonValue
from starlette.responses import JSONResponse, Response

from arbiter import display, rerunning
from arbiter._drawing import plan_graph, timeline
from arbiter.calls import Call
from arbiter.http import bodies, streams
from arbiter.http.access import LOCAL, tenant_of, visible
from arbiter.http.asked import Asked
from arbiter.records import cost_record, run_record, summary_record
from blackboard import events, taint, tracing
from blackboard.board import PAUSE_SECONDS
from blackboard.budgets import Budgets
from blackboard.errors import BadInput, UnknownRecord
from blackboard.runs import Where, find
from blackboard.types import Limits, Record, RetryPolicy

PAGE = 500
"""Most runs of a page."""
WAIT_SECONDS = 60
"""Longest wait of one request for the end of a run."""
LIMITS = tuple(Limits.model_fields)
"""Options of whatever starts a run."""
_SEQUENCE = re.compile(r"\d{1,15}-\d{1,15}")
_INK = {"light": "#1f2328", "dark": "#e6e8eb"}
_NOT_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
_OF_RUNS = (
    events.RunAccepted,
    events.RoundPlanned,
    events.RunPaused,
    events.RunResumed,
    events.RunCancelling,
    events.RunCompleted,
)
"""What changes how a run stands in a listing."""
_REMEMBERED = 1000
_FEED_ONLY = (events.TaskReady, events.TaskClaimed, events.TaskReleased)


class _CallBody(Record):
    capability: str
    input: dict[str, JsonValue] = Field(default_factory=dict)
    version: str | None = None
    priority: int = Field(default=5, ge=0, le=9)
    retry: RetryPolicy | None = None


class _PlanBody(Record):
    request: str | dict[str, JsonValue]
    plan: tuple[dict[str, JsonValue], ...] = Field(min_length=1)


class _RerunBody(Record):
    current_versions: bool = False


class _CancelBody(Record):
    reason: str = Field(default="cancelled over http", min_length=1, max_length=1000)
    task: str | None = None
    """Only this task of the run, by id."""


class _PauseBody(Record):
    reason: str = Field(default="paused over http", min_length=1, max_length=1000)
    seconds: float = PAUSE_SECONDS


class _Nothing(Record):
    pass


async def submit(asked: Asked) -> Response:
    """Accept a request: text, JSON or a CloudEvent."""
    wanted = await bodies.request_of(asked.request)
    if isinstance(wanted, dict) and wanted.keys() == {"request", "plan"} and isinstance(wanted["plan"], list):
        raise BadInput(
            "plan", wanted["plan"], "Post it to /v1/plans, which carries a plan out; here a model makes one."
        )
    return await _submitted(asked, wanted, wanted)


async def call(asked: Asked) -> Response:
    """Accept a call of one capability, without a model."""
    wanted = await bodies.model(asked.request, _CallBody)
    made = Call(wanted.capability, wanted.input, wanted.version, wanted.priority, wanted.retry)
    return await _submitted(asked, made, wanted.input)


async def plan(asked: Asked) -> Response:
    """Accept a request with its plan, which is carried out without a model."""
    wanted = await bodies.model(asked.request, _PlanBody)
    return await _submitted(asked, wanted.request, wanted.request, plan=wanted.plan)


async def _submitted(
    asked: Asked, wanted: Any, given: JsonValue, plan: Sequence[Mapping[str, JsonValue]] = ()
) -> Response:
    """Submit what a body asks for, which has the sources of what is given in it."""
    client, request = asked.client, asked.request
    bodies.options(request, "tenant", "durable", "source", *LIMITS)
    with tracing.Caller(request.headers.get("traceparent")):
        run_id = await client.submit(
            wanted, sources=sources(asked, given), idempotency_key=bodies.idempotency_key(request),
            tenant=tenant_of(asked.token, request.query_params.get("tenant"), client.tenant),
            limits=bodies.limits(request, client.limits), durable=bodies.flag(request, "durable"), plan=plan,
        )  # fmt: skip
    return _accepted(run_id)


def sources(asked: Asked, request: JsonValue) -> taint.Taint:
    """Where a request comes from: this machine's user, or whoever has the token, whatever else the client says."""
    by_itself = taint.of_request(request)
    if asked.token.id != LOCAL:
        events = [label for label in by_itself if label != taint.PERSON]
        by_itself = taint.merged((taint.source("token", asked.token.name),), events)
    named = asked.request.query_params.getlist("source")
    return taint.merged(by_itself, taint.given(named, "source")) if named else by_itself


async def rerun(asked: Asked) -> Response:
    """Accept a rerun of a run that is over."""
    bodies.options(asked.request, "durable", *LIMITS)
    of, said = asked.path("run"), await bodies.model(asked.request, _RerunBody)
    await visible(asked.board, asked.token, of)
    limits = bodies.limits(asked.request, rerunning.limits_of((await asked.client.show(of)).state))
    run_id = await asked.client.rerun(
        of, limits=limits, current_versions=said.current_versions,
        idempotency_key=bodies.idempotency_key(asked.request), durable=bodies.flag(asked.request, "durable"),
    )  # fmt: skip
    return _accepted(run_id)


def _accepted(run_id: str) -> Response:
    return JSONResponse({"run_id": run_id}, 202, {"Location": f"/v1/runs/{run_id}"})


async def listing(asked: Asked) -> Response:
    """The latest runs that are meant, newest first."""
    bodies.options(asked.request, "where", "limit", "after")
    given = asked.request.query_params
    where, tenant = Where.parse(given.get("where", "")), asked.token.tenant
    if tenant is not None:
        if where.tenant and tenant not in where.tenant:
            return JSONResponse({"runs": [], "after": None})
        where = where.model_copy(update={"tenant": (tenant,)})
    limit = bodies.number(asked.request, "limit", 50, PAGE)
    page = await find(asked.board, where, limit=limit, after=given.get("after"))
    return JSONResponse({"runs": [summary_record(run) for run in page.runs], "after": page.after})


async def show(asked: Asked) -> Response:
    """A run with its rounds and tasks; with ``wait`` when it is over, or as it is after so many seconds."""
    bodies.options(asked.request, "wait")
    run_id, wait = asked.path("run"), bodies.number(asked.request, "wait", 0, WAIT_SECONDS)
    await visible(asked.board, asked.token, run_id)
    if wait:
        await asked.waited(asked.client.result(run_id, timeout=wait))
    result = await asked.client.show(run_id)
    account = await Budgets(asked.board).money(f"run:{run_id}")
    return streams.answer({**run_record(result.state, whole=True), **cost_record(account)})


async def follow(asked: Asked) -> Response:
    """The events of a run's log: as Server-Sent Events as they happen, or, where JSON is wanted, those there are."""
    bodies.options(asked.request, "after")
    run_id = asked.path("run")
    await visible(asked.board, asked.token, run_id)
    after = asked.request.headers.get("last-event-id") or asked.request.query_params.get("after") or "-"
    if after != "-" and not _SEQUENCE.fullmatch(after):
        raise BadInput("Last-Event-ID", after, "Give the id of the last event that was received, or none.")
    if "application/json" in asked.request.headers.get("accept", ""):
        found = await asked.board.history(run_id, after)
        return streams.answer({"events": [event.model_dump(mode="json") for event in found]})
    return streams.stream(asked, asked.board.watch(run_id, after), _FEED_ONLY)


async def follow_all(asked: Asked) -> Response:
    """What happens to runs from now on that changes how they stand in a listing; best effort, so look again now and then."""
    bodies.options(asked.request)
    return streams.stream(asked, _of_runs(asked))


async def _of_runs(asked: Asked) -> AsyncGenerator[events.Event, None]:
    tenant, seen = asked.token.tenant, dict[str, bool]()
    async with contextlib.aclosing(asked.board.feed.follow(asked.board)) as feed:
        async for event in feed:
            if not isinstance(event, _OF_RUNS):
                continue
            if tenant is not None:
                if event.run_id not in seen:
                    while len(seen) >= _REMEMBERED:
                        del seen[next(iter(seen))]
                    seen[event.run_id] = (await asked.board.summary(event.run_id)).tenant == tenant
                if not seen[event.run_id]:
                    continue
            yield event


async def picture(asked: Asked) -> Response:
    """A run as SVG: how its tasks depend on each other, or when each of them ran."""
    bodies.options(asked.request, "of", "paper")
    given = asked.request.query_params
    of, paper = given.get("of", "plan"), given.get("paper", "light")
    if of not in ("plan", "timeline"):
        raise BadInput("of", of, "Write plan or timeline.")
    if paper not in _INK:
        raise BadInput("paper", paper, "Write light or dark.")
    run_id = asked.path("run")
    await visible(asked.board, asked.token, run_id)
    state = (await asked.client.show(run_id)).state
    if not state.work and (of == "timeline" or not state.rounds):
        raise UnknownRecord("UNKNOWN", f"run {run_id} has nothing to draw yet")
    now = display.known_until(state) if state.done else datetime.now(UTC)
    drawn = _NOT_XML.sub("\ufffd", plan_graph(state) if of == "plan" else timeline(state, now))
    # A picture has no page around it whose text colour it could take.
    drawn = drawn.replace("<svg ", f'<svg color="{_INK[paper]}" ', 1)
    return Response(
        drawn, headers={"Content-Security-Policy": "default-src 'none'; sandbox"}, media_type="image/svg+xml"
    )


async def cancel(asked: Asked) -> Response:
    """Stop a run, or one task of it; durable when this answers."""
    run_id, said = await _meant(asked), await bodies.model(asked.request, _CancelBody)
    if said.task is not None:
        if said.task.partition("/")[0] != run_id:
            raise BadInput("task", said.task, f"Give the id of a task of run {run_id}.")
        state = await asked.board.cancel_task(said.task, said.reason, by=asked.by)
        return JSONResponse({"run_id": run_id, "task": said.task, "status": state})
    state = await asked.board.cancel_run(run_id, said.reason, by=asked.by)
    return JSONResponse({"run_id": run_id, "status": state})


async def pause(asked: Asked) -> Response:
    """Let a run rest."""
    run_id, said = await _meant(asked), await bodies.model(asked.request, _PauseBody)
    state = await asked.board.pause_run(run_id, said.reason, seconds=said.seconds, by=asked.by)
    return JSONResponse({"run_id": run_id, "status": state})


async def resume(asked: Asked) -> Response:
    """Let a paused run go on."""
    run_id, _ = await _meant(asked), await bodies.model(asked.request, _Nothing)
    return JSONResponse({"run_id": run_id, "status": await asked.board.resume_run(run_id, by=asked.by)})


async def _meant(asked: Asked) -> str:
    bodies.options(asked.request)
    run_id = asked.path("run")
    await visible(asked.board, asked.token, run_id)
    return run_id
