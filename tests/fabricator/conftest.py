"""A real board, a real registry, real isolation, and fabrication tasks posted the way the arbiter posts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.events import RoundPlannedData
from blackboard.taint import Taint
from blackboard.types import Limits, TaskSpec
from fabricator import FabricationSettings, Fabricator
from registry import Registry
from wrapper.isolation import ProcessIsolation
from wrapper.isolation.detection import find
from wrapper.models import ScriptedModel

Post = Callable[..., Awaitable[Claim]]


@pytest.fixture
async def registry(redis_board: Board) -> Registry:
    return Registry(redis_board.catalog)


@pytest.fixture
async def isolation() -> AsyncIterator[ProcessIsolation]:
    """The strongest that this machine has, as production uses it."""
    isolation, _ = await find(preload_strands=False, parked=1)
    yield isolation
    await isolation.close()


@pytest.fixture
def post(redis_board: Board) -> Post:
    """Post a fabrication task in a run of its own and claim it."""

    async def post(
        name: str = "add_tax", *, tenant: str = "default", taint: Taint = ("person",), **given: Any
    ) -> Claim:
        board = redis_board
        run = await board.submit({"question": "what does it cost?"}, tenant=tenant)
        # Runs whose fabrication ended wait for their next step; those are left alone.
        step = next(each for each in await board.claim("arbiter", ["arbiter"], n=10) if each.run_id == run)
        data = {"name": name, "need": f"A capability called {name}.", **given}
        task = TaskSpec(
            key=f"fabricate_{name}", tool_use_id="t1", kind="fabrication", capability="fabricator", lane="fabricator",
            input=data, attempt_seconds=60, taint=taint,
        )  # fmt: skip
        await board.commit_step(step, RoundPlannedData(round=0, message={}), [task], Limits())
        (claim,) = await board.claim("fabricator", ["fabricator"])
        assert claim.run_id == run
        return claim

    return post


@pytest.fixture
def fabricate(
    redis_board: Board, registry: Registry, isolation: ProcessIsolation, post: Post
) -> Callable[..., Awaitable[Any]]:
    """Fabricate something by what a model says, as a task of a run."""

    async def fabricate(model: ScriptedModel, name: str = "add_tax", **more: Any) -> Any:
        settings = more.pop("settings", FabricationSettings())
        claim = await post(name, **more)
        return await Fabricator(registry, isolation, model, settings=settings).handle(Attempt(redis_board, claim))

    return fabricate


@pytest.fixture
def stages(redis_board: Board) -> Callable[[str], Awaitable[list[Any]]]:
    """The ``fabrication.stage`` events of a run, in order."""

    async def stages(run_id: str) -> list[Any]:
        return [event.data for event in await redis_board.history(run_id) if event.kind == "fabrication.stage"]

    return stages


@pytest.fixture
def soon() -> Callable[[Awaitable[Any]], Awaitable[Any]]:
    """Await something, at most a generous time."""
    return lambda awaited: asyncio.wait_for(awaited, 30)
