"""Attempts that are ended from outside by a token: one outcome counts, nothing waits for ever, the wait holds nothing."""

from __future__ import annotations

from typing import Any

import pytest
from callback_support import SOURCE, beat, begun, complete, ended, fail, wait, waits, why
from strict import Play, broken, done, killed, refused, spec, watched_play

from blackboard.audit import Audit
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.errors import BadInput, Conflict, Fenced, ScriptRefused, UnknownRecord
from blackboard.quotas import Quota, Quotas
from blackboard.testing import RedisServer
from blackboard.types import Limits, RetryPolicy, RetryRule

play = watched_play


async def test_g6_a_task_that_waits_for_an_answer_from_outside_holds_nothing_and_ends_with_it(play: Play) -> None:
    run, claim, token = await waits(play)
    header = await play.header(claim.task_id)
    assert (header["state"], header["att"], header["version"]) == ("waiting", 1, "v1")
    assert token not in str(await play.snapshot())
    assert await play.take() == []
    assert await play.hold(claim) == "lost"
    assert await play.board.standing(run, [claim.task_id]) == {claim.task_id: ("waiting", 1)}
    await play.sound()
    await complete(play, token, {"url": "u"})
    completion = await ended(play, run)
    assert (completion.data, completion.attempts, completion.version) == ({"url": "u"}, 1, "v1")
    assert "callback:render" in completion.taint
    (entry,) = [e for e in await play.board.history(run) if e.kind == "entry.posted"]
    assert (entry.data.topic, entry.data.content) == ("results.count.render", {"url": "u"})
    assert (await play.step(run)).round == 2
    assert await play.kinds(run, "callback.waiting", "callback.answered", "task.completed") == [
        "task.completed /s1", "callback.waiting /1.render", "callback.answered /1.render", "task.completed /1.render"
    ]  # fmt: skip


async def test_g4_the_same_outcome_again_changes_nothing_and_another_one_is_refused_and_on_record(play: Play) -> None:
    run, claim, token = await waits(play)
    await complete(play, token, {"a": 1, "b": 2})
    before = await play.snapshot()
    await complete(play, token, {"b": 2, "a": 1})
    assert await play.snapshot() == before
    for _ in range(2):
        with pytest.raises(Conflict, match="has an outcome already, and another one"):
            await complete(play, token, {"a": 2})
    with pytest.raises(Conflict):
        await fail(play, token)
    assert (await ended(play, run)).data == {"a": 1, "b": 2}
    told = (await Audit(play.board).list("kind=callback.*")).entries
    assert [(each.kind, each.subject, each.by) for each in told] == [
        ("callback.refused", claim.task_id, "ann"), ("callback.answered", claim.task_id, "ann")
    ]  # fmt: skip


async def test_g4_an_answer_that_comes_before_its_handler_waits_is_not_lost(play: Play) -> None:
    run, claim, token = await begun(play)
    assert await beat(play, token) is None
    await complete(play, token, "early")
    await wait(play, claim)
    await play.board.complete(claim, done(claim))  # what a handler returns all the same comes too late
    assert (await ended(play, run)).data == "early"


async def test_g4_what_fails_outside_is_tried_again_and_the_old_token_is_stale(play: Play) -> None:
    run, claim, token = await waits(play)
    await fail(play, token)
    await fail(play, token)
    assert await play.state(claim.task_id) == "delayed"
    await play.clock.advance(1)
    await play.board.sweep()
    again = await play.one()
    assert again.attempt == 2
    assert await why(complete(play, token)) == (
        f"CONFLICT: this attempt at {claim.task_id} has an outcome already, and another one"
    )
    (retried,) = [e.data for e in await play.board.history(run) if e.kind == "task.retried"]
    assert (retried.error.type, retried.error.message, retried.error.names) == (
        "callback_failed", "Crash: out of paper", ("Crash",)
    )  # fmt: skip
    assert await refused(wait(play, again), ScriptRefused), "it has no token"
    token = await play.board.open_callback(again, sources=SOURCE)
    await wait(play, again)
    await complete(play, token)
    assert (await ended(play, run)).attempts == 2


async def test_a_rule_knows_what_failed_outside_by_its_name(play: Play) -> None:
    rules = (RetryRule(errors=("Crash",), retry=False),)
    run, _, token = await waits(play, retry=RetryPolicy(max_attempts=3, rules=rules))
    await fail(play, token)
    completion = await ended(play, run)
    assert (completion.status, completion.error.type) == ("failed", "callback_failed")


async def test_the_last_failure_outside_ends_the_task_and_leaves_a_dead_letter(play: Play) -> None:
    run, claim, token = await waits(play, retry=RetryPolicy(max_attempts=1))
    await fail(play, token, cause="")
    completion = await ended(play, run)
    assert (completion.status, completion.error.message) == ("failed", "Crash")
    assert await play.board.client.hexists(play.shard.dead, claim.task_id)


@pytest.mark.parametrize(("again", "state"), [(True, "delayed"), (False, "timed_out")])
async def test_g6_no_answer_in_time_fails_the_attempt_by_the_rules_of_its_task(
    play: Play, again: bool, state: str
) -> None:
    run, claim, token = await begun(play)
    await wait(play, claim, 3600, again=again)
    await play.clock.advance(3599)
    await play.board.sweep()
    assert await play.state(claim.task_id) == "waiting"
    await play.clock.advance(1)
    assert await why(complete(play, token)) == f"OVER: the time for this attempt at {claim.task_id} is over"
    await play.board.sweep()
    assert await play.state(claim.task_id) == state
    kinds = await play.kinds(run, "task.retried", "task.completed")
    assert kinds[-1] == ("task.retried /1.render" if again else "task.completed /1.render")
    if not again:
        completion = await ended(play, run)
        assert (completion.error.type, completion.error.message) == (
            "callback_timeout", "no answer came from outside in time"
        )  # fmt: skip
        assert completion.error.evidence == {"stopped": False}
    assert (await why(complete(play, token))).startswith("OVER: ")


async def test_g6_silence_fails_the_attempt_and_signs_of_life_keep_it_but_not_for_ever(play: Play) -> None:
    rules = (RetryRule(errors=("callback_silent",), max_attempts=1),)
    run, claim, token = await begun(play, retry=RetryPolicy(max_attempts=3, rules=rules))
    await wait(play, claim, 100, 60)
    await play.clock.advance(50)
    assert await beat(play, token) == 50, "the time it has is less than its interval"
    await play.clock.advance(20)
    await play.board.sweep()
    assert await play.state(claim.task_id) == "waiting"
    await play.clock.advance(30)
    await play.board.sweep()
    assert await play.state(claim.task_id) == "delayed", "it waited as long as it may"
    await play.clock.advance(30)
    await play.board.sweep()
    again = await play.one()
    token = await play.board.open_callback(again, sources=SOURCE)
    await wait(play, again, 100, 60)
    await play.clock.advance(60)
    assert (await why(beat(play, token))).startswith("OVER: the time")
    await play.board.sweep()
    completion = await ended(play, run)
    assert (completion.status, completion.error.type) == ("failed", "callback_silent")
    assert completion.error.message == (
        "what it waits for outside gave no sign of life for 60 s. No attempt follows: 1 of 1 failed in this way."
    )


async def test_g6_time_stands_still_while_a_task_waits_and_only_then(play: Play) -> None:
    run, claim, token = await waits(play, limits=Limits(seconds=60), seconds=60)
    await play.clock.advance(1800)
    await play.board.sweep()
    assert await play.status(run) == "running"
    await fail(play, token)
    await play.clock.advance(1)
    await play.board.sweep()
    assert (await play.one()).deadline == play.clock.seconds - 1 + 60, (
        "what is left of the hour is not given to the task"
    )
    await play.clock.advance(60)
    await play.board.sweep()
    assert await play.status(run) == "timed_out"
    assert (await why(complete(play, token, 7))).startswith("CONFLICT: ")
    assert claim.attempt == 1


async def test_g4_the_token_of_a_process_that_died_is_stale_once_another_has_the_task(play: Play) -> None:
    _, claim, token = await begun(play)
    for _ in range(2):
        await play.clock.advance(60)
        await play.board.sweep()
    again = await play.one()
    assert await why(complete(play, token)) == (
        f"OVER: this attempt at {claim.task_id} is over, and another one follows"
    )
    assert await refused(wait(play, claim), Fenced)
    assert await play.state(again.task_id) == "claimed"


@pytest.mark.parametrize("what", ["run", "task"])
async def test_g7_what_waits_ends_when_it_is_cancelled_and_a_late_answer_says_so(play: Play, what: str) -> None:
    run, claim, token = await waits(play)
    if what == "run":
        await play.board.cancel_run(run, "not wanted")
    else:
        await play.board.cancel_task(claim.task_id, "not wanted")
    assert await why(complete(play, token)) == f"OVER: task {claim.task_id} ended as cancelled"
    completion = await ended(play, run)
    assert completion.error.evidence == {"stopped": False}, "nobody knows whether it goes on outside"
    (entry,) = (await Audit(play.board).list("kind=callback.refused")).entries
    assert entry.reason == f"task {claim.task_id} ended as cancelled"


async def test_g7_a_task_that_is_being_stopped_ends_instead_of_waiting(play: Play) -> None:
    run, claim, token = await begun(play)
    await play.board.cancel_task(claim.task_id, "not wanted")
    assert (await why(complete(play, token))).endswith("was told to stop")
    await wait(play, claim)
    assert await play.state(claim.task_id) == "cancelled"
    assert (await play.step(run)).round == 2


async def test_a_run_may_rest_while_a_task_of_it_waits_and_what_follows_rests_with_it(play: Play) -> None:
    run, claim, token = await begun(play)
    await play.board.pause_run(run)
    await wait(play, claim)
    await play.clock.advance(1800)
    await play.board.sweep()
    await play.sound()
    await fail(play, token)
    assert await play.state(claim.task_id) == "paused"
    await play.board.resume_run(run)
    await play.clock.advance(1)
    await play.board.sweep()
    again = await play.one()
    token = await play.board.open_callback(again, sources=SOURCE)
    await wait(play, again)
    await play.board.pause_run(run)
    await complete(play, token)
    await play.board.resume_run(run)
    assert (await play.step(run)).round == 2


async def test_g7_a_task_whose_premise_goes_while_it_waits_ends_with_the_next_sweep(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    scene = await notes.post("scenes.sea", 1)
    await play.plan(await play.step(run), spec("render", made_from=(scene.id,)))
    claim = await play.one()
    token = await play.board.open_callback(claim, sources=SOURCE)
    await wait(play, claim)
    await notes.retract(scene.id)
    assert (await why(complete(play, token))).endswith("was told to stop")
    await play.board.sweep()
    assert (await ended(play, run)).error.message.startswith("the entry it was made from was retracted")


async def test_g12_what_waits_is_in_no_quota_and_leaves_its_place_to_others(play: Play) -> None:
    await Quotas(play.board).set(Quota(subject="capability:count", at_once=len(play.board.shards)))
    run = await play.run(spec("render", seconds=86_400), spec("other"), limits=Limits(seconds=1_000_000))
    claim = await play.one()
    assert await play.take() == []
    token = await play.board.open_callback(claim, sources=SOURCE)
    await wait(play, claim)
    other = await play.one()
    await complete(play, token)
    await play.board.complete(other, done(other))
    assert (await play.step(run)).round == 2


async def test_g12_a_full_server_still_takes_signs_of_life_and_answers() -> None:
    with RedisServer() as server:
        async with await Board.open(server.url) as board:
            await _full(board)


async def _full(board: Board) -> None:
    client: Any = board.client
    await board.submit_call("render", 1, lane="work", limits=Limits(seconds=1_000_000))
    await board.submit_call("render", 1, lane="work", limits=Limits(seconds=1_000_000))
    early, late = await board.claim("w", ["work"], n=2)
    tokens = [await board.open_callback(claim, sources=SOURCE) for claim in (early, late)]
    await board.wait_for_callback(late, 60, 30, sources=SOURCE, repeatable=True)
    await client.config_set("maxmemory", 1)
    try:
        assert await board.beat_callback(await board.called(tokens[1]), by="ann") == 30
        for token in tokens:
            await board.complete_callback(await board.called(token), 1, by="ann")
    finally:
        await client.config_set("maxmemory", 0)
    assert [(await board.summary(claim.run_id)).status for claim in (early, late)] == ["succeeded"] * 2


async def test_what_is_no_token_opens_nothing_and_is_not_repeated_in_the_answer(play: Play) -> None:
    _, claim, token = await waits(play)
    head, place, secret = token.split(".")
    others = [
        "",
        "x",
        f"{head}.{place}.{secret[::-1]}",
        f"{head}.{place[:-2]}.{secret}",
        f"{head}.____.{secret}",
        token + "\n",
    ]
    for other in others:
        with pytest.raises(UnknownRecord, match="waits for this token") as caught:
            await complete(play, other)
        assert not other or other not in str(caught.value)
    for error, cause in (("", "x"), ("two words", "x"), ("x" * 101, ""), ("Crash", "x" * 5000)):
        with pytest.raises(BadInput):
            await fail(play, token, error, cause)
    with pytest.raises(BadInput):
        await complete(play, token, float("nan"))
    assert await play.state(claim.task_id) == "waiting", "nothing was used up"


async def test_a_task_remembers_the_tokens_of_its_last_attempts_only(play: Play) -> None:
    _, _, first = await begun(play, retry=RetryPolicy(max_attempts=20, interval_seconds=0))
    (claim,) = [await play.board.called(first)]
    held = claim.claim
    for _ in range(8):
        await play.board.fail(held, broken(held))
        await play.board.sweep()
        held = await play.one()
        await play.board.open_callback(held, sources=SOURCE)
    assert len((await play.header(held.task_id))["tk"]) == 8
    with pytest.raises(UnknownRecord):
        await complete(play, first)


@pytest.mark.parametrize("replied", [False, True])
@pytest.mark.parametrize("name", ["callback_open", "callback_wait", "callback_said", "callback_lapse"])
async def test_g4_a_process_that_dies_at_any_of_the_scripts_leaves_a_task_that_ends_well(
    play: Play, monkeypatch: pytest.MonkeyPatch, name: str, replied: bool
) -> None:
    run = await play.run(spec("render", seconds=86_400), limits=Limits(seconds=1_000_000))

    async def attempt() -> None:
        claim = await play.one()
        token = await play.board.open_callback(claim, sources=SOURCE)
        await wait(play, claim)
        if name == "callback_lapse":
            await play.clock.advance(3600)
            await play.board.sweep()
        else:
            await complete(play, token, "done")

    with killed(monkeypatch, [name], 0, replied), pytest.raises(RuntimeError, match="killed"):
        await attempt()
    if name != "callback_said" or not replied:
        for seconds in (3600, 60):  # its lease, or the time it had, is over; then the wait for another attempt
            await play.clock.advance(seconds)
            await play.board.sweep()
        claim = await play.one()
        token = await play.board.open_callback(claim, sources=SOURCE)
        await wait(play, claim)
        await complete(play, token, "done")
    assert (await ended(play, run)).data == "done"
    assert (await play.step(run)).round == 2
