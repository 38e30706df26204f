"""Runs whose model is asked though work goes on, brought to where a test begins."""

from __future__ import annotations

from endings import seen, steps
from strict import Play, broken, spec

from blackboard.claims import Claim
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.plan import Early
from blackboard.types import Limits, TaskSpec

REST = Early(rest="it was answered")
ANSWER = RunCompletedData(status="succeeded", answer="x", rounds=2)


async def commit(
    play: Play, step: Claim, *tasks: TaskSpec, early: Early | None = REST, at: str | None = None,
    outcome: RunCompletedData | None = None,
) -> bool:  # fmt: skip
    planned = RoundPlannedData(round=step.round, message={"role": "assistant", "content": [{"text": "…"}]})
    position = await seen(play, step.run_id) if at is None else at
    return await play.board.commit_step(step, planned, tasks, Limits(), outcome, seen=position, early=early)


async def begun(play: Play, *tasks: TaskSpec, early: Early | None = REST) -> str:
    run = await play.board.submit("go", limits=Limits(seconds=3000))
    await commit(play, await play.step(run), *tasks, early=early)
    return run


async def asked(play: Play, *tasks: TaskSpec) -> tuple[str, Claim, Claim]:
    """A run whose step is taken because ``a`` failed while ``slow`` is at work: run, step and the claim of ``slow``."""
    run = await begun(play, spec("a"), spec("slow"), *tasks)
    a, slow = await play.take(n=2)
    await play.board.complete(a, broken(a))
    (step,) = await steps(play)
    return run, step, slow


async def lasting(play: Play, seconds: float = 60) -> tuple[str, Claim]:
    run = await begun(play, spec("slow", seconds=2000), early=Early(round(seconds * 1000)))
    slow = await play.one()
    await play.hold(slow, 3000)
    return run, slow


async def answered(play: Play) -> tuple[str, Claim]:
    run, step, slow = await asked(play, spec("waits", lane="other"))
    assert not await commit(play, step, outcome=ANSWER)
    assert await play.state(f"{run}/1.waits") == "cancelled"
    assert await play.hold(slow) == "cancel"
    assert await play.status(run) == "cancelling"
    await play.sound()
    return run, slow
