"""The commands about tokens of the HTTP API: making, listing and revoking them."""

from __future__ import annotations

import argparse
from typing import Any

from rich.text import Text

from arbiter import narration
from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.runs import span
from blackboard.tokens import Tokens

NEVER = "never"


async def create(arguments: argparse.Namespace) -> int:
    """Make a token and print it, this once."""
    seconds = None if arguments.expires == NEVER else span(arguments.expires, field="--expires")
    async with await Board.open(**options.place(arguments)) as board:
        shown, token = await Tokens(board.catalog).create(
            arguments.name, arguments.scope, tenant=arguments.tenant, seconds=seconds
        )
    if arguments.json:
        output.line({"token": shown, **token.model_dump(mode="json")})
    else:
        print(shown, flush=True)  # in one piece, however narrow the terminal is
        output.note(f"{token.label}: keep it now, it is not shown again")
    return OK


async def listing(arguments: argparse.Namespace) -> int:
    """List the tokens of the board; none of them is shown itself."""
    async with await Board.open(**options.place(arguments)) as board:
        now, tokens = await Tokens(board.catalog).list()
    if arguments.json:
        for token in tokens:
            output.line({**token.model_dump(mode="json"), "state": token.state(now)})
    elif tokens:
        head: list[tuple[str, dict[str, Any]]] = [
            ("ID", {"whole": True}), ("NAME", {}), ("STATE", {"whole": True}), ("TENANT", {}), ("EXPIRES", {}),
            ("BY", {}), ("SCOPES", {}),
        ]  # fmt: skip
        rows: list[list[str | Text]] = [
            [
                token.id,
                token.name,
                token.state(now),
                token.tenant or "all",
                NEVER if token.expires_at is None else narration.moment(token.expires_at),
                token.by,
                " ".join(token.scopes),
            ]
            for token in tokens
        ]
        output.print_table(head, rows)
    else:
        output.note("no tokens on this board")
    return OK


async def revoke(arguments: argparse.Namespace) -> int:
    """Let a token open nothing from the next request on."""
    async with await Board.open(**options.place(arguments)) as board:
        token = await Tokens(board.catalog).revoke(arguments.token, reason=arguments.reason)
    output.note(f"{token.label} opens nothing any more")
    return OK
