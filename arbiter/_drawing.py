"""Pictures as inline SVG: how a run's tasks depend on each other, when each of them ran, and what a matcher risks.

Colour and width are attributes of the elements, not of a style sheet, so the pictures survive the cleaning that
notebooks do and leave the page around them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from typing import Protocol

from arbiter import narration
from arbiter.fold import Round, RunState, Task
from arbiter.following import Followed, Following, followed
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

_SAID = ("timed_out", "delayed", "waiting", "cancelled", "refused")
"""States that their colour does not tell from each other: they are written down."""
_STANDING = {"held": "blocked", "going": "running"}
"""How a step of a plan stands, as the state of a task that looks the same."""

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 150, 36, 44, 12
_ROUND, _MARGIN = 18, 10
_NOTE = 24
"""Longest note in a box."""
_LETTER = 6
"""About how wide one is in a note."""
_TEXT = 'font-family="system-ui,-apple-system,sans-serif" fill="currentColor"'


@dataclass(slots=True)
class _Node:
    x: float
    y: float
    left: float
    """How far to the left of ``x`` lines arrive."""
    right: float


@dataclass(slots=True)
class _Shown:
    """A box: a task, a step of a plan, or what there is no room for."""

    ids: tuple[str, ...]
    """Of the tasks it stands for; of a step its own before."""
    after: tuple[str, ...]
    name: str
    note: str
    state: str
    hint: str
    dashed: bool = False


def plan_graph(state: RunState) -> str:
    """Rounds from left to right, each with its tasks by depth of dependency, and the answer at the end.

    What a plan came to in later rounds, which carried it on, stands with the plan: a step with many tasks is one box.
    """
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
        for number, one in enumerate(column):
            node = _Node(x + _WIDTH / 2, top + number * (_HEIGHT + _GAP_Y) + _HEIGHT / 2, _WIDTH / 2, _WIDTH / 2)
            fresh.append(node)
            shapes.append(_box(node, one))
            parents = [nodes[id] for id in one.after if id in nodes]
            nodes.update(dict.fromkeys(one.ids, node))
            if not parents and last_round is not None:
                parents = [last_round]
            lines += [_line(parent, node) for parent in parents]
            tails = [tail for tail in tails if tail not in parents]
        tails += fresh
        x += _WIDTH + _GAP_X
    width = x - _GAP_X + _MARGIN
    return _svg(width, height, "Plan graph", [*lines, *shapes])


@dataclass(slots=True)
class _Span:
    """A bar of the timeline: pale from when it was posted until it was ready, then until it ended."""

    name: str
    colour: str
    posted: datetime
    ready: datetime
    ended: datetime
    note: str
    hint: str
    bold: bool = False


def timeline(state: RunState, now: datetime) -> str:
    """A bar for every decision and task, from when it could start to its end; pale where it waited for others.

    The tasks of a step of a plan that became many are one bar, and decisions that carried a plan on are left out.
    """
    spans = sorted(_spans(state, now), key=lambda span: span.ready)
    if not spans:
        return ""
    shown = spans[:TIMELINE_ROWS]
    start = min([one.posted for one in shown] + ([state.accepted_at] if state.accepted_at else []))
    end = max([one.ended for one in shown] + ([state.ended_at] if state.ended_at else []))
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
    parts += [_bar(one, number * row + 4, at, left) for number, one in enumerate(shown)]
    if len(spans) > len(shown):
        parts.append(
            f'<text x="4" y="{height - 8}" {_TEXT} font-size="10" opacity=".7">and {len(spans) - len(shown)} more</text>'
        )
    beside = max(80, 12 + _LETTER * max(len(one.note) for one in shown))
    return _svg(left + width + beside, height, "Timeline", parts)


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


def _columns(state: RunState) -> list[int | list[_Shown]]:
    """Round numbers and, behind each, its tasks by depth."""
    found: list[int | list[_Shown]] = []
    if called := [_task(state, task) for task in state.work if not task.round]:
        found.append(called)
    plans = _carried(state)
    for turn in state.rounds:
        if turn.carrying:
            continue
        found.append(turn.number)
        for column in _by_depth(_in_round(state, turn, plans.get(turn.number))):
            hidden = len(column) - NODES_IN_COLUMN + 1
            left = f"and {hidden} more"
            found.append(
                column if hidden < 2 else [*column[: NODES_IN_COLUMN - 1], _Shown((), (), left, "", "blocked", left)]
            )
    return found


def _carried(state: RunState) -> dict[int, Following]:
    """The plans that later rounds carried on, by the round they began with."""
    return {plan.turn.number: plan for plan in followed(state) if any(turn.carrying for turn in plan.after)}


def _in_round(state: RunState, turn: Round, plan: Following | None) -> list[_Shown]:
    steps = {} if plan is None else plan.steps
    own = {task.id for one in steps.values() for task in one.tasks}
    found = [_task(state, task) for task in state.work if task.round == turn.number and task.id not in own]
    for key, one in steps.items():
        after = tuple(f"{turn.number} {name}" for name in plan.plan.waits(key)) if plan is not None else ()
        shown = _task(state, one.tasks[0]) if len(one.tasks) == 1 and not one.source.many else _step(one)
        found.append(replace(shown, ids=(f"{turn.number} {key}", *shown.ids), after=after))
    return found


def _by_depth(pending: list[_Shown]) -> list[list[_Shown]]:
    inside = {id for one in pending for id in one.ids}
    depth: dict[str, int] = {}
    columns: dict[int, list[_Shown]] = {}
    while pending:
        later: list[_Shown] = []
        for one in pending:
            needs = [id for id in one.after if id in inside]
            if all(id in depth for id in needs):
                deep = max((depth[id] + 1 for id in needs), default=0)
                depth.update(dict.fromkeys(one.ids, deep))
                columns.setdefault(deep, []).append(one)
            else:
                later.append(one)
        if len(later) == len(pending):
            break
        pending = later
    return [columns[level] for level in sorted(columns)]


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


def _task(state: RunState, task: Task) -> _Shown:
    took = (task.ended_at - narration.ready_at(state, task)).total_seconds() if task.ended_at else None
    kind = "fabrication" if task.kind == "fabrication" else task.capability
    stands = "waits for a person" if task.for_person is not None else task.state.replace("_", " ")
    taken = task.completion is not None and task.completion.taken_over_from
    rest = ["taken over"] if taken else [seconds(took)] if took is not None else []
    if task.attempts > 1:
        rest.append(f"{task.attempts} attempts")
    first = stands if kind == task.key or task.state in _SAID else one_line(kind, 40)
    facts = [_cut(first, max(8, _NOTE - sum(len(one) + 3 for one in rest))), *rest]
    error = task.completion.error if task.completion else None
    hint = f"{task.key} ({task.capability}): {task.state} {narration.failure(error)} input {one_line(task.input, 200)}"
    name, dashed = one_line(task.key, 60), task.kind == "fabrication"
    return _Shown((task.id,), task.after, name, " · ".join(facts), task.state, hint, dashed)


def _step(one: Followed) -> _Shown:
    """A step of a plan that is no task, or many."""
    standing = {"held": "not yet", "going": "at work"}.get(one.standing, one.standing)
    note = standing if one.said is None or not one.said.items else _items(one)
    why = "" if one.said is None else one.said.why
    ids = tuple(task.id for task in one.tasks)
    hint = f"{one.step.key} ({one.step.capability}): {standing} {why}"
    return _Shown(ids, (), one_line(one.step.key, 60), note, _STANDING.get(one.standing, one.standing), hint)


def _items(one: Followed) -> str:
    """How many of a step's items have ended."""
    items = one.said.items if one.said is not None else 0
    failed = f", {len(one.failures)} failed" if one.failures else ""
    return f"{sum(task.done for task in one.tasks)} of {items}{failed}"


def _box(node: _Node, one: _Shown) -> str:
    colour = STATE_COLOURS.get(one.state, STATE_COLOURS["blocked"])
    x, y = node.x - _WIDTH / 2, node.y - _HEIGHT / 2
    dash = ' stroke-dasharray="5 3"' if one.dashed else ""
    high = node.y - 3 if one.note else node.y + 4
    under = (
        f'<text x="{x + 9:.1f}" y="{node.y + 12:.1f}" {_TEXT} font-size="10" opacity=".75">{escape(_cut(one.note, _NOTE))}</text>'
        if one.note
        else ""
    )
    return (
        f'<g><title>{escape(one_line(one.hint, 400))}</title><rect x="{x:.1f}" y="{y:.1f}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="6" fill="{colour}" fill-opacity=".15" stroke="{colour}" stroke-width="1.5"{dash}/>'
        f'<text x="{x + 9:.1f}" y="{high:.1f}" {_TEXT} font-size="12">{escape(_cut(one.name, 21))}</text>{under}</g>'
    )


def _line(start: _Node, end: _Node) -> str:
    x1, x2 = start.x + start.right, end.x - end.left
    bend = max(14.0, (x2 - x1) / 2)
    return (
        f'<path d="M{x1:.1f} {start.y:.1f}C{x1 + bend:.1f} {start.y:.1f} {x2 - bend:.1f} {end.y:.1f} {x2:.1f} {end.y:.1f}"'
        ' fill="none" stroke="currentColor" stroke-opacity=".35" stroke-width="1.3"/>'
    )


def _spans(state: RunState, now: datetime) -> list[_Span]:
    many = [one for plan in _carried(state).values() for one in plan.steps.values() if len(one.tasks) > 1]
    together = {task.id for one in many for task in one.tasks}
    carrying = {turn.number for turn in state.rounds if turn.carrying}
    found = [
        _span(state, task, now)
        for task in state.tasks.values()
        if task.id not in together and not (task.kind == "step" and task.round in carrying)
    ]
    for one in many:
        parts = [_span(state, task, now) for task in one.tasks]
        posted, ready, ended = (
            min(part.posted for part in parts), min(part.ready for part in parts), max(part.ended for part in parts)
        )  # fmt: skip
        name, note = one_line(one.step.key, 60), f"{seconds((ended - ready).total_seconds())}, {_items(one)}"
        colour = STATE_COLOURS[_STANDING.get(one.standing, one.standing)]
        found.append(_Span(name, colour, posted, ready, ended, note, f"{name}: {one.standing}, {note}"))
    return found


def _span(state: RunState, task: Task, now: datetime) -> _Span:
    step = task.kind == "step"
    colour = "#7a6ff0" if step and task.state == "succeeded" else STATE_COLOURS[task.state]
    ready, ended = narration.ready_at(state, task), task.ended_at or now
    took = seconds((ended - ready).total_seconds())
    note = f"{took}, {task.attempts} attempts" if task.attempts > 1 else took
    if task.state == "blocked":
        ready, note = ended, ""
    name = f"Round {task.round}" if step else task.key
    return _Span(
        one_line(name, 60), colour, task.posted_at, ready, ended, note, f"{name}: {task.state}, {note}", bold=step
    )


def _bar(one: _Span, y: float, at: _Scale, left: int) -> str:
    posted_x, ready_x, end_x = at(one.posted), at(one.ready), at(one.ended)
    return (
        f"<g><title>{escape(one_line(one.hint, 400))}</title>"
        f'<text x="{left - 8}" y="{y + 12:.1f}" {_TEXT} font-size="11" font-weight="{600 if one.bold else 400}" '
        f'text-anchor="end">{escape(_cut(one.name, 28))}</text>'
        f'<rect x="{posted_x:.1f}" y="{y + 6:.1f}" width="{max(0.0, ready_x - posted_x):.1f}" height="4" '
        f'fill="{one.colour}" fill-opacity=".25"/>'
        f'<rect x="{ready_x:.1f}" y="{y + 2:.1f}" width="{max(2.0, end_x - ready_x):.1f}" height="12" rx="2" '
        f'fill="{one.colour}" fill-opacity=".75"/>'
        f'<text x="{max(end_x, ready_x + 2) + 6:.1f}" y="{y + 12:.1f}" {_TEXT} font-size="10" opacity=".7">'
        f"{escape(one.note)}</text></g>"
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
