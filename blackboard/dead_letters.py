"""Dead letters: work that was given up, kept to be looked at, put back or discarded.

A letter is written by the very script that ends a task or a run, and is only a small header: what was given up, when and
why. Payload, attempts and reasons are in the run's log and are read from there.

A letter is written for

* a task of a round that ended ``failed`` or ``timed_out``, unless its error is a mistake of its caller, who is told and
  corrects it: ``bad_input``, ``input_schema``, ``unresolved_reference``. Tasks that end because their run does have none.
* a run that ended ``failed`` or ``timed_out``. A direct call and its only task are one letter, that of the run.

Each shard keeps the latest 10,000; older ones are dropped and counted. Retention removes letters with their run.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, cast

from pydantic import JsonValue

from blackboard import _keys, _script, references
from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.errors import BadInput, UnknownRecord
from blackboard.events import Called, RunAccepted, RunCompleted, TaskCompleted, TaskPosted, TaskRetried
from blackboard.runs import moment, terms
from blackboard.taint import UNKNOWN, Taint, merged, read
from blackboard.types import Completion, Failure, Limits, Record, Status

KINDS = ("capability", "fabrication", "call", "run")
_PAGE = 200
_REMEDY = (
    "Write terms like capability=price type=lease_lost,timeout status=failed tenant=acme kind=call run=r01 since=1h "
    'until=2026-01-31 redriven=no, with spaces between; a value with spaces in "quotes".'
)
_LISTS = ("capability", "tenant", "type", "status", "kind", "run")


class Letter(Record):
    """What is known of given-up work without reading its log."""

    id: str
    """Of the task or of the run."""
    run_id: str
    kind: Literal["capability", "fabrication", "call", "run"]
    """A task of a round, a direct call, or a run that a model planned."""
    capability: str | None = None
    """None for a run."""
    version: str | None = None
    lane: str | None = None
    tenant: str
    status: str
    """``failed`` or ``timed_out``."""
    type: str
    """Of the error, as in ``error.type``."""
    attempts: int = 0
    at: float
    """When it was given up, in seconds since the epoch on the server's clock."""
    redriven: int = 0
    """How often it was put back."""
    redriven_as: str | None = None
    """The run that was made of it last."""


class Try(Record):
    """One attempt that failed."""

    attempt: int
    at: float
    """When it ended, in seconds since the epoch on the server's clock."""
    error: Failure | None
    worker: str | None = None
    """Known of the last one only."""


class FullLetter(Record):
    """A letter with what its run's log says."""

    letter: Letter
    payload: JsonValue = None
    """The input of a task, or the request of a run; a :class:`~blackboard.blobs.Blob` where it is large."""
    tries: tuple[Try, ...] = ()
    """Oldest first, as far as the board knows them: an attempt that was given back is none."""
    error: Failure | None = None
    """Why it was given up in the end."""
    limits: Limits = Limits()
    """Of its run."""
    call: Called | None = None
    """What a direct call was accepted to do."""
    plan: tuple[dict[str, JsonValue], ...] = ()
    """Of a run, the steps it was given."""
    taint: Taint = UNKNOWN
    """Where the payload comes from."""


class Where(Record):
    """Which letters are meant; what is not given does not matter."""

    capability: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    since: float | None = None
    """Given up then or later, in seconds since the epoch on the server's clock."""
    until: float | None = None
    """Given up before."""
    redriven: bool | None = None

    @classmethod
    def parse(cls, text: str, *, now: float | None = None) -> Where:
        """The terms of a text such as ``capability=price type=lease_lost since=1h redriven=no``.

        Args:
            now: seconds since the epoch, for times that are given as an age. Default: this machine's clock.

        Raises:
            BadInput: a term that cannot be understood.
        """
        now = time.time() if now is None else now
        found: dict[str, Any] = {}
        for term, name, sign, value in terms(text, _REMEDY):
            if sign != "=":
                raise BadInput("where", term, _REMEDY)
            if name in _LISTS:
                found[name] = _listed(name, value)
            elif name in ("since", "until"):
                found[name] = moment(value, now=now, field=f"where.{name}")
            elif name == "redriven" and value in ("yes", "no"):
                found[name] = value == "yes"
            else:
                raise BadInput("where", term, _REMEDY)
        return cls.model_validate(found)

    def fits(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        named = (
            (self.capability, letter.capability), (self.tenant, letter.tenant), (self.type, letter.type),
            (self.status, letter.status), (self.kind, letter.kind), (self.run, letter.run_id),
        )  # fmt: skip
        return (
            all(not wanted or value in wanted for wanted, value in named)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (self.redriven is None or self.redriven == (letter.redriven > 0))
        )


class Page(Record):
    """Letters that were found, and where to go on."""

    letters: tuple[Letter, ...] = ()
    """Newest first."""
    after: str | None = None
    """Give it to :meth:`DeadLetters.list` for the next page; None when there is none."""


class DeadLetters:
    """The dead letters of a board.

    Args:
        board: an open board; closing it is the caller's business.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    async def list(self, where: str | Where = "", *, limit: int = 50, after: str | None = None) -> Page:
        """The latest letters that are meant, newest first.

        Args:
            where: which, as text or as a :class:`Where`.
            limit: letters in a page, at most.
            after: where the page before ended.

        Raises:
            BadInput: a term that cannot be understood, a limit below 1, or a malformed ``after``.
        """
        if limit < 1:
            raise BadInput("limit", limit, "Ask for at least one letter.")
        found: list[Letter] = []
        async for letter in self.walk(where, after=after):
            if len(found) == limit:
                last = found[-1]
                return Page(letters=tuple(found), after=f"{round(last.at * 1000)}-{last.id}")
            found.append(letter)
        return Page(letters=tuple(found))

    async def walk(self, where: str | Where = "", *, after: str | None = None) -> AsyncGenerator[Letter, None]:
        """Every letter that is meant, newest first. One that is written meanwhile is not among them.

        Raises:
            BadInput: as :meth:`list`.
        """
        meant = Where.parse(where) if isinstance(where, str) else where
        places = [] if after is None else [_position(after)]
        if meant.until is not None:
            places.append((math.ceil(meant.until * 1000), ""))
        begin = min(places, default=None)
        heads: list[tuple[Letter, AsyncGenerator[Letter, None]]] = []
        for shard in self._board.shards:
            await _next(self._shard(shard, meant, begin), heads)
        while heads:
            newest = max(heads, key=lambda head: (head[0].at, head[0].id))
            heads.remove(newest)
            letter, rows = newest
            if meant.fits(letter):
                yield letter
            await _next(rows, heads)

    async def _shard(
        self, shard: _keys.Shard, where: Where, place: tuple[int, str] | None
    ) -> AsyncGenerator[Letter, None]:
        """Letters of a shard before a place, newest first; of one millisecond in falling order of their ids."""
        client = cast(Any, self._board.client)
        least = "-inf" if where.since is None else str(math.floor(where.since * 1000))
        skip = 0
        while True:
            # By score and not by rank: ranks move while letters are written and discarded.
            top = "+inf" if place is None else str(place[0])
            rows: list[tuple[str, float]] = await _script.retrying(
                lambda top=top, skip=skip: client.zrevrangebyscore(
                    shard.deadx, top, least, start=skip, num=_PAGE, withscores=True
                )
            )
            fresh = [id for id, at in rows if place is None or (int(at), id) < place]
            if fresh:
                raws: list[str | None] = await _script.retrying(lambda ids=fresh: client.hmget(shard.dead, ids))
                for id, raw in zip(fresh, raws, strict=True):
                    if raw:
                        yield _letter(id, raw)
            if len(rows) < _PAGE:
                return
            place, skip = ((int(rows[-1][1]), rows[-1][0]), 0) if fresh else (place, skip + _PAGE)

    async def count(self) -> tuple[int, int]:
        """How many letters there are, and how many were dropped since the board was made because there were too many."""
        there = dropped = 0
        client = cast(Any, self._board.client)
        for shard in self._board.shards:
            there += int(await _script.retrying(lambda s=shard: client.zcard(s.deadx)))
            dropped += int(await _script.retrying(lambda s=shard: client.hget(s.dead, "")) or 0)
        return there, dropped

    async def header(self, id: str) -> Letter:
        """One letter without its payload.

        Raises:
            UnknownRecord: no such letter.
        """
        board = self._board
        shard = board.shard_of(id.partition("/")[0])
        client = cast(Any, board.client)
        raw: str | None = await _script.retrying(lambda: client.hget(shard.dead, id)) if id else None
        if raw is None:
            raise UnknownRecord("UNKNOWN", f"no dead letter {id!r} on board {board.namespace}/{board.name}")
        return _letter(id, raw)

    async def get(self, id: str) -> FullLetter:
        """One letter with payload, attempts and reasons, read from the log of its run.

        Raises:
            UnknownRecord: no such letter.
        """
        letter = await self.header(id)
        found = FullLetter(letter=letter)
        subject = f"{id}/0.call" if letter.kind == "call" else id
        tries: list[Try] = []
        brought: dict[str, Taint] = {}
        after: Sequence[str] = ()
        for event in await self._board.history(letter.run_id):
            at = event.time.timestamp()
            match event:
                case RunAccepted(data=data):
                    limits = Limits.model_validate(data.limits.model_dump())
                    found = found.model_copy(update={"limits": limits, "call": data.call})
                    if letter.kind == "run":
                        given = {"payload": data.request, "plan": data.plan, "taint": read(data.taint)}
                        found = found.model_copy(update=given)
                case TaskPosted(data=data) if event.subject == subject:
                    found = found.model_copy(update={"payload": data.input, "taint": read(data.taint)})
                    after = data.after
                case TaskRetried(data=data) if event.subject == subject:
                    tries.append(Try(attempt=data.attempt, at=at, error=data.error))
                case TaskCompleted(data=data) if event.subject == subject:
                    found = found.model_copy(update={"error": data.error})
                    if not tries or data.attempts > tries[-1].attempt:
                        tries.append(Try(attempt=data.attempts, at=at, error=data.error, worker=data.worker))
                case TaskCompleted(data=data):
                    brought[event.subject] = read(data.taint)
                case RunCompleted(data=data) if letter.kind in ("run", "call"):
                    found = found.model_copy(update={"error": data.error})
                case _:
                    pass
        parts = [brought.get(task, UNKNOWN) for task in after]
        return found.model_copy(update={"tries": tuple(tries), "taint": merged(found.taint, *parts)})

    async def payload(self, full: FullLetter) -> JsonValue:
        """The payload whole: large values loaded, references of a task's input replaced by what they stood for.

        Raises:
            BadInput: the input refers to a task that returned nothing, or its run's log is gone.
            BlobError: a large value cannot be had.
        """
        letter = full.letter
        payload = await self._board.load(letter.run_id, full.payload)
        named = set(references.keys(payload)) if letter.kind in ("capability", "fabrication") else set[str]()
        if not named:
            return payload
        results: dict[str, JsonValue] = {}
        after: Sequence[str] = ()
        ended: dict[str, Completion] = {}
        for event in await self._board.history(letter.run_id):
            if isinstance(event, TaskPosted) and event.subject == letter.id:
                after = event.data.after
            elif isinstance(event, TaskCompleted):
                ended[event.subject] = event.data
        for task in after:
            key, done = task.rpartition("/")[2].partition(".")[2], ended.get(task)
            if key in named and done is not None and done.status is Status.SUCCEEDED:
                results[key] = await self._board.load(letter.run_id, done.data)
        missing = sorted(named - results.keys())
        if missing:
            remedy = "Put the run back instead, or submit the work again."
            raise BadInput(
                "letter", letter.id, f"Its input refers to {', '.join(missing)}, which did not succeed. {remedy}"
            )
        return references.resolve(payload, results)

    async def mark(self, letter: Letter, run_id: str) -> None:
        """Write into a letter which run was made of it. Again, or after another marked it: nothing."""
        shard = self._board.shard_of(letter.run_id)
        await self._run("dead_mark", shard, letter.id, letter.redriven, run_id)

    async def discard(self, *ids: str, by: str | None = None) -> int:
        """Forget letters; the log of their runs stays as it is. Returns how many of them there were.

        Args:
            by: who does it, for the audit. Default: the user of this process.
        """
        gone, who = 0, somebody() if by is None else by
        for shard in self._board.shards:
            mine = [id for id in ids if id and self._board.shard_of(id.partition("/")[0]) is shard]
            for i in range(0, len(mine), _PAGE):
                gone += int(await self._run("dead_discard", shard, who, *mine[i : i + _PAGE]))
        return gone

    async def _run(self, name: str, shard: _keys.Shard, *args: str | int) -> Any:
        board = self._board
        return await _script.run(
            board.client, _script.load(name), shard.declare(()), [0, *args], recover=board.engine.ensure
        )


def _letter(id: str, raw: str) -> Letter:
    found: dict[str, Any] = json.loads(raw)
    return Letter.model_construct(
        id=id, run_id=found["run"], kind=found["kind"], capability=found.get("cap"), version=found.get("version"),
        lane=found.get("lane"), tenant=found["tenant"], status=found["status"], type=found["type"],
        attempts=int(found["att"]), at=found["at"] / 1000, redriven=int(found["n"]), redriven_as=found.get("as"),
    )  # fmt: skip


async def _next(rows: AsyncGenerator[Letter, None], heads: list[tuple[Letter, AsyncGenerator[Letter, None]]]) -> None:
    letter = await anext(rows, None)
    if letter is not None:
        heads.append((letter, rows))


def _listed(name: str, value: str) -> tuple[str, ...]:
    words = tuple(word for word in value.split(",") if word)
    known = {"kind": KINDS, "status": ("failed", "timed_out")}.get(name, words)
    if not words or any(word not in known for word in words):
        choice = f"one of {', '.join(known)}" if known is not words else "a name"
        raise BadInput(f"where.{name}", value, f"Name {choice}; several with commas.")
    return words


def _position(after: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d{1,16})-(.{1,300})", after)
    if match is None:
        raise BadInput("after", after, "Give what the page before said.")
    return int(match[1]), match[2]
