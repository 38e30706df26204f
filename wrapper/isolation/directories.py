"""Private directories of runs: made under one base for each zygote, and removed whatever died.

A zygote holds a lock on its base for as long as it lives. When host and zygote are killed outright together nobody is left
to tidy up; the next zygote of the same user does, finding the base old and its lock free.
"""

from __future__ import annotations

import fcntl
import glob
import logging
import os
import shutil
import subprocess
import tempfile
import time

log = logging.getLogger("arbiter.isolation")

_PREFIX = "arbiter-run-"
_YOUNG_SECONDS = 600.0
"""A base younger than this may belong to a zygote that is still starting and holds no lock yet."""


def make() -> str:
    """A new base, readable by this user only."""
    return tempfile.mkdtemp(prefix=_PREFIX)


def of_run(base: str | None, number: int) -> str | None:
    """The private directory of one run under a base; None when there is no base."""
    return None if base is None else os.path.join(base, f"run-{number}")


def hold(base: str) -> int:
    """Lock a base for the life of this process; children let go of it when they close their descriptors.

    Returns:
        the descriptor that holds the lock.
    """
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def remove_abandoned() -> None:
    """Remove the bases of this user that no living zygote holds."""
    for base in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), _PREFIX + "*")):
        try:
            found = os.lstat(base)
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _YOUNG_SECONDS:
                continue
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile, or not a directory of ours
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its zygote lives
        finally:
            os.close(fd)
        log.info("removing %s, left by a zygote that was killed together with its host", base)
        remove(base)


def remove(path: str | None) -> None:
    """Remove a tree that code may have made hard to remove; never follows a link out of it. None is nothing."""
    if path is None:
        return

    def open_up(_function: object, inner: str, _info: object) -> None:
        for each in (os.path.dirname(inner), inner):
            # Of the tree only: what is above it belongs to others, and is named here too when the tree is gone already.
            if (each == path or each.startswith(f"{path}/")) and not os.path.islink(each):
                try:
                    os.chmod(each, 0o700)
                except OSError:
                    pass

    for attempt in range(2):
        try:
            shutil.rmtree(path, onerror=open_up if attempt == 0 else None)
        except FileNotFoundError:
            return
        except (OSError, RecursionError) as error:
            if attempt:
                subprocess.run(["/bin/rm", "-rf", "--", path], check=False, stderr=subprocess.DEVNULL)
                log.debug("removed %s the hard way: %s", path, error)
        if not os.path.lexists(path):
            return
