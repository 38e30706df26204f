"""A version on trial beside the active one, on a real Redis server: pinned by its share of the runs, decided once, on record."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import redis.asyncio
import signing_support
from reflecting_support import Measured
from signing_support import CODE, EXAM

from blackboard.errors import BadInput, Conflict, ScriptRefused
from registry import Grants, Manifest, Registry, Version, capability

client = signing_support.client


@pytest.fixture
def board(client: redis.asyncio.Redis) -> Measured:
    return Measured(client)


def make(name: str = "echo", **changes: Any) -> Manifest:
    """One that asks nobody."""
    return signing_support.make(name, **{"grants": Grants(), **changes})


async def two(board: Measured, share: float = 0.5, name: str = "echo") -> tuple[Version, Version]:
    """An active version that did well, and its canary."""
    registry = board.process()
    old = await registry.register(make(name), source=CODE, exam=EXAM)
    board.ended(old, 10, 1)
    new = await registry.register(make(name, description="Newer."), source=CODE, exam=EXAM, canary=share)
    assert (await board.states(name), new.state) == (["active", "canary"], "canary")
    return old, new


async def chosen(registry: Registry, runs: int = 200, name: str = "echo") -> list[str]:
    active = await registry.resolve(name)
    return [(await registry.tried(active, f"r{number}")).sha for number in range(runs)]


async def test_a_share_of_the_runs_use_it_and_the_active_version_stays_the_one_that_is_offered(board: Measured) -> None:
    old, new = await two(board, 0.25)
    registry = board.process()
    assert [each.sha for each in await registry.list()] == [old.sha]
    assert (await registry.resolve("echo")).sha == old.sha
    told = await chosen(registry)
    assert set(told) == {old.sha, new.sha}
    assert 30 < told.count(new.sha) < 70
    assert await chosen(board.process()) == told, "in every process the same"
    assert (await registry.load("echo", new.sha)).version.sha == new.sha


async def test_the_first_version_and_one_after_what_did_not_do_well_is_active_at_once(board: Measured) -> None:
    registry = board.process()
    first = await registry.register(make(), source=CODE, exam=EXAM, canary=0.5)
    assert first.state == "active"
    second = await registry.register(make(description="Two."), source=CODE, exam=EXAM, canary=0.5)
    assert (second.state, await board.states()) == ("active", ["retired", "active"])
    board.ended(second, 1, 9)
    third = await registry.register(make(description="Three."), source=CODE, exam=EXAM, canary=0.5)
    assert third.state == "active"
    board.ended(third, 9, 0)
    await board.client.hdel(signing_support.PREFIX + "signatures", f"echo|{third.sha}")
    fourth = await registry.register(make(description="Four."), source=CODE, exam=EXAM, canary=0.5)
    assert fourth.state == "active", "what cannot run is no standard"


async def test_what_a_program_has_is_not_tried(board: Measured) -> None:
    @capability
    def echo(a: int) -> int:
        """Say it back."""
        return a

    await two(board)
    registry = board.process()
    function = await registry.register(echo.manifest, canary=0.5)
    assert (function.state, await board.states()) == ("active", ["retired", "retired", "active"])
    with pytest.raises(BadInput, match="lives in a program"):
        await registry.activate("echo", function.sha, canary=0.5)
    code = await registry.register(make(description="Again."), source=CODE, exam=EXAM, activate=False)
    with pytest.raises(BadInput, match="no other active version with code"):
        await registry.activate("echo", code.sha, canary=0.5)


@pytest.mark.parametrize("share", [0, 1, -0.1, 3, float("nan")])
async def test_what_is_no_share_is_refused(board: Measured, share: float) -> None:
    _, new = await two(board)
    with pytest.raises(BadInput, match="canary"):
        await board.process().activate("echo", new.sha, canary=share)
    with pytest.raises(BadInput, match="canary"):
        await board.process().register(make(description="3"), source=CODE, exam=EXAM, canary=share)


async def test_one_that_is_not_worse_takes_the_place_and_it_is_on_record_why(board: Measured) -> None:
    old, new = await two(board)
    board.ended(old, 110, 1)
    board.ended(new, 40, 0)
    assert await board.process().reflect() == []
    board.ended(new, 70, 0)
    (done,) = await board.process().reflect({("echo", new.sha)})
    assert str(done).startswith(f"the canary echo {new.sha[:12]} took the place of the active version: 70 of 70 tasks")
    assert await board.states() == ["retired", "active"]
    (record,) = await board.records()
    assert (record["verb"], record["subject"], record["reason"]) == ("activated", f"echo|{new.sha}", done.reason)
    assert record["by"].startswith("reflection of ")
    assert json.loads(record["detail"])["active"] == {"succeeded": 100, "failed": 0}, "since it began"
    assert set(await chosen(board.process())) == {new.sha}
    assert await board.process().reflect() == []
    board.ended(new, 70, 50)
    (back,) = await board.process().reflect()
    assert str(back).startswith(f"echo {new.sha[:12]} went back to {old.sha[:12]}")


async def test_one_that_is_worse_is_ended_and_not_gone_back_to(board: Measured) -> None:
    old, new = await two(board)
    board.ended(old, 30, 1)
    board.ended(new, 0, 2)
    assert await board.process().reflect() == []
    board.ended(new, 0, 5)
    (done,) = await board.process().reflect({("echo", old.sha)})
    assert "was ended: 0 of 5 tasks succeeded" in str(done)
    assert await board.states() == ["active", "retired"]
    (record,) = await board.records()
    assert (record["verb"], record["subject"]) == ("retired", f"echo|{new.sha}")
    assert set(await chosen(board.process())) == {old.sha}
    assert (await board.process().load("echo", new.sha)).version.sha == new.sha, "what is pinned to it runs"
    board.ended(old, 30, 60)
    (judged,) = await board.process().reflect()
    assert "retired" in str(judged)


async def test_nothing_else_is_decided_about_the_active_version_meanwhile(board: Measured) -> None:
    old, new = await two(board)
    board.ended(old, 10, 60)
    assert await board.process().reflect() == []
    board.ended(new, 3, 0)
    (done,) = await board.process().reflect()
    assert done.version.sha == new.sha
    assert await board.states() == ["retired", "active"]


async def test_without_tasks_it_stays_and_says_how_many_are_missing(board: Measured) -> None:
    await two(board)
    board.ended(await board.process().resolve("echo"), 1000, 1)
    assert await board.process().reflect() == []
    (told,) = await board.process().trials()
    assert told.active == (990, 0)
    assert told.counts == (0, 0)
    assert 30 < (told.missing or 0) < 80
    assert str(told) == (
        "canary for 0.5 of the runs: 0 of 0 tasks succeeded, of the active version's 990 of 990 tasks succeeded; "
        f"to take its place it needs about {told.missing} more that do"
    )


@pytest.mark.parametrize("good", [True, False], ids=["takes the place", "is ended"])
async def test_processes_that_decide_at_the_same_time_do_it_once(board: Measured, good: bool) -> None:
    names = ("one", "two", "three")
    for name in names:
        old, new = await two(board, name=name)
        board.ended(old, 110, 1)
        board.ended(new, 80 * good, 80 * (not good))
    await asyncio.gather(*(board.process().reflect() for _ in range(4)))
    assert sorted(each["subject"].partition("|")[0] for each in await board.records()) == sorted(names)
    for name in names:
        assert await board.states(name) == (["retired", "active"] if good else ["active", "retired"])


async def test_what_a_process_decided_that_died_before_it_acted_another_does(board: Measured) -> None:
    old, new = await two(board)
    board.ended(old, 110, 1)
    board.ended(new, 80, 0)

    async def dies() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await board.late(dies).reflect()
    assert await board.states() == ["active", "canary"]
    assert len(await board.process().reflect()) == 1
    assert await board.states() == ["retired", "active"]


async def retired(registry: Registry, old: Version, new: Version) -> None:
    await registry.retire("echo", new.sha, reason="it leaks")


async def tried_again(registry: Registry, old: Version, new: Version) -> None:
    await registry.retire("echo", new.sha)
    await registry.activate("echo", new.sha, canary=0.1)


async def activated(registry: Registry, old: Version, new: Version) -> None:
    await registry.activate("echo", new.sha, reason="I know it")


async def replaced(registry: Registry, old: Version, new: Version) -> None:
    await registry.register(make(description="Newest."), source=CODE, exam=EXAM)


async def revoked(registry: Registry, old: Version, new: Version) -> None:
    await registry.revoke("echo", new.sha)


@pytest.mark.parametrize(
    ("person", "states"),
    [
        (retired, ["active", "retired"]),
        (tried_again, ["active", "canary"]),
        (activated, ["retired", "active"]),
        (replaced, ["retired", "retired", "active"]),
        (revoked, ["active", "retired"]),
    ],
)
@pytest.mark.parametrize("good", [True, False])
async def test_what_somebody_decided_meanwhile_stands(
    board: Measured, person: Any, states: list[str], good: bool
) -> None:
    old, new = await two(board)
    board.ended(old, 110, 1)
    board.ended(new, 80 * good, 80 * (not good))
    assert await board.late(lambda: person(board.process(), old, new)).reflect() == []
    assert await board.states() == states
    assert await board.process().reflect() == []
    assert not [each for each in await board.records() if each["by"].startswith("reflection")]


async def test_retiring_the_active_version_ends_its_canary_as_revoking_it_does(board: Measured) -> None:
    old, _ = await two(board)
    assert (await board.process().retire("echo")) is not None
    assert await board.states() == ["retired", "retired"]
    assert await board.process().list() == []
    other, new = await two(board, name="other")
    await board.process().revoke("other", other.sha)
    assert await board.states("other") == ["retired", "retired"]
    await board.process().activate("echo", old.sha)
    assert await board.states() == ["active", "retired"], "what was ended does not come back with it"
    assert (await board.process().resolve("other", new.sha)).trial is None


async def test_another_canary_takes_the_place_of_the_one_there_was(board: Measured) -> None:
    old, new = await two(board)
    third = await board.process().register(make(description="Third."), source=CODE, exam=EXAM, canary=0.5)
    assert await board.states() == ["active", "retired", "canary"]
    assert set(await chosen(board.process())) == {old.sha, third.sha}
    board.ended(new, 500, 0)
    assert await board.process().reflect() == []


async def test_a_second_trial_of_the_same_version_begins_anew(board: Measured) -> None:
    old, new = await two(board)
    board.ended(old, 110, 1)
    board.ended(new, 0, 80)
    assert len(await board.process().reflect()) == 1
    again = await board.process().activate("echo", new.sha, reason="its service is back", canary=0.2)
    assert (again.state, await board.process().reflect()) == ("canary", [])
    (record,) = [each for each in await board.records() if each["verb"] == "tried"]
    assert record["reason"] == "its service is back"
    board.ended(old, 210, 1)
    board.ended(new, 80, 80)
    (done,) = await board.process().reflect()
    assert done.reason.startswith("80 of 80 tasks succeeded")
    assert await board.states() == ["retired", "active"]


async def test_g4_a_trial_asked_for_again_answers_as_it_did_whatever_came_of_it(board: Measured) -> None:
    old, new = await two(board)
    await board.process().retire("echo", new.sha)

    async def asked() -> Version:
        return await board.process().activate("echo", new.sha, expected_active=old.sha, operation="try it", canary=0.2)

    assert (await asked()).state == "canary"
    await board.process().activate("echo", new.sha)
    assert (await asked()).state == "active"
    await board.process().retire("echo")
    assert (await asked()).state == "retired"
    assert await board.states() == ["retired", "retired"]
    with pytest.raises(Conflict):
        await board.process().activate("echo", new.sha, expected_active=old.sha, operation="another", canary=0.2)


async def test_registered_again_it_goes_on_as_it_is(board: Measured) -> None:
    _, new = await two(board)
    again = await board.process().register(make(description="Newer."), source=CODE, exam=EXAM, canary=0.1)
    assert again == new
    assert (await board.process().register(make(), source=CODE, exam=EXAM, canary=0.1)).state == "active"
    assert await board.states() == ["active", "canary"]
    await board.process().register(make(description="Newer."), source=CODE, exam=EXAM)
    assert await board.states() == ["retired", "active"]


async def test_the_active_version_is_no_canary_and_what_failed_its_exam_neither(board: Measured) -> None:
    old, _ = await two(board)
    with pytest.raises(BadInput, match="no other active version"):
        await board.process().activate("echo", old.sha, canary=0.5)
    failed = {**EXAM.model_dump(), "passed": False}
    bad = await board.process().register(make(description="Bad."), source=CODE, exam=failed, activate=False)
    with pytest.raises(ScriptRefused, match="only a version that did not fail can be canary"):
        await board.process().activate("echo", bad.sha, canary=0.5)
    with pytest.raises(Conflict, match="look at it and decide again"):
        await board.process().activate("echo", bad.sha, expected_active="f" * 64, canary=0.5)


async def test_what_nobody_vouches_for_any_more_is_used_by_no_run(board: Measured) -> None:
    old, new = await two(board)
    await board.client.hdel(signing_support.PREFIX + "signatures", f"echo|{new.sha}")
    assert set(await chosen(board.process(), 20)) == {old.sha}
    assert await board.states() == ["active", "canary"]


async def test_a_name_of_another_tenant_cannot_be_given_a_canary(board: Measured) -> None:
    registry = board.process()
    old = await registry.register(make(tenant="acme"), source=CODE, exam=EXAM)
    board.ended(old, 10, 0)
    with pytest.raises(Conflict, match="belongs to tenant acme"):
        await registry.register(make(tenant="rival"), source=CODE, exam=EXAM, canary=0.5)
    new = await registry.register(make(tenant="acme", description="New."), source=CODE, exam=EXAM, canary=0.5)
    assert (new.state, new.visible_to("acme"), new.visible_to("rival")) == ("canary", True, False)
