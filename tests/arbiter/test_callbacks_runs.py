"""Functions whose answer comes from outside: in runs, in calls, on the command line and over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import arbiter, call
from cli_process import arbiter as cli
from cli_process import records
from http_site import Site, running
from strands import Agent

from arbiter import (
    Arbiter,
    BadInput,
    Call,
    Conflict,
    Later,
    Manifest,
    RetryPolicy,
    ScriptedModel,
    Status,
    UnknownRecord,
    capability,
    current_task,
)
from arbiter.display import run_html, run_text
from arbiter.result import RunResult
from blackboard.errors import Oversized, ScriptRefused
from blackboard.testing import RedisServer
from blackboard.tokens import SCOPES
from registry import CapabilityLimits

TOKENS: asyncio.Queue[str] = asyncio.Queue()
"""What the outside system was given."""


@capability(
    callback=True, effects="writes", limits=CapabilityLimits(output_bytes=100),
    retry=RetryPolicy(max_attempts=2, interval_seconds=0),
)  # fmt: skip
async def render(scene: str) -> dict[str, int]:
    """Have a scene rendered."""
    task = current_task()
    assert task is not None
    assert task.token not in repr(task)
    TOKENS.put_nowait(task.token)
    raise Later(600, heartbeat_seconds=60)


@capability(callback=True)
def at_once(word: str) -> str:
    """Answer without waiting, whatever may come from outside."""
    task = current_task()
    assert task is not None
    return f"{word} {task.token[:6]}"


@capability(callback=True)
def in_a_thread() -> int:
    """Have somebody else count, from a thread."""
    task = current_task()
    assert task is not None
    LOOP[-1].call_soon_threadsafe(TOKENS.put_nowait, task.token)
    raise Later(600)


LOOP: list[asyncio.AbstractEventLoop] = []


@capability
def undeclared() -> str:
    """Wait without having said so."""
    task = current_task()
    assert task is not None
    assert task.token == ""
    raise Later


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TOKENS", asyncio.Queue[str]())


@pytest.fixture(params=["redis", "memory"])
def url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    return redis_server.url if request.param == "redis" else "memory://"


async def waiting(a: Arbiter, run: str) -> None:
    """Until a task of the run waits."""
    async with asyncio.timeout(30):
        async for event in a.stream(run_id=run):
            if event.kind == "callback.waiting":
                return
    raise AssertionError("it ended")


async def ended(a: Arbiter, run: str) -> RunResult:
    return await a.result(run, timeout=30)


async def test_a_task_of_a_plan_is_ended_from_outside_and_what_waits_for_it_goes_on(url: str) -> None:
    tasks = [
        {"key": "picture", "capability": "render", "input": {"scene": "sea"}},
        {"key": "told", "capability": "at_once", "input": {"word": "done"}, "after": ["picture"]},
    ]
    plan = [call("post_plan", tasks=tasks), "Rendered."]
    async with arbiter(url, plan, capabilities=[render, at_once]) as (a, _):
        run = await a.submit("Render the sea.")
        token = await TOKENS.get()
        await waiting(a, run)
        shown = await a.show(run)
        assert [task.state for task in shown.state.work] == ["waiting", "blocked"]
        assert "waits for an answer from outside until" in run_text(shown.state)
        assert "waits for an answer from outside until" in run_html(shown.state)
        assert token.startswith("arbcb.")
        due = await a.callbacks.heartbeat(token)
        assert due == 60
        assert await a.callbacks.complete(token, {"frames": 12}, by="farm") == f"{run}/1.picture"
        result = await ended(a, run)
        assert result.answer == "Rendered."
        picture, told = result.state.work
        assert picture.completion is not None
        assert told.completion is not None
        assert told.completion.data == "done arbcb."
        assert (picture.completion.data, picture.completion.attempts) == ({"frames": 12}, 1)
        assert {"callback:render", "person"} <= set(picture.taint)
        assert picture.answered is not None
        assert (picture.answered.by, picture.for_outside) == ("farm", None)


async def test_what_waits_has_no_place_in_its_process(url: str) -> None:
    async with arbiter(url, ["unused"], capabilities=[render], roles=(), concurrency={"wrapper": 1}) as (a, _):
        runs = [await a.submit(Call("render", {"scene": str(n)})) for n in range(3)]
        tokens = [await TOKENS.get() for _ in runs]
        for run in runs:
            await waiting(a, run)
        for token in tokens:
            await a.callbacks.complete(token, {"n": 1})
        assert [(await ended(a, run)).data for run in runs] == [{"n": 1}] * 3


async def test_a_function_in_a_thread_may_wait_as_well(url: str) -> None:
    LOOP.append(asyncio.get_running_loop())
    async with arbiter(url, ["unused"], capabilities=[in_a_thread], roles=()) as (a, _):
        run = await a.submit(Call("in_a_thread", {}))
        await a.callbacks.complete(await TOKENS.get(), 7)
        assert (await ended(a, run)).data == 7


async def test_an_output_that_does_not_fit_is_refused_and_the_attempt_goes_on(url: str) -> None:
    async with arbiter(url, ["unused"], capabilities=[render], roles=()) as (a, _):
        run = await a.submit(Call("render", {"scene": "sea"}))
        token = await TOKENS.get()
        await waiting(a, run)
        for output in ({"frames": "many"}, None, "x"):
            with pytest.raises(BadInput, match="does not fit render"):
                await a.callbacks.complete(token, output)
        with pytest.raises(Oversized, match="returns at most 100"):
            await a.callbacks.complete(token, {str(n): n for n in range(100)})
        await a.callbacks.complete(token, {"frames": 1})
        await a.callbacks.complete(token, {"frames": 1})
        with pytest.raises(Conflict):
            await a.callbacks.complete(token, {"frames": 2})
        with pytest.raises(Conflict):
            await a.callbacks.complete(token, "does not even fit")
        with pytest.raises(UnknownRecord):
            await a.callbacks.complete(token[:-1], {"frames": 1})
        assert (await ended(a, run)).data == {"frames": 1}


async def test_what_failed_outside_is_tried_again_by_the_policy_and_each_attempt_has_a_token_of_its_own(
    url: str,
) -> None:
    async with arbiter(url, ["unused"], capabilities=[render], roles=()) as (a, _):
        run = await a.submit(Call("render", {"scene": "sea"}))
        first = await TOKENS.get()
        await a.callbacks.fail(first, "NodeLost", "the farm has no power")
        second = await TOKENS.get()
        assert first != second
        with pytest.raises(ScriptRefused, match="has an outcome already"):
            await a.callbacks.complete(first, {"frames": 1})
        await a.callbacks.fail(second, "NodeLost", "still none")
        result = await ended(a, run)
        assert result.error is not None
        assert (result.status, result.error.type, result.error.message) == (
            "failed", "callback_failed", "NodeLost: still none"
        )  # fmt: skip
        (task,) = result.state.work
        assert [error.names for error in task.retries] == [("NodeLost",)]
        (letter,) = (await a.dead_letters.list()).letters
        assert letter.type == "callback_failed"


async def test_a_function_with_a_token_may_answer_itself_and_one_without_may_not_wait(url: str) -> None:
    async with arbiter(url, ["unused"], capabilities=[at_once, undeclared], roles=()) as (a, _):
        assert (await a.run(Call("at_once", {"word": "hello"}))).data == "hello arbcb."
        error = (await a.run(Call("undeclared", {}))).error
        assert error is not None
        assert (error.type, "callback=True" in error.message) == ("handler_error", True)


async def test_code_in_isolation_has_no_token_and_cannot_wait(redis_server: RedisServer) -> None:
    source = '''
from wrapper import sdk


class Later(Exception):
    pass


def handler(kind: str) -> str:
    """Wait."""
    if kind == "token":
        return repr(sdk.current_task().token)
    if kind == "call":
        sdk.call("callback.open", {})
    raise Later(60)
'''
    schema = {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
    manifest = Manifest.of({"name": "sly", "description": "Wait.", "input_schema": schema})
    async with arbiter(redis_server.url, ["unused"], roles=("wrapper",)) as (a, _):
        await a.registry.register(manifest, source=source)
        results = {kind: await a.run(Call("sly", {"kind": kind})) for kind in ("token", "call", "raise")}
    assert results["token"].data == "''"
    assert [(results[kind].status, results[kind].state.work[0].awaited) for kind in ("call", "raise")] == [
        ("refused", None), ("failed", None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "beat"), [(0, None), (-1, None), (31 * 86_400, None), (60, 0.5), (float("nan"), None)]
)
def test_how_long_a_function_waits_is_bounded(seconds: float, beat: float | None) -> None:
    with pytest.raises(ValueError, match="was refused"):
        Later(seconds, beat)


def test_only_functions_are_declared_with_a_token() -> None:
    agent = Agent(name="helper", description="Helps.", model=ScriptedModel(["x"]), callback_handler=None)
    with pytest.raises(BadInput, match="function of yours"):
        capability(agent, callback=True)
    assert (
        render.manifest.content_hash()
        == capability(
            render.function, name="render", effects="writes", retry=render.manifest.retry, limits=render.manifest.limits
        ).manifest.content_hash()
    ), "it is not part of what is registered"


# ---- the command line and HTTP -----------------------------------------------------------------------------------------


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path, capabilities=(render,), roles=()) as one:
        yield one


async def begun(site: Site) -> tuple[str, str]:
    run = await site.served.submit(Call("render", {"scene": "sea"}))
    token = await TOKENS.get()
    await waiting(site.served, run)
    return run, token


async def test_the_command_line_answers_and_shows_what_waits(site: Site, redis_server: RedisServer) -> None:
    async def ran(*words: str) -> Any:
        place = ("--url", redis_server.url, "--board", site.served.board.name)
        return await asyncio.to_thread(cli, *words, *place)

    run, token = await begun(site)
    shown = await ran("show", run)
    assert "waits for an answer from outside until" in shown.stdout
    assert "waits for an answer from outside until" in (await ran("why", run)).stdout
    assert "waits for an answer from outside until" in (await ran("events", "--run", run)).stdout
    assert (await ran("callback", "heartbeat", token)).returncode == 0
    for words in (["--output", "{"], ["--output", '{"frames": "x"}'], ["--output", '{"a": 1, "a": 2}']):
        answer = await ran("callback", "complete", token, *words)
        assert (answer.returncode, answer.stderr.startswith("error: ")) == (2, True)
    assert (await ran("callback", "fail", token, "--error", "NodeLost", "--cause", "no power")).returncode == 0
    token = await TOKENS.get()
    assert (await ran("callback", "complete", token, "--output", '{"frames": 3}')).returncode == 0
    answer = await ran("callback", "complete", token, "--output", '{"frames": 4}')
    assert (answer.returncode, "outcome already" in answer.stderr) == (2, True)
    assert (await ended(site.served, run)).data == {"frames": 3}
    (told,) = records((await ran("why", run, "--json")).stdout)
    assert told["answered"]["status"] == "succeeded"
    assert "succeeded outside" in (await ran("why", f"{run}/0.call")).stdout


async def test_over_http_the_token_of_the_attempt_is_all_that_is_needed_and_opens_nothing_else(site: Site) -> None:
    run, token = await begun(site)
    outside = site.client(token)
    assert (await outside.get(f"/v1/runs/{run}")).status_code == 401
    assert (await outside.get("/v1/token")).status_code == 401
    operator = site.client(await site.token(*SCOPES))
    for client in (operator, site.client(), site.client(""), site.client(token[:-1] + "~"), site.client(token + "x")):
        for what in ("complete", "fail", "heartbeat"):
            answer = await client.post(f"/v1/callbacks/{what}", json={"output": {"frames": 1}})
            assert (answer.status_code, answer.json()["type"]) == (401, "urn:arbiter:problem:unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert (await outside.post("/v1/callbacks/heartbeat")).json() == {"due_seconds": 60}
    for sent, status in (({}, 422), ({"output": {"frames": "x"}}, 422), ({"output": {}, "more": 1}, 422)):
        assert (await outside.post("/v1/callbacks/complete", json=sent)).status_code == status
    assert (await outside.post("/v1/callbacks/fail", json={"error": "no name"})).status_code == 422
    foreign = {"Origin": "https://evil.example"}
    assert (await outside.post("/v1/callbacks/complete", json={"output": {}}, headers=foreign)).status_code == 403
    answer = await outside.post("/v1/callbacks/fail", json={"error": "NodeLost"})
    assert answer.json() == {"task_id": f"{run}/0.call", "status": "failed"}
    outside = site.client(await TOKENS.get())
    for _ in range(2):
        answer = await outside.post("/v1/callbacks/complete", json={"output": {"frames": 3}})
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    answer = await outside.post("/v1/callbacks/complete", json={"output": {"frames": 4}})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:arbiter:problem:conflict")
    result = await ended(site.served, run)
    (task,) = result.state.work
    assert task.answered is not None
    assert (result.data, task.answered.by) == ({"frames": 3}, "127.0.0.1 over http")
    said = [(each.kind, each.by) for each in await site.audit("kind=callback.*,token.refused")]
    assert ("callback.refused", "127.0.0.1 over http") in said
    assert any(kind == "token.refused" for kind, _ in said)
    assert token not in json.dumps([each.model_dump(mode="json") for each in await site.audit()])


async def test_a_cancelled_task_is_told_to_whoever_comes_late(site: Site) -> None:
    run, token = await begun(site)
    await site.served.cancel(run)
    answer = await site.client(token).post("/v1/callbacks/complete", json={"output": {"frames": 3}})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:arbiter:problem:refused")
    assert answer.json()["detail"] == f"Task {run}/0.call ended as cancelled."
    report = await site.served.cancel_report(run)
    assert report.tasks == {f"{run}/0.call": "unknown"}
    assert (await ended(site.served, run)).status == Status.CANCELLED
