"""What follows from the records of a capability's versions: enough data, in one direction, never in a circle."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackboard.lately import WINDOW, Ended
from registry import Grants, Manifest, Version
from registry.matching.evidence import TRIES
from registry.reflection import FEWEST, judge

MANIFEST = Manifest(name="echo", description="Says it back.", input_schema={"type": "object"})
Counts = tuple[int, int]


def version(number: int, state: str = "retired", **more: Any) -> Version:
    given = {
        "name": "echo", "sha": f"{number:064x}", "state": state, "manifest": MANIFEST, "artifact_sha": "a" * 64,
        "created_at": 1.0, "updated_at": 1.0, "replaced": state == "retired", **more,
    }  # fmt: skip
    return Version.model_validate(given)


def line(count: int, active: int) -> list[Version]:
    return [version(number, "active" if number == active else "retired") for number in range(count)]


def ended(*counts: Counts) -> dict[str, Ended]:
    return {version(number).sha: Ended(*each, *each) for number, each in enumerate(counts)}


def decided(versions: list[Version], *counts: Counts) -> str:
    """``""``, ``retire``, or the number of the version it goes back to."""
    found = judge(versions, ended(*counts))
    if found is None:
        return ""
    return "retire" if found.back_to is None else str(int(found.back_to.sha, 16))


def test_a_version_that_fails_gives_way_to_the_one_before_that_did_well_and_the_numbers_are_told() -> None:
    found = judge(line(2, 1), ended((10, 0), (0, 20)))
    assert found is not None
    assert found.back_to == version(0)
    assert found.reason.startswith(
        "20 of the last 20 tasks failed, so at best 30% succeed; of 000000000000 0 of the last 10 did"
    )
    assert found.numbers == {
        "version": {"sha": version(1).sha, "succeeded": 0, "failed": 20, "at_best": 0.3038},
        "earlier": {"sha": version(0).sha, "succeeded": 10, "failed": 0, "at_least": 0.8918},
    }


def test_what_asks_hosts_is_gone_back_from_and_not_retired() -> None:
    asks = MANIFEST.model_copy(update={"grants": Grants(http_hosts=("api.example.com",))})
    old, new = version(0, manifest=asks), version(1, "active", manifest=asks)
    assert decided([old, new], (10, 0), (0, 20)) == "0"
    assert decided([old, new], (0, 0), (0, 20)) == ""
    assert decided(line(2, 1), (0, 0), (0, 20)) == "retire"


def test_of_several_earlier_versions_the_best_is_gone_back_to() -> None:
    assert decided(line(4, 3), (10, 5), (40, 0), (10, 1), (0, 20)) == "1"


@pytest.mark.parametrize(
    "earlier",
    [
        version(0, revoked=True),
        version(0, replaced=False),
        version(0, "examined"),
        version(0, artifact_sha=None),
        version(0, exam={"public_cases": 1, "sealed_cases": 1, "passed": False, "when": 1.0}),
    ],
    ids=["revoked", "retired for its own sake", "never active", "of a program", "failed its exam"],
)
def test_what_may_not_be_offered_again_is_not_gone_back_to(earlier: Version) -> None:
    versions = [earlier, version(1, "active")]
    assert decided(versions, (10, 0), (0, 8)) == ""
    assert decided(versions, (10, 0), (0, 20)) == "retire"


def test_what_lives_in_a_program_or_belongs_to_a_peer_is_left_alone() -> None:
    assert decided([version(0), version(1, "active", artifact_sha=None)], (10, 0), (0, 100)) == ""
    assert decided([version(0, "active", artifact_sha=None)], (0, 100)) == ""


def test_without_a_better_one_it_takes_ten_failures_in_a_row_to_be_retired() -> None:
    assert [decided(line(1, 0), (0, failed)) for failed in (9, 10)] == ["", "retire"]
    assert decided(line(2, 1), (0, 30), (0, 10)) == "retire"
    assert decided([version(0)], (0, 30)) == "", "none is active"


def test_what_failed_before_somebody_made_it_the_active_one_is_not_held_against_it() -> None:
    versions = [version(0), version(1, "active", forgiven=20)]
    assert decided(versions, (10, 0), (0, 20)) == ""
    assert decided(versions, (10, 0), (0, 24)) == ""
    assert decided(versions, (10, 0), (0, 25)) == "0"


def test_what_broke_is_noticed_within_its_latest_tasks_however_well_it_did_before() -> None:
    def latest(failed: int) -> Counts:
        return WINDOW - failed, failed

    assert [decided(line(2, 1), (45, 5), latest(failed)) for failed in (13, 14)] == ["", "0"]
    assert [decided(line(2, 1), (50, 0), latest(failed)) for failed in (5, 6)] == ["", "0"]
    assert [decided(line(1, 0), latest(failed)) for failed in (33, 34)] == ["", "retire"]


@pytest.mark.parametrize(("success", "least", "most"), [(0.9, 0.0, 0.03), (0.7, 1.0, 1.0)])
def test_looked_at_after_each_failure_what_is_as_good_stays_and_what_is_clearly_worse_does_not(
    success: float, least: float, most: float
) -> None:
    chance, versions, left = random.Random(1), line(2, 1), 0
    for _ in range(200):
        latest: deque[bool] = deque(maxlen=WINDOW)
        for _ in range(200):
            latest.append(chance.random() < success)
            if not latest[-1] and decided(versions, (45, 5), (sum(latest), len(latest) - sum(latest))):
                left += 1
                break
    assert least <= left / 200 <= most


COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60))


@st.composite
def boards(draw: st.DrawFn) -> tuple[list[Version], list[Counts]]:
    counts = draw(st.lists(COUNTS, min_size=1, max_size=5))
    versions = line(len(counts), draw(st.integers(0, len(counts) - 1)))
    return [each.model_copy(update={"forgiven": draw(st.sampled_from([0, 0, 5, 50]))}) for each in versions], counts


def active(versions: list[Version]) -> int:
    return next(number for number, each in enumerate(versions) if each.state == "active")


@given(boards())
def test_nothing_follows_from_few_tasks(given: tuple[list[Version], list[Counts]]) -> None:
    versions, counts = given
    at = active(versions)
    good, bad = counts[at]
    what = decided(versions, *counts)
    if good + max(0, bad - versions[at].forgiven) < FEWEST:
        assert what == ""
    if what not in ("", "retire"):
        assert int(what) < at
        assert sum(counts[int(what)]) >= TRIES
    if what == "retire":
        assert bad >= 10


@given(boards(), st.integers(1, 40))
def test_more_failures_never_make_it_stay(given: tuple[list[Version], list[Counts]], more: int) -> None:
    versions, counts = given
    at, before = active(versions), decided(versions, *counts)
    worse = [(good, bad + more if number == at else bad) for number, (good, bad) in enumerate(counts)]
    after = decided(versions, *worse)
    assert after == before or before in ("", "retire")
    assert not before or after


@given(boards())
def test_with_the_same_numbers_it_comes_to_rest_and_never_goes_forward_again(
    given: tuple[list[Version], list[Counts]],
) -> None:
    versions, counts = given
    seen = [active(versions)]
    while (what := decided(versions, *counts)) not in ("", "retire"):
        seen.append(int(what))
        versions = [
            each.model_copy(update={"state": "active" if number == seen[-1] else "retired", "replaced": number != seen[-1]})
            for number, each in enumerate(versions)
        ]  # fmt: skip
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) <= 2, "the best of the earlier ones was chosen at once"
