"""Finished runs as files, to be taken to another board: whole, with the large values, and verified at both ends.

A file is JSON lines: what the run is, each event as stored, the versions it used with their sources, each large value once,
in parts, and a last line with the hash of all the others. Import reads it twice: first to check that hash, the log, each
version's and each value's own hash, then to store the values and make the run history: listed and shown, never executed.
Neither end holds more than one value at a time. The hash finds damage; it does not prove who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from blackboard import events, strict_json
from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.catalog_records import StoredVersion
from blackboard.errors import BadInput, BlobDamaged, BlobMissing, Conflict, UnknownRecord
from blackboard.payloads import PAYLOAD_BYTES
from blackboard.transfer import Entry, checked, put, take
from blackboard.types import RunSummary
from registry.content import sha256, text_hash

FORMAT = 2
"""With large values; without any, and in files of earlier versions, it is 1."""
FILE_BYTES = 256 * 1024 * 1024
"""Most of a file that is read beside its large values."""
PART_CHARACTERS = 1 << 20
_LINE_BYTES = 48 * 1024 * 1024
_DIGEST = "sha256:"


async def export_run(board: Board, run_id: str, *, values: bool = True) -> AsyncGenerator[str, None]:
    """The lines of a finished run's file.

    Args:
        values: False leaves large values out; whoever imports the file finds references that lead nowhere.

    Raises:
        UnknownRecord: no such run.
        BadInput: it is not over.
        BlobMissing, BlobDamaged, BlobUnavailable: a large value cannot be had as it was.
    """
    header, log = await take(board, run_id)
    blobs = _references(run_id, board.source, log) if values else {}
    digest = hashlib.sha256()
    count = 0

    def line(kind: str, content: Any) -> str:
        nonlocal count
        text = json.dumps({kind: content}, separators=(",", ":")) + "\n"
        digest.update(text.encode())
        count += 1
        return text

    about = {"format": FORMAT if blobs else 1, "run_id": run_id, "source": board.source, "text": header["text"]}
    about |= {"sha": header["sha"], "at": header["at"], "ended": header["ended"]}
    yield line("arbiter.run", {**about, "events": len(log)})
    for entry in log:
        yield line("event", entry._asdict())
    for version, source in await _versions(board, log):
        yield line("version", {**version.model_dump(mode="json"), "source": source})
    for blob in blobs.values():
        try:
            text = await board.blobs.text(run_id, blob)
        except (BlobMissing, BlobDamaged) as error:
            raise type(error)(f"{error} Without large values (--without-values) the run can be exported.") from error
        starts = range(0, len(text), PART_CHARACTERS)
        yield line("value", {"digest": blob.digest, "bytes": len(text), "parts": len(starts)})
        for start in starts:
            yield line("part", text[start : start + PART_CHARACTERS])
    yield json.dumps({"end": {"lines": count, "sha256": digest.hexdigest()}}) + "\n"


def _references(run_id: str, source: str, log: list[Entry]) -> dict[str, Blob]:
    """The large values a log refers to, each once."""
    found: dict[str, Blob] = {}
    for entry in log:
        stored = {"type": entry.type, "subject": entry.subject, "id": entry.id, "data": entry.data}
        if (blob := events.apart(events.parse(entry.position, stored, run_id, source))) is not None:
            found.setdefault(blob.digest, blob)
    return found


async def _versions(board: Board, log: list[Entry]) -> list[tuple[StoredVersion, str | None]]:
    """What the run used, as far as the registry still has it."""
    posted = [json.loads(entry.data) for entry in log if entry.type == "task.posted"]
    used = sorted({(data["capability"], data["version"]) for data in posted if data.get("version")})
    found = [one for one in await board.catalog.get_many(used) if one is not None]
    return [(one, await board.catalog.artifact(one.artifact_sha) if one.artifact_sha else None) for one in found]


async def import_run(board: Board, path: Path | str) -> RunSummary:
    """Put the run in a file on a board, as history, and its large values into the board's own store.

    The values come first: a crash in between leaves values that nothing refers to, and a repeated import completes it.

    Raises:
        BadInput: the file cannot be read, is damaged, or is not one of these; nothing was stored.
        Conflict: the board has a run of this id.
        BlobUnavailable: the store of large values cannot be used; import again.
    """
    run = read_run(path)
    about = run.about
    try:
        await board.summary(about["run_id"])
    except UnknownRecord:
        pass
    else:
        raise Conflict("CONFLICT", f"run {about['run_id']} is on this board already")
    with _opened(Path(path)) as file:
        for digest, (offset, parts) in run.values.items():
            file.seek(offset)
            body = "".join(json.loads(file.readline())["part"] for _ in range(parts)).encode("ascii")
            if _DIGEST + hashlib.sha256(body).hexdigest() != digest:
                raise BadInput("file", str(path), f"{digest} was changed while it was read. Import it again.")
            await board.blobs.store.put(about["run_id"], digest.removeprefix(_DIGEST), body)
    await put(
        board, about["run_id"], run.log, text=about["text"], fingerprint=about["sha"], at=about["at"],
        ended=about["ended"],
    )  # fmt: skip
    return await board.summary(about["run_id"])


@dataclass
class ReadRun:
    """What the file of a run says."""

    about: dict[str, Any] = field(default_factory=dict[str, Any])
    log: list[Entry] = field(default_factory=list[Entry])
    versions: list[StoredVersion] = field(default_factory=list[StoredVersion])
    values: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Where the parts of each value begin in the file, in bytes, and how many there are."""


def read_run(path: Path | str) -> ReadRun:
    """What the file of a run says, verified.

    Raises:
        BadInput: it cannot be read, is damaged, or is not one of these; the message says what is damaged.
    """
    reading = _Reading()
    place = str(path)
    with _opened(Path(path)) as file:
        try:
            for number, line in enumerate(_lines(file), 1):
                place = f"{path}:{number}"
                reading.take(line, file.tell())
            place = str(path)
            return reading.whole()
        except (_Damage, BadInput) as error:
            raise BadInput("file", place, str(error)) from error
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise BadInput("file", place, f"It is not the file of a run: {type(error).__name__}: {error}") from error


class _Damage(ValueError):
    """What is wrong with a file."""


class _Reading:
    """The lines of a file, one after the other."""

    def __init__(self) -> None:
        self._run = ReadRun()
        self._hash, self._count, self._bytes = hashlib.sha256(), 0, 0
        self._over = False
        self._value: _Value | None = None

    def take(self, line: bytes, after: int) -> None:
        """The next line, which ends ``after`` bytes from the file's beginning."""
        if self._over:
            raise _Damage("There is more behind its end.")
        [(kind, content)] = cast("dict[str, Any]", strict_json.loads(line)).items()
        if (self._count == 0) != (kind == "arbiter.run"):
            raise _Damage("It is not the whole file of a run; export it again.")
        if self._value is not None and kind != "part":
            raise _Damage(f"Parts of value {self._value.digest} are missing.")
        match kind:
            case "arbiter.run":
                self._begin(content)
            case "event":
                self._run.log.append(Entry(**content))
            case "version":
                self._run.versions.append(_verified(content))
            case "value":
                self._value = _Value(content["digest"], content["bytes"], content["parts"])
                self._run.values[self._value.digest] = (after, content["parts"])
            case "part":
                if self._value is None:
                    raise _Damage("A part of a value that was not announced.")
                if self._value.take(content):
                    self._value = None
            case "end":
                self._end(content)
                return
            case _:
                raise _Damage(f"{kind!r} is no part of the file of a run.")
        self._bytes += len(line) if kind != "part" else 0
        if self._bytes > FILE_BYTES:
            raise _Damage(f"At most {FILE_BYTES:,} bytes are read beside large values.")
        self._hash.update(line)
        self._count += 1

    def _begin(self, about: Mapping[str, Any]) -> None:
        if about["format"] not in (1, FORMAT):
            raise _Damage(f"It has format {about['format']}; this version reads 1 and {FORMAT}.")
        wanted = {"run_id": str, "text": str, "sha": str, "at": int, "ended": int, "source": str, "format": int}
        self._run.about = {name: kind(about[name]) for name, kind in wanted.items()}

    def _end(self, end: Mapping[str, Any]) -> None:
        if (end["lines"], end["sha256"]) != (self._count, self._hash.hexdigest()):
            raise _Damage(
                "The hash of the whole is not the one it ends with: an event or a name was damaged or changed."
            )
        self._over = True

    def whole(self) -> ReadRun:
        if not self._over:
            raise _Damage("It is not the whole file of a run; export it again.")
        run = self._run
        run_id, source = run.about["run_id"], run.about["source"]
        checked(run_id, run.log)
        references = _references(run_id, source, run.log)
        if run.about["format"] > 1 and (missing := references.keys() - run.values.keys()):
            raise _Damage(f"It refers to {min(missing)}, which is not in it.")
        if unknown := run.values.keys() - references.keys():
            raise _Damage(f"It has {min(unknown)}, to which nothing refers.")
        return run


class _Value:
    """A value of which some parts were read."""

    def __init__(self, digest: str, size: int, parts: int) -> None:
        if not 0 < size <= PAYLOAD_BYTES or parts < 1:
            raise _Damage(
                f"Value {digest} has {size} bytes in {parts} parts; at most {PAYLOAD_BYTES:,} bytes are taken."
            )
        self.digest, self._left, self._parts = digest, size, parts
        self._hash = hashlib.sha256()

    def take(self, part: str) -> bool:
        """True with the last part, when the hash is right."""
        self._hash.update(part.encode("ascii"))
        self._left -= len(part)
        self._parts -= 1
        if self._parts and self._left > 0:
            return False
        if self._left or self._parts or _DIGEST + self._hash.hexdigest() != self.digest:
            raise _Damage(f"Value {self.digest} is not what its hash says: it was damaged or changed.")
        return True


def _lines(file: IO[bytes]) -> Generator[bytes]:
    while line := file.readline(_LINE_BYTES + 1):
        if len(line) > _LINE_BYTES:
            raise _Damage(f"A line has more than {_LINE_BYTES:,} bytes.")
        yield line


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadInput("file", str(path), f"It cannot be read: {error.strerror}.") from error


def _verified(version: dict[str, Any]) -> StoredVersion:
    source = version.pop("source")
    stored = StoredVersion.model_validate(version)
    good = text_hash(stored.manifest, stored.artifact_sha) == stored.sha
    if not good or (source is not None and sha256(source) != stored.artifact_sha):
        raise _Damage(f"Version {stored.name} {stored.sha[:12]} is not what its hash says; it was changed.")
    return stored
