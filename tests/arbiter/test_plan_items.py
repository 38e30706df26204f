"""A step of a plan for each item of a list: in their order, so many at once, with failures that are tolerated."""

from __future__ import annotations

import asyncio
from typing import Any

from arbiter_support import FUNCTIONS, arbiter, call
from plan_steps import followed, half, keys, post, ref, say, step, told

from arbiter import Limits, capability
from blackboard.testing import RedisServer

CAPABILITIES = (*FUNCTIONS, half)


async def test_a_map_returns_in_the_order_of_its_items_whatever_ends_first(redis_server: RedisServer) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    gates[2].set()

    @capability
    async def late(n: int) -> int:
        """Return the number, the last one first."""
        await gates[n].wait()
        if n:
            gates[n - 1].set()
        return n

    plan = post(
        step("all", "late", {"n": ref("item#/n")}, each="rows"),
        say("first", ref("all#/0"), when="all.2=2"),
        step("rows", "rows", {"count": 3}),
    )
    turns = [plan, "{{ to_string(results.post_plan.tasks.all.data) }}"]
    async with arbiter(redis_server.url, turns, capabilities=(*FUNCTIONS, late)) as (a, model):
        result = await a.run("Map.", timeout=60)
        again = await a.run("Map.", timeout=60)
    assert result.answer == again.answer == "[0,1,2]"
    assert keys(result) == ["rows", "all.0", "all.1", "all.2", "first"]
    assert (followed(result)["first"].standing, len(model.calls)) == ("failed", 4), "0 is no text"


async def test_no_more_items_are_at_work_than_may_be(redis_server: RedisServer) -> None:
    working: list[int] = [0, 0]
    two = asyncio.Barrier(2)

    @capability
    async def count(n: int) -> int:
        """Return the number once another one is at work."""
        working[0] += 1
        working[1] = max(working)
        await two.wait()
        working[0] -= 1
        return n

    plan = post(step("all", "count", {"n": ref("item")}, each="request#/numbers", at_once=2))
    async with arbiter(redis_server.url, [plan, "done"], capabilities=(count,)) as (a, model):
        result = await a.run({"numbers": [*range(6)]}, timeout=60)
    assert [one.standing for one in followed(result).values()] == ["succeeded"]
    assert (working[1], len(keys(result)), len(model.calls)) == (2, 6, 2)
    assert [turn.carrying for turn in result.state.rounds] == [False, True, True, True, False]
    assert result.state.decisions == 2


async def test_an_empty_list_is_mapped_to_an_empty_list(redis_server: RedisServer) -> None:
    plan = post(
        step("all", "half", {"n": ref("item")}, each="request#/all"), step("how", "rows", {"count": 0}, after=["all"])
    )
    turns = [plan, "{{ to_string(results.post_plan.tasks.all.data) }}"]
    async with arbiter(redis_server.url, turns, capabilities=CAPABILITIES) as (a, _):
        result = await a.run({"all": []}, timeout=60)
    assert (result.answer, keys(result)) == ("[]", ["how"])


async def test_tolerated_failures_leave_null_and_one_more_fails_the_step(redis_server: RedisServer) -> None:
    numbers = {"numbers": [2, 3, 4, 5, 6]}

    def plan(tolerate: int) -> dict[str, Any]:
        retry = {"max_attempts": 1}
        each = {"each": "request#/numbers", "at_once": 4, "tolerate": tolerate, "retry": retry}
        return post(
            step("halves", "half", {"n": ref("item")}, **each),
            step("rest", "add", {"a": ref("halves#/4/n"), "b": 0}),
        )

    async with arbiter(redis_server.url, [plan(2), "done"], capabilities=CAPABILITIES) as (a, model):
        await a.run(numbers, timeout=60)
        some = told(model)
    assert some["halves"]["data"] == [{"n": 1}, None, {"n": 2}, None, {"n": 3}]
    assert (some["halves"]["status"], some["rest"]["data"], some[""]) == ("succeeded", {"sum": 3}, "success")
    assert [*some["halves"]["failed"]] == ["halves.1", "halves.3"]
    async with arbiter(redis_server.url, [plan(1), "done"], capabilities=CAPABILITIES) as (a, model):
        result = await a.run(numbers, timeout=60)
        none = told(model)
    assert (none["halves"]["status"], none["halves"]["error"]["type"], none[""]) == ("failed", "items_failed", "error")
    assert "2 of 5 items failed" in none["halves"]["error"]["message"]
    assert none["rest"] == {
        "capability": "add", "status": "cancelled", "why": "it uses the result of halves, which failed",
    }  # fmt: skip
    assert "halves.4" not in keys(result), "nothing more of it is posted"


async def test_a_map_beyond_the_limit_of_tasks_fails_with_nothing_posted_and_the_model_is_told(
    redis_server: RedisServer,
) -> None:
    plan = post(step("all", "half", {"n": ref("item")}, each="request#/all"), say("other", "x", when="request.all.0?"))
    async with arbiter(redis_server.url, [plan, "Too many."], limits=Limits(tasks=9), capabilities=CAPABILITIES) as (
        a,
        model,
    ):
        result = await a.run({"all": [2] * 10}, timeout=60)
    assert (result.status, keys(result)) == ("succeeded", ["other"])
    assert told(model)["all"]["error"]["type"] == "limit"
    assert "10 tasks; its limit is 9" in told(model)["all"]["error"]["message"]


async def test_what_a_step_will_still_post_counts_for_the_limit_of_another(redis_server: RedisServer) -> None:
    each = {"each": "request#/all", "at_once": 1}
    plan = post(step("one", "half", {"n": ref("item")}, **each), step("two", "half", {"n": ref("item")}, **each))
    async with arbiter(redis_server.url, [plan, "done"], limits=Limits(tasks=9), capabilities=CAPABILITIES) as (
        a,
        model,
    ):
        result = await a.run({"all": [2] * 5}, timeout=60)
    assert (len(told(model)["one"]["data"]), told(model)["two"]["error"]["type"]) == (5, "limit")
    assert set(keys(result)) == {f"one.{n}" for n in range(5)}


async def test_what_is_no_list_fails_the_step(redis_server: RedisServer) -> None:
    plan = post(
        step("all", "half", {"n": ref("item")}, each="request#/n"), step("gone", "half", {"n": ref("item")}, each="request#/x"),
        step("field", "half", {"n": ref("item#/x")}, each="request#/rows"),
    )  # fmt: skip
    async with arbiter(redis_server.url, [plan, "No."], capabilities=CAPABILITIES) as (a, model):
        await a.run({"n": 4, "rows": [{"x": 2}, {"y": 2}]}, timeout=60)
    said = told(model)
    assert "request#/n is a int and not a list" in said["all"]["error"]["message"]
    assert "There is no 'x' here" in said["gone"]["error"]["message"]
    assert said["field"]["error"]["message"].startswith("field.1: ")
    assert {said[key]["error"]["type"] for key in ("all", "gone", "field")} == {"unresolved_reference"}


async def test_a_failed_map_can_be_caught(redis_server: RedisServer) -> None:
    plan = post(
        step("all", "half", {"n": ref("item")}, each="request#/all", catch="instead", retry={"max_attempts": 1}),
        say("instead", ref("error#/message")),
    )
    async with arbiter(redis_server.url, [plan, "done"], capabilities=CAPABILITIES) as (a, model):
        await a.run({"all": [2, 3]}, timeout=60)
    assert told(model)["instead"]["data"].startswith("1 of 2 items failed, the first of them with handler_error")
    assert told(model)[""] == "success"


async def test_a_later_round_can_refer_to_the_list_of_an_earlier_map(redis_server: RedisServer) -> None:
    turns = [
        post(step("halves", "half", {"n": ref("item")}, each="request#/all")),
        call("add", a=ref("halves#/1/n"), b=ref("halves.0#/n")),
        "{{ results.add.sum }}",
    ]
    async with arbiter(redis_server.url, turns, capabilities=CAPABILITIES) as (a, _):
        result = await a.run({"all": [2, 40]}, timeout=60)
    assert result.answer == "21"
    sum_ = next(task for task in result.state.work if task.key == "add")
    assert sum_.input == {"a": 20, "b": 1}


async def test_a_large_result_passes_through_a_map_by_reference(redis_server: RedisServer) -> None:
    text = "x" * 300_000

    @capability
    def long(n: int) -> str:
        """A long text."""
        return text

    @capability
    def sizes(texts: list[str]) -> list[int]:
        """Lengths."""
        return [len(one) for one in texts]

    plan = post(
        step("all", "long", {"n": ref("item")}, each="request#/all"), step("sum", "sizes", {"texts": ref("all")})
    )
    turns = [plan, "{{ to_string(results.post_plan.tasks.sum.data) }}"]
    async with arbiter(redis_server.url, turns, capabilities=(long, sizes)) as (a, model):
        result = await a.run({"all": [1, 2]}, timeout=60)
    assert result.answer == "[300000,300000]"
    assert len(str(model.calls[1].messages)) < 20_000
