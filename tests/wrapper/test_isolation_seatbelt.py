"""The backend for macOS, as far as that can be shown without one: what it says, in which order, what it refuses, how it runs.

``sandbox-exec`` is stood for by one that enforces nothing and by one that enforces what the profile says with what Linux has;
see ``sandbox_exec``. Whether the real one does is not shown anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sandbox_exec
from backends import needs_landlock
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from blackboard.errors import IsolationUnavailable
from blackboard.types import Status
from wrapper.isolation import Job, JobLimits, SeatbeltIsolation, detection, lockdown, seatbelt
from wrapper.isolation.canary import prove

_HERE = Path(__file__).parent
PATHS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=30).map("/".__add__)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was found out before."""
    monkeypatch.setattr(detection, "_proven", set())
    monkeypatch.setattr(detection, "_refusal", [])
    monkeypatch.delenv(detection.VARIABLE, raising=False)


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, *, enforcing: bool) -> None:
    sandbox_exec.install(folder / "bin", enforcing=enforcing)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


@pytest.fixture
def enforcing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch, enforcing=True)


def rules(text: str) -> dict[str, list[tuple[str, str]]]:
    return dict(sandbox_exec.rules(text))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


# ---- the profile ------------------------------------------------------------------------------------------------------


@given(PATHS)
def test_a_path_with_quotes_and_backslashes_stays_one_string_that_means_that_path(path: str) -> None:
    said = seatbelt.quoted(path)
    assert re.fullmatch(r'"(?:[^"\\]|\\["\\])*"', said), "nothing in it ends the string early"
    assert re.sub(r"\\(.)", r"\1", said[1:-1]) == path


@pytest.mark.parametrize("path", ["/a\nb", "/a\0b", "/\x1b[0m", "/\x7f", "/\udcff"])
def test_a_path_whose_reading_is_not_certain_stands_in_no_profile(path: str) -> None:
    with pytest.raises(seatbelt.Unsayable, match="use another directory"):
        seatbelt.quoted(path)


def test_a_profile_denies_what_it_does_not_name_and_names_what_each_part_is_for(tmp_path: Path) -> None:
    library, scratch = tmp_path / 'lib"(allow default)"', tmp_path / "run-1"
    for each in (library, scratch):
        each.mkdir()
    module = tmp_path / "one.py"
    module.touch()
    text = seatbelt.profile(
        runtime=[str(library), str(module)], listed=["/opt/app"], programs=["/opt/python"], scratch=str(scratch)
    )
    assert text.startswith("(version 1)\n(deny default)\n")
    found = rules(text)
    assert found["process-exec"] == [("literal", "/opt/python")]
    assert found["file-read* file-write*"] == [("subpath", str(scratch))]
    assert found["file-write-data"] == [("literal", "/dev/null")]
    assert ("subpath", str(library)) in found["file-read* file-map-executable"]
    assert ("literal", str(module)) in found["file-read* file-map-executable"]
    assert ("literal", "/opt/app") in found["file-read*"], "the names in it, and no file"
    assert ("subpath", "/opt/app") not in found["file-read*"]
    assert {name for name in found if "network" in name or "mach" in name or "fork" in name} == set()
    for rule in ("(deny process-fork)", "(deny network*)", "(deny mach-lookup)", "(allow signal (target self))"):
        assert rule in text


def test_the_interpreter_and_the_libraries_are_named_as_they_are_asked_for_and_as_they_are() -> None:
    assert {sys.executable, os.path.realpath(sys.executable)} <= set(seatbelt.programs())
    assert any(os.__file__.startswith(each + "/") for each in seatbelt.runtime([]))
    home = os.path.expanduser("~")
    assert not {"/", "/etc", home, os.getcwd()} & set(seatbelt.runtime([]))


def test_what_is_mapped_is_told_from_the_least_limit_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped, now = (5 << 40) + 12345, (-1, -1)

    def setrlimit(kind: int, limits: tuple[int, int]) -> None:
        nonlocal now
        if 0 <= limits[0] < mapped:
            raise ValueError("current limit exceeds maximum limit")
        now = limits

    monkeypatch.setattr(lockdown.resource, "setrlimit", setrlimit)
    monkeypatch.setattr(lockdown.resource, "getrlimit", lambda kind: now)
    found = lockdown._least_address_space()  # pyright: ignore[reportPrivateUsage]
    assert 0 <= found - mapped <= 1 << 20
    assert now == (-1, -1), "the limit is as it was"


# ---- which one is used ------------------------------------------------------------------------------------------------


def test_it_stands_behind_what_is_proven_on_linux_and_before_nothing() -> None:
    order = [each.way for each in detection._CANDIDATES]  # pyright: ignore[reportPrivateUsage]
    assert order == ["zygote-ns", "zygote-ns by bwrap", "zygote-lsm", "seatbelt"]


async def test_on_linux_it_is_not_even_tried(enforcing: None) -> None:
    with pytest.raises(IsolationUnavailable, match="seatbelt: only macOS has it"):
        await detection.find("seatbelt", preload_strands=False)


async def on_a_mac(monkeypatch: pytest.MonkeyPatch, user: int = 501) -> str:
    """What is refused there, once everything was tried."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(IsolationUnavailable) as caught:
        await detection.find(preload_strands=False, parked=1)
    return str(caught.value)


async def test_where_sandbox_exec_is_missing_generated_code_is_refused_with_what_each_lacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = await on_a_mac(monkeypatch)
    assert "seatbelt: sandbox-exec is not on PATH" in said
    for way in ("zygote-ns: ", "zygote-ns by bwrap: ", "zygote-lsm: "):
        assert way in said


async def test_root_is_told_to_run_as_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "seatbelt: not for root" in await on_a_mac(monkeypatch, user=0)


async def test_a_sandbox_exec_that_enforces_nothing_is_found_out_and_the_report_says_by_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, enforcing=False)
    async with SeatbeltIsolation(preload_strands=False, parked=1) as isolation:
        proof = await prove(isolation)
    assert not proof.passed
    for act in ("read a file beside the box", "connect by TCP", "write outside", "fork", "signal another process"):
        assert act in proof.done, proof
    assert "signal its parent" in proof.done, "which is this process, and lives"


_MAC = f"""
import os, select, signal, socket, sys, resource
sys.path.insert(0, {str(_HERE)!r})
import asyncio, json, logging, sysconfig
sysconfig.get_config_vars()
sys.platform = "darwin"
user = os.getuid()
os.geteuid = lambda: user or 501  # pyright: ignore
for module, names in {{
    os: "pidfd_open memfd_create waitid sched_setaffinity sched_getaffinity unshare setns P_PIDFD O_PATH eventfd splice",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: "MSG_CMSG_CLOEXEC SOCK_SEQPACKET AF_NETLINK AF_VSOCK",
    resource: "prlimit RLIMIT_MSGQUEUE RLIMIT_SIGPENDING RLIMIT_NICE",
}}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
class Queue:  # as kqueue tells of an end, by what Linux has
    def control(self, events, most):
        import time
        while open(f"/proc/{{events[0]}}/stat").read().rpartition(")")[2].split()[0] not in "ZX":
            time.sleep(0.01)
    def close(self): pass
select.kqueue, select.kevent = Queue, lambda pid, *_: pid
select.KQ_FILTER_PROC = select.KQ_EV_ADD = select.KQ_EV_ONESHOT = select.KQ_NOTE_EXIT = 1
import ctypes
class Mac(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("unshare", "setns", "umount2", "prctl", "pivot_root"):
            raise AttributeError(name)
        return super().__getattr__(name)
ctypes.CDLL = Mac
from wrapper.isolation import Job
from wrapper.isolation.detection import find
async def main():
    isolation, rejected = await find(preload_strands=False, parked=1)
    async with isolation:
        outcome = await isolation.run(Job.of("def handler(a): return a + 1", input={{"a": 1}}))
        print(json.dumps([outcome.isolation, outcome.value, isolation.layers, [str(each) for each in rejected]]))
asyncio.run(main())
"""


@needs_landlock
def test_where_it_holds_it_is_used_without_any_call_that_only_linux_has(enforcing: None) -> None:
    done = subprocess.run([sys.executable, "-c", _MAC], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    label, value, layers, rejected = json.loads(done.stdout)
    assert (label, value) == ("seatbelt", 2)
    assert "a profile of sandbox-exec, unverified" in layers
    assert [each.split(": ")[0] for each in rejected] == ["zygote-ns", "zygote-ns by bwrap", "zygote-lsm"]


# ---- how it runs ------------------------------------------------------------------------------------------------------

ENDS: dict[str, tuple[str, str | None]] = {
    "a value": ("def handler(): return {'a': [1, None]}", None),
    "what it raises": ("def handler(): raise KeyError('x')", "handler_error"),
    "a module that cannot be read": ("def handler(:", "syntax_error"),
    "a handler that is not there": ("x = 1", "missing_handler"),
    "an exit": ("import os\ndef handler(): os._exit(3)", "exited"),
    "a crash": ("import ctypes\ndef handler(): ctypes.string_at(0)", "crashed"),
    "a forged second result": (
        'import os\ndef handler():\n    for _ in range(2): os.write(3, b\'\\0\\0\\0\\x16{"t":"done","value":1}\')\n',
        "protocol",
    ),
    "more memory than it may have": ("def handler(): return len(bytearray(1 << 30))", "handler_error"),
    "a process": ("import os\ndef handler(): os.fork()", "handler_error"),
    "its own profile": (
        "import os\ndef handler(): return open(os.path.realpath('.') + '.sb').read()",
        "handler_error",
    ),
}


@needs_landlock
async def test_every_end_of_a_run_is_the_one_it_has_elsewhere(enforcing: None) -> None:
    limits = JobLimits(wall_seconds=60, memory_bytes=256 << 20)
    async with SeatbeltIsolation(preload_strands=False, parked=1) as isolation:
        for name, (source, expected) in ENDS.items():
            outcome = await isolation.run(Job.of(source, limits=limits))
            found = outcome.error.type if outcome.error is not None else None
            assert found == expected, (name, outcome)


@needs_landlock
async def test_an_attempt_has_a_directory_of_its_own_of_which_nothing_is_left(
    enforcing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(os.listdir(tmp_path))
    source = (
        "import os\ndef handler():\n    seen = os.listdir('.')\n    os.makedirs('a/b')\n    open('a/b/c', 'w').write('x')\n"
        "    return seen + [os.environ['TMPDIR'] == os.getcwd()]\n"
    )
    async with SeatbeltIsolation(preload_strands=False, parked=1) as isolation:
        outcomes = [await isolation.run(Job.of(source)) for _ in range(2)]
    assert [each.value for each in outcomes] == [[True], [True]], outcomes
    assert sorted(os.listdir(tmp_path)) == before


@needs_landlock
async def test_a_run_that_hangs_in_c_is_killed_when_its_time_is_up_and_one_that_is_cancelled_at_once(
    enforcing: None,
) -> None:
    pids: list[int] = []
    stop = asyncio.Event()

    async def broker(method: str, args: JsonValue) -> JsonValue:
        assert isinstance(args, int)
        pids.append(args)
        stop.set()
        return None

    hangs = "import os, signal\nfrom wrapper import sdk\ndef handler():\n    sdk.call('here', os.getpid())\n    {}\n"
    async with SeatbeltIsolation(preload_strands=False, parked=1) as isolation:
        job = Job.of(hangs.format("sum(range(10**13))"), limits=JobLimits(wall_seconds=1.5), grants=("here",))
        assert (await isolation.run(job, broker)).status is Status.TIMED_OUT
        stop.clear()
        stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
        job = Job.of(hangs.format(stubborn), limits=JobLimits(wall_seconds=100), grants=("here",))
        assert (await isolation.run(job, broker, stop)).status is Status.CANCELLED
        await until(lambda: not any(map(running, pids)), "both are dead")
    assert len(pids) == 2


@needs_landlock
async def test_a_guard_that_was_killed_costs_nothing_and_is_replaced(enforcing: None) -> None:
    async with SeatbeltIsolation(preload_strands=False, parked=1) as isolation:
        first = isolation.zygote_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: not running(first), "the guard is dead")
        for _ in range(2):  # what is parked is used up, and what comes after it has a guard
            assert (await isolation.run(Job.of("def handler(): return 1"))).value == 1
        await until(lambda: isolation.zygote_pid not in (None, first), "another guard")


_HOST = """
import asyncio
from wrapper.isolation import Job, SeatbeltIsolation
SOURCE = '''
import os, time
from wrapper import sdk
def handler():
    sdk.call("here", os.getpid())
    time.sleep(1000)
'''
async def main():
    async def broker(method, args):
        print(args, flush=True)
    async with SeatbeltIsolation(preload_strands=False, parked=0) as isolation:
        await isolation.run(Job.of(SOURCE), broker)
asyncio.run(main())
"""


@needs_landlock
async def test_a_host_that_is_killed_outright_leaves_no_run_and_no_file(enforcing: None, tmp_path: Path) -> None:
    here = tmp_path / "temporary"
    here.mkdir()
    environment: dict[str, Any] = {**os.environ, "TMPDIR": str(here)}
    with subprocess.Popen([sys.executable, "-c", _HOST], stdout=subprocess.PIPE, env=environment) as host:  # noqa: ASYNC220
        assert host.stdout is not None
        pid = int(await asyncio.to_thread(host.stdout.readline))
        assert running(pid)
        host.send_signal(signal.SIGKILL)
        host.wait()
    await until(lambda: not running(pid), "the run is dead")
    await until(lambda: os.listdir(here) == [], "its directory is gone")


async def test_a_wall_that_cannot_be_put_up_is_told_in_the_words_of_who_should_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "sandbox-exec"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'sandbox_apply: Operation not permitted' >&2\nexit 71\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    async with SeatbeltIsolation(preload_strands=False, parked=0) as isolation:
        with pytest.raises(IsolationUnavailable, match="sandbox_apply: Operation not permitted"):
            await isolation.run(Job.of("def handler(): return 1"))
