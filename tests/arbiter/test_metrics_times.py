"""Histograms in ``/metrics``: of each process what it did, in the form Prometheus reads."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest
from arbiter_support import call
from cli_process import Running, until
from http_site import running

from arbiter import Call
from blackboard.testing import RedisServer
from blackboard.timings import BOUNDS

_SAMPLE = re.compile(r'(arbiter_\w+_seconds)_(bucket|sum|count)\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\} (\S+)')
ABILITIES = '''
from arbiter import capability


@capability
def add(a: int, b: int) -> dict[str, int]:
    """Add two whole numbers."""
    return {"sum": a + b}


CAPABILITIES = [add]
'''


def parsed(text: str) -> dict[tuple[str, ...], dict[str, float]]:
    """Of each series, under its name and the values of its labels: its buckets by bound, ``sum`` and ``count``."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for name, part, inside, value in _SAMPLE.findall(text):
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', inside))
        bound = labels.pop("le", part)
        found.setdefault((name, *labels.values()), {})[bound] = float(value)
    return found


def count(text: str, *series: str) -> float:
    return parsed(text).get(series, {}).get("count", 0.0)


async def grown(client: httpx.AsyncClient, before: str, more: dict[tuple[str, ...], float]) -> str:
    """The metrics once every series counts so many more. Who watches a run may see its end before its process has counted it."""
    async with asyncio.timeout(60):
        while True:
            after = (await client.get("/metrics")).text
            if {each: count(after, *each) - count(before, *each) for each in more} == more:
                return after
            await asyncio.sleep(0.01)


async def test_a_planned_run_is_in_every_histogram(redis_server: RedisServer, tmp_path: Path) -> None:
    turns = ({"tool": "add", "input": {"a": 1, "b": 2}}, "three")
    async with running(redis_server.url, tmp_path, turns) as site:
        client = site.client()
        before = (await client.get("/metrics")).text
        assert (await site.served.run("add")).answer == "three"
        more = {
            ("arbiter_task_wait_seconds", "step", ""): 2.0,
            ("arbiter_task_wait_seconds", "capability", "add"): 1.0,
            ("arbiter_attempt_seconds", "step", "", "succeeded"): 2.0,
            ("arbiter_attempt_seconds", "capability", "add", "succeeded"): 1.0,
            ("arbiter_run_seconds", "planned", "succeeded"): 1.0,
            ("arbiter_model_call_seconds", "step", site.served.model_label, "succeeded"): 2.0,
        }
        after = await grown(client, before, more)
    for one in parsed(after).values():  # cumulative, whole, and ended by the bucket of everything
        bounds = [bound for bound in one if bound not in ("sum", "count")]
        assert bounds == [*(f"{each:g}" for each in BOUNDS), "+Inf"]
        numbers = [one[bound] for bound in bounds]
        assert numbers == sorted(numbers)
        assert numbers[-1] == one["count"]
    assert after.count("# TYPE arbiter_attempt_seconds histogram\n") == 1


async def test_a_run_whose_planning_fails_and_a_model_that_does_not_answer_are_counted(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    run = ("arbiter_run_seconds", "planned", "failed")
    async with running(redis_server.url, tmp_path, (PermissionError("no access"),)) as site:
        client, model = site.client(), site.served.model_label
        asked = ("arbiter_model_call_seconds", "step", model, "failed")
        before = (await client.get("/metrics")).text
        assert (await site.served.run("go")).status == "failed"
        await grown(client, before, {run: 1.0, asked: 1.0})


async def test_a_capability_that_fails_is_told_by_its_outcome(redis_server: RedisServer, tmp_path: Path) -> None:
    attempt, run = (
        ("arbiter_attempt_seconds", "capability", "broken", "failed"),
        ("arbiter_run_seconds", "call", "failed"),
    )
    async with running(redis_server.url, tmp_path) as site:
        client = site.client()
        before = (await client.get("/metrics")).text
        result = await site.served.run(Call("broken", {"reason": "x"}))
        assert result.status == "failed"
        attempts = result.state.work[0].completion.attempts  # type: ignore[union-attr]
        await grown(client, before, {run: 1.0, attempt: float(attempts)})


def test_each_process_tells_what_it_did_itself(tmp_path: Path, redis_server: RedisServer, board_name: str) -> None:
    script = {"scenes": [{"turns": [call("add", a=1, b=2), "three"]}]}
    (tmp_path / "model.json").write_text(json.dumps(script))
    (tmp_path / "abilities.py").write_text(ABILITIES)
    on = ["--url", redis_server.url, "--board", board_name, "--http", "127.0.0.1:0"]
    env = {"ARBITER_DATA_DIR": str(tmp_path / "data")}
    planner = ["serve", "--roles", "arbiter", "--model", f"scripted:{tmp_path / 'model.json'}", *on]
    worker = ["worker", "--capabilities", str(tmp_path / "abilities.py"), *on]
    with Running(*planner, env=env) as one, Running(*worker, env=env) as other:
        clients: list[httpx.Client] = []
        for process in (one, other):
            process.wait_for("ready")
            base = next(line for line in process.said if line.split()[:1] == ["http"]).split()[1].rstrip(";,")
            token = (tmp_path / "data" / "http" / "token").read_text().strip()
            clients.append(httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60))
        run = clients[0].post("/v1/runs", json="add").json()["run_id"]
        assert clients[0].get(f"/v1/runs/{run}", params={"wait": 60}).json()["answer"] == "three"
        attempts = ("arbiter_attempt_seconds", "capability", "add", "succeeded")
        steps = ("arbiter_attempt_seconds", "step", "", "succeeded")
        runs = ("arbiter_run_seconds", "planned", "succeeded")

        def told(at: int) -> dict[tuple[str, ...], float]:
            found = parsed(clients[at].get("/metrics").text)
            return {each: found[each]["count"] for each in (attempts, steps, runs) if each in found}

        until(lambda: told(0) == {steps: 2, runs: 1}, "the planner to count")
        until(lambda: told(1) == {attempts: 1}, "the worker to count")
        for client in clients:
            client.close()


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb"])
def test_no_label_can_end_its_line(label: str) -> None:
    from arbiter.http.metrics import _histogram  # pyright: ignore[reportPrivateUsage]
    from blackboard.timings import Histogram

    one = Histogram("arbiter_x_seconds", "x", ("kind",))
    one.observe(1.0, label)
    lines = _histogram(one).splitlines()
    assert len(lines) == 2 + len(BOUNDS) + 1 + 2
    assert all(_SAMPLE.fullmatch(line) for line in lines[2:])
