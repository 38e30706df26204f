"""Events kept beyond the board's retention: JSON lines, each a CloudEvents 1.0 event as :mod:`blackboard.events` has them.

:func:`select` gives the events of the runs that are on the board, :func:`keep` writes a file and goes on with it, and
:func:`read` and :func:`replay` give them back. What replays them into something is in :mod:`arbiter.replaying`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from arbiter.patterns import Pattern
from blackboard import events, strict_json
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.events import Event
from blackboard.feed_since import Told, ids_after, told
from blackboard.runs import Where, find
from blackboard.types import RunSummary

log = logging.getLogger(__name__)

LONGEST_RUN_SECONDS = 30 * 86_400.0
"""Largest ``Limits.seconds``: a run that was accepted earlier has no event in a range."""
PAUSE_SECONDS = 0.5
"""Time between two looks at a feed that had nothing new."""
_PAGE = 500
_SLACK_SECONDS = 1.0
"""A header and the event of the same moment may differ by a little."""


class Filter:
    """Which events are meant. All that is given must hold.

    Args:
        type: pattern with ``*`` and ``?`` for the type, with or without ``dev.arbiter.`` and ``.v1``.
        subject: the same for the subject, ``<run>`` or ``<run>/<task>``.
        since, until: seconds since the epoch; from then, and before.
        pattern: what the event must look like.
    """

    def __init__(
        self,
        type: str = "*",
        subject: str = "*",
        since: float | None = None,
        until: float | None = None,
        pattern: Pattern | None = None,
    ) -> None:
        self.type, self.subject, self.since, self.until, self.pattern = type, subject, since, until, pattern

    def fits(self, event: Event) -> bool:
        return self._says(event.type, event.subject, event.time.timestamp()) and (
            self.pattern is None or self.pattern.matches(event.model_dump(mode="json"))
        )

    def fits_json(self, event: Mapping[str, Any]) -> bool:
        """The same for an event as JSON, whoever wrote it. One without a time lies in no range of time.

        Raises:
            ValueError: its time is none.
        """
        at = datetime.fromisoformat(str(event["time"])).timestamp() if "time" in event else None
        if at is None and (self.since is not None or self.until is not None):
            return False
        named = self._says(str(event["type"]), str(event.get("subject", "")), at or 0.0)
        return named and (self.pattern is None or self.pattern.matches(event))

    def _says(self, type: str, subject: str, at: float) -> bool:
        if (self.since is not None and at < self.since) or (self.until is not None and at >= self.until):
            return False
        short = type.removeprefix(events.PREFIX).removesuffix(events.SUFFIX)
        named = fnmatchcase(type, self.type) or fnmatchcase(short, self.type)
        return named and fnmatchcase(subject, self.subject)


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


# ---- a file that is kept up to date --------------------------------------------------------------------------------------


class _Cursor(BaseModel):
    """How far a file got; beside it, as ``<file>.cursor``."""

    model_config = ConfigDict(extra="forbid")

    source: str
    shards: dict[int, str]
    """Position in the feed of each shard."""
    size: int = 0
    """Bytes of the file that these positions account for."""
    past: bool = False
    """Whether the events from before the first start are in it."""


async def keep(
    board: Board, path: Path | str, wanted: Filter | None = None, *, written: Callable[[int], None] = lambda _: None
) -> None:
    """Write the events that are meant to a file, first those that are there and then new ones, until cancelled.

    How far it got is kept beside the file, after the events are on disk. Started again, it goes on there, with what happened
    meanwhile: each event is in the file at least once. It can be there twice after a failover, or when the process was away
    so long that the feed no longer reaches back and the logs are read again; ``source`` and ``id`` tell.

    Args:
        written: told how many events were written, whenever some are on disk.

    Raises:
        BadInput: the file cannot be written, is kept by another process, belongs to another board, or is there without
            having been written by this.
        EngineUnavailable: the server stayed unreachable; start it again.
    """
    wanted = wanted or Filter()
    with _kept(Path(path)) as (file, place):
        cursor = _begun(file, place, board.source)
        if cursor is None:
            shards = {shard.number: await board.feed.end(shard) for shard in board.shards}
            cursor = _Cursor(source=board.source, shards=shards)
            await _threaded(_save, file, place, cursor)
        if not cursor.past:
            lines = await _past(board, wanted, cursor)
            await _threaded(_append, file, lines)
            cursor.past = True
            await _threaded(_save, file, place, cursor)
            written(len(lines))
        while wanted.until is None or await _now(board) < wanted.until:
            _heed_cancellation()
            count, told_any = 0, False
            for shard in board.shards:
                news = await told(board, shard, cursor.shards[shard.number], _PAGE)
                found = news.events + await _missed(board, news)
                lines = [event.model_dump_json() for event in found if wanted.fits(event)]
                if news.position == cursor.shards[shard.number]:
                    continue
                await _threaded(_append, file, lines)
                cursor.shards[shard.number] = news.position
                count, told_any = count + len(lines), True
            if told_any:
                await _threaded(_save, file, place, cursor)
                written(count)
            else:
                await asyncio.sleep(PAUSE_SECONDS)


async def _past(board: Board, wanted: Filter, cursor: _Cursor) -> list[str]:
    """What happened until the cursor was begun. What came meanwhile is in the logs too, and the feed will tell it."""
    found = [event async for event in select(board, wanted)]
    coming: set[str] = set()
    for shard in board.shards:
        coming |= await ids_after(board, shard, cursor.shards[shard.number])
    return [event.model_dump_json() for event in found if event.id not in coming]


def _heed_cancellation() -> None:
    """Notice a cancellation that was dropped while a command was sent; see :mod:`blackboard.ending`."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _missed(board: Board, news: Told) -> list[Event]:
    """The events of the time that the feed no longer tells of."""
    if news.gap is None:
        return []
    since, until = news.gap
    log.warning("The feed no longer reaches back to where the archive stopped; the logs are read again.")
    there = [event async for event in select(board, Filter(since=since, until=until))]
    return [event for event in there if board.shard_of(event.run_id).number == news.shard]


async def _now(board: Board) -> float:
    [seconds, micros] = await cast(Any, board.client).time()
    return seconds + micros / 1_000_000


async def _threaded(work: Callable[..., None], *args: Any) -> None:
    """Work with the file in a thread. It is waited for even when this is cancelled: nobody else may have the file before."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        await asyncio.shield(running)
    finally:
        await asyncio.wait({running})


@contextlib.contextmanager
def _kept(path: Path) -> Generator[tuple[IO[bytes], Path]]:
    """The file, for this process alone."""
    try:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BadInput("file", str(path), "Another process keeps it up to date.") from error
            yield file, path.with_name(path.name + ".cursor")
    except OSError as error:
        raise BadInput("file", str(path), f"It cannot be written: {error.strerror}.") from error


def _begun(file: IO[bytes], place: Path, source: str) -> _Cursor | None:
    """Where the last process stopped; what it had written beyond that is cut off and written again."""
    size = file.seek(0, os.SEEK_END)
    if not place.exists():
        if size:
            raise BadInput("file", file.name, "It is there already, without a cursor; name a new one.")
        return None
    try:
        cursor = _Cursor.model_validate_json(place.read_text("utf-8"))
    except ValueError as error:
        raise BadInput("file", str(place), f"It is no cursor: {error}. Begin with a new file.") from error
    if cursor.source != source:
        raise BadInput("file", file.name, f"It has the events of {cursor.source} and not of {source}; name another.")
    if size < cursor.size:
        raise BadInput("file", file.name, "It is shorter than it was: events are missing. Begin with a new file.")
    file.truncate(cursor.size)
    return cursor


def _append(file: IO[bytes], lines: list[str]) -> None:
    file.write("".join(line + "\n" for line in lines).encode())


def _save(file: IO[bytes], place: Path, cursor: _Cursor) -> None:
    """The events to disk, and then how far they reach."""
    file.flush()
    os.fsync(file.fileno())
    cursor.size = file.seek(0, os.SEEK_END)
    partial = place.with_name(place.name + ".partial")
    with partial.open("w", encoding="utf-8") as new:
        new.write(cursor.model_dump_json())
        new.flush()
        os.fsync(new.fileno())
    partial.replace(place)


# ---- reading one ---------------------------------------------------------------------------------------------------------


def read(path: Path | str, wanted: Filter | None = None) -> Iterator[dict[str, JsonValue]]:
    """The events of an archive as JSON, in the order they are there, whoever wrote them.

    Raises:
        BadInput: the file cannot be read, or a line is no CloudEvents event; the message has its number.
    """
    wanted = wanted or Filter()
    for place, line in _numbered(path):
        try:
            event = strict_json.loads(line)
            if not all(isinstance(event[name], str) for name in ("id", "source", "type")):
                raise ValueError("id, source and type are texts")
            fits = wanted.fits_json(event)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput("file", place, f"It is no event: {type(error).__name__}: {error}") from error
        if fits:
            yield event


def replay(path: Path | str, wanted: Filter | None = None) -> Iterator[Event]:
    """The events of an archive of a board, typed, in the order they are there.

    Raises:
        BadInput: the file cannot be read, or a line is no event; the message has its number.
    """
    wanted = wanted or Filter()
    for place, line in _numbered(path):
        try:
            kind = strict_json.loads(line)["type"].removeprefix(events.PREFIX).removesuffix(events.SUFFIX)
            event = events.TYPES.get(kind, Event).model_validate_json(line)
        except (ValueError, ValidationError, KeyError, TypeError, AttributeError) as error:
            raise BadInput("file", place, f"It is no event: {error}") from error
        if wanted.fits(event):
            yield event


def _numbered(path: Path | str) -> Iterator[tuple[str, str]]:
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}:{number}", line
    except OSError as error:
        raise BadInput("file", str(path), f"It cannot be read: {error.strerror}.") from error
