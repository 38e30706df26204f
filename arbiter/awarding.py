"""What a run does about its open requests: awards them, has fabricated what nobody offered, posts what came of it.

A step does, which is taken when nothing waits on the agenda and no task is open, and so does control while other work goes on,
see :mod:`arbiter.bidding`. Once whoever was triggered by a request has had its chance to bid, a bid that can be awarded is.
Without one the request waits for bids until its time is over. A bid whose work does not succeed gives way to the next of those
that came.

All that is decided is a version of an entry or a task of the step, each of which exists once however often the step is begun: a
process that dies in between is continued by another one. Whoever may write on the board may award by hand, by posting the award
first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import JsonValue

from arbiter import volunteering
from arbiter.fabrications import FABRICATION, fabrication
from arbiter.fold import RunState, Task
from arbiter.volunteering import ANSWERS, AWARDS, BIDS, REQUESTS, UNANSWERED, Candidate, OpenRequest
from blackboard.agenda import Agenda
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.entry import Entry
from blackboard.errors import BadInput, Stale
from blackboard.events import Link
from blackboard.plan import Wait
from blackboard.strategies import laplace
from blackboard.taint import merged, read
from blackboard.types import Status, TaskSpec
from registry import Registry, Version, origin, validate_input

AWARD = "award."
"""Beginning of the key of an awarded task."""


@dataclass(slots=True)
class Stock:
    """What is done about open requests."""

    tasks: list[TaskSpec] = field(default_factory=list[TaskSpec])
    told: list[str] = field(default_factory=list[str])
    """Each thing that was written or is posted, in words."""
    waiting: dict[str, str] = field(default_factory=dict[str, str])
    """Each request that waits for bids, by name, in words."""
    closing: list[float] = field(default_factory=list[float])
    """When the time of each of these is over, in seconds since the epoch."""
    now: float = 0.0
    """When this was, on the server's clock."""
    wait: Wait | None = None
    """Until the first of them is to be looked at; where tasks are posted, there is something beside them."""
    open: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Ids of the requests that had come to nothing yet, each with the keys of the tasks that are posted for it."""
    amended: bool = False
    """One of these was, so those who bid on it already may outlast its time."""

    def until_ms(self, seconds: float) -> int:
        """When they are to be looked at if nothing happens before, in ms since the epoch: at the end of the first one's time.

        Args:
            seconds: no task outlasts these.
        """
        return math.ceil(min([self.now + seconds, *self.closing]) * 1000)


class Awarding:
    """One look at the open requests of a run.

    Args:
        claim: the step or control task; what it writes is written under its lease.
        entries: those of the run.
        bidding: ids of requests to which somebody may still be about to bid, for whom an award waits as long as bids count. None:
            that may be so of each.
        posted: how many tasks the same decision posts besides.
    """

    def __init__(
        self, board: Board, registry: Registry, claim: Claim, state: RunState, entries: Entries,
        *, bidding: Collection[str] | None = (), posted: int = 0,
    ) -> None:  # fmt: skip
        self._board, self._registry, self._claim, self._state, self._entries = board, registry, claim, state, entries
        self._bidding, self._posted = bidding, posted
        self._work = {task.key: task for task in state.work}
        self._stock = Stock()

    async def take_stock(self) -> Stock:
        """Do for each open request what is to be done next."""
        # Before anything is read, so that what is written meanwhile ends a wait at once.
        facts = (await Agenda(self._board, self._claim.run_id).view(fresh=0, best=0)).facts
        self._stock.now = await self._entries.server_time()
        for name, request in (await self._open()).items():
            self._stock.open[request.id] = _own(name, request)
            self._stock.amended |= request.version > 1
            await self._attend(name, request)
        if self._stock.closing or (self._stock.tasks and len(self._stock.open) > 1):
            self._stock.wait = Wait(self._stock.until_ms(self._state.limits.task_seconds), facts)
        return self._stock

    async def close(self, why: str) -> None:
        """Say of each open request that there will be no answer: the run ends with this step."""
        for name, request in (await self._open()).items():
            await self._unanswered(name, request, await self._award_of(name), {"reason": why})

    async def _open(self) -> dict[str, Entry]:
        """The requests that have come to nothing yet, by name, the oldest first; of two under one name the older."""
        found: dict[str, Entry] = {}
        for request in sorted(await self._every(f"{REQUESTS}.>"), key=lambda one: one.posted):
            found.setdefault(request.topic.partition(".")[2], request)
        over = {
            one.topic.partition(".")[2]
            for topic in (ANSWERS, UNANSWERED)
            for one in await self._every(f"{topic}.>", load=False)
        } if found else set[str]()  # fmt: skip
        return {name: request for name, request in found.items() if name not in over}

    async def _attend(self, name: str, request: Entry) -> None:
        award = await self._award_of(name)
        tried = [task for task in self._state.work if task.key == AWARD + name]
        task = tried[-1] if tried else None
        if award is None:
            award = await self._decide(name, request)
        elif task is not None and task.done and not awarded_since(award, task):
            if task.state == Status.SUCCEEDED.value:
                return await self._conclude(name, request, award, task)
            award = await self._decide(name, request, award, task)
        if award is not None and (task is None or awarded_since(award, task)):
            await self._employ(name, request, award)

    # ---- who is awarded it -------------------------------------------------------------------------------------------

    async def _decide(
        self, name: str, request: Entry, before: Entry | None = None, failed: Task | None = None
    ) -> Entry | None:
        """The award, made now; None while bids are awaited, or something has to be fabricated first.

        Args:
            before: the award there is, whose task ``failed``.
        """
        said = volunteering.read(request)
        failed_before = [*failures(before).values(), _failure(before, failed)] if before and failed else []

        async def award(chosen: Candidate | None, candidates: Sequence[Candidate], why: str) -> Entry | None:
            return await self._award(name, request, chosen, candidates, why[:2000], before, failed_before)

        if isinstance(said, str):
            return await award(None, (), said)
        left = 0.0 if before is not None else volunteering.closes(request, said.seconds) - self._stock.now
        if left > 0 and (self._bidding is None or request.id in self._bidding):
            return self._await(name, request, left)
        made = said.missing.name if said.missing is not None else ""
        offered = volunteering.bids(await self._every(f"{BIDS}.{name}"), request, said.seconds)
        there = made != "" and await self._found(made) is not None
        if there:
            offered.append(Candidate(made, 1.0, 1.0))
        candidates = [_tried(await self._judged(one, said), failed_before) for one in offered]
        chosen = volunteering.best(candidates)
        if chosen is not None:
            why = f"the highest value of {sum(not one.refused for one in candidates)} that could be awarded it"
            return await award(chosen, candidates, why)
        if left > 0:
            return self._await(name, request, left)
        nobody = "nobody bid" if not candidates else f"no bid could be awarded: {candidates[0].refused}"
        if failed_before:
            nobody = f"{failed_before[-1]['reason']}, and nobody else bid"
        if said.otherwise == "give_up" or said.missing is None:
            return await award(None, candidates, f"{nobody}, and it says to give up then")
        task = self._work.get(FABRICATION + made)
        if task is not None and task.completion is not None:
            error = task.completion.error
            why = error.message if error is not None else "what was fabricated for it cannot be used"
            return await award(None, candidates, f"{nobody}, and {made} was not fabricated: {why}")
        if there:
            return await award(None, candidates, f"{nobody}, and {made} is there already")
        if any(one.key == FABRICATION + made for one in self._stock.tasks):
            return None
        spent = sum(one.kind == "fabrication" for one in (*self._work.values(), *self._stock.tasks))
        if spent >= self._state.limits.fabrications:
            why = f"{nobody}, and the run's limit of {self._state.limits.fabrications} fabrications is reached"
            return await award(None, candidates, why)
        if (full := self._full()) is not None:
            return await award(None, candidates, f"{nobody}, and {full}")
        missing = said.missing
        self._post(
            fabrication(
                self._state, made, missing.need, missing.input_hint, FABRICATION + made,
                merged(read(request.taint), self._state.request_taint),
            ),
            f"{request.topic}: {nobody}, so {made} is fabricated",
        )  # fmt: skip
        return None

    def _await(self, name: str, request: Entry, left: float) -> None:
        self._stock.closing.append(self._stock.now + left)
        self._stock.waiting[name] = f"{request.topic} waits for bids, {left:.0f} s more"

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
        self, name: str, request: Entry, chosen: Candidate | None, candidates: Sequence[Candidate], why: str,
        before: Entry | None, failed: Sequence[JsonValue],
    ) -> Entry | None:  # fmt: skip
        said: dict[str, JsonValue] = {"reason": why, "candidates": [one.record() for one in candidates[:100]]}
        links = [Link(rel="answers", to=request.id)]
        taint = read(request.taint)
        if failed:
            said["failed"] = [*failed]
        if chosen is None:
            said["given_up"] = True
        else:
            said |= {"capability": chosen.capability, "version": chosen.version}
            if chosen.given:
                said["input"] = dict(chosen.given)
            if chosen.bid is not None:
                said["bid"] = chosen.bid
                if before is None:  # links lead to what is older than the entry, and not only than its newest version
                    links.append(Link(rel="derived_from", to=chosen.bid))
            taint = merged(taint, chosen.taint)
        confidence = chosen.confidence if chosen else 1.0
        who = f"{chosen.capability} was awarded it" if chosen is not None else "given up"
        told = f"{request.topic}: {who}, {why}"
        try:
            if before is None:
                await self._entries.post(
                    f"{AWARDS}.{name}", said, confidence=confidence, links=links, taint=taint, expect_topic=0,
                    task=self._claim,
                )  # fmt: skip
            else:
                await self._entries.amend(
                    before.id, said, confidence=confidence, taint=taint, expect=before.version, task=self._claim
                )
        except Stale:
            told = f"{request.topic}: somebody else awarded it meanwhile"
        award = await self._award_of(name)
        if award is None:
            await self._unanswered(name, request, None, {"reason": "its award was taken off the board"})
        else:
            self._stock.told.append(told)
        return award

    # ---- what comes of it --------------------------------------------------------------------------------------------

    async def _employ(self, name: str, request: Entry, award: Entry) -> None:
        said = cast("dict[str, Any]", award.content) if isinstance(award.content, dict) else {}
        if said.get("given_up") is True:
            last: dict[str, Any] = [{}, *failures(award).values()][-1]
            failed = {key: cast(JsonValue, last[key]) for key in ("capability", "status") if key in last}
            return await self._unanswered(name, request, award, {"reason": said.get("reason"), **failed})
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
        if (full := self._full()) is not None:
            return await self._unanswered(name, request, award, {"reason": full})
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
        data = task.completion.data if task.completion is not None else None
        try:
            # A large result is where it is, and the answer refers to it.
            told = f"{request.topic}: {task.capability} answered it"
            await self._write(f"{ANSWERS}.{name}", data, request, award, award.confidence, task.taint, told)
        except BadInput as problem:
            why = f"what it returned cannot be written on {ANSWERS}.{name}: {problem}"
            return await self._unanswered(name, request, award, {"capability": task.capability, "reason": why[:2000]})

    async def _unanswered(self, name: str, request: Entry, award: Entry | None, why: dict[str, JsonValue]) -> None:
        taint = merged(read(request.taint), read(award.taint) if award is not None else ())
        told = f"{request.topic}: unanswered, {why.get('reason')}"
        await self._write(f"{UNANSWERED}.{name}", why, request, award, 1.0, taint, told)

    async def _write(
        self, topic: str, content: JsonValue, request: Entry, award: Entry | None, confidence: float,
        taint: Sequence[str], told: str,
    ) -> None:  # fmt: skip
        links = [Link(rel="answers", to=request.id)]
        if award is not None:
            links.append(Link(rel="derived_from", to=award.id))
        try:
            await self._entries.post(
                topic, content, confidence=confidence, links=links, taint=taint, expect_topic=0, task=self._claim
            )
            self._stock.told.append(told)
        except Stale:  # somebody else said it before, and may have taken it back
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

    def _full(self) -> str | None:
        """Why no task may be posted any more; None while one may."""
        limit = self._state.limits.tasks
        full = len(self._state.work) + self._posted + len(self._stock.tasks) >= limit
        return f"the run has reached its limit of {limit} tasks" if full else None

    async def _every(self, pattern: str, *, load: bool = True) -> list[Entry]:
        every: list[Entry] = []
        after: str | None = None
        while True:
            found = await self._entries.query(pattern, limit=1000, after=after, load=load)
            every += found.entries
            if (after := found.after) is None:
                return every


def _own(name: str, request: Entry) -> frozenset[str]:
    """Keys of the tasks that may be posted for a request."""
    said = volunteering.read(request)
    missing = said.missing if isinstance(said, OpenRequest) else None
    return frozenset({AWARD + name, *([FABRICATION + missing.name] if missing is not None else ())})


def awarded_since(award: Entry, task: Task) -> bool:
    """Whether an award says something else by now than when a task was posted for it, whoever said it."""
    return task.id in failures(award) or int(award.position.partition("-")[0]) > task.posted_at.timestamp() * 1000


def failures(award: Entry) -> Mapping[str, dict[str, Any]]:
    """By id, the tasks that an award counts as failed. Whoever writes it may have said anything."""
    said = award.content.get("failed") if isinstance(award.content, dict) else None
    rows = cast(
        "list[dict[str, Any]]", [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    )
    return {str(one["task"]): one for one in rows if "task" in one}


def _failure(award: Entry, task: Task) -> dict[str, Any]:
    assert task.completion is not None
    said = cast("dict[str, Any]", award.content if isinstance(award.content, dict) else {})
    status, error = task.completion.status.value, task.completion.error
    why = f"{task.capability}, which was awarded it, ended as {status}: {error.message if error else ''}"
    return {
        "task": task.id,
        "capability": task.capability,
        "bid": said.get("bid"),
        "status": status,
        "reason": why[:1000],
    }


def _tried(one: Candidate, failed: Sequence[Mapping[str, Any]]) -> Candidate:
    """A candidate, refused where it was awarded the request before, and failed."""
    for each in failed:
        if each.get("bid") == one.bid and (one.bid is not None or each.get("capability") == one.capability):
            return replace(one, refused=str(each.get("reason"))[:500])
    return one
