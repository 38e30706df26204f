"""A quota of tokens on the way to a model: what a request is counted as, how it waits, and what is too large for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import budget_pots
import pytest
from arbiter_support import arbiter
from budget_pots import Clock, stored
from test_spending import HELLO, claim

from arbiter import ScriptedModel
from blackboard.board import Board
from blackboard.budgets import Budgets, LargerThanQuota
from blackboard.quotas import Quota, Quotas
from blackboard.testing import RedisServer
from wrapper.models import ModelTransient, as_failure, converse, describe
from wrapper.models.estimate import estimate_request
from wrapper.spending import Spending

clock = budget_pots.clock


class Waits(ScriptedModel):
    """Answers with 50 tokens, at most 1,000, when it is let."""

    def __init__(self) -> None:
        super().__init__(["hi"] * 9, usage=(10, 40))
        self.config["max_tokens"] = 1000
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def stream(self, *args: Any, **more: Any) -> Any:
        self.asked.set()
        await self.let.wait()
        async for event in super().stream(*args, **more):
            yield event


@pytest.fixture
def spending(board: Board, clock: Clock) -> Spending:
    return Spending(Budgets(board))


@pytest.fixture
def model() -> Waits:
    return Waits()


async def bounded(board: Board, tokens: int) -> Callable[[], Any]:
    """Give the model a quota; what is returned tells how many tokens are taken."""
    await Quotas(board).set(Quota(subject=f"model:{describe(Waits())}", tokens_per_minute=tokens))

    async def taken() -> int | None:
        (report,) = await Quotas(board).report()
        return report.tokens

    return taken


async def test_a_request_takes_its_estimate_and_its_longest_answer_and_comes_to_what_it_used(
    board: Board, spending: Spending, model: Waits
) -> None:
    taken = await bounded(board, 60_000)
    call = asyncio.ensure_future(converse(spending.guard(model, claim()), HELLO, system="Be short."))
    await model.asked.wait()
    assert await taken() == estimate_request(HELLO, (), "Be short.") + 1000
    model.let.set()
    await call
    await spending.settled()
    assert await taken() == 50


async def test_an_image_is_not_counted_by_its_bytes(board: Board, spending: Spending, model: Waits) -> None:
    taken = await bounded(board, 60_000)
    image: Any = {"image": {"format": "png", "source": {"bytes": bytes(300_000)}}}
    call = asyncio.ensure_future(
        converse(spending.guard(model, claim()), [{"role": "user", "content": [image, {"text": "What is it?"}]}])
    )
    await model.asked.wait()
    assert await taken() < 20_000
    model.let.set()
    await call


async def test_a_request_waits_for_what_another_gives_back(board: Board, spending: Spending, model: Waits) -> None:
    taken = await bounded(board, 1500)
    calls = [asyncio.ensure_future(converse(spending.guard(model, claim(f"r1/t{n}")), HELLO)) for n in range(2)]
    await model.asked.wait()
    while not any(str(field).startswith("w:") for pot in (await stored(board)).values() for field in pot):
        await asyncio.sleep(0.01)
    assert len(model.calls) == 0
    model.let.set()
    await asyncio.gather(*calls)
    await spending.settled()
    assert await taken() == 100


async def test_a_request_without_enough_for_too_long_is_a_passing_failure_that_says_when_to_come_again(
    board: Board, spending: Spending, model: Waits
) -> None:
    await bounded(board, 1500)
    first = asyncio.ensure_future(converse(spending.guard(model, claim("r1/t1")), HELLO))
    await model.asked.wait()
    with pytest.raises(ModelTransient) as busy:
        await converse(spending.guard(model, claim("r1/t2"), call_seconds=0.5), HELLO, durable=True)
    failure = as_failure(busy.value, "no decision")
    assert failure.retryable
    assert 20 < (failure.retry_after_seconds or 0) < 21  # 502 tokens more than there are, of 1,500 in a minute
    model.let.set()
    await first


async def test_a_request_larger_than_the_quota_is_not_made_and_does_not_wait(
    board: Board, spending: Spending, model: Waits
) -> None:
    await bounded(board, 1000)
    with pytest.raises(LargerThanQuota, match="Raise tokens_per_minute, or lower max_tokens"):
        await converse(spending.guard(model, claim()), HELLO)
    assert not model.asked.is_set()


async def test_a_run_whose_plan_is_larger_than_the_quota_fails_with_what_to_do(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["done"]) as (a, model):
        await a.quotas.set(Quota(subject=f"model:{describe(model)}", tokens_per_minute=100))
        result = await a.run("Go.", timeout=30)
    assert (result.status, result.error.type, len(model.calls)) == ("failed", "limit", 0)
    assert "Raise tokens_per_minute" in result.error.message
