"""Needs in another language than the capabilities are described in: that nothing was found says nothing then."""

from __future__ import annotations

import pytest

from registry.matching import Document, LexicalMatcher, decide
from registry.matching.languages import languages

TOOLS = {
    "get_weather": "Current weather and forecast for a city.",
    "send_email": "Send an e-mail to one of your contacts.",
    "find_recipe": "Find a recipe with what is in the fridge.",
    "translate": "Translate a text from one language to another.",
}
NEEDS = [
    "quel temps fait-il à Paris demain ?",
    "¿qué tiempo hace en Madrid mañana?",
    "Wie wird das Wetter morgen in Bern?",
    "che tempo fa a Roma oggi?",
    "qual é a previsão do tempo em Lisboa?",
    "hur är vädret i Malmö idag?",
    "jaka jest pogoda w Krakowie?",
    "yarın Ankara'da hava nasıl olacak?",
]


@pytest.fixture
def matcher() -> LexicalMatcher:
    matcher = LexicalMatcher()
    for name, description in TOOLS.items():
        matcher.add(name, Document(name, description))
    return matcher


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("what is the weather in Rome", ("en",)),
        ("envoie un courriel à Marie", ("fr",)),
        ("erinnere mich morgen an den Termin", ("de",)),
        ("wat is het weer in Utrecht", ("nl",)),
        ("Prendi la chiave della porta", ("it",)),
        ("convert 20 EUR", ()),
        ("la la la", ()),
        ("", ()),
    ],
)
def test_the_language_of_a_text_is_told_by_its_commonest_words_where_they_tell(
    text: str, language: tuple[str, ...]
) -> None:
    assert languages(text) == language


@pytest.mark.parametrize("need", NEEDS)
def test_the_model_is_asked_where_a_need_is_in_a_language_that_nothing_is_described_in(
    matcher: LexicalMatcher, need: str
) -> None:
    asked = decide(matcher, need)
    assert (asked.outcome, asked.probability) == ("ask", 0.5)
    assert "another language" in asked.note


@pytest.mark.parametrize("need", ["flurb the gribble", "flurb gribble", "grind the knives in my kitchen, please"])
def test_a_need_in_their_language_or_in_none_that_can_be_told_is_held_against_all(
    matcher: LexicalMatcher, need: str
) -> None:
    assert (decide(matcher, need).outcome, decide(matcher, need).note) == ("fabricate", "")


def test_it_is_the_languages_of_what_is_there_now_that_a_need_is_held_against(matcher: LexicalMatcher) -> None:
    need = "schleif mir bitte die Messer in der Küche"
    german = {f"deutsch_{number}": f"Sendet die {number}. Nachricht mit dem Text an das Ziel." for number in range(4)}
    assert matcher.search(need).compared == 0
    for name, description in german.items():
        matcher.add(name, Document(name, description))
    assert matcher.search(need).compared == pytest.approx(len(german) / (len(german) + len(TOOLS)))
    assert decide(matcher, need).outcome == "fabricate"
    for name in german:
        matcher.remove(name)
    assert decide(matcher, need).outcome == "ask"


def test_what_a_need_in_another_language_names_all_the_same_counts(matcher: LexicalMatcher) -> None:
    named = decide(matcher, "bitte mit send_email an die Kollegen aus der Küche")
    assert (named.candidates[0].name, named.note) == ("send_email", "")
