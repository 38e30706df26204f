"""The commands about standing watches: standing add, list, remove."""

from __future__ import annotations

import argparse
from typing import Any

from pydantic import ValidationError

from arbiter import narration
from arbiter.cli import OK, options, output
from blackboard.refusing import refused
from blackboard.standing import Standing, Standings, Stood
from blackboard.triggers import AgendaTerms, Query


async def add(arguments: argparse.Namespace) -> int:
    """Store a watch, or find it already there."""
    async with options.on_board(arguments, Standings) as standings:
        try:
            until = None if arguments.until is None else Query(topic=arguments.until)
            wanted = Standing(
                name=arguments.name, scope=arguments.scope, topic=arguments.topic, where=arguments.where,
                agenda=AgendaTerms(until=until, strategy=arguments.strategy), tenant=arguments.tenant,
                limits=options.limits(arguments),
            )  # fmt: skip
        except ValidationError as error:
            raise refused(error, whole="standing") from None
        return _said([await standings.add(wanted, after=arguments.after)], arguments)


async def listing(arguments: argparse.Namespace) -> int:
    """List the watches of the board."""
    async with options.on_board(arguments, Standings) as standings:
        found = await standings.list()
        if not found and not arguments.json:
            output.note("no standing watches on this board")
        return _said(found, arguments)


async def remove(arguments: argparse.Namespace) -> int:
    """Watch no more."""
    return await options.removal(arguments, lambda board: Standings(board).remove, "standing watch")


def _said(found: list[Stood], arguments: argparse.Namespace) -> int:
    for one in found:
        if arguments.json:
            output.line(_record(one))
            continue
        watch = one.standing
        asked = f"{watch.scope} {watch.topic} {watch.where}".strip()
        refused = f", {one.refused} refused" if one.refused else ""
        trouble = f", last error: {narration.one_line(one.last_error, 300)}" if one.last_error else ""
        output.text(narration.printable(f"{watch.name}  {asked}: {one.started} runs{refused}{trouble}"))
    return OK


def _record(one: Stood) -> dict[str, Any]:
    record = one.model_dump(mode="json", exclude={"nonce"})
    return {**record.pop("standing"), **record}
