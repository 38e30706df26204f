"""Events kept beyond the board's retention: JSON lines, each a CloudEvents 1.0 event as :mod:`blackboard.events` has them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import ValidationError

from blackboard import events
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.events import Event
from blackboard.runs import Where, find
from blackboard.types import RunSummary

LONGEST_RUN_SECONDS = 30 * 86_400.0
"""Largest ``Limits.seconds``: a run that was accepted earlier has no event in a range."""
_PAGE = 500
_SLACK_SECONDS = 1.0
"""A header and the event of the same moment may differ by a little."""


class Filter:
    """Which events are meant.

    Args:
        type: pattern with ``*`` and ``?`` for the type, with or without ``dev.arbiter.`` and ``.v1``.
        subject: the same for the subject, ``<run>`` or ``<run>/<task>``.
        since, until: seconds since the epoch; from then, and before.
    """

    def __init__(
        self, type: str = "*", subject: str = "*", since: float | None = None, until: float | None = None
    ) -> None:
        self.type, self.subject, self.since, self.until = type, subject, since, until

    def fits(self, event: Event) -> bool:
        at = event.time.timestamp()
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        short = event.type.removeprefix(events.PREFIX).removesuffix(events.SUFFIX)
        named = fnmatchcase(event.type, self.type) or fnmatchcase(short, self.type)
        return named and fnmatchcase(event.subject, self.subject)


async def select(board: Board, wanted: Filter) -> AsyncGenerator[Event, None]:
    """The events of the runs' logs that are meant: run by run, the run that was accepted first before the others."""
    since = None if wanted.since is None else wanted.since - LONGEST_RUN_SECONDS
    until = None if wanted.until is None else wanted.until + _SLACK_SECONDS
    where, after, ids = Where(since=since, until=until), None, list[str]()
    while True:
        page = await find(board, where, limit=_PAGE, after=after)
        ids += [run.id for run in page.runs if _reaches(run, wanted.since)]
        after = page.after
        if after is None:
            break
    for run_id in reversed(ids):
        for event in await board.history(run_id):
            if wanted.fits(event):
                yield event


def _reaches(run: RunSummary, since: float | None) -> bool:
    return since is None or run.ended_at is None or run.ended_at + _SLACK_SECONDS >= since


def replay(path: Path | str, wanted: Filter | None = None) -> Iterator[Event]:
    """The events of an archive, typed, in the order they are there.

    Raises:
        BadInput: the file cannot be read, or a line is no event; the message has its number.
    """
    wanted = wanted or Filter()
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    kind = json.loads(line)["type"].removeprefix(events.PREFIX).removesuffix(events.SUFFIX)
                    event = events.TYPES.get(kind, Event).model_validate_json(line)
                except (ValueError, ValidationError, KeyError, TypeError, AttributeError) as error:
                    raise BadInput("file", f"{path}:{number}", f"It is no event: {error}") from error
                if wanted.fits(event):
                    yield event
    except OSError as error:
        raise BadInput("file", str(path), f"It cannot be read: {error.strerror}.") from error
