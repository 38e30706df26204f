"""Dead letters and poison: which work counts as given up, what a letter says, paging, discarding, removal."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from strict import Play, broken, done, spec, watch_scripts, watched_play

from blackboard import dead_letters
from blackboard.claims import Claim
from blackboard.dead_letters import DeadLetters, Letter, Where
from blackboard.errors import BadInput, Fenced, UnknownRecord
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.retention import retire
from blackboard.types import Failure, Limits, RetryPolicy, Status

play = watched_play
ONCE = RetryPolicy(max_attempts=1)


async def there(play: Play, where: str = "") -> list[Letter]:
    return [letter async for letter in DeadLetters(play.board).walk(where)]


def failing(claim: Claim, kind: str, status: Status = Status.FAILED, **more: Any) -> Any:
    return claim.completion(status, error=Failure(type=kind, message="broke", **more))


async def given_up(play: Play, kind: str = "handler_error", **more: Any) -> str:
    """A call that failed; the id of its letter."""
    run = await play.board.submit_call("count", {"n": 1}, **{"lane": "work", "version": "v1", **more})
    claim = await play.one(more.get("lane", "work"))
    await play.board.complete(claim, failing(claim, kind))
    return run


@pytest.mark.parametrize("status", [Status.FAILED, Status.TIMED_OUT])
async def test_g3_a_task_that_was_given_up_leaves_a_letter_with_what_its_log_says(play: Play, status: Status) -> None:
    run = await play.run(spec("a", version="v1", input={"x": [], "n": 12345678901234567890}), tenant="acme")
    claim = await play.one()
    assert await play.board.fail(claim, failing(claim, "handler_error", retryable=True)) == "delayed"
    assert await there(play) == []
    await play.clock.advance(1.5)
    await play.board.sweep()
    claim = await play.one()
    assert claim.attempt == 2
    evidence = {"list": [], "n": 10**400}
    await play.board.complete(claim, failing(claim, "crashed", status, evidence=evidence))
    (letter,) = await there(play)
    expected = Letter(
        id=f"{run}/1.a", run_id=run, kind="capability", capability="count", version="v1", lane="work", tenant="acme",
        status=status, type="crashed", attempts=2, at=play.clock.seconds,
    )  # fmt: skip
    assert letter == expected
    full = await DeadLetters(play.board).get(letter.id)
    assert (full.letter, full.payload) == (letter, {"x": [], "n": 12345678901234567890})
    assert [(one.attempt, one.error and one.error.type) for one in full.tries] == [
        (1, "handler_error"), (2, "crashed"),
    ]  # fmt: skip
    assert full.tries[-1].worker == "w"
    assert full.error is not None
    assert full.error.evidence == evidence


@pytest.mark.parametrize("kind", ["bad_input", "input_schema", "unresolved_reference"])
async def test_a_mistake_the_caller_is_told_of_is_no_letter(play: Play, kind: str) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    await play.board.complete(claim, failing(claim, kind))
    await given_up(play, kind)
    assert await there(play) == []


async def test_what_succeeded_was_refused_or_was_cancelled_is_no_letter(play: Play) -> None:
    run = await play.run(spec("a"), spec("b"), spec("c"), spec("d", after=["b"]))
    claims = {claim.key: claim for claim in await play.take(n=3)}
    await play.board.complete(claims["a"], done(claims["a"]))
    await play.board.complete(claims["b"], failing(claims["b"], "isolation", Status.REFUSED))
    await play.board.cancel_run(run)
    await play.board.fail(claims["c"], failing(claims["c"], "handler_error", retryable=True))
    assert await play.status(run) == "cancelled"
    assert await there(play) == []


async def test_g3_a_lost_lease_a_deadline_and_a_failed_run_are_letters_of_their_own_kinds(play: Play) -> None:
    run = await play.run(spec("lost", retry=ONCE), spec("late", lane="nobody", seconds=5))
    await play.one()
    await play.clock.advance(2)
    await play.board.sweep()
    await play.clock.advance(4)
    await play.board.sweep()
    step = await play.step(run)
    await play.clock.advance(1)
    planned = RoundPlannedData(round=2, message={"role": "assistant", "content": []})
    ended = RunCompletedData(status="failed", rounds=2, error=Failure(type="empty_answer", message="nothing"))
    await play.board.commit_step(step, planned, [], Limits(), ended)
    letters = await there(play)
    assert [(letter.id.removeprefix(run), letter.kind, letter.status, letter.type) for letter in letters] == [
        ("", "run", "failed", "empty_answer"),
        ("/1.late", "capability", "timed_out", "deadline"),
        ("/1.lost", "capability", "failed", "lease_lost"),
    ]
    full = await DeadLetters(play.board).get(run)
    assert (full.payload, full.error and full.error.type, full.letter.capability) == ("go", "empty_answer", None)


async def test_a_run_that_runs_out_of_time_is_one_letter_and_not_one_for_each_of_its_tasks(play: Play) -> None:
    run = await play.run(spec("a"), spec("b"), limits=Limits(seconds=30))
    await play.one()
    await play.clock.advance(31)
    await play.board.sweep()
    assert [(letter.id, letter.type) for letter in await there(play)] == [(run, "deadline")]


async def test_a_call_is_one_letter_that_names_its_capability(play: Play) -> None:
    failed, late = await given_up(play), await play.board.submit_call("sum", {}, lane="x", limits=Limits(seconds=9))
    await play.clock.advance(10)
    await play.board.sweep()
    newest, oldest = await there(play)
    assert (oldest.id, oldest.kind, oldest.capability, oldest.version, oldest.attempts) == (
        failed,
        "call",
        "count",
        "v1",
        1,
    )
    assert (newest.id, newest.kind, newest.capability, newest.type, newest.attempts) == (
        late,
        "call",
        "sum",
        "deadline",
        0,
    )
    full = await DeadLetters(play.board).get(failed)
    assert (full.payload, len(full.tries)) == ({"n": 1}, 1)
    assert full.call is not None
    assert full.call.capability == "count"


async def test_g4_an_end_sent_again_leaves_one_letter(play: Play) -> None:
    await play.run(spec("a"))
    claim = await play.one()
    await asyncio.gather(*(play.board.complete(claim, failing(claim, "crashed")) for _ in range(5)))
    before = await play.snapshot()
    await play.board.complete(claim, failing(claim, "crashed"))
    assert await play.snapshot() == before
    assert len(await there(play)) == 1


async def test_a_type_of_any_length_makes_a_short_letter_and_a_whole_error(play: Play) -> None:
    word = "ä" * 5000
    run = await given_up(play, word)
    (letter,) = await there(play)
    assert letter.type == "ä" * 64
    ended = (await play.board.history(run))[-1].data
    assert ended.error.type == word


async def test_letters_are_found_by_what_they_say(play: Play) -> None:
    first = await given_up(play)
    await play.clock.advance(100)
    second = await given_up(play, "timeout", tenant="acme", lane="other")
    begin = play.clock.seconds
    for where, expected in {
        "": [second, first],
        "tenant=acme": [second],
        "type=timeout,crashed": [second],
        "type=crashed": [],
        "capability=count kind=call status=failed": [second, first],
        "kind=run": [],
        f"run={first}": [first],
        "redriven=no": [second, first],
        "redriven=yes": [],
        'tenant="default"': [first],
    }.items():
        assert [letter.id for letter in await there(play, where)] == expected, where
    letters = DeadLetters(play.board)
    for meant, expected in (
        (Where(since=begin), [second]),
        (Where(until=begin), [first]),
        (Where(since=begin + 0.001), []),
        (Where(since=begin - 100, until=begin + 1), [second, first]),
    ):
        assert [letter.id for letter in (await letters.list(meant)).letters] == expected
    assert Where.parse("since=1h", now=10_000).since == 6400


@pytest.mark.parametrize(
    "text", ["price", "colour=red", "redriven=maybe", "kind=task", "status=succeeded", "tenant=", "since=soon"]
)
@pytest.mark.engines("redis")
async def test_a_filter_that_makes_no_sense_is_refused(play: Play, text: str) -> None:
    with pytest.raises(BadInput, match="where"):
        await DeadLetters(play.board).list(text)


async def test_pages_tell_every_letter_once_also_where_many_have_one_time(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_PAGE", 3)
    made = [await given_up(play) for _ in range(8)]
    await play.clock.advance(1)
    made += [await given_up(play) for _ in range(3)]
    letters = DeadLetters(play.board)
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await letters.list(limit=2, after=after)
        seen += [letter.id for letter in page.letters]
        if page.after is None:
            break
        after = page.after
        await given_up(play)  # newer ones do not disturb
        await letters.discard(*seen)  # nor does what goes
        play.discarded += seen
    assert sorted(seen) == sorted(made)
    assert set(seen[:3]) == set(made[8:])
    for bad in ("x", "1", "-r1"):
        with pytest.raises(BadInput, match="after"):
            await letters.list(after=bad)


async def test_a_discarded_letter_is_gone_and_its_run_stays(play: Play) -> None:
    run, other = await given_up(play), await given_up(play)
    letters = DeadLetters(play.board)
    assert await letters.count() == (2, 0)
    assert await letters.discard(run, "r-nothing", "") == 1
    play.discarded.append(run)
    assert await letters.discard(run) == 0
    assert [letter.id for letter in await there(play)] == [other]
    assert await play.status(run) == "failed"
    for unknown in (run, "", "r1/1.a"):
        with pytest.raises(UnknownRecord, match="no dead letter"):
            await letters.get(unknown)


async def test_a_letter_remembers_what_was_made_of_it_and_each_marking_counts_once(play: Play) -> None:
    await given_up(play)
    letters = DeadLetters(play.board)
    (letter,) = await there(play)
    await letters.mark(letter, "r2")
    await letters.mark(letter, "r2")
    await letters.mark(letter, "r3")  # another process read it before it was marked
    (marked,) = await there(play, "redriven=yes")
    assert (marked.redriven, marked.redriven_as) == (1, "r2")
    await letters.mark(marked, "r4")
    (marked,) = await there(play)
    assert (marked.redriven, marked.redriven_as) == (2, "r4")
    await letters.discard(letter.id)
    play.discarded.append(letter.id)
    await letters.mark(marked, "r5")
    assert await there(play) == []


async def test_a_shard_keeps_so_many_letters_and_counts_what_it_drops(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_scripts(monkeypatch, ("_board", "local LETTERS = 10000", "local LETTERS = 3"))
    made = []
    for _ in range(5):
        made.append(await given_up(play))
        await play.clock.advance(0.001)
    assert [letter.id for letter in await there(play)] == made[:1:-1]
    assert await DeadLetters(play.board).count() == (3, 2)


async def test_letters_go_with_their_run_and_only_with_it(play: Play) -> None:
    kept = await given_up(play)
    run = await play.run(spec("a"))
    claim = await play.one()
    await play.board.complete(claim, failing(claim, "crashed"))
    await play.plan(await play.step(run), answer="could not")
    gone = await given_up(play)
    for one in (run, gone):
        await retire(play.board, one)
    assert [letter.id for letter in await there(play)] == [kept]
    assert set((await play.snapshot())["deadx"]) == {kept}


async def test_the_payload_of_a_task_is_whole_also_where_it_was_made_of_others(play: Play) -> None:
    play.board.blobs.inline_bytes = 200
    await play.run(spec("a"), spec("b", after=["a"], input={"rows": {"$ref": "a#/rows"}, "note": "n"}))
    first = await play.one()
    await play.board.complete(first, done(first, {"rows": ["x" * 300]}))
    claim = await play.one()
    await play.board.complete(claim, failing(claim, "crashed"))
    letters = DeadLetters(play.board)
    (letter,) = await there(play)
    assert await letters.payload(await letters.get(letter.id)) == {"rows": ["x" * 300], "note": "n"}


async def test_the_payload_of_a_task_that_waited_in_vain_cannot_be_had(play: Play) -> None:
    await play.run(spec("a", lane="nobody"), spec("b", after=["a"], input={"$ref": "a"}, seconds=5))
    await play.clock.advance(6)
    await play.board.sweep()
    letters = DeadLetters(play.board)
    (letter,) = await there(play)
    with pytest.raises(BadInput, match="refers to a, which did not succeed"):
        await letters.payload(await letters.get(letter.id))


# ---- poison ----------------------------------------------------------------------------------------------------------


async def test_g6_a_task_that_is_only_ever_given_back_ends_as_poison(play: Play) -> None:
    run = await play.run(spec("a"))
    for n in range(1, 11):
        assert await play.state(f"{run}/1.a") == "ready"
        claim = await play.one(worker=f"w{n}")
        await play.board.release(claim)
    completion = next(
        e.data for e in await play.board.history(run) if e.subject == f"{run}/1.a" and hasattr(e.data, "node")
    )
    assert (completion.status, completion.error.type, completion.attempts) == ("failed", "poison", 0)
    assert "claimed 10 times" in completion.error.message
    assert "w8, w9, w10" in completion.error.message
    assert [letter.type for letter in await there(play)] == ["poison"]
    before = await play.snapshot()
    await play.board.release(claim)  # sent again, it is the same
    assert await play.snapshot() == before
    with pytest.raises(Fenced):
        await play.board.complete(claim, done(claim))
    await play.step(run)  # the planner is told


async def test_g6_a_decision_that_is_only_ever_given_back_ends_its_run(play: Play) -> None:
    run = await play.board.submit("go")
    for _ in range(15):  # three times its five attempts
        assert await play.status(run) == "queued"
        await play.board.release(await play.step(run))
    assert [(letter.id, letter.kind, letter.type) for letter in await there(play)] == [(run, "run", "poison")]


async def test_a_few_drains_of_healthy_workers_do_not_hurt(play: Play) -> None:
    run = await play.run(spec("a", retry=ONCE))
    for _ in range(9):
        await play.board.release(await play.one())
    claim = await play.one()
    assert claim.attempt == 1
    await play.board.complete(claim, done(claim))
    assert await play.state(f"{run}/1.a") == "succeeded"


async def test_claims_that_ended_in_failures_count_for_poison_too(play: Play) -> None:
    run = await play.run(spec("a", retry=RetryPolicy(max_attempts=3, interval_seconds=0.0)))
    for _ in range(2):
        claim = await play.one()
        await play.board.fail(claim, broken(claim))
        await play.clock.advance(0.01)
        await play.board.sweep()
    for _ in range(8):
        await play.board.release(await play.one())
    assert json.loads(json.dumps(await play.header(f"{run}/1.a")))["clm"] == 10
    (letter,) = await there(play)
    assert (letter.type, letter.attempts) == ("poison", 2)
