"""From what a person says about a schedule to the schedule: one way of saying when, dates, time zones, requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

from pydantic import JsonValue

from arbiter.requests import accept
from blackboard import recurrence, taint
from blackboard.errors import BadInput
from blackboard.occurrence import rendered
from blackboard.schedule import CatchUp, Overlap, Schedule, checked
from blackboard.types import Limits

Moment = str | datetime


def schedule_of(
    name: str,
    request: str | Mapping[str, JsonValue],
    *,
    at: Moment | None = None,
    rate: str | timedelta | None = None,
    cron: str | None = None,
    timezone: str = "UTC",
    start: Moment | None = None,
    end: Moment | None = None,
    window: float | timedelta = 0.0,
    catch_up: CatchUp | None = None,
    overlap: Overlap = "skip",
    delete_after_completion: bool = False,
    tenant: str = "default",
    limits: Limits | None = None,
    sources: Sequence[str] | None = None,
    plan: Sequence[Mapping[str, JsonValue]] = (),
) -> Schedule:
    """The schedule that is meant; :meth:`arbiter.sdk.Arbiter.schedule` says what each argument is.

    Raises:
        BadInput: not exactly one of ``at``, ``rate`` and ``cron``, or one of them malformed, or something wrong with the plan.
    """
    zone = recurrence.zone_named(timezone)
    given = {form: value for form, value in (("at", at), ("rate", rate), ("cron", cron)) if value is not None}
    if len(given) != 1:
        raise BadInput("when", sorted(given), "Say exactly one of at, rate and cron.")
    for field, value, allowed in (
        ("catch_up", catch_up, (None, "none", "last", "all")),
        ("overlap", overlap, ("skip", "allow")),
    ):
        if value not in allowed:
            raise BadInput(field, value, f"Use one of: {', '.join(word for word in allowed if word)}.")
    ((form, value),) = given.items()
    if isinstance(value, timedelta):
        value = f"{_whole(value)} seconds"
    elif form == "at":
        value = recurrence.shown(recurrence.moment(value, zone, "at"))
    elif not isinstance(cast(object, value), str):
        raise BadInput(form, value, "Write it as text.")
    seconds = window.total_seconds() if isinstance(window, timedelta) else window
    if not isinstance(cast(object, seconds), int | float):
        raise BadInput("window", window, "Give seconds or a timedelta.")
    if plan:
        from arbiter.given_plans import (
            checked as checked_plan,
        )  # with the tools of a planner, which other requests do not need

        plan = checked_plan(plan, request, None, limits)
    schedule = Schedule(
        name=name, when=f"{form}({value})", request=_request(request, name), timezone=timezone,
        start=None if start is None else recurrence.moment(start, zone, "start") / 1000,
        end=None if end is None else recurrence.moment(end, zone, "end") / 1000,
        window_seconds=float(seconds), catch_up=catch_up, overlap=overlap,
        delete_after_completion=delete_after_completion, tenant=tenant, limits=limits,
        sources=() if sources is None else taint.given(sources), plan=tuple(dict(step) for step in plan),
    )  # fmt: skip
    checked(schedule)
    # What every occurrence will submit must be acceptable; only the time in it differs.
    accept(cast("str | Mapping[str, JsonValue]", rendered(schedule.request, name, 0, zone)), None)
    return schedule


def _request(request: str | Mapping[str, JsonValue], name: str) -> JsonValue:
    if isinstance(request, str):
        return request
    if not isinstance(cast(object, request), Mapping):
        raise BadInput("request", request, "Pass text, a JSON object, or a CloudEvents event.")
    if "specversion" in request and "{{occurrence}}" not in str(request.get("id", "{{occurrence}}")):
        raise BadInput(
            "request.id",
            request["id"],
            "Every occurrence is an event of its own: leave id out, or put {{occurrence}} in it.",
        )
    return dict(request)


def _whole(interval: timedelta) -> int:
    seconds = interval.total_seconds()
    if seconds != int(seconds) or seconds < 1:
        raise BadInput("rate", str(interval), "Use whole seconds, at least one.")
    return int(seconds)
