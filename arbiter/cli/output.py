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
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from arbiter.narration import escaped, one_line, printable
from arbiter.records import run_record as run_record
from arbiter.records import summary_record as summary_record
from blackboard.ending import end

if TYPE_CHECKING:
    from registry import Version

_PIPE_WIDTH = 160
PATIENCE_SECONDS = 2.0
"""How long a command is silent before it says how far it is."""
_AGAIN_SECONDS = 0.5


def line(value: Any) -> None:
    """One JSON value on a line of its own, at once."""
    print(escaped(json.dumps(value, ensure_ascii=False, default=str)), flush=True)


def note(text: str) -> None:
    """A line for people, beside the result."""
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


def console() -> Console:
    """Standard output for tables; a pipe gets room for whole lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH, soft_wrap=False)


def table(head: list[tuple[str, dict[str, Any]]], rows: list[list[str | Text]]) -> Table:
    """A plain table; ``head`` has the names of the columns and options for :class:`rich.table.Column`."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=False)
    for name, options in head:
        column: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis", **options}
        made.add_column(name, **column)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def when(seconds: float, zone: str | None = None) -> str:
    """A time on the server's clock as the wall clock of a time zone shows it. Default: the local one."""
    return datetime.fromtimestamp(seconds, ZoneInfo(zone) if zone else None).strftime("%Y-%m-%d %H:%M:%S")


def exam_line(version: Version) -> str:
    """How a version did in its exam, in a few words."""
    exam = version.exam
    if exam is None:
        return "none"
    cases = f"{exam.public_cases} public, {exam.sealed_cases} sealed"
    return f"passed ({cases})" if exam.passed else one_line(f"failed ({cases}): {'; '.join(exam.failures)}", 120)


def log_to_stderr(level: int) -> None:
    """Send the log to standard error, one line each; ``ARBITER_DEBUG=1`` adds details and tracebacks."""
    debugging = os.environ.get("ARBITER_DEBUG", "") not in ("", "0")
    from blackboard.redaction import Redaction

    handler = _Lines(debugging)
    handler.addFilter(Redaction())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
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
            if not self._tracebacks and record.exc_info:
                record = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
            # What a record quotes may have lines of its own, which must not pass for records.
            print(printable(self.format(record)).replace("\n", "\n  "), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)
