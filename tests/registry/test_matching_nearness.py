"""The nearest of many vectors are those that a product with each of them names. Needs NumPy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np: Any = pytest.importorskip("numpy")

from registry.matching.nearness import _MANY, Nearness  # noqa: E402  # pyright: ignore[reportPrivateUsage]
from registry.matching.rough import _LONGEST, Rough  # noqa: E402  # pyright: ignore[reportPrivateUsage]


def of_length_one(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random(count: int, dimensions: int, seed: int = 1) -> Any:
    return of_length_one(np.random.default_rng(seed).standard_normal((count, dimensions)))


def clustered(count: int, dimensions: int) -> Any:
    """As vectors of texts are: some are very near each other, and all point a little the same way."""
    chance = np.random.default_rng(2)
    centres = chance.standard_normal((40, dimensions)) + 0.5
    return of_length_one(centres[chance.integers(0, 40, count)] + 0.7 * chance.standard_normal((count, dimensions)))


def sparse(count: int, dimensions: int) -> Any:
    """Nearly all numbers are nothing, as of an encoder that hashes words; some vectors are the same."""
    chance = np.random.default_rng(3)
    rows = np.zeros((count, dimensions))
    for _ in range(4):
        rows[np.arange(count), chance.integers(0, dimensions, count)] += 1.0
    return of_length_one(rows)


def slanting(count: int, dimensions: int) -> Any:
    """As vectors of texts are: mostly within a few directions, and hardly in the rest."""
    sizes = (np.arange(dimensions) + 4.0) ** -1.2
    turned = np.linalg.qr(np.random.default_rng(4).standard_normal((dimensions, dimensions)))[0]
    return of_length_one((np.random.default_rng(5).standard_normal((count, dimensions)) * sizes) @ turned)


def filled(vectors: Any) -> Nearness:
    found = Nearness(vectors.shape[1])
    found.add([f"v{row}" for row in range(len(vectors))], vectors)
    return found


def by_products(vectors: Any, asked: Any, count: int) -> dict[str, float]:
    close = (vectors.astype(np.float64) @ asked.T.astype(np.float64)).max(axis=1)
    far = (close - close.mean()) / close.std()
    return {f"v{row}": float(far[row]) for row in np.argsort(-far, kind="stable")[:count].tolist()}


@pytest.mark.parametrize("made", [random, clustered, sparse, slanting])
@pytest.mark.parametrize("sentences", [1, 3])
def test_among_many_the_nearest_are_those_of_all_products(made: Any, sentences: int) -> None:
    vectors = made(_MANY + 301, 96)
    several = filled(vectors)
    for start in range(0, 30, sentences):
        asked = vectors[start : start + sentences] if start % 2 else random(sentences, 96, 100 + start)
        right = by_products(vectors, asked, 20)
        found = several.nearest(asked, 20, (), products=several.begun(asked)).far
        assert found == several.nearest(asked, 20, ()).far
        least = min(right.values())
        assert found == pytest.approx({name: right.get(name, least) for name in found}, rel=0.03)
        assert sum(found.values()) == pytest.approx(sum(right.values()), rel=0.03)


def test_no_rounding_hides_a_vector_that_is_as_near_as_the_last_of_the_nearest() -> None:
    vectors = clustered(_MANY, 384)
    several = filled(vectors)
    for asked in (vectors[:1], random(1, 384)):
        assert several.nearest(asked, 12, ()).far.keys() == by_products(vectors, asked, 12).keys()


def test_what_lies_outside_the_directions_that_are_read_is_found_all_the_same() -> None:
    vectors = slanting(_MANY + 40, 96)
    moments = vectors.T.astype(np.float64) @ vectors
    outside = np.linalg.eigh(moments)[1][:, :12].T.astype(np.float32)
    vectors[17:29] = of_length_one(outside + 0.1 * random(12, 96))
    several = filled(vectors)
    assert several._rough is not None  # pyright: ignore[reportPrivateUsage]
    assert several._rough.width < 96  # pyright: ignore[reportPrivateUsage]
    for asked in (outside[:1], outside[3:5], of_length_one(outside[5:6] + vectors[5000:5001])):
        assert several.nearest(asked, 12, ()).far.keys() == by_products(vectors, asked, 12).keys()


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_none_that_is_as_near_as_another_is_left_out(seed: int, asked: int, apart: float) -> None:
    vectors = slanting(600, 64)
    rough = Rough(vectors[:400].T.astype(np.float64) @ vectors[:400], vectors)
    said = of_length_one((1 - apart) * vectors[:asked] + apart * random(asked, 64, seed))
    products = (vectors @ said.T).max(axis=1)
    least = float(np.sort(products)[-10])
    close = rough.close(rough.products(rough.asked(said), 600), 600)
    assert {*np.flatnonzero(products >= least).tolist()} <= {*rough.reaching(close, said, least).tolist()}


def test_when_there_are_many_more_the_directions_are_found_anew() -> None:
    several = Nearness(64)
    for start, count in ((0, _MANY), (16, _MANY * 7)):
        vectors = np.zeros((count, 64), dtype=np.float32)
        vectors[:, start : start + 16] = random(count, 16)
        several.add([f"{start}-{row}" for row in range(count)], vectors)
        assert several._rough is not None  # pyright: ignore[reportPrivateUsage]
        assert several._rough.width == start + 16  # pyright: ignore[reportPrivateUsage]


def test_what_is_named_is_told_and_takes_no_place_of_the_nearest() -> None:
    vectors = random(_MANY + 1, 32)
    several, asked = filled(vectors), random(1, 32, 9)
    right = by_products(vectors, asked, 15)
    also = [*list(right)[:5], "v77", "unknown"]
    assert several.nearest(asked, 10, also).far.keys() == right.keys() | {"v77"}


def test_only_the_allowed_are_among_the_nearest_however_few_they_are() -> None:
    vectors = random(_MANY + 1, 32)
    several, asked = filled(vectors), random(1, 32, 9)
    few = {"v3", "v5000", "v8191"}
    assert several.nearest(asked, 10, (), few.__contains__).far.keys() == few
    assert several.nearest(asked, 2, (), few.__contains__).far.keys() < few


def test_one_that_followed_every_change_answers_as_one_that_is_new() -> None:
    vectors, chance = clustered(_MANY + 900, 48), np.random.default_rng(5)
    followed = filled(vectors)
    followed.nearest(vectors[7:9], 1, ())
    gone = {f"v{row}" for row in chance.choice(len(vectors), 600, replace=False).tolist()}
    for name in sorted(gone):
        followed.remove(name)
    followed.remove("unknown")
    back = sorted(gone)[:100]
    for name in back:
        followed.add([name], vectors[int(name[1:])][None])
    left = sorted({f"v{row}" for row in range(len(vectors))} - gone | {*back})
    new = Nearness(48)
    for start in range(0, len(left), 777):
        names = left[start : start + 777]
        new.add(names, vectors[[int(name[1:]) for name in names]])
    for asked in (vectors[:1], vectors[7:9]):
        one, other = (each.nearest(asked, 20, ()).far for each in (followed, new))
        assert one == pytest.approx(other, abs=2e-4)


@pytest.mark.parametrize("dimensions", [8, 384, 1536])
def test_two_products_in_one_number_are_never_rounded(dimensions: int) -> None:
    level = of_length_one(np.where(np.arange(dimensions) % 2, 1.0, -1.0)[None])
    several = Rough(np.eye(dimensions), np.zeros((2, dimensions), dtype=np.float32))
    for vectors in (level, -level, random(200, dimensions), sparse(200, dimensions)):
        whole, lost = several._rounded(vectors)  # pyright: ignore[reportPrivateUsage]
        assert float(np.vecdot(whole, whole).max()) <= _LONGEST
        assert float(lost.max()) < 0.9


def test_alike_vectors_are_no_nearer_than_most_and_none_are_none() -> None:
    vectors = np.repeat(random(1, 16), _MANY, axis=0)
    assert set(filled(vectors).nearest(random(1, 16, 4), 3, ()).far.values()) == {0.0}
    assert Nearness(16).nearest(random(1, 16), 3, ["v1"]).far == {}
