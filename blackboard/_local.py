"""The supervised local server: one real redis-server per data directory, shared by every process that opens it.

Whoever opens the directory first starts the server; the others attach. It outlives its starter, keeps an append-only
file, and is started again by the next one who needs it when it was killed. The files that make this safe are described
in ``_datadir``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import redis
import redis.retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError

from blackboard._binary import Binary, choose
from blackboard._datadir import POLL_SECONDS, DataDir, Record, Started, private
from blackboard._sending import DRIVER
from blackboard._socket_place import place
from blackboard.errors import EngineUnavailable

READY_SECONDS = 10.0
"""How long a started server is waited for; loading its data does not count."""

LOADING_SECONDS = 300.0
STOP_SECONDS = 30.0
_LOG_BYTES = 1 << 20
_MARK = "arb:server"
"""A key every local database has from its first start on, so that an empty database is always a mistake."""


@dataclass(frozen=True)
class Local:
    """A running supervised server."""

    socket: str
    binary: Binary
    directory: Path
    sync: bool = False

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def label(self) -> str:
        return f"local {self.binary} at {self.socket}, data in {self.directory}"


def start(data_dir: Path, sync: bool | None = None) -> Local:
    """Attach to the directory's server, or start it.

    Args:
        data_dir: the data directory; made with mode 0700 when it is missing.
        sync: whether every write is on disk before it is acknowledged; kept for whoever starts the server later. None
            leaves it as it is kept; a new directory writes to disk once a second.

    Returns:
        The server, which answers.

    Raises:
        BadInput: the directory cannot be used.
        EngineUnavailable: no program may open this data, or the server does not come up.
    """
    directory = DataDir(data_dir)
    directory.make()
    if sync is not None and directory.read().sync != sync:
        with directory.locked():
            _resolve(directory, sync)
    running = _running(directory)
    if running is not None:
        return running
    with directory.locked():
        running = _running(directory)
        if running is not None:
            return running
        alive = directory.hold_alive()
        if alive is None:
            reached = _reach_or_end(directory)
            if isinstance(reached, Local):
                return reached
            alive = reached
        before = directory.read()
        try:
            try:
                begun = _begin(directory, alive)
            finally:
                os.close(alive)
            return _finish(directory, begun)
        except EngineUnavailable:
            if not directory.server_lives():  # a program that does not come up is not the one to try next time
                directory.write(before.model_copy(update={"starting": None}))
            raise


def stop(data_dir: Path) -> bool:
    """End the directory's server with a plain ``SHUTDOWN``, which writes everything out first.

    Returns:
        True when one was running and has ended, False when none was.

    Raises:
        EngineUnavailable: it refused, or did not end within 30 s.
    """
    directory = DataDir(data_dir)
    if not directory.path.is_dir():
        return False
    with directory.locked():
        if not directory.server_lives():
            return False
        record = directory.read()
        begun = record.starting or record.server
        if begun is None:
            raise EngineUnavailable(f"The server of {directory.path} is not known. {_end_it(directory)}")
        try:
            _shut_down(begun.socket)
        except redis.RedisError as error:
            raise EngineUnavailable(
                f"The server of {directory.path} refused to stop: {error}. {_end_it(directory)}"
            ) from error
        os.close(_wait_ended(directory))
        return True


def _running(directory: DataDir) -> Local | None:
    record = directory.read()
    server = record.server
    if server is None or record.starting is not None or not os.path.exists(server.socket):
        return None
    return Local(server.socket, server.binary, directory.path, record.sync) if _answers(server.socket) else None


def _resolve(directory: DataDir, sync: bool) -> None:
    """Write down how the log is written and tell the server if it runs. The record never promises more than is done."""
    running = _running(directory)
    if not sync:
        directory.write(directory.read().model_copy(update={"sync": False}))
    if running is not None:
        client = _client(running.socket)
        try:
            _log_writes(client, sync)
        finally:
            client.close()
    if sync:
        directory.write(directory.read().model_copy(update={"sync": True}))


def _log_writes(client: redis.Redis, sync: bool) -> None:
    client.config_set("appendfsync", "always" if sync else "everysec")  # pyright: ignore[reportUnknownMemberType]


def _begin(directory: DataDir, alive: int) -> Started:
    """Launch a server that may open this data."""
    record = directory.read()
    binary = choose(directory.writer(record))
    socket = place(directory.path, record.server.socket if record.server is not None else None)
    begun = Started.of(binary, socket, directory.holds_data())
    directory.write(record.model_copy(update={"starting": begun}))
    _launch(directory, begun, alive)
    return begun


def _launch(directory: DataDir, begun: Started, alive: int) -> None:
    if directory.log.exists() and directory.log.stat().st_size > _LOG_BYTES:
        os.replace(directory.log, directory.log.with_suffix(".log.1"))
    for left in (begun.socket, directory.pidfile):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(left)
    # The server outlives us: it gets no secrets from our environment, and a locale that exists everywhere.
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    with open(directory.log, "ab", opener=private) as output:
        try:
            subprocess.run(
                [
                    begun.path,
                    *("--port", "0", "--unixsocket", begun.socket, "--unixsocketperm", "700"),
                    *("--dir", str(directory.path), "--pidfile", str(directory.pidfile)),
                    *("--logfile", str(directory.log)),
                    *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                    *("--maxmemory-policy", "noeviction"),
                    # It detaches itself: a session of its own, no terminal, no zombie when it ends before us.
                    *("--daemonize", "yes"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**kept, "LC_ALL": "C"},
                cwd=directory.path,
                umask=0o077,
                pass_fds=(alive,),
                start_new_session=True,
                check=True,
                timeout=READY_SECONDS,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise _not_up(directory, begun) from error


def _finish(directory: DataDir, begun: Started) -> Local:
    """Wait for the launched server, see that the data is there, and let everybody attach."""
    started, limit = time.monotonic(), READY_SECONDS
    while not (answer := _answers(begun.socket)):
        if answer is None:
            limit = LOADING_SECONDS
        if not directory.server_lives() or time.monotonic() - started > limit:
            raise _not_up(directory, begun)
        time.sleep(POLL_SECONDS)
    sync = directory.read().sync
    client = _client(begun.socket)
    try:
        if begun.held_data and not client.dbsize():  # pyright: ignore[reportUnknownMemberType]
            _shut_down(begun.socket)
            os.close(_wait_ended(directory))
            raise EngineUnavailable(
                f"{begun.binary} started empty although {directory.path} holds data, so it was stopped. Name the "
                "server that wrote the data in ARBITER_REDIS_SERVER; if the board was emptied on purpose, remove that "
                "directory."
            )
        if begun.held_data:
            # Where a server was killed while it wrote the end of its log, the next one leaves out the script that is there in
            # half, and the half in the log: the one after that would do it. A log that is written anew has no such half.
            with contextlib.suppress(redis.ResponseError):  # whoever began this start and died has asked for it already
                client.bgrewriteaof()  # pyright: ignore[reportUnknownMemberType]
        _log_writes(client, sync)  # nobody attaches before this
        client.set(_MARK, str(begun.binary))
    finally:
        client.close()
    directory.write(Record(server=begun, sync=sync))
    return Local(begun.socket, begun.binary, directory.path, sync)


def _reach_or_end(directory: DataDir) -> Local | int:
    """A server process lives but could not be attached to: finish its start, wait for it, or end one that lost its
    socket.

    Returns:
        The server when it answers after all, or the descriptor that holds ``alive.lock`` when it has ended.
    """
    record = directory.read()
    begun = record.starting or record.server
    if begun is None:
        raise EngineUnavailable(f"A server that is not known has {directory.path} open. {_end_it(directory)}")
    deadline = time.monotonic() + STOP_SECONDS
    while (held := directory.hold_alive()) is None and time.monotonic() < deadline:
        if _answers(begun.socket):
            if record.starting is not None:
                return _finish(directory, begun)
            return Local(begun.socket, begun.binary, directory.path, record.sync)
        if record.starting is None and not os.path.exists(begun.socket):
            if not _is_server_of(directory.pid(), begun.socket):
                raise EngineUnavailable(
                    f"The data in {directory.path} is in use by a server that cannot be reached from here: its socket "
                    f"{begun.socket} is not visible (removed, or another container's). {_end_it(directory)}"
                )
            os.kill(directory.pid(), signal.SIGTERM)
            return _wait_ended(directory)
        time.sleep(POLL_SECONDS)
    if held is None:
        raise EngineUnavailable(f"The server of {directory.path} runs but does not answer. {_end_it(directory)}")
    return held


def _wait_ended(directory: DataDir) -> int:
    """The descriptor that holds ``alive.lock``, as soon as the server process is gone."""
    deadline = time.monotonic() + STOP_SECONDS
    while (held := directory.hold_alive()) is None:
        if time.monotonic() > deadline:
            raise EngineUnavailable(
                f"The server of {directory.path} did not end within {STOP_SECONDS:g} s. {_end_it(directory)}"
            )
        time.sleep(POLL_SECONDS)
    return held


def _shut_down(socket: str) -> None:
    client = _client(socket)
    try:
        client.execute_command("SHUTDOWN")  # pyright: ignore[reportUnknownMemberType]
    except redis.ConnectionError:
        pass  # the reply to a SHUTDOWN that is carried out is a closed connection
    finally:
        client.close()


def _client(socket: str) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=socket,
        decode_responses=True,
        protocol=2,
        socket_timeout=5,
        socket_connect_timeout=5,
        driver_info=DRIVER,
        retry=redis.retry.Retry(NoBackoff(), 0),
    )


def _answers(socket: str) -> bool | None:
    """True when the server answers, None while it is loading its data, False otherwise."""
    client = _client(socket)
    try:
        return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
    except BusyLoadingError:
        return None
    except redis.ResponseError:  # of a disk that is full
        return True
    except redis.RedisError:
        return False
    finally:
        client.close()


def _is_server_of(pid: int, socket: str) -> bool:
    """Whether that process is the server of this socket: redis-server shows its socket in its process title."""
    try:
        return pid > 0 and socket.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _end_it(directory: DataDir) -> str:
    pid = directory.pid()
    return f"End it by hand: kill {pid}" if pid else "End it by hand."


def _not_up(directory: DataDir, begun: Started) -> EngineUnavailable:
    return EngineUnavailable(f"{begun.binary} at {begun.path} did not come up. {directory.last_words()}")
