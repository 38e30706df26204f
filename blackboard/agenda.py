"""The agenda of a run: what waits on it, what would be picked, why something was or was not, and overruling that.

What control does with it is :meth:`Agenda.view` and :meth:`Agenda.decide`; see :mod:`arbiter.control`.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from blackboard import _script, activation, strategies, taking_over
from blackboard._calling import STEP_LANE
from blackboard.activation import Activation, AgendaFold, number_of
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries, Written
from blackboard.errors import BadInput, UnknownRecord
from blackboard.events import AgendaDecidedData, Author, Event
from blackboard.explaining import Explanation, explained
from blackboard.refusing import refused
from blackboard.triggers import AgendaTerms

PAGE = 500
"""Most activations that one call rates or sets aside."""
BIDDERS = 32
"""Most tasks of a run at a time that were asked to bid on its open requests; the scripts have the same number."""


@dataclass(frozen=True, slots=True)
class View:
    """An agenda as control sees it."""

    running: int
    """Picked, and not over."""
    waiting: int
    parked: int
    facts: int
    """How many facts about entries there were."""
    seen: int
    """How many of them the last decision knew."""
    strategy_version: str
    """By which what waits was rated."""
    fresh: tuple[Activation, ...]
    """The first that are not rated yet."""
    best: tuple[Activation, ...]
    """The first of those that are, the best first."""
    aside: tuple[Activation, ...]
    """The parked ones that were asked for."""
    shaken: bool
    """Something was written that may have taken what runs its premise."""
    uncompared: str | None = None
    """An entry that the board wrote itself, which nobody has compared with triggers yet."""
    bidding: int = 0
    """How many of those that run were asked to bid on open requests; see :data:`BIDDERS`."""
    asked: bool = False
    """Something was written about open requests, at any time."""
    open: int = 0
    """Tasks of the run that are not over, of every kind."""


@dataclass(frozen=True, slots=True)
class Pick:
    """An activation that becomes a task."""

    number: int
    spec: str
    input: str
    lane: str
    bids: bool = False
    """It is asked to bid on an open request; its spec says so."""


class Beside(NamedTuple):
    """What the open requests of a run need while other work of it goes on."""

    open: int
    """What :attr:`View.open` was before they were looked at."""
    until_ms: int | None = None
    """Since the epoch, on the server's clock: while other work goes on, control looks again then, or when something is written
    about requests, or ends."""
    tasks: Sequence[tuple[str, str]] = ()
    """Spec and input of what is posted for them."""
    lanes: Sequence[str] = ()
    """Of these tasks."""
    taken: Sequence[str] = ()
    """What :func:`blackboard.taking_over.told` tells of them."""


class Compared(NamedTuple):
    """Which triggers an entry fits."""

    entry: str
    version: str
    """Of the triggers of the shard."""
    keys: str


@dataclass(frozen=True, slots=True)
class Strategy:
    """Which strategy a run is to be rated by."""

    name: str
    weights: Mapping[str, float]
    version: str
    """Id and version of the entry that says so; :data:`~blackboard.strategies.TERMS` for the terms of the run."""
    trouble: str = ""
    """What is wrong with that entry, for which :data:`~blackboard.strategies.DEFAULT` stands in."""


class Agenda:
    """The agenda of one run.

    Args:
        board: an open board.
        run_id: the run's.
    """

    def __init__(self, board: Board, run_id: str) -> None:
        self._board, self.run_id = board, run_id
        self._shard = board.shard_of(run_id)
        self._entries = Entries(board, f"run:{run_id}")

    # ---- for whoever asks --------------------------------------------------------------------------------------------

    async def activations(self, state: str | None = None) -> list[Activation]:
        """Every activation there ever was, in the order they were made; of a finished run as well.

        Args:
            state: only those in this one; see :class:`~blackboard.activation.Activation`.

        Raises:
            BadInput: there is no such state.
            UnknownRecord: no such run.
        """
        if state is not None and state not in activation.STATES:
            raise BadInput("state", state, f"Use one of {', '.join(activation.STATES)}.")
        found = (await self._fold())[0].activations.values()
        return [one for one in found if state in (None, one.state)]

    async def waiting(self, limit: int = 20) -> list[Activation]:
        """The first of those that wait and were rated, the best first.

        Raises:
            BadInput: a limit out of 1 to 1,000.
        """
        if not 1 <= limit <= 1000:
            raise BadInput("limit", limit, "Give 1 to 1000.")
        return list((await self.view(fresh=0, best=limit)).best)

    async def explain(self, which: str | int) -> Explanation:
        """What made an activation, how it was rated, and why it was picked or not.

        Raises:
            BadInput, UnknownRecord: it is none of this run, or there is none.
        """
        number = number_of(which, self.run_id)
        fold, log = await self._fold()
        if number not in fold.activations:
            raise UnknownRecord("UNKNOWN", f"no activation {number} on the agenda of run {self.run_id}")
        return explained(fold.activations[number], log)

    async def promote(self, which: str | int, *, by: str, reason: str = "", operation: str | None = None) -> str:
        """Let it stand before everything else that waits, from the next pick on.

        Args:
            by: who says so; on record.
            operation: names this change; the same once more changes nothing.

        Returns:
            Its state.

        Raises:
            UnknownRecord: there is none.
            ScriptRefused: ``ENDED``, it was picked or dropped already; ``CLOSED``, the run is over; ``STATE``, it is blocked.
        """
        return await self._change(which, "promote", by, reason, operation)

    async def block(self, which: str | int, *, by: str, reason: str = "", operation: str | None = None) -> str:
        """Let it not be picked until it is unblocked. Arguments and errors as :meth:`promote`."""
        return await self._change(which, "block", by, reason, operation)

    async def unblock(self, which: str | int, *, by: str, reason: str = "", operation: str | None = None) -> str:
        """Let it wait again. Arguments and errors as :meth:`promote`."""
        return await self._change(which, "unblock", by, reason, operation)

    async def rerate(
        self, which: str | int, rating: float, *, by: str, reason: str = "", operation: str | None = None
    ) -> str:
        """Give it a rating that no strategy changes. Arguments and errors as :meth:`promote`.

        Raises:
            BadInput: no finite number.
        """
        _checked(rating)
        return await self._change(which, "rerate", by, reason, operation, rating)

    async def focus(
        self, strategy: str, weights: Mapping[str, float] | None = None, *, author: Author | None = None,
        taint: Sequence[str] = (),
    ) -> Written:  # fmt: skip
        """Write the run's strategy on its control board, from the next pick on; what waits is rated anew.

        Whoever may write the topic ``control.strategy`` may do the same by an entry.

        Args:
            author, taint: of the entry.

        Raises:
            BadInput: a malformed name or weight. Whether there is such a strategy, the process that picks knows.
        """
        content: dict[str, Any] = {"strategy": strategy} | ({"weights": dict(weights)} if weights else {})
        _strategy(content, "", AgendaTerms())
        return await self._entries.post(strategies.TOPIC, content, author=author, taint=taint)

    # ---- for control -------------------------------------------------------------------------------------------------

    async def view(self, *, fresh: int = PAGE, best: int = 20, parked: int = 0, after: int = 0) -> View:
        """What stands on the agenda.

        Args:
            fresh, best, parked: most of each.
            after: how many of the parked ones to pass over.
        """
        head, open_, *rows = await _script.run(
            self._board.client, _script.load("agenda_read", "_agenda"), self._shard.declare_agenda((), self.run_id),
            [0, fresh, best, after, parked], recover=self._board.engine.ensure,
        )  # fmt: skip
        a: dict[str, Any] = json.loads(head) if head else {}
        found: dict[str, list[Activation]] = {"fresh": [], "best": [], "parked": []}
        uncompared = None
        if rows[-2:-1] == ["uncompared"]:
            uncompared = str(json.loads(rows[-1])["e"])
            rows = rows[:-2]
        for i in range(0, len(rows), 2):
            found[rows[i]].append(activation.parse(self.run_id, rows[i + 1]))
        return View(
            running=int(a.get("busy", 0)), waiting=int(a.get("w", 0)), parked=int(a.get("p", 0)),
            facts=int(a.get("f", 0)), seen=int(a.get("seen", 0)), strategy_version=a.get("sv", ""),
            fresh=tuple(found["fresh"]), best=tuple(found["best"]), aside=tuple(found["parked"]),
            shaken="pr" in a, uncompared=uncompared, bidding=int(a.get("bids", 0)), asked="rq" in a, open=int(open_),
        )  # fmt: skip

    async def some(self, numbers: Sequence[int]) -> list[Activation]:
        """The activations of these numbers that there are."""
        if not numbers:
            return []
        client, key = cast(Any, self._board.client), self._shard.agenda(self.run_id)[0]
        found: list[str | None] = await _script.retrying(
            lambda: client.hmget(key, [str(one) for one in numbers]), seconds=self._board.engine.patience_seconds
        )
        return [activation.parse(self.run_id, one) for one in found if one is not None]

    async def every_waiting(self) -> list[Activation]:
        """All that wait and were rated, for a strategy that has changed."""
        found: list[Activation] = []
        while True:
            page = (await self.view(fresh=0, best=len(found) + 4 * PAGE)).best
            if len(page) < len(found) + 4 * PAGE:
                return list(page)
            found = list(page)

    async def decide(
        self, claim: Claim, number: int, told: AgendaDecidedData, picks: Sequence[Pick], *, ends: bool, facts: int,
        rated_all: bool, compared: Compared | None = None, beside: Beside | None = None, taken: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Commit what control decided: ratings, what is set aside, and what is picked, which becomes tasks of the run.

        Args:
            claim: the control task.
            number: 1, 2, 3 … within the claim, so that a repeated call is recognised.
            ends: the control task is over with it. Without it nothing is picked.
            facts: what :attr:`View.facts` was.
            rated_all: everything that waits is rated by this strategy now.
            compared: which triggers :attr:`View.uncompared` fits; with ``ends`` its activations are made.
            beside: with ``ends``, what the open requests of the run need; None where nobody looked at them.
            taken: what :func:`blackboard.taking_over.told` tells of what is picked.

        Raises:
            Stale: an activation does not wait any more; nothing was written. Look again.
            Fenced: another process took the control task, or the run is being stopped.
        """
        beside = beside or Beside(0)
        lanes = sorted({STEP_LANE, *(one.lane for one in picks), *beside.lanes})
        flat: list[str | int] = [len(told.rated)]
        for one in told.rated:
            flat += [one.number, repr(one.rating), "" if one.meaning is None else repr(one.meaning)]
        flat.append(len(told.aside))
        for one in told.aside:
            flat += [one.number, one.state, one.why]
        flat.append(len(picks))
        for one in picks:
            flat += [one.number, one.spec, one.input]
        flat += compared or ("", "", "")
        flat += [beside.open, "" if beside.until_ms is None else beside.until_ms, len(beside.tasks)]
        for spec, given in beside.tasks:
            flat += [spec, given]
        keys, prelude = self._shard.declare_agenda(lanes, self.run_id), "_agenda"
        if taken := taking_over.counted([*taken, *beside.taken]):
            keys, prelude = [*keys, *self._shard.results(self.run_id)], "_agenda_taking_over"
        with claim.deciding() if ends else nullcontext():
            await _script.run(
                self._board.client, _script.load("agenda_decide", prelude), keys,
                [len(lanes), *lanes, claim.task_id, claim.fence, int(ends), number, facts,
                 told.strategy_version if rated_all else "", told.model_dump_json(exclude_defaults=True), *flat, *taken],
                recover=self._board.engine.ensure,
            )  # fmt: skip

    async def strategy(self, terms: AgendaTerms) -> Strategy:
        """What the run's control board says: the newest entry there; without one, its terms."""
        found = await self._entries.query(strategies.TOPIC, limit=1000)
        if not found.entries:
            return Strategy(terms.strategy, terms.weights, strategies.TERMS)
        newest = max(found.entries, key=lambda one: one.position)
        return _written(newest.content, f"{newest.id}:{newest.version}", terms)

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _fold(self) -> tuple[AgendaFold, list[Event]]:
        await self._board.summary(self.run_id)
        log = await self._board.history(self.run_id)
        return AgendaFold(self.run_id).apply(log), log

    async def _change(
        self, which: str | int, verb: str, by: str, reason: str, operation: str | None, rating: float = 0.0
    ) -> str:
        number = number_of(which, self.run_id)
        for name, text, most in (("by", by, 200), ("reason", reason, 2000)):
            if len(text) > most or (name == "by" and not text.strip()):
                raise BadInput(name, text, f"Say it in at most {most:,} characters.")
        state, _ = await _script.run(
            self._board.client, _script.load("agenda_change", "_agenda"),
            self._shard.declare_agenda([STEP_LANE], self.run_id),
            [1, STEP_LANE, self.run_id, operation or secrets.token_hex(12), number, verb, repr(float(rating)), by, reason],
            recover=self._board.engine.ensure,
        )  # fmt: skip
        return str(state)


def _checked(rating: float) -> None:
    if isinstance(rating, bool) or not math.isfinite(rating) or abs(rating) > 1e11:
        raise BadInput("rating", rating, "Give a finite number of at most 1e11 either way.")


def _written(content: object, version: str, terms: AgendaTerms) -> Strategy:
    try:
        return _strategy(content, version, terms)
    except BadInput as problem:
        return Strategy(strategies.DEFAULT, {}, version, f"{strategies.TOPIC} says something else: {problem}"[:500])


def _strategy(content: object, version: str, terms: AgendaTerms) -> Strategy:
    from pydantic import ValidationError

    if not isinstance(content, dict):
        raise BadInput("strategy", content, 'Write {"strategy": NAME, "weights": {CAPABILITY: NUMBER}}.')
    said: dict[str, Any] = {"strategy": terms.strategy, "weights": terms.weights} | content
    try:
        made = AgendaTerms(**said)
    except ValidationError as error:
        raise refused(error) from None
    return Strategy(made.strategy, made.weights, version)
