"""Each benchmark in its smallest form: it runs and says what it measured. How fast anything is, is never asserted."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    agenda,
    comparison,
    entries,
    idle,
    left_over,
    load,
    noisy,
    recovery,
    report,
    server_index,
    workers,
)
from benchmarks.measure import Spread
from benchmarks.processes import Child
from benchmarks.report import Row
from blackboard.testing import RedisServer
from wrapper.isolation import detection

Small = Callable[[Callable[[str], None]], Coroutine[Any, Any, list[Row]]]

SMALL: dict[str, tuple[Small, Sequence[str]]] = {
    "workers": (
        lambda say: workers.several((1, 2), 64, 1, say),
        ["1 worker process", "2 worker processes", "tasks/s", workers.FLOOR, workers.TOGETHER],
    ),
    "recovery": (lambda say: recovery.recovered((0.3,), 1, say), ["SIGKILL to the next attempt, lease of 0.3 s"]),
    "load": (
        lambda say: load.loaded(60, 20, 5, 1, say),
        ["60 finished runs: memory of one", "20 parked runs: memory of one", "one task on an empty board"],
    ),
    "idle": (lambda say: idle.idle(3.0, 1.5, say), ["share of one core", "commands a second"]),
    "noisy": (
        lambda say: noisy.waited(20, 10, say),
        ["one task behind 20 of another tenant", "another run of the tenant"],
    ),
    "agenda": (
        lambda say: agenda.cost((0, 20), (10, 600), 5, 1, say),
        ["post with 20 triggers that do not fit", agenda.TRIGGERS, agenda.RAW, "one pick while 600 wait"],
    ),
    "entries": (
        lambda say: entries.found((20,), 3, 1, say),
        [
            entries.WATCH,
            entries.XREAD,
            entries.ONE,
            entries.TEN,
            "query by topic, 20 live",
            "by pattern, 20 live",
            "by a condition, 20 live",
            "by meaning, 20 live",
            "by meaning, the first question, 20 live",
        ],
    ),
}


@pytest.mark.parametrize("name", SMALL)
async def test_a_benchmark_in_its_smallest_form_says_what_it_measured(name: str) -> None:
    measure, shown = SMALL[name]
    said: list[str] = []
    found = await measure(said.append)
    table = report.markdown(found)
    for text in (f"**{name}**", *shown):
        assert text in table
    assert all(row.value.least <= row.value.median <= row.value.most for row in found)
    assert said, "it tells how far it is"
    json.dumps(report.document({}, found))


async def test_a_peer_that_is_not_installed_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "PEERS", {"nosuchqueue": "no-such-queue"})
    monkeypatch.delenv(comparison.PYTHONS, raising=False)
    found = await comparison.compare(60, 10, 1, lambda _: None)
    assert [row.what for row in found] == ["a queued no-op: the board", "submit to result: the board"]
    assert "no-such-queue is not installed" in capsys.readouterr().err


async def test_a_peer_is_found_in_another_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(comparison.PYTHONS, sys.executable)
    found = await comparison._installed("redis", "redis")  # pyright: ignore[reportPrivateUsage]
    assert found is not None
    assert str(found).startswith("redis ")


async def test_a_program_that_ends_early_is_quoted() -> None:
    async with Child("benchmarks.peers", "nosuchqueue", "work", "0") as child:
        with pytest.raises(AssertionError, match="No module named 'benchmarks.peers.nosuchqueue'".replace(".", r"\.")):
            await child.says(30.0)


def test_publishing_replaces_what_stands_under_the_heading_and_nothing_else() -> None:
    page = "# Title\n\nBefore.\n\n## Results\n\nOld.\n\n| old |\n\n## Caveats\n\nAfter.\n"
    row = Row("board", "a task", Spread(0.001, 0.001, 0.001), "s")
    once = report.published(page, {"date": "today"}, 3.0, [row])
    assert once.startswith("# Title\n\nBefore.\n\n## Results\n\nDate today. 3 s for the whole run.\n\n| benchmark |")
    assert once.endswith("\n\n## Caveats\n\nAfter.\n")
    assert "old" not in once.lower().replace("threshold", "")
    assert report.published(once, {"date": "today"}, 3.0, [row]) == once
    with pytest.raises(ValueError, match="## Results"):
        report.published("# Title\n", {}, 3.0, [row])


async def test_three_hundred_runs_of_code_that_leaves_what_it_can_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found, _ = await detection.find(preload_strands=False, parked=0)
    await found.close()
    rows = await left_over.count(type(found), 300, lambda _: None)
    left = {row.what.removeprefix("after 300 runs: "): row.value.median for row in rows}
    late = next(name for name in left if name.startswith("verdict"))
    assert left.pop(late) < 5, "how late is measured, and that it ends"
    for name in ("control groups", "System V objects"):
        left.pop(name)  # of the whole machine, which other tests use too
    megabytes = {name: left.pop(name) / 1e6 for name in list(left) if "memory" in name}
    assert {name: more for name, more in left.items() if more > 0} == {}
    assert all(more < 8 for more in megabytes.values()), megabytes


def test_the_index_of_a_server_that_has_one_says_how_near_vectors_are_as_numpy_does() -> None:
    pytest.importorskip("numpy")
    program = os.environ.get("ARBITER_TEST_REDIS8")
    if not program:
        pytest.skip("ARBITER_TEST_REDIS8 names no Redis 8")
    with RedisServer(program) as server:
        found = dict(server_index.measured(server, 50))
    assert {"VSIM TRUTH: all", "NumPy: all, and the nearest"} <= found.keys()
    assert float(found["largest difference of a cosine, of the nearest"]) < 1e-5
