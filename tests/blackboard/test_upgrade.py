"""A board that an earlier version left in the middle of its work is taken up where it stood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from strict import Clock, Play, done, faults, watch_scripts

from blackboard import claims, taint
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import EngineUnavailable
from blackboard.types import Status

STORED = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "stored").glob("*.json"))
}


async def restored(board: Board, stored: dict[str, Any]) -> Play:
    client: Any = board.client
    prefix = board.shards[0].prefix
    for name, value in stored["keys"].items():
        key = prefix + name
        match stored["types"][name]:
            case "hash":
                await client.hset(key, mapping=value)
            case "zset":
                await client.zadd(key, value)
            case "set":
                await client.sadd(key, *value)
            case "list":
                await client.rpush(key, *value)
            case "stream":
                for at, fields in value:
                    await client.xadd(key, fields, id=at)
            case _:
                await client.set(key, value)
    return Play(board, Clock(board, stored["clock"]))


async def held(play: Play, task_id: str) -> Claim:
    """The claim of a task as its worker of before holds it."""
    client: Any = play.board.client
    prefix = play.shard.prefix
    header, given = await client.hget(prefix + "tasks", task_id), await client.hget(prefix + "data", task_id)
    return claims.parse([task_id, header, given, ""], "w")


@pytest.mark.parametrize("version", STORED)
async def test_every_run_of_an_earlier_version_goes_on_to_its_end(
    board: Board, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = STORED[version]
    watch_scripts(monkeypatch)
    play = await restored(board, stored)
    await play.clock.advance()
    runs = stored["runs"]
    assert await faults(board) == []
    assert {one.id: one.status for one in await board.runs()} == {
        runs["busy"]: "running", runs["deciding"]: "queued", runs["stopping"]: "cancelling",
        runs["answered"]: "succeeded", runs["queued"]: "queued",
    }  # fmt: skip

    # A worker that is still of the earlier version reports; its claim is as good as it was.
    claimed = await held(play, f"{runs['busy']}/1.claimed")
    await board.complete(claimed, done(claimed))
    slow = await held(play, f"{runs['stopping']}/1.slow")
    assert await play.hold(slow) == "cancel"
    await board.release(slow)
    assert await play.status(runs["stopping"]) == "cancelled"

    await board.pause_run(runs["busy"])
    await board.resume_run(runs["busy"])
    seen: list[str] = []
    for _ in range(20):
        await play.clock.advance(1)
        await board.sweep()
        for claim in await play.take("arbiter", "work", "other", n=9):
            seen.append(claim.key)
            if claim.kind == "step":
                await play.plan(claim, answer="over")
            else:
                await board.complete(claim, done(claim))
    assert sorted(seen) == ["behind", "delayed", "low", "s1", "s1", "s2"]
    ended = {one.id: one.status for one in await board.runs()}
    assert ended.pop(runs["stopping"]) == "cancelled"
    assert set(ended.values()) == {"succeeded"}
    assert await faults(board) == []
    for run in runs.values():
        assert (await board.history(run))[-1].type == "dev.arbiter.run.completed.v1"


@pytest.mark.parametrize("version", STORED)
async def test_what_an_earlier_version_left_behind_comes_from_an_unknown_source_and_is_not_trusted(
    board: Board, version: str
) -> None:
    """Whatever this version does with it: what it adds to it does not make it known."""
    stored = STORED[version]
    play = await restored(board, stored)
    run = stored["runs"]["busy"]
    accepted = (await board.history(run))[0]
    assert taint.read(accepted.data.taint) == taint.UNKNOWN
    claimed = await held(play, f"{run}/1.claimed")
    assert claimed.taint == taint.UNKNOWN
    await board.complete(claimed, claimed.completion(Status.SUCCEEDED, sources=("http:api.example.com",)))
    (behind,) = await play.take("other")
    assert behind.key == "behind"
    assert behind.taint == ("http:api.example.com", "unknown")
    assert taint.TaintPolicy(trusted=("*",)).untrusted(behind.taint) == ()
    assert taint.TaintPolicy(trusted=("person", "http:*")).untrusted(behind.taint) == ("unknown",)
    for gate in ("fabricate", "secret", "approve"):
        assert taint.TaintPolicy().judge(gate, claimed.taint) is not None


async def test_a_board_of_a_later_format_is_refused_and_not_touched(redis_board: Board) -> None:
    key = f"arb:{{{redis_board.namespace}/{redis_board.name}}}:meta"
    client: Any = redis_board.client
    await client.hset(key, "format", "2")
    before = await client.hgetall(key)
    with pytest.raises(EngineUnavailable, match="has format 2, this version reads 1"):
        await Board.open(redis_board.engine.url, board=redis_board.name)
    assert await client.hgetall(key) == before
