"""G8 on the way to a model: no request is made whose worst case does not fit, whoever makes it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from arbiter_support import arbiter, call, completions

from arbiter import (
    Budget,
    BudgetExhausted,
    CapabilityLimits,
    Grants,
    Limits,
    Manifest,
    Price,
    Prices,
    ScriptedModel,
    Status,
)
from blackboard import _keys
from blackboard.board import Board
from blackboard.budgets import Amounts, Budgets, Level, LevelReport, Paced
from blackboard.claims import Claim
from blackboard.quotas import Quota, Quotas
from blackboard.testing import RedisServer
from wrapper.models import ModelTransient, as_failure, converse, describe
from wrapper.spending import Spending
from wrapper.worst_case import OUTPUT_TOKENS, most_input

HELLO: Any = [{"role": "user", "content": [{"text": "hello"}]}]
ANY = {"type": "object", "additionalProperties": True}
ASKS = """
from wrapper import sdk
from strands import Agent
from strands.models import BedrockModel
def handler(text):
    return str(Agent(model=BedrockModel(), callback_handler=None)(text)).strip()
"""


def claim(task: str = "r1/a") -> Claim:
    named = {"task_id": task, "run_id": "r1", "tenant": "acme", "fence": "7", "attempt": 1, "attempt_seconds": 60.0}
    return cast(Claim, SimpleNamespace(**named))


@pytest.fixture
def spending(board: Board) -> Spending:
    return Spending(Budgets(board))


async def test_g12_calls_to_a_model_follow_each_other_no_faster_and_no_more_at_a_time_than_its_quota(
    board: Board, spending: Spending
) -> None:
    name = "model:" + describe(ScriptedModel(["hi"]))
    await Quotas(board).set(Quota(subject=name, at_once=2))
    going, most = 0, 0
    release = asyncio.Event()

    async def ask(number: int) -> None:
        nonlocal going, most
        model = ScriptedModel(["hi"])
        real = model.stream

        async def slow(*args: Any, **kw: Any) -> Any:
            nonlocal going, most
            going += 1
            most = max(most, going)
            await release.wait()
            async for event in real(*args, **kw):
                yield event
            going -= 1

        model.stream = slow  # type: ignore[method-assign]
        await converse(spending.guard(model, claim(f"r1/t{number}")), HELLO)

    calls = [asyncio.ensure_future(ask(number)) for number in range(5)]
    while going < 2:
        await asyncio.sleep(0.01)
    (report,) = await Quotas(board).report()
    assert report.running == 2
    release.set()
    await asyncio.gather(*calls)
    await spending.settled()
    assert most == 2
    (report,) = await Quotas(board).report()
    assert report.running == 0


async def test_a_call_that_comes_too_early_for_a_rate_waits_or_says_when(board: Board) -> None:
    budgets = Budgets(board)
    await Quotas(board).set(Quota(subject="model:m", per_second=0.5, burst=2))
    level = [Level("model:m")]
    for number in range(2):
        hold = await budgets.reserve(f"c{number}", level, Amounts(tokens=1))
        assert hold is not None
        await budgets.refund(hold)
    with pytest.raises(Paced) as early:
        await budgets.reserve("c3", level, Amounts(tokens=1))
    assert 1 < early.value.retry_after_seconds <= 2
    assert early.value.level == "model:m"
    await Quotas(board).remove("model:m")
    assert await budgets.reserve("c3", level, Amounts(tokens=1)) is None


async def test_a_planner_whose_model_is_at_its_quota_for_too_long_comes_again_on_the_boards_timer(
    board: Board, spending: Spending, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScriptedModel(["hi"])
    await Quotas(board).set(Quota(subject="model:" + describe(model), per_second=0.01))
    guarded = spending.guard(model, claim("r1/t1"), call_seconds=1.0)
    await converse(guarded, HELLO)
    with pytest.raises(ModelTransient) as busy:
        await converse(guarded, HELLO, durable=True)
    failure = as_failure(busy.value, "no decision")
    assert failure.retryable
    assert "throttled" in failure.names
    assert 90 < (failure.retry_after_seconds or 0) <= 100


async def tokens(spending: Spending, level: str) -> Any:
    await spending.settled()
    (report,) = await spending.budgets.report(level)
    return report.units["tokens"]


def named(reports: list[LevelReport]) -> dict[str, LevelReport]:
    return {report.level: report for report in reports}


async def test_g8_a_call_holds_its_worst_case_while_it_runs_and_costs_what_it_used(spending: Spending) -> None:
    held: list[float] = []

    async def look() -> None:
        (report,) = await spending.budgets.report("tenant:acme")
        held.append(report.units["tokens"].reserved)

    model = ScriptedModel(["hi"], usage=(11, 3))
    real = model.stream

    async def watched(*args: Any, **kw: Any) -> Any:
        await look()
        async for event in real(*args, **kw):
            yield event

    model.stream = watched  # type: ignore[method-assign]
    await spending.budgets.set(Budget(level="tenant:acme", tokens=50_000))
    reply = await converse(spending.guard(model, claim()), HELLO)
    assert reply.text == "hi"
    assert held == [most_input(HELLO) + OUTPUT_TOKENS]
    state = await tokens(spending, "tenant:acme")
    assert (state.spent, state.reserved, state.excess) == (14, 0, 0)


@pytest.mark.parametrize(
    "level",
    ["board", "board/day", "tenant:acme", "tenant:acme/day", "run:r1", "task:r1/a", "capability:greet", "model:{}",
     "model:{}/day"],
)  # fmt: skip
async def test_g8_every_level_of_a_call_can_refuse_it_and_then_the_model_is_not_asked(
    spending: Spending, level: str
) -> None:
    model = ScriptedModel(["hi"])
    level = level.format(model.label)
    await spending.budgets.set(Budget(level=level, tokens=OUTPUT_TOKENS))
    with pytest.raises(BudgetExhausted) as refused:
        await converse(spending.guard(model, claim(), capability="greet"), HELLO)
    assert (refused.value.level, len(model.calls)) == (level, 0)


async def test_g8_repeated_requests_of_one_call_are_each_reserved(spending: Spending) -> None:
    async def at_once(seconds: float) -> None: ...

    class Busy(ScriptedModel):
        async def stream(self, *args: Any, **kw: Any) -> Any:
            self.config["asked"] = self.config.get("asked", 0) + 1
            if self.config["asked"] < 3:
                yield {"messageStart": {"role": "assistant"}}
                raise ConnectionError("cut")
            async for event in super().stream(*args, **kw):
                yield event

    await spending.budgets.set(Budget(level="board", tokens=50_000))
    reply = await converse(spending.guard(Busy(["hi"], usage=(10, 2)), claim()), HELLO, sleep=at_once)
    assert (await tokens(spending, "board")).spent == reply.usage.total_tokens > 12


async def test_g8_a_call_the_provider_refused_gives_everything_back(spending: Spending) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no such model")

    await spending.budgets.set(Budget(level="board", tokens=50_000))
    with pytest.raises(Exception, match="no such model"):
        await converse(spending.guard(ScriptedModel([broken]), claim()), HELLO)
    state = await tokens(spending, "board")
    assert (state.spent, state.reserved) == (0, 0)


async def test_g8_a_cancelled_call_gives_back_what_it_cannot_have_used(spending: Spending) -> None:
    await spending.budgets.set(Budget(level="board", tokens=50_000))
    model = ScriptedModel(["hi"], latency_seconds=60)
    under_way = asyncio.ensure_future(converse(spending.guard(model, claim()), HELLO))
    async with asyncio.timeout(30):
        while not (await tokens(spending, "board")).reserved:
            await asyncio.sleep(0.005)
    under_way.cancel()
    await asyncio.gather(under_way, return_exceptions=True)
    state = await tokens(spending, "board")
    assert (state.reserved, state.spent) == (0, 2)  # the request was sent, and nothing came back


async def test_g8_a_reservation_of_a_long_call_is_renewed(board: Board) -> None:
    spending = Spending(Budgets(board), lease_seconds=1.5)
    await spending.budgets.set(Budget(level="board", tokens=50_000))
    model = ScriptedModel(["hi"], latency_seconds=60)
    under_way = asyncio.ensure_future(converse(spending.guard(model, claim()), HELLO))
    due = _keys.budgets(board.namespace, board.name) + "due"

    async def ends() -> list[float]:
        return [at for _, at in await cast(Any, board.client).zrange(due, 0, -1, withscores=True)]

    async with asyncio.timeout(30):
        while not (first := await ends()):
            await asyncio.sleep(0.01)
        while not await ends() > first:
            await asyncio.sleep(0.01)
    under_way.cancel()
    await asyncio.gather(under_way, return_exceptions=True)


async def test_two_models_of_one_attempt_do_not_share_a_reservation(spending: Spending) -> None:
    await spending.budgets.set(Budget(level="board", tokens=50_000))
    first, second = (spending.guard(ScriptedModel(["hi"], usage=(10, 2)), claim()) for _ in range(2))
    await converse(first, HELLO)
    await converse(second, HELLO)
    assert (await tokens(spending, "board")).spent == 24


async def test_g8_money_is_reserved_at_the_price_and_a_model_without_one_is_refused(board: Board) -> None:
    budgets = Budgets(board)
    await budgets.set(Budget(level="board", money=1_000_000))
    model = ScriptedModel(["hi", "there"], usage=(1000, 100))
    model.config["max_tokens"] = 100
    spending = Spending(budgets, Prices({"scripted": Price(3, 15)}))
    await converse(spending.guard(model, claim()), HELLO)
    await spending.settled()
    (report,) = await budgets.report("board")
    assert report.units["money"].spent == 1000 * 3 + 100 * 15

    class Unknown(ScriptedModel):
        label = "unknown"  # type: ignore[assignment]

    with pytest.raises(BudgetExhausted, match="price table"):
        await converse(spending.guard(Unknown(["hi"]), claim()), HELLO)


# ---- whole runs ----------------------------------------------------------------------------------------------------


async def test_g8_a_run_never_spends_more_than_its_token_limit(redis_server: RedisServer) -> None:
    limits = Limits(tokens=40_000)
    async with arbiter(redis_server.url, [call("add", a=1, b=2)] * 20, limits=limits) as (a, model):
        model._usage = (4000, 4000)  # type: ignore[attr-defined]
        model.config["max_tokens"] = 4000
        result = await a.run("Go on.", timeout=30)
    assert (result.status, result.error.type) == ("failed", "limit")
    assert f"run:{result.run_id}" in result.error.message
    assert 8000 <= result.usage.total_tokens <= 40_000


async def test_g8_a_tenant_without_room_ends_its_runs_and_others_go_on(redis_server: RedisServer) -> None:
    budget = Budget(level="tenant:acme", tokens=100)
    async with arbiter(redis_server.url, ["done"], budgets=[budget]) as (a, model):
        refused = await a.run("Go.", tenant="acme", timeout=60)
        assert (refused.status, refused.error.type, len(model.calls)) == ("failed", "limit", 0)
        assert "Budget of tenant:acme" in refused.error.message
        assert (await a.run("Go.", tenant="other", timeout=60)).answer == "done"
        await a.set_budget(Budget(level="tenant:acme", tokens=100_000))
        assert (await a.run("Go.", tenant="acme", timeout=60)).answer == "done"
        (report,) = await a.budgets()
        assert report.units["tokens"].spent > 0
        await a.remove_budget("tenant:acme")
        assert await a.budgets() == []


async def test_g8_calls_of_generated_code_count_for_run_capability_and_attempt(redis_server: RedisServer) -> None:
    def turn(messages: Any, specs: Any) -> Any:
        if not specs:
            return "hello"
        return call("greeter", text="x") if len(messages) == 1 else "done"

    async def greet(a: Any, tokens: int, url: str) -> Any:
        manifest = Manifest(
            name="greeter", description="greets", input_schema=ANY, grants=Grants(model=True),
            limits=CapabilityLimits(tokens=tokens),
        )  # fmt: skip
        await a.registry.register(manifest, source=ASKS)
        result = await a.run("Greet.", timeout=60)
        return result, completions(result)["greeter"]

    budgets = [Budget(level=level, tokens=10**6) for level in ("board/day", "capability:greeter")]
    async with arbiter(redis_server.url, [turn] * 50, budgets=budgets) as (a, model):
        result, done = await greet(a, 50_000, redis_server.url)
        assert done.status is Status.SUCCEEDED
        found = named(await a.budgets("board/day", "capability:greeter", f"run:{result.run_id}"))
        assert found["capability:greeter"].units["tokens"].spent == done.usage.total_tokens > 0
        for level in ("board/day", f"run:{result.run_id}"):
            assert found[level].units["tokens"].spent == result.usage.total_tokens
        asked = len(model.calls)
        _, done = await greet(a, 5000, redis_server.url)
        assert (done.status, done.error.type) == (Status.FAILED, "limit")
        assert "of its 5,000 tokens are left" in done.error.message
        assert len(model.calls) == asked + 2  # the planner's


async def test_g8_a_fabrication_beyond_the_budget_is_not_begun(redis_server: RedisServer) -> None:
    turns = [call("request_capability", name="fly_home", need="fly home at once"), "I cannot fly."]
    roles = ("arbiter", "fabricator")
    budget = Budget(level="tenant:default/day", fabrications=0)
    async with arbiter(redis_server.url, turns, roles=roles, budgets=[budget]) as (a, model):
        result = await a.run("Fly home.", timeout=30)
    (done,) = completions(result).values()
    assert (done.status, done.error.type) == (Status.FAILED, "limit")
    assert "0 fabrications of its 0 fabrications are left" in done.error.message
    assert (result.answer, len(model.calls)) == ("I cannot fly.", 2)


async def test_g8_model_calls_of_a_fabrication_are_reserved(redis_server: RedisServer) -> None:
    turns = [call("request_capability", name="fly_home", need="fly home at once"), "I cannot fly."]
    budgets = [Budget(level="capability:fly_home", tokens=1), Budget(level="board", fabrications=5)]
    async with arbiter(redis_server.url, turns, roles=("arbiter", "fabricator"), budgets=budgets) as (a, model):
        result = await a.run("Fly home.", timeout=30)
        found = named(await a.budgets())
    (done,) = completions(result).values()
    assert (done.status, done.error.type) == (Status.FAILED, "limit")
    assert "capability:fly_home" in done.error.message
    assert len(model.calls) == 2
    assert found["board"].units["fabrications"].spent == 1


async def test_a_call_without_any_budget_costs_one_round_trip(
    redis_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blackboard import _script

    sent: list[str] = []
    real = _script.run

    async def counted(client: Any, script: Any, *args: Any, **kw: Any) -> Any:
        sent.append(script.name)
        return await real(client, script, *args, **kw)

    monkeypatch.setattr(_script, "run", counted)
    spending = Spending(Budgets(redis_board))
    await converse(spending.guard(ScriptedModel(["hi"]), claim()), HELLO)
    await spending.settled()
    assert sent == ["budget_reserve"]


def test_a_guarded_model_is_called_what_it_is_called_everywhere(spending: Spending) -> None:
    class Unlabelled:
        def get_config(self) -> dict[str, str]:
            return {"model_id": "small"}

    model = cast(Any, Unlabelled())
    assert describe(spending.guard(model, claim())) == describe(model) == "Unlabelled:small"
