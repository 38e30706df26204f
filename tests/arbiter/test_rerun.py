"""A rerun takes over what succeeded in the run it goes on from and does the rest (G3, G4, G5, G9)."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from arbiter_support import arbiter, call, completions
from plan_steps import ref, step
from rerunning_shop import ONCE, PLAN, Shop, opened, pay, rerun, total

from arbiter import (
    AgendaTerms,
    Approval,
    Arbiter,
    Conflict,
    Limits,
    Trigger,
    capability,
)
from arbiter.narration import narrate
from arbiter.outcomes import outcomes
from arbiter.task_reasons import reasons
from blackboard.events import TaskClaimed
from blackboard.taint import TaintPolicy
from blackboard.testing import RedisServer


@pytest.mark.parametrize("url", ["", "memory://"])
async def test_what_succeeded_stays_and_the_rest_is_done(redis_server: RedisServer, url: str) -> None:
    shop = Shop(3)
    async with opened(url or redis_server.url, shop) as a:
        failed = await a.run({"numbers": [2, 3, 4]}, plan=PLAN, timeout=60, tenant="acme", limits=Limits(tasks=50))
        assert (failed.status, failed.error.type) == ("failed", "plan_failed")
        assert 3 in shop.done
        before = await a.board.outcomes()
        shop.broken.clear()
        result = await rerun(a, failed.run_id)
        assert (result.status, result.answer) == ("succeeded", "900")
        assert set(shop.done) <= {3, 4, 90}, "of the items, 4 may not have been begun"
        state = result.state
        assert (state.rerun_of.run, state.tenant, state.limits.tasks) == (failed.run_id, "acme", 50)
        ended = completions(result)
        assert ended["one"].taken_over_from == f"{failed.run_id}/1.one"
        assert (ended["one"].data, ended["one"].attempts, ended["one"].worker) == (10, 0, None)
        assert ended["all.1"].taken_over_from is None
        claimed = [event.subject for event in await a.board.history(result.run_id) if isinstance(event, TaskClaimed)]
        assert f"{result.run_id}/1.one" not in claimed
        gained = {name: number - before.get(name, 0) for name, number in (await a.board.outcomes()).items()}
        assert sum(gained.values()) == sum(task.attempts > 0 for task in state.work), "only what was done is counted"


async def test_g4_asked_for_again_it_is_the_run_there_is(redis_server: RedisServer) -> None:
    shop = Shop(1)
    async with opened(redis_server.url, shop) as a:
        failed = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2)], timeout=60)
        assert shop.done == [1, 2]
        shop.broken.clear()
        made = await asyncio.gather(*(a.rerun(failed.run_id) for _ in range(5)))
        assert len({*made}) == 1
        await a.result(made[0], timeout=60)
        assert await a.rerun(failed.run_id) == made[0]
        assert shop.done == [1]
        with pytest.raises(Conflict):
            await a.rerun(failed.run_id, current_versions=True)
        other = await rerun(a, failed.run_id, idempotency_key="mine")
        assert other.run_id != made[0]
        assert shop.done == [1], "a rerun of its own takes over what the first run has"


async def test_a_chain_of_reruns_loses_nothing(redis_server: RedisServer) -> None:
    """Also what the one in between did not come to take over."""
    shop = Shop(2, 3)
    plan = [pay("a", 1), pay("b", 2), pay("c", 3, after=["b"]), pay("d", 4)]
    async with opened(redis_server.url, shop) as a:
        first = await a.run("Pay.", plan=plan, timeout=60)
        assert shop.done == [1, 2, 4]
        shop.broken.discard(2)
        second = await rerun(a, first.run_id)
        assert (second.status, shop.done) == ("failed", [2, 3])
        shop.broken.clear()
        third = await rerun(a, second.run_id)
        assert (third.status, shop.done) == ("succeeded", [3])
        again = await rerun(a, third.run_id)
        assert (again.status, shop.done) == ("succeeded", []), "also of a run that succeeded"


async def test_what_a_cancelled_rerun_did_not_take_over_is_taken_over_from_the_run_before(
    redis_server: RedisServer,
) -> None:
    shop = Shop(1)
    board = "t" + uuid.uuid4().hex[:12]
    async with Arbiter(redis_server.url, "scripted:none", board=board, roles=()) as client:
        async with Arbiter(redis_server.url, None, board=board, roles=("arbiter",), capabilities=[shop(), total]) as a:
            failed = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2)], timeout=60)
            assert shop.done == [1, 2]
        stopped = await client.rerun(failed.run_id)  # nobody serves the board
        await client.cancel(stopped)
        shop.broken.clear()
        async with Arbiter(redis_server.url, None, board=board, roles=("arbiter",), capabilities=[shop(), total]) as a:
            result = await rerun(a, stopped)
        assert (result.status, shop.done) == ("succeeded", [1])


async def test_two_calls_with_the_same_input_take_over_as_many_results_as_there_are(redis_server: RedisServer) -> None:
    """In a run that a model plans, which may plan otherwise the second time."""
    shop = Shop(5)
    planned = [call("pay", n=1), call("pay", n=1), call("pay", n=5)]
    async with opened(redis_server.url, shop, [lambda *_: [*planned], "Paid."]) as a:
        first = await a.run("Pay.", timeout=60)
        assert (first.status, shop.done) == ("succeeded", [1, 1, 5])
        shop.broken.clear()
        planned.insert(0, call("pay", n=1))
        result = await rerun(a, first.run_id)
        assert (result.answer, shop.done) == ("Paid.", [1, 5])
        assert [task.attempts for task in result.state.work] == [0, 0, 1, 1]


async def test_calls_of_one_turn_that_refer_to_each_other_are_taken_over_together(redis_server: RedisServer) -> None:
    shop = Shop()
    turn = [call("pay", n=1), call("total", parts=[ref("pay")])]
    async with opened(redis_server.url, shop, [turn, "10."]) as a:
        first = await a.run("Pay.", timeout=60)
        assert shop.done == [1]
        result = await rerun(a, first.run_id)
        assert (result.answer, shop.done) == ("10.", [])
        assert [task.attempts for task in result.state.work] == [0, 0]
    assert outcomes(first.state, TaintPolicy())
    assert outcomes(result.state, TaintPolicy()) == [], "nothing served a need here that had not there"


async def test_what_waits_for_something_else_that_is_done_again_is_found_once_its_input_is_known(
    redis_server: RedisServer,
) -> None:
    shop, said = Shop(9), ["one"]

    def text(version: str) -> Any:
        @capability(name="number", description=f"A number, as {version} has it.")
        def number() -> int:
            said.append(version)
            return 7

        return number

    plan = [step("n", "number"), pay("a", ref("n")), pay("b", 9)]
    async with opened(redis_server.url, shop) as a:
        await a.register(text("first"))
        failed = await a.run("Pay.", plan=plan, timeout=60)
        assert shop.done == [7, 9]
        shop.broken.clear()
        await a.register(text("second"))
        result = await rerun(a, failed.run_id, current_versions=True)
        assert (result.status, said) == ("succeeded", ["one", "first", "second"])
        assert shop.done == [9], "the other version says the same number, which is paid"


async def test_a_mended_version_is_called_for_what_failed_and_what_succeeded_stays(redis_server: RedisServer) -> None:
    shop = Shop(2)
    async with opened(redis_server.url, shop) as a:
        failed = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2)], timeout=60)
        assert shop.done == [1, 2]
        shop.broken.clear()
        await a.register(shop(2))
        kept = await rerun(a, failed.run_id)
        assert shop.done == [2]
        versions = {key: done.version for key, done in completions(kept).items()}
        assert versions["a"] != versions["b"], "it says which version the result is of"
        anew = await rerun(a, failed.run_id, current_versions=True, idempotency_key="anew")
        assert (anew.status, shop.done) == ("succeeded", [1, 2])


async def test_where_content_comes_from_travels_with_a_result(redis_server: RedisServer) -> None:
    shop = Shop(2)
    async with opened(redis_server.url, shop) as a:
        failed = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2)], sources=("mail:inbox",), timeout=60)
        shop.broken.clear()
        result = await rerun(a, failed.run_id)
    assert "mail:inbox" in result.state.request_taint
    assert "mail:inbox" in completions(result)["a"].taint


async def test_a_large_result_and_a_large_input_are_taken_over(redis_server: RedisServer) -> None:
    big, did, stuck = "x" * 400_000, list[str](), [True]

    @capability
    def grow(text: str) -> str:
        """Make it longer."""
        did.append("grow")
        return text + "!"

    @capability(retry=ONCE)
    def end(text: str) -> int:
        """Count characters."""
        did.append("end")
        if stuck:
            raise RuntimeError("not yet")
        return len(text)

    plan = [
        step("a", "grow", {"text": ref("request#/text")}), step("b", "grow", {"text": ref("a")}),
        step("c", "end", {"text": ref("b")}),
    ]  # fmt: skip
    async with arbiter(redis_server.url, ["never"], capabilities=(grow, end)) as (a, _):
        failed = await a.run({"text": big}, plan=plan, timeout=60)
        assert did == ["grow", "grow", "end"]
        stuck.clear()
        result = await rerun(a, failed.run_id)
    assert (result.answer, did) == (str(len(big) + 2), ["grow", "grow", "end", "end"])


# ---- how it is told --------------------------------------------------------------------------------------------------------


async def test_why_and_the_narration_say_where_a_result_is_from(redis_server: RedisServer) -> None:
    shop = Shop(2)
    async with opened(redis_server.url, shop) as a:
        failed = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2)], timeout=60)
        result = await rerun(a, failed.run_id)
        log = await a.board.history(result.run_id)
    lines = [narrate(event) for event in log]
    assert f"accepted, goes on from {failed.run_id}: Pay." in lines
    assert f"pay 1.a succeeded, taken over from {failed.run_id}/1.a" in lines
    told = reasons(result.state, log, f"{result.run_id}/1.a")
    assert (told.taken_over_from, told.begun) == (f"{failed.run_id}/1.a", 0)


async def test_a_dead_letter_of_a_run_is_put_back_with_what_succeeded(redis_server: RedisServer) -> None:
    shop = Shop(2)
    async with opened(redis_server.url, shop) as a:
        failed = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2)], timeout=60)
        assert shop.done == [1, 2]
        shop.broken.clear()
        made = await a.dead_letters.redrive(failed.run_id, rerun=True)
        result = await a.result(made, timeout=60)
        assert (result.status, shop.done) == ("succeeded", [2])
        assert (result.state.redrive_of, result.state.rerun_of.run) == (failed.run_id, failed.run_id)
        assert await a.dead_letters.redrive(failed.run_id) == made
        whole = await a.dead_letters.redrive(failed.run_id, again=True)
        await a.result(whole, timeout=60)
        assert shop.done == [1, 2], "without being asked to, everything is done"


async def test_an_agenda_takes_over_what_its_activations_came_to(redis_server: RedisServer) -> None:
    shop, seen = Shop(9), list[int]()

    @capability(effects="writes", triggers=(Trigger(topic="results.pay.*", bind={"amount": "content"}),))
    def check(amount: int) -> str:
        """Look at what was paid."""
        seen.append(amount)
        return "fine"

    async with opened(redis_server.url, shop, [[call("pay", n=1), call("pay", n=9)], "No."]) as a:
        await a.register(check)
        failed = await a.run("Pay.", agenda=AgendaTerms(), timeout=60)
        assert (shop.done, seen) == ([1, 9], [10])
        shop.broken.clear()
        result = await rerun(a, failed.run_id)
        assert (result.status, shop.done, seen) == ("succeeded", [9], [10, 90])
        taken = {task.key for task in result.state.work if task.completion and task.completion.taken_over_from}
    assert len(taken) == 2, "the first payment, and what was triggered by it"


async def test_an_approval_is_asked_for_again_only_where_its_task_is_done_again(redis_server: RedisServer) -> None:
    shop, sent = Shop(9), list[str]()

    @capability(effects="irreversible", approval=Approval(seconds=600), retry=ONCE)
    def send(to: str) -> str:
        """Send it."""
        sent.append(to)
        return to

    async with opened(redis_server.url, shop) as a:
        await a.register(send)
        plan = [
            step("s", "send", {"to": "ann"}),
            pay("b", 9, after=["s"]),
            step("t", "send", {"to": "bob"}, after=["b"]),
        ]
        run = await a.submit("Send.", plan=plan)
        await _approved(a, run)
        failed = await a.result(run, timeout=60)
        assert (failed.status, sent, shop.done) == ("failed", ["ann"], [9])
        shop.broken.clear()
        again = await a.rerun(run)
        await _approved(a, again)
        result = await a.result(again, timeout=60)
        asked = [task.key for task in result.state.work if task.asked is not None]
    assert (result.status, sent, asked) == ("succeeded", ["ann", "bob"], ["t"])


async def _approved(a: Arbiter, run: str) -> None:
    async for event in a.board.watch(run):
        if event.kind == "approval.asked":
            await a.approvals.approve(event.subject, by="ann")
            return
