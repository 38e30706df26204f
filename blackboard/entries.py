"""Entries: what agents, people and events write on the board for others to find, and what others make of it.

Nothing is overwritten: an entry is posted, amended, retracted or taken, and each of these is a fact in the log of its scope,
which is the run's own log where the scope is a run. Indexes are made of the log by the script that writes it, so a reader
finds both or neither, and any moment of the past can be read again from the log.

Sources: Hearsay-II's hypotheses with credibility and links (Erman, Hayes-Roth, Lesser and Reddy, *Computing Surveys* 1980);
Linda's ``out``, ``rd`` and ``in`` (Gelernter, *TOPLAS* 1985).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from pydantic import JsonValue

from blackboard import entry_checks as checks
from blackboard import predicates, topics
from blackboard._calling import Calling
from blackboard.blobs import Blob
from blackboard.entry import PUBLIC, Entry, owner_of_entry, place, scope_of
from blackboard.entry_schemas import Checker, EntrySchemas
from blackboard.errors import BadInput, ScriptRefused, Stale
from blackboard.events import Author, Link, Relation
from blackboard.meaning import Meaning
from blackboard.payloads import PAYLOAD_BYTES, dump
from blackboard.predicates import Predicate, Where
from blackboard.sealing import sealed

ENTRY_BYTES = 16 * 1024 * 1024
"""Largest content, as JSON. What is larger than the board's ``inline_bytes`` is stored apart."""
_CANDIDATES = 16
_ATTEMPTS = 20


_NOTICED = ("entry_post", "entry_amend", "entry_retract")
"""What a run's agenda notices."""


class Unset:
    """The type of :data:`UNSET`."""


UNSET: Final = Unset()
"""Leave it as it is."""


class Holder(Protocol):
    """A task that is being worked on: a :class:`~blackboard.claims.Claim`, or what ``current_task()`` returns."""

    @property
    def run_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def fence(self) -> str | int: ...
    @property
    def taint(self) -> tuple[str, ...]:
        """Sources of what it works with."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a write did."""

    id: str
    """Of the entry."""
    version: int
    position: str
    """Of the fact in the scope's log; sorts as text. Reads as of it, and watches after it, begin with what follows."""
    new: bool
    """False when this operation was done already, by this call or by an earlier one."""


class Entries(EntrySchemas):
    """The entries of one scope.

    Args:
        board: an open board.
        scope: ``public``, ``run:ID``, ``session:NAME``, ``tenant:NAME`` or ``group:NAME``.
        checker: judges contents where topics have schemas; without it, writing on such a topic is refused.
        author: who writes, unless a call says otherwise.
        meaning: ranks entries for a question; without it, asking ``about`` something is refused.
    """

    def __init__(
        self,
        board: Calling,
        scope: str = PUBLIC,
        *,
        checker: Checker | None = None,
        author: Author | None = None,
        meaning: Meaning | None = None,
    ) -> None:
        super().__init__(board, scope, checker, meaning)
        self._author = author or Author(kind="program", name="program")

    def within(self, scope: str) -> Entries:
        """The entries of another scope of the board.

        Raises:
            BadInput: there is no such scope.
        """
        return Entries(self._board, scope, checker=self._checker, author=self._author, meaning=self._meaning)

    # ---- writing -----------------------------------------------------------------------------------------------------

    async def post(
        self,
        topic: str,
        content: JsonValue,
        *,
        confidence: float = 1.0,
        links: Iterable[Link | tuple[Relation, str]] = (),
        taint: Iterable[str] = (),
        seconds: float | None = None,
        author: Author | None = None,
        expect_topic: int | None = None,
        operation: str | None = None,
        task: Holder | None = None,
    ) -> Written:
        """Write a new entry.

        Args:
            topic: ``claims.invoice.4711``.
            content: JSON, at most :data:`ENTRY_BYTES`; or the reference to a value this scope has stored, such as the result of a
                task of the run, whatever its size. It is not stored again.
            confidence: 0 to 1.
            links: what it says about older entries: ``("supports", id)``, ``contradicts``, ``answers``, ``derived_from``.
            taint: labels of where it came from; see ``docs/taint.md``. Default: ``person``, ``program:NAME`` or ``event:NAME``,
                as the author is one. Those of what it was derived from are added, and all that a ``task`` works with.
            seconds: its time to live. Default: as long as its scope.
            expect_topic: write only if the topic has this version: 0 for a topic nothing was written on.
            operation: names this writing; the same once more, with the same content, is the entry that is there.
            task: the task that writes, in its own run. It must still hold its lease, and is the author.

        Raises:
            BadInput: something is malformed, or does not fit the schema of the topic.
            BlobError: what a reference stands for cannot be had.
            Oversized: the content is too large.
            Stale: the topic has another version.
            Conflict: the operation was done with other content.
            Fenced: the task is no longer held.
            UnknownRecord: there is no such run.
            ScriptRefused: ``CLOSED``, the run is over.
        """
        topics.check_topic(topic)
        kept = content if isinstance(content, Blob) else None
        content = await self._board.blobs.load(self.owner, content)
        text = dump(content, "content", PAYLOAD_BYTES if kept is not None else ENTRY_BYTES)
        linked = checks.links(links)
        facts, wanted = await self._facts(confidence, linked, checks.labels(taint), author, task)
        ttl = "" if seconds is None else checks.ms(seconds)
        call = _Call(self, task, operation, ("post", topic, text, wanted, ttl))
        entry_id = f"{self.owner}/e/{hashlib.sha256(call.operation.encode()).hexdigest()[:24]}"
        body = await self._body(text, content) if kept is None else json.dumps(kept, separators=(",", ":"))
        facts = sealed(facts, body)
        written = await self._checked(
            topic,
            content,
            lambda schemas: self._noticed(
                lambda *triggers: call.run(
                    "entry_post", expect_topic, entry_id, topic, body, facts, schemas, ttl, *triggers
                ),
                topic, content, confidence, 1,
            ),
        )  # fmt: skip
        return await self._stored(written, text, body, content)

    async def amend(
        self,
        entry_id: str,
        content: JsonValue | Unset = UNSET,
        *,
        confidence: float | None = None,
        links: Iterable[Link | tuple[Relation, str]] | None = None,
        taint: Iterable[str] = (),
        seconds: float | Unset | None = UNSET,
        author: Author | None = None,
        expect: int | None = None,
        expect_topic: int | None = None,
        operation: str | None = None,
        task: Holder | None = None,
    ) -> Written:
        """Let an entry say something else from here on. What is not given stays; labels of taint are only added,
        those of :meth:`post` where there is new content.

        Args:
            seconds: a new time to live, from now on; None for none.
            expect: amend only this version of the entry.

        Raises:
            Stale: the entry, or the topic, has another version.
            UnknownRecord: there is no such entry.
            ScriptRefused: ``ENDED``, it was retracted or taken, or has expired; ``CLOSED``.
            BadInput, Oversized, Conflict, Fenced: as :meth:`post`.
        """
        self._mine(entry_id)
        given = None if isinstance(content, Unset) else dump(content, "content", ENTRY_BYTES)
        linked = None if links is None else checks.links(links)
        labels = checks.labels(taint)
        ttl = "" if isinstance(seconds, Unset) else "-" if seconds is None else checks.ms(seconds)
        if confidence is not None:
            checks.confidence(confidence)
        said = json.dumps([None if linked is None else [link.model_dump() for link in linked], confidence, labels])
        call = _Call(self, task, operation, ("amend", entry_id, given or "", said, ttl))
        for attempt in range(_ATTEMPTS):
            now = await self._known(entry_id)
            value = now.content if isinstance(content, Unset) else content
            facts, _ = await self._facts(
                now.confidence if confidence is None else confidence, now.links if linked is None else linked, labels, author,
                task, look=linked is not None, said=given is not None,
            )  # fmt: skip
            body = await self._written(value, given)
            facts = sealed(facts, body)
            try:
                written = await self._checked(
                    now.topic, value,
                    lambda schemas, n=now, v=value, b=body, f=facts: self._noticed(
                        lambda *triggers: call.run(
                            "entry_amend", expect_topic, entry_id, n.version if expect is None else expect, b, f, schemas,
                            ttl, *triggers,
                        ),
                        n.topic, v, n.confidence if confidence is None else confidence, n.version + 1,
                    ),
                )  # fmt: skip
                return await self._stored(written, given, body, value)
            except Stale:
                if expect is not None or expect_topic is not None or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    async def retract(
        self,
        entry_id: str,
        reason: str = "",
        *,
        author: Author | None = None,
        expect: int | None = None,
        expect_topic: int | None = None,
        operation: str | None = None,
        task: Holder | None = None,
    ) -> Written:
        """Say that what an entry says counts no more. It stays readable by its id, and in the past.

        Raises:
            Stale, UnknownRecord, ScriptRefused, Conflict, Fenced: as :meth:`amend`.
        """
        self._mine(entry_id)
        if len(reason) > 2000:
            raise BadInput("reason", reason, "Say it in at most 2,000 characters.")
        call = _Call(self, task, operation, ("retract", entry_id, reason))
        return await call.run(
            "entry_retract", expect_topic, entry_id, "" if expect is None else expect, self._by(author), reason
        )

    async def take(
        self,
        pattern: str,
        where: Where = (),
        *,
        seconds: float = 0.0,
        author: Author | None = None,
        operation: str | None = None,
        task: Holder | None = None,
    ) -> Entry | None:
        """Take the first fitting entry off the board: nobody else gets it. Of one topic the oldest is first.

        A taker that dies has taken it. Name the operation, and the same call again finds the same entry.

        Args:
            seconds: how long to wait for one; 0 only looks.

        Returns:
            The entry as it was; None when there was none in time.

        Raises:
            BadInput, Conflict, Fenced, UnknownRecord, ScriptRefused: as :meth:`post`; also while it waits.
        """
        topics.check_pattern(pattern)
        wanted = predicates.parse(where)
        if not checks.number(seconds) or not 0 <= seconds <= checks.SECONDS:
            raise BadInput("seconds", seconds, f"Give 0 to {checks.SECONDS:g}.")
        call = _Call(self, task, operation, ("take", pattern, *(one.model_dump_json() for one in wanted)))
        by = self._by(author)
        if operation is not None and (written := await call.maybe("entry_take", None, by)) is not None:
            return await self.read(written.id)
        if not seconds:
            return await self._take(call, by, pattern, wanted)
        deadline = asyncio.get_running_loop().time() + seconds
        async with contextlib.aclosing(self._board.feed.changes(self._shard, self.owner)) as changes:
            # The time bounds the waiting and never a taking, whose outcome has to be known.
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout_at(deadline):
                        await anext(changes)
                    if (taken := await self._take(call, by, pattern, wanted)) is not None:
                        return taken
        return await self._take(call, by, pattern, wanted)

    async def _take(self, call: _Call, by: str, pattern: str, wanted: Sequence[Predicate]) -> Entry | None:
        after: str | None = None
        while True:
            found = await self.query(pattern, wanted, limit=_CANDIDATES, after=after)
            if found.entries:
                flat = [part for one in found.entries for part in (one.id, one.version)]
                written = await call.maybe("entry_take", None, by, *flat)
                if written is not None:
                    entry = next((one for one in found.entries if one.id == written.id), None)
                    return (
                        replace(entry, state="taken", version=written.version) if entry else await self.read(written.id)
                    )
                continue  # others were faster: look at the same place again
            if found.after is None:
                # Nothing comes any more to a run that is over, or for a task that lost its lease: the script says so.
                done = None if ":" in self.owner else await call.maybe("entry_take", None, by)
                return None if done is None else await self.read(done.id)
            after = found.after

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _noticed(
        self,
        write: Callable[..., Awaitable[Written]],
        topic: str,
        content: JsonValue,
        confidence: float,
        version: int,
    ) -> Written:
        """Write what was compared with the triggers as they are when it is written. Only a run has an agenda."""
        if ":" in self.owner:
            return await write()
        return await self._board.triggers.noticed(self._shard, write, topic, content, confidence, version)

    def _by(self, author: Author | None) -> str:
        by = author or self._author
        if by.kind == "task":
            raise BadInput("author", by.name, "A task writes by its lease: pass it as task.")
        if not checks.NAME.match(by.name) or (by.id is not None and not checks.NAME.match(by.id)):
            raise BadInput("author", by.name, "Name it in 1 to 200 printable characters.")
        return by.model_dump_json(exclude_none=True)

    async def _facts(
        self,
        confidence: float,
        links: Sequence[Link],
        labels: list[str],
        author: Author | None,
        task: Holder | None,
        *,
        look: bool = True,
        said: bool = True,
    ) -> tuple[str, str]:
        """What a script gets beside the content, and the part of it that makes one operation differ from another."""
        checks.confidence(confidence)
        by = self._by(author)
        facts: dict[str, Any] = {"conf": round(confidence, 6)}
        if links:
            facts["links"] = [link.model_dump() for link in links]
        wanted = json.dumps([facts, labels])
        if said:
            labels = checks.sources(labels, author or self._author, None if task is None else task.taint)
        labels = list(labels)
        for link in links if look else ():
            labels += await self._inherited(link)
        if labels:
            facts["taint"] = list(dict.fromkeys(labels))
        return json.dumps({**facts, "by": json.loads(by)}), wanted

    async def _inherited(self, link: Link) -> list[str]:
        """The taint of an entry of another scope that is linked to, which no script of this one can look at."""
        owner = owner_of_entry(link.to)
        if owner == self.owner:
            return []
        target = await self.within(scope_of(owner)).read(link.to, load=False)
        if target is None:
            raise BadInput("links", link.to, "There is no such entry to link to.")
        return list(target.taint) if link.rel == "derived_from" else []

    async def _stored(self, written: Written, given: str | None, body: str, value: JsonValue) -> Written:
        """Store a large content once more where the scope lasts: a compaction may have removed it as that of others between
        its storing and its writing, and looks for what is written before it does."""
        if ":" in self.owner and body != given and written.new:
            await self._written(value, None)
        return written

    async def _written(self, value: JsonValue, given: str | None) -> str:
        return await self._body(dump(value, "content", PAYLOAD_BYTES) if given is None else given, value)

    async def _body(self, text: str, value: JsonValue) -> str:
        return await self._board.blobs.check(self.owner, text, value)


class _Call:
    """One writing operation, which may be sent more than once."""

    def __init__(self, entries: Entries, task: Holder | None, operation: str | None, said: Sequence[str]) -> None:
        if task is not None and entries.owner != task.run_id:
            raise BadInput("task", task.task_id, f"A task writes in the scope of its own run, run:{task.run_id}.")
        if operation is not None and not checks.NAME.match(operation):
            raise BadInput("operation", operation, "Name it in 1 to 200 printable characters.")
        self._entries, self._task = entries, task
        named = secrets.token_hex(12) if operation is None else operation
        self.operation = named if task is None else f"{task.task_id}\0{named}"
        self._print = hashlib.sha256("\0".join(said).encode()).hexdigest()[:24]

    async def run(self, name: str, expect_topic: int | None, *args: str | int) -> Written:
        try:
            written = await self.maybe(name, expect_topic, *args)
        except ScriptRefused as refusal:
            raise _named(refusal) from None
        assert written is not None, "only a taking may do nothing"
        return written

    async def maybe(self, name: str, expect_topic: int | None, *args: str | int) -> Written | None:
        task, entries = self._task, self._entries
        send = entries._writing if name in _NOTICED else entries._reading  # pyright: ignore[reportPrivateUsage]
        reply = await send(
            name, self.operation, self._print, task.task_id if task else "", str(task.fence) if task else "",
            "" if expect_topic is None else expect_topic, *args,
        )  # fmt: skip
        return Written(reply[0], int(reply[1]), place(reply[2]), bool(int(reply[3]))) if reply else None


def _named(refusal: ScriptRefused) -> ScriptRefused | BadInput:
    """A refusal of bad input by a script, as the edge says it."""
    if refusal.code == "LINK":
        return BadInput("links", refusal.detail.removeprefix("links: "), "Link to older entries that are on the board.")
    if refusal.code == "TAINT":
        return BadInput("taint", refusal.detail, "Derive it from fewer entries.")
    return refusal
