"""The commands about what runs taught: the needs capabilities served, and how the matcher's decisions turned out."""

from __future__ import annotations

import argparse
import asyncio

from arbiter.cli import OK, options, output
from arbiter.refitting import collect
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.taint import TaintPolicy
from registry import Registry
from registry.matching.refit import refit as fit


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


def refit(arguments: argparse.Namespace) -> int:
    """Fit what turns signals into probabilities on how this board's decisions turned out."""
    return asyncio.run(_refit(arguments))


async def _refit(arguments: argparse.Namespace) -> int:
    policy = TaintPolicy.of(arguments.taint_policy)
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog)
        if arguments.shipped:
            changed = await registry.calibrate(None)
            output.note("decisions go by the shipped calibration" + ("" if changed else " already"))
            return OK
        found = await collect(board, None if arguments.dry_run else registry, policy, most=arguments.runs)
        if not arguments.json:
            output.note(f"read {found.runs:,} runs; {found.learnt:,} needs they served are new")
        fitted = fit(found.cases)
        changed = not arguments.dry_run and await registry.calibrate(fitted)
    if arguments.json:
        numbers = fitted.model_dump(mode="json")
        output.line({**numbers, "runs": found.runs, "learnt": found.learnt, "changed": changed})
    else:
        would = "would decide" if arguments.dry_run else "decides"
        output.note(f"every process {would} by a calibration {fitted}")
    return OK
