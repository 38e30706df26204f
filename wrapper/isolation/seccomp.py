"""Which system calls a child may make: an allow-list, assembled into a classic BPF program once for each zygote.

See seccomp(2) and, for the instructions, the kernel's ``networking/filter``. The list is what CPython, Strands, asyncio
and threads were seen to need. Everything else fails with EPERM, what is younger than the table with ENOSYS, and what
only an attack asks for ends the process (SIGSYS). Arguments are checked where the number alone says too little.

No new process, no program, no socket beyond a private pair, no namespace, no shared memory, no signal to another, and no
``flock`` and no record locks, with which two runs could tell each other of themselves by a file both may read, and of which
the kernel keeps any number. SQLite sets them all the same, so to set one is answered as done: nobody else has a file that a run
can write to, and its own locks never stand in a process's way. For the same
reason nobody may have pages of a file that all read dropped, sent out or merged, nor look at the clocks of other processes.
"""

from __future__ import annotations

import errno
import struct
import sys

from wrapper.isolation import kernel, syscalls

_Instruction = tuple[int, int, int, int]
_Code = list[_Instruction]

_LOAD, _AND, _JUMP, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000
_PID = 0x5EEDC0DE
"""Stands for the child's own pid until :func:`for_pid` puts it in."""


def _words(text: str) -> list[str]:
    return text.split()


_ALLOWED = _words(
    """
    read write openat close stat fstat lstat newfstatat statx poll ppoll lseek mmap mprotect munmap brk mremap
    msync rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pread64
    pwrite64 readv writev preadv pwritev preadv2 pwritev2 access faccessat faccessat2 pipe pipe2 select pselect6
    sched_yield dup dup2 dup3 pause nanosleep getitimer setitimer alarm getpid gettid getppid getpgrp
    getpgid getsid shutdown getsockname getpeername exit exit_group wait4 waitid uname fsync
    fdatasync ftruncate getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link
    linkat unlink unlinkat symlink symlinkat readlink readlinkat umask gettimeofday time getrlimit setrlimit getrusage
    sysinfo times getuid geteuid getgid getegid getresuid getresgid getgroups getpriority capget
    sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min set_tid_address
    set_robust_list rseq getcpu restart_syscall epoll_create epoll_create1
    epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime
    signalfd4 getrandom membarrier copy_file_range sendfile fallocate close_range statfs fstatfs
"""
)
_OF_SCRATCH = _words("truncate chmod fchmod fchmodat utime utimes futimesat utimensat creat")
"""Landlock does not know these, or not at every version: allowed only where no file of the host can be reached."""
_FATAL = _words(
    """
    ptrace process_vm_readv process_vm_writev kexec_load kexec_file_load init_module finit_module delete_module bpf
    userfaultfd add_key request_key keyctl perf_event_open open_by_handle_at reboot swapon swapoff iopl ioperm
"""
)
_ANSWERS = {
    "clone3": errno.ENOSYS,  # its flags lie in memory, where no filter can look; libc then uses clone
    "openat2": errno.ENOSYS,
    "futex_waitv": errno.ENOSYS,
    **dict.fromkeys(
        _words("getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr"),
        errno.ENOTSUP,
    ),
}

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020080
_FIONREAD, _FIONBIO, _FIOCLEX, _FIONCLEX = 0x541B, 0x5421, 0x5451, 0x5450
_TERMINAL = (0x5401, 0x5413, 0x540F, 0x5410)  # TCGETS, TIOCGWINSZ, TIOCGPGRP, TIOCSPGRP
_FCNTL = (0, 1, 2, 3, 4, 1030, 1032)  # DUPFD … SETFL, DUPFD_CLOEXEC, GETPIPE_SZ
_RECORD_LOCKS = (6, 7)  # SETLK and SETLKW
_PRCTL = (3, 15, 16, 21, 23, 39)  # GET_DUMPABLE, SET_NAME, GET_NAME, GET_SECCOMP, CAPBSET_READ, GET_NO_NEW_PRIVS
_SOCKET_OPTIONS = (2, 9, 20, 21)  # REUSEADDR, KEEPALIVE, time-outs; not buffers, which no limit counts
_SOCKET_FACTS = (3, 4, 7, 8, 17, 20, 21, 30, 38, 39)  # TYPE, ERROR, buffers, PEERCRED, time-outs, … and no PEERPIDFD
_SENT, _RECEIVED = (
    0x4040,
    0x142,
)  # MSG_DONTWAIT and NOSIGNAL; PEEK, DONTWAIT, WAITALL; not OOB, of which kernels have made holes
_FUTEX = (
    0,
    1,
    3,
    4,
    5,
    9,
    10,
)  # to wait and to wake; what hands priorities on is a kernel's most tried corner, and unused here
_ADVICE = (
    0,
    1,
    2,
    3,
    4,
    8,
    14,
    15,
    16,
    17,
)  # NORMAL … DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE, DONTDUMP, DODUMP; not what others feel: to merge pages, to send them out
_CLOCK_OF_A_PROCESS = 0x80000000  # a clock with this bit is what a process, a thread or a device has spent
_UNIX, _STREAM, _STREAM_FLAGS = 1, 1, 0x80800
_ACCESS_MODE, _TRUNCATE = 0o3, 0o1000


class UnknownArchitecture(RuntimeError):
    """There is no table for this machine, so there can be no filter."""


def _answer(action: int) -> _Code:
    return [(_RETURN, 0, 0, action)]


def _fail(number: int) -> _Code:
    return _answer(_ERRNO | number)


_YES = _answer(_ALLOW)
_DONE = _fail(0)
"""It returns 0 and nothing was done; see seccomp(2), SECCOMP_RET_ERRNO."""
_NO = _fail(errno.EPERM)


def _when(
    argument: int, values: tuple[int, ...], then: _Code = _YES, otherwise: _Code = _NO, *,
    mask: int | None = None, high: bool = False,
) -> _Code:  # fmt: skip
    """Look at the low (or high) half of an argument. Both ends answer, so nothing is joined afterwards."""
    code: _Code = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument + (4 if high else 0))]
    if mask is not None:
        code.append((_AND, 0, 0, mask))
    for value in values:
        code += [(_EQUAL, 0, len(then), value), *then]
    return code + otherwise


def _is_null(argument: int) -> _Code:
    return _when(argument, (0,), _when(argument, (0,), high=True))


def _checked(messages: bool) -> dict[str, _Code]:
    """Calls that depend on an argument."""
    return {
        "clone": _when(0, (_CLONE_THREAD,), mask=_CLONE_THREAD | _CLONE_NEW),
        "ioctl": _when(1, (_FIONREAD, _FIONBIO, _FIOCLEX, _FIONCLEX), _YES, _when(1, _TERMINAL, _fail(errno.ENOTTY))),
        "fcntl": _when(1, _FCNTL, _YES, _when(1, _RECORD_LOCKS, _DONE)),
        "prctl": _when(0, _PRCTL),
        "prlimit64": _when(0, (0,)),
        "madvise": _when(2, _ADVICE, _YES, _fail(errno.EINVAL)),
        **dict.fromkeys(
            ("clock_gettime", "clock_getres", "clock_nanosleep"),
            _when(0, (0,), _YES, _fail(errno.EINVAL), mask=_CLOCK_OF_A_PROCESS),
        ),
        "socketpair": _when(0, (_UNIX,), _when(1, (_STREAM,), mask=0xFFFFFFFF ^ _STREAM_FLAGS)),
        "sendto": _when(3, (0,), _is_null(4), mask=0xFFFFFFFF ^ _SENT),
        "recvfrom": _when(3, (0,), mask=0xFFFFFFFF ^ _RECEIVED),
        "getsockopt": _when(1, (1,), _when(2, _SOCKET_FACTS)),
        "futex": _when(1, _FUTEX, mask=0x7F),
        "setsockopt": _when(1, (1,), _when(2, _SOCKET_OPTIONS)),
        "kill": _when(0, (_PID,)),
        "tgkill": _when(0, (_PID,)),
        # To open for reading and yet truncate needs no right that old versions of Landlock know.
        "openat": _when(2, (_TRUNCATE,), _NO, _YES, mask=_ACCESS_MODE | _TRUNCATE),
        "open": _when(1, (_TRUNCATE,), _NO, _YES, mask=_ACCESS_MODE | _TRUNCATE),
        # asyncio writes with it from 3.12 on. The only sockets there are have no addresses, and the host takes no files.
        **(
            {"sendmsg": _when(2, (0,), mask=0xFFFFFFFF ^ _SENT), "recvmsg": _when(2, (0,), mask=0xFFFFFFFF ^ _RECEIVED)}
            if messages
            else {}
        ),
    }


def _tree(runs: list[tuple[int, _Code]]) -> _Code:
    """Binary search for the last run that begins at or below the number in the accumulator."""
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    left, right = _tree(runs[:middle]), _tree(runs[middle:])
    begin = runs[middle][0]
    if len(left) <= 255:
        return [(_AT_LEAST, len(left), 0, begin), *left, *right]
    return [(_AT_LEAST, 0, 1, begin), (_JUMP, 0, 0, len(left)), *left, *right]


def _runs(codes: dict[int, _Code]) -> list[tuple[int, _Code]]:
    runs: list[tuple[int, _Code]] = []
    for number in range(syscalls.HIGHEST + 1):
        code = codes.get(number, _NO)
        if not runs or runs[-1][1] != code:
            runs.append((number, code))
    return [*runs, (syscalls.HIGHEST + 1, _fail(errno.ENOSYS)), (_X32, _answer(_KILL))]


def program(machine: str, *, scratch: bool, messages: bool = sys.version_info >= (3, 12)) -> bytes:
    """The filter for this machine, with room for the child's pid; see :func:`for_pid`.

    Args:
        machine: as ``uname -m`` says it.
        scratch: the child can reach no file but its own, so that modes and times may be changed.
        messages: allow sendmsg and recvmsg.

    Raises:
        UnknownArchitecture: neither x86_64 nor aarch64.
    """
    if machine not in syscalls.TABLES or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        raise UnknownArchitecture(f"no system call filter for {machine}; there is one for x86_64 and aarch64, 64 bits")
    table = syscalls.TABLES[machine]
    named: dict[str, _Code] = {
        **dict.fromkeys(_ALLOWED, _YES),
        **(dict.fromkeys(_OF_SCRATCH, _YES) if scratch else {}),
        **dict.fromkeys(_FATAL, _answer(_KILL)),
        **{name: _fail(number) for name, number in _ANSWERS.items()},
        **_checked(messages),
    }
    codes = {table[name]: code for name, code in named.items() if name in table}
    whole: _Code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, syscalls.AUDIT[machine]),
        *_answer(_KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        *_tree(_runs(codes)),
    ]
    return b"".join(struct.pack("=HBBI", *each) for each in whole)


def for_pid(instructions: bytes, pid: int) -> bytes:
    """The program of the process with this pid, which may signal itself and nobody else."""
    return instructions.replace(struct.pack("=HBBI", _EQUAL, 0, 1, _PID), struct.pack("=HBBI", _EQUAL, 0, 1, pid))


def load(instructions: bytes) -> None:
    """Be bound by a program for good. Raises OSError when the kernel has no filters."""
    kernel.load_filter(instructions)
