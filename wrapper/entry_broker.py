"""Entries for isolated code: the topics its manifest names, in the scope of its own run, under the lease of its task.

The code never says who it is: run, task, fence and author come from the claim. What it has read leaves its taint on what it
writes. An operation is named by the task and by what is written, so a second attempt that writes the same adds nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, cast

from pydantic import JsonValue

from blackboard import topics
from blackboard.blobs import Blob
from blackboard.entries import UNSET, Entries, Holder, Written
from blackboard.entry import FACTS, Entry, owner_of_entry, told
from blackboard.errors import BadInput, BlobError, LeaseLost, ScriptRefused
from blackboard.strategies import CONTROL
from blackboard.taint import merged
from registry import Manifest
from wrapper.isolation import BrokerError, NotGranted

POST, AMEND, RETRACT, TAKE = "entry.post", "entry.amend", "entry.retract", "entry.take"
CONFIRM, RENEW, GIVE_BACK = "entry.confirm", "entry.renew", "entry.give_back"
READ, QUERY, WATCH = "entry.read", "entry.query", "entry.watch"
WRITES = 200
"""Most writes of one attempt, takings included."""
READS = 1000
"""Most readings of one attempt."""
PAST = 10
"""How many readings one of the past counts for: it reads the log of the run."""
CONTENT_BYTES = 64 * 1024
"""Largest content that code may write, as JSON."""
WRITTEN_BYTES = 1024 * 1024
"""Most that one attempt may write in all."""
READ_BYTES = 16 * 1024 * 1024
"""Most that one attempt may read in all."""
WHOLE_BYTES = 1024 * 1024
"""Largest content that is given to code; in a list of entries it is :data:`CONTENT_BYTES`, and larger ones are left out."""
FOUND = 50
"""Most entries of one answer."""
WAIT_SECONDS = 60.0
"""Longest that a taking or a watch may wait."""
LOOK_SECONDS = 1.0
"""How long a watch looks for what is there already, however short it is to wait."""

_TAKES: dict[str, tuple[set[str], set[str]]] = {
    POST: ({"topic", "content"}, {"confidence", "links", "seconds", "expect_topic"}),
    AMEND: ({"entry"}, {"content", "confidence", "links", "seconds", "expect", "expect_topic"}),
    RETRACT: ({"entry"}, {"reason", "expect", "expect_topic"}),
    TAKE: ({"pattern"}, {"where", "seconds", "lease_seconds"}),
    CONFIRM: ({"entry"}, set()),
    RENEW: ({"entry", "lease_seconds"}, set()),
    GIVE_BACK: ({"entry"}, set()),
    READ: ({"entry"}, {"at"}),
    QUERY: ({"pattern"}, {"where", "about", "links_to", "rel", "limit", "after", "at"}),
    WATCH: ({"pattern"}, {"where", "after", "seconds"}),
}
"""What each call takes: what it must say, and what it may."""
_WRITE = "to write on"
METHODS = frozenset(_TAKES)


class EntryBroker:
    """Answers what one attempt asks of the board.

    Args:
        manifest: whose ``grants.topics`` are enforced here.
        entries: those of the attempt's run; None where no topic is granted.
        task: the attempt's claim.
        taint: what its writes carry from the first on.
    """

    def __init__(
        self,
        manifest: Manifest,
        entries: Entries | None,
        task: Holder | None,
        taint: Iterable[str] = (),
    ) -> None:
        self._name, self._grants = manifest.name, manifest.grants.topics
        self._given_entries, self._task = entries, task
        self._taint = merged(taint)
        self.found: set[str] = set()
        """The taint of what was read."""
        self._same: Counter[str] = Counter()
        self._held: dict[str, int] = {}
        """What this attempt took under a lease, and the fence."""
        self._writes = self._reads = self._written = self._seen = 0

    def tainted(self, labels: Iterable[str]) -> None:
        """From here on what the attempt writes carries these labels as well."""
        self._taint = merged(self._taint, labels)

    async def __call__(self, method: str, args: JsonValue) -> JsonValue:
        """Answer one call.

        Raises:
            NotGranted: it needs a topic that was not granted.
            BrokerError: it is malformed, a limit is reached, or the board refuses.
        """
        must, may = _TAKES[method]
        if not isinstance(args, dict) or not must <= set(args) <= must | may:
            raise BrokerError(
                "bad_request", f"{method} takes {', '.join(sorted(must))} and maybe {', '.join(sorted(may))}."
            )
        given = cast("dict[str, Any]", args)
        answer: Callable[[dict[str, Any]], Awaitable[JsonValue]] = {
            POST: self._post, AMEND: self._amend, RETRACT: self._retract, TAKE: self._take,
            CONFIRM: partial(self._hold, CONFIRM), RENEW: partial(self._hold, RENEW),
            GIVE_BACK: partial(self._hold, GIVE_BACK), READ: self._read, QUERY: self._query, WATCH: self._watch,
        }[method]  # fmt: skip
        try:
            return await answer(given)
        except BadInput as error:
            raise BrokerError("bad_request", str(error)) from None
        except ScriptRefused as error:
            raise BrokerError(error.code.lower(), error.detail) from None
        except BlobError as error:
            raise BrokerError(error.code, "A content that is stored apart cannot be had.") from None

    # ---- what it asks ------------------------------------------------------------------------------------------------

    async def _post(self, given: dict[str, Any]) -> JsonValue:
        topic = topics.check_topic(given.pop("topic"))
        self._may(topic, self._grants.write, _WRITE)
        links = await self._links(given)
        content = given.pop("content")
        size = _size(content)
        named = self._wrote(POST, size, topic, content, links, given)
        more = _typed(given, confidence=float, seconds=float, expect_topic=int)
        return _told(
            await self._entries.post(
                topic, content, links=links or (), taint=self._taint, operation=named, task=self._task, **more
            )
        )

    async def _amend(self, given: dict[str, Any]) -> JsonValue:
        entry = await self._entry(given.pop("entry"), self._grants.write, _WRITE)
        if entry is None:
            raise BrokerError("unknown", "There is no such entry.")
        links = await self._links(given)
        content = given.pop("content", UNSET)
        size = 0 if content is UNSET else _size(content)
        named = self._wrote(AMEND, size, entry.id, None if content is UNSET else [content], links, given)
        if "seconds" in given and given["seconds"] is None:
            more = _typed(given, confidence=float, expect=int, expect_topic=int) | {"seconds": None}
        else:
            more = _typed(given, confidence=float, seconds=float, expect=int, expect_topic=int)
        return _told(
            await self._entries.amend(
                entry.id, content, links=links, taint=self._taint, operation=named, task=self._task, **more
            )
        )

    async def _retract(self, given: dict[str, Any]) -> JsonValue:
        entry = await self._entry(given.pop("entry"), self._grants.write, _WRITE)
        if entry is None:
            raise BrokerError("unknown", "There is no such entry.")
        named = self._wrote(RETRACT, 0, entry.id, given)
        more = _typed(given, reason=str, expect=int, expect_topic=int)
        return _told(await self._entries.retract(entry.id, operation=named, task=self._task, **more))

    async def _take(self, given: dict[str, Any]) -> JsonValue:
        pattern = topics.check_pattern(given.pop("pattern"))
        self._may(pattern, self._grants.read, "to read")
        self._may(pattern, self._grants.write, _WRITE)
        more = _typed(given, where=str, seconds=float, lease_seconds=float)
        _bounded(more.get("seconds", 0))
        lease = more.get("lease_seconds")
        named = self._wrote(TAKE, 0, pattern, more.get("where"), *(() if lease is None else (lease,)))
        take = partial(
            self._entries.take, pattern, more.get("where", ""), seconds=more.get("seconds", 0), lease_seconds=lease,
            task=self._task,
        )  # fmt: skip
        try:
            taken = await take(operation=named)
        except LeaseLost:  # an attempt before this one held it too long: this one takes another
            taken = await take(operation=f"{named}:{self._task.fence if self._task else ''}")
        if taken is None:
            return None
        if taken.fence is not None:
            self._held[taken.id] = taken.fence
        return await self._given(taken, WHOLE_BYTES)

    async def _hold(self, method: str, given: dict[str, Any]) -> JsonValue:
        """Say what becomes of what this attempt holds: by its id, since no other attempt's lease is its own."""
        more = _typed(given, entry=str, lease_seconds=float)
        entry, lease = more.get("entry", ""), more.get("lease_seconds")
        if entry not in self._held:
            raise BrokerError("lease", "It is not held: take it with lease_seconds first.")
        entries, fence = self._entries, self._held[entry]
        named = self._wrote(method, 0, entry, fence)
        if method == RENEW:  # from now on, also where an attempt before this one did the same
            return _told(await entries.renew(entry, fence, lease or 0, task=self._task))
        call = entries.confirm if method == CONFIRM else entries.give_back
        return _told(await call(entry, fence, operation=named, task=self._task))

    async def _read(self, given: dict[str, Any]) -> JsonValue:
        more = _typed({"at": given.get("at")}, at=str)
        entry = await self._entry(given["entry"], self._grants.read, "to read", **more)
        return None if entry is None else await self._given(entry, WHOLE_BYTES)

    async def _watch(self, given: dict[str, Any]) -> JsonValue:
        """The next fact after a position, or None when none came in time."""
        pattern = topics.check_pattern(given.pop("pattern"))
        self._may(pattern, self._grants.read, "to read")
        more = _typed(given, where=str, after=str, seconds=float)
        seconds = _bounded(more.pop("seconds", WAIT_SECONDS))
        self._counted()
        event = None
        async with contextlib.aclosing(self._entries.watch(pattern, load=False, **more)) as facts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, LOOK_SECONDS)):
                    event = await anext(facts, None)
        if event is None:
            return None
        fact: dict[str, JsonValue] = {"fact": event.kind.removeprefix(FACTS)}
        if (entry := told(event, None)) is not None:
            return fact | await self._given(entry, CONTENT_BYTES, left_out=True)
        version, topic = event.data.version, event.data.topic
        return fact | {"id": event.subject, "topic": topic, "version": version, "position": event.sequence}

    async def _query(self, given: dict[str, Any]) -> JsonValue:
        pattern = topics.check_pattern(given.pop("pattern"))
        self._may(pattern, self._grants.read, "to read")
        more = _typed(given, where=str, about=str, links_to=str, rel=str, limit=int, after=str, at=str)
        if "links_to" in more:
            await self._entry(more["links_to"], self._grants.read, "to read")
        if not 1 <= more.setdefault("limit", FOUND) <= FOUND:
            raise BrokerError("bad_request", f"Ask for 1 to {FOUND} entries at a time.")
        self._counted(PAST if "at" in more else 1)
        found = await self._entries.query(pattern, load=False, **more)
        given_out = [await self._given(entry, CONTENT_BYTES, left_out=True) for entry in found.entries]
        for record, rank in zip(given_out, found.ranks, strict=bool(found.ranks)):
            record |= {"score": round(rank.score, 2), "reasons": list(rank.reasons)}
        return {"entries": cast(JsonValue, given_out), "after": found.after, "position": found.position}

    # ---- what it may -------------------------------------------------------------------------------------------------

    def _may(self, pattern: str, granted: Iterable[str], what: str) -> None:
        first, _, rest = pattern.partition(".")
        if what == _WRITE and first in (CONTROL, "*", ">"):
            # What steers a run is granted by name: that all topics were granted is not enough.
            steering = f"{CONTROL}.>" if first == ">" else ".".join([CONTROL, *([rest] if rest else [])])
            named = [wide for wide in granted if wide.partition(".")[0] == CONTROL]
            if not any(topics.covers(wide, steering) for wide in named):
                raise NotGranted(f"{self._name} was not granted {what} {steering}; its manifest must name {CONTROL}.")
        if not any(topics.covers(wide, pattern) for wide in granted):
            raise NotGranted(f"{self._name} was not granted {what} {pattern}; its manifest must name it.")

    @property
    def _entries(self) -> Entries:
        assert self._given_entries is not None, "asked for only behind a grant"
        return self._given_entries

    async def _entry(self, entry_id: Any, granted: tuple[str, ...], what: str, at: str | None = None) -> Entry | None:
        """The entry of an id, whose topic must be granted; None when there is none."""
        if not isinstance(entry_id, str):
            raise BrokerError("bad_request", "Name an entry by its id.")
        owner = owner_of_entry(entry_id)
        if not granted:
            raise NotGranted(f"{self._name} was granted no topic {what}; its manifest must name it.")
        self._counted(1 if at is None else PAST)
        if owner != self._entries.owner:
            raise NotGranted(
                f"{self._name} was not granted the entries of another scope than its run's: {entry_id:.100}."
            )
        entry = await self._entries.read(entry_id, at=at, load=False)
        if entry is not None:
            self._may(entry.topic, granted, what)
        return entry

    async def _links(self, given: dict[str, Any]) -> list[Any] | None:
        """The links that were given, each to an entry of a topic the code may see."""
        links = given.pop("links", None)
        if links is None:
            return None
        if not isinstance(links, list):
            raise BrokerError("bad_request", "Links are a list of [relation, entry].")
        seen = (*self._grants.read, *self._grants.write)
        made: list[tuple[Any, str]] = []
        for link in cast("list[Any]", links):
            if not isinstance(link, list) or [type(part) for part in cast("list[Any]", link)] != [str, str]:
                raise BrokerError("bad_request", "Links are a list of [relation, entry].")
            rel, to = cast("list[str]", link)
            if await self._entry(to, seen, "to link to") is None:
                raise BrokerError("bad_request", f"There is no entry {to} to link to.")
            made.append((rel, to))
        return made

    def _wrote(self, method: str, size: int, *said: Any) -> str:
        """Count a write; the name of its operation, the same in every attempt that writes the same."""
        if size > CONTENT_BYTES:
            raise BrokerError("limit", f"A content has at most {CONTENT_BYTES:,} bytes; keep more with write_output().")
        self._writes += 1
        self._written += size
        if self._writes > WRITES:
            raise BrokerError("limit", f"One attempt writes at most {WRITES} times on the board.")
        if self._written > WRITTEN_BYTES:
            raise BrokerError("limit", f"One attempt writes at most {WRITTEN_BYTES:,} bytes on the board.")
        text = json.dumps([method, *said, self._taint], sort_keys=True)
        print_ = hashlib.sha256(text.encode()).hexdigest()[:24]
        self._same[print_] += 1
        return f"{print_}:{self._same[print_]}"

    def _counted(self, readings: int = 1) -> None:
        self._reads += readings
        if self._reads > READS:
            raise BrokerError("limit", f"One attempt reads at most {READS} times from the board.")

    async def _given(self, entry: Entry, most: int, *, left_out: bool = False) -> dict[str, JsonValue]:
        """An entry for the code. What it has seen, it has seen: its taint stays with the attempt."""
        self.found.update(entry.taint)
        self.tainted(entry.taint)
        record = entry.record()
        size = entry.content.bytes if isinstance(entry.content, Blob) else _size(entry.content)
        if size > most:
            if not left_out:
                raise BrokerError("limit", f"A content of {size:,} bytes; at most {most:,} are given to code.")
            return {**record, "content": None, "left_out_bytes": size}
        self._seen += size
        if self._seen > READ_BYTES:
            raise BrokerError("limit", f"One attempt reads at most {READ_BYTES:,} bytes from the board.")
        if isinstance(entry.content, Blob):
            record["content"] = await self._entries.board.blobs.load(self._entries.owner, entry.content)
        return {**record, "content": record.get("content")}


def _bounded(seconds: float) -> float:
    if not 0 <= seconds <= WAIT_SECONDS:
        raise BrokerError("bad_request", f"Wait for at most {WAIT_SECONDS:g} seconds, and ask again.")
    return seconds


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def _told(written: Written) -> JsonValue:
    return {"id": written.id, "version": written.version, "position": written.position, "new": written.new}


def _typed(given: dict[str, Any], **kinds: type) -> dict[str, Any]:
    """What was given and is not None, each of its kind."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        kind = kinds[name]
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise BrokerError("bad_request", f"{name} is no {kind.__name__}.")
        found[name] = value
    return found
