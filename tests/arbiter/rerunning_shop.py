"""A shop whose till can be stuck, and runs of it that are gone on from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from arbiter_support import arbiter
from plan_steps import ref, step

from arbiter import (
    Arbiter,
    capability,
)
from blackboard.invariants import faults
from blackboard.types import RetryPolicy

ONCE = RetryPolicy(max_attempts=1)


class Shop:
    """Capabilities that write down what they do, and fail for what is in ``broken``."""

    def __init__(self, *broken: Any) -> None:
        self.broken, self.did = {*broken}, list[int]()

    def __call__(self, version: int = 1) -> Any:
        @capability(name="pay", description=f"Pay an amount, version {version}.", effects="writes", retry=ONCE)
        def pay(n: int) -> int:
            self.did.append(n)
            if n in self.broken:
                raise RuntimeError("the till is stuck")
            return n * 10

        return pay

    @property
    def done(self) -> list[int]:
        """What was done since this was asked last."""
        did, self.did = sorted(self.did), []
        return did


@capability
def total(parts: list[int | None]) -> int:
    """Sum what is there."""
    return sum(part for part in parts if part is not None)


def pay(key: str, n: Any, **more: Any) -> dict[str, Any]:
    return step(key, "pay", {"n": n}, **more)


PLAN = [
    pay("one", 1),
    pay("all", ref("item"), each="request#/numbers", at_once=2),
    step("sum", "total", {"parts": ref("all")}),
    pay("last", ref("sum"), after=["one"]),
]


@asynccontextmanager
async def opened(url: str, shop: Shop, turns: Sequence[Any] = ("never asked",), **more: Any) -> AsyncIterator[Arbiter]:
    async with arbiter(url, turns, capabilities=(shop(), total), **more) as (a, _):
        yield a


async def rerun(a: Arbiter, run_id: str, **more: Any) -> Any:
    result = await a.result(await a.rerun(run_id, **more), timeout=60)
    assert await faults(a.board) == []
    return result
