"""Subscriptions as they are told: by the command, over HTTP, in metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from http_site import Site, running

from arbiter import Arbiter
from arbiter.cli import main
from blackboard.testing import RedisServer


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path, roles=()) as one:
        yield one


async def test_who_is_subscribed_is_told_and_ended_over_http(site: Site) -> None:
    board = site.served.board
    for name, tenant in (("all", None), ("theirs", "acme")):
        await board.subscribe(name, kinds=["run.accepted"], tenant=tenant).start()
    await board.submit("go", tenant="acme")
    client = site.client()
    (everything, theirs) = (await client.get("/v1/subscriptions")).json()["subscriptions"]
    assert (everything["name"], everything["tenant"], everything["kinds"]) == ("all", None, ["run.accepted"])
    assert (theirs["waiting"], theirs["held"], theirs["lost"]) == (1, 0, 0)
    lines = (await client.get("/metrics")).text.splitlines()
    assert 'arbiter_subscription_waiting{name="all"} 1' in lines
    assert 'arbiter_subscription_gaps_total{name="all"} 0' in lines
    assert any(line.startswith('arbiter_subscription_lag_seconds{name="all"} ') for line in lines)
    acme = site.client(await site.token("runs:read", "runs:write", tenant="acme"))
    assert [one["name"] for one in (await acme.get("/v1/subscriptions")).json()["subscriptions"]] == ["theirs"]
    assert (await acme.post("/v1/subscriptions/all/remove")).status_code == 404
    assert (await acme.post("/v1/subscriptions/theirs/remove")).json() == {"name": "theirs", "status": "removed"}
    reader = site.client(await site.token("runs:read"))
    assert (await reader.post("/v1/subscriptions/all/remove")).status_code == 403


def test_the_command_lists_and_removes(
    redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def prepared() -> None:
        async with Arbiter(redis_server.url, board=board_name, roles=()) as a:
            async with a.subscribe("bills", kinds=["run.accepted", "task.*"], tenant="acme") as events:
                for number in range(3):
                    await a.submit(f"go {number}", tenant="acme")
                await anext(events)
            (one,) = await a.subscriptions.list()
            assert (one.waiting, one.held) == (0, 6)

    asyncio.run(prepared())
    place = ["--url", redis_server.url, "--board", board_name]
    assert main(["subscriptions", *place]) == 0
    assert capsys.readouterr().out.startswith("bills  run.accepted task.* of acme: 0 waiting, 6 held, 0 done, ")
    assert main(["subscriptions", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "bills"
    assert main(["subscriptions", "remove", "bills", *place]) == 0
    assert main(["subscriptions", "remove", "bills", *place]) == 2
    assert "no subscription bills" in capsys.readouterr().err
