"""G12 in tokens: what the calls of a model take of a minute's tokens is counted exactly, in one place, and waited for in line."""

from __future__ import annotations

import random

import budget_pots
import pytest
from budget_pots import Clock, levels, stored

from blackboard.board import Board
from blackboard.budgets import LEASE_SECONDS, Amounts, Budget, BudgetExhausted, Budgets, LargerThanQuota, Paced
from blackboard.errors import BadInput
from blackboard.quotas import Quota, QuotaReport, Quotas

clock = budget_pots.clock
pots = budget_pots.pots

MODEL = levels("model:m")
PLACE_SECONDS = 5
"""How long a call that waits keeps its place without coming again."""


async def bounded(board: Board, tokens: int, **more: int) -> None:
    await Quotas(board).set(Quota(subject="model:m", tokens_per_minute=tokens, **more))


async def ask(pots: Budgets, id: str, tokens: int) -> float:
    """Reserve a call, or say in how many seconds it has what it needs; 0 where it was made."""
    try:
        await pots.reserve(id, MODEL, Amounts(tokens=tokens), expected_tokens=tokens)
    except Paced as early:
        return early.retry_after_seconds
    return 0.0


async def end(pots: Budgets, id: str, tokens: int, used: int) -> None:
    hold = await pots.reserve(id, MODEL, Amounts(tokens=tokens), expected_tokens=tokens)
    assert hold is not None
    await pots.settle(hold, Amounts(tokens=used))


async def test_g12_a_minutes_tokens_are_there_at_once_and_come_back_evenly(
    board: Board, pots: Budgets, clock: Clock
) -> None:
    await bounded(board, 6000)
    assert await ask(pots, "a", 4000) == 0
    assert await ask(pots, "b", 2000) == 0
    assert await ask(pots, "c", 1000) == 10
    await clock.advance(9)
    assert await ask(pots, "c", 1000) == 1
    await clock.advance(1)
    assert await ask(pots, "c", 1000) == 0


async def test_g12_what_a_call_did_not_use_comes_back_when_it_is_settled_and_what_it_used_beyond_is_owed(
    board: Board, pots: Budgets, clock: Clock
) -> None:
    await bounded(board, 6000)
    assert await ask(pots, "a", 6000) == 0
    await end(pots, "a", 6000, used=1000)
    await end(pots, "a", 6000, used=1000)  # once more: a lost answer
    assert await ask(pots, "b", 5001) > 0
    assert await ask(pots, "b", 5000) == 0
    await end(pots, "b", 5000, used=7000)
    await clock.advance(PLACE_SECONDS)
    assert await ask(pots, "c", 1000) == 30 - PLACE_SECONDS


async def test_a_call_larger_than_a_minutes_tokens_is_refused_with_a_remedy_and_takes_nothing(
    board: Board, pots: Budgets
) -> None:
    await bounded(board, 6000)
    await pots.set(Budget(level="model:m", tokens=10**6))
    before = await stored(board)
    with pytest.raises(LargerThanQuota, match=r"model:m is 6,000 tokens in a minute.* 6,001.*Raise") as refused:
        await ask(pots, "a", 6001)
    assert isinstance(refused.value, BudgetExhausted)  # whoever gives up for a budget gives up for this
    assert await stored(board) == before
    assert await ask(pots, "a", 6000) == 0


async def test_g12_a_large_call_keeps_its_place_before_small_ones_that_came_later(
    board: Board, pots: Budgets, clock: Clock
) -> None:
    await bounded(board, 6000)
    assert await ask(pots, "first", 6000) == 0
    assert await ask(pots, "large", 5000) == 50
    for second in range(50):  # each of these would have had enough for itself
        await clock.advance(1)
        assert await ask(pots, f"small{second}", 10) > 0
        assert (await ask(pots, "large", 5000) == 0) == (second == 49)
    assert await ask(pots, "later", 10) > 0  # behind those that still wait
    await clock.advance(PLACE_SECONDS + 1)
    assert await ask(pots, "later", 10) == 0


async def test_a_call_that_does_not_come_again_loses_its_place(board: Board, pots: Budgets, clock: Clock) -> None:
    await bounded(board, 6000)
    assert await ask(pots, "first", 6000) == 0
    assert await ask(pots, "gone", 6000) == 60
    await clock.advance(PLACE_SECONDS)
    assert await ask(pots, "small", 500) > 0
    await clock.advance(0.001)
    assert await ask(pots, "small", 500) == 0
    assert not [field for pot in (await stored(board)).values() for field in pot if str(field).startswith("w:")]


async def test_g12_what_a_process_took_that_died_stays_taken_and_one_that_was_frozen_takes_it_once(
    board: Board, pots: Budgets, clock: Clock
) -> None:
    await bounded(board, 6000)
    assert await ask(pots, "a", 6000) == 0
    await clock.advance(LEASE_SECONDS / 2)
    assert await ask(pots, "b", 3000) == 0
    await clock.advance(LEASE_SECONDS / 2 + 1)
    assert await pots.sweep() == 1  # a
    assert await ask(pots, "c", 3101) > 0
    await clock.advance(PLACE_SECONDS + 1)
    assert await ask(pots, "a", 6000) == 0  # it was frozen and goes on: these are counted already
    await end(pots, "a", 6000, used=0)
    assert await ask(pots, "d", 6000) == 0  # 3,000 of b would be left of a minute without those


async def test_another_quota_of_tokens_finds_what_was_taken(board: Board, pots: Budgets, clock: Clock) -> None:
    await bounded(board, 6000)
    assert await ask(pots, "a", 6000) == 0
    await bounded(board, 12_000)
    await bounded(board, 12_000)
    assert await ask(pots, "b", 6001) == 0.005  # a token that is missing comes in 5 ms
    await clock.advance(0.001)
    assert await ask(pots, "c", 6000) > 0  # b came before, and nobody has forgotten that
    await bounded(board, 6000)
    assert await ask(pots, "c", 6000) > 0
    await Quotas(board).remove("model:m")
    assert await pots.reserve("d", MODEL, Amounts(tokens=1), expected_tokens=10**6) is None
    assert not [field for pot in (await stored(board)).values() for field in pot if str(field).startswith("w:")]


async def test_how_many_tokens_are_taken_is_reported(board: Board) -> None:
    await bounded(board, 1_000_000, at_once=5)
    pots = Budgets(board)
    assert await ask(pots, "a", 600_000) == 0
    (report,) = await Quotas(board).report()
    assert report.running == 1
    assert report.tokens is not None
    assert 0 < report.tokens <= 600_000
    await end(pots, "a", 600_000, used=0)
    assert (await Quotas(board).report()) == [QuotaReport(quota=report.quota, running=0, tokens=0)]


def test_tokens_in_a_minute_are_of_models() -> None:
    with pytest.raises(BadInput, match="model:NAME"):
        Quota(subject="board", tokens_per_minute=5)


@pytest.mark.parametrize("seed", range(4))
async def test_g12_no_minute_has_more_tokens_than_a_rested_bucket_and_its_rate(
    board: Board, pots: Budgets, clock: Clock, seed: int
) -> None:
    """Of any window of any history: what was begun in it, less what was given back in it, is at most a minute's tokens and those
    that came meanwhile; nor is a call kept waiting that nobody is before."""
    chance, quota = random.Random(seed), 600
    await bounded(board, quota)
    begun: list[tuple[float, int]] = []
    alive: dict[str, int] = {}
    waiting: dict[str, int] = {}
    refused = 0
    for n in range(300):
        match chance.randrange(6):
            case 0 | 1 | 2:
                id = chance.choice([f"c{n}", *waiting])
                tokens = waiting.pop(id, 0) or chance.choice((1, 20, 150, quota))
                if await ask(pots, id, tokens) > 0:
                    waiting[id], refused = tokens, refused + 1
                else:
                    begun.append((clock.now, tokens))
                    alive[id] = tokens
            case 3 if alive:
                id = chance.choice(sorted(alive))
                tokens = alive.pop(id)
                used = chance.choice((0, tokens // 2, tokens, tokens + 40))
                await end(pots, id, tokens, used)
                begun.append((clock.now, min(0, used - tokens)))
            case 4:
                await pots.sweep()
            case _:
                await clock.advance(chance.choice((0.001, 0.7, 5, 13)))
    for first, (since, _) in enumerate(begun):
        for last in range(first, len(begun)):
            until, there = begun[last][0], quota + quota / 60 * (begun[last][0] - since)
            assert sum(tokens for _, tokens in begun[first : last + 1]) <= there + 1e-6, (since, until)
    assert refused > 20
    assert len(begun) > 50, "the history did too little to show anything"
    await clock.advance(2 * 60)  # and nothing is taken for ever
    assert await ask(pots, "last", quota) == 0
