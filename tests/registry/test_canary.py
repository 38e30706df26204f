"""What a canary comes to: wrongly in at most as many cases as is said, however often it is looked at."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackboard.lately import Ended
from registry import Manifest, Version
from registry.canary import AGAINST, FEWEST, MARGIN, Counts, decide, missing, not_worse, proven, tries, worse

CANARY = Version(
    name="echo", sha="a" * 64, state="canary", artifact_sha="b" * 64, created_at=1.0, updated_at=1.0,
    manifest=Manifest(name="echo", description="Says it back.", input_schema={"type": "object"}),
)  # fmt: skip
COUNTS = st.tuples(st.integers(0, 200), st.integers(0, 200))


def came_to(active: Counts, counts: Counts) -> str:
    found = decide(CANARY, active, counts)
    return "" if found is None else found.became


def trial(chance: random.Random, active: float, canary: float, tasks: int, share: float = 0.2) -> tuple[str, int]:
    """What a canary came to that was looked at after each of its tasks, and how many of them it took."""
    old, new = [0, 0], [0, 0]
    for _ in range(tasks):
        tried = chance.random() < share
        arm, rate = (new, canary) if tried else (old, active)
        arm[chance.random() >= rate] += 1
        if tried and (word := came_to((old[0], old[1]), (new[0], new[1]))):
            return word, sum(new)
    return "", sum(new)


@pytest.mark.parametrize(
    ("active", "canary", "never", "mostly"),
    [
        (0.9, 0.9, "retired", "active"),
        (0.98, 0.98, "retired", "active"),
        (0.5, 0.5, "retired", ""),
        (0.9, 1.0, "retired", "active"),
        (0.95, 0.84, "active", "retired"),
        (0.6, 0.49, "active", ""),
        (1.0, 0.5, "active", "retired"),
    ],
)
def test_looked_at_after_each_of_its_tasks_few_canaries_come_to_what_they_should_not(
    active: float, canary: float, never: str, mostly: str
) -> None:
    chance, series = random.Random(1), 100
    words = [trial(chance, active, canary, 1500)[0] for _ in range(series)]
    assert words.count(never) <= series / AGAINST
    if mostly:
        assert words.count(mostly) >= 0.8 * series


def test_how_many_tasks_it_takes() -> None:
    def tasks(active: float, canary: float) -> int:
        chance = random.Random(2)
        return sorted(trial(chance, active, canary, 3000)[1] for _ in range(21))[10]

    assert tasks(1.0, 1.0) in range(40, 60), "neither fails"
    assert tasks(0.98, 0.98) in range(50, 120)
    assert tasks(1.0, 0.0) <= 5, "it always fails, and the other never"
    assert tasks(0.9, 0.6) <= 60


@pytest.mark.parametrize(("measure", "far"), [(not_worse, MARGIN), (worse, 0.0)])
def test_at_rates_that_are_in_question_what_speaks_against_them_is_one_at_most_on_average(
    measure: Callable[[Counts, Counts], float], far: float
) -> None:
    """That is what bounds how often it reaches so many times as much, whenever it is looked at."""
    old, new = 12, 6
    against = {(s, t): measure((s, old - s), (t, new - t)) for s in range(old + 1) for t in range(new + 1)}

    def chance(of: int, good: int, rate: float) -> float:
        return math.comb(of, good) * rate**good * (1 - rate) ** (of - good)

    rates = [each / 20 for each in range(21)]
    for p, q in itertools.product(rates, rates):
        average = sum(chance(old, s, p) * chance(new, t, q) * each for (s, t), each in against.items())
        if q <= p - far if far else q >= p:
            assert average <= 1.000001
    assert max(against.values()) >= AGAINST / 2


@given(COUNTS, COUNTS)
def test_it_goes_by_who_did_better(active: Counts, canary: Counts) -> None:
    word = came_to(active, canary)
    rates = [each[0] / sum(each) if sum(each) else None for each in (active, canary)]
    if sum(canary) < FEWEST:
        assert word == ""
    if word == "retired":
        assert rates[1] is not None
        assert rates[0] is not None
        assert rates[1] < rates[0]
    if word == "active" and rates[0] is not None:
        assert rates[1] is not None
        assert rates[1] > rates[0] - MARGIN


@given(COUNTS, COUNTS, st.sampled_from([0.05, 0.2, 0.5]))
def test_what_is_missing_is_enough(active: Counts, canary: Counts, share: float) -> None:
    more = missing(active, canary, share)
    if more is not None and sum(active):
        old, rate = more * (1 - share) / share, active[0] / sum(active)
        after = (active[0] + old * rate, active[1] + old * (1 - rate))
        assert not_worse(after, (canary[0] + more, canary[1])) >= AGAINST


def test_the_numbers_it_was_taken_from_are_told() -> None:
    found = decide(CANARY, (40, 0), (0, 4))
    assert found is not None
    assert str(found) == (
        f"the canary echo {'a' * 12} was ended: 0 of 4 tasks succeeded, of the active version's 40 of 40 tasks succeeded, "
        "so it fails more often"
    )
    assert found.numbers == {
        "canary": {"sha": "a" * 64, "succeeded": 0, "failed": 4},
        "active": {"succeeded": 40, "failed": 0},
        "margin": 0.1,
        "error": 0.05,
    }


def test_a_run_is_always_on_the_same_side_and_as_many_as_it_says_are_on_it() -> None:
    runs = [f"r{number}" for number in range(4000)]
    on = {run for run in runs if tries(run, "echo", 0.2)}
    assert on == {run for run in runs if tries(run, "echo", 0.2)}
    assert 700 < len(on) < 900
    assert on < {run for run in runs if tries(run, "echo", 0.3)}
    assert on != {run for run in runs if tries(run, "other", 0.2)}


@pytest.mark.parametrize(("ended", "well"), [((0, 0), False), ((2, 0), False), ((3, 0), True), ((10, 30), False)])
def test_only_what_did_well_lately_has_to_be_compared_with(ended: Counts, well: bool) -> None:
    assert proven(Ended(1000, 0, *map(int, ended))) is well
