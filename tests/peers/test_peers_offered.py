"""What a model is offered of peers: nothing that nobody reaches now, in any round."""

from __future__ import annotations

import pytest

from arbiter import Arbiter, ScriptedModel, capability
from blackboard.peers import Peers
from blackboard.testing import RedisServer
from registry import listing
from registry.peers import mcp

OFFERS = mcp.listing(
    "shop", [{"name": name, "description": f"Find the {name}.", "inputSchema": {"type": "object"}} for name in "ab"]
).offers


async def test_what_nobody_reaches_is_offered_to_the_model_in_no_round(
    redis_server: RedisServer, board_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "HEARD_SECONDS", 0.0)  # what is said counts at once
    offered: list[set[str]] = []

    class Watched(ScriptedModel):
        async def stream(self, messages, tool_specs=None, system_prompt=None, **more):  # type: ignore[no-untyped-def]
            offered.append({spec["name"] for spec in tool_specs or ()} & {"shop_a", "shop_b"})
            async for event in super().stream(messages, tool_specs, system_prompt, **more):
                yield event

    said: list[Peers] = []

    @capability
    async def shut() -> str:
        """Close the shop."""
        await said[0].say("mcp:shop", "p", "down", seconds=60, reason="closed")
        return "closed"

    model = Watched([{"tool": "shut", "input": {}}, "done"])
    async with Arbiter(
        redis_server.url, model, board=board_name, capabilities=[shut], roles=("arbiter", "wrapper"), grace_seconds=0.2
    ) as a:
        said.append(Peers(a.board.catalog))
        for offer in OFFERS:
            await a.registry.register(offer.manifest)
        await said[0].say("mcp:shop", "p", "up", seconds=60)
        result = await a.run("Close the shop.", timeout=30)
        assert result.status == "succeeded"
        assert offered == [{"shop_a", "shop_b"}, set()]
        assert set(await a.registry.unavailable()) == {"shop_a", "shop_b"}
        assert [each.name for each in await a.registry.offered()] == ["shut"]
        decision = await a.registry.decide("find the a")
        assert not {"shop_a", "shop_b"} & set(decision.chosen)
