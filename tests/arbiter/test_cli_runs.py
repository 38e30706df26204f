"""Commands about runs and capabilities as processes: what is on standard output, what is not, and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import Running, arbiter, environment, records

from arbiter.cli import main
from blackboard import events
from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.testing import RedisServer
from registry import ExamRecord, Manifest, Registry

CAPABILITIES = '''
import asyncio
from arbiter import capability


@capability
def double(number: int) -> dict[str, int]:
    """Double a number."""
    return {"doubled": 2 * number}


@capability
async def forever() -> str:
    """Never end."""
    await asyncio.Event().wait()
    return "never"


CAPABILITIES = [double, forever]
JUST_ONE = double
'''


@pytest.fixture
def script(tmp_path: Path) -> str:
    turns = [{"tool": "double", "input": {"number": 21}}, "It is {{ results.double.doubled }}."]
    waiting = {"match": "forever", "turns": [{"tool": "forever", "input": {}}, "never"]}
    (tmp_path / "model.json").write_text(json.dumps({"label": "doubling", "scenes": [waiting, {"turns": turns}]}))
    (tmp_path / "abilities.py").write_text(CAPABILITIES)
    return f"scripted:{tmp_path / 'model.json'}"


@pytest.fixture
def on(redis_server: RedisServer, board_name: str) -> list[str]:
    return ["--url", redis_server.url, "--board", board_name]


def test_a_run_shows_the_sources_it_was_given(script: str, on: list[str], tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('trusted = ["person", "model:*"]')
    done = arbiter(
        "run", "double 21", "--model", script, "--capabilities", "abilities", "--source", "mail:inbox",
        "--taint-policy", "policy.toml", "--json", *on, cwd=tmp_path,
    )  # fmt: skip
    [record] = records(done.stdout)
    assert (done.returncode, record["sources"]) == (0, ["mail:inbox", "model:scripted"])
    shown = arbiter("show", record["run_id"], *on).stdout
    assert "Sources: mail:inbox, model:scripted" in shown
    [whole] = records(arbiter("show", record["run_id"], "--json", *on).stdout)
    assert whole["task_list"][0]["sources"] == whole["round_list"][0]["sources"] == ["mail:inbox", "model:scripted"]
    assert "accepted, from mail:inbox" in arbiter("events", "--run", record["run_id"], *on).stdout


def test_a_run_prints_its_answer_and_keeps_progress_apart(script: str, on: list[str], tmp_path: Path) -> None:
    done = arbiter("run", "double 21", "--model", script, "--capabilities", "abilities", *on, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "It is 42.\n")
    assert "not a real model" in done.stderr
    assert "double 1.double succeeded" in done.stderr
    assert "succeeded in" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_quiet_run_as_json_is_one_line_and_nothing_else(script: str, on: list[str], tmp_path: Path) -> None:
    file = f"{tmp_path / 'abilities.py'}:JUST_ONE"
    done = arbiter("run", "double 21", "--model", script, "--capabilities", file, "--quiet", "--json", *on)
    [result] = records(done.stdout)
    assert done.stderr == ""
    assert (result["status"], result["answer"], result["rounds"], result["tasks"]) == ("succeeded", "It is 42.", 2, 1)
    assert result["usage"]["model_calls"] == 2
    assert "doubling" in result["model"]


def test_a_run_that_does_not_succeed_exits_with_1_and_says_why(script: str, on: list[str], tmp_path: Path) -> None:
    file = str(tmp_path / "abilities.py")
    done = arbiter("run", "x", "--model", script, "--capabilities", file, "--limit-rounds", "1", "--json", *on)
    [result] = records(done.stdout)
    assert done.returncode == 1
    assert result["status"] == "failed"
    assert result["answer"] is None
    assert f"run {result['run_id']} failed: limit" in done.stderr
    assert "Traceback" not in done.stderr


def test_waiting_for_a_run_ends_after_the_timeout_and_the_run_stays(
    script: str, on: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "abilities.py")
    done = arbiter("run", "forever", "--model", script, "--capabilities", file, "--timeout", "0.5", "--quiet", *on)
    assert done.returncode == 1
    assert "has not ended after 0.5 s" in done.stderr
    assert "arbiter cancel r" in done.stderr
    assert main(["runs", "--json", *on]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "running"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_that_it_stays_and_its_task_is_free_at_once(
    number: signal.Signals, code: int, script: str, on: list[str], tmp_path: Path, redis_server: RedisServer
) -> None:
    file = str(tmp_path / "abilities.py")
    with Running("run", "forever", "--model", script, "--capabilities", file, *on) as running:
        running.wait_for("capability 1.forever running")
        running.signal(number)
        assert running.end() == code
    assert any("It stays on the board" in line for line in running.said)
    assert not any("Traceback" in line for line in running.said)

    async def claimable() -> list[str]:
        async with await Board.open(redis_server.url, board=on[-1]) as board:
            return [claim.capability for claim in await board.claim("test", ["local.forever"])]

    assert asyncio.run(claimable()) == ["forever"]


async def finished(url: str, board: str) -> str:
    from arbiter import Arbiter, ScriptedModel, capability

    @capability
    def triple(number: int) -> int:
        """Triple a number."""
        return 3 * number

    model = ScriptedModel([{"tool": "triple", "input": {"number": 3}}, "\x1b[31m\x9b1m\u202enine"])
    async with Arbiter(url, model, board=board, roles=("arbiter",), capabilities=[triple]) as served:
        return (await served.run("triple 3")).run_id


@pytest.fixture
def run_id(on: list[str]) -> str:
    return asyncio.run(finished(on[1], on[-1]))


def test_a_stored_run_is_listed_and_shown_for_people_and_for_programs(
    run_id: str, on: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", *on]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["RUN", "STATUS"]
    assert table[1].split()[:2] == [run_id, "succeeded"]
    assert main(["runs", "--json", *on]) == 0
    [row] = records(capsys.readouterr().out)
    assert (row["run_id"], row["status"], row["request"]) == (run_id, "succeeded", "triple 3")

    assert main(["show", run_id, *on]) == 0
    shown = capsys.readouterr().out
    assert "✔ triple" in shown
    assert "succeeded" in shown
    assert main(["show", run_id, "--json", *on]) == 0
    printed = capsys.readouterr().out
    assert not set(printed) & {"\x1b", "\x9b", "\u202e"}, "what controls a terminal, which JSON may hold as it is"
    [whole] = records(printed)
    assert whole["answer"] == "\x1b[31m\x9b1m\u202enine"
    [task] = whole["task_list"]
    assert (task["key"], task["input"], task["completion"]["data"]) == ("triple", {"number": 3}, 9)
    assert [turn["round"] for turn in whole["round_list"]] == [1, 2]


def test_events_are_cloudevents_in_order_and_rebuild_the_run(
    run_id: str, on: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "--run", run_id, "--json", *on]) == 0
    printed = capsys.readouterr().out
    assert not set(printed) & {"\x1b", "\x9b", "\u202e"}
    log = records(printed)
    assert [event["sequence"] for event in log] == sorted(event["sequence"] for event in log)
    assert log[0]["type"] == f"{events.PREFIX}run.accepted{events.SUFFIX}"
    assert log[-1]["type"] == f"{events.PREFIX}run.completed{events.SUFFIX}"
    assert {event["specversion"] for event in log} == {"1.0"}
    assert len({(event["source"], event["id"]) for event in log}) == len(log)
    assert main(["events", *on]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(run_id in line for line in lines)
    assert lines[-1].endswith("run succeeded after 2 rounds")


def test_following_a_board_brings_the_past_once_and_then_what_happens(run_id: str, on: list[str]) -> None:
    past = len(arbiter("events", "--json", *on).stdout.splitlines())
    with Running("events", "--follow", "--json", *on) as following:
        from cli_process import until

        until(lambda: len(following.printed) >= past, "the past")
        new = arbiter("submit", "something new", *on).stdout.strip()
        until(lambda: any(new in line for line in following.printed), "the new run")
        following.signal(signal.SIGINT)
        assert following.end() == 130
    seen = records("\n".join(following.printed))
    assert [event["partitionkey"] for event in seen[:past]] == [run_id] * past
    assert {event["partitionkey"] for event in seen[past:]} == {new}
    assert len({(event["source"], event["id"]) for event in seen}) == len(seen)


@pytest.mark.parametrize("words", [("events", "--json"), ("runs",)])
def test_a_reader_that_has_seen_enough_is_no_error(run_id: str, on: list[str], words: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "arbiter", *words, *on],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({"PYTHONUNBUFFERED": "1"}),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    os.close(process.stdout.fileno())
    said = process.stderr.read()
    assert process.wait(20) == 0
    assert said == b""
    process.stderr.close()


def test_a_cancelled_run_says_so(on: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "nobody takes this", "--json", *on]) == 0
    run = json.loads(capsys.readouterr().out)["run_id"]
    assert main(["cancel", run, "--reason", "not needed", "--json", *on]) == 0
    assert json.loads(capsys.readouterr().out) == {"run_id": run, "status": "cancelled"}
    assert main(["show", run, *on]) == 0
    assert "not needed" in capsys.readouterr().out


SOURCE = "def handler(number):\n    return {'half': number / 2}  # \x1b[2Jtidy\n"


async def halved(url: str, board: str) -> None:
    async with await Board.open(url, board=board) as opened:
        registry = Registry(opened.catalog, opened.outcomes)
        schema = {"type": "object", "properties": {"number": {"type": "number"}}, "required": ["number"]}
        exam = ExamRecord(public_cases=3, sealed_cases=2, passed=True, examiner="scripted", when=1.7e9)
        for words in ("Halve a number.", "Halve any number."):
            manifest = Manifest(name="halve", description=words, input_schema=schema)
            await registry.register(manifest, source=SOURCE, exam=exam)


def test_a_capability_is_listed_and_shown_with_manifest_versions_exam_and_code(
    on: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(halved(on[1], on[-1]))
    assert main(["capabilities", *on]) == 0
    assert "Halve any number." in capsys.readouterr().out
    assert main(["capabilities", "--json", *on]) == 0
    [row] = records(capsys.readouterr().out)
    assert (row["name"], row["kind"], row["examined"], row["state"]) == ("halve", "artifact", True, "active")

    assert main(["capabilities", *on, "show", "halve"]) == 0
    shown = capsys.readouterr().out
    for part in ("Halve any number.", '"required"', "retired", "active", "passed (3 public, 2 sealed)", "number / 2"):
        assert part in shown
    assert "\x1b" not in shown
    assert main(["capabilities", "show", "halve", "--json", *on]) == 0
    [whole] = records(capsys.readouterr().out)
    assert whole["source"] == SOURCE
    assert [version["state"] for version in whole["versions"]] == ["retired", "active"]
    assert whole["exam"]["sealed_cases"] == 2
    old = whole["versions"][0]["sha"]
    assert main(["capabilities", "show", "halve", "--sha", old[:10], "--json", *on]) == 0
    assert json.loads(capsys.readouterr().out)["description"] == "Halve a number."
    assert main(["capabilities", *on, "retire", "halve"]) == 0
    assert main(["capabilities", *on, "show", "halve"]) == 0
    assert f"retired by {somebody()}" in capsys.readouterr().out


def test_the_version_and_the_help_come_without_loading_anything_heavy() -> None:
    code = "import sys; from arbiter.cli import main\ntry:\n    main(['--version'])\nfinally:\n    print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("arbiter 0.")
    for heavy in ("'strands'", "'boto3'", "'redis'", "'pydantic'"):
        assert heavy not in done.stdout


def test_why_tells_what_the_matcher_decided_and_search_what_it_would(
    script: str, on: list[str], tmp_path: Path
) -> None:
    file = str(tmp_path / "abilities.py")
    done = arbiter("run", "double 21", "--model", script, "--capabilities", file, "--quiet", "--json", *on)
    [result] = records(done.stdout)
    [told] = records(arbiter("why", result["run_id"], "--json", *on).stdout)
    assert (told["round"], told["followed"], told["need"]) == (1, "double", "double 21")
    assert told["candidates"][0]["name"] == "double"
    said = arbiter("why", result["run_id"], *on).stdout
    assert "Round 1, followed by double" in said
    assert "expected costs" in said
    foreign = arbiter("run", "удвоить 21", "--model", script, "--capabilities", file, "--quiet", "--json", *on)
    [result] = records(foreign.stdout)
    assert "most of it cannot be compared" in arbiter("why", result["run_id"], *on).stdout
    found = arbiter("capabilities", "search", "doubling of a number", *on)
    assert "double" in found.stdout
    assert "number " in found.stdout
    assert "the matcher would" in found.stderr
    foreign = arbiter("capabilities", "search", "удвоить число", *on).stderr
    assert "the matcher would ask (p 0.50): most of it cannot be compared" in foreign
    [searched] = records(arbiter("capabilities", "search", "doubling of a number", "--json", *on).stdout)
    assert [each["name"] for each in searched["found"]] == ["double"]
    assert searched["decision"]["outcome"] in ("use", "ask")
