"""What people say to tasks that wait for them: to list, approve, refuse and answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from blackboard.approvals import Waiting, task_of
from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.taint import PERSON
from registry import Registry
from wrapper.fitting import unfit

_LISTED_PROBLEMS = 10


class Approvals:
    """The tasks of one board that wait for a person.

    Args:
        board: an open board; closing it is the caller's business.
        registry: where the schemas of capabilities are, for arguments that somebody changes.
    """

    def __init__(self, board: Board, registry: Registry) -> None:
        self._board, self._registry = board, registry

    async def list(self, *, run_id: str | None = None, tenant: str | None = None) -> list[Waiting]:
        """What waits for an answer, the one whose time is over first first.

        Args:
            run_id: only of this run.
            tenant: only of this one's.
        """
        found = await self._board.waiting_for_people()
        return [each for each in found if run_id in (None, each.run_id) and tenant in (None, each.tenant)]

    async def approve(
        self,
        id: str,
        *,
        arguments: Mapping[str, JsonValue] | None = None,
        tenant: str | None = None,
        by: str | None = None,
        source: str = PERSON,
    ) -> str:
        """Let a task be done with exactly what was asked about, or with other arguments.

        Args:
            id: as :meth:`list` has it, the beginning of it, or the id of the task.
            arguments: what the task is to be given instead; it is on record who said so.
            tenant: only if it is that one's.
            by: who answers. Default: the user of this process.
            source: where new arguments come from; see ``docs/taint.md``.

        Returns:
            The id of the task.

        Raises:
            BadInput: several are meant, or the arguments do not fit the capability.
            UnknownRecord: nothing of this name waits.
            Conflict: somebody answered before; the message names who.
            ScriptRefused: ``EXPIRED``, the time was over. ``OVER``, the task or its run was stopped. ``NOT_ASKED``, somebody else
                is asked. ``KIND``, it is a question: :meth:`answer` it.
        """
        waiting, task_id = await self._meant(id, tenant)
        if arguments is not None and waiting is not None:
            await self._fits(waiting, arguments)
        await self._board.answer_person(
            task_id, "approved", by=somebody() if by is None else by, tenant=tenant,
            given=None if arguments is None else dict(arguments), label="" if arguments is None else source,
        )  # fmt: skip
        return task_id

    async def refuse(self, id: str, *, reason: str = "", tenant: str | None = None, by: str | None = None) -> str:
        """Refuse a task, which ends as ``refused``, or to answer a question.

        Args:
            id, tenant, by: as for :meth:`approve`.
            reason: for the planning model and the audit.

        Raises:
            BadInput, UnknownRecord, Conflict, ScriptRefused: as for :meth:`approve`.
        """
        _, task_id = await self._meant(id, tenant)
        who = somebody() if by is None else by
        await self._board.answer_person(task_id, "refused", by=who, tenant=tenant, text=reason)
        return task_id

    async def answer(
        self, id: str, text: str, *, tenant: str | None = None, by: str | None = None, source: str = PERSON
    ) -> str:
        """Answer what a planning model asks.

        Args:
            id, tenant, by: as for :meth:`approve`.
            text: the answer; one of the options, where there are any.
            source: where it comes from.

        Raises:
            BadInput: an empty answer, one that is no option, or several questions are meant.
            UnknownRecord, Conflict, ScriptRefused: as for :meth:`approve`; ``KIND``, it is no question.
        """
        if not text.strip():
            raise BadInput("answer", text, "Say something, or refuse.")
        waiting, task_id = await self._meant(id, tenant)
        options = await self._options(waiting)
        if options and text not in options:
            raise BadInput("answer", text, f"Use one of: {', '.join(map(json.dumps, options))}.")
        who = somebody() if by is None else by
        await self._board.answer_person(task_id, "answered", by=who, tenant=tenant, text=text, label=source)
        return task_id

    async def arguments(self, id: str, *, tenant: str | None = None) -> JsonValue:
        """All that a waiting task is given, where a listing shows the beginning.

        Raises:
            UnknownRecord, BadInput: as for :meth:`approve`.
            BlobError: it is large and cannot be had.
        """
        waiting, _ = await self._meant(id, tenant)
        if waiting is None:
            raise BadInput("id", id, "It does not wait any more; list what waits.")
        return await self._board.arguments_of(waiting)

    async def _meant(self, word: str, tenant: str | None) -> tuple[Waiting | None, str]:
        """What waits under a name, and the task's id. A task that does not wait any more says why when it is answered."""
        there = [each for each in await self.list(tenant=tenant) if word]
        found = [each for each in there if word in (each.id, each.task_id)]
        found = found or [each for each in there if each.id.startswith(word)]
        if len(found) > 1:
            raise BadInput("id", word, f"Several are meant; give more of it: {', '.join(each.id for each in found)}.")
        return (found[0], found[0].task_id) if found else (None, task_of(word))

    async def _fits(self, waiting: Waiting, arguments: Mapping[str, Any]) -> None:
        manifest = (await self._registry.resolve(waiting.capability, waiting.version)).manifest
        found = await unfit(manifest, dict(arguments))
        if found:
            raise BadInput(
                "arguments", dict(arguments),
                f"They do not fit {waiting.capability}: {'; '.join(found[:_LISTED_PROBLEMS])}. Nothing was answered.",
            )  # fmt: skip

    async def _options(self, waiting: Waiting | None) -> list[str]:
        if waiting is None or waiting.kind != "question":
            return []
        asked = await self._board.arguments_of(waiting)
        options = asked.get("options") if isinstance(asked, dict) else None
        return [str(each) for each in options] if isinstance(options, list) else []
