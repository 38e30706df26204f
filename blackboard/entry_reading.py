"""Reading entries: one, those that fit, what they said before, and what happens to them now.

What is live is found by the indexes of the scope; the past is folded from its log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pydantic_core import from_json

from blackboard import _script, entry_log, entry_search, entry_watching, events, meaning, topics
from blackboard._calling import STEP_LANE, Calling
from blackboard.blobs import Blob
from blackboard.entry import (
    FACTS,
    Entry,
    Fold,
    aged,
    checked_position,
    owner_of,
    owner_of_entry,
    place,
    stored,
    stream_id,
    told,
    unheld,
)
from blackboard.entry_log import PRELUDE
from blackboard.entry_search import Found, Search
from blackboard.errors import BadInput, UnknownRecord
from blackboard.events import Event, Relation
from blackboard.meaning import ABOUT_CHARACTERS, MOST_RANKED, Meaning
from blackboard.predicates import Where


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
        found = (await self.past(at)).then(entry_id) if at is not None else None
        if at is None and (there := await self.several([entry_id])):
            found = there[0]
        return await self.loaded(found) if found is not None and load else found

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
            limit: most entries of the answer, at most :data:`~blackboard.entry_search.MOST_FOUND`.
            after: where the answer before ended.
            at: as of this position of the log.

        Raises:
            BadInput: a malformed pattern, condition, id or position; ``about`` where nothing ranks, or with too much to rank.
            Compacted: what happened at that position was compacted.
            ModelUnavailable: ``about``, and the encoder cannot be reached.
            BlobError: a large content cannot be had.
        """
        search = Search.of(pattern, where, links_to, rel, limit, after)
        if about is not None:
            return await self._ranked(about, search, at, load)
        return await (entry_search.now(self, search, load) if at is None else entry_search.then(self, search, at, load))

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
            chain.append(await self.loaded(entry) if load else entry)
            position = entry.supersedes
        return chain[::-1]

    async def topic_version(self, topic: str) -> int:
        """How many facts were written on a topic, for ``expect_topic``."""
        key = self._shard.entries(self.owner)[1]
        client: Any = self._board.client
        return int(await self._retry(lambda: client.hget(key, topics.check_topic(topic))) or 0)

    async def position(self) -> str:
        """The position of the newest fact of the scope's log."""
        seen, *_ = await self.call("entry_query", "topic", "[\0", "(\0", "", 1, "", "")
        return place(seen)

    def watch(
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
        return entry_watching.watch(self, pattern, where, after, load)

    # ---- for those who search, rank and watch ------------------------------------------------------------------------

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
        now, *rows = await self.call("entry_read", *entry_ids)
        return [self.entry(*rows[at : at + 4], now=int(now) / 1000) for at in range(0, len(rows), 4)]

    async def server_time(self) -> float:
        """The server's clock, in seconds since the epoch."""
        return int((await self.call("entry_read"))[0]) / 1000

    async def call(self, script: str, *args: str | int) -> Any:
        """What a script over what belongs to the scope replies."""
        return await _script.run(
            self._board.client, _script.load(script, PRELUDE), self._shard.declare_entries(self.owner),
            [self.owner, *args], recover=self._board.engine.ensure,
        )  # fmt: skip

    def entry(self, entry_id: str, header: str, kind: str, fact: str, now: float | None = None) -> Entry:
        """An entry from its header and the fact with its content, at a time; without one it is not held."""
        said = from_json(header)
        fields = {"type": kind, "subject": entry_id, "id": f"{entry_id}:{int(said['ver'])}", "data": fact}
        entry = stored(said, self._event(said["pos"], fields))
        return unheld(entry) if now is None else aged(entry, now)

    async def loaded(self, entry: Entry) -> Entry:
        """The entry with its content, wherever that is."""
        if not isinstance(entry.content, Blob):
            return entry
        return replace(entry, content=await self._board.blobs.load(self.owner, entry.content))

    async def with_content(self, event: Event) -> Event:
        """The event with its content, wherever that is."""
        if (blob := events.apart(event)) is None:
            return event
        content = await self._board.blobs.load(self.owner, blob)
        return event.model_copy(update={"data": event.data.model_copy(update={"content": content})})

    async def past(self, at: str) -> Fold:
        """The entries as they were at a position of the log."""
        mark, log = await entry_log.whole(self._board, self.owner, stream_id(checked_position(at)))
        mark.check("at", at)
        fold = Fold().apply(self._event(*one) for one in log if one[1]["type"].startswith(FACTS))
        fold.now = max(fold.now, mark.ms / 1000)
        return fold

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _mine(self, entry_id: str) -> None:
        if owner_of_entry(entry_id) != self.owner:
            raise BadInput("entry", entry_id, f"It is not of scope {self.scope}; use within().")

    async def _retry(self, command: Callable[[], Any]) -> Any:
        return await _script.retrying(
            lambda: cast(Awaitable[Any], command()), seconds=self._board.engine.patience_seconds
        )

    async def _writing(self, name: str, *args: str | int) -> Any:
        """Call a script that a run's agenda notices."""
        if ":" in self.owner:
            return await self.call(name, *args)
        return await _script.run(
            self._board.client, _script.load(name, "_noticing"), self._shard.declare_noticing(STEP_LANE, self.owner),
            [1, STEP_LANE, self.owner, *args], recover=self._board.engine.ensure,
        )  # fmt: skip

    def _event(self, position: str, fields: Mapping[str, str]) -> Event:
        return events.parse(position, fields, self.owner, self._board.source)

    async def _known(self, entry_id: str, *, load: bool = True) -> Entry:
        found = await self.read(entry_id, load=load)
        if found is None:
            raise UnknownRecord("UNKNOWN", f"no entry {entry_id} on this board")
        return found

    async def _ranked(self, about: str, search: Search, at: str | None, load: bool) -> Found:
        if self._meaning is None:
            raise BadInput(
                "about", about, "Open these entries with what ranks them: registry.matching.passages.meaning()."
            )
        if not about.strip() or len(about) > ABOUT_CHARACTERS:
            raise BadInput("about", about[:80], f"Ask in 1 to {ABOUT_CHARACTERS:,} characters.")
        if search.after is not None:
            raise BadInput("after", search.after, "What is ranked has no next page; ask for more with limit.")
        if search.limit > MOST_RANKED:
            raise BadInput("limit", search.limit, f"Of what is ranked, ask for at most {MOST_RANKED}.")
        if at is None:
            entries, ranks, at = await meaning.query(self, self._meaning, about, search)
        else:
            fold = await self.past(at)
            live = [one for one in (aged(each, fold.now) for each in fold.entries.values()) if one.state == "live"]
            fitting = [entry for _, entry in await entry_search.fitting(self, fold, search)]
            entries, ranks = await meaning.query_past(self._meaning, about, fitting, live, search.limit)
        if load:
            entries = [await self.loaded(entry) for entry in entries]
        return Found(tuple(entries), at, ranks=tuple(ranks))
