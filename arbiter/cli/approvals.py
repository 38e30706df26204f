"""The commands about tasks that wait for a person."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable

from arbiter import narration
from arbiter.approving import Approvals
from arbiter.cli import OK, options, output
from blackboard.approvals import Waiting
from blackboard.board import Board
from registry import Registry


async def waiting(arguments: argparse.Namespace) -> int:
    """List what waits for an answer."""
    return await _with(arguments, _waiting)


async def show(arguments: argparse.Namespace) -> int:
    """Print all that one task is given."""
    return await _with(arguments, _show)


async def approve(arguments: argparse.Namespace) -> int:
    """Let a task be done."""
    return await _with(arguments, _approve)


async def refuse(arguments: argparse.Namespace) -> int:
    """Refuse a task, or an answer."""
    return await _with(arguments, _refuse)


async def answer(arguments: argparse.Namespace) -> int:
    """Answer what a planning model asks."""
    return await _with(arguments, _answer)


async def _with(arguments: argparse.Namespace, does: Callable[[argparse.Namespace, Approvals], Awaitable[None]]) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        await does(arguments, Approvals(board, Registry(board.catalog)))
    return OK


async def _waiting(arguments: argparse.Namespace, approvals: Approvals) -> None:
    found = [each for each in await approvals.list() if each.run_id.startswith(arguments.run or "")]
    output.listing(found, _lines, arguments.json, "no task waits for a person")


def _lines(each: Waiting) -> list[str]:
    # Arguments are JSON in ASCII as the board keeps them: nothing in them can pass for words of ours, or move the cursor.
    asks = "asks" if each.kind == "question" else f"{each.capability} {(each.version or '')[:12]} waits for approval"
    more = "" if each.whole else f" ... {each.argument_bytes:,} bytes in all: arbiter approvals show {each.id}"
    who = ""
    if each.by:
        later = (
            f", and {narration.words(each.delegate)} from {narration.moment(each.delegate_at)}" if each.delegate else ""
        )
        who = f"; for {narration.words(each.by)}{later}"
    return [
        f"{narration.one_line(each.id, 200)} {asks}, until {narration.moment(each.until)}, then {narration.otherwise(each)}{who}",
        f"  {narration.escaped(each.arguments)}{more}",
        f"  from {narration.sources(each.sources)}; tenant {each.tenant}; the run was asked: "
        f"{narration.one_line(json.dumps(each.request), 200)}",
    ]  # fmt: skip


async def _show(arguments: argparse.Namespace, approvals: Approvals) -> None:
    output.text(json.dumps(await approvals.arguments(arguments.id), indent=2))


async def _approve(arguments: argparse.Namespace, approvals: Approvals) -> None:
    instead = None if arguments.arguments is None else options.given(arguments.arguments)
    task = await approvals.approve(arguments.id, arguments=instead)
    output.note(f"{narration.one_line(task, 200)} goes on")


async def _refuse(arguments: argparse.Namespace, approvals: Approvals) -> None:
    task = await approvals.refuse(arguments.id, reason=arguments.reason)
    output.note(f"{narration.one_line(task, 200)} ends as refused")


async def _answer(arguments: argparse.Namespace, approvals: Approvals) -> None:
    task = await approvals.answer(arguments.id, arguments.answer)
    output.note(f"{narration.one_line(task, 200)} has its answer")
