"""A Strands agent as a capability: one prompt in, its text out, no memory between calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any

import pytest
from strands import Agent
from strands.models.model import Model

from blackboard.errors import BadInput
from registry import capability


class Echo(Model):
    """Answers with how many messages it was shown, and the last one; stops as told."""

    def __init__(self, stop: str = "end_turn", text: bool = True) -> None:
        self.stop, self.text = stop, text

    def update_config(self, **model_config: Any) -> None: ...

    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterable[Any]:
        await asyncio.sleep(0)
        yield {"messageStart": {"role": "assistant"}}
        if self.text:
            yield {"contentBlockStart": {"start": {}}}
            said = f"{len(messages)}:{messages[-1]['content'][0]['text']}"
            yield {"contentBlockDelta": {"delta": {"text": said}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": self.stop}}
        usage = {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}


def agent(**model: Any) -> Agent:
    return Agent(model=Echo(**model), name="Echo-Bot", description="Repeats.", callback_handler=None)


async def test_an_agent_answers_a_prompt_and_its_tokens_are_counted() -> None:
    made = capability(agent())
    assert made.manifest.name == "echo_bot"
    assert made.manifest.description == "Repeats."
    assert made.manifest.kind == "agent"
    assert made.manifest.action == "local.echo_bot"
    assert made.manifest.grants.model
    assert made.manifest.input_schema["required"] == ["prompt"]
    assert made.manifest.output_schema == {"type": "string"}
    answer, usage = await made.invoke({"prompt": "hello"})
    assert answer == "1:hello"
    assert (usage.input_tokens, usage.output_tokens) == (7, 3)
    assert await made("again") == "1:again"
    assert (await made.invoke({"prompt": "third"}))[1].input_tokens == 7, "only this call's tokens"


async def test_calls_at_once_queue_and_do_not_see_each_other() -> None:
    made = capability(agent(), name="echo", description="Repeats what it is told.")
    answers = await asyncio.gather(*(made.invoke({"prompt": str(number)}) for number in range(5)))
    assert [answer for answer, _ in answers] == [f"1:{number}" for number in range(5)]


def test_calls_from_one_event_loop_after_another_work() -> None:
    made = capability(agent())
    assert asyncio.run(made.invoke({"prompt": "a"}))[0] == "1:a"
    assert asyncio.run(made.invoke({"prompt": "b"}))[0] == "1:b"


async def test_an_answer_that_was_cut_off_or_is_empty_is_an_error() -> None:
    for broken in (agent(stop="content_filtered"), agent(text=False)):
        with pytest.raises(RuntimeError, match="no complete answer"):
            await capability(broken).invoke({"prompt": "x"})


def test_an_agent_without_a_description_needs_one() -> None:
    with pytest.raises(BadInput, match="description"):
        capability(Agent(model=Echo(), name="x", callback_handler=None))
