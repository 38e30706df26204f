"""Standing watches: what is written outside of runs, and fits, becomes a run, exactly one for each version of an entry.

A watch is a definition and a state, which says how far into the log of its scope it has come. All of them lie on the board's
first shard; the runs lie wherever their ids put them. Going on takes two steps, each of which may be repeated by anybody:

1. **submit**: each fact that fits becomes a run whose idempotency key is the watch's name, the entry and its version;
2. **move on**: the state says so, in one script, if it is still the one that was read.

The log has what was written whether or not anybody was there, so whoever dies in between, or comes late, leaves nothing out,
and the key makes a second submission find the first one's run.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, cast

from pydantic import Field, JsonValue, model_validator

from blackboard import _keys, _script, events, predicates, topics
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.entry import Entry, owner_of, owner_of_entry, stream_id, told
from blackboard.errors import ArbiterError, BadInput, BoardFull, Conflict, EngineUnavailable, QuotaExceeded
from blackboard.taint import read
from blackboard.triggers import AgendaTerms
from blackboard.types import Limits, Record, type_name

log = logging.getLogger(__name__)

DEPTH = 8
"""Longest chain of runs of which each was started by what was made of the one before."""
PAGE = 100
"""Most facts of a scope that one pass of a watch looks at."""
STANDING = "standing"
"""Where the request of a run says which watch started it, from what."""
_FACTS = (events.EntryPosted.kind, events.EntryAmended.kind)
_ATTEMPTS = 20
_POSITION = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


class Standing(Record):
    """What is watched, and the run it becomes.

    Raises:
        BadInput: no such scope, the scope of a run, a malformed pattern or condition.
    """

    name: str = Field(pattern=type_name)
    scope: str
    """``session:NAME``, ``tenant:NAME``, ``group:NAME`` or ``public``. A run has an agenda of its own."""
    topic: str = ">"
    where: str = Field(default="", max_length=2000)
    """Conditions on what is written, as queries have them."""
    agenda: AgendaTerms = AgendaTerms()
    """Of its runs, on whose boards the entry is written first."""
    tenant: str = Field(default="default", pattern=type_name)
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _plausible(self) -> Standing:
        if ":" not in owner_of(self.scope):
            raise BadInput("scope", self.scope, "Watch session:NAME, tenant:NAME, group:NAME or public.")
        topics.check_pattern(self.topic)
        predicates.parse(self.where)
        return self


class Stood(Record):
    """A watch and how far it is."""

    standing: Standing
    after: str
    """Position in the log of its scope: what was written up to there has been dealt with."""
    nonce: str = ""
    """Makes each state unlike any other."""
    started: int = 0
    """How many facts became a run."""
    refused: int = 0
    """How many could not become one."""
    last_run: str | None = None
    last_error: str | None = None


Make = Callable[[Standing, Entry, int], JsonValue]
"""The request of a run: of which watch, from which entry, and how long the chain of such runs is, itself included."""


class Standings:
    """The standing watches of a board.

    Args:
        board: an open board; closing it is the caller's business.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._keys = _keys.standings(board.shards[0])

    async def add(self, standing: Standing, *, after: str | None = None) -> Stood:
        """Watch from now on. Adding the same one again changes nothing, not even how far it is.

        Args:
            after: position in the log of its scope after which to begin; ``-`` for all that was ever written. Default: now.

        Raises:
            BadInput: a malformed position.
            Conflict: there is a different one of that name; remove it first.
            EngineUnavailable: the server stayed unreachable.
        """
        if after is not None and after != "-" and not _POSITION.fullmatch(after):
            raise BadInput("after", after, "Pass the position of a fact of the scope, or - for all.")
        for _ in range(_ATTEMPTS):
            known = await self._read(standing.name)
            if known:
                if known[0].standing != standing:
                    raise Conflict("CONFLICT", f"standing watch {standing.name} is there with another definition")
                return known[0]
            begin = await Entries(self._board, standing.scope).position() if after is None else after
            made = Stood(standing=standing, after=begin, nonce=secrets.token_hex(8))
            if await self._write(standing.name, "", made):
                return made
        raise Conflict("CONFLICT", f"standing watch {standing.name} is being changed by too many at once; try again")

    async def list(self) -> list[Stood]:
        """All of them, by name."""
        return sorted(await self._read(""), key=lambda one: one.standing.name)

    async def remove(self, name: str, *, tenant: str | None = None) -> bool:
        """Watch no more; False when there was none. Runs it started go on.

        Args:
            tenant: given, one whose runs are another tenant's is none.
        """
        for _ in range(_ATTEMPTS):
            known = await self._read(name)
            if not known or tenant not in (None, known[0].standing.tenant):
                return False
            if await self._run("schedule_write", name, known[0].model_dump_json(), "", "", ""):
                return True
        raise Conflict("CONFLICT", f"standing watch {name} is being changed by too many at once; try again")

    async def sweep(self, make: Make) -> bool:
        """Let what was written since the last time become runs. Any number of processes may do this at once.

        Args:
            make: the request of each run; the same for the same arguments, wherever it is called.

        Returns:
            Whether there may be more to do at once.
        """
        more = False
        for one in await self.list():
            try:
                more = await self._pass(one, make) or more
            except EngineUnavailable:
                raise
            except ArbiterError as error:  # one of them must not keep the others waiting
                log.error("standing watch %s: %s", one.standing.name, error)
        return more

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _pass(self, one: Stood, make: Make) -> bool:
        owner = owner_of(one.standing.scope)
        rows = await self._page(owner, one.after)
        now = one
        for at, fields in rows:
            if fields["type"] in _FACTS:
                try:
                    now = await self._followed(now, await self._entry(owner, at, fields), make)
                except (QuotaExceeded, BoardFull) as refusal:  # it waits here until there is room
                    now = now.model_copy(update={"last_error": str(refusal)[:500]})
                    break
            now = now.model_copy(update={"after": at})
        if now != one:
            now = now.model_copy(update={"nonce": secrets.token_hex(8)})
            await self._write(one.standing.name, one.model_dump_json(), now)
        return len(rows) == PAGE and now.after == rows[-1][0]

    async def _followed(self, now: Stood, entry: Entry, make: Make) -> Stood:
        watch = now.standing
        wanted = predicates.parse(watch.where)
        if entry.erased is not None or not topics.matches(watch.topic, entry.topic):
            return now
        if not all(each.fits(entry.content, entry.attributes) for each in wanted):
            return now
        depth = 1 + max([0, *[await self._depth(link.to) for link in entry.links if link.rel == "derived_from"]])
        if depth > DEPTH:
            why = (
                f"{entry.id} was made by a chain of {depth - 1} runs that standing watches started, of at most {DEPTH}"
            )
            return now.model_copy(update={"refused": now.refused + 1, "last_error": why})
        key = f"{STANDING}\0{watch.name}\0{entry.id}\0{entry.version}"
        terms = watch.agenda.model_copy(update={"planned": False})
        try:
            run = await self._board.submit(
                make(watch, entry, depth), tenant=watch.tenant, idempotency_key=key, limits=watch.limits,
                taint=read(entry.taint), agenda=terms,
            )  # fmt: skip
        except Conflict:  # it was started before the entry was erased
            return now
        except BadInput as problem:
            return now.model_copy(update={"refused": now.refused + 1, "last_error": str(problem)[:500]})
        return now.model_copy(update={"started": now.started + 1, "last_run": run, "last_error": None})

    async def _depth(self, entry_id: str) -> int:
        """How long the chain of runs is that led to an entry."""
        run = owner_of_entry(entry_id)
        if ":" in run:
            return 0
        first: list[Any] = await self._board.repeated(
            lambda: cast(Any, self._board.client).xrange(self._board.shard_of(run).log(run), count=1)
        )
        if not first:
            return 0
        event = events.parse(first[0][0], first[0][1], run, self._board.source)
        asked = event.data.request if isinstance(event, events.RunAccepted) else None
        asked = await self._board.load(run, asked)
        said = asked.get(STANDING) if isinstance(asked, dict) else None
        depth = said.get("depth") if isinstance(said, dict) else None
        return depth if isinstance(depth, int) else 0

    async def _page(self, owner: str, after: str) -> Sequence[tuple[str, dict[str, str]]]:
        key, low = self._board.shard_of(owner).log(owner), after if after == "-" else f"({stream_id(after)}"
        return await self._board.repeated(lambda: cast(Any, self._board.client).xrange(key, min=low, count=PAGE))

    async def _entry(self, owner: str, at: str, fields: dict[str, str]) -> Entry:
        event = events.parse(at, fields, owner, self._board.source)
        if (blob := events.apart(event)) is not None:
            content = await self._board.blobs.load(owner, blob)
            event = event.model_copy(update={"data": event.data.model_copy(update={"content": content})})
        entry = told(event, None)
        assert entry is not None
        return entry

    async def _read(self, name: str) -> list[Stood]:
        _, *rows = cast("list[str]", await self._run("schedule_read", name))
        return [Stood.model_validate_json(text) for text in rows[2::3]]

    async def _write(self, name: str, before: str, now: Stood) -> bool:
        return bool(
            await self._run("schedule_write", name, before, now.standing.model_dump_json(), now.model_dump_json(), "")
        )

    async def _run(self, name: str, *args: str | int) -> Any:
        script, board = _script.load(name, "_schedule"), self._board
        return await _script.run(board.client, script, self._keys, args, recover=board.engine.ensure)
