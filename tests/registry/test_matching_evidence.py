"""What a record is worth: proved success before promises, cheap before dear, and a bounded try for what is new."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackboard.types import Status
from registry.matching.evidence import SHARE, TRIES, Record, bounds, factor, factors

COUNT = st.integers(0, 10_000)
RECORD = st.builds(
    lambda good, bad, measured, seconds, tokens: Record(
        {Status.SUCCEEDED: good, Status.FAILED: bad}, min(good, measured), seconds, tokens
    ),
    COUNT, COUNT, COUNT, st.floats(0, 1e6), st.integers(0, 10**9),
)  # fmt: skip


def record(good: int, bad: int = 0, seconds: float = 0.0, tokens: int = 0) -> Record:
    return Record({Status.SUCCEEDED: good, Status.FAILED: bad}, good, seconds * good, tokens * good)


@given(RECORD)
def test_a_factor_is_a_share_and_more_success_never_lowers_it(one: Record) -> None:
    cautious, hopeful = bounds(one.succeeded, one.tried - one.succeeded)
    assert 0 <= cautious <= hopeful <= 1
    assert 0 < factor(one) <= 1
    better = one._replace(outcomes={**one.outcomes, Status.FAILED: 0})
    assert factor(better) >= factor(one) or one.tried == one.succeeded


@pytest.mark.parametrize(("cheap", "dear"), [((1.0, 0), (30.0, 0)), ((0.0, 100), (0.0, 50_000))])
def test_of_equal_success_the_cheaper_and_the_faster_is_worth_more_by_a_tenth_at_most(
    cheap: tuple[float, int], dear: tuple[float, int]
) -> None:
    less, more = factor(record(100, 0, *dear)), factor(record(100, 0, *cheap))
    assert 0.9 * more < less < more
    assert factor(record(100, 20)) < less, "success counts more than cost"


@pytest.mark.parametrize(("success", "most"), [(0.95, 1.0), (0.5, 0.03), (0.0, 0.01)])
def test_a_new_version_gets_its_share_of_tries_and_no_more_unless_it_proves_itself(success: float, most: float) -> None:
    chance = random.Random(1)
    proven = {Status.SUCCEEDED: 90, Status.FAILED: 10}
    new = {Status.SUCCEEDED: 0, Status.FAILED: 0}
    tasks = 2000
    for _ in range(tasks):
        (old, _), (weight, _) = factors([Record(proven), Record(new)])
        counts, likely = (new, success) if weight > old else (proven, 0.9)
        counts[Status.SUCCEEDED if chance.random() < likely else Status.FAILED] += 1
    tried = sum(new.values())
    assert tried >= 2
    assert tried <= most * tasks
    if success > 0.9:
        assert tried > SHARE * tasks / 2, "what is better takes over"


@given(st.lists(RECORD, max_size=6))
def test_only_what_was_tried_little_and_may_still_be_as_good_is_tried_for_being_new(records: list[Record]) -> None:
    most = max((each.tried for each in records), default=0)
    for each, (weight, new) in zip(records, factors(records), strict=True):
        assert weight >= factor(each)
        if new:
            assert each.tried < max(TRIES, SHARE * most)
        else:
            assert weight == factor(each)


def test_what_is_not_measured_costs_nothing() -> None:
    always = Record({Status.SUCCEEDED: 100_000})
    assert factor(always) == 1
    assert factor(record(100_000, seconds=1.0)) < 1


def test_a_new_version_comes_before_one_that_fits_as_well_and_after_one_that_fits_better() -> None:
    (old, _), (weight, new) = factors([record(90, 10), Record()])
    assert new
    assert old < weight < 1.05 * old


def test_a_new_version_has_three_tries_beside_one_that_was_hardly_used_itself() -> None:
    for tried in range(TRIES):
        _, (_, new) = factors([record(9), record(tried)])
        assert new, f"after {tried} tries"


def test_where_nothing_was_tried_nothing_comes_first_for_being_new() -> None:
    assert factors([Record(), Record()]) == [(factor(Record()), False)] * 2
    assert factors([]) == []
