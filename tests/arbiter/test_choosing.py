"""Which capabilities the model is shown: as many as its context has room for, in a list that only grows at its end."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, answers, arbiter, call

from arbiter import Capability, Choosing, capability
from arbiter.tools import PLAN, SEARCH, built_in
from blackboard.testing import RedisServer
from registry import Registry
from wrapper.models.estimate import estimate_request


def bulky(number: int, words: int = 30) -> list[Capability[..., Any]]:
    """Capabilities whose descriptions take room, all about the same thing."""
    made: list[Capability[..., Any]] = []
    for n in range(number):

        def one(text: str) -> str:
            return text

        about = f"Polish the brass lamp number {n}. " + "It is a very long story about a lamp. " * (words // 9)
        made.append(capability(name=f"polish_lamp_{n:02}", description=about)(one))
    return made


def shown(model: Any) -> list[list[str]]:
    """The names of the capabilities in the tool list, call by call."""
    own = {spec["name"] for spec in built_in()}
    return [[spec["name"] for spec in one.tool_specs if spec["name"] not in own] for one in model.calls]


@capability(effects="writes")
def scrub(text: str) -> str:
    """Scrub the brass lamp until it shines."""
    return text


async def test_a_small_context_has_fewer_tools_and_a_large_one_more(redis_server: RedisServer) -> None:
    counts: list[int] = []
    for window in (14_000, 28_000, None):
        choosing = Choosing(window=window)
        async with arbiter(redis_server.url, ["done"], capabilities=bulky(30, 200), choosing=choosing) as (a, model):
            await a.run("Polish the brass lamp.", timeout=20)
        counts.append(len(shown(model)[0]))
        assert estimate_request([], model.calls[0].tool_specs) <= 0.25 * (window or 200_000)
    assert 0 < counts[0] < counts[1] < counts[2] == 12


async def test_the_list_grows_at_its_end_while_there_is_room_and_what_is_left_out_can_be_planned(
    redis_server: RedisServer,
) -> None:
    searches = [call(SEARCH, query=f"polish brass lamp number {n}", limit=8) for n in (1, 11, 21)]
    plan = call(PLAN, tasks=[{"key": "k", "capability": "polish_lamp_21", "input": {"text": "x"}}])
    turns = [*searches, plan, call("polish_lamp_21", text="y"), "done"]
    choosing = Choosing(window=12_000)
    async with arbiter(redis_server.url, turns, capabilities=bulky(30, 200), choosing=choosing) as (a, model):
        result = await a.run("Polish the brass lamp.", timeout=20)
    assert result.status == "succeeded"
    lists = shown(model)
    for earlier, later in pairwise(lists):
        assert later[: len(earlier)] == earlier
    assert len(lists[1]) > len(lists[0])
    for one in model.calls:
        assert estimate_request([], one.tool_specs) <= 0.25 * 12_000
    notes = [answer["note"] for answer in answers(result) if "note" in answer]
    assert notes
    assert "call them through post_plan" in notes[-1]
    assert "polish_lamp_21" not in lists[-1]
    assert [task.state for task in result.state.work] == ["succeeded", "succeeded"]


async def test_what_an_operator_does_not_allow_is_not_offered_not_found_and_not_called(
    redis_server: RedisServer,
) -> None:
    turns = [
        call(SEARCH, query="scrub the brass lamp"),
        call("scrub", text="x"),
        call(PLAN, tasks=[{"key": "k", "capability": "scrub", "input": {"text": "x"}}]),
        "No.",
    ]
    choosing = Choosing(effects=("pure", "reads"))
    async with arbiter(redis_server.url, turns, capabilities=[*FUNCTIONS, scrub], choosing=choosing) as (a, model):
        result = await a.run("Scrub the brass lamp.", timeout=20)
        version = await a.registry.resolve("scrub")
    assert version.manifest.effects == "writes"
    assert all("scrub" not in names for names in shown(model))
    found, called, planned = answers(result)
    assert "scrub" not in json.dumps(found["found"])
    assert "may not be used here: writes is not allowed" in called
    assert "may not be used here" in planned
    for match in result.state.rounds[0].matches:
        assert match["left_out"] == ["scrub: writes is not allowed"]
    assert result.state.work == []


async def test_one_search_is_made_for_a_need_in_a_round(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    async with arbiter(redis_server.url, [call(SEARCH, query="brass lamp"), "done"], capabilities=bulky(20)) as (a, _):
        matcher = a.registry._offered.matcher
        search = matcher.search

        def counted(query: str, **more: Any) -> Any:
            asked.append(query)
            return search(query, **more)

        monkeypatch.setattr(matcher, "search", counted)
        await a.run("Polish it.", timeout=20)
    assert asked == ["Polish it.", "brass lamp"]


async def test_one_search_says_the_same_as_asking_twice(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["done"], capabilities=bulky(20)) as (a, _):
        registry: Registry = a.registry
        for need in ("polish the brass lamp number 7", "knit a jumper", "polish a lamp and then echo a text"):
            found = await registry.find(need, k=5)
            assert found.decision == await registry.decide(need)
            assert [each.name for each in found.matches] == [each.name for each in await registry.shortlist(need, k=5)]
