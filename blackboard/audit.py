"""Who did what to a board, and what code used of what it was granted: records that are written once and never changed.

A record of a change is written by the very script that makes the change, so neither is there without the other. What no
script changes (a secret that is about to be used, a process without a sandbox) is put on record before it happens.

Three kinds of streams, each of about its latest 100,000 records: one of the registry's tag for what people decided (keys,
versions, grants, tokens), one there for what code used, so that much use does not push decisions out, and one of each
shard for what people did to its runs, and to schemas on the first one. They are read as one, by the server's time.

======================  ====================================================================================================
kind                    subject, and what is in ``detail``
======================  ====================================================================================================
``key.trusted``         a key's id
``key.revoked``         the same
``version.signed``      ``<name>|<sha>``; ``key``
``version.activated``   the same: somebody made it the active one, such as one to go back to; or, as ``by`` says, reflection went
                        back to it: ``version`` and ``earlier``, with hash, numbers of tasks and the bound taken from them
                        (of a canary that took its place: ``canary`` and ``active``)
``version.retired``     the same: somebody, or the peer it was of, offers it no more; or reflection, then with ``version``
                        (of a canary that was ended: ``canary`` and ``active``)
``version.revoked``     the same
``version.tried``       the same: somebody lets a share of the runs use it beside the active one
``grants.approved``     the same: a person let a version run with the grants it asks for, or, as ``by`` says, a policy did:
                        ``grants``, ``rules`` (all that it says) and ``sources`` that are not trusted and asked for it
``grants.refused``      the same: a person did not
``matching.calibrated`` ``matching``; ``cases``, and how well it fits them: what turns signals into probabilities
``token.made``          a token's id; ``name``, ``scopes``, ``tenant``, ``expires_ms``
``token.revoked``       the same; ``name``
``token.refused``       the same, or ``?`` for what is no token; ``why``, ``count``, ``address``
``isolation.lowered``   a process; ``backend``: it runs generated code in no sandbox, as it was set
``http.public``         a process; ``address``: its API can be reached from other machines
``secret.used``         a task; ``handle``, ``host``, ``attempt``, ``capability``: before the first use of it in the attempt
``secret.asked``        a task; ``permit``, ``secrets``, ``sources``: a person has to say whether its request may carry them
``secret.approved``     the same: a person said that it may
``secret.refused``      the same: a person said that it may not
``grants.used``         a task; ``attempt``, ``capability``, and counts: ``http`` by host, ``files`` and ``secrets`` by handle
``grants.exceeded``     a task; ``attempt``, ``capability``: it asked for more than it was granted and was ended
``run.cancelled``       a run; ``tenant``
``run.paused``          the same
``run.resumed``         the same
``task.cancelled``      a task; ``tenant``
``task.approved``       the same: a person let it be done, with the arguments that ``approval.answered`` or ``.asked`` tells
``task.refused``        the same: a person did not
``task.answered``       the same: a person answered what a planning model asked
``callback.answered``   the same: what it waited for came from outside, from whoever held its token; ``reason`` is its status
``callback.refused``    the same: a token that counts no more was shown, with an outcome; the first time for each token
``letters.discarded``   the first of the dead letters; ``tenant``
``activation.promoted`` an activation of a run's agenda; ``tenant``
``activation.blocked``  the same
``activation.unblocked`` the same
``activation.rerated``  the same
``entries.erased``      ``author``, ``run:<id>`` or ``tenant:<name>``; ``scope``: before anything of it is erased
``entries.compacted``   a scope, before anything is taken out of its log
``schema.set``          a pattern of topics: what contents on them must look like, in every scope of the board
``schema.removed``      the same
``webhook.set``         a webhook; its terms: before events are sent there
``webhook.removed``     the same
``webhook.disabled``    the same: its receiver said that it is gone
======================  ====================================================================================================
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from pydantic import Field, JsonValue

from blackboard import _script
from blackboard.errors import BadInput
from blackboard.types import Record

if TYPE_CHECKING:
    from blackboard.board import Board

KINDS = (
    "key.trusted", "key.revoked", "version.signed", "version.activated", "version.retired", "version.revoked",
    "grants.approved", "grants.refused", "matching.calibrated", "token.made", "token.revoked", "token.refused",
    "isolation.lowered", "http.public", "secret.used", "secret.asked", "secret.approved", "secret.refused",
    "grants.used", "grants.exceeded", "run.cancelled", "run.paused", "run.resumed", "task.cancelled", "task.approved",
    "task.refused", "task.answered", "callback.answered", "callback.refused",
    "letters.discarded", "activation.promoted", "activation.blocked",
    "activation.unblocked", "activation.rerated", "entries.erased", "entries.compacted",
    "schema.set", "schema.removed", "version.tried", "webhook.set", "webhook.removed", "webhook.disabled",
)  # fmt: skip
FOLLOW_SECONDS = 1.0
"""How often :meth:`Audit.follow` looks."""
_PAGE = 500
_REMEDY = (
    "Write terms like kind=token.*,run.cancelled by~ann subject~r01 since=1d until=2026-01-31, with spaces between."
)
_DECIDED = {
    "trusted": "key.trusted",
    "approved": "grants.approved",
    "activated": "version.activated",
    "retired": "version.retired",
    "refused": "grants.refused",
    "calibrated": "matching.calibrated",
    "tried": "version.tried",
}

Kind = Literal[
    "token.refused",
    "isolation.lowered",
    "http.public",
    "secret.used",
    "grants.used",
    "grants.exceeded",
    "entries.erased",
    "entries.compacted",
    "webhook.set",
    "webhook.removed",
    "webhook.disabled",
]
"""What is put on record by itself; the rest is written by the scripts that do it."""
_USES: tuple[Kind, ...] = ("token.refused", "secret.used", "grants.used", "grants.exceeded")


@cache
def somebody() -> str:
    """Who acts here, for the audit: ``user@machine``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"[:200]


class Entry(Record):
    """One record."""

    cursor: str
    """Where it stands; give it to :meth:`Audit.list` to go on behind it."""
    kind: str
    """One of :data:`KINDS`."""
    subject: str
    by: str = ""
    """Who, in words: ``user@machine``, ``token NAME (ID)``, or a worker."""
    reason: str = ""
    at: float
    """Seconds since the epoch, on the server's clock."""
    detail: Mapping[str, JsonValue] = Field(default_factory=dict)


class Where(Record):
    """Which records are meant; what is not given does not matter."""

    kind: tuple[str, ...] = ()
    """Any of these; with ``*`` as in file names."""
    by: tuple[str, ...] = ()
    """All of these words are in it, whatever their case."""
    subject: tuple[str, ...] = ()
    """The same."""
    since: float | None = None
    """Then or later, in seconds since the epoch on the server's clock."""
    until: float | None = None
    """Before."""

    @classmethod
    def parse(cls, text: str, *, now: float | None = None) -> Where:
        """The terms of a text such as ``kind=token.* by~ann since=1d``.

        Args:
            now: seconds since the epoch, for times that are given as an age. Default: this machine's clock.

        Raises:
            BadInput: a term that cannot be understood.
        """
        from blackboard.runs import moment, terms

        now = time.time() if now is None else now
        found: dict[str, Any] = {"by": [], "subject": []}
        for term, name, sign, value in terms(text, _REMEDY):
            if (name, sign) == ("kind", "="):
                found["kind"] = _kinds(value)
            elif name in ("since", "until") and sign == "=":
                found[name] = moment(value, now=now, field=f"where.{name}")
            elif name in ("by", "subject") and sign == "~":
                found[name].append(value.lower())
            else:
                raise BadInput("where", term, _REMEDY)
        return cls.model_validate(found)

    def fits(self, entry: Entry) -> bool:
        """Whether a record is meant."""
        return (
            (not self.kind or any(fnmatchcase(entry.kind, pattern) for pattern in self.kind))
            and all(word in entry.by.lower() for word in self.by)
            and all(word in entry.subject.lower() for word in self.subject)
            and (self.since is None or entry.at >= self.since)
            and (self.until is None or entry.at < self.until)
        )


_LONGEST_WORD = 64


def _kinds(value: str) -> tuple[str, ...]:
    words = tuple(word for word in value.split(",") if word)
    for word in words:
        # Making a pattern of a long word takes the square of its length.
        if len(word) > _LONGEST_WORD or not any(fnmatchcase(kind, word) for kind in KINDS):
            raise BadInput("where.kind", word, f"Use any of {', '.join(KINDS)}; with * as in file names.")
    if not words:
        raise BadInput("where.kind", value, "Name a kind; several with commas.")
    return words


class Page(Record):
    """Records that were found, and where to go on."""

    entries: tuple[Entry, ...] = ()
    """Newest first."""
    after: str | None = None
    """Give it to :meth:`Audit.list` for the next page; None when there is none."""


_Row = tuple[str, dict[str, str]]
_Place = tuple[int, int, str]
"""Milliseconds, number and stream: the order of all records."""


class Audit:
    """The records of one board.

    Args:
        board: an open board; closing it is the caller's business.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._streams = {"d": board.catalog.trail("audit"), "u": board.catalog.trail("uses")} | {
            str(shard.number): shard.audit for shard in board.shards
        }

    async def note(
        self,
        kind: Kind,
        subject: str,
        *,
        by: str | None = None,
        reason: str = "",
        detail: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Put something on record. When this returns, it is there, once.

        Args:
            by: who. Default: the user of this process.

        Raises:
            EngineUnavailable: the server stayed unreachable, and nobody knows whether it is there.
        """
        operation = uuid4().hex
        await self._board.catalog.call(
            "catalog_note",
            [
                *(operation, "uses" if kind in _USES else "audit", kind, subject),
                *(somebody() if by is None else by, reason, json.dumps(dict(detail or {}))),
            ],
            operation=operation,
        )

    async def list(self, where: str | Where = "", *, limit: int = 50, after: str | None = None) -> Page:
        """The latest records that are meant, newest first.

        Args:
            where: which, as text or as a :class:`Where`.
            limit: records in a page, at most.
            after: where the page before ended.

        Raises:
            BadInput: a term that cannot be understood, a limit below 1, or a malformed ``after``.
            EngineUnavailable: the server stayed unreachable.
        """
        if limit < 1:
            raise BadInput("limit", limit, "Ask for at least one record.")
        meant = Where.parse(where) if isinstance(where, str) else where
        place = None if after is None else _place(after)
        heads: list[tuple[Entry, AsyncGenerator[Entry, None]]] = []
        for name in self._streams:
            await _next(self._newest(name, place), heads)
        found: list[Entry] = []
        while heads:
            newest = max(heads, key=lambda head: _place(head[0].cursor))
            heads.remove(newest)
            entry, rest = newest
            if meant.since is not None and entry.at < meant.since:
                break
            if meant.fits(entry):
                if len(found) == limit:
                    return Page(entries=tuple(found), after=found[-1].cursor)
                found.append(entry)
            await _next(rest, heads)
        return Page(entries=tuple(found))

    async def _newest(self, name: str, place: _Place | None) -> AsyncGenerator[Entry, None]:
        """The records of one stream before a place, newest first."""
        client: Any = self._board.client
        end = "+" if place is None else f"{place[0]}-{place[1]}"
        while True:
            page: list[_Row] = await _script.retrying(
                lambda end=end: client.xrevrange(self._streams[name], end, "-", count=_PAGE),
                seconds=self._board.engine.patience_seconds,
            )
            for position, fields in page:
                entry = _entry(name, position, fields)
                if place is None or _place(entry.cursor) < place:
                    yield entry
            if len(page) < _PAGE:
                return
            end = f"({page[-1][0]}"

    async def end(self) -> Mapping[str, str]:
        """Where each stream ends now, for :meth:`follow`."""
        client: Any = self._board.client
        known: dict[str, str] = {}
        for name, key in self._streams.items():
            newest: list[_Row] = await _script.retrying(
                lambda k=key: client.xrevrange(k, count=1), seconds=self._board.engine.patience_seconds
            )
            known[name] = newest[0][0] if newest else "0-0"
        return known

    async def follow(
        self, where: str | Where = "", since: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Entry, None]:
        """Records that are meant, as they are written; until it is closed.

        Args:
            where: which, as text or as a :class:`Where`.
            since: what :meth:`end` said: those after it. Default: from now on.

        Raises:
            BadInput: a term that cannot be understood.
            EngineUnavailable: the server stayed unreachable.
        """
        meant = Where.parse(where) if isinstance(where, str) else where
        client: Any = self._board.client
        patience = self._board.engine.patience_seconds
        known = dict(await self.end() if since is None else since)
        while True:
            found: list[Entry] = []
            for name, key in self._streams.items():
                rows: list[_Row] = await _script.retrying(
                    lambda k=key, n=name: client.xrange(k, f"({known[n]}", "+", count=_PAGE), seconds=patience
                )
                found += [_entry(name, position, fields) for position, fields in rows]
                known[name] = rows[-1][0] if rows else known[name]
            for entry in sorted(found, key=lambda each: _place(each.cursor)):
                if meant.fits(entry):
                    yield entry
            await asyncio.sleep(FOLLOW_SECONDS)


async def _next(rest: AsyncGenerator[Entry, None], heads: list[tuple[Entry, AsyncGenerator[Entry, None]]]) -> None:
    async for entry in rest:
        heads.append((entry, rest))
        return


def _entry(stream: str, position: str, fields: Mapping[str, str]) -> Entry:
    verb, subject = fields["verb"], fields["subject"]
    kind = _DECIDED.get(verb, verb)
    if verb in ("signed", "revoked"):
        kind = f"{'version' if '|' in subject else 'key'}.{verb}"
    detail: dict[str, JsonValue] = json.loads(fields.get("detail") or "{}") or {}
    for name in ("key", "tenant"):
        if fields.get(name):
            detail[name] = fields[name]
    return Entry.model_construct(
        cursor=f"{position}-{stream}", kind=kind, subject=subject, by=fields["by"], reason=fields["reason"],
        at=int(fields["at"]) / 1000, detail=detail,
    )  # fmt: skip


def _place(cursor: str) -> _Place:
    match = re.fullmatch(r"(\d{1,16})-(\d{1,16})-(d|u|\d{1,3})", cursor)
    if match is None:
        raise BadInput("after", cursor, "Give what the page before said.")
    return int(match[1]), int(match[2]), match[3]
