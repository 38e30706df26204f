"""A claim that waits behind the doorbell, on the server: it comes with the ring, once, and is never lost for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis
from strict import Play, faults, spec

from blackboard import worker
from blackboard._bell import Bell
from blackboard.attempt import Attempt, Handler
from blackboard.board import Board
from blackboard.heartbeat import Heartbeat
from blackboard.testing import RedisServer
from blackboard.types import Completion, Status
from blackboard.worker import Worker

LANES = ["work"]


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by the clock: what happens here happens because somebody was told of it."""
    monkeypatch.setattr(worker, "BELL_SECONDS", 3600.0)


@pytest.fixture
async def play(redis_board: Board) -> AsyncIterator[Play]:
    """Leases are a minute: what is lost until one ends would not be seen in time."""
    redis_board.lease_seconds = 60.0
    yield Play(redis_board, None)  # type: ignore[arg-type]
    assert await faults(redis_board) == []


async def asleep(board: Board, number: int = 1) -> None:
    """Until so many clients wait on the server."""
    client: Any = board.client
    async with asyncio.timeout(30):
        while (await client.info("clients"))["blocked_clients"] < number:
            await asyncio.sleep(0.001)


async def until(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.001)


class Employed:
    """A worker that ends when the block does."""

    def __init__(self, board: Board, handle: Handler, lanes: Any = LANES, concurrency: int = 4) -> None:
        self.heartbeat = Heartbeat(board)
        self.worker = Worker(board, self.heartbeat, "t", lanes, handle, concurrency=concurrency)

    async def __aenter__(self) -> Worker:
        self.running = asyncio.create_task(self.worker.run())
        return self.worker

    async def __aexit__(self, *_: object) -> None:
        await self.worker.drain(0)
        await asyncio.wait_for(self.running, 30)
        self.heartbeat.close()


async def finish(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED)


def counted(board: Board, monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    call, seen = getattr(board, name), list[Any]()

    async def counting(*args: Any, **more: Any) -> Any:
        seen.append(args)
        return await call(*args, **more)

    monkeypatch.setattr(board, name, counting)
    return seen


def unread(monkeypatch: pytest.MonkeyPatch, trouble: BaseException | None = None) -> asyncio.Event:
    """The reply to the next claim behind a bell is not read: it is waited for in vain, or raises. Set when it has come."""
    answer, come = Bell._answer, asyncio.Event()  # pyright: ignore[reportPrivateUsage]

    async def lost(self: Bell) -> Any:
        reply = await answer(self)
        if not come.is_set() and isinstance(reply, list) and reply and isinstance(reply[0], list):
            come.set()
            self._owed += 1  # pyright: ignore[reportPrivateUsage]
            if trouble is not None:
                raise trouble
            await asyncio.Event().wait()
        return reply

    monkeypatch.setattr(Bell, "_answer", lost)
    return come


async def test_the_ring_hands_an_idle_worker_its_task_without_another_call(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(play.board, monkeypatch, "claim_or_wait")
    begun: asyncio.Queue[str] = asyncio.Queue()

    async def handle(attempt: Attempt) -> Completion:
        begun.put_nowait(attempt.claim.capability)
        return await finish(attempt)

    async with Employed(play.board, handle):
        for number in range(5):
            await asleep(play.board)
            await play.board.submit_call(f"c{number}", {}, lane="work")
            assert await asyncio.wait_for(begun.get(), 30) == f"c{number}"
        await asleep(play.board)
    assert len(asked) == 1, "only the one before it slept for the first time"


async def test_more_than_the_ring_brings_is_asked_for(play: Play) -> None:
    """Also when the tokens are used up: a doorbell keeps no more than 64."""
    begun: list[str] = []

    async def handle(attempt: Attempt) -> Completion:
        begun.append(attempt.claim.key)
        return await finish(attempt)

    async with Employed(play.board, handle):
        await asleep(play.board)
        await play.run(*(spec(f"t{n}") for n in range(300)))
        await until(lambda: len(begun) == 300)


@pytest.mark.parametrize("lane", ["work", "other"])
async def test_no_claim_waits_behind_a_bell_while_a_handler_is_at_work(
    play: Play, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    """It may block the event loop, and what was claimed for this process would have to wait with it."""
    behind = counted(play.board, monkeypatch, "claim_when_rung")
    begun, hold = list[str](), asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        begun.append(attempt.claim.capability)
        await hold.wait()
        return await finish(attempt)

    async with Employed(play.board, handle), Employed(play.board, handle, ["other"]):
        await asleep(play.board, 2)
        assert len(behind) == 2
        for number in range(3):
            await play.board.submit_call("c", {}, lane=lane)
            await until(lambda n=number: len(begun) == n + 1)
            await asleep(play.board, 2)
        assert len(behind) == 2
        hold.set()
        await until(lambda: len(behind) == 3)


async def test_g4_a_claim_whose_reply_was_lost_is_learnt_of_at_once(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        assert attempt.claim.attempt == 1
        done.set()
        return await finish(attempt)

    lost = unread(monkeypatch, redis.ConnectionError("the reply was lost"))
    async with Employed(play.board, handle):
        await asleep(play.board)
        await play.board.submit_call("c", {}, lane="work")
        await asyncio.wait_for(done.wait(), 30)
    assert lost.is_set()


async def test_g6_what_came_while_the_drain_began_is_given_back(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    come = unread(monkeypatch)
    async with Employed(play.board, finish):
        await asleep(play.board)
        run = await play.board.submit_call("c", {}, lane="work")
        await asyncio.wait_for(come.wait(), 30)
    assert await play.state(f"{run}/0.call") == "ready"
    assert (await play.header(f"{run}/0.call"))["att"] == 0


async def test_a_worker_that_drained_in_its_sleep_takes_nothing_any_more(play: Play) -> None:
    async with Employed(play.board, finish):
        await asleep(play.board)
    run = await play.board.submit_call("c", {}, lane="work")
    await play.board.ring(LANES)
    assert await play.state(f"{run}/0.call") == "ready"


async def test_g4_a_claim_that_comes_after_it_was_asked_for_takes_nothing(play: Play) -> None:
    """As from a connection that its own process has given up long ago."""
    await play.run(spec("a"))
    assert await play.board.claimed_when_rung("w", LANES, nonce="x") == []
    bell = play.board.bell(LANES, 5.0)
    taken, _ = await play.board.claim_when_rung(bell, "w", LANES, n=2, nonce="x")
    await bell.close()
    assert taken == []
    assert (await play.one()).key == "a"


async def test_what_a_ring_brings_without_room_for_it_goes_to_somebody_else(play: Play) -> None:
    lanes, begun, hold = ["work"], list[str](), asyncio.Event()

    async def slow(attempt: Attempt) -> Completion:
        begun.append(attempt.claim.capability)
        await hold.wait()
        return await finish(attempt)

    async def fast(attempt: Attempt) -> Completion:
        begun.append("elsewhere " + attempt.claim.capability)
        return await finish(attempt)

    async with Employed(play.board, slow, lambda: list(lanes), concurrency=1) as worker:
        await asleep(play.board)
        await play.board.submit_call("first", {}, lane="new")
        lanes.append("new")
        worker.look_again()
        await until(lambda: begun == ["first"])
        await play.board.submit_call("second", {}, lane="work")
        async with Employed(play.board, fast):
            await until(lambda: begun == ["first", "elsewhere second"])
        hold.set()


async def test_a_server_that_dies_under_a_sleeping_worker_is_slept_on_again(board_name: str) -> None:
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Completion:
        begun.set()
        return await finish(attempt)

    with RedisServer() as server:
        async with await Board.open(server.url, board=board_name) as board, Employed(board, handle):
            await asleep(board)
            server.kill9()
            server.start()
            await board.submit_call("c", {}, lane="work")
            await asyncio.wait_for(begun.wait(), 30)


async def test_the_wait_is_over_without_a_ring_and_the_claim_is_made_all_the_same(play: Play) -> None:
    bell = play.board.bell(LANES, 0.05)
    assert await play.board.claim_when_rung(bell, "w", LANES, n=2, nonce="x") == ([], None)
    await bell.close()
    bell = play.board.bell(LANES, 0.05)
    await bell.listen()
    assert bell.over is not None
    assert await bell.over is False
    await bell.close()


async def test_scripts_the_server_forgot_are_sent_again_behind_a_bell_too(play: Play) -> None:
    await play.run(spec("a"))
    await play.board.client.script_flush()
    bell = play.board.bell(LANES, 0.05)
    taken, _ = await play.board.claim_when_rung(bell, "w", LANES, n=2, nonce="x")
    await bell.close()
    assert [claim.key for claim in taken] == ["a"]
