"""Entries: what agents, people and events write on the board for others to find, and what others make of it.

Nothing is overwritten: an entry is posted, amended, retracted or taken, and each of these is a fact in the log of its scope,
which is the run's own log where the scope is a run. Indexes are made of the log by the script that writes it, so a reader
finds both or neither, and any moment of the past can be read again from the log.

Sources: Hearsay-II's hypotheses with credibility and links (Erman, Hayes-Roth, Lesser and Reddy, *Computing Surveys* 1980);
Linda's ``out``, ``rd`` and ``in`` (Gelernter, *TOPLAS* 1985).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from pydantic import JsonValue

from blackboard import entry_checks as checks
from blackboard import topics
from blackboard.blobs import Blob
from blackboard.entry import owner_of_entry, scope_of
from blackboard.entry_calls import Call
from blackboard.entry_calls import Holder as Holder
from blackboard.entry_calls import Written as Written
from blackboard.entry_taking import EntryTaking
from blackboard.errors import BadInput, Stale
from blackboard.events import Author, Link, Relation
from blackboard.payloads import PAYLOAD_BYTES, dump
from blackboard.sealing import sealed

ENTRY_BYTES = 16 * 1024 * 1024
"""Largest content, as JSON. What is larger than the board's ``inline_bytes`` is stored apart."""
_ATTEMPTS = 20


class Unset:
    """The type of :data:`UNSET`."""


UNSET: Final = Unset()
"""Leave it as it is."""


class Entries(EntryTaking):
    """The entries of one scope.

    Args:
        board: an open board.
        scope: ``public``, ``run:ID``, ``session:NAME``, ``tenant:NAME`` or ``group:NAME``.
        checker: judges contents where topics have schemas; without it, writing on such a topic is refused.
        author: who writes, unless a call says otherwise.
        meaning: ranks entries for a question; without it, asking ``about`` something is refused.
    """

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
        call = Call(self, task, operation, ("post", topic, text, wanted, ttl))
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
        call = Call(self, task, operation, ("amend", entry_id, given or "", said, ttl))
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
        call = Call(self, task, operation, ("retract", entry_id, reason))
        return await call.run(
            "entry_retract", expect_topic, entry_id, "" if expect is None else expect, self._by(author), reason
        )

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
