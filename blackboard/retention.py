"""How long finished runs are kept, and their removal.

A run is removed by one script, a bounded part at each call, so that a long one holds nobody up. Its log and its header
go last and together: until then it is listed and shown whole, and a removal that was interrupted is taken up by the
next one. A run that is not over is never removed, whatever the policy says. What it taught the registry goes first.

What is counted per capability version (``outcomes``) stays, and so do capabilities.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from pydantic import Field
from redis.exceptions import RedisError

from blackboard import _keys, _script
from blackboard.board import Board
from blackboard.compaction import compact
from blackboard.entry import scope_of
from blackboard.entry_log import owners
from blackboard.errors import ArbiterError, BlobUnavailable, BoardFull, ScriptRefused
from blackboard.lessons import Lessons
from blackboard.types import Record, Settings, Status

log = logging.getLogger(__name__)

DAY = 86_400.0
PASS_RUNS = 1000
"""Runs one pass of :class:`Retirer` removes at most; the next pass follows at once when there are more."""
COMPACT_SECONDS = 3600.0
"""Time between two looks of one process at the scopes that last."""
COMPACT_FACTS = 100
"""A scope in which fewer facts can count no more is left alone."""
IDLE_TENANTS = 1000
"""Virtual times are forgotten only when a shard holds more of them: the few of a small board cost nothing."""
_PAGE = 500
_ENDED = frozenset(status.value for status in Status)


def _ages() -> dict[Status, float]:
    return {status: (30 if status is Status.SUCCEEDED else 90) * DAY for status in Status}


class Retention(Settings):
    """Which finished runs are kept.

    The default keeps succeeded runs for 30 days, others for 90, and 100,000 runs in all.
    """

    ages: Mapping[Status, float] = Field(default_factory=_ages)
    """Seconds from a run's end to its removal, by status; a status that is not named is kept whatever its age."""
    most_runs: int | None = Field(default=100_000, ge=0)
    """Beyond so many runs on the board the oldest finished ones go, whatever their age; None for no such bound."""
    grace_seconds: float = Field(default=3600.0, ge=0)
    """A run that ended more recently is never removed because of ``most_runs``: somebody may still be reading it."""
    interval_seconds: float = Field(default=60.0, gt=0)
    """Time between two passes of one process."""
    superseded: float | None = Field(default=None, ge=0)
    """Seconds after which facts that count no more leave the logs of scopes that last, see :mod:`blackboard.compaction`; None
    keeps them. Looked at once an hour, where there are a hundred of them."""


RETENTION = Retention()
"""The default policy."""


class Pruned(Record):
    """What a pass removed, or would have removed."""

    runs: int = 0
    by_status: Mapping[str, int] = Field(default_factory=dict)
    ids: tuple[str, ...] = ()
    """The runs, oldest first, at most the first 1,000."""
    complete: bool = True
    """False when the pass stopped at its limit."""


async def retire(board: Board, run_id: str, *, ended_before: float | None = None) -> set[str]:
    """Remove one finished run with everything that belongs to it; nothing when it is not there.

    Args:
        ended_before: seconds since the epoch on the server's clock; a run that ended (or was imported) later is kept.

    Returns:
        Lanes its tasks were in, for :func:`trim`.

    Raises:
        ScriptRefused: ``LIVE``, it is not over; ``YOUNG``, it ended after ``ended_before``. Nothing was removed.
    """
    shard = board.shard_of(run_id)
    bound = (1 << 53) if ended_before is None else int(ended_before * 1000)
    # First, since nothing would remember it afterwards. What a run that is kept after all taught is learnt anew from its log.
    await Lessons(board.catalog).forget_run(run_id)
    lanes: set[str] = set()
    while True:
        over, *seen = await _script.run(
            board.client, _script.load("retire_run"),
            [*shard.declare((), run_id), *shard.agenda(run_id)[1:], *shard.entries(run_id),
             shard.rewritten(run_id), shard.blobs(run_id)], [0, run_id, bound],
            recover=board.engine.ensure,
        )  # fmt: skip
        lanes.update(seen)
        if over:
            try:
                await board.blobs.delete_run(run_id)
            except BlobUnavailable as error:
                log.error("large values of the removed run %s stay: %s", run_id, error)
            return lanes


async def prune(
    board: Board,
    policy: Retention,
    *,
    now: float | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove the runs a policy no longer keeps, oldest first. Any number of processes may do it at once.

    Args:
        now: seconds since the epoch; default: the server's clock.
        limit: stop after so many runs.
        dry_run: remove nothing and tell what would be.

    Raises:
        EngineUnavailable: the server stayed unreachable; what was removed until then is gone, whole runs only.
    """
    moment = await _server_time(board) if now is None else now
    removed: list[str] = []
    count: Counter[str] = Counter()
    lanes: dict[int, set[str]] = defaultdict(set)
    complete = True
    surplus = await _surplus(board, policy)
    for shard, more in zip(board.shards, surplus, strict=True):
        complete &= await _Pass(board, shard, policy, moment, limit, dry_run, removed, count, lanes[shard.number]).walk(
            more
        )
    if not dry_run:
        for number, names in lanes.items():
            await trim(board, names, shard=number)
    return Pruned(runs=count.total(), by_status=dict(count), ids=tuple(removed), complete=complete)


async def _surplus(board: Board, policy: Retention) -> list[int]:
    """How many runs each shard has too many: in all no more than the board has, where it has more than its share."""
    if policy.most_runs is None:
        return [0] * len(board.shards)
    client = cast(Any, board.client)
    totals: list[int] = [await _script.retrying(lambda of=shard: client.zcard(of.index)) for shard in board.shards]
    left, share = sum(totals) - policy.most_runs, policy.most_runs // len(board.shards)
    found: list[int] = []
    for total in totals:
        found.append(max(0, min(left, total - share)))
        left -= found[-1]
    return found


async def _server_time(board: Board) -> float:
    seconds, micros = await _script.retrying(lambda: cast(Any, board.client).time())
    return seconds + micros / 1_000_000


class _Pass:
    """One walk over a shard's index, from the oldest run on."""

    def __init__(
        self,
        board: Board,
        shard: _keys.Shard,
        policy: Retention,
        now: float,
        limit: int | None,
        dry_run: bool,
        removed: list[str],
        count: Counter[str],
        lanes: set[str],
    ) -> None:
        self._board, self._shard, self._policy, self._now = board, shard, policy, now
        self._limit, self._dry_run = limit, dry_run
        self._removed, self._count, self._lanes = removed, count, lanes

    async def walk(self, surplus: int) -> bool:
        """False when it stopped at the limit.

        Args:
            surplus: so many of the oldest finished runs go whatever their age.
        """
        client, shard, policy = cast(Any, self._board.client), self._shard, self._policy
        youngest = self._now - min(policy.ages.values(), default=float("inf"))
        passed = 0
        while True:
            page: list[tuple[str, float]] = await _script.retrying(
                lambda start=passed: client.zrange(shard.index, start, start + _PAGE - 1, withscores=True)
            )
            if not page:
                return True
            ids = [run_id for run_id, _ in page]
            headers: list[str | None] = await _script.retrying(lambda some=ids: client.hmget(shard.runs, some))
            for (run_id, accepted), raw in zip(page, headers, strict=True):
                if surplus <= 0 and accepted / 1000 > youngest:
                    return True
                if self._limit is not None and self._count.total() >= self._limit:
                    return False
                by = self._bound(raw, surplus)
                if by is None or not await self._remove(run_id, json.loads(raw or "{}"), by):
                    passed += 1  # it stays in the index, so the next page begins behind it
                    continue
                passed += self._dry_run
                surplus -= 1

    def _bound(self, raw: str | None, surplus: int) -> float | None:
        """Until when a run must have ended to be removed; None when it is kept."""
        r: dict[str, Any] = json.loads(raw) if raw else {"state": "unknown"}
        if r["state"] not in _ENDED:
            return None
        since = max(r["ended"], r.get("imported", 0)) / 1000
        age = self._policy.ages.get(Status(r["state"]))
        bounds = [] if age is None else [self._now - age]
        if surplus > 0:
            bounds.append(self._now - self._policy.grace_seconds)
        return max(bounds) if bounds and since <= max(bounds) else None

    async def _remove(self, run_id: str, header: Mapping[str, Any], by: float) -> bool:
        if not self._dry_run:
            try:
                self._lanes |= await retire(self._board, run_id, ended_before=by)
            except ScriptRefused:
                return False
            except (RedisError, BoardFull) as error:  # one that cannot be dealt with must not keep the others
                log.error("run %s was not removed: %s", run_id, error)
                return False
        self._count[str(header["state"])] += 1
        if len(self._removed) < PASS_RUNS:
            self._removed.append(run_id)
        return True


async def trim(board: Board, lanes: set[str] | None = None, *, shard: int = 0, idle_tenants: int = IDLE_TENANTS) -> int:
    """Drop what ended work left behind in lanes: dead members of agendas, virtual times of tenants nobody waits beside.

    Args:
        lanes: which; those that ever gave work to anybody are looked at in any case.
        idle_tenants: leave virtual times alone while there are no more of them.

    Returns:
        How many entries were dropped.
    """
    place = board.shards[shard]
    client = cast(Any, board.client)
    tenants: dict[str, list[str]] = {lane: [] for lane in lanes or ()}
    cursor = 0
    while True:
        cursor, page = await _script.retrying(
            lambda at=cursor: cast(Awaitable[Any], client.hscan(place.prefix + "vt", at, count=_PAGE))
        )
        for field in page:
            lane, _, tenant = field.partition(":")
            tenants.setdefault(lane, []).append(tenant)
        if not int(cursor):
            break
    dropped = 0
    crowded = sum(map(len, tenants.values())) > idle_tenants
    for lane, idle in tenants.items():
        start = "-"
        while start:
            # All tenants of a lane in one call, so that they begin anew together.
            found, start = await _script.run(
                board.client, _script.load("trim_lane"), place.declare([lane]),
                [1, lane, start, _PAGE, *(idle if crowded and start == "-" else ())],
                recover=board.engine.ensure,
            )  # fmt: skip
            dropped += found
    return dropped


class Retirer:
    """Keeps a board within a policy until it is cancelled.

    Args:
        policy: what is kept.
    """

    def __init__(self, board: Board, policy: Retention) -> None:
        self._board, self._policy = board, policy

    async def run(self) -> None:
        """A pass soon after the start and then one at each interval; processes that do it at once do no harm."""
        await asyncio.sleep(self._board.random.uniform(1.0, 3.0))
        again = 0.0
        while True:
            pause = self._policy.interval_seconds * self._board.random.uniform(0.5, 1.5)
            try:
                done = await prune(self._board, self._policy, limit=PASS_RUNS)
                if done.runs:
                    log.info("removed %d finished runs: %s", done.runs, dict(done.by_status))
                if not done.complete:
                    pause = 1.0
            except (ArbiterError, RedisError) as error:
                log.error("removing finished runs failed: %s", error)
            if self._policy.superseded is not None and time.monotonic() >= again:
                again = time.monotonic() + COMPACT_SECONDS
                await self.compact(self._policy.superseded)
            await asyncio.sleep(pause)

    async def compact(self, older_than: float) -> None:
        """Compact every scope that lasts and has much that counts no more."""
        try:
            async for owner in owners(self._board):
                if ":" in owner:
                    done = await compact(self._board, scope_of(owner), older_than=older_than, at_least=COMPACT_FACTS)
                    if done.facts:
                        log.info("took %d facts that count no more out of %s", done.facts, done.scope)
        except (ArbiterError, RedisError) as error:
            log.error("compacting failed: %s", error)
