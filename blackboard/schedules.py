"""Schedules: requests that become runs at their times, exactly one run for each occurrence.

A schedule is a definition and a state. All of them lie on the board's first shard, so that one reading says what is due
next; the runs they start lie wherever their ids put them. Firing takes three steps, each of which may be repeated by
anybody:

1. **decide**: the state moves on to the next occurrence and names those to fire now, in one script;
2. **submit**: each of them becomes a run whose idempotency key is the schedule's name and the occurrence's time;
3. **settle**: the state forgets them, in one script.

Whoever dies between two steps leaves a state that says what remains; another sweeper does the rest, and the key makes a
second submission find the first one's run. So no step needs a lock, runs stay spread over all shards, and what
``submit`` does (admission, payloads, limits) is not done a second time here. A decision counts only if the state is
still the one it was made from.

Every time here is the server's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any, cast

from redis.exceptions import ResponseError

from blackboard import _keys, _script
from blackboard.board import Board
from blackboard.errors import ArbiterError, BadInput, Conflict, EngineUnavailable, UnknownRecord
from blackboard.occurrence import jitter, rendered
from blackboard.recurrence import shown
from blackboard.schedule import CATCH_UP_LIMIT, Schedule, Scheduled, checked, times
from blackboard.taint import of_request
from blackboard.types import Record

log = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
"""An occurrence found later than this was missed: nothing that could have fired it was running."""
FIRING_SECONDS = 5.0
"""How long the one who decided has for submitting, before another sweeper does it too; and between two tries of a
submission that was refused."""
GIVE_UP_SECONDS = 3600.0
"""How long a refused submission is repeated before the occurrence counts as failed."""
_PRELUDE = "_schedule"
_ATTEMPTS = 20
_AT_ONCE = 8
"""Schedules that one sweep fires at a time."""


class _State(Record):
    """What changes about a schedule; instants in milliseconds. ``nonce`` makes each writing unlike any other."""

    nonce: str = ""
    enabled: bool = True
    created: int
    anchor: int
    next: int | None = None
    firing: tuple[int, ...] = ()
    decided: int = 0
    tried: int = 0
    fired: int = 0
    missed: int = 0
    overlapped: int = 0
    failed: int = 0
    last_at: int | None = None
    last_run: str | None = None
    last_error: str | None = None


class _Reading:
    """A schedule as it was read: the texts to compare with, and what they say."""

    def __init__(self, now: int, definition: str, state: str) -> None:
        self.now = now
        self.definition, self.text = definition, state
        self.schedule = Schedule.model_validate_json(definition)
        self.state = _State.model_validate_json(state)
        self.times = times(self.schedule, self.state.anchor)

    def due(self, occurrence: int) -> int:
        return occurrence + jitter(self.schedule.name, occurrence, round(self.schedule.window_seconds * 1000))

    def changed(self, state: _State) -> _Reading:
        """The same schedule with another state; a new anchor takes a new reading."""
        made = copy(self)
        made.state, made.text = state, state.model_dump_json()
        return made

    def view(self) -> Scheduled:
        state = self.state
        following = state.next if state.enabled else None
        over = state.next is None and not state.firing
        return Scheduled(
            schedule=self.schedule,
            status="completed" if over else "enabled" if state.enabled else "disabled",
            created_at=state.created / 1000,
            next_at=_seconds(following),
            due_at=_seconds(None if following is None else self.due(following)),
            fired=state.fired, missed=state.missed, overlapped=state.overlapped, failed=state.failed,
            last_at=_seconds(state.last_at), last_run=state.last_run, last_error=state.last_error,
        )  # fmt: skip


class Schedules:
    """The schedules of a board.

    Args:
        board: an open board; closing it is the caller's business.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._keys = _keys.schedules(board.shards[0])

    async def add(self, schedule: Schedule, *, enabled: bool | None = None, replace: bool = False) -> Scheduled:
        """Store a schedule. Adding the same one again changes nothing, not even whether it is enabled.

        Args:
            enabled: False stores it without letting it occur. Default: enabled or, replacing another, as that was.
            replace: take the place of a different schedule of that name; its counts and its last run stay.

        Returns:
            The schedule as it is now.

        Raises:
            BadInput: something about it is malformed, or it would never occur.
            Conflict: there is a different schedule of that name, and ``replace`` was not asked for.
            EngineUnavailable: the server stayed unreachable.
        """
        checked(schedule)
        # Left out where there are none, so that a process of an earlier version can read the rest.
        absent = {name for name in ("sources", "plan") if not getattr(schedule, name)}
        definition = schedule.model_dump_json(exclude=absent)
        for _ in range(_ATTEMPTS):
            now, known = await self._read(schedule.name)
            if known is not None and known.schedule == schedule:
                return known.view()
            if known is not None and not replace:
                raise Conflict(
                    "CONFLICT", f"schedule {schedule.name} is there with another definition; replace or remove it"
                )
            occurring = times(schedule, now)
            following = occurring.after(now)
            if following is None:
                what = schedule.when if occurring.end is None else f"{schedule.when} until {shown(occurring.end)}"
                raise BadInput("when", what, f"It is over: the server's clock shows {shown(now)}. Give a later time.")
            state = known.state if known else _State(created=now, anchor=now)
            on = state.enabled if enabled is None else enabled
            state = state.model_copy(update={"enabled": on, "anchor": occurring.anchor, "next": following})
            written = await self._write(_Reading(now, definition, state.model_dump_json()), known.text if known else "")
            if written is not None:
                return written.view()
        raise _contended(schedule.name)

    async def get(self, name: str) -> Scheduled:
        """One schedule.

        Raises:
            UnknownRecord: there is none of that name.
        """
        return (await self._known(name)).view()

    async def list(self) -> list[Scheduled]:
        """All schedules, by name."""
        now, *rows = cast("list[str]", await self._run("schedule_read", ""))
        return [one.view() for _, one in sorted(_readings(int(now), rows), key=lambda pair: pair[0])]

    async def remove(self, name: str) -> bool:
        """Forget a schedule; False when there was none. Runs it started go on.

        An occurrence that had been decided on may still become a run while this returns.
        """
        for _ in range(_ATTEMPTS):
            _, known = await self._read(name)
            if known is None:
                return False
            if await self._run("schedule_write", name, known.text, "", "", ""):
                return True
        raise _contended(name)

    async def enable(self, name: str) -> Scheduled:
        """Let a schedule occur again, from now on: what would have occurred meanwhile is not made up for.

        Raises:
            UnknownRecord: there is none of that name.
        """

        def on(known: _Reading) -> _State:
            if known.state.enabled:
                return known.state
            return known.state.model_copy(update={"enabled": True, "next": known.times.after(known.now)})

        return await self._change(name, on)

    async def disable(self, name: str) -> Scheduled:
        """Keep a schedule from occurring until it is enabled.

        Raises:
            UnknownRecord: there is none of that name.
        """
        return await self._change(name, lambda known: known.state.model_copy(update={"enabled": False}))

    async def run_now(self, name: str) -> str:
        """Submit the request of a schedule now, enabled or not; its occurrences stay as they are.

        Returns:
            The id of the run.

        Raises:
            UnknownRecord: there is none of that name.
            BadInput: the request was refused.
        """
        known = await self._known(name)
        run_id = await self._submit(known, known.now, f"now\0{secrets.token_hex(8)}")
        last = {"last_run": run_id, "last_at": known.now}
        try:
            await self._change(name, lambda current: current.state.model_copy(update=last))
        except UnknownRecord:  # removed in between; the run was asked for all the same
            pass
        return run_id

    async def sweep(self, *, limit: int = 50) -> float:
        """Fire what is due. Any number of processes may do this at once.

        Returns:
            Seconds until something will be due, at most 60.
        """
        now, nearest, *rows = cast("list[str]", await self._run("schedule_due", limit))
        turns = asyncio.Semaphore(_AT_ONCE)
        readings = list(_readings(int(now), rows))
        fired = await asyncio.gather(*(self._in_turn(turns, known) for _, known in readings), return_exceptions=True)
        for error in fired:
            if isinstance(error, BaseException):
                raise error
        return 0.0 if any(fired) and len(rows) >= 3 * limit else int(nearest) / 1000

    # ---- firing ----------------------------------------------------------------------------------------------------

    async def _in_turn(self, turns: asyncio.Semaphore, known: _Reading) -> bool:
        async with turns:
            try:
                await self._fire(known)
                return True
            except EngineUnavailable:
                raise
            except (ArbiterError, ResponseError) as error:  # one of them must not keep the others waiting
                log.error("schedule %s: %s", known.schedule.name, error)
                return False

    async def _fire(self, known: _Reading) -> None:
        decided = known if known.state.firing else await self._decide(known)
        if decided is not None:
            await self._settle(decided)

    async def _decide(self, known: _Reading) -> _Reading | None:
        """Name what is to be fired now and move on to the next occurrence; None when there is nothing to fire."""
        state = known.state
        if state.next is None or not state.enabled:
            return None
        passed, count = known.times.passed(state.next, known.now, CATCH_UP_LIMIT + 1)
        following: int | None = None
        while passed and known.due(passed[-1]) > known.now:  # delayed within its window
            following = passed.pop()
            count -= 1
        if not passed:
            return None
        if following is None:
            following = known.times.after(passed[-1])
        firing = _chosen(known, passed)
        missed, overlapped = count - len(firing), 0
        if firing and known.schedule.overlap == "skip" and await self._running(state.last_run):
            firing, overlapped = [], len(firing)
        decided = state.model_copy(
            update={
                "next": following, "firing": tuple(firing), "decided": known.now, "tried": known.now,
                "missed": state.missed + missed, "overlapped": state.overlapped + overlapped,
            }
        )  # fmt: skip
        written = await self._write(known.changed(decided), known.text)
        return written if firing else None

    async def _settle(self, known: _Reading) -> None:
        """Submit what was decided on, then forget it. Every part of it may have been done before."""
        state, submitted = known.state, 0
        for occurrence in state.firing:
            news: dict[str, Any] = {}
            try:
                news = {"last_run": await self._submit(known, occurrence, shown(occurrence)), "last_at": occurrence}
            except Conflict:  # it was submitted before the schedule was replaced
                log.info("schedule %s: %s had become a run already", known.schedule.name, shown(occurrence))
            except EngineUnavailable:
                raise
            except ArbiterError as error:
                if not isinstance(error, BadInput) and known.now - state.decided < GIVE_UP_SECONDS * 1000:
                    # It stays decided on, and is tried again after a while.
                    await self._write(known.changed(known.state.model_copy(update={"tried": known.now})), known.text)
                    raise
                log.error("schedule %s: %s was refused: %s", known.schedule.name, shown(occurrence), error)
                news = {"failed": state.failed + 1, "last_error": str(error)}
            submitted += "failed" not in news
            state = state.model_copy(update=news)
        state = state.model_copy(update={"firing": (), "fired": state.fired + submitted})
        await self._write(known.changed(state), known.text)

    async def _submit(self, known: _Reading, occurrence: int, key: str) -> str:
        schedule = known.schedule
        request = rendered(schedule.request, schedule.name, occurrence, known.times.zone)
        return await self._board.submit(
            request,
            tenant=schedule.tenant,
            taint=schedule.sources or of_request(request),
            idempotency_key=f"schedule\0{schedule.name}\0{key}",
            limits=schedule.limits,
            plan=schedule.plan,
        )

    async def _running(self, run_id: str | None) -> bool:
        if run_id is None:
            return False
        try:
            return (await self._board.summary(run_id)).ended_at is None
        except UnknownRecord:  # finished, and removed since
            return False

    # ---- inside ----------------------------------------------------------------------------------------------------

    async def _run(self, name: str, *args: str | int) -> Any:
        script = _script.load(name, _PRELUDE)
        board = self._board
        return await _script.run(board.client, script, self._keys, args, recover=board.engine.ensure)

    async def _read(self, name: str) -> tuple[int, _Reading | None]:
        now, *row = cast("list[str]", await self._run("schedule_read", name))
        return int(now), _Reading(int(now), row[1], row[2]) if row else None

    async def _known(self, name: str) -> _Reading:
        _, known = await self._read(name)
        if known is None:
            raise UnknownRecord("UNKNOWN", f"no schedule {name} on board {self._board.namespace}/{self._board.name}")
        return known

    async def _change(self, name: str, change: Callable[[_Reading], _State]) -> Scheduled:
        for _ in range(_ATTEMPTS):
            known = await self._known(name)
            state = change(known)
            if state == known.state:
                return known.view()
            written = await self._write(known.changed(state), known.text)
            if written is not None:
                return written.view()
        raise _contended(name)

    async def _write(self, wanted: _Reading, expected: str) -> _Reading | None:
        """Store a reading if what is there is still ``expected``. A schedule that is over goes, if it is to.

        Returns:
            What was written; None when another writing came first.
        """
        state = wanted.state.model_copy(update={"nonce": secrets.token_hex(8)})
        stored = wanted.changed(state)
        text, due = stored.text, ""
        if state.firing:
            due = str(state.tried + round(FIRING_SECONDS * 1000))
        elif state.next is None:
            text = "" if stored.schedule.delete_after_completion else text
        elif state.enabled:
            due = str(stored.due(state.next))
        name = stored.schedule.name
        done = await self._run("schedule_write", name, expected, stored.definition, text, due)
        return stored if done else None


def _chosen(known: _Reading, passed: list[int]) -> list[int]:
    """Of the occurrences whose time has come, those to fire."""
    catch_up = known.schedule.catch_up or ("last" if known.times.once is not None else "none")
    if catch_up == "all":
        return passed[-CATCH_UP_LIMIT:]
    late = known.now - known.due(passed[-1])
    return passed[-1:] if catch_up == "last" or late <= GRACE_SECONDS * 1000 else []


def _readings(now: int, rows: Sequence[str]) -> Iterator[tuple[str, _Reading]]:
    for i in range(0, len(rows), 3):
        try:
            yield rows[i], _Reading(now, rows[i + 1], rows[i + 2])
        except (ArbiterError, ValueError) as error:  # written by another version; the others are not to suffer
            log.error("schedule %s cannot be read: %s", rows[i], error)


def _seconds(instant: int | None) -> float | None:
    return None if instant is None else instant / 1000


def _contended(name: str) -> Conflict:
    return Conflict("CONFLICT", f"schedule {name} is being changed by too many at once; try again")
