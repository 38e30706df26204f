"""G3, G4, G9 for fabrications: a process that dies at any moment loses no finished stage and registers nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
import taxshop
import test_exam_strength
from pydantic import JsonValue

from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.types import Completion, Status
from fabricator import FabricationSettings, Fabricator
from registry import Registry
from wrapper.isolation import ProcessIsolation
from wrapper.models import ScriptedModel

Post = Callable[..., Awaitable[Claim]]


class Killed(BaseException):
    """Nothing in the fabricator may catch this, as nothing can catch SIGKILL."""


class MortalAttempt(Attempt):
    """Dies at its n-th report, before or after the board has it. Before the n-th is after whatever followed the last."""

    def __init__(self, board: Board, claim: Claim, at: int, when: Literal["before", "after"]) -> None:
        super().__init__(board, claim)
        self._left, self._when = at, when

    async def progress(self, kind: str, data: JsonValue, checkpoint: JsonValue = None) -> None:
        self._left -= 1
        if self._left == 0 and self._when == "before":
            raise Killed
        await super().progress(kind, data, checkpoint)
        if self._left == 0:
            raise Killed


def repaired_once() -> ScriptedModel:
    return taxshop.script(taxshop.ROUNDS_DOWN, taxshop.RIGHT, specs=["not yet", taxshop.spec()])


def examined_twice() -> ScriptedModel:
    """The first exam notices too little, and the cases of the second show that the code is wrong."""
    return taxshop.script(taxshop.ROUNDS_DOWN, taxshop.RIGHT, specs=[test_exam_strength.WEAK, taxshop.spec()])


def keeps_no_property() -> ScriptedModel:
    """The first property says nothing, and the second shows that the code, which passes every case, is wrong."""
    capped = taxshop.RIGHT.replace("    tax", "    rate_bp = min(rate_bp, 8_000)\n    tax")
    always = {**taxshop.CLOSE, "check": "def check(input, result):\n    return True"}
    specs = [taxshop.spec(properties=[each]) for each in (always, taxshop.CLOSE)]
    return taxshop.script(capped, taxshop.RIGHT, specs=specs)


def never_right() -> ScriptedModel:
    return taxshop.script(taxshop.WRONG, taxshop.WRONG + "# again\n")


async def again(board: Board, claim: Claim) -> Claim:
    """What the lease of a dead process comes to, without the wait."""
    await board.release(claim)
    (taken,) = await board.claim("fabricator", ["fabricator"])
    assert taken.task_id == claim.task_id
    return taken


def essence(done: Completion) -> Any:
    evidence = done.error.evidence.get("candidates") if done.error else None
    return done.status, done.data, done.error and done.error.message, evidence, done.usage.total_tokens


@pytest.mark.parametrize(
    ("model", "when"),
    [(repaired_once, "before"), (never_right, "after"), (examined_twice, "after"), (keeps_no_property, "after")],
)
async def test_a_kill_at_every_report_ends_as_if_nothing_had_happened(
    redis_board: Board,
    registry: Registry,
    isolation: ProcessIsolation,
    post: Post,
    model: Callable[[], ScriptedModel],
    when: Literal["before", "after"],
) -> None:
    expected: Any = None
    at, asked, activated = 0, 0, 0
    while True:
        at += 1
        playing = model()
        settings = FabricationSettings(repairs=1, mistakes=12 if model is examined_twice else 2)
        fabricator = Fabricator(registry, isolation, playing, settings=settings)
        claim = await post()
        survived = False
        try:
            done = await fabricator.handle(MortalAttempt(redis_board, claim, at if expected else 0, when))
            survived = True
        except Killed:
            claim = await again(redis_board, claim)
            done = await fabricator.handle(Attempt(redis_board, claim))
        if expected is None:
            expected, asked, at = essence(done), len(playing.calls), 0
            survived = False
        lost_tokens = 0 if when == "after" else (len(playing.calls) - asked) * 110
        assert essence(done) == expected, f"killed {when} report {at}"
        assert lost_tokens in (0, 110)
        assert len(playing.calls) <= asked + (when == "before"), (
            f"killed {when} report {at}: finished calls were repeated"
        )
        if done.status is Status.SUCCEEDED:
            activated += 1
            verbs = [change.verb for change in await registry.changes(limit=1000)]
            assert (verbs.count("registered"), verbs.count("activated")) == (1, activated), "registered twice"
            await registry.retire("add_tax")  # the next try starts from nothing
        await redis_board.complete(claim, done)
        if survived:
            break
    assert at > 10


_PROCESS = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[5])
import test_fabrication_crash as crash
from blackboard.board import Board
from blackboard.attempt import Attempt
from fabricator import FabricationSettings, Fabricator
from registry import Registry
from wrapper.isolation import ProcessIsolation

class Suicidal(crash.MortalAttempt):
    async def progress(self, *given, **more):
        try:
            await super().progress(*given, **more)
        except crash.Killed:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    url, board, at, when = sys.argv[1:5]
    async with await Board.open(url, board=board, lease_seconds=1.0) as board:
        (claim,) = await board.claim("doomed", ["fabricator"])
        isolation = ProcessIsolation(preload_strands=False, parked=1)
        await Fabricator(Registry(board.catalog), isolation, crash.repaired_once()).handle(
            Suicidal(board, claim, int(at), when))

asyncio.run(main())
"""


@pytest.mark.parametrize(("at", "when", "calls_left"), [(5, "after", 2), (16, "before", 0)])
async def test_a_fabrication_whose_process_was_killed_goes_on_in_another(
    redis_board: Board,
    registry: Registry,
    isolation: ProcessIsolation,
    post: Post,
    board_name: str,
    at: int,
    when: str,
    calls_left: int,
) -> None:
    claim = await post()
    await redis_board.release(claim)
    here = os.path.dirname(__file__)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROCESS, redis_board.engine.url, board_name, str(at), when, here
    )
    assert await process.wait() == -signal.SIGKILL

    taken: list[Claim] = []
    while not taken:
        await redis_board.sweep()
        taken = await redis_board.claim("fabricator", ["fabricator"])
        await asyncio.sleep(0.02)
    model = repaired_once()
    done = await Fabricator(registry, isolation, model).handle(Attempt(redis_board, taken[0]))

    assert taken[0].attempt > claim.attempt
    assert done.status is Status.SUCCEEDED
    assert len(model.calls) == calls_left
    assert done.usage.model_calls == 4
    assert (done.data["reused"], done.data["repairs"]) == (False, 1)
    assert len(await registry.versions("add_tax")) == 1
