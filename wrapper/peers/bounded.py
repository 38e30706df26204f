"""No more of an answer is read than a result may have: a peer that sends without end is hung up on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import ModuleType
from typing import Any

from blackboard.payloads import PAYLOAD_BYTES

MESSAGE_BYTES = PAYLOAD_BYTES
"""An answer, or one event of a stream of them."""
HEADERS = {"accept-encoding": "identity"}
"""What is asked for: a few compressed bytes may be very many."""
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


def bounding(library: ModuleType) -> Callable[[Any], Awaitable[None]]:
    """An event hook for the responses of a client.

    Args:
        library: ``httpx``, or what is like it.

    Returns:
        What makes reading a response raise the library's ``StreamError`` where a message is longer than
        :data:`MESSAGE_BYTES`, or compressed.
    """

    class Bounded(library.AsyncByteStream):  # pyright: ignore[reportUntypedBaseClass]
        def __init__(self, response: Any) -> None:
            self._stream = response.stream
            self._plain = response.headers.get("content-encoding", "identity") == "identity"
            self._events = response.headers.get("content-type", "").startswith("text/event-stream")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            if not self._plain:
                raise library.StreamError("it sends compressed what it was asked to send plainly")
            length, before = 0, b""
            part: bytes
            async for part in self._stream:
                read, before = before + part, (before + part)[-3:]
                end = max(map(read.rfind, _ENDS)) if self._events else -1
                length = len(read) - end if end >= 0 else length + len(part)
                if length > MESSAGE_BYTES:
                    raise library.StreamError(f"a message of it is longer than {MESSAGE_BYTES:,} bytes")
                yield part

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def bound(response: Any) -> None:
        response.stream = Bounded(response)

    return bound
