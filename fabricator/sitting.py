"""What is there for a candidate in its exam beside its input: a made-up task, and what answers its calls.

Where topics are granted, that is a board in this process, with the run and the task that the code is told it works at. It is
new for each run of a case and gone after it, so the code finds what it writes there, as it will in production, and neither
another run nor anybody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.errors import IsolationUnavailable, MissingExtra
from blackboard.taint import Taint, merged
from blackboard.types import Usage
from registry import Manifest, schema
from registry.grants import TopicGrants
from wrapper.broker import AttemptBroker, Outside
from wrapper.context import TaskContext
from wrapper.isolation import Broker
from wrapper.preparing import claim_age, made_up_place, made_up_task, task_of
from wrapper.uses import Uses

if TYPE_CHECKING:
    from strands.models import Model

    from blackboard.meaning import Meaning

_LANE = "exam"


class Sittings:
    """The sittings of one candidate.

    Args:
        manifest: whose grants and limits are enforced.
        source: of the candidate.
        board: of production. Its topics' schemas hold in the exam too; nothing is written there.
        model: gives the configured model, or None when there is none.
        meaning: ranks entries for a question, as in production.
        outside, named, uses: as for :class:`~wrapper.broker.AttemptBroker`.
        taint: where the need comes from.
    """

    def __init__(
        self,
        manifest: Manifest,
        source: str,
        board: Board,
        *,
        model: Callable[[], Model] | None,
        meaning: Meaning,
        outside: Outside | None = None,
        named: Callable[[str], Model] | None = None,
        uses: Uses | None = None,
        taint: Taint = (),
    ) -> None:
        self._manifest, self._source, self._board = manifest, source, board
        self._model, self._meaning, self._outside, self._named = model, meaning, outside, named
        self._uses, self._taint = uses, taint
        self._schemas: Mapping[str, JsonValue] | None = None
        self.usage = Usage()
        """What model calls consumed, in all sittings that are over."""
        self.sources: Taint = ()
        """What was brought in."""
        self.excess = ""
        """What was first asked for beyond the grants, which ends a task in production."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[tuple[TaskContext, Broker]]:
        """The task that the code is told it works at, and what answers its calls.

        Raises:
            IsolationUnavailable: topics are granted, and what a board in this process needs is not installed.
        """
        name, granted = self._manifest.name, self._manifest.grants.topics
        if granted == TopicGrants():
            async with self._answered(made_up_task(name)) as answered:
                yield answered
            return
        async with await _own_board() as board:
            await self._copy_schemas(board)
            version = self._manifest.content_hash(self._source)
            # Before the code runs: the position of what is found on an empty board is that of its task's posting.
            place = made_up_place()
            await board.submit_call(name, {}, lane=_LANE, version=version, taint=self._taint, place=place, key=name)
            (claim,) = await board.claim(_LANE, [_LANE])
            entries = Entries(board, f"run:{claim.run_id}", checker=schema, meaning=self._meaning)
            await asyncio.sleep(claim_age())
            try:
                async with self._answered(task_of(claim), entries, claim) as answered:
                    yield answered
            finally:
                self._meaning.forget(claim.run_id)

    @asynccontextmanager
    async def _answered(
        self, task: TaskContext, entries: Entries | None = None, claim: Claim | None = None
    ) -> AsyncGenerator[tuple[TaskContext, Broker]]:
        broker = AttemptBroker(
            self._manifest, self._model, self._outside, named=self._named, uses=self._uses, taint=self._taint,
            entries=entries, task=claim,
        )  # fmt: skip
        try:
            yield task, broker
        finally:
            self.usage += broker.usage
            self.sources = merged(self.sources, broker.sources)
            self.excess = self.excess or broker.excess

    async def _copy_schemas(self, board: Board) -> None:
        if self._schemas is None:
            self._schemas = await Entries(self._board).schemas()
        entries = Entries(board, checker=schema)
        for pattern, one in self._schemas.items():
            await entries.set_schema(pattern, cast("Mapping[str, JsonValue]", one))


async def _own_board() -> Board:
    try:
        # Its values stay in it, whatever store the environment names for large ones.
        return await Board.open("memory://", blobs="redis")
    except MissingExtra as error:
        message = f"Granted topics are examined on a board in this process, and {error}"
        raise IsolationUnavailable(message) from error
