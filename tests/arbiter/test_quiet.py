"""An inquiry tells those who wait for it that nothing is left to do, and ends when nothing comes of that."""

from __future__ import annotations

from arbiter_support import arbiter

from arbiter import AgendaTerms, Grants, Inquiry, Limits, Posting, Query, TopicGrants, Trigger, capability
from blackboard.testing import RedisServer
from wrapper import sdk

GRANTS = Grants(topics=TopicGrants(read=("found.>", "control.quiet"), write=("found.>", "total", "more.>")))
KNOWN = [Posting("known.a", {"number": 3}), Posting("known.b", {"number": 4})]


@capability(effects="writes", grants=GRANTS, triggers=[Trigger(topic="known.*", bind={"number": "content.number"})])
def square(number: int) -> None:
    """Square what is known."""
    sdk.post(f"found.{number}", number * number)


@capability(effects="writes", grants=GRANTS, triggers=[Trigger(topic="control.quiet", bind={})])
def total(entry: dict[str, object]) -> None:
    """Sum up when nothing is left to do."""
    sdk.post("total", sum(one["content"] for one in sdk.query("found.*")["entries"]))


@capability(effects="writes", grants=GRANTS, triggers=[Trigger(topic="control.quiet", bind={})])
def restless(entry: dict[str, object]) -> None:
    """Find something new to say each time."""
    sdk.post("more.x", entry["position"])


@capability(effects="reads", triggers=[Trigger(topic="control.quiet", bind={})])
def silent(entry: dict[str, object]) -> None:
    """Look, and say nothing."""


UNTIL_TOTAL = AgendaTerms(until=Query(topic="total"))


async def test_who_sums_up_runs_after_everybody_else(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(square, total)) as (a, _):
        result = await a.run(Inquiry(KNOWN, UNTIL_TOTAL), timeout=30)
    assert (result.status, result.answer) == ("succeeded", "25")
    assert [task.capability for task in result.state.work] == ["square", "square", "total"]


async def test_it_ends_once_nothing_came_of_telling(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(square, silent)) as (a, _):
        result = await a.run(Inquiry(KNOWN, UNTIL_TOTAL), timeout=30)
        told = (await a.entries.within(f"run:{result.run_id}").query("control.quiet")).entries
    assert (result.status, result.error and result.error.type) == ("failed", "stagnation")
    assert [one.content for one in told] == [{"round": 2}]


async def test_nobody_is_told_where_nobody_waits_for_it(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(square,)) as (a, _):
        result = await a.run(Inquiry(KNOWN), timeout=30)
        told = (await a.entries.within(f"run:{result.run_id}").query("control.quiet")).entries
    assert (result.status, told, len(result.state.rounds)) == ("succeeded", (), 2)


async def test_who_always_has_something_to_say_is_stopped_by_the_limit_of_rounds(redis_server: RedisServer) -> None:
    async with arbiter(redis_server.url, ["unused"], capabilities=(restless,)) as (a, _):
        result = await a.run(Inquiry(KNOWN, UNTIL_TOTAL), timeout=30, limits=Limits(rounds=4))
    assert (result.status, result.error and result.error.type) == ("failed", "stagnation")
    assert len(result.state.rounds) == 4
