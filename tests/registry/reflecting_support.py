"""What tests share of versions that are judged by how their tasks ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import redis.asyncio

from blackboard.catalog import Catalog
from blackboard.lately import Ended
from registry import Registry, Version

Meanwhile = Callable[[], Awaitable[Any]]


class Measured:
    """Counters of ended tasks, and processes that read them."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client, self.counters, self.read = client, dict[tuple[str, str], Ended](), 0

    async def lately(self, versions: Sequence[tuple[str, str]]) -> list[Ended]:
        self.read += len(versions)
        return [self.counters.get(each, Ended()) for each in versions]

    def ended(self, version: Version, succeeded: int, failed: int) -> None:
        self.counters[version.name, version.sha] = Ended(succeeded, failed, succeeded, failed)

    def process(self) -> Registry:
        return Registry(Catalog(self.client, "test"), ended=self.lately)

    def late(self, meanwhile: Meanwhile) -> Registry:
        """A process in which something happens between a decision and what it does about it."""

        class Late(Registry):
            async def _moved(self, *given: Any, **more: Any) -> bool:
                await meanwhile()
                return await super()._moved(*given, **more)

        return Late(Catalog(self.client, "test"), ended=self.lately)

    async def states(self, name: str = "echo") -> list[str]:
        return [each.state for each in await self.process().versions(name)]

    async def records(self) -> list[dict[str, str]]:
        """Of what was decided about versions, oldest first."""
        found = await Catalog(self.client, "test").audit(("activated", "retired", "tried"))
        return [fields for _, fields in reversed(found)]
