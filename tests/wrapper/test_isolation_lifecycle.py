"""Nothing is left over, a dead zygote is replaced, and a dead host takes everything with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from backends import BACKENDS
from pydantic import JsonValue

from blackboard.errors import IsolationUnavailable
from blackboard.types import Status
from wrapper.isolation import Isolation, Job, Outcome, ProcessIsolation

ADD = Job.of("def handler(a=1): return a + 1")
PLACE = Job.of("import os\ndef handler(): return [os.getpid(), os.getcwd(), os.getppid()]")


every_backend = pytest.mark.parametrize("backend", BACKENDS)


def isolation(backend: type[ProcessIsolation] = ProcessIsolation, **options: float) -> ProcessIsolation:
    return backend(preload_strands=False, **{"parked": 1, **options})  # type: ignore[arg-type]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in (child, *descendants(child))]


async def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


async def test_two_hundred_runs_leave_no_process_directory_or_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    littering = """
import os, subprocess
def handler(n):
    os.makedirs("deep/er", exist_ok=True)
    open("deep/er/file", "w").write("x" * n)
    os.symlink("/", "deep/root")
    os.chmod("deep/er", 0)
    if n % 20 == 1: os._exit(1)
    if n % 20 == 2: os.fork()
    if n % 20 == 3: raise ValueError
    return os.getcwd()
"""
    before = len(os.listdir("/proc/self/fd"))
    async with isolation(parked=2) as running_isolation:
        zygote = running_isolation.zygote_pid
        assert zygote is not None
        for start in range(0, 200, 10):
            await asyncio.gather(
                *(running_isolation.run(Job.of(littering, input={"n": n})) for n in range(start, start + 10))
            )
        assert running_isolation.zygote_pid == zygote
        (base,) = entries(tmp_path)
        await until(lambda: running_isolation.parked == 2, "two children parked")
        await until(lambda: len(entries(base)) == 2, "only the parked children's directories")
        await until(lambda: len(descendants(zygote)) == 2, "only the parked children")
        assert len(os.listdir(f"/proc/{zygote}/fd")) < 16
        assert len(os.listdir("/proc/self/fd")) < before + 16
    assert not running(zygote)
    assert entries(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_killing_the_zygote_ends_its_runs_as_retryable_and_the_next_run_has_a_new_one() -> None:
    async with isolation() as subject:
        first = subject.zygote_pid
        assert first is not None
        seen: list[JsonValue] = []

        async def broker(method: str, args: JsonValue) -> JsonValue:
            seen.append(args)
            os.kill(first, signal.SIGKILL)
            return None

        source = (
            "from wrapper import sdk\nimport os, time\ndef handler():\n"
            "    child = os.fork()\n    if child == 0: time.sleep(120)\n"
            "    sdk.call('here', [os.getpid(), child])\n    time.sleep(60)\n"
        )
        outcome = await subject.run(Job.of(source), broker)
        assert outcome.status is Status.FAILED
        assert outcome.error is not None
        assert (outcome.error.type, outcome.error.retryable) == ("isolation", True), outcome
        pids = seen[0]
        assert isinstance(pids, list)
        await until(lambda: not any(running(int(str(pid))) for pid in pids), "the run and its grandchild are dead")
        again = await subject.run(ADD)
        assert again.value == 2
        assert subject.zygote_pid not in (None, first)


@every_backend
async def test_a_zygote_killed_between_runs_costs_nothing(backend: type[ProcessIsolation]) -> None:
    async with isolation(backend) as subject:
        for _ in range(3):
            zygote = subject.zygote_pid
            assert zygote is not None
            os.kill(zygote, signal.SIGKILL)
            await until(lambda: not running(zygote), "the zygote is dead")  # noqa: B023
            assert (await subject.run(ADD)).value == 2


@every_backend
async def test_a_parked_child_that_died_is_not_handed_out(backend: type[ProcessIsolation]) -> None:
    async with isolation(backend) as subject:
        await until(lambda: subject.parked == 1, "one parked")
        assert subject.zygote_pid is not None
        for pid in descendants(subject.zygote_pid):
            os.kill(pid, signal.SIGKILL)
        assert (await subject.run(ADD)).value == 2


@every_backend
async def test_the_zygote_is_replaced_after_enough_runs_without_disturbing_any(backend: type[ProcessIsolation]) -> None:
    async with isolation(backend, recycle_runs=5) as subject:
        zygotes = {subject.zygote_pid}
        for _ in range(6):
            outcomes = await asyncio.gather(*(subject.run(ADD) for _ in range(5)))
            assert [each.value for each in outcomes] == [2] * 5, outcomes
            zygotes.add(subject.zygote_pid)
        await until(lambda: len(zygotes) > 1 or bool(zygotes.add(subject.zygote_pid)), "another zygote")
        old = [pid for pid in zygotes if pid not in (None, subject.zygote_pid)]
        await until(lambda: not any(running(pid) for pid in old if pid), "replaced zygotes end")


_HOST = """
import asyncio, json
import sys
from pathlib import Path
from wrapper.isolation import Job, process
SOURCE = '''
from wrapper import sdk
import time
def handler():
    sdk.call("here", None)
    time.sleep(120)
'''
async def main():
    async def broker(method, args):
        zygote = isolation.zygote_pid
        (child,) = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        print(json.dumps([int(child), zygote]), flush=True)
    async with getattr(process, sys.argv[1])(preload_strands=False, parked=0) as isolation:
        await isolation.run(Job.of(SOURCE), broker)
asyncio.run(main())
"""


async def host_with_a_run(
    directory: Path, backend: type[ProcessIsolation] = ProcessIsolation
) -> tuple[subprocess.Popen[bytes], int, int]:
    """A host process with one run in progress: the host, the pid of the run, the pid of its zygote."""
    host = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", _HOST, backend.__name__],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(directory)},
    )
    assert host.stdout is not None
    with host.stdout:
        child, zygote = json.loads(await asyncio.to_thread(host.stdout.readline))
    assert running(child)
    assert running(zygote)
    return host, child, zygote


@every_backend
async def test_a_host_killed_outright_takes_zygote_children_and_directories_with_it(
    backend: type[ProcessIsolation], tmp_path: Path
) -> None:
    host, child, zygote = await host_with_a_run(tmp_path, backend)
    host.kill()
    host.wait()
    await until(lambda: not running(zygote) and not running(child), "zygote and child end")
    await until(lambda: entries(tmp_path) == [], "the directories are gone")


@every_backend
async def test_a_host_killed_outright_takes_even_a_zygote_that_does_not_answer_with_it(
    backend: type[ProcessIsolation], tmp_path: Path
) -> None:
    if backend is ProcessIsolation:
        pytest.skip("it is asked to end, so that it removes its directories, and a stopped one does not hear it")
    host, child, zygote = await host_with_a_run(tmp_path, backend)
    os.kill(zygote, signal.SIGSTOP)
    host.kill()
    host.wait()
    await until(lambda: not running(zygote) and not running(child), "zygote and child end")


@every_backend
async def test_a_run_dies_with_its_zygote_even_when_the_host_cannot_act(
    backend: type[ProcessIsolation], tmp_path: Path
) -> None:
    host, child, zygote = await host_with_a_run(tmp_path, backend)
    host.send_signal(signal.SIGSTOP)
    try:
        os.kill(zygote, signal.SIGKILL)
        await until(lambda: not running(child), "the child ends by itself")
    finally:
        host.kill()
        host.wait()


async def test_directories_of_a_host_and_zygote_killed_together_are_removed_by_the_next_zygote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, child, zygote = await host_with_a_run(tmp_path)
    host.send_signal(signal.SIGSTOP)
    os.kill(zygote, signal.SIGKILL)
    host.kill()
    host.wait()
    await until(lambda: not running(zygote) and not running(child), "all are dead")
    (left,) = entries(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with isolation() as first:
        assert left in entries(tmp_path)  # young: it might belong to a zygote that is starting
        (own,) = set(entries(tmp_path)) - {left}
        for base in (left, own):
            os.utime(base, (0, 0))
        async with isolation():
            assert left not in entries(tmp_path)
            assert own in entries(tmp_path)  # as old, but held
        assert (await first.run(ADD)).value == 2


@every_backend
def test_it_works_in_a_loop_outside_the_main_thread_and_again_in_a_new_loop(backend: type[ProcessIsolation]) -> None:
    subject = isolation(backend)
    results: list[Outcome] = []

    async def twice() -> None:
        results.extend([await subject.run(ADD), await subject.run(ADD)])
        await subject.close()

    for _ in range(2):
        thread = threading.Thread(target=lambda: asyncio.run(twice()))
        thread.start()
        thread.join(30)
    assert [each.value for each in results] == [2, 2, 2, 2]


@every_backend
def test_an_isolation_whose_loop_ended_without_closing_it_ends_the_old_zygote_and_starts_anew(
    backend: type[ProcessIsolation],
) -> None:
    subject = isolation(backend)

    async def run() -> tuple[JsonValue, int | None]:
        return (await subject.run(ADD)).value, subject.zygote_pid

    async def run_and_close() -> tuple[JsonValue, int | None]:
        try:
            return await run()
        finally:
            await subject.close()

    value, old = asyncio.run(run())
    assert value == 2
    again, new = asyncio.run(run_and_close())
    assert again == 2
    assert old is not None
    assert new not in (None, old)
    assert not running(old)


async def test_a_loop_of_its_own_is_asked_for_where_another_one_runs() -> None:
    async with isolation() as subject:

        def elsewhere() -> None:
            with pytest.raises(IsolationUnavailable, match="another event loop"):
                asyncio.run(subject.run(ADD))

        await asyncio.to_thread(elsewhere)
        assert (await subject.run(ADD)).value == 2


@every_backend
async def test_a_zygote_whose_child_survives_its_kill_is_replaced_loudly(
    backend: type[ProcessIsolation], caplog: pytest.LogCaptureFixture
) -> None:
    async with isolation(backend) as subject:
        first = subject.zygote_pid
        assert first is not None
        child = await subject._here().take()  # type: ignore[reportPrivateUsage]
        child.exited = asyncio.get_running_loop().create_future()  # as if its end were never heard of
        await child.link.bury(child, 0.01)
        assert "survived SIGKILL" in caplog.text
        await until(lambda: not running(first) and not running(child.pid), "the zygote and the child are dead")
        assert (await subject.run(ADD)).value == 2
        assert subject.zygote_pid not in (None, first)


async def test_cancelling_the_caller_kills_the_run() -> None:
    async with isolation() as subject:
        started = asyncio.Event()
        pids: list[JsonValue] = []

        async def broker(method: str, args: JsonValue) -> JsonValue:
            pids.append(args)
            started.set()
            return None

        source = "from wrapper import sdk\nimport os, time\ndef handler():\n    sdk.call('x', os.getpid())\n    time.sleep(60)\n"
        task = asyncio.create_task(subject.run(Job.of(source), broker))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not running(int(str(pids[0]))), "the child is dead")


@every_backend
async def test_closing_during_runs_ends_them_and_a_later_run_starts_anew(backend: type[ProcessIsolation]) -> None:
    subject = isolation(backend)
    await subject.start()
    started = asyncio.Event()

    async def broker(method: str, args: JsonValue) -> JsonValue:
        started.set()
        return None

    source = (
        "import time\nfrom wrapper import sdk\n\ndef handler():\n    sdk.call('started', None)\n    time.sleep(60)\n"
    )
    task = asyncio.create_task(subject.run(Job.of(source), broker))
    await asyncio.wait_for(started.wait(), 30)
    await subject.close()
    outcome = await task
    assert outcome.error is not None
    assert outcome.error.type == "isolation"
    assert (await subject.run(ADD)).value == 2
    await subject.close()
    await subject.close()


async def test_each_run_has_a_process_and_a_directory_of_its_own() -> None:
    async with isolation() as subject:
        places = [(await subject.run(PLACE)).value for _ in range(5)]
        pids, directories, parents = zip(*places, strict=True)  # type: ignore[arg-type]
        assert len(set(pids)) == len(set(directories)) == 5
        assert set(parents) == {subject.zygote_pid}
        assert os.getpid() not in pids


def test_the_backend_is_an_isolation() -> None:
    subject: Isolation = ProcessIsolation()
    assert subject.label == "process"


def test_the_sdk_and_the_zygote_load_no_host_code() -> None:
    program = (
        "import sys; import wrapper.sdk, wrapper.isolation.zygote, wrapper.isolation.hotload\n"
        "print([n for n in sys.modules if n.split('.')[0] in "
        "('pydantic', 'redis', 'strands', 'boto3', 'blackboard', 'registry', 'arbiter')])"
    )
    found = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"
