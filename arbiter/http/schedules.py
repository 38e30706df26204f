"""Schedules over HTTP: requests, with or without a plan, that are submitted at their times."""

from __future__ import annotations

from typing import Any

from pydantic import Field, JsonValue
from starlette.responses import JSONResponse, Response

from arbiter.http import answers, runs, streams
from arbiter.http.access import tenant_of
from arbiter.http.asked import Asked
from arbiter.http.described import Answer, gives, takes
from arbiter.http.problems import Forbidden
from arbiter.http.runs import Nothing
from arbiter.schedules import schedule_of
from blackboard.errors import UnknownRecord
from blackboard.schedule import CatchUp, Overlap, Scheduled
from blackboard.schedules import Schedules
from blackboard.types import Limits, Record


class AddedSchedule(Record):
    name: str
    request: str | dict[str, JsonValue]
    plan: tuple[dict[str, JsonValue], ...] = ()
    at: str | None = None
    rate: str | None = None
    cron: str | None = None
    timezone: str = "UTC"
    start: str | None = None
    end: str | None = None
    window: float = Field(default=0.0, allow_inf_nan=False)
    catch_up: CatchUp | None = None
    overlap: Overlap = "skip"
    delete_after_completion: bool = False
    enabled: bool | None = None
    replace: bool = False
    tenant: str | None = None
    limits: Limits | None = None


@gives(Answer(answers.Schedules))
async def listing(asked: Asked) -> Response:
    """The schedules; of a tenant's token those whose runs are the tenant's."""
    found = await Schedules(asked.board).list()
    return streams.answer({"schedules": [_record(one) for one in found if _mine(asked, one)]})


@takes(AddedSchedule, Answer(answers.ScheduleState, 201), Answer(answers.ScheduleState), options=(runs.SOURCE,))
async def add(asked: Asked, said: AddedSchedule) -> Response:
    """Store a schedule, or find it already there. Its runs come from whoever stores it."""
    wanted = schedule_of(
        said.name, said.request, plan=said.plan, at=said.at, rate=said.rate, cron=said.cron, timezone=said.timezone,
        start=said.start, end=said.end, window=said.window, catch_up=said.catch_up, overlap=said.overlap,
        delete_after_completion=said.delete_after_completion, limits=said.limits,
        tenant=tenant_of(asked.token, said.tenant, asked.client.tenant), sources=runs.sources(asked, said.request),
    )  # fmt: skip
    schedules = Schedules(asked.board)
    there = {one.schedule.name: one for one in await schedules.list()}.get(said.name)
    if there is not None and not _mine(asked, there):
        raise Forbidden(f"The name {said.name} is taken.")
    stored = await schedules.add(wanted, enabled=said.enabled, replace=said.replace)
    return JSONResponse(_record(stored), 201 if there is None else 200)


@takes(Nothing, Answer(answers.Removed))
async def remove(asked: Asked, _: Nothing) -> Response:
    """Forget a schedule; its runs go on."""
    name, schedules = asked.path("name"), Schedules(asked.board)
    there = {one.schedule.name: one for one in await schedules.list()}.get(name)
    if there is None or not _mine(asked, there) or not await schedules.remove(name):
        raise UnknownRecord("UNKNOWN", f"no schedule {name} on this board")
    return JSONResponse({"name": name, "status": "removed"})


def _mine(asked: Asked, one: Scheduled) -> bool:
    return asked.token.tenant in (None, one.schedule.tenant)


def _record(one: Scheduled) -> dict[str, Any]:
    said = one.model_dump(mode="json")
    return {**said.pop("schedule"), **said}
