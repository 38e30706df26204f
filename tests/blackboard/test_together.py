"""Script calls that are made at the same time travel together, and none of them notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis

from blackboard import _together
from blackboard.engine import Engine, open_engine
from blackboard.testing import RedisServer

ECHO = "if ARGV[1] == 'no' then return redis.error_reply('REFUSED | no') end return ARGV[1]"
Echo = Callable[[str], Awaitable[Any]]


@pytest.fixture
async def engine(redis_server: RedisServer) -> AsyncIterator[Engine]:
    engine = await open_engine(redis_server.url)
    yield engine
    await engine.close()


@pytest.fixture
async def echo(engine: Engine) -> Echo:
    client: Any = engine.client()
    sha = await client.script_load(ECHO)
    return lambda text: client.evalsha(sha, 0, text)


def writes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each write of script calls carries, from here on."""
    seen: list[int] = []
    client: Any = engine.client()
    exchange = client._exchange

    async def counting(connection: Any, calls: list[Any]) -> None:
        seen.append(len(calls))
        await exchange(connection, calls)

    monkeypatch.setattr(client, "_exchange", counting)
    return seen


async def test_calls_made_at_once_go_in_one_write_and_each_gets_its_own_answer(
    engine: Engine, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = writes(engine, monkeypatch)
    assert await asyncio.gather(*(echo(f"{n}") for n in range(50))) == [f"{n}" for n in range(50)]
    assert seen == [50]
    assert await echo("alone") == "alone"
    assert seen == [50, 1]


async def test_a_call_made_while_another_is_under_way_takes_a_second_line_and_further_ones_wait(
    engine: Engine, echo: Echo, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(echo("warm"), echo("warm"))
    seen = writes(engine, monkeypatch)
    redis_server.stall()
    try:
        asked: list[asyncio.Future[Any]] = []
        for n in range(5):
            asked.append(asyncio.ensure_future(echo(f"{n}")))
            for _ in range(20):
                await asyncio.sleep(0)
        assert len(seen) <= _together.LINES
    finally:
        redis_server.resume()
    assert await asyncio.gather(*asked) == [f"{n}" for n in range(5)]
    assert sum(seen) == 5
    assert len(seen) <= _together.LINES + 1


async def test_a_refusal_among_them_is_the_refused_callers_alone(echo: Echo) -> None:
    first, no, last = await asyncio.gather(echo("a"), echo("no"), echo("b"), return_exceptions=True)
    assert (first, last) == ("a", "b")
    assert isinstance(no, redis.ResponseError)


async def test_a_caller_that_is_cancelled_leaves_the_others_their_answers(echo: Echo) -> None:
    calls = [asyncio.ensure_future(echo(f"{n}")) for n in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert (done[0], done[2]) == ("0", "2")
    assert isinstance(done[1], asyncio.CancelledError)


async def test_a_large_call_goes_alone(engine: Engine, echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = writes(engine, monkeypatch)
    large = "x" * 100_000
    assert await asyncio.gather(echo("small"), echo(large)) == ["small", large]
    assert seen == [1]


async def test_a_connection_lost_under_way_fails_every_call_on_it_and_the_next_ones_work(
    engine: Engine, echo: Echo, redis_server: RedisServer
) -> None:
    await echo("warm")
    redis_server.stall()
    asked = [asyncio.ensure_future(echo(f"{n}")) for n in range(3)]
    await asyncio.sleep(0.02)
    with redis_server.client() as operator:
        client: Any = engine.client()
        for line in client._lines:  # as when the network drops them
            line.cancel()
        redis_server.resume()
        found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
        assert all(isinstance(one, redis.ConnectionError | redis.TimeoutError) for one in found)
        assert await echo("again") == "again"
        assert operator.ping()  # pyright: ignore[reportUnknownMemberType]


async def test_a_kept_connection_that_the_server_closed_is_not_used(
    engine: Engine, echo: Echo, redis_server: RedisServer
) -> None:
    await echo("warm")
    with redis_server.client() as operator:
        operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.02)  # the news of it arrives
    assert await echo("again") == "again"


async def test_a_server_that_cannot_be_reached_is_told_to_every_caller() -> None:
    with RedisServer() as server:
        engine = await open_engine(server.url)
        client: Any = engine.client()
        server.kill9()
        found = await asyncio.gather(*(client.evalsha("0" * 40, 0) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, redis.ConnectionError | redis.TimeoutError) for one in found)
        await engine.close()


@pytest.mark.parametrize("steps", range(4))
async def test_closing_gives_up_what_is_under_way_or_was_only_asked_for(redis_server: RedisServer, steps: int) -> None:
    engine = await open_engine(redis_server.url)
    client: Any = engine.client()
    sha = await client.script_load(ECHO)
    await client.evalsha(sha, 0, "warm")
    redis_server.stall()
    try:
        asked = [asyncio.ensure_future(client.evalsha(sha, 0, f"{n}")) for n in range(100)]
        for _ in range(steps):
            await asyncio.sleep(0)
        if not steps:
            await asyncio.wait(asked, timeout=0)  # they have asked; nothing was sent
        await engine.close()
        found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
        assert all(isinstance(one, redis.ConnectionError | redis.TimeoutError) for one in found)
    finally:
        redis_server.resume()


async def test_calls_that_wait_when_the_client_is_closed_fail_instead_of_waiting_for_ever(
    engine: Engine, echo: Echo
) -> None:
    client: Any = engine.client()
    waiting = [asyncio.ensure_future(echo(f"{n}")) for n in range(100)]
    await asyncio.sleep(0)
    await client.aclose()
    ended, still = await asyncio.wait(waiting, timeout=30)
    assert not still
    assert {type(one.exception()) for one in ended} == {redis.ConnectionError}
    assert await echo("again") == "again"
