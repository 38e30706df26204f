"""Runs without a plan: what is known is written on their board, and capabilities volunteer until the question is answered.

Such a run has steps like any other, taken when nothing waits on its agenda and no task is open: the first writes what is known;
a later one finds the answer, or awards an open request, or tells those who wait for it that nothing is left to do, or finds
that nobody has anything more to say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import JsonValue

from arbiter.fold import RunState
from arbiter.used_up import used_up
from blackboard import entry_checks
from blackboard.activation import AgendaFold
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import ENTRY_BYTES, Entries
from blackboard.entry import Entry, owner_of_entry, scope_of
from blackboard.errors import BadInput, UnknownRecord
from blackboard.events import Author, Link, RoundPlannedData, RunCompletedData
from blackboard.payloads import STEP_BYTES, dump
from blackboard.plan import Wait
from blackboard.topics import check_topic
from blackboard.triggers import AgendaTerms, Query
from blackboard.types import Failure, TaskSpec
from registry import Registry, schema

MOST = 1000
"""Most entries an inquiry begins with."""
QUIET = "control.quiet"
"""Topic of the entry that an inquiry writes when nothing is left to do: for sources that sum up, or ask for what is missing."""
SAID = 4000
ANSWER_BYTES = STEP_BYTES - 64 * 1024
"""Largest answer that is given as it is, as JSON: it stands in the log of the run, where what is larger is an entry already."""
ENTRIES = "inquiry"
"""What the request of such a run has its entries under."""


@dataclass(frozen=True, slots=True)
class Posting:
    """An entry to be written when an inquiry begins."""

    topic: str
    content: JsonValue
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A request that is answered by whoever volunteers: ``await a.run(Inquiry([Posting("claims.invoice", {...})]))``.

    Args:
        entries: what is known; written on the run's board when it begins.
        agenda: its terms. ``until`` says what an answer is: the newest entry that fits is the run's; without it the run ends well
            when nothing is left to do.
    """

    entries: Sequence[Posting]
    agenda: AgendaTerms = field(default_factory=AgendaTerms)

    def request(self) -> dict[str, JsonValue]:
        """The request of its run.

        Raises:
            BadInput: no entry, too many, or a malformed one.
        """
        if not 1 <= len(self.entries) <= MOST:
            raise BadInput("entries", len(self.entries), f"Give 1 to {MOST} entries to begin with.")
        for one in self.entries:
            check_topic(one.topic)
            dump(one.content, "content", ENTRY_BYTES)
            entry_checks.confidence(one.confidence)
        return {
            ENTRIES: [
                {"topic": one.topic, "content": one.content, "confidence": one.confidence} for one in self.entries
            ]
        }

    def terms(self) -> AgendaTerms:
        """The terms of its run."""
        return self.agenda.model_copy(update={"planned": False})


async def take_step(attempt: Attempt, state: RunState, registry: Registry) -> None:
    """Take a step of an inquiry, and commit it."""
    from arbiter.awarding import Awarding  # with the tools of a planner, which a client does not need

    board, claim = attempt.board, attempt.claim
    entries = Entries(board, f"run:{claim.run_id}", checker=schema)
    terms = state.agenda or AgendaTerms()

    async def commit(
        said: str, tasks: Sequence[TaskSpec] = (), outcome: RunCompletedData | None = None, *,
        wait: Wait | None = None, attending: bool = False,
    ) -> None:  # fmt: skip
        planned = RoundPlannedData(
            round=claim.round, message={"role": "assistant", "content": [{"text": said[:SAID]}]},
            taint=state.request_taint, attending=attending,
        )  # fmt: skip
        await board.commit_step(claim, planned, tasks, state.limits, outcome, unplanned=True, wait=wait)
        if outcome is not None:
            attempt.run_ended(outcome.status)

    if claim.round == 1:
        request = cast("Mapping[str, Any]", await board.load(claim.run_id, state.request))
        for number, one in enumerate(request[ENTRIES]):
            origin = one.get("derived_from")
            links = [Link(rel="derived_from", to=origin)] if origin and await _there(entries, origin) else []
            await entries.post(
                one["topic"], one["content"], confidence=one["confidence"], taint=state.request_taint, links=links,
                author=Author(kind="program", name=ENTRIES), operation=f"{ENTRIES}:{number}",
            )  # fmt: skip
        return await commit("What is known is on the board.")
    found = None if terms.until is None else await newest(entries, terms.until)
    awarding = Awarding(board, registry, claim, state, entries)
    spent = "" if found is not None else await used_up(board, state)
    if found is None and not spent and state.decisions + 1 < state.limits.rounds:
        stock = await awarding.take_stock()
        if stock.told or stock.wait is not None:
            return await commit(
                "\n".join(stock.told or stock.waiting.values()), stock.tasks, wait=stock.wait, attending=True
            )
        if await _said_quiet(board, claim, state, entries):
            return await commit("Nothing is left to do, and those who wait for that were told.")
    await awarding.close("the run came to its end before that")
    summary = await _summary(board, claim.run_id)
    outcome: dict[str, Any] = {"status": "succeeded", "rounds": claim.round}
    if spent:
        why = Failure(type="limit", message=f"Nothing more was picked: {spent}. {summary}")
        outcome |= {"status": "failed", "error": why}
    elif terms.until is None:
        outcome["answer"] = summary
    elif found is not None:
        outcome["answer"] = _answer(found)
    else:
        said = f"Nothing fits {terms.until}, and nobody has anything more to say. {summary}"
        said += await _unanswered(entries)
        outcome |= {"status": "failed", "error": Failure(type="stagnation", message=said)}
    await commit(summary, (), RunCompletedData(**outcome))


async def _there(entries: Entries, entry_id: str) -> bool:
    """Whether an entry of another scope can still be linked to."""
    return await entries.within(scope_of(owner_of_entry(entry_id))).read(entry_id, load=False) is not None


def _answer(found: Entry) -> str:
    """What an entry says; of more than an answer may have, its beginning and where the rest is."""
    text = found.content if isinstance(found.content, str) else json.dumps(found.content)
    if len(json.dumps(text)) <= ANSWER_BYTES:
        return text
    return f"{text[:SAID]}… ({len(text):,} characters; the whole is the entry {found.id})"


async def _unanswered(entries: Entries) -> str:
    """Why the open requests of the run were not answered, as far as they fit into a sentence."""
    found = await entries.query("unanswered.>", limit=10)
    return "".join(
        f" {one.topic.replace('unanswered', 'requests', 1)}: {one.content.get('reason')}."[: SAID // 10]
        for one in found.entries
        if isinstance(one.content, dict)
    )


async def _said_quiet(board: Board, claim: Claim, state: RunState, entries: Entries) -> bool:
    """Tell those who wait for it that nothing is left to do. False where nobody does, or nothing came of it the last time."""
    content: JsonValue = {"round": claim.round}
    compiled = await board.triggers.current(board.shard_of(claim.run_id))
    if not compiled.fitting(QUIET, content, {"@confidence": 1.0, "@version": 1}):
        return False
    last = await newest(entries, Query(), load=False)
    if last is not None and last.topic == QUIET and last.content != content:
        return False
    author = Author(kind="program", name=ENTRIES)
    await entries.post(
        QUIET, content, author=author, taint=state.request_taint, operation=f"{ENTRIES}:quiet:{claim.round}"
    )
    return True


async def newest(entries: Entries, query: Query, *, load: bool = True) -> Entry | None:
    """The newest entry that fits, large or not."""
    best: Entry | None = None
    after: str | None = None
    while True:
        found = await entries.query(query.topic, query.where, limit=1000, after=after, load=load)
        for one in found.entries:
            if best is None or one.position > best.position:
                best = one
        if (after := found.after) is None:
            return best


async def _summary(board: Board, run_id: str) -> str:
    """What the agenda came to, in a sentence or two."""
    try:
        log = await board.history(run_id)
    except UnknownRecord:
        return ""
    fold = AgendaFold(run_id).apply(log)
    states = Counter(one.state for one in fold.activations.values())
    told = ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none"
    parked = next((one.why for one in fold.activations.values() if one.state == "parked"), "")
    return f"Activations: {told}." + (f" One that is parked: {parked}." if parked else "")
