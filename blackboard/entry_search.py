"""Which entries fit: of those that are live, by the indexes of the scope, and of those that were once, by its log.

The server knows topics and links; conditions are told here, over what it brings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import from_json

from blackboard import predicates, topics
from blackboard.blobs import Blob
from blackboard.ending import end
from blackboard.entry import Entry, Fold, aged, link_members, member, owner_of_entry, place
from blackboard.errors import BadInput
from blackboard.meaning import Ranked
from blackboard.predicates import Predicate, Where

if TYPE_CHECKING:
    from blackboard.entry_reading import EntryReading

MOST_FOUND = 1000
"""Most entries of one answer."""
LOOK_AT = 50_000
"""Facts a query looks at, at most, before it returns what it has and where to go on."""
RELATIONS = ("supports", "contradicts", "answers", "derived_from")
_PAGE = 100
_FILTERED = 250
"""How many entries one call brings where conditions are told here: more of them hold the server up for others."""
_TURN = 5 * 50
"""After how many texts of a reply others have their turn."""


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


class Search(NamedTuple):
    """What is looked for."""

    pattern: str
    where: Sequence[Predicate]
    links_to: str | None
    rel: str | None
    limit: int
    after: str | None

    @classmethod
    def of(
        cls, pattern: str, where: Where, links_to: str | None, rel: str | None, limit: int, after: str | None
    ) -> Search:
        """A search, if it can be made.

        Raises:
            BadInput: a malformed pattern, condition or id.
        """
        topics.check_pattern(pattern)
        wanted = predicates.parse(where)
        if not 1 <= limit <= MOST_FOUND:
            raise BadInput("limit", limit, f"Give 1 to {MOST_FOUND}.")
        if rel is not None and (rel not in RELATIONS or links_to is None):
            raise BadInput("rel", rel, f"Give links_to, and one of {', '.join(RELATIONS)}.")
        if links_to is not None:
            owner_of_entry(links_to)
        return cls(pattern, wanted, links_to, rel, limit, after)

    def place(self, entry: Entry) -> str:
        """Where an entry is found: in the index of topics, or once in that of what links to an entry."""
        if self.links_to is None:
            return member(entry)
        return min(one for one in link_members(entry) if one.startswith(f"{self.links_to}\0{self.rel or ''}"))

    def fits(self, entry: Entry) -> bool:
        """Whether an entry, with its content, fulfils the conditions."""
        return all(one.fits(entry.content, entry.attributes) for one in self.where)


async def now(reading: EntryReading, search: Search, load: bool = True) -> Found:
    """The live entries that fit; see :meth:`~blackboard.entry_reading.EntryReading.query`."""
    links_to, rel = search.links_to, search.rel
    if links_to is None:
        index, (low, high), behind = "topic", topics.span(search.pattern), topics.behind(search.pattern)
    else:
        start = f"{links_to}\0{rel}\0" if rel else f"{links_to}\0"
        index, low, high, behind = "link", f"[{start}", f"({start[:-1]}\1", ("", "")
    said = [one for one in search.where if not one.path.startswith("@")]
    kept: list[Entry] = []

    async def bring(start: str) -> list[str]:
        want = _FILTERED if search.where else min(_PAGE, search.limit - len(kept))
        return await reading.call("entry_query", index, start, high, search.pattern, want, *behind)

    reply = await bring(low if search.after is None else f"({search.after}")
    position, lapse, looked = place(reply[0]), None, 0
    ahead: asyncio.Task[list[str]] | None = None
    try:
        while True:
            _, cursor, ms, *rows = reply
            # Where one page of candidates was not enough, another one is on its way while the conditions are told.
            if cursor and search.where and 0 < looked < LOOK_AT - _FILTERED:
                ahead = asyncio.create_task(bring(f"({cursor}"))
            if ms:
                lapse = int(ms) / 1000 if lapse is None else min(lapse, int(ms) / 1000)
            looked += max(len(rows) // 5, _FILTERED if search.where else _PAGE)
            for at in range(0, len(rows), 5):
                if at % _TURN == 0:
                    await asyncio.sleep(0)  # what is to be brought meanwhile is sent, and others have their turn
                entry_id, header, kind, fact, where = rows[at : at + 5]
                if said and not _may_fit(fact, said):
                    continue
                entry = reading.entry(entry_id, header, kind, fact)
                if links_to is not None and where != search.place(entry):
                    continue  # it links there twice, and is found by the other one
                entry = await reading.loaded(entry) if load or search.where else entry
                if search.fits(entry):
                    kept.append(entry)
                    if len(kept) == search.limit:
                        more = at + 5 < len(rows) or bool(cursor)
                        return Found(tuple(kept), position, where if more else None, lapse)
            if not cursor:
                return Found(tuple(kept), position, lapse=lapse)
            if looked >= LOOK_AT:
                return Found(tuple(kept), position, cursor, lapse)
            reply, ahead = await (ahead or bring(f"({cursor}")), None
    finally:
        await end([ahead] if ahead is not None else ())


async def then(reading: EntryReading, search: Search, at: str, load: bool = True) -> Found:
    """What was live and fitted at a position."""
    kept: list[Entry] = []
    last = ""
    fold = await reading.past(at)
    for where, entry in await fitting(reading, fold, search, search.limit + 1):
        if len(kept) == search.limit:
            return Found(tuple(kept), at, last)
        kept.append(await reading.loaded(entry) if load else entry)
        last = where
    return Found(tuple(kept), at)


async def fitting(
    reading: EntryReading, fold: Fold, search: Search, limit: int | None = None
) -> list[tuple[str, Entry]]:
    """What was live then and fits, each with where it stood, in that order."""
    placed = sorted(((search.place(entry), entry) for entry in _meant(fold, search)), key=lambda one: one[0])
    found: list[tuple[str, Entry]] = []
    for where, entry in placed:
        if (search.after is not None and where <= search.after) or (limit is not None and len(found) == limit):
            continue
        if search.fits(await reading.loaded(entry) if search.where else entry):
            found.append((where, entry))
    return found


def _meant(fold: Fold, search: Search) -> Iterator[Entry]:
    """What was live then and fits topic and links."""
    for entry in (aged(one, fold.now) for one in fold.entries.values()):
        if (
            entry.state == "live"
            and topics.matches(search.pattern, entry.topic)
            and (
                search.links_to is None
                or any(one.to == search.links_to and search.rel in (None, one.rel) for one in entry.links)
            )
        ):
            yield entry


def _may_fit(fact: str, said: Sequence[Predicate]) -> bool:
    """Whether what a fact says fulfils conditions on its content, told before an entry is made of it; a content that is stored
    apart may."""
    content = from_json(fact)["content"]
    return Blob.of(content) is not None or all(one.fits(content, {}) for one in said)
