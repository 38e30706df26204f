"""What tests of agendas share: sources that write on their board; ``stage = agenda_stage.stage`` names the fixture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from arbiter import (
    AgendaTerms,
    Arbiter,
    Capability,
    Entries,
    Inquiry,
    Posting,
    RunResult,
    ScriptedModel,
    Trigger,
    capability,
    current_task,
)
from arbiter.replay_agenda import replayed
from blackboard import events
from blackboard.entries import Written
from blackboard.invariants import faults

Post = Callable[..., Awaitable[Written]]
NOTHING = ScriptedModel(["Nobody asks."])


class Stage:
    """Capabilities that write on the board of their run, and a place to hold them."""

    def __init__(self) -> None:
        self.a: Arbiter | None = None
        self.url = f"memory://{uuid4().hex}"
        self.ran: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def source(
        self, name: str, *triggers: Trigger, posts: Mapping[str, Any] | None = None, **more: Any
    ) -> Capability[..., Any]:
        """One that posts what it is told to, each time."""

        async def run(entry: dict[str, Any]) -> str:
            self.ran.append(name)
            await self.gate.wait()
            for topic, content in (posts or {}).items():
                await self.notes().post(topic, content, task=current_task())
            return f"{name} saw {entry['topic']}"

        run.__name__ = name
        return capability(run, description=f"Does {name}.", triggers=triggers, **more)

    def notes(self) -> Entries:
        task = current_task()
        assert self.a is not None
        assert task is not None
        return self.a.entries.within(f"run:{task.run_id}")


@pytest.fixture
def stage() -> Stage:
    return Stage()


@asynccontextmanager
async def arbiter(
    stage: Stage, *capabilities: Capability[..., Any], url: str = "", **more: Any
) -> AsyncIterator[Arbiter]:
    given: dict[str, Any] = {"roles": ("arbiter", "wrapper"), "model": NOTHING, "isolation": "process", **more}
    async with Arbiter(url or stage.url, capabilities=capabilities, **given) as a:
        stage.a = a
        yield a
        assert not await faults(a.board)
        for run in await a.runs():
            assert not [pair for pair in replayed(await a.board.history(run.id)) if pair[0] != pair[1]]


def inquiry(*topics: str, **terms: Any) -> Inquiry:
    return Inquiry([Posting(topic, {"n": n}) for n, topic in enumerate(topics)], AgendaTerms(**terms))


async def picks(a: Arbiter, result: RunResult) -> list[str]:
    """Capabilities in the order they were picked."""
    names = {one.number: one.capability for one in await a.agenda(result.run_id).activations()}
    log = await a.board.history(result.run_id)
    return [names[one.number] for event in log if isinstance(event, events.AgendaDecided) for one in event.data.picked]
