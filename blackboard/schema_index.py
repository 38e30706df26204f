"""The schemas of a board's topics as each shard keeps them, and what a process knows of them.

A script cannot judge what a content says. So whoever writes it does, and the script refuses what was judged by other schemas
than there are when it is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import JsonValue

from blackboard import topics
from blackboard._keys import Shard
from blackboard.errors import ScriptRefused, Stale, Unfitting

T = TypeVar("T")
_ATTEMPTS = 20


class Checker(Protocol):
    """What knows JSON Schema: the module :mod:`registry.schema`, which this package must not import."""

    def problems(self, schema_text: str, value: JsonValue, /) -> list[str]:
        """What is wrong with a value under a schema; nothing when it fits."""
        ...

    def check_schema(self, field: str, schema: Mapping[str, JsonValue], /) -> None:
        """Refuse what is no schema."""
        ...


@dataclass(frozen=True, slots=True)
class Schemas:
    """Those of a shard."""

    version: str = "0"
    by_pattern: tuple[tuple[str, str], ...] = ()


class SchemaIndex:
    """Args:
    client: of the board.
    repeated: a command that only reads, repeated while the server is unreachable.
    """

    def __init__(self, client: Any, repeated: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self._client, self._repeated = client, repeated
        self._known: dict[int, Schemas] = {}

    async def fetch(self, shard: Shard) -> Schemas:
        """The schemas as they are now."""
        said: dict[str, str] = await self._repeated(lambda: self._client.hgetall(shard.topics))
        version = said.pop("", "0")
        self._known[shard.number] = found = Schemas(version, tuple(sorted(said.items())))
        return found

    async def judged(
        self,
        shard: Shard,
        checker: Checker | None,
        topic: str,
        content: JsonValue,
        write: Callable[[str], Awaitable[T]],
    ) -> T:
        """Write what fits the schemas as they are when it is written.

        Args:
            checker: judges; without it, what would have to be judged is refused.
            write: is given the version of the schemas, and sends it to its script.

        Raises:
            Unfitting: it does not fit, or would have to be judged and there is nothing that can.
            Stale: the schemas were changed again and again meanwhile.
        """
        for _ in range(_ATTEMPTS):
            known = self._known.get(shard.number) or Schemas()
            try:
                _judge(known, checker, topic, content)
            except Unfitting:  # by schemas that may have been changed since
                fetched = await self.fetch(shard)
                if fetched.version == known.version:
                    raise
                continue
            try:
                return await write(known.version)
            except ScriptRefused as refusal:
                if refusal.code != "SCHEMAS":
                    raise
                await self.fetch(shard)
        raise Stale("STALE", "the schemas of the board's topics are being changed by too many at once; try again")


def _judge(schemas: Schemas, checker: Checker | None, topic: str, content: JsonValue) -> None:
    for pattern, text in schemas.by_pattern:
        if not topics.matches(pattern, topic):
            continue
        if checker is None:
            remedy = (
                f"Topics {pattern} have a schema, and nothing is here that judges by it; open the board with what does."
            )
            raise Unfitting("topic", topic, remedy)
        if found := checker.problems(text, content):
            raise Unfitting("content", "; ".join(found), f"Topics {pattern} have a schema; make it fit.")
