"""The lexical matcher: bounded, above the floor, stable, and the same after any history of additions and removals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.manifest import Manifest
from registry.shortlist import LexicalMatcher, Ranked, stem, terms

WORDS = ("invoice", "order", "parse", "match", "sendEmail", "tax_rate", "the", "currency", "über", "3")
TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
NAME = st.sampled_from([f"cap_{letter}" for letter in "abcdef"])


def make(name: str, description: str, *parameters: str) -> Manifest:
    properties: dict[str, Any] = {each: {"type": "string"} for each in parameters}
    return Manifest(name=name, description=description, input_schema={"type": "object", "properties": properties})


def built(known: dict[str, Manifest]) -> LexicalMatcher:
    matcher = LexicalMatcher()
    for name, manifest in known.items():
        matcher.add(name, manifest)
    return matcher


HISTORY = st.lists(st.tuples(st.booleans(), NAME, TEXT), max_size=20)


@settings(max_examples=150, deadline=None)
@given(
    history=HISTORY,
    need=TEXT | st.text(max_size=30),
    k=st.integers(0, 8),
    floor=st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.9]),
)
def test_bound_floor_order_and_rebuild_hold_for_any_history(
    history: list[tuple[bool, str, str]], need: str, k: int, floor: float
) -> None:
    matcher, known = LexicalMatcher(), dict[str, Manifest]()
    for adds, name, text in history:
        if adds:
            known[name] = make(name, text, *text.lower().split()[:2])
            matcher.add(name, known[name])
        else:
            known.pop(name, None)
            matcher.remove(name)
        matcher.rank(need, k=3)
    found = matcher.rank(need, k=k, floor=floor)
    assert len(found) <= k
    assert all(floor <= each.score <= 1 for each in found)
    assert found == sorted(found, key=lambda each: (-each.score, each.name))
    assert found == matcher.rank(need, k=k, floor=floor)
    assert found == built(dict(sorted(known.items(), reverse=True))).rank(need, k=k, floor=floor)
    assert found == matcher.rank(need, k=len(known), floor=floor)[:k]
    assert len(matcher) == len(known)
    if floor == 0:
        assert len(found) == min(k, len(known))
    allowed = set(list(known)[::2])
    for each in matcher.rank(need, k=k, floor=floor, allowed=allowed.__contains__):
        assert each.name in allowed


def test_nothing_is_left_behind_by_what_was_removed() -> None:
    matcher = LexicalMatcher()
    for name in ("a", "b"):
        matcher.add(name, make(name, "parse invoices", "file"))
    matcher.rank("parse unknown words", k=2)
    for name in ("a", "b", "never_there"):
        matcher.remove(name)
    assert len(matcher) == 0
    assert not matcher._postings
    assert not matcher._impacts
    assert set(matcher._totals) == {0}
    assert matcher.rank("parse", k=5, floor=0.0) == []


def test_words_meet_across_endings_and_spellings() -> None:
    matcher = built(
        {
            "parse_invoice": make("parse_invoice", "Reads a document."),
            "currency": make("currency", "Convert between currencies.", "targetCurrency"),
            "tax": make("tax", "Checks the rate.", "countryCode"),
        }
    )
    for need, name in (
        ("parsing invoices", "parse_invoice"),
        ("InvoiceParser", "parse_invoice"),
        ("conversion of a currency", "currency"),
        ("what is the country", "tax"),
        ("rates checked", "tax"),
    ):
        assert matcher.rank(need, k=1)[0].name == name, need


def test_equal_scores_are_ordered_by_name() -> None:
    matcher = built({name: make(name, "same words") for name in ("zed", "alpha", "mid")})
    assert [each.name for each in matcher.rank("same words", k=3)] == ["alpha", "mid", "zed"]


def test_an_exact_need_scores_high_and_a_foreign_one_finds_nothing() -> None:
    matcher = built(
        {f"cap_{number}": make(f"cap_{number}", f"does thing{number} and other{number}") for number in range(20)}
    )
    matcher.add("match_invoice", make("match_invoice", "Match an invoice to its purchase order."))
    exact = matcher.rank("match invoice purchase order", k=1)[0]
    assert exact.name == "match_invoice"
    assert exact.score > 0.3
    assert matcher.rank("bake a cheesecake", k=5) == []
    assert matcher.rank("can you please help me with it", k=5) == []
    assert matcher.rank("", k=5) == []


@pytest.mark.parametrize("others", [0, 2, 500])
def test_a_capability_is_found_in_a_registry_of_any_size_and_a_need_of_any_length(others: int) -> None:
    """The whole request is the need of a run's first step, with all the data that is in it."""
    matcher = built({f"cap_{number}": make(f"cap_{number}", f"does thing{number}") for number in range(others)})
    matcher.add("match_invoices", make("match_invoices", "Match invoices to purchase orders and goods receipts."))
    table = "\n".join(f"INV-{number},supplier{number},{number * 7},EUR" for number in range(500))
    for need in ("adding up unmatched invoices", f"Find the invoices that no purchase order matches.\n{table}"):
        assert [each.name for each in matcher.rank(need, k=12)][:1] == ["match_invoices"]


def test_a_name_weighs_more_than_a_mention() -> None:
    matcher = built(
        {
            "send_email": make("send_email", "Delivers a message to somebody."),
            "archive": make("archive", "Stores a message after an email arrives."),
        }
    )
    first, second = matcher.rank("email", k=2)
    assert (first.name, second.name) == ("send_email", "archive")
    assert isinstance(first, Ranked)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("invoices", "invoice"),
        ("parsing", "parse"),
        ("currencies", "currency"),
        ("running", "runs"),
        ("matched", "matches"),
        ("adding", "add"),
    ],
)
def test_forms_of_a_word_share_a_stem(left: str, right: str) -> None:
    assert stem(left) == stem(right)


def test_identifiers_are_split_into_words() -> None:
    assert terms("getHTTPResponse_code2") == [stem("http"), stem("response"), stem("code2")]
