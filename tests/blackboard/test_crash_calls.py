"""Lost replies, dropped connections, forgotten scripts, a full server, a killed server: one effect, and the same end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from strict import Play, broken, done, faults, spec, watch_scripts

from blackboard import _script
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.errors import BoardFull, EngineUnavailable
from blackboard.heartbeat import Heartbeat
from blackboard.sweeper import Sweeper
from blackboard.testing import KEEPING, RedisServer
from blackboard.types import Completion, RetryPolicy, Status
from blackboard.worker import Worker

ROUNDS = 3


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    with RedisServer(options=KEEPING) as server:
        yield server


def scene(board: Board) -> Play:
    return Play(board, None)  # type: ignore[arg-type]


async def crew(board: Board, heartbeat: Heartbeat) -> list[Worker]:
    """A planner that posts three rounds of dependent tasks, and workers that add numbers up."""

    async def plan(attempt: Attempt) -> None:
        n = attempt.claim.round
        tasks = [
            spec("a", input=n), spec("b", input=n), spec("c", ["a", "b"], input=[{"$ref": "a"}, {"$ref": "b"}]),
        ] if n <= ROUNDS else []  # fmt: skip
        await scene(board).plan(attempt.claim, *tasks, answer=None if tasks else "end")

    async def work(attempt: Attempt) -> Completion:
        await asyncio.sleep(0.005)
        given = attempt.claim.input()
        return done(attempt.claim, sum(given) if isinstance(given, list) else given)

    return [
        Worker(board, heartbeat, "p", ["arbiter"], plan, concurrency=2),
        Worker(board, heartbeat, "w", ["work"], work),
    ]


async def outcome(board: Board, run: str) -> list[tuple[str, Any]]:
    ends = [e for e in await board.history(run) if isinstance(e.data, Completion) and e.data.node == "count"]
    return sorted((e.subject.removeprefix(run), e.data.data) for e in ends)


CALLED = 3
EXPECTED = sorted((f"/{n}.{k}", v) for n in range(1, ROUNDS + 1) for k, v in (("a", n), ("b", n), ("c", 2 * n)))


async def play_through(board: Board, runs: int, trouble: Any) -> None:
    """Runs, played by workers while ``trouble`` goes on, end as they always do."""
    board.lease_seconds = 5.0
    heartbeat = Heartbeat(board)
    workers = await crew(board, heartbeat)
    running = [asyncio.create_task(w.run()) for w in workers]
    running.append(asyncio.create_task(Sweeper(board, interval_seconds=0.1).run()))
    making = asyncio.create_task(trouble())
    try:
        ids = [await board.submit(f"go {i}", idempotency_key=f"k{i}") for i in range(runs)]
        called = [await board.submit_call("count", i, lane="work", idempotency_key=f"c{i}") for i in range(CALLED)]
        async with asyncio.timeout(60):
            for run in ids + called:
                while (await board.summary(run)).status != "succeeded":
                    await asyncio.sleep(0.02)
            await making
    finally:
        making.cancel()
        for worker in workers:
            await worker.drain(0)
        for task in running:
            task.cancel()
        await asyncio.gather(making, *running, return_exceptions=True)
        heartbeat.close()
    assert [await outcome(board, run) for run in ids] == [EXPECTED] * runs
    assert [await outcome(board, run) for run in called] == [[("/0.call", i)] for i in range(CALLED)]
    assert await faults(board) == []


async def test_g4_a_reply_lost_after_every_single_call_changes_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_scripts(monkeypatch)
    evalsha, sent = board.client.evalsha, []

    async def lossy(sha: str, count: int, *rest: Any) -> Any:
        reply = await evalsha(sha, count, *rest)
        if sent[-1:] == [rest]:
            sent.clear()
            return reply
        sent.append(rest)
        raise redis.ConnectionError("the reply was lost")

    play = scene(board)
    monkeypatch.setattr(board.client, "evalsha", lossy)
    run = await play.run(spec("a"), spec("b", ["a"]))
    for key in "ab":
        claim = await play.one()
        assert claim.key == key
        await board.progress(claim, 1, "task.progressed", {})
        await board.release(claim)
        claim = await play.one()
        assert claim.attempt == 1
        await board.complete(claim, done(claim))
    await play.plan(await play.step(run), answer="x")
    assert await play.status(run) == "succeeded"
    assert await faults(board) == []
    posted = await play.kinds(run, "task.posted")
    assert posted == [f"task.posted {t}" for t in ("/s1", "/1.a", "/1.b", "/s2")]


async def test_g4_scripts_the_server_forgot_are_sent_again(redis_board: Board) -> None:
    play = scene(redis_board)
    run = await play.run(spec("a"))
    for _ in range(2):
        await redis_board.client.script_flush()
        claim = await play.one()
        await redis_board.client.script_flush()
        await redis_board.release(claim)
    await redis_board.client.script_flush()
    assert await redis_board.cancel_run(run) == "cancelled"


async def test_g4_connections_killed_all_the_time_end_in_the_same_answer(
    redis_board: Board, redis_server: RedisServer
) -> None:
    with redis_server.client() as operator:

        async def kill() -> None:
            for _ in range(40):
                await asyncio.to_thread(operator.execute_command, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await asyncio.sleep(0.01)

        await play_through(redis_board, 6, kill)


async def test_g1_a_server_killed_and_brought_back_in_the_middle_of_runs_ends_in_the_same_answer(
    server: RedisServer,
) -> None:
    async with await Board.open(server.url, lease_seconds=5.0) as board:

        async def kill() -> None:
            for pause in (0.05, 0.1):
                await asyncio.sleep(pause)
                server.kill9()
                await asyncio.sleep(0.03)
                server.start()

        await play_through(board, 8, kill)


async def test_g1_a_server_that_stays_away_is_reported_and_nothing_is_half_written(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Board.open(server.url) as board:
        monkeypatch.setattr(_script, "RETRY_SECONDS", 0.1)
        monkeypatch.setattr(board.engine, "patience_seconds", 0.1)
        play = scene(board)
        await play.run(spec("a"))
        claim = await play.one()
        server.kill9()
        with pytest.raises(EngineUnavailable):
            await board.submit("more", idempotency_key="k")
        with pytest.raises(EngineUnavailable):
            await board.complete(claim, done(claim))
        server.start()
        run = await board.submit("more", idempotency_key="k")
        assert await play.status(run) == "queued"
        await board.complete(claim, done(claim))
        assert await faults(board) == []


@pytest.mark.parametrize("sync", [False, True])
async def test_a_process_that_was_frozen_beyond_its_patience_asks_once_more(sync: bool) -> None:
    asked = 0

    def evalsha(*_: Any) -> str:
        nonlocal asked
        asked += 1
        if asked == 1:  # the reply came while nobody could read it
            raise redis.TimeoutError("Timeout reading")
        return "ok"

    async def later(*args: Any) -> str:
        return evalsha(*args)

    script = _script.load("due")
    client: Any = SimpleNamespace(evalsha=evalsha if sync else later)
    call = _script.run_sync if sync else _script.run
    reply: Any = call(client, script, [], [], seconds=0.0)
    assert (reply if sync else await reply) == "ok"


async def test_a_full_server_refuses_new_work_and_takes_every_end(server: RedisServer) -> None:
    async with await Board.open(server.url) as board:
        play = scene(board)
        other = await board.submit("other")
        step = await play.step(other)
        await play.plan(step, *(spec(k, retry=RetryPolicy(interval_seconds=0)) for k in "abcdef"))
        waiting = await board.submit("waiting")
        claims = {c.key: c for c in await play.take(n=5)}
        await board.client.config_set("maxmemory", "1")
        try:
            before = await play.snapshot()
            for refused in (board.submit("more"), play.take(), board.progress(claims["a"], 1, "task.progressed", {})):
                with pytest.raises(BoardFull, match=r"nothing was written.*maxmemory"):
                    await refused
            assert await play.snapshot() == before
            assert await play.hold(claims["a"]) == ""
            await board.complete(claims["a"], done(claims["a"]))
            assert await board.fail(claims["b"], broken(claims["b"])) == "delayed"
            await board.sweep()
            await board.release(claims["c"])
            await board.complete(claims["d"], claims["d"].completion(Status.REFUSED))
            assert await board.cancel_run(waiting) == "cancelled"
            assert await board.cancel_run(other) == "cancelling"
            assert await play.hold(claims["e"]) == "cancel"
            await board.complete(claims["e"], claims["e"].completion(Status.CANCELLED))
            assert await play.status(other) == "cancelled"
        finally:
            await board.client.config_set("maxmemory", "0")
        assert await faults(board) == []
