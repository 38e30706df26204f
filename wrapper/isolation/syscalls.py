"""Numbers of system calls on the two architectures the filter is written for.

From the kernel's ``asm/unistd_64.h`` and ``asm-generic/unistd.h``; they never change. A name that is missing from one
table does not exist on that architecture.
"""

from __future__ import annotations

HIGHEST = 462
"""Highest number known here. What is younger is answered with ENOSYS, so that libraries fall back."""

# fmt: off
X86_64 = {
    "read": 0, "write": 1, "open": 2, "openat": 257, "close": 3, "stat": 4, "fstat": 5, "lstat": 6,
    "newfstatat": 262, "statx": 332, "poll": 7, "ppoll": 271, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap":
    11, "brk": 12, "mremap": 25, "madvise": 28, "msync": 26, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "sigaltstack": 131,
    "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "preadv": 295, "pwritev": 296,
    "preadv2": 327, "pwritev2": 328, "access": 21, "faccessat": 269, "faccessat2": 439, "pipe": 22, "pipe2":
    293, "select": 23, "pselect6": 270, "sched_yield": 24, "dup": 32, "dup2": 33, "dup3": 292, "pause": 34,
    "nanosleep": 35, "clock_nanosleep": 230, "getitimer": 36, "setitimer": 38, "alarm": 37, "getpid": 39,
    "gettid": 186, "getppid": 110, "getpgrp": 111, "getpgid": 121, "getsid": 124, "sendto": 44, "recvfrom": 45,
    "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "getsockname": 51, "getpeername": 52, "socketpair": 53,
    "setsockopt": 54, "getsockopt": 55, "socket": 41, "clone": 56, "clone3": 435, "exit": 60, "exit_group": 231,
    "wait4": 61, "waitid": 247, "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75, "truncate":
    76, "ftruncate": 77, "getdents": 78, "getdents64": 217, "getcwd": 79, "chdir": 80, "fchdir": 81, "rename":
    82, "renameat": 264, "renameat2": 316, "mkdir": 83, "mkdirat": 258, "rmdir": 84, "creat": 85, "link": 86,
    "linkat": 265, "unlink": 87, "unlinkat": 263, "symlink": 88, "symlinkat": 266, "readlink": 89, "readlinkat":
    267, "chmod": 90, "fchmod": 91, "fchmodat": 268, "utime": 132, "utimes": 235, "futimesat": 261, "utimensat":
    280, "umask": 95, "gettimeofday": 96, "time": 201, "getrlimit": 97, "setrlimit": 160, "prlimit64": 302,
    "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "geteuid": 107, "getgid": 104, "getegid": 108,
    "getresuid": 118, "getresgid": 120, "getgroups": 115, "getpriority": 140, "capget": 125, "prctl": 157,
    "futex": 202, "futex_waitv": 449, "sched_getaffinity": 204, "sched_getparam": 143, "sched_getscheduler":
    145, "sched_get_priority_max": 146, "sched_get_priority_min": 147, "set_tid_address": 218,
    "set_robust_list": 273, "get_robust_list": 274, "rseq": 334, "clock_gettime": 228, "clock_getres": 229,
    "getcpu": 309, "restart_syscall": 219, "epoll_create": 213, "epoll_create1": 291, "epoll_ctl": 233,
    "epoll_wait": 232, "epoll_pwait": 281, "epoll_pwait2": 441, "eventfd": 284, "eventfd2": 290,
    "timerfd_create": 283, "timerfd_settime": 286, "timerfd_gettime": 287, "signalfd4": 289, "getrandom": 318,
    "membarrier": 324, "copy_file_range": 326, "sendfile": 40, "fadvise64": 221, "fallocate": 285, "kill": 62,
    "tgkill": 234, "close_range": 436, "statfs": 137, "fstatfs": 138, "getxattr": 191, "lgetxattr": 192,
    "fgetxattr": 193, "listxattr": 194, "llistxattr": 195, "flistxattr": 196, "setxattr": 188, "lsetxattr": 189,
    "fsetxattr": 190, "openat2": 437, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
    "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313, "delete_module": 176,
    "bpf": 321, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298,
    "open_by_handle_at": 304, "reboot": 169, "swapon": 167, "swapoff": 168, "iopl": 172, "ioperm": 173,
}

AARCH64 = {
    "read": 63, "write": 64, "openat": 56, "close": 57, "fstat": 80, "newfstatat": 79, "statx": 291, "ppoll":
    73, "lseek": 62, "mmap": 222, "mprotect": 226, "munmap": 215, "brk": 214, "mremap": 216, "madvise": 233,
    "msync": 227, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "rt_sigpending": 136,
    "rt_sigtimedwait": 137, "rt_sigsuspend": 133, "sigaltstack": 132, "ioctl": 29, "pread64": 67, "pwrite64":
    68, "readv": 65, "writev": 66, "preadv": 69, "pwritev": 70, "preadv2": 286, "pwritev2": 287, "faccessat":
    48, "faccessat2": 439, "pipe2": 59, "pselect6": 72, "sched_yield": 124, "dup": 23, "dup3": 24, "nanosleep":
    101, "clock_nanosleep": 115, "getitimer": 102, "setitimer": 103, "getpid": 172, "gettid": 178, "getppid":
    173, "getpgid": 155, "getsid": 156, "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212,
    "shutdown": 210, "getsockname": 204, "getpeername": 205, "socketpair": 199, "setsockopt": 208, "getsockopt":
    209, "socket": 198, "clone": 220, "clone3": 435, "exit": 93, "exit_group": 94, "wait4": 260, "waitid": 95,
    "uname": 160, "fcntl": 25, "flock": 32, "fsync": 82, "fdatasync": 83, "truncate": 45, "ftruncate": 46,
    "getdents64": 61, "getcwd": 17, "chdir": 49, "fchdir": 50, "renameat": 38, "renameat2": 276, "mkdirat": 34,
    "linkat": 37, "unlinkat": 35, "symlinkat": 36, "readlinkat": 78, "fchmod": 52, "fchmodat": 53, "utimensat":
    88, "umask": 166, "gettimeofday": 169, "getrlimit": 163, "setrlimit": 164, "prlimit64": 261, "getrusage":
    165, "sysinfo": 179, "times": 153, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177,
    "getresuid": 148, "getresgid": 150, "getgroups": 158, "getpriority": 141, "capget": 90, "prctl": 167,
    "futex": 98, "futex_waitv": 449, "sched_getaffinity": 123, "sched_getparam": 121, "sched_getscheduler": 120,
    "sched_get_priority_max": 125, "sched_get_priority_min": 126, "set_tid_address": 96, "set_robust_list": 99,
    "get_robust_list": 100, "rseq": 293, "clock_gettime": 113, "clock_getres": 114, "getcpu": 168,
    "restart_syscall": 128, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "epoll_pwait2": 441,
    "eventfd2": 19, "timerfd_create": 85, "timerfd_settime": 86, "timerfd_gettime": 87, "signalfd4": 74,
    "getrandom": 278, "membarrier": 283, "copy_file_range": 285, "sendfile": 71, "fadvise64": 223, "fallocate":
    47, "kill": 129, "tgkill": 131, "close_range": 436, "statfs": 43, "fstatfs": 44, "getxattr": 8, "lgetxattr":
    9, "fgetxattr": 10, "listxattr": 11, "llistxattr": 12, "flistxattr": 13, "setxattr": 5, "lsetxattr": 6,
    "fsetxattr": 7, "openat2": 437, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
    "kexec_load": 104, "kexec_file_load": 294, "init_module": 105, "finit_module": 273, "delete_module": 106,
    "bpf": 280, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241,
    "reboot": 142, "swapon": 224, "swapoff": 225,
    "open_by_handle_at": 265,
}
# fmt: on

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH of each, see seccomp(2)."""
TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
