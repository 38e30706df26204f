"""Code that attacks, breaks or outlives its channel ends as what it did, never as a success it did not have."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from backends import BACKENDS
from pydantic import JsonValue

from blackboard.types import Status
from wrapper.isolation import Job, JobLimits, Outcome, ProcessIsolation, conversation, framing

pytestmark = pytest.mark.asyncio(loop_scope="module")
"""The isolation stays for the whole module, as it does in a program: what one of its children did harms no other."""

_WRITER = """
import json, os, struct, socket
def raw(data):
    while data: data = data[os.write(3, data):]
def send(frame):
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    raw(struct.pack(">I", len(data)) + data)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def isolation(request: pytest.FixtureRequest) -> AsyncIterator[ProcessIsolation]:
    async with request.param(preload_strands=False, parked=1) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def process() -> AsyncIterator[ProcessIsolation]:
    """The backend whose children may fork."""
    async with ProcessIsolation(preload_strands=False, parked=1) as running:
        yield running


async def attack(isolation: ProcessIsolation, body: str, wall_seconds: float = 60) -> Outcome:
    source = _WRITER + "def handler():\n" + textwrap.indent(textwrap.dedent(body), "    ")
    return await isolation.run(Job.of(source, limits=JobLimits(wall_seconds=wall_seconds)))


def assert_protocol(outcome: Outcome) -> None:
    assert outcome.status is Status.FAILED
    assert outcome.error is not None
    assert outcome.error.type == "protocol", outcome
    assert outcome.value is None


@pytest.mark.parametrize(
    "body",
    [
        "os.write(3, b'\\xfe' * 64 + b'garbage' * 100)",
        "raw(b'\\xff\\xff\\xff\\xff')",
        "send(b'not json')",
        "send(b'[1]')",
        "send(b'\\xff\\xfe')",
        'send({"t": "done", "value": 1, "status": "succeeded"})',
        'send({"t": "run", "value": 1})',
        'send(b\'{"t":"done","value":NaN}\')',
        'send(b\'{"t":"done","value":1e999}\')',
        'send(b\'{"t":"done","value":-Infinity}\')',
        'send(b\'{"t":"done","value":1,"value":2}\')',
        'send(b\'{"t":"done","t":"done","value":1}\')',
        "send(b'{\"t\":\"done\",\"value\":[' + b'[],' * 600000 + b'0]}')",
        "send(b'{\"t\":\"done\",\"value\":[' + b'{},' * 600000 + b'0]}')",
        'send(b\'{"t":"done","value":{"a":[{"b":1,"b":1}]}}\')',
        'send(b\'{"t":"call","id":1,"method":"a","args":{"x":1,"\\\\u0078":2}}\')',
        "send(b'{\"t\":\"done\",\"value\":' + b'9' * 5000 + b'}')",
        'send(b\'{"t":"done","value":"\\\\ud800"}\')',
        "send(b'{\"t\":\"done\",\"value\":' + b'[' * 5000 + b']' * 5000 + b'}')",
        "send(b'{\"t\":\"done\",\"value\":' + b'[' * 90 + b']' * 90 + b'}')",
        'send({"t": "done", "error": {"kind": "cancelled", "type": "x", "message": "", "evidence": {}}})',
        'send({"t": "done", "error": "oops"})',
        'send({"t": "done", "error": {"kind": "exited", "type": "x", "message": "", "evidence": {"a": "x" * 300000}}})',
        'send({"t": "done", "error": {"kind": "exited", "type": 1, "message": "", "evidence": {}}})',
        'send({"t": "call", "id": "1", "method": "model.invoke", "args": None})',
        'send({"t": "call", "id": 1, "method": "../x", "args": None})',
        'send({"t": "call", "id": 1, "method": "a", "args": "x" * (1 << 20)})',
        '[send({"t": "call", "id": 7, "method": "a", "args": 0}) for _ in range(2)]',
    ],
)
async def test_frames_that_break_the_protocol_end_the_run(isolation: ProcessIsolation, body: str) -> None:
    assert_protocol(await attack(isolation, body))


async def test_a_fifth_open_call_breaks_the_protocol(isolation: ProcessIsolation) -> None:
    async def never(method: str, args: JsonValue) -> JsonValue:
        await asyncio.Event().wait()
        return None

    source = _WRITER + (
        "import time\ndef handler():\n"
        '    for n in range(5): send({"t": "call", "id": n + 1, "method": "a", "args": 0})\n    time.sleep(60)\n'
    )
    assert_protocol(await isolation.run(Job.of(source, limits=JobLimits(wall_seconds=60)), never))


async def test_a_second_result_breaks_the_protocol(isolation: ProcessIsolation) -> None:
    assert_protocol(await attack(isolation, 'send({"t": "done", "value": "forged"})\nreturn "true"'))


async def test_a_result_followed_by_silence_is_not_a_success(isolation: ProcessIsolation) -> None:
    body = 'import time\nsend({"t": "done", "value": "forged"})\ntime.sleep(60)'
    for seconds in (0.3, 3.0, 30.0):
        outcome = await attack(isolation, body, wall_seconds=seconds)
        if outcome.status is not Status.TIMED_OUT:  # else nothing was sent in its time, on a busy machine
            break
    assert_protocol(outcome)


async def test_code_that_works_on_after_its_result_is_killed_long_before_its_time_is_up(
    isolation: ProcessIsolation,
) -> None:
    outcome = await attack(isolation, 'send({"t": "done", "value": 1})\nimport time\ntime.sleep(600)', wall_seconds=100)
    assert_protocol(outcome)
    assert outcome.seconds < 50


async def test_a_result_counts_also_where_the_host_is_late_to_see_the_channel_end(
    process: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is up at once, and the child is slower; what is there to be read then is read first."""
    monkeypatch.setattr(conversation, "_RESULT_SECONDS", 0.0)
    monkeypatch.setattr(conversation, "_CONFIRM_SECONDS", 30.0)
    body = "send({'t': 'done', 'value': 1})\nimport time\ntime.sleep(0.3)\nos._exit(0)"
    assert (await attack(process, body, wall_seconds=60)).value == 1


async def test_a_result_counts_however_long_the_host_takes_to_read_what_a_dead_child_wrote(
    process: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one on a busy machine: the process is gone long before its result is parsed."""
    monkeypatch.setattr(conversation, "_EXIT_SECONDS", 0.01)

    async def slowly(work: Callable[[bytes], Any], body: bytes) -> Any:
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, over.set)
        await over.wait()
        return work(body)

    monkeypatch.setattr(conversation, "in_thread", slowly)
    outcome = await process.run(Job.of("def handler(): return 'x' * 70_000"))
    assert outcome.status is Status.SUCCEEDED, outcome


async def test_a_handler_that_closes_the_channel_is_a_protocol_failure(isolation: ProcessIsolation) -> None:
    assert_protocol(await attack(isolation, "os.close(3)\nreturn 1"))


async def test_a_channel_closed_by_code_that_goes_on_is_noticed_before_the_deadline(
    isolation: ProcessIsolation,
) -> None:
    outcome = await attack(isolation, "import time\nos.close(3)\ntime.sleep(600)", wall_seconds=100)
    assert_protocol(outcome)
    assert outcome.seconds < 50


async def test_a_file_opened_in_the_place_of_the_channel_gets_no_result_accepted(isolation: ProcessIsolation) -> None:
    assert_protocol(await attack(isolation, "os.close(3)\nassert os.open('x', os.O_RDWR | os.O_CREAT) == 3\nreturn 1"))


async def test_a_broker_that_will_not_be_cancelled_cannot_hold_a_run(isolation: ProcessIsolation) -> None:
    free = asyncio.Event()

    async def stubborn(method: str, args: JsonValue) -> JsonValue:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                pass
        return None

    source = "from wrapper import sdk\ndef handler():\n    sdk.call('x', 0)\n"
    outcome = await isolation.run(Job.of(source, limits=JobLimits(wall_seconds=0.2)), stubborn)
    assert outcome.status is Status.TIMED_OUT
    free.set()


async def test_a_child_that_dies_in_the_middle_of_a_frame_has_crashed(isolation: ProcessIsolation) -> None:
    outcome = await attack(isolation, "raw(struct.pack('>I', 100) + b'{')\nimport ctypes\nctypes.string_at(0)")
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.evidence["signal_name"]) == ("crashed", "SIGSEGV")


async def test_a_forked_grandchild_dies_with_its_run_and_cannot_hold_it_open(process: ProcessIsolation) -> None:
    body = """
    import time
    pid = os.fork()
    if pid == 0:
        time.sleep(120)
        os._exit(0)
    return pid
    """
    outcome = await attack(process, body)
    assert outcome.status is Status.SUCCEEDED, outcome
    await process.close()
    assert not _runs(outcome.value)


async def test_a_grandchild_that_outlives_a_crash_does_not_hide_it(process: ProcessIsolation) -> None:
    body = """
    import time
    if os.fork() == 0:
        time.sleep(120)
    os._exit(9)
    """
    outcome = await attack(process, body)
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.evidence["exit_code"]) == ("exited", 9)


async def test_a_grandchild_that_detached_itself_into_a_session_of_its_own_is_killed_too(
    process: ProcessIsolation,
) -> None:
    body = """
    import time
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            time.sleep(120)
        os._exit(0)
    return int(os.read(reading, 20))
    """
    outcome = await attack(process, body)
    assert outcome.status is Status.SUCCEEDED, outcome
    await process.close()
    assert not _runs(outcome.value)


def _runs(pid: JsonValue) -> bool:
    assert isinstance(pid, int)
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_calls_without_end_end_the_run(process: ProcessIsolation, monkeypatch: pytest.MonkeyPatch) -> None:
    async def echo(method: str, args: JsonValue) -> JsonValue:
        return None

    source = (
        "from wrapper import sdk\ndef handler(size):\n    for n in range(100):\n        sdk.call('a', 'x' * size)\n"
    )
    assert (await process.run(Job.of(source, input={"size": 1}), echo)).status is Status.SUCCEEDED
    monkeypatch.setattr(framing, "CALLS", 20)
    assert_protocol(await process.run(Job.of(source, input={"size": 1}), echo))
    monkeypatch.setattr(framing, "CALLS", 1000)
    monkeypatch.setattr(framing, "CALLS_BYTES", 1 << 20)
    assert_protocol(await process.run(Job.of(source, input={"size": 100_000}), echo))
