"""Durable subscriptions: every event of a board is handed out under a name until somebody is done with it, whoever dies.

How far a subscription is lies beside each shard's feed, and moves in one script with what its consumers hold. So no event is
passed over and none is handed to two consumers, unless one held it longer than its lease. Events of a run are handed out in
order, also among consumers. The feed is only kept so long: where events are gone before they were handed out, a :class:`Gap` is.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, cast

from pydantic import Field, field_validator

from blackboard import _keys, _script, events
from blackboard.errors import BadInput, Conflict, UnknownRecord
from blackboard.events import Event
from blackboard.types import Record, Settings, Stored, type_name

if TYPE_CHECKING:
    from blackboard._calling import Calling

LEASE_SECONDS = 60.0
LONGEST_LEASE_SECONDS = 86_400.0
BATCH = 16
"""Most events that a consumer holds at a time."""
COUNTED = 1000
"""So many events of a shard that wait are counted, and no more."""
_BEGINNING = re.compile(r"[a-z_.]*\*")

Begin = Literal["now", "beginning"]


class Subscription(Settings):
    """What is handed out under a name.

    Raises:
        BadInput: a malformed name, a kind that there is not.
    """

    name: str = Field(pattern=type_name)
    kinds: tuple[str, ...] = Field(default=("*",), min_length=1, max_length=64)
    """Types of events, as ``task.completed``, or how they begin, as ``run.*``."""
    tenant: str | None = Field(default=None, pattern=type_name)
    """Whose runs and scope are meant; None: everybody's."""

    @field_validator("kinds")
    @classmethod
    def _there(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            if kind not in events.TYPES and not _BEGINNING.fullmatch(kind):
                raise BadInput("kinds", kind, "Name types as docs/events.md has them, such as task.completed or run.*.")
        return kinds


class _Made(Record):
    """A subscription as it is stored; ``id`` tells it from another of its name."""

    id: str
    name: str
    kinds: tuple[str, ...]
    tenant: str | None = None


class Subscribed(Record):
    """A subscription and how far it is."""

    name: str
    kinds: tuple[str, ...]
    tenant: str | None
    waiting: int
    """Events of these kinds, of whatever tenant, that were not handed out yet; of each shard :data:`COUNTED` are looked at."""
    held: int
    """Events that a consumer has and is not done with, or that are kept back until it is."""
    consumers: int
    """How many hold something."""
    lag_seconds: float
    """Since when the oldest of all these has been there, on the server's clock; 0 where there is none."""
    done: int
    """How many events consumers were done with."""
    lost: int
    """How often events were gone before they could be handed out."""


class GapData(Stored):
    """Between which times events are missing, and why."""

    subscription: str
    reason: Literal["trimmed", "removed"]
    """``trimmed``: the feed does not go back so far. ``removed``: the run or entry is no longer there."""
    since: datetime
    until: datetime
    event: str | None = None
    """Id of the event that is missing, where it is one that is known."""


class Gap(Event):
    """Events are missing here. Of the subscription, and in no log. Subject: the run of the event that is missing, or the board's
    feed."""

    kind: ClassVar[str] = "subscription.gap"
    data: GapData


class _Held(NamedTuple):
    shard: _keys.Shard
    mark: str
    event: Event


class Subscriptions:
    """The durable subscriptions of a board.

    Args:
        board: an open board; closing it is the caller's business.
    """

    def __init__(self, board: Calling) -> None:
        self._board = board

    async def add(self, subscription: Subscription, *, after: Begin = "now") -> None:
        """Keep what happens from now on until it was handed out. The same one again changes nothing, not even how far it is.

        Args:
            after: ``beginning`` starts with the oldest event that each shard's feed still has.

        Raises:
            Conflict: there is a different one of that name; remove it first.
            BadInput: malformed.
            ScriptRefused: the board has as many as it may.
            EngineUnavailable: the server stayed unreachable.
        """
        await self._added(subscription, after)

    async def list(self) -> list[Subscribed]:
        """All of them, by name."""
        made = await self._board.repeated(lambda: self._client.hgetall(self._board.shards[0].subscriptions))
        found = [_Made.model_validate_json(text) for name, text in made.items() if not name.endswith(":")]
        return [await self._standing(one) for one in sorted(found, key=lambda one: one.name)]

    async def remove(self, name: str, *, tenant: str | None = None) -> bool:
        """Hand nothing out any more and forget how far it was; False when there was none.

        Args:
            tenant: given, one that is not the tenant's is none.
        """
        known = await self._known(name)
        if known is None or tenant not in (None, known.tenant):
            return False
        for shard in reversed(self._board.shards):  # the first, where it is looked up, last: a part can be repeated
            await self._run("subscription_remove", shard, name, known.id)
        return True

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _added(self, wanted: Subscription, after: Begin) -> _Made:
        if after not in ("now", "beginning"):
            raise BadInput("after", after, "Begin now or at the beginning.")
        made = _Made(**wanted.model_dump(), id=secrets.token_hex(8))
        for number, shard in enumerate(self._board.shards):
            text = made.model_dump_json(exclude_none=True)
            counts = (int(after == "beginning"), int(number == 0))
            there = _Made.model_validate_json(await self._run("subscribe", shard, made.name, text, *counts))
            if (there.kinds, there.tenant) != (wanted.kinds, wanted.tenant):
                raise Conflict("CONFLICT", f"subscription {wanted.name} is there with other kinds or another tenant")
            made = there
        return made

    async def _known(self, name: str) -> _Made | None:
        text = await self._board.repeated(lambda: self._client.hget(self._board.shards[0].subscriptions, name))
        return None if text is None else _Made.model_validate_json(text)

    async def _standing(self, made: _Made) -> Subscribed:
        total = dict.fromkeys(("waiting", "held", "consumers", "done", "lost"), 0)
        oldest: list[int] = []
        for shard in self._board.shards:
            raw = await self._board.repeated(lambda s=shard: self._client.hget(s.subscriptions, made.name + ":"))
            if raw is None:
                continue
            state = json.loads(raw)
            held = [*state["back"], *(one for each in dict(state["con"]).values() for one in each["h"])]
            after = "-" if state["after"] == "0-0" else f"({state['after']}"
            rows = await self._board.repeated(
                lambda s=shard, a=after: self._client.xrange(s.feed, min=a, count=COUNTED)
            )
            waiting = [at for at, fields in rows if fits(made.kinds, fields["type"])]
            total["waiting"] += len(waiting)
            total["held"] += len(held)
            total["consumers"] += len(state["con"])
            total["done"] += state["done"]
            total["lost"] += state["lost"]
            oldest += [int(at.partition("-")[0]) for at in (*waiting[:1], *(one[0] for one in held))]
        lag = 0.0
        if oldest:
            seconds, micros = await self._board.repeated(lambda: self._client.time())
            lag = max(0.0, round(seconds + micros / 1_000_000 - min(oldest) / 1000, 3))
        return Subscribed.model_validate({**made.model_dump(exclude={"id"}), "lag_seconds": lag, **total})

    async def _run(self, name: str, shard: _keys.Shard, *args: str | int) -> Any:
        script, board = _script.load(name), self._board
        keys = shard.declare_subscriptions()
        return await _script.run(board.client, script, keys, [0, *args], recover=board.engine.ensure)

    @property
    def _client(self) -> Any:
        return cast(Any, self._board.client)


class Subscriber(Subscriptions):
    """One consumer of a subscription: an asynchronous iterator of events, and of :class:`Gap` where some are missing.

    Whoever comes back for the next event is done with the one before. What it was not done with when it ends goes to another
    consumer of that name: at once after :meth:`close`, which leaving ``async with`` is as well, else when the lease is over.
    Use it from one task.

    Args:
        lease_seconds: how long an event may take. Coming back, :meth:`done` and :meth:`renew` begin it anew.
    """

    def __init__(self, board: Calling, wanted: Subscription, after: Begin, lease_seconds: float) -> None:
        super().__init__(board)
        if not 1 <= lease_seconds <= LONGEST_LEASE_SECONDS:
            raise BadInput("lease_seconds", lease_seconds, f"Give 1 to {LONGEST_LEASE_SECONDS:g}.")
        self._wanted, self._lease = wanted, int(lease_seconds * 1000)
        self._after: Begin = after
        self._consumer = secrets.token_hex(8)
        self._made: _Made | None = None
        self._stirring: AsyncGenerator[set[int], None] | None = None
        self._stirred: dict[int, None] = {}
        self._batch: deque[_Held] = deque()
        self._current: list[_Held] = []

    async def start(self) -> Self:
        """Store the subscription, so that nothing that happens from here on is missed; iterating does so too.

        Raises:
            Conflict, BadInput, ScriptRefused, EngineUnavailable: as :meth:`Subscriptions.add`.
        """
        if self._made is None:
            self._made = await self._added(self._wanted, self._after)
        return self

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event; waits for one.

        Raises:
            UnknownRecord: the subscription was removed.
            EngineUnavailable: the server stayed unreachable; come again.
        """
        await self.start()
        await self.done()
        while not self._batch:
            if not self._stirred:
                self._stirred = await self._told()
            number = next(iter(self._stirred))
            more = await self._fill(self._board.shards[number])
            del self._stirred[number]
            if self._batch or more:
                self._stirred[number] = None  # behind the others
        self._current = [self._batch.popleft()]
        return self._current[0].event

    async def several(self, most: int) -> list[Event]:
        """The next event, and of those that are there at once the next of other runs: one of each run, ``most`` in all.

        Waits for one. Whoever comes back is done with all of them.

        Raises:
            UnknownRecord, EngineUnavailable: as for one.
        """
        found = [await anext(self)]
        for held in list(self._batch):
            event = held.event
            if len(found) < most and all(event.partitionkey != one.partitionkey for one in found):
                self._batch.remove(held)
                self._current.append(held)
                found.append(event)
        return found

    async def done(self) -> None:
        """Be done with what was handed out last, without coming back for the next."""
        if self._current:
            await self._tell(self._current[0].shard, *(held.mark for held in self._current))
            self._current = []

    async def renew(self) -> bool:
        """Hold what was handed out for another lease. False: the lease was over, and another consumer gets it."""
        if self._current and not await self._tell(self._current[0].shard):
            self._current = []
            return False
        return True

    async def close(self) -> None:
        """Give back what this consumer was not done with."""
        held, self._current = next(iter([*self._current, *self._batch]), None), []
        self._batch.clear()
        if self._stirring is not None:
            await self._stirring.aclose()
            self._stirring = None
        if held is not None and self._made is not None:
            try:
                await self._run("subscription_next", held.shard, *self._said(0, 0))
            except UnknownRecord:  # it was removed
                return

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _said(self, lease: int, most: int) -> tuple[str | int, ...]:
        assert self._made is not None
        return self._made.name, self._made.id, self._consumer, lease, most

    async def _told(self) -> dict[int, None]:
        """The shards that may have something new."""
        self._stirring = self._stirring or self._board.feed.stirring()
        try:
            return dict.fromkeys(await anext(self._stirring))
        except BaseException:  # a cancellation ends it; the next one begins with every shard
            self._stirring = None
            raise

    async def _tell(self, shard: _keys.Shard, *marks: str) -> bool:
        known, *_ = await self._run("subscription_next", shard, *self._said(self._lease, 0), *marks)
        if not known:  # the lease was over, and another consumer may have what is left
            self._batch.clear()
        return bool(known)

    async def _fill(self, shard: _keys.Shard) -> bool:
        """Hold what comes next on a shard; whether there may be more although nothing came."""
        _, more, *rest = await self._run("subscription_next", shard, *self._said(self._lease, BATCH))
        rows = [
            (mark, upto, dict(zip(flat[::2], flat[1::2], strict=True)))
            for mark, upto, flat in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
        logged = [fields for _, upto, fields in rows if not upto and fields["at"]]
        stored = iter(await self._logged(shard, logged) if logged else ())
        for mark, upto, fields in rows:
            position = mark.removesuffix("!")
            if upto:
                event = self._gap(shard, position, upto, "trimmed", None)
            elif not fields["at"]:
                event = events.parse(position, fields, fields["run"], self._board.source)
            elif found := next(stored):
                event = events.parse(*found[0], fields["run"], self._board.source)
            else:
                event = self._gap(shard, position, position, "removed", fields)
            self._batch.append(_Held(shard, mark, event))
        return bool(more)

    async def _logged(
        self, shard: _keys.Shard, told: Sequence[dict[str, str]]
    ) -> list[list[tuple[str, dict[str, str]]]]:
        """What the logs have at the places that the feed tells."""

        def ask() -> Any:
            pipe: Any = self._board.client.pipeline(transaction=False)
            for fields in told:
                pipe.xrange(shard.log(fields["run"]), min=fields["at"], max=fields["at"])
            return pipe.execute()

        return await self._board.repeated(ask)

    def _gap(
        self,
        shard: _keys.Shard,
        since: str,
        until: str,
        reason: Literal["trimmed", "removed"],
        of: dict[str, str] | None,
    ) -> Gap:
        name, run = self._wanted.name, of["run"] if of else f"feed:{shard.number}"
        times = [datetime.fromtimestamp(int(each.partition("-")[0]) / 1000, UTC) for each in (since, until)]
        ms, _, seq = until.partition("-")
        return Gap(
            id=f"{name}/{shard.number}/{since}", source=self._board.source, subject=run, time=times[1], partitionkey=run,
            type=f"{events.PREFIX}{Gap.kind}{events.SUFFIX}", sequence=f"{int(ms):013d}-{int(seq):06d}",
            data=GapData(
                subscription=name, reason=reason, since=times[0], until=times[1], event=of["id"] if of else None
            ),
        )  # fmt: skip


def fits(kinds: Sequence[str], kind: str) -> bool:
    """Whether a type of events is among the kinds that are meant."""
    return any(kind == one or (one.endswith("*") and kind.startswith(one[:-1])) for one in kinds)
