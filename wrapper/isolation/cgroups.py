"""Control groups, version 2, where this process may make them: what a run really uses of memory, threads and processor.

Limits of a process count what it could touch; a group counts what it does, scratch and captured output included, and killing
the group misses nothing. See the kernel's ``admin-guide/cgroup-v2``. Whether there can be any is found out by making one.

``<delegated>/arbiter-<pid>-<random>/run-<number>`` holds one child, which is put there before it is given code.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress

from wrapper.isolation import kernel

log = logging.getLogger("arbiter.isolation")

VARIABLE = "ARBITER_CGROUP"
"""Names an empty group of this user's to make groups in. Default: the group this process is in."""
CONTROLLERS = ("cpu", "memory", "pids")
THREADS = 512
PARKED_BYTES = 256 << 20
"""Memory of a child that was given no job yet."""
OWN_BYTES = 160 << 20
"""On top of the memory of a job: the scratch, twice what is kept of output at most, and what a fork copies."""
_PREFIX = "arbiter-"
_PERIOD_US = 100_000
_DYING_SECONDS = 0.005


class NoGroups(RuntimeError):
    """There can be no groups here; the message says why."""


class Group:
    """The group of one run."""

    def __init__(self, path: str) -> None:
        self.path = path

    def limit(self, memory_bytes: int) -> None:
        """Bound the memory of a run to that of its job. Raises OSError."""
        kernel.tell(f"{self.path}/memory.max", str(memory_bytes + OWN_BYTES))

    def starved(self) -> bool:
        """Whether the kernel killed something in it for memory."""
        try:
            with open(f"{self.path}/memory.events") as file:
                counts = dict(line.split() for line in file)
        except (OSError, ValueError):
            return False
        return counts.get("oom_kill", "0") != "0"

    def kill(self) -> None:
        """Kill whatever is in it. Before Linux 5.14 there is no such file, and the process itself is all that is killed."""
        with suppress(OSError):
            kernel.tell(f"{self.path}/cgroup.kill", "1")

    def remove(self, seconds: float = 5.0) -> None:
        """Give it back, once what was in it is dead; blocks while the kernel is still about that.

        Killing is a matter of a moment, dying takes longer where there was much: of hundreds of processes, or of one whose
        memory is being given back, some are left when the first is buried.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                _remove(self.path)
            except OSError as error:
                if error.errno == errno.EBUSY and time.monotonic() < deadline:
                    time.sleep(_DYING_SECONDS)
                    continue
                log.warning("the group %s is left: %s", self.path, error)
            return


class Groups:
    """The groups of the children of one zygote. Make it with :meth:`find`; its calls block for a moment each."""

    def __init__(self, path: str, controllers: tuple[str, ...]) -> None:
        self.path, self.controllers = path, controllers

    @classmethod
    def find(cls, within: str | None = None, controllers: tuple[str, ...] = CONTROLLERS) -> Groups:
        """Groups that were tried.

        Args:
            within: where to make them. Default: what ``ARBITER_CGROUP`` names, else the group of this process.
            controllers: what must be bounded.

        Raises:
            NoGroups: not here.
        """
        parent = within or os.environ.get(VARIABLE) or _own()
        path = f"{parent}/{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            _remove_abandoned(parent)
            _make(path)
        except OSError as error:
            raise NoGroups(f"no group can be made in {parent}: {error.strerror}") from error
        try:
            _enable(parent, path, controllers)
            found = cls(path, controllers)
            found.add(0, None).remove()
        except BaseException as error:
            with suppress(OSError):
                _remove(path)
            if isinstance(error, OSError):
                raise NoGroups(f"a group in {parent} cannot be bounded: {error.strerror}") from error
            raise
        return found

    def add(self, number: int, pid: int | None) -> Group:
        """A bounded group with one process in it.

        Raises:
            OSError: it could not be made; nothing of it is left.
        """
        group = Group(f"{self.path}/run-{number}")
        _make(group.path)
        try:
            if "memory" in self.controllers:
                kernel.tell(f"{group.path}/memory.max", str(PARKED_BYTES))
                with suppress(OSError):  # not there without swap
                    kernel.tell(f"{group.path}/memory.swap.max", "0")
            if "pids" in self.controllers:
                kernel.tell(f"{group.path}/pids.max", str(THREADS))
            if "cpu" in self.controllers:
                kernel.tell(f"{group.path}/cpu.max", f"{_PERIOD_US} {_PERIOD_US}")
            if pid is not None:
                kernel.tell(f"{group.path}/cgroup.procs", str(pid))
        except OSError:
            group.remove()
            raise
        return group

    def close(self) -> None:
        """Give everything back; what is still in it is killed."""
        with suppress(OSError):
            kernel.tell(f"{self.path}/cgroup.kill", "1")
        _remove_tree(self.path)


def _own() -> str:
    """The directory of the group this process is in.

    Raises:
        NoGroups: version 2 is not mounted.
    """
    with open("/proc/self/cgroup") as file:
        inner = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split(" ") for line in file if " - cgroup2 " in line]
    for fields in mounts:
        root, place = fields[3], fields[4]
        if inner is not None and (inner + "/").startswith(root.rstrip("/") + "/"):
            return (place + inner.removeprefix(root.rstrip("/"))).rstrip("/")
    raise NoGroups("control groups of version 2 are not mounted")


def _enable(parent: str, path: str, controllers: tuple[str, ...]) -> None:
    wanted = " ".join(f"+{each}" for each in controllers)
    if missing := _missing(path, controllers):
        if gone := _missing(parent, missing):
            why = "; version 1 holds them on this machine" if _of_version_1(gone) else ""
            raise NoGroups(f"{parent} has no controller for {', '.join(gone)}{why}")
        try:
            kernel.tell(f"{parent}/cgroup.subtree_control", wanted)
        except OSError as error:
            raise NoGroups(
                f"{parent} hands down no controllers ({error.strerror}); {VARIABLE} can name an empty group"
            ) from error
    if wanted:
        kernel.tell(f"{path}/cgroup.subtree_control", wanted)


def _of_version_1(controllers: Iterable[str]) -> bool:
    """Whether a hierarchy of version 1 has some controllers, which version 2 then cannot have."""
    with open("/proc/self/cgroup") as file:
        held = {each for line in file for each in line.split(":")[1].split(",")}
    return not held.isdisjoint(controllers)


def _missing(path: str, controllers: Iterable[str]) -> list[str]:
    with open(f"{path}/cgroup.controllers") as file:
        there = file.read().split()
    return [each for each in controllers if each not in there]


def _remove_abandoned(parent: str) -> None:
    """Give back what a process left that was killed outright. Its children died with it."""
    for entry in os.scandir(parent):
        pid = entry.name.removeprefix(_PREFIX).partition("-")[0]
        if entry.name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            _remove_tree(entry.path)


def _remove_tree(path: str) -> None:
    with suppress(OSError):
        for entry in list(os.scandir(path)):
            if entry.is_dir():
                Group(entry.path).remove()
        _remove(path)


def _make(path: str) -> None:
    os.mkdir(path)


def _remove(path: str) -> None:
    os.rmdir(path)
