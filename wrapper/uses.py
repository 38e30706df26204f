"""What one attempt used of what it was granted, for the audit: a record before each secret's first use, and one of it all.

A secret leaves only when that is on record, so no death afterwards hides it. How often everything was used is told once, at
the end of the attempt; of an attempt whose process dies, only the first record is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import cast

from pydantic import JsonValue

from blackboard.audit import Audit
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import ArbiterError

log = logging.getLogger(__name__)

_REASON_CHARACTERS = 500


class Uses:
    """The uses of one attempt, or of one candidate's exam.

    Args:
        board: where they are put on record.
        claim: of the attempt.
        capability: what runs.
    """

    def __init__(self, board: Board, claim: Claim, capability: str) -> None:
        self._audit, self._claim = Audit(board), claim
        self._about: dict[str, JsonValue] = {"attempt": claim.attempt, "capability": capability}
        self._counts: dict[str, Counter[str]] = {}
        self._noted: set[tuple[str, str]] = set()
        self._noting = asyncio.Lock()

    async def secret(self, handle: str, host: str) -> None:
        """A secret is about to be sent to a host.

        Raises:
            EngineUnavailable: nobody knows whether it is on record: do not send it.
        """
        async with self._noting:
            if (handle, host) not in self._noted:
                await self._audit.note(
                    "secret.used", self._claim.task_id, by=self._claim.worker,
                    detail={**self._about, "handle": handle, "host": host},
                )  # fmt: skip
                self._noted.add((handle, host))
        self.count("secrets", f"{handle}@{host}")

    def count(self, what: str, name: str) -> None:
        """Something was used: a host (``http``), a file (``files``)."""
        self._counts.setdefault(what, Counter())[name] += 1

    async def close(self, excess: str = "") -> None:
        """Put on record what was used, and what more was asked for. The attempt ends all the same when that fails.

        Args:
            excess: what the code asked for that it was not granted; empty for nothing.
        """
        task, by = self._claim.task_id, self._claim.worker
        try:
            if self._counts:
                counts = cast("dict[str, JsonValue]", {what: dict(each) for what, each in self._counts.items()})
                await self._audit.note("grants.used", task, by=by, detail={**self._about, **counts})
            if excess:
                reason = excess[:_REASON_CHARACTERS]
                await self._audit.note("grants.exceeded", task, by=by, reason=reason, detail=self._about)
        except ArbiterError as error:
            log.error("what %s used is not on record: %s", task, error)
