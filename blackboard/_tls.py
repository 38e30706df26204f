"""Does a server that did not answer speak TLS where its URL says that it does not, or the other way round?

Neither side of such a pair says so: a server without TLS waits for the end of a command that never comes, one with TLS closes the
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

from blackboard._address import Address

_SECONDS = 1.0


async def remedy(address: Address) -> str:
    """What to write instead, where that is so; else nothing. Sends no credentials and judges no certificate."""
    if address.scheme not in ("redis", "rediss") and not address.hosts:
        return ""
    parts = urlsplit(address.full)
    host, port = address.hosts[0] if address.hosts else (parts.hostname or "", parts.port or 6379)
    encrypted = parts.scheme == "rediss"
    with contextlib.suppress(OSError, TimeoutError, EOFError):  # an SSLError is an OSError
        async with asyncio.timeout(_SECONDS):
            if not (await _speaks(host, port) if encrypted else await _speaks_tls(host, port)):
                return ""
        if encrypted:
            return (
                f"It answers without TLS: write {address.scheme.replace('rediss', 'redis')}:// for a server without it."
            )
        return f"It speaks TLS: write {address.scheme.replace('redis', 'rediss')}:// for a server with it."
    return ""


async def _speaks(host: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"PING\r\n")
        return (await reader.readexactly(1)) in (b"+", b"-")  # or that it wants a password
    finally:
        writer.close()


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.close()
    return True
