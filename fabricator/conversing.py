"""A Strands model around another one, so that an ``Agent`` too is served by the layers that repeat model calls.

An ``Agent`` alone retries throttling and nothing else and takes a cut stream for an empty answer. Through this model it
only ever sees whole replies; errors leave with their type.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any, TypeVar, cast

from pydantic import BaseModel
from strands.models import Model
from strands.types.content import Messages
from strands.types.streaming import StreamEvent
from strands.types.tools import ToolChoice, ToolSpec

from blackboard.errors import ArbiterError
from wrapper.isolation.brokered_model import reply_events
from wrapper.models import Reply, converse

T = TypeVar("T", bound=BaseModel)


class ConversingModel(Model):
    """Answers each request with one whole reply of the inner model.

    Args:
        inner: any Strands model.
        timeout_seconds: of one attempt at a call.

    ``replies`` holds what was answered; ``failure`` the last error, which ``Agent`` wraps in one of its own.
    """

    def __init__(self, inner: Model, *, timeout_seconds: float) -> None:
        self._inner, self._timeout = inner, timeout_seconds
        self.replies: list[Reply] = []
        self.failure: ArbiterError | None = None

    def update_config(self, **model_config: Any) -> None:
        """Change the inner model's configuration."""
        self._inner.update_config(**model_config)

    def get_config(self) -> Any:
        """The inner model's configuration."""
        return self._inner.get_config()

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        *,
        tool_choice: ToolChoice | None = None,
        **kwargs: Any,
    ) -> AsyncIterable[StreamEvent]:
        """The events of one whole reply.

        Raises:
            ModelUnavailable, or another ArbiterError of a scripted model: see :func:`wrapper.models.converse`.
        """
        try:
            reply = await converse(
                self._inner,
                messages,
                tools=tool_specs or (),
                system=system_prompt,
                tool_choice=tool_choice,
                timeout_seconds=self._timeout,
                durable=True,
            )
        except ArbiterError as error:
            self.failure = error
            raise
        self.replies.append(reply)
        usage = {"inputTokens": reply.usage.input_tokens, "outputTokens": reply.usage.output_tokens}
        finished = {"message": reply.message, "stopReason": reply.stop_reason, "usage": usage}
        for event in reply_events(finished):
            yield cast(StreamEvent, event)

    async def structured_output(
        self, output_model: type[T], prompt: Messages, system_prompt: str | None = None, **kwargs: Any
    ) -> AsyncGenerator[dict[str, T | Any], None]:
        """The inner model's own; the fabricator does not use it."""
        async for event in self._inner.structured_output(output_model, prompt, system_prompt, **kwargs):
            yield event
