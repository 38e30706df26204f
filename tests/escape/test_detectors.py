"""The suite can fail: where less protects, each attack gets through and its detector says so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from attack import Attack
from attacks import ATTACKS
from naive import NaiveIsolation
from outside import World
from suite import Arena, arena

from wrapper.isolation import ProcessIsolation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process() -> AsyncIterator[Arena]:
    world = World()
    try:
        async with arena(world, ProcessIsolation(preload_strands=False, parked=1)) as here:
            yield here
    finally:
        world.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def naive() -> AsyncIterator[Arena]:
    world = World()
    world.zygote_must_live = False
    try:
        async with arena(world, NaiveIsolation((world.leaked_file, world.listeners.leaked.fileno()))) as here:
            here.late = 0.7  # it has no deadline that held
            yield here
    finally:
        world.close()


def _open_on(configuration: str) -> list[str]:
    return [name for name, attack in ATTACKS.items() if configuration in attack.open_on]


def possible(attack: Attack) -> None:
    """Skip what this machine does not have."""
    if attack.needs is not None and (reason := attack.needs()) is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("name", _open_on("process"))
async def test_it_gets_out_of_a_plain_process(process: Arena, name: str) -> None:
    possible(ATTACKS[name])
    found = await process.gets_out(ATTACKS[name])
    print(name, found)
    assert found, f"nothing showed that {name} got through"


@pytest.mark.parametrize("name", _open_on("naive"))
async def test_it_gets_past_a_host_that_believes_its_worker(naive: Arena, name: str) -> None:
    possible(ATTACKS[name])
    await naive.isolation.close()  # what an attack did to the worker must not be taken for what the next one does
    found = await naive.gets_out(ATTACKS[name])
    print(name, found)
    assert found, f"nothing showed that {name} got through"
