"""G10: every attack is contained, by the default isolation and by those it gives way to on other machines."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from attacks import ATTACKS
from outside import World
from suite import Arena, arena, assert_contained

from wrapper.isolation.process import BoxedIsolation, BubblewrapIsolation, ConfinedIsolation

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def boxed() -> AsyncIterator[Arena]:
    world = World()
    try:
        async with arena(world, BoxedIsolation(preload_strands=False, parked=2)) as here:
            yield here
    finally:
        world.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bubblewrapped() -> AsyncIterator[Arena]:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    world = World()
    try:
        async with arena(world, BubblewrapIsolation(preload_strands=False, parked=2)) as here:
            yield here
    finally:
        world.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def confined() -> AsyncIterator[Arena]:
    world = World()
    try:
        async with arena(world, ConfinedIsolation(preload_strands=False, parked=2)) as here:
            yield here
    finally:
        world.close()


OUTER = ("filesystem", "network", "credentials", "machine")
"""What the root file system and the network of a box are for."""
KERNEL = (*OUTER, "processes", "native", "kernel", "memory", "resources", "persistence")
"""What other walls could let through; the rest is the judgement of the host, which is the same for all."""
UNCONFINED = {"filesystem-file_names_as_probe": "without a box, names, sizes and times of files can be asked for"}
"""What ``zygote-lsm`` does not promise; it is chosen only where there can be no box."""


def _of(*families: str) -> list[str]:
    return [name for name, attack in ATTACKS.items() if attack.family in families and "deadline" not in attack.layers]


async def _contained(here: Arena, name: str) -> None:
    attack = ATTACKS[name]
    if attack.needs is not None and (reason := attack.needs()) is not None:
        pytest.skip(reason)
    assert_contained(name, await here.escapes(attack))


@pytest.mark.parametrize("name", ATTACKS)
async def test_g10_it_is_contained(boxed: Arena, name: str) -> None:
    await _contained(boxed, name)


@pytest.mark.parametrize("name", _of(*OUTER))
async def test_g10_it_is_contained_in_a_box_of_bubblewrap(bubblewrapped: Arena, name: str) -> None:
    await _contained(bubblewrapped, name)


@pytest.mark.parametrize("name", _of(*KERNEL))
async def test_g10_it_is_contained_without_a_box(confined: Arena, name: str) -> None:
    if name in UNCONFINED:
        pytest.skip(UNCONFINED[name])
    await _contained(confined, name)
