"""The model is asked though tasks are at work, in whatever order they end and it decides (G5)."""

from __future__ import annotations

import asyncio
import json
import uuid
from random import Random
from typing import Any

from arbiter_support import FUNCTIONS, call
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_steps import post, say, step

from arbiter import Arbiter, Limits, Recalling, ScriptedModel, capability
from arbiter.conversation import messages
from arbiter.early import as_of
from arbiter.fold import fold
from arbiter.planner import Planner
from arbiter.tools import STOP, WAIT
from blackboard.attempt import Attempt
from blackboard.board import STEP_LANE
from blackboard.claims import Claim
from blackboard.invariants import faults
from blackboard.types import Failure, Status
from wrapper.models.quoting import unquoted


class Stage:
    """One run whose tasks end when and how chance says, and whose model decides by chance."""

    def __init__(self, a: Arbiter, run: str, dice: Random, tokens: int | None) -> None:
        self.a, self.run, self.dice, self.board = a, run, dice, a.board
        self.model = ScriptedModel([self.decide] * 60)
        recalling = Recalling(tokens=tokens, remembered=0)
        self.planners = [Planner(a.registry, lambda: self.model, recalling=recalling) for _ in range(2)]
        self.held: list[Claim] = []
        self.commit = self.board.commit_step
        self.turns = 0

    def decide(self, conversation: Any, specs: Any) -> Any:
        self.turns += 1
        if self.turns > 12:
            return "done"
        number = self.dice.randint(1, 4)
        work = [call("work", of=f"{self.turns}-{at}") for at in range(number)]
        match self.dice.randrange(6):
            case 0 if "at work" in str(conversation[-1]):
                return call(WAIT)
            case 1 if "at work" in str(conversation[-1]):
                return [call(STOP, tasks=["work"], why="chance"), *work]
            case 2 if self.dice.random() < 0.3:
                return "done"
            case 3:
                return post(
                    step("all", "work", {"of": {"$ref": "item"}}, each="request#/all", at_once=2), say("e", "x")
                )
            case _:
                return work

    async def play(self) -> None:
        self.board.commit_step = self.while_it_ends  # type: ignore[method-assign]
        while (await self.board.summary(self.run)).ended_at is None:
            self.held += await self.board.claim("w", ["work", *self.lanes], n=50)
            due = bool(await self.step()) if self.dice.random() < 0.6 or not self.held else False
            if not due and self.held:
                await self.end_one()
            await self.board.sweep()
            assert await faults(self.board) == []

    @property
    def lanes(self) -> list[str]:
        return self._lanes

    async def begin(self) -> None:
        self._lanes = [one.manifest.action for one in await self.a.registry.list()]

    async def step(self) -> bool:
        taken = await self.board.claim("planner", [STEP_LANE], n=9)
        assert len(taken) <= 1, "one step at a time"
        for claim in taken:
            assert await self.dice.choice(self.planners).handle(Attempt(self.board, claim)) is None
        return bool(taken)

    async def while_it_ends(self, *args: Any, **more: Any) -> bool:
        """Some tasks end between what a step has read and what it commits, which may be sent twice."""
        while self.held and self.dice.random() < 0.4:
            await self.end_one()
        over = await self.commit(*args, **more)
        if self.dice.random() < 0.2:
            await self.commit(*args, **more)
        return over

    async def end_one(self) -> None:
        claim = self.held.pop(self.dice.randrange(len(self.held)))
        header = json.loads(await self.board.client.hget(self.board.shards[0].tasks, claim.task_id))
        if header["state"] != "claimed":
            return
        if header.get("cxl"):
            await self.board.complete(claim, claim.completion(Status.CANCELLED))
        elif self.dice.random() < 0.3:
            error = Failure(type="handler_error", message="broke")
            await self.board.complete(claim, claim.completion(Status.FAILED, error=error))
        else:
            await self.board.complete(claim, claim.completion(Status.SUCCEEDED, data=f"of {claim.task_id}!"))

    async def check(self) -> None:
        state = fold(self.run, await self.board.history(self.run))
        asked = [one.messages for one in self.model.calls]
        turns = [turn for turn in state.rounds if not turn.attending]
        assert len(turns) == len(asked)
        for conversation in asked:
            self.paired(conversation)
        for turn, before, after in zip(turns[1:], asked[:-1], asked[1:], strict=True):
            if turn.context is None:  # where it was not cut, whoever takes the step builds what was there before
                assert after[: len(before)] == before
        if not any(turn.context for turn in turns):
            assert messages(state)[: len(asked[-1])] == asked[-1]
            self.once(state, asked[-1])

    @staticmethod
    def paired(conversation: Any) -> None:
        """Each call of a message has its result in the next, in the same order."""
        for said, heard in zip(conversation[1::2], conversation[2::2], strict=True):
            uses = [part["toolUse"]["toolUseId"] for part in said["content"] if "toolUse" in part]
            results = [part["toolResult"]["toolUseId"] for part in heard["content"] if "toolResult" in part]
            assert uses == results

    def once(self, state: Any, conversation: Any) -> None:
        """Each task that was over when the model was asked last is told of exactly once, with how it ended."""
        text = "\n".join(unquoted(part["text"]) if "text" in part else unquoted(part["toolResult"]["content"][0]["text"])
                         for message in conversation[2::2] for part in message["content"])  # fmt: skip
        last = [turn for turn in state.rounds if not turn.attending][len(conversation) // 2]
        then = as_of(state, last.seen)
        for task in then.work:
            if task.round < last.number and task.completion is not None and task.completion.status is Status.SUCCEEDED:
                assert text.count(f"of {task.id}!") == 1, task.id
        wrong = [task for task in then.work if task.round < last.number and task.completion is not None
                 and task.completion.status is Status.FAILED]  # fmt: skip
        assert text.count('"broke"') == len(wrong)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_g5_each_result_is_told_once_whatever_ends_while_the_model_thinks(seed: int) -> None:
    async def go() -> None:
        @capability
        def work(of: Any) -> str:
            """Work."""
            return "never called"

        dice = Random(seed)
        async with Arbiter(
            f"memory://early{uuid.uuid4().hex}", roles=(), limits=Limits(round_seconds=1, rounds=40)
        ) as a:
            await a.registry.register(work.manifest)
            await a.registry.register(FUNCTIONS[1].manifest)
            stage = Stage(a, await a.submit({"all": [*"abcd"[: seed % 5]]}), dice, dice.choice([None, 500, 2000]))
            await stage.begin()
            try:
                await stage.play()
            finally:
                stage.board.commit_step = stage.commit  # type: ignore[method-assign]
            await stage.check()

    asyncio.run(go())
