"""Limits hold for code that does what it can against them, and nothing of a run is left for the next one."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from backends import BACKENDS, needs_namespaces
from pydantic import JsonValue

from blackboard.types import Status
from wrapper.isolation import BoxedIsolation, Job, JobLimits, Outcome, ProcessIsolation

pytestmark = pytest.mark.asyncio(loop_scope="module")
"""The isolation stays for the whole module, as it does in a program: what one of its children did harms no other."""

WALLED = BACKENDS[:2]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WALLED)
async def walled(request: pytest.FixtureRequest) -> AsyncIterator[ProcessIsolation]:
    async with request.param(preload_strands=False, parked=1) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", params=WALLED)
async def fresh(request: pytest.FixtureRequest) -> AsyncIterator[ProcessIsolation]:
    """One that has run nothing yet, for who counts."""
    async with request.param(preload_strands=False, parked=1) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def boxed() -> AsyncIterator[ProcessIsolation]:
    async with BoxedIsolation(preload_strands=False, parked=1) as running:
        yield running


async def call(isolation: ProcessIsolation, source: str, **limits: float) -> Outcome:
    return await isolation.run(Job.of(textwrap.dedent(source), limits=JobLimits(**limits)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "stuck",
    [
        pytest.param("import re\n    re.match('(a+)+$', 'a' * 60 + 'b')", id="backtracking"),
        pytest.param("import hashlib\n    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10 ** 9)", id="hashing"),
        pytest.param("sum(range(10 ** 13))", id="a loop in C"),
        pytest.param("pow(3, 10 ** 9)", id="a huge number"),
        pytest.param(
            "import signal\n    for n in range(1, 64):\n        try: signal.signal(n, signal.SIG_IGN)\n"
            "        except (OSError, ValueError): pass\n    while True: pass",
            id="every signal ignored",
        ),
        pytest.param(
            "import signal\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n    signal.sigwait([60])",
            id="every signal blocked",
        ),
        pytest.param("import os\n    a, b = os.pipe()\n    while True: os.write(b, b'x' * 4096)", id="a full pipe"),
        pytest.param(
            "import threading\n    def loop():\n        while True: pass\n"
            "    for _ in range(20): threading.Thread(target=loop).start()\n    loop()",
            id="busy threads",
        ),
        pytest.param(
            "import os\n    os.close(3)\n    os.closerange(0, 256)\n    while True: pass", id="a closed channel"
        ),
    ],
)
async def test_code_that_cannot_be_asked_to_stop_is_stopped_in_time(walled: ProcessIsolation, stuck: str) -> None:
    outcome = await call(walled, f"def handler():\n    {stuck}\n", wall_seconds=0.3)
    assert outcome.status is not Status.SUCCEEDED
    assert outcome.error is not None
    assert outcome.error.type in ("timeout", "protocol"), outcome
    assert outcome.seconds < 30  # a busy machine; how much is too much is measured in benchmarks
    assert (await call(walled, "def handler(): return 1")).value == 1


@pytest.mark.parametrize(
    "attempt",
    [
        "os.fork()",
        "os.forkpty()",
        "__import__('subprocess').run(['/bin/true'])",
        "__import__('multiprocessing').Process(target=print).start()",
        "os.posix_spawn('/proc/self/exe', ['python'], {})",
        "os.execv('/proc/self/exe', ['python', '-c', 'pass'])",
        "__import__('pty').spawn('/bin/sh')",
    ],
)
async def test_no_process_and_no_program_can_be_started(walled: ProcessIsolation, attempt: str) -> None:
    outcome = await call(walled, f"import os\ndef handler():\n    {attempt}\n    return 'went on'\n")
    assert outcome.status is Status.FAILED, outcome
    assert outcome.error is not None
    assert outcome.error.type == "handler_error", outcome
    assert outcome.error.evidence["exception"] in ("PermissionError", "FileNotFoundError", "OSError"), outcome


@pytest.mark.parametrize(
    ("family", "kind"),
    [("AF_INET", "SOCK_STREAM"), ("AF_INET", "SOCK_DGRAM"), ("AF_INET6", "SOCK_STREAM"), ("AF_UNIX", "SOCK_STREAM"),
     ("AF_UNIX", "SOCK_DGRAM"), ("AF_NETLINK", "SOCK_RAW"), ("AF_PACKET", "SOCK_RAW"), ("AF_VSOCK", "SOCK_STREAM"),
     ("AF_ALG", "SOCK_SEQPACKET")],
)  # fmt: skip
async def test_no_socket_of_any_kind_can_be_made(walled: ProcessIsolation, family: str, kind: str) -> None:
    outcome = await call(walled, f"import socket\ndef handler():\n    socket.socket(socket.{family}, socket.{kind})\n")
    assert outcome.error is not None
    assert outcome.error.evidence["exception"] == "PermissionError", outcome


async def test_a_call_that_only_an_attack_makes_ends_the_process(walled: ProcessIsolation) -> None:
    source = "import ctypes\ndef handler():\n    ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n    return 'went on'\n"
    outcome = await call(walled, source)
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.evidence["signal_name"]) == ("crashed", "SIGSYS")


@needs_namespaces
@pytest.mark.parametrize(
    ("fill", "at_most"),
    [
        pytest.param("for n in range(1000):\n        open(str(n), 'wb').write(b'x' * (1 << 20))", 65 << 20, id="bytes"),
        pytest.param("for n in range(100000):\n        open(str(n), 'wb').close()", 4096, id="files"),
    ],
)
async def test_scratch_is_small_and_its_own(boxed: ProcessIsolation, fill: str, at_most: int) -> None:
    source = f"""
import os
def handler():
    try:
        {fill.replace(chr(10), chr(10) + "    ")}
    except OSError as error:
        names = os.listdir(".")
        return [error.errno, len(names), sum(os.stat(name).st_size for name in names)]
"""
    value = (await call(boxed, source)).value
    assert isinstance(value, list)
    assert value[0] == 28  # no space left
    assert max(int(str(value[1])), int(str(value[2]))) <= at_most
    assert (await call(boxed, "import os\ndef handler(): return os.listdir('.')")).value == []


@needs_namespaces
async def test_threads_and_descriptors_are_bounded(boxed: ProcessIsolation) -> None:
    source = """
    import os, threading
    def handler():
        threading.stack_size(32768)
        stop, made, opened = threading.Event(), [], []
        try:
            while True:
                made.append(threading.Thread(target=stop.wait))
                made[-1].start()
        except RuntimeError:
            stop.set()
        try:
            while True:
                opened.append(os.dup(0))
        except OSError:
            pass
        return [len(made), len(opened)]
    """
    value = (await call(boxed, source)).value
    assert isinstance(value, list)
    threads, descriptors = (int(str(each)) for each in value)
    assert 50 < threads <= 513
    assert 200 < descriptors <= 256


CONTROLS = {
    "asyncio": """
        import asyncio
        async def handler():
            return sum(await asyncio.gather(*(asyncio.sleep(0.01, n) for n in range(5))))
    """,
    "threads": """
        from concurrent.futures import ThreadPoolExecutor
        def handler():
            return sum(ThreadPoolExecutor(8).map(abs, range(-4, 1)))
    """,
    "asyncio in threads": """
        import asyncio
        async def handler():
            return await asyncio.to_thread(sum, range(5))
    """,
    "memory": """
        def handler():
            return len(bytearray(200 << 20)) and 10
    """,
    "numbers and time": """
        import datetime, decimal, random, secrets, time, uuid, zoneinfo
        def handler():
            zone = zoneinfo.ZoneInfo("Europe/Berlin")
            assert datetime.datetime.now(zone).year > 2000 and uuid.uuid4() and secrets.token_hex()
            assert random.random() < 1 < time.time()
            return 10
    """,
    "text": """
        import csv, io, json, re, unicodedata
        def handler():
            return len(json.loads("[0,1,2,3,4,5,6,7,8,9]"))
    """,
    "sqlite": """
        import sqlite3
        def handler():
            return sqlite3.connect(":memory:").execute("select 4 + 6").fetchone()[0]
    """,
    "compression": """
        import bz2, gzip, lzma, zlib
        def handler():
            return len(zlib.decompress(zlib.compress(b"0123456789")))
    """,
    "pydantic": """
        import pydantic
        class Model(pydantic.BaseModel):
            n: int
        def handler():
            return Model(n="10").n
    """,
    "ctypes": """
        import ctypes
        def handler():
            return ctypes.CDLL(None).abs(-10)
    """,
}
IN_SCRATCH = {
    "temporary files": """
        import tempfile
        def handler():
            with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory():
                file.write(b"0123456789")
                file.flush()
                return len(open(file.name, "rb").read())
    """,
    "copies": """
        import os, shutil
        def handler():
            with open("a", "w") as file:
                file.write("0123456789")
            shutil.copy2("a", "b")
            os.rename("b", "c")
            os.chmod("c", 0o600)
            return os.path.getsize("c")
    """,
    "sqlite in a file": """
        import sqlite3
        def handler():
            db = sqlite3.connect("x.db")
            db.execute("create table t (n)")
            db.execute("insert into t values (10)")
            db.commit()
            return db.execute("select n from t").fetchone()[0]
    """,
}


@pytest.mark.parametrize("name", CONTROLS)
async def test_ordinary_code_works_inside_the_walls(walled: ProcessIsolation, name: str) -> None:
    outcome = await call(walled, CONTROLS[name])
    assert outcome.value == 10, outcome


@needs_namespaces
@pytest.mark.parametrize("name", IN_SCRATCH)
async def test_ordinary_code_works_with_files_in_the_box(boxed: ProcessIsolation, name: str) -> None:
    outcome = await call(boxed, IN_SCRATCH[name])
    assert outcome.value == 10, outcome


async def test_nothing_of_a_run_is_seen_by_the_next_one(walled: ProcessIsolation) -> None:
    source = """
    import atexit, builtins, os, signal, sys, threading
    def handler():
        seen = [hasattr(builtins, "left"), "left" in os.environ, "left" in sys.modules,
                signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL, threading.active_count() > 1,
                os.listdir(".") if os.getcwd() != "/" else []]
        builtins.left = os.environ["left"] = "here"
        sys.modules["left"] = sys
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        atexit.register(print, "late")
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        if os.getcwd() != "/":
            open("left", "w").close()
        return seen
    """
    for _ in range(3):
        assert (await call(walled, source)).value == [False, False, False, False, False, []]


async def test_the_frames_below_the_code_tell_neither_how_many_were_before_it_nor_who_runs_beside_it(
    walled: ProcessIsolation,
) -> None:
    source = """
    import sys
    def handler():
        found, frame = [], sys._getframe()
        while frame is not None:
            for name, value in frame.f_locals.items():
                beside = getattr(value, "_children", None)
                found += [each.pid for each in beside.values()] if isinstance(beside, dict) else []
                if name in ("request", "message", "data", "number") and value not in ({}, None):
                    found.append([name, str(value)])
            frame = frame.f_back
        return found
    """
    for _ in range(3):
        assert (await call(walled, source)).value == []


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in (child, *descendants(child))]


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not in time: {what}")


async def test_hundreds_of_runs_leave_no_process_mount_file_or_descriptor(
    fresh: ProcessIsolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mounts = Path("/proc/self/mountinfo").read_text().count("\n")  # noqa: ASYNC240
    assert (await call(fresh, "def handler(): return 1")).value == 1
    zygote = fresh.zygote_pid
    assert zygote is not None
    before = len(os.listdir("/proc/self/fd"))
    inside = len(os.listdir(f"/proc/{zygote}/fd"))
    sources = [
        "def handler(): return 1",
        "import os\ndef handler(): os._exit(1)",
        "def handler(): raise ValueError",
        "import ctypes\ndef handler(): ctypes.string_at(0)",
        "import threading\ndef handler():\n    threading.Thread(target=threading.Event().wait).start()\n    return 1",
    ]
    values: list[JsonValue] = []
    for _ in range(20):
        outcomes = await asyncio.gather(*(call(fresh, source) for source in sources * 2))
        values += [each.value for each in outcomes]
    assert values.count(1) >= 40
    assert fresh.zygote_pid == zygote
    await until(lambda: fresh.parked == 1 and len(descendants(zygote)) == 1, "only the parked child")
    await until(lambda: len(os.listdir(f"/proc/{zygote}/fd")) <= inside + 2, "the zygote's descriptors")
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 4, "the host's descriptors")
    assert Path("/proc/self/mountinfo").read_text().count("\n") == mounts  # noqa: ASYNC240
    assert os.listdir(tmp_path) == []
