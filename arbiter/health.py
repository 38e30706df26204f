"""Whether a daemon is alive and ready, asked over HTTP by whatever supervises it. Listens on this machine only.

``GET /live``   200 while the event loop turns.
``GET /ready``  200 while work is taken and the board's server answers; 503 before that, and from the first signal on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

from blackboard.errors import BadInput

HOST = "127.0.0.1"
ANSWER_SECONDS = 2.0
"""How long a request may take to come, and a check to be made."""
_LONGEST_LINE = 1024

Check = Callable[[], Awaitable[str | None]]
"""None when ready, else why not."""


class Health:
    """An endpoint with ``/live`` and ``/ready``.

    Args:
        where: a port of the loopback interface (0 takes a free one), or the path of a unix socket.
        ready: asked for each ``/ready``; an exception is a reason, too.
    """

    def __init__(self, where: str, ready: Check) -> None:
        self._where, self._ready = where, ready
        self._server: asyncio.Server | None = None
        self.address = where
        """Where it listens."""

    async def start(self) -> None:
        """Listen.

        Raises:
            BadInput: it cannot listen there.
        """
        try:
            if self._where.isdigit():
                self._server = await asyncio.start_server(self._serve, HOST, int(self._where), limit=_LONGEST_LINE)
                self.address = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"
            else:
                self._server = await asyncio.start_unix_server(self._serve, self._where, limit=_LONGEST_LINE)
        except (OSError, OverflowError) as error:
            raise BadInput("--health", self._where, f"It cannot be listened on: {error}. Name a free port.") from error

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever is gone, too slow or says too much gets no answer and disturbs nobody.
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                async with asyncio.timeout(ANSWER_SECONDS):
                    words = (await reader.readline()).split()
                    while (await reader.readline()).strip():
                        pass
                status, said = await self._answer(words)
                body = json.dumps(said).encode() + b"\n"
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                    "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(b"" if words[:1] == [b"HEAD"] else body)
                await writer.drain()
        writer.close()

    async def _answer(self, words: list[bytes]) -> tuple[str, dict[str, str]]:
        if len(words) != 3 or words[0] not in (b"GET", b"HEAD"):
            return "405 Method Not Allowed", {"error": "GET /live or /ready"}
        if words[1] == b"/live":
            return "200 OK", {"status": "live"}
        if words[1] != b"/ready":
            return "404 Not Found", {"error": "GET /live or /ready"}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                why = await self._ready()
        except Exception as error:  # whatever it is, this process is not ready, and the answer says why
            why = f"{type(error).__name__}: {error}".rstrip(": ")
        return ("200 OK", {"status": "ready"}) if why is None else ("503 Service Unavailable", {"status": why})
