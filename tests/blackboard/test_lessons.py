"""What a board learnt: the same in any order, bounded, kept apart by tenant, followed, and gone with its run."""

from __future__ import annotations

import random

import pytest
import redis.asyncio
import watched_catalogs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackboard.audit import Audit
from blackboard.board import Board
from blackboard.catalog import Catalog
from blackboard.lessons import MOST, MOST_CHARACTERS, Lessons, Subject, need_text
from blackboard.redaction import remember

client = watched_catalogs.client
watched = watched_catalogs.watched

NAMES = ("add", "sub", "acmes")
TENANTS = ("acme", "rival")
NEEDS = ("add up", "Add  up", "sum it", "take away", "one\x1eof\x1ftwo")


@pytest.fixture
async def catalog(client: redis.asyncio.Redis, board_name: str) -> Catalog:
    return await stocked(client, board_name)


async def stocked(client: redis.asyncio.Redis, board: str) -> Catalog:
    """A catalog with two capabilities that tenants share and one of a single tenant."""
    catalog = Catalog(client, "test", board)
    for name in NAMES:
        await catalog.register(name=name, sha="a" * 64, tenant="acme" if name == "acmes" else "*", manifest="{}")
    return catalog


async def texts(catalog: Catalog) -> dict[Subject, list[str]]:
    """What a reader sees that starts from nothing."""
    told = await Lessons(catalog).follow()
    return {subject: [need.text for need in needs] for subject, needs in told.changed.items() if needs}


LESSON = st.tuples(
    st.sampled_from(("r1", "r2", "r3")),
    st.sampled_from(TENANTS),
    st.integers(1, 4),
    st.sampled_from(NAMES),
    st.sampled_from(NEEDS),
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(taught=st.lists(LESSON, max_size=8), order=st.randoms(use_true_random=False), forgotten=st.integers(0, 3))
async def test_lessons_come_to_the_same_in_any_order_and_however_often_and_a_follower_sees_them(
    client: redis.asyncio.Redis,
    board_name: str,
    taught: list[tuple[str, str, int, str, str]],
    order: random.Random,
    forgotten: int,
) -> None:
    seen: list[dict[Subject, list[str]]] = []
    for number, lessons in enumerate((taught, [*taught, *taught[:3]])):
        board = await stocked(client, f"{board_name}-{number}")
        await Lessons(board).forget()
        if number:
            order.shuffle(lessons)
        follower, followed = Lessons(board), dict[Subject, list[str]]()
        for run, tenant, at, name, need in lessons:
            await Lessons(board).learn(run, tenant, float(at), [(name, need)])
            followed |= {key: [need.text for need in needs] for key, needs in (await follower.follow()).changed.items()}
        for run in ("r1", "r2", "r3")[:forgotten]:
            await Lessons(board).forget_run(run)
        followed |= {key: [need.text for need in needs] for key, needs in (await follower.follow()).changed.items()}
        now = await texts(board)
        assert {key: needs for key, needs in followed.items() if needs} == now
        assert ("acmes", "rival") not in now
        seen.append(now)
    if not forgotten:
        assert seen[0] == seen[1]
    if forgotten == 3:
        assert seen == [{}, {}]


async def test_the_newest_are_kept_and_the_same_need_is_renewed(catalog: Catalog) -> None:
    lessons = Lessons(catalog)
    for number in range(MOST + 3):
        assert await lessons.learn(f"r{number}", "acme", number, [("add", f"need {number}")]) == 1
    kept = (await texts(catalog))["add", "acme"]
    assert kept == [f"need {number}" for number in reversed(range(3, MOST + 3))]
    assert await lessons.learn("late", "acme", 1, [("add", "need of long ago")]) == 0
    assert await lessons.learn("again", "acme", 99, [("add", "NEED 5")]) == 1
    assert (await texts(catalog))["add", "acme"][:2] == ["NEED 5", f"need {MOST + 2}"]
    assert await lessons.forget_run("r5") == 0, "a later run taught it again"
    assert await lessons.forget_run("again") == 1


async def test_each_tenants_needs_are_kept_apart_and_what_belongs_to_another_learns_nothing(catalog: Catalog) -> None:
    lessons = Lessons(catalog)
    await lessons.learn("r1", "acme", 1, [("add", "sum of acme"), ("acmes", "only here"), ("unknown", "nothing")])
    await lessons.learn("r2", "rival", 1, [("add", "sum of rival"), ("acmes", "sneaked in")])
    assert await texts(catalog) == {
        ("add", "acme"): ["sum of acme"],
        ("acmes", "acme"): ["only here"],
        ("add", "rival"): ["sum of rival"],
    }
    assert await lessons.forget(tenant="acme") == 2
    assert await texts(catalog) == {("add", "rival"): ["sum of rival"]}
    assert await lessons.forget("add", "acme") == 0
    assert await lessons.forget("add") == 1
    assert await texts(catalog) == {}


async def test_secrets_and_control_characters_are_taken_out_and_long_texts_are_not_learnt(catalog: Catalog) -> None:
    remember("shop", "s3cret-value-of-the-shop")
    lessons = Lessons(catalog)
    await lessons.learn(
        "r1", "acme", 1, [("add", "log in with s3cret-value-of-the-shop\n\x1e\x1f now"), ("sub", "\ud800 minus")]
    )
    assert (await texts(catalog))["add", "acme"] == ["log in with [secret:shop] now"]
    assert (await texts(catalog))["sub", "acme"] == ["minus"]
    assert await lessons.learn("r2", "acme", 2, [("add", "x" * (MOST_CHARACTERS + 1)), ("add", " "), ("add", "")]) == 0
    assert need_text("x" * MOST_CHARACTERS) is not None


async def _now(client: redis.asyncio.Redis) -> float:
    seconds, microseconds = await client.time()
    return seconds + microseconds / 1e6


async def test_a_follower_of_a_server_that_lost_its_end_begins_anew(
    catalog: Catalog, client: redis.asyncio.Redis
) -> None:
    lessons, follower = Lessons(catalog), Lessons(catalog)
    await lessons.learn("r1", "acme", 1, [("add", "kept")])
    prefix = catalog.trail("uses").removesuffix("uses")
    saved = (
        await client.hgetall(prefix + "served"),
        await client.zrange(prefix + "lessons", 0, -1, withscores=True),
        await client.hgetall(prefix + "learnt"),
    )
    await lessons.learn("r2", "acme", 2, [("sub", "lost")])
    await follower.follow()
    for key in ("served", "lessons", "learnt"):
        await client.delete(prefix + key)
    await client.hset(prefix + "served", mapping=saved[0])
    await client.zadd(prefix + "lessons", dict(saved[1]))
    await client.hset(prefix + "learnt", mapping=saved[2])
    lost = 1000 * await _now(client)
    while 1000 * await _now(client) <= lost + 2:  # a failover takes longer: what comes after it has later revisions
        pass
    await lessons.learn("r3", "rival", 3, [("add", "new")])
    told = (await follower.follow()).changed
    assert {subject: [need.text for need in needs] for subject, needs in told.items()} == {
        ("add", "acme"): ["kept"],
        ("sub", "acme"): [],
        ("add", "rival"): ["new"],
    }


async def test_a_reader_whose_call_failed_in_the_middle_misses_nothing(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blackboard.lessons._AT_ONCE", 1)
    lessons, follower = Lessons(catalog), Lessons(catalog)
    for name in ("add", "sub"):
        await lessons.learn("r1", "acme", 1, [(name, f"need of {name}")])
    call, calls = catalog.call, 0

    async def fails_once(script: str, args: list[str], **more: str) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionError("gone")
        return await call(script, args, **more)

    monkeypatch.setattr(catalog, "call", fails_once)
    with pytest.raises(ConnectionError):
        await follower.follow()
    assert set((await follower.follow()).changed) == {("add", "acme"), ("sub", "acme")}
    assert (await follower.follow()).changed == {}


async def test_a_calibration_is_set_once_told_to_followers_and_on_record(redis_board: Board) -> None:
    lessons, follower = Lessons(redis_board.catalog), Lessons(redis_board.catalog)
    assert (await follower.follow()).calibration is None
    before = (await redis_board.catalog.pointers()).learnt
    assert await lessons.calibrate('{"weights": []}', "ann", {"cases": 60}, operation="one")
    assert await lessons.calibrate('{"weights": []}', "ann", {"cases": 60}, operation="one"), (
        "it answers as it did then"
    )
    assert not await lessons.calibrate('{"weights": []}', "ann", {"cases": 60})
    assert (await redis_board.catalog.pointers()).learnt != before
    assert (await follower.follow()).calibration == '{"weights": []}'
    assert await lessons.calibrate(None, "ben", {})
    assert (await follower.follow()).calibration is None
    records = (await Audit(redis_board).list("kind=matching.calibrated")).entries
    assert [(each.by, each.detail) for each in records] == [("ben", {}), ("ann", {"cases": 60})]
