"""Several throw-away servers for tests: a cluster, and a primary with replicas and Sentinels, on loopback ports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import redis
from redis.crc import key_slot

from blackboard.errors import EngineUnavailable
from blackboard.testing import RedisServer, Started

_SLOTS = 16384
_FAILOVER_MS = 2000
"""Of a step of a failover. Sentinels whose votes were split, or who knew no replica fit to follow, try again after twice that."""


class _Several(Started):
    """Servers that are started and stopped together."""

    nodes: list[RedisServer]

    def stop(self) -> None:
        """End every server and remove its directory."""
        for node in self.nodes:
            node.stop()


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
            f"sentinel failover-timeout {service} {_FAILOVER_MS}",
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
        """Whether each Sentinel knows the others and has heard from every replica that it follows: one it only heard of is not
        made primary."""
        expected = len(self.servers) - 1
        for sentinel in self.sentinels:
            client: Any = sentinel.client()
            try:
                facts: dict[str, Any] = client.sentinel_master(self.service)
                replicas: list[dict[str, Any]] = client.sentinel_slaves(self.service)
            finally:
                client.close()
            if facts["num-other-sentinels"] != len(self.sentinels) - 1:
                return False
            if sum(each["flags"] == "slave" and each["master-link-status"] == "ok" for each in replicas) != expected:
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


def _until(true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise EngineUnavailable(f"Waited {seconds:g} s in vain for {what}.")
        time.sleep(0.02)
