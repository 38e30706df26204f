"""Counts of what lives on this machine while attacks run, and what it takes."""

from __future__ import annotations

import math
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


def processes(token: str, others: frozenset[int]) -> list[int]:
    """Living processes, besides ``others``, that carry a token as their name or among their arguments."""
    found: list[int] = []
    word = token.encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in others:
            continue
        try:
            with open(f"/proc/{name}/comm", "rb") as file:
                mine = file.read().strip() == word
            if not mine:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    mine = word in file.read()
        except OSError:
            continue
        if mine and state(int(name)) not in "ZX":
            found.append(int(name))
    return found


@dataclass
class Watch:
    """The most of everything that was seen while an attack ran; for those that mark themselves with their token."""

    token: str
    port: int
    """What an attack may listen on, or address the metadata service at; its own, because others look there too."""
    knocks: bool
    bystanders: frozenset[int]
    processes: int = 0
    programs: int = 0
    threads: int = 0
    descriptors: int = 0
    processor: float = 0.0
    """Seconds of processor time of one of them."""
    memory: int = 0
    """Bytes of the attack's own processes, shared pages included."""
    shared: int = 0
    """Bytes the machine's shared memory grew by."""
    disk: int = 0
    inodes: int = 0
    metadata_service: bool = False
    reached: bool = False
    sockets: bool = False
    namespaces: bool = False

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._start = _shared_bytes()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.015):
            self._look()

    def _look(self) -> None:
        pids = processes(self.token, self.bystanders)
        self.processes = max(self.processes, len(pids))
        word = self.token
        self.programs = max(self.programs, sum(word in _read(f"/proc/{pid}/cmdline") for pid in pids))
        memory = 0
        for pid in pids:
            try:
                status = dict(
                    line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
                )
                memory += sum(int(status[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))
                times = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[11:13]
                self.processor = max(self.processor, sum(map(int, times)) / os.sysconf("SC_CLK_TCK"))
                self.threads = max(self.threads, int(status["Threads"]))
                self.descriptors = max(self.descriptors, len(os.listdir(f"/proc/{pid}/fd")))
                disk, inodes = _scratch(pid)
                self.disk, self.inodes = max(self.disk, disk), max(self.inodes, inodes)
            except (OSError, KeyError, ValueError):
                pass
        self.memory = max(self.memory, memory)
        self.shared = max(self.shared, _shared_bytes() - self._start)
        if not self.metadata_service:
            self.metadata_service = any(
                f"FEA9FEA9:{self.port:04X}" in _read(f"/proc/net/{name}") for name in ("tcp", "udp")
            )
        self.sockets = self.sockets or self.token in _read("/proc/net/unix")
        if self.knocks and not self.reached:
            with socket.socket() as knock:
                knock.settimeout(0.05)
                self.reached = knock.connect_ex(("127.0.0.1", self.port)) == 0


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _shared_bytes() -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) * 1024
    return 0


def _scratch(pid: int) -> tuple[int, int]:
    """(bytes, inodes) of what a process keeps in its working folder, looked at from outside."""
    place = f"/proc/{pid}/cwd"
    if os.stat(place).st_dev == os.stat("/").st_dev and "arbiter-run-" not in os.readlink(place):
        return 0, 0  # it has no folder of its own
    if os.stat(place).st_dev != os.stat("/tmp").st_dev and _is_tmpfs(place):
        found = os.statvfs(place)
        return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree
    size = count = 0
    with os.scandir(place) as entries:
        for entry in entries:
            count += 1
            if count <= 200:
                size += entry.stat(follow_symlinks=False).st_blocks * 512
    return size, count


def _is_tmpfs(path: str) -> bool:
    found = os.statvfs(path)
    return 0 < found.f_blocks * found.f_frsize < 1 << 34 and math.isfinite(found.f_files)


def outer_ids(pid: int) -> tuple[int, int]:
    """Real user and group id of a process, as this machine sees them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    user, group = (int(line.split()[1]) for line in lines if line.startswith(("Uid:", "Gid:")))
    return user, group


def descendants(pid: int) -> list[int]:
    """Every process below one."""
    try:
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *descendants(child))]
