"""The audit: every decision leaves one record, in the script that makes it; the records are read as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from blackboard import _script
from blackboard import audit as audit_module
from blackboard.audit import KINDS, Audit, Entry, somebody
from blackboard.board import Board
from blackboard.catalog import Catalog
from blackboard.dead_letters import DeadLetters
from blackboard.entries import Entries
from blackboard.errors import BadInput, UnknownRecord
from blackboard.tokens import SCOPES, TokenRefused, Tokens
from blackboard.trust import Trust
from blackboard.types import Limits
from registry import schema

KEY, PUBLIC = "0" * 32, "ab" * 32


async def version(catalog: Catalog, name: str, sha: str) -> None:
    """A version that passed its exam and waits, unsigned."""
    await catalog.register(
        name=name, sha=sha, tenant="default", manifest="{}", source="x", artifact_sha=sha, exam='{"passed":true}',
        verdict="passed", activate=False,
    )  # fmt: skip


async def entries(board: Board, where: str = "") -> list[Entry]:
    """Oldest first."""
    return list(reversed((await Audit(board).list(where, limit=1000)).entries))


async def told(board: Board) -> list[str]:
    return [f"{each.kind} {each.subject} by {each.by}" for each in await entries(board)]


async def test_what_people_do_to_runs_is_on_record_with_who_did_it(board: Board) -> None:
    run = await board.submit("go")
    await board.pause_run(run, "lunch", by="ann")
    await board.resume_run(run, by="ben")
    await board.cancel_run(run, "enough", by="ann")
    found = await entries(board)
    assert [(each.kind, each.subject, each.by, each.reason) for each in found] == [
        ("run.paused", run, "ann", "lunch"),
        ("run.resumed", run, "ben", ""),
        ("run.cancelled", run, "ann", "enough"),
    ]
    assert {each.detail["tenant"] for each in found} == {"default"}


async def test_without_a_name_it_is_the_user_of_this_process(board: Board) -> None:
    run = await board.submit("go")
    await board.cancel_run(run)
    assert await told(board) == [f"run.cancelled {run} by {somebody()}"]


async def test_a_version_that_is_made_the_active_one_is_on_record(board: Board) -> None:
    await version(board.catalog, "one", "a" * 64)
    for _ in range(2):
        await board.catalog.set_state("one", "a" * 64, "active", decided=("activated", "ann"))
    assert await told(board) == [f"version.activated one|{'a' * 64} by ann"]


async def test_a_version_that_is_retired_by_a_decision_is_on_record_with_what_it_was_taken_from(board: Board) -> None:
    await version(board.catalog, "one", "a" * 64)
    for _ in range(2):
        await board.catalog.set_state(
            "one", "a" * 64, "retired", reason="it fails", decided=("retired", "ann"), detail='{"failed": 10}'
        )
    (record,) = await entries(board)
    assert (record.kind, record.subject, record.by) == ("version.retired", f"one|{'a' * 64}", "ann")
    assert (record.reason, record.detail) == ("it fails", {"failed": 10})


async def test_what_changes_nothing_leaves_no_record(board: Board) -> None:
    run = await board.submit("go")
    await board.cancel_run(run, by="ann")
    await board.cancel_run(run, by="ben")
    await board.pause_run(run, by="ben")
    await board.resume_run(run, by="ben")
    with pytest.raises(UnknownRecord):
        await board.cancel_run("nothing", by="ben")
    assert await told(board) == [f"run.cancelled {run} by ann"]


async def test_a_pause_that_ends_by_itself_is_nobodys_doing(board: Board) -> None:
    run = await board.submit("go")
    await board.pause_run(run, seconds=0.001, by="ann")
    async with asyncio.timeout(30):
        while (await board.summary(run)).status == "paused":
            await board.sweep()
    assert await told(board) == [f"run.paused {run} by ann"]


async def test_schemas_of_topics_are_on_record_once_on_however_many_shards(board: Board) -> None:
    notes = Entries(board, "tenant:acme", checker=schema)
    await notes.set_schema("claims.*", {"type": "object"}, by="ann")
    await notes.set_schema("claims.*", {"type": "object"}, by="ben")
    await notes.set_schema("claims.*", {"type": "string"}, by="ben")
    await notes.set_schema("claims.*", None)
    await notes.set_schema("claims.*", None, by="ann")
    assert await told(board) == [
        "schema.set claims.* by ann", "schema.set claims.* by ben", f"schema.removed claims.* by {somebody()}",
    ]  # fmt: skip


async def test_a_cancelled_task_and_discarded_letters_are_on_record(board: Board) -> None:
    run = await board.submit_call("count", {}, lane="work", limits=Limits())
    task = f"{run}/0.call"
    await board.cancel_task(task, "not this one", by="ann")
    gone = await board.submit_call("count", {}, lane="work", limits=Limits(seconds=0.001, task_seconds=0.001))
    async with asyncio.timeout(30):
        while (await board.summary(gone)).status != "timed_out":
            await board.sweep()
    assert await DeadLetters(board).discard(gone, "nothing", by="ben") == 1
    assert await DeadLetters(board).discard(gone, by="ben") == 0
    assert await told(board) == [f"task.cancelled {task} by ann", f"letters.discarded {gone} by ben"]


async def test_keys_versions_grants_and_tokens_are_on_record(board: Board) -> None:
    catalog, trust, tokens = board.catalog, Trust(board.catalog), Tokens(board.catalog)
    await trust.add(KEY, PUBLIC, by="ann")
    await version(catalog, "one", "a" * 64)
    await version(catalog, "two", "b" * 64)
    await catalog.set_state("one", "a" * 64, "active", decided=("approved", "ann"), reason="looked at it")
    await catalog.set_state("one", "a" * 64, "active", decided=("approved", "ben"))
    await trust.revoke_version("two", "b" * 64, by="ben", reason="too much", verb="refused")
    await trust.revoke_version("one", "a" * 64, by="ben", reason="broken")
    await trust.revoke(KEY, by="ann", reason="lost")
    _, token = await tokens.create("ci", ["runs:read"], by="ann")
    await tokens.revoke("ci", by="ben", reason="leaked")
    await tokens.revoke(token.id, by="cid")
    found = await entries(board)
    assert [(each.kind, each.subject, each.by, each.reason) for each in found] == [
        ("key.trusted", KEY, "ann", ""),
        ("grants.approved", f"one|{'a' * 64}", "ann", "looked at it"),
        ("grants.refused", f"two|{'b' * 64}", "ben", "too much"),
        ("version.revoked", f"one|{'a' * 64}", "ben", "broken"),
        ("key.revoked", KEY, "ann", "lost"),
        ("token.made", token.id, "ann", ""),
        ("token.revoked", token.id, "ben", "leaked"),
    ]
    assert found[5].detail["scopes"] == "runs:read"


Do = Callable[[Board, str], Awaitable[Any]]


EFFECTS: dict[str, Do] = {
    "cancel": lambda board, run: board.cancel_run(run, by="ann"),
    "pause": lambda board, run: board.pause_run(run, by="ann"),
    "resume": lambda board, run: board.resume_run(run, by="ann"),
    "trust": lambda board, run: Trust(board.catalog).add(KEY, PUBLIC, by="ann"),
    "token": lambda board, run: Tokens(board.catalog).create("ci", ["runs:read"], by="ann"),
    "schema": lambda board, run: Entries(board, checker=schema).set_schema("claims.*", {}, by="ann"),
    "note": lambda board, run: Audit(board).note("secret.used", run, by="ann"),
}


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_call_that_arrives_twice_leaves_one_record(
    board: Board, effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await board.submit("go")
    if effect == "resume":
        await board.pause_run(run, by="")
    whole = _script.run

    async def twice(*args: Any, **more: Any) -> Any:
        first = await whole(*args, **more)
        await whole(*args, **more)
        return first

    with monkeypatch.context() as patched:
        patched.setattr(_script, "run", twice)
        await EFFECTS[effect](board, run)
    assert len(await told(board)) == 1


async def test_pages_hold_every_record_once_and_newest_first(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "_PAGE", 3)
    runs = [await board.submit(f"go {number}") for number in range(10)]
    for run in runs:
        await board.cancel_run(run, by="ann")
        await Audit(board).note("secret.used", run, by="worker")
    whole = (await Audit(board).list(limit=100)).entries
    assert len(whole) == 20
    assert len({each.cursor for each in whole}) == 20
    for size in (1, 2, 3, 7, 19, 20):
        found: list[Entry] = []
        after: str | None = None
        while True:
            page = await Audit(board).list(limit=size, after=after)
            assert len(page.entries) <= size
            found += page.entries
            after = page.after
            if after is None:
                break
        assert found == list(whole)


async def test_terms_choose_records(board: Board) -> None:
    first, second = await board.submit("one"), await board.submit("two")
    await board.cancel_run(first, by="Ann")
    await board.cancel_run(second, by="ben")
    await Audit(board).note("secret.used", f"{first}/1.price", by="worker")

    async def subjects(where: str) -> list[str]:
        return [each.subject for each in await entries(board, where)]

    assert set(await subjects("kind=run.*")) == {first, second}
    assert await subjects("by~ann") == [first]
    assert set(await subjects(f"subject~{first}")) == {first, f"{first}/1.price"}
    assert await subjects("kind=secret.used,run.cancelled by~worker since=1h") == [f"{first}/1.price"]
    assert await subjects("until=2020-01-01") == []


@pytest.mark.parametrize(
    "where", ["kind=nothing", f"kind={'*' * 65}", "kind=", "by>ann", "by=ann", "what=ever", "since=soon", "text"]
)
@pytest.mark.engines("redis")
async def test_terms_that_make_no_sense_are_refused(board: Board, where: str) -> None:
    with pytest.raises(BadInput, match="was refused"):
        await Audit(board).list(where)


async def test_a_position_that_is_none_is_refused(board: Board) -> None:
    with pytest.raises(BadInput, match="after"):
        await Audit(board).list(after="1-x")


async def test_following_tells_what_comes_after_a_position_and_misses_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "FOLLOW_SECONDS", 0.001)
    audit = Audit(board)
    runs = [await board.submit(f"go {number}") for number in range(4)]
    await board.cancel_run(runs[0], by="before")
    end = await audit.end()
    await board.cancel_run(runs[1], by="between")
    coming = audit.follow("kind=run.cancelled", end)
    async with asyncio.timeout(30):
        assert (await anext(coming)).subject == runs[1]
        await audit.note("secret.used", runs[2])
        await board.cancel_run(runs[2], by="then")
        await board.cancel_run(runs[3], by="then")
        assert {(await anext(coming)).subject for _ in range(2)} == {*runs[2:]}  # those of two shards in any order
    await coming.aclose()


async def test_each_stream_keeps_only_its_latest_records(redis_board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board, whole = redis_board, _script.load

    def short(name: str, prelude: str = "_board") -> _script.Script:
        text = whole(name, prelude).text
        assert "TRAIL = 100000" in text
        return _script.Script(name, text.replace("TRAIL = 100000", "TRAIL = 100"))

    runs = [await board.submit("go") for _ in range(400)]
    monkeypatch.setattr(_script, "load", short)
    for number, run in enumerate(runs):
        await board.cancel_run(run, by="ann")
        await Audit(board).note("secret.used", run)
        await Trust(board.catalog).add(f"{number:032x}", PUBLIC, by="ann")
    client: Any = board.client
    for key in (board.shards[0].audit, board.catalog.trail("uses"), board.catalog.trail("audit")):
        assert 100 <= await client.xlen(key) < 300  # a server trims whole nodes of its stream
    assert (await Audit(board).list("kind=run.cancelled", limit=1)).entries[0].subject == runs[-1]


def test_the_page_of_kinds_is_what_there_is() -> None:
    assert audit_module.__doc__ is not None
    for kind in KINDS:
        assert f"``{kind}``" in audit_module.__doc__


# ---- tokens ------------------------------------------------------------------------------------------------------------


async def why(tokens: Tokens, shown: str) -> str:
    with pytest.raises(TokenRefused) as caught:
        await tokens.check(shown)
    return caught.value.why


async def test_a_token_opens_until_it_is_revoked_and_its_secret_is_nowhere_on_the_board(board: Board) -> None:
    tokens = Tokens(board.catalog)
    shown, made = await tokens.create("ci", ["runs:read", "runs:write", "runs:read"], tenant="acme", seconds=3600)
    assert (made.scopes, made.tenant) == (("runs:read", "runs:write"), "acme")
    assert await tokens.check(shown) == made
    everything = str([await board.catalog.call("catalog_tokens", [""]), await entries(board)])
    assert shown.removeprefix(f"arb_{made.id}_") not in everything
    await tokens.revoke(made.id[:6])
    assert await why(tokens, shown) == "revoked"


async def test_what_is_no_token_of_the_board_opens_nothing(board: Board) -> None:
    tokens = Tokens(board.catalog)
    shown, made = await tokens.create("ci", ["runs:read"])
    secret = shown.removeprefix(f"arb_{made.id}_")
    other = ("A" if secret[0] != "A" else "B") + secret[1:]
    assert await why(tokens, f"arb_{made.id}_{other}") == "unknown"
    assert await why(tokens, f"arb_{'0' * 12}_{secret}") == "unknown"
    for text in (
        "",
        "x",
        shown + "x",
        shown[:-1],
        shown.upper(),
        f" {shown}",
        f"arb_local_{secret}",
        "arb_é_" + secret,
    ):
        assert await why(tokens, text) == "malformed"
    assert await tokens.check(shown) == made


async def test_a_token_is_over_by_the_servers_clock(board: Board) -> None:
    tokens = Tokens(board.catalog)
    shown, made = await tokens.create("ci", ["runs:read"], seconds=0.001)
    async with asyncio.timeout(30):
        while (await tokens.list()).now < (made.expires_at or 0.0):
            pass
    assert await why(tokens, shown) == "expired"
    now, _ = await tokens.list()
    assert made.expires_at is not None
    assert made.state(now) == "expired"


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("name", {"name": ""}),
        ("name", {"name": "a b"}),
        ("scope", {"scopes": []}),
        ("scope", {"scopes": ["runs:all"]}),
        ("scope", {"scopes": ["audit:read"], "tenant": "acme"}),
        ("scope", {"scopes": ["metrics:read"], "tenant": "acme"}),
        ("tenant", {"tenant": "A C"}),
        ("expires", {"seconds": 0}),
        ("expires", {"seconds": 1e12}),
    ],
)
@pytest.mark.engines("redis")
async def test_a_token_that_makes_no_sense_is_refused_with_the_field(
    board: Board, field: str, given: dict[str, Any]
) -> None:
    options = {"name": "ci", "scopes": ["runs:read"], **given}
    with pytest.raises(BadInput) as caught:
        await Tokens(board.catalog).create(options.pop("name"), options.pop("scopes"), **options)
    assert caught.value.field == field
    assert (await Tokens(board.catalog).list()).tokens == ()


async def test_a_token_is_revoked_by_name_id_or_beginning_and_only_one(board: Board) -> None:
    tokens = Tokens(board.catalog)
    made = [(await tokens.create("ci", list(SCOPES)))[1] for _ in range(2)]
    with pytest.raises(BadInput, match=made[0].id):
        await tokens.revoke("ci")
    assert (await tokens.revoke(made[0].id)).revoked_at is not None
    assert (await tokens.revoke("ci")).id == made[1].id
    for nothing in ("", "zz"):
        with pytest.raises(UnknownRecord):
            await tokens.revoke(nothing)
