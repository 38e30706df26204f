"""Needs that take several capabilities: what stands first, and how likely a need is one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blackboard.types import Status
from registry.matching import Document, LexicalMatcher, decide
from registry.matching.covering import covering, several
from registry.matching.evidence import TRIES, Record
from registry.matching.interface import Candidate
from registry.records import Records

HOTELS = ("hotel_a", "hotel_b", "hotel_c")
ABOUT = "Look for a quiet hotel near the main station of a town, with breakfast for adults and children."
FORECAST = (
    "Tell the weather forecast of a weekend in the afternoon: rain, wind, temperature, and which clothes to pack."
)
LONG = f"{ABOUT} {FORECAST}"


def built(**given: bool) -> LexicalMatcher:
    matcher = LexicalMatcher(**given)
    for name in HOTELS:
        matcher.add(name, Document(name, ABOUT))
    matcher.add("weather", Document("weather", FORECAST.replace(", and which clothes to pack", "")))
    for number in range(40):
        matcher.add(f"filler_{number}", Document(f"filler_{number}", f"Counts the {number}th sheep of a flock."))
    return matcher


def test_what_is_left_of_a_need_comes_before_a_second_one_for_what_is_answered() -> None:
    names = [each.name for each in built().search(LONG).candidates]
    assert names[:4] == ["hotel_a", "weather", "hotel_b", "hotel_c"]
    plain = [each.name for each in built(capabilities=False).search(LONG).candidates]
    assert plain[:4] == ["hotel_a", "hotel_b", "hotel_c", "weather"]


def test_a_short_need_and_texts_that_do_nothing_are_ranked_by_their_scores() -> None:
    for matcher, need in ((built(), "hotel with breakfast"), (built(capabilities=False), LONG)):
        scores = [each.score for each in matcher.search(need).candidates]
        assert scores == sorted(scores, reverse=True)


def test_what_a_record_puts_first_stays_first() -> None:
    async def none() -> dict[str, int]:
        return {}

    records = Records(none, None, lambda: 0.0)
    records._known = {
        (HOTELS[0], ""): Record({Status.FAILED: 50}),
        (HOTELS[1], ""): Record({Status.FAILED: 20, Status.SUCCEEDED: 30}),
        ("weather", ""): Record({Status.SUCCEEDED: 50}),
        (HOTELS[2], ""): Record({Status.SUCCEEDED: 50 * TRIES}),
    }
    weighed = records.weigh(built().search(LONG).candidates, lambda _: "")
    assert [each.name for each in weighed][:4] == ["hotel_c", "weather", "hotel_b", "hotel_a"]


answers = st.dictionaries(st.integers(0, 30), st.floats(0, 5), max_size=30)


@given(st.lists(st.tuples(st.floats(0, 1), answers), max_size=40))
def test_whatever_is_answered_nothing_is_lost_and_the_best_stays_first(
    given: list[tuple[float, dict[int, float]]],
) -> None:
    ranked = sorted(
        (Candidate(str(at), score, (), much) for at, (score, much) in enumerate(given)), key=lambda each: -each.score
    )
    found = covering(ranked)
    assert sorted(found) == sorted(ranked)
    assert found[:1] == ranked[:1]
    assert found[30:] == ranked[30:]
    assert 0 <= several(found, "whatever is needed") <= 1


@given(st.lists(st.tuples(st.floats(0.01, 1), answers), min_size=2, max_size=12))
def test_each_next_one_is_the_one_that_adds_most(given: list[tuple[float, dict[int, float]]]) -> None:
    ranked = sorted(
        (Candidate(str(at), score, (), much) for at, (score, much) in enumerate(given)), key=lambda each: -each.score
    )
    again = 0.2 * min(1.0, len({word for each in ranked for word in each.answers}) / 20)

    def left(each: Candidate, before: list[Candidate]) -> float:
        whole = sum(each.answers.values())
        known = {word: max((one.answers.get(word, 0.0) for one in before), default=0.0) for word in each.answers}
        share = sum(min(much, known[word]) for word, much in each.answers.items()) / whole if whole else 0.0
        return each.score * (1 - again * share)

    found = covering(ranked)
    for at in range(len(found)):
        assert left(found[at], found[:at]) >= max(left(each, found[:at]) for each in found[at:]) - 1e-9


def test_a_need_of_two_things_is_not_left_to_the_one_that_does_the_first() -> None:
    matcher = built()
    one, both = decide(matcher, ABOUT), decide(matcher, LONG)
    assert one.several < 0.05 < 0.2 < both.several
    assert (one.outcome, both.outcome) == ("use", "ask")
    assert (one.doubts, both.doubts) == ("", f"the need takes several capabilities (p {both.several:.2f})")
    assert [each.name for each in both.candidates[:2]] == ["hotel_a", "weather"]
