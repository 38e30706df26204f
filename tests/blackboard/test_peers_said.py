"""What processes say of peers: held as long as they said, by the server's clock, on every engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arbiter.testing import clock
from arbiter.testing.clock import Clock
from blackboard.board import Board
from blackboard.peers import NOBODY, Peers


@pytest.fixture(autouse=True)
def _own_time() -> Iterator[None]:
    yield
    clock.uninstall()


async def test_a_peer_is_there_as_long_as_one_process_has_said_so_lately(board: Board) -> None:
    said, time = Peers(board.catalog), Clock(board)
    assert (await said.heard()).trouble("mcp:shop") == NOBODY
    assert not await said.say("mcp:shop", "one", "up", seconds=60, tools=2)
    assert await said.say("mcp:shop", "two", "down", seconds=60, reason="no route")
    heard = await said.heard()
    assert heard.trouble("mcp:shop") is None
    assert heard.trouble("mcp:sho") == NOBODY
    assert [(each.process, each.state, each.tools) for each in heard.said] == [("one", "up", 2), ("two", "down", 0)]
    await time.advance(59.0)
    assert (await said.heard()).trouble("mcp:shop") is None
    await said.say("mcp:shop", "two", "down", seconds=60, reason="no route")
    await time.advance(2.0)
    assert (await said.heard()).trouble("mcp:shop") == "no route"
    await time.advance(60.0)
    assert (await said.heard()).trouble("mcp:shop") == NOBODY


async def test_saying_the_same_again_changes_only_how_long_it_holds(board: Board) -> None:
    said, time = Peers(board.catalog), Clock(board)
    await said.say("mcp:shop", "one", "up", seconds=10)
    (first,) = (await said.heard()).said
    await time.advance(5.0)
    await said.say("mcp:shop", "one", "up", seconds=10)
    (again,) = (await said.heard()).said
    assert again.since == first.since
    assert again.until >= first.until + 5.0
    await said.say("mcp:shop", "one", "down", seconds=10, reason="gone")
    (down,) = (await said.heard()).said
    assert down.since >= first.since + 5.0


async def test_a_process_that_leaves_is_forgotten_however_often_it_says_so(board: Board) -> None:
    said = Peers(board.catalog)
    await said.say("mcp:shop", "one", "up", seconds=60)
    await said.say("mcp:shop", "two", "up", seconds=60)
    await said.leave("mcp:shop", "one")
    await said.leave("mcp:shop", "one")
    assert [each.process for each in (await said.heard()).said] == ["two"]


async def test_what_ended_more_than_a_day_ago_is_not_kept(board: Board) -> None:
    said, time = Peers(board.catalog), Clock(board)
    await said.say("mcp:old", "p", "up", seconds=1)
    await time.advance(90_000.0)
    await said.say("mcp:new", "p", "up", seconds=1)
    assert (await said.heard()).peers() == ["mcp:new"]
