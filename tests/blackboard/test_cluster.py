"""Several shards and several servers: every shard's work is found at once, and failovers and resharding lose no run."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis
from redis.crc import key_slot

from blackboard import _keys, events, feed, worker
from blackboard.attempt import Attempt, Handler
from blackboard.board import STEP_LANE, Board
from blackboard.engine import open_engine
from blackboard.errors import BadInput, EngineUnavailable
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.heartbeat import Heartbeat
from blackboard.sweeper import Sweeper
from blackboard.testing import RedisServer
from blackboard.testing_several import RedisCluster, SentinelSet
from blackboard.types import Completion, Limits, Status, TaskSpec
from blackboard.worker import Worker

TASKS = 3


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by the clock: what happens here happens because somebody was told of it."""
    monkeypatch.setattr(worker, "BELL_SECONDS", 3600.0)
    monkeypatch.setattr(feed, "RECONCILE_SECONDS", 3600.0)


async def play(attempt: Attempt) -> Completion | None:
    """The planner and the worker of a run of two rounds: some tasks, then an answer."""
    claim, board = attempt.claim, attempt.board
    if claim.kind != "step":
        return claim.completion(Status.SUCCEEDED, data=claim.key)
    planned = RoundPlannedData(round=claim.round, message={"role": "assistant", "content": []})
    tasks, outcome = [], None
    if claim.round == 1:
        tasks = [TaskSpec(key=f"t{n}", tool_use_id=f"t{n}", capability="c", lane="work") for n in range(TASKS)]
    else:
        outcome = RunCompletedData(status="succeeded", answer="done", rounds=claim.round)
    await board.commit_step(claim, planned, tasks, Limits(), outcome)
    return None


@asynccontextmanager
async def working(*boards: Board, concurrency: int = 8, handle: Handler = play) -> AsyncIterator[None]:
    """A worker and a sweeper of each board, as so many processes would have."""
    crew: list[tuple[Heartbeat, Worker, asyncio.Task[None], asyncio.Task[None]]] = []
    for board in boards:
        heartbeat = Heartbeat(board)
        worker = Worker(board, heartbeat, "w", [STEP_LANE, "work"], handle, concurrency=concurrency)
        crew.append((heartbeat, worker, asyncio.create_task(worker.run()), asyncio.create_task(Sweeper(board).run())))
    try:
        yield
    finally:
        for heartbeat, worker, running, sweeping in crew:
            sweeping.cancel()
            await worker.drain(1)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(running, sweeping)
            heartbeat.close()


async def followed(board: Board, run: str) -> list[str]:
    """The ids of the run's log as a watcher gets them, to its end."""
    volatile = {"dev.arbiter.task.ready.v1", "dev.arbiter.task.claimed.v1", "dev.arbiter.task.released.v1"}
    return [event.id async for event in board.watch(run) if event.type not in volatile]


async def on_every_shard(board: Board) -> list[str]:
    """A run on each shard."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < len(board.shards):
        number += 1
        key = f"k{number}"
        shard = _keys.shard_number(_run_id(key), len(board.shards))
        if shard not in found:
            found[shard] = await board.submit("go", idempotency_key=key)
    assert {board.shard_of(run).number for run in found.values()} == set(range(len(board.shards)))
    return list(found.values())


def _run_id(key: str) -> str:
    return "r" + hashlib.sha256(f"default\0{key}".encode()).hexdigest()[:23]


@pytest.fixture(params=["shards", "cluster"])
async def wide(request: pytest.FixtureRequest, board_name: str) -> AsyncIterator[Board]:
    """A board of several shards on one server, and on a cluster."""
    place = request.getfixturevalue("redis_server" if request.param == "shards" else "redis_cluster")
    async with await Board.open(place.url, board=board_name, lease_seconds=2.0, shards=5) as board:
        yield board


async def test_runs_on_every_shard_are_worked_on_and_a_sleeping_worker_is_woken_by_each(wide: Board) -> None:
    async with working(wide):
        await asyncio.gather(*(followed(wide, run) for run in await on_every_shard(wide)))
        await asyncio.sleep(0.2)  # asleep again
        for shard in range(len(wide.shards)):
            key = next(f"s{n}" for n in range(1000) if _keys.shard_number(_run_id(f"s{n}"), 5) == shard)
            run = await wide.submit("go", idempotency_key=key)
            await asyncio.wait_for(followed(wide, run), 30)
    assert {run.status for run in await wide.runs()} == {"succeeded"}


async def test_an_idle_worker_asks_each_shard_once_and_sleeps(wide: Board) -> None:
    asked: list[int] = []
    claim = wide.claim_or_wait

    async def counting(*args: object, shard: int = 0, **more: object) -> object:
        asked.append(shard)
        return await claim(*args, shard=shard, **more)  # type: ignore[arg-type]

    wide.claim_or_wait = counting  # type: ignore[method-assign,assignment]
    async with working(wide):
        async with asyncio.timeout(30):
            while len(asked) < 5:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert sorted(asked) == list(range(5))


async def test_the_number_of_shards_is_fixed_when_the_board_is_made(
    redis_server: RedisServer, redis_cluster: RedisCluster, board_name: str
) -> None:
    async with await Board.open(redis_server.url, board=board_name, shards=3):
        pass
    async with await Board.open(redis_server.url, board=board_name) as again:
        assert len(again.shards) == 3
    with pytest.raises(BadInput, match="has 3, for good"):
        await Board.open(redis_server.url, board=board_name, shards=4)
    with pytest.raises(BadInput, match="Use 1 to"):
        await Board.open(redis_server.url, board=board_name, shards=0)
    async with await Board.open(redis_cluster.url, board=board_name) as wide:
        assert len(wide.shards) == 16


async def test_more_calls_at_once_than_a_node_takes_connections_all_succeed(redis_cluster: RedisCluster) -> None:
    engine = await open_engine(redis_cluster.url)
    try:
        client = engine.client()
        found = await asyncio.gather(*(client.incr("{x}n") for _ in range(400)))  # type: ignore[misc]
        assert sorted(found) == list(range(1, 401))
    finally:
        await engine.close()


async def test_a_cluster_is_asked_once_where_its_commands_have_keys_and_when_it_notices_a_death(
    redis_cluster: RedisCluster,
) -> None:
    def each(*words: str) -> list[str]:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(node.client()) for node in redis_cluster.nodes]
            return [str(client.execute_command(*words)) for client in clients]

    def asked() -> int:
        told = "".join(each("INFO", "commandstats"))
        return sum(map(int, re.findall(r"'cmdstat_command': {'calls': (\d+)", told)))

    each("CONFIG", "SET", "cluster-node-timeout", "20000")
    engine = None
    try:
        before = asked()
        engine = await open_engine(redis_cluster.url)
        assert engine.patience_seconds == 45
        clients = engine.client(), engine.blocking_client(1.0)
        assert [await client.get("{x}never") for client in clients] == [None, None]
        assert asked() == before + 1
        # The keys of this command are not where they always are: each client asks on a connection of its own.
        assert [await client.xread({"{x}log": "0"}) for client in clients] == [[], []]
    finally:
        each("CONFIG", "SET", "cluster-node-timeout", "5000")
        if engine is not None:
            await engine.close()


async def test_a_wrong_kind_of_url_is_answered_with_the_right_one(
    redis_cluster: RedisCluster, sentinel_set: SentinelSet
) -> None:
    with RedisServer(tcp=True) as single:
        for kind, words in (("cluster", "single server and no cluster"), ("sentinel", "is no Sentinel")):
            end = "/main" if kind == "sentinel" else ""
            with pytest.raises(EngineUnavailable, match=words):
                await open_engine(f"redis+{kind}://127.0.0.1:{single.port}{end}", connect_seconds=1)
    port = redis_cluster.nodes[0].port
    with pytest.raises(EngineUnavailable, match=rf"Write redis\+cluster://127.0.0.1:{port} instead"):
        await open_engine(f"redis://127.0.0.1:{port}")
    with pytest.raises(EngineUnavailable, match="It knows: main"):
        await open_engine(sentinel_set.url.replace("/main/", "/other/"))
    with pytest.raises(EngineUnavailable, match=r"Write redis\+sentinel://127.0.0.1:\d+/service/0"):
        await open_engine(f"redis://127.0.0.1:{sentinel_set.sentinels[0].port}")


async def test_g3_runs_survive_the_death_of_a_primary_of_the_cluster_and_the_move_of_a_slot(board_name: str) -> None:
    with RedisCluster() as cluster:
        async with (
            await Board.open(cluster.url, board=board_name, lease_seconds=3.0, shards=6) as one,
            await Board.open(cluster.url, board=board_name, lease_seconds=3.0) as two,
            working(one, two),
        ):
            # A slot is moved while its runs go on.
            run = await one.submit("first")
            slot = key_slot(one.shard_of(run).tasks.encode())
            source = cluster.owner_of(slot)
            target = next(node for node in cluster.nodes[:3] if node is not source)
            watcher = asyncio.create_task(followed(two, run))
            await asyncio.to_thread(cluster.move_slot, slot, target)
            assert await asyncio.wait_for(watcher, 30) == [event.id for event in await two.history(run)]
            assert cluster.owner_of(slot) is target

            # A primary dies; the shards of the others go on meanwhile.
            victim = cluster.owner(one.shards[0].tasks)
            runs = await on_every_shard(one)
            watchers = {run: asyncio.create_task(followed(two, run)) for run in runs}
            victim.kill9()
            late = await on_every_shard_but(one, cluster, victim)
            await asyncio.wait_for(asyncio.gather(*(followed(two, run) for run in late)), 30)
            seen = await asyncio.wait_for(asyncio.gather(*watchers.values()), 30)
            for run, ids in zip(watchers, seen, strict=True):
                logged = [event.id for event in await two.history(run)]
                assert [i for i in ids if i in logged] == logged
                assert (await one.summary(run)).status == "succeeded"


async def on_every_shard_but(board: Board, cluster: RedisCluster, victim: RedisServer) -> list[str]:
    """Runs on shards whose primary lives."""
    alive = set()
    for shard in board.shards:
        with contextlib.suppress(LookupError, redis.RedisError):
            if cluster.owner(shard.tasks) is not victim:
                alive.add(shard.number)
    assert 0 < len(alive) < len(board.shards)
    keys = [f"late{n}" for n in range(200) if _keys.shard_number(_run_id(f"late{n}"), len(board.shards)) in alive][:4]
    return [await board.submit("go", idempotency_key=key) for key in keys]


async def test_g3_runs_survive_the_death_of_the_primary_behind_sentinels(board_name: str) -> None:
    with SentinelSet() as several:
        async with (
            await Board.open(several.url, board=board_name, lease_seconds=3.0) as one,
            await Board.open(several.url, board=board_name, lease_seconds=3.0) as two,
            working(one, two),
        ):
            await asyncio.wait_for(followed(one, await one.submit("before")), 30)
            runs = [await one.submit("go") for _ in range(5)]
            watchers = [asyncio.create_task(followed(two, run)) for run in runs]
            several.master().kill9()
            runs.append(await one.submit("during"))
            seen = await asyncio.wait_for(asyncio.gather(*watchers, followed(two, runs[-1])), 30)
            for run, ids in zip(runs, seen, strict=True):
                logged = [event.id for event in await two.history(run)]
                assert [i for i in ids if i in logged] == logged
                assert (await one.summary(run)).status == "succeeded"


async def test_g1_a_board_says_that_it_is_replicated_and_waits_while_a_replica_is_missing(
    sentinel_set: SentinelSet, board_name: str
) -> None:
    with sentinel_set.master().client() as primary:
        try:
            primary.config_set("min-replicas-to-write", 1)
            async with await Board.open(sentinel_set.url, board=board_name) as board:
                assert board.durability == "replicated"
                primary.config_set("min-replicas-to-write", 2)  # there is one
                submitting = asyncio.create_task(board.submit("go"))
                await asyncio.sleep(0.2)
                assert not submitting.done()
                primary.config_set("min-replicas-to-write", 1)
                assert (await board.summary(await asyncio.wait_for(submitting, 30))).status == "queued"
        finally:
            primary.config_set("min-replicas-to-write", 0)


async def test_g9_a_watcher_of_a_rewound_log_is_told_what_the_log_says_now(
    redis_server: RedisServer, board_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await Board.open(redis_server.url, board=board_name) as board:
        run = await board.submit("go")
        shard, client = board.shard_of(run), board.client
        names = (shard.feed, shard.log(run))
        with redis.Redis.from_url(redis_server.url) as raw:
            kept = {name: raw.dump(name) for name in names}
            seen: list[str] = []
            told: list[tuple[str, str]] = []

            async def watch() -> None:
                async for event in board.watch(run):
                    seen.append(event.sequence)
                    told.append((event.sequence, event.type))  # feed and log count their places apart

            watcher = asyncio.create_task(watch())
            while len(seen) < 2:
                await asyncio.sleep(0.01)
            (step,) = await board.claim("w", [STEP_LANE])
            await board.progress(step, 1, "task.progressed", {"lost": True})
            while not any(s > seen[1] for s in seen[2:]) or len(seen) < 4:
                await asyncio.sleep(0.01)
            # A replica without the last events becomes primary, and its clock is behind.
            for name, value in kept.items():
                raw.restore(name, 0, value, replace=True)
            last = await client.xrevrange(shard.log(run), count=1)
            ms, _, number = last[0][0].partition("-")
            new = f"{ms}-{int(number) + 1}"
            fields = {
                "type": "task.progressed",
                "subject": step.task_id,
                "id": f"{step.task_id}:9",
                "data": '{"new":1}',
            }
            raw.xadd(shard.log(run), fields, id=new)
            for connection in raw.client_list():
                if connection["cmd"].startswith("xread"):
                    raw.client_kill_filter(_id=connection["id"])
            expected = events.parse(new, fields, run, board.source).sequence
            async with asyncio.timeout(30):
                while expected not in seen:
                    await asyncio.sleep(0.01)
            assert len(told) == len(set(told))
            assert "was rewound" in caplog.text
            watcher.cancel()


async def test_g6_heartbeats_keep_long_tasks_on_several_shards_of_a_cluster(
    redis_cluster: RedisCluster, board_name: str
) -> None:
    async def slowly(attempt: Attempt) -> Completion | None:
        claim = attempt.claim
        if claim.kind != "step":
            lease = board.shard_of(claim.run_id).prefix + "lease"
            first = await board.client.zscore(lease, claim.task_id)
            while not await board.client.zscore(lease, claim.task_id) > first:
                await asyncio.sleep(0.01)
        return await play(attempt)

    async with await Board.open(redis_cluster.url, board=board_name, lease_seconds=60.0, shards=3) as board:
        async with working(board, concurrency=12, handle=slowly):
            runs = await on_every_shard(board)
            await asyncio.wait_for(asyncio.gather(*(followed(board, run) for run in runs)), 30)
        for run in runs:
            ends = [event for event in await board.history(run) if event.type == "dev.arbiter.task.completed.v1"]
            assert {event.data.attempts for event in ends} == {1}
