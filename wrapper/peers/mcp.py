"""MCP servers as peers: a program that is started here and speaks over its standard streams, or a streamable HTTP address.

Source: Model Context Protocol, revisions up to 2026-07-28; the official ``mcp`` library speaks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from blackboard.errors import BadInput
from registry.peers import Listing, lane
from registry.peers.mcp import Effects, listing
from wrapper.context import current_task
from wrapper.failing import PeerLost, PeerUnavailable, Permanent, RetryLater
from wrapper.models.failures import retry_after
from wrapper.peers.bounded import HEADERS, bounding
from wrapper.peers.peer import (
    ANSWER_SECONDS,
    CALL_SECONDS,
    REFRESH_SECONDS,
    START_SECONDS,
    PeerFailed,
    checked_seconds,
    checked_url,
    filled,
)
from wrapper.reporting import Reporter
from wrapper.secrets import Secrets

if TYPE_CHECKING:
    import httpx2
    import mcp
    from mcp.client import IncomingMessage

log = logging.getLogger(__name__)

PAGES = 100
"""Pages of a list of tools that are read."""
META = "dev.arbiter/"
"""Prefix of what a call says about its task in ``_meta``."""
WORDS = 2000
_CONNECT_SECONDS = 30.0
_SILENCE_SECONDS = 3600.0
"""How long a stream of a call may say nothing; the attempt's own bound is what ends it before."""
_REFUSALS: ContextVar[list[httpx2.HTTPStatusError] | None] = ContextVar("_REFUSALS", default=None)
"""Where answers over HTTP that refuse the call of this context are kept. The library posts a request in the context of who asked
for it, and tells of such an answer neither its status nor its headers."""


@dataclass(frozen=True, kw_only=True)
class McpPeer:
    """An MCP server whose tools are capabilities here, called ``<name>_<tool>``.

    Args:
        name: of the server here: a lower-case letter, then lower-case letters, digits and ``_``, at most 32.
        command: the program and its arguments; started by this process, once. Or give ``url``.
        env: environment of the program beside ``PATH``, ``HOME`` and the like; nothing else of this process's is passed on.
        cwd: folder it is started in.
        url: of a streamable HTTP endpoint.
        headers: sent with every request. Values here and in ``env`` may have ``{{secret:HANDLE}}`` in them.
        tools: offer only these, by the server's names. Default: all.
        effects: what running a tool does, by the server's name for it. Default: as the server says.
        tenant: who may use them; ``*`` is everybody.
        refresh_seconds: how often it is asked what it offers, whether or not it says that something changed.
        answer_seconds: how long it may take to answer that, or to be connected to.
        start_seconds: how long the program may take to start; the first start may have to fetch it.
        call_seconds: bound of one attempt at a tool.

    Raises:
        BadInput: neither or both of ``command`` and ``url``, a malformed name or URL, or a number out of its range.
    """

    name: str
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    tools: Sequence[str] | None = None
    effects: Mapping[str, Effects] = field(default_factory=dict[str, Effects])
    tenant: str = "*"
    refresh_seconds: float = REFRESH_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    call_seconds: float = CALL_SECONDS
    start_seconds: float = START_SECONDS

    def __post_init__(self) -> None:
        lane(self.kind, self.name)
        if isinstance(self.command, str):
            raise BadInput(
                "peer.command", self.command, "Give the program and its arguments one by one: ['python', 'x.py']."
            )
        if bool(self.command) == (self.url is not None):
            raise BadInput("peer.command", list(self.command), "Give either a command or a url.")
        if self.url is not None:
            checked_url(self.url, self.headers)
        for tool, does in self.effects.items():
            if does not in ("pure", "reads", "writes", "irreversible"):
                raise BadInput(f"peer.effects.{tool}", does, "Use one of pure, reads, writes, irreversible.")
        checked_seconds("refresh_seconds", self.refresh_seconds)
        checked_seconds("answer_seconds", self.answer_seconds, 600)
        checked_seconds("call_seconds", self.call_seconds)
        checked_seconds("start_seconds", self.start_seconds, 600)

    @property
    def kind(self) -> str:
        return "mcp"

    @property
    def open_seconds(self) -> float:
        return self.answer_seconds if self.url is not None else self.start_seconds

    @contextlib.asynccontextmanager
    async def open(self, secrets: Secrets) -> AsyncGenerator[McpSession]:
        """Start the program, or connect, and agree on a version of the protocol."""
        import mcp

        changed = asyncio.Event()

        async def hear(message: IncomingMessage) -> None:
            if isinstance(message, mcp.types.ToolListChangedNotification):
                changed.set()

        async with contextlib.AsyncExitStack() as stack:
            transport = await self._transport(stack, secrets)
            # A list of tools is asked for to learn whether it changed, so none is kept.
            client = mcp.Client(transport, message_handler=hear, cache=None)
            try:
                await stack.enter_async_context(client)
            except mcp.MCPError as error:
                raise PeerUnavailable(0, f"it answered, but not as an MCP server does: {_short(error)}") from error
            # The library's own check runs the server's expressions with backtracking, and fetches what its schemas refer to.
            # Results are held against the manifest's schema instead, which was judged when it was listed.
            client.session.validate_tool_result = _judged_elsewhere
            session = McpSession(self, client, changed)
            stack.push_async_callback(session.close)
            yield session

    async def _transport(self, stack: contextlib.AsyncExitStack, secrets: Secrets) -> Any:
        if self.url is None:
            from mcp import StdioServerParameters, stdio_client

            program, *arguments = self.command
            # What it says on its standard error is nobody's to read here: it may hold anything, also what it was given.
            silent = stack.enter_context(open(os.devnull, "w"))  # noqa: ASYNC230, SIM115
            return stdio_client(
                StdioServerParameters(command=program, args=arguments, env=filled(self.env, secrets), cwd=self.cwd),
                silent,
            )
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        # Redirects are not followed: a header with a secret goes where it was meant to go.
        http = await stack.enter_async_context(
            httpx2.AsyncClient(
                headers=HEADERS | filled(self.headers, secrets),
                timeout=httpx2.Timeout(_CONNECT_SECONDS, read=_SILENCE_SECONDS),
                event_hooks={"response": [bounding(httpx2), _keep_refusal]},
            )
        )
        return streamable_http_client(self.url, http_client=http)


class McpSession:
    """A server that answers.

    Args:
        peer: which one.
        client: entered.
        changed: set when it says that its tools changed.
    """

    def __init__(self, peer: McpPeer, client: mcp.Client, changed: asyncio.Event) -> None:
        self._peer, self._client, self._changed = peer, client, changed
        self._listening: asyncio.Task[None] | None = None

    async def offers(self) -> Listing:
        if self._client.server_capabilities.tools is None:
            return Listing(())
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name=f"{self._peer.name} changes")
        self._changed.clear()  # before the question: what changes after it is news
        tools: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await self._client.list_tools(cursor=cursor)
            tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
            cursor = page.next_cursor
            if not cursor:
                break
        peer = self._peer
        return listing(
            peer.name, tools, tenant=peer.tenant, effects=peer.effects, seconds=peer.call_seconds, only=peer.tools
        )

    async def changed(self) -> None:
        await self._changed.wait()

    async def _listen(self) -> None:
        """Have newer servers tell of changes; older ones do so by themselves."""
        from mcp.client.subscriptions import ListenNotSupportedError

        try:
            async with self._client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._changed.set()
            self._changed.set()  # it ended the stream, so it may be ending
        except ListenNotSupportedError:
            return
        except Exception as error:
            log.debug("mcp:%s tells of no changes: %s", self._peer.name, error)
            if _is_lost(error):
                self._changed.set()

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def call(self, tool: str, given: Mapping[str, JsonValue], report: Reporter | None) -> JsonValue:
        import mcp

        task = current_task()
        meta: Any = None
        if task is not None:
            # The same for every attempt at the task: a server that honours it carries the call out once.
            meta = {f"{META}idempotency-key": task.idempotency_key, f"{META}attempt": task.attempt}
        refusals: list[httpx2.HTTPStatusError] = []
        outer = _REFUSALS.set(refusals)
        try:
            result = await self._client.call_tool(tool, dict(given), progress_callback=report, meta=meta)
        except mcp.MCPError as error:
            for refusal in refusals:
                if (wait := retry_after(refusal)) is not None:
                    status = refusal.response.status_code
                    raise RetryLater(wait, f"the server answered {status}: ask later") from error
            if error.code == mcp.types.CONNECTION_CLOSED:
                raise PeerLost(f"the connection broke: {_short(error)}") from error
            if error.code in (mcp.types.INVALID_PARAMS, mcp.types.METHOD_NOT_FOUND):
                raise Permanent(f"The server refused the call: {_short(error)}") from error
            raise PeerFailed(f"the server answered with error {error.code}: {_short(error)}") from error
        finally:
            _REFUSALS.reset(outer)
        if result.is_error:
            raise PeerFailed(_text(result.content) or "the tool says that it failed, and no more")
        if result.structured_content is not None:
            return result.structured_content
        return _plain(result.content)


async def _keep_refusal(response: httpx2.Response) -> None:
    import httpx2

    refusals = _REFUSALS.get()
    if refusals is not None and response.is_error:
        refusals.append(httpx2.HTTPStatusError("", request=response.request, response=response))


async def _judged_elsewhere(name: str, result: Any) -> None:
    """Takes a result as it is; see :func:`wrapper.fitting.misfits`."""


def _plain(content: Sequence[Any]) -> JsonValue:
    """What a result without a structure says: its text, or its blocks where not all of them are text."""
    if all(block.type == "text" for block in content):
        return _text(content)
    return {"content": [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in content]}


def _text(content: Sequence[Any]) -> str:
    return "\n".join(block.text for block in content if block.type == "text")


def _short(error: BaseException) -> str:
    return str(error)[:WORDS]


def _is_lost(error: Exception) -> bool:
    from mcp.client.subscriptions import SubscriptionLost

    return isinstance(error, SubscriptionLost | OSError)
