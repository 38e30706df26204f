"""Which isolation generated code gets is the operator's to name, is on every completion, and is said where it is weaker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import JsonValue

from arbiter import Arbiter, BadInput, Call, Manifest
from blackboard.errors import IsolationUnavailable
from blackboard.types import Status
from wrapper.isolation import Isolation, Job, Outcome, detection

ADD_ONE = Manifest.of(
    {
        "name": "add_one",
        "description": "Add one to a number.",
        "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        "output_schema": {"type": "integer"},
    }
)
SOURCE = "def handler(n):\n    return n + 1\n"


class Elsewhere:
    """A virtual machine somewhere else, for all the Arbiter knows."""

    label = "elsewhere"
    life: list[str]

    def __init__(self) -> None:
        self.life = []

    async def start(self) -> None:
        self.life.append("start")

    async def run(
        self,
        job: Job,
        broker: Callable[[str, JsonValue], Awaitable[JsonValue]] | None = None,
        cancelled: asyncio.Event | None = None,
    ) -> Outcome:
        self.life.append(job.op)
        return Outcome(Status.SUCCEEDED, 42, isolation=self.label)

    async def close(self) -> None:
        self.life.append("close")


async def ended(isolation: str | Isolation | None) -> tuple[str | None, Status, JsonValue, str | None]:
    async with Arbiter("memory://", roles=("wrapper",), isolation=isolation) as a:
        await a.registry.register(ADD_ONE, source=SOURCE)
        result = await a.run(Call("add_one", {"n": 1}))
    (task,) = result.state.work
    assert task.completion is not None
    done = task.completion
    return done.isolation, done.status, result.data, done.error.type if done.error else None


async def test_g10_the_strongest_isolation_is_used_where_none_was_named() -> None:
    label, status, data, _ = await ended(None)
    assert (label in ("zygote-ns", "zygote-lsm"), status, data) == (True, Status.SUCCEEDED, 2)


async def test_a_weaker_isolation_that_was_named_is_on_the_completion_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    label, _, data, _ = await ended("process")
    assert (label, data) == ("process", 2)
    assert "NOT kept from this user's files and the network" in caplog.text


async def test_an_isolation_of_ones_own_takes_the_place_of_ours() -> None:
    own = Elsewhere()
    label, _, data, _ = await ended(own)
    assert (label, data) == ("elsewhere", 42)
    assert own.life == ["start", "call", "close"]


async def test_g10_without_isolation_generated_code_is_refused_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find(named: str | None = None) -> None:
        raise IsolationUnavailable("zygote-ns: no unshare; zygote-lsm: no Landlock")

    monkeypatch.setattr(detection, "find", find)
    label, status, _, word = await ended(None)
    assert (label, status, word) == (None, Status.REFUSED, "isolation")


def test_an_isolation_that_does_not_exist_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="zygote-ns, zygote-lsm, seatbelt, process"):
        Arbiter("memory://", isolation="docker")
    monkeypatch.setenv("ARBITER_ISOLATION", "docker")
    with pytest.raises(BadInput, match="ARBITER_ISOLATION"):
        Arbiter("memory://")


def test_an_arbiter_knows_whether_an_operator_lowered_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Arbiter("memory://").sandboxed
    assert not Arbiter("memory://", isolation="process").sandboxed
    assert Arbiter("memory://", isolation=Elsewhere()).sandboxed
    monkeypatch.setenv("ARBITER_ISOLATION", "process")
    assert not Arbiter("memory://").sandboxed
    assert Arbiter("memory://").isolation_label == "process"
