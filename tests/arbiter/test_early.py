"""The model is asked though tasks are at work: because one failed, or because the round lasts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, answers, arbiter, call, completions
from gates import Gates
from plan_steps import keys, post, say, step

from arbiter import AgendaTerms, Arbiter, Limits, RunResult, ScriptedModel, awaiting, capability
from arbiter.conversation import messages
from arbiter.fold import fold
from arbiter.narration import narrate
from arbiter.plans import Plan, parse
from arbiter.prompts import EARLY as TOLD
from arbiter.recalling import View
from arbiter.testing import Clock
from arbiter.tools import STOP, WAIT
from blackboard import events
from blackboard.events import Context
from blackboard.invariants import faults
from blackboard.testing import RedisServer
from blackboard.types import Status, TaskSpec
from wrapper.models.quoting import unquoted

EARLY = Limits(round_seconds=600)


@pytest.fixture
def gates() -> Gates:
    return Gates()


def said(message: Any) -> dict[str, Any]:
    """What the results of a message say, by tool use, and under '' what stands behind them."""
    found: dict[str, Any] = {}
    for part in message["content"]:
        if "toolResult" in part:
            text = unquoted(part["toolResult"]["content"][0]["text"])
            found[part["toolResult"]["toolUseId"]] = json.loads(text) if text[0] == "{" else text
        elif "earlier_tasks" in part["text"]:
            found[""] = json.loads(unquoted(part["text"]))["earlier_tasks"]
    return found


def told(model: ScriptedModel, request: int) -> dict[str, Any]:
    return said(model.calls[request].messages[-1])


async def rebuilt(a: Arbiter, result: RunResult, model: ScriptedModel) -> None:
    """Whoever reads the log builds the conversation that was had."""
    state = fold(result.run_id, await a.board.history(result.run_id))
    assert messages(state)[: len(model.calls[-1].messages)] == model.calls[-1].messages
    for number, asked in enumerate(model.calls):
        assert model.calls[-1].messages[: len(asked.messages)] == asked.messages, f"request {number}"


async def _round(a: Arbiter, run: str, number: int) -> None:
    async for event in a.stream(run_id=run):
        if isinstance(event, events.RoundPlanned) and event.data.round == number:
            return


def early(result: RunResult) -> list[bool]:
    return [turn.early for turn in result.state.rounds]


async def test_the_model_is_asked_when_a_task_failed_and_told_of_the_rest_once_it_is_over(
    redis_server: RedisServer, gates: Gates
) -> None:
    turns = [[call("hold", name="g"), call("broken", reason="no")], [call("let", name="g"), call(WAIT)], "done"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (
        a,
        model,
    ):
        result = await a.run("go", timeout=60)
        assert await faults(a.board) == []
        await rebuilt(a, result, model)
        lines = [narrate(event) for event in await a.board.history(result.run_id)]
    assert (result.answer, early(result)) == ("done", [False, True, False])
    cut = Context(first=2)
    result.state.rounds[1].context = cut
    assert "hold: hold at work" in str(messages(result.state, view=View(cut))[0]), "it was, when that was chosen"
    first = told(model, 1)
    hold = result.state.work[0]
    assert first["tooluse_0_0"] == {
        "status": "at work", "since": hold.posted_at.isoformat(timespec="seconds"),
        "note": "Its result follows later, under its key.",
    }  # fmt: skip
    assert first["tooluse_0_1"]["error"]["message"] == "RuntimeError: no"
    second = told(model, 2)
    assert second["tooluse_1_0"] == "g"
    assert second[""] == {"ended": [{"key": "hold", "capability": "hold", "status": "succeeded", "data": "g"}]}
    assert [line.partition(" [")[0] for line in lines if line and line.startswith("round")] == [
        "round 1: hold, broken", "round 2, before the round was over: let, wait_for_tasks", "round 3: answer",
    ]  # fmt: skip


async def test_without_the_setting_nothing_is_different(redis_server: RedisServer, gates: Gates) -> None:
    turns = [[call("broken", reason="no"), call("echo", text="x")], call(WAIT), "done"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities)) as (a, model):
        result = await a.run("go", timeout=60)
        log = await a.board.client.xrange(a.board.shard_of(result.run_id).log(result.run_id))
        written = json.dumps(log)
    assert early(result) == [False] * 3
    assert not {WAIT, STOP} & {spec["name"] for spec in model.calls[0].tool_specs}
    assert TOLD not in model.calls[0].system_prompt
    assert "There is no capability 'wait_for_tasks'" in str(answers(result)[-1])
    assert "round_seconds" not in written
    assert '"seen"' not in written


async def test_with_the_setting_the_model_is_told_how_it_works(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["done"], limits=EARLY, instructions="Be brief.") as (a, model):
        await a.run("go", timeout=60)
    assert {WAIT, STOP} <= {spec["name"] for spec in model.calls[0].tool_specs}
    assert TOLD in model.calls[0].system_prompt
    assert model.calls[0].system_prompt.endswith("Be brief.\n")


async def test_the_model_stops_what_has_lost_its_point(redis_server: RedisServer, gates: Gates) -> None:
    turns = [
        [call("hold", name="g"), call("hold", name="h"), call("broken", reason="no")],
        [call(STOP, tasks=["hold"], why="broken is needed"), call("let", name="h")],
        "done",
    ]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (
        a,
        model,
    ):
        result = await a.run("go", timeout=60)
        assert await faults(a.board) == []
        await rebuilt(a, result, model)
    assert told(model, 2)["tooluse_1_0"] == "Being stopped: hold."
    ended = {one["key"]: one for one in told(model, 2)[""]["ended"]}
    assert ended["hold_2"]["data"] == "h"
    assert (ended["hold"]["status"], ended["hold"]["stopped_because"]) == ("cancelled", "broken is needed")


async def test_an_answer_ends_the_run_and_stops_what_is_at_work(redis_server: RedisServer, gates: Gates) -> None:
    turns = [[call("hold", name="g"), call("broken", reason="no")], "It cannot be done."]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (a, _):
        result = await a.run("go", timeout=60)
        assert await faults(a.board) == []
        (reason,) = [event.data.reason for event in await a.board.history(result.run_id)
                     if isinstance(event, events.RunCancelling)]  # fmt: skip
    assert (result.status, result.answer) == ("succeeded", "It cannot be done.")
    assert completions(result)["hold"].status is Status.CANCELLED
    assert reason == "The run was answered while this was at work."


async def test_an_empty_answer_fails_the_run_though_work_goes_on(redis_server: RedisServer, gates: Gates) -> None:
    turns = [[call("hold", name="g"), call("broken", reason="no")], " "]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (a, _):
        result = await a.run("go", timeout=60)
        assert await faults(a.board) == []
    assert (result.status, result.error.type) == ("failed", "empty_answer")


async def test_who_waits_for_nothing_or_stops_what_is_not_at_work_is_told(
    redis_server: RedisServer, gates: Gates
) -> None:
    turns = [
        call(WAIT),
        [call("hold", name="g"), call("broken", reason="no")],
        [call(STOP, tasks=["hold", "other"], why="x"), call("let", name="g")],
        "done",
    ]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (a, _):
        result = await a.run("go", timeout=60)
    assert completions(result)["hold"].status is Status.SUCCEEDED
    assert answers(result) == [
        "No task is at work any more: call something else, or answer.",
        "Nothing was stopped: 'other' is not at work. At work: hold.",
    ]


async def test_nothing_can_refer_to_what_is_at_work(redis_server: RedisServer, gates: Gates) -> None:
    plan = post(
        step("all", "hold", {"name": {"$ref": "item"}}, each="request#/all"), step("no", "broken", {"reason": "x"})
    )
    turns = [
        plan,
        [call("echo", text={"$ref": "all"}), call("echo", text={"$ref": "all.0"}), call("let", name="g")],
        "done",
    ]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (a, _):
        result = await a.run({"all": ["g"]}, timeout=60)
        assert await faults(a.board) == []
    said = [str(one) for one in answers(result)]
    assert "$ref names 'all'; the keys are" in said[-2]
    assert "$ref names 'all.0'; the keys are" in said[-1]


async def test_rounds_before_the_end_count_and_the_last_there_may_be_is_kept_for_the_end(
    redis_server: RedisServer, gates: Gates
) -> None:
    @capability
    async def late(name: str) -> str:
        """Fail when the gate is open."""
        await gates.gate(name).wait()
        raise ValueError(name)

    turns = [
        [call("hold", name="end"), call("late", name="b"), call("broken", reason="no")],
        call("let", name="b"),
        "done",
    ]
    limits = Limits(round_seconds=600, rounds=3)
    abilities = (*FUNCTIONS, *gates.capabilities, late)
    async with arbiter(redis_server.url, turns, capabilities=abilities, limits=limits) as (a, model):
        run = await a.submit("go")
        await _round(a, run, 3)
        gates.gate("end").set()
        result = await a.result(run, timeout=60)
        assert await faults(a.board) == []
        await rebuilt(a, result, model)
    assert (result.answer, early(result)) == ("done", [False, True, False, False])
    assert [turn.attending for turn in result.state.rounds] == [False, False, True, False]
    assert {one["key"] for one in told(model, 2)[""]["ended"]} == {"hold", "late"}


def test_what_two_plans_hold_back_has_two_names() -> None:
    """Tasks of the first may still be at work when the second is posted."""
    plan = Plan(parse([say("a", "x"), say("b", "y", when="a=x")])[0])
    task = TaskSpec(key="a", tool_use_id="t", capability="echo", lane="work")
    (one,), first = awaiting.first(plan, [task], 1)
    (other,), second = awaiting.first(plan, [task], 2)
    assert set(first.on) == set(one.awaited_by)
    assert not set(first.on) & set(second.on)
    assert not set(one.awaited_by) & set(other.awaited_by)


# ---- plans, agendas ----------------------------------------------------------------------------------------------------


async def test_a_plan_whose_steps_are_all_posted_is_told_step_by_step(redis_server: RedisServer, gates: Gates) -> None:
    plan = post(
        step("slow", "hold", {"name": "g"}), step("no", "broken", {"reason": "x"}), say("then", {"$ref": "slow"}),
    )  # fmt: skip
    turns = [plan, [call("let", name="g")], "done"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (
        a,
        model,
    ):
        result = await a.run("go", timeout=60)
        assert await faults(a.board) == []
        await rebuilt(a, result, model)
    steps = told(model, 1)["tooluse_0_0"]["tasks"]
    assert {key: one["status"] for key, one in steps.items()} == {"slow": "at work", "no": "failed", "then": "at work"}
    assert [(one["key"], one["data"]) for one in told(model, 2)[""]["ended"]] == [("slow", "g"), ("then", "g")]


async def test_a_plan_that_holds_steps_back_is_carried_on_first_and_then_the_model_is_told_of_the_failure(
    redis_server: RedisServer, gates: Gates
) -> None:
    plan = post(
        step("slow", "hold", {"name": "g"}), say("quick", "x"), step("no", "broken", {"reason": "x"}, catch="instead"),
        say("instead", "i"), say("then", "t", when="instead=i quick=x"),
    )  # fmt: skip
    turns = [plan, [call("let", name="g")], "done"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (
        a,
        model,
    ):
        result = await a.run("go", timeout=60)
        assert await faults(a.board) == []
        await rebuilt(a, result, model)
    assert keys(result)[-1] == "let", "all of the plan was posted before"
    steps = told(model, 1)["tooluse_0_0"]["tasks"]
    assert (steps["slow"]["status"], steps["no"]["caught_by"]) == ("at work", "instead")
    assert [(one["key"], one["status"]) for one in told(model, 2)[""]["ended"] if one["key"] == "slow"] == [
        ("slow", "succeeded")
    ]


async def test_while_a_plan_holds_a_step_back_the_model_is_not_asked(redis_server: RedisServer, gates: Gates) -> None:
    plan = post(
        step("slow", "hold", {"name": "g"}), step("no", "broken", {"reason": "x"}), say("then", "t", when="slow=g")
    )
    async with arbiter(
        redis_server.url, [plan, "done"], capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY
    ) as (a, model):
        run = await a.submit("go")
        await _round(a, run, 2)
        gates.gate("g").set()
        result = await a.result(run, timeout=60)
        assert await faults(a.board) == []
    assert (keys(result), any(early(result)), len(model.calls)) == (["slow", "no", "then"], False, 2)


async def test_a_run_that_was_given_its_plan_has_no_model_to_ask(redis_server: RedisServer, gates: Gates) -> None:
    plan = [step("slow", "hold", {"name": "g"}), say("q", "x"), step("no", "broken", {"reason": "x"}, when="q=x")]
    async with arbiter(redis_server.url, ["never"], capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (
        a,
        model,
    ):
        run = await a.submit("go", plan=plan)
        async for event in a.stream(run_id=run):
            if isinstance(event, events.TaskCompleted) and event.subject == f"{run}/2.no":
                break
        gates.gate("g").set()
        result = await a.result(run, timeout=60)
        assert await faults(a.board) == []
    assert (result.error.type, [turn.carrying for turn in result.state.rounds]) == (
        "plan_failed",
        [False, True, True],
    )
    assert not model.calls


async def test_an_open_request_is_waited_for_before_the_model_is_asked(redis_server: RedisServer, gates: Gates) -> None:
    asks = call("open_request", name="who", question="Who?", seconds=0.5)
    turns = [[asks, call("hold", name="g"), call("broken", reason="x")], "done"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=EARLY) as (
        a,
        model,
    ):
        run = await a.submit("go", agenda=AgendaTerms())
        await _round(a, run, 2)
        gates.gate("g").set()
        result = await a.result(run, timeout=60)
        assert await faults(a.board) == []
    assert (result.answer, any(early(result)), len(model.calls)) == ("done", False, 2)


# ---- a round that lasts ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("servers_time")
async def test_g6_a_round_that_lasts_is_asked_about_after_longer_and_longer_times(
    redis_server: RedisServer, gates: Gates
) -> None:
    turns = [call("hold", name="g"), call(WAIT), call(WAIT), call("let", name="g"), "done"]
    limits = Limits(round_seconds=10, seconds=3000, task_seconds=2000, attempt_seconds=2000)
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *gates.capabilities), limits=limits) as (
        a,
        model,
    ):
        clock = Clock(a.board)
        run = await a.submit("go")
        for number, seconds in enumerate((10, 20, 40), 1):
            await _round(a, run, number)
            await clock.advance(seconds - 5)
            state = fold(run, await a.board.history(run))
            assert f"{run}/s{number + 1}" not in state.tasks, "it is not asked yet"
            await clock.advance(6)
        result = await a.result(run, timeout=60)
        assert await faults(a.board) == []
        await rebuilt(a, result, model)
    assert (result.answer, early(result)) == ("done", [False, True, True, True, False])
    assert told(model, 2)[""] == {"at_work": [{"key": "hold", "capability": "hold", **told(model, 1)["tooluse_0_0"]}]}
    assert told(model, 4)[""]["ended"][0]["data"] == "g"
