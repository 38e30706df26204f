"""Runs and events as files: a run taken to another board and back, damage noticed, events filtered and read again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import arbiter as served
from arbiter_support import call
from cli_process import arbiter as command
from cli_process import records

from arbiter import Arbiter, Manifest
from arbiter.archive import Filter, read, replay, select
from arbiter.run_files import export_run, import_run
from blackboard import events
from blackboard.board import Board
from blackboard.errors import BadInput, Conflict, ScriptRefused, UnknownRecord
from blackboard.retention import Retention, prune
from blackboard.testing import RedisServer
from blackboard.types import Status
from registry import Registry

SOURCE = 'def handler(text):\n    return {"n": len(text)}\n'


@dataclass
class Made:
    """Two finished runs and one that goes on."""

    a: Arbiter
    run: str
    other: str
    waiting: str

    @property
    def board(self) -> Board:
        return self.a.board


@pytest.fixture
async def made(redis_server: RedisServer) -> AsyncIterator[Made]:
    turns = [[call("echo", text='a\u2028b ✓ "q"'), call("broken", reason="on purpose")], "done", "short"]
    async with served(redis_server.url, turns) as (a, _):
        odd = {"t": "x\0y \U0001f600", "n": 12345678901234567890, "e": [], "o": {}, "f": 1e-9}
        run = (await a.run(odd, tenant="acme", limits=None)).run_id
        other = (await a.run("something short")).run_id
    async with Arbiter(redis_server.url, roles=(), board=a._options["board"]) as client:  # pyright: ignore[reportPrivateUsage]
        waiting = await client.submit("not yet")
        yield Made(client, run, other, waiting)


@pytest.fixture
async def elsewhere(board: Board) -> Board:
    """An empty board, on each engine."""
    return board


async def written(board: Board, run: str, path: Path) -> Path:
    text = "".join([line async for line in export_run(board, run)])
    return saved(path, text)


def saved(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


async def test_an_exported_run_is_the_same_history_on_another_board(
    made: Made, elsewhere: Board, tmp_path: Path
) -> None:
    file = await written(made.board, made.run, tmp_path / "run")
    summary = await import_run(elsewhere, file)
    assert summary == await made.board.summary(made.run)
    assert await elsewhere.runs() == [summary]

    def told(log: list[events.Event]) -> list[dict[str, Any]]:
        return [event.model_dump(exclude={"source"}) for event in log]

    assert told(await elsewhere.history(made.run)) == told(await made.board.history(made.run))
    again = await written(elsewhere, made.run, tmp_path / "again")
    events_of = [line for line in file.read_text("utf-8").splitlines() if line.startswith('{"event"')]
    assert events_of == [line for line in again.read_text("utf-8").splitlines() if line.startswith('{"event"')]
    assert [event.type async for event in elsewhere.watch(made.run)][-1] == "dev.arbiter.run.completed.v1"


async def test_an_imported_run_is_never_executed_or_changed(made: Made, elsewhere: Board, tmp_path: Path) -> None:
    await import_run(elsewhere, await written(made.board, made.run, tmp_path / "run"))
    assert await elsewhere.claim("w", ["arbiter", "generic", "local.echo", "local.broken"], n=10) == []
    assert await elsewhere.cancel_run(made.run) == "succeeded"
    await elsewhere.sweep()
    assert (await elsewhere.history(made.run))[-1].kind == "run.completed"


async def test_a_run_that_is_there_is_left_alone(made: Made, elsewhere: Board, tmp_path: Path) -> None:
    file = await written(made.board, made.run, tmp_path / "run")
    with pytest.raises(Conflict, match="already"):
        await import_run(made.board, file)
    await import_run(elsewhere, file)
    before = await elsewhere.history(made.run)
    with pytest.raises(Conflict):
        await import_run(elsewhere, file)
    assert await elsewhere.history(made.run) == before


async def test_a_call_whose_reply_was_lost_is_one_import(
    made: Made, elsewhere: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await written(made.board, made.run, tmp_path / "run")
    real, lost = elsewhere.client.eval, []

    async def eval_(*args: Any) -> Any:
        reply = await real(*args)
        if not lost:
            lost.append(reply)
            raise ConnectionResetError from None
        return reply

    import redis

    async def failing(*args: Any) -> Any:
        try:
            return await eval_(*args)
        except ConnectionResetError as error:
            raise redis.ConnectionError("lost") from error

    monkeypatch.setattr(elsewhere.client, "evalsha", failing)
    monkeypatch.setattr(elsewhere.client, "eval", failing)
    from blackboard import _script

    script = _script.load("import_run")
    monkeypatch.setattr(script, "sha", script.text)  # EVAL takes the text where EVALSHA takes the hash
    assert (await import_run(elsewhere, file)).id == made.run
    assert lost == [1]


async def test_only_a_run_that_is_over_is_exported(made: Made) -> None:
    with pytest.raises(BadInput, match="Wait for its end"):
        [line async for line in export_run(made.board, made.waiting)]
    with pytest.raises(UnknownRecord):
        [line async for line in export_run(made.board, "r404")]


async def test_versions_that_were_used_go_with_the_run_and_are_checked(
    made: Made, elsewhere: Board, tmp_path: Path
) -> None:
    manifest = Manifest(name="length", description="Count.", input_schema={"type": "object"}, action="generic")
    version = await Registry(made.board.catalog).register(manifest, source=SOURCE)
    from blackboard.events import RoundPlannedData, RunCompletedData
    from blackboard.types import Limits, TaskSpec

    [step] = await made.board.claim("w", ["arbiter"])
    task = TaskSpec(key="l", tool_use_id="t", capability="length", version=version.sha, lane="generic")
    await made.board.commit_step(step, RoundPlannedData(round=1, message={"role": "assistant"}), [task], Limits())
    [work] = await made.board.claim("w", ["generic"])
    await made.board.complete(work, work.completion(Status.SUCCEEDED, 1))
    [step] = await made.board.claim("w", ["arbiter"])
    over = RunCompletedData(status="succeeded", answer="1", rounds=2)
    await made.board.commit_step(step, RoundPlannedData(round=2, message={"role": "assistant"}), [], Limits(), over)

    file = await written(made.board, made.waiting, tmp_path / "run")
    [carried] = [one["version"] for one in records(file.read_text("utf-8")) if "version" in one]
    assert (carried["name"], carried["sha"], carried["source"]) == ("length", version.sha, SOURCE)
    with pytest.raises(BadInput, match="not what its hash says"):
        await import_run(elsewhere, forged(file, "len(text)", "exec(text)"))
    await import_run(elsewhere, file)
    assert await Registry(elsewhere.catalog).names() == [], "an import registers nothing"


def forged(file: Path, old: str, new: str) -> Path:
    """The file with something changed and the last line made to fit, as an attacker would."""
    *lines, _ = file.read_text("utf-8").splitlines(keepends=True)
    body = "".join(lines)
    assert old in body
    body = body.replace(old, new)
    end = {"lines": body.count("\n"), "sha256": hashlib.sha256(body.encode()).hexdigest()}
    made = file.with_suffix(".forged")
    made.write_text(body + json.dumps({"end": end}) + "\n", encoding="utf-8")
    return made


async def test_a_damaged_file_is_refused_and_nothing_is_written(made: Made, elsewhere: Board, tmp_path: Path) -> None:
    file = await written(made.board, made.run, tmp_path / "run")
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    bad = {
        "empty": b"", "text": b"hello\n", "list": b"[]\n[]\n", "half": whole[: len(whole) // 2],
        "without its end": b"".join(lines[:-1]), "one event less": b"".join(lines[:2] + lines[3:]),
        "one letter": whole.replace(b"on purpose", b"on_purpose", 1),
        "another format": whole.replace(b'"format":1', b'"format":3', 1),
    }  # fmt: skip
    for what, content in bad.items():
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(BadInput):
            await import_run(elsewhere, tmp_path / "bad")
        assert await elsewhere.runs() == [], what
    with pytest.raises(BadInput, match="cannot be read"):
        await import_run(elsewhere, tmp_path / "none")
    for old, new in (
        (made.run, "r1/../../x"), ("run.completed", "run.finished"), ('\\"status\\": \\"succeeded\\"', "x"),
        ("run.accepted", "run.begun"), (f'"subject":"{made.run}/s1"', '"subject":"r2/s1"'),
    ):  # fmt: skip
        if old not in file.read_text("utf-8"):
            continue
        with pytest.raises((BadInput, ScriptRefused)):
            await import_run(elsewhere, forged(file, old, new))
        assert await elsewhere.runs() == [], new


async def test_an_imported_run_is_kept_from_its_import_on(made: Made, elsewhere: Board, tmp_path: Path) -> None:
    await import_run(elsewhere, await written(made.board, made.run, tmp_path / "run"))
    [seconds, _] = await elsewhere.client.time()
    ended = (await elsewhere.summary(made.run)).ended_at
    assert ended is not None
    policy = Retention(ages=dict.fromkeys(Status, 3600.0))
    assert (await prune(elsewhere, policy, now=seconds + 3000)).runs == 0
    assert (await prune(elsewhere, policy, now=seconds + 3700)).runs == 1
    assert await elsewhere.history(made.run) == []


async def test_events_are_selected_by_type_subject_and_time_and_read_again(made: Made, tmp_path: Path) -> None:
    everything = [event async for event in select(made.board, Filter())]
    logs = [await made.board.history(run) for run in (made.run, made.other, made.waiting)]
    assert everything == [event for log in logs for event in log]

    async def kinds(**wanted: Any) -> list[str]:
        return [f"{event.kind} {event.subject}" async for event in select(made.board, Filter(**wanted))]

    assert await kinds(type="run.completed") == [f"run.completed {made.run}", f"run.completed {made.other}"]
    assert await kinds(type="dev.arbiter.run.comp*", subject=made.other) == [f"run.completed {made.other}"]
    assert {line.split()[0] for line in await kinds(type="task.*")} == {"task.posted", "task.completed"}
    second = (await made.board.summary(made.other)).created_at
    late = [event async for event in select(made.board, Filter(since=second))]
    assert late == [event for event in everything if event.time.timestamp() >= second]
    assert [event async for event in select(made.board, Filter(until=second))] == [
        e for e in everything if e not in late
    ]

    file = tmp_path / "archive"
    file.write_text("".join(event.model_dump_json() + "\n" for event in everything), encoding="utf-8")
    assert list(replay(file)) == everything
    assert [event.kind for event in replay(file, Filter("run.accepted"))] == ["run.accepted"] * 3
    assert all(type(event) is not events.Event for event in replay(file))
    whole = file.read_text("utf-8")
    file.write_text(whole + whole.splitlines()[0][:-1] + ',"type":"other"}\n', encoding="utf-8")
    for reading in (replay, read):
        with pytest.raises(BadInput, match=rf'archive:{len(everything) + 1}.*the key "type" stands twice'):
            list(reading(file))
    file.write_text(whole + "{}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=rf"archive:{len(everything) + 1}"):
        list(replay(file))


async def test_a_run_from_before_the_range_still_gives_its_events_in_it(made: Made) -> None:
    [first, *_, last] = await made.board.history(made.run)
    found = [event async for event in select(made.board, Filter(since=last.time.timestamp(), subject=f"{made.run}*"))]
    assert found[-1] == last
    assert first not in found


async def test_the_commands_write_files_and_put_them_back(
    made: Made, redis_server: RedisServer, tmp_path: Path
) -> None:
    here = ["--url", redis_server.url, "--board", made.board.name]
    there = ["--url", redis_server.url, "--board", f"{made.board.name}b"]
    file = str(tmp_path / "run.jsonl")
    done = command("export", made.run, file, *here)
    assert (done.returncode, done.stdout) == (0, "")
    assert os.listdir(tmp_path) == ["run.jsonl"]
    refused = command("export", made.run, file, *here)
    assert (refused.returncode, "there already" in refused.stderr) == (2, True)
    assert command("import", file, *there).stdout == f"{made.run}\n"
    assert command("import", file, *there).returncode == 2
    shown = json.loads(command("show", made.run, "--json", *there).stdout)
    source = json.loads(command("show", made.run, "--json", *here).stdout)
    assert shown == source
    kept = command("events", "--archive", "-", "--type", "run.*", "--since", "1h", *here)
    assert {one["type"] for one in records(kept.stdout)} == {
        "dev.arbiter.run.accepted.v1",
        "dev.arbiter.run.completed.v1",
    }
    assert command("events", "--archive", str(tmp_path / "e"), "--run", made.run, *here).returncode == 2
    assert not (tmp_path / "e").exists()
