"""The commands by which whoever holds the token of an attempt ends it, or says that it goes on."""

from __future__ import annotations

import argparse
import contextlib
from typing import cast

from pydantic import JsonValue

from arbiter import narration
from arbiter.callbacks import Callbacks
from arbiter.cli import OK, options, output
from blackboard import strict_json
from blackboard.errors import BadInput
from registry import Registry


def _callbacks(arguments: argparse.Namespace) -> contextlib.AbstractAsyncContextManager[Callbacks]:
    return options.on_board(arguments, lambda board: Callbacks(board, Registry(board.catalog)))


async def complete(arguments: argparse.Namespace) -> int:
    """End an attempt with its result."""
    async with _callbacks(arguments) as callbacks:
        try:
            value = cast(JsonValue, strict_json.loads(arguments.output))
        except ValueError as error:
            raise BadInput("--output", arguments.output, f"It is not strict JSON: {error}.") from error
        task = await callbacks.complete(arguments.token, value)
        output.note(f"{narration.one_line(task, 200)} has its answer")
    return OK


async def fail(arguments: argparse.Namespace) -> int:
    """End an attempt with a failure."""
    async with _callbacks(arguments) as callbacks:
        task = await callbacks.fail(arguments.token, arguments.error, arguments.cause)
        output.note(f"{narration.one_line(task, 200)} is told that it failed")
    return OK


async def heartbeat(arguments: argparse.Namespace) -> int:
    """Say that it goes on."""
    async with _callbacks(arguments) as callbacks:
        seconds = await callbacks.heartbeat(arguments.token)
        output.note("noted" if seconds is None else f"noted; the next word is due in {narration.seconds(seconds)}")
    return OK
