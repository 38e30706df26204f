"""Where the API listens and who may reach it; what a slow client may cost.

It speaks HTTP and leaves TLS to what stands in front: a proxy on this machine that has the certificate and passes requests
on to the loopback interface. What is meant for more than this machine has to be said, by the names clients know it by, and
needs tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import socket
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbiter.health import Check
from blackboard.audit import Audit, somebody
from blackboard.errors import BadInput, MissingExtra
from blackboard.redaction import remember
from blackboard.tokens import Tokens

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from arbiter.http.access import Access
    from arbiter.http.exports import Endpoint, Export
    from arbiter.sdk import Arbiter

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""How long the head of a request may take to arrive."""
IDLE_SECONDS = 30
"""How long a connection may wait for its next request."""
STUCK_SECONDS = 30.0
"""How long a client may leave an answer lying before it is cut off."""
CONNECTIONS = 512
HEAD_BYTES = 32 * 1024
DRAIN_SECONDS = 3
_KINDS = {"/mcp": "MCP server", "/a2a": "A2A agent"}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\]", re.IGNORECASE)


class Api:
    """The API of one process.

    Args:
        where: ``HOST:PORT``, or a port of 127.0.0.1; port 0 takes a free one.
        public: names under which clients beyond this machine reach it; needed to listen on anything but the loopback
            interface, and for a proxy. Only tokens of the board count then.
        data_dir: where this user's own token is. Default ``ARBITER_DATA_DIR``, then ``~/.arbiter``.
        exports: in which protocols the capabilities are offered there as well: ``mcp``, ``a2a``.
        only: offer no other capabilities in them, by name.
        most: list at most so many of them over MCP.
        console: serve the page for people at ``/console``. Default: on the loopback interface yes, with ``public`` no.

    Raises:
        MissingExtra: ``arbiter[http]`` is not installed.
        BadInput: no address, one that cannot be listened on, one beyond this machine without ``public``, or no name.
    """

    def __init__(
        self,
        where: str,
        public: Sequence[str] = (),
        data_dir: Path | str | None = None,
        *,
        exports: Sequence[Export] = (),
        only: Sequence[str] | None = None,
        most: int = 64,
        console: bool | None = None,
    ) -> None:
        for module in ("starlette", "uvicorn"):
            if find_spec(module) is None:
                raise MissingExtra(f"--http needs {module}: pip install 'arbiter[http]'")
        for export in exports:
            if find_spec(export) is None:
                raise MissingExtra(f"--export {export} needs it: pip install 'arbiter[{export}]'")
        for name in public:
            if not _NAME.fullmatch(name):
                raise BadInput("--http-public", name, "Give a host name without a port, such as arbiter.example.com.")
        self._public, self._data_dir = tuple(public), data_dir
        self._socket = _bound(where, bool(public))
        host, port = self._socket.getsockname()[:2]
        self._beyond = not ipaddress.ip_address(host.partition("%")[0]).is_loopback
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        """Where it listens."""
        self._console = not public if console is None else console
        self._exports, self._only, self._most = tuple(dict.fromkeys(exports)), only, most
        self._endpoints: list[Endpoint] = []
        self._closing = asyncio.Event()
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, served: Arbiter, ready: Check) -> list[str]:
        """Begin to answer.

        Args:
            served: started.
            ready: None when this process takes work, else why not.

        Returns:
            What people should know, a line each.

        Raises:
            BadInput: clients beyond this machine are let in, and the board has no token; or this user's token is unfit.
        """
        from arbiter.http import local_token
        from arbiter.http.access import Access
        from arbiter.http.application import Application

        local: str | None = None
        if self._public:
            now, tokens = await Tokens(served.board.catalog).list()
            if not any(token.state(now) == "valid" for token in tokens):
                raise BadInput(
                    "--http-public", ", ".join(self._public), "This board has no token: arbiter tokens create, first."
                )
            await Audit(served.board).note(
                "http.public", f"{os.getpid()}@{socket.gethostname()}", by=somebody(),
                detail={"address": self.address, "names": list(self._public), "console": self._console},
            )  # fmt: skip
            lines = [f"{self.address}, as {', '.join(self._public)}; tokens of the board"]
            if self._beyond:
                lines.append("not encrypted here: let a TLS proxy stand in front, or tokens are read on their way")
        else:
            local = await asyncio.to_thread(local_token.made, self._data_dir)
            remember("http-token", local)
            lines = [f"{self.address}; this user's token is in {local_token.path(self._data_dir)}"]
        access = Access(served.board, self._public, local)
        paths = await self._export(served, access) if self._exports else {}
        lines += [f"{self.address}{path} is an {kind}" for path, kind in _KINDS.items() if path in paths]
        if self._console:
            lines.append(f"{self.address}/console is the console; it asks for a token")
        application = Application(served, access, ready, self._closing, paths, self._console)
        self._server = _server(application.app)
        self._serving = asyncio.create_task(self._server.serve([self._socket]), name="http")
        return lines

    async def close(self) -> None:
        """Accept nothing more, end what waits and streams, and let the rest finish within 3 s."""
        self._closing.set()
        for each in self._endpoints:
            await each.close()
        self._endpoints.clear()
        if self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None
        self._socket.close()

    async def _export(self, served: Arbiter, access: Access) -> dict[str, ASGIApp]:
        """What answers in the protocols of others, by path; started."""
        from arbiter.http import exports

        found: dict[str, ASGIApp] = {}
        if "mcp" in self._exports:
            found[exports.MCP] = mcp = exports.McpEndpoint(served, access, self._only, self._most)
            self._endpoints.append(mcp)
        if "a2a" in self._exports:
            found[exports.A2A] = found[exports.CARD] = a2a = exports.A2aEndpoint(served, access, self._only)
            self._endpoints.append(a2a)
        for each in self._endpoints:
            await each.start()
        return found


def _server(app: Any) -> Any:
    import h11
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        """A connection that is given up when a head does not come, or an answer is not taken, in time."""

        _head: asyncio.TimerHandle | None = None
        _stuck: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._head = self.loop.call_later(HEAD_SECONDS, transport.close)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._head = _stopped(self._head)
            elif self._head is None:
                self._head = self.loop.call_later(HEAD_SECONDS, self.transport.close)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stuck = self._stuck or self.loop.call_later(STUCK_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stuck = _stopped(self._stuck)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head, self._stuck = _stopped(self._head), _stopped(self._stuck)
            super().connection_lost(exc)

    class Embedded(uvicorn.Server):
        """A server in a process that has signals of its own."""

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    return Embedded(
        uvicorn.Config(
            app, http=Patient, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
            proxy_headers=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS, h11_max_incomplete_event_size=HEAD_BYTES,
        )
    )  # fmt: skip


def _stopped(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _bound(where: str, public: bool) -> socket.socket:
    """A socket at an address, not listening yet."""
    host, _, port = where.rpartition(":")
    host = host.strip("[]") if host else "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadInput("--http", where, "Write HOST:PORT, such as 127.0.0.1:8300.")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadInput("--http", where, f"There is no host {host}: {error.strerror}.") from None
    family, kind, protocol, _, address = found[0]
    if not public and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise BadInput(
            "--http", where, "Others could reach it there. Listen on 127.0.0.1 with a TLS proxy in front, or say "
            "--http-public NAME, the name they reach it by, after 'arbiter tokens create'.",
        )  # fmt: skip
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise BadInput("--http", where, f"It cannot be listened on: {error.strerror}. Name a free port.") from None
    return made
