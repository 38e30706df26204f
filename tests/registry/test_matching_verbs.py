"""What is to be done counts: one who wants something listed is not served by what deletes it."""

from __future__ import annotations

import pytest

from registry.matching import Document, LexicalMatcher
from registry.matching.encoders import CallableEncoder
from registry.matching.passages import meaning
from registry.matching.verbs import asked, does

TOOLS = {
    "snapshot_delete": "Delete a snapshot of a volume for good.",
    "snapshot_list": "List snapshots of a volume with their dates and sizes.",
    "snapshot_create": "Create a snapshot of a volume.",
}


def built(**options: bool) -> LexicalMatcher:
    matcher = LexicalMatcher(**options)
    for name, description in TOOLS.items():
        matcher.add(name, Document(name, description))
    return matcher


@pytest.mark.parametrize(
    ("document", "kinds"),
    [
        (Document("get_weather"), {"read"}),
        (Document("volumeSnapshotDelete"), {"delete"}),
        (Document("weather", "Retrieves the weather."), {"read"}),
        (Document("weather", "The weather, to read."), set[str]()),
        (Document("updateListEntry"), {"update"}),
        (Document("weather", "Weather.", "set_point"), set[str]()),
        (Document("sync_books", "Books.", served="delete old books"), set[str]()),
        (Document("set_books", "Books.", served="delete old books"), {"update", "delete"}),
    ],
)
def test_what_a_capability_does_is_said_by_its_name_or_by_how_its_description_begins(
    document: Document, kinds: set[str]
) -> None:
    assert does(document) == kinds


@pytest.mark.parametrize(
    ("need", "kinds"),
    [
        ("Stop the pump and tell me how warm it is", {"stop", "read"}),
        ("Removing one, sending another", {"delete", "send"}),
        ("the weather in Rome", set[str]()),
        ("", set[str]()),
    ],
)
def test_a_need_may_speak_of_several_kinds_of_things_or_none(need: str, kinds: set[str]) -> None:
    assert asked(need) == kinds


@pytest.mark.parametrize(
    ("need", "name"),
    [
        ("show me the snapshots of a volume", "snapshot_list"),
        ("remove the snapshot of a volume", "snapshot_delete"),
        ("a new snapshot of a volume, please", "snapshot_create"),
    ],
)
def test_of_those_about_the_same_thing_the_one_that_does_what_is_asked_comes_first(need: str, name: str) -> None:
    matcher = built()
    candidates = matcher.search(need).candidates
    assert candidates[0].name == name
    assert not any("otherwise" in reason for reason in candidates[0].reasons)
    assert [each.name for each in candidates if any("otherwise" in reason for reason in each.reasons)] == [
        each.name for each in candidates[1:]
    ]


def test_one_that_does_otherwise_keeps_a_part_of_its_score_and_no_need_that_says_nothing_costs_any() -> None:
    counting, not_counting = built(), built(capabilities=False)

    def scores(matcher: LexicalMatcher, need: str) -> dict[str, float]:
        return {each.name: each.score for each in matcher.search(need).candidates}

    need = "view a snapshot of a volume"
    assert scores(counting, need)["snapshot_delete"] < scores(not_counting, need)["snapshot_delete"]
    assert scores(counting, need)["snapshot_list"] == scores(not_counting, need)["snapshot_list"]
    assert scores(counting, "snapshot of a volume") == scores(not_counting, "snapshot of a volume")


def test_what_is_forgotten_is_as_if_it_had_never_been() -> None:
    followed = built()
    followed.remove("snapshot_delete")
    followed.add("snapshot_delete", Document("snapshot_delete", "List what can be deleted of a snapshot."))
    followed.add("snapshot_delete", Document("snapshot_delete", TOOLS["snapshot_delete"]))
    need = "show the snapshot of a volume"
    assert followed.search(need) == built().search(need)


def test_by_meaning_as_well_it_comes_after_one_that_means_as_much() -> None:
    pytest.importorskip("numpy")
    from registry.matching.hybrid import HybridMatcher

    def first(need: str, words: float) -> str:
        matcher = HybridMatcher(
            CallableEncoder(lambda texts: [[1.0, float(len(text) % 2)] for text in texts], "one:1"), words=words
        )
        for name in ("delete_archive", "list_archive"):
            matcher.add(name, Document(name))
        return matcher.search(need).candidates[0].name

    assert first("show me all of it", 25) == "list_archive"
    assert first("remove all of it, all", 25) == "delete_archive"
    assert first("show me all of it", 0) == "delete_archive", "meanings alone"


def test_a_text_on_the_board_does_nothing_that_could_be_asked_for() -> None:
    scores = [
        meaning().scores("disks", f"{begins} failed on the second disk.", ["show what failed on the second disk"])
        for begins in ("Delete", "Zorp")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=0.02)
