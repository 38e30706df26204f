"""G8 in money: what a run may cost is reserved before each request, shown, and refused where nobody knows a price."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import http_site
import pytest
from arbiter_support import arbiter, call

from arbiter import (
    AgendaTerms,
    Arbiter,
    BadInput,
    Budget,
    Call,
    CapabilityLimits,
    Grants,
    Inquiry,
    Limits,
    Manifest,
    Posting,
    Price,
    Prices,
    ScriptedModel,
    Trigger,
)
from arbiter.cli import main
from arbiter.fabrications import FABRICATOR_LANE
from blackboard.budgets import Budgets
from blackboard.testing import RedisServer

DEAR = Prices({"scripted": Price(1, 5)})
"""Of a model whose every token costs a millionth, and five in an answer."""
ANY = {"type": "object", "additionalProperties": True}
ASKS = """
from wrapper import sdk
from strands import Agent
from strands.models import BedrockModel
def handler(text):
    return str(Agent(model=BedrockModel(), callback_handler=None)(text)).strip()
"""


class Unknown(ScriptedModel):
    """A model that is in no price table."""

    label = "unknown"  # type: ignore[assignment]


def small(turns: list[Any]) -> ScriptedModel:
    """It answers in at most 1,000 tokens, so its worst case is not much."""
    model = ScriptedModel(turns, usage=(1000, 1000))
    model.config["max_tokens"] = 1000
    return model


async def test_g8_a_run_never_costs_more_than_its_limit_of_money(redis_server: RedisServer) -> None:
    model, limits = small([call("add", a=1, b=2)] * 20), Limits(money=40_000)
    async with arbiter(redis_server.url, [], model=model, limits=limits, prices=DEAR) as (a, _):
        result = await a.run("Go on.", timeout=30)
        (report,) = await a.budgets(f"run:{result.run_id}")
    assert (result.status, result.error.type) == ("failed", "limit")
    assert f"Budget of run:{result.run_id}" in result.error.message
    assert "of its 0.04 of money are left" in result.error.message
    money = report.units["money"]
    assert money.spent == 6000 * len(model.calls) > 0  # 1,000 tokens sent, and 1,000 for five times as much
    assert (money.limit, money.excess, money.reserved) == (40_000, 0, 0)


async def called(url: str, *, run: int | None = None, attempt: int | None = None) -> tuple[Any, Any, int]:
    """A call of generated code that asks the model once: its result, what the run cost, how often the model was asked."""
    async with arbiter(url, [], model=small(["hello"]), prices=DEAR) as (a, model):
        manifest = Manifest(
            name="greeter", description="greets", input_schema=ANY, grants=Grants(model=True),
            limits=CapabilityLimits(money=attempt),
        )  # fmt: skip
        await a.registry.register(manifest, source=ASKS)
        result = await a.run(Call("greeter", {"text": "x"}), timeout=60, limits=Limits(money=run))
        await a.budgets()  # once what was spent is on the account
        return result, await Budgets(a.board).money(f"run:{result.run_id}"), len(model.calls)


async def test_g8_generated_code_spends_the_money_of_its_run(redis_server: RedisServer) -> None:
    result, money, _ = await called(redis_server.url, run=1_000_000)
    assert (result.data, money.spent, money.limit) == ("hello", 6000, 1_000_000)
    result, _, asked = await called(redis_server.url, run=10)
    assert (result.status, result.error.type, asked) == ("failed", "limit", 0)
    assert f"Budget of run:{result.run_id}" in result.error.message


async def test_g8_an_attempt_spends_no_more_than_its_manifest_says(redis_server: RedisServer) -> None:
    result, money, _ = await called(redis_server.url, attempt=1_000_000)
    assert (result.data, money) == ("hello", None)  # nothing bounds the run
    result, _, asked = await called(redis_server.url, attempt=10)
    assert (result.status, result.error.type, asked) == ("failed", "limit", 0)
    assert f"Budget of task:{result.run_id}/0.call#1" in result.error.message


async def test_g8_a_fabrication_without_a_plan_spends_the_money_of_its_run(redis_server: RedisServer) -> None:
    need = {"name": "fly_home", "need": "fly home at once"}
    async with arbiter(redis_server.url, [], model=small(["no"]), roles=("fabricator",), prices=DEAR) as (a, model):
        run_id = await a.board.submit_call(
            "fabricator", need, lane=FABRICATOR_LANE, kind="fabrication", limits=Limits(money=10)
        )
        result = await a.result(run_id, timeout=30)
    assert (result.status, result.error.type, len(model.calls)) == ("failed", "limit", 0)
    assert f"Budget of run:{run_id}" in result.error.message


async def test_a_limit_of_money_without_a_price_is_refused_where_that_is_known_and_ends_the_run_elsewhere(
    redis_server: RedisServer,
) -> None:
    limits = Limits(money=10**6)
    async with arbiter(redis_server.url, [], model=Unknown(["done"])) as (a, model):
        with pytest.raises(BadInput, match="Nobody knows the price of unknown") as refused:
            await a.submit("Go.", limits=limits)
        assert refused.value.field == "limits.money"
        assert await a.runs() == []
        async with Arbiter(redis_server.url, board=a.board.name, roles=()) as client:
            result = await client.run("Go.", limits=limits, timeout=30)
        assert (result.status, result.error.type, len(model.calls)) == ("failed", "limit", 0)
        assert "price table" in result.error.message
        assert (await a.run("Go.", timeout=30)).answer == "done"  # without one nobody asks for a price


async def test_the_cost_of_a_run_is_shown_and_its_limit_can_be_given_over_http(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with http_site.running(redis_server.url, tmp_path, (), model=small(["done"] * 2), prices=DEAR) as site:
        http = site.client()
        (bounded, free) = [
            (await http.post("/v1/runs", params=params, content="Go.", headers={"Content-Type": "text/plain"})).json()[
                "run_id"
            ]
            for params in ({"money": "1000000"}, {})
        ]
        for run_id in (bounded, free):
            await site.served.result(run_id, timeout=30)
        await site.served.budgets()  # once what was spent is on the account
        record = (await http.get(f"/v1/runs/{bounded}")).json()
        assert record["limits"]["money"] == 1_000_000
        assert (record["cost"]["spent"], record["cost"]["left"]) == (6000, 994_000)
        assert "cost" not in (await http.get(f"/v1/runs/{free}")).json()
        place = ["--url", redis_server.url, "--board", site.served.board.name]
    assert await asyncio.to_thread(main, ["show", bounded, *place]) == 0
    assert "Cost: 0.006 of 1\n" in capsys.readouterr().out
    assert await asyncio.to_thread(main, ["show", bounded, "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["cost"]["spent"] == 6000
    assert await asyncio.to_thread(main, ["show", free, *place]) == 0
    assert "Cost" not in capsys.readouterr().out


def test_a_limit_of_money_is_given_in_units_on_the_command_line(
    redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--url", redis_server.url, "--board", board_name]
    assert main(["submit", "Go.", "--limit-money", "0.25", *place]) == 0
    run_id = capsys.readouterr().out.strip()
    assert main(["show", run_id, *place]) == 0
    assert "Cost: at most 0.25\n" in capsys.readouterr().out
    for said, remedy in (("much", "Give a number"), ("0.0000001", "six decimals"), ("-1", "Give 0 or more")):
        assert main(["submit", "Go.", f"--limit-money={said}", *place]) == 2
        shown = capsys.readouterr().err
        assert "--limit-money" in shown
        assert remedy in shown


def test_limits_without_money_are_written_as_they_were_before_there_was_any() -> None:
    """Manifests are known by the hash of their text, and processes of an earlier version read the limits of calls."""
    assert "money" not in Limits().model_dump() | CapabilityLimits().model_dump()
    assert Limits(money=0).model_dump()["money"] == CapabilityLimits(money=0).model_dump()["money"] == 0


@pytest.mark.parametrize("of_the", ["run", "tenant"])
async def test_an_agenda_picks_nothing_more_once_what_it_may_spend_is_used_up(
    redis_server: RedisServer, of_the: str
) -> None:
    budgets = [Budget(level="tenant:default", money=30_000)] if of_the == "tenant" else []
    async with arbiter(redis_server.url, [], model=small(["hello"] * 9), prices=DEAR, budgets=budgets) as (a, model):
        manifest = Manifest(
            name="greeter", description="greets", input_schema=ANY, grants=Grants(model=True),
            triggers=(Trigger(topic="guests.*"),),
        )  # fmt: skip
        await a.registry.register(
            manifest, source=ASKS.replace("handler(text)", "handler(entry)").replace("(text)", "('x')")
        )
        guests = Inquiry([Posting(f"guests.{n}", n) for n in range(8)], agenda=AgendaTerms(concurrency=1))
        result = await a.run(guests, limits=Limits(money=30_000 if of_the == "run" else None), timeout=60)
        states = Counter(task.state for task in result.state.work)
        rest = Counter(one.state for one in await a.agenda(result.run_id).activations())
    assert (result.status, result.error.type) == ("failed", "limit")
    level = "tenant:default" if of_the == "tenant" else f"run:{result.run_id}"
    assert f"Nothing more was picked: the budget of {level} has no room any more" in result.error.message
    assert states == {"succeeded": len(model.calls), "failed": 1}, "one finds out, and the others are not tried"
    assert rest == {"picked": len(model.calls) + 1, "obviated": 7 - len(model.calls)}
    assert 0 < len(model.calls) < 7
