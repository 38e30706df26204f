"""What may a model call cost at most, and is there room for it? Asked before every single request to a provider.

A :class:`Spending` puts itself between a caller and a model: each request first reserves its worst case in the
:mod:`blackboard.budgets` of everything it counts for, and is not made when that does not fit. When the reply is there, the
reservation is settled with what it consumed. Repeated requests of one call are reserved one by one.

The worst case is an upper bound of the tokens sent and the most the model may answer (:mod:`wrapper.worst_case`), at the price
of the model (:mod:`wrapper.prices`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from blackboard.budgets import LEASE_SECONDS, MOST, Amounts, Budget, BudgetExhausted, Budgets, Hold, Level, Paced
from blackboard.claims import Claim
from blackboard.errors import ArbiterError
from blackboard.types import Limits, Usage
from wrapper.models.describe import describe
from wrapper.models.estimate import estimate_request
from wrapper.models.reply import ReplyBuilder
from wrapper.prices import Prices
from wrapper.worst_case import OUTPUT_TOKENS, most_input, most_output

if TYPE_CHECKING:
    from strands.models import Model
    from strands.types.content import Messages
    from strands.types.tools import ToolSpec

log = logging.getLogger(__name__)

CALL_SECONDS = 120.0
"""Bound of one request to a model, as :func:`wrapper.models.converse` has it."""
_SLACK_SECONDS = 5.0
_KEPT_SECONDS = 3600.0
_BILLED_SECONDS = 7 * 86_400.0
"""How long the account of a run whose money is bounded outlives its last possible call: people ask later what it cost."""
_FABRICATION_SECONDS = 86_400.0
"""How long a fabrication that was counted is remembered, so that another attempt at it is not counted again."""


class Spending:
    """Guards the model calls of one process.

    Args:
        budgets: of the board.
        prices: the price table.
        output_tokens: taken for the longest answer of models that are configured without ``max_tokens``.
        lease_seconds: how long a reservation outlives this process; it is renewed every third of it.
    """

    def __init__(
        self,
        budgets: Budgets,
        prices: Prices | None = None,
        *,
        output_tokens: int = OUTPUT_TOKENS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.budgets, self.prices = budgets, prices or Prices()
        self.output_tokens, self.lease_seconds = output_tokens, lease_seconds
        self._settling: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    def guard(
        self,
        model: Model,
        claim: Claim,
        *,
        limits: Limits | None = None,
        capability: str | None = None,
        attempt_tokens: int | None = None,
        attempt_money: int | None = None,
        call_seconds: float = CALL_SECONDS,
    ) -> Model:
        """A model that reserves each request of one attempt before it is made.

        Args:
            model: is asked; its name and configuration show through.
            claim: the attempt whose calls these are: names tenant, run and task.
            limits: of the run, where they are known; ``limits.tokens`` and ``limits.money`` are the budget of the run from
                then on.
            capability: on whose behalf the model is asked.
            attempt_tokens: the most this attempt may use.
            attempt_money: the most that may cost, in millionths; for an attempt whose tokens are bounded.
            call_seconds: the most one request may take.

        Returns:
            A model whose ``stream`` raises :class:`~blackboard.budgets.BudgetExhausted` instead of asking.
        """
        names = ["board", f"tenant:{claim.tenant}", f"model:{_printable(describe(model))}"]
        if capability is not None:
            names.append(f"capability:{capability}")
        levels = [Level(name + period) for name in names for period in ("", "/day")]
        run, own, kept = f"run:{claim.run_id}", None, 0.0
        if limits is not None:
            own = Budget(level=run, tokens=min(limits.tokens, MOST), money=limits.money)
            kept = limits.seconds + (_KEPT_SECONDS if limits.money is None else _BILLED_SECONDS)
        levels.append(Level(run, own, kept))
        levels.append(Level(f"task:{claim.task_id}"))
        if attempt_tokens is not None:
            attempt = f"task:{claim.task_id}#{claim.attempt}"
            bound = Budget(level=attempt, tokens=min(attempt_tokens, MOST), money=attempt_money)
            levels.append(Level(attempt, bound, claim.attempt_seconds + _KEPT_SECONDS))
        return cast("Model", _Guarded(self, model, f"{claim.task_id}/{claim.fence}", levels, call_seconds))

    def guard_apart(self, model: Model, capability: str, tenant: str | None, call_seconds: float) -> Model:
        """A model that reserves each request that no run makes.

        Args:
            model: is asked; its name and configuration show through.
            capability: on whose behalf.
            tenant: whose it is; None where it is everybody's.
            call_seconds: the most one request may take.
        """
        names = ["board", f"model:{_printable(describe(model))}", f"capability:{capability}"]
        if tenant is not None:
            names.append(f"tenant:{tenant}")
        levels = [Level(name + period) for name in names for period in ("", "/day")]
        return cast("Model", _Guarded(self, model, f"apart/{uuid4().hex}", levels, call_seconds))

    async def fabrication(self, claim: Claim) -> None:
        """Count a fabrication, once for all attempts at its task.

        Raises:
            BudgetExhausted: there is no room for another; it must not be begun.
        """
        names = ["board", "board/day", f"tenant:{claim.tenant}", f"tenant:{claim.tenant}/day", f"run:{claim.run_id}"]
        one = Amounts(fabrications=1)
        hold = await self.budgets.reserve(
            f"{claim.task_id}/fabrication",
            [Level(name) for name in names],
            one,
            remembered_seconds=_FABRICATION_SECONDS,
        )
        if hold is not None and not hold.over:
            await self.budgets.settle(hold, one)

    def number(self) -> int:
        """The next number of a call of this process, which holds the attempts whose calls it makes."""
        return next(self._numbers)

    async def settled(self) -> None:
        """Wait until every call that ended here is settled."""
        await asyncio.gather(*self._settling)

    def settle_soon(self, hold: Hold, spent: Amounts) -> None:
        """End a reservation without keeping the caller waiting, who may be in the middle of being cancelled."""
        task = asyncio.create_task(self._settle(hold, spent), name=f"settle {hold.id}")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, hold: Hold, spent: Amounts) -> None:
        try:
            for excess in await self.budgets.settle(hold, spent):
                log.warning(
                    "%s: a call spent %s %s more than the worst case that was reserved for it",
                    excess.level, f"{excess.amount:,.0f}", excess.unit,
                )  # fmt: skip
        except ArbiterError as error:
            log.error("a call could not be settled, its reservation is given back when its lease ends: %s", error)
        except Exception:
            log.exception("a call could not be settled, its reservation is given back when its lease ends")


class _Guarded:
    """Stands in for a model: shows its name and configuration, and asks for room before every request."""

    def __init__(self, spending: Spending, inner: Model, id: str, levels: Sequence[Level], call_seconds: float) -> None:
        self._spending, self._inner, self._id = spending, inner, id
        self._levels, self._call_seconds = levels, call_seconds
        self.label = describe(inner)  # what errors, prices and sources call it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def stream(
        self,
        messages: Messages,
        tool_specs: list[ToolSpec] | None = None,
        system_prompt: str | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        """The inner model's stream, when there is room for its worst case.

        Raises:
            BudgetExhausted: there is none; the model was not asked.
            LargerThanQuota: alone it is more than the quota of the model has in a minute; the model was not asked.
            Paced: the quota of the model admitted no call for as long as a call may take.
        """
        id = f"{self._id}/{self._spending.number()}"
        sent = cast("Sequence[Mapping[str, Any]]", messages)
        estimate = partial(estimate_request, sent, tool_specs or (), system_prompt)
        given = most_input(sent, tool_specs or (), system_prompt)
        answered = most_output(self._inner, self._spending.output_tokens)
        worst = self._amounts(given, answered, self._call_seconds + _SLACK_SECONDS)
        expected = min(estimate(), given) + answered
        await self._spending.settled()
        hold = await self._admitted(id, worst, expected)
        renewal = None
        if hold is not None:
            renewal = asyncio.create_task(self._renew(id, worst, expected), name=f"renew {id}")
        builder, began, answered_by = ReplyBuilder(), time.monotonic(), False
        try:
            stream = cast(
                "AsyncGenerator[Any, None]", self._inner.stream(messages, tool_specs, system_prompt, **kwargs)
            )
            async with _closing(stream) as events:
                async for event in events:
                    builder.add(event)
                    yield event
            answered_by = True
        except Exception as error:
            # An error of the provider is an answer too, and costs nothing by itself; running out of time is none.
            answered_by = not isinstance(error, TimeoutError)
            raise
        finally:
            if renewal is not None:
                renewal.cancel()
            if hold is not None and not hold.over:
                seconds = time.monotonic() - began
                usage = Usage()
                if builder.started:
                    usage = builder.usage(estimate, seconds)
                elif not answered_by:  # given up before the first word: the provider has read the request
                    usage = Usage(input_tokens=estimate())
                spent = self._amounts(usage.input_tokens, usage.output_tokens, seconds)
                self._spending.settle_soon(hold, spent)

    def _amounts(self, given: int, answered: int, seconds: float) -> Amounts:
        cost = self._spending.prices.cost(self.label, given, answered)
        return Amounts(
            tokens=min(given + answered, MOST),
            money=None if cost is None else min(cost, MOST),
            seconds=round(seconds, 3),
        )

    async def _admitted(self, id: str, worst: Amounts, expected: int) -> Hold | None:
        """The reservation, waited for while a quota says that it comes too early."""
        patience = time.monotonic() + self._call_seconds
        while True:
            try:
                return await self._reserve(id, worst, expected)
            except Paced as early:
                if time.monotonic() + early.look_again_seconds > patience:
                    raise
                await asyncio.sleep(early.look_again_seconds * random.uniform(1.0, 1.3))

    async def _reserve(self, id: str, worst: Amounts, expected: int) -> Hold | None:
        return await self._spending.budgets.reserve(
            id, self._levels, worst, expected_tokens=expected, lease_seconds=self._spending.lease_seconds
        )

    async def _renew(self, id: str, worst: Amounts, expected: int) -> None:
        while True:
            await asyncio.sleep(self._spending.lease_seconds / 3)
            try:
                await self._reserve(id, worst, expected)
            except BudgetExhausted as error:  # it was silent for too long, and others have spent what it had
                log.warning("a call under way lost its reservation: %s", error)
            except Exception as error:  # the next renewal may succeed; if none does, the lease ends
                log.warning("the reservation of a call could not be renewed: %s", error)


def _closing(stream: AsyncGenerator[Any, None]) -> Any:
    return aclosing(stream) if hasattr(stream, "aclose") else _Open(stream)


class _Open:
    """An iterable that need not be closed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aenter__(self) -> Any:
        return self._stream

    async def __aexit__(self, *_: object) -> None: ...


def _printable(name: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in name)[:200] or "?"
