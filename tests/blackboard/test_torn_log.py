"""G2 over two crashes: a script that was being written when its server was killed is done whole or not at all, ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import local_support
import redis.asyncio
from local_support import kill

from blackboard import _local
from blackboard._datadir import DataDir
from blackboard.engine import open_engine
from blackboard.testing import KEEPING, RedisServer

data_dir = local_support.data_dir
no_given_server = local_support.no_given_server

_TWO_WRITES = "redis.call('XADD', KEYS[1], '*', 'run', ARGV[1]) redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])"


async def _write(client: redis.asyncio.Redis, which: str) -> None:
    await client.eval(_TWO_WRITES, 2, "log", "heads", which, "x" * 100)  # type: ignore[misc]


async def _written(client: Any) -> tuple[list[str], list[str]]:
    return [event["run"] for _, event in await client.xrange("log")], sorted(await client.hkeys("heads"))


async def _rewritten(client: Any) -> None:
    async with asyncio.timeout(30):
        while True:
            said = await client.info("persistence")
            if not said["aof_rewrite_in_progress"] and not said["aof_rewrite_scheduled"]:
                return
            await asyncio.sleep(0.01)


def _tear(folder: Path) -> None:
    """The last bytes of the last script's last write never reached the file."""
    file = max(
        (each for each in folder.rglob("*.aof") if "base" not in each.name), key=lambda each: each.stat().st_mtime
    )
    os.truncate(file, file.read_bytes().rindex(b"xxxx"))


async def test_g2_half_a_script_does_not_come_back_with_the_second_restart_of_the_local_server(data_dir: Path) -> None:
    async def again(end: Callable[[Path], None]) -> redis.asyncio.Redis:
        end(data_dir)
        return (await open_engine(data_dir=data_dir, durability="local-sync")).client()

    client = (await open_engine(data_dir=data_dir, durability="local-sync")).client()
    for which in ("1", "2"):
        await _write(client, which)

    def torn(folder: Path) -> None:
        kill(folder)
        _tear(folder / "redis")

    client = await again(torn)
    assert await _written(client) == (["1"], ["1"])
    await _write(client, "3")
    await _rewritten(client)
    client = await again(kill)
    assert await _written(client) == (["1", "3"], ["1", "3"])


async def test_g2_nor_with_that_of_the_server_that_tests_kill() -> None:
    with RedisServer(options=KEEPING) as server:

        def client() -> redis.asyncio.Redis:
            connect: Any = redis.asyncio.Redis.from_url
            return connect(server.url, decode_responses=True, protocol=2)

        async with client() as first:
            await _write(first, "1")
            await _write(first, "2")
        server.kill9()
        _tear(server.directory)
        server.start()
        async with client() as second:
            assert await _written(second) == (["1"], ["1"])
            await _write(second, "3")
            await _rewritten(second)
        server.restart()
        async with client() as third:
            assert await _written(third) == (["1", "3"], ["1", "3"])


async def test_a_start_that_is_finished_by_somebody_else_asks_for_the_new_log_once(data_dir: Path) -> None:
    client = (await open_engine(data_dir=data_dir)).client()
    await client.mset({str(number): "x" for number in range(100)})
    kill(data_dir)
    client = (await open_engine(data_dir=data_dir)).client()
    await _rewritten(client)
    await client.config_set("rdb-key-save-delay", "100000")  # µs for each key: it lasts
    await client.bgrewriteaof()
    directory = DataDir(data_dir)
    begun = directory.read().server
    assert begun is not None
    assert begun.held_data
    assert _local._finish(directory, begun).socket == begun.socket  # pyright: ignore[reportPrivateUsage]
