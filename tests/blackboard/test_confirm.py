"""Durable transitions: acknowledged when replicas have them, refused where nobody could, repeatable without effect."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from arbiter import Arbiter
from blackboard import confirm
from blackboard.board import STEP_LANE, Board
from blackboard.confirm import Confirm
from blackboard.errors import BadInput, EngineUnavailable, Fenced, Unconfirmed
from blackboard.events import RoundPlannedData
from blackboard.testing import RedisServer
from blackboard.testing_several import RedisCluster, SentinelSet
from blackboard.types import Completion, Limits, Status, TaskSpec

QUICK = Confirm(seconds=0.05)
MESSAGE: dict[str, Any] = {"role": "assistant", "content": []}
KEY = "k"


class Set:
    """Servers with replicas, of one kind or the other."""

    def __init__(self, several: RedisCluster | SentinelSet) -> None:
        self.several, self.url = several, several.url

    def primary(self, board: Board, run: str) -> RedisServer:
        several = self.several
        return several.owner(board.shard_of(run).tasks) if isinstance(several, RedisCluster) else several.master()

    def replicas(self) -> list[RedisServer]:
        several = self.several
        if isinstance(several, RedisCluster):
            return several.nodes[3:]
        primary = several.master()
        return [server for server in several.servers if server is not primary]

    @asynccontextmanager
    async def silenced(self) -> AsyncIterator[None]:
        """No replica takes anything; connections stay open."""
        silent = self.replicas()
        for replica in silent:
            replica.stall()
        try:
            yield
        finally:
            for replica in silent:
                replica.resume()


@pytest.fixture(params=["cluster", "sentinel"])
def servers(request: pytest.FixtureRequest) -> Set:
    return Set(request.getfixturevalue("redis_cluster" if request.param == "cluster" else "sentinel_set"))


@pytest.fixture
async def sure(servers: Set, board_name: str) -> AsyncIterator[Board]:
    """A board whose every transition is to be confirmed."""
    async with await Board.open(servers.url, board=board_name, confirm=QUICK, shards=3) as board:
        yield board


async def confirmed(call: Callable[[], Any]) -> Any:
    """The reply of a call that is repeated until it is confirmed."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except Unconfirmed:
                await asyncio.sleep(0.02)


async def step_of(board: Board, run: str) -> Any:
    found = await board.claim("w", [STEP_LANE], n=100, shard=board.shard_of(run).number)
    return next(claim for claim in found if claim.run_id == run)


async def test_g1_an_unconfirmed_run_exists_and_the_same_call_confirms_it_later(sure: Board, servers: Set) -> None:
    assert sure.durability == "confirmed"
    async with servers.silenced():
        with pytest.raises(Unconfirmed, match=r"0 of 1 replicas within 0.05 s\. Repeat the call"):
            await sure.submit("go", idempotency_key=KEY)
        (known,) = await sure.runs()
        # Repeated, it writes nothing; nobody has heard of it all the same.
        with pytest.raises(Unconfirmed):
            await sure.submit("go", idempotency_key=KEY)
    assert await confirmed(lambda: sure.submit("go", idempotency_key=KEY)) == known.id
    assert [event.type for event in await sure.history(known.id)].count("dev.arbiter.run.accepted.v1") == 1


async def test_g1_a_repeated_call_is_not_confirmed_by_what_its_connection_wrote_before(
    sure: Board, servers: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[Any]] = []
    together = confirm._together

    async def watching(client: Any, key: str, commands: Any) -> list[Any]:
        sent.append([command[0] for command in commands])
        return await together(client, key, commands)

    monkeypatch.setattr(confirm, "_together", watching)
    run = await confirmed(lambda: sure.submit("go", idempotency_key=KEY))
    with servers.primary(sure, run).client() as raw:
        before = raw.info("replication")["master_repl_offset"]
        sent.clear()
        await confirmed(lambda: sure.submit("go", idempotency_key=KEY))
        assert raw.info("replication")["master_repl_offset"] > before, "nothing was written for WAIT to wait for"
    assert sent[-1] == ["EVALSHA", "SET", "PEXPIRE", "WAIT"]


async def test_g1_decisions_ends_and_cancellations_are_confirmed_too(sure: Board, servers: Set) -> None:
    run = await confirmed(lambda: sure.submit("go", idempotency_key=KEY))
    step = await step_of(sure, run)
    tasks = [TaskSpec(key=key, tool_use_id=key, capability="c", lane="work") for key in "abc"]
    planned = RoundPlannedData(round=1, message=MESSAGE)
    async with servers.silenced():
        with pytest.raises(Unconfirmed):
            await sure.commit_step(step, planned, tasks, Limits())
    await confirmed(lambda: sure.commit_step(step, planned, tasks, Limits()))
    one, two, _ = await sure.claim("w", ["work"], n=3, shard=sure.shard_of(run).number)
    done = one.completion(Status.SUCCEEDED, data=1)
    async with servers.silenced():
        with pytest.raises(Unconfirmed):
            await sure.complete(one, done)
        with pytest.raises(Unconfirmed):
            await sure.cancel_run(run)
    await confirmed(lambda: sure.complete(one, done))
    assert await confirmed(lambda: sure.cancel_run(run)) == "cancelling"
    stale = dataclasses.replace(two, fence=str(int(two.fence) - 1))
    with pytest.raises(Fenced):  # refusals are told as ever
        await sure.complete(stale, two.completion(Status.SUCCEEDED, data=1))
    ends = [e for e in await sure.history(run) if isinstance(e.data, Completion) and e.subject == one.task_id]
    assert len(ends) == 1


async def test_g1_a_single_call_is_durable_on_request_and_others_wait_for_nobody(
    servers: Set, board_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Board.open(servers.url, board=board_name, shards=3) as board:
        async with servers.silenced():
            await board.submit("plain", idempotency_key=KEY)
            with pytest.raises(Unconfirmed):
                await board.submit("plain", idempotency_key=KEY, durable=True)
        run = await confirmed(lambda: board.submit("plain", idempotency_key=KEY, durable=True))
        step = await step_of(board, run)
        spec = TaskSpec(key="a", tool_use_id="a", capability="c", lane="work")
        planned = RoundPlannedData(round=1, message=MESSAGE)
        await confirmed(lambda: board.commit_step(step, planned, [spec], Limits(), durable=True))
        (claim,) = await board.claim("w", ["work"], shard=board.shard_of(run).number)
        await confirmed(lambda: board.complete(claim, claim.completion(Status.SUCCEEDED, data=1), durable=True))
        assert board.durability != "confirmed"

        def never(*_: Any, **__: Any) -> Any:
            raise AssertionError("a plain call does not wait")

        monkeypatch.setattr(confirm, "run", never)
        await board.submit("another")


async def test_g1_a_durable_call_finds_the_slot_that_moved_and_the_script_that_was_forgotten(
    redis_cluster: RedisCluster, board_name: str
) -> None:
    from redis.crc import key_slot

    async with await Board.open(redis_cluster.url, board=board_name, shards=1, confirm=Confirm(seconds=2)) as board:
        await confirmed(lambda: board.submit("before", idempotency_key="before"))
        slot = key_slot(board.shards[0].tasks.encode())
        source = redis_cluster.owner_of(slot)
        target = next(node for node in redis_cluster.nodes[:3] if node is not source)
        await asyncio.to_thread(redis_cluster.move_slot, slot, target)
        with target.client() as raw:
            raw.script_flush()
        run = await confirmed(lambda: board.submit("after", idempotency_key="after", durable=True))
        assert (await board.summary(run)).status == "queued"
        assert len(await board.runs()) == 2


async def test_g1_durable_calls_outlast_the_death_of_the_primary_and_no_confirmed_run_is_lost(board_name: str) -> None:
    with SentinelSet(replicas=2) as several:
        async with await Board.open(several.url, board=board_name, confirm=Confirm(seconds=1)) as board:
            for number in range(5):
                await confirmed(lambda n=number: board.submit("go", idempotency_key=f"k{n}"))
            several.master().kill9()
            late = await confirmed(lambda: board.submit("late", idempotency_key="late"))
            assert len(await board.runs()) == 6
            assert (await board.summary(late)).status == "queued"


async def test_a_full_primary_still_confirms_the_end_of_work() -> None:
    with SentinelSet() as several:
        async with await Board.open(several.url, confirm=Confirm(seconds=1)) as board:
            run = await confirmed(lambda: board.submit("go", idempotency_key=KEY))
            step = await step_of(board, run)
            with several.master().client() as raw:
                raw.config_set("maxmemory", 1)
                done = step.completion(Status.CANCELLED)
                for _ in range(2):
                    await confirmed(lambda: board.complete(step, done))
                raw.config_set("maxmemory", 0)
            assert (await board.summary(run)).status != "queued"


async def test_what_nobody_can_confirm_is_refused_before_anything_is_written(
    redis_server: RedisServer, board_name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARBITER_REDIS_URL", raising=False)
    with pytest.raises(BadInput, match="memory:// lasts as long as this process"):
        await Board.open("memory://", confirm=Confirm())
    with pytest.raises(EngineUnavailable, match="has 0 replicas connected, and durable transitions ask for 1"):
        await Board.open(redis_server.url, board=board_name, confirm=Confirm())
    async with await Board.open(redis_server.url, board=board_name) as board:
        with pytest.raises(EngineUnavailable, match="0 replicas connected"):
            await board.submit("go", durable=True)
        assert await board.runs() == []
    async with await Board.open("memory://", board=board_name) as board:
        with pytest.raises(BadInput, match="memory://"):
            await board.submit("go", durable=True)
    for wrong in ({"replicas": 0}, {"seconds": 0}, {"seconds": 5}):
        with pytest.raises(BadInput, match="confirm"):
            Confirm(**wrong)


LOGGED = Confirm(replicas=0, seconds=2, logged=True)


async def test_a_logged_confirmation_waits_for_the_file_of_the_primary(
    valkey_server: RedisServer, board_name: str
) -> None:
    async with await Board.open(valkey_server.url, board=board_name, confirm=LOGGED) as board:
        run = await board.submit("go", idempotency_key=KEY)
        with valkey_server.client() as raw:
            raw.config_set("appendonly", "no")
            try:
                with pytest.raises(Unconfirmed):
                    await board.submit("more", idempotency_key="more")
            finally:
                raw.config_set("appendonly", "yes")
        valkey_server.restart()
        assert await board.submit("go", idempotency_key=KEY) == run
        assert (await board.summary(run)).status == "queued"


async def test_a_logged_confirmation_needs_a_server_that_knows_it(redis_server: RedisServer, board_name: str) -> None:
    with redis_server.client() as raw:
        if "waitaof" in raw.command():
            pytest.skip("this server knows it")
    with pytest.raises(EngineUnavailable, match="cannot confirm with WAITAOF"):
        await Board.open(redis_server.url, board=board_name, confirm=LOGGED)


async def test_the_sdk_makes_one_submission_or_all_its_transitions_durable(
    sentinel_set: SentinelSet, board_name: str
) -> None:
    both = Set(sentinel_set)
    async with Arbiter(sentinel_set.url, board=board_name, roles=()) as plain:
        async with both.silenced():
            run = await plain.submit("go", idempotency_key=KEY)
            with pytest.raises(Unconfirmed):
                await plain.submit("go", idempotency_key=KEY, durable=True)
        assert await confirmed(lambda: plain.submit("go", idempotency_key=KEY, durable=True)) == run
    async with Arbiter(sentinel_set.url, board=board_name, roles=(), durable=QUICK) as sure:
        assert sure.board.durability == "confirmed"
        async with both.silenced():
            with pytest.raises(Unconfirmed):
                await sure.submit("more", idempotency_key="more")
