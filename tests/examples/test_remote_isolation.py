"""An isolation that is another process behind a socket: same interface, same endings, nothing believed that it says."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from arbiter import Arbiter, Call, Grants, Manifest
from blackboard.errors import IsolationUnavailable
from blackboard.testing import RedisServer
from blackboard.types import Status
from wrapper.isolation import Isolation, Job, JobLimits, framing

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "remote" / "isolation.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("remote_isolation", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


example = _load()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """What stands for another machine: a process of its own that serves on a socket."""
    path = str(tmp_path / "isolation.sock")
    process = subprocess.Popen([sys.executable, str(EXAMPLE), "serve", path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("zygote-")
    yield path, process
    process.kill()
    process.wait()


@pytest.fixture
def remote(machine: tuple[str, subprocess.Popen[str]]) -> Isolation:
    return example.RemoteIsolation(machine[0])


async def test_a_capability_runs_over_there_and_what_it_asks_is_answered_here(
    redis_server: RedisServer, remote: Isolation, tmp_path: Path
) -> None:
    (tmp_path / "rates").write_text("EUR 1.0")
    source = (
        "from wrapper import sdk\n\ndef handler(name):\n"
        "    print('asked for', name)\n    return [sdk.open_input(name).decode(), sdk.current_task().attempt]\n"
    )
    manifest = Manifest(
        name="rates", description="rates", input_schema={"type": "object"}, grants=Grants(files=(f"rates={tmp_path}/rates",))
    )  # fmt: skip
    async with Arbiter(redis_server.url, board="t" + uuid.uuid4().hex[:12], roles=["wrapper"], isolation=remote) as a:
        await a.registry.register(manifest, source=source)
        fine = await a.run(Call("rates", {"name": "rates"}), timeout=60)
        greedy = await a.run(Call("rates", {"name": "shadow"}), timeout=60)
    (task,) = fine.state.work
    assert task.completion is not None
    assert (fine.data, task.completion.isolation) == (["EUR 1.0", 1], "remote")
    assert "asked for rates" in task.completion.stdout
    assert (greedy.status, greedy.error and greedy.error.type) == ("refused", "grant")


async def test_time_and_cancellation_are_this_sides(remote: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import time\ndef handler():\n    time.sleep(60)\n"
    outcome = await remote.run(Job.of(slow, limits=JobLimits(wall_seconds=0.2)))
    assert (outcome.status, outcome.isolation) == (Status.TIMED_OUT, "remote")
    cancelled = asyncio.Event()
    running = asyncio.ensure_future(remote.run(Job.of(slow), None, cancelled))
    cancelled.set()
    assert (await running).status is Status.CANCELLED


async def test_a_machine_that_dies_is_a_failure_of_the_isolation_and_not_of_the_code(
    remote: Isolation, machine: tuple[str, subprocess.Popen[str]]
) -> None:
    asked = asyncio.Event()

    async def broker(method: str, args: JsonValue) -> JsonValue:
        asked.set()
        await asyncio.Event().wait()
        return None

    source = "from wrapper import sdk\ndef handler():\n    sdk.call('wait', None)\n"
    running = asyncio.ensure_future(remote.run(Job.of(source), broker))
    await asyncio.wait_for(asked.wait(), 30)
    machine[1].kill()
    outcome = await asyncio.wait_for(running, 30)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.type, outcome.error.retryable) == (Status.FAILED, "isolation", True)
    await asyncio.to_thread(machine[1].wait, 10)
    with pytest.raises(IsolationUnavailable, match="does not answer"):
        await remote.start()


@pytest.fixture
async def liar(tmp_path: Path) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A machine that was taken over: it answers what it was told to."""
    path = str(tmp_path / "liar.sock")
    says: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in says:
            writer.write(each)
        try:
            await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_unix_server(connected, path)
    yield path, says
    server.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"t":"outcome","outcome":{"status":"great"}}',
        b'{"t":"outcome","outcome":{"status":"succeeded","value":1},"outcome":{"status":"failed"}}',
        b'{"t":"outcome"}',
        b'{"t":"please"}',
        b"[1]",
        b'{"t":"call","id":"x","method":"m"}',
    ],
)
async def test_a_machine_that_was_taken_over_is_not_believed(liar: tuple[str, list[bytes]], body: bytes) -> None:
    path, says = liar
    says.append(framing.frame(body))
    outcome = await example.RemoteIsolation(path).run(Job.of("def handler():\n    return 1\n"))
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.type == "protocol"


async def test_a_machine_that_was_taken_over_is_granted_nothing(liar: tuple[str, list[bytes]]) -> None:
    path, says = liar
    says.append(framing.frame(b'{"t":"call","id":1,"method":"secrets.get","args":null}'))
    says.append(framing.frame(b'{"t":"outcome","outcome":{"status":"succeeded","value":1,"isolation":"zygote-ns"}}'))
    asked: list[str] = []

    async def broker(method: str, args: JsonValue) -> JsonValue:
        asked.append(method)
        return None

    outcome = await example.RemoteIsolation(path).run(Job.of("x = 1", grants=("model.invoke",)), broker)
    assert asked == []
    assert outcome.isolation == "remote", "what it calls itself does not count"
