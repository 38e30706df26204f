"""The matcher behind a registry on a real server: it follows, filters by contract, and weighs records."""

from __future__ import annotations

from typing import Any

import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackboard.catalog import Catalog
from registry import Contract, Grants, Manifest, Prices, Registry

CODE = "def handler() -> None:\n    pass\n"
WORDS = ("invoice", "order", "parse", "match", "weather", "currency", "film", "doctor")
NAMES = ("alpha", "beta", "gamma", "delta")


def make(name: str, description: str, **fields: Any) -> Manifest:
    given: dict[str, Any] = {"input_schema": {"type": "object"}, **fields}
    return Manifest(name=name, description=description, **given)


STEP = st.tuples(st.sampled_from(NAMES), st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=1, max_size=10), need=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
async def test_a_matcher_started_from_nothing_equals_one_that_followed(
    client: redis.asyncio.Redis, steps: list[tuple[str, str]], need: list[str]
) -> None:
    await client.flushall()
    writer, follower = Registry(Catalog(client, "test")), Registry(Catalog(client, "test"))
    asked = " ".join(need)
    for name, text in steps:
        if text:
            await writer.register(make(name, text), source=CODE)
        elif name in await writer.names():
            await writer.retire(name)
        await follower.shortlist(asked)
    fresh = Registry(Catalog(client, "test"))
    assert await follower.shortlist(asked) == await fresh.shortlist(asked)
    assert await follower.decide(asked) == await fresh.decide(asked)


async def test_what_the_contract_forbids_is_left_out_with_the_reason(client: redis.asyncio.Redis) -> None:
    registry = Registry(Catalog(client, "test"))
    needs_city: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    await registry.register(make("weather_by_city", "Weather forecast", input_schema=needs_city), source=CODE)
    await registry.register(
        make("weather_station", "Weather forecast", output_schema={"type": "string"}, effects="writes",
             grants=Grants(http_hosts=("weather.example",))), source=CODE)  # fmt: skip
    cheap = Prices(question=100)
    free = await registry.decide("weather forecast", prices=cheap)
    assert {each.name for each in free.candidates} == {"weather_by_city", "weather_station"}
    for contract, gone, why in (
        (Contract(inputs=("country",)), "weather_by_city", "needs city"),
        (Contract(output="object"), "weather_station", "returns string, not object"),
        (Contract(effects=("pure", "reads")), "weather_station", "writes is not allowed"),
        (Contract(without=("http_hosts",)), "weather_station", "asks for http_hosts"),
    ):
        decision = await registry.decide("weather forecast", contract=contract, prices=cheap)
        assert decision.left_out == (f"{gone}: {why}",)
        assert [each.name for each in decision.candidates] == sorted({"weather_by_city", "weather_station"} - {gone})
    nothing = await registry.decide("weather forecast", contract=Contract(inputs=(), effects=("pure",)))
    assert nothing.outcome == "fabricate"
    assert len(nothing.left_out) == 2


async def test_a_tenant_is_not_offered_what_belongs_to_another(client: redis.asyncio.Redis) -> None:
    registry = Registry(Catalog(client, "test"))
    await registry.register(make("secret_weather", "Weather forecast", tenant="acme"), source=CODE)
    assert (await registry.decide("weather forecast", tenant="rival")).candidates == ()
    assert (await registry.decide("weather forecast", tenant="acme")).candidates[0].name == "secret_weather"


async def test_of_equals_the_one_with_the_better_record_comes_first_and_a_new_one_is_tried(
    client: redis.asyncio.Redis,
) -> None:
    counters: dict[str, int] = {}
    now = 0.0

    async def outcomes() -> dict[str, int]:
        return counters

    registry = Registry(Catalog(client, "test"), outcomes, clock=lambda: now)
    shas = {
        name: (await registry.register(make(name, "Weather forecast"), source=CODE)).sha for name in ("aq", "bq", "xq")
    }

    async def order() -> list[str]:
        return [each.name for each in await registry.shortlist("weather forecast")]

    assert await order() == ["aq", "bq", "xq"]
    counters |= {f"aq|{shas['aq']}|failed": 8, f"bq|{shas['bq']}|succeeded": 50, f"bq|{shas['bq']}|cancelled": 90}
    assert await order() == ["aq", "bq", "xq"]  # what was read a moment ago still counts
    now = 11.0
    assert await order() == ["bq", "xq", "aq"]
    first = (await registry.shortlist("weather forecast"))[0]
    assert first.reasons[-1] == "succeeded 50 of 50"
    assert (await registry.decide("weather forecast")).candidates[0].name == "bq"
    counters[f"xq|{shas['xq']}|failed"] = 20
    now = 22.0
    assert await order() == ["bq", "aq", "xq"]
