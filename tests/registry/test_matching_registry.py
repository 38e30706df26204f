"""The matcher behind a registry on a real server: it follows, filters by contract, and weighs records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackboard.catalog import Catalog
from blackboard.errors import BadInput, EngineUnavailable
from registry import Contract, Grants, Manifest, Prices, Registry
from registry.offered import Offered

CODE = "def handler() -> None:\n    pass\n"
WORDS = ("invoice", "order", "parse", "match", "weather", "currency", "film", "doctor")
NAMES = ("alpha", "beta", "gamma", "delta")


def make(name: str, description: str, **fields: Any) -> Manifest:
    given: dict[str, Any] = {"input_schema": {"type": "object"}, **fields}
    return Manifest(name=name, description=description, **given)


PHRASE = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)
STEP = st.tuples(st.sampled_from(("register", "teach", "forget", "illustrate")), st.sampled_from(NAMES), PHRASE)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(STEP, min_size=1, max_size=12), need=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
async def test_a_matcher_started_from_nothing_equals_one_that_followed(
    client: redis.asyncio.Redis, steps: list[tuple[str, str, str]], need: list[str]
) -> None:
    """Of versions as they come and go, and of lessons and example needs; ``delta`` belongs to one tenant."""
    await client.flushall()
    writer, follower = Registry(Catalog(client, "test")), Registry(Catalog(client, "test"))
    asked = " ".join(need)
    for number, (kind, name, text) in enumerate(steps):
        tenant = ("acme", "rival")[number % 2]
        if kind == "teach":
            await writer.learn(f"r{number % 5}", tenant, float(number), [(name, text)])
        elif kind == "forget":
            await writer.unlearn(name, tenant)
        elif kind == "illustrate":
            if version := next((each for each in await writer.list() if each.name == name), None):
                assert await writer.begin_illustrating(version, str(number))
                assert await writer.illustrate(version, str(number), text.split(), "scripted")
        elif text:
            await writer.register(make(name, text, tenant="acme" if name == "delta" else "*"), source=CODE)
        elif name in await writer.names():
            await writer.retire(name)
        await follower.shortlist(asked, tenant=tenant)
    fresh = Registry(Catalog(client, "test"))
    for tenant in (None, "acme", "rival", "another"):
        assert await follower.shortlist(asked, tenant=tenant) == await fresh.shortlist(asked, tenant=tenant)
        assert await follower.decide(asked, tenant=tenant) == await fresh.decide(asked, tenant=tenant)
    assert await follower.shortlist(asked, tenant="another") == [
        each for each in await fresh.shortlist(asked) if each.version.visible_to("another")
    ]


async def test_the_first_list_is_read_in_parts_and_one_that_broke_off_is_read_again(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.listing._AT_ONCE", 3)
    writer, reader = Registry(Catalog(client, "test")), Registry(Catalog(client, "test"))
    names = [f"order_{number}" for number in range(8)]
    for name in names:
        await writer.register(make(name, "Orders."), source=CODE)
    sizes: list[int] = []
    whole = Catalog.get_many

    async def read(catalog: Catalog, wanted: Sequence[tuple[str, str | None]]) -> Any:
        sizes.append(len(wanted))
        if len(sizes) == 2:
            raise EngineUnavailable("the server is away")
        return await whole(catalog, wanted)

    monkeypatch.setattr(Catalog, "get_many", read)
    with pytest.raises(EngineUnavailable):
        await reader.list()
    await writer.retire(names[0])
    assert {each.name for each in await reader.shortlist("orders")} == set(names[1:])
    assert max(sizes) == 3


async def test_others_have_their_turn_while_the_first_list_is_made_and_one_that_was_cancelled_lacks_nothing(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Registry(Catalog(client, "test"))
    for number in range(45):
        await writer.register(make(f"alpha_{number}", "parse"), source=CODE, sign=False)
    await writer.learn("r", "acme", 1.0, [("alpha_7", "greenbacks")])
    follower, add, seen = Registry(Catalog(client, "test")), Offered.add, list[str]()
    listing = asyncio.create_task(follower.list())

    def added(self: Offered, manifest: Manifest) -> None:
        add(self, manifest)
        seen.append(manifest.name)
        if len(seen) == 1:  # comes about as soon as others have their turn, which is before the last one is added
            asyncio.get_running_loop().call_soon(listing.cancel)

    monkeypatch.setattr(Offered, "add", added)
    with pytest.raises(asyncio.CancelledError):
        await listing
    assert 0 < len(seen) < 45
    assert len(await follower.list()) == 45
    assert [match.name for match in await follower.shortlist("greenbacks", tenant="acme")] == ["alpha_7"]


async def test_what_served_a_need_is_found_by_its_words_and_only_by_the_tenant_whose_they_were(
    client: redis.asyncio.Redis,
) -> None:
    registry = Registry(Catalog(client, "test"))
    await registry.register(make("convert_currency", "Convert money from one currency into another."), source=CODE)
    await registry.register(make("get_weather", "Current weather and forecast for a city."), source=CODE)
    need, other = "quokka zanzibar", "quokka trip"
    assert await registry.shortlist(need, tenant="acme") == []
    assert await registry.learn("r1", "acme", 1.0, [("convert_currency", need)]) == 1
    (found,) = await registry.shortlist(other, tenant="acme")
    assert found.name == "convert_currency"
    assert found.reasons[0].startswith("quokka ")
    decision = await registry.decide(need, tenant="acme")
    assert decision.candidates[0].name == "convert_currency"
    for tenant in ("rival", None):
        assert await registry.shortlist(other, tenant=tenant) == []
        assert (await registry.decide(need, tenant=tenant)).candidates == ()
    # What is known without lessons stays known, once, to everybody.
    for tenant in ("acme", "rival", None):
        names = [each.name for each in await registry.shortlist("convert currency", tenant=tenant)]
        assert names.count("convert_currency") == 1
    assert await registry.lessons("convert_currency") == {"acme": (need,)}


async def test_what_a_tenants_own_capability_served_counts_for_everybody_who_sees_it(
    client: redis.asyncio.Redis,
) -> None:
    registry = Registry(Catalog(client, "test"))
    await registry.register(make("convert", "Convert money.", tenant="acme"), source=CODE)
    assert await registry.shortlist("quokka", tenant="acme") == []
    await registry.learn("r1", "acme", 1.0, [("convert", "quokka zanzibar")])
    for tenant, names in (("acme", ["convert"]), (None, ["convert"]), ("rival", [])):
        assert [each.name for each in await registry.shortlist("quokka", tenant=tenant)] == names
    await registry.unlearn("convert")
    assert await registry.shortlist("quokka", tenant="acme") == []


async def test_lessons_outlive_a_new_version_and_speak_again_when_a_retired_one_returns(
    client: redis.asyncio.Redis,
) -> None:
    registry = Registry(Catalog(client, "test"))
    first = await registry.register(make("convert", "Convert money."), source=CODE)
    await registry.learn("r1", "acme", 1.0, [("convert", "quokka zanzibar")])
    await registry.register(make("convert", "Convert money, better."), source=CODE)
    assert [each.name for each in await registry.shortlist("quokka", tenant="acme")] == ["convert"]
    await registry.retire("convert")
    assert await registry.shortlist("quokka", tenant="acme") == []
    assert await registry.learn("r2", "acme", 2.0, [("convert", "wombat")]) == 1
    assert await registry.shortlist("wombat", tenant="acme") == []
    await registry.activate("convert", first.sha)
    for need in ("quokka", "wombat"):
        assert [each.name for each in await registry.shortlist(need, tenant="acme")] == ["convert"]
    assert await registry.similar(make("other", "Convert money.")) == [], "near, but not the same"
    assert await registry.unlearn("convert") == 1
    assert await registry.shortlist("quokka", tenant="acme") == []
    assert [each.name for each in await registry.shortlist("convert money", tenant="acme")] == ["convert"]


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
    await registry.register(make("any_weather", "Weather forecast"), source=CODE)
    decision = await registry.decide("weather forecast", tenant="rival", contract=Contract(effects=("pure",)))
    assert ([each.name for each in decision.candidates], decision.left_out) == (["any_weather"], ())


async def test_of_equals_the_one_with_the_better_record_comes_first_and_a_new_one_is_tried(
    client: redis.asyncio.Redis,
) -> None:
    counters: dict[str, int] = {}
    took: dict[str, int] = {}
    now = 0.0

    async def outcomes() -> dict[str, int]:
        return counters

    async def spent() -> dict[str, int]:
        return took

    registry = Registry(Catalog(client, "test"), outcomes, clock=lambda: now, spent=spent)
    shas = {
        name: (await registry.register(make(name, "Weather forecast"), source=CODE)).sha for name in ("aq", "bq", "xq")
    }

    async def order() -> list[str]:
        return [each.name for each in await registry.shortlist("weather forecast")]

    assert await order() == ["aq", "bq", "xq"]
    counters |= {f"aq|{shas['aq']}|failed": 8, f"bq|{shas['bq']}|succeeded": 50, f"bq|{shas['bq']}|cancelled": 90}
    assert await order() == ["aq", "bq", "xq"]  # what was read a moment ago still counts
    now = 11.0
    assert await order() == ["xq", "bq", "aq"]
    first, second, _ = await registry.shortlist("weather forecast")
    assert (first.reasons[-1], second.reasons[-1]) == ("new, to be tried", "succeeded 50 of 50")
    assert (await registry.decide("weather forecast")).candidates[0].name == "xq"
    counters[f"xq|{shas['xq']}|failed"] = 3
    now = 22.0
    assert await order() == ["bq", "xq", "aq"], "what was tried enough waits behind what works"
    counters[f"xq|{shas['xq']}|failed"] = 20
    now = 33.0
    assert await order() == ["bq", "aq", "xq"]
    counters[f"aq|{shas['aq']}|failed"] = 0
    counters[f"aq|{shas['aq']}|succeeded"] = 50
    took |= {f"bq|{shas['bq']}|n": 50, f"bq|{shas['bq']}|ms": 500_000, f"bq|{shas['bq']}|tokens": 250_000}
    now = 44.0
    assert await order() == ["aq", "bq", "xq"], "it takes ten seconds and five thousand tokens"
    assert (await registry.shortlist("weather forecast"))[1].reasons[-1] == "succeeded 50 of 50, 10 s, 5,000 tokens"


async def test_a_search_finds_as_many_as_it_asks_for(client: redis.asyncio.Redis) -> None:
    registry = Registry(Catalog(client, "test"))
    for number in range(30):
        await registry.register(make(f"weather_{number}", "Weather forecast"), source=CODE, sign=False)
    for number in (1, 5, 20, 28):
        assert len((await registry.find("weather forecast", k=number)).matches) == number
    with pytest.raises(BadInput, match="Ask for at least one"):
        await registry.find("weather forecast", k=0)


async def test_a_need_without_a_word_is_refused(client: redis.asyncio.Redis) -> None:
    registry = Registry(Catalog(client, "test"))
    with pytest.raises(BadInput, match=r"need: ' ' was refused. Say in words what is to be done."):
        await registry.decide(" ")
