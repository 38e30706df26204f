"""What does a round of a run cost, against a bare Strands agent?

A round is one decision of the model, which calls one in-process function, and what it takes until the model can be asked
again. The model answers at once, so the time is the framework's own. The alternative holds the same conversation with
the same model and the same function in one process and keeps nothing: when it dies, the work is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import Any

from benchmarks.measure import Sample, in_turn
from benchmarks.model import InstantModel
from benchmarks.report import Row, rows
from blackboard.testing import RedisServer

AGENT = "strands.Agent in one process"
_OFFERED = 12


async def measure(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """The rows of this benchmark."""
    calls = 10 if quick else 20
    with RedisServer() as server:
        one, many = f"a round on {_name(server.url)}", f"the same, {_OFFERED} capabilities offered"
        memory = "a round on memory://"
        alternatives: dict[str, Any] = {AGENT: lambda: _agent(calls)}
        alternatives[one] = lambda: _arbiter(server.url, calls, 1)
        alternatives[many] = lambda: _arbiter(server.url, calls, _OFFERED)
        if find_spec("fakeredis") is not None:
            alternatives[memory] = lambda: _arbiter("memory://rounds", calls, 1)
        measured = await in_turn(alternatives, 3 if quick else 5, say)
    return rows("rounds", measured, [name for name in alternatives if name != AGENT], [AGENT], "rounds/s")


def _name(url: str) -> str:
    return "Redis (unix socket)" if url.startswith("unix") else "Redis"


async def _arbiter(url: str, calls: int, offered: int) -> Sample:
    from arbiter import Arbiter, Limits, capability

    @capability
    def add(a: int, b: int) -> dict[str, int]:
        """Add two whole numbers."""
        return {"sum": a + b}

    def another(number: int) -> Any:
        def add_more(a: int, b: int) -> dict[str, int]:
            return {"sum": a + b + number}

        return capability(name=f"add_{number}", description=f"Add two whole numbers and {number}.")(add_more)

    capabilities = [add, *(another(number) for number in range(1, offered))]
    limits = Limits(rounds=1000, tasks=100_000)
    async with AsyncExitStack() as stack:
        arbiter = await stack.enter_async_context(
            Arbiter(
                url, InstantModel(calls), board=f"offers{offered}", capabilities=capabilities, roles=("arbiter",),
                limits=limits,
            )
        )  # fmt: skip
        began = time.perf_counter()
        result = await arbiter.run("Add two whole numbers, again and again.", timeout=60)
        seconds = time.perf_counter() - began
    if result.answer != "Done." or len(result.state.rounds) != calls + 1:
        raise AssertionError(f"the run ended otherwise: {result.status} {result.error}")
    return Sample(calls + 1, seconds)


async def _agent(calls: int) -> Sample:
    samples = [await _conversation(calls) for _ in range(3)]  # one alone is over too soon to be told from noise
    return Sample(sum(sample.units for sample in samples), sum(sample.seconds for sample in samples))


async def _conversation(calls: int) -> Sample:
    from strands import Agent, tool
    from strands.agent.conversation_manager import NullConversationManager

    @tool
    def add(a: int, b: int) -> dict[str, Any]:
        """Add two whole numbers.

        Args:
            a: the first
            b: the second
        """
        return {"status": "success", "content": [{"json": {"sum": a + b}}]}

    # Its default manager forgets messages beyond the fortieth; a run forgets nothing.
    keeping = NullConversationManager()
    agent = Agent(model=InstantModel(calls), tools=[add], callback_handler=None, conversation_manager=keeping)
    began = time.perf_counter()
    result = await agent.invoke_async("Add two whole numbers, again and again.")
    seconds = time.perf_counter() - began
    if str(result).strip() != "Done." or len(agent.messages) != 2 * calls + 2:
        raise AssertionError(f"the conversation ended otherwise: {result}")
    return Sample(calls + 1, seconds)
