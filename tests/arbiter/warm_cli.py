"""A process that has the command ``arbiter`` imported and forks for each one that is asked for: see :mod:`cli_process`.

A test of what a command does needs a process of its own, with its own environment, folder, streams and exit code. It does
not need the half second of imports anew each time. That a command starts from nothing is shown by those that are kept
running, by the README's, and by the first one of all.
"""

from __future__ import annotations

import array
import contextlib
import functools
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO

_LENGTH = 8
_lock = threading.Lock()
_warm: tuple[int, socket.socket, subprocess.Popen[bytes]] | None = None


def run(
    words: Sequence[str], environment: Mapping[str, str], folder: Path | None, text: str | None, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    with contextlib.ExitStack() as stack:
        given, said, told = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write((text or "").encode())
        given.seek(0)
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        asked = json.dumps({"words": [*words], "environment": {**environment}, "folder": str(folder or Path.cwd())})
        with theirs:
            _ask(asked.encode(), [theirs.fileno(), *(each.fileno() for each in (given, said, told))])
        ours.settimeout(seconds)
        with ours.makefile("r") as answers:
            child = int(answers.readline())
            try:
                code = int(answers.readline())
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                raise subprocess.TimeoutExpired([*words], seconds, _all(said), _all(told)) from None
        return subprocess.CompletedProcess(["arbiter", *words], code, _all(said), _all(told))


def _all(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def channel() -> socket.socket:
    """Where this process's warm one is asked, which is started with the first use."""
    global _warm
    if _warm is None or _warm[0] != os.getpid():
        ours, theirs = socket.socketpair()
        # It ends when this process does: then nobody holds the other end.
        process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])
        theirs.close()
        _warm = os.getpid(), ours, process
    return _warm[1]


def _ask(message: bytes, descriptors: Sequence[int]) -> None:
    """Hand over a command."""
    with _lock:
        rights = array.array("i", descriptors)
        asked = channel()
        asked.sendmsg(
            [len(message).to_bytes(_LENGTH, "big"), message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        )


def _serve(channel: socket.socket) -> None:
    while True:
        head, descriptors, _, _ = socket.recv_fds(channel, _LENGTH, 4)
        if not head:
            return
        message, length = b"", int.from_bytes(head, "big")
        while len(message) < length:  # and no further: the next command may be there already
            message += channel.recv(length - len(message))
        if os.fork() == 0:  # stays to see how the command ends
            channel.close()
            _keep(json.loads(message), descriptors)
            os._exit(0)
        for each in descriptors:
            os.close(each)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _keep(asked: Mapping[str, object], descriptors: Sequence[int]) -> None:
    answers, *streams = descriptors
    child = os.fork()
    if child == 0:
        os.close(answers)
        os.setsid()
        for number, each in enumerate(streams):
            os.dup2(each, number)
            os.close(each)
        raise _Command(asked)
    threading.Thread(target=_forsake, args=(answers, child), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        os.write(answers, f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _forsake(answers: int, child: int) -> None:
    """Kill a command when nobody is there any more to hear how it ends."""
    with contextlib.suppress(OSError):
        os.read(answers, 1)
        os.kill(child, signal.SIGKILL)


class _Command(BaseException):
    """Unwinds to where this process began, so that a command ends as any program does."""

    def __init__(self, asked: Mapping[str, object]) -> None:
        self.asked = asked


def _main() -> int:
    import arbiter.cli

    for module in pkgutil.iter_modules(arbiter.cli.__path__, "arbiter.cli."):
        import_module(module.name)
    import_module("arbiter.sdk")
    from wrapper.isolation import detection

    # What is isolated imports Strands when it needs it, as in the tests' own processes.
    detection.find = functools.partial(detection.find, preload_strands=False)
    assert threading.active_count() == 1, "a fork has no other thread"
    try:
        _serve(socket.socket(fileno=int(sys.argv[1])))
        return 0
    except _Command as command:
        asked = command.asked
    words, environment = asked["words"], asked["environment"]
    assert isinstance(words, list)
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(asked["folder"]))
    sys.argv = ["arbiter", *words]
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
    return arbiter.cli.main()


if __name__ == "__main__":
    raise SystemExit(_main())
