"""What the board can do in the protocols of others, behind the tokens of the API: MCP at ``/mcp``, A2A at ``/a2a``.

A token needs both ``capabilities:read`` and ``runs:write`` for it: whoever sees tools may call them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from arbiter.exporting.carrying import MOST, Caller, Offered
from arbiter.http import bodies
from arbiter.http.access import LOCAL, LOOPBACK, Access, tenant_of
from blackboard import taint
from blackboard.ending import end
from blackboard.tokens import Token

if TYPE_CHECKING:
    from arbiter.sdk import Arbiter

Export = Literal["mcp", "a2a"]
MCP, A2A = "/mcp", "/a2a"
CARD = f"{A2A}/.well-known/agent-card.json"
SCOPES = ("capabilities:read", "runs:write")


class Endpoint(Protocol):
    """What answers in the protocol of others."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def caller_of(token: Token, default: str) -> Caller:
    """Who a token stands for: its tenant, and its name as the source of what is asked with it."""
    source = taint.PERSON if token.id == LOCAL else taint.source("token", token.name)
    return Caller(tenant_of(token, None, default), (source,))


async def admitted(access: Access, scope: Scope, default: str) -> Caller:
    """Who asks.

    Raises:
        NotToken, TokenRefused, Forbidden: as :meth:`~arbiter.http.access.Access.admit`.
    """
    request = Request(scope)
    token = await access.admit(request, SCOPES[0])
    for each in SCOPES[1:]:
        await access.admit(request, each)
    return caller_of(token, default)


def _again(content: bytes, receive: Receive) -> Receive:
    """What was read, once more; then whatever comes, such as that the client is gone."""
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read


class McpEndpoint:
    """MCP over streamable HTTP, as an ASGI application. Without sessions: any daemon of the board answers any request.

    Args:
        served: started; whose board it is.
        access: who gets in.
        only: offer no other capabilities, by name.
        most: list at most so many.
    """

    def __init__(self, served: Arbiter, access: Access, only: Sequence[str] | None = None, most: int = MOST) -> None:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from arbiter.exporting.mcp import McpExport

        self._served, self._access, self._offered = served, access, Offered(served, only)
        self._export = McpExport(self._offered, Caller(served.tenant, taint.UNKNOWN), most=most)
        # Host and Origin were looked at before anything gets here.
        self._manager = StreamableHTTPSessionManager(self._export.server, stateless=True)
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to answer."""
        up = asyncio.Event()

        async def run() -> None:
            async with self._manager.run():
                up.set()
                await asyncio.Event().wait()

        self._running = [
            asyncio.create_task(run(), name="mcp"),
            asyncio.create_task(self._export.watch(), name="mcp news"),
        ]
        await up.wait()

    async def close(self) -> None:
        """End what is answered; runs whose callers are cut off are cancelled."""
        await end(self._running)
        await self._offered.settled()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = await admitted(self._access, scope, self._served.tenant)
        async with self._export.asked_by(caller):
            await self._manager.handle_request(scope, receive, send)


class A2aEndpoint:
    """A2A over JSON-RPC, as an ASGI application; the card is below it.

    Args:
        served, access, only: as for :class:`McpEndpoint`. With ``only``, requests in words are not planned.
    """

    def __init__(self, served: Arbiter, access: Access, only: Sequence[str] | None = None) -> None:
        from arbiter.exporting.a2a import A2aExport

        self._served, self._access = served, access
        self._export = A2aExport(Offered(served, only), plans=only is None)

    async def start(self) -> None:
        """Nothing has to be begun."""

    async def close(self) -> None:
        """End what is answered."""
        await self._export.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = await admitted(self._access, scope, self._served.tenant)
        request = Request(scope, receive)
        if request.method == "POST" and request.url.path == A2A:
            content = await bodies.read(request)
            answer = await self._export.answer(Request(scope, _again(content, receive)), caller)
        elif request.method == "GET" and request.url.path == CARD:
            answer = JSONResponse(await self._export.card(caller, self._address(request)))
        else:
            answer = Response(status_code=405)
        await answer(scope, receive, send)

    def _address(self, request: Request) -> str:
        """Where the one that asks reaches this, by the name it used."""
        host = request.headers["host"]
        beyond = self._access.public and host.partition(":")[0] not in LOOPBACK
        return f"{'https' if beyond else 'http'}://{host}{A2A}"
