"""Entries over HTTP: written, read, found, followed and taken, within the scopes a token sees."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pydantic import Field, JsonValue
from starlette.responses import JSONResponse, Response

from arbiter.http import answers, bodies, streams
from arbiter.http.access import LOCAL, opens, visible
from arbiter.http.asked import Asked
from arbiter.http.described import EVENTS, KEY, LAST, Answer, Flag, Number, Option, gives, takes
from arbiter.http.problems import Forbidden
from blackboard import erasure, predicates, promotion, topics
from blackboard.audit import somebody
from blackboard.entries import UNSET, Entries, Written
from blackboard.entry import Entry, owner_of, owner_of_entry, scope_of
from blackboard.errors import BadInput, EngineUnavailable, UnknownRecord
from blackboard.events import Event, Relation
from blackboard.types import Record
from registry import schema

PAGE = 100
"""Most entries of an answer."""
WAIT_SECONDS = 60.0
"""Longest wait of one request for something to take."""
_POSITION = re.compile(r"\d{1,15}-\d{1,15}")


class LinkTo(Record):
    rel: Relation
    to: str


class PostedEntry(Record):
    topic: str
    content: JsonValue
    scope: str | None = None
    confidence: float = 1.0
    links: tuple[LinkTo, ...] = ()
    taint: tuple[str, ...] = ()
    seconds: float | None = None
    expect_topic: int | None = None


class Amendment(Record):
    content: JsonValue = None
    confidence: float | None = None
    links: tuple[LinkTo, ...] | None = None
    taint: tuple[str, ...] = ()
    seconds: float | None = None
    """Null for no end of its life."""
    expect: int | None = None
    expect_topic: int | None = None


class Retraction(Record):
    reason: str = ""
    expect: int | None = None
    expect_topic: int | None = None


class Promotion(Record):
    to: str
    topic: str | None = None


class Erasing(Record):
    author: str | None = None
    run: str | None = None
    tenant: str | None = None
    scope: str | None = None
    reason: str = ""


class Taking(Record):
    pattern: str
    where: str = ""
    scope: str | None = None
    wait: float = Field(default=0.0, ge=0, le=WAIT_SECONDS)
    lease_seconds: float | None = None


class Held(Record):
    fence: int


class Renewal(Held):
    lease_seconds: float


_WRITTEN = (Answer(answers.Written, 201), Answer(answers.Written))
_SCOPE = Option("scope", "Those of it; default: the tenant's.")
_PATTERN = Option("pattern", "Of topics.")
_WHERE = Option("where", "Conditions, all of which hold.")
_LIMIT = Number("limit", default=50, most=PAGE)
_AT = Option("at", "A position: as it was then.")
_HISTORY = Flag("history", "All it has said.")
_FIND = (
    _SCOPE, _PATTERN, _WHERE, Option("about", "What they are about, in words."), Option("links_to", "The id of an entry."),
    Option("rel"), _LIMIT, Option("after", "What the page before had there."), _AT,
)  # fmt: skip
_FOLLOW = (_SCOPE, _PATTERN, _WHERE, Option("after", "A position, or - for the first; Last-Event-ID comes first."))


@takes(PostedEntry, *_WRITTEN, headers=(KEY,))
async def post(asked: Asked, said: PostedEntry) -> Response:
    """Write an entry."""
    entries = await _within(asked, said.scope)
    return _written(
        await entries.post(
            said.topic, said.content, confidence=said.confidence, links=await _links(asked, said.links) or (),
            taint=asked.sources(said.taint), seconds=said.seconds, expect_topic=said.expect_topic,
            operation=bodies.idempotency_key(asked.request),
        )
    )  # fmt: skip


@gives(Answer(answers.FoundEntries), options=_FIND)
async def find(asked: Asked) -> Response:
    """The live entries that fit, ranked where ``about`` is given."""
    given = {option.name: option.text(asked.request) for option in _FIND}
    entries = await _within(asked, given["scope"])
    found = await entries.query(
        given["pattern"] or ">", given["where"] or "", about=given["about"], links_to=given["links_to"],
        rel=cast("Relation | None", given["rel"]), limit=_LIMIT.of(asked.request),
        after=given["after"], at=given["at"], load=False,
    )  # fmt: skip
    records = [entry.record() for entry in found.entries]
    for record, rank in zip(records, found.ranks, strict=bool(found.ranks)):
        record |= {"score": round(rank.score, 6), "reasons": list(rank.reasons)}
    return streams.answer({"entries": records, "after": found.after, "position": found.position})


@gives(Answer(answers.Entry | answers.EntryHistory), options=(_AT, _HISTORY))
async def read(asked: Asked) -> Response:
    """One entry, whatever became of it; with ``history`` all it has said."""
    entry_id = asked.path("entry")
    entries = await _of(asked, entry_id)
    if _HISTORY.of(asked.request):
        return streams.answer({"entries": [entry.record() for entry in await entries.history(entry_id)]})
    entry = await entries.read(entry_id, at=asked.request.query_params.get("at"))
    if entry is None:
        raise _unknown(entry_id)
    return streams.answer(entry.record())


@takes(Amendment, *_WRITTEN, headers=(KEY,))
async def amend(asked: Asked, said: Amendment) -> Response:
    """Let an entry say something else from here on."""
    entry_id = asked.path("entry")
    entries = await _of(asked, entry_id)
    named = said.model_fields_set
    return _written(
        await entries.amend(
            entry_id, said.content if "content" in named else UNSET, confidence=said.confidence,
            links=await _links(asked, said.links), taint=asked.sources(said.taint),
            seconds=said.seconds if "seconds" in named else UNSET, expect=said.expect,
            expect_topic=said.expect_topic, operation=bodies.idempotency_key(asked.request),
        )
    )  # fmt: skip


@takes(Retraction, *_WRITTEN, headers=(KEY,))
async def retract(asked: Asked, said: Retraction) -> Response:
    """Say that what an entry says counts no more."""
    entry_id = asked.path("entry")
    entries = await _of(asked, entry_id)
    key = bodies.idempotency_key(asked.request)
    return _written(
        await entries.retract(
            entry_id, said.reason, expect=said.expect, expect_topic=said.expect_topic, operation=key
        )
    )  # fmt: skip


@takes(Held, *_WRITTEN, headers=(KEY,))
async def confirm(asked: Asked, said: Held) -> Response:
    """Have for good what was taken under a lease."""
    return await _held(asked, said, Entries.confirm)


@takes(Renewal, *_WRITTEN, headers=(KEY,))
async def renew(asked: Asked, said: Renewal) -> Response:
    """Hold it for so long from now on."""
    entries = await _of(asked, asked.path("entry"))
    key = bodies.idempotency_key(asked.request)
    return _written(await entries.renew(asked.path("entry"), said.fence, said.lease_seconds, operation=key))


@takes(Held, *_WRITTEN, headers=(KEY,))
async def give_back(asked: Asked, said: Held) -> Response:
    """Let others have it at once."""
    return await _held(asked, said, Entries.give_back)


async def _held(asked: Asked, said: Held, what: Callable[..., Awaitable[Written]]) -> Response:
    entries = await _of(asked, asked.path("entry"))
    key = bodies.idempotency_key(asked.request)
    return _written(await what(entries, asked.path("entry"), said.fence, operation=key))


@takes(Promotion, *_WRITTEN, headers=(KEY,))
async def promote(asked: Asked, said: Promotion) -> Response:
    """Keep what an entry says in a scope that lasts longer, which the token sees as well."""
    entry_id = asked.path("entry")
    entries = await _of(asked, entry_id)
    await _within(asked, said.to)
    key = bodies.idempotency_key(asked.request)
    return _written(await promotion.promote(entries, entry_id, said.to, topic=said.topic, operation=key))


@takes(Erasing, Answer(erasure.Erased))
async def erase(asked: Asked, said: Erasing) -> Response:
    """Take what somebody wrote, or what a run or a tenant did, off the board. A token of a tenant erases what is the tenant's."""
    scope, tenant = said.scope, asked.token.tenant
    if scope is not None:
        await _within(asked, scope)
    if said.run is not None and tenant is not None:
        await visible(asked.board, asked.token, said.run)
    if tenant is not None:
        if said.tenant not in (None, tenant):
            raise Forbidden(f"This token is confined to tenant {tenant}.")
        if said.author is not None and scope is None:
            scope = f"tenant:{tenant}"
    by = somebody() if asked.token.id == LOCAL else f"token:{asked.token.name}"
    found = await erasure.erase(
        asked.board, author=said.author, run=said.run, tenant=said.tenant, scope=scope, by=by, reason=said.reason
    )
    return streams.answer(dataclasses.asdict(found))


@takes(Taking, Answer(answers.TakenEntry), headers=(dataclasses.replace(KEY, required=True),))
async def take(asked: Asked, said: Taking) -> Response:
    """Take an entry off the board. It needs a key: who lost the answer asks again and gets the same entry."""
    key = bodies.idempotency_key(asked.request)
    if key is None:
        raise BadInput("Idempotency-Key", None, "Give one: after a lost answer the same key finds what was taken.")
    entries = await _within(asked, said.scope)
    taking = asyncio.ensure_future(
        entries.take(
            said.pattern, said.where, seconds=said.wait, lease_seconds=said.lease_seconds, operation=key
        )
    )  # fmt: skip
    closing = asyncio.ensure_future(asked.closing.wait())
    try:
        await asyncio.wait({taking, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            raise EngineUnavailable("This process is ending. Ask again, with the same key.")
        entry: Entry | None = taking.result()
    finally:
        taking.cancel()
        closing.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await taking
    return streams.answer({"entry": None if entry is None else entry.record()})


@gives(Answer(Event, media=EVENTS), options=_FOLLOW, headers=(LAST,))
async def follow(asked: Asked) -> Response:
    """What happens to entries, as Server-Sent Events."""
    given = asked.request.query_params
    entries = await _within(asked, given.get("scope"))
    after = asked.request.headers.get("last-event-id") or given.get("after")
    if after not in (None, "-") and not _POSITION.fullmatch(after):
        raise BadInput("Last-Event-ID", after, "Give the id of the last event that was received, a position, or -.")
    pattern = topics.check_pattern(given.get("pattern", ">"))
    wanted = predicates.parse(given.get("where", ""))
    # From now on, whenever the stream is first read.
    after = after or await entries.position()
    watched = entries.watch(pattern, wanted, after=after, load=False)
    return streams.stream(asked, watched)


# ---- what a token sees -------------------------------------------------------------------------------------------------


async def _within(asked: Asked, scope: str | None) -> Entries:
    """The entries of a scope: of a tenant's token the tenant's and those of its runs.

    Raises:
        BadInput: there is no such scope.
        Forbidden: the token is confined to another one, or was not let into the group.
        UnknownRecord: there is no such run, or it is not the tenant's.
    """
    mine = f"tenant:{asked.token.tenant or asked.client.tenant}"
    scope = mine if scope is None else scope
    owner = owner_of(scope)
    if scope.startswith("run:"):
        await visible(asked.board, asked.token, owner)
    else:
        opens(asked.token, scope)
    return Entries(asked.board, scope, checker=schema, author=asked.author, meaning=asked.client.registry.meaning)


async def _of(asked: Asked, entry_id: str) -> Entries:
    """The entries among which one is; what a token does not see is unknown to it."""
    scope = scope_of(owner_of_entry(entry_id))
    try:
        return await _within(asked, scope)
    except (Forbidden, UnknownRecord):
        raise _unknown(entry_id) from None


async def _links(asked: Asked, given: tuple[LinkTo, ...] | None) -> list[tuple[Relation, str]] | None:
    """The links, each to an entry the token sees."""
    for link in given or ():
        await _of(asked, link.to)
    return None if given is None else [(link.rel, link.to) for link in given]


def _unknown(entry_id: str) -> UnknownRecord:
    return UnknownRecord("UNKNOWN", f"no entry {entry_id} on this board")


def _written(written: Written) -> Response:
    said: dict[str, Any] = {
        "id": written.id, "version": written.version, "position": written.position, "new": written.new,
    }  # fmt: skip
    return JSONResponse(said, 201 if written.new else 200)
