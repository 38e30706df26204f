"""What providers other than Bedrock do to a stream, and what ``converse`` makes of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from strands.models import Model
from strands.types.exceptions import ContextWindowOverflowException, ModelThrottledException

from blackboard.errors import BadInput, ModelUnavailable
from wrapper.models import ContextOverflow, ModelCallFailed, ModelTransient, StreamCut, converse

ASK = [{"role": "user", "content": [{"text": "go"}]}]
USAGE = {"metadata": {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}}}


class EventModel(Model):
    """Yields given events and raises given exceptions, one list per call; keeps what it was asked."""

    def __init__(self, *streams: list[Any]) -> None:
        self.streams, self.requests, self.closed = list(streams), [], 0

    def update_config(self, **config: Any) -> None: ...

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "events"}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self.requests.append({"messages": messages, **kwargs})
        try:
            for event in self.streams.pop(0):
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, asyncio.Event):
                    await event.wait()
                else:
                    yield event
        finally:
            self.closed += 1


def text(part: str) -> dict[str, Any]:
    return {"contentBlockDelta": {"delta": {"text": part}}}


def call(raw: str, **named: str) -> list[dict[str, Any]]:
    return [
        {"contentBlockStart": {"start": {"toolUse": named}}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": raw}}}},
        {"contentBlockStop": {}},
    ]


def stop(reason: str = "end_turn") -> dict[str, Any]:
    return {"messageStop": {"stopReason": reason}}


async def no_sleep(_seconds: float) -> None: ...


async def ask(*streams: list[Any], **options: Any) -> Any:
    return await converse(EventModel(*streams), options.pop("messages", ASK), sleep=no_sleep, **options)


async def test_tool_arguments_in_fragments_are_joined():
    fragments = [{"contentBlockDelta": {"delta": {"toolUse": {"input": part}}}} for part in ('{"a"', ": [1,", " 2]}")]
    started = {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "x", "name": "f"}}}}
    reply = await ask([started, *fragments, {"contentBlockStop": {}}, stop("tool_use"), USAGE])
    assert reply.tool_uses[0].input == {"a": [1, 2]}


async def test_calls_inside_an_open_text_block_stay_apart_from_it():
    # The order in which Strands' ollama model sends its events.
    reply = await ask(
        [
            {"contentBlockStart": {"start": {}}},
            text("Looking. "),
            *call('{"n": 1}', toolUseId="f", name="f"),
            text(""),
            *call('{"n": 2}', toolUseId="f", name="f"),
            text("Done."),
            {"contentBlockStop": {}},
            stop("tool_use"),
            USAGE,
        ]
    )
    assert reply.text == "Looking. Done."
    assert [use.input for use in reply.tool_uses] == [{"n": 1}, {"n": 2}]


async def test_interleaved_blocks_are_told_apart_by_their_index():
    def at(index: int, event: dict[str, Any]) -> dict[str, Any]:
        [(kind, body)] = event.items()
        return {kind: {**body, "contentBlockIndex": index}}

    one = [at(0, event) for event in call('{"n": 1}', toolUseId="a", name="f")]
    two = [at(1, event) for event in call('{"n": 2}', toolUseId="b", name="f")]
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    reply = await ask([*mixed, stop("tool_use"), USAGE])
    assert [(use.id, use.input) for use in reply.tool_uses] == [("a", {"n": 1}), ("b", {"n": 2})]


async def test_a_repeated_identifier_is_replaced_so_that_calls_stay_distinct():
    first = await ask([*call("{}", toolUseId="f", name="f"), *call("{}", toolUseId="f", name="f"), stop(), USAGE])
    ids = [use.id for use in first.tool_uses]
    assert ids[0] == "f"
    assert len(set(ids)) == 2
    assert all(use.error is None for use in first.tool_uses)
    results = [{"toolResult": {"toolUseId": i, "status": "success", "content": [{"json": {}}]}} for i in ids]
    conversation = [*ASK, first.message, {"role": "user", "content": results}]
    second = await ask([*call("{}", toolUseId="f", name="f"), stop(), USAGE], messages=conversation)
    assert second.tool_uses[0].id not in ids


@pytest.mark.parametrize(
    ("named", "word"),
    [
        ({"name": "f"}, "no identifier"),
        ({"toolUseId": "x"}, "no name"),
        ({}, "no name"),
        ({"toolUseId": "x", "name": "look up!"}, "not a legal tool name"),
    ],
)
async def test_a_call_without_id_or_name_is_kept_and_marked(named, word):
    reply = await ask([*call('{"n": 1}', **named), stop("tool_use"), USAGE])
    [use] = reply.tool_uses
    assert word in use.error
    assert use.input is None
    assert use.raw == '{"n": 1}'
    assert use.id
    sent_back = reply.message["content"][0]["toolUse"]
    assert sent_back["toolUseId"] == use.id
    assert sent_back["name"].replace("_", "").isalnum()


@pytest.mark.parametrize("raw", ['{"n": ', "[1]", '"text"', "null", "{'n': 1}", "\ud83d"])
async def test_arguments_that_are_not_an_object_are_an_error_and_never_an_empty_object(raw):
    reply = await ask([*call(raw, toolUseId="x", name="f"), stop("tool_use"), USAGE])
    assert reply.tool_uses[0].input is None
    assert reply.tool_uses[0].error
    assert reply.tool_uses[0].raw == raw


async def test_a_name_that_comes_with_the_arguments_is_used():
    part = {"contentBlockDelta": {"delta": {"toolUse": {"input": "{}", "toolUseId": "x", "name": "f"}}}}
    reply = await ask([part, {"contentBlockStop": {}}, stop("tool_use"), USAGE])
    assert (reply.tool_uses[0].id, reply.tool_uses[0].name, reply.tool_uses[0].error) == ("x", "f", None)


async def test_reasoning_survives_storage_as_json_and_returns_to_the_model_as_it_was():
    def reasoning(part: dict[str, Any]) -> dict[str, Any]:
        return {"contentBlockDelta": {"delta": {"reasoningContent": part}}}

    reply = await ask(
        [
            reasoning({"text": "Let me "}),
            reasoning({"text": "think."}),
            reasoning({"signature": "sig"}),
            {"contentBlockStop": {}},
            reasoning({"redactedContent": b"\x00\xff"}),
            {"contentBlockStop": {}},
            *call("{}", toolUseId="x", name="f"),
            stop("tool_use"),
            USAGE,
        ]
    )
    assert reply.text == ""
    stored = json.loads(json.dumps(reply.message))
    model = EventModel([text("ok"), stop(), USAGE])
    await converse(model, [*ASK, stored])
    sent = model.requests[0]["messages"][1]["content"]
    assert sent[0] == {"reasoningContent": {"reasoningText": {"text": "Let me think.", "signature": "sig"}}}
    assert sent[1] == {"reasoningContent": {"redactedContent": b"\x00\xff"}}


async def test_blank_text_beside_a_call_is_not_stored_because_providers_refuse_it():
    reply = await ask([text("\n\n"), {"contentBlockStop": {}}, *call("{}", toolUseId="x", name="f"), stop(), USAGE])
    assert [list(block) for block in reply.message["content"]] == [["toolUse"]]


async def test_an_empty_reply_that_was_paid_for_is_a_reply():
    reply = await ask([stop(), USAGE])
    assert (reply.text, reply.message["content"], reply.stop_reason) == ("", [], "end_turn")


async def test_a_guardrail_replaces_what_was_said():
    redacted = {"redactContent": {"redactAssistantContentMessage": "[hidden]", "redactUserContentMessage": "[asked]"}}
    reply = await ask([text("secret"), stop("guardrail_intervened"), USAGE, redacted])
    assert reply.text == "[hidden]"
    assert reply.message["content"] == [{"text": "[hidden]"}]
    assert reply.redacted_request == "[asked]"
    assert reply.stop_reason == "guardrail_intervened"


@pytest.mark.parametrize("error", [ModelThrottledException("slow"), ConnectionResetError("gone"), TimeoutError("late")])
async def test_transient_errors_of_any_model_are_repeated(error):
    model = EventModel([error], [text("ok"), stop(), USAGE])
    assert (await converse(model, ASK, sleep=no_sleep)).text == "ok"


async def test_a_defect_of_the_model_object_is_reported_once_with_its_cause():
    model = EventModel([KeyError("token")], [text("never"), stop(), USAGE])
    with pytest.raises(ModelCallFailed, match="KeyError") as caught:
        await converse(model, ASK, sleep=no_sleep)
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(caught.value, ModelUnavailable)
    assert len(model.requests) == 1


async def test_overflow_is_not_repeated():
    model = EventModel([ContextWindowOverflowException("too long")])
    with pytest.raises(ContextOverflow):
        await converse(model, ASK, sleep=no_sleep)


async def test_the_models_own_word_for_a_full_context_is_an_overflow():
    with pytest.raises(ContextOverflow):
        await ask([text("half"), stop("model_context_window_exceeded"), USAGE])


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
async def test_a_reply_the_provider_calls_malformed_is_asked_for_again(reason):
    reply = await ask([text("x"), stop(reason), USAGE], [text("ok"), stop(), USAGE])
    assert reply.text == "ok"


async def test_an_attempt_that_hangs_is_abandoned_and_its_thread_told_to_stop():
    never = asyncio.Event()
    model = EventModel([text("half"), never], [text("ok"), stop(), USAGE])
    reply = await converse(model, ASK, timeout_seconds=0.5, sleep=no_sleep)
    assert reply.text == "ok"
    assert isinstance(model.requests[0]["cancel_signal"], threading.Event)
    assert model.requests[0]["cancel_signal"].is_set()
    assert model.closed == 2


async def test_the_timeout_is_named_when_it_lasts():
    never = asyncio.Event()
    with pytest.raises(ModelTransient, match=r"within 0\.05 s"):
        await converse(EventModel([never]), ASK, timeout_seconds=0.05, attempts=1)


async def test_cancelling_the_caller_cancels_the_call_without_another_attempt():
    entered = asyncio.Event()

    class Waiting(EventModel):
        async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            self.requests.append(kwargs)
            entered.set()
            await asyncio.Event().wait()
            yield {}

    model = Waiting()
    task = asyncio.create_task(converse(model, ASK))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(model.requests) == 1
    assert model.requests[0]["cancel_signal"].is_set()


async def test_only_role_and_content_are_sent_and_the_callers_messages_stay_as_they_are():
    messages = [{"role": "user", "content": [{"text": "go"}], "tracking_id": "1", "metadata": {}}]
    model = EventModel([text("ok"), stop(), USAGE])
    await converse(model, messages)
    assert model.requests[0]["messages"] == [{"role": "user", "content": [{"text": "go"}]}]
    assert messages[0]["tracking_id"] == "1"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": ["go"]}, "messages[0]"),
        ({"messages": [*ASK, {"role": "system", "content": []}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": "go"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": ["go"]}]}, "messages[0].content[0]"),
        (
            {"messages": [*ASK, {"role": "assistant", "content": [{"toolUse": {"name": "f"}}]}]},
            "messages[1].content[0]",
        ),
        ({"attempts": 0}, "attempts"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
async def test_a_call_that_cannot_be_made_is_refused_with_its_field(change, field):
    with pytest.raises(BadInput) as caught:
        await ask([], **change)
    assert caught.value.field == field


async def test_strands_would_have_lost_the_cut_stream():
    """Why this module exists: the SDK's own loop turns the same events into an empty final answer."""
    from strands import Agent

    cut = [{"messageStart": {"role": "assistant"}}, text("half")]
    result = await Agent(model=EventModel(cut), callback_handler=None).invoke_async("go")
    assert (result.stop_reason, result.message["content"]) == ("end_turn", [])
    with pytest.raises(StreamCut):
        await ask(cut, attempts=1)
