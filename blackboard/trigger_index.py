"""The triggers of a board as each shard keeps them, and what a process knows of them.

Who writes an entry compares it with the triggers, since only the writer understands what it says; the script that writes it
refuses what was compared with other triggers than there are now. So an entry makes exactly the activations of the triggers
that are on its shard at that moment. A capability's triggers come there with the call that makes a version the active one,
once the catalog has it; where that process dies in between, the next decision of any run with an agenda does it. Written once
more, or late, they change nothing: each has the revision of the catalog it was read at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import redis.asyncio
from pydantic import JsonValue

from blackboard import _script
from blackboard._keys import Shard
from blackboard.errors import ScriptRefused, Stale
from blackboard.triggers import Compiled, Declared

T = TypeVar("T")
_ATTEMPTS = 20


class TriggerIndex:
    """Args:
    client: of the board.
    shards: of the board.
    ensure: brings a supervised server back.
    """

    def __init__(
        self, client: redis.asyncio.Redis, shards: Sequence[Shard], ensure: Callable[[], Awaitable[None]]
    ) -> None:
        self._client, self._shards, self._ensure = client, shards, ensure
        self._compiled: dict[int, Compiled] = {}
        self._fetching = asyncio.Lock()

    def known(self, shard: Shard) -> Compiled:
        """The triggers as this process knows them; nothing before it was told that there are any."""
        return self._compiled.get(shard.number) or Compiled()

    async def fetch(self, shard: Shard, unlike: str = "") -> Compiled:
        """The triggers as they are now.

        Args:
            unlike: the version that is known to be old; what others fetched meanwhile is not fetched again.
        """
        async with self._fetching:
            if unlike and self.known(shard).version != unlike:
                return self.known(shard)
            stored = await self._stored(shard)
            # In a thread: thousands that are seen for the first time take a while.
            self._compiled[shard.number] = compiled = await asyncio.to_thread(_compile, stored)
            return compiled

    async def current(self, shard: Shard) -> Compiled:
        """The triggers as they are now, fetched only where they have changed."""
        client = cast(Any, self._client)
        version: str | None = await _script.retrying(lambda: client.hget(shard.triggers, ""))
        known = self.known(shard)
        return known if known.version == (version or "0") else await self.fetch(shard)

    async def noticed(
        self,
        shard: Shard,
        write: Callable[..., Awaitable[T]],
        topic: str,
        content: JsonValue,
        confidence: float = 1.0,
        version: int = 1,
    ) -> T:
        """Write what was compared with the triggers as they are when it is written.

        Args:
            write: is given the version of the triggers and the keys of those that fit, and sends them to its script.

        Raises:
            Stale: the triggers were changed again and again meanwhile.
        """
        compiled, asked = self.known(shard), {"@confidence": confidence, "@version": version}
        for _ in range(_ATTEMPTS):
            fitting = compiled.fitting(topic, content, asked)
            try:
                return await write(compiled.version, " ".join(one.key for one in fitting))
            except ScriptRefused as refusal:
                if refusal.code != "TRIGGERS":
                    raise
                compiled = await self.fetch(shard, unlike=compiled.version)
        raise Stale("STALE", "the triggers of the board are being changed by too many at once; try again")

    async def write(self, capability: str, revision: str, triggers: Sequence[Declared]) -> None:
        """Let a capability have these triggers on every shard; those of an earlier revision come too late.

        Args:
            revision: of the catalog, when it said that they are those of the active version.
        """
        flat = [part for one in triggers for part in (one.key, one.stored())]
        for shard in self._shards:
            await _script.run(
                self._client, _script.load("triggers_write", ""), [shard.triggers],
                [capability, revision, len(triggers), *flat], recover=self._ensure,
            )  # fmt: skip

    async def capabilities(self) -> dict[str, set[str]]:
        """The capabilities with triggers on any shard, and the keys of these; a shard that lacks some makes them differ."""
        found: dict[str, set[str]] = {}
        for number, shard in enumerate(self._shards):
            there = {
                field.removeprefix("c:"): set(text.split()[1:])
                for field, text in (await self._stored(shard)).items()
                if field[:2] == "c:"
            }
            for name in found.keys() | there.keys():
                same = not number or found.get(name, set()) == there.get(name, set())
                found[name] = there.get(name, set()) if same else {"differ"}
        return found

    async def _stored(self, shard: Shard) -> dict[str, str]:
        client = cast(Any, self._client)
        return await _script.retrying(lambda: client.hgetall(shard.triggers))


def _compile(stored: Mapping[str, str]) -> Compiled:
    found = (Declared.parse(field.removeprefix("t:"), text) for field, text in stored.items() if field[:2] == "t:")
    return Compiled(stored.get("", "0"), found)
