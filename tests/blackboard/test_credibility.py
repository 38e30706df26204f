"""Weights of evidence add up, whatever their order, and are never quite certain."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackboard.credibility import pooled, weight
from blackboard.errors import BadInput

SURE = st.floats(0, 1)
MANY = st.lists(SURE, max_size=12)


@given(SURE, MANY, MANY, st.randoms())
def test_the_order_of_evidence_does_not_count(
    prior: float, one: list[float], other: list[float], chance: object
) -> None:
    shuffled = list(one)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert pooled(prior, one, other) == pooled(prior, shuffled, reversed(other))


@given(SURE, MANY, MANY)
def test_nothing_is_ever_quite_certain(prior: float, one: list[float], other: list[float]) -> None:
    assert 0.0 < pooled(prior, one, other) < 1.0


@given(SURE, MANY, MANY, SURE)
def test_what_supports_raises_and_what_contradicts_lowers(
    prior: float, one: list[float], other: list[float], more: float
) -> None:
    before = pooled(prior, one, other)
    assert pooled(prior, [*one, more], other) >= before - 1e-12
    assert pooled(prior, one, [*other, more]) <= before + 1e-12


@given(SURE, MANY)
def test_equal_evidence_for_and_against_cancels_and_none_changes_nothing(prior: float, one: list[float]) -> None:
    alone = pooled(prior)
    assert math.isclose(pooled(prior, one, one), alone, rel_tol=1e-9)
    assert pooled(prior, [0.0], [0.0, 0.0]) == alone


@given(MANY, MANY)
def test_a_claim_and_its_opposite_share_one_certainty(one: list[float], other: list[float]) -> None:
    assert math.isclose(pooled(0.5, one, other) + pooled(0.5, other, one), 1.0, rel_tol=1e-9)


@given(st.floats(0.01, 0.99), st.lists(st.floats(0, 0.9), max_size=4), st.lists(st.floats(0, 0.9), max_size=4))
def test_evidence_may_come_in_parts(prior: float, one: list[float], other: list[float]) -> None:
    later = pooled(prior, one)
    if 0.001 < later < 0.999:
        assert math.isclose(pooled(later, (), other), pooled(prior, one, other), rel_tol=1e-6)


def test_known_numbers() -> None:
    assert pooled(0.5, [0.8]) == pytest.approx(0.9)
    assert pooled(0.5, [0.8, 0.8]) == pytest.approx(81 / 82)
    assert weight(0.0) == 0.0


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_what_is_no_confidence_is_refused(bad: float) -> None:
    with pytest.raises(BadInput, match="0 to 1"):
        weight(bad)
    with pytest.raises(BadInput, match="0 to 1"):
        pooled(bad)
