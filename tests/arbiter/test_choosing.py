"""Which capabilities the model is shown: as many as its context has room for, in a list that only grows at its end."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, answers, arbiter, call

from arbiter import Arbiter, Capability, Choosing, capability
from arbiter.cli import main
from arbiter.tools import PLAN, SEARCH, built_in
from blackboard.errors import BadInput
from blackboard.testing import RedisServer
from registry import Grants, Manifest, Prices, Registry
from wrapper.models.estimate import estimate_request


def bulky(number: int, words: int = 30) -> list[Capability[..., Any]]:
    """Capabilities whose descriptions take room, all about the same thing."""
    made: list[Capability[..., Any]] = []
    for n in range(number):

        def one(text: str) -> str:
            return text

        about = f"Polish the brass lamp number {n}. " + "It is a very long story about a lamp. " * (words // 9)
        made.append(capability(name=f"polish_lamp_{n:02}", description=about)(one))
    return made


def shown(model: Any) -> list[list[str]]:
    """The names of the capabilities in the tool list, call by call."""
    own = {spec["name"] for spec in built_in()}
    return [[spec["name"] for spec in one.tool_specs if spec["name"] not in own] for one in model.calls]


@capability(effects="writes")
def scrub(text: str) -> str:
    """Scrub the brass lamp until it shines."""
    return text


async def test_a_small_context_has_fewer_tools_and_a_large_one_more(redis_server: RedisServer) -> None:
    counts: list[int] = []
    for window in (16_500, 30_500, None):
        choosing = Choosing(window=window)
        async with arbiter(redis_server.url, ["done"], capabilities=bulky(30, 200), choosing=choosing) as (a, model):
            await a.run("Polish the brass lamp.", timeout=60)
        counts.append(len(shown(model)[0]))
        assert estimate_request([], model.calls[0].tool_specs) <= 0.25 * (window or 200_000)
    assert 0 < counts[0] < counts[1] < counts[2] == 12


async def test_the_list_grows_at_its_end_while_there_is_room_and_what_is_left_out_can_be_planned(
    redis_server: RedisServer,
) -> None:
    searches = [call(SEARCH, query=f"polish brass lamp number {n}", limit=8) for n in (1, 11, 21)]
    plan = call(PLAN, tasks=[{"key": "k", "capability": "polish_lamp_21", "input": {"text": "x"}}])
    turns = [*searches, plan, call("polish_lamp_21", text="y"), "done"]
    choosing = Choosing(window=14_500)
    async with arbiter(redis_server.url, turns, capabilities=bulky(30, 200), choosing=choosing) as (a, model):
        result = await a.run("Polish the brass lamp.", timeout=60)
    assert result.status == "succeeded"
    lists = shown(model)
    for earlier, later in pairwise(lists):
        assert later[: len(earlier)] == earlier
    assert len(lists[1]) > len(lists[0])
    for one in model.calls:
        assert estimate_request([], one.tool_specs) <= 0.25 * 14_500
    notes = [answer["note"] for answer in answers(result) if "note" in answer]
    assert notes
    assert "call them through post_plan" in notes[-1]
    assert "polish_lamp_21" not in lists[-1]
    assert [task.state for task in result.state.work] == ["succeeded", "succeeded"]


async def test_what_an_operator_does_not_allow_is_not_offered_not_found_and_not_called(
    redis_server: RedisServer,
) -> None:
    turns = [
        call(SEARCH, query="scrub the brass lamp"),
        call("scrub", text="x"),
        call(PLAN, tasks=[{"key": "k", "capability": "scrub", "input": {"text": "x"}}]),
        "No.",
    ]
    choosing = Choosing(effects=("pure", "reads"))
    async with arbiter(redis_server.url, turns, capabilities=[*FUNCTIONS, scrub], choosing=choosing) as (a, model):
        result = await a.run("Scrub the brass lamp.", timeout=60)
        version = await a.registry.resolve("scrub")
    assert version.manifest.effects == "writes"
    assert all("scrub" not in names for names in shown(model))
    found, called, planned = answers(result)
    assert "scrub" not in json.dumps(found["found"])
    assert "may not be used here: writes is not allowed" in called
    assert "may not be used here" in planned
    for match in result.state.rounds[0].matches:
        assert match["left_out"] == ["scrub: writes is not allowed"]
    assert result.state.work == []


async def test_searches_leave_out_what_would_be_refused_its_secrets(redis_server: RedisServer) -> None:
    turns = [call(SEARCH, query="polish the brass lamp", inputs=[]), "No."] * 2
    keyed = Manifest(
        name="polish_with_key", description="Polish the brass lamp.", input_schema={"type": "object"},
        grants=Grants(http_hosts=("lamps.example",), secrets=("KEY@lamps.example",)),
    )  # fmt: skip
    async with arbiter(redis_server.url, turns) as (a, _):
        await a.registry.register(keyed, source="def handler():\n    return 1\n")
        for sources, left_out in ((None, []), (("mail:inbox",), ["polish_with_key: asks for secrets"])):
            result = await a.run("Polish the brass lamp.", sources=sources, timeout=60)
            assert [match["left_out"] for match in result.state.rounds[0].matches] == [left_out] * 2
            (answer,) = answers(result)
            assert [each["name"] for each in answer["found"]] == ([] if left_out else ["polish_with_key"])
            assert answer.get("left_out", []) == left_out


async def test_what_mistakes_cost_here_decides_about_the_request_and_about_searches(redis_server: RedisServer) -> None:
    turns = [call(SEARCH, query="polish brass lamp number 3"), "No."]
    for prices, outcome in ((Prices(question=0), "ask"), (Prices(wrong_match=0.01), "use")):
        choosing = Choosing(prices=prices)
        async with arbiter(redis_server.url, turns, capabilities=bulky(4), choosing=choosing) as (a, _):
            result = await a.run("Polish the brass lamp number 1.", timeout=60)
        assert [match["outcome"] for match in result.state.rounds[0].matches] == [outcome] * 2


async def test_one_search_is_made_for_a_need_in_a_round(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    async with arbiter(redis_server.url, [call(SEARCH, query="brass lamp"), "done"], capabilities=bulky(20)) as (a, _):
        matcher = a.registry._offered.matcher
        search = matcher.search

        def counted(query: str, **more: Any) -> Any:
            asked.append(query)
            return search(query, **more)

        monkeypatch.setattr(matcher, "search", counted)
        await a.run("Polish it.", timeout=60)
    assert asked == ["Polish it.", "brass lamp", "Polish it."], "the last for what the second is a part of"


async def test_one_search_says_the_same_as_asking_twice(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["done"], capabilities=bulky(20)) as (a, _):
        registry: Registry = a.registry
        for need in ("polish the brass lamp number 7", "knit a jumper", "polish a lamp and then echo a text"):
            found = await registry.find(need, k=5)
            assert found.decision == await registry.decide(need)
            assert [each.name for each in found.matches] == [each.name for each in await registry.shortlist(need, k=5)]


@capability
def look_up_weather(city: str, day: str = "today") -> dict[str, float]:
    """Weather forecast for a city."""
    return {"celsius": 21.0}


@capability
def weather_of_account(account_id: str, city: str) -> str:
    """Weather forecast as an account has it set."""
    return "sunny"


async def test_a_search_leaves_out_what_the_sub_task_cannot_supply_and_what_the_next_task_cannot_take(
    redis_server: RedisServer,
) -> None:
    turns = [
        call(SEARCH, query="weather forecast", inputs=["place"]),
        call(SEARCH, query="weather forecast", output="number"),
        call(SEARCH, query="weather forecast"),
        "Sunny.",
    ]
    functions = [*FUNCTIONS, look_up_weather, weather_of_account]
    async with arbiter(redis_server.url, turns, capabilities=functions) as (a, _):
        result = await a.run("Think.", timeout=60)
    supplied, typed, plain = answers(result)
    assert [each["name"] for each in supplied["found"]] == ["look_up_weather"], "a place is a city"
    assert supplied["left_out"] == ["weather_of_account: needs account_id"]
    assert [each["name"] for each in typed["found"]] == ["look_up_weather"], "a property is a number"
    assert typed["left_out"] == ["weather_of_account: returns string, not number"]
    assert {each["name"] for each in plain["found"]} == {"look_up_weather", "weather_of_account"}
    assert "left_out" not in plain
    # The first round's record is of the request; each search has its own.
    recorded = [turn.matches[-1]["left_out"] for turn in result.state.rounds[:3]]
    assert recorded == [supplied["left_out"], typed["left_out"], []]
    told = [match["left_out"] for match in result.state.rounds[0].matches]
    assert told == [[], supplied["left_out"]]


async def test_a_search_in_another_script_that_finds_nothing_does_not_say_that_nothing_fits(
    redis_server: RedisServer,
) -> None:
    turns = [call(SEARCH, query="東京の天気予報を教えて"), call(SEARCH, query="flurb the gribble"), "Sunny."]
    async with arbiter(redis_server.url, turns, capabilities=[look_up_weather]) as (a, _):
        result = await a.run("Think.", timeout=60)
    foreign, nonsense = answers(result)
    assert foreign["found"] == nonsense["found"] == []
    assert re.search("cannot be compared with the words of the capabilities.*Search again", foreign["note"])
    assert "Nothing fits" in nonsense["note"]
    assert [turn.matches[-1]["outcome"] for turn in result.state.rounds[:2]] == ["ask", "fabricate"]


async def test_a_search_with_an_unknown_type_is_answered_and_nothing_is_searched(redis_server: RedisServer) -> None:
    turns = [call(SEARCH, query="weather", output="date"), "No."]
    async with arbiter(redis_server.url, turns, capabilities=FUNCTIONS) as (a, _):
        result = await a.run("Think.", timeout=60)
    (said,) = answers(result)
    assert "does not fit its schema" in said
    assert len(result.state.rounds[0].matches) == 1


# ---- where it is set ---------------------------------------------------------------------------------------------------


def test_it_is_read_from_a_mapping_from_json_or_toml_and_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(Choosing.variable, raising=False)
    wanted = Choosing(effects=("pure", "reads"), without=("secrets",), prices=Prices(wrong_match=9), share=0.1)
    assert Choosing.of(None) == Choosing()
    assert Choosing.of(wanted) is wanted
    as_toml, as_json = tmp_path / "c.toml", tmp_path / "c.json"
    as_toml.write_text('effects = ["pure", "reads"]\nwithout = ["secrets"]\nshare = 0.1\n[prices]\nwrong_match = 9\n')
    as_json.write_text(wanted.model_dump_json())
    assert Choosing.of(as_toml) == Choosing.of(str(as_json)) == wanted
    assert (
        Choosing.of({"effects": ["pure", "reads"], "without": ["secrets"], "share": 0.1, "prices": {"wrong_match": 9}})
        == wanted
    )
    monkeypatch.setenv(Choosing.variable, str(as_toml))
    assert Choosing.of(None) == wanted


@pytest.mark.parametrize(
    ("text", "field", "remedy"),
    [
        ('{"effects": ["reads", "harmless"]}', r"\.effects\.1", "pure.*irreversible"),
        ('{"without": ["money"]}', r"\.without\.0", "secrets"),
        ('{"share": 2}', r"\.share", "Give 1 or less"),
        ('{"prices": {"question": -1}}', r"\.prices\.question", "Give 0 or more"),
        ('{"effect": ["pure"]}', r"\.effect", "Use any of effects, without, prices"),
        ("[]", "", "any of effects, without, prices"),
        ("{", "", "not JSON"),
        (None, "", "cannot be read"),
    ],
)
def test_with_a_malformed_file_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, field: str, remedy: str
) -> None:
    file = tmp_path / "choosing.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv(Choosing.variable, str(file))
    with pytest.raises(BadInput, match=remedy) as refused:
        Arbiter("memory://")
    assert re.fullmatch(Choosing.variable + field, refused.value.field)
    with pytest.raises(BadInput, match="choosing"):
        Arbiter("memory://", choosing=file)


def test_a_command_goes_by_the_file_it_is_given(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script, file = tmp_path / "model.json", tmp_path / "choosing.toml"
    script.write_text(json.dumps({"scenes": [{"turns": [call("echo", text="x"), "{{ results.echo }}"]}]}))
    file.write_text('effects = ["reads"]\n')
    words = ["run", "Echo x.", "--url", redis_server.url, "--board", "choosing", "--model", f"scripted:{script}",
             "--capabilities", f"{Path(__file__).with_name('arbiter_support.py')}:FUNCTIONS"]  # fmt: skip
    assert main([*words, "--choosing", str(file)]) == 0
    assert "pure is not allowed" in capsys.readouterr().out
