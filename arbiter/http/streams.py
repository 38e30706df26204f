"""Events as Server-Sent Events: each as it happens, until what is watched is over, or the process or the token is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response, StreamingResponse

from arbiter.http import problems
from arbiter.http.asked import Asked
from blackboard.errors import ArbiterError
from blackboard.events import Event

ALIVE_SECONDS = 15.0
"""After so long a silence a stream says that it is there; as often it looks whether its token still counts."""
RECONNECT_MS = 1000
clock = time.monotonic
"""Seconds."""


def stream(asked: Asked, watched: AsyncGenerator[Event, None], without: tuple[type[Event], ...] = ()) -> Response:
    """Answer with what is watched.

    Args:
        without: types of events that are left out.
    """
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(asked, watched, without), headers=headers, media_type="text/event-stream")


async def _frames(
    asked: Asked, watched: AsyncGenerator[Event, None], without: tuple[type[Event], ...]
) -> AsyncGenerator[str, None]:
    """Frames of the stream.

    Source: WHATWG HTML, section 9.2, server-sent events.
    """
    yield f"retry: {RECONNECT_MS}\n\n"
    closing = asyncio.ensure_future(asked.closing.wait())
    coming: asyncio.Future[Event] | None = None
    checked = clock()
    try:
        while True:
            if coming is None:
                coming = asyncio.ensure_future(anext(watched))
            await asyncio.wait({coming, closing}, timeout=ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if closing.done() and not coming.done():
                return
            if not coming.done() or clock() - checked >= ALIVE_SECONDS:
                await asked.still_valid()
                checked = clock()
            if not coming.done():
                yield ": alive\n\n"
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            if not isinstance(event, without):
                yield f"id: {event.sequence}\nevent: {event.type}\ndata: {text(event.model_dump(mode='json'))}\n\n"
    except ArbiterError as error:
        said, _ = problems.body(error)
        yield f"event: problem\ndata: {text(said)}\n\n"
    finally:
        closing.cancel()
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, ArbiterError):
                await coming
        await watched.aclose()


def text(value: Any) -> str:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def answer(value: Any) -> Response:
    """A value as the body of an answer."""
    return Response(text(value), media_type="application/json")
