"""The arbiter's step over a real board and a scripted model: rounds, decisions, limits, failures."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, answers, arbiter, call, completions

from arbiter import Arbiter, BadInput, Capability, Limits, Manifest, ScriptedModel, Status, Usage, capability
from arbiter.choosing import SHORTLIST
from arbiter.prompts import SYSTEM
from arbiter.tools import PLAN, SEARCH
from blackboard.testing import RedisServer
from wrapper.models import ModelCallFailed, ModelTransient, StreamCut
from wrapper.models.quoting import unquoted

ADD = "def handler(a, b):\n    return {'sum': a + b}\n"


async def test_rounds_go_on_until_the_model_answers_without_a_call(redis_server: RedisServer) -> None:
    turns = [call("add", a=1, b=2), call("add", a="{{ results.add.sum }}", b=10), "Together {{ results.add.sum }}."]
    async with arbiter(redis_server.url, turns) as (a, model):
        result = await a.run("Add 1, 2 and 10.", timeout=60)
    assert (result.status, result.answer) == ("succeeded", "Together 13.")
    assert [turn.number for turn in result.state.rounds] == [1, 2, 3]
    assert len(model.calls) == 3
    assert result.usage.total_tokens > 0


async def test_two_calls_of_one_capability_in_one_round_both_return_in_their_order(redis_server: RedisServer) -> None:
    turns = [
        [call("add", a=1, b=1), call("add", a=20, b=20)],
        "{{ join(' and ', all.add[].to_string(sum)) }}",
    ]
    async with arbiter(redis_server.url, turns) as (a, model):
        result = await a.run("Add twice.", timeout=60)
    assert result.answer == "2 and 40"
    assert set(completions(result)) == {"add", "add_2"}
    uses = [block["toolUse"]["toolUseId"] for block in model.calls[1].messages[1]["content"]]
    results = [block["toolResult"]["toolUseId"] for block in model.calls[1].messages[2]["content"]]
    assert uses == results
    assert len(set(uses)) == 2


async def test_a_plan_passes_data_between_tasks_without_the_model(redis_server: RedisServer) -> None:
    plan = call(
        PLAN,
        tasks=[
            {"key": "first", "capability": "add", "input": {"a": 1, "b": 2}},
            {"key": "other", "capability": "echo", "input": {"text": "side by side"}},
            {"key": "second", "capability": "add", "input": {"a": {"$ref": "first#/sum"}, "b": 100}},
        ],
    )
    async with arbiter(redis_server.url, [plan, "{{ results.post_plan.tasks.second.data.sum }}"]) as (a, _):
        result = await a.run("Plan it.", timeout=60)
    assert result.answer == "103"
    tasks = {task.key: task for task in result.state.work}
    assert tasks["second"].after == (tasks["first"].id,)
    assert tasks["other"].after == ()


async def test_a_later_round_can_refer_to_an_earlier_result_that_was_shown_shortened(redis_server: RedisServer) -> None:
    turns = [
        call("rows", count=1000),
        call("echo", text={"$ref": "rows#/999/text"}),
        "{{ results.echo }}",
    ]
    async with arbiter(redis_server.url, turns) as (a, model):
        result = await a.run("Take the last of 1000 rows.", timeout=60)
    assert result.answer == "x" * 50
    shown = json.loads(unquoted(model.calls[1].messages[2]["content"][0]["toolResult"]["content"][0]["text"]))
    assert shown["shortened"] is True
    assert len(str(shown)) < 5000
    assert len(completions(result)["rows"].data) == 1000


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        (call("nothing_of_the_kind", x=1), "There is no capability 'nothing_of_the_kind'"),
        (call("add", a="one", b=2), "does not fit its schema"),
        (call("add", a=1), "'b' is a required property"),
        (call("add", a={"$ref": "ghost#/x"}, b=1), "$ref names 'ghost'"),
        (call(PLAN, tasks=[]), "does not fit its schema"),
        (
            call(
                PLAN,
                tasks=[
                    {"key": "a", "capability": "echo", "input": {"text": {"$ref": "b"}}},
                    {"key": "b", "capability": "echo", "input": {"text": {"$ref": "a"}}},
                ],
            ),
            "wait for each other",
        ),
        (
            call(
                PLAN,
                tasks=[
                    {"key": "a", "capability": "echo", "input": {"text": "1"}},
                    {"key": "a", "capability": "echo", "input": {"text": "2"}},
                ],
            ),
            "unique",
        ),
        (call(PLAN, tasks=[{"key": "a", "capability": "echo", "input": {}, "after": ["z"]}]), "after names z"),
        (call("request_capability", name="add", need="add two numbers please"), "exists already"),
        (call("request_capability", name="post_plan", need="plan things for me"), "reserved"),
        (call("request_capability", name="Bad Name", need="whatever it may be"), "does not match"),
    ],
)
async def test_an_invalid_decision_returns_to_the_model_and_reaches_no_queue(
    redis_server: RedisServer, turn: dict[str, Any], says: str
) -> None:
    async with arbiter(redis_server.url, [turn, "I see."]) as (a, model):
        result = await a.run("Try it.", timeout=60)
    assert result.status == "succeeded"
    assert result.state.work == []
    assert says in str(answers(result)[0])
    block = model.calls[1].messages[2]["content"][0]["toolResult"]
    assert block["status"] == "error"
    assert says in block["content"][0]["text"]


async def test_a_valid_call_beside_an_invalid_one_is_carried_out(redis_server: RedisServer) -> None:
    turns = [[call("add", a=1, b=2), call("unknown_thing")], "{{ results.add.sum }}"]
    async with arbiter(redis_server.url, turns) as (a, _):
        result = await a.run("Both.", timeout=60)
    assert result.answer == "3"
    assert list(completions(result)) == ["add"]


async def test_a_call_that_waits_for_an_invalid_one_is_withdrawn_with_it(redis_server: RedisServer) -> None:
    turns = [[call("add", a=1), call("echo", text={"$ref": "add#/sum"})], "no"]
    async with arbiter(redis_server.url, turns) as (a, _):
        result = await a.run("Both.", timeout=60)
    assert result.state.work == []
    assert "waits for add" in str(answers(result)[1])


async def test_invalid_decisions_are_bounded(redis_server: RedisServer) -> None:
    limits = Limits(invalid_decisions=2)
    async with arbiter(redis_server.url, [call("unknown_thing")] * 5, limits=limits) as (a, model):
        result = await a.run("Try for ever.", timeout=60)
    assert (result.status, result.error.type) == ("failed", "invalid_decisions")
    assert len(model.calls) == 3


async def test_a_failure_is_shown_to_the_model_with_its_reason(redis_server: RedisServer) -> None:
    turns = [call("broken", reason="the drawer is stuck"), "It did not work."]
    async with arbiter(redis_server.url, turns) as (a, model):
        result = await a.run("Open it.", timeout=60)
    done = completions(result)["broken"]
    assert (done.status, done.error.type) == (Status.FAILED, "handler_error")
    shown = model.calls[1].messages[2]["content"][0]["toolResult"]
    assert shown["status"] == "error"
    assert "the drawer is stuck" in str(json.loads(unquoted(shown["content"][0]["text"]))["error"])


async def test_tasks_that_wait_for_a_failed_one_are_cancelled_with_the_reason(redis_server: RedisServer) -> None:
    plan = call(
        PLAN,
        tasks=[
            {"key": "bad", "capability": "broken", "input": {"reason": "no"}},
            {"key": "then", "capability": "echo", "input": {"text": {"$ref": "bad"}}},
        ],
    )
    async with arbiter(redis_server.url, [plan, "So be it."]) as (a, _):
        result = await a.run("Plan it.", timeout=60)
    then = completions(result)["then"]
    assert (then.status, then.error.type) == (Status.CANCELLED, "dependency")
    assert result.status == "succeeded"


async def test_a_reference_that_leads_nowhere_is_a_typed_completion(redis_server: RedisServer) -> None:
    plan = call(
        PLAN,
        tasks=[
            {"key": "sum", "capability": "add", "input": {"a": 1, "b": 2}},
            {"key": "say", "capability": "echo", "input": {"text": {"$ref": "sum#/total"}}},
        ],
    )
    async with arbiter(redis_server.url, [plan, "Hm."]) as (a, _):
        result = await a.run("Plan it.", timeout=60)
    say = completions(result)["say"]
    assert (say.status, say.error.type) == (Status.FAILED, "unresolved_reference")
    assert "available: sum" in say.error.message


def _many(number: int) -> list[Capability[..., Any]]:
    def made(n: int) -> Capability[..., Any]:
        def convert(amount: int) -> int:
            return amount + n

        return capability(convert, name=f"convert_{n}", description=f"Convert an amount by rate {n}.")

    return [made(n) for n in range(number)]


async def test_a_few_capabilities_are_all_offered_and_of_many_those_that_fit(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["done"]) as (a, model):
        await a.run("zzz", timeout=60)
    assert {"add", "echo", "broken", "rows"} <= {spec["name"] for spec in model.calls[0].tool_specs}
    async with arbiter(redis_server.url, ["done"], capabilities=(*FUNCTIONS, *_many(40))) as (a, model):
        await a.run("Add two whole numbers.", timeout=60)
    offered = [spec["name"] for spec in model.calls[0].tool_specs]
    assert "add" in offered
    assert len(offered) <= SHORTLIST + 3


async def test_search_finds_what_is_not_among_the_tools_and_offers_it_next(redis_server: RedisServer) -> None:
    turns = [call(SEARCH, query="add two whole numbers"), call("add", a=4, b=5), "{{ results.add.sum }}"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, *_many(20))) as (a, model):
        result = await a.run("zzz", timeout=60)
    assert result.answer == "9"
    assert "add" not in [spec["name"] for spec in model.calls[0].tool_specs]
    assert "add" in [spec["name"] for spec in model.calls[1].tool_specs]
    assert answers(result)[0]["found"][0]["name"] == "add"


async def test_the_tool_list_keeps_its_order_from_round_to_round(redis_server: RedisServer) -> None:
    turns = [call("add", a=1, b=2), call("echo", text="x"), "done"]
    async with arbiter(redis_server.url, turns) as (a, model):
        await a.run("Add two whole numbers and return the text.", timeout=60)
    names = [[spec["name"] for spec in one.tool_specs] for one in model.calls]
    assert names[1][: len(names[0])] == names[0]
    assert names[2][: len(names[1])] == names[1]


@pytest.mark.parametrize(
    ("limits", "turns", "says"),
    [
        (Limits(rounds=2), [call("add", a=1, b=1)] * 4, "2 rounds"),
        (Limits(tasks=1), [[call("add", a=1, b=1), call("add", a=2, b=2)]], "its limit is 1"),
        (Limits(tokens=50), [call("add", a=1, b=1), "done"], "of its 50 tokens"),
    ],
)
async def test_a_limit_ends_the_run_with_its_name(
    redis_server: RedisServer, limits: Limits, turns: list[Any], says: str
) -> None:
    async with arbiter(redis_server.url, turns, limits=limits) as (a, _):
        result = await a.run("Go on.", timeout=60)
    assert (result.status, result.error.type) == ("failed", "limit")
    assert says in result.error.message
    with pytest.raises(Exception, match="failed"):
        result.raise_for_status()


async def test_the_limit_of_fabrications_is_told_to_the_model(redis_server: RedisServer) -> None:
    turns = [call("request_capability", name="fly_home", need="fly home at once"), "I cannot fly."]
    async with arbiter(redis_server.url, turns, limits=Limits(fabrications=0)) as (a, _):
        result = await a.run("Fly home.", timeout=60)
    assert result.answer == "I cannot fly."
    assert "limit of 0 fabrications" in str(answers(result)[0])


async def test_the_wall_clock_limit_times_the_run_out(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["never asked"], roles=("wrapper",), limits=Limits(seconds=0.2)) as (a, _):
        result = await a.run("Wait.", timeout=60)
    assert (result.status, result.error.type) == ("timed_out", "deadline")


async def test_a_model_that_fails_for_good_ends_the_run_with_its_reason(redis_server: RedisServer) -> None:
    def denied(*_: Any) -> Any:
        raise ModelCallFailed("ask for access", code="accessdenied")

    async with arbiter(redis_server.url, [denied]) as (a, model):
        result = await a.run("Ask.", timeout=60)
    assert (result.status, result.error.type) == ("failed", "model_error")
    assert "ask for access" in result.error.message
    assert len(model.calls) == 1


def failing(*errors: Exception) -> Any:
    """A turn that raises each of these once and then answers."""
    left = list(errors)

    def turn(*_: Any) -> Any:
        if left:
            raise left.pop(0)
        return "At last."

    return turn


async def test_a_busy_model_is_waited_for_on_the_boards_timer_and_asked_once_an_attempt(
    redis_server: RedisServer,
) -> None:
    spent = Usage(input_tokens=7, model_calls=1)
    busy = ModelTransient("busy", code="throttling", retry_after=0.3, usage=spent)
    async with arbiter(redis_server.url, [failing(busy, ModelTransient("broken", code="http_503"))]) as (a, model):
        a.board.random.uniform = lambda *_: 0.0  # type: ignore[method-assign]
        result = await a.run("Ask.", timeout=60)
        log = [event async for event in a.board.watch(result.run_id)]
    assert (result.status, result.answer) == ("succeeded", "At last.")
    assert len(model.calls) == 3
    waits = [event.data for event in log if event.kind == "task.retried"]
    assert [(data.delay_ms, data.error.type) for data in waits] == [(300, "model_error"), (0, "model_error")]
    assert [data.error.names for data in waits] == [("throttling", "throttled"), ("http_503",)]
    # What the failed attempt consumed counts for the run.
    assert waits[0].usage == spent
    assert result.usage.model_calls == 2
    assert result.usage.input_tokens >= 7


async def test_a_model_that_stays_busy_ends_the_run_after_the_attempts_of_its_step(redis_server: RedisServer) -> None:
    busy = [ModelTransient("the provider is busy", code="throttling") for _ in range(20)]
    async with arbiter(redis_server.url, [failing(*busy)]) as (a, model):
        a.board.random.uniform = lambda *_: 0.0  # type: ignore[method-assign]
        result = await a.run("Ask.", timeout=60)
    assert (result.status, result.error.type) == ("failed", "model_error")
    assert "busy" in result.error.message
    assert len(model.calls) == 5


async def test_a_wait_beyond_the_runs_deadline_ends_the_run_now_and_says_so(redis_server: RedisServer) -> None:
    busy = ModelTransient("busy", code="throttling", retry_after=5000)
    async with arbiter(redis_server.url, [failing(busy)]) as (a, _):
        result = await a.run("Ask.", timeout=60)
    assert (result.status, result.error.type) == ("failed", "model_error")
    assert "a wait of 5000.0 s does not fit before the deadline" in result.error.message


async def test_cut_replies_are_repeated_by_the_call_and_not_once_more_by_the_step(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(seconds: float) -> None: ...

    from wrapper.models.converse import converse

    monkeypatch.setitem(converse.__kwdefaults__, "sleep", at_once)
    cuts = [StreamCut("cut", code="cut") for _ in range(20)]
    async with arbiter(redis_server.url, [failing(*cuts)]) as (a, model):
        result = await a.run("Ask.", timeout=60)
    assert (result.status, result.error.type) == ("failed", "model_error")
    assert len(model.calls) == 4


async def test_an_empty_final_answer_is_not_a_success(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["   "]) as (a, _):
        result = await a.run("Say something.", timeout=60)
    assert (result.status, result.error.type) == ("failed", "empty_answer")


async def test_a_run_keeps_the_version_it_first_used(redis_server: RedisServer) -> None:
    from registry import Manifest

    async with arbiter(redis_server.url, [call("add", a=1, b=2), call("add", a=3, b=4), "done"]) as (a, model):
        real, model.stream = model.stream, None  # type: ignore[method-assign]

        async def replaced(messages: Any, *args: Any, **kw: Any) -> Any:
            if len(messages) == 3:
                data = FUNCTIONS[0].manifest.model_dump()
                await a.registry.register(Manifest(**{**data, "description": "Add, but differently."}))
            async for event in real(messages, *args, **kw):
                yield event

        model.stream = replaced  # type: ignore[method-assign]
        result = await a.run("Add two whole numbers, twice.", timeout=60)
    versions = {task.version for task in result.state.work}
    assert versions == {FUNCTIONS[0].manifest.content_hash()}
    assert all(task.completion.status is Status.SUCCEEDED for task in result.state.work)


async def test_what_the_matcher_decided_is_recorded_with_the_round(redis_server: RedisServer) -> None:
    turns = [call(SEARCH, query="sum of two numbers"), call("add", a=1, b=2), "Done."]
    async with arbiter(redis_server.url, turns) as (a, _):
        result = await a.run("Add 1 and 2.", timeout=60)
    first, second, third = result.state.rounds
    request, search = first.matches
    assert request["need"] == "Add 1 and 2."
    assert request["outcome"] in ("use", "ask", "compose", "fabricate")
    assert [each["name"] for each in request["candidates"]][:1] == ["add"]
    assert search["need"] == "sum of two numbers"
    assert second.matches == third.matches == ()


async def test_an_operators_instructions_are_behind_the_system_prompt_in_every_round_and_their_hash_in_each_decision(
    redis_server: RedisServer,
) -> None:
    turns = [call("add", a=1, b=2), "{{ results.add.sum }}"]
    async with arbiter(redis_server.url, turns, instructions="Call a sum a total.") as (a, model):
        result = await a.run("Add 1 and 2.", timeout=60)
    first, second = (each.system_prompt for each in model.calls)
    assert first == second == f"{SYSTEM}\nInstructions of the operator of this installation:\nCall a sum a total.\n"
    hashed = hashlib.sha256(b"Call a sum a total.").hexdigest()
    assert [turn.instructions for turn in result.state.rounds] == [hashed, hashed]
    async with arbiter(redis_server.url, ["3"]) as (a, model):
        result = await a.run("Add 1 and 2.", timeout=60)
    assert model.calls[0].system_prompt == SYSTEM
    assert [turn.instructions for turn in result.state.rounds] == [""]


async def test_a_run_that_goes_on_with_other_instructions_is_warned_of(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    turns = [call("add", a=1, b=2), "3"]
    async with arbiter(redis_server.url, turns, roles=("arbiter",), capabilities=(), instructions="One.") as (a, _):
        await a.registry.register(Manifest(name="add", description="Add.", input_schema={"type": "object"}), source=ADD)
        run = await a.submit("Add 1 and 2.")
        async for event in a.stream(run_id=run):
            if event.kind == "round.planned":
                break
        board = a.board.name
    assert "other instructions" not in caplog.text
    async with Arbiter(
        redis_server.url, ScriptedModel(turns), board=board, roles=("arbiter",), instructions="Another."
    ) as a:
        [task] = (await a.show(run)).state.work
        await a.cancel_task(task.id)
        assert (await a.result(run, timeout=60)).answer == "3"
    assert f"run {run} goes on with other instructions than in round 1" in caplog.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "says something"),
        (" \n", "says something"),
        (7, "says something"),
        ("x" * 20_001, "20,001 characters.*at most 20,000"),
        ("half \ud800", "surrogate"),
    ],
)
def test_instructions_that_cannot_be_given_are_refused(given: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        Arbiter("memory://", instructions=given)
    assert refused.value.field == "instructions"
