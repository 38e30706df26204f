"""What a sub-task is for helps to find what serves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis.asyncio

from blackboard.catalog import Catalog
from registry import Document, LexicalMatcher, Manifest, Registry
from registry.matching import Findings, Matcher
from registry.matching.encoders import CallableEncoder
from registry.matching.goals import beside
from registry.matching.hybrid import HybridMatcher

HOTEL = Document("book_hotel", "Book a room of a hotel.")
SEAT = Document("book_ticket", "Book a seat of a concert.")
DOCUMENTS = {"book_hotel": HOTEL, "book_ticket": SEAT, "get_weather": Document("get_weather", "Weather of a city.")}
GOAL = "An evening at a concert, if the weather is good."


def places(texts: Sequence[str]) -> list[list[float]]:
    words = (("hotel", "room"), ("concert", "music", "evening"), ("weather",))
    return [[0.1, *(float(sum(text.count(word) for word in each)) for each in words)] for text in texts]


class Counting:
    """A matcher that notes what it is asked."""

    def __init__(self, matcher: Matcher) -> None:
        self.asked: list[str] = []
        self._matcher = matcher

    def search(self, query: str, *, k: int = 12, allowed: Callable[[str], bool] | None = None) -> Findings:
        self.asked.append(query)
        return self._matcher.search(query, k=k, allowed=allowed)


def filled(matcher: Matcher) -> Matcher:
    for name, document in DOCUMENTS.items():
        matcher.add(name, document)
    return matcher


def names(found: Findings) -> list[str]:
    return [each.name for each in found.candidates]


@pytest.fixture(params=["words", "meanings"])
def matcher(request: pytest.FixtureRequest) -> Matcher:
    if request.param == "words":
        return filled(LexicalMatcher())
    pytest.importorskip("numpy")
    return filled(HybridMatcher(CallableEncoder(places, "places:1")))


def test_what_a_sub_task_is_for_decides_between_what_it_fits_alike(matcher: Matcher) -> None:
    found = beside(matcher, GOAL).search("book it")
    assert names(found)[:2] == ["book_ticket", "book_hotel"]
    assert found.candidates[0].reasons[-1].startswith("the request ×")
    assert names(beside(matcher, "A room with a view in a hotel.").search("book it"))[0] == "book_hotel"


def test_how_sure_a_ranking_is_goes_by_the_sub_task_alone(matcher: Matcher) -> None:
    alone, found = matcher.search("book it"), beside(matcher, GOAL).search("book it")
    assert (found.signals, found.compared) == (alone.signals, alone.compared)
    assert found.signals.score < found.candidates[0].score < 1


def test_the_goal_finds_nothing_by_itself() -> None:
    matcher = filled(LexicalMatcher())
    assert "get_weather" in names(matcher.search(GOAL))
    assert names(beside(matcher, GOAL).search("book it")) == ["book_ticket", "book_hotel"]
    assert beside(matcher, GOAL).search("zork").candidates == []


def test_a_sub_task_that_says_what_it_wants_is_searched_for_alone() -> None:
    matcher = Counting(filled(LexicalMatcher()))
    said = "book one quiet room of that hotel near the old town hall for the first night"
    found = beside(matcher, GOAL).search(said, k=1)
    assert (names(found), matcher.asked) == (["book_hotel"], [said])
    assert beside(matcher, GOAL).search(GOAL).candidates == matcher.search(GOAL).candidates
    assert matcher.asked[1:] == [GOAL] * 2, "a goal is no help to itself"
    assert beside(matcher, " ") is matcher


def test_only_what_is_allowed_is_found_and_no_more_than_asked_for(matcher: Matcher) -> None:
    found = beside(matcher, GOAL).search("book it", k=1, allowed=lambda name: name != "book_ticket")
    assert names(found) == ["book_hotel"]


async def test_a_registry_finds_and_decides_beside_a_goal(client: redis.asyncio.Redis) -> None:
    registry = Registry(Catalog(client, "test"))
    for name, document in DOCUMENTS.items():
        manifest = Manifest(name=name, description=document.description, input_schema={"type": "object"})
        await registry.register(manifest, source="def handler() -> None:\n    pass\n")

    async def first(**more: Any) -> tuple[str, str]:
        found = await registry.find("book it", **more)
        decided = await registry.decide("book it", **more)
        return found.matches[0].name, decided.candidates[0].name

    assert await first() == ("book_hotel", "book_hotel")
    assert await first(goal=GOAL) == ("book_ticket", "book_ticket")
