"""The commands by which whoever holds the token of an attempt ends it, or says that it goes on."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import cast

from pydantic import JsonValue

from arbiter import narration
from arbiter.callbacks import Callbacks
from arbiter.cli import OK, options, output
from blackboard import strict_json
from blackboard.board import Board
from blackboard.errors import BadInput
from registry import Registry


async def complete(arguments: argparse.Namespace) -> int:
    """End an attempt with its result."""
    return await _with(arguments, _complete)


async def fail(arguments: argparse.Namespace) -> int:
    """End an attempt with a failure."""
    return await _with(arguments, _fail)


async def heartbeat(arguments: argparse.Namespace) -> int:
    """Say that it goes on."""
    return await _with(arguments, _heartbeat)


async def _with(arguments: argparse.Namespace, does: Callable[[argparse.Namespace, Callbacks], Awaitable[None]]) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        await does(arguments, Callbacks(board, Registry(board.catalog)))
    return OK


async def _complete(arguments: argparse.Namespace, callbacks: Callbacks) -> None:
    try:
        value = cast(JsonValue, strict_json.loads(arguments.output))
    except ValueError as error:
        raise BadInput("--output", arguments.output, f"It is not strict JSON: {error}.") from error
    task = await callbacks.complete(arguments.token, value)
    output.note(f"{narration.one_line(task, 200)} has its answer")


async def _fail(arguments: argparse.Namespace, callbacks: Callbacks) -> None:
    task = await callbacks.fail(arguments.token, arguments.error, arguments.cause)
    output.note(f"{narration.one_line(task, 200)} is told that it failed")


async def _heartbeat(arguments: argparse.Namespace, callbacks: Callbacks) -> None:
    seconds = await callbacks.heartbeat(arguments.token)
    output.note("noted" if seconds is None else f"noted; the next word is due in {narration.seconds(seconds)}")
