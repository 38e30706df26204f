"""Attacks on files: reading what others keep, writing where others look, and the ways around a path that is forbidden."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable

from attack import Family, root_only, told
from outside import World

from wrapper.isolation import Outcome

FAMILY = Family("filesystem", {"shows": "A planted secret is in the result."})
attack = FAMILY.attack
_CHANGED = "The planted tree is not as it was."

attack(
    "absolute_paths",
    tries="Opens credentials, an env file, a Redis data file and notes by their absolute paths.",
    layers=("box", "landlock"),
    body="return [attempt(text, path) for path in w['files']]",
)
attack(
    "dot_dot",
    tries="Climbs from its own folder to the root with dots and goes down again.",
    layers=("box", "landlock"),
    body="return [attempt(text, '../' * 40 + path[1:]) for path in w['files']]",
)
attack(
    "symlink",
    tries="Makes symbolic links to the files, and to the folders above them, and reads through those.",
    layers=("box", "landlock"),
    body="""
    found = []
    for number, path in enumerate(w["files"]):
        for place in (os.getcwd(), w["work"]):
            attempt(os.symlink, path, f"{place}/link{number}")
            attempt(os.symlink, os.path.dirname(path), f"{place}/folder{number}")
            found.append(attempt(text, f"{place}/link{number}"))
            found.append(attempt(text, f"{place}/folder{number}/{os.path.basename(path)}"))
    return found
    """,
)
attack(
    "hardlink",
    tries="Makes hard links to the files in a folder it may read.",
    layers=("box", "landlock"),
    body="""
    found = []
    for number, path in enumerate(w["files"]):
        for place in (os.getcwd(), w["work"]):
            attempt(os.link, path, f"{place}/hard{number}")
            found.append(attempt(text, f"{place}/hard{number}"))
    return found
    """,
)
attack(
    "proc_self_root",
    tries="Names the files through /proc/self/root, /proc/thread-self/root and every task's root.",
    layers=("box", "landlock"),
    body="""
    found = []
    starts = ("self/root", "thread-self/root", f"self/task/{os.getpid()}/root", "self/cwd/../../..")
    for start in (f"/proc/{each}" for each in starts):
        found += [attempt(text, start + path) for path in w["files"]]
    return found
    """,
)
attack(
    "proc_others_root",
    tries="Names the files through the root and working folder of every other process it can see, 1 and the host first.",
    layers=("box", "landlock"),
    body="""
    found = []
    for pid in [1, *w["pids"], *w["siblings"], *[name for name in os.listdir("/proc") if name.isdigit()]]:
        for start in ("root", "cwd/../../../../../.."):
            found += [attempt(text, f"/proc/{pid}/{start}{path}") for path in w["files"][:2]]
        found.append(attempt(text, f"/proc/{pid}/cwd/private.txt"))
    return [each for each in found if each][:20]
    """,
)
attack(
    "proc_descriptors",
    tries="Reads everything its own descriptors lead to, directly and through /proc/self/fd and /dev/fd.",
    layers=("descriptors",),
    open_on=("naive",),
    body="""
    found = []
    for fd in range(256):
        if fd == 3: continue
        for way in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}"):
            if os.path.isfile(way) or attempt(os.path.isdir, way):
                found.append(attempt(text, way))
                found.append(attempt(text, way + "/private.txt"))
        data = attempt(os.pread, fd, 1 << 16, 0)
        found.append(data and data.decode("latin-1"))
    return [each[:4000] for each in found if each]
    """,
)
attack(
    "others_descriptors",
    tries="Opens the descriptors of other processes through /proc.",
    layers=("box", "landlock"),
    body="""
    found = []
    for pid in [*w["pids"], *w["siblings"], *[name for name in os.listdir("/proc") if name.isdigit()]]:
        for fd in attempt(os.listdir, f"/proc/{pid}/fd") or []:
            if str(attempt(os.readlink, f"/proc/{pid}/fd/{fd}")).startswith("/memfd:private"):
                found.append(attempt(text, f"/proc/{pid}/fd/{fd}"))
    return [each[:4000] for each in found if each][:50]
    """,
)
attack(
    "environ_of_others",
    tries="Reads the environment of every process it can see.",
    layers=("box", "landlock"),
    body="""
    pids = [*w["pids"], *[int(name) for name in os.listdir("/proc") if name.isdigit()]]
    return [each for each in (attempt(text, f"/proc/{pid}/environ") for pid in pids) if each and "SECRET" in each]
    """,
)
attack(
    "memory_of_others",
    tries="Reads the memory of a process of the host, and of its own siblings, through /proc.",
    layers=("box", "landlock"),
    body="""
    import re
    found = []
    for victim in w["victims"]:
        def read():
            with open(f"/proc/{victim['pid']}/mem", "rb", 0) as memory:
                memory.seek(victim["address"])
                found.append(memory.read(victim["length"]).decode())
        attempt(read)
    for pid in w["siblings"]:
        def scan():
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
                for line in maps:
                    if "heap" in line or "rw-p 00000000 00:00 0" in line:
                        start, end = (int(part, 16) for part in line.split()[0].split("-"))
                        memory.seek(start)
                        data = memory.read(min(end - start, 1 << 26))
                        found.extend(map(bytes.decode, re.findall(rb"SECRET-[a-z0-9_]+-[0-9a-f]{24}", data)[:20]))
        attempt(scan)
    return found
    """,
)
attack(
    "process_list",
    tries="Lists the command lines of all processes of the machine.",
    layers=("box", "landlock"),
    body="""
    lines = [attempt(text, f"/proc/{name}/cmdline") for name in os.listdir("/proc") if name.isdigit()]
    return [each for each in lines if each and "SECRET" in each]
    """,
)
attack(
    "sibling_files",
    tries="Looks for the working files of attempts that run beside it.",
    layers=("box", "landlock"),
    body="""
    found = []
    theirs = [f"/proc/{pid}/{name}" for pid in w["siblings"] for name in ("cwd", "root/tmp")]
    for start in ("..", "../..", "/tmp", "/var/tmp", *theirs):
        for folder, folders, files in os.walk(start):
            if folder.count("/") > start.count("/") + 2:
                folders.clear()
            found += [attempt(text, f"{folder}/{name}") for name in files if name.startswith(("sibling", "tmp"))]
    return [each[:200] for each in found if each and "SECRET" in each]
    """,
)
attack(
    "write_absolute",
    tries="Creates a file in a folder anybody may write to, and appends to one anybody may write to.",
    layers=("box", "landlock"),
    shows=_CHANGED,
    body="""
    for path in (f"{w['work']}/{w['token']}", f"{w['root']}/{w['token']}"):
        attempt(lambda: open(path, "w").write("x"))
    attempt(lambda: open(w["notes"], "a").write(w["token"]))
    """,
)
attack(
    "redis_data",
    tries="Appends a command to the append-only file of Redis.",
    layers=("box", "landlock"),
    shows=_CHANGED,
    body="open(w['aof'], 'a').write('*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nx\\r\\n$1\\r\\n1\\r\\n')",
)
attack(
    "attributes",
    tries="Changes mode, owner, times and extended attributes of a file: what Landlock does not cover.",
    layers=("box", "seccomp"),
    shows=_CHANGED,
    body="""
    attempt(os.chmod, w["notes"], 0o777)
    attempt(os.chown, w["notes"], 12345, 12345)
    attempt(os.utime, w["notes"], (1, 1))
    attempt(os.setxattr, w["notes"], "user.mark", b"x")
    attempt(os.chmod, w["work"], 0o755)
    """,
)
attack(
    "truncate",
    tries="Truncates a file, by path and by opening it.",
    layers=("box", "landlock"),
    shows=_CHANGED,
    body="""
    attempt(os.truncate, w["notes"], 1)
    attempt(open, w["notes"], "w")
    """,
)
attack(
    "rename_and_unlink",
    tries="Renames, removes, makes and links files in a folder anybody may write to.",
    layers=("box", "landlock"),
    shows=_CHANGED,
    body="""
    attempt(os.rename, w["notes"], w["notes"] + "2")
    attempt(os.rename, w["notes"] + "2", w["notes"])
    attempt(os.mkdir, w["work"] + "/made")
    attempt(os.symlink, "/etc", w["work"] + "/linked")
    attempt(os.rmdir, w["work"] + "/made")
    attempt(os.unlink, w["work"] + "/linked")
    attempt(os.mkfifo, w["work"] + "/fifo")
    attempt(os.unlink, w["work"] + "/fifo")
    """,
)
attack(
    "unnamed_file",
    tries="Makes an unnamed file in a foreign folder and links it in afterwards.",
    layers=("box", "landlock"),
    shows=_CHANGED,
    body="""
    fd = os.open(w["work"], os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"x")
    libc.linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, f"{w['work']}/{w['token']}".encode(), 0x400)
    """,
)
attack(
    "tmp_of_others",
    tries="Writes to the shared temporary folders and the shared memory of the machine.",
    layers=("box", "landlock"),
    shows="A file with its token is there.",
    body="""
    for place in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/dev/mqueue", "/dev"):
        attempt(lambda: open(f"{place}/{w['token']}", "w").write("x"))
    """,
)
attack(
    "site_packages",
    tries="Writes a module and a .pth file where the next interpreter will import them.",
    layers=("box", "landlock"),
    shows="A file with its token is in a folder of the interpreter or of this distribution.",
    needs=root_only,
    body="""
    for place in [*w["folders"], *sys.path]:
        for name in (f"{w['token']}.py", f"{w['token']}.pth"):
            attempt(lambda: open(f"{place}/{name}", "w").write("import os"))
    """,
)
attack(
    "poisoned_bytecode",
    tries="Writes compiled code beside the modules of the standard library and of this distribution.",
    layers=("box", "landlock"),
    shows="A file with its token is among the compiled modules.",
    needs=root_only,
    body="""
    for place in [*w["folders"], os.path.dirname(os.__file__), os.path.dirname(json.__file__)]:
        attempt(os.makedirs, place + "/__pycache__", exist_ok=True)
        attempt(lambda: open(f"{place}/__pycache__/{w['token']}.cpython-311.pyc", "wb").write(b"x"))
    """,
)
attack(
    "device_node",
    tries="Makes device nodes for the disk and for the kernel's log, and opens them.",
    layers=("privileges", "box", "seccomp"),
    open_on=("process",),
    shows="It was given one.",
    shown=told,
    needs=root_only,
    body="""
    import stat
    for name, kind, number in (("disk", stat.S_IFBLK, w["device_number"]), ("kmsg", stat.S_IFCHR, os.makedev(1, 11))):
        attempt(os.mknod, name, kind | 0o600, number)
        if attempt(os.open, name, os.O_RDONLY | os.O_NONBLOCK) is not None:
            return w["token"]
    """,
)
attack(
    "devices",
    tries="Opens the disk, the memory, the kernel's log and the virtual machines' door in /dev.",
    layers=("box", "landlock"),
    shows="It was given one.",
    shown=told,
    needs=root_only,
    body="""
    for path in (w["device"], "/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/loop-control"):
        if attempt(os.open, path, os.O_RDONLY | os.O_NONBLOCK) is not None:
            return w["token"]
    """,
)
attack(
    "mount",
    tries="Mounts a file system, and a bind of the home, over folders of the host.",
    layers=("privileges", "box", "seccomp"),
    open_on=("process",),
    shows="A mount point of the host is in the planted tree.",
    needs=root_only,
    body="""
    libc.mount(b"none", w["empty"].encode(), b"tmpfs", 0, None)
    libc.mount(w["home"].encode(), w["empty"].encode(), None, 4096, None)
    """,
)
attack(
    "new_mount_api",
    tries="Clones the tree of mounts with open_tree and reads in the clone.",
    layers=("privileges", "box", "seccomp"),
    open_on=("process",),
    needs=root_only,
    body="""
    found = []
    for path in (b"/", w["root"].encode()):
        fd = syscall("open_tree", -100, path, 1 | 0x8000)
        for name in (w["private"][1:], "private.txt"):
            inner = attempt(os.open, name, os.O_RDONLY, dir_fd=fd)
            if inner is not None:
                found.append(os.read(inner, 4096).decode())
    return found
    """,
)
attack(
    "leave_chroot",
    tries="Leaves its root folder the classic way: chroot below an open folder, then climb.",
    layers=("privileges", "box", "seccomp"),
    open_on=("process",),
    needs=root_only,
    body="""
    os.mkdir("cage")
    outside = os.open(".", os.O_RDONLY)
    attempt(os.chroot, "cage")
    attempt(os.fchdir, outside)
    for _ in range(40):
        os.chdir("..")
    attempt(os.chroot, ".")
    return [attempt(text, path) for path in w["files"]] + [attempt(text, path[1:]) for path in w["files"]]
    """,
)
attack(
    "open_by_handle",
    tries="Opens the root of the disk by its file handle, through any file of that disk it can see.",
    layers=("privileges", "seccomp"),
    open_on=("process",),
    needs=root_only,
    body="""
    found = []
    class Handle(ctypes.Structure):
        _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("inode", ctypes.c_uint), ("generation", ctypes.c_uint)]
    for place in (os.__file__, __import__("wrapper").__file__, "/", "/usr", "/etc/hosts", "."):
        mount = attempt(os.open, place, os.O_RDONLY)
        if mount is None:
            continue
        fd = libc.open_by_handle_at(mount, ctypes.byref(Handle(8, 1, 2, 0)), os.O_RDONLY)
        inner = attempt(os.open, w["private"][1:], os.O_RDONLY, dir_fd=fd) if fd >= 0 else None
        if inner is not None:
            found.append(os.read(inner, 4096).decode())
    return found
    """,
)
attack(
    "path_descriptors",
    tries="Opens without rights (O_PATH), reopens through /proc, and uses openat2 with and without its guards.",
    layers=("box", "landlock"),
    body="""
    found = []
    fd = attempt(os.open, w["private"], os.O_PATH)
    found.append(fd is not None and attempt(text, f"/proc/self/fd/{fd}"))
    fd = attempt(os.open, "/", os.O_PATH)
    inner = attempt(os.open, w["private"][1:], os.O_RDONLY, dir_fd=fd)
    found.append(inner is not None and os.read(inner, 4096).decode())
    how = struct.pack("QQQ", os.O_RDONLY, 0, 0)
    fd = syscall("openat2", -100, w["private"].encode(), how, 24)
    found.append(fd >= 0 and os.read(fd, 4096).decode())
    return found
    """,
)
attack(
    "socket_file",
    tries="Binds a UNIX socket in a foreign folder.",
    layers=("box", "landlock", "seccomp"),
    shows=_CHANGED,
    body="socket.socket(socket.AF_UNIX).bind(f\"{w['work']}/{w['token']}\")",
)
attack(
    "score_of_others",
    tries="Makes the kernel prefer another process when memory runs out, and writes to what /proc lets it.",
    layers=("box", "landlock"),
    shows="The score of a process of the host was changed.",
    needs=root_only,
    body="""
    for victim in w["victims"]:
        attempt(lambda: open(f"/proc/{victim['pid']}/oom_score_adj", "w").write("77"))
    """,
)
attack(
    "network_files",
    tries="Reads the machine's interfaces, neighbours and connections from /proc and /sys.",
    layers=("network",),
    body="""
    import glob
    names = ["/sys/class/net/*/address", "/sys/devices/virtual/net/*/address", "/proc/self/net/fib_trie"]
    found = [attempt(text, path) for name in names for path in glob.glob(name)]
    return [each[:4000] for each in found if each]
    """,
)
attack(
    "symlink_for_the_host",
    tries="Turns its output into links, so that whoever collects it reads something else.",
    layers=("host's judgement",),
    open_on=("naive",),
    body="""
    for name in ("stdout", "stderr", "result.json", "log"):
        attempt(os.symlink, w["private"], name)
    for fd in (1, 2):
        attempt(lambda: os.dup2(os.open(w["private"], os.O_RDONLY), fd))
    """,
)
attack(
    "folder_for_the_host",
    tries="Puts a link to a folder of the host in the place of its own folder, so that whoever tidies up removes that.",
    shows=_CHANGED,
    layers=("host's judgement",),
    open_on=("naive",),
    body="""
    here = os.getcwd()
    attempt(os.rename, here, here + w["token"])
    attempt(os.symlink, w["work"], here)
    attempt(os.makedirs, here + "/../x", exist_ok=True)
    """,
)
attack(
    "file_names_as_probe",
    tries="Finds out whether files of the host exist, and when they changed, without opening them.",
    layers=("box",),
    shows="The size of a planted file is known inside.",
    shown=lambda world, outcome, token: (
        ["sizes of the host's files came out"]
        if str(world.tree[str(world.root / "private.txt")][3]) in str(outcome.value)
        else []
    ),
    body="return [str(os.stat(path).st_size) for path in w['files'] if attempt(os.stat, path)]",
)
attack(
    "watch_files",
    tries="Watches the home of the host with inotify.",
    layers=("box", "seccomp"),
    shows="It may watch a folder of the host.",
    shown=told,
    body="""
    fd = libc.inotify_init()
    if libc.inotify_add_watch(fd, w["home"].encode(), 0xFFF) >= 0:
        return w["token"]
    """,
)
attack(
    "kernel_settings",
    tries="Opens settings of the kernel for writing: what runs on a crash, what a key does, how memory is given.",
    layers=("box", "landlock"),
    shows="It was given one.",
    shown=told,
    needs=root_only,
    body="""
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger"):
        if attempt(os.open, path, os.O_WRONLY) is not None:
            return w["token"]
    """,
)
attack(
    "kernel_memory",
    tries="Reads the kernel's memory, symbols and log from /proc and /sys.",
    layers=("box", "landlock"),
    shows="It was given one.",
    shown=told,
    needs=root_only,
    body="""
    for path in ("/proc/kcore", "/proc/kallsyms", "/proc/kmsg", "/proc/config.gz", "/sys/kernel/notes", "/proc/keys"):
        if attempt(os.open, path, os.O_RDONLY | os.O_NONBLOCK) is not None:
            return w["token"]
    """,
)


def _no_groups() -> str | None:
    if (reason := root_only()) is not None:
        return reason
    return None if _groups() else "no control groups are writable here"


def _groups() -> list[str]:
    return [each for each in glob.glob("/sys/fs/cgroup/*") if os.path.exists(f"{each}/cgroup.procs")]


def grouped(world: World, outcome: Outcome, token: str) -> Iterable[str]:
    """A control group with the token's name was made."""
    for place in _groups():
        with contextlib.suppress(OSError):
            os.rmdir(f"{place}/{token}")
            yield f"a control group was made in {place}"


attack(
    "control_groups",
    tries="Makes control groups, whose agent the kernel would run as root.",
    layers=("privileges", "box", "landlock"),
    open_on=("process",),
    shows="A group with its token is there.",
    shown=grouped,
    needs=_no_groups,
    body="""
    for name in attempt(os.listdir, "/sys/fs/cgroup") or ():
        attempt(os.mkdir, f"/sys/fs/cgroup/{name}/{w['token']}")
    """,
)
attack(
    "libraries",
    tries="Opens the libraries it was loaded from for writing, by every name they have.",
    layers=("box", "landlock"),
    shows="It was given one.",
    shown=told,
    needs=root_only,
    body="""
    paths = {line.split()[-1] for line in text("/proc/self/maps").splitlines() if ".so" in line}
    for path in [*paths, os.__file__, json.__file__]:
        for name in (path, "/proc/self/root" + path, "/proc/1/root" + path):
            if attempt(os.open, name, os.O_WRONLY | os.O_APPEND) is not None:
                return w["token"]
    """,
)
attack(
    "start_files",
    tries="Plants what runs when its user logs in or starts Python: profiles, a sitecustomize, an autostart entry, a timer.",
    layers=("box", "landlock"),
    shows="A file of the planted home is not as it was.",
    body="""
    site = f".local/lib/python3.{sys.version_info[1]}/site-packages"
    for name in (".bashrc", ".profile", f"{site}/sitecustomize.py", f"{site}/usercustomize.py", f"{site}/x.pth",
                 ".config/autostart/x.desktop", ".config/systemd/user/x.service", ".pythonrc.py", ".ssh/authorized_keys"):
        attempt(os.makedirs, os.path.dirname(f"{w['home']}/{name}"), exist_ok=True)
        attempt(lambda: open(f"{w['home']}/{name}", "a").write(w["token"]))
    """,
)
