"""The real boto3 BedrockModel, through ``resolve`` and ``converse``, against a local runtime that counts requests."""

from __future__ import annotations

import threading

import pytest

from wrapper.models import (
    ContextOverflow,
    ModelCallFailed,
    ModelTransient,
    Reply,
    ReplyTruncated,
    StreamCut,
    converse,
    resolve,
)
from wrapper.testing import BedrockStub, Dropped, Error, Held, exception_frame, frame, turn_frames

MODEL = "bedrock:us.amazon.nova-lite-v1:0"
ASK = [{"role": "user", "content": [{"text": "What is the price of fries?"}]}]
PRICE_TOOL = {
    "name": "price",
    "description": "Price of an item",
    "inputSchema": {"json": {"type": "object", "properties": {"item": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def runtime():
    """One stub and one model for the file: a boto3 client takes longer to make than most of these tests to run."""
    with BedrockStub() as stub, pytest.MonkeyPatch.context() as patch:
        for name, value in stub.environment.items():
            patch.setenv(name, value)
        yield stub, resolve(MODEL)


@pytest.fixture
def stub(runtime):
    stub, _ = runtime
    stub.script.clear()
    stub.requests.clear()
    return stub


@pytest.fixture
def ask(stub, runtime):
    """Ask the model at the stub, which answers with the given items; the waits between attempts are kept, not slept."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def ask(*script, attempts=4, timeout_seconds=20.0, options=None, **request) -> Reply:
        stub.script.extend(script)
        model = resolve(MODEL, **options) if options else runtime[1]
        return await converse(model, ASK, attempts=attempts, timeout_seconds=timeout_seconds, sleep=sleep, **request)

    ask.waits = waits
    return ask


async def test_a_text_reply_arrives_whole_with_its_usage(ask, stub):
    reply = await ask(["fries cost ", "2.50"], system="Be brief.", tools=[PRICE_TOOL])
    assert reply.text == "fries cost 2.50"
    assert reply.stop_reason == "end_turn"
    assert reply.message == {"role": "assistant", "content": [{"text": "fries cost "}, {"text": "2.50"}]}
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.model_calls) == (10, 5, 1)
    assert not reply.usage.estimated
    [request] = stub.requests
    assert request.model_id == "us.amazon.nova-lite-v1:0"
    assert request.operation == "converse-stream"
    assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256")
    assert request.body["system"] == [{"text": "Be brief."}]
    assert request.body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "price"


async def test_tool_calls_arrive_with_their_input(ask, stub):
    reply = await ask(
        ["Let me look.", {"tool": "price", "input": {"item": "fries"}, "id": "a"}, {"tool": "price", "id": "b"}]
    )
    assert reply.stop_reason == "tool_use"
    assert [(use.id, use.name, use.input, use.error) for use in reply.tool_uses] == [
        ("a", "price", {"item": "fries"}, None),
        ("b", "price", {}, None),
    ]
    assert reply.message["content"][1] == {"toolUse": {"toolUseId": "a", "name": "price", "input": {"item": "fries"}}}
    assert len(stub.requests) == 1


async def test_a_reply_can_be_sent_back_with_the_tool_result(ask, stub, runtime):
    reply = await ask([{"tool": "price", "input": {"item": "fries"}, "id": "a"}])
    stub.script.append(["2.50"])
    result = {"toolUseId": "a", "status": "success", "content": [{"json": {"price": 2.5}}]}
    conversation = [*ASK, reply.message, {"role": "user", "content": [{"toolResult": result}]}]
    answer = await converse(runtime[1], conversation, tools=[PRICE_TOOL])
    assert answer.text == "2.50"
    assert [message["role"] for message in stub.requests[1].body["messages"]] == ["user", "assistant", "user"]


async def test_the_non_streaming_operation_gives_the_same_reply(ask, stub):
    reply = await ask([{"tool": "price", "input": {"item": "fries"}, "id": "a"}], options={"streaming": False})
    assert reply.tool_uses[0].input == {"item": "fries"}
    assert stub.requests[0].operation == "converse"


@pytest.mark.parametrize(
    "failure",
    [
        (429, "ThrottlingException", "slow down"),
        (503, "ServiceUnavailableException", "no capacity"),
        (500, "InternalServerException", "oops"),
        (408, "ModelTimeoutException", "too slow"),
        (424, "ModelErrorException", "model failed"),
        (429, "ModelNotReadyException", "loading"),
        (502, "", "bad gateway"),
        Dropped(b""),
        Dropped(b"".join(turn_frames(["2.50"])[:2])),
        b"",
        b"".join(turn_frames(["2.50"])[:2]),
        b"".join(turn_frames(["2.50"])[:-2]),
        b"".join(turn_frames(["2.50"])).replace(b"2.50", b"9.99"),
        b"".join(turn_frames([], usage=(0, 0))),
        b"".join(turn_frames([], usage=None)),
        b"".join(turn_frames(["Let me look."], stop_reason="tool_use")),
        b"".join([*turn_frames(["2.50"])[:2], exception_frame("throttlingException", "slow down")]),
        b"".join([*turn_frames(["2.50"])[:2], exception_frame("modelStreamErrorException", "oops")]),
        b"".join([*turn_frames(["2.50"])[:2], exception_frame("internalServerException", "oops")]),
        b"".join([*turn_frames(["2.50"])[:2], exception_frame("serviceUnavailableException", "oops")]),
    ],
    ids=[
        "throttled",
        "503",
        "500",
        "408",
        "424",
        "model loading",
        "bad gateway",
        "connection lost before the first event",
        "connection lost in the middle",
        "no events at all",
        "cut in a block",
        "cut before messageStop",
        "corrupted frame",
        "empty with zero usage",
        "empty without usage",
        "announced tool call missing",
        "throttled in the middle",
        "stream error in the middle",
        "server error in the middle",
        "unavailable in the middle",
    ],
)
async def test_a_transient_failure_is_tried_again_with_exactly_one_more_request(ask, stub, failure):
    reply = await ask(failure, ["2.50"])
    assert reply.text == "2.50"
    assert len(stub.requests) == 2
    assert len(ask.waits) == 1
    assert 0 <= ask.waits[0] <= 0.5


async def test_attempts_do_not_multiply(ask, stub):
    with pytest.raises(ModelTransient) as caught:
        await ask(*[(429, "ThrottlingException", "slow down")] * 20, attempts=4)
    assert len(stub.requests) == 4
    assert caught.value.attempts == 4
    assert caught.value.retryable
    assert "after 4 attempts" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(wait <= bound for wait, bound in zip(ask.waits, (0.5, 1.0, 2.0), strict=True))


async def test_one_attempt_means_one_request(ask, stub):
    with pytest.raises(ModelTransient):
        await ask(*[(503, "ServiceUnavailableException", "no capacity")] * 5, attempts=1)
    assert len(stub.requests) == 1
    assert ask.waits == []


async def test_a_stream_that_is_always_cut_is_an_error_and_never_an_empty_answer(ask, stub):
    with pytest.raises(StreamCut) as caught:
        await ask(*[b"".join(turn_frames(["2.50"])[:2])] * 3, attempts=3)
    assert len(stub.requests) == 3
    assert caught.value.usage.model_calls == 3
    assert caught.value.usage.estimated
    assert caught.value.usage.output_tokens > 0


async def test_tokens_of_a_cut_attempt_count(ask):
    reply = await ask(b"".join(turn_frames(["two fifty, I think"])[:2]), ["2.50"])
    assert reply.usage.model_calls == 2
    assert reply.usage.output_tokens > 5
    assert reply.usage.estimated


async def test_a_throttled_attempt_costs_nothing(ask):
    reply = await ask((429, "ThrottlingException", "slow down"), ["2.50"])
    assert (reply.usage.model_calls, reply.usage.total_tokens, reply.usage.estimated) == (1, 15, False)


async def test_retry_after_is_waited_for(ask):
    await ask(Error(429, "ThrottlingException", "slow down", {"Retry-After": "7"}), ["2.50"])
    assert 7 <= ask.waits[0] <= 7.5


async def test_a_wait_longer_than_a_minute_is_not_sat_out(ask, stub):
    with pytest.raises(ModelTransient) as caught:
        await ask(Error(429, "ThrottlingException", "slow down", {"Retry-After": "900"}), ["2.50"])
    assert caught.value.retry_after == 900
    assert len(stub.requests) == 1
    assert ask.waits == []


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        ((403, "AccessDeniedException", "You don't have access to the model"), "Enable the model"),
        ((403, "UnrecognizedClientException", "The security token is invalid"), "Check the credentials"),
        ((403, "ExpiredTokenException", "The security token expired"), "sign in again"),
        ((404, "ResourceNotFoundException", "Could not resolve the model"), "Check the model id"),
        ((400, "ValidationException", "The provided model identifier is invalid."), "Check the model id"),
        ((400, "ValidationException", "on-demand throughput isn’t supported"), "inference profile"),
        ((400, "ValidationException", "toolConfig is wrong"), "refused the request as invalid"),
        ((400, "ServiceQuotaExceededException", "quota"), "quota"),
        (b"".join([*turn_frames(["a"])[:2], exception_frame("validationException", "no")]), "invalid"),
    ],
)
async def test_a_permanent_refusal_ends_the_call_at_once_with_one_line(ask, stub, failure, remedy):
    with pytest.raises(ModelCallFailed) as caught:
        await ask(failure, ["never reached"])
    assert len(stub.requests) == 1
    assert not caught.value.retryable
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("bedrock:us.amazon.nova-lite-v1:0: ")


async def test_a_conversation_too_long_for_the_model_says_so(ask, stub):
    with pytest.raises(ContextOverflow, match="Shorten"):
        await ask((400, "ValidationException", "Input is too long for requested model"))
    assert len(stub.requests) == 1


async def test_malformed_tool_arguments_keep_their_text_and_their_error(ask):
    reply = await ask([{"tool": "price", "input": '{"item": "fri', "id": "a"}])
    [use] = reply.tool_uses
    assert use.input is None
    assert use.raw == '{"item": "fri'
    assert "not valid JSON" in (use.error or "")
    written = reply.message["content"][0]["toolUse"]["input"]
    assert written["written"] == '{"item": "fri'


async def test_missing_usage_is_estimated_and_marked(ask):
    reply = await ask(b"".join(turn_frames(["The price is two fifty."], usage=None)))
    assert reply.usage.estimated
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens == 6


async def test_cached_tokens_count_as_input(ask):
    usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 915, "cacheReadInputTokens": 900}
    metadata = frame("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})
    reply = await ask(b"".join([*turn_frames(["hi"], usage=None), metadata]))
    assert reply.usage.input_tokens == 910


async def test_the_output_limit_is_an_error_that_keeps_the_partial_reply(ask, stub):
    partial = b"".join(turn_frames([{"tool": "price", "input": '{"item', "id": "a"}], stop_reason="max_tokens"))
    with pytest.raises(ReplyTruncated, match="max_tokens") as caught:
        await ask(partial)
    assert caught.value.reply.tool_uses[0].raw == '{"item'
    assert caught.value.usage.output_tokens == 5
    assert len(stub.requests) == 1


async def test_end_turn_with_a_tool_call_is_a_tool_use(ask):
    reply = await ask(b"".join(turn_frames([{"tool": "price", "id": "a"}], stop_reason="end_turn")))
    assert reply.stop_reason == "tool_use"
    assert len(reply.tool_uses) == 1


async def test_a_missing_block_stop_loses_no_text(ask):
    frames = [part for part in turn_frames(["2.50", {"tool": "price", "id": "a"}]) if b"contentBlockStop" not in part]
    reply = await ask(b"".join(frames))
    assert reply.text == "2.50"
    assert reply.tool_uses[0].input == {}


async def test_metadata_lost_after_a_complete_message_costs_no_second_call(ask, stub):
    reply = await ask(Dropped(b"".join(turn_frames(["2.50"], usage=None))))
    assert reply.text == "2.50"
    assert reply.usage.estimated
    assert len(stub.requests) == 1


async def test_a_silent_stream_is_given_up_after_the_timeout_and_tried_again(ask, stub):
    release = threading.Event()
    frames = turn_frames(["2.50"])
    stub.script.append(Held(release, before=b"".join(frames[:2]), then=b"".join(frames[2:])))
    try:
        reply = await ask(["3.00"], timeout_seconds=1.5)
    finally:
        release.set()
    assert reply.text == "3.00"
    assert len(stub.requests) == 2


async def test_a_refused_connection_is_tried_again(ask):
    with BedrockStub() as closed:
        pass
    with pytest.raises(ModelTransient, match="Check the network") as caught:
        await ask(attempts=3, options={"endpoint_url": closed.url})
    assert caught.value.attempts == 3
    assert len(ask.waits) == 2


async def test_a_read_timeout_is_tried_again(ask, stub):
    release = threading.Event()
    try:
        reply = await ask(
            Held(release, then=b"".join(turn_frames(["late"]))), ["2.50"], options={"read_timeout_seconds": 0.2}
        )
    finally:
        release.set()
    assert reply.text == "2.50"
    assert len(stub.requests) == 2


async def test_an_api_key_is_enough(ask, stub, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    reply = await ask(["2.50"], options={"api_key": "key-1"})
    assert reply.text == "2.50"
    assert stub.requests[0].headers["Authorization"] == "Bearer key-1"
