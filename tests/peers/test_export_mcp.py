"""This board as an MCP server, asked by the protocol's own client: over standard streams, and over HTTP with tokens."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client
from peer_support import until

from arbiter import Arbiter, McpPeer, capability
from arbiter.exporting import mcp as exported
from arbiter.http.server import Api
from blackboard.testing import RedisServer
from blackboard.tokens import Tokens


@capability(effects="pure")
def add(a: int, b: int) -> dict[str, int]:
    """Add two whole numbers."""
    return {"sum": a + b}


@capability
def shout(text: str) -> str:
    """Say a text louder."""
    if not text:
        raise ValueError("nothing to say")
    return text.upper()


@capability(tenant="acme")
def secret_recipe() -> str:
    """Tell the recipe of the house."""
    return "salt"


@capability
async def gate() -> str:
    """Wait for ever."""
    await asyncio.Event().wait()
    return "open"


class Site:
    """An Arbiter whose capabilities are offered over HTTP, and clients of it."""

    def __init__(self, arbiter: Arbiter, url: str, local: str) -> None:
        self.arbiter, self.url, self.local = arbiter, url, local

    async def token(self, *scopes: str, **more: Any) -> str:
        return (await Tokens(self.arbiter.board.catalog).create("ci", scopes, **more))[0]

    @contextlib.asynccontextmanager
    async def client(self, token: str | None = None, mode: str = "auto", **more: Any) -> AsyncIterator[mcp.Client]:
        headers = {"Authorization": f"Bearer {token or self.local}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            mcp.Client(streamable_http_client(self.url, http_client=http), mode=mode, cache=None, **more) as client,
        ):
            yield client


@contextlib.asynccontextmanager
async def running(url: str, board: str, folder: Path, most: int = 64, **options: Any) -> AsyncIterator[Site]:
    options = {"capabilities": [add, shout, secret_recipe, gate], "lease_seconds": 1.5, **options}
    async with Arbiter(url, board=board, data_dir=folder, roles=(), grace_seconds=0.2, **options) as arbiter:
        api = Api("127.0.0.1:0", data_dir=folder, exports=["mcp"], most=most)

        async def ready() -> str | None:
            return None

        lines = await api.start(arbiter, ready)
        assert f"{api.address}/mcp is an MCP server" in lines
        try:
            yield Site(arbiter, f"{api.address}/mcp", (folder / "http" / "token").read_text().strip())
        finally:
            await api.close()


@pytest.fixture
async def site(redis_server: RedisServer, board_name: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, board_name, tmp_path) as one:
        yield one


async def test_capabilities_are_tools_and_a_call_is_a_run_whose_failure_is_an_error(site: Site) -> None:
    async with site.client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["add", "gate", "shout"]  # not the tenant's own
        assert tools["add"].description == "Add two whole numbers."
        assert tools["add"].annotations is not None
        assert tools["add"].annotations.read_only_hint is True
        assert tools["add"].input_schema["required"] == ["a", "b"]
        assert tools["add"].output_schema is not None

        added = await client.call_tool("add", {"a": 2, "b": 3})
        assert (added.is_error, added.structured_content) == (False, {"sum": 5})
        loud = await client.call_tool("shout", {"text": "hello"})
        assert (loud.structured_content, loud.content[0].text) == (None, "HELLO")  # type: ignore[union-attr]

        for name, given, said in [
            ("shout", {"text": ""}, "failed: handler_error: ValueError: nothing to say"),
            ("add", {"a": 1}, "call.input"),
            ("nothing", {}, "There is no capability 'nothing' here"),
            ("secret_recipe", {}, "There is no capability 'secret_recipe' here"),
        ]:
            failed = await client.call_tool(name, given)
            assert failed.is_error
            assert said in failed.content[0].text  # type: ignore[union-attr]
    runs = await site.arbiter.runs()
    assert len(runs) == 3  # what does not fit or is not there made none


async def test_the_same_key_is_the_same_run(site: Site) -> None:
    async with site.client() as client:
        for _ in range(2):
            await client.call_tool("add", {"a": 2, "b": 3}, meta={exported.KEY: "order-7"})  # type: ignore[arg-type]
    assert len(await site.arbiter.runs()) == 1


async def test_a_caller_that_goes_away_leaves_nothing_running(site: Site) -> None:
    async with site.client() as client:
        waiting = asyncio.create_task(client.call_tool("gate", {}))
        async with asyncio.timeout(30):
            while not (runs := await site.arbiter.runs()):
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (await site.arbiter.result(runs[0].id, timeout=60)).status == "cancelled"


async def test_a_token_opens_what_its_scopes_and_tenant_say(site: Site) -> None:
    async with httpx2.AsyncClient() as http:
        for scope in ("runs:write", "capabilities:read"):
            headers = {"Authorization": f"Bearer {await site.token(scope)}"}
            assert (await http.post(site.url, json={}, headers=headers)).status_code == 403
    token = await site.token("runs:write", "capabilities:read", tenant="acme")
    async with site.client(token) as client:
        assert "secret_recipe" in [tool.name for tool in (await client.list_tools()).tools]
        assert (await client.call_tool("secret_recipe", {})).content[0].text == "salt"  # type: ignore[union-attr]
    (run,) = await site.arbiter.runs()
    assert run.tenant == "acme"
    state = (await site.arbiter.show(run.id)).state
    assert "token:ci" in state.taint


async def test_who_shows_no_token_or_comes_from_a_page_gets_nothing(site: Site) -> None:
    async with httpx2.AsyncClient() as http:
        assert (await http.post(site.url, json={})).status_code == 401
        headers = {"Authorization": f"Bearer {site.local}"}
        assert (await http.post(site.url, json={}, headers={**headers, "Host": "evil.example"})).status_code == 403
        assert (
            await http.post(site.url, json={}, headers={**headers, "Origin": "https://evil.example"})
        ).status_code == 403


async def test_of_many_some_are_listed_and_the_rest_is_found_and_called(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    async with running(redis_server.url, board_name, tmp_path, most=1) as site, site.client() as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        assert tools == ["search_capabilities", "call_capability", "add"]
        found = await client.call_tool("search_capabilities", {"query": "say a text louder", "limit": 1})
        assert found.structured_content is not None
        (tool,) = found.structured_content["found"]
        assert tool["name"] == "shout"
        loud = await client.call_tool("call_capability", {"name": "shout", "input": {"text": "hello"}})
        assert loud.content[0].text == "HELLO"  # type: ignore[union-attr]
        assert (await client.call_tool("call_capability", {"name": "shout"})).is_error
        assert (await client.call_tool("call_capability", {"name": "secret_recipe", "input": {}})).is_error


async def test_who_listens_is_told_when_what_is_offered_changes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site.client() as client, client.listen(tools_list_changed=True) as events:
        assert "sing" not in [tool.name for tool in (await client.list_tools()).tools]

        @capability
        def sing() -> str:
            """Sing a song."""
            return "la"

        await site.arbiter.register(sing)
        async with asyncio.timeout(30):
            async for _ in events:
                break
        assert "sing" in [tool.name for tool in (await client.list_tools()).tools]


async def test_progress_goes_through_and_a_board_can_be_anothers_peer(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    import shop_server
    from peer_support import served

    async with served(lambda: shop_server.make().streamable_http_app(), "/mcp") as place:
        shop = McpPeer(name="shop", url=place.url)
        async with (
            running(redis_server.url, board_name, tmp_path, peers=[shop], capabilities=[]) as site,
            site.client() as client,
        ):
            told: list[Any] = []

            async def tell(*progress: Any) -> None:
                told.append(progress)

            packed = await client.call_tool("shop_pack", {"items": 3}, progress_callback=tell)
            assert packed.structured_content == {"result": "3 packed"}
            assert told[0] == (1.0, 3.0, "packed 1")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_standard_streams(mode: str, redis_server: RedisServer, board_name: str, tmp_path: Path) -> None:
    changed = asyncio.Event()

    async def hear(message: Any) -> None:
        if isinstance(message, mcp.types.ToolListChangedNotification):
            changed.set()

    words = ["-m", "arbiter", "serve-mcp", "--url", redis_server.url, "--board", board_name, "--only", "add"]
    words += ["--only", "sing"]
    async with Arbiter(redis_server.url, board=board_name, capabilities=[add, shout], roles=()) as arbiter:
        started = mcp.StdioServerParameters(
            command=sys.executable, args=words, env={"ARBITER_DATA_DIR": str(tmp_path)}
        )  # fmt: skip
        async with mcp.Client(started, mode=mode, message_handler=hear, cache=None) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["add"]
            assert (await client.call_tool("add", {"a": 2, "b": 3})).structured_content == {"sum": 5}
            assert (await client.call_tool("shout", {"text": "x"})).is_error
            (run,) = await arbiter.runs()
            assert "mcp:stdio" in (await arbiter.show(run.id)).state.taint
            if mode == "legacy":

                @capability
                def sing() -> str:
                    """Sing a song."""
                    return "la"

                await arbiter.register(sing)
                await until(changed.is_set)
