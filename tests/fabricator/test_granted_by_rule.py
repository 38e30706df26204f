"""What a policy lets a fabricated capability have without a person is on record, as an approval by that policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import taxshop

from blackboard.attempt import Attempt
from blackboard.audit import Audit, Entry, somebody
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.taint import TaintPolicy
from fabricator import FabricationSettings, Fabricator, GrantPolicy
from registry import Grants, Manifest, Registry
from wrapper.isolation import ProcessIsolation

HOSTS = {"http_hosts": ["api.example.com"]}
ANY = {"type": "object"}
SOURCE = "def handler():\n    return 1\n"


@pytest.fixture
def fabricate(
    redis_board: Board, registry: Registry, isolation: ProcessIsolation, post: Callable[..., Awaitable[Claim]]
) -> Callable[..., Awaitable[Any]]:
    async def fabricate(grants: Any = None, *, policy: TaintPolicy | None = None, **more: Any) -> Any:
        specs = [taxshop.spec(**({"grants": grants} if grants else {}))]
        settings = FabricationSettings(grants=GrantPolicy(**more.pop("rules", {})), **more.pop("settings", {}))
        claim = await post(**more)
        made = Fabricator(
            registry, isolation, taxshop.script(taxshop.RIGHT, specs=specs), settings=settings, policy=policy
        )
        return await made.handle(Attempt(redis_board, claim))

    return fabricate


async def approvals(board: Board) -> list[Entry]:
    return list((await Audit(board).list("kind=grants.*")).entries)


async def test_g10_a_grant_given_by_rule_is_an_approval_by_that_policy_in_the_audit(
    fabricate: Any, redis_board: Board
) -> None:
    done = await fabricate(HOSTS, rules={"http": "allow"})
    (entry,) = await approvals(redis_board)
    assert (entry.kind, entry.subject) == ("grants.approved", f"add_tax|{done.data['version']}")
    word, name, of, who = entry.by.split()
    assert (word, len(name), of, who) == ("policy", 16, "of", somebody())
    assert entry.reason == "by rule, without a person"
    assert entry.detail["grants"] == HOSTS
    assert entry.detail["rules"]["grants"]["http"] == "allow"
    assert (entry.detail["sources"], entry.detail["key"]) == ([], (await signed(redis_board)).detail["key"])


async def signed(board: Board) -> Entry:
    (entry,) = (await Audit(board).list("kind=version.signed")).entries
    return entry


async def test_the_same_rules_are_the_same_policy_and_others_are_another(fabricate: Any, redis_board: Board) -> None:
    rules: tuple[dict[str, str], ...] = ({"http": "allow"}, {"http": "allow"}, {"http": "allow", "files": "deny"})
    registry = Registry(redis_board.catalog)
    for rule in rules:
        await fabricate(HOSTS, rules=rule)
        await registry.retire("add_tax")
    entries = await approvals(redis_board)
    newest, middle, oldest = (each.by for each in entries)
    assert oldest == middle != newest


async def test_what_untrusted_content_got_by_rule_names_its_sources(fabricate: Any, redis_board: Board) -> None:
    policy = TaintPolicy(fabricate="allow", approve="allow")
    await fabricate(HOSTS, policy=policy, rules={"http": "allow"}, taint=("event:/mail", "person"))
    (entry,) = await approvals(redis_board)
    assert entry.detail["sources"] == ["event:/mail"]
    assert entry.detail["rules"]["taint"]["approve"] == "allow"


@pytest.mark.parametrize("grants", [None, HOSTS], ids=["nothing asked for", "a person is asked"])
async def test_no_policy_approves_what_reaches_nothing_or_what_a_person_has_to_approve(
    fabricate: Any, redis_board: Board, grants: Any
) -> None:
    await fabricate(grants)
    assert await approvals(redis_board) == []


async def test_a_registration_sent_again_is_one_approval_and_what_is_active_already_is_none(
    registry: Registry, redis_board: Board
) -> None:
    manifest = Manifest(name="one", description="one", input_schema=ANY, grants=Grants(model=True))
    for operation in ("op1", "op1", "op2"):
        await registry.register(manifest, source=SOURCE, operation=operation, by_rule=("policy p", {"grants": {}}))
    assert len(await approvals(redis_board)) == 1


async def test_a_registration_that_is_refused_approves_nothing(registry: Registry, redis_board: Board) -> None:
    manifest = Manifest(name="one", description="one", input_schema=ANY, grants=Grants(model=True))
    await registry.register(manifest, source=SOURCE, activate=False, by_rule=("policy p", {}))
    version = (await registry.versions("one"))[0]
    await registry.revoke("one", version.sha)
    with pytest.raises(Exception, match="revoked"):
        await registry.register(manifest, source=SOURCE, by_rule=("policy p", {}))
    assert await approvals(redis_board) == []
