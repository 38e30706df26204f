"""Pictures as inline SVG: how a run's tasks depend on each other, when each of them ran, and what a matcher risks.

Colour and width are attributes of the elements, not of a style sheet, so the pictures survive the cleaning that
notebooks do and leave the page around them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Protocol

from arbiter import narration
from arbiter.fold import RunState, Task
from arbiter.narration import one_line, seconds

STATE_COLOURS = {
    "succeeded": "#2f9e5f",
    "passed": "#2f9e5f",
    "failed": "#e0474c",
    "refused": "#b05cc8",
    "timed_out": "#d98a1f",
    "cancelled": "#8a8f98",
    "skipped": "#8a8f98",
    "running": "#2f86d6",
    "started": "#2f86d6",
    "queued": "#2f86d6",
    "cancelling": "#d98a1f",
    "paused": "#d98a1f",
    "ready": "#6b7fd7",
    "delayed": "#d98a1f",
    "waiting": "#d98a1f",
    "blocked": "#8a8f98",
}
"""Chosen to be told apart on white and on black."""

NODES_IN_COLUMN = 10
"""Tasks drawn above each other; the others of a column become one node that counts them."""
TIMELINE_ROWS = 60

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 150, 36, 44, 12
_ROUND, _MARGIN = 18, 10
_TEXT = 'font-family="system-ui,-apple-system,sans-serif" fill="currentColor"'


@dataclass(slots=True)
class _Node:
    x: float
    y: float
    left: float
    """How far to the left of ``x`` lines arrive."""
    right: float


def plan_graph(state: RunState) -> str:
    """Rounds from left to right, each with its tasks by depth of dependency, and the answer at the end."""
    columns = _columns(state)
    tallest = max((len(column) for column in columns if isinstance(column, list)), default=1)
    height = max(1, tallest) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    middle = height / 2
    nodes: dict[str, _Node] = {}
    shapes: list[str] = []
    lines: list[str] = []
    x = float(_MARGIN)
    tails: list[_Node] = []
    last_round: _Node | None = None
    for column in columns:
        if not isinstance(column, list):
            here = _Node(x + _ROUND, middle, _ROUND, _ROUND)
            shapes.append(_round_node(here, column, state))
            lines += [_line(tail, here) for tail in tails]
            tails, last_round = [here], here
            x += 2 * _ROUND + _GAP_X
            continue
        top = middle - (len(column) * (_HEIGHT + _GAP_Y) - _GAP_Y) / 2
        fresh: list[_Node] = []
        for number, task in enumerate(column):
            node = _Node(x + _WIDTH / 2, top + number * (_HEIGHT + _GAP_Y) + _HEIGHT / 2, _WIDTH / 2, _WIDTH / 2)
            fresh.append(node)
            if isinstance(task, str):
                shapes.append(_box(node, task, "", "blocked", task))
                parents: list[_Node] = []
            else:
                nodes[task.id] = node
                shapes.append(_task_node(state, node, task))
                parents = [nodes[key] for key in task.after if key in nodes]
            if not parents and last_round is not None:
                parents = [last_round]
            lines += [_line(parent, node) for parent in parents]
            tails = [tail for tail in tails if tail not in parents]
        tails += fresh
        x += _WIDTH + _GAP_X
    width = x - _GAP_X + _MARGIN
    return _svg(width, height, "Plan graph", [*lines, *shapes])


def timeline(state: RunState, now: datetime) -> str:
    """A bar for every decision and task, from when it could start to its end; pale where it waited for others."""
    tasks = sorted(state.tasks.values(), key=lambda task: narration.ready_at(state, task))
    if not tasks:
        return ""
    shown = tasks[:TIMELINE_ROWS]
    start = min([task.posted_at for task in shown] + ([state.accepted_at] if state.accepted_at else []))
    ends: list[datetime] = [task.ended_at or now for task in shown] + ([state.ended_at] if state.ended_at else [])
    end = max(ends)
    span = max((end - start).total_seconds(), 0.001)
    left, width, row = 190, 560, 20
    height = len(shown) * row + 30

    def at(when: datetime) -> float:
        return left + width * min(1.0, max(0.0, (when - start).total_seconds() / span))

    parts: list[str] = []
    for tick in _ticks(span):
        x = left + width * tick / span
        parts.append(
            f'<line x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{height - 22}" stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{x:.1f}" y="{height - 8}" {_TEXT} font-size="10" text-anchor="middle" opacity=".7">'
            f"{escape(_tick(tick))}</text>"
        )
    for number, task in enumerate(shown):
        parts.append(_bar(state, task, now, number * row + 4, at, left))
    if len(tasks) > len(shown):
        parts.append(
            f'<text x="4" y="{height - 8}" {_TEXT} font-size="10" opacity=".7">and {len(tasks) - len(shown)} more</text>'
        )
    return _svg(left + width + 80, height, "Timeline", parts)


_CURVES = ("#2f86d6", "#e0474c", "#2f9e5f", "#d98a1f", "#b05cc8", "#7a6ff0", "#8a8f98")


def risk_coverage(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each name: share of cases decided wrongly (up) when only so large a share is decided (right)."""
    left, top, width, height = 46, 12, 420, 240
    most = max((risk for curve in curves.values() for _, risk in curve), default=0.0)
    most = max(0.1, round(most + 0.05, 1))
    parts: list[str] = []
    for tick in range(6):
        x, y = left + width * tick / 5, top + height * (1 - tick / 5)
        parts.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" {_TEXT} font-size="10" text-anchor="end">{most * tick / 5:.2f}</text>'
            f'<text x="{x:.1f}" y="{top + height + 14}" {_TEXT} font-size="10" text-anchor="middle">{tick / 5:.1f}</text>'
        )
    for number, (name, curve) in enumerate(curves.items()):
        colour = _CURVES[number % len(_CURVES)]
        points = " ".join(f"{left + width * x:.1f},{top + height * (1 - y / most):.1f}" for x, y in curve)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"><title>{escape(name)}</title>'
            f'</polyline><text x="{left + width + 10}" y="{top + 12 + 16 * number}" font-size="11" '
            f'font-family="system-ui,-apple-system,sans-serif" fill="{colour}">{escape(_cut(name, 20))}</text>'
        )
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 30}" {_TEXT} font-size="11" text-anchor="middle">'
        "share of the cases decided</text>"
    )
    return _svg(left + width + 150, top + height + 40, "Risk by coverage", parts)


def _columns(state: RunState) -> list[int | list[Task | str]]:
    """Round numbers and, behind each, its tasks by depth."""
    called: list[Task | str] = [task for task in state.work if not task.round]
    found: list[int | list[Task | str]] = [called] if called else []
    for turn in state.rounds:
        found.append(turn.number)
        depth: dict[str, int] = {}
        by_depth: dict[int, list[Task | str]] = {}
        pending = [task for task in state.work if task.round == turn.number]
        inside = {task.id for task in pending}
        while pending:
            later: list[Task] = []
            for task in pending:
                needs = [key for key in task.after if key in inside]
                if all(key in depth for key in needs):
                    depth[task.id] = max((depth[key] + 1 for key in needs), default=0)
                    by_depth.setdefault(depth[task.id], []).append(task)
                else:
                    later.append(task)
            if len(later) == len(pending):
                break
            pending = later
        for level in sorted(by_depth):
            column = by_depth[level]
            if len(column) > NODES_IN_COLUMN:
                hidden = len(column) - NODES_IN_COLUMN + 1
                column = [*column[: NODES_IN_COLUMN - 1], f"and {hidden} more"]
            found.append(column)
    return found


def _round_node(node: _Node, number: int, state: RunState) -> str:
    turn = next(turn for turn in state.rounds if turn.number == number)
    answered = state.answer is not None and turn is state.rounds[-1]
    colour = STATE_COLOURS[state.status] if answered and state.status in STATE_COLOURS else "#7a6ff0"
    did = (
        "open requests"
        if turn.attending and not turn.carrying
        else ", ".join(call.name for call in turn.calls) or "answer"
    )
    hint = f"Round {number}: {did} ({narration.tokens(turn.usage)})"
    label = "✔" if answered and state.status == "succeeded" else str(number)
    return (
        f'<g><title>{escape(one_line(hint, 400))}</title><circle cx="{node.x:.1f}" cy="{node.y:.1f}" r="{_ROUND}" '
        f'fill="{colour}" fill-opacity=".2" stroke="{colour}" stroke-width="1.5"/><text x="{node.x:.1f}" '
        f'y="{node.y + 4:.1f}" {_TEXT} font-size="12" font-weight="600" text-anchor="middle">{escape(label)}</text></g>'
    )


def _task_node(state: RunState, node: _Node, task: Task) -> str:
    took = (task.ended_at - narration.ready_at(state, task)).total_seconds() if task.ended_at else None
    kind = "fabrication" if task.kind == "fabrication" else task.capability
    facts = [one_line(kind, 40) if kind != task.key else task.state.replace("_", " ")]
    if took is not None:
        facts.append(seconds(took))
    if task.attempts > 1:
        facts.append(f"{task.attempts} attempts")
    if task.completion is not None and task.completion.taken_over_from:
        facts.append("taken over")
    error = task.completion.error if task.completion else None
    hint = f"{task.key} ({task.capability}): {task.state} {narration.failure(error)} input {one_line(task.input, 200)}"
    return _box(node, one_line(task.key, 60), " · ".join(facts), task.state, hint, dashed=task.kind == "fabrication")


def _box(node: _Node, name: str, note: str, state: str, hint: str, *, dashed: bool = False) -> str:
    colour = STATE_COLOURS.get(state, STATE_COLOURS["blocked"])
    x, y = node.x - _WIDTH / 2, node.y - _HEIGHT / 2
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    high = node.y - 3 if note else node.y + 4
    under = (
        f'<text x="{x + 9:.1f}" y="{node.y + 12:.1f}" {_TEXT} font-size="10" opacity=".75">{escape(_cut(note, 26))}</text>'
        if note
        else ""
    )
    return (
        f'<g><title>{escape(one_line(hint, 400))}</title><rect x="{x:.1f}" y="{y:.1f}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="6" fill="{colour}" fill-opacity=".15" stroke="{colour}" stroke-width="1.5"{dash}/>'
        f'<text x="{x + 9:.1f}" y="{high:.1f}" {_TEXT} font-size="12">{escape(_cut(name, 21))}</text>{under}</g>'
    )


def _line(start: _Node, end: _Node) -> str:
    x1, x2 = start.x + start.right, end.x - end.left
    bend = max(14.0, (x2 - x1) / 2)
    return (
        f'<path d="M{x1:.1f} {start.y:.1f}C{x1 + bend:.1f} {start.y:.1f} {x2 - bend:.1f} {end.y:.1f} {x2:.1f} {end.y:.1f}"'
        ' fill="none" stroke="currentColor" stroke-opacity=".35" stroke-width="1.3"/>'
    )


def _bar(state: RunState, task: Task, now: datetime, y: float, at: _Scale, left: int) -> str:
    colour = "#7a6ff0" if task.kind == "step" and task.state == "succeeded" else STATE_COLOURS[task.state]
    ready, ended = narration.ready_at(state, task), task.ended_at or now
    if task.state == "blocked":
        ready = ended
    name = f"Round {task.round}" if task.kind == "step" else task.key
    posted_x, ready_x, end_x = at(task.posted_at), at(ready), at(ended)
    took = seconds((ended - ready).total_seconds())
    note = f"{took}, {task.attempts} attempts" if task.attempts > 1 else took
    weight = "600" if task.kind == "step" else "400"
    return (
        f"<g><title>{escape(one_line(f'{name}: {task.state}, {note}', 400))}</title>"
        f'<text x="{left - 8}" y="{y + 12:.1f}" {_TEXT} font-size="11" font-weight="{weight}" text-anchor="end">'
        f"{escape(_cut(one_line(name, 60), 28))}</text>"
        f'<rect x="{posted_x:.1f}" y="{y + 6:.1f}" width="{max(0.0, ready_x - posted_x):.1f}" height="4" '
        f'fill="{colour}" fill-opacity=".25"/>'
        f'<rect x="{ready_x:.1f}" y="{y + 2:.1f}" width="{max(2.0, end_x - ready_x):.1f}" height="12" rx="2" '
        f'fill="{colour}" fill-opacity=".75"/>'
        f'<text x="{max(end_x, ready_x + 2) + 6:.1f}" y="{y + 12:.1f}" {_TEXT} font-size="10" opacity=".7">'
        f"{escape(note)}</text></g>"
    )


class _Scale(Protocol):
    """What places a time on the axis."""

    def __call__(self, when: datetime, /) -> float: ...


def _ticks(span: float) -> list[float]:
    step = next(step for step in _steps() if span / step <= 8)
    return [step * number for number in range(int(span / step) + 1)]


def _steps() -> Sequence[float]:
    return [base * 10.0**power for power in range(-3, 8) for base in (1, 2, 5)]


def _tick(value: float) -> str:
    return f"{value:.3g} s" if value < 1000 else f"{value:,.0f} s"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
