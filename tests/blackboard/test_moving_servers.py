"""What a server says while it moves (``MOVED``, ``ASK``, ``READONLY``, ``LOADING``) is waited out, whatever was asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from redis.crc import key_slot

from blackboard.blobs import Blob
from blackboard.board import Board
from blackboard.budgets import Amounts, Budget, Budgets, Level
from blackboard.catalog import Catalog
from blackboard.schedule import Schedule
from blackboard.schedules import Schedules
from blackboard.testing import RedisServer
from blackboard.testing_several import RedisCluster, SentinelSet

LARGE = {"rows": ["x" * 1000] * 300}


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not met():
            await asyncio.sleep(0.005)


async def repeated(calls: list[Callable[[int], Awaitable[Any]]], stop: asyncio.Event) -> list[int]:
    """Each call again and again, all at once, until told to stop; how often each was answered."""

    async def again(call: Callable[[int], Awaitable[Any]]) -> int:
        number = 0
        while not stop.is_set():
            number += 1
            await call(number)
        return number

    return await asyncio.gather(*(again(call) for call in calls))


async def test_slots_move_while_runs_values_budgets_schedules_and_versions_are_used(
    redis_cluster: RedisCluster, board_name: str
) -> None:
    async with await Board.open(redis_cluster.url, board=board_name, shards=1) as board:
        budgets, schedules = Budgets(board), Schedules(board)
        catalog = Catalog(board.client, "moving", board_name)
        await budgets.set(Budget(level="board", tokens=10_000_000))
        runs: list[str] = []

        async def submit(number: int) -> None:
            runs.append(await board.submit({**LARGE, "n": number}, idempotency_key=f"k{number}"))

        async def spend(number: int) -> None:
            hold = await budgets.reserve(f"o{number}", [Level("board")], Amounts(tokens=10))
            await budgets.settle(hold, Amounts(tokens=3))

        async def schedule(number: int) -> None:
            await schedules.add(Schedule(name=f"s{number % 5}", when="rate(1 hour)", request=str(number)), replace=True)
            await schedules.sweep()

        async def register(number: int) -> None:
            sha = f"{number:064x}"
            await catalog.register(name="c", sha=sha, tenant="*", manifest="{}", source=None, artifact_sha=None)

        stop = asyncio.Event()
        counting = asyncio.create_task(repeated([submit, spend, schedule, register], stop))
        await until(lambda: len(runs) > 3)
        prefix = f"arb:{{{board.namespace}/{board.name}"
        places = (board.shards[0].tasks, prefix + "#budget}:x", f"arb:{{moving/{board_name}#reg}}:x")
        for slot in sorted({key_slot(place.encode()) for place in places}):
            source = redis_cluster.owner_of(slot)
            target = next(node for node in redis_cluster.nodes[:3] if node is not source)
            await asyncio.to_thread(redis_cluster.move_slot, slot, target)
            assert redis_cluster.owner_of(slot) is target
            known = len(runs)
            await until(lambda known=known: len(runs) > known + 2)
        stop.set()
        submitted, spent, _, registered = await asyncio.wait_for(counting, 30)

        assert len(runs) == len(set(runs)) == submitted == len(await board.runs(10_000))
        (report,) = await budgets.report("board")
        assert (report.units["tokens"].spent, report.units["tokens"].reserved) == (3 * spent, 0)
        assert len(await schedules.list()) == 5
        assert len(await catalog.shas("c")) == registered
        for number in (1, submitted):
            accepted: Any = (await board.history(runs[number - 1]))[0].data
            assert isinstance(accepted.request, Blob)
            assert await board.load(runs[number - 1], accepted.request) == {**LARGE, "n": number}


async def test_a_primary_that_became_a_replica_refuses_and_the_call_goes_to_the_new_one(board_name: str) -> None:
    with SentinelSet() as several:
        async with await Board.open(several.url, board=board_name) as board:
            runs: list[str] = []

            async def submit(number: int) -> None:
                runs.append(await board.submit(LARGE, idempotency_key=f"k{number}"))

            stop, old = asyncio.Event(), several.master()
            counting = asyncio.create_task(repeated([submit], stop))
            await until(lambda: len(runs) > 5)
            with several.sentinels[0].client() as asked:
                await asyncio.to_thread(asked.execute_command, "SENTINEL", "FAILOVER", several.service)
            await until(lambda: several.master() is not old)
            with old.client() as raw:  # what the Sentinels do in the end; connections to it stay open
                raw.execute_command("REPLICAOF", "127.0.0.1", several.master().port)
            known = len(runs) + 1  # one may have been on its way to the old one
            await until(lambda: len(runs) > known + 5)
            stop.set()
            await counting
            assert old.running
            for run in runs[known:]:
                assert (await board.summary(run)).status == "queued"


async def test_a_server_that_is_a_replica_for_a_while_is_waited_for(board_name: str) -> None:
    with RedisServer() as server, server.client() as raw:
        async with await Board.open(server.url, board=board_name) as board:
            budgets = Budgets(board)
            await budgets.set(Budget(level="board", tokens=100))
            raw.execute_command("REPLICAOF", "127.0.0.1", "1")
            calls = [
                asyncio.create_task(board.submit(LARGE, idempotency_key="a")),
                asyncio.create_task(budgets.reserve("o", [Level("board")], Amounts(tokens=10))),
                asyncio.create_task(Schedules(board).add(Schedule(name="s", when="rate(1 hour)", request="go"))),
            ]
            done, _ = await asyncio.wait(calls, timeout=0.3)
            assert not done, "a replica cannot have taken it"
            raw.execute_command("REPLICAOF", "NO", "ONE")
            run, *_ = await asyncio.wait_for(asyncio.gather(*calls), 30)
            assert (await board.summary(run)).status == "queued"


async def seen_loading(server: RedisServer, starting: asyncio.Task[None]) -> bool:
    """Whether it said that it is loading before it had started."""
    while not starting.done():
        await asyncio.sleep(0.005)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(2)
            asked.connect(str(server.socket))
            asked.sendall(b"PING\r\n")
            if asked.recv(100).startswith(b"-LOADING"):
                return True
    return False


async def test_a_server_that_loads_its_data_is_waited_for(board_name: str) -> None:
    slowly = ("--key-load-delay", "4000")
    with RedisServer(options=slowly) as server:
        async with await Board.open(server.url, board=board_name) as board:
            before = await board.submit("before", idempotency_key="before")
            with server.client() as raw:
                raw.mset({f"k{number}": os.urandom(10_000).hex() for number in range(300)})  # it looks up at every 2 MB
                raw.bgrewriteaof()
                await until(lambda: not raw.info("persistence")["aof_rewrite_in_progress"])
                await until(lambda: not raw.info("persistence")["aof_rewrite_scheduled"])
            for _ in range(10):  # until it is seen loading, which lasts a second
                server.kill9()
                starting = asyncio.create_task(asyncio.to_thread(server.start))
                if await seen_loading(server, starting):
                    break
                await starting
            else:
                raise AssertionError("the server was never seen loading: nothing is tested")
            assert await asyncio.wait_for(board.submit("before", idempotency_key="before"), 30) == before
            await starting
            assert len(await board.runs()) == 1
