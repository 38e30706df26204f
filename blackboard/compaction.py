"""Compaction: what counts no more leaves the log of a scope, and one summary of it stays.

Facts before a position that were superseded, and entries that had expired, been retracted, taken or erased by then, go; as of
that position and of every later one the scope reads as before. What had come before is refused by name, and nothing else.

It works in bounded steps, each one script: some facts go with what they were found by and with the operations that wrote them,
and the summary takes the place of the one before. A process that dies leaves what the next call finishes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from blackboard import _script, contents, entry_log, events
from blackboard.audit import Audit
from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.entry import ENDS, FACTS, owner_of, place, stream_id
from blackboard.entry_log import PRELUDE, Mark, order
from blackboard.errors import BadInput, Stale
from blackboard.events import Event, ScopeCompactedData
from blackboard.sealing import added, line_of, under
from blackboard.standing import Standings

OLDER_SECONDS = 30 * 86_400.0
"""What is younger stays, unless a call says otherwise."""
STEP = 200
"""Facts that one step takes out, at most."""
TOPICS = 200
"""Topics a summary counts by; of more, it counts by how they begin."""
_OPERATIONS = 500
_ROUNDS = 100


@dataclass(slots=True)
class Compaction:
    """What was taken out of a scope."""

    scope: str
    facts: int = 0
    """Facts that are gone."""
    entries: int = 0
    """Entries nothing is left of."""
    contents: int = 0
    """Large contents that were stored apart."""
    readable_from: str | None = None
    """The first position that can be read as it was; None where all can."""


@dataclass(slots=True)
class _Unit:
    """Facts about one entry that go together."""

    entry: str
    topic: str
    facts: list[Event]
    last: str = ""
    """Position of the entry's last fact where nothing is left of it."""


@dataclass(slots=True)
class _Plan:
    """What can go up to a position."""

    upto: str
    ms: float
    units: list[_Unit]
    facts: list[Event]
    """All there are about entries."""
    vacant: dict[str, str] = field(default_factory=dict[str, str])
    """Topics nothing will be left on, and their versions."""
    ends: dict[str, _Unit] = field(default_factory=dict[str, _Unit])
    """What goes last of each topic."""
    operations: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Operations that are forgotten, by the position of the fact they go with. The one that posted an entry goes with the
    entry's last fact: done again before, it would begin what is there anew."""


async def compact(
    board: Board,
    scope: str,
    *,
    before: str | None = None,
    older_than: float = OLDER_SECONDS,
    at_least: int = 1,
    dry_run: bool = False,
    by: str | None = None,
) -> Compaction:
    """Take out of a scope's log what counts no more. Any number of processes may do it at once; repeat it after a failure.

    What a standing watch of the scope has not come to yet stays, whatever its age.

    Args:
        scope: ``public``, ``session:NAME``, ``tenant:NAME`` or ``group:NAME``. A run's log is what the run was.
        before: take out what counted no more as of this position. Default: as of ``older_than``.
        older_than: seconds. Facts that are younger stay, and so do the operations that wrote them: the same operation later
            than that may be done again where nothing is left of what it wrote.
        at_least: do nothing where fewer facts than so many can count no more, which costs little to see.
        dry_run: take nothing out and tell what would be.
        by: who asks, for the audit. Default: the user of this process.

    Raises:
        BadInput: a run, no scope, no position, or an age that is none.
        BlobUnavailable: a large content cannot be removed; nothing that refers to it was taken out.
    """
    owner = owner_of(scope)
    if ":" not in owner:
        raise BadInput("scope", scope, "Name a scope that lasts: the log of a run goes with the run.")
    if not 0 <= older_than < float("inf"):
        raise BadInput("older_than", older_than, "Give an age in seconds, 0 for all there is.")
    some = _Scope(board, scope, owner, before, older_than, by)
    enough = at_least <= 1 or await some.superfluous() >= at_least
    return await some.compact(dry_run) if enough else some.done


class _Scope:
    def __init__(
        self, board: Board, scope: str, owner: str, before: str | None, older_than: float, by: str | None
    ) -> None:
        self._board, self._owner, self._by = board, owner, by
        self._before, self._older_than = before, older_than
        self._shard = board.shard_of(owner)
        self._client: Any = board.client
        self.done = Compaction(scope)

    async def superfluous(self) -> int:
        """How many facts can count no more, at most: each entry that is found has one that counts."""
        log, (*_, index, _, ends) = self._shard.log(self._owner), self._shard.entries(self._owner)
        now = await self._now()
        facts: int = await self._board.repeated(lambda: self._client.xlen(log))
        found: int = await self._board.repeated(lambda: self._client.zcard(index))
        expired: int = await self._board.repeated(lambda: self._client.zcount(ends, "-inf", now))
        return facts - found + expired

    async def compact(self, dry_run: bool) -> Compaction:
        done, noted = self.done, False
        began: ScopeCompactedData | None = None
        for _ in range(_ROUNDS):
            now = await self._now()
            mark, log = await entry_log.whole(self._board, self._owner)
            done.readable_from = mark.readable_from
            summary = ScopeCompactedData(number=0, readable_from="", boundary_ms=0)
            for one in log:
                if one[1]["type"] == events.ScopeCompacted.kind:
                    summary = cast(ScopeCompactedData, self._event(one).data)
            began = began or summary
            done.facts, done.entries = summary.facts - began.facts, summary.entries - began.entries
            facts = [self._event(one) for one in log if one[1]["type"].startswith(FACTS)]
            plan = self._plan(mark, facts, now, await self._watched())
            if plan is None or not (plan.units or (summary.number and summary.kept is None)):
                return done
            if dry_run:
                done.facts = sum(len(one.facts) for one in plan.units)
                done.entries = sum(bool(one.last) for one in plan.units)
                done.readable_from = place(plan.upto) if plan.units else done.readable_from
                return done
            if not noted and plan.units:
                await Audit(self._board).note("entries.compacted", done.scope, by=self._by, reason="", detail={})
                noted = True
            if (made := await self._carry_out(plan, mark, summary)) is not None:
                done.facts, done.entries = made.facts - began.facts, made.entries - began.entries
                done.readable_from = made.readable_from
                if made.kept is not None and done.facts * 4 > made.kept:
                    await entry_log.rewrite(self._board, self._owner)  # a stream keeps the room of what left it
                return done
        raise Stale("STALE", f"{done.scope} is being compacted by too many at once; try again")

    # ---- what can go -------------------------------------------------------------------------------------------------

    async def _watched(self) -> str | None:
        """The position that the last of the standing watches of the scope has come to; None where there is none."""
        every = await Standings(self._board).list()
        mine = [one.after for one in every if owner_of(one.standing.scope) == self._owner]
        return min((place(after) if after != "-" else "" for after in mine), default=None)

    def _plan(self, mark: Mark, facts: list[Event], now: float, watched: str | None) -> _Plan | None:
        found = self._boundary(mark, facts, now, watched)
        if found is None:
            return None
        upto, ms = found
        sequence = place(upto)
        about: dict[str, list[Event]] = {}
        for fact in facts:
            about.setdefault(fact.subject, []).append(fact)
        units = [unit for entry, told in about.items() for unit in _units(entry, told, sequence, ms)]
        left: dict[str, int] = {}
        for fact in facts:
            left[fact.data.topic] = left.get(fact.data.topic, 0) + 1
        for unit in units:
            left[unit.topic] -= len(unit.facts)
        vacant = {topic: "" for topic, count in left.items() if not count}
        return _Plan(upto, ms, units, facts, vacant, {unit.topic: unit for unit in units})

    def _boundary(
        self, mark: Mark, facts: Sequence[Event], now: float, watched: str | None
    ) -> tuple[str, float] | None:
        """The position up to which facts go, and its time: never before what was said already."""
        if self._before is None:
            limit = math.floor(now - self._older_than * 1000)
            size = next((n for n, fact in enumerate(facts) if fact.data.at_ms > limit), len(facts))
        else:
            limit, end = now, _position(self._before)
            size = next((n for n, fact in enumerate(facts) if fact.sequence > end), len(facts))
        if watched is not None:
            size = min(size, sum(fact.sequence <= watched for fact in facts))
        known = (mark.upto, mark.ms) if mark.upto else None
        if not size:
            return known
        last = facts[size - 1]
        # Between that fact and the next nothing happened but that time went on.
        upto, ms = stream_id(last.sequence), last.data.at_ms
        if size == len(facts) or facts[size].data.at_ms > limit:
            ms = max(ms, limit)
        if known is not None and order(upto) <= order(mark.upto):
            return mark.upto, max(ms, mark.ms) if order(upto) == order(mark.upto) else mark.ms
        return upto, ms

    # ---- taking it out -----------------------------------------------------------------------------------------------

    async def _carry_out(self, plan: _Plan, mark: Mark, summary: ScopeCompactedData) -> ScopeCompactedData | None:
        """The last summary; None where somebody else went on meanwhile: look again."""
        at = mark.at
        await self._look_up(plan)
        gone = {fact.sequence for unit in plan.units for fact in unit.facts}
        # From here on nobody reads what is about to go; its large contents go before the facts that alone name them.
        summary = _with(summary, plan, readable_from=place(plan.upto), boundary_ms=plan.ms)
        if plan.units:
            if (step := await self._step(at, summary, plan, ())) is None:
                return None
            at = step
            await self._contents(plan, gone)
        for batch in _batches(plan.units):
            summary = _with(summary, plan, batch)
            if (step := await self._step(at, summary, plan, batch)) is None:
                return None
            at = step
        left = [fact for fact in plan.facts if fact.sequence not in gone]
        summary = _with(summary, plan).model_copy(
            update={
                "kept": len(left), "kept_upto": plan.facts[-1].sequence if plan.facts else place(plan.upto),
                "kept_sha256": added("", map(line_of, left)),
            }
        )  # fmt: skip
        return None if await self._step(at, summary, plan, ()) is None else summary

    async def _step(self, at: str, summary: ScopeCompactedData, plan: _Plan, batch: Sequence[_Unit]) -> str | None:
        operations = [name for unit in batch for fact in unit.facts for name in plan.operations.get(fact.sequence, ())]
        flat: list[str | int] = []
        for unit in batch:
            vacant = plan.vacant.get(unit.topic, "") if plan.ends[unit.topic] is unit else ""
            flat += [unit.entry, unit.last, unit.topic, vacant, len(unit.facts)]
            flat += [stream_id(fact.sequence) for fact in unit.facts]
        keys = [
            *self._shard.declare_entries(self._owner), self._shard.rewritten(self._owner), self._shard.compacted(self._owner)
        ]  # fmt: skip
        reply = await _script.run(
            self._client, _script.load("entry_compact", PRELUDE), keys,
            [
                self._owner, at, summary.number, plan.upto, f"{plan.ms:.0f}", summary.model_dump_json(), len(operations),
                *operations, *flat,
            ],
            recover=self._board.engine.ensure,
        )  # fmt: skip
        return str(reply[0]) if reply else None

    async def _look_up(self, plan: _Plan) -> None:
        """Which operations wrote what goes, and versions of topics on which nothing will be left."""
        gone = {stream_id(fact.sequence): fact.sequence for unit in plan.units for fact in unit.facts}
        ends = {unit.entry: place(unit.last) for unit in plan.units if unit.last}
        _, versions, operations, *_ = self._shard.entries(self._owner)
        cursor = 0
        while gone:
            cursor, page = await self._scan(operations, cursor)
            for name, said in page.items():
                _, entry, version, at = said.split(" ")
                goes_with = ends.get(entry) if version == "1" else gone.get(at)
                if goes_with is not None:
                    plan.operations.setdefault(goes_with, []).append(name)
            if not int(cursor):
                break
        topics = list(plan.vacant)
        for start in range(0, len(topics), _OPERATIONS):
            some = topics[start : start + _OPERATIONS]
            said = await self._board.repeated(lambda names=some: self._client.hmget(versions, names))
            plan.vacant.update({name: value or "" for name, value in zip(some, said, strict=True)})
        # Whoever wrote on one of them before its version was read is in the log by now; whoever does later changes it.
        if topics:
            for fact in await self._since(plan):
                plan.vacant.pop(fact.data.topic, None)

    async def _scan(self, key: str, cursor: int) -> tuple[int, dict[str, str]]:
        return await self._board.repeated(lambda: self._client.hscan(key, cursor, count=_OPERATIONS))

    async def _contents(self, plan: _Plan, gone: Collection[str]) -> None:
        """Remove large contents to which nothing else refers."""
        kept = {blob.digest for fact in plan.facts if fact.sequence not in gone and (blob := _blob(fact)) is not None}
        blobs = {blob.digest: blob for unit in plan.units for fact in unit.facts if (blob := _blob(fact)) is not None}
        for digest, blob in blobs.items():
            if digest in kept:
                continue
            self.done.contents += await contents.remove(
                self._board, self._owner, blob, stream_id(plan.facts[-1].sequence)
            )

    async def _since(self, plan: _Plan) -> list[Any]:
        """Facts that were written after the plan was made."""
        found: list[Any] = []
        async for page in entry_log.pages(self._board, self._owner, f"({stream_id(plan.facts[-1].sequence)}"):
            found += [self._event(one) for one in page.events if one[1]["type"].startswith(FACTS)]
        return found

    async def _now(self) -> float:
        """The server's clock, in milliseconds."""
        (now,) = await _script.run(
            self._client, _script.load("entry_read", PRELUDE), self._shard.declare_entries(self._owner), [self._owner],
            recover=self._board.engine.ensure,
        )  # fmt: skip
        return float(now)

    def _event(self, one: entry_log.Logged) -> Any:
        return events.parse(*one, self._owner, self._board.source)


def _units(entry: str, told: list[Event], upto: str, ms: float) -> Iterator[_Unit]:
    """What can go of one entry: all of it where it was over by then, else what it said before."""
    contents = [fact for fact in told if isinstance(fact.data, events.EntryPostedData) and fact.sequence <= upto]
    if not contents:
        return
    says: Any = contents[-1].data
    over = told[-1].kind in ENDS or (says.expires_ms is not None and says.expires_ms <= ms)
    over = over and told[-1].sequence <= upto
    # Whoever holds what has expired may still take it for good.
    over = over and not getattr(told[-1].data, "until_ms", 0) > ms
    # An earlier version did not write into an amendment when the entry was posted, which only the first fact tells then.
    if not over and not getattr(says, "posted", ""):
        return
    topic = told[0].data.topic
    # Oldest first, so that what is left of it at any time begins with something it said; with that the rest goes at once.
    before = told[: told.index(contents[-1])]
    whole = told[len(before) :] if over else []
    for start in range(0, len(before), STEP):
        yield _Unit(entry, topic, before[start : start + STEP])
    if whole:
        yield _Unit(entry, topic, whole, stream_id(told[-1].sequence))


def _batches(units: Iterable[_Unit]) -> Iterator[list[_Unit]]:
    batch: list[_Unit] = []
    size = 0
    for unit in units:
        if batch and size + len(unit.facts) > STEP:
            yield batch
            batch, size = [], 0
        batch.append(unit)
        size += len(unit.facts)
    if batch:
        yield batch


def _with(summary: ScopeCompactedData, plan: _Plan, batch: Sequence[_Unit] = (), **more: Any) -> ScopeCompactedData:
    """The next summary: that of before, and what goes with it."""
    facts = [fact for unit in batch for fact in unit.facts]
    topics = {topic: dict(kinds) for topic, kinds in summary.topics.items()}
    for fact in facts:
        kinds = topics.setdefault(under(fact.data.topic, topics) or fact.data.topic, {})
        kind = fact.kind.removeprefix(FACTS)
        kinds[kind] = kinds.get(kind, 0) + 1
    ends = sorted([one for one in (summary.first, summary.last) if one] + [fact.sequence for fact in facts])
    return summary.model_copy(
        update={
            "number": summary.number + 1, "first": ends[0] if ends else "", "last": ends[-1] if ends else "",
            "facts": summary.facts + len(facts), "entries": summary.entries + sum(bool(unit.last) for unit in batch),
            "topics": _fewer(topics), "sha256": added(summary.sha256, map(line_of, facts)), "kept": None,
            "kept_upto": "", "kept_sha256": "", **more,
        }
    )  # fmt: skip


def _fewer(topics: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The same counts by how topics begin, where there are too many."""
    size = 15
    while len(topics) > TOPICS and size >= 0:
        shorter: dict[str, dict[str, int]] = {}
        for topic, kinds in topics.items():
            words = topic.removesuffix(".>").split(".") if topic != ">" else []
            cut = ".".join([*words[:size], ">"]) if len(words) > size else topic
            into = shorter.setdefault(cut, {})
            for kind, count in kinds.items():
                into[kind] = into.get(kind, 0) + count
        topics, size = shorter, size - 1
    return topics


def _blob(fact: Event) -> Blob | None:
    return Blob.of(fact.data.content) if isinstance(fact.data, events.EntryPostedData) else None


def _position(text: str) -> str:
    try:
        return place(text)
    except ValueError:
        raise BadInput("before", text, "Pass the position of a fact.") from None
