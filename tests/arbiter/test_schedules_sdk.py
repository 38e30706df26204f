"""Schedules through the SDK and the command line: what may be said, and that serving processes fire them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arbiter_support import arbiter
from cli_process import arbiter as command
from cli_process import records

from arbiter import Arbiter, Limits
from arbiter.schedules import schedule_of
from blackboard.board import Board
from blackboard.ending import end
from blackboard.errors import BadInput, Conflict, UnknownRecord
from blackboard.schedule import Schedule
from blackboard.schedules import Schedules
from blackboard.sweeper import Sweeper
from blackboard.testing import RedisServer


async def ended(served: Arbiter, name: str) -> str:
    """The run a schedule has started, when it is over."""
    async with asyncio.timeout(30):
        while (last := (await served.schedules.get(name)).last_run) is None:
            await asyncio.sleep(0.02)
    return (await served.result(last, timeout=30)).status


async def test_a_serving_process_fires_a_schedule_soon_after_its_time(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["Good morning."]) as (served, _):
        soon = datetime.now(UTC) + timedelta(seconds=0.3)
        added = await served.schedule("once", "Greet at {{occurrence}}.", at=soon)
        assert await ended(served, "once") == "succeeded"
        (run,) = await served.runs()
        at = round(soon.timestamp(), 3)
        assert added.next_at == pytest.approx(at)
        assert run.request.startswith("Greet at 2")
        assert 0 <= run.created_at - at < 30
        assert (await served.schedules.get("once")).status == "completed"


async def test_a_schedule_keeps_its_time_while_the_sweeper_has_nothing_else_to_do(board: Board) -> None:
    schedules = Schedules(board)
    await schedules.add(Schedule(name="tick", when="rate(1 second)", request="Tick.", overlap="allow"))
    sweeping = asyncio.create_task(Sweeper(board, interval_seconds=3600).run())  # for nothing but what is due
    async with asyncio.timeout(60):
        while not (await schedules.get("tick")).fired:
            await asyncio.sleep(0.05)
    await end([sweeping])


async def test_what_is_not_said_comes_from_the_object(redis_server: RedisServer) -> None:
    limits = Limits(rounds=2)
    async with arbiter(redis_server.url, ["-"], tenant="acme", limits=limits, roles=()) as (client, _):
        added = await client.schedule("s", "go", cron="@daily", timezone="Asia/Tokyo", window=timedelta(minutes=5))
        schedule = added.schedule
        assert (schedule.tenant, schedule.limits, schedule.window_seconds) == ("acme", limits, 300.0)
        assert await client.schedule("s", "go", cron="@daily", timezone="Asia/Tokyo", window=300) == added
        with pytest.raises(Conflict):
            await client.schedule("s", "go", cron="@weekly")
        other = await client.schedule("t", "go", cron="@daily", sources=["mail:inbox"])
        assert other.schedule.sources == ("mail:inbox",)
        run = await client.schedules.run_now("s")
        assert (await client.show(run)).state.request == "go"
        assert await client.schedules.remove("s")
        with pytest.raises(UnknownRecord):
            await client.schedules.run_now("s")


EVENT: dict[str, Any] = {"specversion": "1.0", "type": "tick"}


@pytest.mark.parametrize(
    ("field", "request_", "more"),
    [
        ("when", "go", {}), ("when", "go", {"rate": "1 hour", "cron": "@daily"}),
        ("rate", "go", {"rate": "often"}), ("rate", "go", {"rate": timedelta(milliseconds=1)}),
        ("at", "go", {"at": "soon"}), ("start", "go", {"rate": "1 hour", "start": "later"}),
        ("timezone", "go", {"cron": "@daily", "timezone": "Moon"}),
        ("overlap", "go", {"cron": "@daily", "overlap": "queue"}),
        ("catch_up", "go", {"cron": "@daily", "catch_up": "some"}),
        ("window", "go", {"cron": "@daily", "window": "5m"}),
        ("request", 7, {"cron": "@daily"}), ("request.type", {"specversion": "1.0"}, {"cron": "@daily"}),
        ("request.specversion", {**EVENT, "specversion": "0.3"}, {"cron": "@daily"}),
        ("request.id", {**EVENT, "id": "always-the-same"}, {"cron": "@daily"}),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_by_its_name(field: str, request_: Any, more: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        schedule_of("s", request_, **more)
    assert refused.value.field == field
    assert refused.value.remedy


def test_a_local_time_is_stored_as_the_instant_it_is() -> None:
    made = schedule_of("s", EVENT, at="2027-07-01T09:00", timezone="Europe/Berlin")
    assert made.when == "at(2027-07-01T07:00:00Z)"
    assert made == schedule_of("s", EVENT, at=datetime(2027, 7, 1, 7, tzinfo=UTC), timezone="Europe/Berlin")


def test_the_command_line_adds_lists_changes_and_removes(redis_server: RedisServer, board_name: str) -> None:
    on = ["--url", redis_server.url, "--board", board_name, "--json"]
    words = ["nightly", '{"report": "{{local}}"}', "--cron", "30 2 * * *", "--timezone", "Europe/Berlin"]
    added = command("schedule", "add", *words, "--limit-rounds", "4", "--window", "60", *on)
    assert added.returncode == 0, added.stderr
    (record,) = records(added.stdout)
    assert (record["name"], record["status"], record["limits"]["rounds"]) == ("nightly", "enabled", 4)
    assert record["request"] == {"report": "{{local}}"}
    refused = command("schedule", "add", *words[:-1], "Asia/Tokyo", *on)
    assert refused.returncode == 2
    assert "replace or remove it" in refused.stderr
    assert records(command("schedule", "disable", "nightly", *on).stdout)[0]["status"] == "disabled"
    assert records(command("schedule", "enable", "nightly", *on).stdout)[0]["next_at"] == record["next_at"]
    run_id = json.loads(command("schedule", "run", "nightly", *on).stdout)["run_id"]
    assert records(command("schedule", "show", "nightly", *on).stdout)[0]["last_run"] == run_id
    assert [one["name"] for one in records(command("schedule", "list", *on).stdout)] == ["nightly"]
    table = command("schedule", "list", *on[:-1]).stdout
    assert "cron(30 2 * * *)" in table
    assert "Europe/Berlin" in table
    assert command("schedule", "remove", "nightly", *on).returncode == 0
    gone = command("schedule", "show", "nightly", *on)
    assert gone.returncode == 2
    assert "arbiter schedule list" in gone.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cron", "0 25 * * *"], "cron: '0 25 * * *' was refused. Its hour is not one that cron knows"),
        (["--rate", "1 moon"], "rate: '1 moon' was refused."),
        (["--at", "2001-01-01T00:00"], "It is over: the server's clock shows"),
        (["--cron", "@daily", "--timezone", "Moon/Base"], "timezone: 'Moon/Base' was refused."),
        ([], "one of the arguments --at --rate --cron is required"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    redis_server: RedisServer, board_name: str, words: list[str], said: str
) -> None:
    done = command("schedule", "add", "s", "go", *words, "--url", redis_server.url, "--board", board_name)
    assert done.returncode == 2
    assert said in done.stderr
