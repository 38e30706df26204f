"""A third story: open requests, whose run has nothing to do but wait for bids, or has.

One nobody hears, which its time ends; one that is woken by a bid, awarded to somebody who fails, and awarded anew; and one that
is awarded while another task of its run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

from pydantic import JsonValue

from arbiter.answering import inquiry, wait
from arbiter.fold import fold
from arbiter.inquiry import Inquiry, Posting
from arbiter.sdk import Arbiter
from arbiter.testing.clock import Clock
from arbiter.testing.story import Scene
from arbiter.volunteering import OpenRequest
from blackboard.errors import ScriptRefused
from blackboard.triggers import Trigger
from blackboard.types import RetryPolicy
from registry import capability
from wrapper.context import current_task
from wrapper.failing import Permanent

_SOON = RetryPolicy(max_attempts=20, interval_seconds=0.01, cap_seconds=0.01)
_WAIT_SECONDS = 30.0
_OFFERS = {"promise": 0.9, "deliver": 0.5}
"""Confidence of each bid by capability, the first to come first."""
_open: list[Arbiter] = []
"""What the capability below reads through."""


@capability(effects="reads", retry=_SOON)
async def promise(what: str) -> str:
    """Fail for good, once somebody else has bid as well.

    Args:
        what: is wanted
    """
    task = current_task()
    assert task is not None
    board = _open[-1].entries.within(f"run:{task.run_id}")
    while len((await board.query("bids.parcel")).entries) < len(_OFFERS):
        await asyncio.sleep(0.01)
    raise Permanent(f"there is no {what}")


@capability(effects="pure", retry=_SOON)
def deliver(what: str) -> str:
    """Bring it.

    Args:
        what: is wanted
    """
    return f"a {what}"


@capability(effects="reads", retry=_SOON, triggers=[Trigger(topic="work.*")])
async def toil(entry: dict[str, Any]) -> None:
    """Go on until the letter is there.

    Args:
        entry: says that there is work
    """
    task = current_task()
    assert task is not None
    board = _open[-1].entries.within(f"run:{task.run_id}")
    while not (await board.query("answers.letter")).entries:
        await asyncio.sleep(0.01)


async def bids(scene: Scene) -> JsonValue:
    """The answers to all requests, and who was awarded the second."""
    from wrapper.models import ScriptedModel

    never = ScriptedModel(["never asked"])
    async with scene.arbiter(capabilities=(promise, deliver, toil), model=never, roles=("arbiter", "wrapper")) as a:
        _open.append(a)
        return {"unheard": await _unheard(a), "heard": await _heard(a), "beside": await _beside(a)}


async def _unheard(a: Arbiter) -> JsonValue:
    request = OpenRequest(question="Who sings?", seconds=_WAIT_SECONDS)
    run = await a.submit(inquiry(request, "song"), idempotency_key="unheard")
    if await _waits(a, run):
        await Clock(a.board).advance(_WAIT_SECONDS + 1, sweep=False)
    answered = await a.ask(request, name="song", idempotency_key="unheard")
    return [answered.reason, (await a.result(run)).status]


async def _heard(a: Arbiter) -> JsonValue:
    request = OpenRequest(question="Who brings it?", input={"what": "parcel"}, seconds=3000)
    run = await a.submit(inquiry(request, "parcel"), idempotency_key="heard")
    await _waits(a, run)
    board = a.entries.within(f"run:{run}")
    asked = (await board.query("requests.parcel")).entries[0].id
    for name, confidence in _OFFERS.items():
        with contextlib.suppress(ScriptRefused):  # the run is over
            await board.post(
                "bids.parcel", {"capability": name}, confidence=confidence, links=[("answers", asked)],
                operation=f"bid of {name}",
            )  # fmt: skip
    answered = await a.ask(request, name="parcel", idempotency_key="heard")
    award = cast("dict[str, Any]", (await board.query("awards.parcel")).entries[0].content)
    failed = [one["capability"] for one in award["failed"]]
    return [answered.answer, failed, award["capability"], (await a.result(run)).status]


async def _beside(a: Arbiter) -> JsonValue:
    request = OpenRequest(question="Who brings it?", input={"what": "letter"}, seconds=3000)
    known = [Posting("work.a", 1), Posting("requests.letter", request.content())]
    run = await a.submit(Inquiry(known), idempotency_key="beside")
    board = a.entries.within(f"run:{run}")
    while not (asked := (await board.query("requests.letter")).entries):
        await asyncio.sleep(0.01)
    with contextlib.suppress(ScriptRefused):  # the run is over
        await board.post(
            "bids.letter", {"capability": "deliver"}, links=[("answers", asked[0].id)], operation="bid beside"
        )
    answered = await wait(a, run, "letter", None)
    return [answered.answer, (await a.result(run)).status]


async def _waits(a: Arbiter, run: str) -> bool:
    """Wait until a step has attended to the run's request; False when the run is over."""
    while True:
        state = fold(run, await a.board.history(run))
        if state.done or any(turn.attending for turn in state.rounds):
            return not state.done
        await asyncio.sleep(0.01)
