"""Asking openly from a program: post a request that names nobody, wait for what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from arbiter.fold import fold
from arbiter.inquiry import ENTRIES, Inquiry, Posting
from arbiter.volunteering import ANSWERS, AWARDS, BIDS, REQUESTS, UNANSWERED, OpenRequest
from blackboard.entry import Entry
from blackboard.errors import BadInput, UnknownRecord
from blackboard.topics import check_topic
from blackboard.triggers import AgendaTerms, Query
from blackboard.types import Limits

if TYPE_CHECKING:
    from arbiter.client import Client


@dataclass(frozen=True, slots=True)
class Answered:
    """What an open request came to."""

    run_id: str
    name: str
    """Of its topics: ``requests.NAME``, ``awards.NAME``, …"""
    entry: Entry | None
    """On ``answers.NAME`` or ``unanswered.NAME``; None where the run ended before either."""

    @property
    def succeeded(self) -> bool:
        return self.entry is not None and self.entry.topic == f"{ANSWERS}.{self.name}"

    @property
    def answer(self) -> JsonValue:
        """What the awarded capability returned; None without an answer."""
        return self.entry.content if self.entry is not None and self.succeeded else None

    @property
    def reason(self) -> str:
        """Why there is no answer; empty where there is one."""
        if self.succeeded:
            return ""
        if self.entry is None:
            return f"run {self.run_id} ended before it was answered"
        said = self.entry.content
        return str(said.get("reason")) if isinstance(said, dict) else str(said)


def inquiry(request: OpenRequest, name: str) -> Inquiry:
    """The run that does nothing but have a request answered."""
    terms = AgendaTerms(until=Query(topic=f"{ANSWERS}.{name}"))
    return Inquiry([Posting(f"{REQUESTS}.{name}", request.content())], terms)


async def begin(
    client: Client, request: OpenRequest, name: str, run_id: str | None, key: str | None, tenant: str | None = None,
    limits: Limits | None = None, sources: Sequence[str] | None = None,
) -> str:  # fmt: skip
    """Post a request, in a run that goes on or in one of its own; see :meth:`arbiter.client.Client.ask`. The id of the run."""
    if run_id is None:
        return await client.submit(
            inquiry(request, name), idempotency_key=key, tenant=tenant, limits=limits, sources=sources
        )
    check_topic(f"{REQUESTS}.{name}")
    state = fold(run_id, await client.board.history(run_id))
    if state.agenda is None:
        raise BadInput(
            "run_id", run_id, "Nobody hears it there: the run has no agenda. Submit it with agenda=AgendaTerms()."
        )
    notes = client.entries.within(f"run:{run_id}")
    await notes.post(f"{REQUESTS}.{name}", request.content(), expect_topic=0, operation=key, taint=sources or ())
    return run_id


def ends(name: str) -> tuple[str, str]:
    """The topics of what a request comes to."""
    return f"{ANSWERS}.{name}", f"{UNANSWERED}.{name}"


async def follow(client: Client, run_id: str, name: str) -> AsyncGenerator[Entry, None]:
    """What is written about a request, as it is, up to what it came to, or the end of the run."""
    notes = client.entries.within(f"run:{run_id}")
    async with contextlib.aclosing(notes.watch(f"*.{name}", after="-", load=False)) as facts:
        async for fact in facts:
            entry = await notes.read(fact.subject)
            if entry is None:
                continue
            yield entry
            if entry.topic in ends(name):
                return


async def wait(client: Client, run_id: str, name: str, timeout: float | None) -> Answered:
    """What a request comes to.

    Raises:
        TimeoutError: nothing, within ``timeout`` seconds; the run goes on.
    """
    try:
        async with asyncio.timeout(timeout), contextlib.aclosing(follow(client, run_id, name)) as entries:
            async for entry in entries:
                if entry.topic in ends(name):
                    return Answered(run_id, name, entry)
    except TimeoutError:
        raise TimeoutError(
            f"{REQUESTS}.{name} of run {run_id} has no answer after {timeout:g} s; the run goes on."
        ) from None
    return Answered(run_id, name, None)


async def record(client: Client, run_id: str, name: str) -> dict[str, JsonValue]:
    """How a request stands, as JSON: ``status`` (``open``, ``answered``, ``unanswered``, or ``ended`` where its run is over),
    ``bids``, ``award``, ``answer`` and ``reason``, each where there is one. Once there is an award, each bid says whether it was
    ``considered``: one that came later was not.

    Raises:
        UnknownRecord: no such run, or nothing was asked in it under that name.
    """
    notes = client.entries.within(f"run:{run_id}")
    run = await client.board.summary(run_id)
    found = (await notes.query(f"*.{name}", limit=1000)).entries
    about: dict[str, list[Entry]] = {}
    for one in found:
        about.setdefault(one.topic.partition(".")[0], []).append(one)
    if REQUESTS not in about and not await _asks(client, run_id, name):
        raise UnknownRecord("UNKNOWN", f"no request {REQUESTS}.{name} in run {run_id}")
    said: dict[str, JsonValue] = {"run_id": run_id, "name": name, "status": "open" if run.ended_at is None else "ended"}
    bids = [_said(one) for one in about.get(BIDS, ())]
    said["bids"] = [*bids]
    for award in about.get(AWARDS, ())[:1]:
        said["award"] = _said(award)
        rows = award.content.get("candidates") if isinstance(award.content, dict) else None
        known = [one.get("bid") for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []
        for one in bids:
            one["considered"] = one["entry"] in known
    for answer in about.get(ANSWERS, ())[:1]:
        said |= {"status": "answered", "answer": answer.content}
    for end in about.get(UNANSWERED, ())[:1]:
        said |= {"status": "unanswered", "reason": Answered(run_id, name, end).reason}
    return said


async def _asks(client: Client, run_id: str, name: str) -> bool:
    """Whether a run was started for a request, which its first step writes on the board."""
    request = fold(run_id, await client.board.history(run_id)).request
    begun = request.get(ENTRIES) if isinstance(request, dict) else None
    return isinstance(begun, list) and any(
        isinstance(one, dict) and one.get("topic") == f"{REQUESTS}.{name}" for one in begun
    )


def _said(entry: Entry) -> dict[str, JsonValue]:
    return {"entry": entry.id, "confidence": entry.confidence, "content": entry.content}
