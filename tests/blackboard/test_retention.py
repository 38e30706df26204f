"""Removing finished runs: on every engine, with watched scripts and a clock the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import strict
from strict import Clock, Play, done, faults, spec, watch_scripts

from blackboard import retention
from blackboard.board import Board
from blackboard.entries import Entries
from blackboard.errors import EngineUnavailable, ScriptRefused, UnknownRecord
from blackboard.retention import DAY, Retention, Retirer, prune, retire, trim
from blackboard.testing import RedisServer
from blackboard.types import Limits, RunSummary, Status

ALL = dict.fromkeys(Status, 0.0)


@pytest.fixture
async def play(board: Board, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Play]:
    """Watched scripts; at the end every invariant must hold for the runs that are left."""
    monkeypatch.setattr(
        strict,
        "PRELUDE",
        strict.PRELUDE.replace("{GET = 1", "{XRANGE = 1, GET = 1").replace("{SET = 1", "{UNLINK = 1, SET = 1"),
    )
    watch_scripts(monkeypatch)
    play = Play(board, Clock(board))
    await play.clock.advance()
    yield play
    # The feed still tells of runs that are gone, which is what a feed is for.
    assert [fault for fault in await faults(board) if "event without a record" not in fault] == []


async def finished(play: Play, *, tasks: int = 2, **more: Any) -> str:
    run = await play.run(*(spec(f"t{n}") for n in range(tasks)), **more)
    for claim in await play.take(n=tasks):
        await play.board.complete(claim, done(claim))
    await play.plan(await play.step(run), answer="done")
    return run


async def listed(play: Play) -> list[str]:
    return [run.id for run in await play.board.runs(1000)]


async def later(play: Play, policy: Retention, days: float = 0.0, **more: Any) -> retention.Pruned:
    return await prune(play.board, policy, now=play.clock.seconds + days * DAY, **more)


async def test_a_removed_run_leaves_nothing_but_the_feed_and_the_counts(play: Play) -> None:
    run = await play.board.submit("kept")
    await play.plan(await play.step(run), spec("v", version="v1", lane="other"))
    before = await play.snapshot()
    gone = await finished(play, tasks=5)
    await retire(play.board, gone)
    after = await play.snapshot()
    for name, value in after.items():
        if not name.startswith(("ev", "vt", "w:", "b:", "outcomes")):
            assert gone not in str(value), name
    same = [name for name in before if name in ("tasks", "runs", "index", "data", "due") or name.startswith("run:")]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    with pytest.raises(UnknownRecord):
        await play.board.summary(gone)
    assert await play.board.history(gone) == []


async def test_a_run_that_is_not_over_is_never_removed(play: Play) -> None:
    waiting = await play.run(spec("a"))
    claim = await play.one()
    stopping = await play.run(spec("b"))
    held = await play.one()
    await play.board.cancel_run(stopping)
    for run in (waiting, stopping):
        before = await play.snapshot()
        with pytest.raises(ScriptRefused, match="LIVE"):
            await retire(play.board, run)
        assert await play.snapshot() == before
    assert (await later(play, Retention(ages=ALL, most_runs=0, grace_seconds=0), days=1000)).runs == 0
    await play.board.complete(claim, done(claim))
    await play.board.complete(held, done(held))


async def test_a_run_goes_when_its_status_has_reached_its_age(play: Play) -> None:
    good = await finished(play)
    bad = await play.board.submit("x")
    await play.board.cancel_run(bad)
    policy = Retention(ages={Status.SUCCEEDED: 2 * DAY, Status.CANCELLED: 5 * DAY})
    assert (await later(play, policy, days=1.9)).runs == 0
    assert (await later(play, policy, days=2)).by_status == {"succeeded": 1}
    assert await listed(play) == [bad]
    assert (await later(play, Retention(ages={Status.SUCCEEDED: 0}), days=900)).runs == 0
    assert (await later(play, policy, days=5)).ids == (bad,)
    assert good not in await listed(play) == []


async def test_the_age_counts_from_the_end_and_not_from_the_acceptance(play: Play) -> None:
    run = await play.run(spec("a", seconds=20 * DAY), limits=Limits(seconds=20 * DAY))
    claim = await play.one()
    await play.clock.advance(10 * DAY)
    await play.board.complete(claim, done(claim))
    await play.plan(await play.step(run), answer="done")
    policy = Retention(ages={Status.SUCCEEDED: 5 * DAY})
    assert (await later(play, policy, days=4.9)).runs == 0
    assert (await later(play, policy, days=5.1)).ids == (run,)


async def test_beyond_a_number_of_runs_the_oldest_finished_ones_go_but_not_fresh_ones(play: Play) -> None:
    open_run = await play.run(spec("open", lane="other"))
    runs = []
    for _ in range(4):
        await play.clock.advance(1)
        runs.append(await finished(play))
    policy = Retention(most_runs=3, grace_seconds=100)
    assert (await later(play, policy)).runs == 0, "somebody may still be reading them"
    assert (await later(play, policy, days=1, dry_run=True)).ids == tuple(runs[:2])
    assert (await later(play, policy, days=1)).ids == tuple(runs[:2])
    assert set(await listed(play)) == {open_run, *runs[2:]}


async def test_a_rehearsal_tells_the_same_and_removes_nothing(play: Play) -> None:
    runs = [await finished(play) for _ in range(3)]
    before = await play.snapshot()
    would = await later(play, Retention(ages=ALL), dry_run=True)
    assert await play.snapshot() == before
    assert sorted(would.ids) == sorted(runs)
    assert await later(play, Retention(ages=ALL)) == would


async def test_a_pass_stops_at_its_limit_and_the_next_goes_on(play: Play) -> None:
    for _ in range(3):
        await finished(play)
    first = await later(play, Retention(ages=ALL), limit=2)
    assert (first.runs, first.complete) == (2, False)
    second = await later(play, Retention(ages=ALL), limit=2)
    assert (second.runs, second.complete) == (1, True)


async def test_kept_runs_at_the_old_end_do_not_hide_what_may_go(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_PAGE", 2)
    for _ in range(5):
        await play.board.cancel_run(await play.board.submit("x"))
    await play.clock.advance(1)
    good = [await finished(play), await finished(play)]
    assert sorted((await later(play, Retention(ages={Status.SUCCEEDED: 0}))).ids) == sorted(good)
    assert len(await listed(play)) == 5


@pytest.mark.engines("redis", "cluster")
async def test_a_removal_that_is_cut_short_leaves_the_run_whole_for_readers_and_is_taken_up(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies after each of its calls in turn; long enough that it takes several."""
    cuts = 0
    real = retention._script.run
    run = await finished(play, tasks=300)
    log = await play.board.history(run)

    class Dead(Exception):
        pass

    async def one_call(*args: Any, **more: Any) -> Any:
        reply = await real(*args, **more)
        if not reply[0]:
            raise Dead
        return reply

    while True:
        try:
            with monkeypatch.context() as patched:
                patched.setattr(retention._script, "run", one_call)
                await retire(play.board, run)
            break
        except Dead:
            cuts += 1
            assert await play.board.history(run) == log
            assert isinstance(await play.board.summary(run), RunSummary)
    assert cuts >= 2
    assert run not in str({k: v for k, v in (await play.snapshot()).items() if not k.startswith(("ev", "w:", "b:"))})


@pytest.mark.engines("redis", "cluster")
async def test_removals_at_once_and_again_are_one_removal(play: Play) -> None:
    run, other = await finished(play, tasks=250), await finished(play)
    await asyncio.gather(*(retire(play.board, run) for _ in range(5)))
    before = await play.snapshot()
    await retire(play.board, run)
    assert await play.snapshot() == before
    assert await listed(play) == [other]


async def test_the_script_looks_again_at_the_age(play: Play) -> None:
    run = await finished(play)
    with pytest.raises(ScriptRefused, match="YOUNG"):
        await retire(play.board, run, ended_before=play.clock.seconds - 1)
    assert await listed(play) == [run]


async def test_a_key_of_a_removed_run_makes_a_new_one(play: Play) -> None:
    run = await finished(play, idempotency_key="k")
    await retire(play.board, run)
    assert await finished(play, idempotency_key="k") == run
    assert (await play.kinds(run))[-1] == "run.completed "


async def test_dead_members_of_an_agenda_are_dropped_and_live_ones_stay(play: Play) -> None:
    for n in range(3):
        await play.board.cancel_run(await play.run(spec("a", lane="nobody"), tenant=f"t{n}"))
    live = await play.run(spec("b", lane="nobody"), tenant="t0")
    agenda = (await play.snapshot())["r:nobody"]
    assert len(agenda) == 4, "a cancellation does not know the lanes of what it ends; this is what trim is for"
    await later(play, Retention(ages=ALL))
    after = await play.snapshot()
    assert [member.rsplit("\0", 1)[1] for member in after["r:nobody"]] == [f"{live}/1.b"]
    assert list(after["q:nobody"]) == ["t0"]


async def test_virtual_times_are_forgotten_only_where_nobody_waits_and_only_when_there_are_many(play: Play) -> None:
    for n in range(3):
        await finished(play, tenant=f"t{n}")
    waiting = await play.run(spec("z"), tenant="t9")
    vt = (await play.snapshot())["vt"]
    assert {"work:t0", "work:t1", "work:t2", "arbiter:t0"} <= set(vt)
    assert await trim(play.board) == 0
    await trim(play.board, idle_tenants=2)
    left = (await play.snapshot())["vt"]
    assert {field.partition(":")[0] for field in left} == {"work"}, "in the lane arbiter nobody waits"
    assert {name: vt[name] for name in left} == left
    claim = await play.one()
    assert claim.run_id == waiting
    await play.board.complete(claim, done(claim))


async def test_a_full_server_can_be_made_room_on(redis_server: RedisServer) -> None:
    with RedisServer() as server:
        async with await Board.open(server.url) as board:
            run = await board.submit("x" * 10_000)
            await board.cancel_run(run)
            await board.client.config_set("maxmemory", 1)
            with pytest.raises(Exception, match=r"OOM|maxmemory"):
                await board.submit("y")
            assert (await prune(board, Retention(ages=ALL))).ids == (run,)


async def test_a_retirer_keeps_the_board_within_its_policy(redis_board: Board) -> None:
    for _ in range(3):
        await redis_board.cancel_run(await redis_board.submit("x"))
    redis_board.random.uniform = lambda a, b: 0.01  # type: ignore[method-assign]
    work = asyncio.ensure_future(Retirer(redis_board, Retention(ages=ALL)).run())
    async with asyncio.timeout(30):
        while await redis_board.runs():
            await asyncio.sleep(0.01)
    work.cancel()


async def test_a_board_of_another_format_is_refused_and_left_alone(redis_server: RedisServer, board_name: str) -> None:
    async with await Board.open(redis_server.url, board=board_name) as board:
        run = await board.submit("x")
        key = f"arb:{{arbiter/{board_name}}}:meta"
        await board.client.hset(key, "format", "99")
        with pytest.raises(EngineUnavailable, match=r"format 99, this version reads 1\. Use another board name"):
            await Board.open(redis_server.url, board=board_name)
        await board.client.hset(key, "format", "1")
        async with await Board.open(redis_server.url, board=board_name) as again:
            assert [one.id for one in await again.runs()] == [run]


async def test_a_retirer_takes_what_counts_no_more_out_of_the_scopes_that_last(
    redis_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "COMPACT_FACTS", 3)
    few, many = Entries(redis_board, "session:few"), Entries(redis_board, "session:many")
    for entries, amended in ((few, 1), (many, 4)):
        one = await entries.post("a", 0)
        for number in range(amended):
            await entries.amend(one.id, number)
    run = await redis_board.submit("x")
    own = Entries(redis_board, f"run:{run}")
    for _ in range(5):
        await own.retract((await own.post("a", 1)).id)
    retirer = Retirer(redis_board, Retention())
    await retirer.compact(0.0)
    assert [len((await each.query()).entries) for each in (few, many)] == [1, 1]
    client = redis_board.client
    assert [await client.xlen(each.log_key) for each in (few, many)] == [2, 2]
    assert await client.xlen(own.log_key) > 10, "the log of a run is left alone"
