"""Attacks with machine code: no Python, no C library, only system calls."""

from __future__ import annotations

import os
import subprocess
import sys

from attack import Family, root_only, told

FAMILY = Family("native", {"shows": "It was given what it asked for.", "shown": told})
attack = FAMILY.attack

_MACHINE = '''
import mmap
def machine(code, *arguments):
    """Run machine code as a function of up to six integers."""
    area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area.write(code)
    kind = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * len(arguments))
    return kind(ctypes.addressof(ctypes.c_char.from_buffer(area)))(*arguments)
# mov rax, rdi; mov rdi, rsi; mov rsi, rdx; mov rdx, rcx; mov r10, r8; mov r8, r9; syscall; ret
SYSCALL = bytes.fromhex("4889f84889f74889d64889ca4d89c24d89c80f05c3")
# push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; xor edx, edx; int 0x80; pop rbx; ret
INTERRUPT = bytes.fromhex("5389f889f389d131d2cd805bc3")
def low(data):
    """The address, below four gigabytes, of a copy of some bytes."""
    libc.mmap.restype = ctypes.c_void_p
    place = libc.mmap(None, 4096, 3, 0x62, -1, 0)
    ctypes.memmove(place, data + b"\\0", len(data) + 1)
    return place
'''


def _body(text: str) -> str:
    lines = "\n".join("    " + line for line in text.strip("\n").splitlines())
    return _MACHINE.lstrip("\n") + "def handler(w):\n" + lines + "\n"


def _not_x86() -> str | None:
    return None if os.uname().machine == "x86_64" else "machine code for x86-64"


def _tried(code: str, what: str) -> str | None:
    """Whether this kernel has an interface at all, tried in a process of its own."""
    if (reason := _not_x86()) is not None:
        return reason
    source = (
        f"import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n{_MACHINE}\nsys.exit(0 if {code} else 1)"
    )
    done = subprocess.run([sys.executable, "-c", source], check=False, stderr=subprocess.DEVNULL)
    return None if done.returncode == 0 else f"this kernel has no {what}"


def _no_int80() -> str | None:
    return _tried("machine(INTERRUPT, 20, 0, 0) == os.getpid()", "32-bit system calls")


def _no_x32() -> str | None:
    return _tried("machine(SYSCALL, 0x40000000 | 39, 0, 0, 0, 0, 0) == os.getpid()", "x32 system calls")


attack(
    "raw_system_call",
    tries="Makes a socket with the syscall instruction, written into executable memory.",
    layers=("seccomp",),
    needs=_not_x86,
    body=_body("if machine(SYSCALL, 41, 2, 1, 0, 0, 0) >= 0: return w['token']"),
)
attack(
    "raw_fork",
    tries="Forks with the syscall instruction.",
    layers=("seccomp",),
    needs=_not_x86,
    watched=True,
    shown=None,
    shows="Two processes carry its token.",
    body=_body("""
mark(w)
if machine(SYSCALL, 57, 0, 0, 0, 0, 0) == 0:
    time.sleep(5)
    os._exit(0)
time.sleep(0.1)
"""),
)
attack(
    "fork_that_waits",
    tries="Forks as vfork does, by flags of clone, and lets the copy work while it is itself asleep.",
    layers=("seccomp",),
    watched=True,
    shown=None,
    shows="Two processes carry its token.",
    body="""
    mark(w)
    if syscall("clone", 0x4000 | 17, 0, 0, 0, 0) == 0:
        time.sleep(1)
        os._exit(0)
    """,
)
attack(
    "traced_by_its_parent",
    tries="Asks to be traced by the process all attempts come from, which would then hear of each of its signals.",
    layers=("seccomp",),
    shows="The kernel agreed.",
    body="""
    if syscall("ptrace", 0, 0, 0, 0) == 0: return w["token"]
    """,
)
attack(
    "protected_then_executable",
    tries="Writes code first and makes it executable afterwards, with mprotect, then asks for a namespace.",
    layers=("seccomp",),
    needs=_not_x86,
    body=_body("""
area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
area.write(SYSCALL)
place = ctypes.addressof(ctypes.c_char.from_buffer(area))
libc.mprotect(ctypes.c_void_p(place), 4096, 5)
function = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 3)(place)
if function(272, 0x10000000, 0) == 0: return w["token"]
"""),
)
attack(
    "interrupt_80",
    tries="Opens a file of the host through the 32-bit entry (int 0x80), whose numbers are others.",
    layers=("box", "landlock", "seccomp"),
    needs=_no_int80,
    shown=None,
    shows="The planted secret is in the result.",
    body=_body("""
fd = machine(INTERRUPT, 5, low(w["private"].encode()), 0)
return os.read(fd, 4096).decode()
"""),
)
attack(
    "interrupt_80_namespace",
    tries="Asks for a namespace and for a socket through the 32-bit entry, where a filter for 64 bits sees other numbers.",
    layers=("seccomp",),
    needs=_no_int80,
    body=_body("""
if machine(INTERRUPT, 310, 0x10000000, 0) == 0: return w["token"]
if machine(INTERRUPT, 359, 16, 3) >= 0: return w["token"]
"""),
)
attack(
    "x32",
    tries="Uses the x32 numbers of system calls that are denied.",
    layers=("seccomp",),
    needs=_no_x32,
    body=_body("""
if machine(SYSCALL, 0x40000000 | 41, 2, 1, 0, 0, 0) >= 0: return w["token"]
if machine(SYSCALL, 0x40000000 | 272, 0x10000000, 0, 0, 0, 0) == 0: return w["token"]
"""),
)
attack(
    "wide_number",
    tries="Sets bits above the 32 that the kernel reads of a system call's number and of a flag.",
    layers=("seccomp",),
    needs=_not_x86,
    body=_body("""
if machine(SYSCALL, 1 << 32 | 41, 2, 1, 0, 0, 0) >= 0: return w["token"]
if machine(SYSCALL, 41, 1 << 32 | 2, 1 << 32 | 1, 0, 0, 0) >= 0: return w["token"]
if machine(SYSCALL, 272, 1 << 32 | 0x10000000, 0, 0, 0, 0) == 0: return w["token"]
"""),
)
attack(
    "library_calls",
    tries="Calls open and read of the C library, without Python's own.",
    layers=("box", "landlock"),
    shown=None,
    shows="The planted secret is in the result.",
    body="""
    found = []
    for path in w["files"]:
        data = ctypes.create_string_buffer(4096)
        fd = libc.open(path.encode(), 0)
        libc.read(fd, data, 4095)
        found.append(data.value.decode("latin-1"))
    return found
    """,
)
attack(
    "io_uring",
    tries="Makes an io_uring, whose operations no filter sees.",
    layers=("seccomp",),
    body="""
    fd = syscall("io_uring_setup", 4, ctypes.create_string_buffer(120))
    if fd >= 0: return w["token"]
    """,
)
attack(
    "kernel_interfaces",
    tries="Asks for the interfaces in which most kernel bugs were: bpf, userfaultfd, perf events, new mounts.",
    layers=("seccomp",),
    body="""
    given = []
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1), 128)
    if syscall("bpf", 0, attributes, 128) >= 0: given.append("bpf")
    if syscall("userfaultfd", 1) >= 0: given.append("userfaultfd")
    if syscall("fsopen", b"tmpfs", 0) >= 0: given.append("fsopen")
    event = ctypes.create_string_buffer(struct.pack("IIQ", 1, 112, 0), 128)
    if syscall("perf_event_open", event, 0, -1, -1, 0) >= 0: given.append("perf")
    return given and [w["token"], given]
    """,
)
attack(
    "priorities_by_lock",
    tries="Locks with a futex that hands priorities on, one of the kernel's most broken interfaces.",
    layers=("seccomp",),
    body="""
    word = ctypes.c_int(0)
    if syscall("futex", ctypes.byref(word), 6 | 128, 0, None, None, 0) == 0:
        return w["token"]
    """,
)
attack(
    "filter_of_its_own",
    tries="Loads a system call filter of its own, with which it could lie to whatever runs in its name.",
    layers=("seccomp",),
    body="""
    code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000), 8)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(code)), 16)
    if syscall("seccomp", 1, 0, program) == 0 or libc.prctl(22, 2, program, 0, 0) == 0:
        return w["token"]
    """,
)
attack(
    "clock",
    tries="Sets the machine's clock (to what it is).",
    layers=("privileges", "box", "seccomp"),
    open_on=("process",),
    needs=root_only,
    body="""
    if syscall("clock_settime", 0, ctypes.create_string_buffer(struct.pack("qq", *divmod(time.time_ns(), 10**9)), 16)) == 0:
        return w["token"]
    """,
)
attack(
    "locks_of_others",
    tries="Looks for record locks that an attempt beside it holds on a file both may only read.",
    layers=("seccomp",),
    shows="It sees the other's lock.",
    body="""
    import fcntl
    with open(os.__file__) as file:
        for command in (5, 36):
            said = attempt(fcntl.fcntl, file, command, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
            if said and struct.unpack("hhqqi4x", said)[0] != fcntl.F_UNLCK:
                return w["token"]
    """,
)
