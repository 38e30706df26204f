"""Attacks on and through processes: making more of them, outliving the run, and reaching those of others."""

from __future__ import annotations

import os

from attack import Family, root_only, told

FAMILY = Family("processes", {"shows": "More than one process carries its token.", "watched": True})
attack = FAMILY.attack
_SIGNALLED = "A process of the host was signalled, stopped or ended."


def _not_x86() -> str | None:
    return None if os.uname().machine == "x86_64" else "machine code for x86-64"


attack(
    "fork",
    tries="Forks.",
    layers=("seccomp",),
    body="""
    mark(w)
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.1)
    """,
)
attack(
    "clone",
    tries="Makes a process with the clone system call itself.",
    layers=("seccomp",),
    body="""
    mark(w)
    if syscall("clone", signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.1)
    """,
)
attack(
    "clone3",
    tries="Makes a process with clone3, whose arguments a filter cannot see.",
    layers=("seccomp",),
    body="""
    mark(w)
    arguments = struct.pack("11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    if syscall("clone3", arguments, len(arguments)) == 0:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.1)
    """,
)
attack(
    "posix_spawn",
    tries="Spawns a program.",
    layers=("box", "landlock", "seccomp"),
    shows="A process with its token among the arguments runs.",
    body="""
    for path in ("/bin/sleep", "/usr/bin/sleep"):
        attempt(os.posix_spawn, path, [w["token"], "20"], {})
    time.sleep(0.15)
    """,
)
attack(
    "subprocess",
    tries="Runs a program through subprocess.",
    layers=("box", "landlock", "seccomp"),
    shows="A process with its token among the arguments runs.",
    body="""
    import subprocess
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)", w["token"]])
    time.sleep(0.15)
    """,
)
attack(
    "os_system",
    tries="Runs a shell through os.system and os.popen.",
    layers=("box", "landlock", "seccomp"),
    shows="A process with its token among the arguments runs.",
    body="""
    os.system(f"sh -c 'sleep 20; :' {w['token']} &")
    attempt(os.popen, f"sh -c 'sleep 20; :' {w['token']}")
    time.sleep(0.15)
    """,
)
attack(
    "exec",
    tries="Replaces itself by another program.",
    layers=("box", "landlock", "seccomp"),
    shows="A process with its token among the arguments runs.",
    body="os.execv('/bin/sleep', [w['token'], '0.3'])",
)
attack(
    "exec_from_memory",
    tries="Writes a program of its own into memory and runs it from there, so that no file system can forbid it.",
    layers=("seccomp",),
    needs=_not_x86,
    wall=0.5,
    shows="A process with its token among the arguments runs.",
    body="""
    code = bytes.fromhex("b8220000000f05ebf7")  # pause, for ever
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    part = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + len(code), 120 + len(code), 0x1000)
    fd = os.memfd_create("program", 0)
    os.write(fd, head + part + code)
    os.execve(fd, [w["token"]], {})
    """,
)
attack(
    "daemon",
    tries="Forks twice into a session of its own, ignores signals and goes on after the run.",
    layers=("seccomp",),
    shows="A process with its token ran beside it, or is alive afterwards.",
    body="""
    mark(w)
    if os.fork() == 0:
        os.setsid()
        for number in range(1, 32):
            attempt(signal.signal, number, signal.SIG_IGN)
        if os.fork() == 0:
            os.closerange(0, 256)
            time.sleep(60)
        os._exit(0)
    time.sleep(0.4)
    """,
)
attack(
    "kill_host",
    tries="Signals the host, the zygote and a process of the host by their numbers.",
    layers=("box", "landlock", "seccomp"),
    shows=_SIGNALLED,
    body="""
    for pid in w["pids"]:
        attempt(os.kill, pid, w["signal"])
    """,
)
attack(
    "kill_everyone",
    tries="Signals every process it may signal, with kill(-1).",
    layers=("box", "landlock", "seccomp"),
    shows=_SIGNALLED,
    alone=True,
    body="os.kill(-1, w['signal'])",
)
attack(
    "kill_parents",
    tries="Signals its parent and whatever is number 1.",
    layers=("box", "landlock", "seccomp"),
    shows=_SIGNALLED,
    body="""
    for pid in {os.getppid(), w["zygote"]} - {0, 1, os.getpid()}:
        attempt(os.kill, pid, signal.SIGSTOP)
    time.sleep(0.05)
    """,
)
attack(
    "kill_zygote",
    tries="Kills the process that all attempts come from.",
    layers=("box", "landlock", "seccomp"),
    shows="The zygote is gone, and everybody's attempts with it.",
    body="""
    for pid in {os.getppid(), w["zygote"]} - {0, 1, os.getpid()}:
        attempt(os.kill, pid, signal.SIGKILL)
    time.sleep(0.05)
    """,
)
attack(
    "kill_siblings",
    tries="Kills the attempts that run beside it.",
    layers=("namespaces", "landlock", "seccomp"),
    shows="The attempt of somebody else was ended.",
    body="""
    for pid in {*w["siblings"], *[int(name) for name in os.listdir("/proc") if name.isdigit()]} - {1, os.getpid()}:
        # Only what comes from the same zygote: where this gets through, the machine has other processes too.
        mine = f'"host": {w["host"]},' in (attempt(text, f"/proc/{pid}/cmdline") or "")
        if pid != w["zygote"] and (pid in w["siblings"] or mine):
            attempt(os.kill, pid, signal.SIGKILL)
    """,
)
attack(
    "kill_group",
    tries="Ends its whole process group, which reaches members outside its process namespace too.",
    layers=("session", "landlock", "seccomp"),
    shows="The zygote or the host got the signal.",
    body="""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    attempt(os.killpg, 0, signal.SIGTERM)
    attempt(os.kill, 0, signal.SIGTERM)
    time.sleep(0.05)
    """,
)
attack(
    "other_ways_to_signal",
    tries="Signals through tgkill, rt_sigqueueinfo and a pidfd.",
    layers=("box", "landlock", "seccomp"),
    shows=_SIGNALLED,
    body="""
    for victim in w["victims"]:
        pid = victim["pid"]
        syscall("tgkill", pid, pid, w["signal"])
        syscall("rt_sigqueueinfo", pid, w["signal"], ctypes.create_string_buffer(struct.pack("iii", w["signal"], 0, -1), 128))
        fd = syscall("pidfd_open", pid, 0)
        if fd >= 0:
            syscall("pidfd_send_signal", fd, w["signal"], None, 0)
    """,
)
attack(
    "signal_by_descriptor",
    tries="Makes a descriptor signal somebody else when data arrives (F_SETOWN, O_ASYNC).",
    layers=("box", "landlock", "seccomp"),
    shows=_SIGNALLED,
    body="""
    import fcntl
    for victim in w["victims"]:
        for mine, other in (socket.socketpair(), os.pipe()):
            fd = mine if isinstance(mine, int) else mine.fileno()
            attempt(fcntl.fcntl, fd, fcntl.F_SETOWN, victim["pid"])
            attempt(fcntl.fcntl, fd, 10, w["signal"])
            attempt(fcntl.fcntl, fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
            attempt(os.write, other if isinstance(other, int) else other.fileno(), b"x")
    time.sleep(0.05)
    """,
)
attack(
    "ptrace",
    tries="Traces a process of the host and reads its memory word by word.",
    layers=("box", "landlock", "seccomp"),
    shows="That process has a tracer, or its secret came out.",
    body="""
    found = b""
    libc.ptrace.restype = ctypes.c_long
    for victim in w["victims"]:
        if libc.ptrace(0x4206, victim["pid"], None, None) < 0:
            continue
        libc.ptrace(0x4207, victim["pid"], None, None)
        time.sleep(0.05)
        for at in range(0, victim["length"], 8):
            found += struct.pack("q", libc.ptrace(2, victim["pid"], ctypes.c_void_p(victim["address"] + at), None))
    return found.decode("latin-1")
    """,
)
attack(
    "process_vm_readv",
    tries="Copies memory out of a process of the host.",
    layers=("box", "landlock", "seccomp"),
    shows="That process's secret came out.",
    body="""
    found = []
    for victim in w["victims"]:
        mine = ctypes.create_string_buffer(victim["length"])
        local = struct.pack("QQ", ctypes.addressof(mine), victim["length"])
        remote = struct.pack("QQ", victim["address"], victim["length"])
        syscall("process_vm_readv", victim["pid"], local, 1, remote, 1, 0)
        found.append(mine.raw.decode("latin-1"))
    return found
    """,
)
attack(
    "process_vm_writev",
    tries="Writes into the memory of a process of the host.",
    layers=("box", "landlock", "seccomp"),
    shows="That process's memory is not as it was.",
    body="""
    for victim in w["victims"]:
        mine = ctypes.create_string_buffer(b"changed")
        local = struct.pack("QQ", ctypes.addressof(mine), 7)
        remote = struct.pack("QQ", victim["address"], 7)
        syscall("process_vm_writev", victim["pid"], local, 1, remote, 1, 0)
    """,
)
attack(
    "pidfd_getfd",
    tries="Takes a descriptor out of a process of the host.",
    layers=("box", "landlock", "seccomp"),
    shows="What that descriptor holds came out.",
    body="""
    found = []
    for victim in w["victims"]:
        fd = syscall("pidfd_getfd", syscall("pidfd_open", victim["pid"], 0), victim["fd"], 0)
        found.append(attempt(os.pread, fd, 100, 0))
    return [each.decode() for each in found if each]
    """,
)
attack(
    "setns",
    tries="Enters the namespaces of a process of the host and connects from there.",
    layers=("network", "landlock", "seccomp"),
    shows="A listener was reached.",
    watched=False,
    body="""
    for pid in (1, *w["pids"]):
        for name, kind in (("user", 0x10000000), ("mnt", 0x20000), ("net", 0x40000000)):
            fd = attempt(os.open, f"/proc/{pid}/ns/{name}", os.O_RDONLY)
            if fd is not None:
                syscall("setns", fd, kind)
        fd = syscall("pidfd_open", pid, 0)
        if fd >= 0:
            syscall("setns", fd, 0x40020000)
    socket.create_connection(("127.0.0.1", w["tcp"]), 1)
    """,
)
attack(
    "unshare",
    tries="Makes a user namespace, in which it has every capability, with mounts and network of its own.",
    layers=("seccomp",),
    shows="It was given one.",
    shown=told,
    body="""
    for flags in (0x10000000, 0x10000000 | 0x20000, 0x20000, 0x40000000, 0x8000000, 0x2000000):
        if libc.unshare(flags) == 0:
            return w["token"]
    """,
)
attack(
    "personality",
    tries="Turns off the random layout of memory, and asks for other personalities.",
    layers=("seccomp",),
    shows="It was given one.",
    shown=told,
    body="""
    if syscall("personality", 0x0040000) >= 0 and syscall("personality", 0xFFFFFFFF) == 0x0040000:
        return w["token"]
    """,
)
attack(
    "process_settings",
    tries="Undoes what was set for it: dumpable, death with its parent, a strict filter of its own, capabilities.",
    layers=("capabilities",),
    shows="It was allowed to live on after its parent, or has capabilities.",
    shown=told,
    needs=root_only,
    body="""
    libc.prctl(4, 1, 0, 0, 0)
    libc.prctl(1, 0, 0, 0, 0)
    for line in text("/proc/self/status").splitlines():
        if line.startswith(("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")) and int(line.split()[1], 16):
            return w["token"]
    """,
)
attack(
    "become_someone",
    tries="Changes its user, its groups and runs a program that changes them for it.",
    layers=("privileges", "seccomp"),
    open_on=("process",),
    shows="It is somebody else.",
    needs=root_only,
    shown=told,
    body="""
    before = os.getresuid(), os.getresgid(), os.getgroups()
    for uid in (0, 1, 12345, 65534):
        attempt(os.setgroups, [uid])
        attempt(os.setresgid, uid, uid, uid)
        attempt(os.setresuid, uid, uid, uid)
        if (os.getresuid(), os.getresgid(), os.getgroups()) != before:
            return w["token"]
    """,
)
attack(
    "ignore_signals",
    tries="Ignores and blocks every signal, so that a cancelled run goes on.",
    shows="The run did not end when it was cancelled.",
    layers=("kill",),
    open_on=("naive",),
    watched=False,
    wall=30.0,
    cancel_after=0.2,
    body="""
    for number in range(1, 65):
        attempt(signal.signal, number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    while True:
        time.sleep(5)
    """,
)
attack(
    "priorities",
    tries="Changes the priority, the processors, the policy and the limits of a process of the host.",
    layers=("box", "seccomp"),
    shows="One of these is not as it was.",
    body="""
    import resource
    for victim in w["victims"]:
        pid = victim["pid"]
        attempt(os.setpriority, os.PRIO_PROCESS, pid, 7)
        attempt(os.sched_setscheduler, pid, os.SCHED_BATCH, os.sched_param(0))
        attempt(resource.prlimit, pid, resource.RLIMIT_NOFILE, (100, 100))
        attempt(os.sched_setaffinity, pid, {0})
    """,
)
attack(
    "hide",
    tries="Moves itself out of its session and group, and under another name, so that nobody finds it to kill it.",
    shows="It is alive after its deadline.",
    layers=("kill",),
    open_on=("naive",),
    wall=0.4,
    body="""
    attempt(os.setpgid, 0, w["zygote"])
    attempt(os.setsid)
    libc.prctl(1, 0, 0, 0, 0)
    libc.prctl(36, 1, 0, 0, 0)
    attempt(lambda: open("/proc/self/oom_score_adj", "w").write("-999"))
    while True:
        attempt(time.sleep, 9)
    """,
)
attack(
    "child_of_the_zygote",
    tries="Makes a process that is not its own child but its parent's, which would not die with it.",
    layers=("namespaces", "seccomp"),
    body="""
    mark(w)
    if syscall("clone", 0x8000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.1)
    """,
)
attack(
    "looks_into_others",
    tries="Compares, moves and inspects processes of the host by the calls that are no ptrace and ask as ptrace does.",
    layers=("box", "landlock", "seccomp"),
    shows="It was told something of another process.",
    shown=told,
    body="""
    found = []
    for victim in w["victims"]:
        pid = victim["pid"]
        if syscall("kcmp", pid, pid, 1, 0, 0) >= 0: found.append("kcmp")
        head, length = ctypes.c_void_p(), ctypes.c_size_t()
        if syscall("get_robust_list", pid, ctypes.byref(head), ctypes.byref(length)) == 0: found.append("get_robust_list")
    return found and [w["token"], found]
    """,
)
