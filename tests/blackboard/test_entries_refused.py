"""What entries refuse, where they come from, and what becomes of them with their run; on every engine (G2)."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from entries_support import NOBODY, acme_notes, ids, told
from strict import Play, spec, watched_play

from blackboard import _script
from blackboard.board import Board
from blackboard.entries import ENTRY_BYTES, Entries
from blackboard.entry import owner_of
from blackboard.entry_checks import LABELS, LINKS
from blackboard.errors import BadInput, Oversized, ScriptRefused, Stale, UnknownRecord
from blackboard.events import Author
from blackboard.retention import retire
from blackboard.types import Status
from registry import schema

play = watched_play
notes = acme_notes


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic",
    ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "ä", "a/b", "a\n", "x" * 65, ".".join("a" * 17), 7, None],
)
@pytest.mark.engines("redis")
async def test_a_malformed_topic_is_refused(notes: Entries, topic: Any) -> None:
    with pytest.raises(BadInput, match="topic"):
        await notes.post(topic, 1)


@pytest.mark.parametrize("pattern", ["", "a.>.b", "a*", "**", ">a", "a.>>", "a b", 7])
@pytest.mark.engines("redis")
async def test_a_malformed_pattern_is_refused(notes: Entries, pattern: Any) -> None:
    for call in (notes.query(pattern), notes.take(pattern), told(notes, 1, pattern=pattern)):
        with pytest.raises(BadInput, match="pattern"):
            await call


@pytest.mark.parametrize(
    "where",
    [
        "amount",
        "=3",
        "a=",
        "a<null",
        "a<true",
        "@nothing=1",
        "a=1 2",
        "a==1",
        "a>>1",
        "a=>1",
        "a~=x",
        "a??",
        "a=[1]",
        'a="x',
        "a=1 " * 21,
    ],
)
@pytest.mark.engines("redis")
async def test_a_bad_condition_is_refused(notes: Entries, where: str) -> None:
    for call in (notes.query("a", where), notes.take("a", where), told(notes, 1, where=where)):
        with pytest.raises(BadInput, match="where"):
            await call


async def test_what_does_not_fit_is_refused_and_nothing_is_written(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    before = await play.snapshot()
    for field, bad in (
        ("confidence", notes.post("a", 1, confidence=1.1)),
        ("confidence", notes.post("a", 1, confidence=float("nan"))),
        ("confidence", notes.post("a", 1, confidence="high")),  # type: ignore[arg-type]
        ("seconds", notes.take("a", seconds=float("nan"))),
        ("confidence", notes.amend(first.id, confidence=-0.1)),
        ("content", notes.post("a", float("nan"))),
        ("seconds", notes.post("a", 1, seconds=0)),
        ("seconds", notes.post("a", 1, seconds=float("inf"))),
        ("links", notes.post("a", 1, links=[("likes", first.id)])),  # type: ignore[list-item]
        ("links", notes.post("a", 1, links=[("supports", notes.owner + NOBODY[7:])])),
        ("links", notes.post("a", 1, links=[("supports", NOBODY)])),
        ("entry", notes.post("a", 1, links=[("supports", "nonsense")])),
        ("links", notes.post("a", 1, links=[("supports", f"{notes.owner}/e/{n:024x}") for n in range(LINKS + 1)])),
        ("taint", notes.post("a", 1, taint=[str(n) for n in range(LABELS + 1)])),
        ("taint", notes.post("a", 1, taint=["a\nb"])),
        ("operation", notes.post("a", 1, operation="")),
        ("entry", notes.read("nonsense")),
        ("limit", notes.query(limit=0)),
        ("rel", notes.query(rel="supports")),
        ("position", notes.query(at="yesterday")),
        ("reason", notes.retract(first.id, "x" * 2001)),
    ):
        with pytest.raises(BadInput, match=field):
            await bad
    with pytest.raises(Oversized):
        await notes.post("a", "x" * ENTRY_BYTES)
    with pytest.raises(UnknownRecord):
        await Entries(play.board, "run:r0123").post("a", 1)
    assert await play.snapshot() == before
    for scope in ("", "run:", "public:x", "tenant:A", "nobody", "run:a b", "group:../x"):
        with pytest.raises(BadInput, match="scope"):
            Entries(play.board, scope)


async def test_links_lead_to_older_entries_so_no_chain_comes_back(notes: Entries) -> None:
    first = await notes.post("a", 1)
    second = await notes.post("a", 2, links=[("derived_from", first.id)])
    for target in (first.id, second.id):
        with pytest.raises(BadInput, match=f"links: '{target}' was refused. It is not older"):
            await notes.amend(first.id, links=[("supports", target)])
    third = await notes.post("a", 3, links=[("derived_from", second.id)])
    await notes.amend(third.id, links=[("supports", first.id)])
    assert ids(await notes.query(links_to=second.id)) == []
    assert ids(await notes.query(links_to=first.id)) == [second.id, third.id]


async def test_the_taint_of_what_an_entry_was_derived_from_is_its_own(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1, taint=["web:x"])
    second = await notes.post("a", 2, taint=["mail"], links=[("derived_from", first.id)])
    unrelated = await notes.post("a", 2, links=[("contradicts", first.id)])
    far = await Entries(play.board, "public").post("a", 3, links=[("derived_from", second.id)])
    for written, expected in ((second, {"web:x", "mail"}), (unrelated, {"program:program"})):
        entry = await notes.read(written.id)
        assert entry is not None
        assert set(entry.taint) == expected
    entry = await Entries(play.board, "public").read(far.id)
    assert entry is not None
    assert set(entry.taint) == {"web:x", "mail", "program:program"}


async def test_what_is_written_comes_from_the_writer_unless_the_writer_says_otherwise(
    play: Play, notes: Entries
) -> None:
    run = await play.run(spec("a", taint=("http:example.com",)))
    claim = await play.one()
    own = Entries(play.board, f"run:{run}")
    expected = [
        (notes, await notes.post("a", 1), ("program:program",)),
        (notes, await notes.post("a", 1, author=Author(kind="person", name="ann")), ("person",)),
        (notes, await notes.post("a", 1, author=Author(kind="event", name="/shop 1")), ("event:/shop%201",)),
        (notes, await notes.post("a", 1, taint=["person"]), ("person",)),
        (own, await own.post("a", 1, task=claim), claim.taint),
        (own, await own.post("a", 1, task=claim, taint=["web:x"]), ("web:x", *claim.taint)),
    ]
    for entries, written, labels in expected:
        entry = await entries.read(written.id)
        assert entry is not None
        assert entry.taint == labels
    first = expected[3][1].id
    await notes.amend(first, confidence=0.5)
    assert (entry := await notes.read(first)) is not None
    assert entry.taint == ("person",), "nothing new was said"
    await notes.amend(first, 2)
    assert (entry := await notes.read(first)) is not None
    assert set(entry.taint) == {"person", "program:program"}


async def test_a_late_copy_of_a_schema_that_was_replaced_changes_nothing(
    notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, ...]] = []
    real = _script.run

    async def run(*args: Any, **more: Any) -> Any:
        if args[1].name == "topic_schema":
            sent.append(args)
        return await real(*args, **more)

    monkeypatch.setattr(_script, "run", run)
    await notes.set_schema("a", {"type": "string"})
    await notes.set_schema("a", {"type": "number"})
    await notes.set_schema("b", {})
    await notes.set_schema("b", None)
    for late in (*sent, *reversed(sent)):
        with contextlib.suppress(Stale):
            await real(*late)
    assert await notes.schemas() == {"a": {"type": "number"}}
    await asyncio.gather(*(notes.set_schema(f"c{number}", {}) for number in range(5)))
    assert len(await notes.schemas()) == 6


async def test_a_schema_of_a_topic_is_kept_by_whoever_writes_there(play: Play, notes: Entries) -> None:
    old = await notes.post("claims.1", "before there was a schema")
    stale = Entries(play.board, "tenant:acme", checker=schema)
    await stale.post("other", 1)
    await notes.set_schema("claims.*", {"type": "object", "required": ["amount"]})
    await notes.set_schema("claims.>", {"properties": {"amount": {"type": "number"}}})
    assert set(await notes.schemas()) == {"claims.*", "claims.>"}
    before = await play.snapshot()
    for entries in (notes, stale, Entries(play.board, "tenant:acme", checker=schema)):
        for bad in ("text", {}, {"amount": "1"}):
            with pytest.raises(BadInput, match="content"):
                await entries.post("claims.1", bad)
        with pytest.raises(BadInput, match="content"):
            await entries.amend(old.id, {"amount": []})
    with pytest.raises(BadInput, match="schema"):
        await notes.set_schema("claims.*", {"type": "nonsense"})
    with pytest.raises(BadInput, match="schema"):
        await Entries(play.board).set_schema("claims.*", {})
    with pytest.raises(BadInput, match="have a schema"):
        await Entries(play.board, "tenant:acme").post("claims.1", {"amount": 1})
    assert await play.snapshot() == before
    await notes.amend(old.id, {"amount": 1})
    await stale.post("claims.1", {"amount": 2})
    await stale.post("elsewhere", "anything")
    await notes.set_schema("claims.*", None)
    await notes.set_schema("claims.>", None)
    await stale.post("claims.1", "anything again")
    assert await notes.schemas() == {}


# ---- with the run ----------------------------------------------------------------------------------------------------


async def test_retention_takes_the_entries_of_a_run_with_it_and_no_others(play: Play, notes: Entries) -> None:
    kept = await notes.post("a", 1)
    before = {key for key in await play.snapshot() if not key.startswith(("run:r", "ev", "vt", "use"))}
    run = await play.run()
    mine = Entries(play.board, f"run:{run}")
    first = await mine.post("a", "x" * 400_000, seconds=60)
    await mine.post("b", 1, links=[("supports", first.id)])
    await play.plan(await play.step(run), answer="done")
    await retire(play.board, run)
    after = set(await play.snapshot())
    assert {key for key in after if run in key} == set()
    assert before <= after
    assert ids(await notes.query()) == [kept.id]
    again = await play.run(idempotency_key=None)
    assert (await Entries(play.board, f"run:{again}").query()).entries == ()


async def test_what_a_run_wrote_is_carried_by_its_file(board: Board, tmp_path: Path) -> None:
    from arbiter.run_files import export_run, import_run

    run = await board.submit_call("x", 1, lane="work")
    notes = Entries(board, f"run:{run}")
    first = await notes.post("a.b", "x" * 400_000, confidence=0.5, taint=["t"])
    second = await notes.post("a.c", [], links=[("contradicts", first.id)])
    await notes.amend(second.id, {})
    gone = await notes.post("a.d", 1, links=[("supports", first.id)])
    await notes.retract(gone.id, "no")
    claims = [await board.claim("w", ["work"], shard=shard) for shard in range(len(board.shards))]
    (claim,) = (claim for found in claims for claim in found)
    await board.complete(claim, claim.completion(Status.SUCCEEDED, 1))
    file = tmp_path / "run.jsonl"
    file.write_text("".join([line async for line in export_run(board, run)]))
    async with await Board.open(f"memory://{board.name}-copy", board="copy") as copy:
        await import_run(copy, file)
        copied = Entries(copy, f"run:{run}")
        assert await copied.query() == await notes.query()
        assert await copied.query(links_to=first.id) == await notes.query(links_to=first.id)
        assert await copied.read(gone.id) == await notes.read(gone.id)
        assert await copied.history(second.id) == await notes.history(second.id)
        assert await copied.topic_version("a.c") == 2
        with pytest.raises(ScriptRefused, match="CLOSED"):
            await copied.post("a", 1)


def test_owners_of_scopes_and_runs_are_never_the_same() -> None:
    owners = [owner_of(scope) for scope in ("public", "run:public", "run:tenant", "tenant:public", "group:public")]
    assert len(set(owners)) == len(owners)
