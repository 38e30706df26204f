"""The demonstrations: right answers on real data, a label that says what is scripted, and shows that survive kill -9."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from cli_process import Running, arbiter, records

from arbiter import demo
from blackboard.errors import BadInput
from blackboard.testing import RedisServer


@pytest.fixture
def env(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    return {"ARBITER_REDIS_URL": redis_server.url, "ARBITER_DATA_DIR": str(tmp_path)}


def test_both_demonstrations_are_answered_with_fabricated_capabilities_and_the_scripts_are_labelled(
    env: dict[str, str], tmp_path: Path
) -> None:
    done = arbiter("demo", "--json", env=env)
    assert done.returncode == 0, done.stderr
    orders, invoices = records(done.stdout)
    for name, result in (("orders", orders), ("invoices", invoices)):
        assert (result["demo"], result["status"], result["fabrications"]) == (name, "succeeded", 1)
        assert result["board"] == orders["board"]
    assert "Total: 10.70" in orders["answer"]
    assert "Order exhausted" in invoices["answer"]
    assert done.stderr.count(demo.LABEL) == 2
    assert done.stderr.count("not a real model") >= 2
    assert len(re.findall(r"exam sealed( \(repair \d\))? passed", done.stderr)) == 2
    assert f"arbiter capabilities show cheesecake --board {orders['board']}" in done.stderr
    assert list(tmp_path.glob("demo-*.json")) == [], "the next call is a new show"


@pytest.mark.parametrize("moment", ["round 1:", "specification passed"])
def test_a_killed_show_is_continued_and_ends_with_the_same_answer(moment: str, env: dict[str, str]) -> None:
    with Running("demo", "orders", env=env) as running:
        running.wait_for(moment)
        os.killpg(running.process.pid, signal.SIGKILL)
        running.end()
    again = arbiter("demo", "orders", "--json", env=env)
    assert again.returncode == 0, again.stderr
    [result] = records(again.stdout)
    assert "Continuing the show" in again.stderr
    assert "Total: 10.70" in result["answer"]
    assert result["fabrications"] == 1
    assert any(f"--board {result['board']}" in line or result["board"] in line for line in running.said)


def test_a_show_is_continued_only_if_it_is_the_same_and_unfinished(tmp_path: Path) -> None:
    place = {"url": "redis://somewhere", "data_dir": str(tmp_path)}
    first = demo.open_show(("orders",), **place)
    assert not first.continued

    same = demo.open_show(("orders",), **place)
    assert (same.continued, same.board, same.key) == (True, first.board, first.key)
    assert not demo.open_show(("orders",), url="redis://elsewhere", data_dir=str(tmp_path)).continued
    assert not demo.open_show(("orders",), **place, namespace="other").continued

    other = demo.open_show(("orders", "invoices"), **place)
    assert (other.continued, other.board != first.board) == (False, True)
    fresh = demo.open_show(("orders", "invoices"), **place, fresh=True)
    assert (fresh.continued, fresh.board != other.board) == (False, True)
    fresh.finish()
    assert not demo.open_show(("orders", "invoices"), **place).continued


def test_a_show_whose_time_is_over_or_whose_note_is_damaged_is_not_continued(tmp_path: Path) -> None:
    first = demo.open_show(("orders",), data_dir=str(tmp_path))
    [note] = tmp_path.glob("demo-*.json")
    kept = json.loads(note.read_text())
    note.write_text(json.dumps({**kept, "started_at": time.time() - 10_000}))
    second = demo.open_show(("orders",), data_dir=str(tmp_path))
    assert (second.continued, second.board != first.board) == (False, True)
    for damaged in ("", "{", "[]", '{"key": 1}', "null"):
        note.write_text(damaged)
        assert not demo.open_show(("orders",), data_dir=str(tmp_path)).continued


def test_a_board_that_is_named_is_used(tmp_path: Path) -> None:
    assert demo.open_show(("orders",), data_dir=str(tmp_path), board="kitchen").board == "kitchen"


def test_a_show_in_memory_leaves_no_note(tmp_path: Path) -> None:
    show = demo.open_show(("orders",), url="memory://x", data_dir=str(tmp_path))
    assert not show.lasting
    assert list(tmp_path.iterdir()) == []


def test_an_example_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="orders, invoices"):
        demo.example("weather")
