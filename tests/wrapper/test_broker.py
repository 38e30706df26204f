"""Generated code reaches the outside only through the broker, and a plain Strands module works unchanged through it."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
import pytest_asyncio
from backends import BACKENDS
from pydantic import JsonValue

from blackboard.types import Status
from wrapper.isolation import BrokerError, Job, JobLimits, Outcome, ProcessIsolation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def isolation(request: pytest.FixtureRequest) -> AsyncIterator[ProcessIsolation]:
    async with request.param(preload_strands=False, parked=1) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=BACKENDS)
async def warm(request: pytest.FixtureRequest) -> AsyncIterator[ProcessIsolation]:
    async with request.param(preload_strands=True, parked=1) as running:
        yield running


async def echo(method: str, args: JsonValue) -> JsonValue:
    return {"method": method, "args": args}


def job(source: str, **more: object) -> Job:
    return Job.of(textwrap.dedent(source), **more)  # type: ignore[arg-type]


class Script:
    """A broker that answers ``model.invoke`` with prepared replies and keeps what it was asked."""

    def __init__(self, *replies: JsonValue) -> None:
        self.replies = list(replies)
        self.requests: list[dict[str, JsonValue]] = []

    async def __call__(self, method: str, args: JsonValue) -> JsonValue:
        assert method == "model.invoke"
        assert isinstance(args, dict)
        self.requests.append(args)
        return self.replies.pop(0)


def events(*blocks: JsonValue, stop: str, tokens: int = 3) -> list[JsonValue]:
    return [
        {"messageStart": {"role": "assistant"}},
        *blocks,
        {"messageStop": {"stopReason": stop}},
        {
            "metadata": {
                "usage": {"inputTokens": tokens, "outputTokens": 1, "totalTokens": tokens + 1},
                "metrics": {"latencyMs": 1},
            }
        },
    ]


def text_block(*parts: str) -> Sequence[JsonValue]:
    deltas: list[JsonValue] = [{"contentBlockDelta": {"delta": {"text": part}}} for part in parts]
    return [{"contentBlockStart": {"start": {}}}, *deltas, {"contentBlockStop": {}}]


def tool_block(name: str, input: str, id: str = "t1") -> Sequence[JsonValue]:
    return [
        {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": id}}}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": input}}}},
        {"contentBlockStop": {}},
    ]


SAMPLE = """
from strands import Agent, models, tool

@tool
def shout(text: str) -> str:
    \"\"\"Say it loudly.

    Args:
        text: what to say
    \"\"\"
    return text.upper() + "!"

def handler(text: str) -> str:
    model = models.BedrockModel(model_id="us.example-model", temperature=0.1, region_name="us-east-1")
    agent = Agent(model=model, tools=[shout], system_prompt="Be loud.", callback_handler=None)
    return str(agent(text))
"""


async def test_an_unmodified_strands_module_runs_its_agent_and_tool_through_the_broker(
    warm: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHOSTONLY")
    script = Script(
        events(*tool_block("shout", '{"text": "hello"}'), stop="tool_use"),
        events(*text_block("It said ", "HELLO!"), stop="end_turn"),
    )
    outcome = await warm.run(Job.of(SAMPLE, input={"text": "please shout hello"}), script)
    assert outcome.status is Status.SUCCEEDED, outcome
    assert outcome.value == "It said HELLO!\n"
    first, second = script.requests
    assert first["model_id"] == "us.example-model"
    assert first["config"] == {"model_id": "us.example-model", "temperature": 0.1}
    assert first["system_prompt"] == "Be loud."
    assert [spec["name"] for spec in cast("list[dict[str, JsonValue]]", first["tool_specs"])] == ["shout"]
    messages = cast("list[dict[str, JsonValue]]", second["messages"])
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert "HELLO!" in str(messages[-1]["content"])


async def test_a_finished_reply_serves_as_well_as_stream_events(warm: ProcessIsolation) -> None:
    use = {"toolUse": {"name": "shout", "toolUseId": "t", "input": {"text": "a"}}}
    usage = {"inputTokens": 7, "outputTokens": 2, "totalTokens": 9}
    script = Script(
        {"message": {"role": "assistant", "content": [use]}, "stopReason": "tool_use", "usage": usage},
        {"message": {"role": "assistant", "content": [{"text": "A!"}]}, "stopReason": "end_turn", "usage": usage},
    )
    source = SAMPLE.replace(
        "return str(agent(text))", "r = agent(text)\n    return [str(r), r.metrics.accumulated_usage]"
    )
    value = (await warm.run(Job.of(source, input={"text": "x"}), script)).value
    assert isinstance(value, list)
    assert value[0] == "A!\n"
    assert cast("dict[str, JsonValue]", value[1])["inputTokens"] == 14


@pytest.mark.parametrize(
    "model",
    [
        "None",
        "'some-model-id'",
        "sdk.model()",
        "sdk.model('some-model-id', max_tokens=5)",
        "strands.models.bedrock.BedrockModel()",
        "strands.models.BedrockModel(**strands.models.BedrockModel.BedrockConfig(model_id='m'))",
    ],
)
async def test_every_way_to_name_the_default_model_ends_at_the_broker(warm: ProcessIsolation, model: str) -> None:
    source = f"""
    import strands, strands.models.bedrock
    from wrapper import sdk
    async def handler():
        agent = strands.Agent(model={model}, callback_handler=None)
        assert isinstance(agent.model, strands.models.BedrockModel)
        return str(await agent.invoke_async("hi"))
    """
    script = Script(events(*text_block("through"), stop="end_turn"))
    outcome = await warm.run(job(source), script)
    assert outcome.value == "through\n", outcome
    assert len(script.requests) == 1


async def test_strands_is_brokered_also_where_it_was_not_preloaded(isolation: ProcessIsolation) -> None:
    script = Script(events(*text_block("late"), stop="end_turn"))
    source = "def handler():\n    from strands import Agent\n    return str(Agent(callback_handler=None)('hi'))\n"
    assert (await isolation.run(Job.of(source), script)).value == "late\n"


async def test_structured_output_comes_through(warm: ProcessIsolation) -> None:
    source = """
    from pydantic import BaseModel
    from strands import Agent
    class Total(BaseModel):
        amount: int
    def handler():
        result = Agent(callback_handler=None)("sum", structured_output_model=Total)
        return result.structured_output.amount
    """
    script = Script(events(*tool_block("Total", '{"amount": 12}'), stop="tool_use"))
    assert (await warm.run(job(source), script)).value == 12


async def test_bytes_in_messages_travel_and_can_be_restored(warm: ProcessIsolation) -> None:
    from wrapper.binary import unpack

    source = """
    from strands import Agent
    def handler():
        image = {"image": {"format": "png", "source": {"bytes": bytes([0, 255, 1])}}}
        return str(Agent(callback_handler=None)([{"text": "what?"}, image]))
    """
    script = Script(events(*text_block("a picture"), stop="end_turn"))
    outcome = await warm.run(job(source), script)
    assert outcome.value == "a picture\n", outcome
    assert "b'\\x00\\xff\\x01'" in str(unpack(script.requests[0]["messages"]))


async def test_the_brokers_refusal_is_a_typed_error_in_the_code_and_what_nobody_foresaw_is_for_the_log(
    isolation: ProcessIsolation, caplog: pytest.LogCaptureFixture
) -> None:
    async def broker(method: str, args: JsonValue) -> JsonValue:
        if method == "http.fetch":
            raise BrokerError("denied", "no host was granted")
        raise KeyError("redis://:password@10.0.0.7")

    source = """
    from wrapper import sdk
    def handler():
        caught = []
        for method in ("http.fetch", "other"):
            try:
                sdk.call(method, {"n": 1})
            except sdk.CallError as error:
                caught.append([error.type, error.message])
        return caught
    """
    outcome = await isolation.run(job(source), broker)
    assert isinstance(outcome.value, list)
    assert outcome.value[0] == ["denied", "no host was granted"]
    told = re.fullmatch(
        r"\['internal', 'The host could not answer. Its log says why, under ([0-9a-f]{16}).'\]", str(outcome.value[1])
    )
    assert told is not None, outcome
    assert told[1] in caplog.text
    assert "redis://:password@10.0.0.7" in caplog.text


async def test_without_a_broker_or_a_grant_every_call_is_denied(isolation: ProcessIsolation) -> None:
    source = "from wrapper import sdk\ndef handler():\n    return sdk.call('model.invoke', {})\n"
    for outcome in (
        await isolation.run(Job.of(source)),
        await isolation.run(Job.of(source, grants=("http.fetch",)), echo),
    ):
        assert outcome.error is not None
        assert outcome.error.type == "handler_error"
        assert "denied: model.invoke was not granted" in outcome.error.message
    granted = await isolation.run(Job.of(source, grants=("model.invoke",)), echo)
    assert granted.value == {"method": "model.invoke", "args": {}}


async def test_throttling_and_overflow_arrive_as_the_exceptions_strands_knows(warm: ProcessIsolation) -> None:
    from strands.types.exceptions import ContextWindowOverflowException, ModelThrottledException

    source = """
    import asyncio
    from wrapper import sdk
    async def handler():
        try:
            async for _ in sdk.model().stream([{"role": "user", "content": [{"text": "x"}]}]): pass
        except Exception as error:
            return [f"{type(error).__module__}.{type(error).__name__}", str(error)]
    """
    for kind in (ModelThrottledException, ContextWindowOverflowException):

        async def broker(method: str, args: JsonValue, kind: type[Exception] = kind) -> JsonValue:
            raise BrokerError(kind.__name__, "in the host's words")

        outcome = await warm.run(job(source), broker)
        assert outcome.value == [f"strands.types.exceptions.{kind.__name__}", "in the host's words"], outcome


async def test_calls_from_threads_and_coroutines_are_each_answered_with_their_own(isolation: ProcessIsolation) -> None:
    most = open_now = 0

    async def broker(method: str, args: JsonValue) -> JsonValue:
        nonlocal most, open_now
        open_now += 1
        most = max(most, open_now)
        for _ in range(3):
            await asyncio.sleep(0)
        open_now -= 1
        return args

    source = """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor
    from wrapper import sdk
    async def handler():
        with ThreadPoolExecutor(12) as pool:
            threads = [pool.submit(sdk.call, "echo", n) for n in range(40)]
            from_loop = await asyncio.gather(*(sdk.call_async("echo", -n) for n in range(40)))
            return [[t.result() for t in threads], from_loop]
    """
    outcome = await isolation.run(job(source), broker)
    assert outcome.value == [list(range(40)), [-n for n in range(40)]], outcome
    assert most == 4


async def test_a_call_or_an_answer_that_is_too_large_is_refused_and_the_run_goes_on(
    isolation: ProcessIsolation,
) -> None:
    async def broker(method: str, args: JsonValue) -> JsonValue:
        return "x" * (5 << 20) if method == "huge" else args

    source = """
    from wrapper import sdk
    def handler():
        kinds = []
        for method, args in (("a", "x" * (1 << 20)), ("a", {1, 2}), ("huge", 0)):
            try:
                sdk.call(method, args)
            except sdk.CallError as error:
                kinds.append(error.type)
        return [kinds, sdk.call("fine", 1)]
    """
    assert (await isolation.run(job(source), broker)).value == [["limit", "not_json", "limit"], 1]


async def test_a_pending_call_is_given_up_when_the_run_ends(isolation: ProcessIsolation) -> None:
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def broker(method: str, args: JsonValue) -> JsonValue:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        return None

    source = "from wrapper import sdk\ndef handler():\n    return sdk.call('slow', 0)\n"
    for seconds in (0.3, 3.0, 30.0):
        outcome = await isolation.run(Job.of(source, limits=JobLimits(wall_seconds=seconds)), broker)
        assert outcome.status is Status.TIMED_OUT
        if asked.is_set():  # else it came to nothing in its time, on a busy machine
            break
    assert given_up.is_set()


async def test_log_lines_reach_the_captured_error_output(isolation: ProcessIsolation) -> None:
    source = "from wrapper import sdk\ndef handler():\n    sdk.log('matched', orders=3, by='id')\n"
    outcome: Outcome = await isolation.run(Job.of(source))
    assert outcome.stderr == "matched orders=3 by='id'\n"
