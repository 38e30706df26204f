"""Schedules on a board: one run for each occurrence, whoever sweeps and whoever dies in between."""

from __future__ import annotations

from typing import Any

import pytest
import schedule_times
from schedule_times import NOON, Times

from blackboard.errors import BadInput, Conflict, UnknownRecord
from blackboard.occurrence import jitter
from blackboard.schedule import CATCH_UP_LIMIT
from blackboard.schedules import GRACE_SECONDS
from blackboard.types import Limits

times = schedule_times.times


# ---- occurrences -------------------------------------------------------------------------------------------------------


async def test_an_occurrence_becomes_one_run_and_the_next_is_announced(times: Times) -> None:
    assert (await times.add(request="{{schedule}} at {{occurrence}}")).next_at == NOON + 60
    assert await times.sweep(59.999) == pytest.approx(0.001)
    assert await times.requests() == []
    assert await times.sweep(60.0) == pytest.approx(60.0)
    assert await times.sweep(60.0) == pytest.approx(60.0)
    assert await times.requests() == ["s at 2027-01-01T12:01:00Z"]
    s = await times.get()
    assert (s.fired, s.last_at, s.next_at, s.status) == (1, NOON + 60, NOON + 120, "enabled")
    assert (await times.board.summary(s.last_run or "")).request == "s at 2027-01-01T12:01:00Z"


async def test_a_run_has_the_tenant_and_the_limits_of_its_schedule(times: Times) -> None:
    await times.add(tenant="acme", limits=Limits(rounds=3))
    await times.sweep(60)
    (run,) = await times.board.runs()
    assert run.tenant == "acme"
    (accepted, *_) = await times.board.history(run.id)
    assert accepted.model_dump(mode="json")["data"]["limits"]["rounds"] == 3


async def test_a_run_comes_from_where_its_schedule_says(times: Times) -> None:
    await times.add()
    assert '"sources"' not in str(await times.board.client.hgetall(times.board.shards[0].prefix + "schedule:defs"))
    await times.add(sources=("mail:inbox",), replace=True)
    await times.sweep(60)
    (run,) = await times.board.runs()
    (accepted, *_) = await times.board.history(run.id)
    assert accepted.model_dump(mode="json")["data"]["taint"] == ["mail:inbox"]
    with pytest.raises(BadInput, match="label"):
        await times.add(sources=("no label",), replace=True)


async def test_an_event_gets_the_identity_of_its_occurrence(times: Times) -> None:
    template = {"specversion": "1.0", "type": "tick", "source": "/shop", "data": {"day": ["{{local}}", 1, None]}}
    await times.add("cron(0 9 * * *)", request=template, timezone="America/New_York")
    await times.sweep(2 * 3600)
    (run,) = await times.board.runs()
    accepted = (await times.board.history(run.id))[0].model_dump(mode="json")["data"]["request"]
    assert accepted == {
        "specversion": "1.0", "type": "tick", "source": "/shop", "id": "s/2027-01-01T14:00:00Z",
        "time": "2027-01-01T14:00:00Z", "data": {"day": ["2027-01-01T09:00:00-05:00", 1, None]},
    }  # fmt: skip


async def test_once_is_once_and_then_completed(times: Times) -> None:
    await times.add("at(2027-01-01T12:05:00)")
    assert await times.sweep(300) == 60.0
    assert await times.sweep(900) == 60.0
    s = await times.get()
    assert (s.status, s.fired, s.next_at) == ("completed", 1, None)
    # The same program started again finds it done, and does not do it again.
    assert (await times.add("at(2027-01-01T12:05:00)")).status == "completed"
    assert await times.sweep(901) == 60.0
    assert len(await times.requests()) == 1


@pytest.mark.parametrize("when", ["at(2027-01-01T12:01:00)", "rate(1 minute)"])
async def test_a_schedule_that_is_over_goes_when_it_is_to(times: Times, when: str) -> None:
    await times.add(when, end=NOON + 90, delete_after_completion=True)
    await times.sweep(60)
    assert await times.schedules.list() == []
    assert len(await times.requests()) == 1
    with pytest.raises(UnknownRecord, match="no schedule s"):
        await times.get()


async def test_a_window_delays_every_occurrence_by_its_own_fixed_part(times: Times) -> None:
    await times.add("rate(1 hour)", window_seconds=600)
    occurrence = NOON + 3600
    part = jitter("s", round(occurrence * 1000), 600_000) / 1000
    s = await times.get()
    assert (s.next_at, s.due_at) == (occurrence, pytest.approx(occurrence + part))
    await times.sweep(3600 + part - 0.01)
    assert await times.requests() == []
    await times.sweep(3600 + part)
    assert await times.counts() == (1, 0, 0, 0)
    parts = [jitter("s", k, 600_000) for k in range(2000)]
    assert 0 <= min(parts) < 6000
    assert 594_000 < max(parts) < 600_000


# ---- what was missed ---------------------------------------------------------------------------------------------------


async def test_occurrences_that_nobody_could_fire_are_skipped_and_counted(times: Times) -> None:
    await times.add("rate(10 minutes)")
    await times.sweep(3600 + GRACE_SECONDS + 1)
    assert await times.counts() == (0, 6, 0, 0)
    assert (await times.get()).next_at == NOON + 4200
    await times.sweep(4200)
    assert await times.counts() == (1, 6, 0, 0)


async def test_of_many_the_latest_is_fired_while_it_is_fresh(times: Times) -> None:
    await times.add("rate(10 minutes)", request="{{occurrence}}")
    await times.sweep(3600 + GRACE_SECONDS)
    assert await times.requests() == ["2027-01-01T13:00:00Z"]
    assert await times.counts() == (1, 5, 0, 0)


async def test_the_last_one_missed_is_made_up_for_on_request_and_for_a_single_time(times: Times) -> None:
    await times.add("rate(10 minutes)", request="{{occurrence}}", catch_up="last")
    await times.add("at(2027-01-01T12:30)", name="once", request="once")
    await times.sweep(7 * 86_400 + 599)
    assert await times.requests() == ["2027-01-08T12:00:00Z", "once"]
    assert await times.counts() == (1, 7 * 144 - 1, 0, 0)


async def test_all_missed_ones_are_made_up_for_within_bounds(times: Times) -> None:
    await times.add("cron(* * * * *)", request="{{occurrence}}", catch_up="all", overlap="allow")
    await times.sweep(3 * 60)
    assert len(await times.requests()) == 3
    await times.sweep((3 + CATCH_UP_LIMIT + 7) * 60)
    assert await times.counts() == (3 + CATCH_UP_LIMIT, 7, 0, 0)
    assert len(await times.requests()) == 3 + CATCH_UP_LIMIT


async def test_an_occurrence_is_skipped_while_the_run_before_goes_on(times: Times) -> None:
    await times.add()
    await times.sweep(60)
    await times.sweep(120)
    assert await times.counts() == (1, 0, 1, 0)
    await times.board.cancel_run((await times.get()).last_run or "")
    await times.sweep(180)
    assert await times.counts() == (2, 0, 1, 0)


async def test_occurrences_overlap_where_that_is_allowed(times: Times) -> None:
    await times.add(overlap="allow")
    await times.sweep(60)
    await times.sweep(120)
    assert await times.counts() == (2, 0, 0, 0)


# ---- changes -----------------------------------------------------------------------------------------------------------


async def test_adding_the_same_again_changes_nothing_and_another_needs_replace(times: Times) -> None:
    first = await times.add()
    await times.at(30)
    assert await times.add() == first
    with pytest.raises(Conflict, match="another definition"):
        await times.add(request="something else")
    await times.sweep(60)
    replaced = await times.add("rate(1 hour)", request="something else", replace=True)
    assert (replaced.fired, replaced.next_at) == (1, NOON + 60 + 3600)


async def test_a_disabled_schedule_rests_and_makes_nothing_up(times: Times) -> None:
    assert (await times.add(enabled=False)).next_at is None
    assert await times.sweep(60) == 60.0
    assert (await times.schedules.enable("s")).next_at == NOON + 120
    assert (await times.schedules.disable("s")).status == "disabled"
    assert (await times.add(request="other", replace=True)).status == "disabled"
    await times.sweep(600)
    assert (await times.schedules.enable("s")).next_at == NOON + 660
    assert await times.counts() == (0, 0, 0, 0)
    assert await times.requests() == []


async def test_a_removed_schedule_is_gone_and_comes_back_without_firing_the_same_time_twice(times: Times) -> None:
    await times.add(request="{{occurrence}}")
    await times.sweep(60)
    assert await times.schedules.remove("s")
    assert not await times.schedules.remove("s")
    await times.sweep(120)
    await times.at(50)
    await times.add("cron(* * * * *)", request="{{occurrence}}")
    await times.sweep(60)
    assert len(await times.requests()) == 1


async def test_it_runs_now_on_request_even_when_disabled(times: Times) -> None:
    await times.add(enabled=False, request="{{occurrence}}")
    first, second = await times.schedules.run_now("s"), await times.schedules.run_now("s")
    assert first != second
    s = await times.get()
    assert (s.last_run, s.fired, s.status) == (second, 0, "disabled")
    assert await times.requests() == ["2027-01-01T12:00:00Z"] * 2


async def test_schedules_are_listed_by_name(times: Times) -> None:
    for name in ("b", "c", "a"):
        await times.add(name=name)
    assert [one.schedule.name for one in await times.schedules.list()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("name", {"name": "no spaces"}), ("tenant", {"tenant": "A"}), ("request", {"request": "  "}),
        ("request", {"request": {}}), ("request", {"request": "x" * 300_000}), ("cron", {"when": "cron(99 * * * *)"}),
        ("timezone", {"timezone": "Nowhere/City"}), ("end", {"start": NOON + 9, "end": NOON + 8}),
        ("when", {"when": "at(2026-12-31T00:00)"}), ("when", {"end": NOON - 1}),
        ("catch_up", {"catch_up": "all"}), ("window_seconds", {"window_seconds": -1}),
        ("window_seconds", {"window_seconds": 61}), ("window_seconds", {"when": "cron(*/5 * * * *)", "window_seconds": 301}),
    ],
)  # fmt: skip
@pytest.mark.engines("redis")
async def test_what_is_malformed_is_refused_and_nothing_is_stored(
    times: Times, field: str, more: dict[str, Any]
) -> None:
    with pytest.raises(BadInput) as refused:
        await times.add(**more)
    assert refused.value.field == field
    assert refused.value.remedy
    assert await times.schedules.list() == []
