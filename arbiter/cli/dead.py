"""The commands about dead letters: list, show, redrive, discard."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.text import Text

from arbiter import narration
from arbiter.cli import NOT_SUCCEEDED, OK, options, output
from arbiter.live import state_style
from blackboard.board import Board
from blackboard.dead_letters import DeadLetters, FullLetter, Letter
from blackboard.errors import BadInput

if TYPE_CHECKING:
    from arbiter import dead_letters


async def listing(arguments: argparse.Namespace) -> int:
    """List the latest dead letters."""
    async with await Board.open(**options.place(arguments)) as board:
        letters = DeadLetters(board)
        page = await letters.list(arguments.where, limit=arguments.limit, after=arguments.after)
        _, dropped = await letters.count()
    if arguments.json:
        for letter in page.letters:
            output.line(letter.model_dump(mode="json"))
    elif page.letters:
        _print_table(page.letters)
    else:
        output.note("no such dead letters on this board" if arguments.where else "no dead letters on this board")
    if page.after is not None:
        output.note(f"there are more: --after {page.after}")
    if dropped and not arguments.json:
        output.note(f"{dropped:,} older letters were dropped because there were too many")
    return OK


def _print_table(letters: tuple[Letter, ...]) -> None:
    rows: list[list[str | Text]] = [
        [
            narration.one_line(letter.id, 64),
            Text(letter.status, state_style(letter.status)),
            narration.moment(letter.at),
            letter.kind,
            narration.one_line(letter.capability or "", 40),
            narration.one_line(letter.type, 40),
            str(letter.attempts or ""),
            letter.tenant,
            letter.redriven_as or "",
        ]
        for letter in letters
    ]
    head: list[tuple[str, dict[str, Any]]] = [
        ("LETTER", {"whole": True}), ("STATUS", {"whole": True}), ("GIVEN UP", {"whole": True}), ("KIND", {}),
        ("CAPABILITY", {"min_width": 16}), ("TYPE", {}), ("ATTEMPTS", {"justify": "right"}), ("TENANT", {"max_width": 16}),
        ("REDRIVEN AS", {}),
    ]  # fmt: skip
    output.print_table(head, rows)


async def show(arguments: argparse.Namespace) -> int:
    """Show one dead letter with its payload and every attempt."""
    async with await Board.open(**options.place(arguments)) as board:
        full = await DeadLetters(board).get(arguments.letter)
    if arguments.json:
        output.line(full.model_dump(mode="json"))
        return OK
    output.text(_said(full))
    return OK


def _said(full: FullLetter) -> str:
    letter = full.letter
    rows = [
        ("letter", letter.id),
        ("kind", letter.kind),
        ("run", letter.run_id),
        ("capability", letter.capability),
        ("version", letter.version),
        ("tenant", letter.tenant),
        ("given up", f"{narration.moment(letter.at)}, {letter.status}"),
        ("because", narration.failure(full.error, 2000) or letter.type),
        ("redriven as", letter.redriven_as),
        ("payload", narration.one_line(full.payload, 2000)),
    ]
    lines = [f"{name:<12} {narration.printable(value)}" for name, value in rows if value]
    for one in full.tries:
        worker = f" [{narration.one_line(one.worker, 80)}]" if one.worker else ""
        lines.append(
            f"attempt {one.attempt:<4} {narration.moment(one.at)}  {narration.failure(one.error, 400)}{worker}"
        )
    return "\n".join([*lines, *narration.trace(full.error).splitlines()])


async def redrive(arguments: argparse.Namespace) -> int:
    """Put dead letters back, each as a run of its own."""
    _chosen(arguments)
    from arbiter.dead_letters import Redriven
    from arbiter.sdk import Arbiter

    failed = number = 0
    async with Arbiter(roles=(), **options.place(arguments)) as client:
        letters = client.dead_letters
        choice: dict[str, Any] = {
            "same_version": arguments.same_version,
            "again": arguments.again,
            "rerun": arguments.rerun,
        }
        if arguments.letter:
            for id in arguments.letter:
                letter = await letters.header(id)
                run_id = None if arguments.dry_run else await letters.redrive(id, **choice)
                _told(Redriven(letter=letter, run_id=run_id), arguments)
            return OK
        more = {"limit": arguments.limit, "dry_run": arguments.dry_run}
        async for one in letters.redrive_where(arguments.where, **choice, **more):
            number += 1
            failed += bool(one.problem)
            _told(one, arguments)
    verb = "would be put back" if arguments.dry_run else "put back"
    output.note(f"{narration.count(number - failed, 'dead letter')} {verb}{f', {failed} could not be' * bool(failed)}")
    return NOT_SUCCEEDED if failed else OK


def _told(one: dead_letters.Redriven, arguments: argparse.Namespace) -> None:
    """One line for each as it is done: that is the progress."""
    if arguments.json:
        output.line({"letter": one.letter.id, "run_id": one.run_id, "problem": one.problem or None})
    elif one.problem:
        output.note(f"{narration.one_line(one.letter.id, 80)}: {narration.one_line(one.problem, 1000)}")
    else:
        what = narration.one_line(f"{one.letter.capability or one.letter.kind}, {one.letter.type}", 80)
        output.text(f"{narration.one_line(one.letter.id, 80)}  {one.run_id or what}")


async def discard(arguments: argparse.Namespace) -> int:
    """Forget dead letters."""
    _chosen(arguments)
    async with await Board.open(**options.place(arguments)) as board:
        letters = DeadLetters(board)
        chosen: list[str] = [(await letters.header(id)).id for id in arguments.letter]
        if not chosen:
            async for letter in letters.walk(arguments.where):
                if len(chosen) == arguments.limit:
                    break
                chosen.append(letter.id)
        gone = 0 if arguments.dry_run else await letters.discard(*chosen)
    if arguments.json:
        output.line({"letters": chosen, "discarded": gone, "dry_run": arguments.dry_run})
    else:
        for id in chosen if arguments.dry_run else ():
            output.text(narration.one_line(id, 80))
        verb = "would be discarded" if arguments.dry_run else "discarded"
        output.note(f"{narration.count(len(chosen) if arguments.dry_run else gone, 'dead letter')} {verb}")
    return OK


def _chosen(arguments: argparse.Namespace) -> None:
    """One way of saying which; saying nothing must not mean all of them."""
    if bool(arguments.letter) == (arguments.where is not None):
        raise BadInput("LETTER", arguments.letter, "Name letters, or say which with --where; --where '' means all.")
