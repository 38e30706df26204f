"""The commands about a run's agenda: agenda list, explain, recommend, promote, block, unblock, rerate, focus."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from rich.text import Text

from arbiter import narration
from arbiter.agendas import RunAgenda
from arbiter.cli import OK, options, output
from blackboard.activation import Activation, run_of
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.events import Author
from blackboard.strategies import DEFAULT, STRATEGIES
from registry import Registry
from registry.signing import somebody


async def show(arguments: argparse.Namespace) -> int:
    """Print the activations of a run, in the order they were made."""
    async with _agenda(arguments) as agenda:
        return _listed(await agenda.activations(arguments.state), arguments)


async def explain(arguments: argparse.Namespace) -> int:
    """Print what made an activation, how it was rated, and why it was picked or not."""
    async with _agenda(arguments) as agenda:
        found = await agenda.explain(arguments.activation)
        if arguments.json:
            steps = [{"position": at, "what": words} for at, words in found.steps]
            output.line({**found.activation.record(), "outcome": found.outcome, "steps": steps})
        else:
            output.text("\n".join(f"{at}  {narration.printable(words)}" for at, words in found.steps))
        return OK


async def recommend(arguments: argparse.Namespace) -> int:
    """Print what would be picked now; nothing is changed."""
    async with _agenda(arguments) as agenda:
        for one in await agenda.recommend(arguments.limit):
            if arguments.json:
                output.line({**one.activation.record(), "why": one.why})
            else:
                output.text(f"{one.activation.id}  {one.activation.capability}: {one.why}")
        return OK


async def change(arguments: argparse.Namespace) -> int:
    """Overrule the strategy about one activation, and print its state."""
    async with _agenda(arguments) as agenda:
        said: dict[str, Any] = {"by": somebody(), "reason": arguments.reason, "operation": arguments.key}
        if arguments.verb == "rerate":
            state = await agenda.rerate(arguments.activation, _number("RATING", arguments.rating), **said)
        else:
            state = await getattr(agenda, arguments.verb)(arguments.activation, **said)
        output.line({"activation": arguments.activation, "state": state}) if arguments.json else output.text(state)
        return OK


async def focus(arguments: argparse.Namespace) -> int:
    """Write the strategy of a run on its control board, and print the id of the entry."""
    async with _agenda(arguments) as agenda:
        weights: dict[str, float] = {}
        for word in arguments.weight or ():
            name, _, value = word.partition("=")
            weights[name] = _number("--weight", value)
        written = await agenda.focus(arguments.strategy, weights, author=Author(kind="person", name=somebody()))
        output.line({"entry": written.id, "version": written.version}) if arguments.json else output.text(written.id)
        if arguments.strategy not in STRATEGIES:
            output.note(
                f"{arguments.strategy} is none of the built-in ones ({', '.join(STRATEGIES)}): {DEFAULT} rates where the "
                "process that picks does not have it"
            )
        return OK


@contextlib.asynccontextmanager
async def _agenda(arguments: argparse.Namespace) -> AsyncGenerator[RunAgenda, None]:
    async with await Board.open(**options.place(arguments)) as board:
        if hasattr(arguments, "run"):
            run = await options.run_id(board, arguments.run)
        else:
            run = run_of(arguments.activation)
        yield RunAgenda(board, Registry(board.catalog, board.outcomes), run)


def _listed(found: list[Activation], arguments: argparse.Namespace) -> int:
    if arguments.json:
        for one in found:
            output.line(one.record())
    elif found:
        right: dict[str, Any] = {"justify": "right"}
        head: list[tuple[str, dict[str, Any]]] = [
            ("ACTIVATION", {"whole": True}), ("STATE", {"whole": True}), ("RATING", right), ("DEPTH", right),
            ("CAPABILITY", {"min_width": 16}), ("TOPIC", {}), ("WHY", {}),
        ]  # fmt: skip
        rows: list[list[str | Text]] = [
            [
                one.id, one.state, "" if one.rating is None else f"{one.rating:g}", str(one.depth), one.capability,
                narration.one_line(one.topic, 60), narration.one_line(one.why or one.task or "", 100),
            ]
            for one in found
        ]  # fmt: skip
        output.print_table(head, rows)
    else:
        output.note("no such activations")
    return OK


def _number(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(field, text, "Give a number.") from None
