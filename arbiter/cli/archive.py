"""Runs and events as files: export, import, events --archive."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import IO

from arbiter import archive, run_files
from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.runs import moment


def export(arguments: argparse.Namespace) -> int:
    """Write a finished run to a file."""
    return asyncio.run(_export(arguments))


async def _export(arguments: argparse.Namespace) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        run_id = await options.run_id(board, arguments.run)
        lines = await _written(arguments.file, run_files.export_run(board, run_id, values=not arguments.without_values))
    output.note(f"run {run_id}: {lines} lines")
    return OK


def load(arguments: argparse.Namespace) -> int:
    """Put the run in a file on the board, as history."""
    return asyncio.run(_load(arguments))


async def _load(arguments: argparse.Namespace) -> int:
    async with await Board.open(**options.place(arguments)) as board:
        run = await run_files.import_run(board, arguments.file)
    if arguments.json:
        output.line(output.summary_record(run))
    else:
        output.text(run.id)
    return OK


def events(arguments: argparse.Namespace) -> int:
    """Write the events that are meant to a file."""
    return asyncio.run(_events(arguments))


async def _events(arguments: argparse.Namespace) -> int:
    if arguments.follow or arguments.run is not None:
        raise BadInput(
            "--archive", arguments.archive, "It takes what is over: leave out --follow, and name runs by --subject."
        )
    now = time.time()
    since, until = (
        None if text is None else moment(text, now=now, field=f"--{name}")
        for name, text in (("since", arguments.since), ("until", arguments.until))
    )
    wanted = archive.Filter(arguments.type, arguments.subject, since, until)
    async with await Board.open(**options.place(arguments)) as board:
        lines = await _written(arguments.archive, _json(archive.select(board, wanted)))
    output.note(f"{lines} events")
    return OK


async def _json(found: AsyncIterator[archive.Event]) -> AsyncIterator[str]:
    async for event in found:
        yield event.model_dump_json() + "\n"


async def _written(name: str, lines: AsyncIterator[str]) -> int:
    count = 0
    with _new(name) as file:
        async for line in lines:
            file.write(line)
            count += 1
    return count


@contextlib.contextmanager
def _new(name: str) -> Generator[IO[str]]:
    """A file that was not there, whole or not at all; ``-`` is standard output."""
    if name == "-":
        yield sys.stdout
        return
    path, partial = Path(name), Path(f"{name}.partial")
    if path.exists():
        raise BadInput("FILE", name, "It is there already; name a new one.")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
        partial.rename(path)
    except OSError as error:
        raise BadInput("FILE", name, f"It cannot be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
