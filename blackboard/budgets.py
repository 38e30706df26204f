"""What may still be spent, and by whom: a tree of budgets in which the worst case is reserved before anything is spent.

A **level** is a place in the tree: ``board``, ``tenant:acme``, ``run:<id>``, ``task:<id>``, ``capability:<name>`` or
``model:<name>``; with ``/day`` behind it, its budget is a new one each day (UTC, on the server's clock). A **reservation**
names all levels it counts for and holds its amounts at each of them, or, where one of them lacks the room, at none. It ends
when it is settled with what was really spent, when it is given back, or when the process that made it falls silent for
longer than its lease. Levels without a budget are not counted.

All levels lie under one hash tag, so that each of these is one script. Every call may be sent again: a reservation is known
by its id, and what happened to it is remembered for a while after its end.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import redis
import redis.asyncio
from pydantic import Field, field_validator

from blackboard import _keys, _script
from blackboard._script import retrying
from blackboard.errors import ArbiterError, BadInput, BoardFull, EngineUnavailable
from blackboard.levels import checked_level, somebodys
from blackboard.types import Record, Settings

if TYPE_CHECKING:
    from blackboard.board import Board
    from blackboard.quotas import Quota

log = logging.getLogger(__name__)

Unit = Literal["tokens", "money", "seconds", "fabrications"]
UNITS: tuple[Unit, ...] = ("tokens", "money", "seconds", "fabrications")

MOST = 99_999_999_999_999
"""Largest amount: 14 digits. In money that is 100 million of a currency, in time 3,000 years."""
LEASE_SECONDS = 60.0
"""How long a silent process keeps a reservation."""
REMEMBERED_SECONDS = 900.0
"""How long an ended reservation is remembered, so that a call that comes late or twice changes nothing."""
SWEEP_SECONDS = 5.0
"""How often a process gives back what silent ones hold."""
_PRELUDE = "_budget"
_SWEPT_AT_ONCE = 100


class Budget(Settings):
    """The most that may be spent at a level. None is no bound in that unit; a level needs at least one."""

    level: str
    """``board``, ``tenant:…``, ``run:…``, ``task:…``, ``capability:…`` or ``model:…``; with ``/day`` behind it, for each day."""
    tokens: int | None = Field(default=None, ge=0, le=MOST)
    """Model tokens, in and out together."""
    money: int | None = Field(default=None, ge=0, le=MOST)
    """Millionths of the currency of the price table."""
    seconds: float | None = Field(default=None, ge=0, le=MOST / 1000)
    """Seconds of model calls, to the millisecond."""
    fabrications: int | None = Field(default=None, ge=0, le=MOST)
    """Fabrications begun."""

    @field_validator("level")
    @classmethod
    def _known(cls, level: str) -> str:
        return checked_level(level)


class Amounts(Record):
    """What a reservation holds, or what was spent."""

    tokens: int = Field(default=0, ge=0, le=MOST)
    money: int | None = Field(default=0, ge=0, le=MOST)
    """Millionths of a currency. None: nobody knows the price, so no level with a budget of money lets it pass."""
    seconds: float = Field(default=0.0, ge=0, le=MOST / 1000)
    fabrications: int = Field(default=0, ge=0, le=MOST)


@dataclass(frozen=True, slots=True)
class Level:
    """A level a reservation counts for.

    ``own`` is the budget of a level that was given none, for example the token limit of a run; such a level is forgotten
    when nothing was reserved at it for ``lifetime_seconds``.
    """

    name: str
    own: Budget | None = None
    lifetime_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation: its amounts are held at ``levels``, those of its levels that have a budget."""

    id: str
    levels: tuple[str, ...]
    over: bool = False
    """True when a reservation of this id had been settled before: nothing is held."""


@dataclass(frozen=True, slots=True)
class Excess:
    """More was spent than had been reserved. The level has it on its account and refuses until there is room again."""

    level: str
    unit: Unit
    amount: float


class UnitReport(Record):
    """How much of one unit a level may spend, and where it went. Money in millionths of the currency."""

    limit: float
    spent: float = 0
    reserved: float = 0
    """Held now by calls that are not settled."""
    excess: float = 0
    """Part of ``spent`` that had not been reserved: a provider returned more than it was asked for, or a process that had
    lost its reservation reported late."""
    lapsed: float = 0
    """Given back because the process that held it fell silent. Nobody knows whether it was spent; at most this much was."""

    @property
    def left(self) -> float:
        """What may still be reserved."""
        return max(0, self.limit - self.spent - self.reserved)

    @property
    def overshoot(self) -> float:
        """By how much more was spent than allowed."""
        return max(0, self.spent - self.limit)


class LevelReport(Record):
    """One level with a budget; of a level by day, today."""

    level: str
    units: Mapping[Unit, UnitReport]


class BudgetExhausted(ArbiterError):
    """A reservation that does not fit; nothing was reserved at any level and the call must not be made."""

    def __init__(self, level: str, unit: Unit, asked: float | None, left: float, limit: float) -> None:
        self.level, self.unit, self.asked, self.left, self.limit = level, unit, asked, left, limit
        if asked is None:
            said = (
                f"The call has no price, and {level} has a budget of money. Put the model into the price table, or say "
                "there what models without a price cost."
            )
        else:
            said = (
                f"Budget of {level}: the call may need {_shown(unit, asked)}, and {_shown(unit, left)} of its "
                f"{_shown(unit, limit)} are left. It was not made."
            )
        super().__init__(said)


class LargerThanQuota(BudgetExhausted):
    """A reservation that takes more tokens than the quota of a level ever has at once; waiting would not help."""

    def __init__(self, level: str, asked: float, quota: float) -> None:
        super().__init__(level, "tokens", asked, quota, quota)
        self.args = (
            f"The quota of {level} is {quota:,.0f} tokens in a minute, and the call alone is counted as {asked:,.0f}: what it "
            "sends and the longest answer. It was not made. Raise tokens_per_minute, or lower max_tokens of the model, or ask "
            "with less.",
        )  # fmt: skip


class Paced(ArbiterError):
    """A reservation that comes too early for the quota of a level; nothing was reserved. Ask again after
    ``retry_after_seconds``, or after ``look_again_seconds`` whether there is room sooner: calls give back what they did not
    use."""

    def __init__(self, level: str, retry_after_seconds: float, look_again_seconds: float) -> None:
        self.level, self.retry_after_seconds, self.look_again_seconds = level, retry_after_seconds, look_again_seconds
        super().__init__(f"The quota of {level} admits the next call in about {retry_after_seconds:g} s.")


class Budgets:
    """The budgets of one board.

    Args:
        board: an open board.
    """

    def __init__(self, board: Board) -> None:
        self._client: redis.asyncio.Redis = board.client
        self._recover = board.engine.ensure
        self._prefix = _keys.budgets(board.namespace, board.name)

    async def set(self, budget: Budget) -> None:
        """Give a level a budget, or another one. What it has spent so far counts; a unit that is None becomes unbounded.

        Raises:
            BadInput: no unit has a bound; use :meth:`remove` to take a budget away. Or the level can be nobody's: see
                :func:`somebodys`.
            EngineUnavailable: the server stayed unreachable.
        """
        somebodys("level", budget.level)
        if all(getattr(budget, unit) is None for unit in UNITS):
            raise BadInput("budget", budget.level, "Give at least one of tokens, money, seconds and fabrications.")
        await self._call("budget_write", [budget.level], budget.level, *_bounds(budget))

    async def remove(self, level: str) -> None:
        """Take a level's budget away. What it spent stays on its account, should it get another one."""
        await self._call("budget_write", [checked_level(level)], level, *_bounds(None))

    async def pace(self, level: str, quota: Quota | None) -> None:
        """Bound how many reservations of a level are held at a time and how fast they follow each other; None for no bound.

        See :meth:`blackboard.quotas.Quotas.set`, which does this for models.
        """
        bounds: list[str | float] = ["", "", "", ""]
        if quota is not None:
            bounds[0] = "" if quota.at_once is None else quota.at_once
            bounds[1:3] = ["", ""] if quota.per_second is None else [f"{quota.per_second:.9g}", quota.burst]
            bounds[3] = "" if quota.tokens_per_minute is None else quota.tokens_per_minute
        await self._call("budget_pace", [checked_level(level)], *map(str, bounds))

    async def calls_held(self, level: str) -> int:
        """How many reservations are held now at a level with a pace."""
        client: Any = self._client
        return int(await retrying(lambda: client.hget(f"{self._prefix}pot:{level}", "calls")) or 0)

    async def tokens_taken(self, level: str) -> int:
        """How many of a minute's tokens were taken at a level with a quota of tokens and have not come back yet."""
        _, now, flat = await self._call("budget_read", [level], level)
        pot = dict(zip(flat[::2], flat[1::2], strict=True))
        owed = int(pot.get("refilled", "0")) - int(now)
        return max(0, math.ceil(owed * int(pot.get("pace:t", "0")) / 60_000_000))

    async def reserve(
        self,
        id: str,
        levels: Sequence[Level],
        amounts: Amounts,
        *,
        expected_tokens: int = 0,
        lease_seconds: float = LEASE_SECONDS,
        remembered_seconds: float = REMEMBERED_SECONDS,
    ) -> Hold | None:
        """Hold the worst case at every level that has a budget, or at none.

        Args:
            id: of the reservation, unique to what is spent. The same id again renews the lease and nothing else; if the
                lease was over, it takes the amounts anew.
            levels: what it counts for, each once.
            amounts: the most that can be spent.
            expected_tokens: what it takes of a quota of tokens, until it is settled with what it used.
            lease_seconds: how long it is held without being renewed.
            remembered_seconds: how long the id is known after the end.

        Returns:
            The reservation; None when no level has a budget, and there is nothing to settle.

        Raises:
            BudgetExhausted: it does not fit; the error names the first level without room.
            LargerThanQuota: it takes more tokens than the quota of a level has in a minute.
            Paced: it fits and comes too early for the quota of a level.
            EngineUnavailable: the server stayed unreachable.
        """
        flat: list[str | int] = []
        for level in levels:
            flat += [checked_level(level.name), *_bounds(level.own), _ms(level.lifetime_seconds)]
        reply = await self._call(
            "budget_reserve", [level.name for level in levels],
            id, _ms(lease_seconds), _ms(remembered_seconds), len(levels), *_written(amounts), expected_tokens, *flat,
        )  # fmt: skip
        word, *rest = cast("list[str]", reply)
        if word == "refused":
            level, kind, asked, left, limit = rest
            unit = _unit(kind)
            wanted = None if asked == "?" else _read(unit, asked)
            raise BudgetExhausted(level, unit, wanted, _read(unit, left), _read(unit, limit))
        if word == "large":
            raise LargerThanQuota(rest[0], int(rest[1]), int(rest[2]))
        if word == "wait":
            raise Paced(rest[0], int(rest[1]) / 1000, int(rest[2]) / 1000)
        return None if word == "free" else Hold(id, tuple(rest), over=word == "settled")

    async def settle(self, hold: Hold, spent: Amounts) -> list[Excess]:
        """End a reservation with what was really spent. Only the first end counts.

        Returns:
            Where more was spent than reserved; empty in all ordinary cases.
        """
        reply = await self._call(
            "budget_settle", hold.levels,
            hold.id, *("0" if one == "?" else one for one in _written(spent)), *hold.levels,
        )  # fmt: skip
        rows = cast("list[str]", reply)[1:]
        return [
            Excess(level, _unit(kind), _read(_unit(kind), amount))
            for level, kind, amount in zip(rows[::3], rows[1::3], rows[2::3], strict=True)
        ]

    async def refund(self, hold: Hold) -> None:
        """Give a reservation back whole: nothing was spent."""
        await self.settle(hold, Amounts())

    async def sweep(self) -> int:
        """Give back what processes hold that fell silent. Any number of processes may sweep at once.

        Returns:
            How many reservations were given back.
        """
        lapsed = 0
        while True:
            rows = cast("list[list[str]]", await self._call("budget_due", (), _SWEPT_AT_ONCE))
            for id, *levels in rows:
                lapsed += int(await self._call("budget_lapse", levels, id, *levels))
            if len(rows) < _SWEPT_AT_ONCE:
                return lapsed

    async def keep_swept(self) -> None:
        """Sweep every few seconds until cancelled."""
        while True:
            try:
                await self.sweep()
            except (EngineUnavailable, BoardFull, redis.RedisError) as error:
                log.error("reservations could not be swept: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def report(self, *levels: str) -> list[LevelReport]:
        """Levels as they are at one moment: those named, else all that were given a budget, by name.

        A level without a budget is left out.
        """
        if levels:
            names = [checked_level(level) for level in levels]
        else:
            client: Any = self._client
            found = await retrying(lambda: cast(Awaitable[Any], client.smembers(self._prefix + "levels")))
            names = sorted(cast("set[str]", found))
        if not names:
            return []
        today, _, *pots = await self._call("budget_read", names, *names)
        reports: list[LevelReport] = []
        for name, flat in zip(names, cast("list[list[str]]", pots), strict=True):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            window = f"{today}:" if name.endswith("/day") else ""
            there: list[Unit] = [unit for unit in UNITS if f"max:{_field(unit)}" in fields]
            units: dict[Unit, UnitReport] = {unit: _report(unit, fields, window) for unit in there}
            if units:
                reports.append(LevelReport(level=name, units=units))
        return reports

    async def money(self, level: str) -> UnitReport | None:
        """How much money a level may spend, and where it went; None where nothing bounds it or nothing was reserved yet."""
        found = await self.report(level)
        return found[0].units.get("money") if found else None

    async def _call(self, name: str, levels: Sequence[str], *args: str | int) -> Any:
        keys = [self._prefix + key for key in ("holds", "due", "levels", *(f"pot:{level}" for level in levels))]
        script = _script.load(name, _PRELUDE)
        return await _script.run(self._client, script, keys, args, recover=self._recover)


def _field(unit: Unit) -> str:
    return "milliseconds" if unit == "seconds" else unit


def _unit(field: str) -> Unit:
    return "seconds" if field == "milliseconds" else cast(Unit, field)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _read(unit: Unit, amount: str) -> float:
    return int(amount) / 1000 if unit == "seconds" else int(amount)


def _bounds(budget: Budget | None) -> list[str]:
    if budget is None:
        return [""] * len(UNITS)
    given: list[float | None] = [getattr(budget, unit) for unit in UNITS]
    return ["" if one is None else _digits(unit, one) for unit, one in zip(UNITS, given, strict=True)]


def _written(amounts: Amounts) -> list[str]:
    given: list[float | None] = [getattr(amounts, unit) for unit in UNITS]
    return ["?" if one is None else _digits(unit, one) for unit, one in zip(UNITS, given, strict=True)]


def _digits(unit: Unit, amount: float) -> str:
    return str(_ms(amount) if unit == "seconds" else int(amount))


def _report(unit: Unit, fields: Mapping[str, str], window: str) -> UnitReport:
    def of(kind: str) -> float:
        return _read(unit, fields.get(f"{window}{kind}:{_field(unit)}", "0"))

    return UnitReport(
        limit=_read(unit, fields[f"max:{_field(unit)}"]),
        spent=of("s"), reserved=of("r"), excess=of("x"), lapsed=of("l"),
    )  # fmt: skip


def _shown(unit: Unit, amount: float) -> str:
    if unit == "money":
        return f"{amount / 1_000_000:,.6f}".rstrip("0").rstrip(".") + " of money"
    return f"{amount:,.3f}".rstrip("0").rstrip(".") + f" {unit}" if unit == "seconds" else f"{amount:,.0f} {unit}"
