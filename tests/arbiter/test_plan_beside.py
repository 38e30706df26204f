"""What a plan holds back waits for what it depends on, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from arbiter_support import FUNCTIONS, arbiter, call
from gates import Gates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_steps import followed, keys, post, ref, say, step

from arbiter import Arbiter, Limits, ScriptedModel, capability
from arbiter.fold import fold
from arbiter.following import current
from arbiter.given_plans import checked
from arbiter.planner import Planner
from blackboard.attempt import Attempt
from blackboard.board import STEP_LANE, Board
from blackboard.claims import Claim
from blackboard.errors import BadInput
from blackboard.invariants import faults
from blackboard.testing import RedisServer
from blackboard.triggers import AgendaTerms, Trigger
from blackboard.types import Failure, Status


@pytest.fixture
def gates() -> Gates:
    return Gates()


async def test_a_step_starts_when_what_it_depends_on_is_over_while_another_branch_still_runs(
    redis_server: RedisServer, gates: Gates
) -> None:
    plan = post(
        step("slow", "hold", {"name": "g"}), say("quick", "x"), step("then", "let", {"name": "g"}, when="quick=x"),
        say("both", "y", when="slow=g then=g"),
    )  # fmt: skip
    async with arbiter(redis_server.url, [plan, "done"], capabilities=(*FUNCTIONS, *gates.capabilities)) as (a, model):
        result = await a.run("go", timeout=60)
        assert await faults(a.board) == []
    assert {key: one.standing for key, one in followed(result).items()} == dict.fromkeys(
        ("slow", "quick", "then", "both"), "succeeded"
    )
    assert len(model.calls) == 2, "the model is asked once all of it is over"


async def test_an_item_starts_while_a_slow_one_of_the_same_step_still_runs(
    redis_server: RedisServer, gates: Gates
) -> None:
    @capability
    async def one(n: int) -> int:
        """Items other than the first end at once; the last of them lets the first go."""
        if n == 0:
            await gates.gate("first").wait()
        if n == 4:
            gates.gate("first").set()
        return n

    plan = post(
        step("all", "one", {"n": ref("item")}, each="request#/all", at_once=2), step("sum", "add", {"a": ref("all#/4"), "b": 1})
    )  # fmt: skip
    async with arbiter(redis_server.url, [plan, "done"], capabilities=(*FUNCTIONS, one)) as (a, _):
        result = await a.run({"all": [*range(5)]}, timeout=60)
        assert await faults(a.board) == []
    assert keys(result) == [*(f"all.{n}" for n in range(5)), "sum"]
    assert result.state.work[-1].completion.data == {"sum": 5}
    carried = sum(turn.carrying for turn in result.state.rounds)
    assert carried <= 1 + 5 + 1, "one to begin, at most one for each item, one for what waits for all of them"


async def test_what_waits_for_many_is_looked_at_once(redis_server: RedisServer) -> None:
    many = [say(f"s{n}", "x") for n in range(20)]
    plan = [*many, say("end", "y", when="request=go", after=[one["key"] for one in many])]
    async with arbiter(redis_server.url, ["never asked"]) as (a, _):
        result = await a.run("go", plan=plan, timeout=60)
    assert (result.status, len(keys(result))) == ("succeeded", 21)
    assert [turn.carrying for turn in result.state.rounds] == [False, True, True], (
        "carried on once, for all of them, and ended"
    )


async def test_no_further_item_begins_once_too_many_failed_though_others_still_run(
    redis_server: RedisServer, gates: Gates
) -> None:
    @capability
    async def one(n: int) -> int:
        """The first waits, the second fails."""
        if n == 0:
            await gates.gate("g").wait()
        if n == 1:
            raise ValueError("odd")
        return n

    plan = post(
        step("all", "one", {"n": ref("item")}, each="request#/all", at_once=2, catch="open", retry={"max_attempts": 1}),
        step("open", "let", {"name": ref("error#/type")}), say("other", "x", when="request.all.0=0"),
        step("let_go", "let", {"name": "g"}, when="other=x", wait_seconds=0.3),
    )  # fmt: skip
    abilities = (*FUNCTIONS, *gates.capabilities, one)
    async with arbiter(redis_server.url, [plan, "done"], capabilities=abilities) as (a, _):
        result = await a.run({"all": [*range(5)]}, timeout=60)
        assert await faults(a.board) == []
    assert sorted(keys(result)) == ["all.0", "all.1", "let_go", "open", "other"]
    assert followed(result)["all"].error.message.startswith("1 of 5 items failed")
    assert result.state.work[-1].completion.data == "items_failed"


async def test_a_step_that_uses_a_call_of_the_same_turn_waits_for_it_and_for_no_other(
    redis_server: RedisServer, gates: Gates
) -> None:
    turn = [
        post(
            say("quick", "x"), step("first", "let", {"name": "called"}, when="quick=x"), say("then", ref("hold"), when="quick=x"),
            step("last", "let", {"name": "slow"}, when="then=called"), step("slow", "hold", {"name": "slow"}),
        ),
        call("hold", name="called"),
    ]  # fmt: skip
    async with arbiter(redis_server.url, [turn, "done"], capabilities=(*FUNCTIONS, *gates.capabilities)) as (a, model):
        result = await a.run("go", timeout=60)
    assert {one.standing for one in followed(result).values()} == {"succeeded"}
    assert len(model.calls) == 2


async def test_an_agenda_is_worked_off_beside_a_plan_and_before_the_model_is_asked(
    redis_server: RedisServer, gates: Gates
) -> None:
    @capability(triggers=[Trigger(topic="results.let.*")])
    async def notice(entry: dict[str, Any]) -> str:
        """What was let."""
        return "noticed"

    plan = post(
        step("slow", "hold", {"name": "g"}), say("quick", "x"), step("then", "let", {"name": "g"}, when="quick=x"),
        say("end", "y", when="slow=g then=g"),
    )  # fmt: skip
    abilities = (*FUNCTIONS, *gates.capabilities, notice)
    async with arbiter(redis_server.url, [plan, "done"], capabilities=abilities) as (a, model):
        result = await a.run("go", agenda=AgendaTerms(), timeout=60)
        assert await faults(a.board) == []
    assert {one.standing for one in followed(result).values()} == {"succeeded"}
    assert [task.completion.data for task in result.state.work if task.capability == "notice"] == ["noticed"]
    assert len(model.calls) == 2
    assert "noticed" in str(model.calls[1].messages)


async def test_the_last_round_there_may_be_is_carried_to_its_end(redis_server: RedisServer) -> None:
    plan = post(say("one", "x"), say("two", "y", when="one=x"))
    async with arbiter(redis_server.url, [plan], limits=Limits(rounds=1)) as (a, _):
        result = await a.run("go", timeout=60)
    assert (result.status, result.error.type, keys(result)) == ("failed", "limit", ["one", "two"])


# ---- whatever the order ------------------------------------------------------------------------------------------------


def _plan(dice: Random) -> list[dict[str, Any]]:
    """Some plan: steps that wait for earlier ones in every way there is."""
    steps: list[dict[str, Any]] = []
    free: list[str] = []
    for number in range(dice.randint(2, 7)):
        key = f"s{number}"
        before = [one["key"] for one in steps]
        one = step(key, "work", {"of": key})
        some = dice.sample(before, min(len(before), dice.randint(0, 2)))
        match dice.randrange(8):
            case 0 | 1:
                one["after"] = some
            case 2 if some:
                one["input"]["of"] = {"$ref": f"{some[0]}"}
            case 3 if some:
                one["when"] = f"{some[0]}{dice.choice(['?', '=no'])}"
                one["after"] = some[1:]
            case 4:
                one |= {"each": "request#/all", "at_once": dice.randint(1, 3), "tolerate": dice.randint(0, 2)}
                one["input"]["of"] = ref("item")
                one["after"] = some
            case 5 if some:
                one["input"]["of"] = {"$first": some}
            case 6 if free:
                caught = free.pop(dice.randrange(len(free)))
                next(each for each in steps if each["key"] == caught)["catch"] = key
                one["input"]["of"] = ref("error#/step")
            case 7 if chosen := [each["key"] for each in steps if "when" in each or "else_of" in each]:
                one["else_of"] = dice.choice(chosen)
            case _:
                pass
        steps.append(one)
        free.append(key)
    return steps


class Stage:
    """One run of a plan, whose tasks end when and how the test says."""

    def __init__(self, a: Arbiter, run: str, fails: Callable[[str], bool], dice: Random | None) -> None:
        self.a, self.run, self.fails, self.dice = a, run, fails, dice
        self.board: Board = a.board
        self.planner = Planner(a.registry, lambda: ScriptedModel(["never asked"]))
        self.held: list[Claim] = []
        self.commit = self.board.commit_step

    async def play(self) -> None:
        self.board.commit_step = self.while_it_ends  # type: ignore[method-assign]
        while (await self.board.summary(self.run)).ended_at is None:
            await self.take()
            due = bool(await self.step()) if self.dice is None or self.dice.random() < 0.6 or not self.held else False
            if not due and self.held:
                await self.end_one()
            assert await faults(self.board) == []
            await self.nothing_is_forgotten()

    async def nothing_is_forgotten(self) -> None:
        """What is due is looked at: there is a step, or nothing is due."""
        state = fold(self.run, await self.board.history(self.run))
        if any(task.kind == "step" and not task.done for task in state.tasks.values()):
            return
        if (plan := current(state)) is not None and not state.done:
            for key, one in plan.steps.items():
                assert one.standing != "held" or not all(map(plan.settled, plan.plan.waits(key))), key
                at_work = sum(not task.done for task in one.tasks)
                assert not one.left or one.given_up or at_work >= one.step.at_once, key

    async def take(self) -> None:
        lanes = [one.manifest.action for one in await self.a.registry.list()]
        self.held += await self.board.claim("w", lanes, n=50)

    async def step(self) -> bool:
        taken = await self.board.claim("planner", [STEP_LANE], n=9)
        assert len(taken) <= 1, "one step at a time"
        for claim in taken:
            assert await self.planner.handle(Attempt(self.board, claim)) is None
        return bool(taken)

    async def while_it_ends(self, *given: Any, **more: Any) -> None:
        """Some tasks end between what a step has read and what it commits."""
        while self.dice is not None and self.held and self.dice.random() < 0.4:
            await self.end_one()
        await self.commit(*given, **more)

    async def end_one(self) -> None:
        claim = self.held.pop(0 if self.dice is None else self.dice.randrange(len(self.held)))
        if self.fails(claim.key):
            error = Failure(type="handler_error", message="broke")
            await self.board.complete(claim, claim.completion(Status.FAILED, error=error))
        else:
            await self.board.complete(claim, claim.completion(Status.SUCCEEDED, data=f"of {claim.key}"))

    async def outcome(self) -> Any:
        """What must be the same, whatever ended first: which items a step with too many failures began is not."""
        result = await self.a.show(self.run)
        steps = followed(result)
        lost = {key for key, one in steps.items() if one.step.each and one.standing == "failed"}
        tasks = sorted(
            (task.key, str(task.input), task.state)
            for task in result.state.work
            if task.key.partition(".")[0] not in lost
        )
        carried = sum(turn.carrying for turn in result.state.rounds)
        assert carried <= 3 + len(steps) + len(result.state.work), "steps grow with the work"
        answer = result.answer if not result.error else result.error.type
        return result.status, answer, {key: one.standing for key, one in steps.items()}, tasks


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_g5_a_plan_comes_to_the_same_whatever_ends_first(shape: int, order: int, failing: int) -> None:
    plan = _plan(Random(shape))
    request = {"all": [*"abcd"[: shape % 5]]}

    def fails(key: str) -> bool:
        return failing > 0 and Random(f"{shape} {key}").random() < failing / 8

    async def compare() -> None:
        @capability
        def work(of: Any) -> str:
            """Work."""
            return "never called"

        found: list[Any] = []
        async with Arbiter(f"memory://beside{shape}-{order}", roles=()) as a:
            await a.registry.register(work.manifest)
            try:
                checked(plan, request, None, None)
            except BadInput:
                return
            for dice in (None, Random(order), Random(order + 1)):
                stage = Stage(a, await a.submit(request, plan=plan), fails, dice)
                try:
                    await stage.play()
                finally:
                    stage.board.commit_step = stage.commit  # type: ignore[method-assign]
                found.append(await stage.outcome())
        assert found[0] == found[1] == found[2]

    asyncio.run(compare())
