"""The commands about what lasts and what is forgotten: entries promote, verify, compact, erase."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses

from arbiter.cli import NOT_SUCCEEDED, OK, attended, options, output
from arbiter.cli.entries import in_scope, said
from blackboard.board import Board
from blackboard.compaction import compact as compacted
from blackboard.entry import owner_of_entry, scope_of
from blackboard.erasure import erase as erased
from blackboard.errors import UnknownRecord
from blackboard.promotion import promote as promoted
from blackboard.runs import span
from blackboard.sealing import verify as verified


@attended
async def promote(arguments: argparse.Namespace) -> int:
    """Keep what an entry says in a scope that lasts longer, and print the id it has there."""
    async with in_scope(arguments) as entries:
        own = entries.within(scope_of(owner_of_entry(arguments.entry)))
        return said(await promoted(own, arguments.entry, arguments.to, topic=arguments.topic), arguments)


@attended
async def verify(arguments: argparse.Namespace) -> int:
    """Print whether the log of a scope still says what was written."""
    async with in_scope(arguments) as entries:
        found = await verified(entries)
        if arguments.json:
            output.line(dataclasses.asdict(found))
        else:
            unsealed = f", {found.unsealed} without a hash" if found.unsealed else ""
            gone = f"; {found.compacted} taken out before {found.readable_from}" if found.readable_from else ""
            output.text(
                f"{found.facts} facts: {found.sealed} contents as written, {found.erased} erased{unsealed}{gone}"
            )
            for fault in found.faults:
                output.text(fault)
        return NOT_SUCCEEDED if found.faults else OK


@attended
async def compact(arguments: argparse.Namespace) -> int:
    """Take out of a scope's log what counts no more, and print how much it was."""
    age = span(arguments.older_than, field="--older-than")
    async with await Board.open(**options.place(arguments)) as board:
        found = await compacted(
            board, arguments.scope, before=arguments.before, older_than=age, dry_run=arguments.dry_run
        )
    if arguments.json:
        output.line({**dataclasses.asdict(found), "dry_run": arguments.dry_run})
    else:
        verb = "would be taken out" if arguments.dry_run else "taken out"
        output.text(f"{found.facts} facts {verb}; nothing is left of {found.entries} entries")
        if found.readable_from is not None:
            output.note(f"readable from {found.readable_from}")
    return OK


@attended
async def erase(arguments: argparse.Namespace) -> int:
    """Take something off the board, and print how much it was."""
    async with await Board.open(**options.place(arguments)) as board:
        run: str | None = arguments.run
        with contextlib.suppress(UnknownRecord):  # one that was removed may have left something elsewhere
            run = None if run is None else await options.run_id(board, run)
        found = await erased(
            board, author=arguments.author, run=run, tenant=arguments.tenant, scope=arguments.scope,
            reason=arguments.reason,
        )  # fmt: skip
    if arguments.json:
        output.line(dataclasses.asdict(found))
    else:
        output.text(
            f"erased {found.facts} facts of {len(found.scopes)} scopes and {len(found.runs)} runs; "
            f"{found.entries} entries ended by it"
        )
    for left in found.left:
        output.note(f"left: {left}")
    return NOT_SUCCEEDED if found.left else OK
