"""Following a run: nothing of its log missed or repeated, whoever comes when and whatever the server does meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from strict import Play, broken, done, spec

from blackboard import events, feed
from blackboard.board import Board
from blackboard.errors import UnknownRecord
from blackboard.events import Event
from blackboard.testing import KEEPING, RedisServer

VOLATILE = {"task.ready", "task.claimed", "task.released"}


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by the clock: what happens here happens because somebody was told of it."""
    monkeypatch.setattr(feed, "RECONCILE_SECONDS", 3600.0)


def short(event: Event) -> str:
    return event.type[len(events.PREFIX) : -len(events.SUFFIX)]


async def work(play: Play, run: str, rounds: int = 3) -> None:
    for _ in range(rounds):
        await play.plan(await play.step(run), spec("a"), spec("b", ["a"]))
        claim = await play.one()
        await play.board.progress(claim, 1, "task.progressed", {"p": 0.5})
        await play.board.complete(claim, done(claim))
        claim = await play.one()
        await play.board.release(claim)
        claim = await play.one()
        await play.board.complete(claim, broken(claim))
    await play.plan(await play.step(run), answer="x")


def scene(board: Board) -> Play:
    return Play(board, None)  # type: ignore[arg-type]


async def test_g9_a_watcher_sees_the_whole_log_once_in_order_and_volatile_events_in_between(board: Board) -> None:
    play = scene(board)
    run = await board.submit("go")
    seen: list[Event] = []

    async def watch() -> None:
        async for event in board.watch(run):
            seen.append(event)

    watcher = asyncio.create_task(watch())
    while not seen:
        await asyncio.sleep(0)
    await work(play, run)
    await asyncio.wait_for(watcher, 30)
    assert [e.id for e in seen if short(e) not in VOLATILE] == [e.id for e in await board.history(run)]
    assert {short(e) for e in seen} >= VOLATILE
    assert len({e.id for e in seen}) == len(seen)
    for task in {e.subject for e in seen}:
        versions = [int(e.id.rpartition(":")[2]) for e in seen if e.subject == task]
        assert versions == sorted(versions), (task, versions)


async def test_a_watcher_who_comes_late_gets_the_log_from_its_beginning(board: Board) -> None:
    run = await board.submit("go")
    await work(scene(board), run)
    seen = [event async for event in board.watch(run)]
    assert [e.id for e in seen] == [e.id for e in await board.history(run)]
    assert short(seen[-1]) == "run.completed"


async def test_many_watchers_who_come_at_any_time_all_see_the_same_log(board: Board) -> None:
    run = await board.submit("go")

    async def watch(delay: int) -> list[str]:
        for _ in range(delay):
            await asyncio.sleep(0)
        return [e.id async for e in board.watch(run) if short(e) not in VOLATILE]

    watchers = [asyncio.create_task(watch(40 * i)) for i in range(8)]
    await work(scene(board), run)
    expected = [e.id for e in await board.history(run)]
    for ids in await asyncio.wait_for(asyncio.gather(*watchers), 30):
        assert ids == expected


async def test_g9_whoever_waits_for_the_end_sees_the_log_and_nothing_else(board: Board) -> None:
    run = await board.submit("go")
    waiting = [asyncio.create_task(_logged(board, run)) for _ in range(2)]
    await asyncio.sleep(0.01)
    await work(scene(board), run)
    waiting.append(asyncio.create_task(_logged(board, run)))
    expected = [e.id for e in await board.history(run)]
    for ids in await asyncio.wait_for(asyncio.gather(*waiting), 30):
        assert ids == expected
    with pytest.raises(UnknownRecord):
        await _logged(board, "nobody")


async def deaf(*_: object) -> None:
    """In place of the reading of a feed."""
    await asyncio.Event().wait()


async def _logged(board: Board, run: str) -> list[str]:
    return [e.id async for e in board.watch(run, volatile=False)]


async def test_so_many_ends_are_waited_for_with_a_connection_each_and_the_others_by_the_feed(
    redis_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_WAITING", 2)
    runs = [await redis_board.submit(f"r{i}") for i in range(4)]
    waiting = [asyncio.create_task(_logged(redis_board, run)) for run in runs]
    while len(redis_board.feed._listeners) < 2:  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0.001)
    assert set(redis_board.feed._listeners) == set(runs[2:])  # pyright: ignore[reportPrivateUsage]
    for run in runs:
        await redis_board.cancel_run(run)
    for ids, run in zip(await asyncio.wait_for(asyncio.gather(*waiting), 30), runs, strict=True):
        assert ids == [e.id for e in await redis_board.history(run)]
    await asyncio.wait_for(_logged(redis_board, runs[0]), 30)
    assert not redis_board.feed._waiting  # pyright: ignore[reportPrivateUsage]


async def test_whoever_waits_for_the_end_needs_no_notice_from_the_feed(
    redis_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed.Feed, "_tail", deaf)
    run = await redis_board.submit("go")
    waiting = asyncio.create_task(_logged(redis_board, run))
    await asyncio.sleep(0.05)
    await redis_board.cancel_run(run)
    assert await asyncio.wait_for(waiting, 30) == [e.id for e in await redis_board.history(run)]


@pytest.mark.parametrize("rewound", [False, True])
async def test_whoever_waits_at_a_server_that_is_no_longer_the_primary_hears_of_the_end_from_the_other(
    redis_board: Board, monkeypatch: pytest.MonkeyPatch, rewound: bool
) -> None:
    read, cut, over = feed._read, asyncio.Event(), asyncio.Event()  # pyright: ignore[reportPrivateUsage]

    async def cut_off(*args: Any) -> list[Any]:
        if not cut.is_set():
            return await read(*args)
        await over.wait()
        return []

    monkeypatch.setattr(feed, "_read", cut_off)
    run = await redis_board.submit("go")
    waiting = redis_board.watch(run, volatile=False)
    seen = [(await anext(waiting)).id, (await anext(waiting)).id]
    cut.set()
    await redis_board.cancel_run(run)
    if rewound:  # all of it is undone, and the end is written by a clock that is behind
        client: Any = redis_board.client
        key = redis_board.shards[0].log(run)
        entries = await client.xrange(key)
        await client.delete(key)
        await client.xadd(key, entries[-1][1], id=f"{int(entries[0][0].partition('-')[0]) - 1}-0")
    over.set()
    async with asyncio.timeout(30):
        seen += [event.id async for event in waiting]
    logged = [e.id for e in await redis_board.history(run)]
    assert logged
    assert [one for one in seen if one in logged] == logged


async def test_a_watcher_catches_up_when_no_notice_reaches_it(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "RECONCILE_SECONDS", 0.05)

    monkeypatch.setattr(feed.Feed, "_tail", deaf)
    run = await board.submit("go")
    watcher = asyncio.create_task(_ids(board, run))
    await asyncio.sleep(0.01)
    await work(scene(board), run)
    assert await asyncio.wait_for(watcher, 30) == [e.id for e in await board.history(run)]


async def _ids(board: Board, run: str) -> list[str]:
    return [e.id async for e in board.watch(run)]


async def test_history_continues_after_any_event(board: Board) -> None:
    run = await board.submit("go")
    await work(scene(board), run)
    whole = await board.history(run)
    for i in (0, 5, len(whole) - 1):
        assert [e.id for e in await board.history(run, whole[i].sequence)] == [e.id for e in whole[i + 1 :]]
    assert [e.sequence for e in whole] == sorted(e.sequence for e in whole)


async def test_a_log_longer_than_a_page_is_read_whole(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_PAGE", 7)
    run = await board.submit("go")
    await work(scene(board), run, rounds=6)
    ids = [e.id for e in await board.history(run)]
    assert len(ids) == len(set(ids)) > 40
    assert await _ids(board, run) == ids


async def test_events_are_cloudevents(board: Board) -> None:
    run = await board.submit({"q": 1}, tenant="acme")
    event = (await board.history(run))[0]
    assert event.model_dump(mode="json", exclude={"time", "sequence", "data"}) == {
        "specversion": "1.0", "id": f"{run}:1", "source": f"/arbiter/arbiter/{board.name}", "type": "dev.arbiter.run.accepted.v1",
        "subject": run, "datacontenttype": "application/json", "partitionkey": run,
    }  # fmt: skip
    assert event.time.tzinfo is not None
    assert event.data.tenant == "acme"


async def test_follow_tells_of_every_run_with_data(board: Board) -> None:
    seen: list[Event] = []

    async def follow() -> None:
        async for event in board.feed.follow(board):
            seen.append(event)

    follower = asyncio.create_task(follow())
    while not board.feed._everything:  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)
    runs = [await board.submit(f"r{i}") for i in range(3)]
    for run in runs:
        await board.cancel_run(run)
    async with asyncio.timeout(30):
        while sum(short(e) == "run.completed" for e in seen) < 3:
            await asyncio.sleep(0.005)
    follower.cancel()
    for run in runs:
        assert [e.id for e in seen if e.run_id == run] == [e.id for e in await board.history(run)]


async def test_a_quiet_feed_costs_next_to_nothing(board: Board) -> None:
    run = await board.submit("go")
    watcher = asyncio.create_task(_ids(board, run))
    await asyncio.sleep(0.1)
    before = time.process_time()
    await asyncio.sleep(0.3)
    spent = time.process_time() - before
    watcher.cancel()
    assert spent < 0.15, f"a waiting watcher spent {spent:.2f} s of CPU in 0.3 s"


@pytest.mark.parametrize("volatile", [True, False])
async def test_g9_a_watcher_outlives_the_servers_death(board_name: str, volatile: bool) -> None:
    with RedisServer(options=KEEPING) as server:
        async with await Board.open(server.url, board=board_name) as board:
            play = scene(board)
            run = await board.submit("go")
            watcher = asyncio.create_task(_ids(board, run) if volatile else _logged(board, run))
            await play.plan(await play.step(run), spec("a"))
            await asyncio.sleep(0.02)
            server.kill9()
            await asyncio.sleep(0.02)
            server.start()
            claim = await play.one()
            await board.complete(claim, done(claim))
            await play.plan(await play.step(run), answer="x")
            seen = list(await asyncio.wait_for(watcher, 30))
            logged = [e.id for e in await board.history(run)]
            assert [i for i in seen if i in logged] == logged


async def test_a_watcher_waits_for_no_pause_of_the_feed(redis_board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the pause after what others wrote before it came, nor for one after what it waits for itself."""
    monkeypatch.setattr(feed, "_BITE_SECONDS", 60.0)
    other = asyncio.create_task(anext(redis_board.watch(await redis_board.submit("another's"))))
    await asyncio.wait_for(other, 30)
    await redis_board.submit("nobody's")
    for number in range(3):
        call = await redis_board.submit_call("count", {"n": number}, lane="work")
        watching = redis_board.watch(call)
        seen = [await asyncio.wait_for(anext(watching), 30) for _ in range(2)]
        (claim,) = await redis_board.claim("w", ["work"])
        await redis_board.complete(claim, done(claim))
        while short(seen[-1]) != "run.completed":
            seen.append(await asyncio.wait_for(anext(watching), 30))
        await watching.aclose()


async def test_g9_a_watcher_that_comes_back_sees_what_it_had_not_seen_and_nothing_twice(board: Board) -> None:
    play = scene(board)
    run = await board.submit("go")
    await work(play, run, rounds=2)
    log = await board.history(run)

    async def after(sequence: str) -> list[str]:
        async with asyncio.timeout(30):
            return [event.id async for event in board.watch(run, sequence) if short(event) not in VOLATILE]

    for known, event in enumerate(log, 1):
        assert await after(event.sequence) == [later.id for later in log[known:]]
    assert await after("0000000000001-000000") == [event.id for event in log]  # undone by a failover: all of it is told
