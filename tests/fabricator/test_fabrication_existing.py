"""Fabrication beside what there is already: used, left alone, or recorded as near to it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import taxshop

from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.types import Status
from fabricator import Fabricator
from registry import Manifest, Registry
from wrapper.isolation import ProcessIsolation
from wrapper.models import ScriptedModel

Post = Callable[..., Awaitable[Claim]]
Stages = Callable[[str], Awaitable[list[Any]]]


async def test_a_capability_that_exists_is_used_and_no_model_is_asked(fabricate: Any, stages: Stages) -> None:
    first = await fabricate(taxshop.script(taxshop.RIGHT))
    model = taxshop.script(taxshop.RIGHT)
    again = await fabricate(model)

    assert again.status is Status.SUCCEEDED
    assert again.data["reused"] is True
    assert again.data["version"] == first.data["version"]
    assert again.data["exam"]["passed"] is True
    assert not model.calls
    (stage,) = await stages(again.orchestration_id)
    assert (stage.stage, stage.round, stage.outcome) == ("duplicate_check", 0, "passed")


async def test_a_capability_another_run_registered_meanwhile_is_used_and_not_replaced(
    redis_board: Board, registry: Registry, isolation: ProcessIsolation, post: Post
) -> None:
    other = Manifest(name="add_tax", description="Another one.", input_schema={"type": "object"}, tenant="default")

    def meanwhile(*_: Any) -> str:
        return taxshop.block(taxshop.RIGHT)

    class Slow(ScriptedModel):
        async def stream(self, *args: Any, **more: Any) -> Any:
            if len(self.calls) == 1:
                await registry.register(other, source="def handler(): return 1")
            async for event in super().stream(*args, **more):
                yield event

    script = [
        {"system": "^You are the Examiner", "turns": [lambda *_: json.dumps(taxshop.SPEC)]},
        {"system": "^You are the Fabricator", "turns": [meanwhile]},
    ]
    done = await Fabricator(registry, isolation, Slow(script)).handle(Attempt(redis_board, await post()))

    assert done.status is Status.SUCCEEDED
    assert done.data["reused"] is True
    assert done.data["description"] == "Another one."
    assert len(await registry.versions("add_tax")) == 1


async def test_g10_what_nobody_vouches_for_any_more_is_made_and_examined_anew(
    fabricate: Any, registry: Registry, stages: Stages
) -> None:
    """Also when the very same code comes out again: it is the same version, with a new exam and a new signature."""
    first = await fabricate(taxshop.script(taxshop.RIGHT))
    version = await registry.resolve("add_tax")
    assert version.signature is not None
    now = (await registry.trust.read()).now_ms
    await registry.trust.revoke(version.signature.key, by="a test", before_ms=now + 1)
    assert not await registry.vouched(version)

    again = await fabricate(taxshop.script(taxshop.RIGHT))

    assert again.status is Status.SUCCEEDED
    assert again.data["reused"] is False
    assert "made and examined anew" in (await stages(again.orchestration_id))[0].detail
    assert again.data["version"] == first.data["version"]
    assert (await registry.load("add_tax")).version.state == "active"


async def test_a_process_whose_key_does_not_count_asks_no_model(fabricate: Any, registry: Registry) -> None:
    await registry.trust.add("1" * 32, "ab", by="a test")
    model = taxshop.script(taxshop.RIGHT)
    done = await fabricate(model)
    assert (done.status, done.error.type) == (Status.REFUSED, "signature")
    assert "arbiter keys trust" in done.error.message
    assert not model.calls
    assert await registry.names() == []


async def test_a_name_of_another_tenant_is_not_taken(fabricate: Any, registry: Registry) -> None:
    await fabricate(taxshop.script(taxshop.RIGHT), tenant="one")
    model = taxshop.script(taxshop.RIGHT)
    done = await fabricate(model, tenant="two")

    assert (done.status, done.error.type) == (Status.FAILED, "name_taken")
    assert "another name" in done.error.message
    assert not model.calls
    assert (await registry.resolve("add_tax")).manifest.tenant == "one"


async def test_a_near_duplicate_is_recorded_and_does_not_stop_anything(fabricate: Any, stages: Stages) -> None:
    await fabricate(taxshop.script(taxshop.RIGHT))
    model = taxshop.script(taxshop.RIGHT, name="add_vat")
    done = await fabricate(model, "add_vat", need=taxshop.SPEC["description"])

    assert done.status is Status.SUCCEEDED
    first, *_, last = await stages(done.orchestration_id)
    likely = first.evidence["best_fits"]
    assert likely >= 0.5
    assert first.detail == f"close to add_tax, which fits with a probability of {likely:.2f}"
    assert first.evidence["closest"][0]["name"] == "add_tax"
    # What was made is compared with what is there, text by text.
    (alike,) = last.evidence["similar"]
    assert alike["name"] == "add_tax"
    assert done.data["similar"] == [f"{alike['likeness']:.2f} the same as add_tax: extend add_tax instead?"]
    assert last.detail.endswith(done.data["similar"][0])


async def test_what_another_tenant_has_is_no_duplicate_and_is_not_named(fabricate: Any, stages: Stages) -> None:
    await fabricate(taxshop.script(taxshop.RIGHT), tenant="one")
    done = await fabricate(
        taxshop.script(taxshop.RIGHT, name="add_vat"), "add_vat", need=taxshop.SPEC["description"], tenant="two"
    )
    assert done.status is Status.SUCCEEDED
    assert "similar" not in done.data
    assert "add_tax" not in json.dumps([each.model_dump(mode="json") for each in await stages(done.orchestration_id)])
