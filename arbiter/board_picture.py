"""A picture of a run's board as inline SVG: entries by level, what they say about each other, and which activations wrote them.

A level is the first word of a topic; levels stand from left to right in the order in which they were first written on, as in
Hearsay-II's pictures of its blackboard. Colours are attributes, as in the other pictures, and details are tooltips.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from arbiter.narration import one_line
from blackboard.activation import Activation
from blackboard.entry import Entry

MOST = 2000
"""Entries that are drawn; the first ones."""
ROWS = 40
"""Entries above each other."""
RELATIONS: Mapping[str, tuple[str, str]] = {
    "contradicts": ("#e0474c", ' stroke-dasharray="4 3"'),
    "supports": ("#2f9e5f", ""),
    "answers": ("#2f86d6", ""),
    "derived_from": ("#8a8f98", ' stroke-dasharray="1 3"'),
}
COLOURS = (
    "#2f86d6", "#d98a1f", "#2f9e5f", "#b05cc8", "#e0474c", "#7a6ff0", "#1f9aa8", "#a8741f", "#c8508e", "#6b8f2f", "#5f6fb0",
    "#9a5f4f", "#4f8f7a", "#8a8f98",
)  # fmt: skip
_ROW, _COLUMN, _GAP, _TOP, _LEFT, _RADIUS = 15, 46, 64, 34, 16, 4.0
_LEGEND_ROW = 16
_TEXT = 'font-family="system-ui,-apple-system,sans-serif" fill="currentColor"'


@dataclass(frozen=True, slots=True)
class _Place:
    x: float
    y: float


def board_picture(entries: Sequence[Entry], activations: Sequence[Activation] = ()) -> str:
    """Draw a board.

    Args:
        entries: of one run, in any order; an entry is filled as far as it is sure, and hollow when it is not live.
        activations: of its agenda. Each is a square beside the entry that made it, hollow when it was not picked, with lines to
            what its task wrote.

    Returns:
        One ``<svg>`` element.
    """
    drawn = sorted(entries, key=lambda one: one.posted)[:MOST]
    places, titles, width, height = _places(drawn)
    names = sorted({one.capability for one in activations})
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    squares: list[str] = []
    lines: list[str] = []
    written: dict[str, list[Entry]] = defaultdict(list)
    for one in drawn:
        written[one.author.task or ""].append(one)
    beside: dict[str, int] = defaultdict(int)
    for one in activations:
        if (at := places.get(one.entry)) is None:
            continue
        here = _Place(at.x + 9 + 6 * min(beside[one.entry], 4), at.y)
        beside[one.entry] += 1
        colour = colours[one.capability]
        squares.append(_square(here, one, colour))
        lines += [_line(here, places[entry.id], colour, "", 0.35) for entry in written.get(one.task or "-", ())]
    for one in drawn:
        for link in one.links:
            if link.to in places:
                colour, dash = RELATIONS[link.rel]
                lines.append(
                    _line(places[one.id], places[link.to], colour, dash, 0.25 if link.rel == "derived_from" else 0.7)
                )
    dots = [_dot(places[one.id], one) for one in drawn]
    legend, height = _legend(colours, height, left_out=len(entries) - len(drawn))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 560):.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {max(width, 560):.0f} {height:.0f}" role="img" aria-label="Board">'
        f"{''.join([*titles, *lines, *squares, *dots, *legend])}</svg>"
    )


def _places(entries: Sequence[Entry]) -> tuple[dict[str, _Place], list[str], float, float]:
    """Where each entry stands, the names of the levels, and how much room that takes."""
    levels: dict[str, list[Entry]] = {}
    for one in entries:
        levels.setdefault(one.topic.partition(".")[0], []).append(one)
    places: dict[str, _Place] = {}
    titles: list[str] = []
    x, tallest = float(_LEFT), 1
    for level, there in levels.items():
        titles.append(
            f'<text x="{x:.0f}" y="16" {_TEXT} font-size="12" font-weight="600">{escape(level)}'
            f'<tspan font-weight="400" opacity=".7"> {len(there)}</tspan></text>'
        )
        for number, one in enumerate(there):
            places[one.id] = _Place(x + _COLUMN * (number // ROWS) + 4, _TOP + _ROW * (number % ROWS))
        columns = (len(there) - 1) // ROWS + 1
        tallest = max(tallest, min(len(there), ROWS))
        x += max(_COLUMN * columns, 8 * len(level) + 30) + _GAP
    return places, titles, x, _TOP + _ROW * tallest + 8.0


def _dot(at: _Place, one: Entry) -> str:
    said = f"{one.topic}: {one_line(json.dumps(one.content, default=str, ensure_ascii=False), 200)}"
    hint = f"{said} (confidence {one.confidence:g}, by {one.author.name}, {one.state})"
    fill = one.confidence if one.state == "live" else 0.0
    return (
        f'<circle cx="{at.x:.1f}" cy="{at.y:.1f}" r="{_RADIUS}" fill="currentColor" fill-opacity="{fill:.2f}" '
        f'stroke="currentColor" stroke-width="1"><title>{escape(hint)}</title></circle>'
    )


def _square(at: _Place, one: Activation, colour: str) -> str:
    hint = f"{one.id} {one.capability}: {one.state} {one_line(one.why, 200)}"
    fill = 0.9 if one.state == "picked" else 0.0
    return (
        f'<rect x="{at.x - 2.5:.1f}" y="{at.y - 2.5:.1f}" width="5" height="5" fill="{colour}" fill-opacity="{fill}" '
        f'stroke="{colour}" stroke-width="1"><title>{escape(hint)}</title></rect>'
    )


def _line(start: _Place, end: _Place, colour: str, dash: str, opacity: float) -> str:
    bend = max(20.0, abs(end.x - start.x) / 2)
    turn = bend if end.x >= start.x else -bend
    return (
        f'<path d="M{start.x:.1f} {start.y:.1f}C{start.x + turn:.1f} {start.y:.1f} {end.x - turn:.1f} {end.y:.1f} '
        f'{end.x:.1f} {end.y:.1f}" fill="none" stroke="{colour}" stroke-opacity="{opacity}"{dash}/>'
    )


def _legend(colours: Mapping[str, str], top: float, *, left_out: int) -> tuple[list[str], float]:
    parts: list[str] = []
    y = top + 14
    for number, (relation, (colour, dash)) in enumerate(RELATIONS.items()):
        x = _LEFT + 130 * number
        parts.append(
            f'<line x1="{x}" y1="{y - 4:.0f}" x2="{x + 22}" y2="{y - 4:.0f}" stroke="{colour}" stroke-width="1.5"{dash}/>'
            f'<text x="{x + 28}" y="{y:.0f}" {_TEXT} font-size="11">{relation}</text>'
        )
    for number, (name, colour) in enumerate(colours.items()):
        if number % 3 == 0:
            y += _LEGEND_ROW
        x = _LEFT + 180 * (number % 3)
        parts.append(
            f'<rect x="{x}" y="{y - 8:.0f}" width="8" height="8" fill="{colour}"/>'
            f'<text x="{x + 14}" y="{y:.0f}" {_TEXT} font-size="11">{escape(name)}</text>'
        )
    if left_out:
        y += _LEGEND_ROW
        parts.append(
            f'<text x="{_LEFT}" y="{y:.0f}" {_TEXT} font-size="11" opacity=".7">and {left_out:,} more entries</text>'
        )
    return parts, y + 10
