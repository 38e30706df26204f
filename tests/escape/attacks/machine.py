"""Attacks on what a machine tells of itself and of those who use it: which one it is, how busy, who is beside it."""

from __future__ import annotations

from attack import Family, told

FAMILY = Family(
    "machine",
    {"shows": "It was told.", "shown": told, "layers": ("box", "landlock")},
)
attack = FAMILY.attack


def _reads(*paths: str) -> str:
    return f"""
    found = [path for path in {paths!r} if attempt(text, path)]
    return found and [w["token"], found]
    """


attack(
    "which_one_it_is",
    _reads(
        "/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/sys/class/dmi/id/product_uuid", "/etc/hostname",
        "/etc/hosts", "/etc/resolv.conf", "/proc/cmdline", "/proc/sys/kernel/hostname",
    ),
    tries="Reads what tells this machine from all others.",
)  # fmt: skip
attack(
    "how_busy_it_is",
    _reads(
        "/proc/loadavg", "/proc/stat", "/proc/interrupts", "/proc/diskstats", "/proc/vmstat", "/proc/pressure/cpu",
        "/proc/schedstat", "/sys/fs/cgroup/cpu.stat",
    ),
    tries="Reads how busy processors, disks and memory are, keystroke by keystroke.",
)  # fmt: skip
attack(
    "who_is_beside_it",
    _reads(
        "/proc/locks", "/proc/keys", "/proc/key-users", "/proc/sys/fs/file-nr", "/proc/net/unix", "/proc/timer_list"
    ),
    tries="Reads who holds locks, keys, files and sockets.",
)
attack(
    "doors_of_drivers",
    """
    found = []
    for path in ("/dev/ptmx", "/dev/tty", "/dev/full", "/dev/random", "/dev/autofs", "/dev/fuse", "/dev/vhost-net", "/dev/uinput",
                 "/dev/hwrng", "/dev/cpu_dma_latency", "/dev/rtc", "/dev/ppp", "/dev/vsock", "/dev/snd/seq"):
        if attempt(os.open, path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY) is not None:
            found.append(path)
    return found and [w["token"], found]
    """,
    tries="Opens the devices that anybody may open, each of which is a driver to break.",
    shows="It was given one.",
)
attack(
    "clocks_of_others",
    """
    found = []
    for pid in w["pids"]:
        spent = attempt(time.clock_gettime, (~pid << 3) | 2)
        if spent:
            found.append(pid)
    return found and [w["token"], found]
    """,
    tries="Reads how much processor time other processes used, by the clocks that each of them is.",
    layers=("box", "seccomp"),
)
attack(
    "groups_of_the_peer",
    """
    end = socket.socket(fileno=os.dup(3))
    found = []
    for option in (59, 31, 77):
        try:
            end.getsockopt(socket.SOL_SOCKET, option, 256)
            found.append(option)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.ENOPROTOOPT):
                found.append(option)
    return found and [w["token"], found]
    """,
    tries="Asks its channel for the groups, the label and the process of who made it.",
    layers=("seccomp",),
)
attack(
    "library_locked",
    """
    import fcntl
    with open(os.__file__) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return w["token"]
    """,
    tries="Locks a file of the standard library, so that an installer waits for ever and a later attempt can tell.",
    shows="It holds the lock.",
    layers=("seccomp",),
)
