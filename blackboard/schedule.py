"""What a schedule is, what it says about itself, and which schedules are refused."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

from pydantic import JsonValue

from blackboard import recurrence
from blackboard.errors import BadInput
from blackboard.payloads import dump
from blackboard.recurrence import Recurrence
from blackboard.taint import Taint, given
from blackboard.types import Limits, Record, type_name

REQUEST_BYTES = 256 * 1024
"""Largest request of a schedule, and largest plan, as JSON: they are read at every occurrence."""
LONGEST_WINDOW_SECONDS = 86_400.0
CATCH_UP_LIMIT = 100
"""Most occurrences that ``catch_up="all"`` makes up for at a time, the latest ones."""
_SAMPLED, _SAMPLED_FROM = 48, 1_767_225_600_000
"""How many occurrences, and from when on, are looked at for the shortest time between two."""

CatchUp = Literal["none", "last", "all"]
Overlap = Literal["skip", "allow"]


class Schedule(Record):
    """What a schedule is: when, and what is submitted then."""

    name: str
    when: str
    """``at(...)``, ``rate(...)`` or ``cron(...)``; see :mod:`blackboard.recurrence`."""
    request: JsonValue
    timezone: str = "UTC"
    start: float | None = None
    """No occurrence earlier than this, in seconds since the epoch; a rate counts from it."""
    end: float | None = None
    """No occurrence later than this, in seconds since the epoch."""
    window_seconds: float = 0.0
    """Each occurrence is delayed by its own fixed part of this, so that many schedules of one time spread."""
    catch_up: CatchUp | None = None
    """What becomes of occurrences missed while nothing ran: ``none`` skips them, ``last`` fires the latest of them,
    ``all`` fires the latest :data:`CATCH_UP_LIMIT`. Default: ``last`` for ``at``, ``none`` for the others."""
    overlap: Overlap = "skip"
    """Whether an occurrence is skipped while the run before has not ended."""
    delete_after_completion: bool = False
    tenant: str = "default"
    limits: Limits | None = None
    sources: Taint = ()
    """Where the request comes from; see :mod:`blackboard.taint`. Default: an event from its ``source``, else a person."""
    plan: tuple[dict[str, JsonValue], ...] = ()
    """Steps that each run is given, and carries out without a model."""


class Scheduled(Record):
    """A schedule and how far it is. Times are in seconds since the epoch."""

    schedule: Schedule
    status: Literal["enabled", "disabled", "completed"]
    created_at: float
    next_at: float | None = None
    """The next occurrence."""
    due_at: float | None = None
    """When that is fired: its time and its part of the window."""
    fired: int = 0
    """Occurrences that became a run."""
    missed: int = 0
    """Occurrences skipped because nothing ran when they were due."""
    overlapped: int = 0
    """Occurrences skipped because the run before had not ended."""
    failed: int = 0
    """Occurrences whose request was refused."""
    last_at: float | None = None
    """The latest occurrence that became a run, or the time of a later run by hand."""
    last_run: str | None = None
    last_error: str | None = None


def checked(schedule: Schedule) -> None:
    """Refuse a schedule that is malformed.

    Raises:
        BadInput: the field, its value and what to write instead.
    """
    for field, value in (("name", schedule.name), ("tenant", schedule.tenant)):
        if not re.match(type_name, value):
            raise BadInput(field, value, "Use 1-64 lower-case letters, digits, '.', '_' or '-'.")
    request = schedule.request
    if request is None or request in ("", {}, []) or (isinstance(request, str) and not request.strip()):
        raise BadInput("request", request, "Say what is to be done, as text or as a JSON object.")
    dump(request, "request", REQUEST_BYTES)
    dump([*schedule.plan], "plan", REQUEST_BYTES)
    if schedule.sources:
        given(schedule.sources)
    if schedule.catch_up == "all" and schedule.overlap == "skip":
        raise BadInput("catch_up", "all", "Occurrences made up for would overlap: say overlap='allow' as well.")
    occurring = times(schedule, 0)
    window = schedule.window_seconds
    if not 0 <= window <= LONGEST_WINDOW_SECONDS:
        raise BadInput("window_seconds", window, f"Use 0 to {LONGEST_WINDOW_SECONDS:,.0f} seconds.")
    if window and (gap := _shortest_gap(occurring)) is not None and window * 1000 > gap:
        raise BadInput("window_seconds", window, f"Occurrences come every {gap / 1000:g} s: use no more than that.")


def times(schedule: Schedule, now: int) -> Recurrence:
    """When it occurs; a rate without a start counts from ``now``, in milliseconds since the epoch.

    Raises:
        BadInput: a malformed time, rate, cron expression or zone.
    """
    start, end = (None if at is None else round(at * 1000) for at in (schedule.start, schedule.end))
    return recurrence.parse(schedule.when, schedule.timezone, start, end).anchored(now)


def _shortest_gap(occurring: Recurrence) -> int | None:
    """Of the first occurrences; milliseconds. None when it occurs once."""
    if occurring.interval is not None:
        return occurring.interval
    found: list[int] = []
    at = occurring.after(max(occurring.start or 0, _SAMPLED_FROM))
    while at is not None and len(found) < _SAMPLED:
        found.append(at)
        at = occurring.after(at)
    return min((later - earlier for earlier, later in pairwise(found)), default=None)
