"""Acting on how versions did, on a real Redis server: once, on record, and never over what somebody decided."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis.asyncio
import signing_support
from reflecting_support import Measured
from signing_support import CODE, EXAM, PREFIX

from blackboard.catalog import Catalog
from blackboard.lately import Ended
from registry import Grants, Manifest, Version, capability

client = signing_support.client


@pytest.fixture
def measured(client: redis.asyncio.Redis) -> Measured:
    return Measured(client)


def make(name: str = "echo", **changes: Any) -> Manifest:
    """One that asks nobody."""
    return signing_support.make(name, **{"grants": Grants(), **changes})


async def two(measured: Measured, name: str = "echo") -> tuple[Version, Version]:
    """A version that did well and the one after it, which fails."""
    registry = measured.process()
    old = await registry.register(make(name), source=CODE, exam=EXAM)
    new = await registry.register(make(name, description="Newer."), source=CODE, exam=EXAM)
    measured.ended(old, 10, 0)
    measured.ended(new, 0, 20)
    return old, new


async def active(measured: Measured, name: str = "echo") -> str | None:
    found = await Catalog(measured.client, "test").get(name)
    return None if found is None else found.sha


async def test_what_fails_gives_way_to_the_version_before_and_it_is_on_record_why(measured: Measured) -> None:
    old, new = await two(measured)
    registry = measured.process()
    (done,) = await registry.reflect({("echo", new.sha)})
    assert str(done).startswith(f"echo {new.sha[:12]} went back to {old.sha[:12]}: 20 of the last 20 tasks failed")
    assert [each.sha for each in await registry.list()] == [old.sha]
    (record,) = await measured.records()
    assert (record["verb"], record["subject"]) == ("activated", f"echo|{old.sha}")
    assert record["by"].startswith("reflection of ")
    assert record["reason"] == done.reason
    assert json.loads(record["detail"]) == done.numbers
    assert (await registry.changes())[-1].reason == done.reason
    for each in (registry, measured.process()):
        assert await each.reflect() == []
    assert len(await measured.records()) == 1
    assert (await registry.load("echo", new.sha)).version.sha == new.sha, "what is pinned to it runs"


async def test_what_fails_and_has_no_better_one_is_offered_no_more_and_its_name_is_free(measured: Measured) -> None:
    _, new = await two(measured)
    measured.ended(await measured.process().resolve("echo", (await measured.process().versions("echo"))[0].sha), 0, 10)
    registry = measured.process()
    (done,) = await registry.reflect()
    assert done.back_to is None
    assert await registry.list() == []
    (record,) = await measured.records()
    assert (record["verb"], record["subject"], record["reason"]) == ("retired", f"echo|{new.sha}", done.reason)
    assert (await registry.changes())[-1].reason == done.reason
    better = await registry.register(make(description="Better."), source=CODE, exam=EXAM, expected_active=None)
    assert await measured.process().reflect() == []
    assert await active(measured) == better.sha


async def test_processes_that_act_at_the_same_time_do_it_once(measured: Measured) -> None:
    for name in ("one", "two", "three"):
        await two(measured, name)
    alone = await measured.process().register(make("alone"), source=CODE, exam=EXAM)
    measured.ended(alone, 0, 30)
    await asyncio.gather(*(measured.process().reflect() for _ in range(4)))
    assert sorted(each["subject"].partition("|")[0] for each in await measured.records()) == [
        "alone",
        "one",
        "three",
        "two",
    ]
    assert await active(measured, "alone") is None


async def test_what_a_process_decided_that_died_before_it_acted_another_does(measured: Measured) -> None:
    old, new = await two(measured)

    async def dies() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await measured.late(dies).reflect()
    assert await active(measured) == new.sha
    assert len(await measured.process().reflect()) == 1
    assert await active(measured) == old.sha


async def test_a_version_that_became_active_meanwhile_stays(measured: Measured) -> None:
    await two(measured)
    made: list[Version] = []

    async def registered() -> None:
        made.append(await measured.process().register(make(description="Newest."), source=CODE, exam=EXAM))

    assert await measured.late(registered).reflect() == []
    assert await active(measured) == made[0].sha
    assert await measured.records() == []


@pytest.mark.parametrize("old_too", [False, True], ids=["gone back to", "retired"])
async def test_whoever_is_late_does_not_undo_that_a_person_made_it_active_again(
    measured: Measured, old_too: bool
) -> None:
    old, new = await two(measured)
    if old_too:
        measured.ended(old, 0, 10)

    async def done_and_undone() -> None:
        await measured.process().reflect()
        assert await active(measured) != new.sha
        await measured.process().activate("echo", new.sha, reason="its service is back")

    await measured.late(done_and_undone).reflect()
    assert await active(measured) == new.sha
    assert len(await measured.records()) == 2


async def test_what_a_person_made_active_again_is_judged_by_what_follows(measured: Measured) -> None:
    old, new = await two(measured)
    await measured.process().reflect()
    measured.ended(new, 0, 23)  # those that were pinned to it
    await measured.process().activate("echo", new.sha, reason="its service is back")
    measured.ended(new, 0, 27)
    assert await measured.process().reflect() == []
    assert await active(measured) == new.sha
    measured.ended(new, 0, 28)
    assert len(await measured.process().reflect()) == 1
    assert await active(measured) == old.sha


async def test_what_worked_for_long_and_breaks_today_is_judged_by_its_latest_tasks(measured: Measured) -> None:
    old, new = await two(measured)
    measured.ended(old, 50, 0)
    measured.counters[new.name, new.sha] = Ended(succeeded=1000, failed=10, lately_succeeded=40, lately_failed=10)
    (done,) = await measured.process().reflect()
    assert done.reason.startswith("10 of the last 50 tasks failed")
    assert await active(measured) == old.sha


async def test_a_version_that_a_person_retired_is_not_gone_back_to(measured: Measured) -> None:
    old, _ = await two(measured)
    await measured.process().retire("echo", old.sha, reason="it leaks")
    (done,) = await measured.process().reflect()
    assert done.back_to is None


async def test_what_cannot_be_loaded_is_not_gone_back_to(measured: Measured) -> None:
    old, _ = await two(measured)
    await measured.client.hdel(PREFIX + "signatures", f"echo|{old.sha}")
    (done,) = await measured.process().reflect()
    assert done.back_to is None
    assert await active(measured) is None


async def test_a_damaged_version_keeps_no_other_from_being_judged(measured: Measured) -> None:
    damaged, _ = await two(measured, "damaged")
    old, _ = await two(measured, "sound")
    await measured.client.hset(PREFIX + "header", f"damaged|{damaged.sha}", "{")
    await measured.process().reflect()
    assert await active(measured, "sound") == old.sha


async def test_nothing_is_read_for_what_is_not_judged(measured: Measured) -> None:
    @capability
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    old, new = await two(measured)
    registry = measured.process()
    function = await registry.register(add.manifest)
    measured.ended(function, 0, 100)
    assert await registry.reflect({("add", function.sha), ("echo", old.sha), ("gone", new.sha)}) == []
    assert measured.read == 0
