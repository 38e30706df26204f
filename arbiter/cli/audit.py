"""The command that reads the audit: who did what, and what code used of what it was granted."""

from __future__ import annotations

import argparse
import contextlib
import json

from rich.text import Text

from arbiter import narration
from arbiter.cli import OK, options, output
from blackboard.audit import Audit, Entry
from blackboard.board import Board


async def run(arguments: argparse.Namespace) -> int:
    """Print records of the audit, the oldest first."""
    async with await Board.open(**options.place(arguments)) as board:
        audit = Audit(board)
        # Taken before the past is read, so that nothing falls between the two; what both have is told once.
        end = await audit.end()
        page = await audit.list(arguments.where, limit=arguments.limit, after=arguments.after)
        for entry in reversed(page.entries):
            _tell(arguments, entry)
        if arguments.follow:
            told = {entry.cursor for entry in page.entries}
            async with contextlib.aclosing(audit.follow(arguments.where, end)) as coming:
                async for entry in coming:
                    if entry.cursor not in told:
                        _tell(arguments, entry)
    if page.after is not None and not arguments.json:
        output.note(f"there is more: --after {page.after}")
    if not page.entries and not arguments.json:
        output.note("no such records on this board")
    return OK


def _tell(arguments: argparse.Namespace, entry: Entry) -> None:
    if arguments.json:
        output.line(entry.model_dump(mode="json"))
        return
    detail = json.dumps(dict(entry.detail), ensure_ascii=False) if entry.detail else ""
    said = f"{narration.moment(entry.at)}  {entry.kind:<17} {entry.subject}  by {entry.by}  {entry.reason}  {detail}"
    output.console().print(Text(narration.one_line(said.rstrip(), 1000)), soft_wrap=True)
