"""In which order an agenda is worked on: by every strategy, by one that is changed meanwhile, and by one that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import agenda_stage
import pytest
from agenda_stage import Stage, arbiter, inquiry, picks

from arbiter import (
    Trigger,
    capability,
)
from arbiter import rating as rating_module
from blackboard import events
from blackboard.strategies import Candidate

stage = agenda_stage.stage


async def _order(stage: Stage, terms: dict[str, Any], **more: Any) -> list[str]:
    """In which order four sources of different kinds are picked, one at a time."""
    sources = [
        stage.source("dear", Trigger(topic="a", priority=9, cost=100, seconds=50)),
        stage.source("cheap", Trigger(topic="a", priority=1, cost=0.1)),
        stage.source("deep", Trigger(topic="a", priority=5, cost=5, seconds=5), posts={"b": 1}),
        stage.source("below", Trigger(topic="b", priority=10, cost=1, seconds=1)),
    ]
    async with arbiter(stage, *sources, **more) as a:
        result = await a.run(inquiry("a", concurrency=1, **terms), timeout=60)
        assert result.status == "succeeded"
        return await picks(a, result)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"strategy": "priority"}, ["dear", "deep", "below", "cheap"]),
        ({"strategy": "priority", "weights": {"cheap": 100}}, ["cheap", "dear", "deep", "below"]),
        ({"strategy": "expected_value"}, ["cheap", "deep", "below", "dear"]),
        ({"strategy": "breadth_first"}, ["cheap", "dear", "deep", "below"]),
        ({"strategy": "deadline"}, ["deep", "below", "dear", "cheap"]),
    ],
)
async def test_each_strategy_picks_in_its_own_order(
    stage: Stage, terms: dict[str, Any], expected: Sequence[str]
) -> None:
    found = await _order(stage, terms)
    assert found == list(expected)


async def test_capabilities_take_turns_where_shares_are_fair(stage: Stage) -> None:
    many, few = stage.source("many", Trigger(topic="m")), stage.source("few", Trigger(topic="f"))
    async with arbiter(stage, many, few) as a:
        result = await a.run(inquiry(*"mmmmff", strategy="fair_share", concurrency=1), timeout=60)
        assert (await picks(a, result))[:4] == ["many", "few", "many", "few"]


async def test_measured_success_counts_in_expected_value(stage: Stage) -> None:
    async def fails(entry: dict[str, Any]) -> None:
        """Fail."""
        stage.ran.append("fails")
        raise ValueError("no")

    from arbiter import RetryPolicy

    bad = capability(fails, triggers=[Trigger(topic="*")], retry=RetryPolicy(max_attempts=1))
    good = stage.source("good", Trigger(topic="*", cost=1.5))
    async with arbiter(stage, bad, good) as a:
        first = await a.run(inquiry("a", strategy="expected_value", concurrency=1), timeout=60)
        a.registry._track._until = 0.0  # pyright: ignore[reportPrivateUsage] - as ten seconds later
        second = await a.run(inquiry("b", strategy="expected_value", concurrency=1), timeout=60)
        assert await picks(a, first) == ["fails", "good"]
        assert await picks(a, second) == ["good", "fails"]


async def test_the_strategy_can_be_changed_while_the_run_goes_on_and_what_waits_is_rated_anew(stage: Stage) -> None:
    hold = stage.source("hold", Trigger(topic="h", priority=10))
    high, low = (
        stage.source("high", Trigger(topic="a", priority=9, cost=50)),
        stage.source("low", Trigger(topic="a", priority=1)),
    )
    async with arbiter(stage, hold, high, low) as a:
        stage.gate.clear()
        run = await a.submit(inquiry("h", "a", concurrency=1))
        while not stage.ran:
            await asyncio.sleep(0.01)
        written = await a.agenda(run).focus("expected_value")
        stage.gate.set()
        result = await a.result(run, timeout=60)
        assert stage.ran == ["hold", "low", "high"]
        assert f"by expected_value ({written.id}:1)" in str(await a.agenda(result.run_id).explain(3))


async def test_a_capability_that_may_write_there_changes_the_strategy(stage: Stage) -> None:
    chooses = stage.source(
        "chooses", Trigger(topic="a", priority=10), posts={"control.strategy": {"strategy": "expected_value"}}
    )
    high, low = (
        stage.source("high", Trigger(topic="a", priority=9, cost=50)),
        stage.source("low", Trigger(topic="a", priority=1)),
    )
    async with arbiter(stage, chooses, high, low) as a:
        await a.run(inquiry("a", concurrency=1), timeout=60)
        assert stage.ran == ["chooses", "low", "high"]


@pytest.mark.parametrize(
    "content", [{"strategy": "unheard_of"}, {"strategy": 7}, "priority", {"strategy": "priority", "weights": {"a": -1}}]
)
async def test_a_strategy_that_makes_no_sense_is_replaced_and_that_is_on_record(stage: Stage, content: Any) -> None:
    first = stage.source("first", Trigger(topic="a", priority=9), posts={"control.strategy": content})
    async with arbiter(stage, first, stage.source("later", Trigger(topic="a"))) as a:
        result = await a.run(inquiry("a", concurrency=1), timeout=60)
        assert stage.ran == ["first", "later"]
        log = await a.board.history(result.run_id)
        told = [event.data for event in log if isinstance(event, events.AgendaDecided) and event.data.fallback]
        assert told
        assert {one.strategy for one in told} == {"priority"}


async def test_a_program_brings_its_own_strategy(stage: Stage) -> None:
    def short_names(one: Candidate) -> float:
        return -len(one.capability)

    found = await _order(stage, {"strategy": "short_names"}, strategies={"short_names": short_names})
    assert found == ["dear", "deep", "cheap", "below"]


@pytest.mark.parametrize("how", ["raises", "says nothing", "never returns"])
async def test_a_strategy_that_fails_is_replaced_in_bounded_time_and_that_is_on_record(
    stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rating_module, "SECONDS", 0.2)
    stop, calls = threading.Event(), list[int]()

    def bad(one: Candidate) -> Any:
        calls.append(one.number)
        if how == "raises":
            raise RuntimeError("I cannot")
        if how == "says nothing":
            return None
        stop.wait(60)
        return 1.0

    first, later = stage.source("first", Trigger(topic="a", priority=9)), stage.source("later", Trigger(topic="*"))
    async with arbiter(stage, first, later, strategies={"bad": bad}) as a:
        try:
            result = await a.run(inquiry("a", "b", strategy="bad", concurrency=1), timeout=60)
        finally:
            asked = len(calls)
            stop.set()
        assert stage.ran == ["first", "later", "later"]
        log = await a.board.history(result.run_id)
        told = [event.data for event in log if isinstance(event, events.AgendaDecided)]
        assert {one.strategy for one in told} == {"priority"}
        assert all("bad" in one.fallback for one in told)
        assert how != "never returns" or asked == 1, "what hangs is not asked again"
