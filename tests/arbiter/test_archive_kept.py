"""A file of events that is kept up to date: nothing missing, whenever the process or the server stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_process import arbiter as command

from arbiter import archive
from arbiter.archive import Filter, keep, read, replay
from arbiter.patterns import Pattern
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.retention import retire
from blackboard.testing import RedisServer


@asynccontextmanager
async def keeping(board: Board, file: Path, wanted: Filter | None = None) -> AsyncIterator[None]:
    """The file is kept while the block runs; then the process is killed, as far as the file can tell."""
    running = asyncio.create_task(keep(board, file, wanted))
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PAUSE_SECONDS", 0.01)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not met():
            await asyncio.sleep(0.005)


def subjects(file: Path) -> list[str]:
    """The runs whose acceptance is in the file, in order."""
    if not file.exists():
        return []
    whole = file.read_text("utf-8").rpartition("\n")[0].splitlines()
    return [event["subject"] for event in map(json.loads, whole) if event["type"] == "dev.arbiter.run.accepted.v1"]


async def test_the_past_and_what_comes_is_in_the_file_with_data_once_and_in_order(board: Board, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    runs = [await board.submit(f"past {n}") for n in range(3)]
    async with keeping(board, file):
        await until(lambda: len(subjects(file)) == 3)
        runs += [await board.submit(f"new {n}") for n in range(3)]
        await until(lambda: len(subjects(file)) == 6)
        await board.cancel_run(runs[0])
        await until(lambda: any(event.kind == "run.completed" for event in replay(file)))
    found = list(replay(file))
    for run in runs:
        assert [event for event in found if event.run_id == run] == await board.history(run)


async def test_a_process_that_was_killed_is_followed_by_one_that_goes_on_without_gap_or_repetition(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept"
    runs = [await board.submit("one")]
    async with keeping(board, file):
        await until(lambda: subjects(file) == runs)
    with monkeypatch.context() as patched:  # it dies between the events and the cursor
        patched.setattr(archive, "_save", lambda file, place, cursor: file.flush())
        runs.append(await board.submit("two"))
        async with keeping(board, file):
            await until(lambda: subjects(file) == runs)
    with file.open("a") as torn:
        torn.write('{"half": ')
    runs.append(await board.submit("three"))
    async with keeping(board, file):
        await until(lambda: subjects(file) == runs)
    assert [event.id for event in replay(file)] == [e.id for run in runs for e in await board.history(run)]


async def test_a_process_that_dies_in_the_past_begins_the_past_anew(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept"
    run = await board.submit("one")
    append = archive._append  # pyright: ignore[reportPrivateUsage]
    with monkeypatch.context() as patched:
        patched.setattr(archive, "_append", lambda file, lines: (append(file, lines), file.flush(), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            await keep(board, file)
    assert subjects(file) == [run]
    async with keeping(board, file):
        await until(lambda: "true" in (tmp_path / "kept.cursor").read_text("utf-8"))
    assert subjects(file) == [run]


async def test_an_archive_that_was_away_longer_than_the_feed_reaches_reads_the_logs(
    redis_board: Board, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board, file = redis_board, tmp_path / "kept"
    runs = [await board.submit("one")]
    async with keeping(board, file):
        await until(lambda: subjects(file) == runs)
    runs += [await board.submit(f"missed {n}") for n in range(3)]
    await board.client.xtrim(board.shards[0].feed, maxlen=1, approximate=False)
    async with keeping(board, file):
        await until(lambda: set(subjects(file)) == set(runs))
    assert "the logs are read again" in caplog.text
    assert {event.id for event in replay(file)} == {e.id for run in runs for e in await board.history(run)}


async def test_what_a_failover_undid_and_is_done_again_is_in_the_file(
    redis_server: RedisServer, redis_board: Board, tmp_path: Path
) -> None:
    board, file = redis_board, tmp_path / "kept"
    shard = board.shards[0]
    runs = [await board.submit("one")]
    async with keeping(board, file):
        await until(lambda: subjects(file) == runs)
        with redis_server.client() as raw:
            last = raw.xrevrange(shard.feed, count=1)[0][0]
        lost = await board.submit("lost")
        await until(lambda: subjects(file)[-1] == lost)
    # The promoted replica lacks the last entries, and its clock is behind.
    ms, _, number = last.partition("-")
    newer = await board.client.xrange(shard.feed, min=f"({last}")
    await board.client.xdel(shard.feed, *(at for at, _ in newer))
    again = await board.submit("again")
    fields = next(f for _, f in await board.client.xrange(shard.feed, min=f"({last}") if f["run"] == again and f["at"])
    mine = [at for at, f in await board.client.xrange(shard.feed, min=f"({last}") if f["run"] == again]
    await board.client.delete(shard.feed)
    await board.client.xadd(shard.feed, {"run": runs[0], "at": ""}, id=last)  # type: ignore[arg-type]
    await board.client.xadd(shard.feed, fields, id=f"{ms}-{int(number) + 1}")
    assert mine
    async with keeping(board, file):
        await until(lambda: again in subjects(file))


async def test_a_removed_run_is_passed_over(board: Board, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    async with keeping(board, file):
        await until(lambda: (tmp_path / "kept.cursor").exists())
    gone = await board.submit("gone")
    await board.cancel_run(gone)
    await retire(board, gone)
    stays = await board.submit("stays")
    async with keeping(board, file):
        await until(lambda: subjects(file) == [stays])


async def test_only_what_is_meant_is_kept_and_it_ends_at_its_time(board: Board, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    wanted = Filter(pattern=Pattern({"type": [{"suffix": ".run.accepted.v1"}], "data": {"tenant": ["acme"]}}))
    async with keeping(board, file, wanted):
        await board.submit("other")
        run = await board.submit("mine", tenant="acme")
        await until(lambda: subjects(file) == [run])
        late = await board.submit("mine too", tenant="acme")
        await until(lambda: subjects(file) == [run, late])
    assert [event.kind for event in replay(file)] == ["run.accepted"] * 2
    await asyncio.wait_for(keep(board, tmp_path / "over", Filter(until=1.0)), 30)
    assert (tmp_path / "over").read_bytes() == b""


async def test_a_file_that_is_not_its_own_is_left_alone(board: Board, redis_board: Board, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("mine\n")
    with pytest.raises(BadInput, match="without a cursor"):
        await keep(board, file)
    assert file.read_text() == "mine\n"
    file.unlink()
    run = await board.submit("go")
    async with keeping(board, file):
        await until(lambda: subjects(file) == [run])
        with pytest.raises(BadInput, match="Another process keeps it"):
            await keep(board, file)
    if board.source != redis_board.source:
        with pytest.raises(BadInput, match="name another"):
            await keep(redis_board, file)
    (tmp_path / "kept.cursor").write_text("x")
    with pytest.raises(BadInput, match="It is no cursor"):
        await keep(board, file)


async def test_a_file_that_lost_its_end_is_refused(board: Board, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    run = await board.submit("go")
    async with keeping(board, file):
        await until(lambda: (tmp_path / "kept.cursor").exists() and "true" in (tmp_path / "kept.cursor").read_text())
    assert subjects(file) == [run]
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BadInput, match="shorter than it was"):
        await keep(board, file)


def test_the_command_keeps_a_file_until_it_is_told_to_stop_and_goes_on(
    redis_server: RedisServer, board_name: str, tmp_path: Path
) -> None:
    here = ["--url", redis_server.url, "--board", board_name]
    file = tmp_path / "kept"
    seen: list[str] = []
    for number in range(2):
        words = [
            sys.executable,
            "-m",
            "arbiter",
            "events",
            "--archive",
            str(file),
            "--follow",
            "--type",
            "run.*",
            *here,
        ]
        process = subprocess.Popen(words)
        try:
            seen.append(command("submit", f"run {number}", *here).stdout.strip())
            for _ in range(3000):
                if subjects(file) == seen or process.poll() is not None:
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            assert subjects(file) == seen
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in (143, -signal.SIGTERM)
    assert [event["type"] for event in read(file)] == ["dev.arbiter.run.accepted.v1"] * 2
    refused = command("events", "--archive", "-", "--follow", *here)
    assert (refused.returncode, "needs a file" in refused.stderr) == (2, True)


async def test_what_happens_while_the_past_is_read_is_in_the_file_once(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept"
    before = await board.submit("before")
    select, runs = archive.select, [before]

    async def interrupted(*args: Any) -> AsyncIterator[Any]:
        if len(runs) == 1:
            runs.append(await board.submit("meanwhile"))
        async for event in select(*args):
            yield event

    monkeypatch.setattr(archive, "select", interrupted)
    async with keeping(board, file):
        await until(lambda: len(subjects(file)) >= 2)
        runs.append(await board.submit("after"))
        await until(lambda: runs[-1] in subjects(file))
    assert subjects(file) == runs
