"""From a ranking to a decision: probabilities that mean what they say, and the way that is expected to cost least."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blackboard.errors import BadInput
from registry.matching import Document, Findings, LexicalMatcher, MatchCandidate, MatchDecision, Prices, Signals, decide
from registry.matching.abstention import auroc, calibration_error
from registry.matching.calibration import Calibration, features, fit, shipped
from registry.matching.composing import composing
from registry.matching.corpora import Corpus, Query
from registry.matching.evaluation import evaluate
from registry.matching.interface import standing


@pytest.fixture
def matcher() -> LexicalMatcher:
    made = LexicalMatcher()
    for name, description in (
        ("get_weather", "Current weather and forecast for a city."),
        ("convert_currency", "Convert an amount of money from one currency into another."),
        ("send_email", "Send an email to a recipient with a subject and a body."),
        ("book_flight", "Book a flight between two airports on a date."),
    ):
        made.add(name, Document(name, description))
    return made


def test_what_fits_well_is_used_and_what_nothing_fits_is_fabricated(matcher: LexicalMatcher) -> None:
    used = decide(matcher, "convert currency")
    assert (used.outcome, used.chosen) == ("use", ("convert_currency",))
    assert used.candidates[0].reasons
    made = decide(matcher, "knit a woollen jumper")
    assert (made.outcome, made.chosen) == ("fabricate", ())
    assert made.probability > 0.9


@pytest.mark.parametrize(
    "need",
    [
        "東京の天気予報を教えて",
        "Какая погода в Риме?",
        "查询罗马的天气",
        "날씨 예보 로마",
        "พยากรณ์อากาศ",
        "PDFファイルを要約する",
    ],
)
def test_of_a_need_that_words_cannot_compare_nothing_is_known_and_the_model_is_asked(
    matcher: LexicalMatcher, need: str
) -> None:
    asked = decide(matcher, need)
    assert (asked.outcome, asked.probability, asked.chosen) == ("ask", 0.5, ())
    assert asked.best_fits == 0, "no candidate is as likely as that"
    assert asked.costs == {"fabricate": 1.0, "ask": 0.5}
    assert "cannot be compared with the words of the capabilities" in asked.note


@pytest.mark.parametrize(
    "need", ["flurb the gribble", 'what does "ありがとう" mean to somebody who knits', "cos(-9.75π)"]
)
def test_words_that_could_be_compared_and_match_nothing_say_that_nothing_fits(
    matcher: LexicalMatcher, need: str
) -> None:
    made = decide(matcher, need)
    assert (made.outcome, made.note) == ("fabricate", "")
    assert made.probability > 0.9


def test_what_a_need_in_another_script_names_all_the_same_counts(matcher: LexicalMatcher) -> None:
    named = decide(matcher, "переведи деньги через convert_currency, пожалуйста")
    assert (named.outcome, named.chosen, named.note) == ("use", ("convert_currency",), "")
    hinted = decide(matcher, "переведи деньги в другую валюту, amount любой")
    assert hinted.candidates[0].name == "convert_currency"
    assert (hinted.outcome, hinted.probability) == ("ask", 0.5)
    assert 0 < hinted.best_fits < 0.5, "that something fits does not make the best one right"


def test_it_is_the_scripts_of_what_is_there_now_that_a_need_is_held_against(matcher: LexicalMatcher) -> None:
    need, knitting = "Какая погода в Риме?", "Связать свитер из шерсти"
    before = matcher.search(need).compared
    names = [f"russian_{number}" for number in range(8)]
    for name in names:
        matcher.add(name, Document(name, "Прогноз: какая погода в городе."))
    assert (before, matcher.search(need).compared) == (0, pytest.approx(8 / 12))
    assert decide(matcher, need).candidates[0].name in names
    assert decide(matcher, knitting).outcome == "fabricate", "most is in its script, and nothing is found"
    for name in names:
        matcher.remove(name)
    assert decide(matcher, knitting).outcome == "ask"
    assert decide(LexicalMatcher(), need).outcome == "fabricate", "there is nothing to compare it with"


def test_a_script_without_blanks_has_no_words_to_compare_even_where_all_is_written_in_it() -> None:
    chinese, korean = LexicalMatcher(), LexicalMatcher()
    chinese.add("天气", Document("天气", "查询城市的天气预报。"))
    korean.add("날씨", Document("날씨", "도시의 날씨 예보를 알려줍니다."))
    assert decide(chinese, "罗马会下雨吗").outcome == "ask"
    assert decide(korean, "스웨터 뜨개질하기").outcome == "fabricate", "it has blanks between its words"


def test_a_need_of_two_parts_is_composed_of_the_capabilities_for_each(matcher: LexicalMatcher) -> None:
    both = decide(matcher, "get the weather forecast and then send an email", prices=Prices(question=5))
    assert (both.outcome, both.chosen) == ("compose", ("get_weather", "send_email"))
    assert both.costs["compose"] < both.costs["use"]


def test_the_best_of_the_whole_is_not_used_alone_where_another_would_be_used_for_a_part(
    matcher: LexicalMatcher,
) -> None:
    need = "convert money into another currency and then send an email to a recipient"
    both = decide(matcher, need)
    assert (both.outcome, both.chosen) == ("compose", ("convert_currency", "send_email"))
    for part in need.split(" and then "):
        assert decide(matcher, part).outcome == "use"
    assert 0 <= both.best_fits < 0.2, "one of them alone does half of it"
    one = decide(matcher, "convert money into another currency and say what the amount is")
    assert (one.outcome, one.chosen) == ("use", ("convert_currency",))


PARTS = ("get the weather forecast", "send an email", "book a flight", "convert money", "knit a jumper", "the city")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(("convert currency", "knit a jumper"), id="nothing fits one of them"),
        pytest.param(("convert money into another currency", "convert currency"), id="one serves both"),
        pytest.param((*PARTS[:4], PARTS[0]), id="more than four"),
    ],
)
def test_nothing_is_composed_of_what_has_no_two_to_four_parts_that_different_ones_serve(
    matcher: LexicalMatcher, parts: tuple[str, ...]
) -> None:
    decision = decide(matcher, " and then ".join(parts))
    assert "compose" not in decision.costs


@given(parts=st.lists(st.sampled_from(PARTS), max_size=5), question=st.floats(0, 10))
def test_a_need_of_whatever_parts_is_decided_by_what_it_costs(parts: list[str], question: float) -> None:
    matcher = LexicalMatcher()
    for name, description in (("get_weather", "Weather forecast for a city."), ("send_email", "Send an email.")):
        matcher.add(name, Document(name, description))
    decision = decide(matcher, ". ".join(parts), prices=Prices(question=question))
    assert decision.costs[decision.outcome] == min(decision.costs.values())
    assert all(cost >= 0 for cost in decision.costs.values())
    assert 0 <= decision.probability <= 1
    assert 0 <= decision.best_fits <= 1
    assert len(set(decision.chosen)) == {"use": 1, "compose": 2}.get(decision.outcome, 0)


@settings(max_examples=60, deadline=None)
@given(wrong=st.floats(0.1, 10), needless=st.floats(0.1, 10), question=st.floats(0, 10))
def test_the_decision_is_always_the_one_that_costs_least(wrong: float, needless: float, question: float) -> None:
    made = LexicalMatcher()
    made.add("get_weather", Document("get_weather", "Current weather and forecast for a city."))
    prices = Prices(wrong_match=wrong, needless_fabrication=needless, question=question)
    decision = decide(made, "what will the sky do in Rome and its weather", prices=prices)
    assert decision.costs[decision.outcome] == min(decision.costs.values())
    assert set(decision.costs) >= {"use", "ask", "fabricate"}
    assert 0 <= decision.probability <= 1


def test_dearer_wrong_matches_lead_from_use_over_asking_to_fabrication(matcher: LexicalMatcher) -> None:
    need = "weather on mars next century"
    outcomes = [
        decide(matcher, need, prices=Prices(wrong_match=price, question=0.4)).outcome for price in (0.01, 1, 1000)
    ]
    assert outcomes[0] == "use"
    assert "use" not in outcomes[2:]
    assert decide(matcher, need, prices=Prices(question=0)).outcome == "ask"


def decided(outcome: Any, chosen: tuple[str, ...] = (), shown: str = "abcde") -> MatchDecision:
    shown_ones = tuple(MatchCandidate(name=name, score=0.5) for name in shown)
    return MatchDecision(
        need="x", outcome=outcome, chosen=chosen, probability=0.5, costs={}, prices=Prices(), candidates=shown_ones
    )


@pytest.mark.parametrize(
    ("decision", "cost"),
    [
        (decided("compose", ("a", "b")), 0),
        (decided("compose", ("b", "a")), 0),
        (decided("compose", ("a", "b", "c")), 3),
        (decided("compose", ("a", "c")), 3),
        (decided("use", ("a",)), 3),
        (decided("fabricate"), 2),
        (decided("ask"), 0.5),
        (decided("ask", shown="ac"), 2.5),
    ],
)
def test_a_need_of_several_costs_what_its_decision_gets_wrong(decision: MatchDecision, cost: float) -> None:
    told = composing([(decision, {"a", "b"})])
    assert told.cost == cost
    assert (told.composed, told.right) == (decision.outcome == "compose", decision.outcome == "compose" and cost == 0)


def cases(number: int, seed: int) -> list[tuple[Signals, bool]]:
    """Rankings whose best candidate is right as often as its score says."""
    chance = random.Random(seed)
    scores = [chance.uniform(0.01, 0.6) for _ in range(number)]
    return [(Signals(score=score), chance.random() < score / 0.6) for score in scores]


def test_a_fit_says_what_is_so() -> None:
    fitted = fit(cases(3000, 1))
    fresh = cases(3000, 2)
    said = [fitted.probability(signals) for signals, _ in fresh]
    assert calibration_error(said, [right for _, right in fresh]) < 0.06
    assert auroc([p for p, (_, right) in zip(said, fresh, strict=True) if right],
                 [p for p, (_, right) in zip(said, fresh, strict=True) if not right]) > 0.75  # fmt: skip


def test_a_refit_moves_from_the_prior_as_far_as_the_outcomes_say() -> None:
    prior = shipped()
    wrong = [(Signals(score=0.4, standing=0.5, answered=0.5), False)]
    before = prior.probability(wrong[0][0])
    few, many = (fit(wrong * times, prior).probability(wrong[0][0]) for times in (2, 200))
    assert before > few > many
    assert many < 0.1


def test_nothing_found_is_never_right_and_no_case_is_no_fit() -> None:
    assert Calibration(weights=(9.0,) * len(features(Signals()))).probability(Signals()) == 0
    with pytest.raises(BadInput):
        fit([])


@pytest.mark.parametrize(
    ("present", "absent", "expected"),
    [([3, 4], [1, 2], 1.0), ([1, 2], [3, 4], 0.0), ([1, 1], [1, 1], 0.5), ([], [1], 0.5)],
)
def test_the_area_under_the_curve_counts_pairs(present: list[float], absent: list[float], expected: float) -> None:
    assert auroc(present, absent) == expected


def test_what_is_asked_of_a_capability_is_a_share_of_what_it_says_of_itself() -> None:
    def answered(need: str, served: str = "") -> float:
        matcher = LexicalMatcher()
        matcher.add("send", Document("send", "Sends a letter abroad.", served=served))
        matcher.add("other", Document("other", "Paints a fence and a wall."))
        return matcher.search(need).signals.answered

    assert 0 < answered("a letter") < answered("send a letter") < answered("send letters abroad") <= 1
    served = "a parcel to grandmother\nflowers for the harvest festival\ncoal in winter"
    assert answered("send letters abroad", served) == pytest.approx(answered("send letters abroad"), abs=0.02)


def test_the_best_stands_the_further_out_the_less_the_nine_after_it_have_and_what_is_not_there_has_nothing() -> None:
    assert standing([0.5]) == 1
    assert standing([0.5] * 10) == standing([0.5] * 30) == 0
    assert standing([0.5] * 4) == pytest.approx(6 / 9)
    assert standing([0.5] * 9 + [0.2]) == pytest.approx(0.75 / 9)
    assert 0 <= standing([1.0] * 10) <= standing([1.0] * 9 + [0.999]) < 1


@pytest.mark.parametrize(("besides", "less"), [(0, 0.02), (60, 0.1)])
def test_one_of_many_alike_is_less_likely_than_one_among_strangers(besides: int, less: float) -> None:
    """What the need is about, all of the first are about; none does what it asks. Few say less of that than many."""

    def decided(*others: tuple[str, str]) -> Any:
        matcher = LexicalMatcher()
        for name, description in (("pause_timer", "Pauses a running timer."), *others):
            matcher.add(name, Document(name, description))
        for number in range(besides):
            matcher.add(f"other_{number}", Document(f"other_{number}", f"Weighs lorry {number}."))
        return decide(matcher, "what is left on the pasta timer that is running")

    alike = decided(
        ("start_timer", "Starts a timer."),
        ("cancel_timer", "Cancels a running timer."),
        ("extend_timer", "Adds time to a running timer."),
        ("name_timer", "Names a running timer."),
    )
    strangers = decided(
        ("send_letter", "Sends a letter."),
        ("paint_fence", "Paints a fence."),
        ("sing_song", "Sings a song."),
        ("bake_bread", "Bakes bread."),
    )
    assert alike.candidates[0].name.endswith("_timer")
    assert strangers.candidates[0].name == "pause_timer"
    assert alike.best_fits < strangers.best_fits - less


def test_rankings_by_words_and_by_meanings_are_judged_apart() -> None:
    words = Signals(score=0.4, standing=0.5, answered=0.5)
    cases = [(words, True), (words._replace(nearer=0.2), False)] * 50
    fitted = fit(cases)
    assert fitted.probability(words) > 0.9
    assert fitted.probability(words._replace(nearer=0.2)) < 0.1


def test_what_counts_twice_is_fitted_like_two() -> None:
    words = Signals(score=0.4, standing=0.5, answered=0.5)
    both = [(words, True), (words._replace(score=0.1), False), (words._replace(score=0.1), True)]
    twice = fit([*both, both[1]])
    assert fit(both, counts=[1, 2, 1]).weights == pytest.approx(twice.weights, abs=1e-4)
    assert fit(both).weights != pytest.approx(twice.weights, abs=1e-2)


def test_as_many_deviations_more_say_less_among_many_than_among_few() -> None:
    some = Signals(score=0.9, standing=0.8, answered=0.3, nearer=0.3, known=60)
    assert shipped().probability(some) > 1.2 * shipped().probability(some._replace(known=20_000))


def test_how_far_the_best_stands_before_others_says_little_among_few() -> None:
    few = Signals(score=0.3, standing=0.2, answered=0.3, alike=0.3, known=5)
    many = few._replace(known=50)
    gains = [shipped().probability(each._replace(standing=0.9)) - shipped().probability(each) for each in (few, many)]
    assert 0 < 3 * gains[0] < gains[1]


def test_the_words_of_what_is_removed_do_not_tell_that_it_was_there() -> None:
    """Knowing that nothing fits is measured on a registry that never had what is taken away."""
    documents = {
        "get_weather": Document("get_weather", "Current weather and forecast for a city."),
        "send_email": Document("send_email", "Send an email to a recipient."),
        "book_flight": Document("book_flight", "Book a flight between two airports."),
    }

    class Asked(LexicalMatcher):
        """Notes what is there when a need is asked that only one capability serves."""

        def search(self, query: str, **options: Any) -> Findings:
            seen.append("get_weather" in self._slots)
            return super().search(query, **options)

    seen: list[bool] = []
    corpus = Corpus("small", documents, [Query("weather forecast", frozenset({"get_weather"}))])
    matcher = Asked()
    evaluate(corpus, {"matcher": matcher})
    assert seen.count(False) == 2, "near and purged"
    assert len(matcher) == 3, "what was taken away is back"


def test_every_second_small_registry_a_calibration_is_fitted_on_is_of_what_resembles_each_other() -> None:
    documents = {
        f"{thing}_{thing[0]}{number}": Document(thing, f"A {thing} of {thing[0]}{number}.")
        for thing in ("letter", "fence", "song", "bread")
        for number in range(10)
    }
    queries = [Query("letter l1", frozenset({"letter_l1"}))] * 80
    made: list[set[str]] = []

    class Noted(LexicalMatcher):
        def __init__(self) -> None:
            super().__init__()
            made.append(set())
            self._noted = made[-1]

        def add(self, name: str, document: Document) -> None:
            super().add(name, document)
            self._noted.add(name)

    evaluate(Corpus("alike", documents, queries), {"matcher": LexicalMatcher()}, small=[Noted])
    parts, drawn = made[:8], made[8:]
    about = [{name.partition("_")[0] for name in names} for names in parts]
    assert all(each == {"letter"} for each in about[1::2])
    assert any(len(each) > 1 for each in about[::2])
    assert any(len(names) > 1 for names in parts[1::2])
    assert all(4 <= len(names) <= 30 for names in drawn)
    assert min(map(len, drawn)) <= 5
    assert max(map(len, drawn)) >= 29


def test_a_fit_counts_every_corpus_alike_however_many_needs_it_has_and_few_for_less() -> None:
    things = ("letter", "fence", "song", "bread", "lamp", "tyre", "kite", "soap", "boat", "drum")
    documents = {f"make_{thing}": Document(f"make_{thing}", f"Makes one {thing}.") for thing in things}

    def counted(needs: int) -> float:
        queries = [Query(f"{things[at % 10]} {at}", frozenset({f"make_{things[at % 10]}"})) for at in range(needs)]
        corpus = Corpus("made", documents, queries)
        seen = evaluate(corpus, {"matcher": LexicalMatcher()}, small=[LexicalMatcher]).cases
        assert any(case.right for case in seen)
        assert any(not case.right for case in seen)
        return sum(case.weight for case in seen)

    enough = counted(120)
    assert counted(150) == pytest.approx(enough)
    assert counted(12) == pytest.approx(enough / 10)
