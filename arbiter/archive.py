"""Runs and events as files: a finished run taken to another board, and events kept beyond the board's retention.

**A run** is one file of JSON lines: what it is, each event as stored, the versions it used with their sources, and a
last line with the hash of all the others. Import checks that hash, the log, and each version's own hash, and makes the
run history: listed and shown, never executed. The hash finds damage; it does not prove who wrote the file.

**An archive of events** is JSON lines too: each a CloudEvents 1.0 event as :mod:`blackboard.events` has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from blackboard import events
from blackboard.board import Board
from blackboard.catalog import StoredVersion
from blackboard.errors import BadInput
from blackboard.events import Event
from blackboard.runs import Where, find
from blackboard.transfer import Entry, checked, put, take
from blackboard.types import RunSummary
from registry.content import sha256, text_hash

FORMAT = 1
FILE_BYTES = 256 * 1024 * 1024
"""Largest file of a run that is read."""
LONGEST_RUN_SECONDS = 30 * 86_400.0
"""Largest ``Limits.seconds``: a run that was accepted earlier has no event in a range."""
_PAGE = 500
_SLACK_SECONDS = 1.0
"""A header and the event of the same moment may differ by a little."""


async def export_run(board: Board, run_id: str) -> AsyncGenerator[str, None]:
    """The lines of a finished run's file.

    Raises:
        UnknownRecord: no such run.
        BadInput: it is not over.
    """
    header, log = await take(board, run_id)
    digest = hashlib.sha256()
    count = 0

    def line(kind: str, content: Any) -> str:
        nonlocal count
        text = json.dumps({kind: content}, separators=(",", ":")) + "\n"
        digest.update(text.encode())
        count += 1
        return text

    about = {"format": FORMAT, "run_id": run_id, "source": board.source, "text": header["text"], "sha": header["sha"]}
    about |= {"at": header["at"], "ended": header["ended"]}
    yield line("arbiter.run", {**about, "events": len(log)})
    for entry in log:
        yield line("event", entry._asdict())
    for version, source in await _versions(board, log):
        yield line("version", {**version.model_dump(mode="json"), "source": source})
    yield json.dumps({"end": {"lines": count, "sha256": digest.hexdigest()}}) + "\n"


async def _versions(board: Board, log: list[Entry]) -> list[tuple[StoredVersion, str | None]]:
    """What the run used, as far as the registry still has it."""
    posted = [json.loads(entry.data) for entry in log if entry.type == "task.posted"]
    used = sorted({(data["capability"], data["version"]) for data in posted if data.get("version")})
    found = [one for one in await board.catalog.get_many(used) if one is not None]
    return [(one, await board.catalog.artifact(one.artifact_sha) if one.artifact_sha else None) for one in found]


async def import_run(board: Board, path: Path | str) -> RunSummary:
    """Put the run in a file on a board, as history.

    Raises:
        BadInput: the file cannot be read, is damaged, or is not one of these.
        Conflict: the board has a run of this id.
    """
    about, log = read_run(path)
    await put(
        board, about["run_id"], log, text=about["text"], fingerprint=about["sha"], at=about["at"], ended=about["ended"]
    )
    return await board.summary(about["run_id"])


def read_run(path: Path | str) -> tuple[dict[str, Any], list[Entry]]:
    """What the file of a run says, verified: the run and its log.

    Raises:
        BadInput: it cannot be read, is damaged, or is not one of these.
    """
    lines = _lines(Path(path))
    try:
        records = [cast("dict[str, dict[str, Any]]", json.loads(text)) for text in lines]
        if set(records[0]) != {"arbiter.run"} or set(records[-1]) != {"end"}:
            raise BadInput("file", str(path), "It is not the whole file of a run; export it again.")
        about, end = records[0]["arbiter.run"], records[-1]["end"]
        if about["format"] != FORMAT:
            raise BadInput("file", str(path), f"It has format {about['format']}; this version reads {FORMAT}.")
        found = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
        if (end["lines"], end["sha256"]) != (len(lines) - 1, found):
            raise BadInput("file", str(path), "Its hash is not the one it ends with: it was damaged or changed.")
        log = [Entry(**one["event"]) for one in records if "event" in one]
        checked(about["run_id"], log)
        for entry in log:
            fields = {"type": entry.type, "subject": entry.subject, "id": entry.id, "data": entry.data}
            events.parse(entry.position, fields, about["run_id"], about["source"])
        for one in records:
            if "version" in one:
                _verify(one["version"])
        wanted = {"run_id": str, "text": str, "sha": str, "at": int, "ended": int}
        return {name: kind(about[name]) for name, kind in wanted.items()}, log
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput("file", str(path), f"It is not the file of a run: {type(error).__name__}: {error}") from error


def _lines(path: Path) -> list[bytes]:
    try:
        if path.stat().st_size > FILE_BYTES:
            raise BadInput("file", str(path), f"At most {FILE_BYTES:,} bytes are read.")
        return path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise BadInput("file", str(path), f"It cannot be read: {error.strerror}.") from error


def _verify(version: dict[str, Any]) -> None:
    source = version.pop("source")
    stored = StoredVersion.model_validate(version)
    good = text_hash(stored.manifest, stored.artifact_sha) == stored.sha
    if not good or (source is not None and sha256(source) != stored.artifact_sha):
        raise BadInput("version", f"{stored.name} {stored.sha[:12]}", "It is not what its hash says; it was changed.")


# ---- events --------------------------------------------------------------------------------------------------------


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
