"""G10: code that was granted topics works in its exam as in a task, on a board that nobody else sees and that is gone with it."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import fakeredis
import pytest
import redis.asyncio
import taxshop
from arbiter_support import arbiter
from pydantic import JsonValue

from arbiter import Call, Grants, Manifest, TopicGrants
from blackboard import _memory, feed
from blackboard.attempt import Attempt
from blackboard.board import Board
from blackboard.claims import Claim
from blackboard.entries import Entries
from blackboard.errors import IsolationUnavailable
from blackboard.meaning import Meaning
from blackboard.testing import RedisServer
from blackboard.types import Failure, Status
from fabricator import FabricationSettings, Fabricator, GrantPolicy
from fabricator.exam import Bench
from fabricator.sitting import Sittings
from fabricator.specification import Case
from registry import Registry, schema
from registry.matching import passages
from wrapper.isolation import Broker, Job, Outcome, ProcessIsolation

WORKS = """
import re, time
from wrapper import sdk

def asked(function, *args, **named):
    try:
        return function(*args, **named)
    except sdk.CallError as error:
        return [error.type, str(error)]

def handler():
    task, began = sdk.current_task(), time.time()
    place = sdk.query(">")["position"]
    age = began - int(place[:13]) / 1000
    first = sdk.post("claims.invoice.7", {"amount": 120}, confidence=0.5, seconds=600)
    second = sdk.post("claims.invoice.8", {"amount": 80}, links=[("contradicts", first["id"])])
    written = sdk.amend(first["id"], content={"amount": 130, "text": "x" * 30_000}, expect=1)
    told = [
        sdk.read(first["id"]), sdk.query("claims.*.*", "amount>=100"), sdk.query("claims.>", links_to=first["id"]),
        sdk.query("claims.>", about="what amount was it, 130?"), sdk.query(">", limit=1), written, second,
        sdk.query(">", "@author=" + sdk.read(first["id"])["author"]["name"]),
        asked(sdk.amend, first["id"], content=1, expect=1), asked(sdk.read, first["id"][:-24] + "0" * 24),
        asked(sdk.post, "claims.strict.1", "no number"), asked(sdk.post, "claims.strict.1", 5),
        asked(sdk.post, "claims.x", 1, expect_topic=3), asked(sdk.post, "claims.x", 1, links=[["supports", "nothing"]]),
        sdk.take("claims.invoice.8", lease_seconds=30), asked(sdk.amend, second["id"], content=1),
        sdk.renew(second["id"], 40), sdk.give_back(second["id"]), asked(sdk.give_back, second["id"]),
        sdk.take("claims.invoice.8", lease_seconds=30), sdk.confirm(second["id"]), sdk.read(second["id"]),
        sdk.take("claims.none", seconds=0.01), sdk.take("claims.strict.*", seconds=5), sdk.query("claims.strict.*"),
        sdk.retract(first["id"], "wrong"), sdk.read(first["id"]), asked(sdk.retract, first["id"]), sdk.query(">"),
    ]
    own = [first["id"].startswith(task.run_id + "/e/"), told[0]["author"]["task"] == task.task_id,
           told[0]["author"]["attempt"] == task.attempt, int(place[:13]) <= task.fence // 1000]
    return {"told": told, "own": own, "before it began": 0 < age < 60, "ids": [task.run_id, task.task_id]}
"""
MANIFEST = Manifest(
    name="works_there", description="work", input_schema={"type": "object"},
    grants=Grants(topics=TopicGrants(read=(">",), write=("claims.>",))),
)  # fmt: skip
STRICT: dict[str, JsonValue] = {"type": "integer"}


def bench(board: Board, isolation: Any, source: str, meaning: Meaning | None = None) -> tuple[Bench, Sittings]:
    held = Sittings(
        MANIFEST, source, board, model=None, meaning=meaning or passages.meaning(), taint=("person",)
    )  # fmt: skip
    return Bench(isolation, MANIFEST, source, case_seconds=30.0, sitting=held.open), held


def cases(*expected: JsonValue) -> list[Case]:
    return [Case(name=str(number), input={}, expected=each) for number, each in enumerate(expected)]


def plain(seen: dict[str, Any]) -> Any:
    """What was seen without what differs between any two runs: ids, places and times."""
    run_id, task_id = seen.pop("ids")
    text = json.dumps(seen).replace(task_id, "TASK").replace(run_id, "RUN")
    text = re.sub(r"/e/[0-9a-f]{24}", "/e/ENTRY", text)
    text = re.sub(r"[0-9]{13}-[0-9]{6}", "PLACE", text)
    return json.loads(re.sub(r"\b[0-9]{10}\.[0-9]+\b", "0", text))


async def stands(board: Board) -> dict[str, Any]:
    """All that is on a board, as bytes."""
    client = redis.asyncio.Redis.from_url(board.engine.url)
    async with client:
        names = cast("list[bytes]", await client.keys(f"*{board.name}*"))
        return {name.decode(): await client.dump(name) for name in names}


async def test_g10_code_that_looks_for_what_it_posted_finds_the_same_in_an_exam_and_in_a_task(
    redis_server: RedisServer, isolation: ProcessIsolation
) -> None:
    async with arbiter(redis_server.url, ["unused"], isolation=isolation) as (a, _):
        await a.entries.set_schema("claims.strict.*", STRICT)
        examiner, _held = bench(a.board, isolation, WORKS, a.registry.meaning)
        (result,) = (await examiner.examine(cases(None))).results
        await a.registry.register(MANIFEST, source=WORKS)
        done = await a.run(Call(MANIFEST.name, {}), timeout=60)
        scopes = a.registry.meaning.scopes
    assert result.kind == "wrong_result", result
    assert done.status == "succeeded", done.error
    examined, at_work = cast("dict[str, Any]", result.value), cast("dict[str, Any]", done.data)
    assert examined["own"] == [True] * 4
    assert examined["told"][10][0] == "bad_request", "the schemas of production's topics hold"
    assert examined["told"][0]["author"]["version"] == MANIFEST.content_hash(WORKS)
    assert scopes == (at_work["ids"][0],), "nothing is kept of what an exam ranked"
    before, now = plain(examined), plain(at_work)
    for number, (one, other) in enumerate(zip(before["told"], now["told"], strict=True)):
        assert one == other, number
    assert before == now


NOTES = """
from wrapper import sdk

def handler(text="x" * 60_000):
    found = len(sdk.query(">")["entries"])
    sdk.post("claims.note", text)
    sdk.query(">", about="a note")
    return [found, len(sdk.query(">")["entries"])]
"""


async def test_each_run_of_an_exam_has_an_empty_board_and_nothing_reaches_the_real_one(
    redis_board: Board, isolation: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Entries(redis_board, checker=schema).set_schema("claims.note", {"type": "string"})
    before = await stands(redis_board)
    monkeypatch.setenv("ARBITER_BLOBS", "nowhere:")  # what production keeps large values in is not for an exam
    examiner, held = bench(redis_board, isolation, NOTES)
    result = await examiner.examine(cases([0, 1], [0, 1]))
    assert result.passed, result
    assert before
    assert await stands(redis_board) == before
    assert held.excess == ""


async def test_nothing_is_left_of_the_board_of_an_exam(
    redis_board: Board, isolation: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def servers() -> set[int]:
        gc.collect()
        return {id(each) for each in gc.get_objects() if isinstance(each, fakeredis.FakeServer)}

    monkeypatch.setattr(feed, "_BLOCK_SECONDS", 0.1)  # after which a reading that waits in the store has ended
    waits = NOTES.replace("    return", "    sdk.take('claims.none', seconds=0.05)\n    return")
    before, meaning = servers(), passages.meaning()
    examiner, _ = bench(redis_board, isolation, waits, meaning)
    assert (await examiner.examine(cases([0, 1], [0, 1]))).passed
    assert meaning.scopes == ()
    async with asyncio.timeout(30):
        while servers() - before:
            await asyncio.sleep(0.05)


class Interrupted:
    """An isolation that posts like the code would, and is ended from outside the first time."""

    label = "process"

    def __init__(self) -> None:
        self.answers: list[Any] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, job: Job, broker: Broker | None = None, cancelled: asyncio.Event | None = None) -> Outcome:
        assert broker is not None
        await broker("entry.post", {"topic": "claims.note", "content": 1})
        found = cast("dict[str, Any]", await broker("entry.query", {"pattern": ">"}))
        self.answers.append(len(found["entries"]))
        if len(self.answers) == 1:
            return Outcome(Status.FAILED, error=Failure(type="isolation", message="ended", retryable=True))
        return Outcome(Status.SUCCEEDED, 1)


async def test_a_case_that_is_run_again_finds_nothing_of_the_run_that_was_interrupted(redis_board: Board) -> None:
    isolation = Interrupted()
    examiner, _ = bench(redis_board, isolation, NOTES)
    assert (await examiner.examine(cases(1))).passed
    assert isolation.answers == [1, 1]


async def test_without_granted_topics_no_board_is_opened(
    redis_board: Board, isolation: ProcessIsolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory, "find_spec", lambda _name: None)
    source = "def handler():\n    return 1\n"
    manifest = MANIFEST.model_copy(update={"grants": Grants(model=True)})
    held = Sittings(manifest, source, redis_board, model=None, meaning=passages.meaning())
    examiner = Bench(isolation, manifest, source, case_seconds=30.0, sitting=held.open)
    assert (await examiner.examine(cases(1))).passed
    examiner, _ = bench(redis_board, isolation, source)
    with pytest.raises(IsolationUnavailable, match=r"pip install 'arbiter\[memory\]'"):
        await examiner.examine(cases(1))


@pytest.mark.parametrize(("asks", "passes"), [(">", True), ("claims.>", False)], ids=["within", "beyond"])
async def test_a_fabrication_whose_code_needs_the_board_is_examined_on_one(
    redis_board: Board, registry: Registry, isolation: ProcessIsolation, post: Callable[..., Awaitable[Claim]],
    asks: str, passes: bool,
) -> None:  # fmt: skip
    source = taxshop.RIGHT.replace(
        "    return",
        "    from wrapper import sdk\n"
        "    sdk.post('claims.tax', {'tax': tax})\n"
        "    tax = sum(each['content']['tax'] for each in sdk.query('claims.>')['entries'])\n"
        "    return",
    )
    spec = taxshop.spec(grants={"topics": {"read": [asks], "write": ["claims.tax"]}})
    if not passes:
        source = source.replace(
            "    return", "    try:\n        sdk.query('>')\n    except Exception:\n        pass\n    return"
        )
    settings = FabricationSettings(grants=GrantPolicy(topics="allow"), repairs=0)
    made = Fabricator(registry, isolation, taxshop.script(source, specs=[spec]), settings=settings)
    claim = await post()
    done = await made.handle(Attempt(redis_board, claim))
    assert (done.status is Status.SUCCEEDED) is passes, done
    assert passes or "asked for more" in str(done.error)
    assert [each.kind for each in await redis_board.history(claim.run_id) if each.kind.startswith("entry.")] == []
