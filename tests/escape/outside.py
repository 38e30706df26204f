"""The world a child must not get out into, and who sees whether it did: what was planted, and what had become of it afterwards.

Everything an attack could reach is made here and belongs to the test: a folder with a home, credentials and a Redis data
folder; an environment and a memory with secrets; and what ``bait`` has. What lives meanwhile is counted in ``census``.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import stat
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from bait import SIGNAL, Listeners, Victim, secret
from census import MIB, descendants, processes, state
from pydantic import JsonValue

import wrapper
from wrapper.isolation import Outcome

_libc = ctypes.CDLL(None, use_errno=True)
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "env_key_id",
    "AWS_SECRET_ACCESS_KEY": "env_aws",
    "ANTHROPIC_API_KEY": "env_anthropic",
    "ARBITER_REDIS_URL": "env_redis",
}
_FOLDERS = [
    sysconfig.get_paths()["purelib"],
    os.path.dirname(cast(str, asyncio.__file__)),
    os.path.dirname(cast(str, wrapper.__file__)),
    *(each for each in sys.path if "site-packages" in each),
]
"""Where the interpreter finds code."""


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
            now = state(self.zygote)
            if now in "ZX":
                yield "the zygote was killed"
            elif now in "Tt":
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


def _modified(place: str) -> int:
    try:
        return os.stat(place).st_mtime_ns
    except OSError:
        return 0


Facts = Mapping[str, Any]
