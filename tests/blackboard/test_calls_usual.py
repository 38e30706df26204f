"""The usual end of a call, which is written out before the rest of its script, is the end that the rest would write."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from strict import Clock, Play, done, watch_scripts

from blackboard import controlling, working
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import Fenced
from blackboard.quotas import Quota, Quotas

Happening = Callable[[Play, Claim], Awaitable[Any]]

LIMITED = Quota(subject="capability:count", at_once=2, per_second=50)
HAPPENINGS: dict[str, tuple[Happening | None, Happening | None]] = {
    "nothing": (None, None),
    "no version": (None, None),
    "progress": (None, lambda play, claim: play.board.progress(claim, 1, "task.progressed", {"note": "half"}, {"n": 1})),
    "a pause": (None, lambda play, claim: play.board.pause_run(claim.run_id)),
    "a pause that is over": (
        None, lambda play, claim: _all(play.board.pause_run(claim.run_id), play.board.resume_run(claim.run_id)),
    ),
    "a cancelled run": (None, lambda play, claim: play.board.cancel_run(claim.run_id)),
    "a cancelled task": (None, lambda play, claim: play.board.cancel_task(claim.task_id)),
    "a quota from then on": (None, lambda play, claim: Quotas(play.board).set(LIMITED)),
    "a quota on attempts": (lambda play, _: Quotas(play.board).set(LIMITED), None),
    "a quota on runs": (lambda play, _: Quotas(play.board).set(Quota(subject="board", open_runs=5)), None),
    "another holder": (None, lambda play, claim: _all(play.board.release(claim), play.one(worker="other"))),
    "the same end before": (None, lambda play, claim: play.board.complete(claim, done(claim))),
}  # fmt: skip
"""What happens before the call and between its claim and its end."""


async def _all(*doings: Awaitable[Any]) -> None:
    for doing in doings:
        await doing


async def _stored(board: Board) -> dict[str, Any]:
    """All that is on a board, headers decoded, without the places in its streams, which are the server's to give."""
    client: Any = board.client
    found: dict[str, Any] = {}
    for key in sorted([key async for key in client.scan_iter(board.shards[0].prefix + "*")]):
        match await client.type(key):
            case "hash":
                value: Any = {name: _decoded(text) for name, text in (await client.hgetall(key)).items()}
            case "zset":
                value = await client.zrange(key, 0, -1, withscores=True)
            case "set":
                value = sorted(await client.smembers(key))
            case "list":
                value = await client.lrange(key, 0, -1)
            case "stream":
                value = [{n: _decoded(t) for n, t in fields.items()} for _, fields in await client.xrange(key)]
            case _:
                continue  # what remembers a claim, and the clock
        found[key] = value
    return found


def _decoded(text: str) -> Any:
    text = re.sub(r"^\d{13}-\d+$", "a place", text)
    return json.loads(text) if text.startswith("{") else text


async def _played(
    monkeypatch: pytest.MonkeyPatch, happening: str, *, usual: bool
) -> tuple[dict[str, Any], bool | str, str]:
    before, between = HAPPENINGS[happening]
    with monkeypatch.context() as patched:
        watch_scripts(patched)
        patched.setattr(working, "_took", lambda *_: (12, 3))
        patched.setattr(controlling.secrets, "token_hex", lambda *_: "f00d")
        async with await Board.open(f"memory://{uuid.uuid4().hex}", lease_seconds=1.0) as board:
            play = Play(board, Clock(board))
            await play.clock.advance()
            if before is not None:
                await before(play, None)  # type: ignore[arg-type]
            version = None if happening == "no version" else "v1"
            run = await board.submit_call("count", {"n": [1, []]}, lane="work", version=version, idempotency_key="k")
            claim = await play.one()
            await play.clock.advance(0.007)
            if between is not None:
                await between(play, claim)
            await play.clock.advance(0.25)
            known = bool(claim.usual)
            claim = claim if usual else replace(claim, usual="")
            try:
                await board.complete(claim, done(claim, {"rows": []}))
            except Fenced as error:
                known = str(error)
            client: Any = board.client
            await play.sound()
            return await _stored(board), known, await client.hget(board.shards[0].tasks, f"{run}/0.call")


@pytest.mark.parametrize("happening", HAPPENINGS)
async def test_g5_the_usual_end_of_a_call_writes_what_any_other_end_would(
    happening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, known, header = await _played(monkeypatch, happening, usual=True)
    whole, same, other = await _played(monkeypatch, happening, usual=False)
    assert short == whole
    assert known == same
    # Where it was taken, it leaves the beginning of the header in the place where the claim has put it.
    taken = header.startswith('{"state":"succeeded","ver":3,')
    assert taken is (happening in ("nothing", "no version", "the same end before"))
    assert not other.startswith('{"state":"succeeded","ver":3,') or happening == "the same end before"
