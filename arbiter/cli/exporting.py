"""The command that offers a board to others as an MCP server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any, cast

from arbiter.cli import OK, options, output
from blackboard.errors import BadInput

if TYPE_CHECKING:
    from arbiter.sdk import Arbiter

STDIO = "mcp:stdio"
"""Where what a client says comes from that started this process: a program, and the model behind it."""


async def serve_mcp(arguments: argparse.Namespace) -> int:
    """Offer the board's capabilities as an MCP server until the client goes, or a signal comes."""
    output.log_to_stderr(logging.INFO if arguments.http is not None else logging.WARNING)
    if arguments.http is None and arguments.http_public:
        raise BadInput("--http-public", arguments.http_public[0], "It goes with --http HOST:PORT.")
    from arbiter.sdk import Arbiter

    async with Arbiter(roles=(), tenant=arguments.tenant, **options.place(arguments)) as client:
        if arguments.http is None:
            await _stdio(client, arguments)
        else:
            await _http(client, arguments)
    return OK


async def _stdio(client: Arbiter, arguments: argparse.Namespace) -> None:
    from arbiter.exporting.carrying import Caller, Offered
    from arbiter.exporting.mcp import McpExport

    await McpExport(
        Offered(client, arguments.only), Caller(arguments.tenant, (STDIO,)), most=arguments.most
    ).run_stdio()


async def _http(client: Arbiter, arguments: argparse.Namespace) -> None:
    from arbiter.http.server import Api

    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)

    async def ready() -> str | None:
        await cast(Any, client.board.client).ping()
        return None

    api = Api(
        arguments.http, arguments.http_public, arguments.data_dir, exports=["mcp"], only=arguments.only,
        most=arguments.most, console=False,
    )  # fmt: skip
    try:
        output.note("\n".join(await api.start(client, ready)))
        await ending.wait()
    finally:
        await api.close()
