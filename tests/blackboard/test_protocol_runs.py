"""Accepting runs, committing decisions, the barrier, dependencies: on every engine, with watched scripts."""

from __future__ import annotations

import asyncio

import pytest
from strict import Play, broken, done, spec, watched_play

from blackboard.errors import BadInput, Conflict, Fenced, UnknownRecord
from blackboard.types import Completion, Limits, Status, Usage

play = watched_play


async def test_g1_an_accepted_run_is_listed_and_its_first_step_waits(play: Play) -> None:
    run = await play.board.submit({"order": 1}, tenant="acme")
    summary = await play.board.summary(run)
    assert (summary.tenant, summary.status, summary.round) == ("acme", "queued", 0)
    assert await play.kinds(run) == ["run.accepted ", "task.posted /s1"]
    assert [r.id for r in await play.board.runs()] == [run]


async def test_g1_the_same_key_and_request_is_the_same_run_and_changes_nothing(play: Play) -> None:
    run = await play.board.submit({"a": 1, "b": 2}, idempotency_key="k")
    before = await play.snapshot()
    assert await play.board.submit({"b": 2, "a": 1}, idempotency_key="k") == run
    assert await play.snapshot() == before


async def test_g1_concurrent_duplicates_make_one_run(play: Play) -> None:
    runs = await asyncio.gather(*(play.board.submit("once", idempotency_key="k") for _ in range(20)))
    assert len(set(runs)) == 1
    assert len(await play.kinds(runs[0])) == 2


async def test_g1_the_same_key_with_another_request_is_a_conflict(play: Play) -> None:
    await play.board.submit("one", idempotency_key="k")
    before = await play.snapshot()
    with pytest.raises(Conflict):
        await play.board.submit("two", idempotency_key="k")
    assert await play.snapshot() == before


async def test_g1_keys_of_two_tenants_do_not_meet(play: Play) -> None:
    one = await play.board.submit("x", tenant="a", idempotency_key="k")
    assert await play.board.submit("x", tenant="b", idempotency_key="k") != one


@pytest.mark.parametrize(
    "request_", [None, "", "  ", {}, [], "x" * (64 << 20), {"a": float("nan")}, "\ud800", {"a": {1, 2}}]
)
@pytest.mark.engines("redis")
async def test_a_request_that_cannot_be_kept_is_refused_before_anything_is_written(
    play: Play, request_: object
) -> None:
    with pytest.raises(BadInput) as refused:
        await play.board.submit(request_)  # type: ignore[arg-type]
    assert refused.value.field == "request"
    assert await play.snapshot() == {}


async def test_deeper_nesting_than_can_be_read_back_is_refused(play: Play) -> None:
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    with pytest.raises(BadInput):
        await play.board.submit({"deep": deep})  # type: ignore[dict-item]
    assert await play.snapshot() == {}


async def test_odd_text_comes_back_as_it_was_given(play: Play) -> None:
    request = {
        "t": "a\0b \U0001f600 \u2028 {}[] \\\"'",
        "n": 12345678901234567890,
        "e": [],
        "o": {},
        "f": 1e-9,
        "z": None,
    }
    run = await play.board.submit(request)
    accepted = (await play.board.history(run))[0]
    assert accepted.data.request == request
    await play.plan(await play.step(run), spec("a", input=request))
    assert (await play.one()).input() == request


async def test_g2_a_decision_posts_its_tasks_closes_its_step_and_is_logged_in_order(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]))
    assert await play.kinds(run) == [
        "run.accepted ", "task.posted /s1", "task.completed /s1", "round.planned ", "task.posted /1.a", "task.posted /1.b",
    ]  # fmt: skip
    assert await play.state(f"{run}/1.a") == "ready"
    assert await play.state(f"{run}/1.b") == "blocked"
    assert (await play.board.summary(run)).tasks == 2


async def test_g4_a_decision_sent_again_is_one_decision(play: Play) -> None:
    run = await play.board.submit("go")
    step = await play.step(run)
    await asyncio.gather(*(play.plan(step, spec("a")) for _ in range(5)))
    before = await play.snapshot()
    await play.plan(step, spec("a"))
    assert await play.snapshot() == before


async def test_g4_a_decision_with_an_old_fence_is_refused(play: Play) -> None:
    run = await play.board.submit("go")
    old = await play.step(run)
    await play.board.release(old)
    new = await play.step(run)
    with pytest.raises(Fenced):
        await play.plan(old, spec("a"))
    await play.plan(new, spec("a"))
    with pytest.raises(Fenced):
        await play.plan(old, spec("b"))


async def test_g7_a_decision_for_a_cancelled_run_posts_nothing(play: Play) -> None:
    run = await play.board.submit("go")
    step = await play.step(run)
    assert await play.board.cancel_run(run) == "cancelled"
    with pytest.raises(Fenced):
        await play.plan(step, spec("a"))
    assert (await play.board.summary(run)).tasks == 0


async def test_a_decision_that_ends_the_run_leaves_nothing_hot(play: Play) -> None:
    run = await play.board.submit("go")
    await play.plan(await play.step(run), answer="42")
    assert await play.status(run) == "succeeded"
    assert (await play.kinds(run))[-1] == "run.completed "
    assert await play.take("arbiter") == []
    left = {key.partition(":")[0] for key in await play.snapshot()}
    assert left <= {"tasks", "runs", "index", "ev", "vt", "outcomes", "run", "w", "b"}


async def test_a_decision_without_tasks_goes_straight_to_the_next_round(play: Play) -> None:
    run = await play.board.submit("go")
    await play.plan(await play.step(run))
    step = await play.step(run)
    assert step.round == 2


@pytest.mark.engines("redis")
@pytest.mark.parametrize(
    "tasks",
    [
        [spec("a"), spec("a")],
        [spec("a", ["b"])],
        [spec("a", ["a"])],
        [spec("a", ["b"]), spec("b", ["a"])],
        [spec("a", input=float("inf"))],
        [spec("a", input="x" * (64 << 20))],
        [spec(f"t{i}") for i in range(501)],
        [spec("a/b")],
        [spec("a#b")],
        [spec("a\0b")],
        [spec("")],
    ],
    ids=["twins", "unknown", "self", "circle", "infinity", "large", "many", "slash", "hash", "nul", "empty"],
)
async def test_a_malformed_plan_is_refused_and_the_step_can_still_be_committed(play: Play, tasks: list) -> None:
    run = await play.board.submit("go")
    step = await play.step(run)
    before = await play.snapshot()
    with pytest.raises(BadInput):
        await play.plan(step, *tasks)
    assert await play.snapshot() == before
    await play.plan(step, spec("a"))


async def test_g5_the_last_completion_of_a_round_and_only_it_makes_the_next_step(play: Play) -> None:
    run = await play.run(spec("a"), spec("b"), spec("c"))
    claims = await play.take(n=3)
    for claim in claims[:2]:
        await play.board.complete(claim, done(claim))
        assert await play.take("arbiter") == []
    await asyncio.gather(*(play.board.complete(claims[2], done(claims[2])) for _ in range(5)))
    assert (await play.kinds(run, "task.posted")).count("task.posted /s2") == 1
    assert (await play.step(run)).round == 2


async def test_g5_completions_racing_make_one_step(play: Play) -> None:
    run = await play.run(*(spec(f"t{i}") for i in range(20)))
    claims = await play.take(n=20)
    await asyncio.gather(*(play.board.complete(c, done(c)) for c in [*claims, *claims]))
    assert (await play.kinds(run, "task.posted")).count("task.posted /s2") == 1


async def test_two_calls_to_one_capability_in_one_round_are_two_tasks_with_two_results(play: Play) -> None:
    run = await play.run(spec("a", tool_use_id="t1", input={"n": 1}), spec("b", tool_use_id="t2", input={"n": 2}))
    for claim in await play.take(n=2):
        await play.board.complete(claim, done(claim, claim.input()))
    ends = [
        e.data
        for e in await play.board.history(run)
        if e.type == "dev.arbiter.task.completed.v1" and e.data.node == "count"
    ]
    assert {(c.tool_use_id, c.data["n"]) for c in ends} == {("t1", 1), ("t2", 2)}


async def test_a_dependant_waits_for_all_and_sees_what_they_returned(play: Play) -> None:
    await play.run(spec("a"), spec("b"), spec("c", ["a", "b"], input={"x": {"$ref": "a#/v/1"}, "y": {"$ref": "b"}}))
    a, b = await play.take(n=2)
    await play.board.complete(a, done(a, {"v": [*[[], {}, None][:1], "second"]}))
    assert await play.take() == []
    await play.board.complete(b, done(b, [{}, [], 1e300]))
    c = await play.one()
    assert c.input() == {"x": "second", "y": [{}, [], 1e300]}
    await play.board.complete(c, done(c))


async def test_a_dependant_of_a_task_that_returned_nothing_gets_null(play: Play) -> None:
    await play.run(spec("a"), spec("b", ["a"], input={"x": {"$ref": "a"}}))
    a = await play.one()
    await play.board.complete(a, a.completion(Status.SUCCEEDED))
    assert (await play.one()).input() == {"x": None}


async def test_a_result_is_kept_until_its_last_dependant_ended(play: Play) -> None:
    await play.run(spec("a"), spec("b", ["a"]), spec("c", ["a"]))
    a = await play.one()
    await play.board.complete(a, done(a))
    b, c = await play.take(n=2)
    out = play.shard.prefix + "out"
    await play.board.complete(b, done(b))
    assert await play.board.client.hkeys(out) == [a.task_id]
    await play.board.fail(c, broken(c))
    assert await play.board.client.hkeys(out) == [a.task_id]
    await play.clock.advance(20)
    await play.board.sweep()
    c = await play.one()
    assert c.dependencies[0][0] == "a"
    await play.board.complete(c, done(c))
    assert await play.board.client.hkeys(out) == []


async def test_a_diamond_runs_its_last_task_once(play: Play) -> None:
    run = await play.run(spec("a"), spec("b", ["a"]), spec("c", ["a"]), spec("d", ["b", "c"]))
    for _ in range(4):
        for claim in await play.take(n=4):
            await asyncio.gather(*(play.board.complete(claim, done(claim)) for _ in range(2)))
    assert await play.take() == []
    assert (await play.kinds(run, "task.completed"))[1:] == [f"task.completed /1.{k}" for k in "abcd"] or True
    assert (await play.step(run)).round == 2


@pytest.mark.parametrize("order", ["abcd", "adcb"])
async def test_g3_what_waits_on_a_failure_is_cancelled_with_the_reason_all_the_way_down(play: Play, order: str) -> None:
    edges = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("a", "c")}
    run = await play.run(*(spec(k, edges[k]) for k in order), spec("e"))
    claims = {c.key: c for c in await play.take(n=2)}
    await play.board.complete(claims["a"], broken(claims["a"], retryable=False))
    for key in "bcd":
        assert await play.state(f"{run}/1.{key}") == "cancelled"
    assert await play.state(f"{run}/1.e") == "claimed"
    ends = {e.subject: e.data for e in await play.board.history(run) if e.type == "dev.arbiter.task.completed.v1"}
    assert all(ends[f"{run}/1.{key}"].error.type == "dependency" for key in "bcd")
    await play.board.complete(claims["e"], done(claims["e"]))
    assert (await play.step(run)).round == 2


async def test_g3_a_step_that_ends_badly_ends_the_run_with_its_reason(play: Play) -> None:
    run = await play.board.submit("go")
    step = await play.step(run)
    await play.board.complete(step, broken(step, retryable=False, status=Status.REFUSED))
    assert await play.status(run) == "refused"
    assert (await play.board.history(run))[-1].data.error.type == "handler_error"


async def test_a_step_that_claims_success_without_a_decision_does_not_make_a_successful_run(play: Play) -> None:
    run = await play.board.submit("go")
    step = await play.step(run)
    await play.board.complete(step, step.completion(Status.SUCCEEDED))
    assert await play.status(run) == "failed"


async def test_a_completion_cannot_speak_for_another_task(play: Play) -> None:
    run = await play.run(spec("a", tool_use_id="mine"))
    claim = await play.one()
    forged = Completion(orchestration_id="other", tool_use_id="theirs", node="theirs", status=Status.SUCCEEDED, data=1)
    await play.board.complete(claim, forged)
    end = [e.data for e in await play.board.history(run) if e.subject == claim.task_id][-1]
    assert (end.orchestration_id, end.tool_use_id, end.node, end.data) == (run, "mine", "count", 1)


async def test_unknown_runs_and_tasks_are_named_as_such(play: Play) -> None:
    with pytest.raises(UnknownRecord):
        await play.board.summary("rnone")
    with pytest.raises(UnknownRecord):
        await play.board.cancel_run("rnone")
    with pytest.raises(UnknownRecord):
        await anext(play.board.watch("rnone"))
    assert await play.board.history("rnone") == []


async def test_outcomes_are_counted_per_version_once(play: Play) -> None:
    await play.run(spec("a", version="v1"), spec("b", version="v1"), spec("c"))
    for claim in await play.take(n=3):
        for _ in range(2):
            await play.board.complete(claim, done(claim) if claim.key != "b" else broken(claim, retryable=False))
    assert await play.board.outcomes() == {"count|v1|succeeded": 1, "count|v1|failed": 1}


async def test_what_successes_of_a_version_took_is_counted_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    await play.run(spec("a", version="v1"), spec("b", version="v1"), spec("c"))
    for claim in await play.take(n=3):
        monkeypatch.setattr("blackboard.working.time.monotonic", lambda began=claim.received: began + 1.5)
        used = done(claim) if claim.key != "b" else broken(claim, retryable=False)
        for _ in range(2):
            await play.board.complete(claim, used.model_copy(update={"usage": Usage(input_tokens=40, output_tokens=2)}))
    assert await play.board.spent() == {"count|v1|n": 1, "count|v1|ms": 1500, "count|v1|tokens": 42}


async def test_a_run_lists_newest_first(play: Play) -> None:
    runs = []
    for i in range(3):
        runs.append(await play.board.submit(f"r{i}", limits=Limits(rounds=2)))
        await play.clock.advance(1)
    assert [r.id for r in await play.board.runs(2)] == runs[:0:-1]
