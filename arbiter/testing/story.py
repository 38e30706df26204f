"""Stories: what the process of a crash case does, from its start to the answers, as often as it is started.

A story must find again what an earlier process began: it gives every request an idempotency key. Then whatever was
killed before, playing it from the start ends in the same answers. :func:`loop` is the whole loop of this system in small.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from arbiter.sdk import Arbiter
from arbiter.testing.clock import Clock
from blackboard.types import Limits, RetryPolicy
from registry import capability
from wrapper.context import current_task

if TYPE_CHECKING:
    from strands.models import Model

LEASE_SECONDS = 5.0
TASK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a story plays."""

    url: str
    board: str

    def arbiter(self, **options: Any) -> Arbiter:
        """An Arbiter on the case's board; ``options`` are those of :class:`arbiter.Arbiter`."""
        given: dict[str, Any] = {"lease_seconds": LEASE_SECONDS, "grace_seconds": 2.0, "retention": None, **options}
        return Arbiter(self.url, board=self.board, **given)


Story = Callable[[Scene], Awaitable[JsonValue]]
"""Plays from start to end in one process and returns what must be the same in every case."""


# ---- the whole loop ----------------------------------------------------------------------------------------------------

_holding: set[str] = set()
"""Runs whose task holds on in this process."""


@capability(effects="reads", retry=RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01))
def read_price(item: str) -> dict[str, int]:
    """Read the net price of an item in cents.

    Args:
        item: what it is
    """
    task = current_task()
    if task is not None and task.attempt == 1:
        raise ConnectionError("the price list did not answer the first time")
    return {"cents": {"chair": 7_150, "table": 20_000}[item]}


@capability(effects="pure", retry=RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01))
async def count_stock(item: str) -> dict[str, int]:
    """Count how many of an item are in stock; takes a moment.

    Args:
        item: what it is
    """
    await asyncio.sleep(0.15)
    return {"count": len(item)}


@capability(effects="pure", retry=RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01))
def write_offer(net: int, total: int, count: int) -> dict[str, str]:
    """Write an offer.

    Args:
        net: net price in cents
        total: price with tax in cents
        count: how many there are
    """
    return {"text": f"{count} chairs, {net} net, {total} with tax"}


@capability(effects="reads", retry=RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01))
async def hold() -> dict[str, bool]:
    """Hold on until somebody says stop."""
    task = current_task()
    run = task.run_id if task is not None else ""
    _holding.add(run)
    try:
        await asyncio.sleep(600)
    finally:
        _holding.discard(run)
    return {"held": True}


_TAX: dict[str, Any] = {
    "name": "add_tax",
    "description": "Add tax to a net amount in cents. The rate is in basis points; the tax is rounded half up.",
    "input_schema": {
        "type": "object",
        "properties": {"net_cents": {"type": "integer", "minimum": 0}, "rate_bp": {"type": "integer", "minimum": 0}},
        "required": ["net_cents", "rate_bp"],
        "additionalProperties": False,
    },
    "output_schema": {
        "type": "object",
        "properties": {"total_cents": {"type": "integer"}},
        "required": ["total_cents"],
        "additionalProperties": False,
    },
    "effects": "pure",
    "public_cases": [
        {"name": "a whole rate", "input": {"net_cents": 1000, "rate_bp": 2000}, "expected": {"total_cents": 1200}},
        {"name": "no rate", "input": {"net_cents": 5, "rate_bp": 0}, "expected": {"total_cents": 5}},
    ],
    "sealed_cases": [
        {"name": "half a cent", "input": {"net_cents": 7150, "rate_bp": 7300}, "expected": {"total_cents": 12370}},
    ],
}
_RIGHT = '''
def handler(net_cents: int, rate_bp: int) -> dict[str, int]:
    """Add tax, rounded half up."""
    return {"total_cents": net_cents + (net_cents * rate_bp + 5_000) // 10_000}
'''
_FIRST = _RIGHT.replace(" + 5_000", "")
"""Passes the public cases and fails the sealed one, so that there is a repair."""

_TASKS: list[dict[str, Any]] = [
    {"key": "price", "capability": "read_price", "input": {"item": "chair"}},
    {"key": "stock", "capability": "count_stock", "input": {"item": "chair"}},
    {"key": "taxed", "capability": "add_tax", "input": {"net_cents": {"$ref": "price#/cents"}, "rate_bp": 1900}},
    {
        "key": "offer",
        "capability": "write_offer",
        "input": {
            "net": {"$ref": "price#/cents"},
            "total": {"$ref": "taxed#/total_cents"},
            "count": {"$ref": "stock#/count"},
        },
    },
]


def loop_model() -> Model:
    """What plans, examines and fabricates in :func:`loop`."""
    from wrapper.models import ScriptedModel

    need = "Add tax to a net amount in cents at a rate in basis points, rounding half a cent up."
    return ScriptedModel(
        [
            {
                "name": "offer",
                "system": "^You are the Arbiter",
                "match": "offer",
                "turns": [
                    {"tool": "request_capability", "input": {"name": "add_tax", "need": need}},
                    {"tool": "post_plan", "input": {"tasks": _TASKS}},
                    "{{ results.post_plan.tasks.offer.data.text }}",
                ],
            },
            {
                "name": "hold",
                "system": "^You are the Arbiter",
                "match": "Hold",
                "turns": [{"tool": "hold", "input": {}}, "It was not held for ever."],
            },
            {"name": "examiner", "system": "^You are the Examiner", "turns": ["not yet", json.dumps(_TAX)]},
            {
                "name": "fabricator",
                "system": "^You are the Fabricator",
                "turns": [f"```python\n{source.strip()}\n```\n" for source in (_FIRST, _RIGHT)],
            },
        ],
        usage=(100, 10),
    )


async def loop(scene: Scene) -> JsonValue:
    """A run that is given back by a drain and then cancelled, two whose time is over, and one that goes through it all:
    fabrication with a repair, a plan with dependencies, a retry, an answer."""
    roles = {"capabilities": (read_price, count_stock, write_offer, hold), "model": loop_model()}
    async with scene.arbiter(**{**roles, "grace_seconds": 0.0, "roles": ("arbiter", "wrapper")}) as first:
        cancelled = await first.submit("Hold on.", idempotency_key="cancelled")
        await _held(first, cancelled)
    async with scene.arbiter(**roles) as second:
        clock = Clock(second.board)
        await _held(second, cancelled)
        await second.cancel(cancelled)
        limits = Limits(task_seconds=TASK_SECONDS, seconds=9 * TASK_SECONDS)
        await second.result(cancelled)
        lapsed = await second.submit("Hold on for a minute.", idempotency_key="lapsed", limits=limits)
        if await _held(second, lapsed):
            await clock.advance(TASK_SECONDS + 1, sweep=False)
        await second.result(lapsed)
        limits = Limits(seconds=TASK_SECONDS)
        expired = await second.submit("Hold on as long as you may.", idempotency_key="expired", limits=limits)
        if await _held(second, expired):
            await clock.advance(TASK_SECONDS + 1, sweep=False)
        await second.result(expired)
        offered = await second.submit("Write an offer for chairs.", idempotency_key="offer")
        named = {"cancelled": cancelled, "lapsed": lapsed, "expired": expired, "offered": offered}
        return {name: await _told(second, run) for name, run in named.items()}


async def _held(arbiter: Arbiter, run: str) -> bool:
    """Wait until the run's task holds on in this process; False when the run is over."""
    while run not in _holding:
        if (await arbiter.board.summary(run)).ended_at is not None:
            return False
        await asyncio.sleep(0.01)
    return True


async def _told(arbiter: Arbiter, run: str) -> JsonValue:
    """The end of a run without what may differ: times, attempts, workers."""
    ended = await arbiter.result(run)
    tasks: dict[str, JsonValue] = {
        task.id.partition("/")[2]: [task.state, task.completion.data if task.completion else None]
        for task in ended.state.work
        if task.kind == "capability"
    }
    return {
        "status": ended.status,
        "answer": ended.answer,
        "error": ended.error.type if ended.error else None,
        "rounds": len(ended.state.rounds),
        "tasks": tasks,
    }
