"""An installation's own calibration: moved by its cases, as far as there are enough, and used by every process."""

from __future__ import annotations

import contextlib
import random

import pytest
import redis.asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from blackboard.catalog import Catalog
from blackboard.errors import BadInput
from blackboard.lessons import Lessons
from registry import Manifest, Registry
from registry.matching import Signals
from registry.matching.calibration import Calibration
from registry.matching.refit import LEAST, Case, read, refit

CODE = "def handler() -> None:\n    pass\n"
TRUTH = Calibration(weights=(-0.5, 3.0, 1.5, 0.0, -1.5, *(0.0,) * 9))
"""How this installation's rankings turn out: otherwise than the shipped model says."""
BELIEVED = Calibration(weights=(-1.5, 2.0, 2.0, 0.0, 1.0, *(0.0,) * 9))
"""A shipped model that stays what it is, whatever comes with the package."""


@pytest.fixture(autouse=True)
def _shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.matching.refit.shipped", lambda: BELIEVED)


def drawn(number: int, seed: int = 1) -> list[Case]:
    chance = random.Random(seed)
    found: list[Case] = []
    for _ in range(number):
        signals = Signals(*(chance.random() for _ in range(3)), known=200)
        found.append((signals, chance.random() < TRUTH.probability(signals)))
    return found


def off(model: Calibration) -> float:
    """How far a model is from the truth, on needs nobody fitted on."""
    return sum(abs(model.probability(each) - TRUTH.probability(each)) for each, _ in drawn(500, 99)) / 500


def test_the_more_cases_there_are_the_further_it_moves_from_the_shipped_one_to_the_truth() -> None:
    few, more, many = (refit(drawn(number)).calibration for number in (150, 400, 3000))
    assert off(BELIEVED) > off(few) > off(more) > off(many)
    assert off(many) < 0.05
    moved = [abs(one - other) for one, other in zip(few.weights, BELIEVED.weights, strict=True)]
    assert max(moved) < 1.0, "a few dozen cases overrule nothing"


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_same_cases_in_any_order_are_the_same_fit(order: random.Random) -> None:
    cases = drawn(200)
    order.shuffle(cases)
    fitted = refit(cases)
    assert fitted == refit(drawn(200))
    assert read(fitted.text()) == fitted
    assert fitted.loss < fitted.shipped_loss


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([], "0 needs"),
        (drawn(LEAST - 1), "found wrong"),
        ([(signals, True) for signals, _ in drawn(200)], "200 of them found right"),
        ([(signals._replace(score=0.0), right) for signals, right in drawn(200)], "0 needs"),
    ],
)
def test_too_few_cases_are_refused_with_what_it_takes(cases: list[Case], said: str) -> None:
    with pytest.raises(BadInput, match="50 needs") as refused:
        refit(cases)
    assert said in str(refused.value)


def as_believed(seed: int) -> list[Case]:
    """Cases that turn out as the shipped model says."""
    chance = random.Random(seed)
    return [(signals, chance.random() < BELIEVED.probability(signals)) for signals, _ in drawn(200, seed + 100)]


def test_a_fit_that_predicts_better_by_chance_alone_is_refused() -> None:
    refused: list[str] = []
    for seed in range(20):
        with contextlib.suppress(BadInput):
            refit(as_believed(seed))
            continue
        refused.append(str(seed))
    assert len(refused) >= 18, "chance looks like a reason once in twenty times or so"
    with pytest.raises(BadInput, match="as well, or nearly"):
        refit(as_believed(int(refused[0])))


@pytest.mark.parametrize("text", ["{", "[]", '{"calibration": {"weights": []}}'])
def test_a_damaged_one_is_told_and_not_used(text: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        read(text)


async def test_every_process_decides_by_it_until_it_is_taken_back(client: redis.asyncio.Redis) -> None:
    writer, reader = Registry(Catalog(client, "test")), Registry(Catalog(client, "test"))
    for name in ("get_weather", "get_forecast"):
        await writer.register(
            Manifest(name=name, description="Current weather for a city.", input_schema={"type": "object"}), source=CODE
        )
    before = await reader.decide("weather")
    fitted = refit(drawn(400))
    assert await writer.calibrate(fitted, operation="one")
    after = await reader.decide("weather")
    assert after.probability != before.probability
    assert (before.own_cases, after.own_cases) == (0, 400)
    assert await Registry(Catalog(client, "test")).decide("weather") == after
    assert await reader.refit() == fitted
    assert not await writer.calibrate(fitted)
    assert await writer.calibrate(None)
    assert await reader.decide("weather") == before


async def test_one_of_another_version_of_the_matcher_is_left_alone(
    client: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(Catalog(client, "test"))
    other = refit(drawn(400)).model_copy(update={"base": "0" * 16})
    await Lessons(Catalog(client, "test")).calibrate(other.text(), "ann", {})
    assert (await registry.decide("weather")).own_cases == 0
    assert await registry.refit() is None
    assert "another version" in caplog.text
