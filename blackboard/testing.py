"""Throw-away Redis servers for tests: real ones that can be killed and brought back.

    with RedisServer() as server:
        board = await Board.open(server.url)
        server.kill9()      # the process dies without warning
        server.restart()    # same data, same URL

It keeps an append-only file in a directory of its own and removes the directory when the block ends.
Several of them on loopback ports are in ``testing_several``. Nothing here is used in production; the supervised server of a
data directory is in ``_local``.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from blackboard._binary import CARRIERS, carried
from blackboard._sending import DRIVER
from blackboard.errors import EngineUnavailable

KEEPING = ("--appendfsync", "always")
"""Options of a server that loses nothing when its process is killed. With ``everysec``, the default, it may answer up to 2 s
before it writes its log, while the disk is busy with what it wrote before."""


class Started:
    """Something that runs while its ``with`` block does."""

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RedisServer(Started):
    """A real Redis server in a temporary directory, as a context manager.

    Args:
        binary: path of the server program. Default: ``ARBITER_REDIS_SERVER``, then ``redis-server`` or
            ``valkey-server`` on ``PATH``, then one that an installed package carries.
        tcp: listen on a free loopback port instead of a unix socket.
        options: further server options in command-line form, such as ``("--requirepass", "secret")``.
        password: given to the server as ``requirepass`` and put into :attr:`url`.
        ready_seconds: how long to wait for the server's first answer.

    Raises:
        EngineUnavailable: no server program was found, or it did not come up; the message carries its log.
    """

    def __init__(
        self,
        binary: str | Path | None = None,
        *,
        tcp: bool = False,
        options: tuple[str, ...] = (),
        password: str | None = None,
        ready_seconds: float = 10.0,
    ) -> None:
        self.binary = str(binary) if binary is not None else _binary()
        self.directory = Path(tempfile.mkdtemp(prefix="arb-t-"))
        """Where the append-only file, the log and the socket live. Its path is short: a socket's path must be."""
        self.socket = self.directory / "s"
        self.port = _free_port() if tcp else 0
        self.password = password
        self._options = options if password is None else (*options, "--requirepass", password)
        self._ready_seconds = ready_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL to open a board with. The same before and after a restart."""
        secret = f":{quote(self.password, safe='')}@" if self.password is not None else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0" if self.port else f"unix://{secret}{self.socket}"

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            RuntimeError: the server is not running.
        """
        if self._process is None:
            raise RuntimeError("The server is not running.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server was started and not ended since."""
        return self._process is not None

    def client(self) -> redis.Redis:
        """A synchronous client that retries nothing and decodes replies. The caller closes it."""
        return redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            self.url,
            decode_responses=True,
            protocol=2,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            driver_info=DRIVER,
        )

    def start(self) -> None:
        """Start the server and wait for its first answer. Does nothing when it runs already."""
        if self._process is not None:
            return
        again = (self.directory / "log").exists()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._ready_seconds
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "log").read_text("utf-8", "replace")[-800:]
                self.kill9()
                raise EngineUnavailable(f"{self.binary} did not come up. Its log ends:\n{said}")
            time.sleep(0.005)
        if again:  # a script that is there in half must not be done by the server after this one
            with (
                contextlib.closing(self.client()) as client,
                contextlib.suppress(redis.ResponseError),
            ):  # it keeps no log
                client.bgrewriteaof()  # pyright: ignore[reportUnknownMemberType]

    def _command(self) -> list[str]:
        return [
            self.binary,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *(() if self.port else ("--unixsocket", str(self.socket), "--unixsocketperm", "700")),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *self._options,
        ]

    def kill9(self) -> None:
        """End the server with SIGKILL, as a crash would, and wait until the process is gone. Data on disk stays."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Bring the server back on the same URL with the data it had; kills it first when it still runs."""
        self.kill9()
        self.start()

    def stall(self) -> None:
        """Stop the server's process with SIGSTOP: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stalled server continue."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the server and remove its directory."""
        self.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
        except redis.RedisError:
            return False
        finally:
            client.close()


def _binary() -> str:
    """The first server program that is there."""
    named = os.environ.get("ARBITER_REDIS_SERVER")
    if named:
        return named
    for name in ("redis-server", "valkey-server"):
        for path in (shutil.which(name), shutil.which(name, path=str(Path(sys.prefix) / "bin"))):
            if path:
                return path
    for package, _ in CARRIERS:
        if path := carried(package):
            return path
    raise EngineUnavailable("No redis-server was found for the tests. Install one: pip install 'arbiter[local]'")


def _free_port() -> int:
    """A port nobody listens on, nor on the second port of a cluster node, which is 10,000 higher.

    Both lie below the ports that systems give to outgoing connections, which come and go.
    """
    while True:
        port = random.randint(10_240, 22_000)
        with socket.socket() as one, socket.socket() as two, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            two.bind(("127.0.0.1", port + 10_000))
            return port
