"""The SDK as a program uses it: embedded, streaming, synchronous, several processes on one board."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, add, arbiter, call, completions

from arbiter import Arbiter, BadInput, Conflict, Limits, ScriptedModel, UnknownRecord, capability, current_task, events
from blackboard.testing import RedisServer
from wrapper.models.quoting import unquoted

SUM = [call("add", a=2, b=3), "It is {{ results.add.sum }}."]


@pytest.mark.parametrize("engine", ["redis", "memory"])
async def test_a_request_is_planned_run_and_answered_on_every_engine(redis_server: RedisServer, engine: str) -> None:
    url = redis_server.url if engine == "redis" else f"memory://{uuid.uuid4().hex}"
    async with arbiter(url, SUM) as (a, _):
        result = await a.run("What is 2 and 3?", timeout=60)
    assert (result.status, result.answer) == ("succeeded", "It is 5.")


async def test_the_stream_is_typed_ordered_and_ends_with_the_run(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, SUM) as (a, _):
        seen = [event async for event in a.stream("What is 2 and 3?")]
        again = [event async for event in a.stream(run_id=seen[0].run_id)]
    assert isinstance(seen[0], events.RunAccepted)
    assert isinstance(seen[-1], events.RunCompleted)
    assert [type(event).__name__ for event in seen if isinstance(event, events.RoundPlanned)] == ["RoundPlanned"] * 2
    claimed = [i for i, event in enumerate(seen) if isinstance(event, events.TaskClaimed)]
    completed = [i for i, event in enumerate(seen) if isinstance(event, events.TaskCompleted)]
    assert len(completed) == 3
    assert claimed
    assert all(event.specversion == "1.0" and event.source.startswith("/arbiter/") for event in seen)
    assert len({(event.source, event.id) for event in seen}) == len(seen)
    logged = [event.id for event in seen if not isinstance(event, events.TaskClaimed | events.TaskReady)]
    assert [event.id for event in again] == logged


def test_run_sync_works_without_and_inside_a_running_loop() -> None:
    a = Arbiter("memory://", ScriptedModel(SUM), capabilities=FUNCTIONS, roles=("arbiter", "wrapper"))
    assert a.run_sync("What is 2 and 3?", timeout=60).answer == "It is 5."

    async def inside() -> str | None:
        return a.run_sync("What is 2 and 3?", timeout=60).answer

    assert asyncio.run(inside()) == "It is 5."


async def test_many_runs_at_once_keep_apart(redis_server: RedisServer) -> None:
    def turn(messages: Any, _: Any) -> Any:
        number = int(unquoted(messages[0]["content"][0]["text"]))
        return call("add", a=number, b=1000) if len(messages) == 1 else "{{ results.add.sum }}"

    async with arbiter(redis_server.url, [turn, turn]) as (a, _):
        results = await asyncio.gather(*(a.run(str(n), timeout=30) for n in range(40)))
    assert [result.answer for result in results] == [str(1000 + n) for n in range(40)]


async def test_the_same_idempotency_key_is_the_same_run(redis_server: RedisServer) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": "What is 2 and 3?"}
    async with arbiter(redis_server.url, SUM) as (a, model):
        first, second = await asyncio.gather(a.run(event, timeout=60), a.run(event, timeout=60))
        with pytest.raises(Conflict):
            await a.submit({**event, "data": "something else"})
    assert first.run_id == second.run_id
    assert len(model.calls) == 2


async def test_a_run_can_be_cancelled_and_shown(redis_server: RedisServer) -> None:
    started = asyncio.Event()

    @capability(effects="reads")
    async def wait_for_ever() -> None:
        """Wait."""
        started.set()
        await asyncio.Event().wait()

    turns = [call("wait_for_ever"), "never"]
    async with arbiter(redis_server.url, turns, capabilities=(wait_for_ever,)) as (a, _):
        run_id = await a.submit("Wait.")
        await asyncio.wait_for(started.wait(), 30)
        assert await a.cancel(run_id, "enough") == "cancelling"
        result = await a.result(run_id, timeout=60)
        shown = await a.show(run_id)
    assert result.status == shown.status == "cancelled"
    assert completions(result)["wait_for_ever"].status == "cancelled"
    assert "enough" in result.error.message


async def test_a_function_learns_which_task_it_is_and_keeps_its_idempotency_key(redis_server: RedisServer) -> None:
    seen: list[Any] = []

    @capability(effects="reads")
    def flaky() -> int:
        """Fail once."""
        seen.append(current_task())
        if len(seen) == 1:
            raise ConnectionError("not yet")
        return len(seen)

    async with arbiter(redis_server.url, [call("flaky"), "done"], capabilities=(flaky,)) as (a, _):
        result = await a.run("Try.", timeout=60)
    assert completions(result)["flaky"].data == 2
    assert [context.attempt for context in seen] == [1, 2]
    assert len({context.idempotency_key for context in seen}) == 1
    assert seen[1].fence > seen[0].fence
    assert result.state.work[0].retries[0].type == "handler_error"


async def test_waiting_is_bounded_by_the_caller_and_the_run_goes_on(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, SUM, roles=("wrapper",)) as (a, _):
        with pytest.raises(TimeoutError, match="goes on"):
            await a.run("What?", timeout=0.05)
        assert (await a.runs())[0].status == "queued"


@pytest.mark.parametrize("request_", ["", "  ", {}, None, 5, "x" * ((64 << 20) + 1)])
async def test_bad_requests_are_refused_and_nothing_is_written(redis_server: RedisServer, request_: Any) -> None:
    async with arbiter(redis_server.url, SUM) as (a, _):
        with pytest.raises(BadInput):
            await a.run(request_)
        assert await a.runs() == []
        with pytest.raises(UnknownRecord):
            await a.show("r0")


def test_what_is_no_capability_or_no_role_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="capability"):
        Arbiter("memory://", capabilities=[len])  # type: ignore[list-item]
    with pytest.raises(BadInput, match="roles"):
        Arbiter("memory://", roles=["king"])  # type: ignore[list-item]


async def test_a_strands_agent_is_registered_like_a_function(redis_server: RedisServer) -> None:
    from strands import Agent

    agent = Agent(
        model=ScriptedModel(["Good day."]), callback_handler=None, name="greeter", description="Greets people politely."
    )
    turns = [call("greeter", prompt="Say hello."), "{{ results.greeter }}"]
    async with arbiter(redis_server.url, turns, capabilities=(capability(agent),)) as (a, _):
        result = await a.run("Greet somebody.", timeout=60)
    assert result.answer == "Good day."
    assert completions(result)["greeter"].usage.total_tokens > 0


WORKER = """
import asyncio, sys
from arbiter import Arbiter, ScriptedModel
from arbiter_support import FUNCTIONS

async def main():
    url, board, roles = sys.argv[1], sys.argv[2], tuple(sys.argv[3].split(","))
    async with Arbiter(url, ScriptedModel.from_file(sys.argv[4]), board=board, roles=roles, capabilities=FUNCTIONS,
                       lease_seconds=1.0) as a:
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def _process(tmp_path: Path, url: str, board: str, roles: str) -> subprocess.Popen[str]:
    script = tmp_path / "model.json"
    script.write_text(
        '{"label": "t", "scenes": [{"turns": [{"tool": "add", "input": {"a": 2, "b": 3}}, "It is {{ results.add.sum }}."]}]}'
    )
    code = tmp_path / "worker.py"
    code.write_text(textwrap.dedent(WORKER))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, str(code), url, board, roles, str(script)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


async def test_a_killed_process_is_replaced_and_the_answer_is_the_same(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    first = await asyncio.to_thread(_process, tmp_path, redis_server.url, board_name, "arbiter,wrapper")
    second: subprocess.Popen[str] | None = None
    try:
        async with Arbiter(redis_server.url, board=board_name, roles=()) as client:
            runs = [await client.submit("What is 2 and 3?") for _ in range(30)]
            first.send_signal(signal.SIGKILL)
            second = await asyncio.to_thread(_process, tmp_path, redis_server.url, board_name, "arbiter,wrapper")
            results = [await client.result(run, timeout=60) for run in runs]
        assert {result.answer for result in results} == {"It is 5."}
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()


def test_importing_the_sdk_is_cheap_and_loads_no_model_library() -> None:
    code = (
        "import sys, arbiter; heavy = {'strands', 'boto3', 'pydantic', 'redis', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys; from arbiter import Arbiter, capability; assert not {'strands', 'boto3'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_limits_given_to_a_call_hold_for_that_run(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [call("add", a=1, b=1)] * 9) as (a, _):
        result = await a.run("Go on.", limits=Limits(rounds=1), timeout=60)
    assert result.error.type == "limit"
    assert add(1, 1) == {"sum": 2}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"roles": "wrapper"}, "roles"), ({"roles": ["wraper"]}, "roles"), ({"lanes": "generic"}, "lanes"),
        ({"lanes": ["UP er"]}, "lanes"), ({"concurrency": {"wraper": 2}}, "concurrency"),
        ({"concurrency": {"wrapper": 0}}, "concurrency.wrapper"), ({"lease_seconds": -1}, "lease_seconds"),
        ({"lease_seconds": float("nan")}, "lease_seconds"), ({"grace_seconds": float("inf")}, "grace_seconds"),
        ({"limits": {"tokens": 5}}, "limits"), ({"isolation": object()}, "isolation"), ({"isolation": "docker"}, "isolation"),
        ({"private_addresses": ["169.254.169.254"]}, "private_addresses"), ({"taint": ["person"]}, "taint"),
        ({"capabilities": [len]}, "capabilities"),
    ],
)  # fmt: skip
def test_what_an_arbiter_could_never_work_with_is_refused_before_it_starts(given: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as error:
        Arbiter("memory://", **given)
    assert error.value.field == field
    assert error.value.remedy


def test_a_key_that_is_pinned_and_is_none_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBITER_TRUSTED_KEYS", "0123, zzz")
    with pytest.raises(BadInput, match=r"ARBITER_TRUSTED_KEYS: '.*' was refused\. Give ids of keys"):
        Arbiter("memory://")
