"""Stands for ``sandbox-exec`` of macOS on Linux: reads a profile and enforces what it says with Landlock and seccomp.

``python sandbox_exec.py -f PROFILE COMMAND …``, put on PATH by :func:`install`. It knows the few rules that are written here
and no others; whatever it is not told to allow it denies, as the real one does.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

from wrapper.isolation import box, kernel, landlock, seccomp, syscalls

_RULE = re.compile(r"^\((allow|deny) ([a-z\-* ]+?)\n((?: {4}.*\n?)+)", re.MULTILINE)
_FILTER = re.compile(r'\((literal|subpath|sysctl-name) "((?:[^"\\]|\\.)*)"\)')


def rules(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """What is allowed, with its filters, which are unquoted."""
    assert text.startswith("(version 1)\n(deny default)\n")
    return [
        (what, [(kind, re.sub(r"\\(.)", r"\1", path)) for kind, path in _FILTER.findall(filters)])
        for verb, what, filters in _RULE.findall(text)
        if verb == "allow"
    ]


def install(folder: Path, *, enforcing: bool) -> None:
    """Put one into a folder, which is then put on PATH; one that enforces nothing only runs its command."""
    folder.mkdir(exist_ok=True)
    program = folder / "sandbox-exec"
    root = Path(__file__).resolve().parents[2]
    run = f'PYTHONPATH="{root}" exec "{sys.executable}" "{__file__}" "$@"' if enforcing else 'shift 2\nexec "$@"'
    program.write_text(f"#!/bin/sh\n{run}\n")
    program.chmod(0o755)


def main() -> None:
    """Confine this process, then become the command."""
    profile, command = sys.argv[2], sys.argv[3:]
    fences = landlock.Fences(kernel.landlock_abi())
    executable: list[str] = []
    readable: list[str] = []
    for what, filters in rules(Path(profile).read_text()):
        for kind, path in filters:
            if what == "process-exec":
                executable.append(path)
            elif what.startswith("file-read* file-write*"):
                fences.allow(path, landlock.SCRATCH)
            elif what.startswith("file-write-data"):
                fences.allow(path, landlock.WRITE)
            elif what.startswith("file-read*") and path != "/":
                # The names in a directory are all that a rule for it alone gives.
                fences.allow(path, landlock.READ if kind == "subpath" or not os.path.isdir(path) else 1 << 3)
                readable.append(path)
    for path in executable:
        fences.allow(path, landlock.READ | 1)
    # What macOS needs no rule for: the loader and its libraries, which are executed.
    for path in ("/lib", "/lib64", "/usr/lib"):
        fences.allow(path, landlock.READ | 1)
    if os.geteuid() == 0:
        # Which becomes nobody; where nobody may read the interpreter, files see root's number, without its privileges.
        there = [path for path in readable if os.path.exists(path)]
        if all(map(box._open_to_all, there)):  # pyright: ignore[reportPrivateUsage]
            os.chown(os.getcwd(), box.USER, box.USER)
        box.lower(there, frozenset())
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    fences.apply()
    name = ctypes.create_string_buffer(os.fsencode(command[0]))
    arguments = (ctypes.c_char_p * (len(command) + 1))(*map(os.fsencode, command), None)
    surroundings = [f"{key}={value}".encode() for key, value in os.environ.items() if key != "PYTHONPATH"]
    environment = (ctypes.c_char_p * (len(surroundings) + 1))(*surroundings, None)
    seccomp.load(_filter(ctypes.addressof(name)))
    ctypes.CDLL(None).execve(ctypes.c_void_p(ctypes.addressof(name)), arguments, environment)
    raise SystemExit(71)


def _filter(program: int) -> bytes:
    """That of the other backends, and one call more: to become a program whose name stands at one address, which is ours."""
    machine = kernel.machine()
    further = {"x86_64": {"arch_prctl": 158, "execve": 59}, "aarch64": {"execve": 221}}[machine]
    syscalls.TABLES[machine] = {**syscalls.TABLES[machine], **further}
    checked = seccomp._checked  # pyright: ignore[reportPrivateUsage]
    once = seccomp._when(  # pyright: ignore[reportPrivateUsage]
        0, (program & 0xFFFFFFFF,), seccomp._when(0, (program >> 32,), high=True)  # pyright: ignore[reportPrivateUsage]
    )  # fmt: skip
    allowed = seccomp._answer(seccomp._ALLOW)  # pyright: ignore[reportPrivateUsage]
    seccomp._checked = lambda messages: {**checked(messages), "execve": once, "arch_prctl": allowed}  # pyright: ignore[reportPrivateUsage]
    return seccomp.for_pid(seccomp.program(machine, scratch=True), os.getpid())


if __name__ == "__main__":
    main()
