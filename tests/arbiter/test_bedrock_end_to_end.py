"""A whole run against the real boto3 client and a local endpoint that speaks Bedrock's wire protocol."""

from __future__ import annotations

import json
import uuid
from importlib import import_module
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, completions

from arbiter import Arbiter
from blackboard.testing import RedisServer
from wrapper.models.quoting import unquoted
from wrapper.testing import BedrockStub, exception_frame, turn_frames


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat failed model calls at once."""
    # The package shows the function of the same name, so the module is asked for by its full name.
    monkeypatch.setattr(import_module("wrapper.models.converse"), "_backoff", lambda _: 0.0)


async def _run(redis_server: RedisServer, stub: BedrockStub, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in stub.environment.items():
        monkeypatch.setenv(name, value)
    async with Arbiter(
        redis_server.url,
        "bedrock:global.anthropic.claude-sonnet-4-6",
        board="t" + uuid.uuid4().hex[:12],
        capabilities=FUNCTIONS,
        roles=("arbiter", "wrapper"),
    ) as a:
        assert "claude-sonnet" in a.model_label
        return await a.run("Add 2 and 3.", timeout=30)


async def test_rounds_tool_calls_and_results_travel_in_bedrock_shapes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [
        {"tool": "add", "input": {"a": 2, "b": 3}, "id": "use-1"},
        {"tool": "add", "input": {"a": 20, "b": 30}, "id": "use-2"},
    ]
    with BedrockStub([calls, ["It is 5, and 50."]]) as stub:
        result = await _run(redis_server, stub, monkeypatch)
    assert (result.status, result.answer) == ("succeeded", "It is 5, and 50.")
    assert [task.tool_use_id for task in result.state.work] == ["use-1", "use-2"]
    assert result.usage.input_tokens == 20
    second = stub.requests[1].body["messages"]
    results = [block["toolResult"] for block in second[2]["content"] if "toolResult" in block]
    said = [(one["toolUseId"], one["status"], json.loads(unquoted(one["content"][0]["text"]))) for one in results]
    assert said == [("use-1", "success", {"sum": 5}), ("use-2", "success", {"sum": 50})]


async def test_a_cut_stream_throttling_and_a_server_error_are_repeated_and_cost_one_request_each(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    cut = b"".join(turn_frames(["I was about to"])[:2])
    broken = b"".join(turn_frames(["half"])[:2]) + exception_frame("throttlingException", "slow down")
    with BedrockStub([cut, (429, "ThrottlingException", "slow down"), broken, ["Done."]]) as stub:
        result = await _run(redis_server, stub, monkeypatch)
    assert (result.status, result.answer) == ("succeeded", "Done.")
    assert len(stub.requests) == 4
    assert len(result.state.rounds) == 1


async def test_malformed_tool_arguments_return_to_the_model_and_reach_no_queue(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BedrockStub([[{"tool": "add", "input": '{"a": 1, "b": ', "id": "u"}], ["I give up."]]) as stub:
        result = await _run(redis_server, stub, monkeypatch)
    assert completions(result) == {}
    assert result.status == "succeeded"
    shown = stub.requests[1].body["messages"][2]["content"][0]["toolResult"]
    assert shown["status"] == "error"
    assert "not valid JSON" in json.dumps(shown)


async def test_a_refused_request_ends_the_run_at_once_with_a_remedy(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BedrockStub([(403, "AccessDeniedException", "no access to this model")] * 3) as stub:
        result = await _run(redis_server, stub, monkeypatch)
    assert (result.status, result.error.type) == ("failed", "model_error")
    assert len(stub.requests) == 1
