"""The commands about requests that would carry a secret and wait for a person."""

from __future__ import annotations

import argparse
import json

from arbiter import narration
from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.permits import Permit, Permits


async def waiting(arguments: argparse.Namespace) -> int:
    """List what waits for an answer."""
    async with await Board.open(**options.place(arguments)) as board:
        found = await Permits(board).list(everything=arguments.all)
    output.listing(found, _lines, arguments.json, "no request waits for a person")
    return OK


def _lines(permit: Permit) -> list[str]:
    # What isolated code chose is written as JSON: nothing of it can pass for words of ours, or move the cursor.
    asked = permit.request
    said = f", {permit.state} by {permit.by}" if permit.by else "" if permit.state == "waiting" else f", {permit.state}"
    about = f"{permit.id} {permit.capability} {permit.version[:12]} asks to use {', '.join(permit.secrets)}{said}"
    return [
        f"{about}; content from {narration.sources(permit.sources)}, which is not trusted, led to it",
        f"  task {permit.task_id}, tenant {permit.tenant}",
        f"  {json.dumps(asked.method)} {json.dumps(asked.url)}",
        *(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in asked.headers.items()),
        *([f"  {asked.body_bytes} bytes: {json.dumps(asked.body)}"] if asked.body_bytes else []),
    ]


async def approve(arguments: argparse.Namespace) -> int:
    """Permit a request."""
    async with await Board.open(**options.place(arguments)) as board:
        permit = await Permits(board).approve(arguments.id, sources=arguments.source)
    output.note(f"{permit.task_id} may make this request, once it is tried again: run {permit.run_id} goes on")
    return OK


async def refuse(arguments: argparse.Namespace) -> int:
    """Refuse a request."""
    async with await Board.open(**options.place(arguments)) as board:
        permit = await Permits(board).refuse(arguments.id, reason=arguments.reason)
    output.note(f"{permit.task_id} may not make this request and ends: run {permit.run_id} goes on")
    return OK
