"""The commands about tasks that wait for a person."""

from __future__ import annotations

import argparse
import contextlib
import json

from arbiter import narration
from arbiter.approving import Approvals
from arbiter.cli import OK, options, output
from blackboard.approvals import Waiting
from registry import Registry


def _approvals(arguments: argparse.Namespace) -> contextlib.AbstractAsyncContextManager[Approvals]:
    return options.on_board(arguments, lambda board: Approvals(board, Registry(board.catalog)))


async def waiting(arguments: argparse.Namespace) -> int:
    """List what waits for an answer."""
    async with _approvals(arguments) as approvals:
        found = [each for each in await approvals.list() if each.run_id.startswith(arguments.run or "")]
        output.listing(found, _lines, arguments.json, "no task waits for a person")
    return OK


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


async def show(arguments: argparse.Namespace) -> int:
    """Print all that one task is given."""
    async with _approvals(arguments) as approvals:
        output.text(json.dumps(await approvals.arguments(arguments.id), indent=2))
    return OK


async def approve(arguments: argparse.Namespace) -> int:
    """Let a task be done."""
    async with _approvals(arguments) as approvals:
        instead = None if arguments.arguments is None else options.given(arguments.arguments)
        task = await approvals.approve(arguments.id, arguments=instead)
        output.note(f"{narration.one_line(task, 200)} goes on")
    return OK


async def refuse(arguments: argparse.Namespace) -> int:
    """Refuse a task, or an answer."""
    async with _approvals(arguments) as approvals:
        task = await approvals.refuse(arguments.id, reason=arguments.reason)
        output.note(f"{narration.one_line(task, 200)} ends as refused")
    return OK


async def answer(arguments: argparse.Namespace) -> int:
    """Answer what a planning model asks."""
    async with _approvals(arguments) as approvals:
        task = await approvals.answer(arguments.id, arguments.answer)
        output.note(f"{narration.one_line(task, 200)} has its answer")
    return OK
