"""The host's side of one zygote: start it, ask it for children, hear how they ended, notice its death.

Bound to the event loop it was started in, which may run in any thread. No thread, no polling: descriptors only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from blackboard.errors import IsolationUnavailable
from wrapper.isolation import box, directories, framing
from wrapper.isolation.cgroups import Groups, NoGroups
from wrapper.isolation.children import READY_SECONDS, Child, LinkLost
from wrapper.isolation.forked import Forked, kill_orphan, pid_of
from wrapper.isolation.threads import in_thread

log = logging.getLogger("arbiter.isolation")

# First on the path while this package is found, so that host and zygote are the same version of it; last afterwards, so
# that nothing beside it shadows what is installed.
_BOOT = (
    "import sys; root = sys.argv.pop(); sys.path.insert(0, root); from wrapper.isolation.zygote import main; "
    "sys.path.remove(root); root in sys.path or sys.path.append(root); main()"
)
_ROOT = str(Path(__file__).resolve().parents[2])
_NO_REASON = "The zygote ended while it started."


class ZygoteLost(LinkLost):
    """The zygote ended while something was asked of it."""


class ZygoteLink:
    """One running zygote. Make it with :meth:`start`."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, base: str | None, errors: IO[bytes]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._control = control
        self._base = base
        self._errors = errors
        self._forks: dict[int, asyncio.Future[Forked]] = {}
        self._children: dict[int, Forked] = {}
        self._next = 0
        self._greeting: asyncio.Future[None] = self._loop.create_future()
        self._pid = process.pid
        self.landlock = 0
        """Version of Landlock its children are confined by; 0 for none."""
        self._groups: Groups | None = None
        self.ungrouped = ""
        """Why its children are in no control groups; empty when they are."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the zygote has ended, for whatever reason."""
        self.started_at = time.monotonic()
        self.runs = 0
        self.active = 0
        """Runs between take and burial."""
        self._loop.add_reader(control.fileno(), self._readable)

    @property
    def pid(self) -> int:
        """Process id of the zygote, as this process knows it."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether children can still be asked for."""
        return not self.lost.done()

    @classmethod
    async def start(
        cls,
        *,
        preload: Sequence[str],
        profile: str,
        seconds: float,
        without: Sequence[str] = (),
        bubblewrap: bool = False,
    ) -> ZygoteLink:
        """Start a zygote and wait until it is warm.

        Args:
            preload: modules it imports before it forks.
            profile: what a child's lock-down applies.
            seconds: how long it may take.
            without: layers left out, in tests that show what a layer is worth.
            bubblewrap: have ``bwrap`` build the box.

        Raises:
            IsolationUnavailable: it could not be started; the message carries its own words.
        """
        if not (sys.platform == "linux" and hasattr(os, "pidfd_open") and sys.executable):
            raise IsolationUnavailable(
                f"Process isolation needs Linux 5.3 or newer and a Python executable; this is {sys.platform}. "
                "Generated code was not run."
            )
        # Only code that is walled in by nothing is given a directory of the host's.
        base = directories.make() if profile == "process" else None
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the zygote)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = {
            "host": os.getpid(),
            "base": base,
            "profile": profile,
            "preload": list(preload),
            "without": list(without),
            "bubblewrap": bubblewrap,
        }
        command = [sys.executable, "-I", "-c", _BOOT, str(theirs.fileno()), json.dumps(settings), _ROOT]
        try:
            if bubblewrap:
                command = [*await in_thread(box.bubblewrap, preload, frozenset(without)), *command]
            # In this thread on purpose: the zygote is told to die with the thread that started it.
            process = subprocess.Popen(  # noqa: ASYNC220
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except (OSError, ImportError) as error:
            ours.close()
            errors.close()
            directories.remove(base)
            raise IsolationUnavailable(f"The zygote could not be started: {error}") from error
        finally:
            theirs.close()
        ours.setblocking(False)
        link = cls(process, ours, base, errors)
        try:
            async with asyncio.timeout(seconds):
                await link._greeting
            await in_thread(directories.remove_abandoned)
            try:
                link._groups = await in_thread(Groups.find)
            except (NoGroups, OSError) as error:
                link.ungrouped = str(error)
        except BaseException as error:
            await link.stop()
            if isinstance(error, TimeoutError):
                raise IsolationUnavailable(f"The zygote was not ready within {seconds} s.") from error
            if isinstance(error, IsolationUnavailable) and str(error).startswith(_NO_REASON):
                raise IsolationUnavailable(f"{error} Its exit code was {process.returncode}.") from error
            raise
        return link

    async def fork(self) -> Forked:
        """A parked, locked-down child that was given nothing yet.

        Raises:
            ZygoteLost: the zygote ended meanwhile.
            IsolationUnavailable: it could not fork, or the child could not lock itself down.
        """
        if not self.alive:
            raise ZygoteLost
        self._next += 1
        number = self._next
        waiting: asyncio.Future[Forked] = self._loop.create_future()
        self._forks[number] = waiting
        try:
            await self._loop.sock_sendall(self._control, json.dumps({"op": "fork", "id": number}).encode())
        except OSError as error:
            self._forks.pop(number, None)
            raise ZygoteLost from error
        child = await waiting
        try:
            async with asyncio.timeout(READY_SECONDS):
                said = await self._loop.sock_recv(child.channel, 512)
        except (OSError, TimeoutError) as error:
            said = str(error).encode()
        except BaseException:
            child.signal(signal.SIGKILL)
            await self.bury(child)
            raise
        if said == framing.READY:
            if self._groups is not None and not self.ungrouped:
                await self._put(child, self._groups)
            return child
        child.signal(signal.SIGKILL)
        await self.bury(child)
        if not self.alive:
            raise ZygoteLost
        reason = said.decode("utf-8", "replace") or "it ended before it was ready"
        raise IsolationUnavailable(f"A child could not be locked down: {reason}")

    async def _put(self, child: Forked, groups: Groups) -> None:
        """Into a group, before it is given code. What a group adds to the other limits is given up where it fails."""
        try:
            child.group = await in_thread(groups.add, child.number, child.pid)
        except OSError as error:
            log.warning("children are put into no control groups any more: %s", error)
            self.ungrouped = f"it failed: {error}"
        except BaseException:
            child.signal(signal.SIGKILL)
            await self.bury(child)
            raise

    async def bury(self, child: Child, seconds: float = 5.0) -> None:
        """Confirm a killed child's death and remove what it left. A child that does not die poisons the zygote."""
        try:
            done, _ = await asyncio.wait([child.exited], timeout=seconds)
            if not done:
                log.error("child %s survived SIGKILL for %s s; its zygote %s is given up", child.pid, seconds, self.pid)
                self._process.kill()
        finally:
            self._children.pop(child.number, None)
            child.close()
        if child.group is not None:
            await in_thread(child.group.remove)
        if child.directory is None:
            return
        try:
            os.rmdir(child.directory)  # nearly always empty
        except OSError:
            await in_thread(directories.remove, child.directory)

    async def stop(self) -> None:
        """End the zygote and every child of it; idempotent."""
        self._end()
        try:
            await asyncio.wait_for(in_thread(self._process.wait, 5), 6)
        except (subprocess.TimeoutExpired, TimeoutError):
            self._process.kill()
            await in_thread(self._process.wait)
        await in_thread(directories.remove, self._base)
        if self._groups is not None:
            await in_thread(self._groups.close)

    def abandon(self) -> None:
        """End the zygote of an event loop that is gone; blocks for the moment that takes."""
        if not self.lost.done():
            self._control.close()
            self._errors.close()
            self._process.terminate()
        for child in self._children.values():
            child.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        directories.remove(self._base)
        if self._groups is not None:
            self._groups.close()

    def _readable(self) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._control, 8192, 8, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, fds = b"", list[int]()
            if not data:
                self._end()
                return
            self._hear(json.loads(data), fds)

    def _hear(self, message: dict[str, object], fds: list[int]) -> None:
        match message["op"]:
            case "ready":
                self._pid = pid_of(fds[0])
                os.close(fds[0])
                self.landlock = cast(int, message["landlock"])
                self._greeting.set_result(None)
            case "refused":
                self._greeting.set_exception(IsolationUnavailable(f"The zygote could not start: {message['reason']}"))
            case "forked":
                self._forked(cast(int, message["id"]), fds)
            case "fork_failed":
                waiting = self._forks.pop(cast(int, message["id"]))
                if not waiting.done():
                    reason = f"The zygote could not fork a child: {message['reason']}"
                    waiting.set_exception(IsolationUnavailable(reason))
            case "exited":
                child = self._children.get(cast(int, message["id"]))
                if child is not None and not child.exited.done():
                    child.cpu_seconds = cast(float, message["cpu_seconds"])
                    child.exited.set_result(cast(int, message["status"]))
            case _:
                log.error("unknown message from the zygote: %r", message)

    def _forked(self, number: int, fds: list[int]) -> None:
        if len(fds) != 4:  # cut short: this process may open no more; the child ends itself, its channel being gone
            for fd in fds:
                os.close(fd)
            waiting = self._forks.pop(number)
            if not waiting.done():
                waiting.set_exception(IsolationUnavailable("This process is out of file descriptors."))
            return
        channel, pidfd, out, err = fds
        end = socket.socket(fileno=channel)
        end.setblocking(False)
        directory = directories.of_run(self._base, number)
        child = Forked(
            number=number, pid=pid_of(pidfd), channel=end, pidfd=pidfd, stdout=out, stderr=err, directory=directory,
            exited=self._loop.create_future(), link=self,
        )  # fmt: skip
        self._children[number] = child
        waiting = self._forks.pop(number)
        if waiting.done():  # the asker was cancelled
            child.signal(signal.SIGKILL)
            task = self._loop.create_task(self.bury(child))
            _background.add(task)
            task.add_done_callback(_background.discard)
        else:
            waiting.set_result(child)

    def _end(self) -> None:
        """The control socket ended, or is ended here: nothing of this zygote may go on."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        words = self._last_words()
        if not self._greeting.done():
            self._greeting.set_exception(IsolationUnavailable(f"{_NO_REASON} {words}".rstrip()))
            self._greeting.exception()  # retrieved here; start() may have given up on it
        for waiting in self._forks.values():
            if not waiting.done():
                waiting.set_exception(ZygoteLost())
        self._forks.clear()
        for child in list(self._children.values()):
            if not child.closed:
                kill_orphan(child)
            if not child.exited.done():
                child.exited.set_result(None)

    def _last_words(self) -> str:
        try:
            size = os.fstat(self._errors.fileno()).st_size
            return os.pread(self._errors.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()
        except (OSError, ValueError):
            return ""
        finally:
            self._errors.close()


_background: set[asyncio.Task[None]] = set()


def _environment() -> dict[str, str]:
    """What an interpreter needs to start, and nothing else of the host's."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {
        **kept,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MALLOC_ARENA_MAX": "2",  # each arena reserves 64 MB of the address space that the memory limit counts
    }
