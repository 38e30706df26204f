"""A server that does not answer, or not yet, or cannot write: for how long it is tried, and what is told of it."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis

from blackboard import _script
from blackboard.board import Board
from blackboard.engine import open_engine
from blackboard.errors import BoardFull, EngineUnavailable
from blackboard.testing import RedisServer


@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:1/0", "unix:///nowhere/redis.sock"])
async def test_an_unreachable_server_is_tried_for_a_bounded_time_and_named(url: str) -> None:
    began = time.monotonic()
    with pytest.raises(EngineUnavailable, match=r"No Redis answered at .* within 0.3 s .*Start it") as refused:
        await open_engine(url, connect_seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 30
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_who_waits_for_a_server_is_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("blackboard._probe._SILENCE_SECONDS", 0.0)
    with pytest.raises(EngineUnavailable):
        await open_engine("redis://:hunter2@127.0.0.1:1/0", connect_seconds=0.3)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("waiting for redis://")
    assert "127.0.0.1:1" in line
    assert "hunter2" not in line


async def test_a_silence_and_its_end_are_told_once_for_all_calls(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_script, "_SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(_script._SILENCE, "_told", None)
    left = 6

    async def call() -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise redis.ConnectionError("gone")
        return "here"

    assert await asyncio.gather(_script.retrying(call), _script.retrying(call)) == ["here", "here"]
    assert [record.getMessage().split(" s")[0][:24] for record in caplog.records] == [
        "Redis has not answered f",
        "Redis answers again, aft",
    ]


async def test_a_server_that_cannot_write_to_its_disk_is_told_as_that_and_takes_up_again() -> None:
    with RedisServer() as running, running.client() as direct:
        async with await Board.open(running.url) as board:
            (running.directory / "in-the-way").mkdir()
            direct.config_set("dbfilename", "in-the-way")
            direct.config_set("save", "900 1")
            direct.bgsave()
            while direct.info("persistence")["rdb_bgsave_in_progress"]:
                await asyncio.sleep(0)
            with pytest.raises(BoardFull, match=r"cannot write to its disk.*nothing was written"):
                await board.submit("Count.")
            with pytest.raises(EngineUnavailable, match="cannot write to its disk"):
                await open_engine(running.url)
            direct.config_set("save", "")
            assert await board.submit("Count.")


async def test_a_server_that_hangs_is_given_up_in_bounded_time() -> None:
    with RedisServer() as running:
        running.stall()
        with pytest.raises(EngineUnavailable, match="No Redis answered"):
            await asyncio.wait_for(open_engine(running.url, connect_seconds=0.2), 30)
        running.resume()


async def test_a_server_that_comes_up_late_is_waited_for() -> None:
    with RedisServer() as running:
        running.kill9()
        opening = asyncio.create_task(open_engine(running.url, connect_seconds=20))
        await asyncio.sleep(0)
        await asyncio.to_thread(running.start)
        engine = await opening
        assert await engine.client().ping()
        await engine.close()
