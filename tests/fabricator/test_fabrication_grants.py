"""What a fabricated capability may be granted: by rule, by a person, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import taxshop

from blackboard.errors import UnknownRecord
from blackboard.types import Status
from fabricator import FabricationSettings, GrantPolicy
from registry import Grants, Registry, SignatureRefused

Stages = Callable[[str], Awaitable[list[Any]]]


async def test_grants_nobody_may_give_are_refused(fabricate: Any) -> None:
    greedy = taxshop.spec(grants={"secrets": ["stripe"], "http_hosts": ["api.stripe.com"], "http_methods": ["POST"]})
    settings = FabricationSettings(grants=GrantPolicy(secrets="deny"))
    done = await fabricate(taxshop.script(specs=[greedy, greedy, greedy]), settings=settings)

    assert (done.status, done.error.type) == (Status.REFUSED, "policy")
    assert "grants.secrets: 'stripe'" in done.error.message


async def test_g10_what_asks_for_grants_waits_for_a_person_and_cannot_run_before(
    fabricate: Any, registry: Registry, stages: Stages
) -> None:
    asks = taxshop.spec(grants={"http_hosts": ["api.example.com"], "secrets": ["rates@api.example.com"]})
    first = await fabricate(taxshop.script(taxshop.RIGHT, specs=[asks]))

    assert (first.status, first.error.type) == (Status.REFUSED, "approval")
    assert "arbiter capabilities approve add_tax" in first.error.message
    assert "http_hosts: 'api.example.com'" in first.error.evidence["asks"]
    last = (await stages(first.orchestration_id))[-1]
    assert (last.stage, last.outcome) == ("registration", "passed")
    [version] = await registry.waiting()
    assert (version.sha, version.state, version.exam and version.exam.passed) == (
        first.error.evidence["version"], "examined", True,
    )  # fmt: skip
    assert await registry.list() == []
    with pytest.raises(SignatureRefused, match="no signature"):
        await registry.load("add_tax", version.sha)

    model = taxshop.script(taxshop.RIGHT)
    again = await fabricate(model)
    assert (again.error.type, len(model.calls)) == ("approval", 0), "asked again, nothing is made a second time"

    approved = await registry.approve("add_tax")
    assert (approved.sha, approved.state, await registry.waiting()) == (version.sha, "active", [])
    assert (await registry.load("add_tax")).version == approved
    entry, signed = await registry.trust.audit(2)
    assert (entry.verb, "@" in entry.by) == ("approved", True)
    assert (signed.verb, signed.subject, "@" in signed.by) == ("signed", f"add_tax|{version.sha}", True)
    assert "approved by" in (await registry.changes())[-1].reason
    third = await fabricate(model)
    assert (third.status, third.data["reused"], len(model.calls)) == (Status.SUCCEEDED, True, 0)
    with pytest.raises(UnknownRecord, match="waits"):
        await registry.approve("add_tax")


async def test_an_approval_that_died_half_way_is_carried_on(fabricate: Any, registry: Registry) -> None:
    asks = taxshop.spec(grants={"files": ["/etc/rates.csv"]})
    done = await fabricate(taxshop.script(taxshop.RIGHT, specs=[asks]))
    await registry.sign("add_tax", done.error.evidence["version"])
    assert await registry.list() == []
    assert (await registry.approve("add_tax")).state == "active"


@pytest.mark.parametrize(
    ("policy", "listed", "ending"),
    [
        (GrantPolicy(http="allow"), Grants(model=True), None),
        (GrantPolicy(), Grants(model=True, http_hosts=("api.example.com",)), None),
        (GrantPolicy(http="deny"), Grants(model=True), "policy"),
        (GrantPolicy(), Grants(model=True), "approval"),
    ],
)
async def test_the_operator_says_what_is_granted_without_a_question(
    fabricate: Any, policy: GrantPolicy, listed: Grants, ending: str | None
) -> None:
    asks = taxshop.spec(grants={"http_hosts": ["api.example.com"]})
    settings = FabricationSettings(grants=policy, grantable=listed)
    done = await fabricate(taxshop.script(taxshop.RIGHT, specs=[asks] * 3), settings=settings)
    assert (done.error.type if done.error else None) == ending


async def test_a_candidate_that_tries_what_it_was_not_granted_does_not_pass(fabricate: Any, registry: Registry) -> None:
    asks = taxshop.spec(grants={"http_hosts": ["api.example.com"]})
    tries = taxshop.RIGHT.replace("    tax =", "    tried()\n    tax =")
    source = (
        "from wrapper import sdk\n\n\ndef tried():\n    try:\n        sdk.fetch('https://other.example/')\n"
        f"    except sdk.CallError:\n        pass\n\n\n{tries}"
    )
    settings = FabricationSettings(repairs=0, grants=GrantPolicy(http="allow"))
    done = await fabricate(taxshop.script(source, specs=[asks]), settings=settings)
    assert (done.status, done.error.type) == (Status.FAILED, "fabrication_failed")
    assert "other.example is not among the granted hosts" in done.error.message
    assert await registry.names() == []
