"""G10: every attack on the default isolation is contained."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from attacks import ATTACKS
from outside import World
from suite import Arena, arena, assert_contained

from wrapper.isolation import BoxedIsolation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def boxed() -> AsyncIterator[Arena]:
    world = World()
    try:
        async with arena(world, BoxedIsolation(preload_strands=False, parked=2)) as here:
            yield here
    finally:
        world.close()


@pytest.mark.parametrize("name", ATTACKS)
async def test_g10_it_is_contained(boxed: Arena, name: str) -> None:
    attack = ATTACKS[name]
    if attack.needs is not None and (reason := attack.needs()) is not None:
        pytest.skip(reason)
    assert_contained(name, await boxed.escapes(attack))
