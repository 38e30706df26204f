"""Keeping up with a real MCP server on loopback: what it offers, whether it answers, and what others are told of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from peer_support import Served, Turned, Watching, followed, served, until

from arbiter.testing import clock as turned_clock
from arbiter.testing.clock import Clock
from blackboard.board import Board
from blackboard.errors import BadInput, EngineUnavailable
from registry import Registry, capability
from wrapper.failing import PeerUnavailable
from wrapper.peers.mcp import McpPeer


def price(item: str) -> int:
    """Price of an item."""
    return 25


def stock(item: str) -> int:
    """How many there are in stock."""
    return 12


def wrap(item: str) -> str:
    """Wrap an item as a present."""
    return f"wrapped {item}"


class Shop:
    """A server whose offers a test changes while it runs, and that can be started again."""

    def __init__(self) -> None:
        self.server = MCPServer("shop")
        self.hangs = False

    def app(self) -> Any:
        self.server = MCPServer("shop")
        self.server.add_tool(price)
        self.server.add_tool(stock)
        inner = self.server.streamable_http_app(stateless_http=True)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while self.hangs and scope["type"] == "http":
                await asyncio.sleep(0.01)
            await inner(scope, receive, send)

        return app


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def place(shop: Shop) -> AsyncIterator[Served]:
    async with served(shop.app, "/mcp") as one:
        yield one


def peer(place: Served, **more: Any) -> McpPeer:
    return McpPeer(name="shop", url=place.url, **more)


async def test_what_a_server_offers_is_registered_and_found_by_everybody(redis_board: Board, place: Served) -> None:
    watching = Watching(redis_board)
    async with followed(redis_board, peer(place), clock=Turned()) as (follower, functions):
        assert follower.trouble is None
        assert sorted(functions) == ["shop_price", "shop_stock"]
        assert await watching.names("price of an item") == ["shop_price", "shop_stock"]
        found = await functions["shop_price"].invoke({"item": "box"})
        assert found[0] == {"result": 25}


async def test_a_server_that_goes_is_out_of_every_shortlist_within_the_time_it_may_take_and_back_when_it_answers(
    redis_board: Board, place: Served, shop: Shop
) -> None:
    watching, clock = Watching(redis_board), Turned()
    async with followed(redis_board, peer(place), clock=clock) as (follower, functions):
        await place.stop()
        await until(lambda: clock.next > 0)
        if follower.trouble is None:  # unless the connection itself has shown it already
            clock.turn(60.0)
        await until(lambda: follower.trouble is not None)
        await until(lambda: clock.next <= 2.0)  # it has said so, and waits to ask again
        assert await watching.names("price of an item") == []
        why = (await watching.unavailable())["shop_price"]
        assert why.startswith("mcp:shop: ")
        decision = await watching.registry.decide("price of an item")
        assert (decision.outcome, decision.candidates) == ("fabricate", ())
        assert "shop_price: mcp:shop cannot be reached now" in decision.left_out
        with pytest.raises(PeerUnavailable, match="mcp:shop cannot be reached"):
            await functions["shop_price"].invoke({"item": "box"})

        await place.start()
        await until(lambda: clock.turn(0.5) or follower.trouble is None)
        await until(lambda: clock.next > 2.0)
        assert await watching.names("price of an item") == ["shop_price", "shop_stock"]
        assert (await functions["shop_stock"].invoke({"item": "box"}))[0] == {"result": 12}


async def test_a_server_that_does_not_answer_in_time_is_down(redis_board: Board, place: Served, shop: Shop) -> None:
    watching, clock = Watching(redis_board), Turned()
    async with followed(redis_board, peer(place), clock=clock) as (follower, _):
        shop.hangs = True
        await until(lambda: clock.next == 60.0)
        clock.turn(60.0)
        await until(lambda: clock.next == 10.0)
        assert follower.trouble is None
        clock.turn(9.9)
        await asyncio.sleep(0.05)
        assert follower.trouble is None
        clock.turn(0.2)
        await until(lambda: follower.trouble == "it did not answer within 10 s")
        assert "shop_price" in await watching.unavailable()


async def test_a_server_that_does_not_answer_at_the_start_holds_nothing_up_for_longer_than_an_answer_may_take(
    redis_board: Board, place: Served, shop: Shop
) -> None:
    shop.hangs, clock = True, Turned()

    async def pass_time() -> None:
        while True:
            await asyncio.sleep(0.01)
            clock.turn(1.0)

    passing = asyncio.create_task(pass_time())
    async with followed(redis_board, peer(place), clock=clock) as (follower, functions):
        assert follower.trouble == "it did not answer within 10 s"
        assert functions == {}
        shop.hangs = False
        await until(lambda: "shop_price" in functions)
        assert follower.trouble is None
    passing.cancel()


async def test_of_a_process_that_died_nothing_holds_longer_than_it_said(redis_board: Board, place: Served) -> None:
    clock, watching = Clock(redis_board), Watching(redis_board)
    try:
        async with followed(redis_board, peer(place), clock=Turned()):
            assert await watching.unavailable() == {}
            await clock.advance(74.0)
            assert await watching.unavailable() == {}
            await clock.advance(2.0)  # nobody has said anything for longer than 60 + 10 + 5 s
            assert await watching.unavailable() == dict.fromkeys(
                ("shop_price", "shop_stock"), "mcp:shop: no process that reaches it has been heard of lately"
            )
            assert await watching.names("price") == []
    finally:
        turned_clock.uninstall()


async def test_what_changes_is_a_new_version_and_what_is_gone_is_retired(
    redis_board: Board, place: Served, shop: Shop
) -> None:
    clock, registry = Turned(), Registry(redis_board.catalog)
    async with followed(redis_board, peer(place), clock=clock) as (follower, functions):
        before = await registry.resolve("shop_price")
        shop.server.remove_tool("price")
        shop.server.remove_tool("stock")
        shop.server.add_tool(wrap, "price", description="Price of an item, with tax.")
        await follower.check()
        after = await registry.resolve("shop_price")
        assert after.sha != before.sha
        assert after.manifest.description == "Price of an item, with tax."
        assert [one.name for one in await registry.list()] == ["shop_price"]
        assert list(functions) == ["shop_price"]
        assert [each.state for each in await registry.versions("shop_stock")] == ["retired"]
        (record,) = [fields for _, fields in await redis_board.catalog.audit(("retired",))]
        assert (record["by"], record["subject"].partition("|")[0]) == ("peer mcp:shop", "shop_stock")
        log = await registry.changes(limit=1000)
        await follower.check()
        assert await registry.changes(limit=1000) == log  # nothing new was said, so nothing was written


async def test_a_tool_that_a_person_retired_stays_so_whatever_the_server_says_until_a_person_activates_it(
    redis_board: Board, place: Served, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(place), clock=Turned()) as (follower, functions):
        retired = await registry.retire("shop_price", reason="it lies", by="ann@host")
        assert retired is not None
        shop.server.remove_tool("stock")
        await follower.check()
        assert await registry.list() == [], "another tool changed"
    async with followed(redis_board, peer(place), clock=Turned()) as (follower, functions):
        assert await registry.list() == [], "its process was started again"
        assert f"shop_price is not offered, as was decided: {retired.sha[:12]} is retired by ann@host" in caplog.text
        await registry.activate("shop_price", retired.sha)
        assert "shop_price" in functions, "so that it can be called as soon as it is active"
        await registry.retire("shop_price")
        shop.server.remove_tool("price")
        shop.server.add_tool(wrap, "price", description="Price of an item, with tax.")
        await follower.check()
        assert await registry.list() == [], "what the server changes is no way around a person"
        assert [each.state for each in await registry.versions("shop_price")] == ["retired", "draft"]


async def test_a_tool_that_comes_back_to_its_server_is_offered_again(
    redis_board: Board, place: Served, shop: Shop
) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(place), clock=Turned()) as (follower, _):
        before = await registry.resolve("shop_price")
        shop.server.remove_tool("price")
        await follower.check()
        (gone,) = await registry.versions("shop_price")
        assert (gone.state, gone.retired_by, gone.retired_for) == ("retired", "peer mcp:shop", "peer")
        shop.server.add_tool(price)
        await follower.check()
        assert (await registry.resolve("shop_price")).sha == before.sha
        shop.server.remove_tool("price")
        await follower.check()
        await registry.retire("shop_price", before.sha, by="ann@host")
        shop.server.add_tool(price)
        await follower.check()
        assert [one.name for one in await registry.list()] == ["shop_stock"], "a person may have it stay away"


async def test_a_tool_goes_with_its_server_though_a_person_activated_an_earlier_version(
    redis_board: Board, place: Served, shop: Shop
) -> None:
    registry = Registry(redis_board.catalog)
    async with followed(redis_board, peer(place), clock=Turned()) as (follower, _):
        before = await registry.resolve("shop_price")
        shop.server.remove_tool("price")
        shop.server.add_tool(wrap, "price", description="Price of an item, with tax.")
        await follower.check()
        after = await registry.resolve("shop_price")
        await registry.activate("shop_price", before.sha)
    async with followed(redis_board, peer(place), clock=Turned()):
        assert (await registry.resolve("shop_price")).sha == after.sha, "the server has no other"


async def test_a_tool_does_not_take_the_place_of_what_somebody_else_registered(
    redis_board: Board, place: Served
) -> None:
    registry = Registry(redis_board.catalog)

    @capability(name="shop_price")
    def mine(item: str) -> int:
        """My own price of an item."""
        return 1

    await registry.register(mine.manifest)
    async with followed(redis_board, peer(place), clock=Turned()) as (_, functions):
        assert list(functions) == ["shop_stock"]
        assert (await registry.resolve("shop_price")).manifest.action == "local.shop_price"


async def test_a_process_that_stops_says_so_and_others_go_on(redis_board: Board, place: Served) -> None:
    watching = Watching(redis_board)
    async with followed(redis_board, peer(place), clock=Turned(), process="one"):
        async with followed(redis_board, peer(place), clock=Turned(), process="two"):
            assert await watching.unavailable() == {}
        assert await watching.unavailable() == {}
    assert set(await watching.unavailable()) == {"shop_price", "shop_stock"}


async def test_a_process_that_does_not_reach_a_server_leaves_its_work_to_one_that_does(
    redis_board: Board, place: Served
) -> None:
    dead = McpPeer(name="shop", url="http://127.0.0.1:1/mcp")
    async with followed(redis_board, dead, clock=Turned(), process="far") as (far, _):
        assert far.serves  # nobody reaches it: tasks are told so
        clock = Turned()
        async with followed(redis_board, peer(place), clock=clock, process="near") as (near, _):
            assert near.serves
            far_check = asyncio.create_task(far.check())
            await far_check
            assert not far.serves
            assert await Watching(redis_board).unavailable() == {}


async def test_what_another_process_learnt_is_asked_for_when_it_is_needed(
    redis_board: Board, place: Served, shop: Shop
) -> None:
    async with (
        followed(redis_board, peer(place), clock=Turned(), process="one") as (one, _),
        followed(redis_board, peer(place), clock=Turned(), process="two") as (two, functions),
    ):
        shop.server.add_tool(wrap)
        await one.check()
        version = await Registry(redis_board.catalog).resolve("shop_wrap")
        assert "shop_wrap" not in functions
        await two.renew()
        assert functions["shop_wrap"].manifest.content_hash() == version.sha


async def test_trouble_with_the_board_does_not_close_the_connection(
    redis_board: Board, place: Served, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Turned()
    async with followed(redis_board, peer(place), clock=clock) as (follower, functions):

        async def broken(*_: Any, **__: Any) -> Any:
            raise EngineUnavailable("gone")

        shop.server.add_tool(wrap)
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "register", broken)
            await follower.check()
        assert follower.trouble is None
        assert "shop_wrap" not in functions
        await until(lambda: clock.next == 1.0)
        clock.turn(1.0)
        await until(lambda: "shop_wrap" in functions)


async def test_settings_that_cannot_be_right_are_refused() -> None:
    for given, field in [
        ({"name": "Shop", "url": "http://x/mcp"}, "peer.name"),
        ({"name": "shop"}, "peer.command"),
        ({"name": "shop", "url": "http://x", "command": ["a"]}, "peer.command"),
        ({"name": "shop", "command": "python server.py"}, "peer.command"),
        ({"name": "shop", "url": "file:///etc/passwd"}, "peer.url"),
        ({"name": "shop", "url": "https://me:secret@x/mcp"}, "peer.url"),
        ({"name": "shop", "url": "http://example.com", "headers": {"A": "{{secret:x}}"}}, "peer.url"),
        ({"name": "shop", "url": "http://x", "refresh_seconds": 0}, "peer.refresh_seconds"),
        ({"name": "shop", "url": "http://x", "effects": {"a": "maybe"}}, "peer.effects.a"),
    ]:
        with pytest.raises(BadInput) as refused:
            McpPeer(**given)  # type: ignore[arg-type]
        assert refused.value.field == field
        assert "secret" not in str(refused.value.value)


async def test_a_secret_that_is_not_there_is_what_the_trouble_says(redis_board: Board, place: Served) -> None:
    given = peer(place, headers={"Authorization": "Bearer {{secret:shop}}"})
    async with followed(redis_board, given, clock=Turned()) as (follower, _):
        assert follower.trouble is not None
        assert "ARBITER_SECRET_SHOP" in follower.trouble
