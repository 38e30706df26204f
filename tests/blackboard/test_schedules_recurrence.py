"""When schedules occur: rates, wall clocks, daylight saving, all against a reference that tries every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackboard.errors import BadInput
from blackboard.recurrence import Recurrence, interval_seconds, parse, shown

NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"
ZONES = [
    "UTC", NEW_YORK, BERLIN, "Africa/Cairo", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu", "Asia/Beirut",
    "America/Havana", "Pacific/Apia", "Africa/Casablanca",
]  # fmt: skip
MINUTE = 60_000


def instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def some(recurrence: Recurrence, after: str, count: int, zone: str = "UTC") -> list[str]:
    found: list[str] = []
    at: int | None = instant(after)
    while at is not None and len(found) < count:
        at = recurrence.after(at)
        if at is not None:
            found.append(shown(at, ZoneInfo(zone)))
    return found


def test_a_rate_counts_from_its_anchor_and_not_from_when_it_is_asked() -> None:
    every = parse("rate(15 minutes)").anchored(instant("2027-01-01T00:07:00Z"))
    assert some(every, "2027-01-01T00:00:00Z", 2) == ["2027-01-01T00:22:00+00:00", "2027-01-01T00:37:00+00:00"]
    assert some(every, "2027-01-01T03:21:59.999Z", 1) == ["2027-01-01T03:22:00+00:00"]


@pytest.mark.parametrize(
    ("short", "long"), [("30s", "30 seconds"), ("15m", "15 minutes"), ("1h", "1 hour"), ("7d", "7 days")]
)
def test_a_rate_may_be_written_as_short_as_any_span(short: str, long: str) -> None:
    assert interval_seconds(short) == interval_seconds(long) > 0
    assert parse(f"rate({short})").anchored(0).after(5) == interval_seconds(long) * 1000


def test_a_rate_with_a_start_occurs_at_the_start_and_is_not_moved_by_daylight_saving() -> None:
    start = instant("2027-03-13T09:00:00-05:00")
    daily = parse("rate(1 day)", NEW_YORK, start).anchored(0)
    assert some(daily, "2027-01-01T00:00:00Z", 2, NEW_YORK) == [
        "2027-03-13T09:00:00-05:00",
        "2027-03-14T10:00:00-04:00",
    ]


def test_an_end_is_inclusive_and_the_last() -> None:
    hourly = parse("rate(1 hour)", "UTC", instant("2027-01-01T00:00Z"), instant("2027-01-01T02:00Z")).anchored(0)
    assert len(some(hourly, "2026-01-01T00:00Z", 10)) == 3


def test_a_fixed_time_in_the_gap_occurs_when_the_gap_ends_and_only_once_in_the_repeated_hour() -> None:
    daily = parse("cron(30 2 * * *)", BERLIN)
    assert some(daily, "2027-03-27T12:00Z", 2, BERLIN) == ["2027-03-28T03:00:00+02:00", "2027-03-29T02:30:00+02:00"]
    assert some(daily, "2027-10-30T12:00Z", 2, BERLIN) == ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]
    # Asked inside the second pass, what occurred in the first does not occur again.
    assert some(daily, "2027-10-31T02:10:00+01:00", 1, BERLIN) == ["2027-11-01T02:30:00+01:00"]


def test_two_fixed_times_in_one_gap_are_one_occurrence() -> None:
    twice = parse("cron(15,45 2 * * *)", BERLIN)
    assert some(twice, "2027-03-28T00:00Z", 2, BERLIN) == ["2027-03-28T03:00:00+02:00", "2027-03-29T02:15:00+02:00"]


def test_a_wildcard_skips_the_gap_and_goes_on_through_both_passes_of_the_repeated_hour() -> None:
    half = parse("cron(30 * * * *)", BERLIN)
    assert some(half, "2027-03-28T00:45Z", 2, BERLIN) == ["2027-03-28T03:30:00+02:00", "2027-03-28T04:30:00+02:00"]
    assert some(half, "2027-10-31T00:00Z", 3, BERLIN) == [
        "2027-10-31T02:30:00+02:00", "2027-10-31T02:30:00+01:00", "2027-10-31T03:30:00+01:00",
    ]  # fmt: skip


def test_an_at_without_an_offset_is_the_wall_clock_of_the_zone() -> None:
    assert parse("at(2027-03-28T02:30)", BERLIN).once == instant("2027-03-28T03:00:00+02:00")
    assert parse("at(2027-10-31T02:30)", BERLIN).once == instant("2027-10-31T02:30:00+02:00")
    assert parse("at(2027-10-31T02:30+01:00)", BERLIN).once == instant("2027-10-31T02:30:00+01:00")


def test_a_preset_is_what_it_stands_for() -> None:
    assert some(parse("cron(@weekly)"), "2027-01-01T00:00Z", 1) == ["2027-01-03T00:00:00+00:00"]


@pytest.mark.parametrize(
    ("when", "zone", "field"),
    [
        ("cron(* * * *)", "UTC", "cron"), ("cron(61 * * * *)", "UTC", "cron"), ("cron(0 9 30 2 *)", "UTC", "cron"),
        ("cron(* * * * * *)", "UTC", "cron"), ("cron(a b c d e)", "UTC", "cron"), ("cron()", "UTC", "cron"),
        ("rate(0 minutes)", "UTC", "rate"), ("rate(-5 minutes)", "UTC", "rate"), ("rate(5)", "UTC", "rate"),
        ("rate(2 fortnights)", "UTC", "rate"), ("rate(400 days)", "UTC", "rate"), ("rate(1.5 hours)", "UTC", "rate"),
        ("at(tomorrow)", "UTC", "at"), ("at(2027-02-30T00:00)", "UTC", "at"), ("at(2027-02-01)", "UTC", "at"),
        ("every day", "UTC", "when"), ("", "UTC", "when"), ("cron(0 9 * * *)", "Mars/Olympus", "timezone"),
        ("cron(0 9 * * *)", "", "timezone"), ("cron(0 9 * * *)", "../etc/passwd", "timezone"),
        ("cron(0 9 * * *)", "America", "timezone"), ("cron(0 9 * * *)", "/".join(["U"] * 1000), "timezone"),
        ("at(9999-12-31T23:59)", "America/New_York", "at"), ("at(0001-01-01T00:00)", "Asia/Tokyo", "at"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_its_field_and_a_remedy(when: str, zone: str, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse(when, zone)
    assert refused.value.field == field
    assert refused.value.remedy


@settings(deadline=None)
@given(st.text(max_size=30) | st.text("0123456789*/,-#LWMONFEB ", max_size=30))
def test_no_text_breaks_the_parser(text: str) -> None:
    for form in ("cron", "rate", "at"):
        try:
            parse(f"{form}({text})").after(instant("2027-01-01T00:00Z"))
        except BadInput:
            pass


_minutes = st.one_of(st.integers(0, 59).map(str), st.sampled_from(["*", "*/7", "*/30", "0,30", "15,45", "10-20"]))
_hours = st.one_of(
    st.integers(0, 4).map(str), st.integers(0, 23).map(str), st.sampled_from(["*", "*/2", "0-3", "1,2,3"])
)
_days = st.sampled_from(["* * *", "* * *", "* * SUN", "* * FRI", "28-31 * *", "1 * MON"])


@cache
def _changes(zone: str, year: int) -> list[datetime]:
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=6 * k) for k in range(1464)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [hours[k] for k in range(1, len(hours)) if offsets[k] != offsets[k - 1]] or [hours[0]]


def _near_a_change(zone: str, year: int, pick: int) -> int:
    """An instant up to two days before a change of the zone's offset; the new year's where it has none."""
    changes = _changes(zone, year)
    return round(changes[pick % len(changes)].timestamp() * 1000)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    _minutes, _hours, _days, st.sampled_from(ZONES), st.integers(2020, 2030), st.integers(0, 5), st.integers(0, 2880),
    st.integers(0, 59_999),
)  # fmt: skip
def test_cron_agrees_with_trying_every_minute(
    minute: str, hour: str, days: str, zone: str, year: int, pick: int, back: int, millis: int
) -> None:
    text = f"{minute} {hour} {days}"
    recurrence = parse(f"cron({text})", zone)
    begin = _near_a_change(zone, year, pick) - back * MINUTE - millis
    end = begin + 4 * 1440 * MINUTE
    found: list[int] = []
    at = recurrence.after(begin)
    while at is not None and at <= end:
        found.append(at)
        at = recurrence.after(at)
    assert found == _tried(text, ZoneInfo(zone), begin, end)
    for asked in (begin + (end - begin) // 3, begin + (end - begin) // 2):  # where it is asked from does not matter
        assert recurrence.after(asked) == next((one for one in found if one > asked), at)


def _tried(text: str, zone: ZoneInfo, begin: int, end: int) -> list[int]:
    """The same by definition, minute by minute over real time."""
    elapsed = any(field.startswith("*") for field in text.split()[:2])
    first = begin // MINUTE * MINUTE - 1440 * MINUTE
    walls = [
        (at, datetime.fromtimestamp(at / 1000, zone).replace(tzinfo=None, fold=0))
        for at in range(first, end + MINUTE, MINUTE)
    ]
    if elapsed:
        return [at for at, wall in walls if begin < at <= end and _matches(text, wall)]
    found: set[int] = set()
    shown_before: datetime | None = None
    for at, wall in walls:
        if shown_before is None:
            shown_before = wall - timedelta(minutes=1)
        # Every wall-clock minute up to this one that has not been passed yet: one, none in a second pass, many at a gap.
        while shown_before < wall:
            shown_before += timedelta(minutes=1)
            if _matches(text, shown_before):
                found.add(at)
    return sorted(at for at in found if begin < at <= end)


def _matches(text: str, wall: datetime) -> bool:
    minute, hour, day, month, weekday = text.split()
    both = day.startswith("*") or weekday.startswith("*")
    on_day, on_weekday = _in(day, wall.day), _in(weekday, wall.isoweekday() % 7)
    on = (on_day and on_weekday) if both else (on_day or on_weekday)
    return on and _in(minute, wall.minute) and _in(hour, wall.hour) and _in(month, wall.month)


def _in(field: str, value: int) -> bool:
    names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
    for term in field.split(","):
        if term == "*" or (term.startswith("*/") and value % int(term[2:]) == 0):
            return True
        low, _, high = term.partition("-")
        if term[0].isdigit() and int(low) <= value <= int(high or low):
            return True
        if term in names and names.index(term) == value:
            return True
    return False


@settings(deadline=None)
@given(st.integers(1, 86_400), st.integers(0, 10**6), st.integers(1, 50))
def test_what_has_passed_is_counted_without_walking_through_it(seconds: int, elapsed: int, keep: int) -> None:
    every = parse(f"rate({seconds} seconds)").anchored(0)
    first, now = seconds * 1000, elapsed * 1000
    kept, count = every.passed(first, now, keep)
    expected = [k * first for k in range(1, elapsed // seconds + 1)]
    assert (kept, count) == (expected[-keep:], len(expected))


def test_years_of_missed_minutes_are_passed_over_quickly() -> None:
    every = parse("cron(* * * * *)", BERLIN)
    now = instant("2030-01-01T00:00Z")
    kept, count = every.passed(instant("2027-01-01T00:00Z"), now, 2)
    assert kept == [now - MINUTE, now]
    assert count >= 10_000
