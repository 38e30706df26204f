"""Capabilities hold entries under a lease: they confirm what is done, and what a failed attempt held comes back (G4, G10)."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from arbiter_support import arbiter

from arbiter import Call, Grants, TopicGrants, capability
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.testing import RedisServer
from registry import Manifest
from wrapper import entry_broker, sdk
from wrapper.entry_broker import EntryBroker
from wrapper.isolation import BrokerError, NotGranted

GRANTED = Grants(topics=TopicGrants(read=("todo.>",), write=("todo.>",)))
LONG = 3600.0


class Scene:
    """Attempts at a task, one after the other, beside the entries of its run."""

    def __init__(self, board: Board, claim: Claim) -> None:
        self.board, self.claim = board, claim
        self.entries = Entries(board, f"run:{claim.run_id}")
        self.attempt()

    def attempt(self, grants: Grants = GRANTED) -> None:
        self.broker = EntryBroker(
            Manifest(name="some", description="Some.", input_schema={"type": "object"}, grants=grants),
            self.entries,
            self.claim,
        )

    async def again(self) -> None:
        """The attempt dies, and the next one begins."""
        await self.board.release(self.claim)
        (self.claim,) = await self.board.claim("w", ["work"])
        self.attempt()

    async def ask(self, method: str, **args: Any) -> Any:
        return await self.broker(f"entry.{method}", args)

    async def states(self, *entries: str) -> list[str]:
        return [one.state for each in entries if (one := await self.entries.read(each)) is not None]


@pytest.fixture
async def scene(redis_board: Board) -> Scene:
    await redis_board.submit_call("some", {}, lane="work")
    (claim,) = await redis_board.claim("w", ["work"])
    return Scene(redis_board, claim)


async def test_what_code_holds_it_renews_confirms_or_gives_back(scene: Scene) -> None:
    first, second = [(await scene.entries.post("todo.x", number)).id for number in (1, 2)]
    held = [await scene.ask("take", pattern="todo.*", lease_seconds=LONG) for _ in range(2)]
    assert [(one["id"], one["content"], one["state"]) for one in held] == [(first, 1, "leased"), (second, 2, "leased")]
    assert await scene.ask("take", pattern="todo.*") is None
    assert (await scene.ask("renew", entry=first, lease_seconds=LONG))["version"] == 3
    assert (await scene.ask("confirm", entry=first))["version"] == 4
    await scene.ask("give_back", entry=second)
    assert await scene.states(first, second) == ["taken", "live"]


async def test_the_next_attempt_goes_on_with_what_is_still_held_and_renews_it_anew(scene: Scene) -> None:
    first = (await scene.entries.post("todo.x", 1)).id
    await scene.ask("take", pattern="todo.*", lease_seconds=LONG)
    before = await scene.ask("renew", entry=first, lease_seconds=LONG)
    await scene.again()
    assert (await scene.ask("take", pattern="todo.*", lease_seconds=LONG))["id"] == first
    assert (await scene.ask("renew", entry=first, lease_seconds=LONG))["version"] == before["version"] + 1
    done = await scene.ask("confirm", entry=first)
    await scene.again()
    assert (await scene.ask("take", pattern="todo.*", lease_seconds=LONG))["state"] == "taken", "it was confirmed"
    assert (await scene.ask("confirm", entry=first))["position"] == done["position"]


async def test_the_next_attempt_takes_anew_where_the_lease_is_over(scene: Scene) -> None:
    first = (await scene.entries.post("todo.x", 1)).id
    await scene.ask("take", pattern="todo.*", lease_seconds=LONG)
    await scene.ask("give_back", entry=first)
    other = await scene.entries.take("todo.*", lease_seconds=LONG)
    second = (await scene.entries.post("todo.x", 2)).id
    assert other is not None
    assert other.id == first
    await scene.again()
    assert (await scene.ask("take", pattern="todo.*", lease_seconds=LONG))["id"] == second
    with pytest.raises(BrokerError) as refused:
        await scene.ask("confirm", entry=first)
    assert refused.value.type == "lease", "what another holds is not its own, whatever it was before"
    assert await scene.states(first, second) == ["leased", "leased"]


async def test_g10_code_holds_only_what_it_may_take_and_only_what_it_took(scene: Scene) -> None:
    first = (await scene.entries.post("todo.x", 1)).id
    other = await scene.entries.take("todo.*", lease_seconds=LONG)
    assert other is not None
    for method, more in (("confirm", {}), ("renew", {"lease_seconds": 1.0}), ("give_back", {})):
        with pytest.raises(BrokerError) as refused:
            await scene.ask(method, entry=first, **more)
        assert refused.value.type == "lease"
        with pytest.raises(BrokerError):
            await scene.ask(method, entry=7, **more)
    with pytest.raises(BrokerError, match="lease_seconds"):
        await scene.ask("take", pattern="todo.*", lease_seconds=-1)
    scene.attempt(Grants(topics=TopicGrants(read=("todo.>",))))
    with pytest.raises(NotGranted):
        await scene.ask("take", pattern="todo.*", lease_seconds=1)
    assert await scene.states(first) == ["leased"]


async def test_a_function_holds_what_it_works_on_through_the_sdk(redis_server: RedisServer) -> None:
    @capability(effects="writes", grants=GRANTED)
    def work() -> list[str]:
        """Do one thing, and leave another."""
        for name in ("todo.a", "todo.b"):
            sdk.post(name, name)
        for pattern, what in (("todo.a", sdk.confirm), ("todo.b", sdk.give_back)):
            held = sdk.take(pattern, lease_seconds=LONG)
            assert held is not None
            sdk.renew(held["id"], LONG)
            what(held["id"])
        return [one["topic"] for one in sdk.query("todo.>")["entries"]]

    async with arbiter(redis_server.url, ["unused"], capabilities=(work,)) as (a, _):
        assert (await a.run(Call("work", {}), timeout=30)).data == ["todo.b"]


def test_every_call_about_entries_has_its_function() -> None:
    named = {name.partition(".")[2] for name in entry_broker.METHODS}
    assert named <= {name for name, one in inspect.getmembers(sdk, inspect.isfunction) if name in sdk.__all__}
