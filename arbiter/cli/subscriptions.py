"""The commands about durable subscriptions: subscriptions, subscriptions remove."""

from __future__ import annotations

import argparse

from arbiter.cli import OK, options, output
from blackboard.subscriptions import Subscribed, Subscriptions


async def listing(arguments: argparse.Namespace) -> int:
    """List the subscriptions of the board, with how far each is."""
    async with options.on_board(arguments, Subscriptions) as subscriptions:
        found = await subscriptions.list()
        if not found and not arguments.json:
            output.note("no subscriptions on this board")
        for one in found:
            if arguments.json:
                output.line(one.model_dump(mode="json"))
            else:
                output.text(_line(one))
        return OK


def _line(one: Subscribed) -> str:
    whose = f" of {one.tenant}" if one.tenant else ""
    lost = f", {one.lost} gaps" if one.lost else ""
    lag = f", {one.lag_seconds:.1f} s behind" if one.lag_seconds else ""
    return (
        f"{one.name}  {' '.join(one.kinds)}{whose}: {one.waiting} waiting, {one.held} held, {one.done} done{lost}{lag}"
    )


async def remove(arguments: argparse.Namespace) -> int:
    """Hand nothing out any more."""
    return await options.removal(arguments, lambda board: Subscriptions(board).remove, "subscription")
