"""This board as an MCP server: its capabilities are the tools, a call is a run.

Of few capabilities all are listed. Of many, some are, with two tools more: ``search_capabilities`` finds others, and
``call_capability`` calls one by name. Whoever subscribes is told when what is offered has changed.

Source: Model Context Protocol, revisions 2025-06-18 to 2026-07-28, "Tools"; the official ``mcp`` library speaks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from arbiter.exporting.carrying import MOST, Caller, Offered, Report, trouble
from blackboard.errors import ArbiterError
from registry import Version
from registry.content import canonical
from registry.peers.mcp import tool_of
from registry.schema import problems

if TYPE_CHECKING:
    from mcp import types
    from mcp.server import Server

log = logging.getLogger(__name__)

NAME = "arbiter"
SEARCH, CALL = "search_capabilities", "call_capability"
KEY = "dev.arbiter/idempotency-key"
"""Where in ``_meta`` of a call its idempotency key may stand."""
LOOK_SECONDS = 2.0
"""How often it is looked whether what is offered has changed, while somebody wants to know."""
_FOUND = 10

_EXTRA: tuple[dict[str, Any], ...] = (
    {
        "name": SEARCH,
        "description": "Search for capabilities that are not among the tools shown. Call what is found with call_capability.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "description": "What it should do, in plain words."},
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 20,
                    "description": "How many at most. Default 10.",
                },
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": CALL,
        "description": "Call a capability by name, with the input that its schema describes.",
        "inputSchema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "input": {"type": "object"}},
            "required": ["name", "input"],
            "additionalProperties": False,
        },
    },
)

_asking: ContextVar[Caller | None] = ContextVar("arbiter_mcp_caller", default=None)


class McpExport:
    """The capabilities of a board as an MCP server.

    Args:
        offered: what is offered.
        caller: who asks, where requests do not say; over HTTP each request does.
        most: list at most so many; of more, only some, and two tools to find and call the rest.
    """

    def __init__(self, offered: Offered, caller: Caller, *, most: int = MOST) -> None:
        from mcp.server import Server
        from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

        self._offered, self._caller, self._most = offered, caller, most
        self._bus = InMemorySubscriptionBus()
        self._listening = ListenHandler(self._bus)
        self._tell: list[Callable[[], Any]] = []
        self.server: Server[Any] = Server(
            NAME, on_list_tools=self._list, on_call_tool=self._call, on_subscriptions_listen=self._listening
        )

    @contextlib.asynccontextmanager
    async def asked_by(self, caller: Caller) -> AsyncGenerator[None]:
        """What is asked in here is asked by this caller."""
        before = _asking.set(caller)
        try:
            yield
        finally:
            _asking.reset(before)

    async def watch(self, seconds: float = LOOK_SECONDS) -> None:
        """Tell whoever listens when what is offered has changed; for ever.

        Args:
            seconds: how often to look.
        """
        from mcp.server.subscriptions import ToolsListChanged

        before: dict[str, str] | None = None
        while True:
            try:
                now = {each.name: each.sha for each in await self._offered.client.registry.offered()}
            except ArbiterError as error:
                log.error("what is offered cannot be read: %s", error)
                now = before
            if before is not None and now != before:
                await self._bus.publish(ToolsListChanged())
                for tell in self._tell:
                    await tell()
            before = now
            await asyncio.sleep(seconds)

    async def run_stdio(self) -> None:
        """Serve whoever started this process, over its standard streams, until they are closed."""
        from mcp.server.lowlevel.server import NotificationOptions
        from mcp.server.stdio import stdio_server

        watching = asyncio.create_task(self.watch())
        try:
            async with stdio_server() as (reading, writing):
                ready = self.server.create_initialization_options(NotificationOptions(tools_changed=True))
                await self.server.run(reading, writing, ready)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._offered.settled()

    @property
    def _who(self) -> Caller:
        return _asking.get() or self._caller

    # ---- what the protocol asks ------------------------------------------------------------------------------------

    async def _list(self, context: Any, _: Any) -> types.ListToolsResult:
        from mcp import types

        # Clients of before 2026-07-28 do not subscribe; over standard streams there is one, and it is told all the same.
        if _asking.get() is None and not self._tell:
            self._tell.append(lambda: _quietly(context.session))
        versions = await self._offered.versions(self._who)
        tools: list[Mapping[str, Any]] = [tool_of(each.manifest) for each in versions[: self._most]]
        if len(versions) > self._most:
            tools = [*_EXTRA, *tools]
        return types.ListToolsResult(tools=[types.Tool.model_validate(each) for each in tools])

    async def _call(self, context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        name, given = params.name, cast("dict[str, JsonValue]", params.arguments or {})
        caller = self._who
        for extra in _EXTRA:
            if name == extra["name"] and await self._offered.find(caller, name) is None:
                if found := problems(canonical(extra["inputSchema"]), given):
                    return _failed(f"The input does not fit: {'; '.join(found)}")
                if name == SEARCH:
                    limit = given.get("limit", _FOUND)
                    return _found(
                        await self._offered.search(
                            caller, str(given["query"]), limit if isinstance(limit, int) else _FOUND
                        )
                    )
                name, given = str(given["name"]), cast("dict[str, JsonValue]", given["input"])
                break
        if await self._offered.find(caller, name) is None:
            return _failed(f"There is no capability {name!r} here, or it cannot be had now.")
        meta: Mapping[str, Any] = context.meta or {}
        key = meta.get(KEY)
        report: Report = context.session.report_progress
        try:
            result = await self._offered.carry_out(
                caller, name, given, key=key if isinstance(key, str) else None, report=report
            )
        except ArbiterError as error:
            return _failed(str(error))
        if (why := trouble(result)) is not None:
            return _failed(why)
        return _succeeded(result.data)


async def _quietly(session: Any) -> None:
    """Tell a client of before 2026-07-28; it may be gone."""
    try:
        await session.send_tool_list_changed()
    except Exception as error:  # whatever its connection says: there is nobody left to tell
        log.debug("a client could not be told that what is offered changed: %s", error)


def _found(versions: list[Version]) -> types.CallToolResult:
    return _succeeded({"found": [cast(JsonValue, tool_of(each.manifest)) for each in versions]})


def _succeeded(data: JsonValue) -> types.CallToolResult:
    from mcp import types

    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return types.CallToolResult(
        content=[types.TextContent(text=text)], structured_content=data if isinstance(data, dict) else None
    )


def _failed(why: str) -> types.CallToolResult:
    from mcp import types

    return types.CallToolResult(content=[types.TextContent(text=why)], is_error=True)
