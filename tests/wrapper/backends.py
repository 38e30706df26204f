"""The isolation backends under test, as parameters, and machines on which some of them cannot be had."""

from __future__ import annotations

import os
import struct
import sys

import pytest

from wrapper.isolation import BoxedIsolation, ConfinedIsolation, ProcessIsolation, kernel
from wrapper.isolation.syscalls import AUDIT, TABLES

_NAMESPACES = (
    kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS | kernel.CLONE_NEWCGROUP
)  # fmt: skip


def _namespaces_allowed() -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            kernel.unshare(_NAMESPACES)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


needs_namespaces = pytest.mark.skipif(not _namespaces_allowed(), reason="this machine refuses namespaces")
needs_landlock = pytest.mark.skipif(kernel.landlock_abi() == 0, reason="this kernel has no Landlock")
BACKENDS = [
    pytest.param(BoxedIsolation, id="zygote-ns", marks=needs_namespaces),
    pytest.param(ConfinedIsolation, id="zygote-lsm", marks=needs_landlock),
    pytest.param(ProcessIsolation, id="process"),
]

_CALLS = {
    # As Docker's default profile does it.
    "namespaces": {
        "x86_64": {"mount": 165, "umount2": 166, "pivot_root": 155, "unshare": 272, "setns": 308},
        "aarch64": {"mount": 40, "umount2": 39, "pivot_root": 41, "unshare": 97, "setns": 268},
    },
    "landlock": {name: {"create": 444, "add": 445, "restrict": 446} for name in ("x86_64", "aarch64")},
}
_DENY_NAMESPACES, _ENOSYS, _EPERM, _ALLOW = 0x7E020000, 0x50000 | 38, 0x50000 | 1, 0x7FFF0000


def refuse(*what: str) -> None:
    """Take from this process, for good, what a container or an old kernel would not give.

    Args:
        what: ``namespaces`` or ``landlock``.
    """
    machine = kernel.machine()
    table = TABLES[machine]
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, AUDIT[machine]), (0x06, 0, 0, _ALLOW), (0x20, 0, 0, 0)]
    for name in what:
        answer = _ENOSYS if name == "landlock" else _EPERM
        for number in _CALLS[name][machine].values():
            code += [(0x15, 0, 1, number), (0x06, 0, 0, answer)]
    if "namespaces" in what:
        code += [(0x15, 0, 1, table["clone3"]), (0x06, 0, 0, _ENOSYS)]
        code += [(0x15, 0, 3, table["clone"]), (0x20, 0, 0, 16), (0x45, 0, 1, _DENY_NAMESPACES)]
        code += [(0x06, 0, 0, _EPERM)]
    code.append((0x06, 0, 0, _ALLOW))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.load_filter(b"".join(struct.pack("=HBBI", *each) for each in code))


if __name__ == "__main__":
    # python backends.py namespaces,landlock COMMAND …: run a command on such a machine
    refuse(*filter(None, sys.argv[1].split(",")))
    os.execvp(sys.argv[2], sys.argv[2:])
