"""A Strands model without credentials: every request goes through the private channel to the host's broker.

One call, ``model.invoke``. The host answers with the stream events of the reply (``[{"messageStart": …}, …]``, shaped
like Bedrock's ConverseStream), or with a finished reply ``{"message", "stopReason", "usage"}`` they are made from.
Bytes inside messages (images, documents) travel in the form of :mod:`wrapper.binary`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel
from strands.models.model import Model
from strands.types.content import Messages, SystemContentBlock
from strands.types.exceptions import ContextWindowOverflowException, ModelThrottledException
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolChoice, ToolSpec

from wrapper.binary import pack, unpack
from wrapper.isolation import channel

T = TypeVar("T", bound=BaseModel)


class BrokeredModel(Model):
    """Stands in for ``BedrockModel`` and takes its arguments.

    Args:
        config: model configuration such as ``model_id``, ``temperature``, ``max_tokens``; sent along with each request.
            The host decides what it honours.

    Connection arguments (``boto_session``, ``region_name``, …) are accepted and ignored: the connection is the host's.
    """

    class BedrockConfig(dict[str, Any]):
        """Kept for code that names ``BedrockModel.BedrockConfig``."""

    def __init__(
        self,
        *,
        boto_session: object = None,
        boto_client_config: object = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        api_key: str | None = None,
        **config: Any,
    ) -> None:
        self.config: dict[str, Any] = dict(config)

    def update_config(self, **model_config: Any) -> None:
        """Change configuration for the next request."""
        self.config.update(model_config)

    def get_config(self) -> dict[str, Any]:
        """The configuration, as given."""
        return self.config

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        *,
        tool_choice: ToolChoice | None = None,
        system_prompt_content: list[SystemContentBlock] | None = None,
        invocation_state: dict[str, Any] | None = None,
        cancel_signal: threading.Event | None = None,
        agent_metadata: Any = None,
        structured_output_model: type[BaseModel] | None = None,
        **kwargs: Any,
    ) -> AsyncIterable[StreamEvent]:
        """One request through the channel; yields the reply's stream events.

        Raises:
            ModelThrottledException, ContextWindowOverflowException: as the host's model raised them.
            CallError: any other refusal, with its type.
        """
        request: dict[str, object] = {
            "messages": messages,
            "tool_specs": tool_specs or [],
            "system_prompt": system_prompt,
            "system_prompt_content": system_prompt_content,
            "tool_choice": tool_choice,
            "model_id": self.config.get("model_id"),
            "config": {name: value for name, value in self.config.items() if _plain(value)},
        }
        try:
            reply = await channel.call_async("model.invoke", pack(request))
        except channel.CallError as error:
            if error.type == "ModelThrottledException":
                raise ModelThrottledException(error.message) from error
            if error.type == "ContextWindowOverflowException":
                raise ContextWindowOverflowException(error.message) from error
            raise
        for event in reply_events(unpack(reply)):
            yield cast(StreamEvent, event)

    async def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """Ask for one instance of a Pydantic model, as a forced tool call.

        Raises:
            ValueError: the model answered with something else.
        """
        from strands.event_loop.streaming import process_stream
        from strands.tools import convert_pydantic_to_tool_spec

        spec = convert_pydantic_to_tool_spec(output_model)
        choice = cast(ToolChoice, {"any": {}})
        message: Mapping[str, Any] = {}
        async for event in process_stream(self.stream(prompt, [spec], system_prompt, tool_choice=choice)):
            yield cast("dict[str, T | Any]", event)
            if "stop" in event:
                message = cast("Mapping[str, Any]", event["stop"][1])
        for block in message.get("content", []):
            if block.get("toolUse", {}).get("name") == spec["name"]:
                yield {"output": output_model(**block["toolUse"]["input"])}
                return
        raise ValueError(f"the model did not answer with {spec['name']}")


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)


def reply_events(reply: object) -> Iterator[dict[str, object]]:
    """Stream events of a reply in either of its two forms.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(reply, list):
        yield from cast("list[dict[str, object]]", reply)
        return
    if not isinstance(reply, dict) or "message" not in reply:
        raise ValueError("the broker's reply to model.invoke is neither stream events nor a message")
    finished = cast("dict[str, Any]", reply)
    yield {"messageStart": {"role": "assistant"}}
    for block in finished["message"]["content"]:
        start: dict[str, object] = {}
        if "toolUse" in block:
            use = block["toolUse"]
            start = {"toolUse": {"name": use["name"], "toolUseId": use["toolUseId"]}}
            delta: dict[str, object] = {"toolUse": {"input": json.dumps(use["input"])}}
        elif "reasoningContent" in block:
            delta = {"reasoningContent": dict(block["reasoningContent"].get("reasoningText", {}))}
        else:
            delta = {"text": block.get("text", "")}
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": delta}}
        yield {"contentBlockStop": {}}
    yield {"messageStop": {"stopReason": finished["stopReason"]}}
    usage: dict[str, object] = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0, **(finished.get("usage") or {})}
    yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 0, **(finished.get("metrics") or {})}}}
