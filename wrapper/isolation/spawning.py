"""The host's side of a backend that starts one interpreter for each attempt: start it, hear how it ended, leave nothing of it.

For systems on which a loaded interpreter cannot be forked safely, and without a call that only Linux has. Bound to the event
loop it was started in. A process is signalled and reaped in that loop only, so its number cannot have gone to another; a
thread for each tells when there is something to reap. A guard, which is told of every process, kills them when the host is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blackboard.errors import IsolationUnavailable
from wrapper.isolation import directories, framing, seatbelt
from wrapper.isolation.children import READY_SECONDS, Child, LinkLost
from wrapper.isolation.threads import in_thread

log = logging.getLogger("arbiter.isolation")

_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = (
    "import sys; root = sys.argv.pop(); sys.path.insert(0, root); from wrapper.isolation.spawned import main; "
    "sys.path.remove(root); root in sys.path or sys.path.append(root); main()"
)
_GUARD = """
import os, shutil, signal, sys
alive = set()
for line in sys.stdin:
    number = int(line)
    alive.add(number) if number > 0 else alive.discard(-number)
for pid in alive:
    for kill in (os.killpg, os.kill):
        try: kill(pid, signal.SIGKILL)
        except OSError: pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
"""Reads which processes there are, and which no more, until whoever writes it is gone; then ends them and their files."""


@dataclass(eq=False, slots=True, kw_only=True)
class Spawned(Child):
    """An interpreter of its own."""

    process: subprocess.Popen[bytes]
    reaped: bool = False

    def signal(self, sig: signal.Signals) -> None:
        """Signal this very process; nothing happens when it is gone."""
        if not self.reaped:
            with suppress(OSError):
                os.kill(self.pid, sig)

    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self.exited.done()

    def kill(self) -> None:
        """Kill this very process, and whatever is in the session it was started in."""
        if not self.reaped:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)


def _until_dead(pid: int) -> None:
    """Return when a process of ours has ended, and leave it to be reaped."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return
    queue: Any = select
    kernel = queue.kqueue()
    try:
        ended = queue.kevent(pid, queue.KQ_FILTER_PROC, queue.KQ_EV_ADD | queue.KQ_EV_ONESHOT, queue.KQ_NOTE_EXIT)
        kernel.control([ended], 1)
    except ProcessLookupError:
        pass  # it has ended already
    finally:
        kernel.close()


class SpawningLink:
    """Starts interpreters in ``sandbox-exec``. Make it with :meth:`start`."""

    landlock = 0
    ungrouped = "only Linux has them"

    def __init__(self, program: str, base: str, preload: Sequence[str], without: Sequence[str], seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._program = program
        self._lock = directories.hold(base)
        self._base, self._preload, self._without, self._seconds = base, tuple(preload), tuple(without), seconds
        self._runtime = seatbelt.runtime(preload)
        self._listed = seatbelt.listed(_ROOT, preload)
        self._programs = seatbelt.programs()
        self._children: dict[int, Spawned] = {}
        self._next = 0
        self._ended = False
        self.runs = self.active = 0
        self.started_at = time.monotonic()
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _GUARD, base],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the guard."""
        return self._guard.pid

    @property
    def alive(self) -> bool:
        """Whether children can still be asked for."""
        return not self._ended

    @classmethod
    async def start(cls, *, preload: Sequence[str], seconds: float, without: Sequence[str] = ()) -> SpawningLink:
        """Make ready to start interpreters.

        Args:
            preload: modules each of them imports before it is given code.
            seconds: how long one may take to become ready.
            without: layers left out, in tests that show what a layer is worth.

        Raises:
            IsolationUnavailable: there is no ``sandbox-exec``, or a path that no profile can name.
        """
        if (program := shutil.which(seatbelt.PROGRAM)) is None:
            raise IsolationUnavailable(f"{seatbelt.PROGRAM} is not on PATH; only macOS has it")
        await in_thread(directories.remove_abandoned)
        base = await in_thread(os.path.realpath, directories.make())
        try:
            link = cls(program, base, preload, without, seconds)
        except (OSError, ImportError) as error:
            directories.remove(base)
            raise IsolationUnavailable(f"no interpreter can be started: {error}") from error
        try:
            link._profile(base)
        except seatbelt.Unsayable as error:
            await link.stop()
            raise IsolationUnavailable(str(error)) from error
        return link

    def _profile(self, directory: str) -> str:
        return seatbelt.profile(runtime=self._runtime, listed=self._listed, programs=self._programs, scratch=directory)

    async def fork(self) -> Spawned:
        """An interpreter that is walled in and was given nothing yet.

        Raises:
            LinkLost: this was stopped meanwhile.
            IsolationUnavailable: it could not be started, or not wall itself in.
        """
        if not self._ended and self._guard.poll() is not None:
            log.warning("the guard %s of this host's runs ended; starting another", self.pid)
            self._ended = True
        if self._ended:
            raise LinkLost
        self._next += 1
        try:
            child = self._spawn(self._next)
        except OSError as error:
            raise IsolationUnavailable(f"No interpreter could be started: {error}") from error
        try:
            async with asyncio.timeout(max(READY_SECONDS, self._seconds)):
                said = await self._loop.sock_recv(child.channel, 512)
        except (OSError, TimeoutError) as error:
            said = str(error).encode()
        except BaseException:
            child.kill()
            await self.bury(child)
            raise
        if said == framing.READY:
            return child
        child.kill()
        reason = said.decode("utf-8", "replace") or _words(child.stderr) or "it ended before it was ready"
        await self.bury(child)
        if self._ended:
            raise LinkLost
        raise IsolationUnavailable(f"An interpreter in {seatbelt.PROGRAM} could not be walled in: {reason}")

    def _spawn(self, number: int) -> Spawned:
        directory = os.path.join(self._base, f"run-{number}")
        profile = f"{directory}.sb"  # beside it: the code can neither read nor write what confines it
        os.mkdir(directory, 0o700)
        ours, theirs = socket.socketpair()
        outputs: list[int] = []
        try:
            Path(profile).write_text(self._profile(directory), "utf-8")
            for _ in range(2):
                with tempfile.TemporaryFile(dir=self._base) as file:
                    outputs.append(os.dup(file.fileno()))
            settings = {
                "directory": directory, "preload": self._preload, "without": self._without, "host": os.getpid()
            }  # fmt: skip
            python = [sys.executable, "-I", "-c", _BOOT, str(theirs.fileno()), json.dumps(settings), _ROOT]
            process = subprocess.Popen(
                [self._program, "-f", profile, *python],
                stdin=subprocess.DEVNULL,
                stdout=outputs[0],
                stderr=outputs[1],
                cwd=directory,
                env=_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            for fd in outputs:
                os.close(fd)
            directories.remove(directory)
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._tell(process.pid)
        child = Spawned(
            number=number, pid=process.pid, channel=ours, stdout=outputs[0], stderr=outputs[1], directory=directory,
            exited=self._loop.create_future(), link=self, process=process,
        )  # fmt: skip
        self._children[number] = child
        threading.Thread(target=self._wait, args=(child,), name=f"arbiter-run-{number}", daemon=True).start()
        return child

    def _wait(self, child: Spawned) -> None:
        try:
            _until_dead(child.pid)
            ours = True
        except OSError:  # somebody else in this process reaped it, and its number may be another's
            ours = False
        with suppress(RuntimeError):  # the loop is gone, and abandon() has reaped it
            self._loop.call_soon_threadsafe(self._reap, child, ours)

    def _reap(self, child: Spawned, ours: bool) -> None:
        if child.reaped:
            return
        if ours:
            child.kill()  # what is in its session: the number is still its own
        child.reaped = True
        try:
            _, status, used = os.wait4(child.pid, 0)
        except ChildProcessError:
            status, used = None, None
        if used is not None:
            child.cpu_seconds = used.ru_utime + used.ru_stime
        child.process.returncode = 0 if status is None else os.waitstatus_to_exitcode(status)
        self._tell(-child.pid)
        if not child.exited.done():
            child.exited.set_result(status)

    def _tell(self, number: int) -> None:
        assert self._guard.stdin is not None
        with suppress(OSError):
            self._guard.stdin.write(b"%d\n" % number)
            self._guard.stdin.flush()

    async def bury(self, child: Child, seconds: float = 5.0) -> None:
        """Confirm a killed child's death and remove what it left. One that does not die is a reason to start no other."""
        try:
            done, _ = await asyncio.wait([child.exited], timeout=seconds)
            if not done:
                log.error("child %s survived SIGKILL for %s s; no other is started beside it", child.pid, seconds)
                child.kill()
                self._ended = True
        finally:
            self._children.pop(child.number, None)
            child.close()
        if child.directory is not None:
            with suppress(OSError):
                os.unlink(f"{child.directory}.sb")
            try:
                os.rmdir(child.directory)  # nearly always empty
            except OSError:
                await in_thread(directories.remove, child.directory)

    async def stop(self) -> None:
        """End every child; idempotent."""
        await in_thread(self._finish, self._end())

    def abandon(self) -> None:
        """End every child after the event loop is gone; blocks for the moment that takes."""
        children = self._end()
        self._finish(children)
        for child in children:
            child.close()

    def _end(self) -> list[Spawned]:
        self._ended = True
        children = list(self._children.values())
        for child in children:
            child.kill()
            # From here on nobody signals it by its number, which goes to another once it is reaped.
            child.reaped = True
            if not child.exited.done():
                child.exited.set_result(None)
        return children

    def _finish(self, children: Sequence[Spawned]) -> None:
        for child in children:
            try:
                child.process.wait(5)
            except subprocess.TimeoutExpired:
                log.error("child %s survived SIGKILL for 5 s", child.pid)
        self._dismiss()

    def _dismiss(self) -> None:
        """The guard ends with what it reads, and takes the directories along."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            with suppress(OSError):
                self._guard.stdin.close()
        try:
            self._guard.wait(5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        directories.remove(self._base)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _words(fd: int) -> str:
    return os.pread(fd, 500, 0).decode("utf-8", "replace").strip()


def _environment() -> dict[str, str]:
    """What an interpreter needs to start, and nothing else of the host's."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "AWS_EC2_METADATA_DISABLED": "true"}
