"""Landlock: which files a child may touch, at whatever version of it the kernel has.

See landlock(7). ABI 1 knows files, 2 moves between directories, 3 truncation, 4 TCP, 5 device ioctls, 6 signals and
abstract sockets. What an older one lacks is denied by the system call filter, which does not need it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field

from wrapper.isolation import kernel

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG, _MAKE_FIFO, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 10, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP = 0b11
_SCOPES = 0b11

READ = _READ_FILE | _READ_DIR
WRITE = _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
SCRATCH = (
    READ | WRITE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM | _REFER
)  # everything but devices, sockets and programs
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV


@dataclass(slots=True)
class Fences:
    """What children are confined to. Paths that are the same for all are opened once, in the zygote.

    Args:
        abi: version of Landlock; 0 makes :meth:`apply` do nothing.
    """

    abi: int
    _opened: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def allow(self, path: str, access: int) -> None:
        """Open a path for the rules of every child to come; a missing one is left out."""
        if self.abi and os.path.exists(path):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            self._opened.append((fd, access if os.path.isdir(path) else access & _OF_FILES))

    def descriptors(self) -> list[int]:
        """What must stay open until :meth:`apply`."""
        return [fd for fd, _ in self._opened]

    def apply(self, own: tuple[tuple[str, int], ...] = ()) -> None:
        """Confine this process for good.

        Args:
            own: further paths with their access, which only this process has.

        Raises:
            OSError: the kernel refused.
        """
        if not self.abi:
            return
        handled = _FILES[min(self.abi, 5)]
        attributes = [handled]
        if self.abi >= 4:
            attributes.append(_TCP)
        if self.abi >= 6:
            attributes.append(_SCOPES)
        ruleset = kernel.landlock_ruleset(struct.pack(f"={len(attributes)}Q", *attributes))
        try:
            for fd, access in self._opened:
                kernel.landlock_allow(ruleset, fd, access & handled)
            for path, access in own:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    kernel.landlock_allow(ruleset, fd, access & handled)
                finally:
                    os.close(fd)
            kernel.landlock_restrict(ruleset)
        finally:
            os.close(ruleset)
