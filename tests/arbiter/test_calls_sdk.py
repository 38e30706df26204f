"""Direct calls as a program, a person and a notebook make them."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, add, arbiter
from cli_process import arbiter as command
from cli_process import records

from arbiter import (
    Arbiter,
    BadInput,
    Budget,
    Call,
    CapabilityLimits,
    Conflict,
    Grants,
    Limits,
    Manifest,
    RetryPolicy,
    RunFailed,
    capability,
    current_task,
    events,
)
from arbiter.display import run_html, run_text
from arbiter.live import Progress
from blackboard.board import Board
from blackboard.budgets import Amounts, Budgets, Level
from blackboard.testing import RedisServer

UNASKED = ["never asked"]
ASKS = """
from strands import Agent
from strands.models import BedrockModel
def handler(text):
    return str(Agent(model=BedrockModel(), callback_handler=None)(text)).strip()
"""


@pytest.mark.parametrize("engine", ["redis", "memory"])
async def test_a_call_returns_what_the_capability_returned_and_no_model_is_asked(
    redis_server: RedisServer, engine: str
) -> None:
    url = redis_server.url if engine == "redis" else f"memory://{uuid.uuid4().hex}"
    async with Arbiter(url, board="t" + uuid.uuid4().hex[:12], capabilities=[add], roles=()) as a:
        result = await asyncio.wait_for(a.run(Call("add", {"a": 2, "b": 3})), 30)
        assert (await a.show(result.run_id)).data == {"sum": 5}
    assert (result.status, result.data, result.answer) == ("succeeded", {"sum": 5}, None)
    assert result.state.call is not None
    assert result.state.call.version == add.manifest.content_hash()
    assert result.raise_for_status() is result


async def test_a_call_that_fails_says_why(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED) as (a, model):
        result = await a.run(Call("broken", {"reason": "no luck"}), timeout=60)
    assert (result.status, result.data, result.error and result.error.type) == ("failed", None, "handler_error")
    with pytest.raises(RunFailed, match="no luck"):
        result.raise_for_status()
    assert not model.calls


async def test_g6_a_program_that_serves_nothing_but_its_functions_repeats_what_failed(
    redis_server: RedisServer,
) -> None:
    @capability(effects="reads", retry=RetryPolicy(interval_seconds=0.01))
    def unsteady() -> int:
        """Fail once."""
        task = current_task()
        assert task is not None
        if task.attempt == 1:
            raise ConnectionError("not yet")
        return task.attempt

    board = "t" + uuid.uuid4().hex[:12]
    async with Arbiter(redis_server.url, board=board, capabilities=[unsteady], roles=()) as a:
        assert (await a.run(Call("unsteady"), timeout=30)).data == 2


async def test_g8_a_program_that_serves_nothing_but_its_functions_gives_back_what_whoever_died_held(
    redis_board: Board,
) -> None:
    budgets = Budgets(redis_board)
    await budgets.set(Budget(level="board", tokens=100))
    await budgets.reserve("of a dead process", [Level("board")], Amounts(tokens=60), lease_seconds=0.05)
    async with Arbiter(str(redis_board.engine.url), board=redis_board.name, capabilities=[add], roles=()):
        async with asyncio.timeout(30):
            while (await budgets.report("board"))[0].units["tokens"].reserved:
                await asyncio.sleep(0.02)


async def test_a_call_is_streamed_and_its_key_is_honoured(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED) as (a, _):
        call = Call("add", {"a": 1, "b": 1})
        seen = [event async for event in a.stream(call, idempotency_key="k")]
        again = await a.submit(call, idempotency_key="k")
        with pytest.raises(Conflict):
            await a.submit(Call("add", {"a": 1, "b": 2}), idempotency_key="k")
    logged = [type(event) for event in seen if not isinstance(event, events.TaskClaimed | events.TaskReady)]
    assert logged == [events.RunAccepted, events.TaskPosted, events.TaskCompleted, events.RunCompleted]
    assert again == seen[0].run_id


def test_run_sync_takes_a_call() -> None:
    a = Arbiter("memory://", capabilities=[add], roles=())
    assert a.run_sync(Call("add", {"a": 20, "b": 22}), timeout=60).data == {"sum": 42}


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (Call("ad", {"a": 1, "b": 2}), "call.capability"),
        (Call("add", {"a": 1, "b": 2}, version="0" * 64), "call.capability"),
        (Call("secret"), "call.capability"),
        (Call("add", {"a": "one", "b": 2}), "call.input"),
        (Call("add", [1, 2]), "call.input"),  # type: ignore[arg-type]
        (Call("add", {"a": 1, "b": 2}, priority=10), "priority"),
    ],
)
async def test_a_call_that_cannot_be_carried_out_is_refused_and_nothing_is_written(
    redis_server: RedisServer, call: Call, field: str
) -> None:
    @capability(tenant="acme")
    def secret() -> None:
        """For one tenant only."""

    async with arbiter(redis_server.url, UNASKED, capabilities=(*FUNCTIONS, secret)) as (a, _):
        with pytest.raises(BadInput) as refused:
            await a.submit(call)
        assert await a.runs() == []
        assert (await a.run(Call("secret"), tenant="acme", timeout=60)).ok
    assert refused.value.field == field


async def test_a_key_finds_its_call_even_when_the_capability_is_gone(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED) as (a, _):
        call = Call("add", {"a": 1, "b": 1})
        run_id = await a.submit(call, idempotency_key="k")
        await a.registry.retire("add")
        assert await a.submit(call, idempotency_key="k") == run_id
        with pytest.raises(BadInput, match="add"):
            await a.submit(call, idempotency_key="other")


async def test_a_function_that_a_person_retired_stays_so_when_its_program_starts_again_or_changes_it(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    sum_of = Call("add", {"a": 1, "b": 1})
    async with arbiter(redis_server.url, UNASKED) as (a, _):
        retired = await a.registry.retire("add", by="ann@host")
        assert retired is not None
        board = a._options["board"]
    async with Arbiter(redis_server.url, board=board, capabilities=FUNCTIONS, roles=()) as a:
        assert f"add is not offered, as was decided: {retired.sha[:12]} is retired by ann@host" in caplog.text
        with pytest.raises(BadInput, match="add"):
            await a.submit(sum_of)

        @capability
        def add(a: int, b: int) -> dict[str, int]:
            """Add two numbers, mended."""
            return {"sum": a + b}

        await a.register(add)
        assert [each.state for each in await a.registry.versions("add")] == ["retired", "draft"]
        await a.registry.activate("add", (await a.registry.versions("add"))[1].sha)
        assert (await a.run(sum_of, timeout=60)).data == {"sum": 2}
        await a.register(*FUNCTIONS)
        assert [each.state for each in await a.registry.versions("add")] == ["retired", "active"], "not that one"


async def test_a_call_has_the_retry_and_the_time_of_its_manifest_unless_it_says_otherwise(
    redis_server: RedisServer,
) -> None:
    seen: list[int] = []

    @capability(effects="reads", retry=RetryPolicy(max_attempts=2, interval_seconds=0.0))
    def flaky() -> int:
        """Fail at first."""
        task = current_task()
        assert task is not None
        seen.append(task.attempt)
        if task.attempt < 3:
            raise RuntimeError("not yet")
        return task.attempt

    async with arbiter(redis_server.url, UNASKED, capabilities=(flaky,)) as (a, _):
        assert (await a.run(Call("flaky"), timeout=60)).status == "failed"
        longer = Call("flaky", retry=RetryPolicy(max_attempts=3, interval_seconds=0.0))
        assert (await a.run(longer, timeout=60)).data == 3
    assert seen == [1, 2, 1, 2, 3]


async def test_a_call_cannot_be_scheduled_and_says_so(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED) as (a, _):
        with pytest.raises(BadInput, match="cannot be scheduled"):
            await a.schedule("nightly", Call("add", {"a": 1, "b": 1}), cron="@daily")


async def test_a_large_result_of_a_call_is_there_in_full(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, UNASKED) as (a, _):
        a.board.blobs.inline_bytes = 100
        result = await a.run(Call("rows", {"count": 50}), timeout=60)
    assert isinstance(result.data, list)
    assert len(result.data) == 50


@pytest.mark.parametrize("room", [10, 100_000])
async def test_g8_the_tokens_of_a_call_are_reserved_before_the_model_is_asked(
    redis_server: RedisServer, room: int
) -> None:
    schema: dict[str, Any] = {"type": "object", "additionalProperties": True}
    asks = Manifest(
        name="asks", description="Asks a model.", input_schema=schema, grants=Grants(model=True),
        limits=CapabilityLimits(tokens=200_000), provenance={},
    )  # fmt: skip
    async with arbiter(redis_server.url, ["Well."], capabilities=()) as (a, model):
        await a.registry.register(asks, source=ASKS)
        result = await a.run(Call("asks", {"text": "How are you?"}), limits=Limits(tokens=room), timeout=60)
        levels = await a.budgets(f"run:{result.run_id}")
    if room == 10:
        assert (result.status, result.error and result.error.type) == ("failed", "limit")
        assert f"run:{result.run_id}" in str(result.error)
        assert not model.calls
    else:
        assert (result.status, result.data) == ("succeeded", "Well.")
        tokens = levels[0].units["tokens"]
        assert 0 < tokens.spent <= room == tokens.limit


async def test_a_budget_of_the_board_holds_for_calls(redis_server: RedisServer) -> None:
    schema: dict[str, Any] = {"type": "object", "additionalProperties": True}
    asks = Manifest(name="asks", description="Asks.", input_schema=schema, grants=Grants(model=True))
    budgets = [Budget(level="board", tokens=5)]
    async with arbiter(redis_server.url, ["Well."], capabilities=(), budgets=budgets) as (a, model):
        await a.registry.register(asks, source=ASKS)
        result = await a.run(Call("asks", {"text": "How are you?"}), timeout=60)
    assert (result.status, len(model.calls)) == ("failed", 0)


async def test_a_call_is_shown_by_name_with_what_it_returned_and_without_rounds(
    redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with arbiter(redis_server.url, UNASKED) as (a, _):
        run_id = await a.submit(Call("add", {"a": 2, "b": 3}))
        with Progress(plain=True) as progress:
            state = await progress.follow(run_id, a.stream(run_id=run_id))
        listed = await a.runs()
    said = capsys.readouterr().err
    assert "accepted: call add\n" in said
    assert "run succeeded\n" in said
    assert "round" not in said
    assert listed[0].request == 'add {"a":2,"b":3}'
    text, html = run_text(state), run_html(state)
    assert state.request == {"a": 2, "b": 3}
    assert '"sum": 5' in text
    assert "  add  succeeded" in text
    assert "0.call" not in text
    for part in ("add", "sum", "Timeline"):
        assert part in html
    assert "round" not in html.lower().replace("background", "").replace("<th", "").replace("round</th>", "")


def test_the_command_calls_waits_and_prints_what_came_back(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    on = ["--url", redis_server.url, "--board", board_name]

    async def serve() -> None:
        async with Arbiter(redis_server.url, board=board_name, capabilities=[add], roles=()):
            said = await asyncio.to_thread(command, "call", "add", '{"a": 2, "b": 3}', "--wait", *on)
            assert (said.returncode, said.stdout) == (0, '{"sum": 5}\n')
            said = await asyncio.to_thread(command, "call", "add", '{"a": 2, "b": 3}', "--wait", "--json", *on)
            (record,) = records(said.stdout)
            assert (record["status"], record["data"], record["call"]["capability"]) == ("succeeded", {"sum": 5}, "add")
            queued = await asyncio.to_thread(command, "call", "add", '{"a": 2, "b": 3}', "--json", *on)
            shown = await asyncio.to_thread(command, "show", records(queued.stdout)[0]["run_id"], *on)
            assert "add" in shown.stdout
            assert '{"a": 2, "b": 3}' in shown.stdout
            said = await asyncio.to_thread(command, "call", "add", '{"a": 2}', *on)
            assert (said.returncode, said.stdout) == (2, "")
            assert "call.input" in said.stderr
            said = await asyncio.to_thread(command, "call", "add", "two and three", *on)
            assert "JSON object" in said.stderr

    asyncio.run(serve())


@capability
async def child(n: int) -> int:
    """Add one."""
    return n + 1


async def test_a_task_that_waits_for_another_run_is_warned_of_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    @capability
    async def parent(n: int) -> int:
        """Have another run add one, and see how it ended."""
        done = await a.run(Call("child", {"n": n}))
        await a.result(done.run_id)
        return done.data

    @capability
    async def leaver(n: int) -> str:
        """Submit another run and go on; look at one that is over."""
        await a.result(over)
        return await a.submit(Call("child", {"n": n}))

    async with Arbiter(
        redis_server.url, board="t" + uuid.uuid4().hex[:12], capabilities=[child, parent, leaver], roles=()
    ) as a:
        over = (await a.run(Call("child", {"n": 1}), timeout=30)).run_id
        assert (await a.run(Call("leaver", {"n": 1}), timeout=30)).ok
        assert "keeps its place" not in caplog.text
        for n in (1, 2):
            result = await a.run(Call("parent", {"n": n}), timeout=30)
            assert result.data == n + 1
    told = [record.getMessage() for record in caplog.records if "keeps its place" in record.getMessage()]
    assert len(told) == 1
    assert "/0.call waits for run r" in told[0]
    assert 'concurrency={"wrapper": N}' in told[0]


async def test_tasks_that_wait_for_runs_go_on_where_there_are_more_places_than_of_them(
    redis_server: RedisServer,
) -> None:
    waiting = asyncio.Barrier(3)

    @capability
    async def parent(n: int) -> int:
        """Wait until there are three of this kind, then for another run."""
        await waiting.wait()
        return (await a.run(Call("child", {"n": n}))).data

    async with Arbiter(
        redis_server.url, board="t" + uuid.uuid4().hex[:12], capabilities=[child, parent], roles=(),
        concurrency={"wrapper": 4},
    ) as a:  # fmt: skip
        results = await asyncio.gather(*(a.run(Call("parent", {"n": n}), timeout=30) for n in range(3)))
    assert [each.data for each in results] == [1, 2, 3]
