"""A board that learns from failures: generated code that fails gives way to what worked, in whichever process serves it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from arbiter import Arbiter, Call, reflecting
from arbiter.cli.parser import build
from blackboard.errors import BadInput, EngineUnavailable
from blackboard.lately import Ended
from blackboard.testing import RedisServer
from blackboard.types import Completion, Failure, Status
from registry import Manifest, Registry, Version

WORKS = "def handler(n: int) -> int:\n    return n + 1\n"
FAILS = "def handler(n: int) -> int:\n    raise ValueError(n)\n"
CALL = Call("up", {"n": 1})
EVERY_RUN = 1 - 1e-12
"""A share of the runs that leaves none to the active version; a canary is not given all of them."""


def manifest(description: str) -> Manifest:
    given = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    return Manifest(name="up", description=description, input_schema=given, output_schema={"type": "integer"})


@pytest.fixture(params=["redis"])
def serving(
    request: pytest.FixtureRequest, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Arbiter]:
    """An Arbiter on one board that runs code and looks at each failure at once."""
    monkeypatch.setattr(reflecting, "REST_SECONDS", 0.0)
    board = "t" + uuid.uuid4().hex[:12]
    given: dict[str, Any] = {"board": board, "isolation": "process", "roles": ("wrapper",), "grace_seconds": 1.0}
    url = redis_server.url if request.param == "redis" else f"memory://{board}"
    return lambda **more: Arbiter(url, **{**given, **more})


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await check():
            await asyncio.sleep(0.01)


async def two(a: Arbiter) -> tuple[Version, Version]:
    """A version that works, which was called three times, and one after it, which does not."""
    old = await a.registry.register(manifest("Count up."), source=WORKS)
    for _ in range(3):
        assert (await a.run(CALL, timeout=60)).data == 2
    return old, await a.registry.register(manifest("Count up, better."), source=FAILS)


@pytest.mark.parametrize("serving", ["redis", "memory"], indirect=True)
async def test_code_that_fails_gives_way_to_the_version_that_worked(serving: Callable[..., Arbiter]) -> None:
    async with serving() as a:
        old, new = await two(a)
        for _ in range(5):
            assert (await a.run(CALL, timeout=60)).status == "failed"

        async def back() -> bool:
            return (await a.registry.resolve("up")).sha == old.sha

        await until(back)
        assert (await a.run(CALL, timeout=60)).data == 2
        pinned = await a.run(Call("up", {"n": 1}, version=new.sha), timeout=60)
        assert pinned.status == "failed", "whoever asks for a version gets it"
        (record,) = (await a.audit.list("kind=version.activated")).entries
        assert (record.subject, record.by.startswith("reflection of ")) == (f"up|{old.sha}", True)
        assert record.detail["version"]["failed"] == 5


def test_a_daemon_acts_unless_it_is_told_not_to() -> None:
    for command in ("serve", "worker"):
        assert build().parse_args([command]).reflect
        assert not build().parse_args([command, "--no-reflection"]).reflect


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("handler_error", True),
        ("timeout", True),
        ("model_error", False),
        ("limit", False),
        ("deadline", False),
        ("", False),
    ],
)
async def test_only_what_code_did_itself_is_held_against_it_and_kept_while_no_server_answers(
    kind: str, own: bool
) -> None:
    looked: list[Any] = []

    class Known:
        async def reflect(self, versions: Any) -> list[Any]:
            looked.append(versions)
            if len(looked) == 1:
                raise EngineUnavailable("gone")
            raise asyncio.CancelledError

    reflection = reflecting.Reflection(cast(Registry, Known()))
    claim: Any = SimpleNamespace(capability="up", version="a" * 64)
    error = Failure(type=kind, message="no") if kind else None
    for _ in range(3):
        reflection.ended(claim, cast(Completion, SimpleNamespace(status=Status.FAILED, error=error)))
    if not own:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reflection.run(), 0)
        return
    with pytest.raises(EngineUnavailable):
        await reflection.run()
    with pytest.raises(asyncio.CancelledError):
        await reflection.run()
    assert looked == [{("up", "a" * 64)}] * 2


async def test_a_task_that_waits_keeps_the_version_it_was_planned_with(serving: Callable[..., Arbiter]) -> None:
    async def counted(versions: Sequence[tuple[str, str]]) -> list[Ended]:
        known = {old.sha: Ended(10, 0, 10, 0), new.sha: Ended(0, 20, 0, 20)}
        return [known[sha] for _, sha in versions]

    async with serving(roles=()) as a:
        old = await a.registry.register(manifest("Count up."), source=WORKS)
        new = await a.registry.register(manifest("Count up, better."), source=FAILS)
        waiting = await a.submit(CALL)
        assert len(await Registry(a.board.catalog, ended=counted).reflect()) == 1
    async with serving() as b:
        result = await b.result(waiting, timeout=60)
        assert [task.completion.version for task in result.state.work if task.completion] == [new.sha]
        assert (await b.run(CALL, timeout=60)).state.work[0].version == old.sha


async def test_nothing_is_looked_at_for_what_succeeds_or_is_refused(
    serving: Callable[..., Arbiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    plain = Registry.reflect

    async def counted(registry: Registry, versions: Any = None) -> Any:
        looks.append(versions)
        return await plain(registry, versions)

    monkeypatch.setattr(Registry, "reflect", counted)
    async with serving() as a:
        await a.registry.register(manifest("Count up."), source=WORKS)
        assert (await a.run(CALL, timeout=60)).status == "succeeded"
        await a.registry.register(manifest("Count up, unsigned."), source=WORKS, sign=False)
        assert (await a.run(CALL, timeout=60)).status == "refused"
        assert looks == []
        new = await a.registry.register(manifest("Count up, badly."), source=FAILS)
        assert (await a.run(CALL, timeout=60)).status == "failed"

        async def looked() -> bool:
            return bool(looks)

        await until(looked)
    assert looks == [{("up", new.sha)}]


# ---- canaries --------------------------------------------------------------------------------------------------------


async def on_trial(a: Arbiter, source: str = WORKS, canary: float = 0.5) -> tuple[Version, Version]:
    """A version that works, which was called three times, and its canary."""
    old = await a.registry.register(manifest("Count up."), source=WORKS)
    for _ in range(3):
        assert (await a.run(CALL, timeout=60)).data == 2
    return old, await a.registry.register(manifest("Count up, better."), source=source, canary=canary)


async def test_a_canary_that_fails_is_ended_in_whichever_process_serves_it(serving: Callable[..., Arbiter]) -> None:
    async with serving() as a:
        old, new = await on_trial(a, FAILS)
        used: list[str | None] = []
        async with asyncio.timeout(120):
            while (await a.registry.resolve("up", new.sha)).state == "canary":
                result = await a.run(CALL, timeout=60)
                used.append(result.state.work[0].version)
                assert (result.status == "failed") == (used[-1] == new.sha)
        assert set(used) == {old.sha, new.sha}
        assert (await a.run(CALL, timeout=60)).state.work[0].version == old.sha
        (record,) = (await a.audit.list("kind=version.retired")).entries
        assert (record.subject, record.by.startswith("reflection of ")) == (f"up|{new.sha}", True)
        assert record.detail["canary"]["succeeded"] == 0


async def test_one_success_of_a_canary_is_enough_for_a_look_and_a_good_one_takes_the_place(
    serving: Callable[..., Arbiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as a:
        old, new = await on_trial(a)
        plain = a.board.ended

        async def much_more(versions: Sequence[tuple[str, str]]) -> list[Ended]:
            return [
                each._replace(succeeded=each.succeeded + 60 * bool(each.succeeded)) for each in await plain(versions)
            ]

        monkeypatch.setattr(a.registry, "_lately", much_more)
        assert (await a.registry.resolve("up")).sha == old.sha
        assert (await a.run(Call("up", {"n": 1}, version=new.sha), timeout=60)).data == 2

        async def promoted() -> bool:
            return (await a.registry.resolve("up")).sha == new.sha

        await until(promoted)
        assert (await a.registry.resolve("up", old.sha)).state == "retired"


async def test_a_call_is_pinned_by_its_key_and_keeps_its_version_when_the_canary_is_gone(
    serving: Callable[..., Arbiter],
) -> None:
    async with serving() as a:
        old, new = await on_trial(a)
    async with serving(roles=()) as a:
        runs = {key: await a.submit(CALL, idempotency_key=key) for key in map(str, range(20))}
        assert {key: await a.submit(CALL, idempotency_key=key) for key in runs} == runs
        pinned = {key: (await a.board.history(run))[0].data.pins["up"] for key, run in runs.items()}
        assert set(pinned.values()) == {old.sha, new.sha}
        assert pinned == {key: (await a.registry.tried(await a.registry.resolve("up"), key)).sha for key in runs}
        explicit = await a.submit(Call("up", {"n": 1}, version=old.sha))
        await a.registry.retire("up", new.sha, reason="enough")
    async with serving() as b:
        for key, run in runs.items():
            result = await b.result(run, timeout=60)
            assert (result.data, result.state.work[0].version) == (2, pinned[key])
        assert (await b.result(explicit, timeout=60)).state.work[0].version == old.sha


async def test_a_canary_whose_signature_counts_no_more_is_used_by_no_new_call(serving: Callable[..., Arbiter]) -> None:
    async with serving() as a:
        old, new = await on_trial(a, canary=EVERY_RUN)
        assert (await a.run(CALL, timeout=60)).state.work[0].version == new.sha
        await a.board.client.hdel(a.board.catalog.trail("audit").removesuffix("audit") + "signatures", f"up|{new.sha}")
        result = await a.run(CALL, timeout=60)
        assert (result.data, result.state.work[0].version) == (2, old.sha)
        rows = {row.state: row for row in await a.capabilities()}
        assert (rows["canary"].sha, rows["canary"].health) == (new.sha, "unsigned")


async def test_a_canary_of_a_tenant_is_used_and_seen_by_nobody_else(serving: Callable[..., Arbiter]) -> None:
    async with serving(tenant="acme") as a, serving(tenant="rival") as rival:
        own = manifest("Count up.").model_copy(update={"tenant": "acme"})
        await a.registry.register(own, source=WORKS)
        for _ in range(3):
            await a.run(CALL, timeout=60)
        better = own.model_copy(update={"description": "Count up, better."})
        new = await a.registry.register(better, source=WORKS, canary=EVERY_RUN)
        assert (await a.run(CALL, timeout=60)).state.work[0].version == new.sha
        with pytest.raises(BadInput, match="no such capability"):
            await rival.submit(CALL)
        assert [row.state for row in await a.capabilities()] == ["active", "canary"]
        assert list(await rival.capabilities()) == []
