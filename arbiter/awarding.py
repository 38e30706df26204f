"""What a step of a run does about its open requests: awards them, has fabricated what nobody offered, posts what came of it.

A step is taken when nothing waits on the agenda and no task is open, so whoever was triggered by a request has had its chance to
bid. All that is decided is an entry or a task of the step, each of which exists once however often the step is begun: a process
that dies in between is continued by another one. Whoever may write on the board may award by hand, by posting the award first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import JsonValue

from arbiter import volunteering
from arbiter.decisions import FABRICATION, fabrication
from arbiter.fold import RunState, Task
from arbiter.volunteering import ANSWERS, AWARDS, BIDS, REQUESTS, UNANSWERED, Candidate, OpenRequest
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.errors import BadInput, Stale
from blackboard.events import Link
from blackboard.strategies import laplace
from blackboard.taint import merged, read
from blackboard.types import Status, TaskSpec
from registry import Registry, Version, origin, validate_input

AWARD = "award."
"""Beginning of the key of an awarded task."""


@dataclass(slots=True)
class Stock:
    """What a step does about open requests."""

    tasks: list[TaskSpec] = field(default_factory=list[TaskSpec])
    told: list[str] = field(default_factory=list[str])
    """Each thing that was written or is posted, in words."""


class Awarding:
    """One step's look at the open requests of its run.

    Args:
        claim: the step; what it writes is written under its lease.
        entries: those of the run.
    """

    def __init__(self, board: Board, registry: Registry, claim: Claim, state: RunState, entries: Entries) -> None:
        self._board, self._registry, self._claim, self._state, self._entries = board, registry, claim, state, entries
        self._work = {task.key: task for task in state.work}
        self._stock = Stock()

    async def take_stock(self) -> Stock:
        """Do for each open request what is to be done next."""
        seen: set[str] = set()
        for request in sorted(await self._every(f"{REQUESTS}.>"), key=lambda one: one.posted):
            name = request.topic.partition(".")[2]
            if name not in seen:
                seen.add(name)
                await self._attend(name, request)
        return self._stock

    async def _attend(self, name: str, request: Entry) -> None:
        award = await self._award_of(name)
        if award is None:
            award = await self._decide(name, request)
        if award is None or await self._there(f"{ANSWERS}.{name}") or await self._there(f"{UNANSWERED}.{name}"):
            return
        task = self._work.get(AWARD + name)
        if task is None:
            await self._employ(name, request, award)
        elif task.completion is not None:
            await self._conclude(name, request, award, task)

    # ---- who is awarded it -------------------------------------------------------------------------------------------

    async def _decide(self, name: str, request: Entry) -> Entry | None:
        """The award, made now; None while something has to be fabricated first."""
        said = volunteering.read(request)
        if isinstance(said, str):
            return await self._award(name, request, None, (), said)
        made = said.missing.name if said.missing is not None else ""
        offered = volunteering.bids(await self._every(f"{BIDS}.{name}"), request, said.seconds)
        if made and await self._found(made) is not None:
            offered.append(Candidate(made, 1.0, 1.0))
        candidates = [await self._judged(one, said) for one in offered]
        chosen = volunteering.best(candidates)
        if chosen is not None:
            why = f"the highest value of {sum(not one.refused for one in candidates)} that could be awarded it"
            return await self._award(name, request, chosen, candidates, why)
        nobody = "nobody bid" if not candidates else f"no bid could be awarded: {candidates[0].refused}"
        if said.otherwise == "give_up" or said.missing is None:
            return await self._award(name, request, None, candidates, f"{nobody}, and it says to give up then")
        task = self._work.get(FABRICATION + made)
        if task is not None and task.completion is not None:
            error = task.completion.error
            why = error.message if error is not None else "what was fabricated for it cannot be used"
            return await self._award(
                name, request, None, candidates, f"{nobody}, and {made} was not fabricated: {why}"[:2000]
            )
        if any(one.key == FABRICATION + made for one in self._stock.tasks):
            return None
        spent = sum(one.kind == "fabrication" for one in (*self._work.values(), *self._stock.tasks))
        if spent >= self._state.limits.fabrications:
            why = f"{nobody}, and the run's limit of {self._state.limits.fabrications} fabrications is reached"
            return await self._award(name, request, None, candidates, why)
        missing = said.missing
        self._post(
            fabrication(
                self._state, made, missing.need, missing.input_hint, FABRICATION + made,
                merged(read(request.taint), self._state.request_taint),
            ),
            f"{request.topic}: {nobody}, so {made} is fabricated",
        )  # fmt: skip
        return None

    async def _judged(self, one: Candidate, said: OpenRequest) -> Candidate:
        if one.refused:
            return one
        version = await self._found(one.capability)
        if version is None:
            return replace(one, refused=f"there is no capability {one.capability!r}")
        ended = (await self._registry.record(one.capability, version.sha)).outcomes
        tried = sum(number for status, number in ended.items() if status is not Status.CANCELLED)
        success = laplace(ended.get(Status.SUCCEEDED, 0), tried)
        problems = validate_input(version.manifest, dict(one.given) or said.input)
        refused = f"its input does not fit: {problems[0]}" if problems else ""
        return replace(one, version=version.sha, success=success, refused=refused[:500])

    async def _award(
        self, name: str, request: Entry, chosen: Candidate | None, candidates: Sequence[Candidate], why: str
    ) -> Entry | None:
        said: dict[str, JsonValue] = {"reason": why, "candidates": [one.record() for one in candidates[:100]]}
        links = [Link(rel="answers", to=request.id)]
        taint = read(request.taint)
        if chosen is None:
            said["given_up"] = True
        else:
            said |= {"capability": chosen.capability, "version": chosen.version}
            if chosen.given:
                said["input"] = dict(chosen.given)
            if chosen.bid is not None:
                links.append(Link(rel="derived_from", to=chosen.bid))
            taint = merged(taint, chosen.taint)
        try:
            await self._entries.post(
                f"{AWARDS}.{name}", said, confidence=chosen.confidence if chosen else 1.0, links=links, taint=taint,
                expect_topic=0, task=self._claim,
            )  # fmt: skip
            who = f"{chosen.capability} was awarded it" if chosen is not None else "given up"
            self._stock.told.append(f"{request.topic}: {who}, {why}")
        except Stale:  # somebody awarded it meanwhile
            pass
        return await self._award_of(name)

    # ---- what comes of it --------------------------------------------------------------------------------------------

    async def _employ(self, name: str, request: Entry, award: Entry) -> None:
        said = cast("dict[str, Any]", award.content) if isinstance(award.content, dict) else {}
        if said.get("given_up") is True:
            return await self._unanswered(name, request, award, {"reason": said.get("reason")})
        pinned = said.get("version")
        version = await self._found(str(said.get("capability")), pinned if isinstance(pinned, str) else None)
        if version is None:
            return await self._unanswered(
                name, request, award, {"reason": f"{award.id} awards it to no capability there is"}
            )
        manifest, limits = version.manifest, self._state.limits
        wanted = volunteering.read(request)
        given = said.get("input") or (wanted.input if isinstance(wanted, OpenRequest) else {})
        if problems := validate_input(manifest, given):
            return await self._unanswered(
                name, request, award, {"reason": f"its input does not fit: {problems[0]}"[:500]}
            )
        self._post(
            TaskSpec(
                key=AWARD + name, tool_use_id=AWARD + name, capability=manifest.name, version=version.sha,
                lane=manifest.action, input=given, retry=manifest.retry,
                attempt_seconds=min(manifest.limits.attempt_seconds, limits.attempt_seconds),
                taint=merged(read(request.taint), read(award.taint), origin(manifest)),
            ),
            f"{request.topic}: {manifest.name} gets to work",
        )  # fmt: skip

    async def _conclude(self, name: str, request: Entry, award: Entry, task: Task) -> None:
        done = task.completion
        assert done is not None
        if done.status is not Status.SUCCEEDED:
            error = done.error.message if done.error is not None else ""
            return await self._unanswered(
                name, request, award, {"capability": task.capability, "status": done.status.value, "reason": error}
            )
        try:
            # A large result is where it is, and the answer refers to it.
            await self._write(f"{ANSWERS}.{name}", done.data, request, award, award.confidence, task.taint)
        except BadInput as problem:
            why = f"what it returned cannot be written on {ANSWERS}.{name}: {problem}"
            return await self._unanswered(name, request, award, {"capability": task.capability, "reason": why[:2000]})
        self._stock.told.append(f"{request.topic}: {task.capability} answered it")

    async def _unanswered(self, name: str, request: Entry, award: Entry, why: dict[str, JsonValue]) -> None:
        await self._write(
            f"{UNANSWERED}.{name}", why, request, award, 1.0, merged(read(request.taint), read(award.taint))
        )
        self._stock.told.append(f"{request.topic}: unanswered, {why.get('reason')}")

    async def _write(
        self, topic: str, content: JsonValue, request: Entry, award: Entry, confidence: float, taint: Sequence[str]
    ) -> None:
        links = [Link(rel="answers", to=request.id), Link(rel="derived_from", to=award.id)]
        try:
            await self._entries.post(
                topic, content, confidence=confidence, links=links, taint=taint, expect_topic=0, task=self._claim
            )
        except Stale:  # somebody else said it meanwhile
            pass

    # ---- what there is -----------------------------------------------------------------------------------------------

    def _post(self, task: TaskSpec, told: str) -> None:
        self._stock.tasks.append(task)
        self._stock.told.append(told)

    async def _found(self, name: str, version: str | None = None) -> Version | None:
        """A capability that the run may use: the active version, or one that was awarded while it was."""
        (found,) = await self._registry.resolve_many([(name, version)])
        if found is None or found.revoked or not found.visible_to(self._state.tenant):
            return None
        return found if version is not None or found.state == "active" else None

    async def _award_of(self, name: str) -> Entry | None:
        """The first award there is."""
        found = await self._entries.query(f"{AWARDS}.{name}", limit=1)
        return found.entries[0] if found.entries else None

    async def _there(self, topic: str) -> bool:
        return bool((await self._entries.query(topic, limit=1, load=False)).entries)

    async def _every(self, pattern: str) -> list[Entry]:
        every: list[Entry] = []
        after: str | None = None
        while True:
            found = await self._entries.query(pattern, limit=1000, after=after)
            every += found.entries
            if (after := found.after) is None:
                return every
