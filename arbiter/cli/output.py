"""What goes to standard output: text for people, JSON lines for programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arbiter.cli.json_log import JsonLines
from arbiter.narration import escaped, one_line, printable
from arbiter.records import run_record as run_record
from arbiter.records import summary_record as summary_record
from blackboard.ending import end
from blackboard.errors import BadInput

if TYPE_CHECKING:
    from pydantic import BaseModel

    from registry import Version

R = TypeVar("R", bound="BaseModel")

LOG_FORMATS = ("text", "json")
_PIPE_WIDTH = 160
_GAP = 2
_LEAST_WIDTH = 8
PATIENCE_SECONDS = 2.0
"""How long a command is silent before it says how far it is."""
_AGAIN_SECONDS = 0.5


def line(value: Any) -> None:
    """One JSON value on a line of its own, at once."""
    print(escaped(json.dumps(value, ensure_ascii=False, default=str)), flush=True)


def note(text: str, level: int = logging.INFO) -> None:
    """A line for people, beside the result; a record of that level where the log is JSON."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        logging.getLogger("arbiter.cli").log(level, "%s", text)
    else:
        print(text, file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def progress(said: Callable[[], str], after: float = PATIENCE_SECONDS) -> AsyncGenerator[None, None]:
    """Tells who waits at a terminal how far it is, on a line that goes again.

    Args:
        said: what to tell.
        after: seconds of silence.
    """

    async def tell() -> None:
        await asyncio.sleep(after)
        shown.append(True)
        while True:
            print(f"\r\x1b[K{said()}", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(_AGAIN_SECONDS)

    shown = list[bool]()
    telling = [asyncio.create_task(tell())] if sys.stderr.isatty() else []
    try:
        yield
    finally:
        await end(telling)
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def text(value: str) -> None:
    """A text as it is; on a terminal without what could control it, and with long lines broken between words."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        value = "\n".join(_wrapped(part, width) for part in printable(value).split("\n"))
    print(value, flush=True)


def _wrapped(part: str, width: int) -> str:
    if len(part) <= width:
        return part
    return textwrap.fill(part, width, replace_whitespace=False, break_on_hyphens=False)


def console(width: int | None = None) -> Console:
    """Standard output; a pipe gets room for whole lines. ``width``: more columns than there are, which a terminal wraps."""
    if width is None and not sys.stdout.isatty():
        width = _PIPE_WIDTH
    return Console(highlight=False, width=width, soft_wrap=False)


def print_table(head: list[tuple[str, dict[str, Any]]], rows: list[list[str | Text]]) -> None:
    """Print a plain table. Where it is too wide the widest columns are cut; no column goes without being called spare.

    Args:
        head: The names of the columns and options for :class:`rich.table.Column`. ``min_width`` is what a column is not cut
            below, ``whole`` that it is never cut, ``spare`` that it may be left out of a narrow terminal, the last one first.
        rows: A cell for each column.
    """
    columns = [_Column.of(name, options, [row[at] for row in rows]) for at, (name, options) in enumerate(head)]
    there = console().width
    while sum(each.least + _GAP for each in columns) > there and any(each.spare for each in columns):
        columns.remove(next(each for each in reversed(columns) if each.spare))
    widths = _fitting(columns, there - _GAP * len(columns))
    made = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", expand=False)
    for each, width in zip(columns, widths, strict=True):
        made.add_column(each.name, width=width, no_wrap=True, overflow="ellipsis", justify=each.justify)
    for cells in zip(*(each.cells for each in columns), strict=True):
        made.add_row(*cells)
    console(max(there, sum(widths) + _GAP * len(widths))).print(made)


def listing(found: Sequence[R], lines: Callable[[R], Iterable[str]], as_json: bool, nothing: str) -> None:
    """Print records, one line of JSON each or some lines for people, and to those a note when there is none."""
    for each in found:
        if as_json:
            line(each.model_dump(mode="json"))
        else:
            for one in lines(each):
                console().print(Text(one), soft_wrap=True)
    if not found and not as_json:
        note(nothing)


class _Column(NamedTuple):
    name: str
    cells: list[Text]
    justify: Literal["left", "right"]
    least: int
    wanted: int
    spare: bool

    @classmethod
    def of(cls, name: str, options: dict[str, Any], cells: list[str | Text]) -> _Column:
        made = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
        natural = max([cell_len(name), *(cell.cell_len for cell in made)])
        least = natural if options.get("whole") else max(cell_len(name), options.get("min_width", _LEAST_WIDTH))
        wanted = min(natural, options.get("max_width", natural))
        return cls(name, made, options.get("justify", "left"), min(least, wanted), wanted, options.get("spare", False))


def _fitting(columns: list[_Column], room: int) -> list[int]:
    """Widths that fit into the room: the widest column is cut first, none below its least."""
    widths = [each.wanted for each in columns]
    while sum(widths) > room:
        longer = [(width, at) for at, width in enumerate(widths) if width > columns[at].least]
        if not longer:
            break
        widths[max(longer)[1]] -= 1
    return widths


def exam_line(version: Version) -> str:
    """How a version did in its exam, in a few words."""
    exam = version.exam
    if exam is None:
        return "none"
    cases = f"{exam.public_cases} public, {exam.sealed_cases} sealed"
    if exam.properties:
        held = f"{exam.properties} {'property' if exam.properties == 1 else 'properties'}"
        cases += f"; {held} on {exam.property_inputs} inputs"
    if exam.property_refused:
        cases += (
            f", {exam.property_refused} refused" if exam.properties else f"; {exam.property_refused} inputs refused"
        )
    if exam.mistakes_planted:
        cases += f"; {exam.mistakes_noticed} of {exam.mistakes_planted} planted mistakes noticed"
    return f"passed ({cases})" if exam.passed else one_line(f"failed ({cases}): {'; '.join(exam.failures)}", 120)


def log_format(given: str | None) -> str:
    """``text`` or ``json``: as it was given, else what the environment says, else ``text``.

    Raises:
        BadInput: another word.
    """
    said = os.environ.get("ARBITER_LOG_FORMAT") or "text"
    if given is None and said not in LOG_FORMATS:
        raise BadInput("ARBITER_LOG_FORMAT", said, "Write text or json.")
    return given or said


def log_to_stderr(level: int, form: str = "text") -> None:
    """Send the log to standard error, one line each; ``ARBITER_DEBUG=1`` adds details, and to a text tracebacks."""
    debugging = os.environ.get("ARBITER_DEBUG", "") not in ("", "0")
    from blackboard.redaction import Redaction

    handler = _Lines(debugging)
    handler.addFilter(Redaction())
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines() if form == "json" else text)
    root = logging.getLogger()
    root.handlers = [*(known for known in root.handlers if not isinstance(known, _Lines)), handler]
    root.setLevel(logging.WARNING)
    for room in ("arbiter", "fabricator", "wrapper", "registry", "blackboard"):
        logging.getLogger(room).setLevel(logging.DEBUG if debugging else level)


class _Lines(logging.Handler):
    """Writes to the standard error of the moment, which a live view replaces while it is drawn."""

    def __init__(self, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if isinstance(self.formatter, JsonLines):
                print(self.format(record), file=sys.stderr, flush=True)
                return
            if not self._tracebacks and record.exc_info:
                record = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
            # What a record quotes may have lines of its own, which must not pass for records.
            print(printable(self.format(record)).replace("\n", "\n  "), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)
