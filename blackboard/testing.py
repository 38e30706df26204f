"""Throw-away Redis servers for tests: real ones that can be killed and brought back.

    with RedisServer() as server:
        board = await Board.open(server.url)
        server.kill9()      # the process dies without warning
        server.restart()    # same data, same URL

It keeps an append-only file in a directory of its own and removes the directory when the block ends.
:class:`RedisCluster` and :class:`SentinelSet` are several of them on loopback ports. Nothing here is used in production;
the supervised server of a data directory is in ``_local``.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from blackboard._binary import CARRIERS, carried
from blackboard.errors import EngineUnavailable

_SLOTS = 16384
KEEPING = ("--appendfsync", "always")
"""Options of a server that loses nothing when its process is killed. With ``everysec``, the default, it may answer up to 2 s
before it writes its log, while the disk is busy with what it wrote before."""


class RedisServer:
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
            self.url, decode_responses=True, protocol=2, socket_timeout=5, retry=Retry(NoBackoff(), 0)
        )

    def start(self) -> None:
        """Start the server and wait for its first answer. Does nothing when it runs already."""
        if self._process is not None:
            return
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

    def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
        except redis.RedisError:
            return False
        finally:
            client.close()


class _Several:
    """Servers that are started and stopped together."""

    nodes: list[RedisServer]

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End every server and remove its directory."""
        for node in self.nodes:
            node.stop()

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


class RedisCluster(_Several):
    """A Redis Cluster on loopback, as a context manager. It is ready in 2 to 4 s.

    Args:
        masters: nodes with slots, at least 3 so that a majority can promote a replica.
        replicas: of each master.
        node_timeout_ms: silence after which a node counts as failed; a replica takes over about a second later.
        binary, options: as of :class:`RedisServer`.

    Attributes:
        nodes: the masters, then the replicas; ``nodes[i + masters]`` begins as a replica of ``nodes[i]``.
    """

    def __init__(
        self,
        masters: int = 3,
        replicas: int = 1,
        *,
        node_timeout_ms: int = 1000,
        binary: str | Path | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self._masters = masters
        settings = (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms)),
            *(
                "--cluster-replica-validity-factor",
                "0",
                "--repl-diskless-sync",
                "yes",
                "--repl-diskless-sync-delay",
                "0",
            ),
        )
        self.nodes = [
            RedisServer(binary, tcp=True, options=(*settings, *options)) for _ in range(masters * (1 + replicas))
        ]

    @property
    def url(self) -> str:
        """The URL to open a board with; it names the nodes the cluster began with as masters."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[: self._masters])

    def start(self) -> None:
        """Start every node and join them: the work of ``redis-cli --cluster create``, which is not everywhere."""
        for node in self.nodes:
            node.start()
        share = -(-_SLOTS // self._masters)
        for number, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < self._masters:
                self.ask(node, "CLUSTER", "ADDSLOTS", *range(number * share, min(_SLOTS, (number + 1) * share)))
            for other in self.nodes[:number]:
                self.ask(node, "CLUSTER", "MEET", "127.0.0.1", other.port)
        _until(lambda: all(len(self._view(node)) == len(self.nodes) for node in self.nodes), "the nodes to meet")
        names = [self._name(node) for node in self.nodes]
        for number, node in enumerate(self.nodes[self._masters :]):
            self.ask(node, "CLUSTER", "REPLICATE", names[number % self._masters])
        _until(self._whole, "the cluster to be whole")

    def owner(self, key: str) -> RedisServer:
        """The node that serves a key now, as a running node sees it."""
        return self.owner_of(key_slot(key.encode()))

    def owner_of(self, slot: int) -> RedisServer:
        """The node that serves a slot now."""
        asked = next(node for node in self.nodes if node.running)
        for first, last, (_, port, *_), *_ in self.ask(asked, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(f"nobody serves slot {slot}")

    def replicas_of(self, master: RedisServer) -> list[RedisServer]:
        """The running replicas of a node, as they see it."""
        found: list[RedisServer] = []
        for node in self.nodes:
            if node.running and node is not master:
                said: Any = self.ask(node, "INFO", "replication")
                if said["role"] == "slave" and said["master_port"] == master.port:
                    found.append(node)
        return found

    def move_slot(self, slot: int, target: RedisServer, *, between: Callable[[], None] = lambda: None) -> None:
        """Move a slot with its keys to another master while the cluster is used, as resharding does.

        ``between`` is called when the slot is on its way: half of its keys are here and half are there.
        """
        source = self.owner_of(slot)
        here, there = self._name(source), self._name(target)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", here)
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", there)
        half = self.ask(source, "CLUSTER", "COUNTKEYSINSLOT", slot) // 2
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, max(1, half)):
            self.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            if half:
                between()
                half = 0
        for node in (target, source, *(n for n in self.nodes if n.running and n not in (target, source))):
            with contextlib.suppress(redis.ResponseError):  # replicas learn it from their master
                self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", there)

    def ask(self, node: RedisServer, *command: str | int) -> Any:
        """One command to one node."""
        client: Any = node.client()
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def _name(self, node: RedisServer) -> str:
        return str(self.ask(node, "CLUSTER", "MYID"))

    def _view(self, node: RedisServer) -> list[str]:
        """The flags of every node as one of them sees it, without those it is still shaking hands with."""
        flags = [line.split(" ")[2] for line in str(self.ask(node, "CLUSTER", "NODES")).splitlines()]
        return [each for each in flags if "handshake" not in each]

    def _whole(self) -> bool:
        for node in self.nodes:
            if "cluster_state:ok" not in str(self.ask(node, "CLUSTER", "INFO")):
                return False
            if sum("master" in flags for flags in self._view(node)) != self._masters:
                return False
        return all(
            self.ask(node, "INFO", "replication")["master_link_status"] == "up" for node in self.nodes[self._masters :]
        )


class _SentinelServer(RedisServer):
    """One Sentinel process. It rewrites its configuration file, so it has one of its own."""

    def __init__(self, binary: str | Path | None, settings: Sequence[str]) -> None:
        super().__init__(binary, tcp=True)
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", *settings]
        (self.directory / "sentinel.conf").write_text("\n".join(lines) + "\n", "utf-8")

    def _command(self) -> list[str]:
        return [self.binary, str(self.directory / "sentinel.conf"), "--sentinel"]


class SentinelSet(_Several):
    """A master, its replicas and three Sentinels on loopback, as a context manager. It is ready in 2 to 4 s.

    Args:
        replicas: of the master.
        down_after_ms: silence after which a Sentinel takes a server for dead.
        service: the name the Sentinels know the servers under.
        binary, options: as of :class:`RedisServer`.

    Attributes:
        nodes: the servers, first the one that begins as master, then the Sentinels.
    """

    def __init__(
        self,
        replicas: int = 1,
        *,
        down_after_ms: int = 500,
        service: str = "main",
        binary: str | Path | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.service = service
        quick = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", *options)
        first = RedisServer(binary, tcp=True, options=quick)
        follow = (*quick, "--replicaof", "127.0.0.1", str(first.port))
        self.servers = [first, *(RedisServer(binary, tcp=True, options=follow) for _ in range(replicas))]
        settings = (
            f"sentinel monitor {service} 127.0.0.1 {first.port} 2",
            f"sentinel down-after-milliseconds {service} {down_after_ms}",
            f"sentinel failover-timeout {service} 4000",
        )
        self.sentinels: list[RedisServer] = [_SentinelServer(binary, settings) for _ in range(3)]
        self.nodes = [*self.servers, *self.sentinels]

    @property
    def url(self) -> str:
        """The URL to open a board with."""
        return (
            "redis+sentinel://" + ",".join(f"127.0.0.1:{node.port}" for node in self.sentinels) + f"/{self.service}/0"
        )

    def start(self) -> None:
        """Start everything and wait until the Sentinels know each other and the replicas."""
        for server in self.servers:
            server.start()
        _until(lambda: all(self._state(s)["master_link_status"] == "up" for s in self.servers[1:]), "the replicas")
        for sentinel in self.sentinels:
            sentinel.start()
        _until(self._known, "the Sentinels to meet")

    def master(self) -> RedisServer:
        """The server the Sentinels name as master now."""
        for sentinel in self.sentinels:
            if sentinel.running:
                _, port = self._ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
                return next(server for server in self.servers if server.port == int(port))
        raise LookupError("no Sentinel is running")

    def _known(self) -> bool:
        for sentinel in self.sentinels:
            client: Any = sentinel.client()
            try:
                facts: dict[str, Any] = client.sentinel_master(self.service)
            finally:
                client.close()
            if facts["num-other-sentinels"] != len(self.sentinels) - 1:
                return False
            if facts["num-slaves"] != len(self.servers) - 1:
                return False
        return True

    def _state(self, server: RedisServer) -> dict[str, Any]:
        return cast("dict[str, Any]", self._ask(server, "INFO", "replication"))

    def _ask(self, node: RedisServer, *command: str) -> Any:
        client: Any = node.client()
        try:
            return client.execute_command(*command)
        finally:
            client.close()


def _until(true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise EngineUnavailable(f"Waited {seconds:g} s in vain for {what}.")
        time.sleep(0.02)


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
