"""What attacks would like to reach: secrets, a process to spy on or to signal, listeners on every kind of address."""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

SIGNAL = signal.SIGURG
"""What attacks send to processes that are not theirs: ignored by whatever else runs on this machine."""
_VICTIM = """
import ctypes, os, signal, sys
# Without privileges, so that nothing but what confines the attack keeps it away.
ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
got = []
for number in (signal.SIGURG, signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGIO):
    signal.signal(number, lambda number, frame: got.append(number))
hidden = ctypes.create_string_buffer(sys.stdin.readline().strip().encode(), 64)
fd = os.memfd_create("private")
os.write(fd, sys.stdin.readline().strip().encode())
print(ctypes.addressof(hidden), fd, flush=True)
while sys.stdin.readline():
    print(",".join(map(str, got)), hidden.value.decode("latin-1"), flush=True)
    got.clear()
"""


def secret(name: str) -> str:
    """Something that must not come out; the beginning says what it is to whoever looks for secrets."""
    return f"SECRET-{name}-{secrets.token_hex(12)}"


@dataclass(slots=True)
class Victim:
    """A process that does nothing but notice what is done to it."""

    process: subprocess.Popen[str]
    memory: str
    descriptor: str
    cmdline: str
    environ: str
    address: int
    fd: int
    ids: tuple[int, int] | None
    before: dict[str, object] = field(default_factory=dict[str, object])

    @classmethod
    def start(cls, root: Path, ids: tuple[int, int] | None) -> Victim | None:
        """Start one as a user and group; None keeps them. None where that user has no interpreter."""
        interpreter = os.path.realpath(sys.executable) if ids is None else interpreter_for_all()
        if interpreter is None:
            return None
        memory, descriptor, cmdline, environ = (
            secret(name) for name in ("victim_memory", "victim_descriptor", "victim_cmdline", "victim_environ")
        )
        process = subprocess.Popen(
            [interpreter, "-I", "-S", "-c", _VICTIM, cmdline],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={"VICTIM_SECRET": environ},
            user=ids and ids[0],
            group=ids and ids[1],
            extra_groups=[] if ids is not None else None,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{memory}\n{descriptor}\n")
        process.stdin.flush()
        address, fd = process.stdout.readline().split()
        victim = cls(process, memory, descriptor, cmdline, environ, int(address), int(fd), ids)
        victim.before = victim.condition()
        return victim

    def condition(self) -> dict[str, object]:
        """What others may change about a process."""
        pid = self.process.pid
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return {
            "tracer": status["TracerPid"].strip(),
            "affinity": status["Cpus_allowed"].strip(),
            "groups": status["Groups"].strip(),
            "nice": os.getpriority(os.PRIO_PROCESS, pid),
            "policy": os.sched_getscheduler(pid),
            "oom": Path(f"/proc/{pid}/oom_score_adj").read_text().strip(),
            "limits": Path(f"/proc/{pid}/limits").read_text(),
            "stopped": status["State"].strip()[0] in "Tt",
        }

    def hurt(self) -> Iterator[str]:
        """What was done to it since last time."""
        if self.process.poll() is not None:
            yield "a process of the host was ended"
            return
        condition, before = self.condition(), self.before
        self.before = condition | {"stopped": False}
        for name, value in condition.items():
            if value != before[name]:
                yield f"{name} of a process of the host was changed"
        if condition["stopped"]:
            os.kill(self.process.pid, signal.SIGCONT)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            ready, _, _ = select.select([self.process.stdout], [], [], 5)
            got, _, memory = self.process.stdout.readline().rstrip("\n").partition(" ") if ready else ("", "", "")
        except OSError:
            got, memory = "", ""
        if got:
            yield f"signals {got} arrived at a process of the host"
        if memory != self.memory:
            yield "the memory of a process of the host was written to"

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:
                pass


class Listeners:
    """Addresses of every kind, and who came."""

    def __init__(self, root: Path) -> None:
        self.heard: list[str] = []
        self.said: list[bytes] = []
        self._stop, self._wake = os.pipe()
        self._sockets: dict[int, tuple[str, socket.socket]] = {}
        self._lock = threading.Lock()
        self._quiet = threading.Event()
        self.facts: dict[str, JsonValue] = {}
        self.path, self.dgram = str(root / "redis" / "redis.sock"), str(root / "redis" / "log.sock")
        self.abstract = f"arbiter-escape-{secrets.token_hex(6)}"
        self._add("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self._add("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._add("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
        self._add("udp6", socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0))
        self._add("path", socket.AF_UNIX, socket.SOCK_STREAM, self.path)
        self._add("dgram", socket.AF_UNIX, socket.SOCK_DGRAM, self.dgram)
        self._add("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self.abstract}")
        for path in (self.path, self.dgram):
            os.chmod(path, 0o777)
        self.leaked, self._leaked_end = socket.socketpair()
        self._sockets[self._leaked_end.fileno()] = ("inherited", self._leaked_end)
        self.facts |= {"path": self.path, "dgram": self.dgram, "abstract": self.abstract}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _add(self, name: str, family: int, kind: int, address: object) -> None:
        end = socket.socket(family, kind)
        try:
            end.bind(address)  # type: ignore[arg-type]
        except OSError:
            end.close()  # no IPv6 here
            self.facts[name] = 0
            return
        if kind == socket.SOCK_STREAM:
            end.listen(50)
        self._sockets[end.fileno()] = (name, end)
        if family in (socket.AF_INET, socket.AF_INET6):
            self.facts[name] = end.getsockname()[1]

    def _listen(self) -> None:
        guests: dict[int, socket.socket] = {}
        while True:
            ready, _, _ = select.select([self._stop, *self._sockets, *guests], [], [])
            if ready == [self._stop]:
                if os.read(self._stop, 1) == b"x":
                    break
                self._quiet.set()
                continue
            for fd in ready:
                if fd == self._stop:
                    continue
                if fd in guests:
                    self._hear(guests, fd)
                    continue
                name, end = self._sockets[fd]
                data = b""
                if end.type == socket.SOCK_STREAM and name != "inherited":
                    guest, _ = end.accept()
                    guests[guest.fileno()] = guest
                else:
                    data = end.recv(65536)
                with self._lock:
                    self.heard.append(name)
                    self.said.append(data)
        for guest in guests.values():
            guest.close()

    def _hear(self, guests: dict[int, socket.socket], fd: int) -> None:
        try:
            data = guests[fd].recv(65536)
        except OSError:
            data = b""
        if data:
            with self._lock:
                self.said.append(data)
        else:
            guests.pop(fd).close()

    def take(self) -> list[str]:
        """Who came since last time."""
        self._quiet.clear()
        os.write(self._wake, b"?")  # answered when everything that had arrived was heard
        self._quiet.wait(5)
        with self._lock:
            heard, self.heard = self.heard, []
            said, self.said = self.said, []
        return [f"a listener of the host was reached by {name}" for name in sorted(set(heard))] + [
            "data was sent to a listener of the host" for data in said[:1] if data and not heard
        ]

    def close(self) -> None:
        """Stop listening."""
        os.write(self._wake, b"x")
        self._thread.join()
        for _, end in self._sockets.values():
            end.close()
        self.leaked.close()
        os.close(self._stop)
        os.close(self._wake)


def interpreter_for_all() -> str | None:
    """A Python that any user can start, which one under somebody's home is not."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        folders = [os.path.dirname(path)]
        while folders[-1] != "/":
            folders.append(os.path.dirname(folders[-1]))
        if os.path.exists(path) and all(os.stat(each).st_mode & stat.S_IXOTH for each in folders):
            return path
    return None
