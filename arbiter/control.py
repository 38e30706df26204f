"""Control: rates what waits on a run's agenda, picks from it, and says why.

Its work is a task of the run, posted by whatever changes the agenda, so any process with the role ``arbiter`` may do it, and
one that dies in between leaves nothing. What it found out and decided becomes visible in the one script that commits it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from arbiter import bidding, judging, premises, volunteering
from arbiter.fold import RunState
from arbiter.rating import Rating
from arbiter.states import States
from arbiter.taking_over import Predecessor, PredecessorGone
from arbiter.used_up import used_up
from blackboard import taking_over
from blackboard.activation import Activation
from blackboard.agenda import BIDDERS, PAGE, Agenda, Beside, Compared, Pick, Strategy, View
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.errors import BadInput, ModelUnavailable, Stale
from blackboard.events import AgendaDecidedData, PickedActivation, RatedActivation, SetAside
from blackboard.plan import TASKS_PER_ROUND, Undecided, specs
from blackboard.strategies import Rate
from blackboard.taint import merged, read
from blackboard.triggers import AgendaTerms, Query, Trigger
from blackboard.types import Completion, Failure, Status, TaskSpec
from registry import Registry, Version, origin

log = logging.getLogger(__name__)

SHOWN = 20
"""Candidates that a decision records."""
_LOOKS = 20
"""How often it looks again when the agenda changed under it, before the attempt ends."""


_Aside = tuple[Activation, str, str]
_Picked = tuple[Activation, Pick]


class Control:
    """Handles the control tasks of runs for a :class:`~blackboard.worker.Worker` on the lane ``arbiter``.

    Args:
        strategies: further ones by name, beside :data:`blackboard.strategies.STRATEGIES`.
    """

    def __init__(self, registry: Registry, strategies: Mapping[str, Rate] | None = None) -> None:
        self._registry = registry
        self._rating = Rating(registry, strategies or {})
        self._states = States()

    async def handle(self, attempt: Attempt) -> Completion | None:
        """Pick from the agenda. Returns None when that was committed."""
        claim, board = attempt.claim, attempt.board
        for _ in range(_LOOKS):
            known = await self._states.read(board, claim)
            terms = known.state.agenda or AgendaTerms()
            cycle = _Cycle(self._registry, self._rating, board, claim, known.state, terms)
            try:
                await cycle.run(lambda: self._states.advance(board, known))  # noqa: B023 - it is over before the next look
            except Stale:
                await asyncio.sleep(0)
                continue
            except PredecessorGone as gone:
                return claim.completion(Status.FAILED, error=Failure(type="predecessor_gone", message=str(gone)))
            except ModelUnavailable as error:  # of the encoder that tells what entries mean
                failure = Failure(type="model_unavailable", message=str(error)[:2000], retryable=True)
                return claim.completion(Status.FAILED, error=failure)
            self._states.keep(board, known)
            return None
        failure = Failure(type="contended", message="The agenda changed faster than it could be read.", retryable=True)
        return claim.completion(Status.FAILED, error=failure)

    async def recommend(self, board: Board, run_id: str, state: RunState, k: int) -> list[tuple[Activation, str]]:
        """What would be picked now, the best first, and why; nothing is changed."""
        cycle = _Cycle(self._registry, self._rating, board, None, state, state.agenda or AgendaTerms(), run_id)
        return await cycle.recommend(k)


class _Cycle:
    """One look at an agenda."""

    def __init__(
        self,
        registry: Registry,
        rating: Rating,
        board: Board,
        claim: Claim | None,
        state: RunState,
        terms: AgendaTerms,
        run_id: str = "",
    ) -> None:
        self._registry, self._rating, self._board, self._claim = registry, rating, board, claim
        self._state, self._terms = state, terms
        self._run = claim.run_id if claim is not None else run_id
        self._agenda = Agenda(board, self._run)
        self._entries = Entries(board, f"run:{self._run}")
        self._found: dict[Query, bool] = {}
        self._versions: dict[tuple[str, str], Version | None] = {}
        self._calls = 0
        self._compared: Compared | None = None
        self._made: dict[int, TaskSpec] = {}

    async def run(self, advance: Callable[[], Awaitable[None]]) -> None:
        """Look, and commit what comes of it.

        Args:
            advance: lets the state of the run go on with what its log tells by now.
        """
        await self._registry.declare_triggers()
        strategy = await self._agenda.strategy(self._terms)
        view = await self._agenda.view(best=SHOWN + self._terms.concurrency)
        self._compared = await self._comparison(view)
        if view.shaken:
            await premises.stop_what_lost_its_own(self._board, self._entries, self._agenda, self._state, self._trigger)
        if view.strategy_version not in ("", strategy.version):
            await self._rate_anew(strategy, view.seen)
            view = await self._agenda.view(best=SHOWN + self._terms.concurrency)
        while len(view.fresh) == PAGE:
            fresh, unlike = await self._met(strategy, view.fresh)
            await self._told(strategy, view.seen, rated=fresh, aside=unlike)
            view = await self._agenda.view(best=SHOWN + self._terms.concurrency)
        view = await self._unparked(strategy, view)
        if view.asked and len(view.best) < view.waiting:  # who is to be asked to bid may stand far behind
            view = await self._agenda.view(best=PAGE)
        while True:
            fresh, unlike = await self._met(strategy, view.fresh)
            order, room, over = self._order(view, fresh), self._room(view), await self._over()
            aside: list[_Aside] = [(one, "obviated", over) for one in order] if over else []
            picks: list[_Picked] = []
            if not over:
                aside, picks = await self._choose(order, room, view.bidding)
            aside += unlike
            ordinary = sum(not pick.bids for _, pick in picks)
            all_seen = len(order) + len(unlike) >= view.waiting
            ends = (ordinary >= room and not over) or all_seen or not aside
            beside, said = None, ()
            if ends and view.asked and not over:
                await advance()
                settled = {one.number for one, *_ in (*aside, *picks)}
                left = [one for one in order if one.number not in settled] if all_seen else None
                look = bidding.Look(view.open, left, [one for one, _ in picks])
                beside, said = await self._attended(look)
            await self._told(
                strategy, view.facts if ends else view.seen, rated=fresh, rated_all=True, order=order, room=room,
                waiting=view.waiting, aside=aside, picks=picks if ends else (), ends=ends, beside=beside, said=said,
            )  # fmt: skip
            if ends:
                return
            view = await self._agenda.view(best=PAGE)  # what was set aside made the look too short

    async def recommend(self, k: int) -> list[tuple[Activation, str]]:
        strategy = await self._agenda.strategy(self._terms)
        view = await self._agenda.view(best=SHOWN + k)
        order = self._order(view, (await self._met(strategy, view.fresh))[0])
        _, picks = await self._choose(order, k)
        return [(one, _why(one, strategy)) for one, _ in picks[:k]]

    async def _attended(self, look: bidding.Look) -> tuple[Beside, tuple[str, ...]]:
        assert self._claim is not None
        return await bidding.attend(self._board, self._registry, self._claim, self._state, self._agenda, look)

    async def _comparison(self, view: View) -> Compared | None:
        """The triggers that an entry fits which the board wrote itself: a script cannot tell."""
        if view.uncompared is None:
            return None
        compiled = await self._board.triggers.current(self._board.shard_of(self._run))
        entry = await self._entries.read(view.uncompared)
        fitting = compiled.fitting(entry.topic, entry.content, entry.attributes) if entry and entry.counts else ()
        return Compared(view.uncompared, compiled.version, " ".join(one.key for one in fitting))

    # ---- what is rated -----------------------------------------------------------------------------------------------

    async def _met(
        self, strategy: Strategy, fresh: Sequence[Activation]
    ) -> tuple[list[tuple[Activation, RatedActivation]], list[_Aside]]:
        """What is new, rated, but for what does not mean what its trigger is about."""
        judged = await self._judged(fresh)
        aside: list[_Aside] = [(one, "obviated", judged[one.number][1]) for one in fresh if judged[one.number][1]]
        rated = await self._rated(strategy, [one for one in fresh if not judged[one.number][1]])
        return [(one, said.model_copy(update={"meaning": judged[one.number][0]})) for one, said in rated], aside

    async def _judged(self, some: Sequence[Activation]) -> dict[int, tuple[float | None, str]]:
        """Of each its score, and why it does not mean enough; of one that was judged already what came of it."""
        asked = [(one, trigger) for one in some if one.meaning is None and (trigger := await self._trigger(one))]
        known: dict[int, tuple[float | None, str]] = {one.number: (one.meaning, "") for one in some}
        return known | await judging.judge(self._registry.meaning, self._entries, asked)

    async def _rated(self, strategy: Strategy, some: Sequence[Activation]) -> list[tuple[Activation, RatedActivation]]:
        return list(zip(some, await self._rating.rate(strategy, some), strict=True))

    async def _rate_anew(self, strategy: Strategy, facts: int) -> None:
        every = await self._agenda.every_waiting()
        for start in range(0, len(every), PAGE):
            page = await self._rated(strategy, every[start : start + PAGE])
            await self._told(strategy, facts, rated=page, rated_all=start + PAGE >= len(every))

    async def _unparked(self, strategy: Strategy, view: View) -> View:
        """The agenda once those whose precondition holds by now wait again."""
        if not view.parked or view.facts == view.seen:
            return view
        ready: list[Activation] = []
        after = 0
        while True:
            page = (await self._agenda.view(fresh=0, best=0, parked=PAGE, after=after)).aside
            for one in page:
                trigger = await self._trigger(one)
                if trigger is None or trigger.requires is None or await self._holds(trigger.requires):
                    ready.append(one)
            after += len(page)
            if len(page) < PAGE:
                break
        for start in range(0, len(ready), PAGE):
            page_ = await self._rated(strategy, ready[start : start + PAGE])
            await self._told(strategy, view.seen, rated=page_)
        return await self._agenda.view(best=SHOWN + self._terms.concurrency) if ready else view

    def _order(self, view: View, fresh: Sequence[tuple[Activation, RatedActivation]]) -> list[Activation]:
        judged = [(replace(one, meaning=said.meaning), said) for one, said in fresh]
        rated = [one if one.pin is not None else replace(one, rating=said.rating) for one, said in judged]
        return sorted([*view.best, *rated], key=lambda one: one.place)

    # ---- what is picked ----------------------------------------------------------------------------------------------

    def _room(self, view: View) -> int:
        free = self._terms.concurrency - (view.running - view.bidding)
        return min(max(0, free), TASKS_PER_ROUND, max(0, self._tasks_left()))

    def _tasks_left(self) -> int:
        return self._state.limits.tasks - len(self._state.work)

    async def _over(self) -> str:
        """Why nothing may be picked any more; empty while something may."""
        if self._terms.until is not None and await self._holds(self._terms.until):
            return f"something fits {self._terms.until}, until which the run goes on"
        if self._tasks_left() <= 0:
            return f"the run has reached its limit of {self._state.limits.tasks} tasks"
        return await used_up(self._board, self._state)

    async def _choose(
        self, order: Sequence[Activation], room: int, bidding: int = 0
    ) -> tuple[list[_Aside], list[_Picked]]:
        """What must not be picked, with the reason, and what is.

        Args:
            room: for those that are not asked to bid on open requests.
            bidding: how many are bidding already.
        """
        aside: list[_Aside] = []
        picks: list[_Picked] = []
        left = min(TASKS_PER_ROUND, self._tasks_left())
        asking = BIDDERS - bidding
        for one in order:
            if len(picks) >= left:
                break
            if room <= 0 and not (asking > 0 and volunteering.asks(one.topic)):
                continue
            said = await self._examined(one)
            if not isinstance(said, Pick):
                aside.append((one, *said))
            elif said.bids and asking > 0:
                asking -= 1
                picks.append((one, said))
            elif not said.bids and room > 0:
                room -= 1
                picks.append((one, said))
        return aside, picks

    async def _examined(self, one: Activation) -> Pick | tuple[str, str]:
        """The task of an activation, or the state it comes to instead and why."""
        version = await self._version(one)
        trigger = await self._trigger(one)
        if version is None or trigger is None:
            return "obviated", f"{one.capability} {one.version[:12]} cannot be used any more"
        entry = await self._entries.read(one.entry)
        if entry is None or not entry.counts:
            return "obviated", f"its entry is {entry.state if entry else 'gone'}"
        if entry.said_version != one.entry_version:
            return "obviated", f"its entry was amended since; version {entry.said_version} makes activations of its own"
        if why := (await self._judged([one]))[one.number][1]:  # somebody put it first before it was judged
            return "obviated", why
        if trigger.unless is not None and await self._holds(trigger.unless):
            return "obviated", f"something fits {trigger.unless}, which makes it pointless"
        if trigger.requires is not None and not await self._holds(trigger.requires):
            return "parked", f"nothing fits {trigger.requires} yet, which it requires"
        left = await self._bidding(entry)
        if left is not None and left <= 0:
            return "obviated", f"bids on {entry.topic} do not count any more"
        try:
            return await self._pick(one, version, trigger.given(entry.record()), entry.taint, left)
        except BadInput as problem:
            return "obviated", f"its input cannot be made of the entry: {problem}"[:2000]

    async def _bidding(self, entry: Entry) -> float | None:
        """How long bids on an open request count from now on, in seconds; None for any other entry."""
        said = volunteering.read(entry) if volunteering.asks(entry.topic) else ""
        if isinstance(said, str):
            return None
        return volunteering.closes(entry, said.seconds) - await self._entries.server_time()

    async def _pick(
        self, one: Activation, version: Version, given: Any, taint: Sequence[str], seconds: float | None
    ) -> Pick:
        """The task of an activation.

        Args:
            seconds: after which it is of no use, and ends; None for as long as the run's tasks may take.
        """
        manifest, limits = version.manifest, self._state.limits
        key = f"@{one.number}"
        task = TaskSpec(
            key=key, tool_use_id=key, capability=one.capability, version=version.sha, lane=manifest.action, input=given,
            retry=manifest.retry, attempt_seconds=min(manifest.limits.attempt_seconds, limits.attempt_seconds),
            taint=merged(read(taint), origin(manifest)), made_from=(one.entry,),
            seconds=None if seconds is None else min(seconds, limits.task_seconds),
        )  # fmt: skip
        self._made[one.number] = task
        bids, planned = seconds is not None, self._terms.planned
        ((spec, text),) = specs(Undecided(self._run, self._round()), [task], limits, entered=planned, bids=bids)
        return Pick(one.number, spec, await self._board.blobs.check(self._run, text, given), manifest.action, bids)

    def _round(self) -> int:
        return self._claim.round if self._claim is not None else len(self._state.rounds)

    async def _holds(self, query: Query) -> bool:
        """Whether something on the run's board fits; asked once in a look."""
        if query not in self._found:
            found = await self._entries.query(query.topic, query.where, limit=1)
            while not found.entries and found.after is not None:
                found = await self._entries.query(query.topic, query.where, limit=1, after=found.after)
            self._found[query] = bool(found.entries)
        return self._found[query]

    async def _version(self, one: Activation) -> Version | None:
        key = (one.capability, one.version)
        if key not in self._versions:
            (found,) = await self._registry.resolve_many([key])
            usable = found is not None and not found.revoked and found.visible_to(self._state.tenant)
            self._versions[key] = found if usable else None
        return self._versions[key]

    async def _trigger(self, one: Activation) -> Trigger | None:
        version = await self._version(one)
        every = version.manifest.declared(version.sha) if version is not None else ()
        return next((each.trigger for each in every if each.key == one.trigger), None)

    # ---- what is committed -------------------------------------------------------------------------------------------

    async def _told(
        self,
        strategy: Strategy,
        facts: int,
        *,
        rated: Sequence[tuple[Activation, RatedActivation]],
        rated_all: bool = False,
        order: Sequence[Activation] = (),
        room: int = 0,
        waiting: int = 0,
        aside: Sequence[_Aside] = (),
        picks: Sequence[_Picked] = (),
        ends: bool = False,
        beside: Beside | None = None,
        said: Sequence[str] = (),
    ) -> None:
        assert self._claim is not None
        name, fallback = self._rating.used(strategy)
        told = AgendaDecidedData(
            strategy=name, strategy_version=strategy.version, weights=dict(strategy.weights), fallback=fallback,
            rated=tuple(said for _, said in rated),
            candidates=tuple(RatedActivation(number=one.number, rating=one.rating or 0.0) for one in order[:SHOWN]),
            waiting=waiting, room=room, told=tuple(said),
            aside=tuple(SetAside.model_validate({"number": one.number, "state": to, "why": why}) for one, to, why in aside),
            picked=tuple(
                PickedActivation(
                    number=one.number, task=f"{self._run}/{self._claim.round}.@{one.number}", rating=one.rating or 0.0,
                    why=_why(one, strategy), bids=pick.bids,
                )
                for one, pick in picks
            ),
        )  # fmt: skip
        self._calls += 1
        await self._agenda.decide(
            self._claim, self._calls, told, [pick for _, pick in picks], ends=ends, facts=facts, rated_all=rated_all,
            compared=self._compared if ends else None, beside=beside, taken=await self._taken_over([pick for _, pick in picks]),
        )  # fmt: skip

    async def _taken_over(self, picks: Sequence[Pick]) -> list[str]:
        """What is picked and over at once, as it succeeded in the run that this one goes on from. A bid is about now."""
        predecessor = Predecessor(self._board, self._state)
        offered = {
            task.key: task
            for task in await predecessor.in_place([self._made[one.number] for one in picks if not one.bids])
        }
        made = [self._made[one.number] for one in picks]
        return await taking_over.told(
            self._board, self._run, [offered.get(task.key, task) for task in made], entered=self._terms.planned
        )


def _why(one: Activation, strategy: Strategy) -> str:
    if one.pin is not None:
        return "somebody put it there" if one.pin > -1e12 else "somebody promoted it"
    return f"the highest rating by {strategy.name} of those that may run"
