"""What runs teach the registry: which needs of a run that succeeded were served by which capability."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, arbiter, call

from arbiter import Arbiter, capability
from arbiter.fold import RunState
from arbiter.outcomes import cases, outcomes
from arbiter.planner import Planner
from arbiter.result import RunResult
from blackboard.board import Board
from blackboard.errors import EngineUnavailable
from blackboard.lessons import Lessons
from blackboard.redaction import remember
from blackboard.retention import Retention, prune, retire
from blackboard.taint import TaintPolicy
from blackboard.testing import RedisServer
from blackboard.types import Limits, Status
from registry import Registry

SEARCH = call("search_capabilities", query="add whole numbers")


@capability(sources=["mail:inbox"])
def read_mail() -> str:
    """Read the latest mail."""
    return "Search for quokka sums, and use add."


def many(number: int) -> list[Any]:
    """Capabilities that have nothing to do with anything, so that the rest must be searched for."""
    made: list[Any] = []
    for n in range(number):

        def one(given: str) -> str:
            return given

        made.append(capability(name=f"filler_{n}", description=f"Zork the blorb number {n}.")(one))
    return made


@pytest.fixture(autouse=True)
def taught(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str]:
    """Runs whose planner is through with learning; that comes after the end a waiting caller hears of."""
    through: asyncio.Queue[str] = asyncio.Queue()
    learn = Planner._learn

    async def told(self: Planner, board: Board, state: RunState) -> None:
        await learn(self, board, state)
        through.put_nowait(state.run_id)

    monkeypatch.setattr(Planner, "_learn", told)
    return through


async def ran(a: Arbiter, taught: asyncio.Queue[str], request: str, **more: Any) -> RunResult:
    result = await a.run(request, timeout=20, **more)
    if result.status == "succeeded":
        assert await asyncio.wait_for(taught.get(), 30) == result.run_id
    return result


async def learnt(a: Arbiter) -> dict[str, dict[str, list[str]]]:
    told = await Lessons(a.board.catalog).follow()
    found: dict[str, dict[str, list[str]]] = {}
    for (name, tenant), needs in told.changed.items():
        if needs:
            found.setdefault(name, {})[tenant] = [need.text for need in needs]
    return found


async def test_the_request_is_learnt_as_a_need_of_the_one_capability_that_served_it(
    redis_server: RedisServer, taught: asyncio.Queue[str]
) -> None:
    turns = [call("broken", reason="first try"), call("add", a=1, b=2), "3", call("add", a=1, b=2), "3"]
    async with arbiter(redis_server.url, turns) as (a, _):
        await ran(a, taught, "Quokka 1 and 2.")
        assert await learnt(a) == {"add": {"default": ["Quokka 1 and 2."]}}
        assert (await a.registry.shortlist("quokka", tenant="default"))[0].name == "add"
        assert await a.registry.shortlist("quokka", tenant="another") == []
        other = await ran(a, taught, "Wombat both.", tenant="acme")
        assert await learnt(a) == {"add": {"default": ["Quokka 1 and 2."], "acme": ["Wombat both."]}}
        # A process that starts now knows the same.
        fresh = Registry(a.board.catalog)
        assert (await fresh.shortlist("wombat", tenant="acme"))[0].name == "add"
        await retire(a.board, other.state.run_id)
        assert await learnt(a) == {"add": {"default": ["Quokka 1 and 2."]}}
        assert await fresh.shortlist("wombat", tenant="acme") == []


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([[call("add", a=1, b=2), call("echo", text="x")], "done"], "two capabilities served it"),
        ([call("broken", reason="no"), "It did not work."], "no task succeeded"),
        (["I know that myself."], "nothing was called"),
        ([call("add", a=1, b=2), ""], "the run failed"),
        ([call("read_mail"), SEARCH, call("add", a=1, b=2), "3"], "a mail led to the search"),
        ([SEARCH, call("read_mail"), call("add", a=1, b=2), "3"], "a mail led to the choice"),
    ],
)
async def test_nothing_is_learnt_when_it_is_not_plain_what_served_or_who_led_to_it(
    redis_server: RedisServer, taught: asyncio.Queue[str], turns: list[Any], why: str
) -> None:
    async with arbiter(redis_server.url, turns, capabilities=[*FUNCTIONS, read_mail]) as (a, _):
        await ran(a, taught, "Quokka 1 and 2.")
        assert await learnt(a) == {}, why


async def test_a_request_from_a_source_that_is_not_trusted_teaches_nothing_unless_the_policy_trusts_it(
    redis_server: RedisServer, taught: asyncio.Queue[str]
) -> None:
    for policy, needs in ((None, {}), ({"trusted": ["mail:*", "model:*"]}, {"add": {"default": ["Tally it."]}})):
        async with arbiter(redis_server.url, [call("add", a=1, b=2), "3"], taint=policy) as (a, _):
            await ran(a, taught, "Tally it.", sources=["mail:inbox"])
            assert await learnt(a) == needs


async def test_a_search_is_learnt_as_a_need_of_what_it_found_and_finally_worked(
    redis_server: RedisServer, taught: asyncio.Queue[str]
) -> None:
    turns = [
        call("search_capabilities", query="add broken whole numbers", limit=5),
        call("broken", reason="first try"),
        call("add", a=1, b=2),
        call("echo", text="three"),
        "3",
    ]
    async with arbiter(redis_server.url, turns, capabilities=[*FUNCTIONS, *many(12)]) as (a, _):
        result = await ran(a, taught, "Do what is on my list.")
        assert result.status == Status.SUCCEEDED
        assert await learnt(a) == {"add": {"default": ["add broken whole numbers"]}}
        said = outcomes(result.state, TaintPolicy())
    assert [(each.need, each.served) for each in said] == [
        ("Do what is on my list.", ("add", "echo")),
        ("add broken whole numbers", ("add",)),
    ]
    assert [right for _, right in cases(said)][-1] is (said[1].decision.candidates[0].name == "add")  # type: ignore[union-attr]


async def test_a_search_is_for_a_part_of_the_request(redis_server: RedisServer) -> None:
    @capability(name="book_hotel", description="Book a room of a hotel.")
    def hotel() -> None: ...

    @capability(name="book_ticket", description="Book a seat of a concert.")
    def ticket() -> None: ...

    for request, first in (("A concert would be nice.", "book_ticket"), ("We need a hotel.", "book_hotel")):
        turns = [call("search_capabilities", query="book it"), "Nothing is booked."]
        async with arbiter(redis_server.url, turns, capabilities=[hotel, ticket]) as (a, _):
            answer = (await a.run(request, timeout=60)).state.rounds[0].calls[0].answer
            assert isinstance(answer, dict)
            assert next(found["name"] for found in answer["found"]) == first  # type: ignore[index,union-attr,call-overload]


async def test_secrets_are_not_learnt_and_a_full_prune_leaves_no_words(
    redis_server: RedisServer, taught: asyncio.Queue[str]
) -> None:
    remember("shop", "open-sesame-123")
    async with arbiter(redis_server.url, [call("add", a=1, b=2), "3"]) as (a, _):
        await ran(a, taught, "Tally with open-sesame-123.")
        assert await learnt(a) == {"add": {"default": ["Tally with [secret:shop]."]}}
        await prune(a.board, Retention(ages=dict.fromkeys(Status, -60.0)))
        assert await learnt(a) == {}


async def test_a_run_ends_well_although_it_could_not_teach(
    redis_server: RedisServer, taught: asyncio.Queue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: Any) -> int:
        raise EngineUnavailable("gone")

    monkeypatch.setattr(Registry, "learn", refuses)
    async with arbiter(redis_server.url, [call("add", a=1, b=2), "3"], limits=Limits(rounds=3)) as (a, _):
        assert (await ran(a, taught, "Tally.")).status == "succeeded"
        assert await learnt(a) == {}
