"""Of all that is said with the tokens of a task one outcome for each attempt counts; and the checks notice a broken script."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from callback_support import SOURCE, beat, begun, complete, ended, fail, wait, waits
from hypothesis import given, settings
from hypothesis import strategies as st
from strict import Check, Mutation, Play, refused, verdict

from blackboard.audit import Audit
from blackboard.errors import ScriptRefused
from blackboard.types import Limits

_ACTS = st.one_of(
    st.tuples(st.just("say"), st.sampled_from([0, 1]), st.sampled_from(["one", "two", ""])),
    st.tuples(st.just("pass"), st.sampled_from([1, 60, 3600])),
    st.tuples(st.sampled_from(["beat", "sweep", "take", "wait", "cancel", "pause", "resume"])),
)


async def plays(play: Play, acts: list[tuple[Any, ...]]) -> bool:
    """Whether of all that is said with all tokens exactly what was taken counts: one outcome for each attempt, in its time."""
    run, claim, token = await begun(play)
    tokens, held = [token], [claim]
    taken: dict[str, str] = {}
    for act in acts:
        match act:
            case ("say", old, word):
                shown = tokens[-1 - old] if old < len(tokens) else tokens[-1]
                said = complete(play, shown, word) if word else fail(play, shown)
                if not await refused(said, ScriptRefused):
                    if taken.get(shown, word) != word:
                        return False
                    taken[shown] = word
            case ("pass", seconds):
                await play.clock.advance(seconds)
            case ("beat",):
                await refused(beat(play, tokens[-1]), ScriptRefused)
            case ("sweep",):
                await play.board.sweep()
            case ("take",):
                for again in await play.take():
                    held.append(again)
                    tokens.append(await play.board.open_callback(again, sources=SOURCE))
            case ("wait",):
                await refused(wait(play, held[-1], beat=60))
            case ("pause",):
                await play.board.pause_run(run)
            case ("resume",):
                await play.board.resume_run(run)
            case _:
                await play.board.cancel_task(claim.task_id)
        await play.sound()
    ends = [e.data for e in await play.board.history(run) if e.kind == "task.completed" and e.subject == claim.task_id]
    well = [end.data for end in ends if end.status == "succeeded"]
    said = [word for word in taken.values() if word]
    failed = [e for e in await play.board.history(run) if e.kind == "callback.answered" and e.data.status == "failed"]
    answered = await play.kinds(run, "callback.answered")
    await play.board.cancel_run(run)
    return well == said and len(ends) <= 1 and len(answered) == len(taken) and len(failed) == len(taken) - len(said)


@settings(max_examples=6, deadline=None)
@given(stories=st.lists(st.lists(_ACTS, min_size=1, max_size=10), min_size=1, max_size=6))
def test_g4_what_counts_is_one_outcome_for_each_attempt_whatever_happens(
    stories: list[list[tuple[Any, ...]]],
) -> None:
    async def all_of_them(play: Play) -> bool:
        return all([await plays(play, acts) for acts in stories])

    with pytest.MonkeyPatch.context() as patch:
        assert asyncio.run(verdict(all_of_them, patch))


async def twice(play: Play) -> bool:
    return await plays(play, [("wait",), ("say", 0, "one"), ("say", 0, "two")])


async def same(play: Play) -> bool:
    _, _, token = await waits(play)
    await complete(play, token)
    return not await refused(complete(play, token), ScriptRefused)


async def old_counts_not(play: Play) -> bool:
    _, claim, token = await begun(play)
    for _ in range(2):
        await play.clock.advance(60)
        await play.board.sweep()
    again = await play.one()
    return (
        await refused(complete(play, token), ScriptRefused)
        and await play.state(again.task_id) == "claimed"
        and bool(claim)
    )


async def in_time(play: Play) -> bool:
    _, claim, token = await waits(play, beat=60)
    await play.clock.advance(60)
    late = await refused(complete(play, token), ScriptRefused)
    await play.board.sweep()
    return late and await play.state(claim.task_id) == "delayed"


async def alive(play: Play) -> bool:
    _, claim, token = await waits(play, beat=60)
    await play.clock.advance(59)
    await beat(play, token)
    await play.clock.advance(59)
    await play.board.sweep()
    return await play.state(claim.task_id) == "waiting"


async def own_time(play: Play) -> bool:
    run, _, token = await waits(play, limits=Limits(seconds=60), seconds=60)
    await play.clock.advance(1800)
    await fail(play, token)
    await play.clock.advance(61)
    await play.board.sweep()
    return await play.status(run) == "timed_out"


async def early(play: Play) -> bool:
    run, claim, token = await begun(play)
    await complete(play, token)
    await wait(play, claim)
    return (await ended(play, run)).data == 1


async def stopped(play: Play) -> bool:
    _, claim, token = await begun(play)
    await play.board.cancel_task(claim.task_id)
    return await refused(complete(play, token), ScriptRefused)


async def recorded(play: Play) -> bool:
    _, claim, token = await waits(play)
    await play.board.cancel_task(claim.task_id)
    for _ in range(2):
        await refused(complete(play, token), ScriptRefused)
    return len((await Audit(play.board).list("kind=callback.refused")).entries) == 1


BREAKAGES: list[tuple[Check, Mutation]] = [
    (twice, ("callback_said", "if mine.d and mine.d == said", "if mine.d")),
    (same, ("callback_said", "mine.d = said", "mine.d = nil")),
    (old_counts_not, ("callback_said", "t.fence ~= fence or", "false or")),
    (in_time, ("callback_said", "elseif due and due <= MS then", "elseif false then")),
    (in_time, ("callback_wait", "math.min(ms, every or ms)", "ms")),
    (in_time, ("due", "t.state == 'waiting' and 'callback_lapse' or 'wake'", "'wake'")),
    (alive, ("callback_said", "redis.call('ZADD', WAIT, n2s(next), id)", "")),
    (own_time, ("_board", "stand_still(id, t, r, math.min(0, MS - t.cb.till), true)", "")),
    (early, ("callback_wait", "or last.d)", "or false)")),
    (stopped, ("callback_said", "elseif t.cxl then", "elseif false then")),
    (recorded, ("callback_said", "audit('callback.refused', id, by, why, t.tenant)", "")),
    (recorded, ("callback_said", "mine.no = 1", "mine.no = nil")),
]


@pytest.mark.parametrize(("check", "mutation"), BREAKAGES)
async def test_the_checks_notice_a_broken_script(
    check: Check, mutation: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await verdict(check, monkeypatch)
    assert not await verdict(check, monkeypatch, mutation)
