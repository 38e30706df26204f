"""Durable subscriptions: every event to somebody, in the order of its run, whoever dies; and what is gone is said."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import Any

import pytest
import subscribers
from strict import Play, killed, spec, watched_play
from subscribers import RUNS, ids, quiet, some, work

from blackboard import feed
from blackboard.board import Board
from blackboard.ending import end
from blackboard.events import Event
from blackboard.retention import retire
from blackboard.subscriptions import BATCH, Gap, Subscriber, Subscription, Subscriptions

play = watched_play
told = subscribers.told


async def test_every_event_of_every_run_comes_once_in_the_order_of_its_run_with_data(board: Board) -> None:
    async with board.subscribe("s") as events:
        runs = [await board.submit(f"r{number}", tenant="acme") for number in range(5)]
        for run in runs:
            await board.cancel_run(run)
        logs = {run: await board.history(run) for run in runs}
        found = await some(events, sum(len(log) for log in logs.values()))
        assert await quiet(events)
    for run, log in logs.items():
        assert [event.model_copy(update={"sequence": ""}) for event in found if event.run_id == run] == [
            event.model_copy(update={"sequence": ""}) for event in log
        ]


async def test_what_is_told_by_the_feed_alone_comes_too(play: Play) -> None:
    async with play.board.subscribe("s", kinds=["task.claimed", "task.released"]) as events:
        await play.run(spec("a"))
        await play.board.release(await play.one())
        assert [event.kind for event in await some(events, 3)] == ["task.claimed", "task.claimed", "task.released"]


async def test_whoever_waits_is_told_of_what_happens(board: Board) -> None:
    async with board.subscribe("s", kinds=RUNS) as events:
        waiting = asyncio.create_task(some(events, 1))
        while not board.feed._everything:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.001)
        run = await board.submit("go")
        assert ids(await waiting, run) == [f"{run}:1"]


async def test_a_name_goes_on_where_it_was_and_begins_where_it_is_told(board: Board) -> None:
    first = await board.submit("first")
    async with board.subscribe("now", kinds=RUNS) as events:
        second = await board.submit("second")
        assert [event.run_id for event in await some(events, 1)] == [second]
    third = await board.submit("third")
    async with board.subscribe("now", kinds=RUNS, after="beginning") as events:
        assert [event.run_id for event in await some(events, 1)] == [third]
    async with board.subscribe("all", kinds=RUNS, after="beginning") as events:
        assert {event.run_id for event in await some(events, 3)} == {first, second, third}


async def test_whoever_comes_back_is_done_with_the_one_before_and_leaves_the_rest_to_others(board: Board) -> None:
    async with board.subscribe("s", kinds=RUNS) as events:
        runs = [await board.submit(f"r{number}") for number in range(3)]
        seen = [(await anext(events)).run_id for _ in range(2)]
    async with board.subscribe("s", kinds=RUNS) as events:
        assert {seen[1], *(set(runs) - {seen[0]})} == {event.run_id for event in await some(events, 2)}
        assert await quiet(events)


async def test_several_at_once_are_of_as_many_runs_and_done_with_together(board: Board) -> None:
    async with board.subscribe("s", kinds=RUNS) as events:
        runs = [await board.submit(f"r{number}") for number in range(6)]
        for run in runs:
            await board.cancel_run(run)
        seen: list[Event] = []
        while len(seen) < 18:
            batch = await events.several(4)
            assert len({event.run_id for event in batch}) == len(batch) <= 4
            seen += batch
        assert await quiet(events)
    for run in runs:
        assert [event.id for event in seen if event.run_id == run] == [f"{run}:{n}" for n in (1, 2, 3)]


async def test_several_that_were_left_go_to_others(board: Board) -> None:
    async with board.subscribe("s", kinds=RUNS) as events:
        runs = {await board.submit(f"r{number}") for number in range(6)}
        await events.several(4)
    async with board.subscribe("s", kinds=RUNS) as events:
        assert {event.run_id for event in await some(events, 6)} == runs
        assert await quiet(events)


async def test_what_the_dead_held_is_taken_over_when_the_lease_is_over_and_not_before(play: Play) -> None:
    dead = play.board.subscribe("s", kinds=RUNS, lease_seconds=10)
    await dead.start()
    runs = [await play.board.submit(f"r{number}") for number in range(4)]
    for run in runs:
        await play.board.cancel_run(run)  # run.accepted, run.cancelling and run.completed of each
    assert [(await anext(dead)).id for _ in range(3)][:2] == [f"{runs[0]}:1", f"{runs[1]}:1"]
    async with play.board.subscribe("s", kinds=RUNS, lease_seconds=10) as events:
        assert await quiet(events)
        await play.clock.advance(10)
        await play.board.submit("another")
        found = await some(events, 11)
        assert [ids(found, run)[0] for run in runs[:2]] == [f"{run}:2" for run in runs[:2]]  # done with
        assert ids(found, runs[2]) == [f"{runs[2]}:{n}" for n in (1, 2, 3)]  # in work when it died
        assert await quiet(events)


CONSUMER = """
import asyncio, sys
from blackboard.board import Board

async def main():
    async with await Board.open(sys.argv[1], board=sys.argv[2]) as board:
        events = board.subscribe("s", kinds=["run.accepted"], lease_seconds=1)
        for _ in range(2):
            print((await anext(events)).run_id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_process_that_is_killed_leaves_what_it_was_not_done_with(
    redis_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RECONCILE_SECONDS", 0.2)
    await Subscriptions(redis_board).add(Subscription(name="s", kinds=("run.accepted",)))
    runs = [await redis_board.submit(f"r{number}") for number in range(3)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CONSUMER, redis_board.engine.url, redis_board.name, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert [(await process.stdout.readline()).decode().strip() for _ in range(2)] == runs[:2]
    process.kill()
    await process.wait()
    async with redis_board.subscribe("s", kinds=["run.accepted"]) as events:
        assert [event.run_id for event in await some(events, 2)] == runs[1:]
        assert await quiet(events)


async def test_two_consumers_share_and_no_run_is_with_both_at_a_time(play: Play) -> None:
    held: dict[str, Subscriber] = {}
    found: dict[int, list[Event]] = {0: [], 1: []}

    async def consume(number: int, events: Subscriber) -> None:
        async for event in events:
            assert held.setdefault(event.run_id, events) is events, "two work on one run"
            found[number].append(event)
            order.append(event)
            await asyncio.sleep(0)
            # No event is given out for this run elsewhere before the batch is over.
            if not [one for one in events._batch if one.event.run_id == event.run_id]:  # pyright: ignore
                del held[event.run_id]
            if len(order) == 60:
                over.set()

    order: list[Event] = []
    over = asyncio.Event()
    async with (
        play.board.subscribe("s", kinds=["run.*", "task.posted"]) as one,
        play.board.subscribe("s", kinds=["run.*", "task.posted"]) as other,
    ):
        runs = await work(play, 10)
        consumers = [asyncio.create_task(consume(number, each)) for number, each in enumerate((one, other))]
        ended = asyncio.create_task(over.wait())
        await asyncio.wait({ended, *consumers}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        await end([ended, *consumers])
    assert over.is_set(), consumers
    assert all(found.values()), "one did everything"
    for run in runs:
        log = [event.id for event in await play.board.history(run) if event.kind != "task.completed"]
        assert ids(order, run) == [one for one in log if one in ids(order, run)]
        assert len(set(ids(order, run))) == len(ids(order, run)) == 6


async def test_a_run_one_consumer_is_at_does_not_keep_the_others_from_another(play: Play) -> None:
    async with (
        play.board.subscribe("s", kinds=RUNS) as one,
        play.board.subscribe("s", kinds=RUNS) as other,
    ):
        slow = await play.board.submit("slow")
        assert (await anext(one)).run_id == slow
        await play.board.cancel_run(slow)
        quick = await play.board.submit("quick")
        assert [event.run_id for event in await some(other, 1)] == [quick]
        assert await quiet(other)
        assert [event.id for event in await some(one, 2)] == [f"{slow}:2", f"{slow}:3"]


async def test_what_waited_for_the_dead_follows_what_the_dead_held(play: Play) -> None:
    dead = play.board.subscribe("s", kinds=RUNS, lease_seconds=5)
    await dead.start()
    run = await play.board.submit("go")
    assert (await anext(dead)).run_id == run
    await play.board.cancel_run(run)
    async with play.board.subscribe("s", kinds=RUNS) as events:
        assert await quiet(events)
        (now,) = await Subscriptions(play.board).list()
        assert (now.held, now.waiting, now.consumers) == (3, 0, 1)
        await play.clock.advance(5)
        wakes = await play.board.submit("wakes")
        assert [event.id for event in await some(events, 4)] == [f"{run}:1", f"{run}:2", f"{run}:3", f"{wakes}:1"]


async def test_whoever_comes_too_late_goes_on_with_nothing_that_another_has(play: Play) -> None:
    async with (
        play.board.subscribe("s", kinds=RUNS, lease_seconds=5) as late,
        play.board.subscribe("s", kinds=RUNS, lease_seconds=5) as other,
    ):
        runs = [await play.board.submit(f"r{number}") for number in range(3)]
        assert (await anext(late)).run_id == runs[0]
        await play.clock.advance(4)
        assert await late.renew()
        await play.clock.advance(4)
        assert await quiet(other)
        await play.clock.advance(1)
        await play.board.submit("wakes")
        assert (await anext(other)).run_id == runs[0]
        assert await quiet(late)


async def test_what_was_held_too_long_is_not_done_with_by_coming_back_for_the_next(play: Play) -> None:
    async with play.board.subscribe("s", kinds=RUNS, lease_seconds=5) as late:
        run = await play.board.submit("go")
        assert (await anext(late)).run_id == run
        await play.clock.advance(5)
        async with play.board.subscribe("s", kinds=["run.*"]) as other:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await anext(other)
        assert not await late.renew()
        assert await quiet(late) is False, "it comes again"


async def test_what_was_handled_too_late_is_done_with_where_nobody_else_has_it_yet(play: Play) -> None:
    async with play.board.subscribe("s", kinds=["run.acc*"], lease_seconds=5) as late:
        run = await play.board.submit("go")
        assert (await anext(late)).run_id == run
        await play.clock.advance(5)
        async with play.board.subscribe("s", kinds=["run.acc*"]) as other:
            assert (await anext(other)).run_id == run
        await late.done()
        (now,) = await Subscriptions(play.board).list()
        assert (now.done, now.held) == (1, 0)


async def test_replies_that_are_lost_cost_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Event] = []
    async with play.board.subscribe("s", kinds=RUNS) as events:
        runs = [await play.board.submit(f"r{number}") for number in range(3)]
        while len(found) < 3:
            with killed(monkeypatch, ["subscription_next"], 0, True), contextlib.suppress(RuntimeError):
                found.append(await anext(events))
                continue
            found += await some(events, 1)
        (now,) = await Subscriptions(play.board).list()
    assert [event.run_id for event in found] == runs
    assert (now.done, now.held, now.waiting, now.consumers) == (3, 0, 0, 0)


async def test_what_was_trimmed_before_it_was_handed_out_is_said(play: Play) -> None:
    client: Any = play.board.client
    async with play.board.subscribe("s", kinds=RUNS) as events:
        await play.board.submit("seen")
        await some(events, 1)
        for number in range(BATCH + 4):
            await play.board.submit(f"r{number}")
        first = await anext(events)  # it holds a batch now, and the rest waits
        await play.board.submit("last")
        await client.xtrim(play.shard.feed, maxlen=2, approximate=False)
        found = [first, *await some(events, BATCH - 1)]
        assert [event.kind for event in found] == ["run.accepted"] * BATCH, "what is held was read"
        gap, newest = await some(events, 2)
        assert isinstance(gap, Gap)
        assert (gap.data.reason, gap.data.subscription, gap.type) == ("trimmed", "s", "dev.arbiter.subscription.gap.v1")
        assert found[-1].time <= gap.data.since <= newest.time <= gap.data.until
        assert newest.kind == "run.accepted"
        (now,) = await Subscriptions(play.board).list()
        assert (now.lost, now.lag_seconds) == (1, 0)
        assert await quiet(events)
    await play.wipe()  # the invariants want the whole feed


async def test_what_was_held_and_trimmed_is_said(play: Play) -> None:
    client: Any = play.board.client
    async with play.board.subscribe("s", kinds=RUNS) as events:
        await play.board.submit("held")
        await anext(events)
    last = await play.board.submit("last")
    await client.xtrim(play.shard.feed, maxlen=2, approximate=False)
    async with play.board.subscribe("s", kinds=RUNS) as events:
        held, gap, newest = await some(events, 3)
        assert isinstance(held, Gap)
        assert isinstance(gap, Gap), "nobody knows whether something followed it"
        assert newest.run_id == last
    await play.wipe()


async def test_an_event_whose_run_was_removed_is_said(board: Board) -> None:
    async with board.subscribe("s", kinds=["run.completed"]) as events:
        run = await board.submit("go")
        await board.cancel_run(run)
        await retire(board, run, ended_before=time.time() + 3600)
        (gap,) = await some(events, 1)
        assert isinstance(gap, Gap)
        assert (gap.data.reason, gap.run_id) == ("removed", run)
        assert gap.data.event is not None
        assert gap.data.event.startswith(f"{run}:")
