"""The supervised local server: one real redis-server per data directory, shared by every process that opens it.

Whoever opens the directory first starts the server; the others attach. It outlives its starter, keeps an append-only
file, and is started again by the next one who needs it when it was killed. Three files beside the data hold this
together:

``start.lock``
    locked (``flock``) by the process that looks or starts, so that racing openers start one server.
``alive.lock``
    its locked descriptor is handed to the server and closed here: the lock is held exactly as long as the server
    process lives. No process id can lie about that, and no second server can open the same files.
``server.json``
    which program wrote the data, and the socket of the running server.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
import redis.retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError

from blackboard._binary import Binary, choose
from blackboard._probe import spelled, version
from blackboard.errors import BadInput, EngineUnavailable

READY_SECONDS = 10.0
"""How long a started server is waited for; loading its data does not count."""
LOADING_SECONDS = 300.0
LOCK_SECONDS = 60.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.005
_SOCKET_PATH_BYTES = 103
"""macOS holds a socket's path in 104 bytes, Linux in 108; redis-server exits on a longer one."""
_LOG_BYTES = 1 << 20
_MARK = "arb:server"
"""A key that is in every board's database from its first start, so that an empty database is always a mistake."""


@dataclass(frozen=True)
class Local:
    """A running supervised server."""

    socket: str
    binary: Binary
    directory: Path

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def label(self) -> str:
        return f"local {self.binary} at {self.socket}, data in {self.directory}"


def start(data_dir: Path) -> Local:
    """Attach to the directory's server, or start it.

    Args:
        data_dir: the data directory; made with mode 0700 when it is missing.

    Returns:
        The server, which answers.

    Raises:
        BadInput: the directory cannot be used.
        EngineUnavailable: no program may open this data, or the server does not come up.
    """
    directory = _prepare(data_dir)
    running = _running(directory)
    if running is not None:
        return running
    with _locked(directory / "start.lock"):
        running = _running(directory)
        if running is not None:
            return running
        alive = _hold(directory / "alive.lock")
        if alive is None:
            reached = _reach_or_end(directory)
            if isinstance(reached, Local):
                return reached
            alive = reached
        return _start(directory, alive)


def stop(data_dir: Path) -> bool:
    """End the directory's server with a plain ``SHUTDOWN``, which writes everything out first.

    Returns:
        True when one was running and has ended.

    Raises:
        EngineUnavailable: it refused, or did not end within 30 s.
    """
    directory = data_dir / "redis"
    if not (directory / "server.json").exists():
        return False
    directory = directory.resolve()
    with _locked(directory / "start.lock"):
        alive = _hold(directory / "alive.lock")
        if alive is not None:
            os.close(alive)
            return False
        socket = _read(directory).get("socket")
        if not socket:
            raise EngineUnavailable(
                f"The server of {directory} is running but its socket is not known. {_end_it(directory)}"
            )
        client = _client(socket)
        try:
            client.execute_command("SHUTDOWN")  # pyright: ignore[reportUnknownMemberType]
        except redis.ConnectionError:
            pass  # the reply to a successful SHUTDOWN is a closed connection
        except redis.RedisError as error:
            raise EngineUnavailable(
                f"The server of {directory} refused to stop: {error}. {_end_it(directory)}"
            ) from error
        finally:
            client.close()
        released = _wait_released(directory)
        if released is None:
            raise EngineUnavailable(
                f"The server of {directory} did not end within {STOP_SECONDS:g} s. {_end_it(directory)}"
            )
        os.close(released)
        return True


def _prepare(data_dir: Path) -> Path:
    directory = data_dir / "redis"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BadInput(
            "data_dir", str(data_dir), f"It cannot be made ({error.strerror}). Name a directory of yours."
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BadInput("data_dir", str(data_dir), "It is not writable. Name a directory of yours.")
    return directory.resolve()


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the lock file, waiting for another opener; released by the kernel when this process dies."""
    deadline = time.monotonic() + LOCK_SECONDS
    while (held := _hold(path)) is None:
        if time.monotonic() > deadline:
            raise EngineUnavailable(
                f"Another process has been starting the server of {path.parent} for {LOCK_SECONDS:g} s."
            )
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(held)


def _hold(path: Path) -> int | None:
    """A descriptor that holds the lock file; None while somebody else does."""
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


def _read(directory: Path) -> dict[str, Any]:
    """What ``server.json`` says; empty when there is none yet."""
    path = directory / "server.json"
    try:
        content: object = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise EngineUnavailable(
            f"{path} is not readable as JSON. Remove it when the data beside it was written by the same server."
        )
    return cast(dict[str, Any], content)


def _write(directory: Path, binary: Binary, socket: str | None) -> None:
    content = {"path": binary.path, "kind": binary.kind, "version": spelled(binary.version), "socket": socket}
    new = directory / "server.json.new"
    with open(new, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, directory / "server.json")


def _writer(known: dict[str, Any]) -> Binary | None:
    number = version(str(known.get("version", "")))
    if not number:
        return None
    return Binary(str(known.get("path", "")), str(known.get("kind", "redis")), number)


def _client(socket: str) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=socket,
        decode_responses=True,
        protocol=2,
        socket_timeout=5,
        socket_connect_timeout=5,
        retry=redis.retry.Retry(NoBackoff(), 0),
    )


def _answers(socket: str) -> bool | None:
    """True when the server answers, None while it is loading its data, False otherwise."""
    client = _client(socket)
    try:
        return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
    except BusyLoadingError:
        return None
    except redis.RedisError:
        return False
    finally:
        client.close()


def _running(directory: Path) -> Local | None:
    known = _read(directory)
    socket, writer = known.get("socket"), _writer(known)
    if socket and writer is not None and os.path.exists(socket) and _answers(socket):
        return Local(socket, writer, directory)
    return None


def _reach_or_end(directory: Path) -> Local | int:
    """The server process lives but did not answer: wait for it, or end one whose socket was removed under it.

    Returns:
        The server when it answers after all, or the descriptor that holds ``alive.lock`` when it has ended.
    """
    known = _read(directory)
    socket = known.get("socket")
    if socket and not os.path.exists(socket):
        if not _is_ours(_pid(directory), socket):
            raise EngineUnavailable(
                f"The data in {directory} is in use by a server that cannot be reached from here (its socket "
                f"{socket} is not visible; another container, or removed). {_end_it(directory)}"
            )
        os.kill(_pid(directory), signal.SIGTERM)
        released = _wait_released(directory)
        if released is not None:
            return released
    else:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            running = _running(directory)
            if running is not None:
                return running
            released = _hold(directory / "alive.lock")
            if released is not None:
                return released
            time.sleep(_POLL_SECONDS)
    raise EngineUnavailable(f"The server of {directory} runs but does not answer. {_end_it(directory)}")


def _wait_released(directory: Path) -> int | None:
    """The ``alive.lock`` as soon as the server process is gone; None when it stays."""
    deadline = time.monotonic() + STOP_SECONDS
    while (held := _hold(directory / "alive.lock")) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return held


def _pid(directory: Path) -> int:
    try:
        return int((directory / "redis.pid").read_text("ascii"))
    except (OSError, ValueError):
        return 0


def _is_ours(pid: int, socket: str) -> bool:
    """Whether that process is the server of this socket: redis-server shows its socket in its process title."""
    try:
        return pid > 0 and socket.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _end_it(directory: Path) -> str:
    pid = _pid(directory)
    return f"End it by hand: kill {pid}" if pid else "End it by hand."


def _start(directory: Path, alive: int) -> Local:
    """Start the server; ``alive`` is the descriptor to hand to it, and is closed here."""
    try:
        known = _read(directory)
        writer = _writer(known)
        binary = choose(writer)
        if (directory / "appendonlydir").is_dir() and binary.kind == "redis" and binary.version < (7,):
            raise EngineUnavailable(
                f"The data in {directory} was written by Redis 7 or later; {binary} at {binary.path} would start "
                "empty. Name a newer server in ARBITER_REDIS_SERVER."
            )
        held_data = _data_bytes(directory) > 0
        socket = _socket(directory, known.get("socket"))
        if writer is not None:
            # Openers that look without the lock must not attach before the data is known to be there.
            _write(directory, writer, None)
        _launch(directory, binary, socket, alive)
    finally:
        os.close(alive)
    _wait_ready(directory, binary, socket)
    client = _client(socket)
    try:
        if held_data and not client.dbsize():  # pyright: ignore[reportUnknownMemberType]
            with contextlib.suppress(redis.ConnectionError):
                client.execute_command("SHUTDOWN")  # pyright: ignore[reportUnknownMemberType]
            raise EngineUnavailable(
                f"{binary} started empty although {directory} holds data, so it was stopped. Name the server that "
                "wrote the data in ARBITER_REDIS_SERVER; if the board was emptied on purpose, remove that directory."
            )
        client.set(_MARK, str(binary))
    finally:
        client.close()
    _write(directory, binary, socket)
    return Local(socket, binary, directory)


def _data_bytes(directory: Path) -> int:
    """Bytes of commands in the append-only files. A base file of an empty database, some 90 bytes, is no data."""
    files = [directory / "appendonly.aof", *(directory / "appendonlydir").glob("*.aof")]
    size = sum(path.stat().st_size for path in files if path.exists())
    bases = (path.stat().st_size for path in (directory / "appendonlydir").glob("*.base.rdb"))
    return size + sum(base for base in bases if base > 200)


def _launch(directory: Path, binary: Binary, socket: str, alive: int) -> None:
    log = directory / "redis.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        os.replace(log, directory / "redis.log.1")
    for left in (socket, directory / "redis.pid"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(left)
    # The server outlives us: it gets no secrets from our environment, and a locale that exists everywhere.
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    with open(log, "ab") as output:
        try:
            subprocess.run(
                [
                    binary.path,
                    *("--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", str(directory)),
                    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                    *("--maxmemory-policy", "noeviction", "--databases", "16"),
                    *("--pidfile", str(directory / "redis.pid"), "--logfile", str(log)),
                    # It detaches itself: a session of its own, no terminal, no zombie when it ends before us.
                    *("--daemonize", "yes"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**kept, "LC_ALL": "C"},
                cwd=directory,
                umask=0o077,
                pass_fds=(alive,),
                start_new_session=True,
                check=True,
                timeout=READY_SECONDS,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineUnavailable(f"{binary} at {binary.path} did not start ({error}).{_said(directory)}") from error


def _wait_ready(directory: Path, binary: Binary, socket: str) -> None:
    started = time.monotonic()
    limit = READY_SECONDS
    while not (answer := _answers(socket)):
        if answer is None:
            limit = LOADING_SECONDS
        released = _hold(directory / "alive.lock")
        if released is not None:
            os.close(released)
        if released is not None or time.monotonic() - started > limit:
            raise EngineUnavailable(f"{binary} at {binary.path} did not come up.{_said(directory)}")
        time.sleep(_POLL_SECONDS)


def _said(directory: Path) -> str:
    with contextlib.suppress(OSError):
        lines = (directory / "redis.log").read_text("utf-8", "replace").strip().splitlines()
        return f" Its log {directory / 'redis.log'} ends: {' / '.join(lines[-3:])}"
    return ""


def _socket(directory: Path, known: object) -> str:
    """Where the server listens: a short path in a directory only we can enter, named by the real data directory.

    ``/tmp/arbiter-<uid>`` comes before ``XDG_RUNTIME_DIR``: the latter is removed when the last login session ends, and
    the server with its clients (a daemon started over SSH) is meant to outlive that.
    """
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16] + ".sock"
    places = [Path(f"/tmp/arbiter-{os.geteuid()}")]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        places.append(Path(runtime) / "arbiter")
    if isinstance(known, str) and known.endswith(name):
        places.insert(0, Path(known).parent)
    problems: list[str] = []
    for place in places:
        path = str(place / name)
        problem = (
            _private(place) if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES else f"{path} is too long for a socket"
        )
        if problem is None:
            return path
        problems.append(problem)
    raise EngineUnavailable(
        f"There is no safe place for the local server's socket: {'; '.join(problems)}. "
        "Set XDG_RUNTIME_DIR to a directory that only you can enter."
    )


def _private(place: Path) -> str | None:
    """Make ``place`` a directory only we can enter; what is wrong with it otherwise."""
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        return f"{place}: {error.strerror}"
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            return f"{place} belongs to user {found.st_uid}"
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    return None


if sys.platform == "win32":  # pragma: no cover
    raise ImportError("The local server needs a POSIX system.")
