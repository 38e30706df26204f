"""Who owes parked processes when a zygote is replaced."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from wrapper.isolation.parking import Parking
from wrapper.isolation.zygote_link import ZygoteLost


class Link:
    """A zygote that forks when it is told how: a child, or the word that it is lost."""

    alive, runs, active = True, 0, 0

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[object]] = []

    async def fork(self) -> object:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_a_replaced_zygote_no_longer_forks_its_successor_does() -> None:
    async def begin() -> Any:
        raise AssertionError("there is one already")

    parking = Parking(begin=begin, size=2, recycle_runs=1000, recycle_seconds=600.0)
    old, new = Link(), Link()
    state = cast(Any, parking)
    state._link = old
    state._fill()
    await settled()
    assert len(old.asked) == 2
    state._link = new
    state._fill()
    await settled()
    assert len(new.asked) == 0, "what is under way counts until it is known to be lost"
    for fork in old.asked:
        fork.set_exception(ZygoteLost())
    await settled()
    assert len(new.asked) == 2
    for fork in new.asked:
        fork.set_result(object())
    await settled()
    assert parking.parked == 2
