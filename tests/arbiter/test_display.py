"""Runs in notebooks: the HTML is complete, harmless and right; the pictures are well-formed and true to the log."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from runlog import RUN, Log, order

from arbiter import RunResult
from arbiter._drawing import NODES_IN_COLUMN, STATE_COLOURS, TIMELINE_ROWS
from arbiter.display import Runs, run_bundle, run_html, run_text, runs_html
from arbiter.fold import RunState, fold
from blackboard.types import RunSummary

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {
    "div", "span", "b", "code", "pre", "details", "summary", "table", "thead", "tbody", "tr", "th", "td",
    "svg", "g", "title", "rect", "circle", "path", "line", "text",
}  # fmt: skip
ATTRIBUTES = {"class", "style", "open", "role", "aria-label", "xmlns"}
VOID_OR_GEOMETRY = re.compile(
    r"^(width|height|viewbox|x|y|x1|x2|y1|y2|cx|cy|r|rx|d|fill(-opacity)?|stroke(-width|-opacity|-dasharray)?"
    r"|font-(size|family|weight)|text-anchor|opacity)$"
)


class Inspector(HTMLParser):
    """Collects elements, attributes and text, and checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.said: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


def inspect(html: str) -> Inspector:
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    return inspector


def pictures(html: str) -> dict[str, ElementTree.Element]:
    found = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    return {picture.attrib["aria-label"]: picture for picture in found}


def ordered() -> RunState:
    log = order()
    return fold(log.run_id, log.events)


def boxes(picture: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """The box of each task in a plan graph, by the text in it."""
    return {
        str(group.findtext(f"{SVG}text")): rect
        for group in picture.iter(f"{SVG}g")
        if (rect := group.find(f"{SVG}rect")) is not None
    }


def test_the_display_says_how_the_run_ended_what_it_took_and_what_it_answered() -> None:
    said = " ".join("".join(inspect(run_html(ordered())).said).split())
    assert f"succeeded Run {RUN}" in said
    assert "3.16 s · 3 rounds · 4 tasks · 1 fabrication" in said
    assert "no model was called" in said
    assert "Order 12345 is ready." in said
    assert "case 3: 2 cakes, not 1" in said


def test_the_plan_graph_has_a_node_for_each_round_and_task_and_a_line_for_each_dependency() -> None:
    plan = pictures(run_html(ordered()))["Plan graph"]
    found = boxes(plan)
    assert set(found) == {"fries", "fabricate_cheesecake", "recipe", "cake", "receipt"}
    assert len(list(plan.iter(f"{SVG}circle"))) == 3
    # 1→fries, 1→fabrication, both→2, 2→recipe→cake→receipt→3
    assert len(list(plan.iter(f"{SVG}path"))) == 8
    assert float(found["recipe"].attrib["x"]) < float(found["cake"].attrib["x"]) < float(found["receipt"].attrib["x"])
    assert found["fries"].attrib["x"] == found["fabricate_cheesecake"].attrib["x"]
    assert "stroke-dasharray" in found["fabricate_cheesecake"].attrib
    assert "stroke-dasharray" not in found["fries"].attrib


@pytest.mark.parametrize("status", ["succeeded", "failed", "refused", "timed_out", "cancelled"])
def test_a_task_has_the_colour_of_its_state(status: str) -> None:
    log = Log().accepted("x").step(1).planned(1, [{"name": "a", "tasks": ["1.a"]}]).posted("1.a", "a")
    error = None if status == "succeeded" else {"type": "t", "message": "m", "retryable": False}
    log.completed("1.a", "a", status, error=error)
    html = run_html(fold(log.run_id, log.events))
    assert boxes(pictures(html)["Plan graph"])["a"].attrib["fill"] == STATE_COLOURS[status]


def test_the_timeline_places_bars_by_time() -> None:
    picture = pictures(run_html(ordered()))["Timeline"]
    bars = {
        str(group.findtext(f"{SVG}text")): max(group.iter(f"{SVG}rect"), key=lambda rect: float(rect.attrib["height"]))
        for group in picture.iter(f"{SVG}g")
    }

    def start(name: str) -> float:
        return float(bars[name].attrib["x"])

    def end(name: str) -> float:
        return start(name) + float(bars[name].attrib["width"])

    assert set(bars) == {"Round 1", "fries", "fabricate_cheesecake", "Round 2", "recipe", "cake", "receipt", "Round 3"}
    assert end("recipe") == pytest.approx(start("cake"), abs=0.2)
    assert end("cake") == pytest.approx(start("receipt"), abs=0.2)
    assert end("fries") < end("fabricate_cheesecake") <= start("Round 2") + 1
    # The fabrication took 1.77 s of 3.16 s, and the axis is 560 wide.
    assert float(bars["fabricate_cheesecake"].attrib["width"]) == pytest.approx(560 * 1.774 / 3.16, rel=0.02)


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>\'"</svg></style>&lt;b&gt;\x1b[1m'


def hostile() -> Log:
    log = Log("r<b>" + EVIL).accepted({EVIL: EVIL}).step(1)
    log.planned(1, [{"name": EVIL, "tasks": [f"1.{EVIL}"]}])
    log.events[-1] = log.events[-1].model_copy(update={"data": log.events[-1].data.model_copy(update={"model": EVIL})})
    log.posted(f"1.{EVIL}", EVIL, kind="fabrication", input=EVIL).posted("1.plain", "plain", after=(f"1.{EVIL}",))
    log.stage(f"1.{EVIL}", EVIL, "failed", detail=EVIL)
    log.retried("1.plain")
    error = {"type": EVIL, "message": EVIL, "retryable": False}
    log.completed(f"1.{EVIL}", EVIL, "failed", error=error).completed("1.plain", EVIL, data={"x": EVIL * 50})
    return log


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_nothing_in_a_run_can_put_markup_into_the_page(status: str) -> None:
    log = hostile().ended(status, EVIL, {"type": EVIL, "message": EVIL, "retryable": False})
    html = run_html(fold(log.run_id, log.events))
    found = inspect(html)

    assert set(found.elements) <= ELEMENTS
    for name, value in found.attributes:
        assert name in ATTRIBUTES or VOID_OR_GEOMETRY.match(name), name
        assert "alert" not in value
        assert "javascript:" not in value
        assert "url(" not in value
    assert "<script>alert(1)</script>" in "".join(found.said), "shown as text"
    assert "\x1b" not in html
    assert set(pictures(html)) == {"Plan graph", "Timeline"}


def test_what_is_long_stays_within_the_width_and_does_not_fill_the_page() -> None:
    shown = run_html(ordered())
    assert "overflow-wrap:anywhere" in shown.partition(">")[0], "of all that is in it"
    answer = re.search(r'<pre style="([^"]+)"', shown)
    assert answer is not None
    assert {"max-height:30em", "overflow:auto"} <= set(answer[1].split(";"))


def test_nothing_is_loaded_from_anywhere() -> None:
    html = run_html(ordered()).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//|src=|href=|@import|<style|<script|<link", html)


def test_a_listing_of_runs_is_a_table_and_harmless() -> None:
    runs = Runs([RunSummary(id=EVIL, tenant=EVIL, status="failed", created_at=1e9, ended_at=1e9 + 2, request=EVIL)])
    bundle = runs._repr_mimebundle_()
    found = inspect(bundle["text/html"])
    assert set(found.elements) <= ELEMENTS
    assert "2001-09-09 01:46:40 UTC" in found.said
    assert bundle["text/html"] == runs_html(runs)
    assert bundle["text/plain"].count("\n") == 0
    assert Runs()._repr_mimebundle_()["text/plain"] == "no runs"


def test_a_run_with_many_tasks_stays_small_and_says_what_is_left_out() -> None:
    log = Log().accepted("x").step(1).planned(1, [{"name": "post_plan", "tasks": []}])
    for number in range(500):
        log.posted(f"1.t{number}", "work").completed(f"1.t{number}", "work")
    log.ended()
    html = run_html(fold(log.run_id, log.events))
    plan, times = pictures(html)["Plan graph"], pictures(html)["Timeline"]

    assert len(html) < 600_000
    assert len(boxes(plan)) == NODES_IN_COLUMN
    assert f"and {500 - NODES_IN_COLUMN + 1} more" in boxes(plan)
    assert len(list(times.iter(f"{SVG}g"))) == TIMELINE_ROWS
    assert "and 300 more" in html


def test_every_beginning_of_a_run_can_be_displayed() -> None:
    log = order()
    for end in range(len(log.events) + 1):
        state = fold(log.run_id, log.events[:end])
        inspect(run_html(state))
        assert run_text(state).startswith(f"Run {RUN}: {state.status}")


def test_the_same_stored_run_is_always_displayed_the_same() -> None:
    log = order()
    state = fold(log.run_id, log.events[:30])
    assert run_html(state) == run_html(fold(log.run_id, log.events[:30]))


def test_text_for_a_plain_prompt_has_the_tasks_and_the_answer() -> None:
    lines = run_text(ordered()).splitlines()
    assert lines[0] == (
        f"Run {RUN}: succeeded in 3.16 s: 3 rounds, 4 tasks, 1 fabrication, 1 attempt repeated, ~1,350 tokens"
    )
    assert "  2.cake  succeeded  1.03 s" in lines
    assert lines[-1] == "Order 12345 is ready."


def test_a_result_displays_itself() -> None:
    result = RunResult(ordered())
    assert result._repr_html_() == run_bundle(result.state)["text/html"]
    assert str(result) == run_bundle(result.state)["text/plain"]


def test_a_call_that_goes_on_after_a_rest_is_running_again() -> None:
    log = Log()
    log.add("run.accepted", "", {"request": None, "tenant": "default", "limits": {}, "call": {"capability": "add"}})
    log.add("run.paused", "", {"reason": "a rest", "until_ms": log.ms + 1000})
    assert fold(log.run_id, log.events).status == "paused"
    log.add("run.resumed", "", {"deadline_ms": log.ms + 10_000})
    assert fold(log.run_id, log.events).status == "running"
