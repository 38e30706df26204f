"""The zygote: a warm process that forks single-use children and buries them. It never compiles or runs generated code.

Started fresh by exec with an empty environment and one inherited descriptor, its control socket (SOCK_SEQPACKET, one
JSON object per message, descriptors as SCM_RIGHTS). Standard library only, apart from what it is told to preload.

====================  =====================================================================================
to the zygote         ``{"op": "fork", "id": n}``; end of file means: kill everything, tidy up, exit
from the zygote       ``{"op": "ready", "landlock"}`` + [own pidfd] once · ``{"op": "refused", "reason"}`` instead of it ·
                      ``{"op": "forked", "id"}`` + [channel, pidfd, stdout, stderr] ·
                      ``{"op": "fork_failed", "id", "reason"}`` · ``{"op": "exited", "id", "status", "cpu_seconds"}``
====================  =====================================================================================

Killing is free of races because the zygote is the parent: until it reaps a child, that child's pid and process group
cannot be given to another process.
"""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from wrapper.isolation import box, child, directories, lockdown, model_seam
from wrapper.isolation.lockdown import Walls
from wrapper.isolation.warming import warm

_STRAY_POLL_MS = 50
_REHEARSALS = 10
"""Until the interpreter has specialised the code that children run: it does so in place, on pages that each would copy."""


class _Stop(BaseException):
    """The host is gone or asked for the end."""


@dataclass(slots=True)
class _Child:
    id: int
    pid: int


@dataclass(slots=True)
class Settings:
    """What the host tells a new zygote, as one JSON argument."""

    host: int
    """Pid of the host."""
    base: str | None
    """Directory that holds the children's private directories; the zygote removes it at its end. None in a box and
    where children have no scratch."""
    profile: str
    preload: list[str]
    without: list[str]
    """Layers left out; see :mod:`wrapper.isolation.lockdown`."""
    bubblewrap: bool
    """The box was built by ``bwrap``, and this process is in it already."""


class Zygote:
    """Forks on request, reports every death, outlives nothing."""

    def __init__(self, control: socket.socket, settings: Settings, walls: Walls) -> None:
        self._control = control
        self._walls = walls
        self._settings = settings
        self._pid = os.getpid()
        self._children: dict[int, _Child] = {}  # by pidfd
        self._poll = select.poll()
        self._strays = False

    def serve(self) -> None:
        """Until the control socket ends."""
        self._poll.register(self._control, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll(_STRAY_POLL_MS if self._strays else None):
                if fd == self._control.fileno():
                    self._command()
                else:
                    self._bury(fd)
            if self._strays:
                self._sweep()

    def _say(self, message: dict[str, object], fds: list[int] | None = None) -> None:
        data = json.dumps(message).encode()
        try:
            socket.send_fds(self._control, [data], fds or [])
        except OSError as error:
            raise _Stop from error

    def _command(self) -> None:
        try:
            data = self._control.recv(4096)
        except ConnectionError as error:
            raise _Stop from error
        if not data:
            raise _Stop
        request = json.loads(data)
        del data
        try:
            self._fork(request)
        except OSError as error:
            self._say({"op": "fork_failed", "id": request["id"], "reason": str(error)})

    def _fork(self, request: dict[str, int]) -> None:
        directory = directories.of_run(self._settings.base, request["id"])
        opened: list[int] = []
        try:
            if directory is not None:
                os.mkdir(directory, 0o700)
            ours, theirs = socket.socketpair()
            opened += [ours.detach(), theirs.detach()]
            opened += [_log_file("stdout"), _log_file("stderr")]
            channel, inside, out, err = opened
            pid = self._walls.fork()
            if pid == 0:
                # These frames stay below the code's: it is not to see how many were before it, or who is beside it.
                self._children.clear()
                request.clear()
                child.live(inside, out, err, directory, self._walls, self._pid)
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            self._children[pidfd] = _Child(request["id"], pid)
            self._poll.register(pidfd, select.POLLIN)
            self._say({"op": "forked", "id": request["id"]}, [channel, pidfd, out, err])
        finally:
            for fd in opened:
                os.close(fd)

    def _bury(self, pidfd: int) -> None:
        """Reap one dead child, after its whole process group: the pid is still ours, so the group id is too."""
        dead = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _kill_group(dead.pid)
        _, status, used = os.wait4(dead.pid, 0)
        seconds = used.ru_utime + used.ru_stime
        self._say({"op": "exited", "id": dead.id, "status": status, "cpu_seconds": seconds})
        self._sweep()

    def _sweep(self) -> None:
        """Kill what detached itself from its run: orphans in sessions of their own were handed to us."""
        known = {each.pid for each in self._children.values()}
        strays = [pid for pid in _own_children() if pid not in known]
        for pid in strays:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except OSError:
                pass
        self._strays = bool(strays)

    def finish(self) -> NoReturn:
        """Kill and reap everything, remove the directories, exit."""
        for each in self._children.values():
            _kill_group(each.pid)
            try:
                os.kill(each.pid, signal.SIGKILL)
                os.waitpid(each.pid, 0)
            except OSError:
                pass
        self._children.clear()
        for _ in range(100):
            self._sweep()
            if not self._strays:
                break
            select.select([], [], [], 0.01)
        if self._settings.base is not None:
            shutil.rmtree(self._settings.base, ignore_errors=True)
        os._exit(0)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # it died before it had a session, or nothing is left in it


def _log_file(name: str) -> int:
    try:
        return os.memfd_create(name)
    except (AttributeError, OSError):
        fd, path = tempfile.mkstemp()
        os.unlink(path)
        return fd


def _own_children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _wall_in(settings: Settings) -> Walls:
    """The strongest the profile says: the box, or what needs none. Children get the rest."""
    without = frozenset(settings.without)
    if settings.profile == "process":
        return Walls.make(settings.profile, without, [], None)
    paths = box.runtime(settings.preload)
    if settings.profile == "zygote-ns":
        if settings.bubblewrap:
            box.settle()
        else:
            box.enter(settings.host, paths, without)
        return Walls.make(settings.profile, without, paths, box.scratch(paths))
    box.lower(paths, without)
    lockdown.die_with_parent(signal.SIGKILL, settings.host)
    return Walls.make(settings.profile, without, paths, None)


def main() -> NoReturn:
    """Entry point: ``argv[1]`` is the control descriptor, ``argv[2]`` the settings."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    settings = Settings(**json.loads(sys.argv[2]))
    sys.argv[:] = ["capability"]

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # Never raises: the end is noticed in one place, where the control socket is read.
        try:
            control.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    zygote: Zygote | None = None
    try:
        try:
            walls = _wall_in(settings)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            lockdown.adopt_orphans()
            os.umask(0o077)
            if settings.base is not None:
                signal.signal(signal.SIGTERM, stop)
                os.chdir(settings.base)
                directories.hold(settings.base)
                lockdown.die_with_parent(signal.SIGTERM, settings.host)
            model_seam.install()
            warm(settings.preload)
        except Exception as error:
            # The one report of why there is no isolation; the host turns it into IsolationUnavailable.
            control.send(json.dumps({"op": "refused", "reason": f"{type(error).__name__}: {error}"[:2000]}).encode())
            raise _Stop from error
        child.set_environment(walls.home)
        for _ in range(_REHEARSALS):
            child.rehearse()
        gc.collect()
        gc.freeze()
        zygote = Zygote(control, settings, walls)
        # The descriptor is how the host knows this process by a number of its own.
        me = os.pidfd_open(os.getpid())
        socket.send_fds(control, [json.dumps({"op": "ready", "landlock": walls.landlock_abi}).encode()], [me])
        os.close(me)
        zygote.serve()
    except (_Stop, ConnectionError):
        pass
    except Exception:
        # A defect of this file. Its words reach the host, and what was forked still ends.
        traceback.print_exc()
    finally:
        if zygote is None:
            os._exit(1)
        zygote.finish()
