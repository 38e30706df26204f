"""Strands tools as capabilities: their own words, their own results, their own errors."""

from __future__ import annotations

from typing import Any

import pytest
from strands import tool
from strands.tools.tools import PythonAgentTool

from arbiter import Arbiter, Call, Permanent, capability
from blackboard.errors import BadInput
from blackboard.testing import RedisServer


@tool
def find_orders(customer: str, most: int = 5) -> list[dict[str, Any]]:
    """Find the latest orders of a customer.

    Args:
        customer: number of the customer
        most: how many at most
    """
    if customer == "gone":
        raise Permanent("this customer was deleted")
    return [{"order": number, "customer": customer} for number in range(min(most, 2))]


@tool(name="sayHello", description="Say hello.")
async def hello(name: str) -> str:
    """Not what it says of itself."""
    return '{"said": "' + name + '"}'


def by_hand(use: Any, **_: Any) -> Any:
    if use["input"]["a"] < 0:
        return {"toolUseId": use["toolUseId"], "status": "error", "content": [{"text": "below zero"}]}
    return {"toolUseId": use["toolUseId"], "status": "success", "content": [{"json": {"twice": 2 * use["input"]["a"]}}]}


BY_HAND = PythonAgentTool(
    "double",
    {
        "name": "double",
        "description": "Double a number.",
        "inputSchema": {"json": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
    },
    by_hand,
)


def test_a_tool_is_what_its_specification_says() -> None:
    found = capability(find_orders, effects="reads")
    assert found.manifest.name == "find_orders"
    assert found.manifest.description.startswith("Find the latest orders of a customer.")
    assert found.manifest.input_schema["properties"]["customer"]["description"] == "number of the customer"  # type: ignore[index]
    assert found.manifest.input_schema["required"] == ["customer"]
    assert (found.manifest.effects, found.manifest.action) == ("reads", "local.find_orders")
    assert found("C-1", most=1) == [{"order": 0, "customer": "C-1"}]  # still the function it was
    greeting = capability(hello)
    assert (greeting.manifest.name, greeting.manifest.description) == ("say_hello", "Say hello.")


def test_a_tool_without_words_or_schema_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        capability(PythonAgentTool("bare", {"name": "bare", "description": "Bare."}, by_hand))  # type: ignore[arg-type, typeddict-item]
    assert refused.value.field == "bare.inputSchema"


async def test_tasks_run_tools_and_their_errors_are_failures(redis_server: RedisServer, board_name: str) -> None:
    offered = [capability(find_orders), capability(hello), capability(BY_HAND)]
    async with Arbiter(redis_server.url, board=board_name, capabilities=offered, roles=()) as a:

        async def call(name: str, /, **given: Any) -> Any:
            return (await a.run(Call(name, given), timeout=30)).state.work[0].completion

        assert (await call("find_orders", customer="C-1")).data == [
            {"order": 0, "customer": "C-1"},
            {"order": 1, "customer": "C-1"},
        ]
        assert (await call("say_hello", name="Ann")).data == '{"said": "Ann"}'  # a text stays a text
        assert (await call("double", a=4)).data == {"twice": 8}
        gone = await call("find_orders", customer="gone")
        assert (gone.error.type, gone.error.message) == ("permanent", "this customer was deleted")
        below = await call("double", a=-1)
        assert (below.error.type, below.error.message) == ("handler_error", "RuntimeError: below zero")
