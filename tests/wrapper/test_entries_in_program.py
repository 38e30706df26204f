"""Functions of the program speak to the board of their run like isolated code: on granted topics, under the task's lease."""

from __future__ import annotations

from typing import Any

from arbiter_support import arbiter

from arbiter import Call, Grants, Status, TopicGrants, capability
from blackboard.testing import RedisServer
from blackboard.types import Completion
from wrapper import sdk

TOPICS = Grants(topics=TopicGrants(read=("claims.>",), write=("claims.>",)))


async def ended(url: str, function: Any, **given: Any) -> tuple[Completion, list[Any]]:
    """How a call of it ended, and the run's entries."""
    async with arbiter(url, ["unused"], capabilities=(function,)) as (a, _):
        result = await a.run(Call(function.manifest.name, given), timeout=60)
        found = await a.entries.within(f"run:{result.run_id}").query()
    (task,) = result.state.work
    assert task.completion is not None
    return task.completion, list(found.entries)


async def test_a_function_writes_and_reads_entries_of_its_run_as_its_task(redis_server: RedisServer) -> None:
    @capability(effects="writes", grants=TOPICS, sources=("mail:inbox",))
    def note(amount: int) -> dict[str, Any]:
        """Write down an amount."""
        first = sdk.post("claims.a", {"amount": amount}, confidence=0.5)
        sdk.post("claims.b", [1], links=[("supports", first["id"])])
        return {"found": [one["content"] for one in sdk.query("claims.a", "amount>5")["entries"]]}

    done, entries = await ended(redis_server.url, note, amount=7)
    assert done.data == {"found": [{"amount": 7}]}
    assert [(one.topic, one.author.kind, one.author.name) for one in entries] == [
        ("claims.a", "task", "note"),
        ("claims.b", "task", "note"),
    ]
    assert "mail:inbox" in entries[0].taint
    assert entries[1].links[0].to == entries[0].id


async def test_a_second_attempt_that_writes_the_same_adds_nothing(redis_server: RedisServer) -> None:
    attempts: list[str] = []

    @capability(effects="writes", grants=TOPICS)
    def note() -> int:
        """Write, and fail once."""
        attempts.append(sdk.post("claims.a", "x")["id"])
        if len(attempts) == 1:
            raise ConnectionError("the line is gone")
        return len(attempts)

    done, entries = await ended(redis_server.url, note)
    assert (done.data, len(entries), len(set(attempts))) == (2, 1, 1)


async def test_what_a_function_has_read_taints_what_it_writes_and_returns(redis_server: RedisServer) -> None:
    @capability(effects="writes", grants=TOPICS)
    def pass_on() -> int:
        """Write what was there to read."""
        found = sdk.take("claims.first", seconds=10)
        assert found is not None
        sdk.post("claims.second", found["content"])
        return 1

    async with arbiter(redis_server.url, ["unused"], capabilities=(pass_on,)) as (a, _):
        run_id = await a.submit(Call("pass_on", {}))
        entries = a.entries.within(f"run:{run_id}")
        await entries.post("claims.first", "pay me", taint=["mail:stranger"])
        result = await a.result(run_id, timeout=60)
        (second,) = (await entries.query("claims.second")).entries
    (task,) = result.state.work
    assert "mail:stranger" in second.taint
    assert task.completion is not None
    assert "mail:stranger" in task.completion.taint


async def test_asking_for_a_topic_that_is_not_granted_ends_as_refused_even_when_it_is_caught(
    redis_server: RedisServer,
) -> None:
    seen: list[str] = []

    @capability(effects="writes", grants=TOPICS)
    def greedy() -> str:
        """Ask for more."""
        for topic in ("secrets.a", "claims.afterwards"):
            try:
                sdk.post(topic, 1)
            except sdk.CallError as error:
                seen.append(error.type)
        return "fine"

    done, entries = await ended(redis_server.url, greedy)
    assert (done.status, done.error and done.error.type) == (Status.REFUSED, "grant")
    assert (seen, entries) == (["denied", "denied"], [])


async def test_an_async_function_awaits_its_calls_and_is_told_when_it_would_block(redis_server: RedisServer) -> None:
    @capability(effects="writes", grants=TOPICS)
    async def note() -> str:
        """Write without blocking."""
        await sdk.call_async("entry.post", {"topic": "claims.a", "content": 1})
        try:
            sdk.post("claims.b", 1)
        except RuntimeError as error:
            return str(error)
        return "it blocked"

    done, entries = await ended(redis_server.url, note)
    assert "await call_async()" in done.data
    assert [one.topic for one in entries] == ["claims.a"]


async def test_what_is_no_json_and_what_is_not_of_entries_is_refused(redis_server: RedisServer) -> None:
    @capability(effects="writes", grants=TOPICS)
    def odd() -> list[str]:
        """Say what cannot be said."""
        said: list[str] = []
        for ask in (lambda: sdk.post("claims.a", {1, 2}), lambda: sdk.fetch("https://example.com/")):
            try:
                ask()
            except sdk.CallError as error:
                said.append(error.type)
        return said

    done, entries = await ended(redis_server.url, odd)
    assert (done.data, entries) == (["not_json", "denied"], [])
