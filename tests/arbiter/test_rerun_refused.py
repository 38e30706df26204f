"""What a rerun does not take over, and runs that cannot be gone on from (G3, G4)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from plan_steps import ref, step
from rerunning_shop import Shop, opened, pay, rerun, total

from arbiter import (
    Arbiter,
    BadInput,
    Call,
    Inquiry,
    Posting,
    UnknownRecord,
    capability,
    current_task,
)
from blackboard.entries import Entries
from blackboard.erasure import erase
from blackboard.results import result_entry
from blackboard.retention import retire
from blackboard.testing import RedisServer


@pytest.mark.parametrize(("lost", "again"), [("b", [9, 10]), ("a", [1, 9, 10]), ("erased", [9, 10])])
async def test_what_was_taken_back_or_erased_is_done_again_and_so_is_what_was_made_from_it(
    redis_server: RedisServer, lost: str, again: list[int]
) -> None:
    shop, running = Shop(9), list[Arbiter]()

    @capability
    async def doubt(key: str) -> str:
        """Take back what a task returned."""
        task = current_task()
        assert task is not None
        if key != "erased" and shop.broken:  # the first time
            await (
                running[0]
                .entries.within(f"run:{task.run_id}")
                .retract(result_entry(task.run_id, f"{task.run_id}/1.{key}"))
            )
        return key

    plan = [
        pay("a", 1), step("s", "total", {"parts": [ref("a")]}), pay("b", ref("s")), pay("d", 4),
        step("back", "doubt", {"key": lost}, after=["b", "d"]), pay("c", 9, after=["back"]),
    ]  # fmt: skip
    async with opened(redis_server.url, shop) as a:
        running.append(a)
        await a.register(doubt)
        failed = await a.run("Pay.", plan=plan, timeout=60)
        assert (failed.status, shop.done) == ("failed", [1, 4, 9, 10])
        if lost == "erased":
            assert (await erase(a.board, author="total", by="ann")).facts == 1
        shop.broken.clear()
        result = await rerun(a, failed.run_id)
        assert (result.status, shop.done) == ("succeeded", again)


async def test_what_wrote_on_the_board_of_its_run_is_done_again(redis_server: RedisServer) -> None:
    shop, wrote, running = Shop(9), list[int](), list[Arbiter]()

    @capability(effects="writes")
    async def note(n: int) -> int:
        """Write it down."""
        task = current_task()
        assert task is not None
        wrote.append(n)
        await running[0].entries.within(f"run:{task.run_id}").post("notes.n", n, task=task)
        return n

    async with opened(redis_server.url, shop) as a:
        running.append(a)
        await a.register(note)
        failed = await a.run("Note.", plan=[step("a", "note", {"n": 1}), pay("b", 9)], timeout=60)
        shop.broken.clear()
        result = await rerun(a, failed.run_id)
        assert (result.status, wrote) == ("succeeded", [1, 1])
        found = await Entries(a.board, f"run:{result.run_id}").query("notes.n")
        assert [one.content for one in found.entries] == [1]


async def test_what_cannot_be_gone_on_from_says_why(redis_server: RedisServer) -> None:
    shop = Shop(1)
    async with opened(redis_server.url, shop) as a:
        with pytest.raises(UnknownRecord):
            await a.rerun("r0")
        called = await a.run(Call("pay", {"n": 1}), timeout=60)
        with pytest.raises(BadInput, match="call it again"):
            await a.rerun(called.run_id)
        asked = await a.run(Inquiry([Posting("x.y", 1)]), timeout=60)
        with pytest.raises(BadInput, match="ask it again"):
            await a.rerun(asked.run_id)
        failed = await a.run("Pay.", plan=[pay("a", 1)], timeout=60)
        await retire(a.board, failed.run_id)
        with pytest.raises(UnknownRecord):
            await a.rerun(failed.run_id)
        board = a.board.name
    async with Arbiter(redis_server.url, board=board, roles=()) as client:
        waits = await client.submit("Pay.", plan=[pay("a", 1)])
        with pytest.raises(BadInput, match="It is queued: wait for its end, or cancel it"):
            await client.rerun(waits)


async def test_a_run_whose_predecessor_is_removed_meanwhile_ends_rather_than_do_everything_again(
    redis_server: RedisServer,
) -> None:
    shop, board = Shop(2), "t" + uuid.uuid4().hex[:12]
    options: dict[str, Any] = {"board": board, "capabilities": [shop(), total]}
    async with Arbiter(redis_server.url, None, roles=("arbiter",), **options) as a:
        failed = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2)], timeout=60)
        assert shop.done == [1, 2]
    async with Arbiter(redis_server.url, board=board, roles=()) as client:
        made = await client.rerun(failed.run_id)
        await retire(client.board, failed.run_id)
    async with Arbiter(redis_server.url, None, roles=("arbiter",), **options) as a:
        result = await a.result(made, timeout=60)
    assert result.error is not None
    assert (result.status, result.error.type, shop.done) == ("failed", "predecessor_gone", [])


async def test_what_is_left_of_a_chain_is_taken_over(redis_server: RedisServer) -> None:
    shop = Shop(2)
    async with opened(redis_server.url, shop) as a:
        first = await a.run("Pay.", plan=[pay("a", 1), pay("b", 2), pay("c", 3)], timeout=60)
        second = await rerun(a, first.run_id)
        assert (second.status, shop.done) == ("failed", [1, 2, 2, 3])
        await retire(a.board, first.run_id)
        shop.broken.clear()
        third = await rerun(a, second.run_id)
        assert (third.status, shop.done) == ("succeeded", [2])
