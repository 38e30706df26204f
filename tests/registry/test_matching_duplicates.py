"""What is there already, and what contradicts itself."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from blackboard.catalog import Catalog
from blackboard.testing import RedisServer
from registry import Document, LexicalMatcher, Manifest, Registry, finding
from registry.matching.duplicates import Alike, clusters, contradictions, likeness, similar

TEXT = st.lists(st.sampled_from(["convert", "currency", "money", "email", "send", "the"]), max_size=5).map(" ".join)
DOCUMENT = st.builds(Document, name=TEXT, description=TEXT, parameters=TEXT)


@given(DOCUMENT, DOCUMENT)
def test_likeness_is_symmetric_bounded_and_whole_for_the_same(one: Document, other: Document) -> None:
    assert likeness(one, other) == likeness(other, one)
    assert 0 <= likeness(one, other) <= 1
    assert likeness(one, one) in (0, 1)


def test_the_name_says_more_of_what_a_capability_is_than_its_description() -> None:
    one = Document("convert money", "send email")
    assert likeness(one, Document("convert money", "")) > likeness(one, Document("", "send email")) > 0


PAIRS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.builds(Alike, st.sampled_from("abcdef"), st.sampled_from([0.7, 0.8, 0.9]))),
    max_size=8,
)


@given(PAIRS, st.randoms())
def test_groups_are_whole_and_told_the_largest_first_in_whatever_order_pairs_come(
    pairs: list[tuple[str, Alike]], order: random.Random
) -> None:
    pairs = [(name, each) for name, each in pairs if name != each.name]
    found = clusters(pairs)
    assert clusters(order.sample(pairs, len(pairs))) == found
    names = [name for group, _ in found for name in group]
    assert sorted(names) == sorted({each for one, other in pairs for each in (one, other.name)})
    assert [len(group) for group, _ in found] == sorted((len(group) for group, _ in found), reverse=True)
    for group, least in found:
        assert list(group) == sorted(group)
        inside = [each.likeness for one, each in pairs if one in group]
        assert all(each.name in group for one, each in pairs if one in group)
        assert least == min(inside)


def manifest(name: str, description: str, **fields: Any) -> Manifest:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"amount": {"type": "number"}, "target": {"type": "string"}},
    }
    return Manifest(name=name, description=description, **{"input_schema": schema, **fields})


MONEY = "Convert an amount of money from one currency into another."


def test_near_duplicates_are_listed_together_and_others_are_not() -> None:
    documents = {
        name: Document.of(manifest(name, text))
        for name, text in (
            ("convert_currency", MONEY),
            ("currency_convert", MONEY),
            ("currency_converter", "Converts an amount of money from a currency into another one."),
            ("change_money", "Changes an amount of money from one currency to another one."),
            ("add_track", "Add a track to an existing playlist."),
            ("remove_track", "Remove a track from an existing playlist."),
            ("send_letter", "Send a letter to somebody."),
        )
    }
    matcher = LexicalMatcher()
    for name, document in documents.items():
        matcher.add(name, document)
    pairs = [(name, each) for name in documents for each in similar(matcher, documents.__getitem__, documents[name])]
    ranked = [each.likeness for each in similar(matcher, documents.__getitem__, documents["change_money"], 0.0)]
    assert ranked == sorted(ranked, reverse=True)
    assert ranked[0] > ranked[-1], "the most alike first"
    ((names, least),) = clusters(pairs)
    assert names == ("convert_currency", "currency_convert", "currency_converter")
    assert 0.7 <= least <= 1


async def test_a_registration_says_what_it_duplicates_and_contradicts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer() as server:
        client = redis.asyncio.Redis.from_url(server.url, decode_responses=True, protocol=2)
        registry = Registry(Catalog(client, "test"))
        code = "def handler(amount: float, target: str) -> float:\n    return amount\n"
        await Registry(Catalog(client, "test")).register(manifest("convert_currency", MONEY), source=code)
        double = manifest("currency_convert", f"{MONEY} Takes `amount` and `rate`.")
        with caplog.at_level(logging.WARNING, logger="registry"):
            await registry.register(double, source=code)
            first = caplog.text
            caplog.clear()
            await registry.register(double, source=code)
        (found,) = await registry.similar(double)
        assert found.name == "convert_currency"
        assert f"currency_convert is {found.likeness:.2f} the same as convert_currency: extend" in first
        assert "speaks of 'rate'" in first
        assert caplog.text == ""
        told: list[tuple[int, int]] = []
        monkeypatch.setattr(finding, "_TURN", 1)
        found_groups = await registry.clusters(told=lambda done, of: told.append((done, of)))
        assert told == [(1, 2), (2, 2)]
        assert found_groups == [(("convert_currency", "currency_convert"), found.likeness)]
        await client.aclose()


async def test_what_a_tenant_has_already_is_found_among_however_much_that_others_have() -> None:
    with RedisServer() as server:
        client = redis.asyncio.Redis.from_url(server.url, decode_responses=True, protocol=2)
        registry = Registry(Catalog(client, "test"))
        code = "def handler(amount: float, target: str) -> float:\n    return amount\n"
        for number in range(12):
            theirs = manifest(f"currency_convert_{number}", MONEY, tenant="rival")
            await registry.register(theirs, source=code, sign=False)
        mine = manifest("convert_some_currency", f"{MONEY} At once.", tenant="acme")
        await registry.register(mine, source=code, sign=False)
        new = manifest("currency_convert", MONEY, tenant="acme")
        assert [each.name for each in await registry.similar(new, tenant="acme")] == ["convert_some_currency"]
        assert len(await registry.similar(new)) > 1
        await client.aclose()


def test_contradictions_between_words_schema_and_effects_are_named() -> None:
    assert contradictions(manifest("convert_currency", "Converts `amount` for `target`.")) == []
    odd = manifest(
        "delete_file", "Deletes `path`.",
        input_schema={"type": "object", "properties": {"file": {"type": "string"}}, "required": ["name"]},
    )  # fmt: skip
    said = contradictions(odd)
    assert [each.split()[1] for each in said] == ["schema", "description", "is"]
    assert contradictions(odd.model_copy(update={"effects": "writes"})) == said[:2]
    returned = {"type": "object", "properties": {"rate": {"type": "number"}}}
    told = manifest("convert_currency", "Converts `amount`, and tells the `rate`.", output_schema=returned)
    assert contradictions(told) == [], "what it returns is described as well"
