"""G10: an attack gets through where the layers that stop it are off, and only there: each of them alone holds.

What is named by more than one layer is defence in depth, and shown as such: with all but one of them off, the attack is
still contained. ``box`` is the root file system the zygote lives in; without it, children have no namespaces either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from attacks import ATTACKS
from outside import World
from suite import Arena, arena, assert_contained

from wrapper.isolation import BoxedIsolation, ConfinedIsolation

pytestmark = pytest.mark.asyncio(loop_scope="module")

SWITCHES = ("box", "network", "namespaces", "landlock", "limits", "capabilities", "seccomp", "session")
_OF_THE_BOX = frozenset({"box", "network", "namespaces"})

Weakened = Callable[[frozenset[str]], Awaitable[Arena]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def weakened() -> AsyncIterator[Weakened]:
    """The default isolation without some layers; one of each kind, for all attacks that need it."""
    arenas: dict[frozenset[str], Arena] = {}
    async with AsyncExitStack() as stack:

        async def get(off: frozenset[str]) -> Arena:
            if off not in arenas:
                world = World()
                stack.callback(world.close)
                kind = ConfinedIsolation if "box" in off else BoxedIsolation
                # Without a box, root becomes another user, who could not reach what root runs even with nothing in between.
                rest = sorted({"identity", *(off - _OF_THE_BOX)} if "box" in off else off)
                arenas[off] = await stack.enter_async_context(
                    arena(world, kind(preload_strands=False, parked=1, _without=rest))
                )
            return arenas[off]

        yield get


def _layers(name: str) -> frozenset[str]:
    return frozenset(ATTACKS[name].layers) & frozenset(SWITCHES)


def _by_layers(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: sorted(_layers(name)))


def _possible(name: str) -> None:
    needs = ATTACKS[name].needs
    if needs is not None and (reason := needs()) is not None:
        pytest.skip(reason)


ONE = _by_layers([name for name in ATTACKS if _layers(name) and "privileges" not in ATTACKS[name].layers])
"""Privileges are given up before there is a child, and cannot be left out."""
ALONE = [
    (name, layer)
    for name in ONE
    for layer in sorted(_layers(name))
    if len(_layers(name)) > 1 and not (layer in ("network", "namespaces") and "box" in _layers(name))
]
"""An attack and one of several layers; namespaces and network do not exist without the box."""


@pytest.mark.parametrize("name", ONE)
async def test_it_gets_out_where_what_stops_it_is_off(weakened: Weakened, name: str) -> None:
    _possible(name)
    here = await weakened(_layers(name))
    assert await here.gets_out(ATTACKS[name]), f"nothing showed that {name} got through"


@pytest.mark.parametrize(("name", "layer"), ALONE)
async def test_one_layer_alone_holds(weakened: Weakened, name: str, layer: str) -> None:
    _possible(name)
    here = await weakened(_layers(name) - {layer})
    assert_contained(f"{name} with {layer} alone", await here.escapes(ATTACKS[name]))
