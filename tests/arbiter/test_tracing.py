"""Spans of one process, read from memory: which there are, how they hang together, and that they cost nobody a run."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import arbiter, call
from http_site import running
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from arbiter import Arbiter, Call, Grants, Limits, Manifest, capability
from arbiter.cli import output
from blackboard import tracing
from blackboard.errors import BadInput, MissingExtra
from blackboard.testing import RedisServer

ASKS = """
from wrapper import sdk

def handler():
    answer = sdk.call("model.invoke", {"messages": [{"role": "user", "content": [{"text": "secret words"}]}]})
    return answer["stopReason"]
"""
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Made:
    """The spans that were ended so far."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def of(self, board: str, run_id: str) -> list[ReadableSpan]:
        """Those in the trace of a run, in the order of their ends."""
        trace, _ = tracing.ids(board, run_id)
        return [each for each in self.exporter.get_finished_spans() if each.context.trace_id == trace]

    async def whole(self, board: str, run_id: str, number: int) -> list[ReadableSpan]:
        """The same, once there are so many: who watches a run may see its end before its process has told of it."""
        async with asyncio.timeout(60):
            while len(self.of(board, run_id)) < number:
                await asyncio.sleep(0.01)
        return self.of(board, run_id)

    def named(self, name: str) -> ReadableSpan:
        (found,) = [each for each in self.exporter.get_finished_spans() if each.name == name]
        return found


@pytest.fixture
def made() -> Iterator[Made]:
    one = Made()
    tracing.use(one.provider)
    yield one
    tracing.use(None)


def tree(spans: list[ReadableSpan]) -> list[str]:
    """``parent > name`` of each, sorted."""
    names = {each.context.span_id: each.name for each in spans}
    return sorted(f"{names[each.parent.span_id] if each.parent else ''} > {each.name}" for each in spans)


async def test_all_of_a_planned_run_is_one_tree_in_a_trace_of_its_own(redis_server: RedisServer, made: Made) -> None:
    async with arbiter(redis_server.url, [call("add", a=1, b=2), "three secret words"]) as (a, model):
        board, result = a.board.source, await a.run("add secret words")
        spans = await made.whole(board, result.run_id, 7)
    chat = f"chat {model.label}"
    assert len(spans) == len(made.exporter.get_finished_spans())
    assert tree(spans) == sorted(
        [
            " > run",
            "run > plan",
            "run > plan",
            f"plan > {chat}",
            f"plan > {chat}",
            "run > execute_tool add",
            "execute_tool add > load add",
        ]
    )
    root = made.named("run")
    assert (root.context.trace_id, root.context.span_id) == tracing.ids(board, result.run_id)
    assert {
        "arbiter.run.id": result.run_id,
        "arbiter.run.kind": "planned",
        "arbiter.outcome": "succeeded",
    }.items() <= dict(root.attributes or {}).items()
    task = next(one for one in result.state.work)
    assert {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "add", "gen_ai.tool.call.id": task.tool_use_id,
        "arbiter.task.id": task.id, "arbiter.attempt": 1, "arbiter.round": 1, "arbiter.tenant": "default",
        "arbiter.outcome": "succeeded", "gen_ai.conversation.id": result.run_id,
    }.items() <= dict(made.named("execute_tool add").attributes or {}).items()  # fmt: skip
    asked = next(each for each in spans if each.name == chat)
    assert asked.kind is SpanKind.CLIENT
    assert dict(asked.attributes or {}) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "scripted", "gen_ai.request.model": model.label,
        "gen_ai.request.stream": True, "gen_ai.usage.input_tokens": result.state.rounds[0].usage.input_tokens,
        "gen_ai.usage.output_tokens": result.state.rounds[0].usage.output_tokens,
        "gen_ai.response.finish_reasons": ("tool_use",),
    }  # fmt: skip
    begun = root.start_time - 10_000_000  # how long a run took is told in whole milliseconds, by another clock
    for each in spans:
        assert begun <= each.start_time <= each.end_time <= root.end_time + 1_000_000_000  # type: ignore[operator]
        assert "secret words" not in each.to_json()


async def test_what_fails_is_told_by_its_kind_and_not_by_its_words(redis_server: RedisServer, made: Made) -> None:
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        board, result = a.board.source, await a.run(Call("broken", {"reason": "secret words"}))
        number = result.state.work[0].completion.attempts  # type: ignore[union-attr]
        spans = await made.whole(board, result.run_id, 2 * number + 1)
    attempts = [each for each in spans if each.name == "execute_tool broken"]
    assert len(attempts) == number
    for each in attempts:
        assert each.status.status_code is StatusCode.ERROR
        assert {"error.type": "handler_error", "arbiter.outcome": "failed"}.items() <= dict(
            each.attributes or {}
        ).items()
    root = made.named("run")
    assert (root.status.status_code, dict(root.attributes or {})["arbiter.run.kind"]) == (StatusCode.ERROR, "call")
    assert not [each for each in spans if "secret words" in each.to_json()]


async def test_a_run_that_ran_out_of_time_has_its_span_from_the_sweep(redis_server: RedisServer, made: Made) -> None:
    async with arbiter(redis_server.url, ["unused"], roles=(), capabilities=()) as (a, _):
        board = a.board.source
        run = await a.board.submit_call("nobody", {}, lane="nobody", limits=Limits(seconds=0.001, task_seconds=60))
        async with asyncio.timeout(60):
            while not made.of(board, run):
                await a.board.sweep()
    assert dict(made.named("run").attributes or {})["arbiter.outcome"] == "timed_out"


async def test_a_planned_run_that_was_cancelled_has_its_span_whoever_ends_it_and_once(
    redis_server: RedisServer, made: Made
) -> None:
    began = asyncio.Event()

    @capability
    async def forever() -> str:
        """Never end."""
        began.set()
        await asyncio.Event().wait()
        return "never"

    turns = [call("forever"), "never"]
    async with arbiter(redis_server.url, turns, capabilities=(forever,)) as (a, _):
        board = a.board.source
        async with Arbiter(redis_server.url, board=a.board.name, roles=()) as client:
            worked = await client.submit("Wait.")
            await began.wait()
            assert await client.cancel(worked) == "cancelling"
            await a.result(worked, timeout=60)
            await made.whole(board, worked, 4)
    async with arbiter(redis_server.url, ["unused"], roles=(), capabilities=()) as (client, _):
        unbegun = await client.submit("Wait.")
        assert await client.cancel(unbegun) == await client.cancel(unbegun) == "cancelled"
        only = made.of(client.board.source, unbegun)
    assert {" > run", "run > execute_tool forever", "run > plan"} <= {*tree(made.of(board, worked))}
    assert [each.name for each in made.of(board, worked)].count("run") == len(only) == 1
    for run in (*only, *(each for each in made.of(board, worked) if each.name == "run")):
        assert dict(run.attributes or {}).items() >= {("arbiter.outcome", "cancelled"), ("arbiter.run.kind", "planned")}


async def test_the_call_of_generated_code_is_within_its_attempt_and_is_the_wrappers(
    redis_server: RedisServer, made: Made
) -> None:
    async with arbiter(redis_server.url, ["secret words"]) as (a, model):
        asks = Manifest(name="asks", description="Asks.", input_schema={"type": "object"}, grants=Grants(model=True))
        await a.registry.register(asks, source=ASKS)
        board, result = a.board.source, await a.run(Call("asks", {}), timeout=60)
        assert result.data == "end_turn", result.error
        spans = await made.whole(board, result.run_id, 4)
    assert tree(spans) == sorted(
        [
            " > run",
            "run > execute_tool asks",
            "execute_tool asks > load asks",
            f"execute_tool asks > chat {model.label}",
        ]
    )
    assert not [each for each in spans if "secret words" in each.to_json()]


async def test_a_submission_is_in_the_callers_trace_and_leads_to_that_of_the_run(
    redis_server: RedisServer, made: Made, tmp_path: Path
) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order", "traceparent": PARENT}
    async with running(redis_server.url, tmp_path) as site:
        a, client = site.served, site.client()
        with made.provider.get_tracer("theirs").start_as_current_span("mine") as mine:
            runs = {await a.submit("go"): mine.get_span_context().trace_id}
        there = int(PARENT[3:35], 16)
        answer = await client.post("/v1/runs", json="go", headers={"traceparent": PARENT})
        runs[answer.json()["run_id"]] = there
        answer = await client.post(
            "/v1/calls", json={"capability": "add", "input": {"a": 1, "b": 1}}, headers={"traceparent": PARENT}
        )
        runs[answer.json()["run_id"]] = there
        runs[await a.submit(event)] = there
        for without in ({}, {"traceparent": "00-nonsense"}):
            assert (await client.post("/v1/runs", json="go", headers=without)).status_code == 202
        found = [each for each in made.exporter.get_finished_spans() if each.name == "submit"]
        assert {each.attributes["arbiter.run.id"]: each.context.trace_id for each in found} == runs  # type: ignore[index]
        for each in found:
            (link,) = each.links
            run = str((each.attributes or {})["arbiter.run.id"])
            assert (link.context.trace_id, link.context.span_id) == tracing.ids(a.board.source, run)
            assert each.kind is SpanKind.PRODUCER


async def test_a_run_is_sampled_as_a_whole_by_its_id(redis_server: RedisServer) -> None:
    sampler = TraceIdRatioBased(0.5)
    one = Made(sampler=ParentBased(sampler))
    tracing.use(one.provider)
    try:
        async with arbiter(redis_server.url, ["unused"]) as (a, _):
            board = a.board.source
            runs = [(await a.run(Call("add", {"a": 1, "b": n}))).run_id for n in range(24)]
            sampled = {
                run: sampler.should_sample(None, tracing.ids(board, run)[0], "run").decision.is_sampled()
                for run in runs
            }
            for run in runs:
                await one.whole(board, run, 3 if sampled[run] else 0)
        assert {run: len(one.of(board, run)) for run in runs} == {run: 3 if sampled[run] else 0 for run in runs}
    finally:
        tracing.use(None)


class Broken(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise OSError("no collector")

    def on_end(self, span: Any) -> None:
        raise OSError("no collector")


async def test_a_broken_processor_costs_no_run_and_is_told_once(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(Broken())
    tracing.use(provider)
    try:
        async with arbiter(redis_server.url, [call("add", a=1, b=2), "three"]) as (a, _):
            assert (await a.run("add", timeout=60)).answer == "three"
    finally:
        tracing.use(None)
    assert [one.message for one in caplog.records if one.name == "blackboard.tracing"] == [
        "spans are lost: OSError: no collector"
    ]


async def test_the_json_log_names_the_trace(
    redis_server: RedisServer, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    output.log_to_stderr(logging.INFO, "json")
    async with arbiter(redis_server.url, [PermissionError("x")]) as (a, _):
        with made.provider.get_tracer("theirs").start_as_current_span("mine") as mine:
            logging.getLogger("arbiter.x").info("here")
        assert (await a.run("go")).status == "failed"
    line = next(one for one in map(json.loads, capsys.readouterr().err.splitlines()) if one["message"] == "here")
    found = mine.get_span_context()
    assert (line["trace_id"], line["span_id"]) == (format_trace_id(found.trace_id), format_span_id(found.span_id))


# ---- when there are any ------------------------------------------------------------------------------------------------


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    import os

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    yield monkeypatch
    tracing.use(None)


def making() -> bool:
    return tracing._making is not None  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_the_variables_of_opentelemetry_decide(env: pytest.MonkeyPatch, variables: dict[str, str], on: bool) -> None:
    for name, value in variables.items():
        env.setenv(name, value)
    tracing.start()
    assert making() is on
    tracing.start()
    assert making() is on


@pytest.mark.parametrize(
    ("variables", "field"),
    [
        ({"OTEL_TRACES_EXPORTER": "pigeon"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "x"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ),
    ],
)
def test_what_they_cannot_mean_is_refused(env: pytest.MonkeyPatch, variables: dict[str, str], field: str) -> None:
    for name, value in variables.items():
        env.setenv(name, value)
    with pytest.raises(BadInput) as refused:
        tracing.start()
    assert refused.value.field == field
    assert not making()


def test_a_missing_exporter_is_named_with_its_remedy(env: pytest.MonkeyPatch) -> None:
    env.setenv("OTEL_TRACES_EXPORTER", "otlp")
    env.setattr("importlib.metadata.entry_points", lambda **_: [])
    with pytest.raises(MissingExtra, match=r"arbiter\[otel\]"):
        tracing.start()


def test_an_endpoint_alone_stops_nobody_who_cannot_send_there(
    env: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    env.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    env.setattr("importlib.metadata.entry_points", lambda **_: [])
    tracing.start()
    assert not making()
    (record,) = caplog.records
    assert record.message.startswith("no traces are sent: ")
    assert "arbiter[otel]" in record.message


def test_nothing_is_imported_where_nobody_asked() -> None:
    calls = (
        "tracing.start(); tracing.submitted('b', 'r'); tracing.run('b', 'r', 'call', 1.0, 'failed'); tracing.current();"
    )
    for code in (
        f"import sys, arbiter; from blackboard import tracing; {calls} assert 'opentelemetry' not in sys.modules",
        # The client of Redis imports the interface, and what measures, by itself.
        f"import sys; from arbiter import Arbiter; from blackboard import tracing; {calls} found = [*sys.modules];"
        "assert not [name for name in found if name.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter'))]",
    ):
        subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""})


def test_a_program_that_has_a_provider_has_the_spans_there() -> None:
    code = """
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
usual = provider.id_generator

from arbiter import Arbiter, Call, capability

@capability
def add(a: int, b: int) -> int:
    "Add."
    return a + b

async def main():
    async with Arbiter("memory://", capabilities=[add], roles=("wrapper",)) as a:
        assert (await a.run(Call("add", {"a": 1, "b": 2}))).data == 3

asyncio.run(main())
assert {each.name for each in kept.get_finished_spans()} == {"run", "execute_tool add", "load add"}
assert provider.id_generator is usual
"""
    subprocess.run([sys.executable, "-c", code], check=True)
