"""Schedules whose sweepers race, die, freeze and are refused: one run for each occurrence all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import schedule_times
from schedule_times import NOON, Times, dies

from blackboard import _script
from blackboard.errors import BadInput, EngineUnavailable, ScriptRefused
from blackboard.schedules import FIRING_SECONDS, GIVE_UP_SECONDS, Schedules

times = schedule_times.times


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
