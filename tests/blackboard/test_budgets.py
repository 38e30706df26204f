"""G8: the worst case is reserved at every level before anything is spent, so no budget is ever overshot."""

from __future__ import annotations

import random

import budget_pots
import pytest
from budget_pots import DAY, TREE, Clock, levels, one, stored

from blackboard import budgets
from blackboard.board import Board
from blackboard.budgets import Amounts, Budget, BudgetExhausted, Budgets, Hold, Level
from blackboard.errors import BadInput

clock = budget_pots.clock
pots = budget_pots.pots


async def test_g8_what_is_reserved_is_gone_and_what_was_not_spent_comes_back(pots: Budgets) -> None:
    await pots.set(Budget(level="tenant:acme", tokens=1000, money=500, seconds=2.5, fabrications=1))
    hold = await pots.reserve("a", TREE, Amounts(tokens=700, money=500, seconds=2.5, fabrications=1))
    assert hold == Hold("a", ("tenant:acme",))
    assert (await one(pots, "tenant:acme")).left == 300
    assert await pots.settle(hold, Amounts(tokens=100, money=50, seconds=0.25, fabrications=1)) == []
    (report,) = await pots.report()
    assert {unit: (each.spent, each.reserved, each.left) for unit, each in report.units.items()} == {
        "tokens": (100, 0, 900), "money": (50, 0, 450), "seconds": (0.25, 0, 2.25), "fabrications": (1, 0, 0),
    }  # fmt: skip


@pytest.mark.parametrize("short", ["board", "tenant:acme", "run:r1", "task:r1/a"])
async def test_g8_a_level_without_room_means_that_nothing_is_reserved_at_any(
    board: Board, pots: Budgets, short: str
) -> None:
    for level in TREE:
        await pots.set(Budget(level=level.name, tokens=99 if level.name == short else 1000))
    before = await stored(board)
    with pytest.raises(
        BudgetExhausted, match="may need 100 tokens, and 99 tokens of its 99 tokens are left"
    ) as refused:
        await pots.reserve("a", TREE, Amounts(tokens=100))
    assert (refused.value.level, refused.value.unit, refused.value.left) == (short, "tokens", 99)
    assert await stored(board) == before
    assert await pots.reserve("b", TREE, Amounts(tokens=99)) is not None


async def test_levels_without_a_budget_cost_nothing_and_store_nothing(board: Board, pots: Budgets) -> None:
    assert await pots.reserve("a", TREE, Amounts(tokens=10**12)) is None
    assert await stored(board) == {}


async def test_g8_a_level_brings_its_own_budget_when_nobody_gave_it_one(pots: Budgets) -> None:
    run = Level("run:r1", Budget(level="run:r1", tokens=100), lifetime_seconds=60)
    assert await pots.reserve("a", [run], Amounts(tokens=60)) is not None
    with pytest.raises(BudgetExhausted):
        await pots.reserve("b", levels("run:r1"), Amounts(tokens=41))  # whoever does not know it is bound as well
    await pots.set(Budget(level="run:r1", tokens=1000))
    assert await pots.reserve("c", [run], Amounts(tokens=500)) is not None  # what was given counts


async def test_g8_every_call_sent_again_has_no_second_effect(board: Board, pots: Budgets) -> None:
    await pots.set(Budget(level="board", tokens=100))
    hold = await pots.reserve("a", TREE, Amounts(tokens=80))
    assert hold is not None
    held = await stored(board)
    assert await pots.reserve("a", TREE, Amounts(tokens=80)) == hold
    assert await stored(board) == held
    await pots.settle(hold, Amounts(tokens=10))
    settled = await stored(board)
    await pots.settle(hold, Amounts(tokens=10))
    await pots.refund(hold)
    assert (await pots.reserve("a", TREE, Amounts(tokens=80))) == Hold("a", ("board",), over=True)
    assert await stored(board) == settled
    await pots.set(Budget(level="board", tokens=100))
    assert await stored(board) == settled


async def test_g8_a_refund_on_cancel_returns_everything(pots: Budgets) -> None:
    await pots.set(Budget(level="board", tokens=100, money=7))
    hold = await pots.reserve("a", TREE, Amounts(tokens=100, money=7))
    assert hold is not None
    await pots.refund(hold)
    assert ((await one(pots, "board")).left, (await one(pots, "board", "money")).left) == (100, 7)


async def test_g8_reservations_of_the_dead_come_back_and_those_of_the_living_stay(pots: Budgets, clock: Clock) -> None:
    await pots.set(Budget(level="board", tokens=100))
    await pots.reserve("dead", TREE, Amounts(tokens=60), lease_seconds=10)
    await pots.reserve("alive", TREE, Amounts(tokens=40), lease_seconds=10)
    await clock.advance(9)
    await pots.reserve("alive", TREE, Amounts(tokens=40), lease_seconds=10)
    assert await pots.sweep() == 0
    await clock.advance(2)
    assert await pots.sweep() == 1
    assert await pots.sweep() == 0
    state = await one(pots, "board")
    assert (state.left, state.reserved, state.lapsed) == (60, 40, 60)


async def test_g8_a_late_report_of_a_lapsed_reservation_is_on_the_account_as_excess(
    pots: Budgets, clock: Clock
) -> None:
    await pots.set(Budget(level="board", tokens=100))
    late = await pots.reserve("late", TREE, Amounts(tokens=100), lease_seconds=10)
    assert late is not None
    await clock.advance(10)
    await pots.sweep()
    next_ = await pots.reserve("next", TREE, Amounts(tokens=100))
    assert next_ is not None
    (excess,) = await pots.settle(late, Amounts(tokens=30))
    assert (excess.level, excess.unit, excess.amount) == ("board", "tokens", 30)
    await pots.settle(next_, Amounts(tokens=100))
    state = await one(pots, "board")
    assert (state.spent, state.excess, state.overshoot, state.lapsed, state.left) == (130, 30, 30, 0, 0)
    with pytest.raises(BudgetExhausted):
        await pots.reserve("more", TREE, Amounts(tokens=1))


async def test_g8_a_lapsed_reservation_that_is_renewed_takes_its_amounts_anew_or_is_refused(
    pots: Budgets, clock: Clock
) -> None:
    await pots.set(Budget(level="board", tokens=100))
    await pots.reserve("a", TREE, Amounts(tokens=60), lease_seconds=10)
    await clock.advance(10)
    await pots.sweep()
    await pots.reserve("a", TREE, Amounts(tokens=60), lease_seconds=10)
    state = await one(pots, "board")
    assert (state.reserved, state.lapsed) == (60, 0)
    await clock.advance(10)
    await pots.sweep()
    await pots.reserve("b", TREE, Amounts(tokens=60))
    with pytest.raises(BudgetExhausted):
        await pots.reserve("a", TREE, Amounts(tokens=60))


async def test_spending_more_than_reserved_is_reported_and_stops_the_next(pots: Budgets) -> None:
    await pots.set(Budget(level="board", tokens=100))
    hold = await pots.reserve("a", TREE, Amounts(tokens=90))
    assert hold is not None
    (excess,) = await pots.settle(hold, Amounts(tokens=120))
    assert excess.amount == 30
    assert (await one(pots, "board")).overshoot == 20
    with pytest.raises(BudgetExhausted, match="0 tokens of its 100 tokens are left"):
        await pots.reserve("b", TREE, Amounts(tokens=1))
    assert await pots.reserve("c", TREE, Amounts(seconds=5)) is not None  # what is not asked for cannot be short


async def test_g8_a_budget_by_day_begins_anew_at_midnight_and_settles_into_the_day_it_was_reserved(
    board: Board, pots: Budgets, clock: Clock
) -> None:
    await pots.set(Budget(level="tenant:acme/day", tokens=100))
    today = levels("tenant:acme", "tenant:acme/day")
    hold = await pots.reserve("a", today, Amounts(tokens=100), lease_seconds=DAY)
    assert hold is not None
    await clock.advance(DAY / 2 - 1)
    with pytest.raises(BudgetExhausted):
        await pots.reserve("b", today, Amounts(tokens=1))
    await clock.advance(1)
    assert (await one(pots, "tenant:acme/day")).left == 100
    assert await pots.reserve("c", today, Amounts(tokens=70)) is not None
    await pots.settle(hold, Amounts(tokens=90))
    state = await one(pots, "tenant:acme/day")
    assert (state.spent, state.reserved) == (0, 70)
    await clock.advance(9 * DAY)
    await pots.reserve("d", today, Amounts(tokens=1))
    (pot,) = [value for key, value in (await stored(board)).items() if key.endswith("pot:tenant:acme/day")]
    assert len({field.split(":")[0] for field in pot} - {"max"}) == 1  # old days do not pile up


async def test_a_call_without_a_price_passes_only_where_no_money_is_counted(pots: Budgets) -> None:
    await pots.set(Budget(level="board", tokens=100))
    hold = await pots.reserve("a", TREE, Amounts(tokens=1, money=None))
    assert hold is not None
    await pots.settle(hold, Amounts(tokens=1, money=None))
    await pots.set(Budget(level="tenant:acme", money=10**9))
    with pytest.raises(BudgetExhausted, match="no price, and tenant:acme has a budget of money") as refused:
        await pots.reserve("b", TREE, Amounts(tokens=1, money=None))
    assert refused.value.asked is None


async def test_a_budget_taken_away_keeps_its_account(pots: Budgets) -> None:
    await pots.set(Budget(level="board", tokens=100))
    hold = await pots.reserve("a", TREE, Amounts(tokens=60))
    assert hold is not None
    await pots.remove("board")
    assert await pots.report() == []
    assert await pots.reserve("b", TREE, Amounts(tokens=1000)) is None
    await pots.settle(hold, Amounts(tokens=60))
    await pots.set(Budget(level="board", tokens=100))
    assert (await one(pots, "board")).left == 40


async def test_amounts_of_fourteen_digits_stay_exact(pots: Budgets) -> None:
    most = budgets.MOST
    await pots.set(Budget(level="board", money=most))
    hold = await pots.reserve("a", TREE, Amounts(money=most - 1))
    assert hold is not None
    assert (await one(pots, "board", "money")).left == 1
    await pots.settle(hold, Amounts(money=most - 1))
    with pytest.raises(BudgetExhausted):
        await pots.reserve("b", TREE, Amounts(money=2))
    assert await pots.reserve("c", TREE, Amounts(money=1)) is not None


@pytest.mark.parametrize("level", ["acme", "tenant:", "day", "run:\n", "user:x", "tenant:" + "x" * 400])
@pytest.mark.engines("redis")
async def test_what_is_no_level_is_refused_with_the_remedy(pots: Budgets, level: str) -> None:
    with pytest.raises(BadInput, match="tenant:"):
        await pots.remove(level)
    with pytest.raises(ValueError, match="tenant:"):
        Budget(level=level, tokens=1)


@pytest.mark.parametrize(
    ("level", "remedy"),
    [
        ("run:*", r"every run.*Limits\(tokens="),
        ("run:*/day", r"every run.*Limits\(tokens="),
        ("task:*", "its manifest's limits"),
        ("task:*/1.price", "its manifest's limits"),
        ("tenant:*", "every tenant"),
        ("tenant:acme*", "every tenant"),
        ("tenant:Big Co/day", "lower-case"),
        ("capability:*", "every capability"),
        ("model:bedrock:*", "every model"),
    ],
)
@pytest.mark.engines("redis")
async def test_a_budget_that_could_bound_nobody_is_refused_and_can_be_taken_away(
    pots: Budgets, level: str, remedy: str
) -> None:
    with pytest.raises(BadInput, match=remedy) as refused:
        await pots.set(Budget(level=level, tokens=10))
    assert (refused.value.field, refused.value.value) == ("level", level)
    assert await pots.report() == []
    await pots.remove(level)  # as one stored before it was refused


async def test_a_task_may_be_called_anything_behind_its_run(pots: Budgets) -> None:
    await pots.set(Budget(level="task:r1/1.what*ever", tokens=10))
    assert [each.level for each in await pots.report()] == ["task:r1/1.what*ever"]


async def test_a_budget_without_a_bound_is_refused(pots: Budgets) -> None:
    with pytest.raises(BadInput, match="at least one"):
        await pots.set(Budget(level="board"))


async def test_ended_reservations_are_forgotten_after_a_while(board: Board, pots: Budgets, clock: Clock) -> None:
    await pots.set(Budget(level="board", tokens=100))
    before = set(await stored(board))
    for n in range(5):
        hold = await pots.reserve(str(n), TREE, Amounts(tokens=10), lease_seconds=10)
        if hold is not None and n % 2:
            await pots.settle(hold, Amounts(tokens=1))
    await clock.advance(10)
    await pots.sweep()
    await clock.advance(budgets.REMEMBERED_SECONDS)
    assert await pots.sweep() == 0
    assert set(await stored(board)) == before


async def test_g8_any_history_keeps_the_accounts_and_never_overshoots(pots: Budgets, clock: Clock) -> None:
    """Random calls against a model in Python; no process spends more than it reserved."""
    rng = random.Random(8)
    bounds = {"board": 300, "tenant:a": 150, "tenant:b": 200, "run:1": 60, "run:2": 90}
    for level, tokens in bounds.items():
        await pots.set(Budget(level=level, tokens=tokens))
    paths = [("board", "tenant:a", "run:1"), ("board", "tenant:b", "run:2"), ("board", "tenant:b", "run:3")]
    spent, held = dict.fromkeys(bounds, 0), dict.fromkeys(bounds, 0)
    alive: dict[str, tuple[Hold, int, tuple[str, ...], float]] = {}
    now = 0.0
    for n in range(250):
        act = rng.random()
        if act < 0.5:
            path, amount = rng.choice(paths), rng.randint(0, 25)
            fits = all(amount == 0 or spent[one] + held[one] + amount <= bounds[one] for one in path if one in bounds)
            try:
                hold = await pots.reserve(str(n), levels(*path), Amounts(tokens=amount), lease_seconds=20)
                assert fits
                assert hold is not None
            except BudgetExhausted:
                assert not fits
                continue
            alive[hold.id] = (hold, amount, path, now + 20)
            for level in set(path) & bounds.keys():
                held[level] += amount
        elif act < 0.8 and alive:
            hold, amount, path, _ = alive.pop(rng.choice(sorted(alive)))
            actual = rng.randint(0, amount)
            assert await pots.settle(hold, Amounts(tokens=actual)) == []
            for level in set(path) & bounds.keys():
                held[level] -= amount
                spent[level] += actual
        elif act < 0.9:
            now += 7
            await clock.advance(7)
        else:
            await pots.sweep()
            for id in [id for id, (*_, ends) in alive.items() if ends <= now]:
                _, amount, path, _ = alive.pop(id)
                for level in set(path) & bounds.keys():
                    held[level] -= amount
    for report in await pots.report():
        tokens = report.units["tokens"]
        assert (tokens.spent, tokens.reserved) == (spent[report.level], held[report.level])
        assert tokens.spent + tokens.reserved <= tokens.limit
        assert tokens.excess == 0
    assert spent["board"] > 100, "the history did too little to show anything"


def test_a_setting_without_its_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        TypeError, match=r"^Budget takes its fields by name: level=…, tokens=…, money=…, seconds=…, fab"
    ):
        Budget("board", tokens=3)  # type: ignore[misc]
