"""Vectors of texts, kept by the model that made them and the hash of their text: derived data, which may be lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import redis

from blackboard.errors import BadInput
from blackboard.types import type_name


class Vectors:
    """The vectors of one board, as bytes.

    They are written once under what identifies them, so writing again or from several processes changes nothing.

    Args:
        client: a client that does not decode replies.
        namespace, board: as the board was opened with.

    Raises:
        BadInput: a name that cannot be part of a key.
    """

    def __init__(self, client: redis.Redis, namespace: str = "arbiter", board: str = "main") -> None:
        for field, value in (("namespace", namespace), ("board", board)):
            if not re.match(type_name, value):
                raise BadInput(field, value, "Use 1 to 64 lower-case letters, digits, dots, dashes or underscores.")
        self._client: Any = client
        self._prefix = f"arb:{{{namespace}/{board}#reg}}:vectors:"

    def get(self, identity: str, hashes: Sequence[str]) -> Sequence[bytes | None]:
        """The vectors under these hashes; None for each that is not kept."""
        return cast("list[bytes | None]", self._client.hmget(self._prefix + identity, list(hashes))) if hashes else []

    def put(self, identity: str, vectors: Sequence[tuple[str, bytes]]) -> None:
        """Keep vectors, each with the hash of its text."""
        if vectors:
            self._client.hset(self._prefix + identity, mapping=dict(vectors))

    def forget(self, identity: str) -> None:
        """Drop everything one model made, for example after another took its place."""
        self._client.delete(self._prefix + identity)
