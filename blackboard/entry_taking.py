"""Taking entries off the board: for good, or under a lease that gives them back when their taker dies.

Source of the leases: Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency"
(SOSP 1989), with a number that names each (a fence), so that whoever comes too late is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from blackboard import entry_checks as checks
from blackboard import predicates, topics
from blackboard._calling import Calling
from blackboard.ending import end
from blackboard.entry import PUBLIC, Entry
from blackboard.entry_calls import Call, Holder, Written, signed
from blackboard.entry_schemas import Checker, EntrySchemas
from blackboard.errors import BadInput, LeaseLost
from blackboard.events import Author
from blackboard.meaning import Meaning
from blackboard.predicates import Predicate, Where

LEASE_SECONDS = 86_400.0
"""Longest lease; it may be renewed as often as one likes."""
_CANDIDATES = 16


class EntryTaking(EntrySchemas):
    """The entries of one scope, which can be taken.

    Args:
        board, scope, checker, author, meaning: as for :class:`~blackboard.entries.Entries`.
    """

    def __init__(
        self, board: Calling, scope: str = PUBLIC, *, checker: Checker | None = None, author: Author | None = None,
        meaning: Meaning | None = None,
    ) -> None:  # fmt: skip
        super().__init__(board, scope, checker, meaning)
        self._author = author or Author(kind="program", name="program")

    def _by(self, author: Author | None) -> str:
        return signed(author or self._author)

    async def take(
        self,
        pattern: str,
        where: Where = (),
        *,
        seconds: float = 0.0,
        lease_seconds: float | None = None,
        author: Author | None = None,
        operation: str | None = None,
        task: Holder | None = None,
    ) -> Entry | None:
        """Take the first fitting entry off the board: nobody else gets it. Of one topic the oldest is first.

        A taker that dies has taken it, unless it took it under a lease. Name the operation, and the same call again finds the
        same entry.

        Args:
            seconds: how long to wait for one; 0 only looks.
            lease_seconds: hold it for so long, 0.001 to :data:`LEASE_SECONDS`: it is back where it was when it was not
                confirmed or renewed by then. The ``fence`` of what is returned names the lease. Default: it is taken for good.

        Returns:
            The entry as it was; None when there was none in time.

        Raises:
            BadInput, Conflict, Fenced, UnknownRecord, ScriptRefused: as :meth:`~blackboard.entries.Entries.post`; also while it
                waits.
            LeaseLost: this operation took an entry before, and its lease is over.
        """
        topics.check_pattern(pattern)
        wanted = predicates.parse(where)
        if not checks.number(seconds) or not 0 <= seconds <= checks.SECONDS:
            raise BadInput("seconds", seconds, f"Give 0 to {checks.SECONDS:g}.")
        lease = "" if lease_seconds is None else _lease(lease_seconds)
        said = ("take", pattern, *(one.model_dump_json() for one in wanted), *((f"lease {lease}",) if lease else ()))
        taking = _Taking(self, Call(self, task, operation, said), self._by(author), lease, pattern, wanted)
        if operation is not None and (known := await taking.known()) is not None:
            return known
        if not seconds:
            return (await taking.look())[0]
        deadline = asyncio.get_running_loop().time() + seconds
        async with contextlib.aclosing(self._board.feed.changes(self._shard, self.owner)) as changes:
            return await taking.wait(changes, deadline)

    async def confirm(
        self, entry_id: str, fence: int, *, author: Author | None = None, operation: str | None = None,
        task: Holder | None = None,
    ) -> Written:  # fmt: skip
        """Have what is held under a lease for good. The same once more changes nothing.

        Args:
            fence: of the entry as :meth:`take` returned it.

        Raises:
            LeaseLost: the lease lapsed, was given back, or is another's: what was done may be done by somebody else as well.
            UnknownRecord: there is no such entry.
            Conflict, Fenced, ScriptRefused: as :meth:`take`.
        """
        return await self._holding(entry_id, fence, "taken", author, operation, task)

    async def renew(
        self, entry_id: str, fence: int, lease_seconds: float, *, author: Author | None = None,
        operation: str | None = None, task: Holder | None = None,
    ) -> Written:  # fmt: skip
        """Hold it for so long from now on. The fence stays.

        Raises:
            BadInput: 0.001 to :data:`LEASE_SECONDS` seconds are a lease.
            LeaseLost, UnknownRecord, Conflict, Fenced, ScriptRefused: as :meth:`confirm`.
        """
        return await self._holding(entry_id, fence, _lease(lease_seconds), author, operation, task)

    async def give_back(
        self, entry_id: str, fence: int, *, author: Author | None = None, operation: str | None = None,
        task: Holder | None = None,
    ) -> Written:  # fmt: skip
        """Let others have at once what is held under a lease: it is back where it was.

        Raises:
            LeaseLost, UnknownRecord, Conflict, Fenced, ScriptRefused: as :meth:`confirm`.
        """
        return await self._holding(entry_id, fence, "returned", author, operation, task)

    async def _holding(
        self, entry_id: str, fence: int, what: str, author: Author | None, operation: str | None, task: Holder | None
    ) -> Written:
        self._mine(entry_id)
        if isinstance(fence, bool) or not 1 <= fence < 2**53:
            raise BadInput("fence", fence, "Pass the fence of the entry that was taken.")
        call = Call(self, task, operation, ("hold", entry_id, str(fence), what))
        return await call.run("entry_lease", None, entry_id, fence, self._by(author), what)


class _Taking:
    """One taking, which may look more than once."""

    def __init__(
        self, entries: EntryTaking, call: Call, by: str, lease: str, pattern: str, wanted: Sequence[Predicate]
    ) -> None:
        self._entries, self._call, self._by, self._lease = entries, call, by, lease
        self._pattern, self._wanted = pattern, wanted

    async def known(self) -> Entry | None:
        """What this operation took before."""
        written = await self._call.maybe("entry_take", None, self._by, self._lease)
        return None if written is None else await self._taken(written, None)

    async def look(self) -> tuple[Entry | None, float | None]:
        """Take what is there; else in how many seconds a lease lapses on what might fit."""
        after: str | None = None
        lapse: float | None = None
        while True:
            found = await self._entries.query(self._pattern, self._wanted, limit=_CANDIDATES, after=after)
            lapse = min((one for one in (lapse, found.lapse) if one is not None), default=None)
            if found.entries:
                flat = [part for one in found.entries for part in (one.id, one.version)]
                written = await self._call.maybe("entry_take", None, self._by, self._lease, *flat)
                if written is not None:
                    seen = next((one for one in found.entries if one.id == written.id), None)
                    return await self._taken(written, seen), None
                continue  # others were faster: look at the same place again
            if found.after is None:
                # Nothing comes any more to a run that is over, or for a task that lost its lease: the script says so.
                return (None if ":" in self._entries.owner else await self.known()), lapse
            after = found.after

    async def wait(self, changes: AsyncGenerator[bool, None], deadline: float) -> Entry | None:
        """Look whenever there may be something new, or a lease lapses, until a time of the loop's clock."""
        loop = asyncio.get_running_loop()
        change = asyncio.ensure_future(anext(changes))
        until = deadline
        try:
            while True:
                # The time bounds the waiting and never a taking, whose outcome has to be known.
                await asyncio.wait({change}, timeout=max(0.0, until - loop.time()))
                if change.done():
                    change.result()
                    change = asyncio.ensure_future(anext(changes))
                last = loop.time() >= deadline
                taken, lapse = await self.look()
                if taken is not None or last:
                    return taken
                until = deadline if lapse is None else min(deadline, loop.time() + lapse)
        finally:
            await end([change])

    async def _taken(self, written: Written, seen: Entry | None) -> Entry | None:
        """The entry that was taken, as whoever took it sees it."""
        entries = self._entries
        if not self._lease:
            return (
                await entries.read(written.id)
                if seen is None
                else replace(seen, state="taken", version=written.version)
            )
        entry = await entries.read(written.id, load=seen is None)
        if entry is None or entry.fence != written.version or entry.state not in ("leased", "taken"):
            state = "gone" if entry is None else entry.state
            raise LeaseLost("LEASE", f"the lease {written.version} of entry {written.id} is over: the entry is {state}")
        return entry if seen is None else replace(entry, content=seen.content)


def _lease(seconds: float) -> str:
    if not checks.number(seconds) or not 0.001 <= seconds <= LEASE_SECONDS:
        raise BadInput("lease_seconds", seconds, f"Give a lease of 0.001 to {LEASE_SECONDS:g} seconds.")
    return str(round(seconds * 1000))
