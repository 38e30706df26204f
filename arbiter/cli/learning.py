"""The commands about what matching learns: needs capabilities served, example needs, how the matcher's decisions turned out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.text import Text

from arbiter import narration
from arbiter.cli import NOT_SUCCEEDED, OK, options, output
from arbiter.refitting import collect
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.taint import TaintPolicy
from registry import Registry
from registry.matching.refit import refit as fit

if TYPE_CHECKING:
    from arbiter.illustrating import Illustrated


async def forget(arguments: argparse.Namespace) -> int:
    """Forget needs that capabilities served, or example needs that were written for them."""
    if arguments.examples and arguments.tenant is not None:
        raise BadInput("--tenant", arguments.tenant, "Example needs are those of all tenants; leave it out.")
    if arguments.examples and arguments.name is None:
        raise BadInput("NAME", None, "Name the capability whose example needs to forget.")
    if arguments.name is None and arguments.tenant is None:
        raise BadInput("NAME", None, "Name a capability, a tenant with --tenant, or both.")
    async with await Board.open(**options.place(arguments)) as board:
        registry = Registry(board.catalog)
        name: str | None = arguments.name
        if name is not None:
            await registry.versions(name)
            if arguments.examples:
                gone = await registry.forget_example_needs(name)
                output.note(f"the example needs of {name} are forgotten" if gone else "there were none")
                return OK
        gone = await registry.unlearn(name, arguments.tenant)
    output.note(f"the needs of {gone} {'pair' if gone == 1 else 'pairs'} of a capability and a tenant are forgotten")
    return OK


async def illustrate(arguments: argparse.Namespace) -> int:
    """Have a model write example needs of capabilities."""
    if bool(arguments.names) == arguments.all:
        raise BadInput("NAME", arguments.names or None, "Name capabilities, or all that want example needs with --all.")
    from arbiter.sdk import Arbiter

    done: list[Illustrated] = []
    names = arguments.names or None
    async with Arbiter(model=arguments.model, roles=(), **options.place(arguments)) as client:
        of = len(names or await client.registry.bare())

        try:
            async with output.progress(lambda: f"{len(done):,} of {of:,} capabilities have been seen to"):
                await client.illustrate(names, at_once=arguments.at_once, told=done.append)
        finally:
            for one in done:
                if arguments.json:
                    output.line(one._asdict())
                elif one.outcome != "left":
                    _print(one)
    counts = {outcome: sum(one.outcome == outcome for one in done) for outcome in ("written", "failed", "left")}
    said = f"example needs of {counts['written']:,} written, for {sum(one.tokens for one in done):,} tokens"
    if counts["failed"]:
        said += f"; {counts['failed']:,} failed, {counts['left']:,} were left: the same command goes on"
    output.note(said)
    return NOT_SUCCEEDED if counts["failed"] else OK


_TOLD = {
    "there": "has example needs already",
    "enough": "has examples of its own",
    "none": "nothing that was written could be used",
    "taken": "another process writes them",
    "failed": "failed",
}


def _print(one: Illustrated) -> None:
    console = output.console()
    why = f": {narration.one_line(one.why, 300)}" if one.why and one.outcome in ("none", "failed") else ""
    head = f"{one.name}: {_TOLD[one.outcome]}{why}" if one.outcome in _TOLD else f"{one.name}:"
    console.print(Text(head), soft_wrap=True)
    for need in one.needs if one.outcome == "written" else ():
        console.print(Text(f"  {narration.one_line(need, 200)}"), soft_wrap=True)


async def refit(arguments: argparse.Namespace) -> int:
    """Fit what turns signals into probabilities on how this board's decisions turned out."""
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
