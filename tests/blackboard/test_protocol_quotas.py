"""G12: who gets how much of the workers, how fast, and how many runs may be open; on every engine."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict

import pytest
from strict import Play, broken, done, spec, watched_play

from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.errors import BadInput, QuotaExceeded
from blackboard.quotas import Quota, QuotaReport, Quotas
from blackboard.types import Limits, RetryPolicy

play = watched_play
ONE_TRY = RetryPolicy(max_attempts=1)


@pytest.fixture
def quotas(play: Play) -> Quotas:
    return Quotas(play.board)


def each(play: Play, n: int) -> int:
    """A number of which every shard has ``n``: what a test asks of one shard holds wherever its runs are."""
    return n * len(play.board.shards)


async def drawn(play: Play, n: int) -> list[Claim]:
    """Up to ``n`` claims, one call each."""
    return [claim for _ in range(n) for claim in await play.take()]


# ---- turns -----------------------------------------------------------------------------------------------------------


async def test_g12_a_run_with_a_few_tasks_does_not_wait_behind_another_ones_many(play: Play) -> None:
    big = await play.run(*(spec(f"t{i}") for i in range(100)))
    await drawn(play, 10)
    small = await play.run(spec("x"), spec("y"))
    order = [claim.run_id for claim in await drawn(play, 6)]
    assert Counter(order) == {big: 4, small: 2}
    assert order.index(small) <= 2


async def test_g12_priority_is_a_head_start_that_age_catches_up_with(play: Play) -> None:
    old = await play.run(spec("low", priority=4))
    waited = 0
    urgent = await play.run(*(spec(f"u{i}", priority=5) for i in range(200)))
    while (await play.one()).run_id == urgent:
        waited += 1
    assert 10 <= waited <= 60
    assert await play.state(f"{old}/1.low") == "claimed"


async def test_g12_calls_that_keep_coming_starve_neither_a_run_nor_a_call_of_lower_priority(play: Play) -> None:
    """A call is a run of its own: each turn serves those that wait, and moves on for those that come."""
    run = await play.run(spec("patient"))
    low = await play.board.submit_call("x", {}, lane="work", priority=4)
    served: list[str] = []
    while low not in served and len(served) < 150:
        await play.board.submit_call("x", {}, lane="work")
        claim = await play.one()
        await play.board.complete(claim, done(claim))
        served.append(claim.run_id)
    assert served.index(run) <= 1
    assert 10 <= served.index(low) <= 102  # two wait at a time


async def test_g12_work_that_comes_back_after_a_failure_takes_its_turn_anew(play: Play) -> None:
    await play.run(*(spec(f"t{i}") for i in range(30)))
    play.board.random.uniform = lambda low, high: high  # type: ignore[method-assign]
    for claim in await drawn(play, 20):
        await play.board.fail(claim, broken(claim))
    other = await play.run(*(spec(f"o{i}") for i in range(3)))
    await play.clock.advance(2)
    await play.board.sweep(expire=False)
    assert [claim.run_id for claim in await drawn(play, 8)].count(other) == 3


async def test_work_that_was_given_back_keeps_its_place(play: Play) -> None:
    await play.run(*(spec(f"t{i}") for i in range(5)))
    first = await play.one()
    await play.board.release(first)
    assert (await play.one()).key == first.key


async def test_g12_tenants_share_by_weight(play: Play, quotas: Quotas) -> None:
    await quotas.set(Quota(subject="tenant:gold", weight=3))
    for tenant in ("gold", "plain"):
        await play.run(*(spec(f"t{i}") for i in range(40)), tenant=tenant)
    assert Counter(claim.tenant for claim in await drawn(play, 24)) == {"gold": 18, "plain": 6}


@pytest.mark.parametrize("seed", range(3))
async def test_g12_no_run_waits_longer_than_its_turn_whatever_the_others_post(play: Play, seed: int) -> None:
    """Of k runs of a tenant with work of one priority, none is passed over for more than k claims and one turn."""
    chance = random.Random(seed)
    waiting: dict[str, int] = defaultdict(int)
    passed: dict[str, int] = defaultdict(int)
    for _ in range(6):
        run = await play.run(*(spec(f"t{i}") for i in range(chance.randint(1, 12))))
        waiting[run] = len([t for t in await play.board.history(run) if t.type.endswith("task.posted.v1")]) - 1
        for _ in range(chance.randint(0, 4)):
            for claim in await play.take():
                waiting[claim.run_id] -= 1
                passed[claim.run_id] = 0
                for other in waiting:
                    if other != claim.run_id and waiting[other] > 0:
                        passed[other] += 1
                        assert passed[other] <= 2 * len(waiting), other


# ---- at a time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["board", "tenant:default", "capability:count"])
async def test_g12_no_more_attempts_at_a_time_than_the_quota(play: Play, quotas: Quotas, subject: str) -> None:
    await play.run(*(spec(f"t{i}") for i in range(9)))
    await quotas.set(Quota(subject=subject, at_once=each(play, 2)))
    held = await play.take(n=9)
    assert len(held) == 2
    assert await drawn(play, 3) == []
    await play.board.complete(held[0], done(held[0]))
    assert len(await play.take(n=9)) == 1
    await play.sound()


async def test_g12_an_attempt_that_fails_is_released_or_loses_its_lease_makes_room(play: Play, quotas: Quotas) -> None:
    await quotas.set(Quota(subject="capability:count", at_once=each(play, 1)))
    await play.run(*(spec(f"t{i}") for i in range(9)))
    first = await play.one()
    await play.board.fail(first, broken(first))
    second = await play.one()
    await play.board.release(second)
    third = await play.one()
    assert third.key == second.key
    await play.clock.advance(5)
    await play.board.sweep()
    fourth = await play.one()
    await play.board.cancel_task(fourth.task_id)
    await play.board.complete(fourth, done(fourth))
    assert len(await play.take(n=9)) == 1
    await play.sound()


async def test_g12_what_a_quota_holds_back_keeps_nobody_else_waiting(play: Play, quotas: Quotas) -> None:
    await quotas.set(Quota(subject="capability:slow", at_once=each(play, 1)))
    await play.run(*(spec(f"s{i}", capability="slow") for i in range(300)), spec("quick"))
    seen: list[Claim] = []
    for _ in range(4):
        seen += await play.take(n=3)
    assert sorted(claim.capability for claim in seen) == ["count", "slow"]
    slow = next(claim for claim in seen if claim.capability == "slow")
    await play.board.complete(slow, done(slow))
    assert [claim.key for claim in await play.take(n=3)] == ["s1"]
    await play.sound()


async def test_what_was_held_back_ends_when_its_run_is_cancelled_and_is_handed_out_without_the_quota(
    play: Play, quotas: Quotas
) -> None:
    await quotas.set(Quota(subject="capability:slow", at_once=each(play, 1)))
    run = await play.run(*(spec(f"s{i}", capability="slow") for i in range(3)))
    other = await play.run(*(spec(f"s{i}", capability="slow") for i in range(2)))
    (held,) = await play.take(n=9)
    assert held.run_id == run
    await play.board.cancel_run(run)
    await play.board.complete(held, done(held))
    await quotas.remove("capability:slow")
    assert {claim.run_id for claim in await play.take(n=9)} == {other}
    await play.sound()


async def test_g12_a_tenant_at_its_quota_does_not_keep_the_others_from_theirs(play: Play, quotas: Quotas) -> None:
    await quotas.set(Quota(subject="tenant:busy", at_once=each(play, 1)))
    await play.run(*(spec(f"t{i}") for i in range(9)), tenant="busy")
    await play.run(*(spec(f"t{i}") for i in range(9)), tenant="free")
    assert Counter(claim.tenant for claim in await drawn(play, 8)) == {"busy": 1, "free": 7}


@pytest.mark.engines("redis", "cluster", "valkey")
async def test_g12_a_hundred_tenants_at_their_quota_hide_nobody(play: Play, quotas: Quotas) -> None:
    for i in range(100):
        await quotas.set(Quota(subject=f"tenant:a{i:02}", at_once=each(play, 1)))
        await play.run(spec("x"), spec("y"), tenant=f"a{i:02}")
    assert len(await play.take(n=100)) + len(await drawn(play, 8)) == 100
    await play.run(spec("z"), tenant="zz")
    assert [claim.tenant for claim in await drawn(play, 8)] == ["zz"]


async def test_a_quota_set_while_work_goes_on_counts_it(play: Play, quotas: Quotas) -> None:
    await play.run(*(spec(f"t{i}") for i in range(9)))
    held = await play.take(n=3)
    await quotas.set(Quota(subject="tenant:default", at_once=each(play, 4)))
    assert len(await play.take(n=9)) == 1
    await quotas.set(Quota(subject="tenant:default", at_once=each(play, 2)))
    for claim in held[:2]:
        await play.board.complete(claim, done(claim))
    assert await play.take(n=9) == []
    await play.board.complete(held[2], done(held[2]))
    assert len(await play.take(n=9)) == 1
    assert await quotas.report() == [
        QuotaReport(quota=Quota(subject="tenant:default", at_once=each(play, 2)), running=2)
    ]
    await quotas.remove("tenant:default")
    assert len(await play.take(n=9)) == 4
    assert await quotas.report() == []


@pytest.mark.engines("redis", "memory")
@pytest.mark.parametrize("seed", range(4))
async def test_g12_any_history_keeps_every_quota_and_every_count(play: Play, quotas: Quotas, seed: int) -> None:
    chance = random.Random(seed)
    bounds = {"board": 7, "tenant:a": 3, "tenant:b": 2, "capability:x": 2, "capability:y": 4}
    for subject, most in bounds.items():
        await quotas.set(Quota(subject=subject, at_once=each(play, most)))
    held: list[Claim] = []
    for tenant in "aabbc":
        tasks = [spec(f"t{i}", capability=chance.choice("xyz"), retry=ONE_TRY) for i in range(12)]
        await play.run(*tasks, tenant=tenant)
    for step in range(60):
        match chance.randrange(5):
            case 0 | 1:
                held += await play.take(n=chance.randint(1, 5))
            case 2 if held:
                claim = held.pop(chance.randrange(len(held)))
                await asyncio.gather(*(play.board.complete(claim, done(claim)) for _ in range(chance.choice((1, 2)))))
            case 3 if held:
                await play.board.release(held.pop(chance.randrange(len(held))))
            case 4 if held:
                claim = held.pop(chance.randrange(len(held)))
                await play.board.fail(claim, broken(claim))
            case _:
                pass
        counts = Counter[str]()
        for claim in held:
            counts.update(("board", f"tenant:{claim.tenant}", f"capability:{claim.capability}"))
        assert all(counts[subject] <= most for subject, most in bounds.items()), counts
        if step % 10 == 9:  # it reads everything there is
            await play.sound()
    while True:  # and nothing is held back for ever
        for claim in held:
            await play.board.complete(claim, done(claim))
        held = await play.take(n=50)
        if not held:
            break
    assert not list((await play.snapshot()).get("r:work", ()))


# ---- in a second -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["board", "tenant:default", "capability:count"])
async def test_g12_attempts_follow_each_other_no_faster_than_the_quota(
    play: Play, quotas: Quotas, subject: str
) -> None:
    await play.run(*(spec(f"t{i}") for i in range(40)))
    await quotas.set(Quota(subject=subject, per_second=each(play, 4), burst=each(play, 2)))
    await play.clock.advance(10)
    assert len(await play.take(n=9)) == 2
    claims, wait = await play.board.claim_or_wait("w", ["work"], n=5, shard=play.home)
    assert claims == []
    assert wait == pytest.approx(0.25)
    await play.clock.advance(0.25)
    assert len(await play.take(n=9)) == 1
    taken = 0
    for _ in range(40):
        await play.clock.advance(0.1)
        taken += len(await play.take(n=9))
    assert 15 <= taken <= 17


async def test_a_worker_that_a_rate_holds_back_is_told_when_to_look_again_even_beside_other_work(
    play: Play, quotas: Quotas
) -> None:
    await quotas.set(Quota(subject="capability:slow", per_second=each(play, 1)))
    await play.run(spec("a", capability="slow"), spec("b", capability="slow"), spec("c"))
    claims, wait = await play.board.claim_or_wait("w", ["work"], n=5, shard=play.home)
    assert sorted(claim.key for claim in claims) == ["a", "c"]
    assert wait == pytest.approx(1.0)


# ---- open runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["board", "tenant:default"])
async def test_g12_a_full_queue_refuses_says_when_to_come_again_and_lets_work_complete(
    play: Play, quotas: Quotas, subject: str
) -> None:
    await quotas.set(Quota(subject=subject, open_runs=each(play, 2)))
    first = await play.run(spec("a"))
    await play.board.submit("two", idempotency_key="two")
    before = await play.snapshot()
    with pytest.raises(QuotaExceeded, match=r"2 open runs of 2") as refused:
        await play.board.submit("three")
    assert refused.value.subject == subject
    assert refused.value.retry_after_seconds == 1  # nothing has ended yet
    assert await play.snapshot() == before
    assert await play.board.submit("two", idempotency_key="two")  # it is there already
    claim = await play.one()
    await play.board.complete(claim, done(claim))
    await play.plan(await play.one("arbiter") if first is None else await _step_of(play, first), answer="over")
    await play.board.submit("three")
    with pytest.raises(QuotaExceeded):
        await play.board.submit("four")
    await play.sound()


async def _step_of(play: Play, run: str) -> Claim:
    return next(claim for claim in await play.take("arbiter", n=9) if claim.run_id == run)


async def test_g12_runs_are_accepted_no_faster_than_the_quota(play: Play, quotas: Quotas) -> None:
    await quotas.set(Quota(subject="tenant:default", runs_per_second=each(play, 2), runs_burst=each(play, 3)))
    for _ in range(3):
        await play.board.submit("go")
    with pytest.raises(QuotaExceeded) as refused:
        await play.board.submit("go")
    assert refused.value.retry_after_seconds == pytest.approx(0.5)
    await play.board.submit("go", tenant="other")
    await play.clock.advance(0.5)
    await play.board.submit("go")


async def test_runs_that_end_by_cancellation_and_by_deadline_make_room(play: Play, quotas: Quotas) -> None:
    await quotas.set(Quota(subject="board", open_runs=each(play, 1)))
    run = await play.board.submit("go")
    await play.board.cancel_run(run)
    await play.board.submit("go", limits=Limits(seconds=5))
    await play.clock.advance(6)
    await play.board.sweep()
    await play.board.submit("go")
    await play.sound()


# ---- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"subject": "lane:x", "at_once": 1}, "subject"),
        ({"subject": "tenant:Bad Name", "at_once": 1}, "subject"),
        ({"subject": "board"}, "quota"),
        ({"subject": "capability:x", "open_runs": 3}, "subject"),
        ({"subject": "board", "weight": 2}, "weight"),
    ],
)
def test_a_quota_that_means_nothing_is_refused(given: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Quota.model_validate(given)


@pytest.mark.parametrize("subject", ["capability:*", "capability:price*", "model:*"])
@pytest.mark.engines("redis")
async def test_a_quota_that_could_bound_nobody_is_refused_and_can_be_taken_away(board: Board, subject: str) -> None:
    with pytest.raises(BadInput, match="does not stand for every") as refused:
        await Quotas(board).set(Quota(subject=subject, at_once=1000))
    assert (refused.value.field, refused.value.value) == ("subject", subject)
    assert await Quotas(board).report() == []
    await Quotas(board).remove(subject)


async def test_a_number_that_cannot_be_shared_out_over_the_shards_is_refused(board: Board) -> None:
    shards = len(board.shards)
    if shards > 1:
        with pytest.raises(BadInput, match="each keeps its part"):
            await Quotas(board).set(Quota(subject="board", at_once=shards - 1))
    assert await Quotas(board).report() == []


async def test_the_parts_of_a_quota_are_the_whole(play: Play, quotas: Quotas) -> None:
    most = 3 * len(play.board.shards) + 1
    quota = Quota(subject="board", at_once=most, open_runs=most)
    parts = [quotas._part(quota, shard.number) for shard in play.board.shards]  # pyright: ignore[reportPrivateUsage]
    assert sum(part["c"] for part in parts) == sum(part["o"] for part in parts) == most


async def test_g12_a_claim_of_more_than_is_read_together_takes_from_the_tenants_in_turn() -> None:
    async with await Board.open("memory://many-at-once") as board:
        for tenant, tasks in {"a": 150, "b": 150, "c": 10}.items():
            for _ in range(tasks):
                await board.submit_call("count", {}, lane="work", tenant=tenant)
        claimed = await board.claim("w", ["work"], n=250)
        assert [one.tenant for one in claimed[:30]] == ["a", "b", "c"] * 10
        assert Counter(one.tenant for one in claimed) == {"a": 120, "b": 120, "c": 10}
        assert len({one.task_id for one in claimed}) == 250
        assert Counter(one.tenant for one in await board.claim("w", ["work"], n=250)) == {"a": 30, "b": 30}
        assert await board.claim("w", ["work"], n=5) == []
