"""What stands outside a child and sees whether it got out: planted secrets, listeners, victims, and counts of what lives.

Everything an attack could reach is made here and belongs to the test: a folder with a home, credentials and a Redis data
folder; an environment and a memory with secrets; listeners on every kind of address; a process to spy on or to signal.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import math
import os
import secrets
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

import wrapper
from wrapper.isolation import Outcome

SIGNAL = signal.SIGURG
"""What attacks send to processes that are not theirs: ignored by whatever else runs on this machine."""
MIB = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "env_key_id",
    "AWS_SECRET_ACCESS_KEY": "env_aws",
    "ANTHROPIC_API_KEY": "env_anthropic",
    "ARBITER_REDIS_URL": "env_redis",
}
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


_FOLDERS = [
    sysconfig.get_paths()["purelib"],
    os.path.dirname(cast(str, asyncio.__file__)),
    os.path.dirname(cast(str, wrapper.__file__)),
    *(each for each in sys.path if "site-packages" in each),
]
"""Where the interpreter finds code."""


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


class World:
    """The outside of one isolation. Make it before the isolation starts: the environment is part of it.

    Kept between attacks: what one of them changed is the state the next one starts from.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="arbiter-escape-"))
        os.chmod(self.root, 0o755)
        self.secrets: dict[str, str] = {}
        for name, path, mode in (
            ("file", "private.txt", 0o644),
            ("aws_file", "home/.aws/credentials", 0o644),
            ("netrc", "home/.netrc", 0o644),
            ("config", "home/.config/gh/hosts.yml", 0o644),
            ("dotenv", "app/.env", 0o644),
            ("redis_data", "redis/appendonly.aof", 0o666),
            ("notes", "work/notes.txt", 0o666),
            ("kept", "work/kept.tmp", 0o644),
            ("leaked", "leaked.txt", 0o600),
        ):
            self._plant(name, path, mode)
        for folder in ("work", "redis"):
            os.chmod(self.root / folder, 0o777)
        os.mkdir(self.root / "work" / "empty")
        os.chmod(self.root / "work" / "empty", 0o777)
        self._environment = {name: os.environ.get(name) for name in (*_ENVIRONMENT, "HOME", "SSH_AUTH_SOCK")}
        for name, label in _ENVIRONMENT.items():
            os.environ[name] = self.secrets[label] = secret(label)
        os.environ["HOME"] = str(self.root / "home")
        self.secrets["memory"] = secret("memory")
        self.listeners = Listeners(self.root)
        os.environ["SSH_AUTH_SOCK"] = self.listeners.path
        self.leaked_file = os.open(self.root / "leaked.txt", os.O_RDONLY)
        self.victims: list[Victim] = []
        self.zygote: int | None = None
        self.zygote_must_live = True
        self.sibling_pids: list[int] = []
        self._facts: dict[str, JsonValue] = {}
        self._signals: list[int] = []
        self._handler = signal.signal(SIGNAL, lambda number, frame: self._signals.append(number))
        self._plant_key()
        self._outside_facts()
        self.tree: dict[str, tuple[object, ...]] = {}
        self.modified: dict[str, int] = {}
        self.bystanders: frozenset[int] = frozenset()
        """Processes that were there before an attack and do not come from the zygote."""
        folders = [
            "/tmp",
            "/var/tmp",
            "/dev/shm",
            "/dev",
            "/dev/mqueue",
            "/run",
            os.getcwd(),
            str(self.root),
            *_FOLDERS,
        ]
        self.watched = [*folders, *(os.path.join(each, "__pycache__") for each in folders)]
        self.add_victim(None)

    # ---- planting -------------------------------------------------------------------------------------------------

    def _plant(self, name: str, path: str, mode: int) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        self.secrets[name] = secret(name)
        place.write_text(f"[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {self.secrets[name]}\n")
        os.chmod(place, mode)

    def _plant_key(self) -> None:
        """A key in the session's keyring, which children inherit."""
        self.keyed = False
        if os.uname().machine != "x86_64":
            return
        if _libc.syscall(250, 1, 0, 0, 0, 0) < 0:  # KEYCTL_JOIN_SESSION_KEYRING
            return
        self.secrets["key"] = secret("key")
        value = self.secrets["key"].encode()
        self.keyed = _libc.syscall(248, b"user", b"arbiter-escape", value, len(value), -3) > 0

    def _outside_facts(self) -> None:
        """What only someone outside the box can know."""
        for interface in sorted(os.listdir("/sys/class/net")):
            address = Path(f"/sys/class/net/{interface}/address").read_text().strip()
            if interface != "lo" and address.replace(":", "").strip("0"):
                self.secrets[f"address_of_{interface}"] = address
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.77", 9))
                if not (ip := probe.getsockname()[0]).startswith("127."):
                    self.secrets["ip"] = ip
            except OSError:
                pass
        self.disk = os.stat(self.root).st_dev
        self.device = self._device()

    def _device(self) -> str | None:
        try:
            name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(self.disk)}:{os.minor(self.disk)}"))
        except OSError:
            return None
        return f"/dev/{name}" if os.path.exists(f"/dev/{name}") else None

    def add_victim(self, ids: tuple[int, int] | None) -> None:
        """One more process to attack, of a user and group."""
        victim = Victim.start(self.root, ids)
        if victim is None:
            return
        self.victims.append(victim)
        for name in ("memory", "descriptor", "cmdline", "environ"):
            self.secrets[f"victim_{name}_{len(self.victims)}"] = getattr(victim, name)

    # ---- one attack -----------------------------------------------------------------------------------------------

    def facts(self, token: str) -> dict[str, JsonValue]:
        """All an attacker could wish to know, without the secrets."""
        return {
            "token": token,
            "root": str(self.root),
            "private": str(self.root / "private.txt"),
            "aws": str(self.root / "home" / ".aws" / "credentials"),
            "files": [
                str(self.root / each)
                for each in (
                    "private.txt",
                    "home/.aws/credentials",
                    "home/.netrc",
                    "home/.config/gh/hosts.yml",
                    "app/.env",
                    "redis/appendonly.aof",
                    "work/notes.txt",
                )
            ],
            "home": str(self.root / "home"),
            "work": str(self.root / "work"),
            "empty": str(self.root / "work" / "empty"),
            "notes": str(self.root / "work" / "notes.txt"),
            "aof": str(self.root / "redis" / "appendonly.aof"),
            "device": self.device or "",
            "device_number": self.disk,
            "host": os.getpid(),
            "zygote": self.zygote or 0,
            "pids": cast(
                JsonValue,
                [os.getpid(), *([self.zygote] if self.zygote else []), *(each.process.pid for each in self.victims)],
            ),
            "siblings": cast(JsonValue, self.sibling_pids),
            "victims": [
                {"pid": each.process.pid, "address": each.address, "length": len(each.memory), "fd": each.fd}
                for each in self.victims
            ],
            "signal": int(SIGNAL),
            "folders": cast(JsonValue, _FOLDERS),
            **self.listeners.facts,
        }

    def begin(self) -> None:
        """Forget what happened before, and remember how things are."""
        self.listeners.take()
        self._signals.clear()
        self.tree = self.tree or self._tree()
        self.modified = {place: _modified(place) for place in self.watched}
        self.bystanders = frozenset(map(int, filter(str.isdigit, os.listdir("/proc")))) - {
            *descendants(self.zygote or 0), self.zygote or 0
        }  # fmt: skip
        for index, victim in enumerate(self.victims):
            for _ in victim.hurt():
                pass  # the doing of attacks in other worlds, where they reach every process
            if victim.process.poll() is not None:
                victim.close()
                fresh = Victim.start(self.root, victim.ids)
                assert fresh is not None
                self.victims[index] = fresh
                for name in ("memory", "descriptor", "cmdline", "environ"):
                    self.secrets[f"victim_{name}_{index + 1}"] = getattr(fresh, name)

    def _tree(self) -> dict[str, tuple[object, ...]]:
        seen: dict[str, tuple[object, ...]] = {}
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files, "."):
                path = os.path.join(folder, name)
                found = os.lstat(path)
                content = ""
                if stat.S_ISREG(found.st_mode):
                    content = Path(path).read_text("latin-1")
                seen[path] = (
                    found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, found.st_dev, content,
                    *(sorted(os.listxattr(path, follow_symlinks=False)) if not stat.S_ISLNK(found.st_mode) else ()),
                )  # fmt: skip
        return seen

    def findings(self, token: str, outcome: Outcome | None) -> Iterator[str]:
        """Everything that shows an escape, whatever the attack was."""
        if outcome is not None:
            yield from self._came_out(outcome)
        yield from self.listeners.take()
        now = self._tree()
        for path in sorted({*now, *self.tree}):
            if now.get(path) != self.tree.get(path):
                yield f"{path} is not as it was"
        self.tree = now
        yield from self._left_behind(token)
        for victim in self.victims:
            yield from victim.hurt()
        if self._signals:
            yield "a signal arrived at the host"
        if os.getpriority(os.PRIO_PROCESS, 0) != 0 and os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
            yield "the priority of the host was changed"
        if self.zygote is not None and self.zygote_must_live:
            state = _state(self.zygote)
            if state in "ZX":
                yield "the zygote was killed"
            elif state in "Tt":
                os.kill(self.zygote, signal.SIGCONT)
                yield "the zygote was stopped"

    def _came_out(self, outcome: Outcome) -> Iterator[str]:
        try:
            value = json.dumps(outcome.value, allow_nan=False, ensure_ascii=False)
            value.encode()
        except (ValueError, TypeError, RecursionError) as error:
            yield f"the result is not strict JSON: {error}"
            value = repr(outcome.value)[:MIB]
        words = value + outcome.stdout + outcome.stderr + repr(outcome.error)
        yield from self.leaks(words)

    def leaks(self, words: str) -> Iterator[str]:
        """Secrets in a text that came out of a child."""
        for name, value in self.secrets.items():
            if value in words:
                yield f"the secret {name!r} came out"

    def _left_behind(self, token: str) -> Iterator[str]:
        for place in self.watched:
            if _modified(place) == self.modified[place]:
                continue
            try:
                names = os.listdir(place)
            except PermissionError:  # it may be written to, but not listed
                names = [name for name in (token, f"{token}0") if os.path.lexists(os.path.join(place, name))]
            for name in names:
                if token in name:
                    yield f"{place} holds {name}"
                    _remove(os.path.join(place, name))
        with open("/proc/net/unix") as file:
            if token in file.read():
                yield "a socket of the code is in the abstract namespace of the host"
        key = int(token[3:11], 16) & 0x7FFFFFFF
        for name, found in (
            ("memory", _libc.shmget(key, 0, 0)),
            ("semaphores", _libc.semget(key, 0, 0)),
            ("message queue", _libc.msgget(key, 0)),
        ):
            if found >= 0:
                yield f"System V {name} of the code remained"
                {"memory": _libc.shmctl, "message queue": _libc.msgctl}.get(
                    name, lambda number, *_: _libc.semctl(number, 0, 0)
                )(found, 0, None)
        with open("/proc/self/mountinfo") as file:
            mounted = [line.split()[4] for line in file if str(self.root) in line or token in line]
        for path in mounted:
            yield f"{path} was mounted over"
            _libc.umount2(path.encode(), 2)

    async def survivors(self, token: str, seconds: float = 1.0) -> list[str]:
        """Processes of an attack that are alive after it ended."""
        deadline = time.monotonic() + seconds
        while True:
            alive = processes(token, self.bystanders)
            if not alive:
                return []
            if time.monotonic() > deadline:
                for pid in alive:
                    os.kill(pid, signal.SIGKILL)
                return [f"{len(alive)} process(es) of it survived the run"]
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Take everything away again."""
        for victim in self.victims:
            victim.close()
        self.listeners.close()
        os.close(self.leaked_file)
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        signal.signal(SIGNAL, self._handler)
        shutil.rmtree(self.root, ignore_errors=True)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _modified(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return 0


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
        if mine and _state(int(name)) not in "ZX":
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


def interpreter_for_all() -> str | None:
    """A Python that any user can start, which one under somebody's home is not."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        folders = [os.path.dirname(path)]
        while folders[-1] != "/":
            folders.append(os.path.dirname(folders[-1]))
        if os.path.exists(path) and all(os.stat(each).st_mode & stat.S_IXOTH for each in folders):
            return path
    return None


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


Facts = Mapping[str, Any]
