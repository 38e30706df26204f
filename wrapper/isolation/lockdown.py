"""What a child gives up after the fork and before it reads any code.

Everything here runs in the child, single-threaded. The zygote makes the :class:`Walls` once, so that a child looks
nothing up: rules are opened, the filter is assembled, the limits are known.

Layers, by the names that :attr:`Walls.without` knows:

================  ======================================================================  ===========  ===========
layer             what it does                                                            zygote-ns    zygote-lsm
================  ======================================================================  ===========  ===========
``identity``      as root: another user, at least for all but files                       always       yes
``session``       a session of its own: no signal to a process group reaches another      yes          yes
``network``       the box has a network namespace with nothing in it                      yes          no
``namespaces``    pid, mount and ipc namespaces of its own, with scratch and ``/proc``    yes          no
``landlock``      only the runtime can be read, only scratch can be written               where there  must be
``limits``        descriptors, file size, threads, memory, processor, no core             yes          yes
``capabilities``  none, and none can be had again                                         yes          yes
``seccomp``       system calls from a list; no process, program, socket or signal         yes          yes
================  ======================================================================  ===========  ===========

``seatbelt`` has ``session`` and ``limits`` of these, and the profile it was started in, see :mod:`wrapper.isolation.seatbelt`.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from wrapper.isolation import kernel, landlock, seccomp

PROFILES = ("zygote-ns", "zygote-lsm", "seatbelt", "process")
LAYERS = frozenset(("identity", "session", "network", "namespaces", "landlock", "limits", "capabilities", "seccomp"))
_SCRATCH_OPTIONS = "size=64m,nr_inodes=4096,mode=0700"
_THREADS = 512
_LOCKED_BYTES = 64 << 10
_SCRATCH_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


class LockDownFailed(RuntimeError):
    """A layer could not be applied; the child must not be given code."""


def die_with_parent(sig: signal.Signals, parent: int) -> None:
    """Have the kernel signal this process when its parent ends; see prctl(2), PR_SET_PDEATHSIG.

    Args:
        sig: the signal to receive.
        parent: pid expected as parent, 0 for one outside this pid namespace; if it is already gone the kernel would
            never tell, so this raises.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, sig)
    if os.getppid() != parent:
        raise LockDownFailed("the parent process ended first")


def adopt_orphans() -> None:
    """Make this process the one that orphaned descendants are handed to; see prctl(2), PR_SET_CHILD_SUBREAPER."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


@dataclass(slots=True)
class Walls:
    """One profile, made ready in the zygote and applied in each child.

    Args:
        profile: one of :data:`PROFILES`.
        without: layers left out. For tests that show what a layer is worth; nothing a user can set leads here.
        scratch: where a child's own file system goes; None when it has none.
    """

    profile: str
    without: frozenset[str] = frozenset()
    scratch: str | None = None
    _fences: landlock.Fences = field(default_factory=lambda: landlock.Fences(0))
    _filter: bytes = b""
    _home: int = -1
    _threads: int = 0
    _mapped: int = 0

    @property
    def landlock_abi(self) -> int:
        """Version of Landlock that children are confined by; 0 for none."""
        return self._fences.abi

    @property
    def boxed(self) -> bool:
        """Whether each child has namespaces of its own."""
        return self.profile == "zygote-ns" and "namespaces" not in self.without

    @classmethod
    def make(cls, profile: str, without: frozenset[str], paths: Sequence[str], scratch: str | None) -> Walls:
        """Once, in the zygote.

        Args:
            profile, without, scratch: see the class.
            paths: the runtime that children may read.

        Raises:
            LockDownFailed: unknown profile, or a layer it promises cannot be had here.
        """
        if profile not in PROFILES:
            raise LockDownFailed(f"unknown profile {profile!r}")
        if unknown := without.difference(LAYERS):
            raise LockDownFailed(f"unknown layers {sorted(unknown)}")
        walls = cls(profile, without, scratch)
        if profile in ("zygote-ns", "zygote-lsm"):
            walls._prepare(paths)
        return walls

    def _prepare(self, paths: Sequence[str]) -> None:
        boxed = self.profile == "zygote-ns"
        abi = 0 if "landlock" in self.without else kernel.landlock_abi()
        if not boxed and abi == 0 and "landlock" not in self.without:
            raise LockDownFailed("this kernel has no Landlock, without which files could be read")
        self._fences = landlock.Fences(abi)
        for path in ["/"] if boxed else paths:
            self._fences.allow(path, landlock.READ)
        for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
            self._fences.allow(device, landlock.READ | (landlock.WRITE if device == "/dev/null" else 0))
        if "seccomp" not in self.without:
            try:
                self._filter = seccomp.program(kernel.machine(), scratch=boxed)
            except seccomp.UnknownArchitecture as error:
                raise LockDownFailed(str(error)) from error
        self._threads = _THREADS + (0 if boxed else _threads_of(os.getuid()))
        if self.boxed:
            self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def fork(self) -> int:
        """As ``os.fork``; the child is the first process of a pid namespace of its own, where the profile has them."""
        if not self.boxed:
            return os.fork()
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid != 0:
                kernel.setns(self._home, kernel.CLONE_NEWPID)
        return pid

    @property
    def home(self) -> str:
        """Home and temporary directory of the code, where the host gives it none."""
        return self.scratch or "/"

    def enter(self, directory: str | None) -> None:
        """Take namespaces of one's own and go where the code may write.

        Args:
            directory: one of the host's, for code that is walled in by nothing.
        """
        if "session" not in self.without and self.profile != "seatbelt":  # which was started in one of its own
            # Also inside a pid namespace: a signal to the process group would reach its members outside.
            os.setsid()
        if self.boxed:
            assert self.scratch is not None
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
            kernel.mount("scratch", self.scratch, "tmpfs", _SCRATCH_FLAGS, _SCRATCH_OPTIONS)
            kernel.mount("proc", "/proc", "proc", _SCRATCH_FLAGS, "hidepid=2,subset=pid")
        os.chdir(directory or self.home)

    def fence(self) -> None:
        """Confine what can be opened from now on."""
        self._mapped = _mapped_bytes()
        if self.profile in ("process", "seatbelt") or "landlock" in self.without:
            return
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        self._fences.apply(((self.scratch, landlock.SCRATCH),) if self.boxed and self.scratch else ())

    def close(self, zygote: int) -> None:
        """The last layers; nothing that follows may need what they take.

        Args:
            zygote: its pid.
        """
        if self.profile == "seatbelt":  # has all other layers since it was started, and is no child of a zygote
            if "limits" not in self.without:
                self._limit()
            return
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if self.boxed:
            # The first process of a pid namespace would ignore them.
            kernel.exit_on(signal.SIGTERM)
            kernel.exit_on(signal.SIGXCPU)
        if "limits" not in self.without:
            self._limit()
        if self.profile != "process" and "capabilities" not in self.without:
            kernel.keep_capabilities()
        die_with_parent(signal.SIGKILL, 0 if self.boxed else zygote)
        if self._filter:
            seccomp.load(seccomp.for_pid(self._filter, os.getpid()))

    def _limit(self) -> None:
        """Limits that hold for every child, whatever the job says."""
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_NOFILE, 256)
        _lower(resource.RLIMIT_FSIZE, 1 << 30)
        if self.profile in ("zygote-ns", "zygote-lsm"):
            _lower(resource.RLIMIT_NPROC, self._threads)
            _lower(resource.RLIMIT_MSGQUEUE, 0)
            _lower(resource.RLIMIT_MEMLOCK, _LOCKED_BYTES)
            _lower(resource.RLIMIT_SIGPENDING, 256)

    def limit_job(self, memory_bytes: int, file_bytes: int, cpu_seconds: float) -> None:
        """Tighten to one job. Memory counts on top of what is mapped already, so that a small number is usable."""
        if "limits" in self.without:
            return
        cpu = max(1, math.ceil(cpu_seconds))
        _lower(resource.RLIMIT_AS, max(self._mapped, _mapped_bytes()) + memory_bytes)
        _lower(resource.RLIMIT_FSIZE, file_bytes)
        _lower(resource.RLIMIT_CPU, cpu, cpu + 1)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, wanted = min(soft, ceiling), min(wanted, ceiling)
    resource.setrlimit(kind, (soft, wanted))


def _mapped_bytes() -> int:
    if sys.platform == "darwin":
        return _least_address_space()
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0  # outside a box a child may not look; it looked before


def _least_address_space() -> int:
    """What is mapped, to a MiB, told from the smallest limit the kernel takes: that of macOS refuses one that is exceeded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    below, above = 0, 1 << 28  # in MiB: more than any process maps
    while above - below > 1:
        middle = (below + above) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (middle << 20, hard))
            above = middle
        except (ValueError, OSError):
            below = middle
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return above << 20


def _threads_of(user: int) -> int:
    """Threads this user runs already: outside a user namespace they count against the limit of a child."""
    found = 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == user:
                found += len(os.listdir(f"/proc/{entry.name}/task"))
        except OSError:
            pass  # ended meanwhile
    return found
