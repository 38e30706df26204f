"""What contents on topics must look like: JSON Schemas of a board, kept by whoever writes there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from pydantic import JsonValue

from blackboard import _script, topics
from blackboard._calling import Calling
from blackboard._keys import Shard
from blackboard.audit import somebody
from blackboard.entry_reading import PRELUDE, EntryReading
from blackboard.errors import BadInput, Stale
from blackboard.meaning import Meaning
from blackboard.payloads import dump
from blackboard.schema_index import Checker

_ATTEMPTS = 20

T = TypeVar("T")


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

    @property
    def checker(self) -> Checker | None:
        """What judges contents."""
        return self._checker

    async def set_schema(self, pattern: str, schema: Mapping[str, JsonValue] | None, *, by: str | None = None) -> None:
        """Say what contents on some topics must look like, in every scope of the board, from now on; None takes it away.

        On several shards this is a call for each: repeat it when it fails. The first one puts it on record.

        Args:
            schema: JSON Schema (2020-12).
            by: who sets it, for the audit. Default: the user of this process.

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
        for number, shard in enumerate(self._board.shards):
            await self._set_schema(shard, pattern, text, "" if number else by or somebody())

    async def _set_schema(self, shard: Shard, pattern: str, text: str, by: str) -> None:
        client: Any = self._board.client
        for left in reversed(range(_ATTEMPTS)):
            version = await self._retry(lambda: client.hget(shard.topics, ""))
            try:
                await _script.run(
                    client, _script.load("topic_schema", PRELUDE), [*shard.declare_entries(self.owner), shard.audit],
                    [self.owner, pattern, text, version or "0", by], recover=self._board.engine.ensure,
                )  # fmt: skip
                return
            except Stale:  # somebody changed one meanwhile
                if not left:
                    raise

    async def schemas(self) -> dict[str, JsonValue]:
        """The schemas of the board's topics, by pattern."""
        found = await self._board.schemas.fetch(self._shard)
        return {pattern: json.loads(text) for pattern, text in found.by_pattern}

    async def _checked(self, topic: str, content: JsonValue, write: Callable[[str], Awaitable[T]]) -> T:
        """Write what fits the schemas as they are when it is written."""
        return await self._board.schemas.judged(self._shard, self._checker, topic, content, write)
