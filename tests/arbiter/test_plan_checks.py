"""What is wrong with a plan is said before any of it runs, and conditions never fail, whatever they look at."""

from __future__ import annotations

from typing import Any

import pytest
from arbiter_support import FUNCTIONS, answers, arbiter
from hypothesis import given
from hypothesis import strategies as some
from plan_steps import half, post, ref, say, step
from pydantic import JsonValue

from arbiter import capability
from arbiter.plans import Plan, Step, parse, problems, settled
from blackboard.testing import RedisServer


@capability(effects="irreversible")
def pay(n: int) -> int:
    """Pay."""
    return n


NUMBER = {"n": ref("item")}


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            [say("a", "x", when="b.x>1")],
            "a: when: 'b.x>1' was refused. 'b' is no key; a path begins with one of a, fine, or request.",
        ),
        ([say("a", "x", when="request.x >")], "a: when: 'request.x >' was refused. Write conditions like"),
        ([say("a", "x", when="@confidence>0.5")], "'@confidence' is no key"),
        ([say("a", "x", when="error.type=x")], "'error' is no key"),
        ([say("a", "x", when="a=1")], "these tasks wait for each other: a -> a"),
        (
            [say("a", "x", else_of="b"), say("b", "x")],
            "a: else_of: 'b' was refused. Name another step of this plan that has when",
        ),
        ([say("a", "x", else_of="b", when="request?"), say("b", "x", else_of="a")], "wait for each other"),
        ([step("a", "half", NUMBER, each="rows")], "a: each: 'rows' was refused. Refer to a list"),
        ([step("a", "half", NUMBER, each="request#rows")], "A pointer is empty or begins with '/'"),
        ([step("a", "half", NUMBER)], "$ref names 'item'"),
        ([step("a", "half", {"m": ref("item")}, each="request")], "missing: n; unknown: m"),
        ([step("a", "half", {"n": "two"}, when="request?")], "does not fit its schema"),
        ([say("a", "x", at_once=3)], "a: at_once: 3 was refused. It needs each."),
        ([say("a", "x", tolerate=3)], "a: tolerate: 3 was refused. It needs each."),
        ([step("a", "half", NUMBER, each="request", at_once=101)], "a: at_once: 101 was refused. Give 100 or less."),
        ([say("a", "x", catch="b")], "a: catch: 'b' was refused. Name another step of this plan: a, fine."),
        ([say("a", "x", catch="a")], "a: catch: 'a' was refused."),
        ([say("a", "x", catch="c"), say("b", "x", catch="c"), say("c", "x")], "It catches for one step only"),
        (
            [say("a", ref("c"), catch="b"), say("b", "x", after=["c"]), say("c", "x", after=["a"])],
            "wait for each other",
        ),
        ([say("a", "x", catch="b"), say("b", "x", catch="a")], "wait for each other"),
        ([say("a", ref("error#/type"))], "$ref names 'error'"),
        ([say("a", "x", catch="b"), say("b", "x", else_of="c"), say("c", "x", when="request?")], "is nobody's else"),
        ([say("a", "x", wait_seconds=100_000)], "a: wait_seconds: 100000.0 was refused. The whole run has 900 s."),
        ([say("a", "x", retry={"max_attempts": 11})], "a: retry.max_attempts: 11 was refused. Give 10 or less."),
        ([say("a", "x", retry={"attempts": 1})], "a: retry.attempts: 1 was refused. There is no such field"),
        ([step("a", "pay", {"n": 1}, retry={"max_attempts": 2})], "pay cannot be undone: give 1 or less."),
        ([say("item", "x"), step("a", "half", NUMBER, each="request")], "item: key: 'item' was refused."),
        ([say("a", {"$first": ["b", "request"]})], "$ref names 'b'"),
        ([step("a", "gone", {}, when="request?")], "There is no capability 'gone'"),
        ([say("a", "x", when="request?", premises=["no/entry"])], "a: "),
    ],
)
async def test_a_plan_that_cannot_be_carried_out_is_refused_whole(
    redis_server: RedisServer, steps: list[dict[str, Any]], says: str
) -> None:
    capabilities = (*FUNCTIONS, half, pay)
    async with arbiter(redis_server.url, [post(say("fine", "x"), *steps), "no"], capabilities=capabilities) as (a, _):
        result = await a.run("Try.", timeout=60)
    assert says in str(answers(result)[0])
    assert (result.state.work, len(result.state.rounds)) == ([], 2)


async def test_all_that_is_wrong_is_said_at_once(redis_server: RedisServer) -> None:
    plan = post(
        say("a", "x", when="ghost?", wait_seconds=5000), step("b", "gone"), say("c", "x", retry={"max_attempts": 0}),
        say("d", ref("nowhere"), catch="nobody"),
    )  # fmt: skip
    async with arbiter(redis_server.url, [plan, "no"]) as (a, _):
        result = await a.run("Try.", timeout=60)
    (said,) = answers(result)
    for word in ("ghost", "wait_seconds", "'gone'", "retry.max_attempts", "nowhere", "nobody"):
        assert word in str(said)


async def test_a_direct_call_cannot_refer_to_a_step_that_is_held_back(redis_server: RedisServer) -> None:
    turn = [post(say("held", "x", when="request?")), {"tool": "echo", "input": {"text": ref("held")}}]
    async with arbiter(redis_server.url, [turn, "done"]) as (a, _):
        result = await a.run("Try.", timeout=60)
    calls = result.state.rounds[0].calls
    assert [call.valid for call in calls] == [True, False]
    assert "held back: make this call a step of the plan" in str(calls[1].answer)
    assert [task.key for task in result.state.work] == ["held"]


PLAIN: some.SearchStrategy[JsonValue] = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from("xyz"), inner, max_size=3),
    max_leaves=8,
)
PATHS = some.sampled_from(["a", "a.x", "a.0", "b.x.y", "b.z.1.x", "request.x"])
TERMS = some.builds(
    lambda path, sign, value: f"{path}{sign}" if sign == "?" else f"{path}{sign}{value}",
    PATHS, some.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~", "?"]), some.sampled_from(["1", "0.5", "word", '"two words"']),
)  # fmt: skip


@given(some.lists(TERMS, min_size=1, max_size=4), some.dictionaries(some.sampled_from(["a", "b", "request"]), PLAIN))
def test_conditions_are_total_and_what_is_absent_fulfils_none(terms: list[str], content: dict[str, JsonValue]) -> None:
    plan = Plan([Step(key="s", capability="c", input={}, when=" ".join(terms))])
    ((_, conditions, wanted),) = plan.conditions("s")
    held = [one.fits(content, {}) for one in conditions]
    assert wanted
    assert len(held) == len(terms)
    assert all(type(one) is bool for one in held)
    assert not any(one.fits({}, {}) for one in conditions)


def test_else_turns_the_conditions_before_it_around() -> None:
    plan = Plan(parse([say("a", "", when="x=1"), say("b", "", when="x=2", else_of="a"), say("c", "", else_of="b")])[0])
    found = {key: [(step, wanted) for step, _, wanted in plan.conditions(key)] for key in plan.steps}
    assert found == {"a": [("a", True)], "b": [("b", True), ("a", False)], "c": [("b", False), ("a", False)]}


KEYS = [f"k{n}" for n in range(6)]


@given(
    some.lists(
        some.fixed_dictionaries(
            {"key": some.sampled_from(KEYS), "capability": some.just("c"), "input": some.just({"x": 1})},
            optional={
                "after": some.lists(some.sampled_from(KEYS), max_size=2),
                "when": some.sampled_from([f"{key}?" for key in KEYS]),
                "else_of": some.sampled_from(KEYS),
                "catch": some.sampled_from(KEYS),
                "each": some.sampled_from(KEYS),
            },
        ),
        min_size=1, max_size=6, unique_by=lambda one: one["key"],
    )
)  # fmt: skip
def test_a_plan_without_problems_can_be_carried_to_its_end(given_steps: list[Any]) -> None:
    steps, wrong = parse(given_steps)
    plan = Plan(steps)
    if wrong or problems(plan, [*plan.steps], [], 900):
        return
    held, ended = plan.held(), set[str]()
    while ready := {key for key in plan.steps.keys() - ended if plan.waits(key) <= ended}:
        ended |= ready
    assert ended == plan.steps.keys(), "no step waits for ever"
    for key in plan.steps.keys() - held:
        assert not plan.waits(key) & held, "what is posted at once waits for nothing that is held back"


def test_the_first_that_is_there_is_referred_to() -> None:
    given_input: JsonValue = {"x": [{"$first": ["a#/1", "b", "c"]}], "$first": ["a"], "y": {"$first": []}}
    assert settled(given_input, {"b", "c"}) == {"x": [{"$ref": "b"}], "$first": ["a"], "y": {"$first": []}}
    assert settled(given_input, set()) == {"x": [{"$ref": "c"}], "$first": ["a"], "y": {"$first": []}}
