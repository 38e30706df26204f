"""Schedules on a board: one run for each occurrence, whoever sweeps and whoever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from blackboard import _script
from blackboard.board import Board
from blackboard.errors import BadInput, Conflict, EngineUnavailable, ScriptRefused, UnknownRecord
from blackboard.occurrence import jitter
from blackboard.schedule import CATCH_UP_LIMIT, Schedule, Scheduled
from blackboard.schedules import FIRING_SECONDS, GIVE_UP_SECONDS, GRACE_SECONDS, Schedules
from blackboard.types import Limits

NOON = datetime.fromisoformat("2027-01-01T12:00:00Z").timestamp()

CLOCK = """
local R = redis
local redis = {call = function(command, ...)
  if command ~= 'TIME' then return R.call(command, ...) end
  local now = R.call('GET', KEYS[1] .. '@clock')
  return {string.sub(now, 1, -7), string.sub(now, -6)}
end}
"""

_load = _script.load


class Times:
    """Schedules under a clock that stands still until it is turned."""

    def __init__(self, board: Board) -> None:
        self.board, self.schedules, self.now = board, Schedules(board), NOON

    async def at(self, seconds: float) -> None:
        self.now = NOON + seconds
        key = self.board.shards[0].prefix + "schedule:defs@clock"
        await self.board.client.set(key, str(round(self.now * 1_000_000)))

    async def add(self, when: str = "rate(1 minute)", **more: Any) -> Scheduled:
        options = {name: more.pop(name) for name in ("enabled", "replace") if name in more}
        return await self.schedules.add(Schedule(**{"name": "s", "when": when, "request": "go", **more}), **options)

    async def sweep(self, seconds: float) -> float:
        await self.at(seconds)
        return await self.schedules.sweep()

    async def get(self) -> Scheduled:
        return await self.schedules.get("s")

    async def requests(self) -> list[str]:
        return sorted(run.request for run in await self.board.runs(1000))

    async def counts(self) -> tuple[int, int, int, int]:
        s = await self.get()
        return s.fired, s.missed, s.overlapped, s.failed


@pytest.fixture
async def times(board: Board, monkeypatch: pytest.MonkeyPatch) -> Times:
    def load(name: str, prelude: str = "_board") -> _script.Script:
        script = _load(name, prelude)
        return _script.Script(name, CLOCK + script.text) if prelude == "_schedule" else script

    monkeypatch.setattr(_script, "load", load)
    made = Times(board)
    await made.at(0)
    return made


def dies(schedules: Schedules, monkeypatch: pytest.MonkeyPatch, method: str, *, after: bool) -> None:
    """The next call of a step ends its process: before the step, or when it is done and nobody knows."""
    whole = getattr(schedules, method)

    async def dying(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(schedules, method, whole)
        if after:
            await whole(*args, **more)
        raise asyncio.CancelledError("killed")

    monkeypatch.setattr(schedules, method, dying)


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


# ---- whoever races, whoever dies ---------------------------------------------------------------------------------------


async def test_g4_many_sweepers_fire_every_occurrence_of_a_schedule_once(times: Times) -> None:
    await times.add("rate(1 second)", request="{{occurrence}}", overlap="allow")
    sweepers = [Schedules(times.board) for _ in range(8)]
    for second in range(1, 31):
        await times.at(second)
        await asyncio.gather(*(one.sweep() for one in sweepers))
    assert await times.counts() == (30, 0, 0, 0)
    assert len(set(await times.requests())) == len(await times.requests()) == 30


@pytest.mark.parametrize(
    ("method", "after", "waits"),
    [
        ("_decide", False, False),  # nothing was done
        ("_decide", True, True),  # decided, not submitted
        ("_submit", True, True),  # submitted, not settled
        ("_settle", True, False),  # everything was done
    ],
)
async def test_g4_a_sweeper_that_dies_anywhere_leaves_one_run_and_right_counts(
    times: Times, monkeypatch: pytest.MonkeyPatch, method: str, after: bool, waits: bool
) -> None:
    await times.add("rate(1 hour)", request="{{occurrence}}")
    dies(times.schedules, monkeypatch, method, after=after)
    with pytest.raises(asyncio.CancelledError):
        await times.sweep(3600)
    if waits:  # others leave it alone while whoever decided may be at work
        await Schedules(times.board).sweep()
        assert (await times.get()).fired == 0
    for _ in range(2):
        await times.sweep(3600 + FIRING_SECONDS)
    assert await times.requests() == ["2027-01-01T13:00:00Z"]
    assert await times.counts() == (1, 0, 0, 0)


async def test_g4_what_was_decided_is_fired_however_late_and_with_its_own_time(
    times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    await times.add("rate(1 hour)", request="{{occurrence}}")
    dies(times.schedules, monkeypatch, "_submit", after=False)
    with pytest.raises(asyncio.CancelledError):
        await times.sweep(3600)
    await times.sweep(3600 * 5.5)
    assert await times.requests() == ["2027-01-01T13:00:00Z"]


async def test_g4_a_frozen_sweeper_that_wakes_late_changes_nothing(
    times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    await times.add("rate(1 hour)", request="{{occurrence}}", overlap="allow")
    gate, frozen = asyncio.Event(), Schedules(times.board)
    whole: Callable[..., Any] = frozen._submit

    async def late(*args: Any) -> str:
        await gate.wait()
        return await whole(*args)

    monkeypatch.setattr(frozen, "_submit", late)
    await times.at(3600)
    asleep = asyncio.create_task(frozen.sweep())
    while not (await times.schedules._known("s")).state.firing:
        await asyncio.sleep(0)
    for hours in (1, 2, 3):
        await times.sweep(3600 * hours + FIRING_SECONDS)
        await times.sweep(3600 * hours + FIRING_SECONDS)
    gate.set()
    await asleep
    assert len(await times.requests()) == 3
    assert await times.counts() == (3, 0, 0, 0)


async def test_a_lost_reply_does_not_undo_or_repeat_a_writing(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _script.run

    async def twice(client: Any, script: Any, *args: Any, **more: Any) -> Any:
        first = await whole(client, script, *args, **more)
        return await whole(client, script, *args, **more) if script.name == "schedule_write" else first

    monkeypatch.setattr(_script, "run", twice)
    await times.add(request="{{occurrence}}", overlap="allow")
    await times.sweep(60)
    await times.schedules.disable("s")
    await times.schedules.enable("s")
    await times.sweep(120)
    assert await times.counts() == (2, 0, 0, 0)
    assert await times.schedules.remove("s")


# ---- refused submissions -----------------------------------------------------------------------------------------------


async def test_a_request_that_is_refused_for_good_counts_as_failed_and_does_not_stop_the_schedule(
    times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    await times.add()

    async def refuses(*_: Any, **__: Any) -> str:
        raise BadInput("request", "go", "Ask for something else.")

    with monkeypatch.context() as patched:
        patched.setattr(times.board, "submit", refuses)
        await times.sweep(60)
    assert await times.counts() == (0, 0, 0, 1)
    assert "Ask for something else" in ((await times.get()).last_error or "")
    await times.sweep(120)
    assert await times.counts() == (1, 0, 0, 1)


async def test_a_refusal_that_may_pass_is_tried_again_and_given_up_in_the_end(
    times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    await times.add("rate(1 day)")
    await times.add("rate(1 day)", name="other", request="other")
    asked: list[str] = []
    submit = times.board.submit

    async def full(request: Any, **more: Any) -> str:
        if request == "other":
            return await submit(request, **more)
        asked.append(request)
        raise ScriptRefused("FULL", "come back later")

    monkeypatch.setattr(times.board, "submit", full)
    day = 86_400
    for seconds in (day, day + FIRING_SECONDS, day + FIRING_SECONDS + 1, day + FIRING_SECONDS + 60):
        await times.sweep(seconds)
    assert len(asked) == 3
    assert await times.requests() == ["other"]
    assert await times.counts() == (0, 0, 0, 0)
    await times.sweep(day + GIVE_UP_SECONDS)
    assert await times.counts() == (0, 0, 0, 1)
    assert (await times.get()).next_at == NOON + 2 * day


async def test_an_unreachable_server_is_told_to_the_sweeper(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    await times.add()

    async def gone(*_: Any, **__: Any) -> str:
        raise EngineUnavailable("gone")

    monkeypatch.setattr(times.board, "submit", gone)
    with pytest.raises(EngineUnavailable):
        await times.sweep(60)


async def test_what_cannot_be_read_does_not_keep_the_others_from_firing(times: Times) -> None:
    await times.add(name="a", request="a")
    await times.add(name="b", request="b")
    await times.board.client.hset(times.board.shards[0].prefix + "schedule:defs", "a", '{"from": "the future"}')
    await times.sweep(60)
    assert await times.requests() == ["b"]
    assert [one.schedule.name for one in await times.schedules.list()] == ["b"]
