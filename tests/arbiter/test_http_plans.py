"""Plans over HTTP, and in schedules: refused with the field that is wrong, carried out without a model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cli_process import arbiter as command
from cli_process import records
from http_site import Site, running
from plan_steps import ref, say, step

from arbiter import Arbiter, BadInput, Conflict
from blackboard.schedules import Schedules
from blackboard.testing import RedisServer

PLAN = [say("one", ref("request#/word")), say("two", "y", when="one=x")]


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    async with running(redis_server.url, tmp_path, ("never asked",)) as one:
        yield one


async def test_a_plan_is_carried_out_once_and_is_shown_with_its_run(site: Site) -> None:
    client, body = site.client(), {"request": {"word": "x"}, "plan": PLAN}
    first, again = [await client.post("/v1/plans", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, again.json())
    done = (await client.get(first.headers["location"], params={"wait": 30})).json()
    assert (done["status"], done["answer"], done["plan"], done["model"]) == ("succeeded", '"y"', PLAN, None)
    other = await client.post("/v1/plans", json={**body, "plan": PLAN[:1]}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409
    assert "plan" not in (await client.get((await client.post("/v1/runs", json={"go": 1})).headers["location"])).json()


@pytest.mark.parametrize(
    ("plan", "fields"),
    [
        ([say("a", "x"), say("b", "x", when="c?"), say("c", "x", after=["d"])], ["plan.2.after"]),
        ([say("a", "x", when="nobody?"), say("b", "x", tolerate=1)], ["plan.0.when", "plan.1.tolerate"]),
        ([{"key": "a", "capability": "echo"}], ["plan.0"]),
        ([say("a", "x", at_once="many")], ["plan.0.at_once"]),
        ([say("a", "x", each="request", at_once=1000)], ["plan.0.at_once"]),
        ([say("a", "x"), say("a", "y")], ["plan.0.key"]),
        ([say("a", "x", after=["b"]), say("b", "x", after=["a"])], ["plan"]),
    ],
)
async def test_what_is_wrong_with_a_plan_is_said_with_its_field(site: Site, plan: list[Any], fields: list[str]) -> None:
    answer = await site.client().post("/v1/plans", json={"request": "go", "plan": plan})
    said = answer.json()
    assert (answer.status_code, said["type"], said["field"]) == (422, "urn:arbiter:problem:bad_input", "plan")
    assert [one["field"] for one in said["problems"]] == fields
    assert all(one["detail"] in said["detail"] for one in said["problems"])


async def test_what_is_no_plan_at_all_is_refused(site: Site) -> None:
    client = site.client()
    for wrong, field in (({"request": "go"}, "plan"), ({"request": "go", "plan": []}, "plan"), ({"plan": PLAN}, "request"),
                         ({"request": "go", "plan": PLAN, "model": "x"}, "model")):  # fmt: skip
        answer = await client.post("/v1/plans", json=wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    elsewhere = await client.post("/v1/runs", json={"request": "go", "plan": PLAN})
    assert (elsewhere.status_code, elsewhere.json()["field"]) == (422, "plan")
    assert "/v1/plans" in elsewhere.json()["remedy"]
    assert (await client.post("/v1/runs", json={"request": "go", "plan": "premium"})).status_code == 202, "no plan"
    tenant = site.client(await site.token("runs:write", tenant="acme"))
    assert (await tenant.post("/v1/plans?tenant=other", json={"request": "go", "plan": PLAN})).status_code == 403


async def test_a_schedule_with_a_plan_is_stored_listed_fired_and_removed(site: Site) -> None:
    client = site.client()
    wanted = {"name": "poll", "request": {"word": "x"}, "plan": PLAN, "rate": "1 second", "overlap": "allow"}
    first, again = [await client.post("/v1/schedules", json=wanted) for _ in range(2)]
    assert (first.status_code, again.status_code, first.json()["plan"]) == (201, 200, PLAN)
    async with asyncio.timeout(60):
        while not (run := (await client.get("/v1/schedules")).json()["schedules"][0]["last_run"]):
            await asyncio.sleep(0.05)
    done = (await client.get(f"/v1/runs/{run}", params={"wait": 30})).json()
    assert (done["status"], done["answer"], done["plan"]) == ("succeeded", '"y"', PLAN)
    assert (await client.post("/v1/schedules", json={**wanted, "plan": PLAN[:1]})).status_code == 409
    wrong = await client.post("/v1/schedules", json={**wanted, "plan": [say("a", "x", when="b?")]})
    assert wrong.json()["problems"][0]["field"] == "plan.0.when"
    assert (await client.post("/v1/schedules/poll/remove")).json() == {"name": "poll", "status": "removed"}
    assert (await client.post("/v1/schedules/poll/remove")).status_code == 404


async def test_a_token_of_a_tenant_schedules_for_the_tenant_and_sees_no_other(site: Site) -> None:
    acme, other = [site.client(await site.token("runs:write", "runs:read", tenant=name)) for name in ("acme", "other")]
    wanted = {"name": "daily", "request": "go", "cron": "@daily"}
    assert (await acme.post("/v1/schedules", json=wanted)).json()["tenant"] == "acme"
    assert (await acme.post("/v1/schedules", json={**wanted, "tenant": "other"})).status_code == 403
    assert (await other.get("/v1/schedules")).json() == {"schedules": []}
    assert (await other.post("/v1/schedules", json=wanted)).status_code == 403
    assert (await other.post("/v1/schedules/daily/remove")).status_code == 404
    assert [one["name"] for one in (await acme.get("/v1/schedules")).json()["schedules"]] == ["daily"]


async def test_a_program_gives_a_schedule_a_plan(redis_server: RedisServer, board_name: str) -> None:
    async with Arbiter(redis_server.url, board=board_name, roles=()) as a:
        added = await a.schedule("daily", {"word": "x"}, cron="@daily", plan=PLAN)
        assert [*added.schedule.plan] == PLAN
        assert await a.schedule("daily", {"word": "x"}, cron="@daily", plan=PLAN) == added
        with pytest.raises(Conflict):
            await a.schedule("daily", {"word": "x"}, cron="@daily")
        with pytest.raises(BadInput, match="no key"):
            await a.schedule("other", "go", cron="@daily", plan=[say("a", "x", when="b?")])
        assert [*(await a.show(await a.schedules.run_now("daily"))).state.plan] == PLAN


async def test_a_schedule_without_a_plan_is_written_as_it_always_was() -> None:
    async with Arbiter("memory://plain", roles=()) as a:
        await a.schedule("plain", "go", cron="@daily")
        known = await Schedules(a.board)._known("plain")  # pyright: ignore[reportPrivateUsage]
    assert "plan" not in json.loads(known.definition)


def test_the_command_schedules_a_plan_and_shows_it(redis_server: RedisServer, board_name: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps([step("only", "echo", {"text": "x"})]))
    (tmp_path / "wrong.json").write_text(json.dumps([step("only", "echo", {"text": "x"}, when="b?")]))
    place = ["--url", redis_server.url, "--board", board_name]

    def add(file: str) -> Any:
        words = ["schedule", "add", "daily", "go", "--cron", "@daily", "--plan", file]
        return command(*words, *place, cwd=tmp_path)

    assert add("wrong.json").returncode == 2
    assert add("plan.json").returncode == 0
    assert "(plan of 1 step: only)" in command("schedule", "list", *place).stdout
    shown = command("schedule", "show", "daily", *place).stdout
    assert "plan       1 step: only" in shown
    (record,) = records(command("schedule", "list", "--json", *place).stdout)
    assert record["plan"][0]["key"] == "only"
    run = command("schedule", "run", "daily", *place).stdout.strip()
    assert "Plan: given, 1 step: only" in command("show", run, *place).stdout
