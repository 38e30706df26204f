"""The terminal's view of a run: what it shows, that it fits, and that nothing shown can control the terminal."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from runlog import RUN, Log, order

from arbiter import narration
from arbiter.fold import RunState, fold
from arbiter.live import Progress, view
from blackboard.events import Event


def drawn(state: RunState, log: Log, **options: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, highlight=False)
    console.print(view(state, log.events[-1].time, **options))  # type: ignore[arg-type]
    return out.getvalue()


def wide(tasks: int, running: int) -> Log:
    """A round with many tasks, of which the last ones are running."""
    log = Log().accepted("many").step(1)
    log.planned(1, [{"name": "post_plan", "tasks": [f"1.t{n}" for n in range(tasks)]}])
    for n in range(tasks):
        log.posted(f"1.t{n}", "work")
    for n in range(tasks):
        log.claimed(f"1.t{n}", "work")
    for n in range(tasks - running):
        log.completed(f"1.t{n}", "work")
    return log


async def stream(events: Iterable[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


def test_the_view_shows_rounds_tasks_attempts_stages_tokens_and_time() -> None:
    log = order()
    shown = drawn(fold(log.run_id, log.events), log)
    lines = [" ".join(line.split()) for line in shown.splitlines()]

    assert lines[0].startswith(f"Run {RUN}")
    assert "cheesecake" in lines[0]
    assert any(line.startswith("◆ Round 1 calls fries, request_capability") for line in lines)
    assert any(
        line.startswith("✔ cake cheesecake") and "attempt 2" in line and line.endswith("1.03 s") for line in lines
    )
    assert "✘ exam case 3: 2 cakes, not 1 0.40 s" in lines
    assert "✔ exam (repair 1) 5 of 5 public, 4 of 4 sealed 0.40 s" in lines
    assert lines[-1].startswith("✔ succeeded")
    assert "3 rounds · 4 tasks · 1 fabrication · 1 attempt repeated · ~1,350 tokens" in lines[-1]


def test_a_run_in_progress_tells_what_runs_what_waits_and_for_what() -> None:
    log = order()
    until = next(
        n for n, e in enumerate(log.events) if e.type.endswith("claimed.v1") and e.subject.endswith("2.recipe")
    )
    shown = drawn(fold(log.run_id, log.events[: until + 1]), log)

    assert "waits for recipe" in shown
    assert "waits for cake" in shown
    assert "running" in shown.splitlines()[-1]


def test_a_task_that_nobody_has_taken_yet_waits_for_a_worker() -> None:
    log = (
        Log().accepted("hello").step(1).planned(1, [{"name": "price", "tasks": ["1.price"]}]).posted("1.price", "price")
    )
    assert "waiting for a worker" in drawn(fold(log.run_id, log.events), log)
    log.claimed("1.price", "price")
    assert "waiting for a worker" not in drawn(fold(log.run_id, log.events), log)


def test_a_decision_being_taken_is_a_line_of_its_own() -> None:
    log = Log().accepted("hello").step(1)
    assert "waiting for a process that plans" in drawn(fold(log.run_id, log.events), log)
    log.claimed("s1", "arbiter", kind="step")
    assert "asking the model" in drawn(fold(log.run_id, log.events), log)
    log.retried("s1")
    assert "no answer within 1 s" in drawn(fold(log.run_id, log.events), log)


def test_the_time_of_a_running_task_grows_and_that_of_an_ended_one_does_not() -> None:
    log = order()
    until = next(
        n for n, e in enumerate(log.events) if e.type.endswith("completed.v1") and e.subject.endswith("1.fries")
    )
    state = fold(log.run_id, log.events[: until + 1])
    fries, cake = (next(task for task in state.work if task.key == key) for key in ("fries", "fabricate_cheesecake"))
    now = log.events[until].time

    assert narration.busy_seconds(state, fries, now) == narration.busy_seconds(state, fries, now + timedelta(seconds=9))
    before = narration.busy_seconds(state, cake, now)
    after = narration.busy_seconds(state, cake, now + timedelta(seconds=9))
    assert before is not None
    assert after == pytest.approx(before + 9)


def test_an_error_ends_the_view_and_is_told() -> None:
    log = order()
    log.events.pop()
    log.ended("failed", None, {"type": "limit", "message": "20 rounds are used up", "retryable": False})
    shown = drawn(fold(log.run_id, log.events), log)
    assert "limit: 20 rounds are used up" in shown


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(0, 6), st.integers(6, 60))
def test_the_view_fits_the_screen_however_many_tasks_there_are(tasks: int, running: int, height: int) -> None:
    log = wide(tasks, min(running, tasks))
    shown = drawn(fold(log.run_id, log.events), log, lines=height)
    assert len(shown.splitlines()) <= height


def test_unfinished_tasks_are_the_last_to_be_left_out() -> None:
    log = wide(300, 3)
    shown = drawn(fold(log.run_id, log.events), log, lines=20)
    for name in ("t297", "t298", "t299"):
        assert f"{name} " in shown
    assert "more" in shown


def test_finished_rounds_shrink_before_the_current_one() -> None:
    log = order()
    shown = drawn(fold(log.run_id, log.events), log, lines=11)
    assert "2 succeeded" in shown
    assert "duplicate check" not in shown
    assert "recipe" in shown


def test_every_beginning_of_a_log_can_be_shown_with_and_without_unicode() -> None:
    log = order()
    for end in range(1, len(log.events) + 1):
        state = fold(log.run_id, log.events[:end])
        assert drawn(state, log)
        plain = drawn(state, log, ascii_only=True, lines=9)
        assert len(plain.splitlines()) <= 9
        assert plain.replace("…", "").isascii()


async def test_without_a_terminal_each_event_becomes_one_line_without_control_characters() -> None:
    out = io.StringIO()
    log = order()
    with Progress(Console(file=out, width=80)) as progress:
        state = await progress.follow(log.run_id, stream(log.events))
    lines = out.getvalue().splitlines()

    assert state.status == "succeeded"
    assert "\x1b" not in out.getvalue()
    assert len(lines) == 1 + sum(narration.narrate(event) is not None for event in log.events)
    assert lines[0].endswith(
        'accepted: {"orderId": "12345", "customerId": "C-1234", "items": ["cheesecake", "large fries"]}'
    )
    assert any("2.cake attempt 1 failed, again in 0.25 s: timeout: no answer within 1 s" in line for line in lines)
    assert lines[-1].startswith("succeeded in 3.16 s: 3 rounds")


async def test_on_a_terminal_the_last_frame_stays_and_is_whole() -> None:
    out = io.StringIO()
    log = wide(100, 0).ended()
    console = Console(file=out, width=100, height=12, force_terminal=True, highlight=False, _environ={})
    with Progress(console) as progress:
        await progress.follow(log.run_id, stream(log.events))
    last = out.getvalue().rpartition("Run ")[2]
    assert all(f"t{number}" in last for number in range(100))
    assert "succeeded" in last


async def test_a_quiet_progress_prints_nothing_and_still_knows_the_run() -> None:
    out = io.StringIO()
    log = order()
    with Progress(Console(file=out), quiet=True) as progress:
        state = await progress.follow(log.run_id, stream(log.events))
    assert (out.getvalue(), state.answer) == ("", "Order 12345 is ready.")


HOSTILE = "\x1b[2J\x1b]0;owned\x07 [bold red]x[/] \u202eabc \x9b1m"


async def test_text_from_models_and_code_cannot_control_the_terminal() -> None:
    log = Log().accepted(HOSTILE).step(1)
    log.planned(1, [{"name": HOSTILE, "answer": HOSTILE, "valid": False}])
    log.posted("1.evil", HOSTILE, kind="fabrication").stage("1.evil", HOSTILE, "failed", detail=HOSTILE)
    error = {"type": "handler_error", "message": HOSTILE, "retryable": False}
    log.completed("1.evil", HOSTILE, "failed", error=error).ended("failed", None, error)
    shown = drawn(fold(log.run_id, log.events), log)
    out = io.StringIO()
    with Progress(Console(file=out, width=200)) as progress:
        await progress.follow(log.run_id, stream(log.events))
    for text in (shown, out.getvalue()):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
        assert "[bold red]x[/]" in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0.00 s"),
        (9.99, "9.99 s"),
        (9.999, "10.0 s"),
        (99.96, "1 min 40 s"),
        (125, "2 min 05 s"),
        (11_220, "3 h 07 min"),
    ],
)
def test_durations_are_said_in_the_unit_that_fits(value: float, said: str) -> None:
    assert narration.seconds(value) == said


@pytest.mark.parametrize("value", ["x" * 500, {"rows": ["y" * 100] * 50}, [list(range(1000))], "a\n\n  b", ""])
def test_one_line_is_one_line_and_no_longer_than_asked(value: object) -> None:
    line = narration.one_line(value, 60)  # type: ignore[arg-type]
    assert len(line) <= 60
    assert "\n" not in line


def test_a_large_value_is_not_encoded_to_show_its_beginning() -> None:
    read: list[int] = []

    class Rows(list[int]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for number in range(1_000_000):
                read.append(number)
                yield number

    assert narration.one_line(Rows([1]), 40).endswith("…")  # type: ignore[arg-type]
    assert len(read) < 1000
