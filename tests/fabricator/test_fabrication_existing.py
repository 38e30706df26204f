"""Fabrication beside what there is already: used, left alone, or recorded as near to it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import taxshop

from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.types import Status
from fabricator import Fabricator
from registry import Manifest, Registry, Version
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


FAILURES = [
    {"input": {"net_cents": "integer"}, "error": "handler_error", "message": "ZeroDivisionError: of the old one"}
]


async def failing(registry: Registry) -> Version:
    """A capability of the tenant that is there and does not work."""
    old = Manifest(name="add_tax", description="The old one.", input_schema={"type": "object"}, tenant="default")
    return await registry.register(old, source="def handler(**given): return 1 / 0\n")


async def test_a_capability_that_fails_is_made_anew_and_gives_way_and_only_the_generator_is_told_how_it_failed(
    fabricate: Any, registry: Registry, stages: Stages
) -> None:
    old = await failing(registry)
    model = taxshop.script(taxshop.RIGHT)
    done = await fabricate(model, replaces=old.sha, failures=FAILURES)

    assert (done.status, done.data["reused"]) == (Status.SUCCEEDED, False)
    new = await registry.resolve("add_tax")
    assert new.sha == done.data["version"] != old.sha
    assert new.exam is not None
    assert new.manifest.provenance["replaces"] == old.sha
    assert (await registry.resolve("add_tax", old.sha)).replaced, "it can be gone back to"
    assert "the one that exists fails" in (await stages(done.orchestration_id))[0].detail
    examiner, generator = model.calls
    assert "of the old one" in str(generator.messages)
    assert "<data-" in str(generator.messages)
    assert "of the old one" not in str(examiner.messages)


async def test_what_fails_stays_when_the_new_one_does_not_pass_its_exam_or_is_the_same(
    fabricate: Any, registry: Registry
) -> None:
    old = await failing(registry)
    done = await fabricate(taxshop.script(*[taxshop.WRONG] * 2), replaces=old.sha, failures=FAILURES)
    assert done.error.type == "fabrication_failed"
    assert (await registry.resolve("add_tax")).sha == old.sha

    first = await fabricate(taxshop.script(taxshop.RIGHT), replaces=old.sha, failures=FAILURES)
    again = await fabricate(taxshop.script(taxshop.RIGHT), replaces=first.data["version"], failures=FAILURES)
    assert again.error.type == "fabrication_failed"
    assert "as the version that fails" in again.error.message
    assert (await registry.resolve("add_tax")).sha == first.data["version"]


async def test_a_better_one_that_is_there_by_now_is_used(fabricate: Any, registry: Registry) -> None:
    old = await failing(registry)
    better = Manifest(name="add_tax", description="A better one.", input_schema={"type": "object"}, tenant="default")
    new = await registry.register(better, source="def handler(**given): return 1\n")
    model = taxshop.script(taxshop.RIGHT)
    done = await fabricate(model, replaces=old.sha, failures=FAILURES)
    assert (done.data["reused"], done.data["version"]) == (True, new.sha)
    assert not model.calls


@pytest.mark.parametrize("meanwhile", ["retired", "replaced"])
async def test_what_became_of_the_failing_version_meanwhile_is_minded(
    redis_board: Board, registry: Registry, isolation: ProcessIsolation, post: Post, meanwhile: str
) -> None:
    old = await failing(registry)
    better = Manifest(name="add_tax", description="A better one.", input_schema={"type": "object"}, tenant="default")

    class Slow(ScriptedModel):
        async def stream(self, *args: Any, **more: Any) -> Any:
            if len(self.calls) == 1:
                if meanwhile == "retired":
                    await registry.retire("add_tax", old.sha)
                else:
                    await registry.register(better, source="def handler(**given): return 1\n")
            async for event in super().stream(*args, **more):
                yield event

    script = [
        {"system": "^You are the Examiner", "turns": [lambda *_: json.dumps(taxshop.SPEC)]},
        {"system": "^You are the Fabricator", "turns": [lambda *_: taxshop.block(taxshop.RIGHT)]},
    ]
    claim = await post(replaces=old.sha, failures=FAILURES)
    done = await Fabricator(registry, isolation, Slow(script)).handle(Attempt(redis_board, claim))
    assert done.status is Status.SUCCEEDED
    assert done.data["reused"] is (meanwhile == "replaced")
    assert (await registry.resolve("add_tax")).sha == done.data["version"]
