"""Tasks that a real A2A agent carries out: asked by message, followed to the end, stopped when they are stopped here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import agent_server
import pytest
from peer_support import Served, Turned, Watching, followed, served, until
from starlette.responses import Response, StreamingResponse

from arbiter import A2aPeer, Arbiter, BadInput, Call, RetryPolicy
from blackboard.board import Board
from blackboard.testing import RedisServer
from wrapper.peers import bounded


class Kitchen:
    """An Arbiter with the kitchen as a peer."""

    def __init__(self, arbiter: Arbiter, kitchen: agent_server.Kitchen) -> None:
        self.arbiter, self.kitchen = arbiter, kitchen

    async def cook(self, message: str, **more: Any) -> Any:
        result = await self.arbiter.run(Call("kitchen_cook", {"message": message, **more}), timeout=30)
        return result.state.work[0].completion


@pytest.fixture(params=[True, False], ids=["streaming", "polling"])
async def kitchen(request: pytest.FixtureRequest, redis_server: RedisServer, board_name: str) -> AsyncIterator[Kitchen]:
    working = agent_server.Kitchen()
    place = Served(lambda: agent_server.app(agent_server.card(place.url, streaming=request.param), working), "/")
    await place.start()
    try:
        peer = A2aPeer(name="kitchen", url=place.url)
        async with Arbiter(
            redis_server.url, board=board_name, peers=[peer], roles=(), grace_seconds=0.5, lease_seconds=1.5
        ) as arbiter:
            yield Kitchen(arbiter, working)
    finally:
        await place.stop()


async def test_an_agents_answer_and_its_ending_are_the_tasks(kitchen: Kitchen) -> None:
    skills = [version.manifest for version in await kitchen.arbiter.registry.list()]
    assert [each.name for each in skills] == ["kitchen_clean_up", "kitchen_cook"]
    assert skills[1].description == "cook\nCan cook.\nThe agent: A kitchen.\nTags: food"
    assert skills[1].examples[0].input == {"message": "cook fries"}

    greeted = await kitchen.cook("hello")
    assert (greeted.data, greeted.taint) == ("Good day.", ("a2a:kitchen", "person"))
    cooked = await kitchen.cook("fries", data={"salt": [1, 2.5]})
    assert cooked.data == {"dish": "fries", "with": [{"salt": [1, 2.5]}], "minutes": 12}
    assert isinstance(cooked.data["minutes"], int)
    first, second = kitchen.kitchen.asked
    assert second["skill"] == "cook"
    assert second["dev.arbiter/idempotency-key"].endswith("/0.call")
    assert first["id"] != second["id"]

    for words, kind, said in [
        ("burn", "handler_error", "PeerFailed: it burnt"),
        ("what?", "permanent", "The agent asks for more, and nobody is there to answer: which sauce?"),
        ("poison", "permanent", "The agent does not do that. never"),
    ]:
        ended = await kitchen.cook(words)
        assert (ended.status, ended.error.type) == ("failed", kind)
        assert ended.error.message.startswith(said)


async def test_an_agent_that_asks_to_be_asked_later_is(kitchen: Kitchen) -> None:
    kitchen.kitchen.refusals = [Response(status_code=429, headers={"Retry-After": "1"})]
    call = Call("kitchen_cook", {"message": "hello"}, retry=RetryPolicy(max_attempts=2))
    result = await kitchen.arbiter.run(call, timeout=30)
    (task,) = result.state.work
    assert result.data == "Good day."
    assert [(each.type, each.retry_after_seconds) for each in task.retries] == [("retry_later", 1.0)]


@pytest.mark.parametrize("media", ["application/json", "text/event-stream"])
async def test_an_agent_that_sends_without_end_is_hung_up_on(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, media: str
) -> None:
    monkeypatch.setattr(bounded, "MESSAGE_BYTES", 50_000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0)

    kitchen.kitchen.refusals = [StreamingResponse(endless(), media_type=media)]
    ended = await kitchen.cook("fries")
    assert (ended.status, ended.error.type) == ("failed", "handler_error")
    assert "longer than 50,000 bytes" in ended.error.message


async def test_what_is_stopped_here_is_stopped_there(kitchen: Kitchen) -> None:
    run_id = await kitchen.arbiter.submit(Call("kitchen_cook", {"message": "simmer"}))
    async for event in kitchen.arbiter.stream(run_id=run_id):
        if "the oven is hot" in str(event.data):  # what the agent says while it works is progress of the task
            break
    await kitchen.arbiter.cancel(run_id)
    assert (await kitchen.arbiter.result(run_id, timeout=30)).status == "cancelled"
    await until(lambda: len(kitchen.kitchen.stopped) == 1)


async def test_an_agent_that_goes_is_not_offered_and_is_back_when_it_answers(redis_board: Board) -> None:
    clock, watching = Turned(), Watching(redis_board)
    place = Served(lambda: agent_server.app(agent_server.card(place.url), agent_server.Kitchen()), "/")
    await place.start()
    async with followed(redis_board, A2aPeer(name="kitchen", url=place.url), clock=clock) as (follower, _):
        assert set(await watching.names("cook")) == {"kitchen_cook", "kitchen_clean_up"}
        await place.stop()
        await until(lambda: clock.next == 60.0)
        clock.turn(60.0)
        await until(lambda: clock.next == 1.0)
        assert await watching.names("cook") == []
        await place.start()
        clock.turn(1.0)
        await until(lambda: follower.trouble is None and clock.next == 60.0)
        assert set(await watching.names("cook")) == {"kitchen_cook", "kitchen_clean_up"}
    await place.stop()


async def test_a_card_that_sends_messages_elsewhere_is_not_followed(redis_board: Board) -> None:
    away = agent_server.card("http://169.254.169.254/")
    async with served(lambda: agent_server.app(away, agent_server.Kitchen()), "/") as place:
        peer = A2aPeer(name="kitchen", url=place.url, headers={"Authorization": "Bearer x"})
        async with followed(redis_board, peer, clock=Turned()) as (follower, functions):
            assert follower.trouble == "its card names no address on the server it comes from"
            assert functions == {}


async def test_settings_that_cannot_be_right_are_refused() -> None:
    for given, field in [
        ({"name": "k", "url": "ftp://x"}, "peer.url"),
        ({"name": "k", "url": "http://x", "effects": "none"}, "peer.effects"),
        ({"name": "K", "url": "http://x"}, "peer.name"),
    ]:
        with pytest.raises(BadInput) as refused:
            A2aPeer(**given)  # type: ignore[arg-type]
        assert refused.value.field == field
