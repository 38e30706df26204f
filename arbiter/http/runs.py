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
from arbiter.http import answers, bodies, streams
from arbiter.http.access import LOCAL, tenant_of, visible
from arbiter.http.asked import Asked
from arbiter.http.described import EVENTS, KEY, LAST, LIMITS, TRACE, Answer, Choice, Flag, Number, Option, gives, takes
from arbiter.records import cost_record, run_record, summary_record
from blackboard import events, taint, tracing
from blackboard.board import PAUSE_SECONDS
from blackboard.budgets import Budgets
from blackboard.errors import BadInput, UnknownRecord
from blackboard.events import Event
from blackboard.runs import Where, find
from blackboard.types import Record, RetryPolicy

PAGE = 500
"""Most runs of a page."""
WAIT_SECONDS = 60
"""Longest wait of one request for the end of a run."""
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


class CallBody(Record):
    capability: str
    input: dict[str, JsonValue] = Field(default_factory=dict)
    version: str | None = None
    priority: int = Field(default=5, ge=0, le=9)
    retry: RetryPolicy | None = None


class PlanBody(Record):
    request: str | dict[str, JsonValue]
    plan: tuple[dict[str, JsonValue], ...] = Field(min_length=1)


class Rerunning(Record):
    current_versions: bool = False


class Cancellation(Record):
    reason: str = Field(default="cancelled over http", min_length=1, max_length=1000)
    task: str | None = None
    """Only this task of the run, by id."""


class Pause(Record):
    reason: str = Field(default="paused over http", min_length=1, max_length=1000)
    seconds: float = PAUSE_SECONDS


class Nothing(Record):
    pass


class EventList(Record):
    events: tuple[Event, ...]


SOURCE = Option("source", "Where it comes from, beside the token.", many=True)
TENANT = Option("tenant", "Whose the run is.")
WAIT = Number("wait", "Answers when it is over, or as it is after so many seconds.", most=WAIT_SECONDS)
WHERE = Option("where", "Terms, all of which hold.")
AFTER = Option("after", "What the page before had there.")
_DURABLE = Flag("durable", "Answers when it is on the disk of the board's server.")
_STARTS = (TENANT, _DURABLE, SOURCE, *LIMITS)
_ACCEPTED = Answer(answers.Accepted, 202, headers=("Location",))
_LIMIT = Number("limit", default=50, most=PAGE)
_BEHIND = Option("after", "As Last-Event-ID, which comes first.")
_OF = Choice("of", words=("plan", "timeline"))
_PAPER = Choice("paper", words=("light", "dark"))


@gives(_ACCEPTED, options=_STARTS, headers=(KEY, TRACE), forms=bodies.FORMS)
async def submit(asked: Asked) -> Response:
    """Accept a request: text, JSON or a CloudEvent."""
    wanted = await bodies.request_of(asked.request)
    if isinstance(wanted, dict) and wanted.keys() == {"request", "plan"} and isinstance(wanted["plan"], list):
        raise BadInput(
            "plan", wanted["plan"], "Post it to /v1/plans, which carries a plan out; here a model makes one."
        )
    return await _submitted(asked, wanted, wanted)


@takes(CallBody, _ACCEPTED, options=_STARTS, headers=(KEY, TRACE))
async def call(asked: Asked, said: CallBody) -> Response:
    """Accept a call of one capability, without a model."""
    made = Call(said.capability, said.input, said.version, said.priority, said.retry)
    return await _submitted(asked, made, said.input)


@takes(PlanBody, _ACCEPTED, options=_STARTS, headers=(KEY, TRACE))
async def plan(asked: Asked, said: PlanBody) -> Response:
    """Accept a request with its plan, which is carried out without a model."""
    return await _submitted(asked, said.request, said.request, plan=said.plan)


async def _submitted(
    asked: Asked, wanted: Any, given: JsonValue, plan: Sequence[Mapping[str, JsonValue]] = ()
) -> Response:
    """Submit what a body asks for, which has the sources of what is given in it."""
    client, request = asked.client, asked.request
    with tracing.Caller(request.headers.get("traceparent")):
        run_id = await client.submit(
            wanted, sources=sources(asked, given), idempotency_key=bodies.idempotency_key(request),
            tenant=tenant_of(asked.token, request.query_params.get("tenant"), client.tenant),
            limits=bodies.limits(request, client.limits), durable=_DURABLE.of(request), plan=plan,
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


@takes(Rerunning, _ACCEPTED, options=(_DURABLE, *LIMITS), headers=(KEY,))
async def rerun(asked: Asked, said: Rerunning) -> Response:
    """Accept a rerun of a run that is over."""
    of = asked.path("run")
    await visible(asked.board, asked.token, of)
    limits = bodies.limits(asked.request, rerunning.limits_of((await asked.client.show(of)).state))
    run_id = await asked.client.rerun(
        of, limits=limits, current_versions=said.current_versions,
        idempotency_key=bodies.idempotency_key(asked.request), durable=_DURABLE.of(asked.request),
    )  # fmt: skip
    return _accepted(run_id)


def _accepted(run_id: str) -> Response:
    return JSONResponse({"run_id": run_id}, 202, {"Location": f"/v1/runs/{run_id}"})


@gives(Answer(answers.Runs), options=(WHERE, _LIMIT, AFTER))
async def listing(asked: Asked) -> Response:
    """The latest runs that are meant, newest first."""
    given = asked.request.query_params
    where, tenant = Where.parse(given.get("where", "")), asked.token.tenant
    if tenant is not None:
        if where.tenant and tenant not in where.tenant:
            return JSONResponse({"runs": [], "after": None})
        where = where.model_copy(update={"tenant": (tenant,)})
    page = await find(asked.board, where, limit=_LIMIT.of(asked.request), after=given.get("after"))
    return JSONResponse({"runs": [summary_record(run) for run in page.runs], "after": page.after})


@gives(Answer(answers.Run), options=(WAIT,))
async def show(asked: Asked) -> Response:
    """A run with its rounds and tasks; with ``wait`` when it is over, or as it is after so many seconds."""
    run_id, wait = asked.path("run"), WAIT.of(asked.request)
    await visible(asked.board, asked.token, run_id)
    if wait:
        await asked.waited(asked.client.result(run_id, timeout=wait))
    result = await asked.client.show(run_id)
    account = await Budgets(asked.board).money(f"run:{run_id}")
    return streams.answer({**run_record(result.state, whole=True), **cost_record(account)})


@gives(Answer(Event, media=EVENTS), Answer(EventList), options=(_BEHIND,), headers=(LAST,))
async def follow(asked: Asked) -> Response:
    """The events of a run's log: as Server-Sent Events as they happen, or, where JSON is wanted, those there are."""
    run_id = asked.path("run")
    await visible(asked.board, asked.token, run_id)
    after = asked.request.headers.get("last-event-id") or asked.request.query_params.get("after") or "-"
    if after != "-" and not _SEQUENCE.fullmatch(after):
        raise BadInput("Last-Event-ID", after, "Give the id of the last event that was received, or none.")
    if "application/json" in asked.request.headers.get("accept", ""):
        found = await asked.board.history(run_id, after)
        return streams.answer({"events": [event.model_dump(mode="json") for event in found]})
    return streams.stream(asked, asked.board.watch(run_id, after), _FEED_ONLY)


@gives(Answer(Event, media=EVENTS))
async def follow_all(asked: Asked) -> Response:
    """What happens to runs from now on that changes how they stand in a listing; best effort, so look again now and then."""
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


@gives(Answer(str, media="image/svg+xml"), options=(_OF, _PAPER))
async def picture(asked: Asked) -> Response:
    """A run as SVG: how its tasks depend on each other, or when each of them ran."""
    of, paper = _OF.of(asked.request), _PAPER.of(asked.request)
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


@takes(Cancellation, Answer(answers.RunStatus))
async def cancel(asked: Asked, said: Cancellation) -> Response:
    """Stop a run, or one task of it; durable when this answers."""
    run_id = await _meant(asked)
    if said.task is not None:
        if said.task.partition("/")[0] != run_id:
            raise BadInput("task", said.task, f"Give the id of a task of run {run_id}.")
        state = await asked.board.cancel_task(said.task, said.reason, by=asked.by)
        return JSONResponse({"run_id": run_id, "task": said.task, "status": state})
    state = await asked.board.cancel_run(run_id, said.reason, by=asked.by)
    return JSONResponse({"run_id": run_id, "status": state})


@takes(Pause, Answer(answers.RunStatus))
async def pause(asked: Asked, said: Pause) -> Response:
    """Let a run rest."""
    run_id = await _meant(asked)
    state = await asked.board.pause_run(run_id, said.reason, seconds=said.seconds, by=asked.by)
    return JSONResponse({"run_id": run_id, "status": state})


@takes(Nothing, Answer(answers.RunStatus))
async def resume(asked: Asked, _: Nothing) -> Response:
    """Let a paused run go on."""
    run_id = await _meant(asked)
    return JSONResponse({"run_id": run_id, "status": await asked.board.resume_run(run_id, by=asked.by)})


async def _meant(asked: Asked) -> str:
    run_id = asked.path("run")
    await visible(asked.board, asked.token, run_id)
    return run_id
