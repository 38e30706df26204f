"""Reruns from the command line and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS
from cli_process import arbiter as command
from http_site import Site, running
from plan_steps import ref, say, step

from arbiter import RunResult
from blackboard.testing import RedisServer

PLAN = [say("one", "kept"), step("two", "broken", {"reason": ref("one")}, retry={"max_attempts": 1})]


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path, ("never asked",), capabilities=FUNCTIONS) as one:
        yield one


async def failed(site: Site, **more: Any) -> str:
    return (await site.served.run("Go.", plan=PLAN, timeout=60, **more)).run_id


async def taken(site: Site, run_id: str) -> list[str]:
    result: RunResult = await site.served.result(run_id, timeout=60)
    return [task.key for task in result.state.work if task.completion and task.completion.taken_over_from]


async def test_a_run_is_gone_on_from_over_http_once(site: Site) -> None:
    run = await failed(site)
    client = site.client()
    first, again = [await client.post(f"/v1/runs/{run}/rerun", json={}, params={"tasks": 9}) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, again.json())
    made = (await client.get(first.headers["location"], params={"wait": 30})).json()
    assert (made["rerun_of"], made["limits"]["tasks"]) == (run, 9)
    assert await taken(site, made["run_id"]) == ["one"]
    other = await client.post(
        f"/v1/runs/{run}/rerun", json={"current_versions": True}, headers={"Idempotency-Key": "k"}
    )
    assert (other.status_code, other.json() != first.json()) == (202, True)
    assert (await client.post(f"/v1/runs/{run}/rerun", json={"current_versions": True})).status_code == 409
    assert (await client.post(f"/v1/runs/{run}/rerun", json={"keep": True})).status_code == 422
    letter = {"ids": [run], "rerun": True}
    (put,) = (await client.post("/v1/dead-letters/redrive", json=letter)).json()["redriven"]
    assert await taken(site, put["run_id"]) == ["one"]


async def test_a_run_of_another_tenant_is_unknown(site: Site) -> None:
    run = await failed(site, tenant="acme")
    client = site.client(await site.token("runs:write", tenant="other"))
    assert (await client.post(f"/v1/runs/{run}/rerun", json={})).status_code == 404
    assert (await site.client().post("/v1/runs/rnone/rerun", json={})).status_code == 404
    mine = site.client(await site.token("runs:write", tenant="acme"))
    made = (await mine.post(f"/v1/runs/{run}/rerun", json={})).json()["run_id"]
    assert (await site.served.board.summary(made)).tenant == "acme"


async def test_a_run_is_gone_on_from_by_the_command(site: Site, redis_server: RedisServer) -> None:
    run = await failed(site)
    place = ("--url", redis_server.url, "--board", site.served.board.name)
    done = command("rerun", run[:-3], "--limit-seconds", "77", *place)
    assert (done.returncode, done.stderr) == (0, "")
    made = await site.served.result(done.stdout.strip(), timeout=60)
    assert (made.state.rerun_of, made.state.limits.seconds) != (None, 900.0)
    assert made.state.limits.seconds == 77
    why = command("why", f"{made.run_id}/1.one", *place).stdout
    assert f"Nothing was done for it: its result is taken over from {run}/1.one" in why
    assert f"taken over from {run}/1.one" in command("show", made.run_id, *place).stdout
    letter = command("dead", "redrive", run, "--rerun", *place)
    assert letter.returncode == 0, letter.stderr
    called = command("rerun", "rnone", *place)
    assert (called.returncode, "no run rnone" in called.stderr) == (2, True)
