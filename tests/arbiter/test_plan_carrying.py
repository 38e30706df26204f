"""Plans that are carried on without the model: choices, maps, waits and caught failures, on a real board."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, arbiter, call, completions
from plan_steps import followed, half, keys, post, ref, say, step, told
from test_volunteering import ACCOUNT, bidder, look_up

from arbiter import AgendaTerms, Approval, Arbiter, Limits, ScriptedModel, capability, events
from arbiter.fold import current, fold
from arbiter.following import Following
from arbiter.task_reasons import reasons
from arbiter.testing import Clock
from arbiter.tools import PLAN
from blackboard.invariants import faults
from blackboard.testing import RedisServer

CAPABILITIES = (*FUNCTIONS, half)


async def posted(a: Arbiter, run: str, key: str) -> None:
    """Returns when a task with a key was."""
    async for event in a.stream(run_id=run):
        if isinstance(event, events.TaskPosted) and event.data.key == key:
            return


@pytest.mark.parametrize(("a", "chosen"), [(200, "much"), (20, "some"), (0, "none")])
async def test_a_choice_runs_the_first_step_whose_conditions_hold(
    redis_server: RedisServer, a: int, chosen: str
) -> None:
    plan = post(
        step("sum", "add", {"a": a, "b": 0}),
        say("much", "much", when="sum.sum>100"),
        say("some", "some", when="sum.sum>1", else_of="much"),
        say("none", "none", else_of="some"),
        say("end", {"$first": ["much", "some", "none"]}),
        say("joined", "x", after=["much", "some", "none"]),
        say("lost", ref("much")),
    )
    async with arbiter(redis_server.url, [plan, "{{ results.post_plan.tasks.end.data }}"]) as (a_, model):
        result = await a_.run("Choose.", timeout=60)
        assert await faults(a_.board) == []
    assert result.answer == chosen
    lost = ["lost"] if chosen == "much" else []
    assert set(keys(result)) == {"sum", chosen, "end", "joined", *lost}
    assert len(model.calls) == 2, "the model plans and answers"
    said = told(model)
    assert said[""] == "success"
    assert {key for key in ("much", "some", "none") if said[key]["status"] == "skipped"} == (
        {"much", "some", "none"} - {chosen}
    )
    if chosen == "some":
        assert said["much"]["why"] == "sum.sum>100 does not hold"
        assert said["none"]["why"] == "it is for what is not some, and sum.sum>1 holds"
        assert said["lost"] == {
            "capability": "echo", "status": "skipped", "why": "it uses the result of much, which was skipped",
        }  # fmt: skip


async def test_a_choice_may_ask_about_the_request_and_results_of_earlier_rounds(redis_server: RedisServer) -> None:
    plan = post(
        say("yes", "yes", when="request.urgent=true add.sum>=3"),
        say("no", "no", when="request.urgent=false"),
    )
    async with arbiter(redis_server.url, [call("add", a=1, b=2), plan, "done"]) as (a, _):
        result = await a.run({"urgent": True}, timeout=60)
    assert keys(result) == ["add", "yes"]


async def test_what_ended_in_an_earlier_round_holds_nobody_up(redis_server: RedisServer) -> None:
    plan = post(say("on", "x", after=["broken"], when="request?"), say("never", ref("broken"), when="broken?"),
                say("other", {"$first": ["broken", "on"]}))  # fmt: skip
    async with arbiter(redis_server.url, [call("broken", reason="no"), plan, "done"]) as (a, _):
        result = await a.run("go", timeout=60)
    assert keys(result) == ["broken", "on", "other"]


async def test_conditions_keep_a_step_from_what_is_not_there(redis_server: RedisServer) -> None:
    plan = post(
        say("with", ref("request#/coupon"), when="request.coupon?"), say("without", "none", else_of="with"),
        say("end", {"$first": ["with", "without"]}),
    )  # fmt: skip
    turns = [plan, "{{ results.post_plan.tasks.end.data }}"]
    async with arbiter(redis_server.url, turns) as (a, _):
        assert (await a.run({"coupon": "c"}, timeout=60)).answer == "c"
        assert (await a.run({"none": 1}, timeout=60)).answer == "none"


async def test_a_step_of_which_no_task_can_be_made_is_caught_as_well(redis_server: RedisServer) -> None:
    plan = post(
        step("all", "half", {"n": ref("item")}, each="request#/n", catch="instead"),
        say("instead", ref("error#/type")),
        step("many", "half", {"n": ref("item")}, each="request#/many", catch="few"),
        say("few", ref("error#/message")),
        say("end", {"$first": ["all", "instead"]}, after=["all", "many"]),
    )
    limits = Limits(tasks=20)
    async with arbiter(redis_server.url, [plan, "done"], limits=limits, capabilities=CAPABILITIES) as (a, model):
        result = await a.run({"n": 4, "many": [2] * 30}, timeout=60)
    said = told(model)
    assert (said["all"]["caught_by"], said["instead"]["data"]) == ("instead", "unresolved_reference")
    assert said["few"]["data"].startswith("It would bring the run to ")
    assert (keys(result), said[""]) == (["instead", "few", "end"], "success")
    assert len(result.state.rounds) == 4, "the plan, what catches, what comes after, the answer"


@pytest.mark.usefixtures("servers_time")
async def test_a_step_waits_by_the_boards_clock(redis_server: RedisServer) -> None:
    plan = post(
        say("now", "x"), say("later", ref("now"), wait_seconds=600), say("last", ref("later")),
        say("all", ref("item"), each="request#/all", at_once=1, wait_seconds=600),
    )  # fmt: skip
    limits = Limits(task_seconds=30, seconds=3600)
    async with arbiter(redis_server.url, [plan, "done"], limits=limits) as (a, model):
        clock = Clock(a.board)
        run = await a.submit({"all": ["x", "y"]})
        await posted(a, run, "later")
        await posted(a, run, "all.0")
        await clock.advance(590)
        state = await current(a.board, run)
        assert {task.key: task.state for task in state.work if not task.done} == {
            "later": "delayed",
            "all.0": "delayed",
        }
        assert await faults(a.board) == []
        await clock.advance(20)
        result = await a.result(run, timeout=60)
    assert sorted(keys(result)) == ["all.0", "all.1", "last", "later", "now"]
    assert {one.standing for one in followed(result).values()} == {"succeeded"}, "its deadline is counted from then"
    assert len(model.calls) == 2


@pytest.mark.usefixtures("servers_time")
async def test_the_deadline_of_the_run_ends_a_wait(redis_server: RedisServer) -> None:
    plan = post(say("later", "x", wait_seconds=500))
    async with arbiter(redis_server.url, [plan, "done"], limits=Limits(seconds=600)) as (a, _):
        clock = Clock(a.board)
        run = await a.submit("Wait.")
        await posted(a, run, "later")
        await clock.advance(601)
        result = await a.result(run, timeout=60)
    assert (result.status, completions(result)["later"].status) == ("timed_out", "timed_out")


@pytest.mark.parametrize("n", [3, 4])
async def test_a_failure_is_caught_by_the_step_that_is_named_and_the_plan_goes_on(
    redis_server: RedisServer, n: int
) -> None:
    plan = post(
        step("try", "half", {"n": n}, catch="instead", retry={"max_attempts": 1}),
        step("instead", "echo", {"text": ref("error#/type")}, when="error.step=try error.message~odd"),
        say("end", {"$first": ["instead", "try#/text"]}, after=["try"]),
        say("goes_on", "x", after=["try"]),
        step("uses", "add", {"a": ref("try#/n"), "b": 0}),
    )
    async with arbiter(redis_server.url, [plan, "done"], capabilities=CAPABILITIES) as (a, model):
        result = await a.run("Try.", timeout=60)
        assert await faults(a.board) == []
    said = told(model)
    if n == 4:
        assert (said["try"]["data"], said["uses"]["data"]) == ({"n": 2}, {"sum": 2})
        assert said["instead"]["why"] == "try, whose failure it catches, did not fail"
        assert (said["end"]["status"], said["end"]["error"]["type"]) == ("failed", "unresolved_reference")
        return
    assert (said["try"]["status"], said["try"]["caught_by"]) == ("failed", "instead")
    assert (said["instead"]["data"], said["end"]["data"]) == ("handler_error", "handler_error")
    assert said["uses"] == {
        "capability": "add", "status": "cancelled", "why": "it uses the result of try, which failed",
    }  # fmt: skip
    assert keys(result) == ["try", "instead", "end", "goes_on"]


async def test_a_failure_that_what_catches_it_declines_or_fails_at_is_not_handled(redis_server: RedisServer) -> None:
    once = {"max_attempts": 1}
    plan = post(
        step("one", "half", {"n": 3}, catch="declines", retry=once), say("declines", "x", when="error.type=timeout"),
        step("two", "half", {"n": 3}, catch="fails", retry=once), step("fails", "half", {"n": 5}, retry=once),
        say("after_one", "x", after=["one"]), say("after_two", "x", after=["two"]),
    )  # fmt: skip
    async with arbiter(redis_server.url, [plan, "done"], capabilities=CAPABILITIES) as (a, model):
        result = await a.run("Try.", timeout=60)
    said = told(model)
    assert said["declines"]["why"] == "error.type=timeout does not hold"
    assert said["after_one"]["why"] == "it comes after one, which failed"
    assert said["after_two"]["why"] == "it comes after two, which failed"
    assert (keys(result), said[""]) == (["one", "two", "fails"], "error")


@pytest.mark.parametrize("more", [{}, {"when": "request?"}], ids=["at once", "held back"])
async def test_a_step_is_tried_as_often_as_its_own_policy_says(redis_server: RedisServer, more: dict[str, str]) -> None:
    tried: list[int] = []

    @capability
    def flaky() -> int:
        """Work at the fourth attempt."""
        tried.append(1)
        if len(tried) < 4:
            raise ConnectionError("not yet")
        return len(tried)

    rule = {"errors": ["ConnectionError"], "retry": True}
    plan = post(step("often", "flaky", retry={"max_attempts": 4, "interval_seconds": 0, "rules": [rule]}, **more))
    async with arbiter(redis_server.url, [plan, "done"], capabilities=(flaky,)) as (a, _):
        result = await a.run("Try.", timeout=60)
    assert (completions(result)["often"].attempts, completions(result)["often"].data) == (4, 4)
    assert len(result.state.rounds) == (3 if more else 2), "a policy alone holds nothing back"


async def test_steps_of_a_plan_without_anything_dynamic_are_posted_at_once(redis_server: RedisServer) -> None:
    plan = post(say("one", "x"), say("two", ref("one")), say("three", "x", when="one=x"))
    async with arbiter(redis_server.url, [plan, "done"]) as (a, _):
        result = await a.run("Plan.", timeout=60)
    assert [(task.key, task.round) for task in result.state.work] == [("one", 1), ("two", 1), ("three", 2)]
    assert result.state.rounds[0].calls[0].tasks == (f"{result.run_id}/1.one", f"{result.run_id}/1.two")


async def test_two_plans_and_a_call_of_one_turn_are_carried_on_together(redis_server: RedisServer) -> None:
    turn = [
        post(say("one", "1", when="request=go")),
        post(say("two", ref("one")), say("three", ref("add#/sum"), when="one~1")),
        call("add", a=1, b=2),
    ]
    async with arbiter(redis_server.url, [turn, "done"]) as (a, model):
        result = await a.run("go", timeout=60)
    blocks = [part["toolResult"] for part in model.calls[1].messages[-1]["content"]]
    assert [block["toolUseId"] for block in blocks] == ["tooluse_0_0", "tooluse_0_1", "tooluse_0_2"]
    assert keys(result) == ["add", "one", "two", "three"]
    assert [task.state for task in result.state.work] == ["succeeded", "succeeded", "succeeded", "failed"]


async def test_the_log_alone_says_what_has_become_of_a_plan(redis_server: RedisServer) -> None:
    plan = post(
        step(
            "halves", "half", {"n": ref("item")}, each="request#/all", at_once=1, tolerate=1, retry={"max_attempts": 1}
        ),
        say("skipped", "x", when="halves.0.n>5"),
        say("cancelled", ref("skipped"), after=["halves"]),
    )
    async with arbiter(redis_server.url, [plan, "done"], capabilities=CAPABILITIES) as (a, _):
        result = await a.run({"all": [2, 3]}, timeout=60)
        log = await a.board.history(result.run_id)
    why = reasons(result.state, log, f"{result.run_id}/3.halves.1")
    assert (why.posted_in, why.tool, why.given) == (3, PLAN, plan["input"]["tasks"][0])
    again = fold(result.run_id, log)
    assert again == result.state
    told = {key: (one.standing, one.said) for key, one in Following(again, again.rounds[0]).steps.items()}
    assert {key: standing for key, (standing, _) in told.items()} == {
        "halves": "succeeded", "skipped": "skipped", "cancelled": "skipped",
    }  # fmt: skip


DYING = """
import asyncio, json, os, sys
from arbiter import Arbiter, ScriptedModel
from arbiter_support import FUNCTIONS
from plan_steps import half
from blackboard.working import Working

url, board, request, turns, when = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4]), sys.argv[5]
commit, stages = Working.commit_step, []

async def dying(self, claim, planned, *args, **more):
    stages.append(planned.carrying)
    last = planned.carrying and sum(stages) == 2
    if not (last and when == "before"):
        await commit(self, claim, planned, *args, **more)
    if last:
        os._exit(9)

Working.commit_step = dying

async def main():
    async with Arbiter(url, ScriptedModel(turns), board=board, roles=("arbiter", "wrapper"), capabilities=(*FUNCTIONS, half),
                       lease_seconds=1.0) as a:
        await a.run(request, idempotency_key="one", timeout=60)

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_another_process_goes_on_where_one_died_between_two_stages(
    redis_server: RedisServer, board_name: str, tmp_path: Path, when: str
) -> None:
    request = {"numbers": [2, 4, 6]}
    turns: list[Any] = [
        post(
            step("halves", "half", {"n": ref("item")}, each="request#/numbers", at_once=1),
            say("end", "x", after=["halves"]),
        ),
        "{{ to_string(results.post_plan.tasks.halves.data[].n) }}",
    ]
    code = tmp_path / "dying.py"
    code.write_text(textwrap.dedent(DYING))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, str(code), redis_server.url, board_name, json.dumps(request), json.dumps(turns), when]
    died = await asyncio.to_thread(subprocess.run, command, env=environment, timeout=60, check=False)
    assert died.returncode == 9
    model = ScriptedModel(turns)
    async with Arbiter(
        redis_server.url, model, board=board_name, roles=("arbiter", "wrapper"), capabilities=CAPABILITIES
    ) as a:
        result = await a.run(request, idempotency_key="one", timeout=60)
        assert await faults(a.board) == []
    assert result.answer == "[1,2,3]"
    assert keys(result) == ["halves.0", "halves.1", "halves.2", "end"]
    assert len(model.calls) == 1, "the first process had asked for the plan, this one only for the answer"


@capability(sources=["mail:inbox"])
def mails() -> list[int]:
    """Numbers that came by mail."""
    return [2, 4]


async def test_what_is_posted_later_says_where_all_that_led_to_it_comes_from(redis_server: RedisServer) -> None:
    plan = post(
        step("mail", "mails"),
        step("halves", "half", {"n": ref("item")}, each="mail"),
        say("chosen", "x", when="mail.0=2"),
        say("after", "x", after=["mail"], wait_seconds=0.01),
        say("apart", "x", when="request=go"),
    )
    async with arbiter(redis_server.url, [plan, "done"], capabilities=(mails, half, *FUNCTIONS)) as (a, _):
        result = await a.run("go", timeout=60)
        notes = a.entries.within(f"run:{result.run_id}")
        (load,) = (await notes.query("results.mails.mail")).entries
        (item,) = (await notes.query("results.half.halves_0")).entries
    tainted = {task.key for task in result.state.work if "mail:inbox" in task.posted_taint}
    assert tainted == {"halves.0", "halves.1", "chosen", "after"}
    assert {one.state for one in result.state.work} == {"succeeded"}
    assert [(link.rel, link.to) for link in item.links] == [("derived_from", load.id)]


async def test_a_plan_goes_on_beside_open_requests_of_its_turn(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        """Instead of posting the requests at once: the next steps make sure of that."""

    monkeypatch.setattr("arbiter.asking.announce", dies)
    asked = call("open_request", name="bank", question="Where does Acme bank?", input={"supplier": "Acme"})
    turn = [asked, post(say("one", "1", when="request=go"), say("two", ref("one")))]
    sources = (*FUNCTIONS, look_up, bidder("sure", 0.9, capability="look_up"))
    async with arbiter(redis_server.url, [turn, "done"], capabilities=sources) as (a, model):
        result = await a.run("go", agenda=AgendaTerms(), timeout=60)
        assert await faults(a.board) == []
    blocks = [part["toolResult"] for part in model.calls[1].messages[-1]["content"] if "toolResult" in part]
    assert [block["status"] for block in blocks] == ["success", "success"]
    assert ACCOUNT in str(blocks[0])
    assert {"one", "two"} <= set(keys(result))
    assert len(model.calls) == 2


async def test_a_step_that_waits_for_approval_is_followed_by_what_depends_on_it(redis_server: RedisServer) -> None:
    @capability(effects="irreversible", approval=Approval(seconds=600))
    def pay(n: int) -> int:
        """Pay."""
        return n

    plan = post(step("pay", "pay", {"n": ref("item")}, each="request#/all"), say("end", "x", when="pay.0=7"))
    async with arbiter(redis_server.url, [plan, "done"], capabilities=(pay, *FUNCTIONS)) as (a, _):
        run = await a.submit({"all": [7]})
        async for event in a.stream(run_id=run):
            if isinstance(event, events.ApprovalAsked):
                await a.approvals.approve(event.data.task, by="ann")
        result = await a.result(run, timeout=60)
    assert keys(result) == ["pay.0", "end"]
