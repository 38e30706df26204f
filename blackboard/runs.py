"""Finding runs: by status, tenant, time, size and words, newest first, in bounded pages.

The index holds every run by the time of its acceptance; the rest is in the runs' headers, which are read a page at a
time and compared here. No key is scanned, and a call looks at a bounded number of headers, whatever it is asked.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, cast

from pydantic import Field

from blackboard import _keys, _script
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.types import Record, RunSummary, Status, summarise

STATES = ("queued", "running", "paused", "cancelling", *(status.value for status in Status))
LOOK_AT = 50_000
"""Headers one call looks at, at most, before it returns what it has and where to go on."""
_PAGE = 500
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_TERM = re.compile(r'([a-z]+)(>=|<=|=|~|>|<)(?:"([^"]*)"|([^\s"]\S*))(?=\s|$)')
MOST_TERMS = 10_000
"""Characters of a filter."""
_NUMBERS = ("rounds", "tasks", "seconds")
_REMEDY = (
    "Write terms like status=failed,timed_out tenant=acme since=1h until=2026-01-31 text~invoice rounds>3 tasks>=10 "
    'seconds>60, with spaces between; a value with spaces in "quotes".'
)

Sign = Literal[">", ">=", "<", "<="]


class Bound(Record):
    """A number of a run and what it is compared with."""

    field: Literal["rounds", "tasks", "seconds"]
    sign: Sign
    value: float


class Where(Record):
    """Which runs are meant; what is not given does not matter."""

    status: tuple[str, ...] = ()
    """Any of these: ``queued``, ``running``, ``paused``, ``cancelling`` or one of :class:`Status`."""
    tenant: tuple[str, ...] = ()
    since: float | None = None
    """Accepted then or later, in seconds since the epoch on the server's clock."""
    until: float | None = None
    """Accepted before."""
    text: tuple[str, ...] = ()
    """All of these are in the first characters of the request, whatever their case."""
    bounds: tuple[Bound, ...] = ()
    """``seconds`` is the time from acceptance to the end, or to now."""

    @classmethod
    def parse(cls, text: str, *, now: float | None = None) -> Where:
        """The terms of a text such as ``status=failed tenant=acme since=1h text~invoice``.

        Args:
            now: seconds since the epoch, for times that are given as an age. Default: this machine's clock.

        Raises:
            BadInput: a term that cannot be understood.
        """
        now = time.time() if now is None else now
        found: dict[str, Any] = {"text": [], "bounds": []}
        for term, name, sign, value in terms(text, _REMEDY):
            match name, sign:
                case "status" | "tenant", "=":
                    found[name] = _listed(name, value)
                case "since" | "until", "=":
                    found[name] = moment(value, now=now, field=f"where.{name}")
                case "text", "~":
                    found["text"].append(value.lower())
                case _, ">" | ">=" | "<" | "<=" if name in _NUMBERS:
                    found["bounds"].append({"field": name, "sign": sign, "value": _number(name, value)})
                case _:
                    raise BadInput("where", term, _REMEDY)
        return cls.model_validate(found)

    def fits(self, run: RunSummary, now: float) -> bool:
        """Whether a run is meant."""
        if self.status and run.status not in self.status:
            return False
        if self.tenant and run.tenant not in self.tenant:
            return False
        if self.since is not None and run.created_at < self.since:
            return False
        if self.until is not None and run.created_at >= self.until:
            return False
        request = run.request.lower() if self.text else ""
        return all(word in request for word in self.text) and all(_within(bound, run, now) for bound in self.bounds)


class Page(Record):
    """Runs that were found, and where to go on."""

    runs: tuple[RunSummary, ...] = ()
    """Newest first."""
    after: str | None = None
    """Give it to :func:`find` for the next page; None when there is none."""
    examined: int = Field(default=0, ge=0)
    """How many runs were looked at."""


async def find(
    board: Board, where: Where | None = None, *, limit: int = 50, after: str | None = None, look_at: int = LOOK_AT
) -> Page:
    """The latest runs that are meant, newest first.

    Args:
        limit: runs in a page, at most.
        after: where the page before ended.
        look_at: runs to look at, at most; then the page may be short, or empty, and :attr:`Page.after` goes on.

    Raises:
        BadInput: a limit below 1, or a malformed ``after``.
        EngineUnavailable: the server stayed unreachable.
    """
    if limit < 1:
        raise BadInput("limit", limit, "Ask for at least one run.")
    where = where or Where()
    walks = [_Walk(board, shard, where, _position(after)) for shard in board.shards]
    found: list[RunSummary] = []
    examined = 0
    now = time.time()
    last: RunSummary | None = None
    while len(found) < limit and examined < look_at:
        heads = [(walk, run) for walk in walks if (run := await walk.head()) is not None]
        if not heads:
            return Page(runs=tuple(found), examined=examined)
        walk, last = max(heads, key=lambda pair: (pair[1].created_at, pair[1].id))
        walk.step()
        examined += 1
        if where.fits(last, now):
            found.append(last)
    assert last is not None
    return Page(runs=tuple(found), after=f"{round(last.created_at * 1000)}-{last.id}", examined=examined)


class _Walk:
    """One shard's runs from the newest on."""

    def __init__(self, board: Board, shard: _keys.Shard, where: Where, after: tuple[int, str] | None) -> None:
        self._client, self._shard, self._where = cast(Any, board.client), shard, where
        self._told = self._after = after
        self._page: list[RunSummary] = []
        self._over = False

    async def head(self) -> RunSummary | None:
        while not self._page and not self._over:
            await self._turn()
        return self._page[-1] if self._page else None

    def step(self) -> None:
        self._page.pop()

    async def _turn(self) -> None:
        rows = await _script.retrying(self._next)
        self._over = len(rows) < _PAGE
        if not rows:
            return
        ids = [run_id for run_id, _ in rows]
        headers: list[str | None] = await _script.retrying(lambda: self._client.hmget(self._shard.runs, ids))
        since, told = self._where.since, self._told
        for (run_id, score), raw in zip(rows, headers, strict=True):
            if since is not None and score < since * 1000:
                self._over = True
                break
            # Runs of the same millisecond may have been told already, when the page before ended in another shard.
            if raw and (told is None or (int(score), run_id) < told):
                self._page.append(summarise(run_id, json.loads(raw)))
        self._page.reverse()
        self._after = (int(rows[-1][1]), rows[-1][0])

    async def _next(self) -> Sequence[tuple[str, float]]:
        """Ids behind the position. Ranks are looked up anew, because runs come and go between two pages."""
        index, start = self._shard.index, 0
        if self._after is not None:
            score, run_id = self._after
            rank: int | None = await self._client.zrevrank(index, run_id)
            start = await self._client.zcount(index, f"({score}", "+inf") if rank is None else rank + 1
        elif self._where.until is not None:
            start = await self._client.zcount(index, math.ceil(self._where.until * 1000), "+inf")
        found = await self._client.zrevrange(index, start, start + _PAGE - 1, withscores=True)
        return cast("Sequence[tuple[str, float]]", found)


def terms(text: str, remedy: str) -> Iterator[tuple[str, str, str, str]]:
    """The terms of a filter: each as it stands, then its name, sign and value.

    Raises:
        BadInput: something between them is no term; with the remedy.
    """
    if len(text) > MOST_TERMS:
        raise BadInput("where", text, f"Use at most {MOST_TERMS:,} characters.")
    rest = text.strip()
    while rest:
        match = _TERM.match(rest)
        if match is None:
            raise BadInput("where", rest, remedy)
        name, sign, quoted, plain = match.groups()
        yield match.group(), name, sign, plain if quoted is None else quoted
        rest = rest[match.end() :].lstrip()


_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")


def moment(text: str, *, now: float, field: str = "time") -> float:
    """Seconds since the epoch: an age such as ``90s``, ``15m``, ``2h``, ``7d``, or a date and time (ISO 8601).

    A time without a zone is in the local one.

    Raises:
        BadInput: neither of them.
    """
    age = _AGE.fullmatch(text)
    if age is not None:
        return now - float(age[1]) * _UNITS[age[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise BadInput(field, text, "Write an age (90s, 15m, 2h, 7d) or a time (2026-01-31T08:00+00:00).") from None


def span(text: str, *, field: str = "duration") -> float:
    """Seconds of a span such as ``90s``, ``15m``, ``2h``, ``7d``, ``4w``.

    Raises:
        BadInput: none of them.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise BadInput(field, text, "Write a number and a unit: 90s, 15m, 2h, 7d or 4w.")
    return float(match[1]) * _UNITS[match[2]]


def _listed(name: str, value: str) -> tuple[str, ...]:
    words = tuple(word for word in value.split(",") if word)
    unknown = [word for word in words if word not in STATES] if name == "status" else []
    if unknown or not words:
        choice = f"one of {', '.join(STATES)}" if name == "status" else "a name"
        raise BadInput(f"where.{name}", value, f"Name {choice}; several with commas.")
    return words


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise BadInput(f"where.{name}", value, "Compare it with a number.") from None


def _within(bound: Bound, run: RunSummary, now: float) -> bool:
    if bound.field == "seconds":
        has = (run.ended_at if run.ended_at is not None else now) - run.created_at
    else:
        has = float(run.round if bound.field == "rounds" else run.tasks)
    match bound.sign:
        case ">":
            return has > bound.value
        case ">=":
            return has >= bound.value
        case "<":
            return has < bound.value
        case "<=":
            return has <= bound.value


def _position(after: str | None) -> tuple[int, str] | None:
    if after is None:
        return None
    match = re.fullmatch(r"(\d{1,16})-(\S{1,64})", after)
    if match is None:
        raise BadInput("after", after, "Give what the page before said.")
    return int(match[1]), match[2]
