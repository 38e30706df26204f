"""Where a local server's socket may lie: a short path in a directory that only its owner can enter."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from blackboard.errors import EngineUnavailable

_PATH_BYTES = 103
"""macOS holds a socket's path in 104 bytes, Linux in 108; redis-server exits on a longer one."""


def place(directory: Path, last: str | None) -> str:
    """The path of the socket for a data directory, named by a hash of the directory's real path.

    ``/tmp/arbiter-<uid>`` comes before ``XDG_RUNTIME_DIR``: the latter is removed when the last login session ends, and
    the server with its clients (a daemon started over SSH) is meant to outlive that.

    Args:
        directory: the real data directory.
        last: the socket used before; it is used again where possible, so that clients made for it stay good.

    Raises:
        EngineUnavailable: no place is private and short enough.
    """
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16] + ".sock"
    candidates = [Path(f"/tmp/arbiter-{os.geteuid()}")]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        candidates.append(Path(runtime) / "arbiter")
    if last is not None and last.endswith("/" + name):
        candidates.insert(0, Path(last).parent)
    problems: list[str] = []
    for candidate in candidates:
        path = str(candidate / name)
        problem = make_private(candidate) if len(os.fsencode(path)) <= _PATH_BYTES else f"{path} is too long"
        if problem is None:
            return path
        problems.append(problem)
    raise EngineUnavailable(
        f"There is no safe place for the local server's socket: {'; '.join(problems)}. "
        "Set XDG_RUNTIME_DIR to a directory that only you can enter."
    )


def make_private(candidate: Path) -> str | None:
    """Make ``candidate`` a directory only its owner can enter.

    Returns:
        None when it is one, otherwise what is wrong with it: a link, not a directory, somebody else's.
    """
    try:
        candidate.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(candidate, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        return f"{candidate}: {error.strerror}"
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            return f"{candidate} belongs to user {found.st_uid}"
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    return None
