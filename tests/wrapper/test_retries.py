"""What a capability and its model say about a failure reaches the retry policy; the key of the task reaches the capability."""

from __future__ import annotations

from typing import Any

import pytest
from arbiter_support import arbiter, call, completions
from pydantic import JsonValue

from arbiter import (
    Capability,
    Grants,
    Manifest,
    Permanent,
    RetryLater,
    RetryPolicy,
    RetryRule,
    Status,
    capability,
    current_task,
)
from blackboard.testing import RedisServer
from wrapper.isolation import Job, ProcessIsolation
from wrapper.models import ModelTransient

ANY: dict[str, Any] = {"type": "object"}
AT_ONCE = RetryPolicy(interval_seconds=0)


async def run_one(redis_server: RedisServer, made: Capability[..., Any]) -> Any:
    """The one task of a run that calls a function once."""
    turns = [call(made.manifest.name), "done"]
    async with arbiter(redis_server.url, turns, capabilities=(made,)) as (a, _):
        result = await a.run("Call it.", timeout=30)
    (task,) = result.state.work
    return task


async def run_source(redis_server: RedisServer, source: str, **manifest: Any) -> Any:
    """The one task of a run that calls isolated code once."""
    async with arbiter(redis_server.url, [call("made"), "done"]) as (a, _):
        made = Manifest(name="made", description="made for a test", input_schema=ANY, **manifest)
        await a.registry.register(made, source=source)
        result = await a.run("Call it.", timeout=30)
    (task,) = result.state.work
    return task


async def test_a_function_may_ask_to_be_tried_later_even_when_it_is_pure(redis_server: RedisServer) -> None:
    asked: list[int] = []

    @capability(retry=AT_ONCE)
    def busy() -> int:
        """Be busy once."""
        asked.append(1)
        if len(asked) == 1:
            raise RetryLater(0.05, "the desk is closed")
        return len(asked)

    task = await run_one(redis_server, busy)
    assert task.completion.data == 2
    (error,) = task.retries
    assert (error.type, error.message, error.retry_after_seconds) == ("retry_later", "the desk is closed", 0.05)


async def test_a_function_may_say_that_no_attempt_will_succeed(redis_server: RedisServer) -> None:
    class NoSuchCustomer(Permanent):
        pass

    @capability(effects="reads", retry=AT_ONCE)
    def look_up() -> int:
        """Look up nobody."""
        raise NoSuchCustomer("there is no customer 7")

    task = await run_one(redis_server, look_up)
    error = task.completion.error
    assert (task.attempts, error.type, error.message) == (1, "permanent", "there is no customer 7")
    assert error.names == ("NoSuchCustomer", "Permanent", "Exception")


async def test_a_wait_longer_than_the_run_ends_the_task_at_once_with_the_reason(redis_server: RedisServer) -> None:
    @capability(effects="reads")
    def closed() -> int:
        """Be closed until tomorrow."""
        raise RetryLater(80_000, "closed until tomorrow")

    error = (await run_one(redis_server, closed)).completion.error
    assert error.message.startswith("closed until tomorrow. No attempt follows: a wait of 80000.0 s does not fit")


async def test_rules_know_the_exceptions_of_a_function_by_any_of_their_classes(redis_server: RedisServer) -> None:
    rules = (RetryRule(errors=("ConnectionError",), retry=True), RetryRule(errors=("LookupError",), retry=False))
    raised: list[Exception] = [ConnectionResetError("reset"), KeyError("k")]

    @capability(retry=RetryPolicy(interval_seconds=0, rules=rules))
    def fails() -> None:
        """Fail in two ways."""
        raise raised.pop(0)

    task = await run_one(redis_server, fails)
    assert [error.names[:2] for error in task.retries] == [("ConnectionResetError", "ConnectionError")]
    assert task.completion.error.names == ("KeyError", "LookupError", "Exception")


@pytest.mark.parametrize("seconds", [-1, float("nan"), "the oven is busy"])
def test_a_wait_that_is_none_is_refused_and_a_longer_one_than_a_day_is_a_day(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"seconds: .* the reason comes behind it"):
        RetryLater(seconds)
    assert RetryLater(1e9).seconds == 86_400


ONCE_BUSY = """
from wrapper import sdk

def handler():
    task = sdk.current_task()
    if task.attempt == 1:
        raise sdk.RetryLater(0.05, "not yet: " + task.idempotency_key)
    return [task.idempotency_key, task.task_id, task.run_id, task.attempt, task.fence]
"""


async def test_g4_isolated_code_may_ask_for_later_and_has_the_same_key_in_every_attempt(
    redis_server: RedisServer,
) -> None:
    task = await run_source(redis_server, ONCE_BUSY, retry=AT_ONCE)
    key, task_id, run_id, attempt, fence = task.completion.data
    assert key == task_id == task.id
    assert (run_id, attempt) == (task.id.partition("/")[0], 2)
    assert fence > 0
    (error,) = task.retries
    assert (error.type, error.message, error.retry_after_seconds) == ("retry_later", f"not yet: {key}", 0.05)
    assert error.names == ("RetryLater", "Exception")


async def test_isolated_code_may_say_that_no_attempt_will_succeed(redis_server: RedisServer) -> None:
    source = "from wrapper import sdk\ndef handler():\n    raise sdk.Permanent('no such order')\n"
    task = await run_source(redis_server, source, retry=AT_ONCE, effects="reads")
    assert (task.attempts, task.completion.error.type) == (1, "permanent")


async def test_g4_keys_differ_between_tasks_and_threads_of_isolated_code_know_theirs(redis_server: RedisServer) -> None:
    source = """
from concurrent.futures import ThreadPoolExecutor
from wrapper import sdk

def handler(n):
    return ThreadPoolExecutor(1).submit(sdk.current_task).result().idempotency_key
"""
    async with arbiter(redis_server.url, [[call("made", n=1), call("made", n=2)], "done"]) as (a, _):
        await a.registry.register(Manifest(name="made", description="d", input_schema=ANY), source=source)
        result = await a.run("Call it twice.", timeout=30)
    keys = [done.data for done in completions(result).values()]
    assert keys == [task.id for task in result.state.work]
    assert len(set(keys)) == 2


SAYS_MORE: dict[str, tuple[str, float | None, tuple[str, ...]]] = {
    "an endless wait": ("error = sdk.RetryLater(1); error.seconds = float('inf'); raise error", None, ("RetryLater",)),
    "no number": ("error = sdk.RetryLater(1); error.seconds = 'soon'; raise error", None, ("RetryLater",)),
    "a long name": ("raise type('x' * 100_000, (ValueError,), {})('y')", None, ("x" * 100, "ValueError")),
}


@pytest.mark.parametrize("case", SAYS_MORE)
async def test_what_isolated_code_says_of_its_failure_is_kept_within_bounds(case: str) -> None:
    says, wait, names = SAYS_MORE[case]
    async with ProcessIsolation(preload_strands=False, parked=1) as isolation:
        outcome = await isolation.run(Job.of(f"from wrapper import sdk\ndef handler():\n    {says}\n"))
    assert outcome.error is not None
    assert outcome.error.retry_after_seconds == wait
    assert outcome.error.names[: len(names)] == names


async def test_in_an_exam_there_is_no_task() -> None:
    source = "from wrapper import sdk\ndef handler():\n    return sdk.current_task()\n"
    async with ProcessIsolation(preload_strands=False, parked=1) as isolation:
        assert (await isolation.run(Job.of(source))).value is None
    assert current_task() is None


ASKS = """
from wrapper import sdk

def handler():
    messages = [{"role": "user", "content": [{"text": "hello"}]}]
    return sdk.call("model.invoke", {"messages": messages})["message"]["content"][0]["text"]
"""


async def asks(redis_server: RedisServer, *answers: Any, source: str = ASKS, **manifest: Any) -> tuple[Any, int]:
    """The task of code that asks its model, and how often the model was asked by it."""
    outer, inner = [call("made"), "done"], list(answers)
    asked: list[int] = []

    def turn(messages: Any, specs: Any) -> JsonValue:
        if specs:
            return outer[sum(message["role"] == "assistant" for message in messages)]
        asked.append(1)
        said = inner.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    async with arbiter(redis_server.url, [turn] * 9) as (a, _):
        made = Manifest(
            name="made", description="asks", input_schema=ANY, grants=Grants(model=True), retry=AT_ONCE, **manifest
        )
        await a.registry.register(made, source=source)
        result = await a.run("Call it.", timeout=30)
    (task,) = result.state.work
    return task, len(asked)


async def test_a_wait_that_a_call_of_isolated_code_does_not_sit_out_is_waited_by_its_task(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wrapper.models.converse import converse

    monkeypatch.setitem(converse.__globals__, "LONGEST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr("wrapper.execute.LONGEST_WAIT_SECONDS", 0.01)
    busy = ModelTransient("too many requests", code="http_429", retry_after=0.05)
    task, asked = await asks(redis_server, busy, "hello yourself")
    assert (task.completion.data, asked) == ("hello yourself", 2)
    (error,) = task.retries
    assert (error.type, error.retry_after_seconds, error.names[:2]) == ("model_error", 0.05, ("http_429", "throttled"))


async def test_what_a_call_of_isolated_code_repeated_is_not_repeated_once_more_by_its_task(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(seconds: float) -> None: ...

    from wrapper.models.converse import converse

    monkeypatch.setitem(converse.__kwdefaults__, "sleep", at_once)
    busy = [ModelTransient("busy", code="http_503") for _ in range(20)]
    task, asked = await asks(redis_server, *busy, effects="reads")
    assert (task.completion.status, task.completion.error.type) == (Status.FAILED, "model_error")
    assert (task.attempts, asked) == (1, 4)


async def test_an_error_of_the_code_itself_is_not_blamed_on_a_model_that_answered_in_the_end(
    redis_server: RedisServer,
) -> None:
    refused = ModelTransient("no", code="http_503", retry_after=900)
    source = ASKS.replace("def handler():", "def ask():") + (
        "\n\ndef handler():\n    try:\n        ask()\n    except sdk.CallError:\n        pass\n    ask()\n"
        "    raise KeyError('mine')\n"
    )
    task, asked = await asks(redis_server, refused, "fine", source=source)
    assert (task.completion.error.type, task.attempts, asked) == ("handler_error", 1, 2)
