"""What one attack is, and the table each family of them makes.

An attack is text: the body of ``def handler(w)``, run in an isolated child with :data:`PRELUDE` in front of it. ``w`` tells
it everything an attacker could wish to know (paths, ports, process ids) and no secret. Whether it got through is never
read from what it says about its failure: exceptions inside are fine, and effects seen from outside decide.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import JsonValue

from wrapper.isolation import Job, JobLimits, Outcome

if TYPE_CHECKING:
    from outside import World

Shown = Callable[["World", Outcome, str], Iterable[str]]
"""Further signs of success of one attack: ``shown(world, outcome, token)`` gives a sentence for each."""

PRELUDE = """
import ctypes, errno, json, os, signal, socket, struct, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)
_X86 = os.uname().machine == "x86_64"
NUMBERS = {
    "socket": 41 if _X86 else 198, "clone": 56 if _X86 else 220, "ptrace": 101 if _X86 else 117,
    "add_key": 248 if _X86 else 217, "keyctl": 250 if _X86 else 219, "setns": 308 if _X86 else 268,
    "process_vm_readv": 310 if _X86 else 270, "process_vm_writev": 311 if _X86 else 271,
    "bpf": 321 if _X86 else 280, "perf_event_open": 298 if _X86 else 241, "userfaultfd": 323 if _X86 else 282,
    "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "openat2": 437,
    "kcmp": 312 if _X86 else 272, "move_pages": 279 if _X86 else 239, "get_robust_list": 274 if _X86 else 100,
    "futex": 202 if _X86 else 98, "seccomp": 317 if _X86 else 277, "clock_settime": 227 if _X86 else 112,
    "process_madvise": 440, "pidfd_getfd": 438, "personality": 135 if _X86 else 92, "tgkill": 234 if _X86 else 131,
    "rt_sigqueueinfo": 129 if _X86 else 138, "fsopen": 430, "open_tree": 428, "mq_open": 240 if _X86 else 180,
}

def syscall(name, *arguments):
    ctypes.set_errno(0)
    libc.syscall.restype = ctypes.c_long
    made = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return libc.syscall(ctypes.c_long(NUMBERS[name]), *made)

def attempt(function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except BaseException as error:
        return None

def text(path):
    with open(path, "rb") as file:
        return file.read(1 << 20).decode("latin-1")

def mark(w):
    libc.prctl(15, w["token"].encode(), 0, 0, 0)
    attempt(lambda: open("/proc/self/comm", "w").write(w["token"]))

def raw(data, fd=3):
    while data:
        data = data[os.write(fd, data):]

def send(frame, fd=3):
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    raw(struct.pack(">I", len(data)) + data, fd)
"""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One thing hostile code may try.

    Args:
        name: unique over all families.
        family: the table it stands in.
        tries: what it does, in one sentence.
        shows: how getting through would be seen from outside.
        layers: what stops it; more than one means that each of them alone is enough (defence in depth). Those of the
            kernel have the names of :mod:`wrapper.isolation.lockdown`, and ``box``; others cannot be switched off.
        body: of ``def handler(w)``; or a whole module, when it defines ``handler`` itself.
        open_on: isolations on which it gets through, which is how its detector is proven where no layer can be
            switched off: ``process``, or ``naive``.
        wall, cpu, memory, file: limits of the run (s, s, bytes, bytes).
        grants: methods it may call; None leaves that to the broker.
        shown: its own signs of success, besides those looked for after every attack.
        needs: why it cannot be tried here, or None when it can.
        watched: count processes, threads and memory while it runs.
        probed: look for its traces in a later attempt of the same isolation.
        cancel_after: cancel the run after so many seconds.
        bare: without the prelude.
        alone: reaches every process of the machine where it gets through, so nothing else of the suite runs meanwhile.
        more: further facts it is told.
    """

    name: str
    family: str
    tries: str
    shows: str
    layers: tuple[str, ...]
    body: str
    open_on: tuple[str, ...] = ()
    wall: float = 3.0
    cpu: float = 10.0
    memory: int = 1 << 30
    file: int = 16 << 20
    result: int = 8 << 20
    log: int = 1 << 20
    grants: tuple[str, ...] | None = ()
    shown: Shown | None = None
    needs: Callable[[], str | None] | None = None
    watched: bool = False
    probed: bool = False
    cancel_after: float | None = None
    bare: bool = False
    alone: bool = False
    more: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])

    @property
    def source(self) -> str:
        """The module to run."""
        if self.bare:
            return self.body
        body = textwrap.dedent(self.body).strip("\n")
        if not re.search(r"^(async )?def handler\(", body, re.MULTILINE):
            body = "def handler(w):\n" + textwrap.indent(body, "    ")
        return PRELUDE + body + "\n"

    def job(self, facts: Mapping[str, JsonValue]) -> Job:
        """What to run, told ``facts``."""
        limits = JobLimits(
            wall_seconds=self.wall,
            cpu_seconds=self.cpu,
            memory_bytes=self.memory,
            file_bytes=self.file,
            result_bytes=self.result,
            log_bytes=self.log,
        )
        return Job.of(
            self.source, name=self.name, input={"w": {**facts, **self.more}}, limits=limits, grants=self.grants
        )


@dataclass
class Family:
    """A table of attacks of one kind, with what they have in common."""

    name: str
    defaults: Mapping[str, object] = field(default_factory=dict[str, object])
    attacks: list[Attack] = field(default_factory=list[Attack])

    def attack(self, name: str, body: str, **fields: object) -> None:
        """Enter one attack."""
        self.attacks.append(Attack(name=name, family=self.name, body=body, **{**self.defaults, **fields}))  # type: ignore[arg-type]


def told(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """The code returned its token, which it does only where the kernel granted what it asked for."""
    if token in str(outcome.value) or token in outcome.stdout:
        yield "the code was granted what it asked for"


def accepted(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """The host took for a result what was none."""
    if outcome.status == "succeeded":
        yield f"the host accepted {outcome.value!r:.80} as the result"


def root_only() -> str | None:
    """Some attacks need privileges that only root has to give away."""
    return None if os.geteuid() == 0 else "needs privileges this user does not have to lose"
