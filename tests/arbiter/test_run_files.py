"""The file of a run carries its large values: whole on any board and in any store, verified, and gone with the run."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_process import arbiter as command
from test_archive import forged, saved, written

from arbiter.run_files import PART_CHARACTERS, export_run, import_run, read_run
from blackboard.blobs import Blob
from blackboard.board import STEP_LANE, Board
from blackboard.errors import BadInput, BlobDamaged, BlobMissing, BlobUnavailable, UnknownRecord
from blackboard.events import RoundPlannedData, RunCompletedData
from blackboard.retention import retire
from blackboard.testing import RedisServer
from blackboard.types import Limits, Status, TaskSpec

LARGE: dict[str, Any] = {"rows": ['ü\\"' + "x" * 999] * 3000}
RESULT = ["y" * 1000] * 400
PLANNED = {"role": "assistant", "content": []}


async def finished(board: Board, request: Any = LARGE, result: Any = RESULT) -> str:
    """A run with a large request, which is also the input of both tasks, and a large result."""
    run = await board.submit(request)
    at = board.shard_of(run).number
    (step,) = await board.claim("w", [STEP_LANE], shard=at)
    tasks = [TaskSpec(key=key, tool_use_id=key, capability="c", lane="work", input=request) for key in "ab"]
    await board.commit_step(step, RoundPlannedData(round=1, message=PLANNED), tasks, Limits())
    for claim in await board.claim("w", ["work"], n=2, shard=at):
        await board.complete(claim, claim.completion(Status.SUCCEEDED, data=result))
    (step,) = await board.claim("w", [STEP_LANE], shard=at)
    over = RunCompletedData(status="succeeded", answer="done", rounds=2)
    await board.commit_step(step, RoundPlannedData(round=2, message=PLANNED), [], Limits(), over)
    return run


async def loaded(board: Board, run: str) -> list[Any]:
    """The large values a run's log refers to, in order."""
    found: list[Any] = []
    for event in await board.history(run):
        for name in ("request", "input", "data"):
            if isinstance(blob := getattr(event.data, name, None), Blob):
                found.append(await board.load(run, blob))
    return found


def kinds_of(file: Path) -> list[str]:
    return [next(iter(json.loads(line))) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
async def origin(redis_server: RedisServer, board_name: str) -> Any:
    async with await Board.open(redis_server.url, board=board_name + "o") as board:
        yield board


@pytest.fixture
async def elsewhere(board: Board) -> Board:
    """An empty board, on each engine."""
    return board


@pytest.fixture
async def file(origin: Board, tmp_path: Path) -> Path:
    return await written(origin, await finished(origin), tmp_path / "run")


async def test_large_values_go_with_the_run_once_each_and_leave_with_it(
    origin: Board, elsewhere: Board, file: Path
) -> None:
    kinds = kinds_of(file)
    assert kinds.count("value") == 2, "five references, two values"
    assert kinds.count("part") == 4, "more than 3 MiB are not one line"
    run = (await origin.runs())[0].id
    await retire(origin, run)
    assert (await import_run(elsewhere, file)).id == run
    assert await loaded(elsewhere, run) == [LARGE, LARGE, LARGE, RESULT, RESULT]
    again = "".join([line async for line in export_run(elsewhere, run)])
    assert again.count('{"value":') == 2
    blobs = [blob for event in await elsewhere.history(run) if isinstance(blob := getattr(event.data, "data", 0), Blob)]
    await retire(elsewhere, run)
    assert await elsewhere.client.exists(elsewhere.shard_of(run).blobs(run)) == 0
    with pytest.raises(BlobMissing):
        await elsewhere.load(run, blobs[0])


async def test_values_go_into_the_store_of_the_importing_board(
    redis_server: RedisServer, board_name: str, file: Path, tmp_path: Path
) -> None:
    place = f"file://{tmp_path}/blobs"
    async with await Board.open(redis_server.url, board=board_name, blobs=place) as board:
        run = (await import_run(board, file)).id
        assert len(list((tmp_path / "blobs").rglob("*.json"))) == 2
        assert await loaded(board, run) == [LARGE, LARGE, LARGE, RESULT, RESULT]
        await retire(board, run)
        assert list((tmp_path / "blobs").rglob("*.json")) == []


async def test_a_run_whose_value_is_missing_or_damaged_is_exported_without_values_only(
    origin: Board, elsewhere: Board, tmp_path: Path
) -> None:
    run = await finished(origin)
    key = origin.shard_of(run).blobs(run)
    (first, body), *_ = (await origin.client.hgetall(key)).items()
    await origin.client.hset(key, first, "[]")
    with pytest.raises(BlobDamaged, match=f"{first}.*--without-values"):
        await written(origin, run, tmp_path / "no")
    await origin.client.hdel(key, first)
    with pytest.raises(BlobMissing, match=f"{first}.*--without-values"):
        await written(origin, run, tmp_path / "no")
    without = saved(tmp_path / "yes", "".join([line async for line in export_run(origin, run, values=False)]))
    assert json.loads(without.read_text("utf-8").splitlines()[0])["arbiter.run"]["format"] == 1
    assert (await import_run(elsewhere, without)).id == run, "as files of earlier versions are"
    with pytest.raises(BlobMissing):
        await loaded(elsewhere, run)
    await origin.client.hset(key, first, body)


def damaged(line: str, number: int, change: Callable[[str], str]) -> Callable[[Path], Path]:
    """A change to the n-th line of a kind, with the hash of the whole made to fit."""

    def make(file: Path) -> Path:
        lines = [one for one in file.read_text("utf-8").splitlines() if one.startswith(f'{{"{line}":')]
        return forged(file, lines[number] + "\n", change(lines[number]))

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (damaged("part", 0, lambda line: line.replace("x", "z", 1) + "\n"), "sha256:[0-9a-f]{64} is not what its hash"),
        (damaged("part", -1, lambda line: line[:-3] + '"}\n'), "is not what its hash says"),
        (damaged("part", 1, lambda line: ""), "Parts of value sha256:.* are missing"),
        (damaged("value", 0, lambda line: ""), "A part of a value that was not announced"),
        (damaged("part", -1, lambda line: line + "\n" + line + "\n"), "not announced"),
        (damaged("value", 0, lambda line: line.replace('"bytes":', '"bytes":9') + "\n"), "at most 67,108,864"),
        (damaged("event", 0, lambda line: line[:-1] + "\n"), r"run.forged:2'.*not the file of a run"),
        (damaged("event", 0, lambda line: line[:-2] + ',"data":"{}"}}\n'), 'the key "data" stands twice in .*event'),
        (lambda file: _without_value(file), "It refers to sha256:[0-9a-f]{64}, which is not in it"),
        (lambda file: saved(file, file.read_text("utf-8")[:-1] + " \n\n"), "behind its end"),
        (lambda file: saved(file, file.read_text("utf-8").replace("done", "dose", 1)), "hash of the whole"),
    ],
)
async def test_a_damaged_file_says_what_is_damaged_and_nothing_is_imported(
    elsewhere: Board, file: Path, make: Callable[[Path], Path], words: str
) -> None:
    run = read_run(file).about["run_id"]
    with pytest.raises(BadInput, match=words):
        await import_run(elsewhere, make(file))
    with pytest.raises(UnknownRecord):
        await elsewhere.summary(run)
    assert await elsewhere.client.exists(elsewhere.shard_of(run).blobs(run)) == 0


def _without_value(file: Path) -> Path:
    text = file.read_text("utf-8")
    start = text.rindex('{"value":')
    return forged(file, text[start : text.index('{"end":')], "")


async def test_an_import_that_dies_between_the_values_and_the_run_is_completed_by_the_next(
    elsewhere: Board, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = elsewhere.blobs.store.put, 0

    async def dying(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise BlobUnavailable("full")
        await put(*args)

    with monkeypatch.context() as patched:
        patched.setattr(elsewhere.blobs.store, "put", dying)
        with pytest.raises(BlobUnavailable):
            await import_run(elsewhere, file)
    assert await elsewhere.runs() == []
    run = (await import_run(elsewhere, file)).id
    assert len(await loaded(elsewhere, run)) == 5


async def test_no_more_than_one_large_value_is_held_at_a_time(
    origin: Board, redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    size = 16 << 20
    values = [chr(97 + number) * size for number in range(4)]
    run = await origin.submit(values[0])
    (step,) = await origin.claim("w", [STEP_LANE])
    tasks = [TaskSpec(key=v[0], tool_use_id="t", capability="c", lane="work", input=v) for v in values[1:]]
    await origin.commit_step(step, RoundPlannedData(round=1, message=PLANNED), tasks, Limits())
    await origin.cancel_run(run)
    del tasks, values
    path = tmp_path / "run"
    tracemalloc.start()
    try:
        with path.open("w") as file:
            async for line in export_run(origin, run):
                assert len(line) < 2 * PART_CHARACTERS
                file.write(line)
        del line
        _, most = tracemalloc.get_traced_memory()
        assert most < 3.5 * size, "the body and its text"
        async with await Board.open(redis_server.url, board=board_name) as board:
            tracemalloc.reset_peak()
            await import_run(board, path)
            assert tracemalloc.get_traced_memory()[1] < 5 * size, "the parts, the text, the body, what is sent"
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 4 * size


async def test_the_commands_take_and_leave_large_values(
    origin: Board, redis_server: RedisServer, tmp_path: Path
) -> None:
    run = await finished(origin)
    here = ["--url", redis_server.url, "--board", origin.name]
    there = ["--url", redis_server.url, "--board", f"{origin.name}b"]
    whole, without = str(tmp_path / "whole"), str(tmp_path / "without")
    assert command("export", run, whole, *here).returncode == 0
    assert command("export", run, without, "--without-values", *here).returncode == 0
    assert ("part" in kinds_of(Path(whole)), "part" in kinds_of(Path(without))) == (True, False)
    assert command("import", whole, *there).stdout == f"{run}\n"
    async with await Board.open(redis_server.url, board=f"{origin.name}b") as board:
        assert len(await loaded(board, run)) == 5
