"""Runs one attack in one isolation and says, from what is seen outside, whether it got through."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from attack import Attack
from bait import secret
from census import MIB, Watch, descendants, outer_ids
from outside import World
from pydantic import JsonValue

from blackboard.types import Status
from wrapper.isolation import Isolation, Job, JobLimits, Outcome

LATE = 30.0
"""Seconds a run may end after its deadline; generous, because this machine may be busy: what holds it up has no end."""

_SIBLING = """
import fcntl, os, tempfile
from wrapper import sdk
def handler(mine):
    library = open(os.__file__)
    fcntl.lockf(library, fcntl.LOCK_SH)
    kept = {"prompt": mine}
    os.environ["SIBLING"] = mine
    try:
        with open("sibling.txt", "w") as file:
            file.write(mine)
        file = tempfile.NamedTemporaryFile("w")
        file.write(mine)
        file.flush()
    except OSError:
        pass  # nowhere to write
    sdk.call("wait", None)
    return kept["prompt"][::-1]
"""

_PROBE = """
import os, sys
forged = sorted(name for name, each in sys.modules.items() if getattr(each, "__spec__", None) is None)
import atexit, builtins, codecs, ctypes, decimal, gc, json, locale, logging, resource, signal, socket, tempfile, threading
import time, warnings
def handler(first, second):
    token = first + second
    def listing(path):
        try:
            return sorted(os.listdir(path))
        except OSError as error:
            return type(error).__name__
    def parts(value):
        return [f"{name}={each!r:.60}" for name, each in sorted(vars(value).items()) if callable(each)]
    umask = os.umask(0o77)
    os.umask(umask)
    holds = 0
    for each in gc.get_objects():
        if type(each) is dict and each is not locals() and len(each) < 10000:
            holds += sum(type(value) is str and value == token for value in list(each.values()))
    return {
        "modules": forged,
        "builtins": [each.split(" at 0x")[0] for each in parts(builtins)],
        "json": [each.split(" at 0x")[0] for each in parts(json)],
        "os": sorted(vars(os)),
        "environ": sorted(name for name in os.environ if name not in ("HOME", "TMPDIR", "PWD")),
        "here": listing("."), "tmp": [each for each in listing(tempfile.gettempdir()) if token in each],
        "shm": [each for each in listing("/dev/shm") if token in each],
        "threads": threading.active_count(), "tasks": len(listing("/proc/self/task")),
        "signals": {name.name: str(signal.getsignal(name)).split(" at 0x")[0] for name in signal.Signals},
        "masked": sorted(int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "umask": umask, "path": sys.path, "meta_path": [type(each).__name__ for each in sys.meta_path],
        "hooks": len(sys.path_hooks), "recursion": sys.getrecursionlimit(), "gc": [gc.isenabled(), gc.get_threshold()],
        "trace": [sys.gettrace() is None, sys.getprofile() is None, threading.gettrace() is None],
        "excepthook": sys.excepthook is sys.__excepthook__, "decimal": decimal.getcontext().prec,
        "locale": locale.setlocale(locale.LC_ALL), "filters": len(warnings.filters),
        "logging": [logging.root.level, len(logging.root.handlers)], "timeout": socket.getdefaulttimeout(),
        "zone": time.tzname, "nice": os.nice(0), "limits": [resource.getrlimit(each) for each in (0, 1, 2, 3, 4, 7)],
        "argv": sys.argv, "held": holds, "switch": sys.getswitchinterval(), "digits": sys.get_int_max_str_digits(),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0] > 0, "says": "genuine",
    }
"""


class RunsCode(Isolation, Protocol):
    """What the suite needs of an isolation besides its interface."""

    @property
    def zygote_pid(self) -> int | None:
        """The process all children come from."""
        ...


@dataclass
class Arena:
    """One isolation, started inside one world, with an attempt of somebody else running in it all the time."""

    world: World
    isolation: RunsCode
    calls: list[tuple[str, JsonValue]] = field(default_factory=list[tuple[str, JsonValue]])
    late: float = LATE
    concurrent: int = 0
    most_concurrent: int = 0
    _sibling: asyncio.Task[Outcome] | None = None
    _sibling_secret: str = ""
    _release: asyncio.Event = field(default_factory=asyncio.Event)
    normal: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])

    async def broker(self, method: str, args: JsonValue) -> JsonValue:
        """Grants whatever is asked: what is denied is denied before it comes here."""
        self.calls.append((method, args))
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        try:
            await asyncio.sleep(0.02)
        finally:
            self.concurrent -= 1
        if method == "large":
            return "x" * MIB
        if method == "breaks":
            raise RuntimeError(f"cannot connect with {self.world.secrets['file']}")
        return {"answer": len(self.calls)}

    async def _keep_sibling(self) -> None:
        if self._sibling is not None and not self._sibling.done():
            return
        self._sibling_secret = self.world.secrets["sibling"] = secret("sibling")
        waits = asyncio.Event()

        async def broker(method: str, args: JsonValue) -> JsonValue:
            waits.set()
            await self._release.wait()
            return None

        job = Job.of(_SIBLING, input={"mine": self._sibling_secret}, limits=JobLimits(wall_seconds=3600))
        before = set(descendants(self.isolation.zygote_pid or 0))
        self._sibling = asyncio.create_task(self.isolation.run(job, broker))
        asked = asyncio.create_task(waits.wait())
        await asyncio.wait([self._sibling, asked], return_when=asyncio.FIRST_COMPLETED, timeout=60)
        asked.cancel()
        if self._sibling.done():
            raise RuntimeError(f"the sibling ended: {self._sibling.result()}")
        self.world.sibling_pids = [
            pid for pid in descendants(self.isolation.zygote_pid or 0) if pid in before or _holds_channel(pid)
        ][:8]
        self.world.zygote = self.isolation.zygote_pid

    async def close(self) -> Outcome | None:
        """Let the sibling end, and give what it returned."""
        self._release.set()
        if self._sibling is None:
            return None
        try:
            return await asyncio.wait_for(self._sibling, 60)
        except Exception:
            return None

    async def probe(self, token: str) -> dict[str, JsonValue]:
        """What a later attempt can see of an earlier one."""
        job = Job.of(_PROBE, input={"first": token[:5], "second": token[5:]}, limits=JobLimits(wall_seconds=60))
        try:
            outcome = await asyncio.wait_for(self.isolation.run(job, self.broker), 70)
        except Exception as error:
            return {"says": f"{type(error).__name__}: {error}"}
        if outcome.status is Status.SUCCEEDED and isinstance(outcome.value, dict):
            return outcome.value
        return {"says": repr(outcome.error or outcome.value)[:1500]}

    async def escapes(self, attack: Attack) -> list[str]:
        """Run one attack; what shows that it got through, or nothing."""
        # What reaches every process of the machine must not be seen by the suite in another process.
        lock = os.open(__file__, os.O_RDONLY)
        try:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX if attack.alone else fcntl.LOCK_SH)
            return await self._escapes(attack)
        finally:
            os.close(lock)

    async def gets_out(self, attack: Attack) -> list[str]:
        """What shows that it got through: what comes to nothing in its time, on a busy machine, is given more of it."""
        for times in (1, 5, 10):
            if found := await self.escapes(replace(attack, wall=attack.wall * times)):
                return found
        return []

    async def _escapes(self, attack: Attack) -> list[str]:
        token = "esc" + secrets.token_hex(4)
        world = self.world
        await self._keep_sibling()
        self.calls.clear()
        self.most_concurrent = 0
        world.begin()
        descriptors = len(os.listdir("/proc/self/fd"))
        port = 20000 + int(token[3:7], 16) % 12000
        facts = {**world.facts(token), "bind_port": port, "port": port}
        found: list[str] = []
        outcome: Outcome | None = None
        with (
            Watch(token, port, "bind_port" in attack.body, world.bystanders) if attack.watched else _Nothing() as watch
        ):
            try:
                outcome = await self._run(attack, facts)
            except TimeoutError:
                found.append("the run did not end at its deadline")
            except Exception as error:
                found.append(f"the host failed: {type(error).__name__}: {error!s:.200}")
        if outcome is not None and outcome.seconds > attack.wall + self.late:
            found.append(f"the run took {outcome.seconds:.2f} s of {attack.wall} s")
        if attack.shown is not None and outcome is not None:
            found += attack.shown(world, outcome, token)
        if isinstance(watch, Watch):
            found += _excess(watch, attack)
        found += world.leaks(json.dumps(self.calls))
        for method, _ in self.calls:
            if attack.grants is not None and method not in attack.grants:
                found.append(f"the broker was asked for {method!r}, which was not granted")
        if self.most_concurrent > 4:
            found.append(f"{self.most_concurrent} calls were open at once")
        if attack.probed:
            found += self._traces(await self.probe(token), token)
        found += await world.survivors(token)
        found += world.findings(token, outcome)
        if len(os.listdir("/proc/self/fd")) > descriptors + 20:
            found.append("the host holds descriptors it was sent")
        if self._sibling is not None and (attack.family == "processes" or attack.layers == ("single use",)):
            await asyncio.wait([self._sibling], timeout=0.1)
        if self._sibling is not None and self._sibling.done():
            found.append(f"the attempt of somebody else was ended: {_ending(self._sibling)}")
        if world.zygote_must_live and self.isolation.zygote_pid != world.zygote:
            found.append("the zygote was replaced")
        return found

    async def _run(self, attack: Attack, facts: dict[str, JsonValue]) -> Outcome:
        cancelled = asyncio.Event() if attack.cancel_after is not None else None
        if cancelled is not None and attack.cancel_after is not None:
            asyncio.get_running_loop().call_later(attack.cancel_after, cancelled.set)
        most = (attack.cancel_after or attack.wall) + self.late
        return await asyncio.wait_for(self.isolation.run(attack.job(facts), self.broker, cancelled), most)

    def _traces(self, seen: dict[str, JsonValue], token: str) -> list[str]:
        found: list[str] = []
        if token in json.dumps(seen):
            found.append("a later attempt sees its token")
        for name in self.normal:
            if seen.get(name) != self.normal[name]:
                found.append(f"a later attempt has other {name}: {seen.get(name, seen.get('says'))!r:.200}")
        return found


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _holds_channel(pid: int) -> bool:
    try:
        return os.path.exists(f"/proc/{pid}/fd/3")
    except OSError:
        return False


def _ending(task: asyncio.Task[Outcome]) -> str:
    if task.cancelled():
        return "cancelled"
    if (error := task.exception()) is not None:
        return repr(error)[:200]
    return repr(task.result().error or task.result().value)[:200]


def _excess(watch: Watch, attack: Attack) -> list[str]:
    found: list[str] = []
    if watch.processes > 1:
        found.append(f"{watch.processes} processes of it ran at once")
    if watch.processor > attack.cpu + 1.5:
        found.append(f"it used {watch.processor:.1f} s of processor time")
    if watch.programs:
        found.append("it ran a program")
    if watch.threads > 600:  # the limit, and what the same user runs besides
        found.append(f"it had {watch.threads} threads")
    if watch.descriptors > 260:
        found.append(f"it had {watch.descriptors} descriptors")
    if watch.memory > attack.memory + 96 * MIB:
        found.append(f"it used {watch.memory // MIB} MiB of memory")
    if attack.alone and watch.shared > 160 * MIB:
        found.append(f"shared memory grew by {watch.shared // MIB} MiB")
    if watch.disk > 72 * MIB:
        found.append(f"it kept {watch.disk // MIB} MiB of files")
    if watch.inodes > 4500:
        found.append(f"it made {watch.inodes} files")
    if watch.metadata_service:
        found.append("the metadata address was addressed")
    if watch.reached:
        found.append("it accepted a connection from outside")
    if watch.sockets:
        found.append("its socket was visible outside")
    return found


def assert_contained(name: str, found: list[str]) -> None:
    """Fail with everything that was seen."""
    assert not found, f"{name} got through: {'; '.join(found)}"


@asynccontextmanager
async def arena(world: World, isolation: RunsCode) -> AsyncIterator[Arena]:
    """Start an isolation in a world and let another attempt live beside every attack."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(isolation.close)
        await isolation.start()
        world.zygote = isolation.zygote_pid
        here = Arena(world, isolation)
        await here.escapes(_NOTHING)  # has a sibling started, and with it every process whose user matters
        here.normal = await here.probe("esc" + secrets.token_hex(4))
        if os.geteuid() == 0:
            users: set[tuple[int, int]] = set()
            for pid in descendants(isolation.zygote_pid or 0):
                with suppress(OSError):  # it ended meanwhile
                    users.add(outer_ids(pid))
            for ids in users - {(0, 0)}:
                world.add_victim(ids)
        yield here
        await here.close()


_NOTHING = Attack(
    name="nothing",
    family="control",
    tries="Nothing at all.",
    shows="It cannot.",
    layers=(),
    body="return None",
)
