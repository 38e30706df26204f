"""A model that answers at once, so that what is measured is the framework around it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from strands.models import Model

Event = dict[str, Any]


class InstantModel(Model):
    """Calls the tool ``add`` a number of times, one call a turn, and then answers with text.

    Which turn it is, is read off the conversation, as a replayed run needs. The events are those of a real stream.

    Args:
        calls: how many tool calls before the answer.
        asked: called with the number of the turn, from 0, whenever the model is asked.
    """

    label = "instant — not a real model"

    def __init__(self, calls: int, asked: Callable[[int], None] | None = None) -> None:
        self._calls, self._asked = calls, asked

    def update_config(self, **model_config: Any) -> None:
        """There is nothing to configure."""

    def get_config(self) -> Any:
        return {"model_id": "instant"}

    def structured_output(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
        turn = sum(message["role"] == "assistant" for message in messages)
        if self._asked is not None:
            self._asked(turn)
        yield {"messageStart": {"role": "assistant"}}
        if turn < self._calls:
            yield {"contentBlockStart": {"start": {"toolUse": {"toolUseId": f"use_{turn}", "name": "add"}}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps({"a": turn, "b": 1})}}}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "Done."}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if turn < self._calls else "end_turn"}}
        usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 0}}}
