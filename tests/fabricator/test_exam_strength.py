"""How much an exam proves is measured with mistakes planted in what passed it; one that notices too few is not enough."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import taxshop

from blackboard.errors import IsolationUnavailable, UnknownRecord
from blackboard.types import Status
from fabricator import FabricationSettings
from fabricator.judging import Judge
from fabricator.specification import Specification
from fabricator.trial import Trial
from registry import Registry

Stages = Callable[[str], Awaitable[list[Any]]]


def case(name: str, net: int, rate: int | None = None) -> dict[str, Any]:
    tax = (net * (rate or 0) + 5_000) // 10_000
    given = {"net_cents": net} if rate is None else {"net_cents": net, "rate_bp": rate}
    return {"name": name, "input": given, "expected": {"total_cents": net + tax, "tax_cents": tax}}


WEAK = taxshop.spec(
    public_cases=[case("nothing", 0, 0), case("no rate", 5)], sealed_cases=[case("no rate either", 40, 0)]
)
"""Valid, and any program passes it that adds no tax."""
MORE = taxshop.spec(description="Something else.", public_cases=WEAK["public_cases"])


async def test_an_exam_that_notices_most_mistakes_is_on_record_with_how_many(
    fabricate: Any, registry: Registry, stages: Stages
) -> None:
    done = await fabricate(taxshop.script(taxshop.RIGHT))
    version = await registry.resolve("add_tax")
    assert version.exam is not None
    noticed, planted = version.exam.mistakes_noticed, version.exam.mistakes_planted
    assert planted == 9
    assert planted - 3 < noticed < planted, "5,001 for 5,000 rounds the same"
    (strength,) = [each for each in await stages(done.orchestration_id) if each.stage == "exam_strength"]
    assert (strength.outcome, strength.detail) == ("passed", f"{noticed} of {planted} planted mistakes noticed")
    assert len(strength.evidence["unnoticed"]) == planted - noticed
    assert {each["line"] for each in strength.evidence["unnoticed"]} <= {1, 2, 3, 4}


async def test_a_weak_exam_goes_back_to_the_examiner_who_hears_of_kinds_and_of_no_code(
    fabricate: Any, registry: Registry, stages: Stages
) -> None:
    model = taxshop.script(taxshop.RIGHT, specs=[WEAK, MORE])
    done = await fabricate(model)

    assert done.status is Status.SUCCEEDED
    asked = taxshop.calls(model, "examiner")
    assert len(asked) == 2
    objection = asked[1].messages[-1]["content"][0]["text"]
    assert "of 9 small mistakes, planted one at a time in a program that passes it, it noticed" in objection
    assert "a number changed" in objection
    assert "net_cents * rate_bp" not in taxshop.said_to(model, "examiner")
    assert len(taxshop.calls(model, "generator")) == 1, "the code was right"
    version = await registry.resolve("add_tax")
    assert version.exam is not None
    assert (version.exam.public_cases, version.exam.sealed_cases) == (2, 3), "what the second exam had more is sealed"
    assert version.manifest.description == WEAK["description"], "the rest stays as it was when the code was written"
    told = [(each.stage, each.outcome) for each in await stages(done.orchestration_id) if each.outcome != "started"]
    assert told[told.index(("exam_strength", "failed")) :] == [
        ("exam_strength", "failed"), ("specification", "passed"), ("policy", "passed"), ("contract", "passed"),
        ("exam_public", "passed"), ("exam_sealed", "passed"), ("exam_strength", "passed"), ("registration", "passed"),
    ]  # fmt: skip


async def test_code_that_only_a_weak_exam_let_pass_is_repaired(fabricate: Any) -> None:
    model = taxshop.script(taxshop.ROUNDS_DOWN, taxshop.RIGHT, specs=[WEAK, MORE])
    done = await fabricate(model)

    assert (done.status, done.data["repairs"]) == (Status.SUCCEEDED, 1)
    feedback = taxshop.calls(model, "generator")[1].messages[-1]["content"][0]["text"]
    assert "1 of 3 sealed cases failed" in feedback
    assert not taxshop.leaks(taxshop.said_to(model, "generator"))


@pytest.mark.parametrize(
    "answers",
    [
        [WEAK, WEAK, WEAK],
        [WEAK, "no JSON", {**WEAK, "sealed_cases": [case("one that proves no more", 7, 0)]}],
    ],
)
async def test_an_exam_that_stays_weak_is_an_abstention_with_reasons(
    fabricate: Any, registry: Registry, answers: list[Any]
) -> None:
    model = taxshop.script(taxshop.RIGHT, specs=answers)
    done = await fabricate(model)

    assert (done.status, done.error.type) == (Status.FAILED, "abstained")
    assert "its exam would prove too little" in done.error.message
    assert len(taxshop.calls(model, "examiner")) == 3
    with pytest.raises(UnknownRecord):
        await registry.resolve("add_tax")


async def test_how_much_has_to_be_noticed_is_a_setting_and_none_means_none(fabricate: Any) -> None:
    settings = FabricationSettings(noticed=0.2)
    done = await fabricate(taxshop.script(taxshop.RIGHT, specs=[WEAK]), settings=settings)
    assert done.data["exam"]["mistakes_planted"] == 9
    named = taxshop.script(taxshop.RIGHT, specs=[{**WEAK, "name": "tax_too"}])
    done = await fabricate(named, "tax_too", settings=FabricationSettings(mistakes=0))
    assert (done.status, done.data["exam"]["mistakes_planted"]) == (Status.SUCCEEDED, 0)


async def test_a_mistake_that_makes_it_go_on_for_ever_is_noticed(fabricate: Any) -> None:
    counting = """
def handler(net_cents: int, rate_bp: int = 0) -> dict[str, int]:
    tax, left = 0, net_cents * rate_bp + 5_000
    while left >= 10_000_000:
        left -= 10_000_000
        tax += 1_000
    return {"total_cents": net_cents + tax + left // 10_000, "tax_cents": tax + left // 10_000}
"""
    settings = FabricationSettings(case_seconds=0.5, mistakes=40)
    done = await fabricate(taxshop.script(counting), settings=settings)
    assert done.status is Status.SUCCEEDED
    assert done.data["exam"]["mistakes_noticed"] >= 10


async def test_nothing_is_planted_in_what_asks_a_model(fabricate: Any) -> None:
    asking = taxshop.RIGHT.replace("tax = (", "from wrapper import sdk\n    sdk.model\n    tax = (")
    done = await fabricate(taxshop.script(asking, specs=[{**WEAK, "grants": {"model": True}}]))
    assert (done.status, done.data["exam"]["mistakes_planted"]) == (Status.SUCCEEDED, 0)


async def test_an_exam_that_ends_early_leaves_no_run_behind() -> None:
    going: set[int] = set()

    class Bench:
        async def notices(self, mistake: dict[str, int], *_: object) -> bool:
            going.add(mistake["n"])
            try:
                if len(going) == 3:
                    raise IsolationUnavailable("it is gone")
                return await asyncio.Event().wait()
            finally:
                going.discard(mistake["n"])

    bench: Any = Bench()

    async def passed(*_: object) -> None: ...

    spec = Specification.model_validate(WEAK)
    trial = Trial(spec, bench, 1.0, lambda: None)
    judge = Judge(bench, spec, passed, lambda: None, FabricationSettings(), trial)
    with pytest.raises(IsolationUnavailable):
        await judge._noticed([{"n": number} for number in range(9)])  # pyright: ignore[reportPrivateUsage]
    assert not going


def test_what_another_exam_has_more_is_what_fits_and_has_an_input_of_its_own() -> None:
    base = Specification.model_validate(WEAK)
    odd = {"name": "odd", "input": {"net_cents": -1}, "expected": {"total_cents": 1, "tax_cents": 2}}
    other = {**taxshop.SPEC, "sealed_cases": [*taxshop.SPEC["sealed_cases"], odd, case("known", 5)]}
    more = base.extended(Specification.model_validate(other), 50)
    assert [each.name for each in more.sealed_cases] == [
        "no rate either", "a whole rate", "half a cent goes up", "a secret amount"
    ]  # fmt: skip
    assert (more.public_cases, more.description) == (base.public_cases, base.description)
    assert base.extended(Specification.model_validate(other), 4).sealed_cases == more.sealed_cases[:2]
    assert json.loads(more.model_dump_json())["output_schema"] == WEAK["output_schema"]
