"""Tasks that wait for a person: one answer counts, nothing waits for ever, and the wait holds nothing; on every engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from strict import Check, Mutation, Play, done, killed, refused, spec, verdict, watched_play

from blackboard.approval import Approval, ApprovalPolicy, Terms
from blackboard.approvals import Waiting
from blackboard.errors import BadInput, Conflict, ScriptRefused, UnknownRecord
from blackboard.types import Limits

play = watched_play

HOUR = Terms(3600.0, "refuse", (), (), 1800.0)
GIVEN: JsonValue = {"to": "ann", "cents": 500}


async def asked(play: Play, terms: Terms = HOUR, *, limits: Limits | None = None, **more: Any) -> tuple[str, Waiting]:
    """A run whose one task waits for a person."""
    run = await play.run(spec("pay", seconds=86_400), limits=limits or Limits(seconds=1_000_000))
    await play.board.ask_person(await play.one(), GIVEN, terms, **more)
    return run, await waits(play)


async def waits(play: Play) -> Waiting:
    (waiting,) = await play.board.waiting_for_people()
    return waiting


async def answer(play: Play, waiting: Waiting, state: Any = "approved", by: str = "ann", **more: Any) -> None:
    await play.board.answer_person(waiting.task_id, state, by=by, **more)


async def code(call: Any) -> str:
    with pytest.raises(ScriptRefused) as caught:
        await call
    return caught.value.code


async def test_g6_a_task_that_waits_for_a_person_holds_nothing_and_is_done_with_what_was_approved(play: Play) -> None:
    run, waiting = await asked(play)
    assert (waiting.kind, waiting.task_id, waiting.arguments, waiting.whole) == (
        "approval", f"{run}/1.pay", '{"to":"ann","cents":500}', True
    )  # fmt: skip
    assert (waiting.request, waiting.until - waiting.asked_at) == ("go", 3600)
    assert await play.take() == []
    header = await play.header(waiting.task_id)
    assert (header["state"], header["att"]) == ("delayed", 0)
    await play.sound()
    await answer(play, waiting)
    claim = await play.one()
    assert claim.said is not None
    assert (claim.said.state, claim.said.by, claim.attempt, claim.input()) == ("approved", "ann", 1, GIVEN)
    await play.board.complete(claim, done(claim))
    assert await play.board.waiting_for_people() == []
    assert (await play.step(run)).round == 2
    assert await play.kinds(run, "approval.asked", "approval.answered", "task.completed") == [
        "task.completed /s1", "approval.asked /1.pay", "approval.answered /1.pay", "task.completed /1.pay"
    ]  # fmt: skip


async def test_g4_a_second_answer_is_refused_and_told_who_answered_first(play: Play) -> None:
    _, waiting = await asked(play)
    await answer(play, waiting, "refused", "ann", text="too much")
    before = await play.snapshot()
    for state in ("approved", "refused"):
        with pytest.raises(Conflict, match=r"was refused by ann already"):
            await answer(play, waiting, state, "bob")
    assert await play.snapshot() == before
    claim = await play.one()
    assert claim.said is not None
    assert (claim.said.state, claim.said.text) == ("refused", "too much")
    await play.board.complete(claim, done(claim))
    with pytest.raises(Conflict, match=r"was refused by ann already"):
        await answer(play, waiting)


@pytest.mark.parametrize(("otherwise", "state"), [(None, "expired"), ("approve", "approved")])
async def test_g6_silence_means_what_the_terms_say_and_a_late_answer_is_refused(
    play: Play, otherwise: str | None, state: str
) -> None:
    _, waiting = await asked(play, otherwise=otherwise)
    await play.clock.advance(3599)
    await play.board.sweep()
    assert await play.take() == []
    await play.clock.advance(1)
    assert await code(answer(play, waiting)) == "EXPIRED", "the sweep may come later"
    await play.board.sweep()
    assert await code(answer(play, waiting)) == "EXPIRED"
    claim = await play.one()
    assert claim.said is not None
    assert (claim.said.state, claim.said.by) == (state, "")


async def test_g6_time_stands_still_while_a_person_is_asked_and_only_then(play: Play) -> None:
    run, waiting = await asked(play, limits=Limits(seconds=60))
    await play.clock.advance(1800)
    await play.board.sweep()
    assert await play.status(run) == "running"
    await answer(play, waiting)
    claim = await play.one()
    assert claim.deadline == play.clock.seconds + 60, "what is left of the hour is not given to the task"
    await play.board.complete(claim, done(claim))
    await play.clock.advance(61)
    await play.board.sweep()
    assert await play.status(run) == "timed_out"


async def behind(play: Play) -> bool:
    after = {"pay": (), "tell": ("pay",), "file": ("pay", "tell"), "keep": ("file",), "alone": (), "beside": ("alone",)}
    run = await play.run(*(spec(key, behind, seconds=60) for key, behind in after.items()))
    pay, _ = await play.take(n=2)
    await play.board.ask_person(pay, GIVEN, HOUR)
    await play.clock.advance(1800)
    await play.board.sweep()
    found = [await play.state(f"{run}/1.{key}") for key in after]
    if found != ["delayed", "blocked", "blocked", "blocked", "timed_out", "cancelled"]:
        return False
    await answer(play, await waits(play))
    for _ in range(4):
        claim = await play.one()
        if claim.deadline != play.clock.seconds + 60:
            return False
        await play.board.complete(claim, done(claim))
    return True


async def test_g6_time_stands_still_for_what_is_blocked_behind_a_task_that_waits_and_only_then(play: Play) -> None:
    assert await behind(play)


async def test_g7_a_run_that_is_stopped_ends_what_waits_and_an_answer_says_so(play: Play) -> None:
    run, waiting = await asked(play)
    await play.board.cancel_run(run, "not wanted")
    assert await play.status(run) == "cancelled"
    assert await play.board.waiting_for_people() == []
    with pytest.raises(ScriptRefused, match="ended as cancelled") as caught:
        await answer(play, waiting)
    assert caught.value.code == "OVER"


async def test_g7_a_task_that_is_being_stopped_ends_instead_of_asking(play: Play) -> None:
    run = await play.run(spec("pay"))
    claim = await play.one()
    await play.board.cancel_task(claim.task_id)
    await play.board.ask_person(claim, GIVEN, HOUR)
    assert await play.state(claim.task_id) == "cancelled"
    assert (await play.step(run)).round == 2


async def test_a_pause_moves_the_time_of_a_question_on_and_it_can_be_answered_meanwhile(play: Play) -> None:
    run, waiting = await asked(play)
    await play.clock.advance(600)
    await play.board.pause_run(run)
    await play.clock.advance(7200)
    await play.board.sweep()
    paused = await waits(play)
    assert paused.until == waiting.until
    await play.sound()
    await play.board.resume_run(run)
    assert (await waits(play)).until == waiting.until + 7200
    await play.board.pause_run(run)
    await answer(play, paused)
    assert await play.take() == []
    await play.board.resume_run(run)
    assert (await play.one()).said is not None


async def test_a_task_may_come_to_ask_while_its_run_rests(play: Play) -> None:
    run = await play.run(spec("pay"))
    claim = await play.one()
    await play.board.pause_run(run)
    await play.board.ask_person(claim, GIVEN, HOUR)
    assert (await waits(play)).task_id == claim.task_id
    await play.board.resume_run(run)
    await play.clock.advance(3600)
    await play.board.sweep()
    said = (await play.one()).said
    assert said is not None
    assert said.state == "expired"


async def test_only_those_who_are_named_may_answer_and_the_delegate_once_it_is_time(play: Play) -> None:
    _, waiting = await asked(play, Terms(100.0, "refuse", ("ann", "token:desk"), ("boss",), 40.0))
    assert (waiting.by, waiting.delegate, waiting.delegate_at) == (
        ("ann", "token:desk"), ("boss",), waiting.asked_at + 40
    )  # fmt: skip
    with pytest.raises(ScriptRefused, match=r"it is for ann, token:desk, and later for boss"):
        await answer(play, waiting, by="eve")
    await play.clock.advance(39)
    assert await code(answer(play, waiting, by="boss")) == "NOT_ASKED"
    await play.clock.advance(1)
    assert await code(answer(play, waiting, by="eve")) == "NOT_ASKED"
    await answer(play, waiting, by="boss")


async def test_what_is_edited_takes_the_place_of_what_was_asked_about_and_brings_its_source(play: Play) -> None:
    _, waiting = await asked(play)
    await answer(play, waiting, given={"to": {"$ref": "pay"}}, label="token:desk")
    claim = await play.one()
    assert claim.input() == {"to": {"$ref": "pay"}}, "nothing is filled in afterwards"
    assert "token:desk" in claim.taint


async def test_what_is_approved_is_of_the_version_that_was_shown(play: Play) -> None:
    _, waiting = await asked(play, version="v1")
    assert waiting.version == "v1"
    await answer(play, waiting)
    assert (await play.one()).version == "v1"


async def test_a_question_is_answered_with_words_and_an_approval_is_not(play: Play) -> None:
    _, waiting = await asked(play)
    assert await code(answer(play, waiting, "answered", text="blue")) == "KIND"
    await answer(play, waiting)
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    await play.plan(await play.step(claim.run_id), answer="paid")
    _, question = await asked(play, kind="question", otherwise="red")
    assert await code(answer(play, question)) == "KIND"
    await play.clock.advance(3600)
    await play.board.sweep()
    said = (await play.one()).said
    assert said is not None
    assert (said.state, said.by, said.text) == ("answered", "", "red")


async def test_what_waits_for_nobody_cannot_be_answered(play: Play) -> None:
    _, waiting = await asked(play)
    other = waiting.model_copy(update={"task_id": waiting.task_id + "x"})
    for each in (other, waiting.model_copy(update={"task_id": waiting.run_id + "/s1"})):
        with pytest.raises(ScriptRefused):
            await answer(play, each)
    await play.run(spec("free"))
    with pytest.raises(UnknownRecord, match="waits for no person"):
        await answer(play, waiting.model_copy(update={"task_id": (await play.one()).task_id}))
    with pytest.raises(BadInput, match="at most"):
        await answer(play, waiting, text="x" * 5000)


@pytest.mark.parametrize("replied", [False, True])
@pytest.mark.parametrize("name", ["ask", "answer", "wake"])
async def test_g4_a_process_that_dies_at_any_of_the_scripts_leaves_a_question_that_goes_on(
    play: Play, monkeypatch: pytest.MonkeyPatch, name: str, replied: bool
) -> None:
    run = await play.run(spec("pay", seconds=86_400), limits=Limits(seconds=1_000_000))
    claim = await play.one()

    async def story() -> None:
        await play.board.ask_person(claim, GIVEN, HOUR)
        if name == "answer":
            await answer(play, await waits(play))
        await play.clock.advance(3600)
        await play.board.sweep()

    with killed(monkeypatch, [name], 0, replied), pytest.raises(RuntimeError, match="killed"):
        await story()
    if name == "ask" and replied:
        await play.board.ask_person(claim, GIVEN, HOUR)  # sent again, because its reply was lost
    elif name == "ask":
        for _ in range(2):  # its lease is over, then the wait for another attempt
            await play.clock.advance(60)
            await play.board.sweep()
        await play.board.ask_person(await play.one(), GIVEN, HOUR)
    await play.clock.advance(3600)
    await play.board.sweep()
    claim = await play.one()
    assert claim.said is not None
    assert claim.said.state == ("approved" if name == "answer" and replied else "expired")
    await play.board.complete(claim, done(claim))
    assert (await play.step(run)).round == 2


# ---- one answer, whatever happens ------------------------------------------------------------------------------------

_ACTS = st.one_of(
    st.tuples(st.just("answer"), st.sampled_from(["ann", "bob"]), st.sampled_from(["approved", "refused"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 1799, 1800])),
    st.tuples(st.sampled_from(["sweep", "pause", "resume", "cancel"])),
)


async def plays(play: Play, acts: list[tuple[Any, ...]]) -> bool:
    """Whether of all answers at most one counted, in time, and it is what the task was told."""
    run, waiting = await asked(play)
    left, resting, counted, stopped = 3600.0, False, list[tuple[str, str]](), False
    for act in acts:
        match act:
            case ("answer", by, state):
                fine = not await refused(answer(play, waiting, state, by), ScriptRefused)
                if fine != (left > 0 and not counted and not stopped):
                    return False
                counted += [(state, by)] if fine else []
            case ("wait", seconds):
                await play.clock.advance(seconds)
                left -= 0 if resting else seconds
            case ("sweep",):
                await play.board.sweep()
            case ("pause",):
                resting = not stopped and await play.board.pause_run(run) == "paused"
            case ("resume",):
                await play.board.resume_run(run)
                resting = False
            case _:
                stopped = stopped or await play.board.cancel_run(run) == "cancelled"
    await play.board.resume_run(run)
    await play.clock.advance(3600)
    await play.board.sweep()
    if stopped:
        return await play.take() == [] and await play.state(waiting.task_id) == "cancelled"
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    await play.plan(await play.step(run), answer="over")
    return claim.said is not None and [(claim.said.state, claim.said.by)] == (counted or [("expired", "")])


@settings(max_examples=5, deadline=None)
@given(stories=st.lists(st.lists(_ACTS, min_size=1, max_size=8), min_size=1, max_size=6))
def test_g4_at_most_one_answer_counts_whatever_happens_and_it_is_what_the_task_is_told(
    stories: list[list[tuple[Any, ...]]],
) -> None:
    async def all_of_them(play: Play) -> bool:
        return all([await plays(play, acts) for acts in stories])

    with pytest.MonkeyPatch.context() as patch:
        assert asyncio.run(verdict(all_of_them, patch))


async def rests(play: Play) -> bool:
    """Whether a question is found while its run is paused, spends no attempt, and outlasts the time of its run."""
    run, waiting = await asked(play, limits=Limits(seconds=60))
    await play.board.pause_run(run)
    found = [each.task_id for each in await play.board.waiting_for_people()]
    await play.board.resume_run(run)
    await play.clock.advance(600)
    await play.board.sweep()
    attempts = (await play.header(waiting.task_id))["att"]
    return found == [waiting.task_id] and attempts == 0 and await play.status(run) == "running"


async def late(play: Play) -> bool:
    return await plays(play, [("wait", 1800), ("wait", 1800), ("answer", "ann", "approved")])


async def twice(play: Play) -> bool:
    return await plays(play, [("answer", "ann", "refused"), ("answer", "bob", "approved")])


async def silent(play: Play) -> bool:
    return await plays(play, [])


@pytest.mark.parametrize(
    ("check", "mutation"),
    [
        (late, ("answer", "if left <= 0 then", "if left < -1e15 then")),
        (twice, ("answer", "t.ask, t.said = nil", "t.said = nil")),
        (silent, ("wake", "if t.ask then", "if false then")),
        (rests, ("_board", "if t.ask then redis.call('ZADD', WAIT, NEVER, id) else", "if false then else")),
        (rests, ("_board", "  t.dl, r.dl = t.dl + ms, r.dl + ms\n", "")),
        (rests, ("ask", "t.att = t.att - 1", "")),
        (behind, ("_board", "        x.dl = x.dl + ms\n", "")),
        (behind, ("_board", "        behind[#behind + 1] = x\n", "")),
        (behind, ("_board", "      seen[d] = true\n", "")),
    ],
    ids=["late", "twice", "silence", "paused", "time", "attempt", "behind", "far behind", "twice behind"],
)
async def test_each_guard_is_noticed_when_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, check: Check, mutation: Mutation
) -> None:
    assert await verdict(check, monkeypatch)
    assert not await verdict(check, monkeypatch, mutation)


def test_a_policy_settles_what_a_manifest_leaves_out_and_bounds_what_it_says() -> None:
    policy = ApprovalPolicy(
        effects=("irreversible",), capabilities=("pay_*",), most_seconds=100,
        terms=Approval(seconds=50, by=("ann",), delegate=("boss",)),
    )  # fmt: skip
    assert policy.needed("look", "reads", None) is None
    assert policy.needed("wipe", "irreversible", None) == policy.needed("pay_all", "pure", None) == Approval()
    assert policy.settle(Approval()) == Terms(50, "refuse", ("ann",), ("boss",), 25)
    assert policy.settle(Approval(seconds=1000, by=("eve",), otherwise="approve")) == Terms(
        100, "approve", ("eve",), (), 50
    )
    assert ApprovalPolicy().settle(Approval()).seconds == 3600
    with pytest.raises(BadInput, match="by who is asked first"):
        Approval(delegate=("boss",))
    with pytest.raises(BadInput, match=r"approval\.effects"):
        ApprovalPolicy.of({"effects": ["all"]})
