"""What lies beside a local board's data and holds its one server together.

``start.lock``
    locked (``flock``) by the process that looks or starts, so that racing openers start one server.
``alive.lock``
    its locked descriptor is handed to the server and closed by the starter: the lock is held exactly as long as the
    server process lives. No process id can lie about that, and no second server can open the same files.
``server.json``
    which program wrote the data, and where its socket is. ``starting`` is there from before a start until the data was
    seen to be loaded, so that whoever comes after a starter that was killed can finish its work.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Generator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from blackboard._binary import Binary
from blackboard._probe import spelled, version
from blackboard.errors import BadInput, EngineUnavailable

LOCK_SECONDS = 300.0
"""How long another process's start is waited for: as long as it may wait for its server to load its data."""

POLL_SECONDS = 0.005
_EMPTY_BASE_BYTES = 200
"""The base file Redis 7 writes for an empty database has some 90 bytes."""


class Started(BaseModel):
    """A server program and the socket it was started on."""

    path: str
    kind: str
    version: str
    socket: str
    held_data: bool = True
    """Whether the directory held data before this start."""

    @property
    def binary(self) -> Binary:
        return Binary(self.path, self.kind, version(self.version))

    @classmethod
    def of(cls, binary: Binary, socket: str, held_data: bool) -> Started:
        return cls(
            path=binary.path, kind=binary.kind, version=spelled(binary.version), socket=socket, held_data=held_data
        )


class Record(BaseModel):
    """The content of ``server.json``."""

    server: Started | None = None
    """The last server that was seen to have the data."""
    starting: Started | None = None
    """A server that was launched and not looked at yet."""
    sync: bool = False
    """Whether every write goes to disk before it is acknowledged, whoever starts the server."""


class DataDir:
    """The directory of one local server.

    Args:
        data_dir: the user's data directory; the server's files are in ``redis`` below it.
    """

    def __init__(self, data_dir: Path) -> None:
        self._given = data_dir
        self.path = (data_dir / "redis").resolve()
        self.log = self.path / "redis.log"
        self.pidfile = self.path / "redis.pid"

    def make(self) -> None:
        """Make the directory, private to its owner.

        Raises:
            BadInput: it cannot be made or written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BadInput("data_dir", str(self._given), f"{error.strerror}. Name a directory of yours.") from error
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise BadInput("data_dir", str(self._given), "It is not writable. Name a directory of yours.")

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Hold ``start.lock``, waiting for whoever has it. The kernel gives it up when this process dies.

        Raises:
            EngineUnavailable: it was not to be had within :data:`LOCK_SECONDS`.
        """
        deadline = time.monotonic() + LOCK_SECONDS
        while (held := _hold(self.path / "start.lock")) is None:
            if time.monotonic() > deadline:
                raise EngineUnavailable(
                    f"Another process has been starting the server of {self.path} for {LOCK_SECONDS:g} s."
                )
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(held, fcntl.LOCK_UN)  # also frees it from copies in children forked meanwhile
            os.close(held)

    def hold_alive(self) -> int | None:
        """A descriptor that holds ``alive.lock``; None while a server process does."""
        return _hold(self.path / "alive.lock")

    def server_lives(self) -> bool:
        """Whether a server process has this directory open."""
        held = self.hold_alive()
        if held is not None:
            os.close(held)
        return held is None

    def read(self) -> Record:
        """What ``server.json`` says; an empty record before the first start.

        Raises:
            EngineUnavailable: the file is damaged.
        """
        path = self.path / "server.json"
        try:
            return Record.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Record()
        except ValidationError as error:
            raise EngineUnavailable(
                f"{path} is damaged. If the data beside it was written by the server you have now, remove that file."
            ) from error

    def write(self, record: Record) -> None:
        """Replace ``server.json`` in one step."""
        new = self.path / "server.json.new"
        with open(new, "w", encoding="utf-8", opener=private) as file:
            json.dump(record.model_dump(exclude_none=True), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path / "server.json")

    def holds_data(self) -> bool:
        """Whether the append-only files hold anything."""
        parts = self.path / "appendonlydir"
        for path in (self.path / "appendonly.aof", *parts.glob("*.aof"), *parts.glob("*.rdb")):
            floor = _EMPTY_BASE_BYTES if path.suffix == ".rdb" else 0
            if path.exists() and path.stat().st_size > floor:
                return True
        return False

    def writer(self, record: Record) -> Binary | None:
        """The newest program that may have written the data; None when there is none.

        The layout of the files has a say of its own: Redis 7 and later keep them in ``appendonlydir``, and an earlier one
        would not see them.
        """
        last = record.starting or record.server
        known = last.binary if last is not None else None
        parts = self.path / "appendonlydir"
        if parts.is_dir() and (known is None or (known.kind == "redis" and known.version < (7,))):
            return Binary(known.path if known is not None else str(parts), "redis", (7, 0))
        return known

    def pid(self) -> int:
        """Process id of the server started last; 0 when unknown. It may have ended and be somebody else's by now."""
        try:
            return int(self.pidfile.read_text("ascii"))
        except (OSError, ValueError):
            return 0

    def last_words(self) -> str:
        """Where the server's log is and how it ends, as a sentence."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").strip().splitlines()
            return f"Its log {self.log} ends: {' / '.join(lines[-3:])}"
        return "It left no log."


def private(path: str, flags: int) -> int:
    """An opener for ``open``: files made with it are for their owner only."""
    return os.open(path, flags, 0o600)


def _hold(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
