"""The commands about what capabilities taught: the needs they served."""

from __future__ import annotations

import argparse
import asyncio

from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.errors import BadInput
from registry import Registry


def forget(arguments: argparse.Namespace) -> int:
    """Forget needs that capabilities served."""
    if arguments.name is None and arguments.tenant is None:
        raise BadInput("NAME", None, "Name a capability, a tenant with --tenant, or both.")
    return asyncio.run(_forget(arguments))


async def _forget(arguments: argparse.Namespace) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog)
        if arguments.name is not None:
            await registry.versions(arguments.name)
        gone = await registry.unlearn(arguments.name, arguments.tenant)
    output.note(f"the needs of {gone} {'pair' if gone == 1 else 'pairs'} of a capability and a tenant are forgotten")
    return OK
