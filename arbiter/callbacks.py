"""What whoever holds a token says to the attempt it was made for: complete, fail, a sign of life."""

from __future__ import annotations

import json

from pydantic import JsonValue

from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.errors import BadInput, Oversized
from blackboard.payloads import PAYLOAD_BYTES, dump
from registry import Registry
from wrapper.fitting import misfits

_LISTED_PROBLEMS = 10


class Callbacks:
    """The attempts of one board that are ended from outside. See ``docs/callbacks.md``.

    Args:
        board: an open board; closing it is the caller's business.
        registry: where the schemas of capabilities are.
    """

    def __init__(self, board: Board, registry: Registry) -> None:
        self._board, self._registry = board, registry

    async def complete(self, token: str, output: JsonValue, *, by: str | None = None) -> str:
        """End an attempt with its result. The same once more has no effect.

        Args:
            token: as the function gave it away.
            output: has to fit the output schema of the capability; what does not is refused, and the attempt goes on.
            by: who says it, for the record. Default: the user of this process.

        Returns:
            The id of the task.

        Raises:
            UnknownRecord: nothing on this board waits for this token.
            BadInput, Oversized: the output does not fit, is not JSON, or is too large.
            Conflict: the attempt has another outcome already.
            ScriptRefused: ``OVER``, the attempt was ended otherwise; the message says how.
            BlobUnavailable: it is large, and the store of large values cannot be used.
        """
        called = await self._board.called(token)
        if called.open:
            manifest = (await self._registry.resolve(called.claim.capability, called.claim.version)).manifest
            size, most = len(dump(output, "output", PAYLOAD_BYTES)), manifest.limits.output_bytes
            if size > most:
                raise Oversized("output", f"{size:,} bytes", f"{manifest.name} returns at most {most:,}.")
            if found := await misfits(manifest, output):
                raise BadInput(
                    "output", json.dumps(output),
                    f"It does not fit {manifest.name}: {'; '.join(found[:_LISTED_PROBLEMS])}. The attempt goes on.",
                )  # fmt: skip
        await self._board.complete_callback(called, output, by=somebody() if by is None else by)
        return called.claim.task_id

    async def fail(self, token: str, error: str, cause: str = "", *, by: str | None = None) -> str:
        """End an attempt with a failure; another one follows if the task's retry policy says so.

        Args:
            token, by: as for :meth:`complete`.
            error: a name for what went wrong, by which retry rules may know it.
            cause: the same in words.

        Returns:
            The id of the task.

        Raises:
            UnknownRecord, Conflict, ScriptRefused: as for :meth:`complete`.
            BadInput: a malformed name, or a cause that is too long.
        """
        called = await self._board.called(token)
        await self._board.fail_callback(called, error, cause, by=somebody() if by is None else by)
        return called.claim.task_id

    async def heartbeat(self, token: str, *, by: str | None = None) -> float | None:
        """Say that what a task waits for goes on.

        Returns:
            In how many seconds the next sign of life, or the answer, is due at the latest; None while the function is still at
            work.

        Raises:
            UnknownRecord, Conflict, ScriptRefused: as for :meth:`complete`.
        """
        called = await self._board.called(token)
        return await self._board.beat_callback(called, by=somebody() if by is None else by)
