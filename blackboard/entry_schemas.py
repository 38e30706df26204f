"""What contents on topics must look like: JSON Schemas of a board, kept by whoever writes there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import JsonValue

from blackboard import _script, topics
from blackboard._calling import Calling
from blackboard._keys import Shard
from blackboard.entry_reading import PRELUDE, EntryReading
from blackboard.errors import BadInput, ScriptRefused, Stale
from blackboard.meaning import Meaning
from blackboard.payloads import dump

_ATTEMPTS = 20

T = TypeVar("T")


class Checker(Protocol):
    """What knows JSON Schema: the module :mod:`registry.schema`, which this package must not import."""

    def problems(self, schema_text: str, value: JsonValue, /) -> list[str]:
        """What is wrong with a value under a schema; nothing when it fits."""
        ...

    def check_schema(self, field: str, schema: Mapping[str, JsonValue], /) -> None:
        """Refuse what is no schema."""
        ...


@dataclass(frozen=True, slots=True)
class _Schemas:
    version: str
    by_pattern: tuple[tuple[str, str], ...]


class EntrySchemas(EntryReading):
    """The entries of one scope, with the schemas they have to fit.

    Args:
        board: an open board.
        scope: of the entries; the schemas are the board's.
        checker: judges contents where topics have schemas; without it, writing on such a topic is refused.
        meaning: ranks entries for a question; without it, asking ``about`` something is refused.
    """

    def __init__(self, board: Calling, scope: str, checker: Checker | None, meaning: Meaning | None = None) -> None:
        super().__init__(board, scope, meaning)
        self._checker = checker
        self._schemas = _Schemas("0", ())

    @property
    def checker(self) -> Checker | None:
        """What judges contents."""
        return self._checker

    async def set_schema(self, pattern: str, schema: Mapping[str, JsonValue] | None) -> None:
        """Say what contents on some topics must look like, in every scope of the board, from now on; None takes it away.

        On several shards this is a call for each: repeat it when it fails.

        Args:
            schema: JSON Schema (2020-12).

        Raises:
            BadInput: a malformed pattern, what is no schema, or one larger than 64 KiB.
            Stale: too many others change schemas at the same time.
        """
        topics.check_pattern(pattern)
        if schema is not None:
            if self._checker is None:
                raise BadInput("schema", pattern, "Open these entries with what checks schemas.")
            self._checker.check_schema("schema", schema)
        text = "" if schema is None else dump(dict(schema), "schema", 64 * 1024)
        for shard in self._board.shards:
            await self._set_schema(shard, pattern, text)

    async def _set_schema(self, shard: Shard, pattern: str, text: str) -> None:
        client: Any = self._board.client
        for left in reversed(range(_ATTEMPTS)):
            version = await self._retry(lambda: client.hget(shard.topics, ""))
            try:
                await _script.run(
                    client, _script.load("topic_schema", PRELUDE), shard.declare_entries(self.owner),
                    [self.owner, pattern, text, version or "0"], recover=self._board.engine.ensure,
                )  # fmt: skip
                return
            except Stale:  # somebody changed one meanwhile
                if not left:
                    raise

    async def schemas(self) -> dict[str, JsonValue]:
        """The schemas of the board's topics, by pattern."""
        return {pattern: json.loads(text) for pattern, text in (await self._fetched()).by_pattern}

    async def _fetched(self) -> _Schemas:
        shard = self._shard
        client: Any = self._board.client
        said: dict[str, str] = await self._retry(lambda: client.hgetall(shard.topics))
        version = said.pop("", "0")
        return _Schemas(version, tuple(sorted(said.items())))

    async def _checked(self, topic: str, content: JsonValue, write: Callable[[str], Awaitable[T]]) -> T:
        """Write what fits the schemas as they are when it is written."""
        for _ in range(_ATTEMPTS):
            try:
                self._judge(topic, content)
            except BadInput:  # by schemas that may have been changed since
                fetched = await self._fetched()
                if fetched.version == self._schemas.version:
                    raise
                self._schemas = fetched
                continue
            try:
                return await write(self._schemas.version)
            except ScriptRefused as refusal:
                if refusal.code != "SCHEMAS":
                    raise
                self._schemas = await self._fetched()
        raise Stale("STALE", "the schemas of the board's topics are being changed by too many at once; try again")

    def _judge(self, topic: str, content: JsonValue) -> None:
        for pattern, text in self._schemas.by_pattern:
            if not topics.matches(pattern, topic):
                continue
            if self._checker is None:
                raise BadInput(
                    "topic", topic, f"Topics {pattern} have a schema; open these entries with what checks it."
                )
            if found := self._checker.problems(text, content):
                raise BadInput("content", "; ".join(found), f"Topics {pattern} have a schema; make it fit.")
