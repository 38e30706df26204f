"""Durable subscriptions: what is meant by one, how far each is, what bounds them, and their end."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import subscribers
from strict import Play, killed, watched_play
from subscribers import RUNS, quiet, some

from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.errors import BadInput, Conflict, ScriptRefused, UnknownRecord
from blackboard.subscriptions import Subscription, Subscriptions
from blackboard.testing import KEEPING, RedisServer

play = watched_play
told = subscribers.told


async def test_only_the_kinds_and_the_tenant_that_are_meant_come(play: Play) -> None:
    async with play.board.subscribe("s", kinds=["run.acc*", "task.posted"], tenant="acme") as events:
        await play.board.submit("other")
        run = await play.board.submit("mine", tenant="acme")
        await play.board.cancel_run(run)
        assert [(event.kind, event.run_id) for event in await some(events, 2)] == [
            ("run.accepted", run), ("task.posted", run),
        ]  # fmt: skip
        assert await quiet(events)


async def test_entries_of_a_tenants_scope_are_the_tenants_and_those_of_other_scopes_nobodys(board: Board) -> None:
    async with (
        board.subscribe("theirs", kinds=["entry.posted"], tenant="acme") as theirs,
        board.subscribe("all", kinds=["entry.*"]) as everything,
    ):
        for scope in ("session:desk", "tenant:other", "tenant:acme"):
            await Entries(board, scope).post("notes.one", {"in": scope})
        (event,) = await some(theirs, 1)
        assert (event.run_id, event.data.content) == ("tenant:acme", {"in": "tenant:acme"})
        assert await quiet(theirs)
        assert len(await some(everything, 3)) == 3


async def test_what_is_meant_is_checked_and_the_same_for_all(board: Board) -> None:
    for wrong in ({"name": "S"}, {"kinds": ["run.begun"]}, {"kinds": ["run.*d"]}, {"kinds": []}, {"tenant": "a b"}):
        with pytest.raises(BadInput):
            board.subscribe(**{"name": "s", **wrong})  # type: ignore[arg-type]
    with pytest.raises(BadInput):
        board.subscribe("s", lease_seconds=0.5)
    with pytest.raises(BadInput):
        await board.subscribe("s", after="noon").start()  # type: ignore[arg-type]
    await board.subscribe("s", kinds=RUNS).start()
    for kinds, tenant in ((("task.*",), None), (RUNS, "acme")):
        with pytest.raises(Conflict):
            await board.subscribe("s", kinds=kinds, tenant=tenant).start()


async def test_one_that_is_removed_hands_out_nothing_more(board: Board) -> None:
    subscriptions = Subscriptions(board)
    async with board.subscribe("s", kinds=RUNS) as events:
        await board.submit("go")
        await anext(events)
        assert not await subscriptions.remove("s", tenant="acme")
        assert await subscriptions.remove("s")
        assert not await subscriptions.remove("s")
        await subscriptions.add(Subscription(name="s"))  # another of that name
        with pytest.raises(UnknownRecord):
            await some(events, 1)
    assert [one.name for one in await subscriptions.list()] == ["s"]


async def test_a_removal_that_was_cut_off_is_repeated(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    subscriptions = Subscriptions(play.board)
    await subscriptions.add(Subscription(name="s"))
    with killed(monkeypatch, ["subscription_remove"], 0, True), pytest.raises(RuntimeError):
        await subscriptions.remove("s")
    assert await subscriptions.remove("s") is (len(play.board.shards) > 1)
    assert [await play.board.client.hkeys(shard.subscriptions) for shard in play.board.shards] == [  # type: ignore[misc]
        [":"] for _ in play.board.shards
    ]


@pytest.mark.parametrize("at", [0, -1])
async def test_g4_a_call_that_comes_after_its_removal_makes_no_subscription_again(
    play: Play, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    subscriptions = Subscriptions(play.board)
    sent: list[tuple[Any, ...]] = []
    run = Subscriptions._run

    async def heard(self: Subscriptions, name: str, shard: Any, *args: Any) -> Any:
        sent.append((name, shard, *args))
        return await run(self, name, shard, *args)

    monkeypatch.setattr(Subscriptions, "_run", heard)
    await subscriptions.add(Subscription(name="s"))
    made = sent[at]
    await subscriptions.remove("s")
    removed = next(each for each in sent if each[0] == "subscription_remove" and each[1] is made[1])
    await run(subscriptions, *made)  # type: ignore[arg-type]
    assert await subscriptions.list() == []
    assert await play.board.client.hkeys(made[1].subscriptions) == [":"]  # type: ignore[misc]
    await subscriptions.add(Subscription(name="s"))
    await run(subscriptions, *removed)  # type: ignore[arg-type]
    assert [one.name for one in await subscriptions.list()] == ["s"], "nor does its removal take another one away"


async def test_g4_a_call_that_comes_first_after_its_removal_makes_none_either(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(play.board.shards) < 2:
        pytest.skip("there is one call")
    subscriptions = Subscriptions(play.board)
    made = Subscription(name="s")
    with killed(monkeypatch, ["subscribe"], 0, True), pytest.raises(RuntimeError):
        await subscriptions.add(made)
    given = await play.board.client.hget(play.board.shards[0].subscriptions, "s")  # type: ignore[misc]
    assert await subscriptions.remove("s")
    await subscriptions._run("subscribe", play.board.shards[1], "s", given, 0, 0)  # pyright: ignore[reportPrivateUsage]
    assert await play.board.client.hkeys(play.board.shards[1].subscriptions) == [":"]  # type: ignore[misc]


async def test_how_far_each_is_can_be_seen(play: Play) -> None:
    subscriptions = Subscriptions(play.board)
    async with play.board.subscribe("s", kinds=RUNS) as events:
        await play.board.submit("one")
        await play.board.submit("two")
        (now,) = await subscriptions.list()
        assert (now.name, now.kinds, now.waiting, now.held, now.done) == ("s", RUNS, 2, 0, 0)
        assert now.lag_seconds >= 0
        await anext(events)
        (now,) = await subscriptions.list()
        assert (now.waiting, now.held, now.consumers, now.done, now.lost) == (0, 2, 1, 0, 0)
        await some(events, 1)
        (now,) = await subscriptions.list()
        assert (now.waiting, now.held, now.consumers, now.done, now.lag_seconds) == (0, 0, 0, 2, 0)


async def test_a_board_has_only_so_many(play: Play) -> None:
    subscriptions = Subscriptions(play.board)
    for number in range(256):
        await subscriptions.add(Subscription(name=f"s{number}"))
    with pytest.raises(ScriptRefused, match="256 subscriptions; remove one"):
        await subscriptions.add(Subscription(name="more"))
    await subscriptions.add(Subscription(name="s7"))  # is there


async def tell(play: Play, run: str, count: int = 1) -> None:
    """Volatile events of a run, told by the feed alone."""
    client: Any = play.board.client
    for number in range(count):
        fields = {
            "type": "task.ready",
            "subject": f"{run}/t",
            "id": f"{run}/t:{number}",
            "run": run,
            "at": "",
            "data": "",
        }
        await client.xadd(play.shard.feed, fields)


@pytest.mark.engines("redis", "cluster", "valkey")
async def test_only_so_much_waits_for_a_consumer_while_others_pass(play: Play) -> None:
    async with play.board.subscribe("s") as slow, play.board.subscribe("s") as quick:
        await tell(play, "r1")
        await anext(slow)
        await tell(play, "r1", 256)
        await tell(play, "r2")
        assert [event.run_id for event in await some(quick, 1)] == ["r2"]
        await tell(play, "r1")
        await tell(play, "r3")
        assert await quiet(quick)
        (now,) = await Subscriptions(play.board).list()
        assert (now.held, now.waiting) == (257, 2)
        assert [event.run_id for event in await some(slow, 258)] == ["r1"] * 257 + ["r3"]
    await play.wipe()


async def test_only_so_many_hold_something_at_a_time(play: Play) -> None:
    async with contextlib.AsyncExitStack() as stack:
        many = [await stack.enter_async_context(play.board.subscribe("s")) for _ in range(33)]
        for number, each in enumerate(many[:-1]):
            await tell(play, f"r{number}")
            await anext(each)
        await tell(play, "another")
        assert await quiet(many[-1])
        assert (await some(many[0], 1))[0].run_id == "another"
    await play.wipe()


async def test_a_subscription_outlives_the_servers_death(board_name: str) -> None:
    with RedisServer(options=KEEPING) as server:
        async with (
            await Board.open(server.url, board=board_name) as board,
            board.subscribe("s", kinds=["run.accepted"]) as events,
        ):
            first, second = await board.submit("first"), await board.submit("second")
            assert (await anext(events)).run_id == first
            server.kill9()
            server.restart()
            third = await board.submit("third")
            assert [event.run_id for event in await some(events, 2)] == [second, third]
