"""Manifests out of what peers say: legal unique names, checked schemas, effects; what cannot be taken is said."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackboard.errors import BadInput
from blackboard.retries import ruling
from blackboard.types import Failure
from registry import Manifest, origin
from registry.peers import a2a, lane, mcp, offers, peer_of
from registry.peers.naming import names

ANY: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"Does {name}.", "inputSchema": ANY, **more}


@given(st.lists(st.text(min_size=1, max_size=90), unique=True, max_size=12), st.randoms())
def test_names_are_legal_unique_and_do_not_depend_on_the_order_of_tools(tools: list[str], order: random.Random) -> None:
    found = names("shop", tools)
    assert list(found) == tools
    assert len(set(found.values())) == len(tools)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name) for name in found.values())
    shuffled = order.sample(tools, len(tools))
    assert names("shop", shuffled) == found


def test_names_say_what_tools_are_called() -> None:
    assert names("shop", ["readText", "read-text", "read_text", "price", "v2", "2fa", "工具"]) == {
        "read_text": "shop_read_text",
        "readText": "shop_read_text_" + names("shop", ["readText", "read_text"])["readText"][-6:],
        "read-text": "shop_read_text_" + names("shop", ["read-text", "read_text"])["read-text"][-6:],
        "price": "shop_price",
        "v2": "shop_v2",
        "2fa": "shop_n_2fa",
        "工具": "shop_" + names("shop", ["工具"])["工具"][-6:],
    }


def test_a_name_that_would_be_too_long_is_cut_and_told_apart() -> None:
    longest, longer = "a" * 59, "a" * 60
    found = names("shop", [longest, longer, longer + "b"])
    assert found[longest] == f"shop_{longest}"
    assert len({*found.values()}) == 3
    for tool in (longer, longer + "b"):
        assert found[tool].startswith("shop_aaaa")
        assert len(found[tool]) == 64


@pytest.mark.parametrize(
    ("hints", "effects", "lost_again"),
    [
        ({}, "irreversible", False),
        ({"readOnlyHint": True}, "reads", True),
        ({"idempotentHint": True}, "writes", True),
        ({"destructiveHint": False}, "writes", False),
        ({"readOnlyHint": "yes"}, "irreversible", False),
    ],
)
def test_what_a_tool_says_it_does_decides_whether_it_is_tried_again(
    hints: dict[str, Any], effects: str, lost_again: bool
) -> None:
    (offer,) = mcp.listing("shop", [tool("price", annotations=hints)]).offers
    assert offer.manifest.effects == effects
    lost = Failure(type="lease_lost", message="x", retryable=True)
    unreached = Failure(type="peer_unavailable", message="x", retryable=True)
    rule = next(each for each in offer.manifest.retry.rules if each.errors == ("*",))
    assert (rule.max_attempts != 1) == lost_again
    assert ruling(offer.manifest.retry, lost).again
    assert ruling(offer.manifest.retry, unreached).again  # nothing was sent, so trying again does nothing twice


@pytest.mark.parametrize(
    ("effects", "again"), [("pure", True), ("reads", True), ("writes", True), ("irreversible", False)]
)
def test_a_person_knows_better_what_a_tool_does(effects: Any, again: bool) -> None:
    hints = {"readOnlyHint": not again, "idempotentHint": not again}
    known, other = mcp.listing(
        "shop", [tool("price", annotations=hints), tool("stock", annotations=hints)], effects={"price": effects}
    ).offers
    assert known.manifest.effects == effects
    rule = next(each for each in known.manifest.retry.rules if each.errors == ("*",))
    assert (rule.max_attempts != 1) == again
    assert other.manifest.effects == ("irreversible" if again else "reads"), "of the others its own word counts"


def test_a_peers_tools_and_skills_are_for_whom_and_as_long_as_is_said_and_no_others_are_taken() -> None:
    skills = [{"id": name, "description": f"Does {name}."} for name in ("price", "stock")]
    for found in (
        mcp.listing("shop", [tool("price"), tool("stock")], tenant="acme", seconds=7, only=["stock"]),
        a2a.listing("shop", {"skills": skills}, tenant="acme", seconds=7, only=["stock"]),
    ):
        (offer,) = found.offers
        assert found.refused == ()
        assert (offer.tool, offer.manifest.name, offer.manifest.tenant) == ("stock", "shop_stock", "acme")
        assert offer.manifest.limits.attempt_seconds == 7
        assert offer.manifest.provenance["peer"]["tool"] == "stock"  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("effects", "again"), [("pure", True), ("reads", True), ("writes", False), ("irreversible", False)]
)
def test_an_agent_is_asked_again_only_where_asking_changes_nothing(effects: Any, again: bool) -> None:
    (offer,) = a2a.listing("kitchen", {"name": "Kitchen"}, effects=effects).offers
    assert (offer.manifest.name, offer.manifest.effects) == ("kitchen_ask", effects)
    rule = next(each for each in offer.manifest.retry.rules if each.errors == ("*",))
    assert (rule.max_attempts != 1) == again


def test_what_an_agent_says_of_a_skill_is_read_by_whoever_looks_for_it() -> None:
    skill = {
        "id": "cook",
        "name": "Cook",
        "description": "Cooks.",
        "tags": ["food", 3],
        "examples": ["Fry an egg.", "", 3],
    }
    found = a2a.listing("kitchen", {"description": "A good one.", "skills": [skill, {"id": "bake"}]})
    cook, bake = (offer.manifest for offer in found.offers)
    assert cook.description == "Cook\nCooks.\nThe agent: A good one.\nTags: food"
    assert [(each.description, each.input) for each in cook.examples] == [("Fry an egg.", {"message": "Fry an egg."})]
    assert bake.description == "bake, a skill of a2a:kitchen.\nThe agent: A good one."
    assert a2a.skill_of(cook) == {
        "id": "kitchen_cook", "name": "kitchen cook", "description": cook.description, "tags": ["writes"],
        "examples": ["Fry an egg."],
    }  # fmt: skip


def test_of_what_an_agent_says_much_is_read_a_little_and_what_cannot_be_taken_is_said() -> None:
    examples = [f"{number}" * 900 for number in range(1, 9)]
    found = a2a.listing("search", {"skills": [{"id": "all", "examples": examples}, {"id": "capabilities"}]})
    (offer,) = found.offers
    assert [each.description for each in offer.manifest.examples] == [each[:500] for each in examples[:5]]
    (refused,) = found.refused
    assert refused.tool == "capabilities"
    assert "belongs to the arbiter" in refused.why


def test_what_a_peer_offers_has_it_as_its_source_and_belongs_to_it() -> None:
    (offer,) = mcp.listing("shop", [tool("price")]).offers
    assert peer_of(offer.manifest) == ("mcp", "shop")
    assert origin(offer.manifest) == ("mcp:shop",)
    renamed = offer.manifest.model_copy(update={"provenance": {}})
    assert origin(renamed) == ("mcp:shop",)  # told by what the content hash covers
    assert renamed.content_hash() == offer.manifest.content_hash()


def test_what_cannot_be_taken_is_said_and_the_rest_is_taken() -> None:
    found = mcp.listing(
        "search",
        [
            tool("good"),
            tool("good"),
            tool("capabilities"),
            tool("list", inputSchema={"type": "array"}),
            tool("far", inputSchema={"type": "object", "properties": {"a": {"$ref": "http://evil.example/x.json"}}}),
            tool("bad", outputSchema={"type": "nothing"}),
            {"description": "nameless", "inputSchema": ANY},
            tool("old", inputSchema={"$schema": "http://json-schema.org/draft-07/schema#", **ANY}),
            {"name": "bare", "description": "Takes what nobody knows."},
        ],
    )
    assert [offer.manifest.name for offer in found.offers] == ["search_good", "search_old"]
    assert found.offers[1].manifest.input_schema == ANY, "read as every other, whatever draft it names"
    assert [one.tool for one in found.refused] == ["good", "None", "capabilities", "list", "far", "bad", "bare"]
    assert all(one.why for one in found.refused)


def test_what_has_no_name_of_its_own_is_refused_in_few_words() -> None:
    nameless: list[Any] = [{"name": ""}, {"name": 5}, {"name": ["x" * 9000]}, 3, None, [], "price"]
    found = mcp.listing("shop", [tool("price"), *nameless, tool("price")])
    assert [offer.tool for offer in found.offers] == ["price"]
    assert len(found.refused) == len(nameless) + 1
    assert max(len(one.tool) for one in found.refused) == 200


@pytest.mark.parametrize("said", [5, "no", ["x"], {"a": 1}, None])
def test_what_a_peer_says_in_the_wrong_form_is_as_if_it_were_not_said(said: Any) -> None:
    (offer,) = mcp.listing("shop", [tool("price", annotations=said)]).offers
    assert offer.manifest.effects == "irreversible"
    skill = {"id": "cook", "description": "Cooks.", "tags": said, "examples": said}
    found = a2a.listing("kitchen", {"name": "Kitchen", "skills": [skill, said, {**skill, "id": "bake"}]})
    assert [each.manifest.name for each in found.offers] == ["kitchen_cook", "kitchen_bake"]
    assert len(found.offers[0].manifest.examples) == (said == ["x"])


def test_words_of_a_server_are_cut_and_cleaned() -> None:
    (offer,) = mcp.listing("shop", [tool("price", description="a\x00b" + "c" * 9000)]).offers
    assert offer.manifest.description.startswith("a bc")
    assert len(offer.manifest.description) == 4000
    (bare,) = mcp.listing("shop", [{"name": "price", "inputSchema": ANY}]).offers
    assert bare.manifest.description == "price, a tool of mcp:shop."


def test_more_tools_than_anybody_could_read_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert offers.MOST_TOOLS == 1000
    monkeypatch.setattr(offers, "MOST_TOOLS", 3)
    found = mcp.listing("shop", [tool(f"t{number}") for number in range(4)])
    assert ([one.tool for one in found.offers], [one.tool for one in found.refused]) == (["t0", "t1", "t2"], ["t3"])


@pytest.mark.parametrize(("kind", "name"), [("ftp", "shop"), ("mcp", "Shop"), ("mcp", ""), ("mcp", "a.b")])
def test_a_peer_needs_a_kind_and_a_name(kind: str, name: str) -> None:
    with pytest.raises(BadInput):
        lane(kind, name)


@pytest.mark.parametrize(
    ("kind", "action"),
    [("artifact", "generic"), ("artifact", "mcp.shop"), ("function", "local.mcp"), ("function", "local.ftp.shop")],
)
def test_what_waits_in_no_peers_lane_belongs_to_no_peer(kind: Any, action: str) -> None:
    assert peer_of(Manifest(name="price", description="Tell it.", input_schema=ANY, kind=kind, action=action)) is None


def test_a_capability_as_a_tool_of_a_server_comes_back_as_it_was() -> None:
    (offer,) = mcp.listing("shop", [tool("price", outputSchema=ANY, annotations={"readOnlyHint": True})]).offers
    out = mcp.tool_of(offer.manifest)
    assert out["name"] == "shop_price"
    (back,) = mcp.listing("shop", [{**out, "name": "price"}]).offers
    assert back.manifest.content_hash() == offer.manifest.content_hash()


@pytest.mark.parametrize(
    ("effects", "reads", "destroys", "again"),
    [("pure", True, False, True), ("reads", True, False, False), ("writes", False, False, False),
     ("irreversible", False, True, False)],
)  # fmt: skip
def test_a_tool_says_what_a_capability_does_and_only_the_schema_that_a_client_can_check(
    effects: Any, reads: bool, destroys: bool, again: bool
) -> None:
    manifest = Manifest(name="price", description="Tell it.", input_schema=ANY, effects=effects)
    assert mcp.tool_of(manifest) == {
        "name": "price", "description": "Tell it.", "inputSchema": ANY,
        "annotations": {"readOnlyHint": reads, "destructiveHint": destroys, "idempotentHint": again},
    }  # fmt: skip
    for output, there in ((ANY, True), ({"type": "array"}, False), ({}, False)):
        made = Manifest(name="price", description="Tell it.", input_schema=ANY, output_schema=output, effects=effects)
        assert ("outputSchema" in mcp.tool_of(made)) == there
