"""A plan as people and programs are told of it: by its steps, whichever rounds they were carried on in."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html import unescape

from arbiter_support import FUNCTIONS, arbiter
from plan_steps import half, ref, say, step

from arbiter import RunResult
from arbiter._drawing import STATE_COLOURS, plan_graph, timeline
from arbiter.display import known_until
from arbiter.records import run_record
from blackboard.testing import RedisServer

SVG = "{http://www.w3.org/2000/svg}"
PLAN = [
    say("first", "a"),
    step("all", "half", {"n": ref("item")}, each="request#/numbers", at_once=2, tolerate=1),
    say("never", ref("first#"), when="all.0.n=9"),
    say("always", ref("first#"), else_of="never"),
    say("end", {"$first": ["never", "always"]}),
]


async def carried(url: str) -> RunResult:
    async with arbiter(url, ["never asked"], capabilities=(*FUNCTIONS, half)) as (a, _):
        result = await a.run({"numbers": [2, 3, 4, 6]}, plan=PLAN, timeout=60)
    assert result.status == "succeeded"
    assert len(result.state.rounds) > 2, "it was carried on"
    return result


async def test_a_plan_is_drawn_by_its_steps_and_not_by_the_rounds_that_carried_it_on(redis_server: RedisServer) -> None:
    state = (await carried(redis_server.url)).state
    drawn = ElementTree.fromstring(plan_graph(state))
    said = [[text.text for text in group.iter(f"{SVG}text")] for group in drawn.iter(f"{SVG}g")]
    boxes = {texts[0]: texts[1] for texts in said if len(texts) == 2}
    assert [*boxes] == ["first", "all", "never", "always", "end"]
    assert (boxes["all"], boxes["never"]) == ("4 of 4, 1 failed", "skipped")
    assert [texts for texts in said if len(texts) == 1] == [["1"]], "one round"
    colours = {group.findtext(f"{SVG}text"): group.find(f"{SVG}rect") for group in drawn.iter(f"{SVG}g")}
    skipped = colours["never"]
    assert skipped is not None
    assert skipped.attrib["stroke"] == STATE_COLOURS["skipped"]
    lines = len(drawn.findall(f"{SVG}path"))
    assert lines == 2 + 2 + 2 + 2, "first and all after the round; never, always after both; end after these two"


async def test_the_timeline_has_one_bar_for_all_the_items_of_a_step(redis_server: RedisServer) -> None:
    state = (await carried(redis_server.url)).state
    drawn = unescape(timeline(state, known_until(state)))
    assert re.findall(r'text-anchor="end">([^<]+)<', drawn) == ["Round 1", "first", "all", "always", "end"]
    assert "4 of 4, 1 failed" in drawn
    notes = re.findall(r'<text x="([\d.]+)" y="[\d.]+" [^>]*font-size="10" opacity=".7">([^<]+)<', drawn)
    width = float(ElementTree.fromstring(timeline(state, known_until(state))).attrib["width"])
    assert all(float(x) + 5 * len(note) <= width for x, note in notes), "what is beside a bar is not cut off"


async def test_programs_are_told_how_every_step_stands(redis_server: RedisServer) -> None:
    result = await carried(redis_server.url)
    record = run_record(result.state, whole=True)
    told = {one["key"]: (one["state"], one["items"], one["succeeded"], one["failed"]) for one in record["step_list"]}
    assert told == {
        "first": ("succeeded", None, 1, 0),
        "all": ("succeeded", 4, 3, 1),
        "never": ("skipped", None, 0, 0),
        "always": ("succeeded", None, 1, 0),
        "end": ("succeeded", None, 1, 0),
    }
    steps = {one["key"]: one for one in record["step_list"]}
    assert steps["never"]["why"] == "all.0.n=9 does not hold"
    assert steps["end"]["after"] == ["always", "never"]
    assert [turn["attending"] for turn in record["round_list"]].count(False) == 1
