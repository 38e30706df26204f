"""Large values are stored once, by hash, and are what they were when they are read: on every engine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from blackboard.attempt import Attempt
from blackboard.blobs import INLINE_BYTES, MARK, Blob
from blackboard.board import STEP_LANE, Board
from blackboard.claims import Claim
from blackboard.errors import BadInput, BlobDamaged, BlobMissing, BlobUnavailable, Oversized
from blackboard.events import RoundPlannedData, RunAccepted, TaskCompleted, TaskPosted
from blackboard.heartbeat import Heartbeat
from blackboard.payloads import PAYLOAD_BYTES
from blackboard.testing import RedisServer
from blackboard.types import Completion, Limits, RetryPolicy, Status, TaskSpec
from blackboard.worker import Worker

LARGE: dict[str, Any] = {"rows": ["ü" + "x" * 999] * 400, "empty": [], "n": 12345678901234567890}
MESSAGE: dict[str, Any] = {"role": "assistant", "content": []}


def digest(value: object) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


async def decide(board: Board, *tasks: TaskSpec, request: Any = "go") -> str:
    """A run whose first decision posted these tasks."""
    run_id = await board.submit(request)
    steps = {step.run_id: step for step in await board.claim("w", [STEP_LANE], n=10)}
    step = steps[run_id]
    await board.commit_step(step, RoundPlannedData(round=1, message=MESSAGE), tasks, Limits())
    return run_id


def task(key: str, given: Any = None, after: tuple[str, ...] = ()) -> TaskSpec:
    policy = RetryPolicy(max_attempts=3, interval_seconds=0)
    return TaskSpec(
        key=key, tool_use_id=key, capability="c", lane="work", input=given, after=after, retry=policy
    )  # fmt: skip


async def take(board: Board, n: int = 1) -> list[Claim]:
    found = await board.claim("w", ["work"], n=n)
    assert len(found) == n
    return found


async def one(board: Board, run_id: str, kind: type[Any]) -> Any:
    """The data of the last event of a kind."""
    return [event for event in await board.history(run_id) if isinstance(event, kind)][-1].data


async def test_every_large_value_is_read_back_as_it_was_and_the_log_has_references(board: Board) -> None:
    run_id = await decide(board, task("a", LARGE), task("b", {"all": {"$ref": "a"}}, ("a",)), request={"big": LARGE})
    (a,) = await take(board)
    assert a.input() == LARGE
    assert a.checkpoint is None
    await board.progress(a, 1, "task.progressed", {"half": True}, checkpoint=[LARGE])
    await board.release(a)
    (a,) = await take(board)
    assert a.checkpoint == [LARGE]
    await board.complete(a, a.completion(Status.SUCCEEDED, LARGE))
    (b,) = await take(board)
    assert b.input() == {"all": LARGE}

    accepted, done = await one(board, run_id, RunAccepted), await one(board, run_id, TaskCompleted)
    for reference, value in ((accepted.request, {"big": LARGE}), (done.data, LARGE)):
        assert isinstance(reference, Blob)
        assert reference.digest == digest(value)
        assert reference.bytes == len(json.dumps(value, separators=(",", ":")))
        assert await board.load(run_id, reference) == value
    assert done.data.contains == ["empty", "n", "rows"]
    assert done.data.beginning.startswith('{"rows":["üxxx')
    assert sum(len(event.model_dump_json()) for event in await board.history(run_id)) < 30_000


async def test_what_fits_stays_on_the_board(board: Board) -> None:
    fits = "x" * (INLINE_BYTES - 2)
    run_id = await decide(board, task("a", fits), task("b", fits + "x"))
    posted = [event.data.input for event in await board.history(run_id) if isinstance(event, TaskPosted)]
    assert posted[-2] == fits
    assert isinstance(posted[-1], Blob)


@pytest.mark.parametrize(
    "value",
    [
        {MARK: "sha256:" + "0" * 64, "bytes": 5, "mediatype": "application/json"},
        {"bytes": 1, MARK: digest(LARGE)},
        {MARK: None},
        {MARK: {MARK: 1}},
    ],
)
async def test_data_that_looks_like_a_reference_is_data(board: Board, value: Any) -> None:
    run_id = await decide(board, task("a", value), request=value)
    (a,) = await take(board)
    assert a.input() == value
    await board.progress(a, 1, "task.progressed", None, checkpoint=value)
    await board.complete(a, a.completion(Status.SUCCEEDED, value))
    for data in ((await one(board, run_id, RunAccepted)).request, (await one(board, run_id, TaskCompleted)).data):
        assert isinstance(data, Blob)
        assert await board.load(run_id, data) == value
    assert await board.load(run_id, value) == value, "data that was loaded already is not loaded again"


async def test_inside_a_value_the_mark_means_nothing(board: Board) -> None:
    value = {"inner": {MARK: digest(LARGE), "bytes": 5}, "list": [{MARK: 1}]}
    await decide(board, task("a", value))
    (a,) = await take(board)
    assert a.input() == value


async def test_equal_values_of_a_run_are_stored_once_and_go_with_the_run(redis_board: Board) -> None:
    board = redis_board
    run_id = await decide(board, task("a", LARGE), task("b", LARGE), request=LARGE)
    other = await decide(board, task("a", LARGE))
    key = board.shard_of(run_id).blobs(run_id)
    assert await board.client.hkeys(key) == [digest(LARGE).removeprefix("sha256:")]  # type: ignore[misc]
    await board.blobs.delete_run(run_id)
    await board.blobs.delete_run(run_id)
    assert await board.client.exists(key) == 0
    with pytest.raises(BlobMissing, match="expired, was removed"):
        await board.load(run_id, (await one(board, run_id, RunAccepted)).request)
    assert await board.load(other, (await one(board, other, TaskPosted)).input) == LARGE


async def test_a_submission_repeated_with_its_key_is_the_same_run_and_blob(board: Board) -> None:
    first = await board.submit(LARGE, idempotency_key="k")
    assert await board.submit(dict(reversed(LARGE.items())), idempotency_key="k") == first
    assert await board.load(first, (await one(board, first, RunAccepted)).request) == LARGE


async def test_nothing_refers_to_a_blob_before_it_is_stored(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """The put comes first, so a crash between the two leaves a blob without a reference and never the other way round."""
    run_id = await decide(board, task("a"))
    (a,) = await take(board)
    sequence = (await board.history(run_id))[-1].sequence

    async def refused(*_: Any) -> None:
        raise BlobUnavailable("the store is away")

    monkeypatch.setattr(board.blobs.store, "put", refused)
    with pytest.raises(BlobUnavailable):
        await board.complete(a, a.completion(Status.SUCCEEDED, LARGE))
    with pytest.raises(BlobUnavailable):
        await board.submit(LARGE)
    assert (await board.history(run_id))[-1].sequence == sequence
    assert [run.id for run in await board.runs()] == [run_id]


@pytest.mark.engines("redis")
async def test_more_than_64_mib_is_refused_with_field_size_and_remedy(board: Board) -> None:
    assert PAYLOAD_BYTES == 64 << 20
    huge = "x" * PAYLOAD_BYTES
    with pytest.raises(
        Oversized, match=r"request: '67,108,866 bytes' was refused\. At most 67,108,864 bytes .* its URL"
    ):
        await board.submit(huge)
    await decide(board, task("a"))
    (a,) = await take(board)
    with pytest.raises(Oversized, match=r"completion\.data: "):
        await board.complete(a, a.completion(Status.SUCCEEDED, huge))
    with pytest.raises(Oversized, match="checkpoint: "):
        await board.progress(a, 1, "task.progressed", None, checkpoint=huge)


async def test_a_claim_whose_input_is_gone_says_so_when_it_is_read(board: Board) -> None:
    run_id = await decide(board, task("a", LARGE))
    await board.blobs.delete_run(run_id)
    (a,) = await take(board)
    assert isinstance(a.trouble, BlobMissing)
    with pytest.raises(BlobMissing):
        a.input()


async def test_content_that_was_changed_is_noticed(redis_board: Board) -> None:
    board = redis_board
    run_id = await decide(board, task("a", LARGE))
    key, name = board.shard_of(run_id).blobs(run_id), digest(LARGE).removeprefix("sha256:")
    for content in (b'{"rows":[]}', b"\xff\xfe", b""):
        await board.client.hset(key, name, content)  # type: ignore[misc]
        with pytest.raises(BlobDamaged, match=f"run {run_id} is damaged in the board's server"):
            await board.load(run_id, (await one(board, run_id, TaskPosted)).input)
    await board.blobs.check(run_id, json.dumps(LARGE, separators=(",", ":")), LARGE)
    assert (await take(board))[0].input() == LARGE, "what is stored again is mended"


# ---- workers -----------------------------------------------------------------------------------------------------


async def served(board: Board, run_id: str, handle: Any) -> Completion:
    """The completion of the run's last task, worked on by a worker."""
    heartbeat = Heartbeat(board)
    worker = Worker(board, heartbeat, "w", ["work"], handle)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(30):
            async for event in board.watch(run_id):
                if isinstance(event, TaskCompleted) and event.data.node != "arbiter":
                    return event.data
                await board.sweep()
    finally:
        await worker.drain(1)
        await running
        heartbeat.close()
    raise AssertionError("the run ended without it")


async def echo(attempt: Attempt) -> Completion:
    return attempt.claim.completion(Status.SUCCEEDED, attempt.claim.input())


async def test_a_worker_hands_over_the_values_and_ends_a_task_whose_input_is_missing(board: Board) -> None:
    run_id = await decide(board, task("a", LARGE))
    done = await served(board, run_id, echo)
    assert await board.load(run_id, done.data) == LARGE

    run_id = await decide(board, task("a", LARGE))
    await board.blobs.delete_run(run_id)
    done = await served(board, run_id, echo)
    assert (done.status, done.attempts) == (Status.FAILED, 1)
    assert done.error is not None
    assert (done.error.type, done.error.retryable) == ("blob_missing", False)


@pytest.mark.parametrize("where", ["get", "put"])
async def test_a_store_that_is_away_for_a_moment_costs_an_attempt_and_no_result(
    board: Board, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    run_id = await decide(board, task("a", LARGE))
    real, failures = getattr(board.blobs.store, where), [BlobUnavailable("away")]

    async def flaky(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(*args)

    monkeypatch.setattr(board.blobs.store, where, flaky)
    board.random.uniform = lambda a, b: 0.0  # type: ignore[method-assign]
    done = await served(board, run_id, echo)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)
    assert await board.load(run_id, done.data) == LARGE


# ---- stores ------------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_folder_keeps_files_that_only_their_owner_reads(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/my%20blobs"
    async with await Board.open(redis_server.url, board=board_name, blobs=url) as board:
        run_id = await decide(board, task("a", LARGE), request=LARGE)
        (path,) = files(tmp_path)
        assert path == tmp_path / "my blobs" / "arbiter" / board_name / run_id / f"{digest(LARGE)[7:]}.json"
        assert json.loads(path.read_text()) == LARGE
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert await board.client.exists(board.shard_of(run_id).blobs(run_id)) == 0
    async with await Board.open(redis_server.url, board=board_name) as again:  # the board remembers where
        (a,) = await take(again)
        assert a.input() == LARGE
        path.write_text("{}")
        with pytest.raises(BlobDamaged):
            await again.load(run_id, (await one(again, run_id, RunAccepted)).request)
        path.unlink()
        with pytest.raises(BlobMissing, match=r"is not in the folder /.*another place"):
            await again.load(run_id, (await one(again, run_id, RunAccepted)).request)
        await again.blobs.delete_run(run_id)
        assert not path.parent.exists()
    with pytest.raises(BadInput, match=r"keeps large values in file:///.* for good"):
        await Board.open(redis_server.url, board=board_name, blobs="redis")


async def test_a_folder_that_cannot_be_used_is_unavailable(board_name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with await Board.open(f"memory://{board_name}", board=board_name, blobs=f"file://{tmp_path}/file") as board:
        with pytest.raises(BlobUnavailable, match="cannot be used"):
            await board.submit(LARGE)


async def test_a_full_server_is_unavailable_for_large_values_and_says_what_to_do(tmp_path: Path) -> None:
    with RedisServer(options=("--maxmemory", "4mb")) as server:
        async with await Board.open(server.url) as board:

            async def fill() -> None:
                for _ in range(20):
                    await board.submit(["x" * 1_000_000])

            with pytest.raises(BlobUnavailable, match="Give the server more memory, or keep large values in a folder"):
                await fill()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "file://relative/folder",
        "file:relative",
        "s3://",
        "s3://key:secret@bucket/x",
        "s3://b/?a=1",
    ],
)
async def test_a_store_that_is_none_is_refused_before_anything_is_opened(url: str) -> None:
    with pytest.raises(BadInput, match=r"blobs: .*s3://bucket/prefix") as refused:
        await Board.open("memory://none", blobs=url)
    assert "secret" not in str(refused.value)


async def test_the_limit_is_the_boards_and_is_kept(board_name: str) -> None:
    url = f"memory://{board_name}"
    with pytest.raises(BadInput, match="inline_bytes"):
        await Board.open(url, inline_bytes=10)
    async with await Board.open(url, board=board_name, inline_bytes=2000) as board:
        async with await Board.open(url, board=board_name) as other:
            assert other.blobs.inline_bytes == 2000
        run_id = await board.submit("x" * 2000)
        assert isinstance((await one(board, run_id, RunAccepted)).request, Blob)


@pytest.mark.parametrize("run_id", ["../up", "", "a/b", "."])
async def test_only_the_id_of_a_run_names_a_place(board: Board, run_id: str) -> None:
    with pytest.raises(BadInput, match="run_id"):
        await board.blobs.delete_run(run_id)
