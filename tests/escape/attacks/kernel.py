"""Attacks on the rest of the kernel: interfaces no run needs, each of which has let somebody out somewhere."""

from __future__ import annotations

import os

from attack import Family, told

FAMILY = Family("kernel", {"shows": "The kernel did what it was asked for.", "shown": told, "layers": ("seccomp",)})
attack = FAMILY.attack

_CALLS = '''
_LATER = {
    "splice": (275, 76), "tee": (276, 77), "vmsplice": (278, 75), "mincore": (27, 232), "cachestat": (451, 451),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "remap_file_pages": (216, 234), "mbind": (237, 235),
    "set_mempolicy": (238, 237), "get_mempolicy": (239, 236), "pkey_alloc": (330, 289),
    "name_to_handle_at": (303, 264), "io_setup": (206, 0), "timer_create": (222, 107), "syslog": (103, 116),
    "sethostname": (170, 161), "setdomainname": (171, 162), "acct": (163, 89),
    "quotactl": (179, 60), "setpriority": (141, 140), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "rt_tgsigqueueinfo": (297, 240), "tkill": (200, 130),
    "inotify_init1": (294, 26), "fanotify_init": (300, 262), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "sched_rr_get_interval": (148, 127), "sync": (162, 81), "readahead": (187, 213), "landlock_create_ruleset": (444, 444),
    "setgroups": (116, 159), "capset": (126, 91), "migrate_pages": (256, 238), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "modify_ldt": (154, 0), "arch_prctl": (158, 0), "sysfs": (139, 0), "ustat": (136, 0),
    "syncfs": (306, 267), "sync_file_range": (277, 84), "mlock2": (325, 284), "vhangup": (153, 58), "prctl": (157, 167),
}
NUMBERS.update({name: numbers[0 if _X86 else 1] for name, numbers in _LATER.items()})
def reached(name, *arguments):
    """Whether the kernel itself answered, whatever it said: a filter says that it is not permitted, or not there."""
    return syscall(name, *arguments) >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)
'''


def _body(text: str) -> str:
    lines = "\n".join("    " + line for line in text.strip("\n").splitlines())
    return _CALLS.lstrip("\n") + "def handler(w):\n" + lines + "\n"


def _reaching(name: str, tries: str, *calls: str, **more: object) -> None:
    """An attack that makes each of some calls and sees whether the kernel answered one."""
    lines = "\n".join(f"if reached({call}): given.append({call.split(',')[0]})" for call in calls)
    attack(name, _body(f"given = []\n{lines}\nreturn given and [w['token'], given]"), tries=tries, **more)


_reaching(
    "pages_between_pipes",
    "Moves pages between pipes and files without copying them, by which read-only files were written to.",
    '"splice", -1, None, -1, None, 1, 0',
    '"tee", -1, -1, 1, 0',
    '"vmsplice", -1, None, 0, 0',
)
_reaching(
    "page_cache",
    "Asks which pages of libraries are in memory, and so what the processes beside it are doing.",
    '"mincore", 4096, 4096, None',
    '"cachestat", -1, None, None, 0',
    '"readahead", -1, 0, 4096',
)
_reaching(
    "memory_of_other_kinds",
    "Takes memory that no limit of the process counts, or that nobody else can look at.",
    '"memfd_create", b"x", 0',
    '"memfd_secret", 0',
    '"remap_file_pages", 4096, 4096, 0, 0, 0',
)
_reaching(
    "placement_of_memory",
    "Decides on which node its memory lies, moves what is there, and gives pages keys.",
    '"mbind", 4096, 4096, 9, None, 0, 0',
    '"set_mempolicy", 9, None, 0',
    '"get_mempolicy", None, None, 0, 0, 9',
    '"pkey_alloc", 1, 0',
    '"migrate_pages", -1, 0, None, None',
)
_reaching(
    "handles_of_files",
    "Asks for handles of files, with which they could be opened past every folder that is closed.",
    '"name_to_handle_at", -100, b"/", None, None, 0',
)
_reaching(
    "old_asynchronous_io",
    "Sets up asynchronous input and output of the older kind.",
    '"io_setup", 1, None',
)
_reaching(
    "kernel_timers",
    "Has the kernel keep timers that send signals of its choice.",
    '"timer_create", 99, None, None',
)
_reaching(
    "watching_files",
    "Has the kernel tell what others do with files.",
    '"inotify_init1", 0',
    '"fanotify_init", 0, 0',
)
_reaching(
    "administration",
    "Does what an administrator does: names of the machine, accounting, quotas, its log, its terminals, its disks.",
    '"syslog", 10, None, 0',
    '"sethostname", None, -1',
    '"setdomainname", None, -1',
    '"acct", 4096',
    '"quotactl", -1, None, 0, None',
    '"sync"',
)
_reaching(
    "own_priority",
    "Changes how it is itself scheduled, on which processor and before whom.",
    '"setpriority", 0, 0, 5',
    '"sched_setattr", 0, None, 0',
    '"sched_setscheduler", 0, 3, None',
    '"sched_setaffinity", 0, 0, None',
    '"ioprio_set", 1, 0, 0x6000',
    '"sched_rr_get_interval", 0, None',
)
_reaching(
    "signals_of_other_kinds",
    "Sends itself signals by the calls that a list of the well-known ones forgets, with a made-up sender.",
    '"tkill", -1, 0',
    '"rt_sigqueueinfo", -1, 0, None',
    '"rt_tgsigqueueinfo", -1, -1, 0, None',
)
_reaching(
    "identities_of_files",
    "Changes the identity that only files see, its groups, its capabilities and its root.",
    '"setfsuid", 0',
    '"setfsgid", 0',
    '"setgroups", 0, None',
    '"capset", None, None',
)
_reaching(
    "walls_of_its_own",
    "Builds walls of its own around itself, with which what runs in its name could be misled.",
    '"landlock_create_ruleset", None, 0, 1',
)
_reaching(
    "clock_of_the_kernel",
    "Asks the kernel how it corrects its clock, by the calls that correct it.",
    '"adjtimex", ctypes.create_string_buffer(208)',
    '"clock_adjtime", 0, ctypes.create_string_buffer(208)',
)
_reaching(
    "segments_of_its_own",
    "Makes segments of its own and hides the processor's name from itself, by calls that only old programs make.",
    '"modify_ldt", 0, ctypes.create_string_buffer(64), 64',
    '"arch_prctl", 0x1012, 1',
    needs=lambda: None if os.uname().machine == "x86_64" else "these calls are of x86-64",
)
_reaching(
    "forgotten_calls",
    "Makes calls that no program has needed for decades.",
    '"sysfs", 3',
    '"ustat", 0, None',
    needs=lambda: None if os.uname().machine == "x86_64" else "these calls are of x86-64",
)
_reaching(
    "disks_made_to_write",
    "Has the disk of a library write out all that is waiting, again and again.",
    '"syncfs", os.open(os.__file__, os.O_RDONLY)',
    '"sync_file_range", os.open(os.__file__, os.O_RDONLY), 0, 0, 0',
)
_reaching(
    "memory_locked_later",
    "Locks pages when they are first touched.",
    '"mlock2", 0, 0, 1',
)
_reaching(
    "calls_taken_over",
    "Has its system calls handed to a function of its own before the kernel sees them, and its guesses of branches shared.",
    '"prctl", 59, 0, 0, 0, 0',
    '"prctl", 52, 0, 0, 0, 0',
)
attack(
    "youngest_calls",
    _body(
        """
given = []
for number in range(424, 480):
    if number in (436, 439, 441, 448):  # to close descriptors, to ask for access, to wait; and one that ends processes
        continue
    ctypes.set_errno(0)
    said = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
    if said >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        given.append(number)
return given and [w["token"], given]
"""
    ),
    tries="Makes every call that kernels of the last years added, also those nobody has heard of.",
)
attack(
    "process_settings_of_all_kinds",
    _body(
        """
given = []
for option, value in ((1, 0), (4, 1), (8, 1), (26, 1), (28, 0), (29, 1), (35, 0), (36, 1), (41, 1), (47, 4), (62, 0), (65, 1)):
    ctypes.set_errno(0)
    if libc.prctl(option, value, 0, 0, 0) == 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        given.append(option)
return given and [w["token"], given]
"""
    ),
    tries="Sets what can be set of a process: whose death it shares, whether it can be looked into, its orphans, its clock.",
)
attack(
    "controls_of_descriptors",
    _body(
        """
import fcntl
first, second = socket.socketpair()
reading, writing = os.pipe()
given = []
for fd in (1, first.fileno(), writing, 3):
    for command, value in ((8, os.getpid()), (10, 10), (1024, 0), (1026, 1), (1031, 1 << 20), (1033, 0), (1036, 0), (15, 0)):
        try:
            fcntl.fcntl(fd, command, value)
            given.append(command)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS):
                given.append(command)
return given and [w["token"], given]
"""
    ),
    tries="Has descriptors send signals, lends files, seals its output, enlarges pipes, asks for hints.",
)
attack(
    "device_controls",
    _body(
        """
import fcntl
first, second = socket.socketpair()
given = []
# To type into a terminal, to take one, signals on input, to clone and to freeze files, their flags and extents.
for command in (0x5412, 0x540E, 0x541C, 0x5452, 0x8901, 0x8904, 0x40049409, 0xC0045877, 0x80086601, 0xC020660B, 0x8933):
    for fd in (0, 1, 3, first.fileno()):
        ctypes.set_errno(0)
        if libc.ioctl(fd, ctypes.c_ulong(command), ctypes.create_string_buffer(256)) == 0:
            given.append(hex(command))
        elif ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
            given.append(hex(command))
return given and [w["token"], given]
"""
    ),
    tries="Controls devices: types into terminals, asks sockets for their owners, clones and freezes files.",
)
attack(
    "options_of_sockets",
    _body(
        """
first, second = socket.socketpair()
given = []
# Credentials and descriptors of the sender, where to peek, filters, priorities, marks, time stamps, busy waiting, sizes.
options = [(1, each) for each in (1, 12, 16, 26, 32, 36, 37, 42, 46, 50, 76)] + [(6, 1), (0, 2)]
for level, option in options:
    try:
        first.setsockopt(level, option, 1)
        given.append((level, option))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            given.append((level, option))
return given and [w["token"], given]
"""
    ),
    tries="Sets options of sockets that pass identities, run programs in the kernel or take more memory.",
)
attack(
    "pairs_of_other_kinds",
    _body(
        """
given = []
for family in (socket.AF_UNIX, 30, 40):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW, socket.SOCK_STREAM):
        if (family, kind) != (socket.AF_UNIX, socket.SOCK_STREAM):
            try:
                socket.socketpair(family, kind)
                given.append((family, int(kind)))
            except OSError as error:
                pass
return given and [w["token"], given]
"""
    ),
    tries="Makes pairs of sockets that have addresses, over which others could be reached.",
)
attack(
    "limits_raised",
    """
    import resource
    walls = {
        resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 256, resource.RLIMIT_MSGQUEUE: 0, resource.RLIMIT_SIGPENDING: 256,
    }
    given = []
    for kind, wall in walls.items():
        for wanted in (resource.RLIM_INFINITY, wall + 1, 1 << 20):
            attempt(resource.setrlimit, kind, (wanted, wanted))
            attempt(resource.prlimit, 0, kind, (wanted, wanted))
            soft, hard = resource.getrlimit(kind)
            if soft > wall or soft == resource.RLIM_INFINITY:
                given.append((kind, soft))
    return given and [w["token"], given]
    """,
    tries="Raises its limits on dumps, descriptors, queues and waiting signals, in every way there is.",
    layers=("limits",),
    shows="One of them is higher than the wall.",
)
attack(
    "endless_output_file",
    """
    for fd in (1, 2):
        if attempt(os.ftruncate, fd, 1 << 40) is None and os.fstat(fd).st_size > 1 << 30:
            return w["token"]
    """,
    tries="Makes the file that its output is captured in a terabyte long, with nothing in it.",
    layers=("limits",),
    shows="The file is longer than the wall.",
)
attack(
    "pipe_with_a_name",
    """
    given = []
    for kind in (0o010600, 0o140600, 0o100600):
        for name in (b"named", (w["work"] + "/" + w["token"]).encode()):
            if libc.mknod(name, kind, 0) == 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.ENOENT):
                given.append((kind, name.decode()))
    return given and [w["token"], given]
    """,
    tries="Makes pipes and sockets with a name, at which whoever collects files would wait for ever.",
    shows="There is one.",
)
