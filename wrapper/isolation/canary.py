"""The proof by deed: a job that attempts what no generated code may do, and what the host sees of it.

The code below runs like any other, in a child of the backend under test. What it could not keep itself from doing is
seen from two sides: it names what seemed to work, and the host looks at its own bait. Nothing it says can hide a
connection that arrived or a process that died.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, cast

from pydantic import JsonValue

from blackboard.types import Status
from wrapper.isolation.job import Isolation, Job, JobLimits, Outcome
from wrapper.isolation.threads import in_thread

_MEMORY_BYTES = 128 << 20
_ACTS = 40
"""More than there are."""
_SOURCE = """
import ctypes, os, resource, signal, socket, sys, threading

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER_AND_MOUNTS, NEW_USER = 0x10020000, 0x10000000
IO_URING_SETUP = 425


def content(path):
    with open(path, "rb") as file:
        return file.read()


def send(kind, type, address):
    with socket.socket(kind, type) as end:
        end.settimeout(1)
        end.connect(address)
        end.send(b"out")
        return True


def system_call(*args):
    if not sys.platform.startswith("linux"):
        return False  # where the number means something else, or ends the process
    result = LIBC.syscall(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


def forked():
    if os.fork() == 0:
        os._exit(0)
    return True


def written(path):
    with open(path, "ab"):
        return True


def raised():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    return True


def unshared(flags):
    if LIBC.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "refused")
    return True


def further():
    found = []
    for number in range(4, 512):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    return found


def killed(pid, host):
    if pid > 0:
        os.kill(pid, 0)
        if pid != host:
            os.kill(pid, signal.SIGKILL)
        return True


def handler(secret, mark, host, pid, tcp, udp, path, abstract, outside, memory, word):
    parent = os.getppid()
    acts = {
        "read a file beside the box": lambda: mark.encode() in content(secret),
        "read a file through /proc/1/root": lambda: mark.encode() in content("/proc/1/root" + secret),
        "read a file through another process": lambda: mark.encode() in content(f"/proc/{pid}/root" + secret),
        "read /etc/passwd": lambda: content("/etc/passwd"),
        "read the environment of another process": lambda: content(f"/proc/{pid}/environ"),
        "read the memory of its parent": lambda: parent and open(f"/proc/{parent}/mem", "rb"),
        "see another process": lambda: os.listdir(f"/proc/{pid}/task"),
        "connect by TCP": lambda: send(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", tcp)),
        "send by UDP": lambda: send(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", udp)),
        "connect to a socket file": lambda: send(socket.AF_UNIX, socket.SOCK_STREAM, path),
        "connect to an abstract socket": lambda: send(socket.AF_UNIX, socket.SOCK_STREAM, abstract),
        "write outside": lambda: written(outside),
        "change a library": lambda: written(os.__file__),
        "make namespaces": lambda: unshared(NEW_USER_AND_MOUNTS),
        "make a user namespace": lambda: unshared(NEW_USER),
        "fork": forked,
        "use io_uring": lambda: system_call(IO_URING_SETUP, 1, ctypes.create_string_buffer(256)),
        "keep memory in a nameless file": lambda: os.memfd_create("memory"),
        "signal its parent": lambda: killed(parent, host),
        "signal another process": lambda: killed(pid, host),
        "change a kernel setting": lambda: open("/proc/sys/kernel/hostname", "r+"),
        "raise a limit": raised,
        "become root": lambda: os.getuid() != 0 and (os.setuid(0) or True),
        "exceed its memory": lambda: bytearray(2 * memory),
        "hold descriptors above 3": further,
    }
    done = []
    for name, act in acts.items():
        try:
            if act():
                done.append(name)
        except (OSError, ValueError, MemoryError, AttributeError):
            pass  # refused, or not known to this system
    heard = []
    thread = threading.Thread(target=heard.append, args=(word,))
    thread.start()
    thread.join()
    said = {"done": done, "word": heard[0]}
    print(*done, sep="\\n", flush=True)  # the next act may be the last
    try:
        os.execv("/proc/self/exe", ["python", "-c", "pass"])
    except OSError:
        return said
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the canary found.

    Args:
        done: forbidden acts that worked, in words; empty when the backend holds.
        reason: why the canary could not be run or did not answer; None when it did.
        seconds: how long it took.
    """

    done: tuple[str, ...] = ()
    reason: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Every forbidden act failed and the allowed one worked."""
        return not self.done and self.reason is None

    def __str__(self) -> str:
        could = ["code in it could " + ", ".join(self.done)] if self.done else []
        return "passed" if self.passed else "; ".join([*could, *([self.reason] if self.reason else [])])


class _Bait:
    """What the canary is to reach for; made for one proof."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="arbiter-canary-")
        os.chmod(self.directory, 0o755)
        self.mark = secrets.token_hex(8)
        self.secret = os.path.join(self.directory, "secret")
        with open(self.secret, "w") as file:
            file.write(self.mark)
        os.chmod(self.secret, 0o644)
        self.open = os.path.join(self.directory, "open")
        os.mkdir(self.open)
        os.chmod(self.open, 0o777)
        self.outside = os.path.join(self.open, "written")
        self.path = os.path.join(self.open, "socket")
        self.abstract = f"\0arbiter-canary-{self.mark}"
        self.listeners: dict[str, socket.socket] = {}
        self._listen("connect by TCP", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self._listen("send by UDP", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._listen("connect to a socket file", socket.AF_UNIX, socket.SOCK_STREAM, self.path)
        self._listen("connect to an abstract socket", socket.AF_UNIX, socket.SOCK_STREAM, self.abstract)
        if os.path.exists(self.path):
            os.chmod(self.path, 0o777)
        self.process = subprocess.Popen(
            [*_waiting_program()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"CANARY": self.mark},
        )

    def _listen(self, name: str, family: int, kind: int, address: str | tuple[str, int]) -> None:
        end = socket.socket(family, kind)
        end.setblocking(False)
        try:
            end.bind(address)
            if kind == socket.SOCK_STREAM:
                end.listen()
        except OSError:  # there is nothing of this kind to reach here
            end.close()
            return
        self.listeners[name] = end

    def _port(self, name: str) -> int:
        end = self.listeners.get(name)
        return 9 if end is None else cast("tuple[str, int]", end.getsockname())[1]

    def input(self) -> dict[str, JsonValue]:
        return {
            "secret": self.secret, "mark": self.mark, "host": os.getpid(), "pid": self.process.pid,
            "tcp": self._port("connect by TCP"),
            "udp": self._port("send by UDP"), "path": self.path, "abstract": self.abstract, "outside": self.outside,
            "memory": _MEMORY_BYTES, "word": self.mark,
        }  # fmt: skip

    def taken(self) -> list[str]:
        """What was seen to be reached, whatever the code says."""
        found: list[str] = []
        for name, end in self.listeners.items():
            try:
                if end.type == socket.SOCK_DGRAM:
                    end.recv(16)
                else:
                    end.accept()[0].close()
            except OSError:
                continue
            found.append(name)
        if os.path.exists(self.outside):
            found.append("write outside")
        if self.process.poll() is not None:
            found.append("signal another process")
        return found

    def remove(self) -> None:
        for end in self.listeners.values():
            end.close()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _waiting_program() -> tuple[str, ...]:
    """A process that waits for its input to end."""
    cat = shutil.which("cat", path="/usr/bin:/bin")
    return (cat,) if cat else (sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()")


def _told(outcome: Outcome) -> str:
    return outcome.error.message if outcome.error is not None else "nothing was said"


async def prove(isolation: Isolation) -> Proof:
    """Run the canary in an isolation that was started.

    Raises:
        IsolationUnavailable: it had no child to give.
    """
    began = time.monotonic()
    bait = await in_thread(_Bait)
    try:
        limits = JobLimits(wall_seconds=20.0, cpu_seconds=10.0, memory_bytes=_MEMORY_BYTES)
        outcome = await isolation.run(Job.of(_SOURCE, name="canary", input=bait.input(), limits=limits))
        done = await in_thread(bait.taken)
    finally:
        await asyncio.shield(in_thread(bait.remove))
    seconds = time.monotonic() - began
    if outcome.status is not Status.SUCCEEDED:
        # Its own word for what it could do counts against it, and only so.
        done = list(dict.fromkeys([*outcome.stdout.splitlines()[:_ACTS], *done]))
        return Proof(tuple(done), f"the canary ended as {outcome.status}: {_told(outcome)}", seconds)
    said = cast("dict[str, Any]", outcome.value)
    if said.get("word") != bait.mark:
        return Proof(tuple(done), "an ordinary function did not return what it was given", seconds)
    return Proof(tuple(dict.fromkeys([*said["done"], *done])), None, seconds)
