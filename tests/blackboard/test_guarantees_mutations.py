"""The checks have teeth: each guard of the scripts is taken out in turn, and the check that stands for it must fail."""

from __future__ import annotations

import pytest
from strict import Check, Mutation, Play, broken, done, faults, refused, spec, verdict

from blackboard import _script
from blackboard.claims import Claim
from blackboard.dead_letters import DeadLetters
from blackboard.errors import Conflict, QuotaExceeded
from blackboard.quotas import Quota, Quotas
from blackboard.types import Completion, Failure, RetryPolicy, RetryRule, Status, Usage


async def zombie_is_refused(play: Play) -> bool:
    await play.run(spec("a"))
    old = await play.one()
    await play.board.release(old)
    await play.clock.advance(1)
    await play.one()
    return await refused(play.board.complete(old, done(old)))


async def fences_rise(play: Play) -> bool:
    await play.run(spec("a"))
    old = await play.one()
    await play.board.release(old)
    return int((await play.one()).fence) > int(old.fence)


async def late_completion_is_refused(play: Play) -> bool:
    await play.run(spec("a", seconds=5))
    old = await play.one()
    await play.clock.advance(6)
    await play.board.sweep(expire=False)
    return await refused(play.board.complete(old, done(old)))


async def repeated_completion_has_one_effect(play: Play) -> bool:
    await play.run(spec("a"))
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    before = await play.snapshot()
    await play.board.complete(claim, done(claim))
    return await play.snapshot() == before


async def repeated_failure_has_one_effect(play: Play) -> bool:
    await play.run(spec("a"))
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    before = await play.snapshot()
    await play.board.fail(claim, broken(claim))
    return await play.snapshot() == before


async def repeated_claim_takes_no_more(play: Play) -> bool:
    await play.run(spec("a"), spec("b"))
    return await play.take(nonce="x") == await play.take(nonce="x")


async def a_claim_that_was_asked_after_takes_nothing_more(play: Play) -> bool:
    await play.run(spec("a"))
    await play.take(nonce="x", n=0)
    return not await play.take(nonce="x") and len(await play.take(nonce="y")) == 1


async def repeated_submit_is_one_run(play: Play) -> bool:
    for _ in range(2):
        await play.board.submit("go", idempotency_key="k")
    return await refused(play.board.submit("other", idempotency_key="k"), Conflict) and not await faults(play.board)


async def repeated_decision_is_one(play: Play) -> bool:
    run = await play.board.submit("go")
    step = await play.step(run)
    await play.plan(step, spec("a"))
    before = await play.snapshot()
    await play.plan(step, spec("a"))
    return await play.snapshot() == before


async def repeated_report_is_one_event(play: Play) -> bool:
    run = await play.run(spec("a"))
    claim = await play.one()
    for _ in range(2):
        await play.board.progress(claim, 1, "task.progressed", {})
    return len(await play.kinds(run, "task.progressed")) == 1


async def barrier_fires_once_and_last(play: Play) -> bool:
    await play.run(spec("a"), spec("b"))
    a, b = await play.take(n=2)
    await play.board.complete(a, done(a))
    assert not await faults(play.board)
    await play.board.complete(b, done(b))
    return len(await play.take("arbiter", n=5)) == 1 and not await faults(play.board)


async def a_heartbeat_in_the_gap_saves_the_task(play: Play) -> bool:
    await play.run(spec("a"))
    claim = await play.one()
    await play.clock.advance(5)
    await play.hold(claim)
    keys = play.shard.declare(["arbiter", "work"], claim.run_id)
    await _script.run(play.board.client, _script.load("expire"), keys, [2, "arbiter", "work", claim.task_id, 1, 1])
    return await play.state(claim.task_id) == "claimed"


async def wake_looks_again(play: Play) -> bool:
    await play.run(spec("a"))
    play.board.random.uniform = lambda low, high: high  # type: ignore[method-assign]
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    keys = play.shard.declare(["arbiter", "work"], claim.run_id)
    await _script.run(play.board.client, _script.load("wake"), keys, [2, "arbiter", "work", claim.task_id])
    return await play.state(claim.task_id) == "delayed"


async def lost_workers_are_noticed(play: Play) -> bool:
    await play.run(spec("a"))
    claim = await play.one()
    await play.clock.advance(5)
    await play.board.sweep()
    await play.clock.advance(5)
    await play.board.sweep()
    return await play.hold(claim) == "lost" and len(await play.take()) == 1


async def dependants_wait_for_all(play: Play) -> bool:
    await play.run(spec("a"), spec("b"), spec("c", ["a", "b"]))
    a, _ = await play.take(n=2)
    await play.board.complete(a, done(a))
    return await play.take() == [] and not await faults(play.board)


async def dependants_of_a_failure_end(play: Play) -> bool:
    run = await play.run(spec("a", retry=RetryPolicy(max_attempts=1)), spec("b", ["a"]))
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    return await play.state(f"{run}/1.b") == "cancelled" and not await faults(play.board)


async def attempts_are_bounded(play: Play) -> bool:
    await play.run(spec("a", retry=RetryPolicy(max_attempts=1)))
    claim = await play.one()
    return await play.board.fail(claim, broken(claim)) == "failed"


def throttled(claim: Claim, wait: float = 0.0) -> Completion:
    error = Failure(type="throttled", message="m", retryable=True, retry_after_seconds=wait)
    return claim.completion(Status.FAILED, error=error, usage=Usage(input_tokens=3))


async def failures_under_a_rule_are_counted(play: Play) -> bool:
    rule = RetryRule(errors=("throttled",), max_attempts=2)
    await play.run(spec("a", retry=RetryPolicy(max_attempts=9, interval_seconds=0, rules=(rule,))))
    states: list[str] = []
    for _ in range(2):
        claim = await play.one()
        states.append(await play.board.fail(claim, throttled(claim)))
        await play.board.sweep()
    return states == ["delayed", "failed"]


async def age_is_kept(play: Play) -> bool:
    await play.run(spec("a", retry=RetryPolicy(interval_seconds=0, max_age_seconds=5)))
    claim = await play.one()
    await play.clock.advance(5.001)
    return await play.board.fail(claim, throttled(claim)) == "failed"


async def an_asked_wait_and_its_cost_are_told(play: Play) -> bool:
    run = await play.run(spec("a", retry=RetryPolicy(interval_seconds=0)))
    claim = await play.one()
    await play.board.fail(claim, throttled(claim, 7))
    (data,) = [event.data for event in await play.board.history(run) if event.kind == "task.retried"]
    return (data.delay_ms, data.usage.input_tokens) == (7000, 3)


async def a_finished_run_leaves_nothing(play: Play) -> bool:
    run = await play.run(spec("a"), spec("b", ["a"]))
    for _ in range(2):
        claim = await play.one()
        await play.board.progress(claim, 1, "task.progressed", {}, {"mark": 1})
        await play.board.complete(claim, done(claim))
    await play.plan(await play.step(run), answer="x")
    return not await faults(play.board)


async def the_log_tells_the_story(play: Play) -> bool:
    await play.run(spec("a"))
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    return not await faults(play.board)


async def cancelling_tells_those_who_work(play: Play) -> bool:
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.cancel_run(run)
    return await play.hold(claim) == "cancel"


async def the_grace_ends(play: Play) -> bool:
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.cancel_run(run)
    await play.clock.advance(20)
    await play.hold(claim, 100)
    await play.board.sweep()
    return await play.status(run) == "cancelled" and not await faults(play.board)


async def quotas_bound_what_runs_at_a_time(play: Play) -> bool:
    await Quotas(play.board).set(Quota(subject="capability:count", at_once=1))
    await play.run(spec("a"), spec("b"))
    return len(await play.take(n=2)) == 1


async def quotas_make_room_again(play: Play) -> bool:
    await Quotas(play.board).set(Quota(subject="tenant:default", at_once=1, open_runs=1))
    run = await play.run(spec("a"), spec("b"))
    first = await play.one()
    await play.board.complete(first, done(first))
    await play.board.release(await play.one())
    await play.board.cancel_run(run)
    return bool(await play.board.submit("go")) and not await faults(play.board)


async def quotas_bound_rates(play: Play) -> bool:
    await Quotas(play.board).set(Quota(subject="board", per_second=1))
    await play.run()
    await play.run()
    return len(await play.take("arbiter", n=9)) == 1


async def quotas_bound_open_runs(play: Play) -> bool:
    await Quotas(play.board).set(Quota(subject="board", open_runs=1))
    await play.board.submit("go")
    return await refused(play.board.submit("go"), QuotaExceeded)


async def runs_take_turns(play: Play) -> bool:
    await play.run(*(spec(f"t{i}") for i in range(9)))
    other = await play.run(spec("x"))
    return other in [claim.run_id for claim in await play.take(n=3)]


async def paused_work_rests(play: Play) -> bool:
    run = await play.run(spec("a"), spec("b", ["a"]), spec("c"))
    a, c = await play.take(n=2)
    await play.board.pause_run(run)
    await play.board.complete(a, done(a))
    await play.board.fail(c, broken(c))
    await play.clock.advance(100)
    await play.board.sweep()
    return not await play.take(n=9) and not await faults(play.board)


async def time_stands_still_in_a_pause(play: Play) -> bool:
    run = await play.run(spec("a", seconds=20))
    await play.board.pause_run(run)
    await play.clock.advance(1000)
    await play.board.resume_run(run)
    await play.board.sweep()
    return len(await play.take()) == 1


async def a_cancelled_task_is_not_tried_again(play: Play) -> bool:
    run = await play.run(spec("a"), spec("b"))
    a, _ = await play.take(n=2)
    await play.board.cancel_task(a.task_id)
    await play.board.fail(a, broken(a))
    return await play.state(f"{run}/1.a") == "failed"


async def refusals_come_before_writes(play: Play) -> bool:
    run = await play.board.submit("go")
    step = await play.step(run)
    await play.plan(step, spec("a"))
    return await refused(play.plan(step.__class__(**{**{f: getattr(step, f) for f in step.__slots__}, "fence": "1"})))


async def a_call_ends_its_run(play: Play) -> bool:
    run = await play.board.submit_call("count", {}, lane="work")
    await play.board.release(await play.one())
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    return await play.status(run) == "succeeded" and not await faults(play.board)


async def what_is_given_up_leaves_letters(play: Play) -> bool:
    await play.run(spec("a", retry=RetryPolicy(max_attempts=1)))
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    await play.board.submit_call("count", {}, lane="work", retry=RetryPolicy(max_attempts=1))
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    found = (await DeadLetters(play.board).list()).letters
    return {letter.kind for letter in found} == {"capability", "call"} and not await faults(play.board)


async def mistakes_leave_none(play: Play) -> bool:
    await play.run(spec("a"))
    claim = await play.one()
    failure = Failure(type="bad_input", message="no")
    await play.board.complete(claim, claim.completion(Status.FAILED, error=failure))
    return not (await DeadLetters(play.board).list()).letters


async def claims_are_bounded(play: Play) -> bool:
    run = await play.run(spec("a"))
    for _ in range(10):
        await play.board.release(await play.one())
    return await play.state(f"{run}/1.a") == "failed"


async def a_letter_is_marked_once(play: Play) -> bool:
    await play.run(spec("a", retry=RetryPolicy(max_attempts=1)))
    claim = await play.one()
    await play.board.fail(claim, broken(claim))
    letters = DeadLetters(play.board)
    (letter,) = (await letters.list()).letters
    await letters.mark(letter, "r1")
    await letters.mark(letter, "r2")
    return (await letters.header(letter.id)).redriven_as == "r1"


GUARD = "if t.state ~= 'claimed' or t.fence ~= fence then"
BROKEN: dict[str, tuple[Check, Mutation]] = {
    "G4 no fence in the guard": (zombie_is_refused, ("_board", GUARD, "if t.state ~= 'claimed' then")),
    "G3 no state in the guard": (late_completion_is_refused, ("_board", GUARD, "if t.fence ~= fence then")),
    "G4 fence is the clock alone": (fences_rise, ("claim", "math.max(tonumber(t.fence) + 1, US)", "US")),
    "G4 completion not recognised": (
        repeated_completion_has_one_effect,
        ("complete", "other.fence == ARGV[A + 1] and", "false and"),
    ),
    "G4 failure not recognised": (
        repeated_failure_has_one_effect,
        ("fail", "other.fence == ARGV[A + 1] and", "false and"),
    ),
    "G4 nonce ignored": (repeated_claim_takes_no_more, ("claim", "if parts[1] == nonce then", "if false then")),
    "G4 a nonce that was asked after is not spent": (
        a_claim_that_was_asked_after_takes_nothing_more,
        ("claim", "if taken > 0 or want == 0 then", "if taken > 0 then"),
    ),
    "G1 known run ignored": (
        repeated_submit_is_one_run,
        ("_board", "if not known then return full", "if true then return full"),
    ),
    "G1 content not compared": (repeated_submit_is_one_run, ("_board", "known.sha ~= sha", "false")),
    "G4 decision not recognised": (
        repeated_decision_is_one,
        ("commit", "other.state == 'succeeded' then\n", "false then\n"),
    ),
    "G4 report number ignored": (repeated_report_is_one_event, ("progress", "(t.pseq or 0) >= seq", "false")),
    "G5 barrier before the last": (
        barrier_fires_once_and_last,
        ("_board", "if open > 0 and t.kind ~= 'step' then return end", ""),
    ),
    "G5 barrier never": (barrier_fires_once_and_last, ("_board", "      post_step(t.run, r)\n", "")),
    "G4 expire does not look again": (a_heartbeat_in_the_gap_saves_the_task, ("expire", "or tonumber(till) > MS", "")),
    "G4 wake does not look again": (wake_looks_again, ("wake", "or tonumber(at) > MS", "")),
    "G6 no lease is set": (lost_workers_are_noticed, ("claim", "redis.call('ZADD', LEASE, unpack(leases))", "")),
    "G6 nobody is put on the agenda": (lost_workers_are_noticed, ("wake", "enqueue(ARGV[A], t)", "")),
    "G5 one dependency is enough": (dependants_wait_for_all, ("_board", "if x.need > 0 then", "if false then")),
    "G3 no cascade": (dependants_of_a_failure_end, ("_board", "x.state = 'doomed'", "break")),
    "G3 attempts without end": (attempts_are_bounded, ("_board", "t.cxl or t.att >= t.max", "t.cxl")),
    "G6 failures under a rule without end": (failures_under_a_rule_are_counted, ("_board", "t.rc[by.key] = n", "")),
    "G6 age ignored": (age_is_kept, ("_board", "if age and", "if false and")),
    "G6 age from another time": (age_is_kept, ("commit", "s.rr.at = MS", "s.rr.at = MS + 1000")),
    "asked wait ignored": (an_asked_wait_and_its_cost_are_told, ("fail", "tonumber(ARGV[A + 6] or '0')", "0")),
    "G9 cost of an attempt lost": (
        an_asked_wait_and_its_cost_are_told,
        ("fail", "if ARGV[A + 7] then", "if false then"),
    ),
    "G2 results kept for ever": (
        a_finished_run_leaves_nothing,
        ("_board", "if x.left == 0 then redis.call('HDEL', OUT, d) end", ""),
    ),
    "G2 checkpoints kept for ever": (a_finished_run_leaves_nothing, ("_board", "redis.call('HDEL', CKPT, id)", "")),
    "G2 version not counted": (the_log_tells_the_story, ("_board", "  t.ver = t.ver + 1\n", "")),
    "G9 completion not logged": (
        the_log_tells_the_story,
        ("_board", "'task.completed', completion, true)", "'task.completed', completion, false)"),
    ),
    "G9 tasks not logged": (
        the_log_tells_the_story,
        ("_board", "emit('task.posted', s.id, 1, run, told, true)", "emit('task.posted', s.id, 1, run, told, false)"),
    ),
    "G5 a call posts a step": (a_call_ends_its_run, ("_board", "elseif r.call then", "elseif false then")),
    "G3 no letter of a task": (
        what_is_given_up_leaves_letters,
        ("_board", "if r and not r.call then letter", "if false then letter"),
    ),
    "G3 no letter of a call": (
        what_is_given_up_leaves_letters,
        ("_board", "if given_up(status) and not (r.call", "if false and not (r.call"),
    ),
    "G3 a letter for every mistake": (mistakes_leave_none, ("_board", "and not CORRECTED[kind] then", "then")),
    "G6 claims are not counted": (claims_are_bounded, ("claim", "(t.clm or 0) + 1", "0")),
    "G6 given back for ever": (claims_are_bounded, ("release", "if claims >= math.max", "if false and math.max")),
    "G4 a letter is marked again": (a_letter_is_marked_once, ("dead_mark", "or l.n ~= tonumber(ARGV[A + 1])", "")),
    "G7 nobody is told": (cancelling_tells_those_who_work, ("_board", "        t.cxl = 1\n", "")),
    "G7 no force after the grace": (
        the_grace_ends,
        ("lapse_run", "stop_run(ARGV[A], r, true)", "stop_run(ARGV[A], r, false)"),
    ),
    "G12 attempts not counted": (
        quotas_bound_what_runs_at_a_time,
        ("claim", "redis.call('HINCRBY', USE, 'n:' .. subject, 1)", ""),
    ),
    "G12 attempts not given back": (
        quotas_make_room_again,
        ("_board", "redis.call('HINCRBY', USE, 'n:' .. subject, -1)", "do end"),
    ),
    "G12 runs not given back": (
        quotas_make_room_again,
        ("_board", "redis.call('HINCRBY', USE, 'o:' .. subject, -1)", "do end"),
    ),
    "G12 tokens not taken": (quotas_bound_rates, ("claim", "if q.r then pour('t:', subject, q.r) end", "")),
    "G12 open runs not compared": (quotas_bound_open_runs, ("_board", "if open >= q.o then", "if false then")),
    "G12 a run's turns not counted": (
        runs_take_turns,
        ("_board", "redis.call('HSET', TURNS, place, n2s(mine))", ""),
    ),
    "G7 retries do not rest": (
        paused_work_rests,
        ("_board", "local r, state = get_run(t.run), 'delayed'", "local r, state = {}, 'delayed'"),
    ),
    "G7 what became ready does not rest": (
        paused_work_rests,
        (
            "_board",
            "          elseif resting then\n            x.at, x.was = MS, 'ready'",
            "          elseif false then",
        ),
    ),
    "G7 deadlines do not move": (time_stands_still_in_a_pause, ("resume_run", "t.dl = t.dl + MS - t.pz", "")),
    "G7 a cancelled task has another attempt": (
        a_cancelled_task_is_not_tried_again,
        ("_board", "if t.cxl or", "if"),
    ),
    "guard after a write": (
        refusals_come_before_writes,
        (
            "commit",
            "local t, no, other = held(id, ARGV[A + 1])",
            "redis.call('HDEL', CKPT, id)\nlocal t, no, other = held(id, ARGV[A + 1])",
        ),
    ),
    "undeclared key": (
        the_log_tells_the_story,
        ("complete", "finish(ARGV[A]", "redis.call('HGET', TASKS .. 'x', 'y')\nfinish(ARGV[A]"),
    ),
}


@pytest.mark.parametrize("broken_by", BROKEN)
async def test_taking_a_guard_out_is_noticed(broken_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, mutation = BROKEN[broken_by]
    assert await verdict(check, monkeypatch), "the check fails on the scripts as they are"
    assert not await verdict(check, monkeypatch, mutation), f"nobody noticed: {broken_by}"
