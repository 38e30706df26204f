"""A person decides before a task goes on: functions, isolated code, a policy, and what the planning model asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arbiter_support import answers, arbiter

from arbiter import Approval, Arbiter, BadInput, Call, Conflict, Manifest, Status, UnknownRecord, capability
from arbiter.fold import Task
from blackboard.approvals import Waiting
from blackboard.testing import RedisServer
from wrapper.models.quoting import unquoted

PAID: list[tuple[str, int]] = []


@capability(effects="irreversible", approval=Approval(seconds=600))
def pay(to: str, cents: int) -> str:
    """Pay somebody."""
    PAID.append((to, cents))
    return f"paid {to} {cents}"


@capability
def look_up(name: str) -> dict[str, str]:
    """Look up whose account it is."""
    return {"to": name.title()}


@pytest.fixture(autouse=True)
def _nothing_paid() -> None:
    PAID.clear()


@pytest.fixture(params=["redis", "memory"])
def url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    return redis_server.url if request.param == "redis" else "memory://"


async def asked(a: Arbiter, run: str) -> Waiting:
    """What a run asks, once it does, as whoever follows its events learns of it."""
    async with asyncio.timeout(30):
        async for event in a.stream(run_id=run):
            if event.kind == "approval.asked":
                (waiting,) = [each for each in await a.approvals.list() if each.task_id == event.subject]
                return waiting
    raise AssertionError("it ended")


async def ended(a: Arbiter, run: str) -> Task:
    (task,) = [one for one in (await a.result(run, timeout=30)).state.work if one.asked is not None]
    assert task.completion is not None
    return task


def error(task: Task) -> tuple[Status, str, str]:
    assert task.completion is not None
    assert task.completion.error is not None
    return task.completion.status, task.completion.error.type, task.completion.error.message


PLAN: list[Any] = [
    {
        "tool": "post_plan",
        "input": {
            "tasks": [
                {"key": "who", "capability": "look_up", "input": {"name": "ann"}},
                {"key": "pay", "capability": "pay", "input": {"to": {"$ref": "who#/to"}, "cents": 500}},
            ]
        },
    },
    "done",
]


async def test_a_task_is_done_with_exactly_what_a_person_was_shown(url: str) -> None:
    async with arbiter(url, PLAN, capabilities=[pay, look_up]) as (a, _):
        run = await a.submit("Pay ann 5 EUR.")
        waiting = await asked(a, run)
        assert PAID == [], "it was not begun"
        assert (waiting.capability, waiting.arguments, waiting.request) == (
            "pay", '{"to":"Ann","cents":500}', "Pay ann 5 EUR."
        )  # fmt: skip
        assert waiting.version == pay.manifest.content_hash()
        assert waiting.sources == ("model:scripted", "person")
        assert waiting.until - waiting.asked_at == 600
        assert [task.key for task in (await a.show(run)).state.work if task.for_person] == ["pay"]
        assert await a.approvals.approve(waiting.id[:-2], by="bob") == waiting.task_id
        task = await ended(a, run)
        assert task.completion is not None
        assert (task.completion.data, PAID, task.completion.attempts) == ("paid Ann 500", [("Ann", 500)], 1)
        with pytest.raises(Conflict, match="was approved by bob already"):
            await a.approvals.refuse(waiting.id)
        (entry,) = (await a.audit.list("kind=task.approved")).entries
        assert (entry.subject, entry.by) == (waiting.task_id, "bob")


async def test_what_is_refused_ends_and_the_model_is_told_who_and_why(url: str) -> None:
    async with arbiter(url, PLAN, capabilities=[pay, look_up]) as (a, model):
        run = await a.submit("Pay ann 5 EUR.")
        await a.approvals.refuse((await asked(a, run)).id, reason="too much.", by="bob")
        assert error(await ended(a, run)) == (Status.REFUSED, "approval", "bob refused it: too much.")
        assert PAID == []
        assert "bob refused it: too much." in str(model.calls[-1].messages[-1])


async def test_whoever_approves_may_change_the_arguments_and_is_held_to_their_schema(url: str) -> None:
    async with arbiter(url, ["unused"], capabilities=[pay]) as (a, _):
        run = await a.submit(Call("pay", {"to": "ann", "cents": 500}))
        waiting = await asked(a, run)
        with pytest.raises(BadInput, match="do not fit pay"):
            await a.approvals.approve(waiting.id, arguments={"to": "ann", "cents": "much"})
        await a.approvals.approve(waiting.id, arguments={"to": "ann", "cents": 5}, by="bob", source="token:desk")
        task = await ended(a, run)
        assert task.said is not None
        assert (PAID, task.said.by, task.said.input) == ([("ann", 5)], "bob", {"to": "ann", "cents": 5})
        assert "token:desk" in task.taint


@pytest.mark.parametrize(("otherwise", "paid"), [("refuse", False), ("approve", True)])
async def test_silence_refuses_unless_it_was_said_to_approve(otherwise: Any, paid: bool) -> None:
    @capability(name="wire", approval={"seconds": 0.2, "otherwise": otherwise})
    def wire(to: str) -> str:
        """Wire it."""
        return to

    async with arbiter("memory://", ["unused"], capabilities=[wire]) as (a, _):
        result = await a.run(Call("wire", {"to": "ann"}), timeout=30)
        (task,) = result.state.work
        if paid:
            assert (result.status, task.said and task.said.state) == ("succeeded", "approved")
        else:
            assert error(task) == (Status.REFUSED, "approval", "Nobody approved it in time, so it was not done.")


async def test_an_operator_has_people_asked_whatever_manifests_say_also_about_isolated_code() -> None:
    policy = {"effects": ["irreversible"], "terms": {"by": ["ann"], "seconds": 60}}
    wipe = Manifest(name="wipe", description="Wipe it.", input_schema={"type": "object"}, effects="irreversible")
    async with arbiter("memory://", ["unused"], approval=policy) as (a, _):
        await a.registry.register(wipe, source="def handler():\n    return 'wiped'\n")
        await a.registry.register(
            wipe.model_copy(update={"name": "look", "effects": "reads"}), source="def handler():\n    return 1\n"
        )
        assert (await a.run(Call("look", {}), timeout=60)).data == 1
        run = await a.submit(Call("wipe", {}))
        waiting = await asked(a, run)
        assert (waiting.by, waiting.until - waiting.asked_at) == (("ann",), 60)
        await a.approvals.approve(waiting.task_id, by="ann")
        assert (await a.result(run, timeout=60)).data == "wiped"


async def test_the_wait_holds_no_place_and_several_can_be_told_apart(url: str) -> None:
    async with arbiter(url, ["unused"], capabilities=[pay, look_up], concurrency={"wrapper": 1}) as (a, _):
        runs = [await a.submit(Call("pay", {"to": name, "cents": 1})) for name in ("ann", "bob")]
        waiting = [await asked(a, run) for run in runs]
        assert (await a.run(Call("look_up", {"name": "eve"}), timeout=30)).data == {"to": "Eve"}
        with pytest.raises(BadInput, match="Several are meant"):
            await a.approvals.approve("r")
        with pytest.raises(UnknownRecord):
            await a.approvals.approve(waiting[0].id, tenant="another")
        assert [each.task_id for each in await a.approvals.list(run_id=runs[1])] == [waiting[1].task_id]
        assert await a.approvals.list(tenant="another") == []
        await a.cancel(runs[0])
        await a.approvals.approve(waiting[1].id)
        assert (await a.result(runs[1], timeout=30)).status == "succeeded"
        assert PAID == [("bob", 1)]


async def test_large_arguments_are_shown_by_their_beginning_and_can_be_had_whole() -> None:
    async with arbiter("memory://", ["unused"], capabilities=[pay]) as (a, _):
        long = "x" * 300_000
        waiting = await asked(a, await a.submit(Call("pay", {"to": long, "cents": 1})))
        assert not waiting.whole
        assert waiting.arguments.startswith('{"to":"xxx')
        assert (len(waiting.arguments) <= 4000, waiting.argument_bytes > 300_000) == (True, True)
        assert await a.approvals.arguments(waiting.id) == {"to": long, "cents": 1}
        await a.approvals.approve(waiting.id)
        await a.result(waiting.run_id, timeout=30)
        assert [(long, 1)] == PAID


# ---- what the model asks ---------------------------------------------------------------------------------------------

QUESTION = {"question": "Which bank?", "options": ["Alpha", "Beta"], "purpose": "to pay"}


async def test_the_model_asks_a_person_and_the_answer_is_the_result_of_its_call(url: str) -> None:
    script = [{"tool": "ask_person", "input": QUESTION}, "Through Beta."]
    async with arbiter(url, script, approval={"questions": True}) as (a, model):
        run = await a.submit("Pay ann.")
        waiting = await asked(a, run)
        assert (waiting.kind, waiting.capability, waiting.run_id) == ("question", "ask_person", run)
        with pytest.raises(BadInput, match="Beta"):
            await a.approvals.answer(waiting.id, "Gamma")
        with pytest.raises(BadInput, match="Say something"):
            await a.approvals.answer(waiting.id, " ")
        await a.approvals.answer(waiting.id, "Beta", by="ann")
        result = await a.result(run, timeout=30)
        (task,) = result.state.work
        assert task.completion is not None
        assert (result.answer, task.completion.data) == ("Through Beta.", {"answer": "Beta", "answered": True})
        assert "person" in task.taint
        assert '"answer": "Beta"' in unquoted(
            model.calls[-1].messages[-1]["content"][0]["toolResult"]["content"][0]["text"]
        )


async def test_a_question_nobody_answers_goes_on_with_what_the_model_said_or_tells_that_nobody_did() -> None:
    script = [
        {"tool": "ask_person", "input": {**QUESTION, "otherwise": "Gamma"}},
        {"tool": "ask_person", "input": {**QUESTION, "otherwise": "Alpha"}},
        {"tool": "ask_person", "input": {"question": "Why?"}},
        "done",
    ]
    policy = {"questions": True, "terms": {"seconds": 0.1}}
    async with arbiter("memory://", script, approval=policy) as (a, _):
        result = await a.run("Pay ann.", timeout=30)
        assert "not among the options" in str(answers(result)[0])
        first, second = result.state.work
        assert first.completion is not None
        assert first.completion.data == {"answer": "Alpha", "answered": False}
        assert error(second) == (Status.REFUSED, "approval", "Nobody answered in time.")


async def test_a_model_that_may_ask_nobody_is_not_offered_it() -> None:
    script = [{"tool": "ask_person", "input": QUESTION}, "done"]
    async with arbiter("memory://", script) as (a, model):
        result = await a.run("Pay ann.", timeout=30)
        assert result.state.work == []
        assert "no capability 'ask_person'" in str(answers(result)[0])
        assert all(spec["name"] != "ask_person" for spec in model.calls[0].tool_specs or [])
