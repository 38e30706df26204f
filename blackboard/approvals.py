"""Tasks that wait for a person: asking, what waits, and the one answer that counts.

A worker that holds a task asks and lets go of it in one script. The task then waits like one that is delayed, without a lease
and without its attempt being spent, until somebody answered or its time is over; time stands still for it and for its run
meanwhile. Either way it is ready again, and whoever claims it finds in ``claim.said`` what became of the question. So it is the
task's own record that waits, and what ends, cancels or pauses a task ends, cancels and pauses this as well.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any, Literal, cast

from pydantic import JsonValue

from blackboard._calling import STEP_LANE, Calling
from blackboard._keys import Shard
from blackboard.approval import Terms
from blackboard.blobs import Blob
from blackboard.claims import Claim
from blackboard.errors import BadInput, UnknownRecord
from blackboard.payloads import PAYLOAD_BYTES, dump
from blackboard.types import Record

Kind = Literal["approval", "question"]
MOST_TEXT = 4_000
"""Characters of an answer or of a reason."""
SHOWN_CHARACTERS = 4_000
"""Characters of the arguments that a listing shows."""
_PAGE = 500


class Waiting(Record):
    """A task that waits for a person, as that person sees it."""

    id: str
    """The task's id without a slash; its beginning will do where it says which is meant."""
    kind: Kind
    """``approval``: may the task be done with these arguments? ``question``: the model asks something."""
    task_id: str
    run_id: str
    tenant: str
    capability: str
    version: str | None = None
    arguments: str
    """JSON: what the task is given, or the question. Its beginning, where ``whole`` is false."""
    argument_bytes: int
    whole: bool
    request: str = ""
    """The first characters of what the run was asked."""
    sources: tuple[str, ...] = ()
    """Where the arguments come from."""
    by: tuple[str, ...] = ()
    """Who may answer; empty for whoever can reach the board."""
    delegate: tuple[str, ...] = ()
    """Who may answer as well from ``delegate_at`` on."""
    delegate_at: float | None = None
    asked_at: float
    """Seconds since the epoch, on the server's clock; so are the others."""
    until: float
    """When the time is over. A pause of the run moves it on when it ends."""
    otherwise: str | None = None
    """What counts then: ``approve``, or the answer to a question. None: it is refused, or stays unanswered."""


class Approving(Calling):
    """The operations about tasks that wait for a person."""

    async def ask_person(
        self,
        claim: Claim,
        given: JsonValue,
        terms: Terms,
        *,
        kind: Kind = "approval",
        otherwise: str | None = None,
        version: str | None = None,
    ) -> None:
        """Let a task rest until a person answered, or the time of the terms is over; it is no longer held afterwards.

        Args:
            given: what it is asked about: all of the task's input, which is its input from here on.
            otherwise: what counts when nobody answers: ``approve``, or the answer to a question. None: nothing does.
            version: of the capability; the task keeps to it from here on.

        Raises:
            Fenced: the task is no longer held by this claim.
            BadInput, Oversized: what is asked about is not JSON, or too large.
            BlobUnavailable: it is large, and the store of large values cannot be used; the task is still held.
        """
        text = await self.blobs.check(claim.run_id, dump(given, "input", PAYLOAD_BYTES), given)
        ms, later = int(terms.seconds * 1000), int(terms.delegate_seconds * 1000)
        asked: dict[str, Any] = {
            "kind": kind, "ms": ms, "otherwise": otherwise, "by": [*terms.by], "delegate": [*terms.delegate],
            "dms": later if terms.delegate else None, "taint": [*claim.taint], "version": version,
        }  # fmt: skip
        await self._call(
            "ask", self.shard_of(claim.run_id), self._released(claim), claim.run_id,
            claim.task_id, claim.fence, ms, json.dumps({name: value for name, value in asked.items() if value}), text,
        )  # fmt: skip

    async def answer_person(
        self,
        task_id: str,
        state: Literal["approved", "refused", "answered"],
        *,
        by: str,
        tenant: str | None = None,
        text: str = "",
        label: str = "",
        given: JsonValue = None,
    ) -> None:
        """Answer for a person; exactly one answer to a question counts.

        Args:
            by: who answers.
            tenant: only if it is that one's.
            text: the answer to a question, or why something is refused.
            label: the source of what is new in ``text`` or ``given``.
            given: what the task is to be given instead of what was asked about.

        Raises:
            Conflict: somebody answered before; the message names who.
            ScriptRefused: ``EXPIRED``, the time was over. ``OVER``, the task or its run was stopped. ``NOT_ASKED``, it is for
                somebody else. ``KIND``, an approval is not answered with words, nor a question with an approval.
            UnknownRecord: no such task, or it waits for nobody.
            BadInput, Oversized: a text that is too long, or a value that is not JSON.
        """
        if len(text) > MOST_TEXT:
            raise BadInput("text", f"{len(text)} characters", f"Use at most {MOST_TEXT:,}.")
        run_id = task_id.partition("/")[0]
        shard = self.shard_of(run_id)
        raw = await self._read(lambda: self.client.hget(shard.tasks, task_id))
        header: dict[str, Any] = json.loads(raw) if raw else {}
        if not header or tenant not in (None, header["tenant"]):
            raise UnknownRecord("UNKNOWN", f"no task {task_id} waits for a person on this board")
        instead = ""
        if given is not None:
            instead = await self.blobs.check(run_id, dump(given, "arguments", PAYLOAD_BYTES), given)
        await self._call(
            "answer", shard, sorted({STEP_LANE, header["lane"]}), run_id,
            task_id, secrets.token_hex(8), state, by, text, label, instead, confirm=self.confirm,
        )  # fmt: skip

    async def waiting_for_people(self) -> list[Waiting]:
        """Every task that waits for a person, the one whose time is over first first."""
        found: list[Waiting] = []
        for shard in self.shards:
            start = 0
            while ids := await self._waiting(shard, start):
                found += await self._asked_of_people(shard, ids)
                start += _PAGE
        return sorted(found, key=lambda each: (each.until, each.id))

    async def _waiting(self, shard: Shard, start: int) -> list[tuple[str, float]]:
        return await self._read(
            lambda: cast(Any, self.client).zrange(shard.wait, start, start + _PAGE - 1, withscores=True)
        )

    async def _asked_of_people(self, shard: Shard, ids: Sequence[tuple[str, float]]) -> list[Waiting]:
        """Those of some waiting tasks, each given with when it is due in ms, that wait for a person."""
        raw = await self._read(lambda: self.client.hmget(shard.tasks, [id for id, _ in ids]))
        headers = {id: json.loads(text) for (id, _), text in zip(ids, raw, strict=True) if text}
        asked = {id: t for id, t in headers.items() if "ask" in t and t["state"] in ("delayed", "paused")}
        if not asked:
            return []
        due, runs = dict(ids), [t["run"] for t in asked.values()]

        def read() -> Any:
            pipe: Any = self.client.pipeline(transaction=False)
            pipe.hmget(shard.data, [*asked])
            pipe.hmget(shard.runs, runs)
            return pipe.execute()

        inputs, told = await self._read(read)
        found: list[Waiting] = []
        for (id, t), given, run in zip(asked.items(), inputs, told, strict=True):
            if given is None or run is None:
                continue  # it ended meanwhile
            until = t["pz"] + t["ms"] if t["state"] == "paused" else due[id]
            found.append(_shown(id, t, given, json.loads(run), until))
        return found

    async def arguments_of(self, waiting: Waiting) -> JsonValue:
        """All that a waiting task is given.

        Raises:
            BlobError: it is large and cannot be had.
            BadInput: the task waits no more.
        """
        shard = self.shard_of(waiting.run_id)
        text = await self._read(lambda: self.client.hget(shard.data, waiting.task_id))
        if text is None:
            raise BadInput("id", waiting.id, "It does not wait any more; list what waits.")
        value = cast(JsonValue, json.loads(text))
        return await self.blobs.load(waiting.run_id, Blob.of(value) or value)


def task_of(id: str) -> str:
    """The id of the task that a :attr:`Waiting.id` names; that of a task is itself."""
    return id if "/" in id else id.replace(".", "/", 1)


def _shown(id: str, t: dict[str, Any], text: str, run: dict[str, Any], until: float) -> Waiting:
    ask = t["ask"]
    blob = Blob.of(json.loads(text)) if text.startswith('{"$blob":') else None
    if blob is not None:
        shown, size = blob.beginning, blob.bytes
    else:
        shown, size = text, len(text)
    return Waiting(
        id=id.replace("/", ".", 1), kind=ask["kind"], task_id=id, run_id=t["run"], tenant=t["tenant"], capability=t["cap"],
        version=t.get("version"), arguments=shown[:SHOWN_CHARACTERS], argument_bytes=size,
        whole=blob is None and size <= SHOWN_CHARACTERS, request=run["text"], sources=tuple(ask.get("taint", ())),
        by=tuple(ask.get("by", ())), delegate=tuple(ask.get("delegate", ())),
        delegate_at=(until - ask["ms"] + ask["dms"]) / 1000 if "dms" in ask else None,
        asked_at=ask["at"] / 1000, until=until / 1000, otherwise=ask.get("otherwise"),
    )  # fmt: skip
