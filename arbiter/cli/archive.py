"""Runs and events as files: export, import, events --archive, replay."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Generator, Iterable
from pathlib import Path
from typing import IO

from arbiter import archive, replaying, run_files
from arbiter.cli import OK, attended, options, output
from arbiter.patterns import Pattern
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.runs import moment


async def export(arguments: argparse.Namespace) -> int:
    """Write a finished run to a file."""
    async with await Board.open(**options.place(arguments)) as board:
        run_id = await options.run_id(board, arguments.run)
        lines = await _written(arguments.file, run_files.export_run(board, run_id, values=not arguments.without_values))
    output.note(f"run {run_id}: {lines} lines")
    return OK


async def load(arguments: argparse.Namespace) -> int:
    """Put the run in a file on the board, as history."""
    async with await Board.open(**options.place(arguments)) as board:
        run = await run_files.import_run(board, arguments.file)
    if arguments.json:
        output.line(output.summary_record(run))
    else:
        output.text(run.id)
    return OK


@attended
async def events(arguments: argparse.Namespace) -> int:
    """Write the events that are meant to a file."""
    if arguments.run is not None:
        raise BadInput("--archive", arguments.archive, "It takes the events of all runs: name some by --subject.")
    wanted = _wanted(arguments)
    if arguments.follow:
        if arguments.archive == "-":
            raise BadInput("--archive", "-", "With --follow it needs a file, beside which it keeps how far it got.")
        async with await Board.open(**options.place(arguments)) as board:
            await archive.keep(board, arguments.archive, wanted)
        return OK
    async with await Board.open(**options.place(arguments)) as board:
        lines = await _written(arguments.archive, _json(archive.select(board, wanted)))
    output.note(f"{lines} events")
    return OK


@attended
async def replay(arguments: argparse.Namespace) -> int:
    """Give archived events again: to a file, to the board, or to a URL."""
    found = archive.read(arguments.file, _wanted(arguments))
    match arguments.to:
        case "board":
            async with await Board.open(**options.place(arguments)) as board:
                count = await replaying.replay_runs(
                    board, found, name=arguments.name, tenant=arguments.tenant, made=lambda one: output.text(one.run_id)
                )
            output.note(f"{count} requests")
        case to if to.startswith(("http://", "https://")):
            headers = dict(_header(one) for one in arguments.header)
            target = replaying.HttpTarget(to, headers=headers, attempts=arguments.attempts)
            count = await replaying.replay_to(target, found, name=arguments.name, batch=arguments.batch)
            output.note(f"{count} events")
        case to:
            count = await _written(to, _lines(replaying.marked(found, arguments.name)))
            output.note(f"{count} events")
    return OK


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise BadInput("--header", name, "Write NAME: VALUE.")
    return name.strip(), value.strip()


async def _lines(found: Iterable[replaying.Json]) -> AsyncIterator[str]:
    for event in found:
        yield json.dumps(event, separators=(",", ":")) + "\n"


def _wanted(arguments: argparse.Namespace) -> archive.Filter:
    now = time.time()
    since, until = (
        None if text is None else moment(text, now=now, field=f"--{name}")
        for name, text in (("since", arguments.since), ("until", arguments.until))
    )
    pattern = None
    if arguments.pattern is not None:
        text = arguments.pattern
        if text.startswith("@"):
            try:
                text = Path(text[1:]).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput("--pattern", text, f"It cannot be read: {error}. Name an existing file.") from error
        pattern = Pattern(text)
    return archive.Filter(arguments.type, arguments.subject, since, until, pattern)


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
