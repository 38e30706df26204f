"""The picture of a board: every entry, link and activation is in it, and nothing that somebody wrote is markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from typing import Any

from arbiter.board_picture import MOST, ROWS, board_picture
from blackboard.activation import Activation
from blackboard.entry import Entry
from blackboard.events import Author, Link

SVG = "{http://www.w3.org/2000/svg}"


def entry(number: int, topic: str = "claims.a", *links: tuple[Any, int], **more: Any) -> Entry:
    author = Author(kind="task", name="reader", task=more.pop("task", None))
    where = f"{1700000000000 + number:013d}-000000"
    said: dict[str, Any] = {"content": number, "confidence": 0.5} | more
    linked = tuple(Link(rel=rel, to=f"r1/e/{to:024x}") for rel, to in links)
    return Entry(
        id=f"r1/e/{number:024x}",
        topic=topic,
        version=1,
        author=author,
        position=where,
        posted=where,
        links=linked,
        **said,
    )


def activation(number: int, of: int, **more: Any) -> Activation:
    return Activation(
        run_id="r1", number=number, trigger="t", capability="critic", version="v", lane="l", entry=f"r1/e/{of:024x}",
        entry_version=1, topic="claims.a", confidence=1.0, priority=5.0, cost=1.0, depth=1, serial=1, made_at=0.0, **more,
    )  # fmt: skip


def parts(svg: str) -> Counter[str]:
    return Counter(one.tag.removeprefix(SVG) for one in ElementTree.fromstring(svg).iter())


def test_every_entry_link_and_activation_is_drawn() -> None:
    plain = parts(board_picture([entry(1), entry(2), entry(3, "doubts.a")]))
    entries = [entry(1), entry(2), entry(3, "doubts.a", ("contradicts", 1), ("contradicts", 2), task="r1/1.@1")]
    drawn = parts(board_picture(entries, [activation(1, 1, state="picked", task="r1/1.@1"), activation(2, 2)]))
    assert drawn["circle"] == plain["circle"] == 3
    assert drawn["path"] == 3, "two links, and what the activation wrote"
    assert drawn["rect"] == 2 + 1, "two activations, and the capability in the legend"


def test_what_is_linked_to_outside_of_the_picture_is_left_out() -> None:
    assert parts(board_picture([entry(3, "doubts.a", ("supports", 9))], [activation(1, 9)]))["path"] == 0


def test_what_somebody_wrote_is_text_and_no_markup() -> None:
    svg = board_picture([entry(1, content="</title><script>alert(1)</script>")])
    assert parts(svg)["script"] == 0
    assert "&lt;script&gt;" in svg


def test_an_entry_is_filled_as_far_as_it_is_sure_and_hollow_when_it_is_not_live() -> None:
    svg = board_picture([entry(1, confidence=0.25), replace(entry(2), state="retracted")])
    filled = [one.get("fill-opacity") for one in ElementTree.fromstring(svg).iter(f"{SVG}circle")]
    assert filled == ["0.25", "0.00"]


def test_a_large_board_is_cut_and_says_so() -> None:
    svg = board_picture([entry(number) for number in range(MOST + ROWS)])
    assert parts(svg)["circle"] == MOST
    assert f"and {ROWS} more entries" in svg
    assert parts(board_picture([]))["circle"] == 0
