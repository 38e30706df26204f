"""Quotas: how much of the board's workers somebody may have at a time, how fast, and how many runs may be open.

A quota belongs to a **subject**: ``board``, ``tenant:<name>``, ``capability:<name>`` or ``model:<name>``. The scripts that
hand out work and accept runs count and compare in one step, so a quota is never exceeded. What a quota holds back
waits in its place and keeps nobody else waiting. Completing work always has room.

On a board of S shards each shard keeps its part of every quota but ``weight``, because no script sees two shards: a rate is
divided by S, a number is shared out, and must therefore be at least S. Model calls are counted in one place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import Field, model_validator

from blackboard import _keys, _script
from blackboard.budgets import Budgets
from blackboard.errors import BadInput
from blackboard.levels import somebodys
from blackboard.types import Record, Settings

if TYPE_CHECKING:
    from blackboard.board import Board

_SUBJECT = re.compile(r"(board|tenant:[a-z0-9][a-z0-9._-]{0,63}|(capability|model):[^\x00-\x1f\x7f]{1,300})")
_BOUNDS = ("at_once", "per_second", "tokens_per_minute", "open_runs", "runs_per_second")


class Quota(Settings):
    """What one subject may have. None is no bound; a quota needs at least one bound or a weight.

    Raises:
        BadInput: on construction, naming the field, the value and the remedy.
    """

    subject: str
    """``board``, ``tenant:…``, ``capability:…`` or ``model:…``."""
    at_once: int | None = Field(default=None, ge=1, le=1_000_000)
    """Attempts at a time, from claim to end; of a model: calls at a time."""
    per_second: float | None = Field(default=None, gt=0, le=1_000_000)
    """Attempts begun in a second, on average; of a model: calls."""
    burst: int = Field(default=1, ge=1, le=1_000_000)
    """So many of those may follow each other at once after a rest."""
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000)
    """Tokens of calls begun in a minute, in and out together, on average; after a rest a minute's at once. Of models."""
    open_runs: int | None = Field(default=None, ge=1, le=100_000_000)
    """Runs accepted and not over. More are refused, and told when to come again. Of the board and of tenants."""
    runs_per_second: float | None = Field(default=None, gt=0, le=1_000_000)
    """Runs accepted in a second, on average. Of the board and of tenants."""
    runs_burst: int = Field(default=1, ge=1, le=1_000_000)
    """So many of those may follow each other at once after a rest."""
    weight: int = Field(default=1, ge=1, le=1000)
    """A tenant's share of the claims while several have work waiting: twice the weight, twice the claims. Of tenants."""

    @model_validator(mode="after")
    def _meaningful(self) -> Self:
        checked_subject(self.subject)
        kind = self.subject.partition(":")[0]
        if kind in ("capability", "model") and (self.open_runs is not None or self.runs_per_second is not None):
            raise BadInput("subject", self.subject, "Runs are counted for the board and for tenants, not for these.")
        if kind != "model" and self.tokens_per_minute is not None:
            raise BadInput(
                "subject", self.subject, "Tokens in a minute are counted for models: model:NAME. See also budgets."
            )
        if kind != "tenant" and self.weight != 1:
            raise BadInput("weight", self.weight, "Only tenants have a weight.")
        if self.weight == 1 and all(getattr(self, name) is None for name in _BOUNDS):
            raise BadInput("quota", self.subject, f"Give at least one of {', '.join(_BOUNDS)}, or a weight.")
        return self


class QuotaReport(Record):
    """A quota and what of it is in use now."""

    quota: Quota
    running: int | None = None
    """Attempts (of a model: calls) that are counted; None where nothing bounds them."""
    tokens: int | None = None
    """Those of a minute's that are taken; None where nothing bounds them."""
    open_runs: int | None = None


class Quotas:
    """The quotas of one board.

    Args:
        board: an open board.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._key = _keys.quotas(board.namespace, board.name)

    async def set(self, quota: Quota) -> None:
        """Give a subject a quota in place of the one it has. What goes on now is counted.

        A quota that is smaller than what is in use ends nothing; nothing new begins until there is room. On several shards
        this is a call for each: repeat it when it fails.

        Raises:
            BadInput: a number that cannot be shared out over the board's shards, or a subject that can be nobody's: see
                :func:`~blackboard.levels.somebodys`.
            EngineUnavailable: the server stayed unreachable.
        """
        somebodys("subject", quota.subject)
        client: Any = self._board.client
        if quota.subject.startswith("model:"):
            await Budgets(self._board).pace(quota.subject, quota)
        else:
            for field in ("at_once", "open_runs"):
                given, shards = getattr(quota, field), len(self._board.shards)
                if given is not None and given < shards:
                    remedy = f"The board has {shards} shards, and each keeps its part: give at least {shards}."
                    raise BadInput(field, given, remedy)
            for shard in self._board.shards:
                await self._write(shard, quota.subject, json.dumps(self._part(quota, shard.number)))
        text = quota.model_dump_json(exclude_none=True)
        await self._retry(lambda: client.hset(self._key, quota.subject, text))

    async def remove(self, subject: str) -> None:
        """Take a subject's quota away; nothing when it has none."""
        client: Any = self._board.client
        if checked_subject(subject).startswith("model:"):
            await Budgets(self._board).pace(subject, None)
        else:
            for shard in self._board.shards:
                await self._write(shard, subject, "")
        await self._retry(lambda: client.hdel(self._key, subject))

    async def report(self) -> list[QuotaReport]:
        """Every quota with what is in use, by subject."""
        client: Any = self._board.client
        stored: dict[str, str] = await self._retry(lambda: client.hgetall(self._key))
        found: list[QuotaReport] = []
        for subject in sorted(stored):
            quota = Quota.model_validate_json(stored[subject])
            running = await self._used("n:", subject) if quota.at_once is not None else None
            runs = await self._used("o:", subject) if quota.open_runs is not None else None
            tokens = None if quota.tokens_per_minute is None else await Budgets(self._board).tokens_taken(subject)
            found.append(QuotaReport(quota=quota, running=running, tokens=tokens, open_runs=runs))
        return found

    async def _used(self, kind: str, subject: str) -> int:
        client: Any = self._board.client
        if subject.startswith("model:"):
            return await Budgets(self._board).calls_held(subject)
        total = 0
        for shard in self._board.shards:
            total += int(await self._retry(lambda s=shard: client.hget(s.use, kind + subject)) or 0)
        return total

    def _part(self, quota: Quota, number: int) -> dict[str, float]:
        """One shard's part, as the scripts read it."""
        shards = len(self._board.shards)

        def share(whole: int) -> int:
            return whole // shards + (number < whole % shards)

        part: dict[str, float] = {"w": quota.weight}
        if quota.at_once is not None:
            part["c"] = share(quota.at_once)
        if quota.per_second is not None:
            part |= {"r": quota.per_second / shards, "b": max(1, share(quota.burst))}
        if quota.open_runs is not None:
            part["o"] = share(quota.open_runs)
        if quota.runs_per_second is not None:
            part |= {"s": quota.runs_per_second / shards, "sb": max(1, share(quota.runs_burst))}
        return part

    async def _write(self, shard: _keys.Shard, subject: str, part: str) -> None:
        await _script.run(
            self._board.client, _script.load("quota_write"), shard.declare(()), [0, subject, part],
            recover=self._board.engine.ensure,
        )  # fmt: skip

    async def _retry(self, command: Any) -> Any:
        return await _script.retrying(lambda: cast(Awaitable[Any], command()))


def checked_subject(subject: str) -> str:
    """The subject, if it is one.

    Raises:
        BadInput: it is none.
    """
    if not _SUBJECT.fullmatch(subject):
        raise BadInput("subject", subject, "Name board, tenant:<name>, capability:<name> or model:<name>.")
    return subject
