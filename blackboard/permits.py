"""Requests that would carry secrets, and what a person says to them.

Where the operator's :class:`~blackboard.taint.TaintPolicy` says ``ask``, a request of isolated code that content which is not
trusted led to is written down here as it is, without any secret, and its run rests. A person sees it and answers; the task
then asks again, and what was approved is exactly that request of exactly that task. Nothing waits for ever: a question that
nobody answered in time is answered no.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import BadInput, UnknownRecord
from blackboard.types import Record

ANSWER_SECONDS = 86_400.0
"""How long a question stands."""
MOST = 1000
"""Questions a board keeps; with so many of them open, no further request is asked about, and none is made."""
_URL_CHARACTERS, _VALUE_CHARACTERS, _BODY_CHARACTERS = 2_000, 500, 2_000

State = Literal["waiting", "approved", "refused", "expired"]


class Answer(NamedTuple):
    """What was said to a request so far."""

    state: State
    by: str = ""
    reason: str = ""


class Asked(Record):
    """A request as a person sees it, before any secret is filled in. Long parts are cut; the permit is for the whole."""

    method: str
    url: str
    headers: Mapping[str, str] = Field(default_factory=dict)
    body: str = ""
    """Its beginning, as text."""
    body_bytes: int = 0
    body_sha256: str = ""


class Permit(Record):
    """A request that would carry secrets, and what was said to it."""

    id: str
    state: State
    secrets: tuple[str, ...]
    """``HANDLE@host``, each."""
    sources: tuple[str, ...]
    """Sources that led to it and are not trusted; whoever approves it names them."""
    capability: str
    version: str
    run_id: str
    task_id: str
    tenant: str
    request: Asked
    asked_at: float
    """Seconds since the epoch, on the server's clock; so are the others."""
    until: float
    """Answered no from then on."""
    answered_at: float | None = None
    by: str = ""
    reason: str = ""


class Question(NamedTuple):
    """A request that would carry secrets, in full: its identity is a hash over all of it."""

    capability: str
    version: str
    secrets: tuple[str, ...]
    sources: tuple[str, ...]
    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def id_for(self, task_id: str) -> str:
        """The same for the same request of the same task, whatever attempt makes it."""
        whole = [task_id, *self[:6], [list(each) for each in self.headers], hashlib.sha256(self.body).hexdigest()]
        return hashlib.sha256(json.dumps(whole, ensure_ascii=True).encode()).hexdigest()[:24]

    def facts(self) -> dict[str, JsonValue]:
        """What of it is kept to be shown."""
        headers: dict[str, JsonValue] = {name: value[:_VALUE_CHARACTERS] for name, value in self.headers}
        request: dict[str, JsonValue] = {
            "method": self.method, "url": self.url[:_URL_CHARACTERS], "headers": headers,
            "body": self.body.decode("utf-8", "replace")[:_BODY_CHARACTERS], "body_bytes": len(self.body),
            "body_sha256": hashlib.sha256(self.body).hexdigest(),
        }  # fmt: skip
        return {
            "capability": self.capability, "version": self.version, "secrets": [*self.secrets],
            "sources": [*self.sources], "request": request,
        }  # fmt: skip


class Permits:
    """The requests of one board that a person has to permit.

    Args:
        board: an open board; closing it is the caller's business.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    async def ask(self, claim: Claim, question: Question) -> Answer:
        """What was said to a request of a task. Where nobody was asked yet, it is written down now.

        Raises:
            ScriptRefused: ``FULL``, too many wait already.
            EngineUnavailable: the server stayed unreachable: nothing was permitted.
        """
        id = question.id_for(claim.task_id)
        detail = _detail(id, question.secrets, question.sources)
        reply = await self._board.catalog.call(
            "catalog_permit_ask",
            [
                *(id, str(int(ANSWER_SECONDS * 1000)), claim.run_id, claim.task_id, claim.tenant),
                *(json.dumps(question.facts()), detail, claim.worker, str(MOST)),
            ],
        )
        return Answer(*reply)  # type: ignore[arg-type]

    async def rest(self, claim: Claim, question: Question) -> None:
        """Let the run of a task rest until its question was answered, and give the task back without spending its attempt.

        Raises:
            Fenced: the task is no longer held.
            EngineUnavailable: the server stayed unreachable; the task's lease will run out, and it asks again.
        """
        board = self._board
        reason = f"{claim.task_id} waits for a person to permit {', '.join(question.secrets)}"
        await board.pause_run(claim.run_id, reason[:500], seconds=ANSWER_SECONDS, by=claim.worker)
        await board.release(claim)
        # Whoever answered before the run rested found nothing to go on with.
        if (await self.ask(claim, question)).state != "waiting":
            await board.resume_run(claim.run_id, by=claim.worker)

    async def list(self, *, everything: bool = False) -> list[Permit]:
        """What waits for an answer, oldest first.

        Args:
            everything: also what was answered, or not in time, or is of a run that is over, as far as it is kept.
        """
        found = await self._read("")
        if everything:
            return [*found]
        waiting = [each for each in found if each.state == "waiting"]
        runs = {each.run_id for each in waiting}
        going = {run for run, over in zip(runs, await asyncio.gather(*map(self._over, runs)), strict=True) if not over}
        return [each for each in waiting if each.run_id in going]

    async def _over(self, run_id: str) -> bool:
        try:
            return (await self._board.summary(run_id)).ended_at is not None
        except UnknownRecord:
            return True

    async def approve(
        self, word: str, *, sources: Iterable[str] = (), tenant: str | None = None, by: str | None = None
    ) -> Permit:
        """Permit a request: its run goes on, and its task may make exactly that request.

        Args:
            word: its id, or the beginning of it.
            sources: every source that is not trusted and led to it, as :meth:`list` tells them: nobody permits what comes
                from them without having seen that it does.
            tenant: only if it is that one's.
            by: who answers. Default: the user of this process.

        Raises:
            BadInput: not all sources are named, or several requests are meant; nothing was done.
            UnknownRecord: no such request.
            Conflict: it was refused already.
            ScriptRefused: ``EXPIRED``, it was not answered in time.
            EngineUnavailable: the server stayed unreachable; sending the call again is safe.
        """
        permit, named = await self._meant(word, tenant), sorted(set(sources))
        if set(permit.sources) - set(named):
            raise BadInput(
                "sources", named, f"Content from {', '.join(permit.sources)} led to this request: look at it, "
                "then permit it by naming these sources.",
            )  # fmt: skip
        return await self._answer(permit, "approved", "", by)

    async def refuse(self, word: str, *, reason: str = "", tenant: str | None = None, by: str | None = None) -> Permit:
        """Refuse a request: its run goes on, and its task ends as ``refused``.

        Args:
            word: its id, or the beginning of it.
            reason: for the audit and the task's error.
            tenant: only if it is that one's.
            by: who answers. Default: the user of this process.

        Raises:
            BadInput, UnknownRecord, ScriptRefused, EngineUnavailable: as for :meth:`approve`.
            Conflict: it was approved already.
        """
        return await self._answer(await self._meant(word, tenant), "refused", reason, by)

    async def _answer(
        self, permit: Permit, answer: Literal["approved", "refused"], reason: str, by: str | None
    ) -> Permit:
        who = somebody() if by is None else by
        detail = _detail(permit.id, permit.secrets, permit.sources)
        await self._board.catalog.call("catalog_permit_answer", [permit.id, answer, who, reason, detail])
        # Also when it was answered so before: whoever did may have died before the run went on.
        await self._board.resume_run(permit.run_id, by=who)
        (answered,) = await self._read(permit.id)
        return answered

    async def _meant(self, word: str, tenant: str | None) -> Permit:
        found = [each for each in await self._read("") if word and each.id.startswith(word)]
        found = [each for each in found if tenant in (None, each.tenant)]
        if not found:
            raise UnknownRecord("UNKNOWN", f"no request {word} waits on this board")
        if len(found) > 1:
            raise BadInput("ID", word, f"Several are meant; give more of it: {', '.join(each.id for each in found)}.")
        return found[0]

    async def _read(self, id: str) -> Sequence[Permit]:
        reply = await self._board.catalog.call("catalog_permits", [id])
        now, rows = int(reply[0]), zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
        return sorted((_permit(now, *row) for row in rows), key=lambda each: (each.asked_at, each.id))


def _detail(id: str, secrets: Iterable[str], sources: Iterable[str]) -> str:
    return json.dumps({"permit": id, "secrets": [*secrets], "sources": [*sources]})


def _permit(now_ms: int, id: str, raw: str, facts: str) -> Permit:
    entry: dict[str, str] = json.loads(raw)
    late = entry["state"] == "waiting" and now_ms >= int(entry["until"])
    return Permit.model_validate(
        {
            **json.loads(facts),
            "id": id,
            "state": "expired" if late else entry["state"],
            "run_id": entry["run"],
            "task_id": entry["task"],
            "tenant": entry["tenant"],
            "asked_at": int(entry["asked"]) / 1000,
            "until": int(entry["until"]) / 1000,
            "answered_at": int(entry["at"]) / 1000 if entry["at"] else None,
            "by": entry["by"],
            "reason": entry["reason"],
        }
    )
