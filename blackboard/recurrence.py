"""When does a schedule occur? Pure arithmetic over instants; nothing here reads a clock or touches the board.

Three forms, written as people know them:

``at(2027-03-01T09:00:00)``  once; without an offset it is the wall clock of the schedule's time zone
``rate(15 minutes)``         every so much elapsed time, counted from an anchor; daylight saving does not touch it
``cron(0 9 * * MON-FRI)``    five fields of the wall clock in the schedule's time zone, or ``@hourly`` ... ``@yearly``

Cron follows Debian's cron(8) where the wall clock jumps. An expression whose minute and hour are both fixed is meant
once a day: what falls into a gap occurs at the moment the gap ends, what falls into a repeated hour occurs the first
time only. One with ``*`` at the beginning of minute or hour is meant by elapsed time: it occurs whenever the clock shows a
matching minute, so never inside a gap and both times in a repeated hour.

Instants are whole milliseconds since the epoch.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from blackboard.errors import BadInput

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * SUN",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
LONGEST_RATE_SECONDS = 366 * 86_400
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(r"(\d{1,9})\s*(?:(second|minute|hour|day)s?|([smhd]))")
_SHORT = {unit[0]: unit for unit in _UNITS}
_FORM = re.compile(r"(at|rate|cron)\((.*)\)", re.DOTALL)
_DAY = 86_400_000
_LONGEST_CRON = 200
_COUNTED = 10_000
"""Missed occurrences of a cron expression that are counted one by one; beyond them only the last week is looked at."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The occurrences of one schedule.

    Attributes:
        text: the form it was written in, normalised.
        zone: the time zone of wall-clock times.
        once: the instant of ``at``.
        interval: milliseconds between occurrences of ``rate``.
        fields: the five fields of ``cron``.
        anchor: where a rate counts from, in milliseconds since the epoch.
        start, end: no occurrence before or after these instants.
    """

    text: str
    zone: ZoneInfo
    once: int | None = None
    interval: int | None = None
    fields: str | None = None
    anchor: int = 0
    start: int | None = None
    end: int | None = None

    def after(self, instant: int) -> int | None:
        """The first occurrence later than ``instant``; None when there is none."""
        if self.start is not None:
            instant = max(instant, self.start - 1)
        found = self._next(instant)
        return None if found is None or (self.end is not None and found > self.end) else found

    def _next(self, instant: int) -> int | None:
        if self.once is not None:
            return self.once if self.once > instant else None
        if self.interval is not None:
            steps = (instant - self.anchor) // self.interval + 1
            # Without a start of its own the first occurrence comes one interval after the anchor.
            return self.anchor + max(steps, 0 if self.start is not None else 1) * self.interval
        assert self.fields is not None
        by_elapsed_time = any(field.startswith("*") for field in self.fields.split()[:2])
        try:
            return (_by_elapsed_time if by_elapsed_time else _by_wall_clock)(self.fields, self.zone, instant)
        except (StopIteration, OverflowError, ValueError):  # the calendar ends before it occurs
            return None

    def passed(self, first: int, now: int, keep: int) -> tuple[list[int], int]:
        """The last ``keep`` occurrences from ``first`` (itself one) to ``now``, oldest first, and how many there were."""
        if first > now:
            return [], 0
        if self.interval is not None:
            last = now if self.end is None else min(now, self.end)
            count = (last - first) // self.interval + 1
            return [first + k * self.interval for k in range(max(0, count - keep), count)], count
        kept: deque[int] = deque(maxlen=keep)
        count = 0
        occurrence: int | None = first
        while occurrence is not None and occurrence <= now:
            kept.append(occurrence)
            count += 1
            start = max(occurrence, now - 7 * _DAY) if count == _COUNTED else occurrence
            occurrence = self.after(start)
        return list(kept), count

    def anchored(self, now: int) -> Recurrence:
        """The same, counting from its start or, without one, from ``now``."""
        return replace(self, anchor=now if self.start is None else self.start)


def parse(text: str, timezone: str = "UTC", start: int | None = None, end: int | None = None) -> Recurrence:
    """The recurrence a form stands for.

    Args:
        text: ``at(...)``, ``rate(...)`` or ``cron(...)``.
        timezone: IANA name of the zone of wall-clock times.
        start, end: milliseconds since the epoch, both inclusive.

    Raises:
        BadInput: a malformed form or zone, an end before the start, or an expression that never occurs.
    """
    zone = zone_named(timezone)
    if start is not None and end is not None and end < start:
        raise BadInput("end", shown(end), f"It lies before the start, {shown(start)}. Give a later end.")
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise BadInput("when", text, "Write at(TIME), rate(N UNIT) or cron(FIELDS).")
    kind, body = form[1], " ".join(form[2].split())
    if kind == "at":
        once = moment(body, zone, "at")
        return Recurrence(f"at({body})", zone, once=once, start=start, end=end)
    if kind == "rate":
        seconds = interval_seconds(body)
        return Recurrence(f"rate({body})", zone, interval=seconds * 1000, start=start, end=end)
    return Recurrence(f"cron({body})", zone, fields=_fields(body), start=start, end=end)


def zone_named(name: str) -> ZoneInfo:
    """A time zone by its IANA name.

    Raises:
        BadInput: there is none of that name.
    """
    try:
        if not re.fullmatch(r"[A-Za-z0-9_+\-/]{1,64}", name):
            raise ValueError
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadInput(
            "timezone", name, "Use an IANA name such as 'UTC', 'Europe/Berlin' or 'America/New_York'."
        ) from None


def interval_seconds(text: str) -> int:
    """``15 minutes``, or ``15m``, as seconds.

    Raises:
        BadInput: not a whole number of seconds, minutes, hours or days, or none, or longer than a year.
    """
    form = _RATE.fullmatch(text.strip().lower())
    seconds = int(form[1]) * _UNITS[form[2] or _SHORT[form[3]]] if form else 0
    if not 1 <= seconds <= LONGEST_RATE_SECONDS:
        raise BadInput("rate", text, "Write a whole number and a unit, such as '30 seconds', '5m', '1 hour' or '7d'.")
    return seconds


def moment(value: str | datetime, zone: ZoneInfo, field: str) -> int:
    """An instant from an ISO 8601 time; without an offset it is the wall clock of ``zone``.

    A time that the clock skips is the moment at which the gap ends; of one that it shows twice, the first is meant.

    Raises:
        BadInput: it is not such a time.
    """
    try:
        read = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if not isinstance(value, datetime) and "T" not in value and " " not in value:
            raise ValueError
        if not 2 <= read.year <= 9998:  # in every zone it is within the calendar
            raise ValueError
        if read.tzinfo is None:
            return _instant(read.replace(fold=0), zone)
        return _millis(read)
    except (ValueError, OverflowError, TypeError):
        raise BadInput(
            field, value, "Write an ISO 8601 time such as '2027-03-01T09:00:00' or '2027-03-01T08:00:00Z'."
        ) from None


def shown(instant: int, zone: ZoneInfo | None = None) -> str:
    """An instant as ISO 8601: in UTC with ``Z``, or in a zone with its offset."""
    value = datetime.fromtimestamp(instant // 1000, UTC) + timedelta(milliseconds=instant % 1000)
    precision = "milliseconds" if instant % 1000 else "seconds"
    if zone is not None:
        return value.astimezone(zone).isoformat(timespec=precision)
    return value.isoformat(timespec=precision).replace("+00:00", "Z")


def _fields(body: str) -> str:
    fields = PRESETS.get(body.lower(), body).upper()
    if len(fields.split()) != 5 or len(fields) > _LONGEST_CRON:
        raise BadInput(
            "cron",
            body,
            "Write five fields: minute, hour, day of month, month, day of week; for example '0 9 * * MON-FRI'.",
        )
    try:
        next(CronSim(fields, datetime(2024, 1, 1)))
    except CronSimError as error:
        named = str(error).removeprefix("Bad ")
        raise BadInput(
            "cron", body, f"Its {named} is not one that cron knows; for example '0 9 * * MON-FRI'."
        ) from None
    except (ValueError, AssertionError):
        raise BadInput("cron", body, "It is not one that cron knows; for example '0 9 * * MON-FRI'.") from None
    except StopIteration:
        raise BadInput("cron", body, "It names a day that does not come within 50 years.") from None
    return fields


def _by_wall_clock(fields: str, zone: ZoneInfo, instant: int) -> int:
    """Every wall-clock time that matches occurs exactly once."""
    for wall in _matches(fields, _wall(instant, zone)):
        found = _instant(wall, zone)
        if found > instant:  # in the second pass of a repeated hour the wall clock is behind
            return found
    raise StopIteration


def _by_elapsed_time(fields: str, zone: ZoneInfo, instant: int) -> int:
    """Every minute at which the clock shows a match occurs. Works through stretches of time with one offset each."""
    while True:
        offset = _offset(instant, zone)
        found = _millis(next(_matches(fields, _wall(instant, zone))).replace(tzinfo=UTC)) - offset
        change = _change(zone, instant, found)
        if change is None:
            return found
        wall = _wall(change, zone)
        if next(_matches(fields, wall - timedelta(seconds=1))) == wall:
            return change
        instant = change


def _matches(fields: str, wall: datetime) -> Iterator[datetime]:
    return iter(CronSim(fields, wall.replace(tzinfo=None)))


def _wall(instant: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(instant // 1000, zone).replace(tzinfo=None, fold=0)


def _offset(instant: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(instant // 1000, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) * 1000


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _instant(wall: datetime, zone: ZoneInfo) -> int:
    """The instant of a wall-clock time: the first of two, and the end of the gap for one that never is (PEP 495)."""
    early, late = _millis(wall.replace(tzinfo=zone, fold=0)), _millis(wall.replace(tzinfo=zone, fold=1))
    if late >= early:
        return early
    change = _change(zone, late, early)
    return early if change is None else change


def _change(zone: ZoneInfo, after: int, until: int) -> int | None:
    """The first change of the zone's offset later than ``after`` and not later than ``until``."""
    low, until = after - after % 1000, until - until % 1000
    offset = _offset(low, zone)
    while low < until:
        high = min(low + _DAY, until)
        if _offset(high, zone) != offset:
            while high - low > 1000:
                middle = (low + high) // 2000 * 1000
                if _offset(middle, zone) == offset:
                    low = middle
                else:
                    high = middle
            return high
        low = high
    return None
