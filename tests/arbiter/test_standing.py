"""Standing watches: what is written outside of runs becomes a run of those who wait for it, once for each version."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arbiter_support import arbiter
from pydantic import ValidationError

from arbiter import AgendaTerms, Arbiter, Query, Standing, Trigger, capability
from arbiter.standing_runs import request
from blackboard.board import Board
from blackboard.errors import Conflict, QuotaExceeded
from blackboard.invariants import faults
from blackboard.standing import DEPTH, PAGE, Standings, Stood
from blackboard.testing import RedisServer

DESK = Standing(
    name="invoices", scope="session:desk", topic="claims.*", where="amount>=100",
    agenda=AgendaTerms(until=Query(topic="checked.>")),
)  # fmt: skip


@capability(triggers=[Trigger(topic="claims.*", bind={"amount": "content.amount"})])
def approve(amount: int) -> str:
    """Approve a claim."""
    return f"approved {amount}"


async def runs(a: Arbiter) -> list[str]:
    return sorted(one.id for one in await a.runs(1000))


async def swept(board: Board) -> None:
    while await Standings(board).sweep(request):
        pass


async def state(a: Arbiter) -> Stood:
    (one,) = await a.standing.list()
    return one


async def test_what_is_written_outside_of_runs_is_worked_on_by_whoever_waits_for_it(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(approve,)) as (a, _):
        desk = a.entries.within("session:desk")
        await a.standing.add(Standing(name="invoices", scope="session:desk", topic="claims.*"))
        posted = await desk.post("claims.a", {"amount": 120}, confidence=0.7, taint=["mail:acme"])
        async with asyncio.timeout(60):
            while not (found := await a.runs(10)):
                await asyncio.sleep(0.05)
        result = await a.result(found[0].id, timeout=60)
        (copy,) = (await a.entries.within(f"run:{result.run_id}").query("claims.a")).entries
        assert await faults(a.board) == []
    assert result.status == "succeeded"
    assert [task.completion and task.completion.data for task in result.state.work] == ["approved 120"]
    assert (copy.confidence, [(one.rel, one.to) for one in copy.links]) == (0.7, [("derived_from", posted.id)])
    assert "mail:acme" in result.state.request_taint


async def test_each_version_that_fits_becomes_one_run_whoever_looks_and_however_often(
    redis_server: RedisServer,
) -> None:
    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        desk = a.entries.within("session:desk")
        before = await desk.post("claims.old", {"amount": 500})
        await a.standing.add(DESK)
        first = await desk.post("claims.a", {"amount": 120})
        await desk.post("claims.b", {"amount": 5})
        await desk.post("other", {"amount": 500})
        await desk.amend(first.id, {"amount": 300})
        await desk.retract(first.id)
        await asyncio.gather(*(swept(a.board) for _ in range(4)))
        await swept(a.board)
        assert len(await runs(a)) == 2, "what was amended is a version of its own; a retraction is none"
        assert (await state(a)).started >= 1
        await desk.amend(before.id, {"amount": 501})
        await swept(a.board)
        assert len(await runs(a)) == 3
        assert (await a.standing.add(DESK)).started == (await state(a)).started, (
            "the same once more is the one there is"
        )
        with pytest.raises(Conflict):
            await a.standing.add(DESK.model_copy(update={"topic": "other"}))
        assert await a.standing.remove("invoices")
        assert not await a.standing.remove("invoices")
        await desk.post("claims.c", {"amount": 900})
        await swept(a.board)
        assert len(await runs(a)) == 3


@pytest.mark.parametrize("when", ["before the run", "after the run", "after moving on"])
async def test_g4_whoever_dies_in_between_leaves_what_the_next_one_does_once(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    submit, write, died = Board.submit, Standings._write, list[str]()  # pyright: ignore[reportPrivateUsage]

    async def submits(self: Board, *given: Any, **more: Any) -> str:
        if when == "before the run" and not died:
            died.append(when)
            raise ConnectionError("the process dies here")
        run = await submit(self, *given, **more)
        if when == "after the run" and not died:
            died.append(when)
            raise ConnectionError("the process dies here")
        return run

    async def writes(self: Standings, *given: Any) -> bool:
        done = await write(self, *given)
        if when == "after moving on" and not died:
            died.append(when)
            raise ConnectionError("the process dies here")
        return done

    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        await a.standing.add(DESK)
        monkeypatch.setattr(Board, "submit", submits)
        monkeypatch.setattr(Standings, "_write", writes)
        for number in range(3):
            await a.entries.within("session:desk").post(f"claims.n{number}", {"amount": 100 + number})
        with pytest.raises(ConnectionError):
            await swept(a.board)
        await swept(a.board)
        assert len(await runs(a)) == 3
    assert died == [when]


async def test_a_process_that_looked_long_ago_moves_nothing_back(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        await a.standing.add(DESK)
        await a.entries.within("session:desk").post("claims.a", {"amount": 120})
        late, old = Standings(a.board), await state(a)
        await swept(a.board)
        moved = await state(a)
        await late._pass(old, request)  # pyright: ignore[reportPrivateUsage]
        assert await state(a) == moved
        assert len(await runs(a)) == 1


async def test_what_finds_no_room_waits_and_what_cannot_be_a_run_is_passed_over_with_the_reason(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, full = Board.submit, [True]

    async def submits(self: Board, *given: Any, **more: Any) -> str:
        if full[0]:
            raise QuotaExceeded("QUOTA", "tenant:default 100 has 1 open runs of 1")
        return await submit(self, *given, **more)

    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        await a.standing.add(DESK)
        monkeypatch.setattr(Board, "submit", submits)
        await a.entries.within("session:desk").post("claims.a", {"amount": 120})
        await swept(a.board)
        waits = await state(a)
        full[0] = False
        await swept(a.board)
        done = await state(a)
        assert len(await runs(a)) == 1
        monkeypatch.setattr("blackboard.accepting.PAYLOAD_BYTES", 300)
        await a.entries.within("session:desk").post("claims.b", {"amount": 120, "text": "x" * 500})
        await swept(a.board)
        refused = await state(a)
    assert (waits.started, waits.last_error is not None) == (0, True)
    assert (done.started, done.last_error) == (1, None)
    assert (refused.started, refused.refused) == (1, 1)
    assert "300 bytes" in (refused.last_error or "")


async def test_a_storm_is_looked_at_a_page_at_a_time_and_all_that_was_ever_written_on_demand(
    redis_server: RedisServer,
) -> None:
    async with arbiter(redis_server.url, ["unused"], roles=()) as (a, _):
        desk = a.entries.within("session:desk")
        for number in range(PAGE + 5):
            await desk.post("claims.a", {"amount": 100 if number % 20 == 0 else 1})
        await a.standing.add(DESK, after="-")
        assert await Standings(a.board).sweep(request), "there is more than a page"
        await swept(a.board)
        assert len(await runs(a)) == 6


async def test_runs_that_lead_to_runs_end_at_a_depth(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(approve,)) as (a, _):
        await a.standing.add(Standing(name="circle", scope="session:desk", topic="claims.*"))
        desk = a.entries.within("session:desk")
        last = await desk.post("claims.a", {"amount": 1})
        for depth in range(1, DEPTH + 1):
            await swept(a.board)
            now = await state(a)
            run = now.last_run
            assert (now.started, run is None) == (depth, False)
            assert run is not None
            await a.result(run, timeout=60)
            (copy,) = (await a.entries.within(f"run:{run}").query("claims.a")).entries
            last = await a.promote(copy.id, "session:desk")
        await swept(a.board)
        now = await state(a)
    assert now.started == DEPTH
    assert last.id in (now.last_error or "")
    assert "chain of 8 runs" in (now.last_error or "")


async def test_a_watch_of_nothing_that_lasts_is_refused() -> None:
    for wrong in ({"scope": "run:x"}, {"scope": "nowhere"}, {"topic": "a..b"}, {"where": "amount"}):
        with pytest.raises(ValidationError):
            Standing(**{"name": "x", "scope": "public", **wrong})
