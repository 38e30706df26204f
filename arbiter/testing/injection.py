"""Where a process dies or a reply gets lost: faults at the board's script calls, placed by role, script and number.

A :class:`Fault` is written ``role:script:number:boundary``, for example ``wrapper:complete:2:after``: the process dies
when the server has executed the second ``complete`` call of the wrapper and before the reply is used. It lives in tests
only: :func:`install` puts it around the one place every script call goes through, and nothing in production knows of it.

Roles are those of the processes' loops: ``arbiter``, ``fabricator`` and ``wrapper`` (the workers), ``sweeper``,
``heartbeat``, and ``client`` for everything else, such as ``submit``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import redis

from arbiter.testing.troubled import Troubled, TroubledThread
from blackboard import _script, budgets
from blackboard.budgets import Budgets
from blackboard.errors import ArbiterError, BadInput, EngineUnavailable
from blackboard.heartbeat import Heartbeat
from blackboard.sweeper import Sweeper
from blackboard.worker import Worker

BOUNDARIES = {
    "before": "the process dies before the call is sent",
    "after": "the process dies when the server has executed the call, before the reply is used",
    "lost": "the reply is lost and the call is repeated",
    "dropped": "the connection is closed behind the request, and the call is repeated",
    "torn": "the connection is closed in the middle of the request, and the call is repeated",
    "twice": "the call is delivered twice",
    "late": "a copy of the call is delivered after three later calls",
    "children": "every isolated child and the zygote that forks them are killed just before the call",
    "midway": "the same, a moment after the call: in the middle of what it began",
    "server": "Redis is killed with SIGKILL just before the call, and comes back with its append-only file",
    "stall": "Redis answers nothing for longer than a reply is waited for",
    "full": "Redis has no memory left, and gets some later",
    "demoted": "Redis is made a read-only replica just before the call, as in a failover, and a primary again some later",
    "zombie": "the process is frozen past its lease, another one does the work, then the first goes on",
}
"""What may happen at a call. The first two kill."""
ASKED = ("children", "midway", "server", "stall", "full", "demoted", "zombie")
"""What a process cannot do to itself."""
ROLES = ("client", "arbiter", "fabricator", "wrapper", "sweeper", "heartbeat")
VARIABLE = "ARBITER_TEST_FAULT"
"""Faults for :func:`install_from_environment`, separated by spaces."""
_LATER = 3
_DEAD_SECONDS = 0.05
"""How long a call of a dead life takes to fail: a loop that tries again at once would leave no time to anybody else."""
SWEEP_SECONDS = 0.05
BEAT_SECONDS = 0.1
"""Sweeps and heartbeats come often, so that each kind of call is made in a short story. Only the pauses change."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What happens at one call of a process."""

    role: str
    script: str
    number: int
    """Counts from 1 within the role and script."""
    boundary: str

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault written ``role:script:number:boundary``.

        Raises:
            BadInput: it is not of this form, or the role or the boundary is unknown.
        """
        parts = text.split(":")
        if len(parts) != 4 or parts[0] not in ROLES or not parts[2].isdigit() or parts[3] not in BOUNDARIES:
            raise BadInput("fault", text, f"Write role:script:number:boundary; boundaries are {', '.join(BOUNDARIES)}.")
        return cls(parts[0], parts[1], int(parts[2]), parts[3])

    def __str__(self) -> str:
        return f"{self.role}:{self.script}:{self.number}:{self.boundary}"


@dataclass(frozen=True, slots=True)
class Called:
    """One script call of a life, as it was made."""

    role: str
    script: str
    number: int
    about: str
    """What it was about, for people: a task, a stage, a request."""

    def at(self, boundary: str) -> Fault:
        return Fault(self.role, self.script, self.number, boundary)


class Dead(EngineUnavailable):
    """Raised in a life that has ended in this process, for whatever it still tries to call."""


class Life:
    """One process, or what stands for one inside a test: it counts its script calls, and ends at a fault.

    Args:
        faults: what is to happen.
        kill: True ends the process with SIGKILL; False only lets no further call of this life reach the board and sets
            :attr:`died`.
        ask: makes happen what a process cannot do to itself, and returns when it may go on.
        keep: remember every call in :attr:`kept`, to deliver it once more.
    """

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        *,
        kill: bool = False,
        ask: Callable[[str], None] | None = None,
        keep: bool = False,
    ) -> None:
        self.faults = tuple(faults)
        self.calls: list[Called] = []
        self.fired: list[Fault] = []
        self.died = asyncio.Event()
        self.dead = False
        self.kept: list[tuple[_script.Script, Sequence[str], Sequence[str | int]]] = []
        self._kill, self._ask, self._keep = kill, ask, keep
        self._counts: Counter[tuple[str, str]] = Counter()
        self._late: list[tuple[int, Callable[[], Awaitable[Any]]]] = []
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()

    def _enter(self, script: str, args: Sequence[str | int]) -> str | None:
        """Count a call; the boundary of the fault that is due at it."""
        if self.dead:
            raise Dead("This process is dead.")
        role = _ROLE.get()
        with self._lock:
            self._counts[role, script] += 1
            called = Called(role, script, self._counts[role, script], _about(script, args))
            self.calls.append(called)
            for fault in self.faults:
                if (fault.role, fault.script, fault.number) == (role, script, called.number):
                    self.fired.append(fault)
                    return fault.boundary
        return None

    def keep(self, script: _script.Script, keys: Sequence[str], args: Sequence[str | int]) -> None:
        if self._keep:
            self.kept.append((script, keys, args))

    def die(self) -> NoReturn:
        """End here and now.

        Raises:
            Dead: where only this life ends and not the process.
        """
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.dead = True
        self._loop.call_soon_threadsafe(self.died.set)
        raise Dead("This process died.")

    async def call(
        self, client: Any, script: _script.Script, args: Sequence[str | int], send: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        if self.dead:
            await asyncio.sleep(_DEAD_SECONDS)
        boundary = self._enter(script.name, args)
        if boundary == "before":
            self.die()
        if boundary in ASKED and self._ask is not None:
            await asyncio.to_thread(self._ask, boundary)
        troubled = boundary in ("lost", "dropped", "torn")
        reply = await send(Troubled(client, script, boundary) if troubled and boundary else client)
        if boundary == "after":
            self.die()
        if boundary == "twice":
            await _again(lambda: send(client))
        elif boundary == "late":
            self._late.append((len(self.calls) + _LATER, lambda: send(client)))
        for due in [due for due in self._late if due[0] <= len(self.calls)]:
            self._late.remove(due)
            await _again(due[1])
        return reply

    def call_sync(
        self, client: Any, script: _script.Script, args: Sequence[str | int], send: Callable[[Any], Any]
    ) -> Any:
        boundary = self._enter(script.name, args)
        if boundary == "before":
            self.die()
        if boundary in ASKED and self._ask is not None:
            self._ask(boundary)
        if boundary in ("lost", "dropped", "torn"):
            return send(TroubledThread(client, script, boundary))
        reply = send(client)
        if boundary == "after":
            self.die()
        if boundary in ("twice", "late"):
            send(client)
        return reply


async def _again(send: Callable[[], Awaitable[Any]]) -> None:
    """A duplicate: nobody waits for its reply."""
    with contextlib.suppress(redis.RedisError, ArbiterError):
        await send()


_ROLE: ContextVar[str] = ContextVar("arbiter_test_role", default="client")
_LIFE: ContextVar[Life | None] = ContextVar("arbiter_test_life", default=None)
_whole_process: Life | None = None
_hearts: dict[int, Life | None] = {}
_production: dict[str, Any] = {}


def current() -> Life | None:
    """The life the caller belongs to."""
    return _LIFE.get() or _whole_process


def begin(life: Life) -> None:
    """Whatever the current asyncio task calls, or starts from now on, belongs to this life."""
    install()
    _LIFE.set(life)


def begin_process(life: Life) -> None:
    """Whatever this process calls belongs to this life."""
    global _whole_process
    install()
    _whole_process = life


def install_from_environment() -> Life | None:
    """Let this process end as ``ARBITER_TEST_FAULT`` says, with SIGKILL. Call it in a running event loop."""
    named = os.environ.get(VARIABLE, "").split()
    if not named:
        return None
    life = Life([Fault.parse(one) for one in named], kill=True)
    begin_process(life)
    return life


def install() -> None:
    """Put the hook around every script call of this process. Does nothing the second time; see :func:`uninstall`."""
    if _production:
        return
    run, run_sync = _script.run, _script.run_sync
    work, drain = Worker.run, Worker.drain
    sweep, beat, hold = Sweeper.run, Heartbeat._run, Heartbeat.hold  # pyright: ignore[reportPrivateUsage]
    spare, pause = Budgets.keep_swept, budgets.SWEEP_SECONDS
    _production.update(
        run=run, run_sync=run_sync, work=work, drain=drain, sweep=sweep, beat=beat, hold=hold, spare=spare, pause=pause
    )

    async def hooked(client: Any, script: Any, keys: Any, args: Any, *rest: Any, **more: Any) -> Any:
        life = current()
        if life is None:
            return await run(client, script, keys, args, *rest, **more)
        life.keep(script, keys, args)
        return await life.call(client, script, args, lambda c: run(c, script, keys, args, *rest, **more))

    def hooked_sync(client: Any, script: Any, keys: Any, args: Any, *rest: Any, **more: Any) -> Any:
        life = current()
        if life is None:
            return run_sync(client, script, keys, args, *rest, **more)
        return life.call_sync(client, script, args, lambda c: run_sync(c, script, keys, args, *rest, **more))

    async def working(self: Worker) -> None:
        _ROLE.set(self.name.partition("@")[0])
        await work(self)

    async def draining(self: Worker, grace_seconds: float) -> None:
        before = _ROLE.set(self.name.partition("@")[0])
        try:
            await drain(self, grace_seconds)
        finally:
            _ROLE.reset(before)

    async def sweeping(self: Sweeper) -> None:
        _ROLE.set("sweeper")
        if current() is not None:
            self._interval = SWEEP_SECONDS  # pyright: ignore[reportPrivateUsage]
        await sweep(self)

    async def sparing(self: Budgets) -> None:
        _ROLE.set("sweeper")
        if current() is not None:
            budgets.SWEEP_SECONDS = SWEEP_SECONDS
        await spare(self)

    def holding(self: Heartbeat, *args: Any) -> None:
        _hearts[id(self)] = current()
        hold(self, *args)

    def beating(self: Heartbeat) -> None:
        _ROLE.set("heartbeat")
        _LIFE.set(_hearts.get(id(self)))
        if current() is not None:
            pause = self._stop.wait  # pyright: ignore[reportPrivateUsage]
            self._stop.wait = lambda timeout=None: pause(min(timeout or BEAT_SECONDS, BEAT_SECONDS))  # pyright: ignore[reportPrivateUsage]
        beat(self)

    _script.run, _script.run_sync = hooked, hooked_sync
    Worker.run, Worker.drain = working, draining
    Sweeper.run, Budgets.keep_swept = sweeping, sparing
    cast(Any, Heartbeat).hold, Heartbeat._run = holding, beating  # pyright: ignore[reportPrivateUsage]


def uninstall() -> None:
    """Take the hook away again."""
    global _whole_process
    if not _production:
        return
    _script.run, _script.run_sync = _production["run"], _production["run_sync"]
    Worker.run, Worker.drain = _production["work"], _production["drain"]
    Sweeper.run, Budgets.keep_swept = _production["sweep"], _production["spare"]
    budgets.SWEEP_SECONDS = _production["pause"]
    Heartbeat.hold, Heartbeat._run = _production["hold"], _production["beat"]  # pyright: ignore[reportPrivateUsage]
    _production.clear()
    _hearts.clear()
    _whole_process = None


def _about(script: str, args: Sequence[str | int]) -> str:
    """What a call is about, without the parts that differ from one run to the next."""
    if script.startswith("catalog_"):
        return str(args[1]) if len(args) > 1 else ""
    own = [str(each) for each in args[1 + int(args[0]) :]] if args and str(args[0]).isdigit() else []
    match script, own:
        case "submit", [_, _, _, text, *_]:
            return text
        case "claim", [*_]:
            return ",".join(str(lane) for lane in args[1 : 1 + int(args[0])])
        case "progress", [task, _, _, _, data, *_]:
            report: Any = json.loads(data)
            stage = f" {report['stage']} {report['outcome']}" if isinstance(report, dict) and "stage" in report else ""
            return task.partition("/")[2] + stage
        case _, [subject, *_]:
            return subject.partition("/")[2]
        case _:
            return ""
