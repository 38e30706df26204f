"""Example needs on a board: written by one process at a time, followed by all, and a late call changes nothing."""

from __future__ import annotations

import pytest
import redis.asyncio
import watched_catalogs

from blackboard import example_needs
from blackboard.catalog import Catalog
from blackboard.example_needs import ExampleNeeds, Illustrations
from blackboard.lessons import Lessons

client = watched_catalogs.client
watched = watched_catalogs.watched

WRITTEN = ExampleNeeds(("what is it in euros", "8 quid in greenbacks"), "a" * 64, "scripted: one")


@pytest.fixture
async def catalog(client: redis.asyncio.Redis, board_name: str) -> Catalog:
    made = Catalog(client, "test", board_name)
    for name in ("convert", "weather"):
        await made.register(name=name, sha="a" * 64, tenant="*", manifest="{}")
    return made


async def kept(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """What a reader sees that starts from nothing."""
    told = await Lessons(catalog).follow()
    return {name: each.needs for name, each in told.illustrated.items() if each is not None}


async def test_what_was_written_is_followed_beside_what_was_served_and_can_be_forgotten(catalog: Catalog) -> None:
    follower, writer = Lessons(catalog), Illustrations(catalog)
    await Lessons(catalog).learn("r1", "acme", 1.0, [("convert", "dollars for the trip")])
    await follower.follow()
    assert await writer.begin("convert", WRITTEN.contract, "ann")
    assert await writer.keep("convert", "ann", WRITTEN)
    told = await follower.follow()
    (name,) = told.illustrated
    found = told.illustrated[name]
    assert found is not None
    assert (name, found._replace(at=0.0), told.changed) == ("convert", WRITTEN, {})
    assert found.at > 1_700_000_000
    assert await writer.forget(["convert", "weather"]) == 1
    assert (await follower.follow()).illustrated == {"convert": None}
    assert await Lessons(catalog).forget("convert") == 1, "what was served is another matter"
    assert await kept(catalog) == {}


async def test_one_writes_at_a_time_and_the_same_once_more_changes_nothing(catalog: Catalog) -> None:
    writer = Illustrations(catalog)
    assert await writer.begin("convert", WRITTEN.contract, "ann")
    assert await writer.begin("convert", WRITTEN.contract, "ann"), "the call came once more"
    assert not await writer.begin("convert", WRITTEN.contract, "bob")
    assert not await writer.keep("convert", "bob", WRITTEN)
    assert await kept(catalog) == {}
    await writer.give_up("convert", "bob")
    assert not await writer.begin("convert", WRITTEN.contract, "bob"), "nobody gives up for another"
    await writer.give_up("convert", "ann")
    assert await writer.begin("convert", WRITTEN.contract, "bob")
    follower = Lessons(catalog)
    assert await writer.keep("convert", "bob", WRITTEN)
    await follower.follow()
    assert await writer.keep("convert", "bob", WRITTEN), "as it is"
    assert not await writer.keep("convert", "ann", WRITTEN._replace(model="late")), "nobody let it"
    assert (await follower.follow()).illustrated == {}
    assert not await writer.begin("unknown", WRITTEN.contract, "ann")


async def test_a_call_that_comes_after_they_were_forgotten_does_not_bring_them_back(catalog: Catalog) -> None:
    writer = Illustrations(catalog)
    await writer.begin("convert", WRITTEN.contract, "ann")
    await writer.keep("convert", "ann", WRITTEN)
    await writer.forget(["convert"])
    assert not await writer.keep("convert", "ann", WRITTEN)
    assert not await writer.begin("convert", WRITTEN.contract, "ann"), "late: it would hold others up"
    assert await writer.begin("convert", WRITTEN.contract, "bob")
    await writer.forget(["convert"])
    assert not await writer.keep("convert", "bob", WRITTEN), "it was being written while somebody forgot it"
    assert await kept(catalog) == {}


async def test_who_writes_from_other_words_takes_the_place_and_a_dead_writer_loses_it(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Illustrations(catalog)
    await writer.begin("convert", WRITTEN.contract, "ann")
    assert await writer.begin("convert", "b" * 64, "bob")
    assert not await writer.keep("convert", "ann", WRITTEN)
    monkeypatch.setattr(example_needs, "HELD_SECONDS", 0.001)
    await writer.begin("weather", WRITTEN.contract, "ann")
    while not await writer.begin("weather", WRITTEN.contract, "bob"):
        pass  # until the server's clock has moved on by a millisecond


@pytest.mark.parametrize("text", ["", "1", "1\x1f{}", "x\x1f[]", '1\x1f{"needs": 5, "contract": "", "model": ""}'])
def test_what_no_program_of_this_kind_kept_is_none(text: str) -> None:
    assert example_needs.read(text) is None
