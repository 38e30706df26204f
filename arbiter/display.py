"""Runs as notebooks show them: an HTML fragment with a plan graph, a timeline and a table, and the same as text.

The fragment is complete in itself: no script, no style sheet, nothing from the network. It takes the notebook's text
colour and draws with half-transparent fills, so it reads on light and on dark. All text in it is escaped: requests,
answers and errors come from models and from generated code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from pydantic import JsonValue

from arbiter import narration
from arbiter._drawing import STATE_COLOURS, plan_graph, timeline
from arbiter.fold import RunState, Task
from arbiter.narration import one_line, printable, seconds
from blackboard.dead_letters import Letter, Page
from blackboard.types import RunSummary

if TYPE_CHECKING:
    from arbiter.overview import CapabilityRow

TABLE_ROWS = 200
"""Longest table of tasks; what is left out is said."""
TEXT_ROWS = 20
"""Longest list of tasks as text: those that did not succeed come first into it."""
_ANSWER_CHARACTERS = 20_000

_FONT = (
    "font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:13px;line-height:1.45;overflow-wrap:anywhere"
)
_CELL = "padding:3px 10px 3px 0;text-align:left;vertical-align:top;border:0;background:transparent"
_HEAD = f"{_CELL};white-space:nowrap;font-weight:600;border-bottom:1px solid rgba(128,128,128,.5)"
_MONO = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px"


def run_html(state: RunState) -> str:
    """A run as an HTML fragment: how it ended, its answer, plan graph, timeline and tasks.

    Args:
        state: what the log says; a run that is not over is shown as far as it is.
    """
    parts = [
        f'<div class="arbiter-run" style="{_FONT}">',
        f'<div>{_badge(state.status)} <b>Run</b> <code style="{_MONO};background:transparent">'
        f"{_text(state.run_id, 64)}</code> "
        f'<span style="opacity:.75">{" · ".join(escape(part) for part in _facts(state))}</span></div>',
        f'<div style="opacity:.75;margin:2px 0 6px">{escape(narration.asked(state.request, state.call, 300))}</div>',
    ]
    if narration.foreign(state.taint):
        parts.append(f'<div style="opacity:.75">From {escape(narration.sources(state.taint))}</div>')
    parts += [
        f'<div style="color:{STATE_COLOURS["delayed"]}">{_text(task.key, 64)} {_text(narration.for_person(asked), 1000)}</div>'
        for task in state.work
        if (asked := task.for_person) is not None
    ]
    parts += [
        f'<div style="color:{STATE_COLOURS["waiting"]}">{_text(task.key, 64)} {_text(narration.for_outside(awaited), 1000)}</div>'
        for task in state.work
        if (awaited := task.for_outside) is not None
    ]
    if state.error is not None:
        parts.append(
            f'<div style="color:{STATE_COLOURS["failed"]}">{_text(narration.failure(state.error, 1000), 1000)}</div>'
        )
    said = state.answer or (None if state.data is None else _whole(state.data))
    if said:
        parts.append(
            '<pre style="white-space:pre-wrap;overflow-wrap:anywhere;max-height:30em;overflow:auto;margin:6px 0;'
            "padding:8px 12px;color:inherit;"
            f'background:rgba(128,128,128,.12);border-left:3px solid {STATE_COLOURS["succeeded"]};{_MONO}">'
            f"{_block(said)}</pre>"
        )
    if state.rounds or state.work:
        parts += [_figure("Plan", plan_graph(state)), _figure("Timeline", timeline(state, known_until(state)))]
    if state.work:
        parts.append(_figure(f"Tasks ({len(state.work)})", _tasks(state), opened=len(state.work) <= 12))
    return "".join([*parts, "</div>"])


def run_text(state: RunState) -> str:
    """A run as plain text: how it ended, its tasks, its answer."""
    lines = [f"Run {one_line(state.run_id, 64)}: {narration.summary(state)}"]
    if narration.foreign(state.taint):
        lines.append(f"  from {narration.sources(state.taint)}")
    if state.error is not None:
        lines.append(f"  {narration.failure(state.error, 300)}")
    first = sorted(state.work, key=lambda task: task.state in ("succeeded", "cancelled"))[:TEXT_ROWS]
    shown = {task.id for task in first}
    for task in [task for task in state.work if task.id in shown]:
        took = narration.busy_seconds(state, task, known_until(state))
        spent = "" if took is None else f"  {seconds(took)}"
        name = f"{task.round}.{one_line(task.key, 64)}" if task.round else one_line(task.capability, 64)
        waits = f"  {narration.for_person(task.for_person)}" if task.for_person is not None else ""
        waits += f"  {narration.for_outside(task.for_outside)}" if task.for_outside is not None else ""
        lines.append(f"  {name}  {task.state}{spent}{waits}")
    if len(state.work) > TEXT_ROWS:
        lines.append(f"  and {len(state.work) - TEXT_ROWS} more")
    if state.answer:
        lines += ["", printable(state.answer)]
    elif state.data is not None:
        lines += ["", printable(_whole(state.data))]
    return "\n".join(lines)


def run_bundle(state: RunState) -> dict[str, str]:
    """A run for ``_repr_mimebundle_``: HTML for notebooks, text for everything else."""
    return {"text/html": run_html(state), "text/plain": run_text(state)}


def runs_html(runs: Iterable[RunSummary]) -> str:
    """A listing of runs as an HTML table, in the order given."""
    rows = [
        [
            f'<code style="{_MONO};background:transparent">{_text(run.id, 64)}</code>',
            _badge(run.status),
            escape(datetime.fromtimestamp(run.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")),
            escape(seconds(run.ended_at - run.created_at)) if run.ended_at is not None else "",
            str(run.round),
            str(run.tasks),
            _text(run.tenant, 64),
            _text(run.request, 120),
        ]
        for run in runs
    ]
    table = _table(("Run", "Status", "Accepted", "Took", "Rounds", "Tasks", "Tenant", "Request"), rows)
    return f'<div class="arbiter-runs" style="{_FONT};overflow-x:auto">{table}</div>'


def runs_text(runs: Iterable[RunSummary]) -> str:
    """A listing of runs as text, one line each."""
    lines = [f"{one_line(run.id, 64)}  {run.status:<10}  {one_line(run.request, 80)}" for run in runs]
    return "\n".join(lines) or "no runs"


def letters_html(letters: Iterable[Letter]) -> str:
    """Dead letters as an HTML table, in the order given."""
    rows = [
        [
            f'<code style="{_MONO};background:transparent">{_text(letter.id, 128)}</code>',
            _badge(letter.status),
            escape(datetime.fromtimestamp(letter.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")),
            escape(letter.kind),
            _text(letter.capability or "", 64),
            _text(letter.type, 64),
            str(letter.attempts or ""),
            _text(letter.tenant, 64),
            _text(letter.redriven_as or "", 64),
        ]
        for letter in letters
    ]
    head = ("Letter", "Status", "Given up", "Kind", "Capability", "Type", "Attempts", "Tenant", "Redriven as")
    return f'<div class="arbiter-letters" style="{_FONT};overflow-x:auto">{_table(head, rows)}</div>'


def letters_text(letters: Iterable[Letter]) -> str:
    """Dead letters as text, one line each."""
    lines = [
        f"{one_line(letter.id, 128)}  {letter.status:<9}  {one_line(f'{letter.capability or letter.kind} {letter.type}', 120)}"
        for letter in letters
    ]
    return "\n".join(lines) or "no dead letters"


def capabilities_html(rows: Iterable[CapabilityRow]) -> str:
    """Capabilities as an HTML table, in the order given."""
    cells = [
        [
            f'<code style="{_MONO};background:transparent">{_text(row.name, 64)}</code>',
            _text(f"{row.sha[:12]} of {row.versions}" if row.versions > 1 else row.sha[:12], 64),
            _badge(row.state),
            _text(row.kind, 16),
            _text(row.effects, 16),
            str(row.calls or ""),
            escape(percent(row.success)),
            escape(seconds(row.seconds)) if row.seconds is not None else "",
            f"{row.tokens:,.0f}" if row.tokens else "",
            _text(row.health, 16),
            _text(row.description, 200) + (f'<div style="opacity:.75">{_text(row.why, 400)}</div>' if row.why else ""),
        ]
        for row in rows
    ]
    table = _table(CAPABILITY_HEAD, cells)
    return f'<div class="arbiter-capabilities" style="{_FONT};overflow-x:auto">{table}</div>'


CAPABILITY_HEAD = (
    "Name", "Version", "State", "Kind", "Effects", "Calls", "Success", "Takes", "Tokens", "Health", "Description",
)  # fmt: skip


def percent(share: float | None) -> str:
    """A share as people read it; empty for None."""
    return "" if share is None else f"{100 * share:.0f} %"


def capabilities_text(rows: Iterable[CapabilityRow]) -> str:
    """Capabilities as text, one line each."""
    lines = [
        f"{one_line(row.name, 64)}  {row.state:<8}  {row.health:<8}  {row.calls} calls {percent(row.success)}".rstrip()
        for row in rows
    ]
    return "\n".join(lines) or "no capabilities"


class Letters(Page):
    """A page of dead letters that notebooks show as a table."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": letters_html(self.letters), "text/plain": letters_text(self.letters)}


class Runs(list[RunSummary]):
    """A list of runs that notebooks show as a table."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": runs_html(self), "text/plain": runs_text(self)}


def _facts(state: RunState) -> list[str]:
    took = [seconds(state.seconds)] if state.seconds is not None else []
    models = dict.fromkeys(one_line(turn.model, 200) for turn in state.rounds if turn.model)
    return [*took, *narration.totals(state), *models]


def known_until(state: RunState) -> datetime:
    """The end of what is known, so that the display of a stored run does not change with the clock."""
    times = [task.ended_at or task.posted_at for task in state.tasks.values()]
    times += [turn.at for turn in state.rounds]
    times += [at for at in (state.ended_at, state.accepted_at) if at is not None]
    return max(times, default=datetime.fromtimestamp(0, UTC))


def _tasks(state: RunState) -> str:
    rows = [_task_cells(state, task) for task in state.work[:TABLE_ROWS]]
    table = _table(("Round", "Task", "Capability", "Status", "Attempts", "Took", "Tokens", "Result"), rows)
    left = len(state.work) - TABLE_ROWS
    return table + (f"<div>and {left} more</div>" if left > 0 else "")


def _task_cells(state: RunState, task: Task) -> list[str]:
    took = narration.busy_seconds(state, task, known_until(state))
    done = task.completion
    used = done.usage.total_tokens if done is not None else 0
    return [
        str(task.round or ""),
        _text(task.key, 64),
        _text(task.capability, 64),
        _badge(task.state),
        "taken over" if done is not None and done.taken_over_from else str(task.attempts or ""),
        escape(seconds(took)) if took is not None else "",
        f"{used:,}" if used else "",
        _result(task) + _stages(task),
    ]


def _result(task: Task) -> str:
    done = task.completion
    if done is None:
        return _text(narration.failure(task.retries[-1]), 200) if task.retries else ""
    if done.error is not None:
        why = f'<span style="color:{STATE_COLOURS["failed"]}">{_text(narration.failure(done.error, 300), 300)}</span>'
        said = narration.trace(done.error)
        return _folded(why, said) if said else why
    short = _text(done.data, 80)
    full = _whole(done.data)
    if len(full) <= 80:
        return f'<span style="{_MONO}">{short}</span>'
    return _folded(short, full)


def _folded(short: str, full: str) -> str:
    """What can be unfolded: ``short`` is HTML, ``full`` is text."""
    return (
        f'<details><summary style="cursor:pointer;{_MONO}">{short}</summary>'
        f'<pre style="white-space:pre-wrap;max-height:20em;overflow:auto;color:inherit;background:transparent;{_MONO}">'
        f"{_block(full)}</pre></details>"
    )


def _whole(data: JsonValue) -> str:
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=1)


def _stages(task: Task) -> str:
    return "".join(
        f"<div>{_badge(stage.outcome)} {escape(narration.stage_name(stage))}"
        f"{f' in {escape(seconds(stage.seconds))}' if stage.seconds else ''} "
        f'<span style="opacity:.75">{_text(stage.detail, 300)}</span></div>'
        for stage in narration.stages(task)
    )


def _figure(title: str, content: str, *, opened: bool = True) -> str:
    return (
        f'<details{" open" if opened else ""} style="margin:6px 0"><summary style="cursor:pointer;font-weight:600">'
        f'{escape(title)}</summary><div style="overflow-x:auto;padding-top:4px">{content}</div></details>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are HTML already."""
    top = "".join(f'<th style="{_HEAD}">{escape(name)}</th>' for name in head)
    body = "".join(f'<tr style="background:transparent">{_cells(row)}</tr>' for row in rows)
    style = "border-collapse:collapse;color:inherit;margin:0;font-size:inherit"
    return f'<table style="{style}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _cells(row: Sequence[str]) -> str:
    """The cells of a row; only the last one breaks its lines."""
    *short, last = row
    kept = "".join(f'<td style="{_CELL};white-space:nowrap">{cell}</td>' for cell in short)
    return f'{kept}<td style="{_CELL};min-width:18em">{last}</td>'


def _badge(state: str) -> str:
    colour = STATE_COLOURS.get(state, STATE_COLOURS["blocked"])
    return (
        f'<span style="white-space:nowrap;padding:0 6px;border:1px solid {colour};border-radius:8px;'
        f'background:{colour}26">{_text(state.replace("_", " "), 32)}</span>'
    )


def _text(value: JsonValue, limit: int) -> str:
    return escape(one_line(value, limit))


def _block(text: str) -> str:
    shown = printable(text)
    if len(shown) > _ANSWER_CHARACTERS:
        shown = f"{shown[:_ANSWER_CHARACTERS]}\n… {len(shown) - _ANSWER_CHARACTERS:,} more characters"
    return escape(shown)
