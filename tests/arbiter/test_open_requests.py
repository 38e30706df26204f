"""Open requests of planned runs: the model asks without naming who shall do it, and gets the answer as the result of its call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from arbiter_support import add, arbiter, call
from test_volunteering import ACCOUNT, CODE, SOON, SPECIFICATION, bidder, fail, look_up

from arbiter import (
    AgendaTerms,
    Answered,
    Arbiter,
    BadInput,
    Limits,
    OpenRequest,
    RunResult,
    ScriptedModel,
    capability,
    current_task,
)
from arbiter.answering import wait
from arbiter.awarding import AWARD
from blackboard.board import Board
from blackboard.errors import ScriptRefused
from blackboard.invariants import faults
from blackboard.testing import RedisServer

OPEN: dict[str, Any] = {
    "name": "bank", "question": "Who can find the bank details of a supplier?", "input": {"supplier": "Acme"},
}  # fmt: skip


def asking(**more: Any) -> dict[str, Any]:
    return call("open_request", **OPEN, **more)


async def planned(a: Arbiter) -> RunResult:
    return await a.run("Where does Acme bank?", agenda=AgendaTerms(), timeout=60)


def told(model: ScriptedModel, request: int = -1) -> list[dict[str, Any]]:
    """The results the model was shown in the last message of a request."""
    content = model.calls[request].messages[-1]["content"]
    return [part["toolResult"] for part in content if "toolResult" in part]


def text(result: dict[str, Any]) -> str:
    return "".join(part["text"] for part in result["content"])


async def topics(a: Arbiter, run_id: str, pattern: str) -> list[str]:
    return [one.topic for one in (await a.entries.within(f"run:{run_id}").query(pattern)).entries]


async def test_the_model_asks_openly_and_the_awarded_result_answers_its_call(redis_server: RedisServer) -> None:
    sources = (look_up, add, bidder("sure", 0.9, capability="look_up"))
    turns = [[asking(), call("add", a=1, b=2)], "Acme banks there."]
    async with arbiter(redis_server.url, turns, capabilities=sources) as (a, model):
        result = await planned(a)
        (award,) = (await a.entries.within(f"run:{result.run_id}").query("awards.bank")).entries
        assert await faults(a.board) == []
    assert (result.status, result.answer) == ("succeeded", "Acme banks there.")
    assert award.content["capability"] == "look_up"
    asked, added = told(model)
    assert (asked["status"], added["status"]) == ("success", "success")
    assert ACCOUNT in text(asked)
    assert len(model.calls) == 2, "steps that attend to requests ask no model"
    assert [turn.attending for turn in result.state.rounds] == [False, True, True, True, False]


async def test_what_was_awarded_can_be_passed_on_by_reference(redis_server: RedisServer) -> None:
    sources = (look_up, bidder("sure", 0.9, capability="look_up"))
    plan = {"key": "again", "capability": "look_up", "input": {"supplier": {"$ref": "award.bank#/account"}}}
    turns = [asking(), call("post_plan", tasks=[plan]), "done"]
    async with arbiter(redis_server.url, turns, capabilities=sources) as (a, model):
        result = await planned(a)
    assert result.status == "succeeded"
    assert json.dumps({"supplier": ACCOUNT, "account": ACCOUNT}) in text(told(model)[0])


async def test_a_request_is_answered_while_the_tasks_of_the_same_round_still_run(redis_server: RedisServer) -> None:
    boards: list[Arbiter] = []

    @capability
    async def slow() -> str:
        """Wait until somebody has answered."""
        task = current_task()
        assert task is not None
        async with asyncio.timeout(40):
            async for fact in boards[0].entries.within(f"run:{task.run_id}").watch("answers.bank", after="-"):
                return fact.data.topic
        return "nobody"

    sources = (look_up, slow, bidder("sure", 0.9, capability="look_up"))
    async with arbiter(redis_server.url, [[asking(), call("slow")], "done"], capabilities=sources) as (a, model):
        boards.append(a)
        result = await planned(a)
    assert result.status == "succeeded"
    asked, waited = map(text, told(model))
    assert ACCOUNT in asked
    assert "answers.bank" in waited


async def test_a_request_that_nobody_bids_on_is_unanswered_and_the_model_is_told_why(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [asking(seconds=SOON), "Nobody knows."]) as (a, model):
        result = await planned(a)
        assert await topics(a, result.run_id, "*.bank") == ["awards.bank", "requests.bank", "unanswered.bank"]
    assert result.status == "succeeded"
    (asked,) = told(model)
    assert asked["status"] == "error"
    assert "nobody bid, and it says to give up then" in text(asked)


async def test_an_awarded_task_that_fails_is_told_with_its_error(redis_server: RedisServer) -> None:
    sources = (fail, bidder("sure", 0.9, capability="fail"))
    async with arbiter(redis_server.url, [asking(), "It failed."], capabilities=sources) as (a, model):
        result = await planned(a)
        assert "unanswered.bank" in await topics(a, result.run_id, "*.bank")
    (asked,) = told(model)
    assert asked["status"] == "error"
    assert "no Acme here" in text(asked)


async def test_what_nobody_bids_for_is_fabricated_when_the_model_says_so(redis_server: RedisServer) -> None:
    missing = {"name": "bank_of", "need": "Name the bank of a supplier, by the supplier's name."}
    model = ScriptedModel(
        [
            {"system": "^You are the Examiner", "turns": [json.dumps(SPECIFICATION)]},
            {"system": "^You are the Fabricator", "turns": [CODE] * 4},
            {"system": "^You are the Arbiter", "turns": [asking(fabricate=missing, seconds=SOON), "Bank of Acme."]},
        ]
    )
    async with Arbiter(redis_server.url, model, board="open-fabricated", grace_seconds=1.0) as a:
        result = await planned(a)
    assert [(task.kind, task.key) for task in result.state.work] == [
        ("fabrication", "fabricate_bank_of"), ("capability", "award.bank"),
    ]  # fmt: skip
    assert "Bank of Acme" in text(told(model)[0])


async def test_a_name_is_used_once_and_without_an_agenda_nobody_is_asked(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [[asking(seconds=SOON), asking()], asking(), "done"]) as (a, model):
        first = await planned(a)
        second = await a.run("Where does Acme bank?", timeout=60)
    again = [one.answer for turn in first.state.rounds for one in turn.calls if not one.valid]
    assert len(again) == 2
    assert all("already" in str(one) for one in again)
    refused = [one.answer for turn in second.state.rounds for one in turn.calls]
    assert len(refused) == 3
    assert all("no agenda" in str(one) for one in refused)
    offered = [{spec["name"] for spec in one.tool_specs or ()} for one in model.calls]
    assert ["open_request" in names for names in offered] == [True, True, True, False, False, False]


async def test_a_name_that_a_person_asked_under_before_is_refused_to_the_model(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, [asking(), "done"], roles=()) as (a, _):
        run_id = await a.submit("Where does Acme bank?", agenda=AgendaTerms())
        await a.entries.within(f"run:{run_id}").post("requests.bank", {"question": "Mine?"})
        model = ScriptedModel([asking(), "done"])
        async with Arbiter(redis_server.url, model, board=a.board.name, roles=["arbiter"], grace_seconds=1.0) as other:
            result = await other.result(run_id, timeout=60)
    assert result.status == "succeeded"
    assert "under another one" in text(told(model)[0])


@pytest.mark.parametrize("round_", [1, 2, 3, 4])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_g2_a_process_that_dies_around_any_commit_leaves_one_award_one_task_and_one_answer(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, round_: int, when: str
) -> None:
    commit, died = Board.commit_step, list[int]()

    async def dies(self: Board, claim: Any, *given: Any, **more: Any) -> None:
        if when == "after" or claim.round != round_ or died:
            await commit(self, claim, *given, **more)
        if claim.round == round_ and not died:
            died.append(claim.round)
            raise ConnectionError("the process dies here")

    monkeypatch.setattr(Board, "commit_step", dies)
    sources = (look_up, bidder("sure", 0.9, capability="look_up"))
    async with arbiter(redis_server.url, [asking(), "done"], capabilities=sources) as (a, model):
        result = await planned(a)
        assert await topics(a, result.run_id, "*.bank") == ["answers.bank", "awards.bank", "bids.bank", "requests.bank"]
    assert died == [round_]
    assert result.status == "succeeded"
    assert [task.key for task in result.state.work if task.key.startswith(AWARD)] == ["award.bank"]
    assert ACCOUNT in text(told(model)[0])


async def test_a_program_asks_openly_in_a_run_of_its_own_or_in_one_that_goes_on(redis_server: RedisServer) -> None:
    asked = OpenRequest(question="Who can find the bank details?", input={"supplier": "Acme"})
    sources = (look_up, bidder("sure", 0.9, capability="look_up"))
    boards: list[Arbiter] = []
    answers: list[Answered] = []

    @capability
    async def asks() -> str:
        """Ask in the run."""
        task = current_task()
        assert task is not None
        await boards[0].entries.within(f"run:{task.run_id}").post("other.topic", 1)
        with pytest.raises(TimeoutError, match="no answer"):
            await boards[0].ask(asked, name="mine", run_id=task.run_id, timeout=0.01, idempotency_key="one")
        return "asked"

    async with arbiter(redis_server.url, [call("asks"), "done"], capabilities=(*sources, asks)) as (a, model):
        boards.append(a)
        alone = await a.ask(asked, timeout=60)
        result = await planned(a)
        answers.append(await wait(a, result.run_id, "mine", 60))
        with pytest.raises(ScriptRefused, match="CLOSED"):
            await a.ask(asked, name="late", run_id=result.run_id)
        plain = await a.run("Without an agenda.", timeout=60)
        with pytest.raises(BadInput, match="no agenda"):
            await a.ask(asked, run_id=plain.run_id)
        nobody = await a.ask(OpenRequest(question="Who sings?", seconds=SOON), timeout=60)
    assert alone.succeeded
    assert alone.answer == {"supplier": "Acme", "account": ACCOUNT}
    assert answers[0].answer == alone.answer
    assert (nobody.succeeded, nobody.answer) == (False, None)
    assert "nobody bid" in nobody.reason
    shown = json.dumps([one.messages[-1]["content"] for one in model.calls])
    assert "volunteered" in shown, "the model is told what others asked in its run"
    assert ACCOUNT in shown


async def test_requests_do_not_use_up_the_rounds_of_the_model(redis_server: RedisServer) -> None:
    sources = (look_up, bidder("sure", 0.9, capability="look_up"))
    async with arbiter(redis_server.url, [asking(), "done"], capabilities=sources, limits=Limits(rounds=2)) as (a, _):
        result = await planned(a)
    assert (result.status, len(result.state.rounds), result.state.decisions) == ("succeeded", 5, 2)


async def test_what_others_ask_keeps_the_model_from_nothing_and_is_closed_with_its_answer(
    redis_server: RedisServer,
) -> None:
    async with arbiter(redis_server.url, ["done"], roles=()) as (a, _):
        run_id = await a.submit("Where does Acme bank?", agenda=AgendaTerms())
        await a.entries.within(f"run:{run_id}").post("requests.bank", {"question": "Whose?", "seconds": 3000})
        async with Arbiter(redis_server.url, ScriptedModel(["done"]), board=a.board.name, roles=["arbiter"]) as other:
            result = await other.result(run_id, timeout=60)
        (said,) = (await a.entries.within(f"run:{run_id}").query("unanswered.bank")).entries
        ended = await wait(a, run_id, "bank", 60)
        assert await faults(a.board) == []
    assert result.status == "succeeded"
    assert "answered before" in said.content["reason"]
    assert (ended.succeeded, ended.reason) == (False, said.content["reason"])
