"""The commands that stop runs, let them rest and let them go on, and those about quotas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from arbiter import Arbiter, Quota, QuotaExceeded
from arbiter.cli import main
from blackboard.board import Board
from blackboard.events import RoundPlannedData
from blackboard.testing import RedisServer
from blackboard.types import Limits, Status, TaskSpec

Say = Callable[..., str]


@pytest.fixture
def place(redis_server: RedisServer, board_name: str) -> list[str]:
    return ["--url", redis_server.url, "--board", board_name]


@pytest.fixture
def say(place: list[str], capsys: pytest.CaptureFixture[str]) -> Say:
    def said(*words: str) -> str:
        assert main([*words, *place]) == 0
        return capsys.readouterr().out

    return said


def submitted(place: list[str], *requests: str, tenant: str = "default") -> list[str]:
    async def submit() -> list[str]:
        async with await Board.open(place[1], board=place[3]) as board:
            return [await board.submit(request, tenant=tenant) for request in requests]

    return asyncio.run(submit())


def working(place: list[str], run: str) -> None:
    """The run's first decision posted three tasks; the first is being worked on."""

    async def work() -> None:
        async with await Board.open(place[1], board=place[3]) as board:
            (step,) = await board.claim("p", ["arbiter"])
            tasks = [TaskSpec(key=key, tool_use_id=key, capability="c", lane="w") for key in ("one", "two", "three")]
            planned = RoundPlannedData(round=1, message={"role": "assistant", "content": []})
            await board.commit_step(step, planned, tasks, Limits())
            (claim,) = await board.claim("w", ["w"])
            await board.complete(claim, claim.completion(Status.SUCCEEDED, data=1))

    asyncio.run(work())


def test_a_run_is_cancelled_and_each_task_accounted_for(place: list[str], say: Say) -> None:
    (run,) = submitted(place, "go")
    working(place, run)
    assert say("cancel", run, "--wait").splitlines() == [
        f"{run}  cancelled", "  1.one  finished", "  1.two  stopped", "  1.three  stopped"
    ]  # fmt: skip
    told = json.loads(say("cancel", run, "--wait", "--json"))
    assert told["tasks"] == {f"{run}/1.one": "finished", f"{run}/1.two": "stopped", f"{run}/1.three": "stopped"}


def test_one_task_is_cancelled_by_its_key(place: list[str], say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = submitted(place, "go")
    working(place, run)
    assert say("cancel", run, "--task", "two") == "cancelled\n"
    assert say("cancel", run, "--task", "1.one") == "succeeded\n"
    assert main(["cancel", run, "--task", "four", *place]) == 2
    assert "no task four" in capsys.readouterr().err
    assert json.loads(say("show", run, "--json"))["status"] == "running"


def test_runs_are_cancelled_paused_and_resumed_by_filter(place: list[str], say: Say) -> None:
    mine = submitted(place, "red", "blue", "red too", tenant="acme")
    submitted(place, "red as well", tenant="other")
    meant = ["--where", "tenant=acme text~red"]
    assert len(say("pause", *meant, "--dry-run").splitlines()) == 2
    assert say("runs", "--where", "status=paused") == ""
    paused = [json.loads(line) for line in say("pause", *meant, "--for", "2h", "--json").splitlines()]
    assert {one["run_id"]: one["status"] for one in paused} == {mine[0]: "paused", mine[2]: "paused"}
    listed = [json.loads(line) for line in say("runs", "--where", "status=paused", "--json").splitlines()]
    assert len(listed) == 2
    assert say("resume", mine[0]) == "queued\n"
    assert {line.split()[1] for line in say("cancel", *meant).splitlines()} == {"cancelled"}
    assert say("cancel", *meant) == ""
    left = [json.loads(line) for line in say("runs", "--where", "status=queued", "--json").splitlines()]
    assert len(left) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cancel"], "Name a run"),
        (["cancel", "r1", "--where", "tenant=x"], "Name a run"),
        (["cancel", "--where", "tenant=x", "--task", "a"], "the one RUN"),
        (["pause", "--where", "colour=red"], "status=failed"),
        (["pause", "r1", "--for", "soon"], "90s"),
        (["quotas", "set", "board"], "at_once"),
        (["quotas", "set", "board", "--at-once", "0"], "--at-once"),
        (["quotas", "set", "nobody", "--at-once", "1"], "tenant:"),
        (["quotas", "set", "tenant:acme", "--tokens-per-minute", "1"], "model:NAME"),
        (["quotas", "set", "model:m", "--tokens-per-minute", "few"], "--tokens-per-minute"),
        (["quotas", "remove", "nobody"], "tenant:"),
    ],
)
def test_what_makes_no_sense_is_refused_with_words(
    place: list[str], capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main([*words, *place]) == 2
    assert says in capsys.readouterr().err


def test_quotas_are_set_listed_and_taken_away(place: list[str], say: Say) -> None:
    assert say("quotas") == ""
    say("quotas", "set", "tenant:acme", "--at-once", "4", "--per-second", "2.5", "--burst", "3", "--open-runs", "2")
    say("quotas", "set", "tenant:gold", "--weight", "3")
    submitted(place, "one", tenant="acme")
    say("quotas", "set", "model:m", "--tokens-per-minute", "200000")
    head, model, acme, gold = [line.split() for line in say("quotas").splitlines()]
    assert head[0] == "SUBJECT"
    assert acme == ["tenant:acme", "0", "of", "4", "2.5,", "bursts", "of", "3", "1", "of", "2", "1"]
    assert gold == ["tenant:gold", "3"]
    assert model == ["model:m", "0", "of", "200,000", "1"]
    (counted, first, _) = (json.loads(line) for line in say("quotas", "--json").splitlines())
    assert (counted["tokens_per_minute"], counted["used"]["tokens"]) == (200_000, 0)
    assert first["used"] == {"running": 0, "tokens": None, "open_runs": 1}
    say("quotas", "remove", "tenant:acme")
    assert "acme" not in say("quotas")


async def test_a_program_stops_pauses_and_bounds(redis_server: RedisServer, board_name: str) -> None:
    async with Arbiter(redis_server.url, board=board_name, roles=()) as a:
        await a.quotas.set(Quota(subject="tenant:default", open_runs=2))
        first, second = [await a.submit("go") for _ in range(2)]
        with pytest.raises(QuotaExceeded) as full:
            await a.submit("go")
        assert full.value.retry_after_seconds > 0
        assert await a.pause(first) == "paused"
        assert await a.cancel_where("text~go status=paused") == {first: "cancelled"}
        assert (await a.cancel_report(first)).status == "cancelled"
        assert await a.resume(second) == "queued"
        assert await a.submit("go")
