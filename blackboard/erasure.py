"""Forgetting on demand: what somebody wrote, what a run or a tenant did, taken off the board; the log stays verifiable.

For each scope, in steps that may each be repeated, so that whoever asks again after a crash finishes it:

1. What still says something of it ends with a fact ``entry.erased``: from here on nobody finds it or amends it.
2. Large contents that are stored apart go.
3. The log is copied, fact by fact to the same positions, with what is to be erased replaced by who erased it and when; the
   copy takes the place of the log in one step.
4. Operations forget with what content they were done.

It is on record before it begins. Runs that are over are removed whole, as by retention.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from blackboard import _keys, _script, contents, events, runs
from blackboard.audit import Audit, somebody
from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.entry import FACTS, owner_of, owner_of_entry, scope_of
from blackboard.entry_log import PRELUDE, owners, rewrite
from blackboard.entry_reading import EntryReading
from blackboard.errors import BadInput, ScriptRefused, UnknownRecord
from blackboard.events import Author, Erasure
from blackboard.retention import retire
from blackboard.types import Status

NOBODY = "erased"
"""The name an author has after what it wrote was erased."""
_PAGE = 200
_OPERATIONS = 500
_BLIND = "erased "
_ROUNDS = 100

Meant = Callable[[events.EntryFactData], bool]


@dataclass(slots=True)
class Erased:
    """What was erased."""

    facts: int = 0
    """Facts that say nothing any more."""
    entries: int = 0
    """Entries that ended by it."""
    contents: int = 0
    """Large contents that were stored apart."""
    scopes: list[str] = field(default_factory=list[str])
    """Those it was found in."""
    runs: list[str] = field(default_factory=list[str])
    """Those that were removed."""
    left: list[str] = field(default_factory=list[str])
    """What could not be erased yet, and why: ask again when it is over."""


@dataclass(frozen=True, slots=True)
class _Fact:
    position: str
    subject: str
    raw: str
    data: events.EntryFactData


async def erase(
    board: Board,
    *,
    author: str | None = None,
    run: str | None = None,
    tenant: str | None = None,
    scope: str | None = None,
    by: str | None = None,
    reason: str = "",
) -> Erased:
    """Take what somebody wrote, or what a run or a tenant did, off the board. Repeat it after a failure; it goes on.

    Args:
        author: everything this person, program, event or capability wrote, in every scope.
        run: the run with everything that is its own, and what was made of its entries elsewhere. It must be over.
        tenant: the same of all its runs, and the tenant's own entries.
        scope: of an author: look only here.
        by: who asks. Default: the user of this process.
        reason: for the record; at most 2,000 characters.

    Raises:
        BadInput: not exactly one of author, run and tenant; a run that is not over; a scope that is none.
        BlobUnavailable: a large content cannot be removed; nothing of its scope was rewritten.
    """
    given = {name: value for name, value in (("author", author), ("run", run), ("tenant", tenant)) if value}
    if len(given) != 1:
        raise BadInput("erase", sorted(given), "Name exactly one: an author, a run, or a tenant.")
    if scope is not None and author is None:
        raise BadInput("scope", scope, "Only what an author wrote can be erased in one scope.")
    if len(reason) > 2000:
        raise BadInput("reason", reason[:80], "Say it in at most 2,000 characters.")
    ((what, name),) = given.items()
    only = None if scope is None else owner_of(scope)
    ended, left = await _runs(board, run, tenant)
    # The name of an author is what may have to be forgotten: the record says that one was erased.
    subject = what if author is not None else f"{what}:{name}"
    await Audit(board).note(
        "entries.erased", subject, by=by, reason=reason, detail={} if scope is None else {"scope": scope}
    )
    done = Erased(left=left)
    who = Author(kind="person", name=by or somebody())
    if author is not None:

        def meant(fact: events.EntryFactData) -> bool:
            return fact.author.name == author

        async for owner in owners(board, only):
            await _Scope(board, owner, meant, who, reason, done).erase()
        return done
    gone = set(ended)
    async for owner in owners(board, only):
        if owner in gone:
            continue
        whole = owner == f"tenant:{tenant}"
        await _Scope(board, owner, lambda fact, w=whole: w or _of_runs(fact, gone), who, reason, done).erase()
    for run_id in ended:
        await retire(board, run_id)
        done.runs.append(run_id)
    return done


def _of_runs(fact: events.EntryFactData, gone: set[str]) -> bool:
    """Whether a run wrote a fact, or it was made of what is the run's."""
    if fact.author.run in gone:
        return True
    links = fact.links if isinstance(fact, events.EntryPostedData) else ()
    return any(link.rel == "derived_from" and owner_of_entry(link.to) in gone for link in links)


async def _runs(board: Board, run: str | None, tenant: str | None) -> tuple[list[str], list[str]]:
    """The runs that are meant and over, and what is to be said of those that are not."""
    if run is not None:
        try:
            found = [await board.summary(run)]
        except UnknownRecord:  # removed before; what it left elsewhere may still be there
            return [run], []
        if found[0].status not in set(Status):
            raise BadInput("run", run, f"It is {found[0].status}. Cancel it, or wait for its end.")
        return [run], []
    ended: list[str] = []
    left: list[str] = []
    after: str | None = None
    while tenant is not None:
        page = await runs.find(board, runs.Where(tenant=(tenant,)), limit=500, after=after)
        for one in page.runs:
            if one.status in set(Status):
                ended.append(one.id)
            else:
                left.append(f"run {one.id} is {one.status}")
        if page.after is None:
            break
        after = page.after
    return ended, left


class _Scope:
    """One scope from which something is erased."""

    def __init__(self, board: Board, owner: str, meant: Meant, who: Author, reason: str, done: Erased) -> None:
        self._board, self._owner, self._meant = board, owner, meant
        self._who, self._reason, self._done = who, reason, done
        self._shard: _keys.Shard = board.shard_of(owner)
        self._reading = EntryReading(board, scope_of(owner))
        self._client: Any = board.client

    async def erase(self) -> None:
        for _ in range(_ROUNDS):
            if not await self._end():
                break
        for _ in range(_ROUNDS):
            log = [fact async for fact in self._log()]
            chosen = self._chosen(log)
            if not chosen:
                break
            await self._contents(log, chosen)
            await self._rewrite(chosen)
            self._done.facts += len(chosen)
            if self._reading.scope not in self._done.scopes:
                self._done.scopes.append(self._reading.scope)
        await self._operations()

    async def _log(self) -> AsyncGenerator[_Fact, None]:
        start = "-"
        while True:
            page: list[tuple[str, dict[str, str]]] = await self._board.repeated(
                lambda at=start: self._client.xrange(self._reading.log_key, min=at, count=_PAGE)
            )
            for at, fields in page:
                if fields["type"].startswith(FACTS):
                    event = events.parse(at, fields, self._owner, self._board.source)
                    yield _Fact(at, event.subject, fields["data"], cast(events.EntryFactData, event.data))
            if len(page) < _PAGE:
                return
            start = "(" + page[-1][0]

    def _chosen(self, log: list[_Fact]) -> dict[str, _Fact]:
        """What is to be erased, by position: what is meant, and facts that only say the same once more."""
        chosen: dict[str, _Fact] = {}
        latest: dict[str, _Fact] = {}
        for fact in log:
            before = latest.get(fact.subject)
            if fact.data.erased is None and not isinstance(fact.data, events.EntryErasedData):
                repeated = before is not None and before.position in chosen and _same(before, fact)
                if self._meant(fact.data) or repeated:
                    chosen[fact.position] = fact
            if isinstance(fact.data, events.EntryPostedData):
                latest[fact.subject] = fact
        return chosen

    async def _end(self) -> bool:
        """End what still says something of it; False when there was nothing to end."""
        log = [fact async for fact in self._log()]
        chosen = self._chosen(log)
        says = {fact.subject: fact for fact in log if isinstance(fact.data, events.EntryPostedData)}
        goes_on = events.EntryPostedData | events.EntryLeasedData | events.EntryReturnedData
        over = {fact.subject for fact in log if not isinstance(fact.data, goes_on)}
        ended = 0
        for subject, fact in says.items():
            if fact.position not in chosen or subject in over:
                continue
            try:
                reply = await _script.run(
                    self._client, _script.load("entry_erase", PRELUDE), self._shard.declare_entries(self._owner),
                    [
                        self._owner, f"erase\0{fact.position}", "erased", "", "", "",
                        self._who.model_dump_json(exclude_none=True), self._reason, subject, fact.position,
                    ],
                    recover=self._board.engine.ensure,
                )  # fmt: skip
            except ScriptRefused as refusal:
                if refusal.code != "CLOSED":
                    raise
                return False  # a run that is over has nobody to be told: its log is rewritten and no more
            ended += bool(reply)
        self._done.entries += ended
        return ended > 0

    async def _contents(self, log: list[_Fact], chosen: Mapping[str, _Fact]) -> None:
        """Remove large contents to which nothing else refers."""
        kept = {blob.digest for fact in log if fact.position not in chosen and (blob := _blob(fact)) is not None}
        gone = {blob.digest: blob for fact in chosen.values() if (blob := _blob(fact)) is not None}
        for digest, blob in gone.items():
            if digest in kept:
                continue
            if ":" not in self._owner:  # tasks of the run may refer to it as well
                self._done.left.append(f"a large content of run {self._owner} stays until the run is removed")
                continue
            self._done.contents += await contents.remove(self._board, self._owner, blob, log[-1].position)

    async def _rewrite(self, chosen: Mapping[str, _Fact]) -> None:
        at_ms = round(await self._reading.server_time() * 1000)
        erasure = Erasure(by=self._who, at_ms=at_ms, reason=self._reason).model_dump(mode="json", exclude_none=True)
        left = {at: _tombstone(fact, erasure, named=not self._meant(fact.data)) for at, fact in chosen.items()}
        await rewrite(self._board, self._owner, left)

    async def _operations(self) -> None:
        """Let operations forget with what content they were done, where their facts say nothing any more."""
        positions = {fact.position async for fact in self._log() if fact.data.erased is not None}
        if not positions:
            return
        key = self._shard.entries(self._owner)[2]
        found: list[str] = []
        cursor = 0
        while True:
            cursor, page = await self._board.repeated(lambda at=cursor: self._client.hscan(key, at, count=_OPERATIONS))
            found += [
                name
                for name, said in cast("dict[str, str]", page).items()
                if said.rpartition(" ")[2] in positions and not said.startswith(_BLIND)
            ]
            if not int(cursor):
                break
        for start in range(0, len(found), _OPERATIONS):
            await _script.run(
                self._client, _script.load("entry_forget", PRELUDE), self._shard.declare_entries(self._owner),
                [self._owner, *found[start : start + _OPERATIONS]], recover=self._board.engine.ensure,
            )  # fmt: skip


def _same(one: _Fact, other: _Fact) -> bool:
    return json.loads(one.raw).get("content") == json.loads(other.raw).get("content", one)


def _blob(fact: _Fact) -> Blob | None:
    return Blob.of(fact.data.content) if isinstance(fact.data, events.EntryPostedData) else None


def _tombstone(fact: _Fact, erasure: Mapping[str, Any], *, named: bool) -> str:
    """What a fact says from now on: that it was, and what became of it; with the name of its author or without."""
    said: dict[str, Any] = json.loads(fact.raw)
    if "content" in said:
        said["content"] = None
    said.pop("salt", None)
    if "reason" in said:
        said["reason"] = ""
    if not named:
        said["author"] = {"kind": said["author"]["kind"], "name": NOBODY}
    said["erased"] = erasure
    return json.dumps(said, separators=(",", ":"))
