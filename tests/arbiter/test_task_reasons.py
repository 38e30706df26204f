"""``arbiter why RUN/TASK``: what made a task, why this capability and version, what it waited for, how its attempts ended."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from arbiter import Approval, Arbiter, Call, RetryPolicy, ScriptedModel, capability
from arbiter.cli import main
from blackboard.testing import RedisServer

PLAN = {
    "tool": "post_plan",
    "input": {
        "tasks": [
            {"key": "found", "capability": "find_item", "input": {"words": "fries"}},
            {"key": "price", "capability": "price_of", "input": {"item": {"$ref": "found#"}}},
        ]
    },
}


@capability(effects="reads")
def find_item(words: str) -> str:
    """Find the item that words mean."""
    return words.upper()


def price_of() -> Any:
    calls: list[str] = []

    @capability(name="price_of", effects="reads", retry=RetryPolicy(interval_seconds=0), approval=Approval())
    def once_busy(item: str) -> int:
        """Say the price of an item in cents."""
        calls.append(item)
        if len(calls) == 1:
            raise ConnectionError("the shop is busy")
        return 350

    return once_busy


@pytest.fixture
def place(redis_server: RedisServer, board_name: str) -> list[str]:
    return ["--url", redis_server.url, "--board", board_name]


async def planned(url: str, board: str) -> str:
    """A run with a task that waited for another one and for a person, failed once, and ended well."""
    model = ScriptedModel([PLAN, "3.50"])
    async with Arbiter(url, model, board=board, capabilities=[find_item, price_of()]) as a:
        run = await a.submit("What is the price of fries?")
        async for event in a.stream(run_id=run):
            if event.kind == "approval.asked":
                await a.approvals.approve(event.subject, by="anna")
        assert (await a.result(run)).ok
    return run


def test_why_tells_of_a_task_what_made_it_what_it_waited_for_and_how_its_attempts_ended(
    redis_server: RedisServer, board_name: str, place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = asyncio.run(planned(redis_server.url, board_name))
    assert main(["why", f"{run[:-3]}/1.price", "--json", *place]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["task"], told["capability"], told["kind"]) == (f"{run}/1.price", "price_of", "capability")
    assert (told["posted_in"], told["tool"], told["given"]) == (1, "post_plan", PLAN["input"])
    assert (told["pinned_in"], told["shown"], len(told["version"])) == (1, 2, 64)
    assert told["decided_in"] == 1
    assert "price_of" in [each["name"] for each in told["decision"]["candidates"]]
    assert [(one["task"], one["state"]) for one in told["waited_for"]] == [(f"{run}/1.found", "succeeded")]
    assert (told["asked"]["kind"], told["said"]["state"], told["said"]["by"]) == ("approval", "approved", "anna")
    assert [(each["number"], each["ended"]) for each in told["attempts"]] == [(1, "repeated"), (2, "succeeded")]
    assert told["attempts"][0]["error"]["message"] == "ConnectionError: the shop is busy"
    assert (told["begun"], told["state"]) == (2, "succeeded")

    assert main(["why", f"{run}/1.price", *place]) == 0
    said = capsys.readouterr().out
    for part in (
        f"{run}/1.price  capability price_of, succeeded", "Posted in round 1: the model called post_plan",
        f"Version {told['version'][:12]}, pinned in round 1", "The matcher's decision in round 1:",
        f"Waited for {run}/1.found (find_item): succeeded after", "was approved by anna",
        "Attempt 1 failed, again in 0.00 s: handler_error: ConnectionError: the shop is busy",
        "Attempt 2 ended as succeeded on wrapper@",
    ):  # fmt: skip
        assert part in said


def test_why_tells_of_a_call_that_nothing_was_decided_and_of_one_that_waits_that_it_was_not_begun(
    redis_server: RedisServer, board_name: str, place: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def called() -> str:
        async with Arbiter(redis_server.url, board=board_name, roles=()) as a:
            await a.registry.register(find_item.manifest)
            return await a.submit(Call("find_item", {"words": "fries"}))

    run = asyncio.run(called())
    assert main(["why", f"{run}/0.call", *place]) == 0
    said = capsys.readouterr().out
    assert "Posted as what the run was accepted to call." in said
    assert "pinned when the run was accepted" in said
    assert "No decision of the matcher names it." in said
    assert "It is ready, after 0 attempts begun." in said


@pytest.mark.parametrize(
    ("word", "remedy"), [("1.prices", "The run has 1.found, 1.price."), ("", "The run has 1.found")]
)
def test_a_task_that_is_not_there_is_refused_with_those_that_are(
    redis_server: RedisServer,
    board_name: str,
    place: list[str],
    capsys: pytest.CaptureFixture[str],
    word: str,
    remedy: str,
) -> None:
    run = asyncio.run(planned(redis_server.url, board_name))
    assert main(["why", f"{run}/{word}", *place]) == 2
    assert remedy in capsys.readouterr().err
    assert main(["why", "nothing/1.price", *place]) == 2
    assert "no run nothing" in capsys.readouterr().err
