"""Putting dead letters back: one or many, each as a run of its own, exactly once however often it is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from arbiter import calls, rerunning
from arbiter.calls import Call
from arbiter.fabrications import FABRICATOR_LANE
from blackboard import dead_letters
from blackboard.board import Board, run_id_of
from blackboard.dead_letters import FullLetter, Letter, Where
from blackboard.errors import ArbiterError, BadInput, Conflict, EngineUnavailable, UnknownRecord
from blackboard.types import Record
from registry import Registry

if TYPE_CHECKING:
    from arbiter.display import Letters


class Redriven(Record):
    """What became of one letter that was to be put back."""

    letter: Letter
    run_id: str | None = None
    """The run that was made of it; None in a rehearsal, and when it could not be."""
    problem: str = ""
    """Why it could not be."""


class DeadLetters(dead_letters.DeadLetters):
    """The dead letters of a board, with what is needed to put them back.

    Args:
        board: an open board; closing it is the caller's business.
        registry: of the board; says which version of a capability is active now.
    """

    def __init__(self, board: Board, registry: Registry) -> None:
        super().__init__(board)
        self._registry = registry

    async def list(self, where: str | Where = "", *, limit: int = 50, after: str | None = None) -> Letters:
        """The same page, which shows itself as a table in notebooks."""
        from arbiter.display import Letters

        page = await super().list(where, limit=limit, after=after)
        return Letters(letters=page.letters, after=page.after)

    async def redrive(self, id: str, *, same_version: bool = False, again: bool = False, rerun: bool = False) -> str:
        """Make a new run of a letter: of a task a direct call with its input, of a run a run with the same request.

        Tenant and limits are the old ones. A letter that was put back already has its run, which is returned; so is the
        run of a call that died before it could tell.

        Args:
            same_version: of a capability, the version that failed. Default: the one that is active now.
            again: make another run of a letter that was put back before.
            rerun: of a run, let the new one take over what succeeded in it; see ``docs/rerun.md``.

        Returns:
            The id of the run.

        Raises:
            UnknownRecord: no such letter.
            BadInput: it cannot be put back: the capability is gone, its input does not fit any more, refers to a task that
                did not succeed, or was removed with its run.
            QuotaExceeded: the board or the tenant has as many runs as it may.
            EngineUnavailable, BlobError: try again; nothing happens twice.
        """
        letter = await self.header(id)
        if letter.redriven_as is not None and not again:
            return letter.redriven_as
        # Which time it is, is part of the key: whoever puts it back at the same time makes the same run.
        key = f"redrive\0{id}\0{letter.redriven}"
        run_id = run_id_of(letter.tenant, key)
        try:
            await self._board.summary(run_id)
        except UnknownRecord:
            try:
                run_id = await self._submit(await self.get(id), key, same_version, rerun)
            except Conflict:  # somebody else asked for another version meanwhile
                pass
        await self.mark(letter, run_id)
        return run_id

    async def redrive_where(
        self,
        where: str | Where = "",
        *,
        same_version: bool = False,
        again: bool = False,
        rerun: bool = False,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> AsyncGenerator[Redriven, None]:
        """Put back every letter that is meant, newest first, and tell of each. One that cannot be does not stop the others.

        Args:
            where: which, as text or as a :class:`~blackboard.dead_letters.Where`. Letters that were put back already are
                left alone unless ``again``.
            rerun: of runs among them, as for :meth:`redrive`.
            limit: stop after so many.
            dry_run: put nothing back and tell what would be.

        Raises:
            BadInput: a term that cannot be understood.
            EngineUnavailable: the server stayed unreachable; call again for the rest.
        """
        done = 0
        async for letter in self.walk(where):
            if letter.redriven and not again:
                continue
            if done == limit:
                return
            done += 1
            if dry_run:
                yield Redriven(letter=letter)
                continue
            try:
                run_id = await self.redrive(letter.id, same_version=same_version, again=again, rerun=rerun)
            except EngineUnavailable:
                raise
            except ArbiterError as error:
                yield Redriven(letter=letter, problem=str(error))
            else:
                yield Redriven(letter=letter, run_id=run_id)

    async def _submit(self, full: FullLetter, key: str, same_version: bool, rerun: bool) -> str:
        letter, payload = full.letter, await self.payload(full)
        if payload is None:
            raise BadInput("letter", letter.id, "The log of its run is gone. Submit the work again.")
        if letter.kind == "run" and rerun:
            of = await rerunning.predecessor(self._board, letter.run_id)
            return await rerunning.submit(self._board, of, idempotency_key=key, redrive_of=letter.id)
        if letter.kind == "run":
            return await self._board.submit(
                payload, tenant=letter.tenant, idempotency_key=key, limits=full.limits, redrive_of=letter.id,
                taint=full.taint, plan=full.plan,
            )  # fmt: skip
        if letter.kind == "fabrication" or letter.lane == FABRICATOR_LANE:
            return await self._board.submit_call(
                letter.capability or "", payload, lane=FABRICATOR_LANE, kind="fabrication", tenant=letter.tenant,
                idempotency_key=key, limits=full.limits, seconds=full.limits.seconds, redrive_of=letter.id,
                taint=full.taint,
            )  # fmt: skip
        call = Call(
            letter.capability or "",
            cast("dict[str, JsonValue]", payload),
            letter.version if same_version else None,
            full.call.priority if full.call else 5,
        )
        return await calls.submit(
            self._board, self._registry, call, tenant=letter.tenant, idempotency_key=key, limits=full.limits,
            redrive_of=letter.id, taint=full.taint,
        )  # fmt: skip
