"""Progress of a run on the terminal: a view that is redrawn when there is a terminal, timestamped lines otherwise.

The view is a pure function of the run's state and the time, so what is shown can be tested without a terminal. It fits
the screen: rounds that are over shrink to one line first, then long lists of tasks are cut, unfinished tasks last.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from arbiter import narration
from arbiter.fold import Round, RunState, Task
from arbiter.narration import one_line, seconds
from blackboard.events import Call, Event, FabricationStageData

FRAMES_A_SECOND = 10.0
WIDTH = 120
"""Widest view; on a wider screen the columns would drift apart."""

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_LOOK: dict[str, tuple[str, str, str]] = {
    "succeeded": ("✔", "+", "green"),
    "passed": ("✔", "+", "green"),
    "failed": ("✘", "x", "red"),
    "refused": ("⊘", "!", "magenta"),
    "timed_out": ("✘", "T", "yellow"),
    "cancelled": ("⊘", "-", "bright_black"),
    "skipped": ("↷", "-", "bright_black"),
    "running": ("", "*", "cyan"),
    "started": ("", "*", "cyan"),
    "queued": ("", "*", "cyan"),
    "cancelling": ("", "*", "yellow"),
    "paused": ("‖", "=", "yellow"),
    "ready": ("○", "o", "blue"),
    "delayed": ("↻", "~", "yellow"),
    "waiting": ("◷", "w", "yellow"),
    "blocked": ("·", ".", "bright_black"),
    "answered": ("↩", "=", "bright_black"),
    "plan": ("◆", "#", "bold"),
}
"""State to mark, mark without Unicode, and colour; no mark means that it turns."""


@dataclass(slots=True)
class Row:
    """One line of the view."""

    state: str
    name: str
    note: str = ""
    attempts: int = 0
    seconds: float | None = None
    indent: int = 1


@dataclass(slots=True)
class Section:
    """One round: its own line, its tasks, and the line that stands for both."""

    head: Row
    rows: list[Row] = field(default_factory=list[Row])
    brief: str = ""
    open: bool = False


def sections(state: RunState, now: datetime) -> list[Section]:
    """The rounds of a run as rows, the decision being taken included."""
    steps = {task.round: task for task in state.tasks.values() if task.kind == "step"}
    found = [_called(state, task, now) for task in state.work if not task.round]
    for turn in state.rounds:
        tasks = [task for task in state.work if task.round == turn.number]
        step = steps.pop(turn.number, None)
        head = Row("plan", f"Round {turn.number}", _decision(turn), indent=0)
        if step is not None:
            head.seconds = narration.busy_seconds(state, step, now)
            head.attempts = step.attempts
        section = Section(head, brief=_brief(tasks), open=any(not task.done for task in tasks))
        for task in tasks:
            section.rows += _task_rows(state, task, now)
        section.rows += [_answered(call) for call in turn.calls if not call.tasks]
        found.append(section)
    found += [Section(_asking(state, step, now), open=not step.done) for step in steps.values()]
    return found


def fitted(parts: list[Section], lines: int) -> list[Row]:
    """The rows of all sections in at most ``lines`` rows: the oldest finished rounds shrink first."""
    room = lines - sum(1 + len(part.rows) for part in parts)
    rows: list[Row] = []
    for part in parts:
        if room < 0 and not part.open and part.rows:
            room += len(part.rows)
            rows.append(Row(part.head.state, part.head.name, part.brief, part.head.attempts, part.head.seconds, 0))
            continue
        kept = part.rows
        if room < 0 and len(kept) > 4:
            keep = max(3, len(kept) + room - 1)
            order = sorted(range(len(kept)), key=lambda i, k=kept: (_calm(k[i]), i))[:keep]
            hidden = len(kept) - len(order)
            kept = [kept[i] for i in sorted(order)] + [Row("blocked", f"and {hidden} more")]
            room += hidden - 1
        rows += [part.head, *kept]
    if len(rows) > lines > 1:
        cut = len(rows) - lines + 1
        rows = [Row("blocked", f"{cut} earlier lines", indent=0), *rows[cut:]]
    return rows


def state_style(state: str) -> str:
    """The colour of a state, as a rich style."""
    return _LOOK.get(state, ("", "", "default"))[2]


def view(state: RunState, now: datetime, *, lines: int = 10_000, ascii_only: bool = False) -> RenderableType:
    """Everything about a run: who it is, its rounds and tasks, and one line of totals.

    Args:
        state: what the log says so far.
        now: time on the server's clock, for durations of what is not over.
        lines: rows there is room for.
        ascii_only: use no characters beyond ASCII for marks.
    """
    elapsed = state.seconds
    if elapsed is None and state.accepted_at is not None:
        elapsed = max(0.0, (now - state.accepted_at).total_seconds())
    style = state_style(state.status)
    title = Text.assemble(("Run ", "bold"), (one_line(state.run_id, 40), "bold"), "  ")
    title.append(narration.asked(state.request, state.call, 200) if state.accepted_at else "", "bright_black")
    title.no_wrap, title.overflow = True, "ellipsis"
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=44)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1, style="bright_black")
    grid.add_column(no_wrap=True, justify="right", style="yellow")
    grid.add_column(no_wrap=True, justify="right", min_width=8)
    grid.expand = True
    for row in fitted(sections(state, now), max(3, lines - 3)):
        grid.add_row(*_cells(row, now, ascii_only))
    foot = Text.assemble((_mark(state.status, now, ascii_only) + " ", style), (state.status, f"bold {style}"), "  ")
    dot = "  -  " if ascii_only else "  ·  "
    foot.append(dot.join([*([seconds(elapsed)] if elapsed is not None else []), *narration.totals(state)]))
    foot.no_wrap, foot.overflow = True, "ellipsis"
    parts: list[RenderableType] = [title, grid, foot]
    if state.done and state.error is not None:
        parts.append(Text(narration.failure(state.error, 600), "red"))
    return Constrain(Group(*parts), WIDTH)


class Progress:
    """Shows runs while their events come in. Use it as a context manager.

    Args:
        console: where to draw. Default: standard error.
        plain: timestamped lines instead of a view. Default: when the console is no terminal.
        quiet: show nothing and only keep the states.
    """

    def __init__(self, console: Console | None = None, *, plain: bool | None = None, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._plain = (not self.console.is_terminal or self.console.is_dumb_terminal) if plain is None else plain
        self._quiet = quiet
        self._screen: Screen | None = None
        self.states: dict[str, RunState] = {}
        """What is known of each run that was shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def follow(self, run_id: str, stream: AsyncIterator[Event]) -> RunState:
        """Show one run until its events end.

        Args:
            run_id: the run.
            stream: its typed events, as ``Arbiter.stream`` and ``Board.watch`` give them.

        Returns:
            The run's state after the last event.
        """
        state = self.states.setdefault(run_id, RunState(run_id))
        async with self._drawn(state):
            async for event in stream:
                self.show(event)
        return state

    def show(self, event: Event) -> None:
        """Take in one event and, without a terminal, print its line."""
        known = self.states.setdefault(event.run_id, RunState(event.run_id))
        known.apply(event)
        if self._plain and not self._quiet and (line := narration.narrate(event)) is not None:
            self.console.print(
                narration.timestamped(event, line), markup=False, highlight=False, soft_wrap=True, no_wrap=True
            )

    @contextlib.asynccontextmanager
    async def _drawn(self, state: RunState) -> AsyncGenerator[None, None]:
        if self._plain or self._quiet:
            yield
            if not self._quiet:
                self.console.print(narration.summary(state), markup=False, highlight=False, soft_wrap=True)
            return
        self._screen = Screen(console=self.console, auto_refresh=False, transient=True)
        self._screen.start()
        ticker = asyncio.create_task(self._tick(state))
        try:
            yield
        finally:
            ticker.cancel()
            self._stop()
            # The last frame is printed whole: nothing has to fit the screen any more.
            self.console.print(self._frame(state, lines=10_000))

    async def _tick(self, state: RunState) -> None:
        while self._screen is not None:
            self._screen.update(self._frame(state, self.console.height - 1), refresh=True)
            await asyncio.sleep(1 / FRAMES_A_SECOND)

    def _frame(self, state: RunState, lines: int) -> RenderableType:
        return view(state, datetime.now(UTC), lines=lines, ascii_only=self.console.options.ascii_only)

    def _stop(self) -> None:
        if self._screen is not None:
            self._screen.stop()
            self._screen = None


def _decision(turn: Round) -> str:
    names = [one_line(call.name, 40) for call in turn.calls]
    said = f"calls {', '.join(names)}" if names else "answers"
    if turn.attending:
        said = "carries the plan on" if turn.carrying else "attends to open requests"
    return f"{said}  ({narration.tokens(turn.usage)})" if turn.usage.total_tokens else said


def _brief(tasks: list[Task]) -> str:
    counts: dict[str, int] = {}
    for task in tasks:
        counts[task.state] = counts.get(task.state, 0) + 1
    return ", ".join(f"{number} {state}" for state, number in counts.items())


def _task_rows(state: RunState, task: Task, now: datetime) -> list[Row]:
    names = [one_line(task.key, 64)]
    if task.kind == "fabrication":
        names.append("fabrication")
    elif task.capability != task.key:
        names.append(one_line(task.capability, 64))
    row = Row(
        task.state,
        names[0],
        attempts=task.attempts,
        seconds=narration.busy_seconds(state, task, now) if task.state != "ready" or task.attempts else None,
    )
    notes = names[1:]
    done = task.completion
    if done is not None and done.taken_over_from is not None:
        notes.append(narration.taken_over(done.taken_over_from))
    if done is not None and done.error is not None:
        notes.append(narration.failure(done.error))
    elif done is not None and done.data is not None and task.kind != "fabrication":
        notes.append(one_line(done.data, 160))
    elif task.for_person is not None:
        notes.append(narration.for_person(task.for_person))
    elif task.for_outside is not None:
        notes.append(narration.for_outside(task.for_outside))
    elif task.state == "delayed" and task.retries:
        notes.append(f"again soon, after {narration.failure(task.retries[-1])}")
    elif task.state == "ready":
        notes.append("waiting for a worker")
    elif task.state == "blocked":
        waits = [state.tasks[key].key for key in task.after if key in state.tasks and not state.tasks[key].done]
        notes.append(f"waits for {one_line(', '.join(waits), 80)}")
    row.note = "  ".join(notes)
    return [row, *(_stage_row(stage, task) for stage in narration.stages(task))]


def _stage_row(stage: FabricationStageData, task: Task) -> Row:
    outcome = stage.outcome
    shown = task.state if outcome == "started" and task.done else outcome
    return Row(shown, narration.stage_name(stage), one_line(stage.detail, 160), seconds=stage.seconds or None, indent=2)


def _called(state: RunState, task: Task, now: datetime) -> Section:
    head, *rows = _task_rows(state, task, now)
    head.name, head.note, head.indent = one_line(task.capability, 64), head.note.partition("  ")[2], 0
    return Section(head, rows, open=not task.done)


def _answered(call: Call) -> Row:
    state = "answered" if call.valid else "failed"
    return Row(state, one_line(call.name, 64), one_line(call.answer, 160) if call.answer is not None else "")


def _asking(state: RunState, step: Task, now: datetime) -> Row:
    row = Row(step.state, f"Round {step.round}", indent=0, attempts=step.attempts)
    row.seconds = narration.busy_seconds(state, step, now)
    if step.completion is not None:
        row.note = narration.failure(step.completion.error) or step.state
    elif step.state == "delayed" and step.retries:
        row.note = f"asks again soon, after {narration.failure(step.retries[-1])}"
    else:
        row.note = (
            "asking the model" if step.state == "running" else "waiting for a process that plans, such as arbiter serve"
        )
    return row


def _calm(row: Row) -> int:
    """0 for what deserves a line most."""
    order = {
        "running": 0,
        "started": 0,
        "delayed": 0,
        "waiting": 0,
        "failed": 1,
        "timed_out": 1,
        "refused": 1,
        "ready": 2,
    }
    return order.get(row.state, 4 if row.state in ("succeeded", "passed") else 3)


def _mark(state: str, now: datetime, ascii_only: bool) -> str:
    mark, plain, _ = _LOOK.get(state, ("?", "?", ""))
    if ascii_only:
        return plain
    return mark or _SPINNER[int(now.timestamp() * FRAMES_A_SECOND) % len(_SPINNER)]


def _cells(row: Row, now: datetime, ascii_only: bool) -> tuple[Text, Text, Text, Text]:
    style = state_style(row.state)
    name_style = "bold" if row.indent == 0 else "bright_black" if row.indent == 2 else "default"
    name = Text.assemble("  " * row.indent, (_mark(row.state, now, ascii_only), style), " ", (row.name, name_style))
    note_style = "red" if row.state in ("failed", "timed_out", "refused") else "bright_black"
    tries = f"attempt {row.attempts}" if row.attempts > 1 else ""
    took = seconds(row.seconds) if row.seconds is not None else ""
    return name, Text(row.note, note_style), Text(tries), Text(took, "bright_black" if row.indent == 2 else "default")
