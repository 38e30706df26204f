"""G8: no budget is overshot by many who spend at once, by processes that are killed, nor by replies that are lost."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import budget_pots
import pytest
from budget_pots import levels, one

from blackboard import _script
from blackboard.board import Board
from blackboard.budgets import Amounts, Budget, BudgetExhausted, Budgets

clock = budget_pots.clock
pots = budget_pots.pots


async def _spend(pots: Budgets, name: str, amount: int, spent: list[int]) -> None:
    path = levels("board", f"tenant:{int(name) % 3}", f"run:{name}")
    try:
        hold = await pots.reserve(name, path, Amounts(tokens=amount))
    except BudgetExhausted:
        return
    assert hold is not None
    await asyncio.sleep(0)
    actual = amount - int(name) % 4
    spent.append(actual)
    await pots.settle(hold, Amounts(tokens=actual))


@pytest.mark.engines("redis", "cluster", "valkey")
async def test_g8_a_thousand_concurrent_spenders_overshoot_by_nothing(board: Board) -> None:
    pots, spent = Budgets(board), list[int]()
    await pots.set(Budget(level="board", tokens=2000))
    await pots.set(Budget(level="tenant:1", tokens=500))
    await asyncio.gather(*(_spend(pots, str(n), 10, spent) for n in range(1000)))
    state = await one(pots, "board")
    assert (state.spent, state.reserved, state.excess) == (sum(spent), 0, 0)
    assert 1000 < state.spent <= 2000
    assert 250 < (await one(pots, "tenant:1")).spent <= 500


_SPENDER = """
import asyncio, sys, os
from blackboard.board import Board
from blackboard.budgets import Amounts, BudgetExhausted, Budgets, Level
url, board, me, dies = sys.argv[1:]
async def main():
    async with await Board.open(url, board=board) as opened:
        pots, spent = Budgets(opened), 0
        async def one(n):
            nonlocal spent
            try:
                hold = await pots.reserve(f"{me}/{n}", [Level("board"), Level("tenant:t")], Amounts(tokens=7), lease_seconds=0.2)
            except BudgetExhausted:
                return
            if dies == "1" and n == 20:
                return print("holding", flush=True)
            if dies == "1" and n >= 60:
                os.kill(os.getpid(), 9)
            spent += 5
            await pots.settle(hold, Amounts(tokens=5))
        for first in range(0, 250, 25):
            await asyncio.gather(*(one(n) for n in range(first, first + 25)))
        if dies == "1":
            os.kill(os.getpid(), 9)
        print(spent)
asyncio.run(main())
"""


async def test_g8_processes_that_are_killed_leak_no_reservation_and_nobody_overshoots(redis_board: Board) -> None:
    pots = Budgets(redis_board)
    await pots.set(Budget(level="board", tokens=2000))

    async def spender(me: int, dies: bool) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SPENDER, redis_board.engine.url, redis_board.name, str(me), str(int(dies)),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def end(process: asyncio.subprocess.Process) -> int:
        out, _ = await process.communicate()
        assert process.returncode == 0
        return int(out)

    dying = await spender(0, True)
    assert dying.stdout is not None
    assert await dying.stdout.readline() == b"holding\n"
    told = await asyncio.gather(*[end(await spender(n, False)) for n in (1, 2)])
    assert await dying.wait() == -9
    state = await one(pots, "board")
    assert state.reserved > 0, "the killed process left nothing behind, so this shows nothing"
    assert state.spent >= sum(told) > 0
    assert state.spent + state.reserved <= 2000
    async with asyncio.timeout(30):
        while (await one(pots, "board")).reserved:
            await pots.sweep()
            await asyncio.sleep(0.02)
    state = await one(pots, "board")
    assert (state.spent + state.left, state.excess) == (2000, 0)


async def test_g8_a_lost_reply_to_any_call_changes_nothing(
    board: Board, pots: Budgets, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _script.run

    async def twice(*args: Any, **kw: Any) -> Any:
        await real(*args, **kw)
        return await real(*args, **kw)

    async def story(name: str) -> list[dict[str, Any]]:
        own = Budgets(board)
        path = levels(f"tenant:{name}", f"run:{name}")
        await own.set(Budget(level=f"tenant:{name}", tokens=100))
        hold = await own.reserve(f"{name}-1", path, Amounts(tokens=60))
        assert hold is not None
        with pytest.raises(BudgetExhausted):
            await own.reserve(f"{name}-2", path, Amounts(tokens=41))
        await own.settle(hold, Amounts(tokens=20))
        again = await own.reserve(f"{name}-3", path, Amounts(tokens=80))
        assert again is not None
        await own.refund(again)
        return [json.loads(one.model_dump_json()) for one in await own.report(f"tenant:{name}")]

    once = await story("x")
    monkeypatch.setattr(_script, "run", twice)
    assert (await story("y"))[0]["units"] == once[0]["units"]
