"""What tests of durable subscriptions share: runs that go on side by side, and taking what is handed out."""

from __future__ import annotations

import asyncio

import pytest
from strict import Play, done, spec

from blackboard import feed
from blackboard.events import Event
from blackboard.subscriptions import Subscriber

RUNS = ("run.*",)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by the clock: what happens here happens because somebody was told of it."""
    monkeypatch.setattr(feed, "RECONCILE_SECONDS", 3600.0)


async def some(events: Subscriber, count: int) -> list[Event]:
    """The next events, all of them done with."""
    async with asyncio.timeout(20):  # so long only where it fails
        found = [await anext(events) for _ in range(count)]
        await events.done()
    return found


async def quiet(events: Subscriber) -> bool:
    """Whether nothing more comes."""
    try:
        async with asyncio.timeout(0.1):
            await anext(events)
    except TimeoutError:
        return True
    return False


async def work(play: Play, count: int) -> list[str]:
    """Runs that go on side by side to their ends; each has a log of ten events."""
    runs = [await play.board.submit(f"go {number}") for number in range(count)]
    for _ in runs:
        await play.plan(await play.one("arbiter"), spec("a"), spec("b"))
    for claim in [await play.one() for _ in range(2 * count)]:
        await play.board.complete(claim, done(claim))
    for _ in runs:
        await play.plan(await play.one("arbiter"), answer="x")
    return runs


def ids(events: list[Event], run: str) -> list[str]:
    return [event.id for event in events if event.run_id == run]
