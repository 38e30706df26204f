"""A child's life: forked, stripped, locked down, parked, given one job, dead.

Runs generated code, so nothing here may hold anything worth stealing. Standard library only.
"""

from __future__ import annotations

import faulthandler
import fcntl
import hashlib
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, cast

from wrapper.isolation import framing, hotload
from wrapper.isolation.channel import CHANNEL_LOST, Channel, attach
from wrapper.isolation.lockdown import Walls

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_CHANNEL = 3


class _CappedFile(io.RawIOBase):
    """Writes to a descriptor up to a number of bytes, then swallows the rest: a flood of output cannot fail a run."""

    def __init__(self, fd: int, limit: int) -> None:
        self._fd, self._left = fd, limit

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        if self._left > 0:
            kept = view[: self._left]
            self._left -= len(kept)
            try:
                os.write(self._fd, kept)
                if len(kept) < len(view):
                    os.write(self._fd, b"\n[output truncated]\n")
            except OSError:
                self._left = 0
        return len(view)


def _capture(log_bytes: int) -> None:
    for name, fd in (("stdout", 1), ("stderr", 2)):
        # No buffer in between: a run that is killed leaves all it printed as evidence.
        raw = cast("io.BufferedWriter", _CappedFile(fd, log_bytes))
        text = io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", write_through=True)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def _strip(channel: int, out: int, err: int, directory: str | None, walls: Walls) -> None:
    walls.enter(directory)
    # Where no directory of the host's has to be tidied up, the zygote handles no signal and has set the environment for
    # all, which spares each child half a megabyte of memory of its own.
    if directory is not None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        set_environment(directory)
    # Above the four numbers first, so that no source is overwritten before it was copied.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in (out, err, channel)]
    # The rules of the fence are open descriptors, which are closed below.
    null = os.open(os.devnull, os.O_RDONLY)
    walls.fence()
    os.dup2(null, 0)
    os.dup2(high[0], 1)
    os.dup2(high[1], 2)
    os.dup2(high[2], _CHANNEL, inheritable=False)
    os.closerange(4, 1 << 16)  # more than the zygote can have open
    # Python lines of a segmentation fault, on the captured stderr.
    faulthandler.enable(file=2)


def set_environment(home: str) -> None:
    """All a child needs, and nothing else: nothing is inherited from the host."""
    os.environ.clear()
    os.environ.update(
        {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )


def live(channel: int, out: int, err: int, directory: str | None, walls: Walls, zygote: int) -> NoReturn:
    """From just after the fork to the end; never returns."""
    code = 1
    try:
        _strip(channel, out, err, directory, walls)
        channel = _CHANNEL
        walls.close(zygote)
    except Exception as error:
        # Reported to the host as the reason there is no isolation, then this process ends.
        reason = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:500]
        try:
            os.write(channel, b"!" + reason)
        finally:
            os._exit(1)
    try:
        code = _serve(walls)
    finally:
        os._exit(code)


def rehearse() -> None:
    """Run a constant of ours through the whole path while nobody waits.

    In the zygote it makes everything lazy happen before the first fork; in a child it pays ahead for the pages a run
    writes to, which takes half the time off a warm call.
    """
    source = "def handler(n):\n    return [n]\n"
    limits = {"result_bytes": 100}
    digest = hashlib.sha256(source.encode()).hexdigest()
    run = {
        "t": "run",
        "op": "call",
        "name": "",
        "source": source,
        "sha256": digest,
        "input": {"n": 1},
        "limits": limits,
    }
    hotload.perform(framing.decode(framing.encode(run)))
    hotload.forget(digest)


def _serve(walls: Walls) -> int:
    link = Channel(_CHANNEL)
    rehearse()
    os.write(_CHANNEL, framing.READY)
    body = link.read(framing.REQUEST_BYTES)
    if body is None:
        return 0  # dropped without a job
    run = framing.decode(body)
    limits = cast("dict[str, float]", run["limits"])
    sys.dont_write_bytecode = True
    _capture(int(limits["log_bytes"]))
    walls.limit_job(int(limits["memory_bytes"]), int(limits["file_bytes"]), limits["cpu_seconds"])
    attach(link)
    done = hotload.perform(run)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the code closed its own output
    return 0 if link.finish(done) else CHANNEL_LOST
