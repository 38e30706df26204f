"""What the tests of attempts that are ended from outside share: one task, its token, and what is said with it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue
from strict import Play, spec

from blackboard.claims import Claim
from blackboard.errors import ScriptRefused
from blackboard.types import Limits

SOURCE = ("callback:render",)


async def begun(play: Play, *, limits: Limits | None = None, **more: Any) -> tuple[str, Claim, str]:
    """A run whose one task is worked on, with the token of its attempt."""
    more.setdefault("seconds", 86_400)
    run = await play.run(spec("render", **more), limits=limits or Limits(seconds=1_000_000))
    claim = await play.one()
    return run, claim, await play.board.open_callback(claim, sources=SOURCE, version="v1", repeatable=True)


async def wait(play: Play, claim: Claim, seconds: float = 3600, beat: float | None = None, again: bool = True) -> None:
    await play.board.wait_for_callback(claim, seconds, beat, sources=SOURCE, repeatable=again)


async def waits(play: Play, beat: float | None = None, **more: Any) -> tuple[str, Claim, str]:
    run, claim, token = await begun(play, **more)
    await wait(play, claim, beat=beat)
    return run, claim, token


async def complete(play: Play, token: str, output: JsonValue = 1) -> None:
    await play.board.complete_callback(await play.board.called(token), output, by="ann")


async def fail(play: Play, token: str, error: str = "Crash", cause: str = "out of paper") -> None:
    await play.board.fail_callback(await play.board.called(token), error, cause, by="ann")


async def beat(play: Play, token: str) -> float | None:
    return await play.board.beat_callback(await play.board.called(token), by="ann")


async def why(call: Any) -> str:
    with pytest.raises(ScriptRefused) as caught:
        await call
    return f"{caught.value.code}: {caught.value.detail}"


async def ended(play: Play, run: str) -> Any:
    task = f"{run}/1.render"
    (found,) = [e.data for e in await play.board.history(run) if e.kind == "task.completed" and e.subject == task]
    return found
