"""Where people meet a task that waits for them: the command line, the HTTP API, and what shows a run."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cli_process import arbiter as cli
from cli_process import records
from http_site import Site, running
from test_approvals import PAID, asked, pay

from arbiter import Call, capability
from arbiter.display import run_html, run_text
from blackboard.testing import RedisServer

HOSTILE = "ann\x1b[2J\u202e<img src=x onerror=alert(1)>"


@capability(approval={"by": ["token:finance", "bob"], "delegate": ["token:boss"]})
def wire(to: str) -> str:
    """Wire it."""
    return to


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    PAID.clear()
    question = {"tool": "ask_person", "input": {"question": f"Which? {HOSTILE}", "options": ["Alpha", "Beta"]}}
    async with running(
        redis_server.url, tmp_path, (question, "done"), capabilities=(pay, wire), approval={"questions": True}
    ) as one:
        yield one


Ran = subprocess.CompletedProcess[str]


@pytest.fixture
def ran(site: Site, redis_server: RedisServer) -> Callable[..., Awaitable[Ran]]:
    """Runs a command about the board of the site."""

    def run(*words: str) -> Awaitable[Ran]:
        return asyncio.to_thread(cli, *words, "--url", redis_server.url, "--board", site.served.board.name)

    return run


async def test_the_command_line_lists_shows_approves_and_refuses_and_no_argument_moves_the_cursor(
    site: Site, ran: Callable[..., Awaitable[Ran]]
) -> None:
    a = site.served
    first, second = [await a.submit(Call("pay", {"to": HOSTILE, "cents": cents})) for cents in (1, 2)]
    task = (await asked(a, first)).task_id
    await asked(a, second)
    listed = await ran("approvals", "--run", first)
    assert listed.returncode == 0, listed.stderr
    assert f"{first}.0.call pay {pay.manifest.content_hash()[:12]} waits for approval, until 20" in listed.stdout
    assert "\x1b" not in listed.stdout
    assert "\u202e" not in listed.stdout
    assert json.dumps(HOSTILE) in listed.stdout
    (record,) = records((await ran("approvals", "--run", second, "--json")).stdout)
    assert (record["run_id"], record["kind"], record["otherwise"]) == (second, "approval", None)
    assert json.loads((await ran("approvals", "show", task)).stdout) == {"to": HOSTILE, "cents": 1}

    for shown in (await ran("show", first), await ran("why", first)):
        assert "waits for approval by a person until 20" in shown.stdout
        assert "then refused" in shown.stdout
        assert "\x1b[2J" not in shown.stdout

    assert (await ran("approvals", "approve", task, "--arguments", '{"to": "ann", "cents": 9}')).returncode == 0
    assert (await a.result(first, timeout=30)).data == "paid ann 9"
    again = await ran("approvals", "refuse", task)
    assert again.returncode == 2
    assert "was approved by " in again.stderr
    assert (await ran("approvals", "refuse", second, "--reason", "no")).returncode == 0
    assert (await a.result(second, timeout=30)).status == "refused"
    assert PAID == [("ann", 9)]
    assert "no task waits for a person" in (await ran("approvals")).stderr
    assert ", with other arguments" in (await ran("events", first)).stdout
    assert "was refused by " in (await ran("why", second)).stdout


async def test_the_api_lists_and_answers_with_a_scope_and_on_record_under_the_token(site: Site) -> None:
    a = site.served
    run = await a.submit("Which bank?")
    task = (await asked(a, run)).task_id
    client, other = site.client(await site.token("tasks:approve")), site.client(await site.token("runs:read"))
    assert (await other.get("/v1/task-approvals")).status_code == 403
    (waiting,) = (await client.get("/v1/task-approvals")).json()["waiting"]
    assert (waiting["task_id"], waiting["kind"]) == (task, "question")
    path = f"/v1/task-approvals/{waiting['id']}"
    assert (await client.get(path)).json()["arguments"]["options"] == ["Alpha", "Beta"]
    assert (await client.post(f"{path}/approve", json={})).status_code == 409
    assert (await client.post(f"{path}/answer", json={"answer": "Gamma"})).status_code == 422
    answered = await client.post(f"{path}/answer", json={"answer": "Beta"})
    assert answered.json() == {"task_id": task, "state": "answered"}
    late = await client.post(f"{path}/answer", json={"answer": "Alpha"})
    assert late.status_code == 409
    assert late.json()["detail"].startswith(f"{task} was answered by token:ci")
    assert (await client.post("/v1/task-approvals/r1.1.x/approve", json={})).status_code == 404
    (result,) = (await a.result(run, timeout=30)).state.work
    assert "token:ci" in result.taint
    (entry,) = await site.audit("kind=task.answered")
    assert (entry.subject, entry.by, entry.reason) == (task, "token:ci", "Beta")


async def test_a_token_of_a_tenant_answers_for_it_alone_and_nobody_for_those_who_are_named(
    site: Site, ran: Callable[..., Awaitable[Ran]]
) -> None:
    a = site.served
    run = await a.submit(Call("wire", {"to": "ann"}), tenant="acme")
    waiting = await asked(a, run)
    path = f"/v1/task-approvals/{waiting.id}/approve"
    foreign = site.client(await site.token("tasks:approve", tenant="other"))
    assert (await foreign.get("/v1/task-approvals")).json() == {"waiting": []}
    assert (await foreign.post(path, json={})).status_code == 404
    mine = site.client(await site.token("tasks:approve", tenant="acme"))
    refused = await mine.post(path, json={})
    assert refused.status_code == 409
    assert "it is for token:finance, bob, and later for token:boss" in refused.json()["detail"]
    listed = (await ran("approvals")).stdout
    assert "; for token:finance, bob, and token:boss from 20" in listed
    await a.approvals.approve(waiting.id, by="bob")
    assert (await a.result(run, timeout=30)).data == "ann"


async def test_a_run_that_waits_says_so_in_notebooks_and_on_terminals(site: Site) -> None:
    a = site.served
    run = await a.submit(Call("pay", {"to": HOSTILE, "cents": 1}))
    await asked(a, run)
    state = (await a.show(run)).state
    assert "waits for approval by a person until 20" in run_html(state)
    assert "waits for approval by a person until 20" in run_text(state)
    assert "<img" not in run_html(state)
    await a.cancel(run)
    assert "waits for approval" not in run_html((await a.result(run, timeout=30)).state)
