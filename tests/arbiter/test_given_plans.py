"""Runs that are given their plan are carried out without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, arbiter
from cli_process import arbiter as command
from plan_steps import half, ref, say, step

from arbiter import Arbiter, BadInput, Call, Conflict, Limits, ScriptedModel
from arbiter.replaying import replay_runs
from blackboard.invariants import faults
from blackboard.testing import RedisServer

PLAN = [
    step("halves", "half", {"n": ref("item")}, each="request#/numbers", tolerate=1, retry={"max_attempts": 1}),
    say("much", "much", when="halves.0.n>10"),
    say("little", "little", else_of="much"),
]
CAPABILITIES = (*FUNCTIONS, half)


async def test_a_plan_is_carried_to_its_end_without_a_model(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["never asked"], capabilities=CAPABILITIES, limits=Limits(rounds=1)) as (
        a,
        model,
    ):
        result = await a.run({"numbers": [2, 3]}, plan=PLAN, timeout=60)
        one = await a.run({"numbers": [40]}, plan=[PLAN[0]], timeout=60)
        assert await faults(a.board) == []
    assert (result.status, result.answer) == ("succeeded", '{"little": "little"}')
    assert (one.status, one.answer) == ("succeeded", '[{"n": 20}]'), "of a single last step its result alone"
    assert len(model.calls) == 0
    assert result.usage.total_tokens == 0
    assert [turn.attending for turn in result.state.rounds] == [False, True, True, True]
    assert [turn.carrying for turn in result.state.rounds] == [False, True, True, True], "none attends to open requests"


async def test_a_plan_whose_failure_nothing_catches_fails_its_run(redis_server: RedisServer) -> None:
    plan = [step("all", "half", {"n": ref("item")}, each="request#/numbers"), say("end", ref("all"))]
    async with arbiter(redis_server.url, ["never asked"], capabilities=CAPABILITIES) as (a, _):
        result = await a.run({"numbers": [3]}, plan=plan, timeout=60)
    assert (result.status, result.error.type) == ("failed", "plan_failed")
    assert "all failed with items_failed: 1 of 1 items failed" in result.error.message
    assert "end was cancelled: it uses the result of all, which failed" in result.error.message


@pytest.mark.parametrize(("n", "answer"), [(3, '{"instead": "handler_error"}'), (4, '{"try": {"n": 2}}')])
async def test_a_caught_failure_does_not_fail_the_run(redis_server: RedisServer, n: int, answer: str) -> None:
    plan = [
        step("try", "half", {"n": n}, catch="instead", retry={"max_attempts": 1}),
        say("instead", ref("error#/type")),
    ]
    async with arbiter(redis_server.url, ["never asked"], capabilities=CAPABILITIES) as (a, _):
        result = await a.run("Try.", plan=plan, timeout=60)
    assert (result.status, result.answer) == ("succeeded", answer)


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ([say("a", "x", when="b?")], "'b' is no key"),
        ([say("a", "x"), say("a", "y")], "keys must be unique; repeated: a"),
        ([{"key": "a", "capability": "echo"}], "'input' is a required property"),
        ([say("a", "x", speed=1)], "'speed' was unexpected"),
        ([say("a", "x", after=["b"]), say("b", "x", after=["a"])], "wait for each other"),
    ],
)
async def test_a_malformed_plan_is_refused_at_submission(
    redis_server: RedisServer, plan: list[dict[str, Any]], says: str
) -> None:
    async with arbiter(redis_server.url, ["never asked"]) as (a, _):
        with pytest.raises(BadInput, match="plan: ") as refused:
            await a.submit("Try.", plan=plan)
        assert list(await a.runs()) == []
    assert says in str(refused.value)


async def test_what_cannot_have_a_plan_says_so(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["never asked"]) as (a, _):
        with pytest.raises(BadInput, match="leave it away"):
            await a.submit(Call("echo", {"text": "x"}), plan=[say("a", "x")])


async def test_a_plan_for_which_there_is_no_capability_fails_with_the_reason(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["never asked"]) as (a, _):
        result = await a.run("Try.", plan=[step("a", "gone"), say("b", "x")], timeout=60)
        many = await a.run("Try.", plan=[say("a", "x"), say("b", "x")], limits=Limits(tasks=1), timeout=60)
    assert (result.status, result.error.type, result.state.work) == ("failed", "invalid_plan", [])
    assert "There is no capability 'gone'" in result.error.message
    assert "search_capabilities" not in result.error.message, "no model reads it"
    assert (many.status, many.error.type) == ("failed", "limit")


async def test_the_same_key_with_another_plan_is_another_request(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["never asked"]) as (a, _):
        first = await a.submit("Go.", plan=[say("a", "x")], idempotency_key="k")
        assert await a.submit("Go.", plan=[say("a", "x")], idempotency_key="k") == first
        with pytest.raises(Conflict):
            await a.submit("Go.", plan=[say("a", "y")], idempotency_key="k")


async def test_a_run_with_a_plan_is_redriven_and_replayed_with_it(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["never asked"], capabilities=CAPABILITIES) as (a, model):
        plan = [step("all", "half", {"n": 3}, retry={"max_attempts": 1})]
        failed = await a.run("Try.", plan=plan, timeout=60)
        again = await a.result(await a.dead_letters.redrive(failed.run_id), timeout=60)
        log = [event.model_dump(mode="json") for event in await a.board.history(failed.run_id)]
        made: list[str] = []
        await replay_runs(a.board, log, name="again", made=lambda one: made.append(one.run_id))
        replayed = await a.result(made[0], timeout=60)
    assert {one.error.type for one in (failed, again, replayed) if one.error} == {"plan_failed"}
    assert len({failed.run_id, again.run_id, replayed.run_id}) == 3
    assert len(model.calls) == 0


def test_a_plan_in_a_file_is_run_by_the_command(redis_server: RedisServer, tmp_path: Path, board_name: str) -> None:
    (tmp_path / "abilities.py").write_text(
        "from arbiter import capability\n\n@capability\ndef double(number: int) -> int:\n"
        '    """Double a number."""\n    return 2 * number\n'
    )
    (tmp_path / "plan.json").write_text(
        json.dumps([step("all", "double", {"number": ref("item")}, each="request#/numbers")])
    )
    (tmp_path / "model.json").write_text(
        json.dumps({"label": "silent", "scenes": [{"match": "nothing", "turns": ["x"]}]})
    )
    words = ["run", '{"numbers": [1, 21]}', "--plan", "plan.json", "--capabilities", "abilities.py", "--quiet"]
    words += ["--model", "scripted:model.json"]
    done = command(*words, "--url", redis_server.url, "--board", board_name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[2, 42]\n"), done.stderr
    loud = [word for word in words if word != "--quiet"]
    done = command(*loud, "--url", redis_server.url, "--board", board_name, cwd=tmp_path)
    assert any(line.endswith("round 1: post_plan") for line in done.stderr.splitlines()), done.stderr
    (tmp_path / "plan.json").write_text("{}")
    done = command(*words, "--url", redis_server.url, "--board", board_name, cwd=tmp_path)
    assert done.returncode == 2
    assert "Write a JSON array of steps" in done.stderr


async def test_another_process_without_a_model_ends_what_one_began(redis_server: RedisServer, board_name: str) -> None:
    where: dict[str, Any] = {"board": board_name, "capabilities": CAPABILITIES, "model": ScriptedModel(["never asked"])}
    async with Arbiter(redis_server.url, roles=("arbiter",), **where) as first:
        run = await first.submit({"numbers": [2]}, plan=PLAN)
    async with Arbiter(redis_server.url, roles=("arbiter", "wrapper"), **where) as second:
        result = await second.result(run, timeout=60)
    assert result.answer == '{"little": "little"}'


def test_a_program_without_an_event_loop_has_a_plan_carried_out(redis_server: RedisServer, board_name: str) -> None:
    a = Arbiter(redis_server.url, ScriptedModel(["never asked"]), board=board_name, capabilities=CAPABILITIES)
    assert a.run_sync("Halve.", plan=[step("one", "half", {"n": 4})], timeout=60).answer == '{"n": 2}'
