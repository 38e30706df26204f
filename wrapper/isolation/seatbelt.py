"""What macOS is told about code that runs in ``sandbox-exec``: the text of a profile, made from its parts.

See sandbox-exec(1) and the profiles in ``/System/Library/Sandbox/Profiles``. The language is not documented by its maker and
the program deprecated, and no Mac was at hand: every rule here is written from what is known of it in public, and none is
believed. What the profile lets through is for the canary to find out.

What is not allowed is denied: every write but to the attempt's own directory, every network, every new process, every
program but the interpreter itself, every service that is looked up by name, every signal to another.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Sequence

from wrapper.isolation import box

PROGRAM = "sandbox-exec"
_SYSTEM = (
    "/usr/lib",
    "/System/Library",
    "/System/Volumes/Preboot/Cryptexes",
    "/private/var/db/dyld",
    "/private/var/db/timezone",
    "/usr/share/zoneinfo",
)
"""Where the dynamic loader and the C library of macOS keep what every program needs."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_FACTS = (
    "hw.activecpu", "hw.byteorder", "hw.cachelinesize", "hw.cpufamily", "hw.cputype", "hw.logicalcpu", "hw.logicalcpu_max",
    "hw.machine", "hw.memsize", "hw.ncpu", "hw.pagesize", "hw.pagesize_compat", "hw.physicalcpu", "hw.physicalcpu_max",
    "kern.argmax", "kern.osproductversion", "kern.osrelease", "kern.ostype", "kern.osvariant_status", "kern.osversion",
    "kern.usrstack64", "kern.version",
)  # fmt: skip
"""What may be asked about the machine: sizes and versions; neither its name nor its processes."""


class Unsayable(ValueError):
    """A path cannot be written into a profile."""


def quoted(path: str) -> str:
    """A path as a string of the profile's language.

    Raises:
        Unsayable: it holds a control character, or bytes that are no text: no reading of it is certain.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Unsayable(f"{path!r} is not UTF-8 text and cannot stand in a profile; use another directory") from None
    if any(character < " " or character == "\x7f" for character in path):
        raise Unsayable(f"{path!r} holds a control character and cannot stand in a profile; use another directory")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def profile(*, runtime: Sequence[str], listed: Sequence[str], programs: Sequence[str], scratch: str) -> str:
    """The rules for one attempt.

    Args:
        runtime: what may be read, files and whole directories.
        listed: directories whose names may be read, and nothing in them.
        programs: what may be executed: the interpreter, by each of its names.
        scratch: the only directory that may be written to. Its real path.

    Raises:
        Unsayable: a path cannot be written down.
    """
    directories = [path for path in runtime if os.path.isdir(path)]
    files = [path for path in runtime if path not in directories]
    passed = _above([*runtime, *listed, *programs, scratch])
    rules = [
        "(version 1)",
        "(deny default)",
        _rule("allow process-exec", ("literal", programs)),
        "(deny process-fork)",
        "(allow signal (target self))",
        "(allow process-info* (target self))",
        _rule("allow sysctl-read", ("sysctl-name", _FACTS)),
        _rule("allow file-read-metadata", ("literal", passed)),
        _rule("allow file-read* file-map-executable", ("subpath", directories), ("literal", [*files, *programs])),
        _rule("allow file-read*", ("literal", ["/", *listed, *_DEVICES])),
        _rule("allow file-write-data", ("literal", ["/dev/null"])),
        _rule("allow file-read* file-write*", ("subpath", [scratch])),
        "(deny network*)",
        "(deny mach-lookup)",
    ]
    return "\n".join(rules) + "\n"


def _rule(head: str, *filters: tuple[str, Iterable[str]]) -> str:
    lines = [f"    ({kind} {quoted(value)})" for kind, values in filters for value in values]
    return "\n".join([f"({head}", *lines]) + ")"


def _above(paths: Iterable[str]) -> list[str]:
    """Every directory that is passed on the way to some paths, and the paths: what may be asked to exist."""
    found: set[str] = set()
    for path in paths:
        while path not in found and path != "/":
            found.add(path)
            path = os.path.dirname(path)
    return sorted(found)


def real(paths: Iterable[str]) -> list[str]:
    """Paths by the names they are asked for with and by those they lead to, which are what the kernel compares."""
    return sorted({name for path in paths for name in (os.path.abspath(path), os.path.realpath(path))})


def runtime(preload: Sequence[str]) -> list[str]:
    """What an interpreter reads: that of the other backends, and what macOS has instead of ``/lib``."""
    framework = sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX")
    found = [path for path in (*_SYSTEM, *([framework] if framework else [])) if os.path.exists(path)]
    # The file that makes a virtual environment of an interpreter.
    venv = os.path.join(sys.prefix, "pyvenv.cfg")
    return real([*found, *box.runtime(preload), *([venv] if os.path.exists(venv) else [])])


def listed(root: str, preload: Sequence[str]) -> list[str]:
    """Directories that an import looks through on its way to this package, which is in ``root``, and to what is preloaded."""
    parents = [os.path.dirname(path) for name in preload for path in box.package(name.partition(".")[0])]
    return real([root, os.path.join(root, "wrapper"), *parents])


def programs() -> list[str]:
    """The interpreter, by each name it is started by; a framework build starts another one inside it."""
    prefix = sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX")
    inside = f"{sys.base_prefix}/Resources/Python.app/Contents/MacOS/Python" if prefix else ""
    base = getattr(sys, "_base_executable", sys.executable)
    return real([sys.executable, base, *([inside] if os.path.exists(inside) else [])])
