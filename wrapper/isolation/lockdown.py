"""What a child gives up after the fork and before it reads any code.

Everything here runs in the child, single-threaded, with descriptors 0-3 only. The zygote calls :func:`prepare` once, so
that a child looks nothing up.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc: ctypes.CDLL | None = None


class LockDownFailed(RuntimeError):
    """A layer could not be applied; the child must not be given code."""


def prepare() -> None:
    """Load libc ahead of the first fork."""
    global _libc
    _libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc is None:
        prepare()
    assert _libc is not None
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise LockDownFailed(f"prctl({option}) failed: {os.strerror(number)}")


def die_with_parent(sig: signal.Signals, parent: int) -> None:
    """Have the kernel signal this process when its parent ends; see prctl(2), PR_SET_PDEATHSIG.

    Args:
        sig: the signal to receive.
        parent: pid expected as parent; if it is already gone the kernel would never tell, so this raises.
    """
    _prctl(_PR_SET_PDEATHSIG, sig)
    if os.getppid() != parent:
        raise LockDownFailed("the parent process ended first")


def adopt_orphans() -> None:
    """Make this process the one that orphaned descendants are handed to; see prctl(2), PR_SET_CHILD_SUBREAPER."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def lock_down(profile: str, parent: int) -> None:
    """THE SEAM: apply the isolation profile, after the fork, descriptors and limits, and before any code is read.

    Only ``process`` exists: no new privileges through exec, death with the zygote. Namespaces, Landlock and seccomp
    belong here, as further profiles; each must raise when a layer it promises cannot be had.

    Args:
        profile: name of the profile.
        parent: pid of the zygote.

    Raises:
        LockDownFailed: unknown profile, or a layer could not be applied. The child then reports it and ends.
    """
    if profile != "process":
        raise LockDownFailed(f"unknown profile {profile!r}")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent(signal.SIGKILL, parent)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, wanted = min(soft, ceiling), min(wanted, ceiling)
    resource.setrlimit(kind, (soft, wanted))


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limit_parked() -> None:
    """Limits that hold for every child, whatever the job says."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, 256)
    _lower(resource.RLIMIT_FSIZE, 1 << 30)


def limit_job(memory_bytes: int, file_bytes: int, cpu_seconds: float) -> None:
    """Tighten to one job. Memory counts on top of what is mapped already, so that a small number is usable."""
    cpu = max(1, math.ceil(cpu_seconds))
    _lower(resource.RLIMIT_AS, _mapped_bytes() + memory_bytes)
    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_CPU, cpu, cpu + 1)
