"""The public kit: a bench that runs, ages and crashes the capabilities of a user, and finds those that cannot take it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

from arbiter import Limits, RetryPolicy, capability, current_task
from arbiter.testing import ScriptedModel, harness

ROOT = Path(__file__).parents[2]
CHARGED: Counter[str] = Counter()


@capability(effects="writes")
def charge(order: str) -> dict[str, str]:
    """Charge an order.

    Args:
        order: its number
    """
    task = current_task()
    assert task is not None
    CHARGED[task.idempotency_key] += 1
    return {"receipt": f"r-{order}"}


@capability(effects="writes")
def count_tries(order: str) -> dict[str, int]:
    """Say which attempt this is, which no capability should.

    Args:
        order: its number
    """
    task = current_task()
    assert task is not None
    return {"attempt": task.attempt}


@capability(effects="reads", retry=RetryPolicy(interval_seconds=3600, cap_seconds=3600, max_attempts=50))
def unsteady() -> int:
    """Fail once."""
    task = current_task()
    assert task is not None
    if task.attempt == 1:
        raise ConnectionError("not yet")
    return 42


def model(name: str, **given: Any) -> ScriptedModel:
    return ScriptedModel([{"tool": name, "input": given}, "Done."])


async def test_g4_a_capability_survives_crashes_at_the_calls_of_a_request() -> None:
    CHARGED.clear()
    cases = ["wrapper:complete:1:before", "arbiter:commit:1:after", "client:submit:1:lost", "wrapper:claim:2:dropped"]
    async with harness([charge], model("charge", order="12"), roles=("arbiter", "wrapper")) as bench:
        report = await bench.crash_matrix("Charge order 12.", only=cases)
    assert report.ok, report
    assert [one.case.id for one in report.outcomes] == cases
    assert {one.case.id: one.lives for one in report.outcomes}["wrapper:complete:1:before"] == 2
    # Once undisturbed and once for each case, but twice, under one key, where it had run and nobody knew.
    assert sorted(CHARGED.values()) == [1, 1, 1, 1, 2]


async def test_a_capability_whose_result_depends_on_the_attempt_is_found_out() -> None:
    async with harness([count_tries], model("count_tries", order="1"), roles=("arbiter", "wrapper")) as bench:
        report = await bench.crash_matrix("Count.", only=["wrapper:complete:1:before"])
    assert not report.ok
    assert "another result" in str(report)
    assert "wrapper:complete:1:before" in str(report)


async def test_g6_the_clock_passes_deadlines_and_retries_without_waiting() -> None:
    async with harness([unsteady], model("unsteady"), roles=("arbiter", "wrapper")) as bench:
        limits = Limits(seconds=7200, task_seconds=7000)
        run = await bench.arbiter.submit("Try.", limits=limits)
        for _ in range(1000):
            if any("task.retried" in event.type for event in await bench.arbiter.board.history(run)):
                break
        await bench.clock.advance(3600)
        done = await bench.arbiter.result(run, timeout=60)
        assert done.ok
        assert await bench.clock.offset() == 3600
        assert [task.completion.data for task in done.state.work if task.completion] == [42]


def test_production_does_not_import_the_kit() -> None:
    found: list[str] = []
    for room in ("arbiter", "fabricator", "wrapper", "registry", "blackboard"):
        for file in (ROOT / room).rglob("*.py"):
            if (ROOT / "arbiter" / "testing") in file.parents:
                continue
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if any(name.startswith(("arbiter.testing", "blackboard.invariants")) for name in names):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert found == []
