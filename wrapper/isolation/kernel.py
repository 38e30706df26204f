"""The few Linux calls Python 3.11 has no function for, by ctypes. Standard library only; raises OSError as ``os`` does."""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2

CAP_KILL, CAP_SYS_ADMIN = 5, 21
_CAP_VERSION = 0x20080522
_LAST_CAP = 63

# These numbers are the same on every architecture, being younger than the common table.
_NR_MOUNT_SETATTR = 442
_NR_LANDLOCK = 444
_NR = {"x86_64": {"pivot_root": 155, "capset": 126}, "aarch64": {"pivot_root": 41, "capset": 91}}

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_READ_ONLY = 1 | 2 | 4  # read-only, no set-user-id, no devices

_libc = ctypes.CDLL(None, use_errno=True)
for _name, _arguments in {
    "mount": [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p],
    "umount2": [ctypes.c_char_p, ctypes.c_int],
    "prctl": [ctypes.c_int, *[ctypes.c_ulong] * 4],
    "setns": [ctypes.c_int, ctypes.c_int],
    "unshare": [ctypes.c_int],
    "sethostname": [ctypes.c_char_p, ctypes.c_size_t],
    "signal": [ctypes.c_int, ctypes.c_void_p],
}.items():
    # Elsewhere than on Linux some do not exist, and nothing calls them; this file is imported all the same.
    if (_function := getattr(_libc, _name, None)) is not None:
        _function.argtypes = _arguments
_libc.signal.restype = ctypes.c_void_p
_libc.syscall.restype = ctypes.c_long

_EXIT_ADDRESS = ctypes.cast(_libc._exit, ctypes.c_void_p).value


def machine() -> str:
    """Name of the architecture, as ``uname -m`` says it."""
    return os.uname().machine


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(number: int, what: str, *args: object) -> int:
    whole = [ctypes.c_long(each) if isinstance(each, int) else each for each in args]
    return _checked(_libc.syscall(ctypes.c_long(number), *whole), what)


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    """See prctl(2)."""
    return _checked(_libc.prctl(option, value, third, 0, 0), f"prctl({option}, {value})")


def unshare(flags: int) -> None:
    """New namespaces for this process; see unshare(2)."""
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """Enter a namespace; see setns(2)."""
    _checked(_libc.setns(fd, kind), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """See mount(2)."""

    def said(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    result = _libc.mount(said(source), os.fsencode(target), said(kind), flags, said(data))
    _checked(result, f"mount {kind or 'bind'} on {target}")


def make_read_only(target: str) -> None:
    """A bind mount and every mount below it; where the kernel is too old for that (before 5.12), the mount alone."""
    attributes = struct.pack("QQQQ", _MOUNT_ATTR_READ_ONLY, 0, 0, 0)
    flags = ctypes.c_uint(_AT_RECURSIVE)
    path = ctypes.c_char_p(os.fsencode(target))
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    try:
        _syscall(_NR_MOUNT_SETATTR, f"mount_setattr {target}", _AT_FDCWD, path, flags, buffer, len(attributes))
    except OSError:
        # A mount that came from outside keeps the flags it is locked with, so they have to be said again.
        locked = os.statvfs(target).f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | locked)


def unmount(target: str) -> None:
    """Detach a mount and all below it; see umount2(2), MNT_DETACH."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount2 {target}")


def pivot_root(new: str, old: str) -> None:
    """See pivot_root(2)."""
    paths = (ctypes.c_char_p(os.fsencode(new)), ctypes.c_char_p(os.fsencode(old)))
    _syscall(_NR[machine()]["pivot_root"], "pivot_root", *paths)


def set_hostname(name: str) -> None:
    """See sethostname(2)."""
    said = name.encode()
    _checked(_libc.sethostname(said, len(said)), "sethostname")


def keep_capabilities(*kept: int) -> None:
    """Have exactly these capabilities from now on; with none, nothing is left that could be used or handed on."""
    mask = sum(1 << each for each in kept)
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAP_VERSION, 0))
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = ctypes.create_string_buffer(struct.pack("6I", low, low, 0, high, high, 0))
    _syscall(_NR[machine()]["capset"], "capset", header, data)


def drop_bounding_set() -> None:
    """No exec can ever give a capability back. Needs CAP_SETPCAP for as long as there is anything to drop."""
    for each in range(_LAST_CAP + 1):
        try:
            prctl(PR_CAPBSET_DROP, each)
        except OSError as error:
            if error.errno == 22:  # beyond the last one this kernel knows
                break
            raise
    try:
        prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError:
        pass  # before 4.3 there is no such set


def exit_on(signal: int) -> None:
    """End at once on a signal, even inside a C loop; the exit code is the signal's number.

    The first process of a pid namespace ignores what it has no handler for, so the default action would not do. The
    handler is libc's ``_exit`` itself.
    """
    _libc.signal(signal, _EXIT_ADDRESS)


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def load_filter(instructions: bytes) -> None:
    """Load a classic BPF program as this process's system call filter; there is no way back. Needs no_new_privs."""
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = Program(len(instructions) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def landlock_abi() -> int:
    """Version of Landlock this kernel has; 0 for none."""
    result = _libc.syscall(ctypes.c_long(_NR_LANDLOCK), None, ctypes.c_size_t(0), ctypes.c_uint(1))
    return max(0, int(result))


def landlock_ruleset(attributes: bytes) -> int:
    """Descriptor of a new ruleset; see landlock_create_ruleset(2)."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _syscall(_NR_LANDLOCK, "landlock_create_ruleset", buffer, len(attributes), 0)


def landlock_allow(ruleset: int, path: int, access: int) -> None:
    """Allow access beneath an open directory, or to an open file; see landlock_add_rule(2)."""
    buffer = ctypes.create_string_buffer(struct.pack("=Qi", access, path), 12)
    _syscall(_NR_LANDLOCK + 1, "landlock_add_rule", ruleset, 1, buffer, 0)


def landlock_restrict(ruleset: int) -> None:
    """Be bound by a ruleset for good; see landlock_restrict_self(2)."""
    _syscall(_NR_LANDLOCK + 2, "landlock_restrict_self", ruleset, 0)


def tell(path: str, text: str) -> None:
    """One write to a file of the kernel's, such as those below ``/proc`` and of control groups."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
