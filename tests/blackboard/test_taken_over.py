"""Tasks that are posted with a result of an earlier run are over in the script that posts them (G2, G4, G5, G9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from agenda_support import control, declare, told
from strict import Mutation, Play, broken, done, killed, refused, spec, verdict, watched_play

from blackboard import taking_over
from blackboard._keys import Shard
from blackboard.agenda import Agenda, Compared, Pick
from blackboard.board import STEP_LANE
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.events import PickedActivation, RatedActivation, RoundPlannedData, TaskCompleted
from blackboard.plan import Awaited, Undecided, specs
from blackboard.results import result_entry
from blackboard.sealing import verify
from blackboard.triggers import AgendaTerms, Trigger
from blackboard.types import Completion, Limits, RetryPolicy, TakenOver, TaskSpec
from registry import schema

play = watched_play
ONCE = RetryPolicy(max_attempts=1)


def was(task: str = "r0/1.a", data: Any = 7, **more: Any) -> TakenOver:
    return TakenOver(task=task, data=data, version="v0", taint=("http:a.example",), **more)


def taken(key: str, after: Sequence[str] = (), of: TakenOver | None = None, **more: Any) -> TaskSpec:
    return spec(key, after, taken_over=of or was(f"r0/1.{key}"), **more)


async def commit(
    play: Play, step: Claim, *tasks: TaskSpec, on: Sequence[str] = (), unplanned: bool = False, seen: str | None = None
) -> None:
    seen = (await play.board.history(step.run_id))[-1].sequence if seen is None else seen
    planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": [{"text": "…"}]})
    await play.board.commit_step(
        step, planned, tasks, Limits(), awaited=Awaited(dict.fromkeys(on, ())), unplanned=unplanned, seen=seen
    )


async def completion(play: Play, task: str) -> Completion:
    log = await play.board.history(task.partition("/")[0])
    (found,) = [event.data for event in log if isinstance(event, TaskCompleted) and event.subject == task]
    return found


async def test_g5_a_run_of_which_everything_is_taken_over_goes_straight_to_its_next_step(play: Play) -> None:
    run = await play.run(taken("a", version="v1", taint=("mail:b.example",)))
    assert await play.take() == [], "no worker is to have it"
    assert await play.kinds(run, "task.posted", "task.completed", "entry.posted") == [
        "task.posted /s1", "task.completed /s1", "task.posted /1.a", "task.completed /1.a",
        f"entry.posted {result_entry('', run + '/1.a')}", "task.posted /s2",
    ]  # fmt: skip
    said = await completion(play, f"{run}/1.a")
    assert (said.status, said.data, said.taken_over_from) == ("succeeded", 7, "r0/1.a")
    assert (said.version, said.attempts, said.worker, said.usage.model_calls) == ("v0", 0, None, 0)
    assert said.taint == ("http:a.example", "mail:b.example"), "where the result comes from travels with it"
    assert await play.board.outcomes() == {}, "it is no success of either version"
    (entry,) = (await Entries(play.board, f"run:{run}").query("results.>")).entries
    assert (entry.content, entry.taint) == (7, said.taint)
    assert (entry.author.task, entry.author.version) == (f"{run}/1.a", "v0")
    assert (await verify(Entries(play.board, f"run:{run}"))).faults == ()
    await play.plan(await play.step(run), answer="done")


async def test_what_waits_for_it_is_ready_with_its_result_and_what_fails_later_still_ends_its_own(play: Play) -> None:
    waits: Any = {"input": {"from": {"$ref": "a"}}}
    run = await play.run(taken("a"), spec("b", ["a"], **waits), spec("c", ["a", "b"], **waits, retry=ONCE))
    claim = await play.one()
    assert (claim.key, claim.input()) == ("b", {"from": 7})
    assert "http:a.example" in claim.taint
    await play.board.complete(claim, done(claim))
    claim = await play.one()
    assert (claim.key, claim.input()) == ("c", {"from": 7})
    await play.board.fail(claim, broken(claim))
    assert [event.subject for event in await play.board.history(run)][-1] == f"{run}/s2"


async def test_a_chain_is_taken_over_at_once_and_what_stands_beside_it_goes_on(play: Play) -> None:
    run = await play.run(taken("a"), taken("b", ["a"]), spec("c"), spec("d", ["b", "c"]))
    claim = await play.one()
    assert (claim.key, await play.state(f"{run}/1.d")) == ("c", "blocked")
    await play.sound()
    await play.board.complete(claim, done(claim))
    assert (await play.one()).key == "d"


async def test_a_wait_is_not_waited_for_again(play: Play) -> None:
    run = await play.run(taken("a", delay_seconds=60), spec("b", delay_seconds=60))
    assert (await play.state(f"{run}/1.a"), await play.state(f"{run}/1.b")) == ("succeeded", "delayed")


async def test_g4_one_result_is_taken_over_once_and_the_second_is_worked_on(play: Play) -> None:
    """Also where two decisions were made of the same log."""
    run = await play.run(taken("a"), taken("b", of=was("r0/1.a")), taken("c"))
    claim = await play.one()
    assert claim.key == "b"
    await play.board.complete(claim, done(claim, 8))
    await commit(play, await play.step(run), taken("again", of=was("r0/1.c")), taken("d"))
    claim = await play.one()
    assert (claim.key, claim.attempt) == ("again", 1)
    assert await play.state(f"{run}/2.d") == "succeeded"


async def test_g4_a_decision_that_is_sent_again_takes_over_once(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await play.run()
    step = await play.step(run)
    with killed(monkeypatch, ["commit"], 0, replied=True), pytest.raises(RuntimeError, match="killed"):
        await commit(play, step, taken("a"))
    before = await play.snapshot()
    await commit(play, step, taken("a"))
    assert await play.snapshot() == before


@pytest.mark.parametrize("replied", [False, True])
async def test_g3_a_process_that_dies_at_the_decision_leaves_all_of_it_or_nothing(
    play: Play, monkeypatch: pytest.MonkeyPatch, replied: bool
) -> None:
    run = await play.run()
    step = await play.step(run)
    with killed(monkeypatch, ["commit"], 0, replied), pytest.raises(RuntimeError, match="killed"):
        await commit(play, step, taken("a"), spec("b", ["a"]))
    await play.sound()
    if not replied:
        await play.clock.advance(100)
        await play.board.sweep()
        await play.clock.advance(100)
        await play.board.sweep()
        await commit(play, await play.step(run), taken("a"), spec("b", ["a"]))
    assert (await play.one()).key == "b"


async def test_g5_what_is_held_back_for_it_is_due_at_once(play: Play) -> None:
    run = await play.run()
    await commit(play, await play.step(run), taken("a", awaited_by=("x",)), spec("slow"), on=["x"])
    (step,) = await play.take(STEP_LANE, worker="planner")
    assert step.round == 2
    await commit(play, step, taken("b", awaited_by=("y",)), spec("c", awaited_by=("y",)), on=["y"])
    assert await play.take(STEP_LANE, worker="planner") == [], "not before the last of a name"


async def test_a_task_of_a_paused_run_is_taken_over(play: Play) -> None:
    run = await play.run()
    step = await play.step(run)
    await play.board.pause_run(run, "for a test")
    await commit(play, step, taken("a"), spec("b", ["a"]))
    assert (await play.state(f"{run}/1.a"), await play.state(f"{run}/1.b")) == ("succeeded", "paused")
    await play.sound()
    await play.board.resume_run(run)
    assert (await play.one()).key == "b"


async def test_what_was_made_from_an_entry_that_is_lost_by_now_is_not_taken_over(play: Play) -> None:
    run = await play.run()
    notes = Entries(play.board, f"run:{run}")
    hint = await notes.post("hints.bank", "look there")
    seen = (await play.board.history(run))[-1].sequence
    await notes.retract(hint.id)
    await commit(play, await play.step(run), taken("a", made_from=(hint.id,)), spec("b"), seen=seen)
    await play.clock.advance(1)
    await play.board.sweep()
    assert await play.state(f"{run}/1.a") == "cancelled"


async def test_what_does_not_fit_the_schema_of_its_topic_any_more_is_done_again(play: Play) -> None:
    play.board.checker = schema
    run = await play.run()
    await Entries(play.board, "tenant:default", checker=schema).set_schema("results.count.a", {"type": "string"})
    await commit(play, await play.step(run), taken("a"), taken("b"))
    assert [claim.key for claim in await play.take(n=5)] == ["a"]


async def schemas_changed_meanwhile(play: Play) -> bool:
    play.board.checker = schema
    run = await play.run()
    step = await play.step(run)
    schemas, changed = Entries(play.board, "tenant:default", checker=schema), list[None]()
    fetch = play.board.schemas.fetch

    async def raced(shard: Shard) -> object:
        found = await fetch(shard)
        if not changed:
            changed.append(await schemas.set_schema("results.count.a", {"type": "string"}))
            play.board.schemas._known[shard.number] = found  # pyright: ignore
        return found

    play.board.schemas.fetch = raced  # pyright: ignore
    await commit(play, step, taken("a"), taken("b"))
    return [claim.key for claim in await play.take(n=5)] == ["a"]


async def test_what_was_judged_by_schemas_that_have_changed_is_judged_again(play: Play) -> None:
    assert await schemas_changed_meanwhile(play)


async def test_a_large_result_is_stored_with_the_run_that_takes_it_over(play: Play) -> None:
    run = await play.run(taken("a", of=was(data="x" * 300_000)), spec("b", ["a"], input={"from": {"$ref": "a"}}))
    claim = await play.one()
    assert claim.input() == {"from": "x" * 300_000}
    (entry,) = (await Entries(play.board, f"run:{run}").query("results.>")).entries
    assert entry.content == "x" * 300_000


async def test_where_no_model_plans_a_result_is_no_entry(play: Play) -> None:
    run = await play.run()
    await commit(play, await play.step(run), taken("a"), unplanned=True)
    assert (await Entries(play.board, f"run:{run}").query(">")).entries == ()
    assert (await completion(play, f"{run}/1.a")).data == 7


# ---- of an agenda ----------------------------------------------------------------------------------------------------------


async def decided(play: Play, run: str, *, entered: bool = True) -> None:
    """Control picks the first two that wait, of which the first is taken over."""
    claim = await control(play)
    view = await Agenda(play.board, run).view(best=50)
    numbers = [one.number for one in (*view.fresh, *view.best)][:2]
    tasks = [spec(f"@{n}", capability="check", taken_over=was(f"r0/1.@{n}") if n == 1 else None) for n in numbers]
    made = specs(Undecided(run, claim.round), tasks, Limits(), entered=entered)
    picks = [Pick(n, text, given, "work") for n, (text, given) in zip(numbers, made, strict=True)]
    said = told(
        rated=tuple(RatedActivation(number=one.number, rating=one.priority) for one in view.fresh),
        picked=tuple(
            PickedActivation(number=n, task=f"{run}/{claim.round}.@{n}", rating=0.0, why="told to") for n in numbers
        ),
    )
    await Agenda(play.board, run).decide(
        claim, 1, said, picks, ends=True, facts=view.facts, rated_all=True,
        taken=await taking_over.told(play.board, run, tasks, entered=entered),
    )  # fmt: skip


async def test_g2_what_control_picks_is_taken_over_in_the_script_that_picks_it(play: Play) -> None:
    await declare(play, "check", Trigger(topic="seen.>"))
    run = await play.run(spec("t"), agenda=AgendaTerms())
    notes = Entries(play.board, f"run:{run}")
    await notes.post("seen.a", 1)
    await notes.post("seen.b", 2)
    await decided(play, run)
    assert {claim.key for claim in await play.take(n=5)} == {"t", "@2"}
    assert [entry.content for entry in (await notes.query("results.check.*")).entries] == [7]
    view = await Agenda(play.board, run).view()
    assert (view.running, view.waiting) == (1, 0)


async def test_g5_the_step_follows_where_all_that_control_picks_is_taken_over(play: Play) -> None:
    await declare(play, "check", Trigger(topic="seen.>"))
    run = await play.run(spec("t"), agenda=AgendaTerms())
    await Entries(play.board, f"run:{run}").post("seen.a", 1)
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    await decided(play, run)
    version = (await play.board.triggers.current(play.shard)).version
    for _ in range(4):  # control compares the entries that results became with triggers before the model is asked
        (claim,) = await play.take(STEP_LANE, worker="planner")
        if claim.kind == "step":
            return
        view = await Agenda(play.board, run).view(best=50)
        compared = None if view.uncompared is None else Compared(view.uncompared, version, "")
        await Agenda(play.board, run).decide(
            claim, 1, told(), [], ends=True, facts=view.facts, rated_all=True, compared=compared
        )
    pytest.fail("no step came")


# ---- the guards ------------------------------------------------------------------------------------------------------------


async def taken_once(play: Play) -> bool:
    run = await play.run(taken("a"), taken("b"))
    await commit(play, await play.step(run), taken("c", of=was("r0/1.a")))
    return [claim.key for claim in await play.take(n=5)] == ["c"]


async def taken_once_in_a_decision(play: Play) -> bool:
    await play.run(taken("a"), taken("b", of=was("r0/1.a")))
    return [claim.key for claim in await play.take(n=5)] == ["b"]


async def no_worker_has_it(play: Play) -> bool:
    run = await play.run(taken("a", version="v1"), spec("b"))
    header = await play.header(f"{run}/1.a")
    await play.sound()
    return header["fence"] == "0" and await play.board.outcomes() == {}


async def due_at_once(play: Play) -> bool:
    run = await play.run()
    await commit(play, await play.step(run), taken("a", awaited_by=("x",)), spec("slow"), on=["x"])
    return len(await play.take(STEP_LANE, worker="planner")) == 1


@pytest.mark.parametrize(
    ("check", "mutation"),
    [
        (taken_once, ("_taking_over", "redis.call('HSET', TURNS, '@' .. t.from, '1')", "")),
        (taken_once_in_a_decision, ("_taking_over", "and not mine[from]", "")),
        (no_worker_has_it, ("_board", "if t.version and not t.from then", "if t.version then")),
        (due_at_once, ("commit", "ripe = ripe or RIPE", "")),
        (schemas_changed_meanwhile, ("_taking_over", "if ARGV[k + 8] ~= ''", "if false")),
    ],
)
async def test_taking_a_guard_out_is_noticed(check: Any, mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await verdict(check, monkeypatch)
    assert not await verdict(check, monkeypatch, mutation)


async def test_a_run_that_ended_takes_over_nothing(play: Play) -> None:
    run = await play.run()
    step = await play.step(run)
    await play.board.cancel_run(run, "for a test")
    assert await refused(commit(play, step, taken("a")))
    assert await play.status(run) == "cancelled"
