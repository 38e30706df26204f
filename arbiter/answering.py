"""Asking openly from a program: post a request that names nobody, wait for what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from arbiter.fold import fold
from arbiter.inquiry import Inquiry, Posting
from arbiter.volunteering import ANSWERS, REQUESTS, UNANSWERED, OpenRequest
from blackboard.entry import Entry
from blackboard.errors import BadInput
from blackboard.topics import check_topic
from blackboard.triggers import AgendaTerms, Query

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


async def post(client: Client, run_id: str, name: str, request: OpenRequest, operation: str | None) -> None:
    """Post a request in a run that goes on; see :meth:`arbiter.client.Client.ask`."""
    check_topic(f"{REQUESTS}.{name}")
    state = fold(run_id, await client.board.history(run_id))
    if state.agenda is None:
        raise BadInput(
            "run_id", run_id, "Nobody hears it there: the run has no agenda. Submit it with agenda=AgendaTerms()."
        )
    notes = client.entries.within(f"run:{run_id}")
    await notes.post(f"{REQUESTS}.{name}", request.content(), expect_topic=0, operation=operation)


async def wait(client: Client, run_id: str, name: str, timeout: float | None) -> Answered:
    """What a request comes to.

    Raises:
        TimeoutError: nothing, within ``timeout`` seconds; the run goes on.
    """
    notes = client.entries.within(f"run:{run_id}")
    ends = (f"{ANSWERS}.{name}", f"{UNANSWERED}.{name}")
    try:
        async with asyncio.timeout(timeout):
            async with contextlib.aclosing(notes.watch(f"*.{name}", after="-", load=False)) as facts:
                async for fact in facts:
                    if fact.data.topic in ends:
                        return Answered(run_id, name, await notes.read(fact.subject))
    except TimeoutError:
        raise TimeoutError(
            f"{REQUESTS}.{name} of run {run_id} has no answer after {timeout:g} s; the run goes on."
        ) from None
    return Answered(run_id, name, None)
