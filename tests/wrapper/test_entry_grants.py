"""G10: generated code reads and writes the board on granted topics of its own run, and is ended when it asks for more."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from arbiter_support import arbiter
from pydantic import JsonValue

from arbiter import Arbiter, BadInput, Call, Grants, Manifest, Status, TopicGrants
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.testing import RedisServer
from blackboard.types import Completion
from wrapper import entry_broker
from wrapper.entry_broker import EntryBroker
from wrapper.isolation import BrokerError, NotGranted

ANY: dict[str, Any] = {"type": "object"}
GRANTS = Grants(topics=TopicGrants(read=("claims.>", "todo.*"), write=("claims.invoice.*", "todo.*")))


def manifest(name: str, grants: Grants = GRANTS) -> Manifest:
    return Manifest(name=name, description="one", input_schema=ANY, grants=grants)


async def ended(a: Arbiter, source: str, grants: Grants = GRANTS, **given: Any) -> Completion:
    """How one attempt at code with grants ended."""
    name = "c" + hashlib.sha256(source.encode()).hexdigest()[:10]
    await a.registry.register(manifest(name, grants), source=source)
    result = await a.run(Call(name, given), timeout=60)
    (task,) = result.state.work
    assert task.completion is not None
    return task.completion


async def test_isolated_code_works_with_the_board_on_granted_topics(redis_server: RedisServer) -> None:
    source = """
from wrapper import sdk

def handler():
    first = sdk.post("claims.invoice.7", {"amount": 120}, confidence=0.5)
    again = sdk.post("claims.invoice.8", {"amount": 80}, links=[("contradicts", first["id"])])
    sdk.amend(first["id"], content={"amount": 130}, expect=1)
    found = sdk.query("claims.*.*", "amount>=100")["entries"]
    linking = sdk.query("claims.>", links_to=first["id"])["entries"]
    sdk.post("todo.note", "the amount of an invoice")
    (best,) = sdk.query("claims.>", about="amount 130", limit=1)["entries"]
    sdk.post("todo.one", "x")
    taken = sdk.take("todo.one")
    none = sdk.take("todo.one", seconds=0.01)
    sdk.retract(again["id"], "wrong")
    then = again["position"]
    was = [sdk.read(first["id"], at=then)["content"], len(sdk.query("claims.>", at=then)["entries"])]
    told = []
    for fact in sdk.watch("claims.>", after=first["position"], seconds=60):
        told.append([fact["fact"], fact["version"], fact.get("content")])
        if len(told) == 3:
            break
    sdk.amend(first["id"], content={"amount": 140})
    rest = next(sdk.watch("claims.>", after=fact["position"], seconds=60))["content"]
    stale = []
    for write, topic in ((sdk.amend, None), (sdk.amend, 1), (sdk.retract, 1)):
        try:
            write(first["id"], expect=3 if topic else 1, expect_topic=topic)
        except sdk.CallError as error:
            stale.append(error.type)
    return {
        "was": was, "told": told, "rest": rest,
        "best": [best["id"] == first["id"], 0 < best["score"] <= 1, len(best["reasons"]) > 0],
        "found": [[one["topic"], one["content"], one["version"]] for one in found], "linking": [one["id"] for one in linking],
        "taken": taken["content"], "none": none, "left": len(sdk.query("claims.>")["entries"]), "stale": stale,
        "state": sdk.read(again["id"])["state"], "again": again["id"], "missing": sdk.read(first["id"][:-24] + "0" * 24),
    }
"""
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source)
        assert done.status is Status.SUCCEEDED, done
        data = done.data
        assert data["found"] == [["claims.invoice.7", {"amount": 130}, 2]]
        assert data["was"] == [{"amount": 120}, 2], "before it was amended, and the other retracted"
        assert data["told"] == [["posted", 1, {"amount": 80}], ["amended", 2, {"amount": 130}], ["retracted", 2, None]]
        assert data["rest"] == {"amount": 140}, "it goes on exactly after the last one"
        assert data["linking"] == [data["again"]]
        assert data["best"] == [True, True, True], "of the granted topics, with what spoke for it"
        assert (data["taken"], data["none"], data["left"], data["stale"]) == ("x", None, 1, ["stale"] * 3)
        assert (data["state"], data["missing"]) == ("retracted", None)
        entries = a.entries.within(f"run:{done.orchestration_id}")
        (entry,) = (await entries.query("claims.>")).entries
        assert (entry.author.kind, entry.author.name, entry.author.version) == ("task", done.node, done.version)
        assert (await a.entries.query()).entries == ()


MORE: dict[str, str] = {
    "another topic to write": "sdk.post('claims.order.1', 1)",
    "another topic to read": "sdk.query('secrets.>')",
    "a wider pattern": "sdk.query('>')",
    "a wider pattern, by meaning": "sdk.query('>', about='secrets')",
    "to take what is only read": "sdk.take('claims.order.*')",
    "to watch another topic": "next(sdk.watch('secrets.>', after='-'))",
    "another run": "sdk.read('r0123456789abcdef/e/' + '0' * 24)",
    "another scope": "sdk.retract('public:/e/' + '0' * 24)",
}


@pytest.mark.parametrize("what", MORE)
async def test_g10_asking_for_another_topic_ends_the_attempt_as_refused(redis_server: RedisServer, what: str) -> None:
    source = (
        "import time\nfrom wrapper import sdk\n\n"
        "def handler():\n"
        "    try:\n"
        f"        {MORE[what]}\n"
        "    except sdk.CallError:\n"
        "        pass\n"
        "    try:\n"
        "        sdk.post('claims.invoice.9', 'afterwards')\n"
        "    except sdk.CallError:\n"
        "        pass\n"
        "    time.sleep(100)\n"
    )
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source)
        left = await a.entries.within(f"run:{done.orchestration_id}").query()
    assert (done.status, done.error and done.error.type) == (Status.REFUSED, "grant"), done
    assert "was not granted" in str(done.error)
    assert done.usage.seconds < 60
    assert left.entries == (), "what it asks for afterwards is not done either"


async def test_g10_code_without_the_grant_reaches_no_board(redis_server: RedisServer) -> None:
    source = "from wrapper import sdk\n\ndef handler():\n    return sdk.query('a')\n"
    async with arbiter(redis_server.url, ["unused"]) as (a, _):
        done = await ended(a, source, Grants())
    assert (done.status, done.error and done.error.type) == (Status.REFUSED, "grant"), done


# ---- the broker by itself --------------------------------------------------------------------------------------------


class Scene:
    """An attempt's broker beside the entries of its run."""

    def __init__(self, board: Board, claim: Claim) -> None:
        self.entries, self.claim = Entries(board, f"run:{claim.run_id}"), claim
        self.broker = self.attempt()

    def attempt(self) -> EntryBroker:
        return EntryBroker(manifest("some"), self.entries, self.claim)

    async def ask(self, method: str, **args: JsonValue) -> Any:
        return await self.broker(f"entry.{method}", args)


@pytest.fixture
async def scene(redis_board: Board) -> Scene:
    await redis_board.submit_call("some", {}, lane="work")
    (claim,) = await redis_board.claim("w", ["work"])
    return Scene(redis_board, claim)


async def test_g10_an_entry_is_judged_by_its_topic_whatever_names_it(scene: Scene) -> None:
    secret = (await scene.entries.post("secret.1", 1)).id
    read = (await scene.entries.post("claims.order.1", 1)).id
    for method, args in (
        ("read", {"entry": secret}),
        ("query", {"pattern": "claims.>", "links_to": secret}),
        ("post", {"topic": "claims.invoice.1", "content": 1, "links": [["supports", secret]]}),
        ("amend", {"entry": read, "content": 2}),
        ("retract", {"entry": read}),
    ):
        with pytest.raises(NotGranted):
            await scene.ask(method, **args)  # type: ignore[arg-type]
    assert {(one.topic, one.content) for one in (await scene.entries.query()).entries} == {
        ("secret.1", 1), ("claims.order.1", 1),
    }  # fmt: skip
    assert (await scene.ask("post", topic="claims.invoice.1", content=1, links=[["supports", read]]))["new"]


async def test_g10_what_steers_a_run_is_granted_by_name_only(scene: Scene) -> None:
    run, task = scene.entries, scene.claim
    steers = [(entry_broker.POST, {"topic": "control.strategy", "content": {}}), (entry_broker.TAKE, {"pattern": ">"}),
              (entry_broker.TAKE, {"pattern": "*.strategy"})]  # fmt: skip
    for write, allowed in (((">",), False), (("*.strategy", "claims.>"), False), ((">", "control.>"), True)):
        wide = manifest("wide", Grants(topics=TopicGrants(read=(">",), write=write)))
        for method, args in steers:
            broker = EntryBroker(wide, run, task)
            if allowed:
                await broker(method, dict(args))
            else:
                with pytest.raises(NotGranted, match="control"):
                    await broker(method, dict(args))


async def test_a_second_attempt_that_writes_the_same_adds_nothing_and_takes_the_same(scene: Scene) -> None:
    for number in (1, 2, 3):
        await scene.entries.post("todo.x", number)

    async def attempt() -> list[Any]:
        said = [await scene.ask("post", topic="claims.invoice.1", content={"a": n}) for n in (1, 1, 2)]
        return [one["id"] for one in said] + [(await scene.ask("take", pattern="todo.*"))["content"] for _ in range(2)]

    first = await attempt()
    scene.broker = scene.attempt()
    assert await attempt() == first
    assert first[3:] == [1, 2]
    assert len(set(first[:3])) == 3
    assert len((await scene.entries.query("claims.>")).entries) == 3
    assert (await scene.ask("post", topic="claims.invoice.1", content={"a": 3}))["new"]


async def test_a_superseded_attempt_writes_nothing(scene: Scene, redis_board: Board) -> None:
    await redis_board.release(scene.claim)
    with pytest.raises(BrokerError) as refused:
        await scene.ask("post", topic="claims.invoice.1", content=1)
    assert refused.value.type == "fenced"


async def test_what_an_attempt_has_read_taints_what_it_writes(scene: Scene) -> None:
    clean = await scene.ask("post", topic="claims.invoice.1", content=1)
    await scene.entries.post("claims.page", "hello", taint=["web:example.com"])
    await scene.ask("query", pattern="claims.page")
    scene.broker.tainted(["http:example.org"])
    written = await scene.ask("post", topic="claims.invoice.1", content=2)
    entries = {one.id: one.taint for one in (await scene.entries.query("claims.invoice.*")).entries}
    assert entries[clean["id"]] == scene.claim.taint
    assert set(entries[written["id"]]) == {"web:example.com", "http:example.org", *scene.claim.taint}


async def test_what_a_watch_or_the_past_has_shown_taints_what_is_written(scene: Scene) -> None:
    page = await scene.entries.post("claims.page", "hello", taint=["web:example.com"])
    mail = await scene.entries.post("claims.mail", "x" * 300_000, taint=["mail:example.com"])
    await scene.entries.amend(mail.id, "short")
    assert (await scene.ask("watch", pattern="claims.page", after="-"))["content"] == "hello"
    assert len((await scene.ask("read", entry=mail.id, at=mail.position))["content"]) == 300_000
    written = await scene.ask("post", topic="claims.invoice.1", content=2)
    entry = await scene.entries.read(written["id"])
    assert entry
    assert {"web:example.com", "mail:example.com"} <= set(entry.taint)
    waits = asyncio.create_task(scene.ask("watch", pattern="claims.page", seconds=60, after=page.position))
    await scene.entries.retract(page.id, "said by somebody")
    assert set(await waits) == {"fact", "id", "topic", "version", "position"}


async def test_writes_and_reads_of_an_attempt_are_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def limited(method: str, **args: JsonValue) -> None:
        with pytest.raises(BrokerError) as refused:
            await scene.ask(method, **args)
        assert refused.value.type == "limit", refused.value.message

    await limited("post", topic="todo.x", content="x" * entry_broker.CONTENT_BYTES)
    large = await scene.entries.post("claims.large", "x" * 300_000)
    (shown,) = (await scene.ask("query", pattern="claims.*"))["entries"]
    assert (shown["content"], shown["left_out_bytes"]) == (None, 300_002)
    assert len((await scene.ask("read", entry=large.id))["content"]) == 300_000
    huge = await scene.entries.post("claims.huge", "x" * entry_broker.WHOLE_BYTES)
    await limited("read", entry=huge.id)
    monkeypatch.setattr(entry_broker, "READ_BYTES", 500_000)
    await limited("read", entry=large.id)
    monkeypatch.setattr(entry_broker, "WRITTEN_BYTES", 10)
    await scene.ask("post", topic="todo.x", content=1)
    await limited("post", topic="todo.x", content="0123456789")
    monkeypatch.setattr(entry_broker, "WRITES", 3)
    await limited("take", pattern="todo.*")
    monkeypatch.setattr(entry_broker, "READS", 3)
    scene.broker = scene.attempt()
    for _ in range(3):
        await scene.ask("query", pattern="todo.*")
    await limited("query", pattern="todo.*")
    await limited("watch", pattern="todo.*", after="-")
    scene.broker = scene.attempt()
    await limited("query", pattern="todo.*", at=large.position)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("post", {"topic": "todo.x"}),
        ("post", {"topic": "todo.x", "content": 1, "author": {"kind": "person", "name": "root"}}),
        ("post", {"topic": "todo.x", "content": 1, "operation": "mine"}),
        ("post", {"topic": 7, "content": 1}),
        ("post", {"topic": "todo.>", "content": 1}),
        ("post", {"topic": "todo.x", "content": 1, "confidence": "high"}),
        ("post", {"topic": "todo.x", "content": 1, "confidence": 2}),
        ("post", {"topic": "todo.x", "content": 1, "confidence": 10**400}),
        ("post", {"topic": "todo.x", "content": 1, "seconds": 10**400}),
        ("post", {"topic": "todo.x", "content": 1, "links": "x"}),
        ("post", {"topic": "todo.x", "content": 1, "links": [["supports"]]}),
        ("post", {"topic": "todo.x", "content": 1, "expect_topic": True}),
        ("read", {"entry": 7}),
        ("read", {"entry": "nonsense"}),
        ("query", {"pattern": "todo.*", "where": "nonsense"}),
        ("query", {"pattern": "todo.*", "limit": 51}),
        ("query", {"pattern": "todo.*", "limit": 1.5}),
        ("query", {"pattern": "todo.*", "rel": "supports"}),
        ("query", {"pattern": "todo.*", "at": "nonsense"}),
        ("read", {"entry": "x", "at": 7}),
        ("watch", {"pattern": "todo.*", "after": "nonsense"}),
        ("watch", {"pattern": "todo.*", "seconds": 61}),
        ("take", {"pattern": "todo.*", "seconds": 61}),
        ("take", {"pattern": "todo.*", "seconds": -1}),
        ("retract", {"entry": "x", "reason": "x" * 2001}),
        ("read", None),
        ("read", [1]),
    ],
)
async def test_what_is_malformed_is_refused_and_writes_nothing(scene: Scene, method: str, args: Any) -> None:
    with pytest.raises(BrokerError) as refused:
        await scene.broker(f"entry.{method}", args)
    assert refused.value.type == "bad_request"
    assert (await scene.entries.query()).entries == ()


def test_patterns_of_a_grant_are_checked_and_part_of_what_is_signed() -> None:
    with pytest.raises(BadInput, match=r"topics\.read"):
        Manifest.of(
            {"name": "some", "description": "x", "input_schema": ANY, "grants": {"topics": {"read": ["a.>.b"]}}}
        )
    plain, granted = manifest("some", Grants()), manifest("some")
    assert "topics" not in plain.text(), "what was registered before keeps its hash"
    assert plain.content_hash() != granted.content_hash()
    assert Manifest.of(granted.text()) == granted
    assert granted.grants.model_dump(mode="json")["topics"] == {
        "read": ["claims.>", "todo.*"], "write": ["claims.invoice.*", "todo.*"],
    }  # fmt: skip
