"""What lasts, and forgetting on demand: gone from the whole board, the log verifiable, finished after any crash (G2, G9)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from strict import Play, done, killed, spec, watched_play

from blackboard import _script, erasure
from blackboard.audit import Audit
from blackboard.blobs import Blob
from blackboard.entries import Entries, Written
from blackboard.erasure import Erased, erase
from blackboard.errors import BadInput, BlobMissing, Conflict, ScriptRefused, UnknownRecord
from blackboard.events import Author
from blackboard.promotion import promote
from blackboard.retention import retire
from blackboard.sealing import verify
from registry import schema
from registry.matching.passages import meaning

play = watched_play
ANN = Author(kind="person", name="ann")
SECRET = "the-number-is-4711"


@pytest.fixture
def notes(play: Play) -> Entries:
    return Entries(play.board, "tenant:acme", checker=schema, meaning=meaning())


async def everything(play: Play) -> str:
    """All that the server keeps of the board, as text."""
    client: Any = play.board.client
    found: list[Any] = []
    async for key in client.scan_iter(match=f"*{play.board.name}*", count=1000):
        kind = await client.type(key)
        read = {
            "stream": lambda k=key: client.xrange(k), "hash": lambda k=key: client.hgetall(k),
            "zset": lambda k=key: client.zrange(k, 0, -1), "set": lambda k=key: client.smembers(k),
            "string": lambda k=key: client.get(k), "list": lambda k=key: client.lrange(k, 0, -1),
        }[kind]  # fmt: skip
        found.append((key, await read()))
    return repr(found)


async def some(notes: Entries) -> tuple[Written, Written, Written]:
    """What ann wrote, what she wrote first and bob last, and what ben amended without saying anything new."""
    own = await notes.post("a", {"text": SECRET}, author=ANN, operation="own")
    older = await notes.post("b", {"text": SECRET}, author=ANN)
    await notes.amend(older.id, {"text": "bob's"}, author=Author(kind="person", name="bob"))
    same = await notes.post("c", {"text": SECRET}, author=ANN)
    await notes.amend(same.id, confidence=0.5, author=Author(kind="person", name="ben"))
    return own, older, same


async def test_what_an_author_wrote_is_gone_and_the_log_says_that_it_was(play: Play, notes: Entries) -> None:
    own, older, same = await some(notes)
    left = await notes.post("d", "somebody else's")
    gone = await notes.post("e", SECRET, author=ANN)
    await notes.retract(gone.id, f"because {SECRET}", author=ANN)
    before = await verify(notes)
    assert (before.faults, before.sealed, before.erased) == ((), 7, 0)

    told = await erase(play.board, author="ann", by="dan", reason="she asked")
    assert (told.facts, told.entries, told.scopes) == (6, 2, ["tenant:acme"])
    kept = await everything(play)
    assert SECRET not in kept
    assert "'ann'" not in kept
    assert '"ann"' not in kept
    for entry_id in (own.id, same.id):
        entry = await notes.read(entry_id)
        assert entry is not None
        assert (entry.state, entry.content, entry.author.name) == (
            "erased",
            None,
            "erased" if entry_id == own.id else "ben",
        )
        assert entry.erased is not None
        assert (entry.erased.by.name, entry.erased.reason) == ("dan", "she asked")
        with pytest.raises(ScriptRefused, match="erased"):
            await notes.amend(entry_id, 1)
    still = await notes.read(older.id)
    assert still is not None
    assert (still.state, still.content) == ("live", {"text": "bob's"})
    assert [one.content for one in await notes.history(older.id)] == [None, {"text": "bob's"}]
    assert [one.id for one in (await notes.query()).entries] == [older.id, left.id]
    then = await notes.read(own.id, at=own.position)
    assert then is not None
    assert (then.content, then.position) == (None, own.position)
    after = await verify(notes)
    assert (after.faults, after.erased, after.sealed) == ((), 6, 2)
    assert after.facts == before.facts + 2
    again = await erase(play.board, author="ann")
    assert (again.facts, again.entries) == (0, 0)


async def test_what_is_erased_is_found_no_more_by_what_it_meant(play: Play, notes: Entries) -> None:
    own, older, _ = await some(notes)
    assert own.id in [one.id for one in (await notes.query(about="number 4711")).ranks]
    await erase(play.board, author="ann")
    assert (await notes.query(about="number 4711")).ranks == ()
    assert [one.id for one in (await notes.query(about="bob's")).ranks] == [older.id]


async def test_an_operation_whose_content_was_erased_is_not_done_again(play: Play, notes: Entries) -> None:
    own, _, _ = await some(notes)
    await erase(play.board, author="ann")
    with pytest.raises(Conflict, match=own.id):
        await notes.post("a", {"text": SECRET}, author=ANN, operation="own")
    assert SECRET not in await everything(play)


async def test_a_watch_tells_that_something_was_erased(play: Play, notes: Entries) -> None:
    own, _, _ = await some(notes)
    position = await notes.position()
    await erase(play.board, author="ann")
    watched = notes.watch("a", after=position)
    event = await anext(watched)
    await watched.aclose()
    assert (event.kind, event.subject) == ("entry.erased", own.id)


async def test_large_contents_go_unless_somebody_else_refers_to_them(play: Play, notes: Entries) -> None:
    large, shared = "x" * 300_000, "y" * 300_000
    first = await notes.post("a", large, author=ANN)
    await notes.post("b", shared, author=ANN)
    other = await notes.post("c", shared)
    blob = (await notes.read(first.id, load=False)).content  # type: ignore[union-attr]
    told = await erase(play.board, author="ann")
    assert told.contents == 1
    with pytest.raises(BlobMissing):
        await play.board.blobs.load(notes.owner, blob)
    kept = await notes.read(other.id)
    assert kept is not None
    assert kept.content == shared


async def test_a_large_content_that_somebody_else_writes_while_it_is_erased_is_theirs(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notes.post("a", "x" * 300_000, author=ANN)
    delete, wrote = play.board.blobs.delete, list[str]()

    async def overtaken(owner: str, blob: Blob) -> None:
        wrote.append((await notes.post("c", "x" * 300_000)).id)
        await delete(owner, blob)

    monkeypatch.setattr(play.board.blobs, "delete", overtaken)
    told = await erase(play.board, author="ann")
    assert (told.facts, told.contents) == (1, 0)
    (other,) = (await notes.query()).entries
    assert ([other.id], other.content) == (wrote, "x" * 300_000)


async def test_a_damaged_content_is_erased_like_any_other(play: Play, notes: Entries) -> None:
    first = await notes.post("a", "x" * 300_000, author=ANN)
    blob = (await notes.read(first.id, load=False)).content  # type: ignore[union-attr]
    assert isinstance(blob, Blob)
    await play.board.blobs.store.put(notes.owner, blob.digest.removeprefix("sha256:"), b'"y"')
    assert (await erase(play.board, author="ann")).contents == 1
    with pytest.raises(BlobMissing):
        await play.board.blobs.text(notes.owner, blob)


async def test_a_run_is_erased_whole_and_what_was_made_of_it_elsewhere(play: Play, notes: Entries) -> None:
    run = await play.run(spec("a"))
    claim = await play.one()
    own = Entries(play.board, f"run:{run}")
    found = await own.post("found", SECRET, task=claim)
    kept = await notes.post("kept", SECRET, links=[("derived_from", found.id)])
    other = await notes.post("other", "no secret", links=[("supports", found.id)])
    with pytest.raises(BadInput, match="Cancel it"):
        await erase(play.board, run=run)
    await play.board.complete(claim, done(claim, 1))
    await play.plan(await play.step(run), answer="done")
    told = await erase(play.board, run=run)
    assert (told.runs, told.scopes, told.left) == ([run], ["tenant:acme"], [])
    assert SECRET not in await everything(play)
    assert (entry := await notes.read(kept.id)) is not None
    assert entry.state == "erased"
    assert [one.id for one in (await notes.query()).entries] == [other.id]
    again = await erase(play.board, run=run)
    assert (again.facts, again.entries) == (0, 0)


async def test_a_tenant_is_erased_with_its_runs_and_others_stay(play: Play, notes: Entries) -> None:
    run = await play.run(tenant="acme")
    await play.plan(await play.step(run), answer=SECRET)
    going = await play.run(tenant="acme")
    other = Entries(play.board, "tenant:other")
    await notes.post("a", SECRET)
    await other.post("a", "stays")
    told = await erase(play.board, tenant="acme")
    assert told.runs == [run]
    assert told.left == [f"run {going} is queued"]
    assert SECRET not in await everything(play)
    assert len((await other.query()).entries) == 1
    assert (await notes.query()).entries == ()
    assert (await verify(notes)).faults == ()


async def test_an_author_in_one_scope_only(play: Play, notes: Entries) -> None:
    other = Entries(play.board, "session:s")
    await notes.post("a", 1, author=ANN)
    await other.post("a", 1, author=ANN)
    told = await erase(play.board, author="ann", scope="session:s")
    assert told.scopes == ["session:s"]
    assert len((await notes.query()).entries) == 1


async def test_it_is_on_record_before_it_begins_and_without_the_name(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notes.post("a", 1, author=ANN)

    async def dies(*_: Any, **__: Any) -> Any:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(erasure._Scope, "erase", dies)  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(RuntimeError):
            await erase(play.board, author="ann", by="dan", reason="she asked")
    (record,) = (await Audit(play.board).list("kind=entries.erased")).entries
    assert (record.subject, record.by, record.reason) == ("author", "dan", "she asked")
    for bad in ({}, {"author": "a", "run": "r"}, {"run": "r", "scope": "public"}, {"author": "a", "scope": "what"}):
        with pytest.raises(BadInput):
            await erase(play.board, **bad)  # pyright: ignore[reportArgumentType]
    assert len((await Audit(play.board).list("kind=entries.erased")).entries) == 1


@pytest.mark.engines("redis")
@pytest.mark.parametrize("replied", [False, True])
@pytest.mark.parametrize("dies_at", range(5))
async def test_a_process_that_dies_anywhere_leaves_what_the_next_one_finishes(
    play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch, dies_at: int, replied: bool
) -> None:
    for number in range(210):  # more than one step copies
        await notes.post("x", number)
    own, _, _ = await some(notes)
    with killed(monkeypatch, ("entry_erase", "entry_rewrite", "entry_forget"), dies_at, replied):
        try:
            await erase(play.board, author="ann")
        except RuntimeError:
            await play.sound()
            entry = await notes.read(own.id)
            assert entry is not None
            assert entry.state == "live" or entry.content is None, "also while its fact still has it"
            await notes.post("later", "written between")
            assert (await verify(notes)).faults == ()
    await erase(play.board, author="ann")
    assert SECRET not in await everything(play)
    assert (await verify(notes)).faults == ()
    entry = await notes.read(own.id)
    assert entry is not None
    assert (entry.state, entry.content) == ("erased", None)
    assert len((await notes.query("x", limit=1000)).entries) == 210


@pytest.mark.engines("redis", "cluster")
async def test_two_that_erase_at_once_erase_both(play: Play, notes: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(250):
        await notes.post("x", number, author=ANN if number % 2 else Author(kind="person", name="bob"))
    run = _script.run
    other: list[Erased] = []

    async def overtaken(client: Any, script: Any, *args: Any, **more: Any) -> Any:
        reply = await run(client, script, *args, **more)
        if script.name == "entry_rewrite" and not other:
            other.append(Erased())
            other[0] = await erase(play.board, author="bob")
        return reply

    monkeypatch.setattr(_script, "run", overtaken)
    first = await erase(play.board, author="ann")
    assert (first.entries, other[0].entries) == (125, 125)
    found = await verify(notes)
    assert (found.faults, found.erased, found.facts) == ((), 250, 500)


async def test_a_fact_that_is_missing_is_noticed(play: Play, notes: Entries) -> None:
    first = await notes.post("a", 1)
    await notes.amend(first.id, 2)
    await notes.amend(first.id, 3)
    client, key = play.board.client, play.board.shard_of(notes.owner).log(notes.owner)
    log: Any = await client.xrange(key)
    await client.xdel(key, log[1][0])
    assert len((await verify(notes)).faults) == 3, "of the entry, of the topic, and of what is superseded"
    await client.delete(key)
    for at, fields in log:
        await client.xadd(key, fields, id=at)


async def test_a_changed_fact_is_noticed(play: Play, notes: Entries) -> None:
    written = await notes.post("a", {"amount": 1.5, "ü": [None, True, "ü"]})
    await notes.post("big", "x" * 300_000)
    client, key = play.board.client, play.board.shard_of(notes.owner).log(notes.owner)
    assert (await verify(notes)).faults == ()
    log: Any = await client.xrange(key)
    changed = {**log[0][1], "data": json.dumps({**json.loads(log[0][1]["data"]), "content": {"amount": 2}})}
    await client.delete(key)
    for at, fields in ((log[0][0], changed), log[1]):
        await client.xadd(key, fields, id=at)
    (fault,) = (await verify(notes)).faults
    assert written.position in fault
    await client.delete(key)
    for at, fields in log:
        await client.xadd(key, fields, id=at)


# ---- what lasts --------------------------------------------------------------------------------------------------------


async def test_what_a_run_found_lasts_with_its_author_and_sources_and_is_found_by_meaning(
    play: Play, notes: Entries
) -> None:
    run = await play.run(spec("a", taint=("http:example.com",)))
    claim = await play.one()
    own = Entries(play.board, f"run:{run}", checker=schema)
    found = await own.post("found.supplier", {"bank": "x" * 300_000, "name": "Acme"}, confidence=0.7, task=claim)
    kept = await promote(own, found.id, "tenant:acme")
    assert await promote(own, found.id, "tenant:acme") == replace(kept, new=False)
    await play.board.complete(claim, done(claim, 1))
    await play.plan(await play.step(run), answer="done")
    await retire(play.board, run)
    entry = await notes.read(kept.id)
    assert entry is not None
    assert (entry.topic, entry.confidence, entry.author.run) == ("found.supplier", 0.7, run)
    assert (entry.author.kind, entry.author.name) == ("task", claim.capability)
    assert [(link.rel, link.to) for link in entry.links] == [("derived_from", found.id)]
    assert set(entry.taint) == set(claim.taint)
    assert entry.content == {"bank": "x" * 300_000, "name": "Acme"}
    assert [one.id for one in (await notes.query(about="found supplier")).ranks] == [kept.id]
    assert (await erase(play.board, run=run)).facts == 1, "also when the run itself is gone"


async def test_what_does_not_last_or_does_not_count_is_not_promoted(play: Play, notes: Entries) -> None:
    run = await play.run()
    own = Entries(play.board, f"run:{run}")
    found = await own.post("a", 1)
    for to in ("tenant:what ever", f"run:{run}", "nothing"):
        with pytest.raises(BadInput):
            await promote(own, found.id, to)
    kept = await promote(own, found.id, "tenant:acme", topic="b")
    with pytest.raises(BadInput):
        await promote(notes, kept.id, "tenant:acme")
    assert (await promote(notes, kept.id, "public")).new
    await own.amend(found.id, 2)
    assert (await promote(own, found.id, "tenant:acme", topic="b")).new, "it says something else"
    await own.retract(found.id)
    with pytest.raises(ScriptRefused, match="retracted"):
        await promote(own, found.id, "session:s")
    with pytest.raises(UnknownRecord):
        await promote(own, f"{own.owner}/e/{'0' * 24}", "session:s")
    await notes.set_schema("c", {"type": "string"})
    with pytest.raises(BadInput, match="schema"):
        await promote(notes, kept.id, "session:s", topic="c")
