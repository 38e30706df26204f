"""Reading entries: one, those that fit, what they said before, and what happens to them now.

What is live is found by the indexes of the scope; the past is folded from its log.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic_core import from_json

from blackboard import _script, entry_log, events, meaning, predicates, topics
from blackboard._calling import STEP_LANE, Calling
from blackboard.blobs import Blob
from blackboard.entry import (
    FACTS,
    Entry,
    Fold,
    aged,
    link_members,
    member,
    owner_of,
    owner_of_entry,
    place,
    stored,
    stream_id,
    told,
    unheld,
)  # fmt: skip
from blackboard.entry_log import PRELUDE, order
from blackboard.errors import BadInput, UnknownRecord
from blackboard.events import Event, Relation
from blackboard.meaning import ABOUT_CHARACTERS, MOST_RANKED, Meaning, Ranked
from blackboard.predicates import Predicate, Where

MOST_FOUND = 1000
"""Most entries of one answer."""
LOOK_AT = 50_000
"""Facts a query looks at, at most, before it returns what it has and where to go on."""
RELATIONS = ("supports", "contradicts", "answers", "derived_from")
_PAGE = 100
_FILTERED = 250
"""How many entries one call brings where conditions are told here: more of them hold the server up for others."""
_RECENT = 4096
"""Facts a watch remembers, to tell what a failover undid and put others in its place."""


@dataclass(frozen=True, slots=True)
class Found:
    """Entries that were found, by topic and then in the order they were posted; the best first where they were ranked."""

    entries: tuple[Entry, ...]
    position: str
    """Of the newest fact of the log when the search began: a watch from here tells all that came after."""
    after: str | None = None
    """Give it to the next call for more; None when there is no more."""
    lapse: float | None = None
    """Seconds until the first lease lapses of what is held and would fit topic and links; None where nothing is, or unknown."""
    ranks: tuple[Ranked, ...] = ()
    """How well each answers to what was asked, in the same order; empty where nothing was."""


class EntryReading:
    """The operations on a scope that change nothing."""

    def __init__(self, board: Calling, scope: str, meaning: Meaning | None = None) -> None:
        self.scope, self.owner = scope, owner_of(scope)
        self._board, self._meaning = board, meaning
        self._shard = board.shard_of(self.owner)

    async def read(self, entry_id: str, *, at: str | None = None, load: bool = True) -> Entry | None:
        """One entry, whatever became of it; None when there is none.

        Args:
            at: as it was at this position of the log.
            load: False leaves a large content where it is.

        Raises:
            BadInput: not an id of this scope, or not a position.
            Compacted: what happened at that position was compacted.
            BlobError: a large content cannot be had.
        """
        self._mine(entry_id)
        if at is not None:
            found = (await self._past(at)).then(entry_id)
        else:
            now, *rows = await self._reading("entry_read", entry_id)
            found = self._entry(rows[0], int(now) / 1000) if rows else None
        return await self._loaded(found) if found is not None and load else found

    async def query(
        self,
        pattern: str = ">",
        where: Where = (),
        *,
        about: str | None = None,
        links_to: str | None = None,
        rel: Relation | None = None,
        limit: int = 100,
        after: str | None = None,
        at: str | None = None,
        load: bool = True,
    ) -> Found:
        """The live entries that fit.

        What is found in one answer, up to about a megabyte, is as it was at one moment; a longer search goes on while others
        write. ``at`` makes all of it one moment.

        Args:
            pattern: of topics: ``claims.*.4711``, ``claims.>``.
            where: conditions on the content, see :mod:`blackboard.predicates`.
            about: rank those that fit by how well they answer to this, in words; what has nothing in common with it is left
                out, ``limit`` is at most :data:`~blackboard.meaning.MOST_RANKED`, and there is no ``after``. What is written
                meanwhile is in the answer or not; nothing in it is outdated.
            links_to: only entries that link to this one, of ``rel`` if it is given.
            limit: most entries of the answer, at most :data:`MOST_FOUND`.
            after: where the answer before ended.
            at: as of this position of the log.

        Raises:
            BadInput: a malformed pattern, condition, id or position; ``about`` where nothing ranks, or with too much to rank.
            Compacted: what happened at that position was compacted.
            ModelUnavailable: ``about``, and the encoder cannot be reached.
            BlobError: a large content cannot be had.
        """
        topics.check_pattern(pattern)
        wanted = predicates.parse(where)
        if not 1 <= limit <= MOST_FOUND:
            raise BadInput("limit", limit, f"Give 1 to {MOST_FOUND}.")
        if rel is not None and (rel not in RELATIONS or links_to is None):
            raise BadInput("rel", rel, f"Give links_to, and one of {', '.join(RELATIONS)}.")
        if links_to is not None:
            owner_of_entry(links_to)
        if about is not None:
            return await self._ranked(about, pattern, wanted, links_to, rel, limit, after, at, load)
        if at is not None:
            return await self._query_past(pattern, wanted, links_to, rel, limit, after, at, load)
        index, low, high = "topic", *topics.span(pattern)
        if links_to is not None:
            start = f"{links_to}\0{rel}\0" if rel else f"{links_to}\0"
            index, low, high = "link", f"[{start}", f"({start[:-1]}\1"
        kept: list[Entry] = []
        position = ""
        lapse: float | None = None
        looked = 0
        said = [one for one in wanted if not one.path.startswith("@")]
        while True:
            want = _FILTERED if wanted else min(_PAGE, limit - len(kept))
            seen, cursor, ms, *rows = await self._reading(
                "entry_query", index, low if after is None else f"({after}", high, pattern, want
            )
            position = position or place(seen)
            if ms:
                lapse = int(ms) / 1000 if lapse is None else min(lapse, int(ms) / 1000)
            looked += max(len(rows), want)
            for number, row in enumerate(rows):
                if said and not _may_fit(row[3], said):
                    continue
                entry = self._entry(row, None)
                if index == "link" and row[-1] != _member(entry, links_to, rel):
                    continue  # it links there twice, and is found by the other one
                entry = await self._loaded(entry) if load or wanted else entry
                if all(one.fits(entry.content, entry.attributes) for one in wanted):
                    kept.append(entry)
                    if len(kept) == limit:
                        more = number < len(rows) - 1 or bool(cursor)
                        return Found(tuple(kept), position, row[-1] if more else None, lapse)
            if not cursor:
                return Found(tuple(kept), position, lapse=lapse)
            after = cursor
            if looked >= LOOK_AT:
                return Found(tuple(kept), position, after, lapse)

    async def history(self, entry_id: str, *, load: bool = True) -> list[Entry]:
        """All an entry has said, oldest first: its chain of supersession, as far as it was not compacted.

        Raises:
            UnknownRecord: there is no such entry.
            BlobError: a large content cannot be had.
        """
        last = await self._known(entry_id, load=False)
        chain: list[Entry] = []
        position: str | None = last.position
        while position is not None:
            at = stream_id(position)
            page: list[tuple[str, dict[str, str]]] = await self._retry(
                lambda p=at: cast(Any, self._board.client).xrange(self._shard.log(self.owner), p, p)
            )
            if not page:
                break  # compacted
            entry = told(self._event(*page[0]), last)
            assert entry is not None, "the chain leads through posted and amended facts"
            chain.append(await self._loaded(entry) if load else entry)
            position = entry.supersedes
        return chain[::-1]

    async def topic_version(self, topic: str) -> int:
        """How many facts were written on a topic, for ``expect_topic``."""
        key = self._shard.entries(self.owner)[1]
        client: Any = self._board.client
        return int(await self._retry(lambda: client.hget(key, topics.check_topic(topic))) or 0)

    async def position(self) -> str:
        """The position of the newest fact of the scope's log."""
        seen, *_ = await self._reading("entry_query", "topic", "[\0", "(\0", "", 1)
        return place(seen)

    async def watch(
        self, pattern: str = ">", where: Where = (), *, after: str | None = None, load: bool = True
    ) -> AsyncGenerator[Event, None]:
        """The facts on some topics, as they happen: each once, in their order, none left out.

        The log is the source and is read again when notifications fail to come. In the scope of a run it ends with the run.

        Args:
            pattern: of topics.
            where: conditions on what is posted or amended; retractions and takings are told whatever they say.
            after: the position (or the ``sequence`` of an event) after which to begin; ``-`` for all there is. Default: now.

        Raises:
            BadInput: a malformed pattern, condition or position.
            Compacted: facts that were to be told next were compacted.
        """
        topics.check_pattern(pattern)
        wanted = predicates.parse(where)
        start = after if after == "-" else stream_id(_position(after)) if after else stream_id(await self.position())
        board, cursor, recent = self._board, start, deque[str](maxlen=_RECENT)
        reached = "" if start == "-" else start
        async with contextlib.aclosing(board.feed.changes(self._shard, self.owner)) as changes:
            async for rewound in changes:
                # A replica that became primary may lack the end of what was read and give its places to other facts.
                told_before = set(recent) if rewound else set[str]()
                if rewound:
                    cursor = recent[0] if len(recent) == _RECENT else start
                more = True
                while more:
                    page = await entry_log.page(board, self.owner, "-" if cursor == "-" else f"({cursor}")
                    if reached:
                        page.mark.check("after", reached)
                    for position, fields in page.events:
                        cursor = position
                        if position in told_before:
                            continue
                        recent.append(position)
                        if not reached or order(position) > order(reached):
                            reached = position
                        if fields["type"] == events.RunCompleted.kind:
                            return
                        if not fields["type"].startswith(FACTS):
                            continue
                        event = self._event(position, fields)
                        if topics.matches(pattern, event.data.topic):
                            event = await self._with_content(event) if load or wanted else event
                            if _fits(event, wanted):
                                yield event
                    more = page.more

    # ---- for the index of meanings -----------------------------------------------------------------------------------

    @property
    def board(self) -> Calling:
        """The board it reads."""
        return self._board

    @property
    def log_key(self) -> str:
        """Where the facts are."""
        return self._shard.log(self.owner)

    async def several(self, entry_ids: Sequence[str]) -> list[Entry]:
        """Those of some entries that there are, as they are now; large contents stay where they are."""
        now, *rows = await self._reading("entry_read", *entry_ids)
        return [self._entry(row, int(now) / 1000) for row in rows]

    async def server_time(self) -> float:
        """The server's clock, in seconds since the epoch."""
        return int((await self._reading("entry_read"))[0]) / 1000

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _mine(self, entry_id: str) -> None:
        if owner_of_entry(entry_id) != self.owner:
            raise BadInput("entry", entry_id, f"It is not of scope {self.scope}; use within().")

    async def _retry(self, command: Callable[[], Any]) -> Any:
        return await _script.retrying(
            lambda: cast(Awaitable[Any], command()), seconds=self._board.engine.patience_seconds
        )

    async def _reading(self, name: str, *args: str | int) -> Any:
        return await _script.run(
            self._board.client, _script.load(name, PRELUDE), self._shard.declare_entries(self.owner), [self.owner, *args],
            recover=self._board.engine.ensure,
        )  # fmt: skip

    async def _writing(self, name: str, *args: str | int) -> Any:
        """Call a script that a run's agenda notices."""
        if ":" in self.owner:
            return await self._reading(name, *args)
        return await _script.run(
            self._board.client, _script.load(name, "_noticing"), self._shard.declare_noticing(STEP_LANE, self.owner),
            [1, STEP_LANE, self.owner, *args], recover=self._board.engine.ensure,
        )  # fmt: skip

    def _event(self, position: str, fields: Mapping[str, str]) -> Event:
        return events.parse(position, fields, self.owner, self._board.source)

    def _entry(self, row: Sequence[str], now: float | None) -> Entry:
        entry_id, raw, kind, data, *_ = row
        header = json.loads(raw)
        fields = {"type": kind, "subject": entry_id, "id": f"{entry_id}:{int(header['ver'])}", "data": data}
        entry = stored(header, self._event(header["pos"], fields))
        return unheld(entry) if now is None else aged(entry, now)

    async def _known(self, entry_id: str, *, load: bool = True) -> Entry:
        found = await self.read(entry_id, load=load)
        if found is None:
            raise UnknownRecord("UNKNOWN", f"no entry {entry_id} on this board")
        return found

    async def _loaded(self, entry: Entry) -> Entry:
        if not isinstance(entry.content, Blob):
            return entry
        return replace(entry, content=await self._board.blobs.load(self.owner, entry.content))

    async def _with_content(self, event: Event) -> Event:
        if (blob := events.apart(event)) is None:
            return event
        content = await self._board.blobs.load(self.owner, blob)
        return event.model_copy(update={"data": event.data.model_copy(update={"content": content})})

    async def _past(self, at: str) -> Fold:
        mark, log = await entry_log.whole(self._board, self.owner, stream_id(_position(at)))
        mark.check("at", at)
        fold = Fold().apply(self._event(*one) for one in log if one[1]["type"].startswith(FACTS))
        fold.now = max(fold.now, mark.ms / 1000)
        return fold

    async def _ranked(
        self, about: str, pattern: str, wanted: Sequence[Predicate], links_to: str | None, rel: str | None, limit: int,
        after: str | None, at: str | None, load: bool,
    ) -> Found:  # fmt: skip
        if self._meaning is None:
            raise BadInput(
                "about", about, "Open these entries with what ranks them: registry.matching.passages.meaning()."
            )
        if not about.strip() or len(about) > ABOUT_CHARACTERS:
            raise BadInput("about", about[:80], f"Ask in 1 to {ABOUT_CHARACTERS:,} characters.")
        if after is not None:
            raise BadInput("after", after, "What is ranked has no next page; ask for more with limit.")
        if limit > MOST_RANKED:
            raise BadInput("limit", limit, f"Of what is ranked, ask for at most {MOST_RANKED}.")
        if at is None:
            entries, ranks, at = await meaning.query(
                self, self._meaning, about, pattern, wanted, links_to, rel, limit
            )  # fmt: skip
        else:
            fold = await self._past(at)
            live = [one for one in (aged(each, fold.now) for each in fold.entries.values()) if one.state == "live"]
            fitting = await self._fitting_past(fold, pattern, wanted, links_to, rel)
            entries, ranks = await meaning.query_past(
                self._meaning, about, [entry for _, entry in fitting], live, limit
            )  # fmt: skip
        if load:
            entries = [await self._loaded(entry) for entry in entries]
        return Found(tuple(entries), at, ranks=tuple(ranks))

    async def _query_past(
        self, pattern: str, wanted: Sequence[Predicate], links_to: str | None, rel: str | None, limit: int,
        after: str | None, at: str, load: bool,
    ) -> Found:  # fmt: skip
        kept: list[Entry] = []
        last = ""
        fold = await self._past(at)
        for where, entry in await self._fitting_past(fold, pattern, wanted, links_to, rel, after, limit + 1):
            if len(kept) == limit:
                return Found(tuple(kept), at, last)
            kept.append(await self._loaded(entry) if load else entry)
            last = where
        return Found(tuple(kept), at)

    async def _fitting_past(
        self, fold: Fold, pattern: str, wanted: Sequence[Predicate], links_to: str | None, rel: str | None,
        after: str | None = None, limit: int | None = None,
    ) -> list[tuple[str, Entry]]:  # fmt: skip
        """What was live then and fits, each with where it stood, in that order."""
        placed: list[tuple[str, Entry]] = []
        for entry in (aged(one, fold.now) for one in fold.entries.values()):
            meant = entry.state == "live" and topics.matches(pattern, entry.topic)
            if meant and (
                links_to is None or any(one.to == links_to and rel in (None, one.rel) for one in entry.links)
            ):
                placed.append((_member(entry, links_to, rel), entry))
        fitting: list[tuple[str, Entry]] = []
        for where, entry in sorted(placed, key=lambda one: one[0]):
            if (after is not None and where <= after) or (limit is not None and len(fitting) == limit):
                continue
            whole = await self._loaded(entry) if wanted else entry
            if all(one.fits(whole.content, whole.attributes) for one in wanted):
                fitting.append((where, entry))
        return fitting


def _position(text: str) -> str:
    if not re.fullmatch(r"\d{1,15}-\d{1,15}", text):
        raise BadInput("position", text, "Pass the position of a fact, or the sequence of an event.")
    return text


def _member(entry: Entry, links_to: str | None, rel: str | None) -> str:
    """Where an entry is found: in the index of topics, or once in that of what links to an entry."""
    if links_to is None:
        return member(entry)
    return min(one for one in link_members(entry) if one.startswith(f"{links_to}\0{rel or ''}"))


def _may_fit(fact: str, said: Sequence[Predicate]) -> bool:
    """Whether what a fact says fulfils conditions on its content, told before an entry is made of it; a content that is stored
    apart may."""
    content = from_json(fact)["content"]
    return Blob.of(content) is not None or all(one.fits(content, {}) for one in said)


def _fits(event: Event, wanted: Sequence[Predicate]) -> bool:
    entry = told(event, None)
    return entry is None or all(one.fits(entry.content, entry.attributes) for one in wanted)
