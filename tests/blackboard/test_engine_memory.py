"""``memory://``: what of Redis the scripts rely on works in it, and what it says about itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import NoScriptError, ResponseError

from blackboard import _memory
from blackboard.engine import Engine, open_engine
from blackboard.errors import MissingExtra
from blackboard.testing import RedisServer


@pytest.fixture(params=["redis", "memory"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Each kind of engine, so that what is asked of one is true of the other."""
    if request.param == "memory":
        found = await open_engine("memory://")
        yield found
        await found.close()
    else:
        with RedisServer() as server:
            found = await open_engine(server.url)
            yield found
            await found.close()


async def test_a_memory_engine_says_that_it_lasts_nothing() -> None:
    found = await open_engine("memory://")
    assert found.durability == "memory"
    assert "everything is lost" in found.label
    await found.ensure()
    await found.close()


async def test_stores_of_one_name_are_one_and_nameless_ones_are_new() -> None:
    first, same, other = [await open_engine(f"memory://{name}") for name in ("shared", "shared", "other")]
    nameless, another = await open_engine("memory://"), await open_engine("memory://")
    await first.client().set("k", "1")
    await nameless.client().set("k", "2")
    assert await same.client().get("k") == "1"
    assert same.sync_client().get("k") == "1"
    assert await other.client().get("k") is None
    assert await another.client().get("k") is None
    for found in (first, same, other, nameless, another):
        await found.close()


async def test_a_missing_extra_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'arbiter\[memory\]'"):
        await open_engine("memory://")


async def test_a_script_is_called_by_its_hash_once_it_is_known(engine: Engine) -> None:
    client, thread = engine.client(), engine.sync_client()
    with pytest.raises(NoScriptError):
        await client.evalsha("0" * 40, 0)
    assert await client.eval("return redis.call('INCR', KEYS[1])", 1, "n") == 1
    sha = await client.script_load("return redis.call('INCR', KEYS[1])")
    assert await client.evalsha(sha, 1, "n") == 2
    assert await asyncio.to_thread(thread.evalsha, sha, 1, "n") == 3


async def test_a_script_refuses_with_words_of_its_own(engine: Engine) -> None:
    with pytest.raises(ResponseError, match=r"^FENCED \| gone$"):
        await engine.client().eval("return redis.error_reply('FENCED | gone')", 0)


async def test_a_script_reads_the_clock_and_keeps_all_digits_of_a_number(engine: Engine) -> None:
    text = "local t = redis.call('TIME') return string.format('%.0f', t[1] * 1000000 + t[2])"
    assert abs(int(await engine.client().eval(text, 0)) / 1e6 - time.time()) < 5
    assert await engine.client().eval("return string.format('%.0f', 1795249573459123)", 0) == "1795249573459123"


async def test_nested_lists_pass_through_a_scripts_json(engine: Engine) -> None:
    value = {"a": [[1, 2], ["x", {"b": [True, None]}]], "text": "é\u2028", "n": 1.5}
    text = "local o = cjson.decode(ARGV[1]) o.more = {1, {2, '3'}} return cjson.encode(o)"
    assert json.loads(await engine.client().eval(text, 0, json.dumps(value))) == {**value, "more": [1, [2, "3"]]}


async def test_an_agenda_is_read_in_order_of_its_members(engine: Engine) -> None:
    text = """
        for _, member in ipairs({'b\\0' .. '1', 'a\\0' .. '2', 'a\\0' .. '1', 'c\\0' .. '1'}) do
          redis.call('ZADD', KEYS[1], 0, member)
        end
        return redis.call('ZRANGEBYLEX', KEYS[1], '[a\\0', '(a\\1', 'LIMIT', 0, 10)
    """
    assert await engine.client().eval(text, 1, "agenda") == ["a\x001", "a\x002"]


async def test_scripts_of_many_threads_do_not_interleave(engine: Engine) -> None:
    text = "local v = tonumber(redis.call('GET', KEYS[1]) or '0') redis.call('SET', KEYS[1], v + 1)"

    def many() -> None:
        client = engine.sync_client()
        for _ in range(100):
            client.eval(text, 1, "n")

    await asyncio.gather(*(asyncio.to_thread(many) for _ in range(4)))
    assert await engine.client().get("n") == "400"


async def test_a_doorbell_rung_by_a_script_wakes_one_waiter_at_once(engine: Engine) -> None:
    bells = engine.blocking_client(20)
    waiters = [asyncio.create_task(bells.blpop(["bell", "other"], timeout=20)) for _ in range(2)]
    while not all(waiter.done() for waiter in waiters):
        await engine.client().eval("redis.call('LPUSH', KEYS[1], '1')", 1, "bell")
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert any(waiter.done() for waiter in waiters)
        waiters = [waiter for waiter in waiters if not waiter.done()]


async def test_a_doorbell_rung_by_a_thread_wakes_a_waiter(engine: Engine) -> None:
    waiter = asyncio.create_task(engine.blocking_client(20).blpop(["bell"], timeout=20))
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.sync_client().rpush, "bell", "1")
    assert tuple(await asyncio.wait_for(waiter, 30)) == ("bell", "1")


async def test_a_tail_of_a_stream_sees_what_a_script_appends(engine: Engine) -> None:
    client, tail = engine.client(), engine.blocking_client(20)
    last = await client.xadd("feed", {"n": "0"})
    waiting = asyncio.create_task(tail.xread({"feed": last}, count=10, block=20_000))
    await asyncio.sleep(0)
    await client.eval("return redis.call('XADD', KEYS[1], 'MAXLEN', '~', 1000, '*', 'n', '1')", 1, "feed")
    [[name, [(position, fields)]]] = await asyncio.wait_for(waiting, 30)
    assert (name, fields) == ("feed", {"n": "1"})
    assert await client.xrange("feed", min=f"({last}", max="+", count=5) == [(position, fields)]
    assert await tail.xread({"feed": position}, block=50) in ([], {})


async def test_the_event_loop_is_free_while_a_client_waits(engine: Engine) -> None:
    waiter = asyncio.create_task(engine.blocking_client(20).blpop(["never"], timeout=20))
    turns = 0
    while turns < 50:
        await engine.client().ping()
        turns += 1
    assert not waiter.done()
    waiter.cancel()


async def test_many_callers_at_once_are_all_served(engine: Engine) -> None:
    assert sorted(await asyncio.gather(*(engine.client().incr("n") for _ in range(300)))) == list(range(1, 301))
