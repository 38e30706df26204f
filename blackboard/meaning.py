"""Finding entries by what they mean: an index of a scope in the process that asks, which follows the scope's log.

The index holds what is live at one position of the log and nothing else, so one that followed every change and one that
is built from nothing rank alike. How texts are ranked is handed in from above (:class:`Ranking`): by their words, or by the
vectors of an encoder. Filters come first: what does not fit topic, conditions and links is not ranked.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from pydantic import JsonValue
from pydantic_core import from_json

from blackboard import entry_log, events, topics
from blackboard.blobs import Blob
from blackboard.ending import end
from blackboard.entry import ENDS, FACTS, Entry, place
from blackboard.entry_log import Logged, order
from blackboard.errors import BadInput

if TYPE_CHECKING:
    from blackboard.entry_reading import EntryReading
    from blackboard.entry_search import Search

ABOUT_CHARACTERS = 4000
"""Longest question."""
TEXT_CHARACTERS = 4000
"""Characters of an entry's content that are read. Of a content that is stored apart it is the beginning its reference has."""
MOST_CHARACTERS = 20_000_000
"""Characters of content that one process keeps indexes of; scopes that were not asked for longest are dropped first."""
MOST_RANKED = 100
"""Most entries of an answer that is ranked."""
_SAYS = (events.EntryPosted.kind, events.EntryAmended.kind)
_HELD = (events.EntryLeased.kind, events.EntryReturned.kind)
_READ = 20
_ATTEMPTS = 8
_FITTING = 1000

T = TypeVar("T")


class Ranked(NamedTuple):
    """How well an entry answers to a question."""

    id: str
    score: float
    """0 for nothing in common, towards 1 the more of the question it answers to."""
    reasons: tuple[str, ...] = ()
    """What spoke for it, the weightiest first, in words."""


class Ranking(Protocol):
    """Ranks texts for a question.

    Adding and removing must leave it as if it had been built from the rest, in any order. It may block: it is called apart
    from the event loop, by one caller at a time.
    """

    def add(self, name: str, topic: str, text: str) -> None:
        """Know a text; replaces what was known under the name."""
        ...

    def remove(self, name: str) -> None:
        """Forget a text; nothing happens when it is not known."""
        ...

    def search(self, about: str, *, k: int, allowed: Callable[[str], bool]) -> Sequence[Ranked]:
        """The best at most ``k`` of those allowed that have anything to do with the question, best first."""
        ...


class Meaning:
    """The indexes of one board's scopes in this process.

    Args:
        ranking: makes the ranking of one scope.
        most_characters: of content, in all indexes together.
        words: makes a ranking by words alone. Default: ``ranking``.
        likeness: how near a text is to each of some questions, 0 to 1, beside what its words say; it may block.
    """

    def __init__(
        self,
        ranking: Callable[[], Ranking],
        *,
        most_characters: int = MOST_CHARACTERS,
        words: Callable[[], Ranking] | None = None,
        likeness: Callable[[str, Sequence[str]], Sequence[float]] | None = None,
    ) -> None:
        self.ranking, self._most = ranking, most_characters
        self._words, self._likeness = words or ranking, likeness
        self._indexes: OrderedDict[str, Index] = OrderedDict()

    @property
    def scopes(self) -> tuple[str, ...]:
        """Whose indexes are in memory, the one that was asked for last at the end."""
        return tuple(self._indexes)

    def size(self, owner: str) -> int:
        """How many entries of a scope its index has; it grows while the first question is answered."""
        index = self._indexes.get(owner)
        return 0 if index is None else len(index.known)

    def forget(self, owner: str) -> None:
        """Drop the index of a scope; the next question builds it anew."""
        self._indexes.pop(owner, None)

    def of(self, owner: str) -> Index:
        """The index of a scope, empty when it was not asked for lately."""
        index = self._indexes.setdefault(owner, Index(self.ranking()))
        self._indexes.move_to_end(owner)
        return index

    def past(self, entries: Iterable[Entry]) -> Index:
        """An index of its own, of what was live once."""
        index = Index(self.ranking())
        for entry in entries:
            index.put(entry)
        return index

    def scores(self, topic: str, content: JsonValue, abouts: Sequence[str]) -> list[float]:
        """How well one content answers to some questions, 0 to 1: by its words, or its likeness if that is greater.

        Nothing beside it counts, unlike in a ranking, so that it comes to the same whoever asks and when. It may block.

        Raises:
            ModelUnavailable: the encoder cannot be reached.
        """
        alone, text = self._words(), text_of(content)
        alone.add("it", topic, text)
        said = [max((one.score for one in alone.search(each, k=1, allowed=_any)), default=0.0) for each in abouts]
        return list(map(max, said, self._likeness(text, abouts))) if self._likeness is not None and text else said

    def within_bounds(self, owner: str) -> None:
        """Drop what was not asked for lately, until the rest is small enough.

        Raises:
            BadInput: the scope alone is too large.
        """
        while sum(index.characters for index in self._indexes.values()) > self._most:
            oldest = next(iter(self._indexes))
            self.forget(oldest)
            if oldest == owner:
                raise BadInput(
                    "about", owner,
                    f"Its live entries have more than {self._most:,} characters, too many to rank; find them by topic, or "
                    "retract what counts no more.",
                )  # fmt: skip


@dataclass(slots=True)
class _Known:
    version: int
    topic: str
    links: tuple[tuple[str, str], ...]
    """What it links to, and how."""
    expires_at: float | None
    characters: int


class Index:
    """What is live in one scope at one position of its log."""

    def __init__(self, ranking: Ranking) -> None:
        self.ranking = ranking
        self.lock = asyncio.Lock()
        self._now = 0.0
        self.clear(ranking)

    def clear(self, ranking: Ranking) -> None:
        """Begin again."""
        self.ranking = ranking
        self.position = "0-0"
        """Of the last fact it knows, as the stream has it."""
        self.mark = ""
        """The id of that fact: another one in its place means that a failover undid some of what was read."""
        self.compacted: str | None = None
        """Position of the summary of what was compacted, as of which it was read; None before anything was."""
        self.characters = 0
        self.known: dict[str, _Known] = {}
        self.held: dict[str, float] = {}
        """What somebody holds under a lease, and when that lapses, in seconds since the epoch; 0 for what was given back."""

    def put(self, entry: Entry) -> None:
        """Know an entry as it is now."""
        links = tuple((link.to, link.rel) for link in entry.links)
        self._know(entry.id, entry.version, entry.topic, entry.content, links, entry.expires_at)

    def _know(
        self, entry_id: str, version: int, topic: str, content: JsonValue, links: tuple[tuple[str, str], ...],
        expires_at: float | None,
    ) -> None:  # fmt: skip
        text = text_of(content)
        self.drop(entry_id)
        self.known[entry_id] = _Known(version, topic, links, expires_at, len(text) + 100)
        self.characters += len(text) + 100
        self.ranking.add(entry_id, topic, text)

    def again(self, asked: Iterable[str], entries: Iterable[Entry]) -> None:
        """Know what some entries that were held are now: those of them that there are."""
        for entry_id in asked:
            del self.held[entry_id]
        for entry in entries:
            if entry.state == "live":
                self.put(entry)
            elif entry.leased_until is not None:
                self.held[entry.id] = entry.leased_until

    def drop(self, entry_id: str) -> None:
        """Forget an entry."""
        if (known := self.known.pop(entry_id, None)) is not None:
            self.characters -= known.characters
            self.ranking.remove(entry_id)

    def apply(self, log: Sequence[Logged]) -> None:
        """Go on by some facts of the log, read without making events of them: there may be very many."""
        for position, fields in log:
            self.position, self.mark = position, fields["id"]
            kind, subject, data = fields["type"], fields["subject"], from_json(fields["data"])
            self.held.pop(subject, None)
            if kind in _SAYS:
                links = tuple((link["to"], link["rel"]) for link in data.get("links") or ())
                until = data.get("expires_ms")
                content = Blob.of(data["content"]) or data["content"]
                self._know(subject, data["version"], data["topic"], content, links, until and until / 1000)
            elif kind in _HELD:
                self.drop(subject)
                self.held[subject] = data.get("until_ms", 0) / 1000
            elif kind in ENDS:
                self.drop(subject)

    def expire(self, now: float) -> None:
        """Forget what has expired. Time only goes on here, also when another server's clock is behind."""
        self._now = max(now, self._now)
        for entry_id in [
            one for one, known in self.known.items() if known.expires_at and known.expires_at <= self._now
        ]:
            self.drop(entry_id)

    def back(self, now: float) -> list[str]:
        """The entries whose leases are over by a time."""
        return [one for one, until in self.held.items() if until <= now]

    def fits(self, pattern: str, links_to: str | None, rel: str | None) -> Callable[[str], bool]:
        """Which entries fit topic and links."""

        def fit(entry_id: str) -> bool:
            known = self.known[entry_id]
            return topics.matches(pattern, known.topic) and (
                links_to is None or any(to == links_to and rel in (None, how) for to, how in known.links)
            )

        return fit

    def same(self, versions: Mapping[str, int]) -> Callable[[str], bool]:
        """Which entries are among those given, in this very version."""
        return lambda entry_id: versions.get(entry_id) == self.known[entry_id].version


async def query(
    reading: EntryReading, meaning: Meaning, about: str, search: Search
) -> tuple[list[Entry], list[Ranked], str]:
    """The live entries that fit, best first, with what spoke for each, and the position they are of."""
    index = meaning.of(reading.owner)
    entries: list[Entry] = []
    ranked: Sequence[Ranked] = ()
    position = ""
    async with index.lock:
        try:
            for _ in range(_ATTEMPTS):
                position = await _follow(reading, meaning, index)
                fits = index.fits(search.pattern, search.links_to, search.rel)
                if search.where:
                    fits = index.same(await _fitting(reading, search))
                ranked = await _apart(partial(index.ranking.search, about, k=search.limit, allowed=fits))
                entries, same = await _read(reading, index, ranked)
                if same:
                    break
        except asyncio.CancelledError:
            meaning.forget(reading.owner)  # a thread may still be changing it
            raise
    found = {entry.id: entry for entry in entries}
    kept = [one for one in ranked if one.id in found]
    return [found[one.id] for one in kept], kept, position


async def query_past(
    meaning: Meaning, about: str, fitting: Sequence[Entry], everything: Iterable[Entry], limit: int
) -> tuple[list[Entry], list[Ranked]]:
    """Of entries that were live once and fit, the best; ranked among everything that was live then."""
    index = await _apart(partial(meaning.past, everything))
    found = {entry.id: entry for entry in fitting}
    ranked = await _apart(partial(index.ranking.search, about, k=limit, allowed=found.__contains__))
    return [found[one.id] for one in ranked], list(ranked)


async def _follow(reading: EntryReading, meaning: Meaning, index: Index) -> str:
    """Go on to the end of the log. The last fact that is known is read again: when it is gone, all is read anew."""
    board, owner = reading.board, reading.owner
    ahead: asyncio.Task[entry_log.Page] | None = None
    try:
        while True:
            read = await (ahead or entry_log.page(board, owner, index.position if index.mark else "-"))
            ahead = None
            # The one summary of what was compacted gives its place to the next one: it is no place to go on from.
            page = [one for one in read.events if one[1]["type"] != events.ScopeCompacted.kind]
            lost = index.mark and (not page or page[0][0] != index.position or page[0][1].get("id") != index.mark)
            # What was taken out of the part that is still to be read may have said that something known is over.
            missed = index.compacted not in (None, read.mark.at) and order(index.position) < order(read.mark.upto)
            if lost or missed:
                index.clear(meaning.ranking())
                continue
            index.compacted = read.mark.at
            new = page[1:] if index.mark else page
            if not new:
                break
            position, fields = new[-1]
            if read.more:  # comes while this page is put into the index
                ahead = asyncio.create_task(entry_log.page(board, owner, position))
            await _apart(partial(index.apply, [one for one in new if one[1]["type"].startswith(FACTS)]))
            index.position, index.mark = position, fields["id"]
            meaning.within_bounds(owner)
            if not read.more:
                break
    finally:
        await end([ahead] if ahead is not None else ())
    now = await reading.server_time()
    back = index.back(now)
    for start in range(0, len(back), _READ):
        some = back[start : start + _READ]
        await _apart(partial(index.again, some, await reading.several(some)))
        meaning.within_bounds(reading.owner)
    index.expire(now)
    return place(index.position)


async def _fitting(reading: EntryReading, search: Search) -> dict[str, int]:
    """Every entry that fits conditions on its content, and its version."""
    fitting: dict[str, int] = {}
    after: str | None = None
    while True:
        found = await reading.query(
            search.pattern, search.where, links_to=search.links_to, rel=cast(Any, search.rel), limit=_FITTING, after=after
        )  # fmt: skip
        fitting |= {entry.id: entry.version for entry in found.entries}
        after = found.after
        if after is None:
            return fitting


async def _read(reading: EntryReading, index: Index, ranked: Sequence[Ranked]) -> tuple[list[Entry], bool]:
    """What was ranked, as it is on the board; False when some of it is no longer what was ranked."""
    entries: list[Entry] = []
    for start in range(0, len(ranked), _READ):
        entries += await reading.several([one.id for one in ranked[start : start + _READ]])
    still = [one for one in entries if one.state == "live" and index.known[one.id].version == one.version]
    return still, len(still) == len(ranked)


def _any(_: str) -> bool:
    return True


async def _apart(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def text_of(content: JsonValue) -> str:
    """A content in words: names and values in their order, at most :data:`TEXT_CHARACTERS`."""
    if isinstance(content, Blob):
        return content.beginning[:TEXT_CHARACTERS]
    words: list[str] = []
    size = 0
    left: list[object] = [content]
    while left and size < TEXT_CHARACTERS:
        one = left.pop()
        if isinstance(one, str):
            word = one[:TEXT_CHARACTERS]
        elif isinstance(one, dict):
            for name, value in reversed(cast("dict[str, JsonValue]", one).items()):
                left += (value, f"{name}:")
            continue
        elif isinstance(one, list):
            left += reversed(cast("list[object]", one))
            continue
        elif one is None:
            continue
        else:
            word = str(one).lower() if isinstance(one, bool) else str(one)
        words.append(word)
        size += len(word) + 1
    return " ".join(words)[:TEXT_CHARACTERS]
