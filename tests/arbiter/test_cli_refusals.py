"""What cannot be done as asked is told in one line, with the remedy, and a stable exit code; never with a traceback."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import arbiter

from arbiter.cli import main, output
from blackboard.board import Board
from blackboard.testing import RedisServer


@pytest.fixture
def script(tmp_path: Path) -> str:
    file = tmp_path / "model.json"
    file.write_text(json.dumps({"scenes": [{"turns": ["hello"]}]}))
    return f"scripted:{file}"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_server: RedisServer) -> None:
    """No credentials, no model and no board from outside; nothing in the home directory."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "ARBITER_MODEL", "ARBITER_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARBITER_REDIS_URL", redis_server.url)
    monkeypatch.setenv("ARBITER_DATA_DIR", str(tmp_path / "data"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line a refused command says."""
    code = main(words)
    told = capsys.readouterr()
    assert told.out == ""
    lines = [line for line in told.err.splitlines() if line]
    assert len(lines) == 1, told.err
    assert lines[0].startswith("error: ")
    assert code == 2
    return lines[0]


@pytest.mark.parametrize(
    ("words", "field", "remedy"),
    [
        (["run", "hi", "--model", "gpt-4o"], "'gpt-4o'", "Did you mean openai:gpt-4o"),
        (["run", "hi", "--model", "scripted:/nowhere.json"], "/nowhere.json", "Name an existing file"),
        (["run", "hi", "--model", "anthropic:claude"], "anthropic", "pip install|ANTHROPIC_API_KEY"),
        (["run", "hi", "--model", "openai:gpt-4o"], "openai", "pip install|OPENAI_API_KEY"),
        (["run", "", "--model", "SCRIPT"], "request: ''", "Say what is to be done"),
        (["run", " \n ", "--model", "SCRIPT"], "request", "Say what is to be done"),
        (["submit", ""], "request: ''", "Say what is to be done"),
        (["submit", "{}"], "request", "Say what is to be done"),
        (["submit", '{"a": 1,}'], "request", "It is not strict JSON"),
        (["submit", '{"a": 1, "a": 2}'], "request", 'the key "a" stands twice'),
        (["call", "price", '{"of": {"a": 1, "a": 2}}'], "request", 'the key "a" stands twice in $.of'),
        (["entries", "post", "notes", '{"a": 1, "a": 2}'], "content", 'the key "a" stands twice'),
        (["serve", "--approval-policy", "TWICE"], "approval", 'the key "effects" stands twice'),
        (["serve", "--peers", "TWICE"], "peers", 'the key "effects" stands twice'),
        (["submit", "@TWICE"], "request", 'the key "effects" stands twice'),
        (["replay", "TWICE", "--to", "-", "--pattern", "@TWICE"], "pattern", 'the key "effects" stands twice'),
        (["eval", "matching", "tests", "--calibration", "TWICE"], "calibration", 'the key "effects" stands twice'),
        (["submit", "@/nowhere.json"], "@/nowhere.json", "Name an existing file"),
        (["submit", "x" * ((64 << 20) + 1)], "request", "bytes"),
        (["submit", '{"specversion": "1.0", "id": "1", "type": "t"}'], "request.source", "CloudEvents requires"),
        (["submit", '{"specversion": "0.3"}'], "request.specversion", "1.0"),
        (["submit", "hi", "--tenant", "Big Co"], "tenant: 'Big Co'", "lower-case"),
        (["submit", "hi", "--limit-rounds", "0"], "--limit-rounds: '0'", "Give 1 or more"),
        (["submit", "hi", "--limit-seconds", "soon"], "--limit-seconds: 'soon'", "number"),
        (["quotas", "set", "board", "--weight", "2"], "--weight: '2'", "Only tenants have a weight"),
        (["quotas", "set", "board", "--at-once", "0"], "--at-once: '0'", "Give 1 or more"),
        (["quotas", "set", "somebody", "--at-once", "1"], "subject: 'somebody'", "tenant:"),
        (["quotas", "set", "capability:*", "--at-once", "1"], "subject: 'capability:*'", "name one"),
        (["budgets", "set", "run:*", "--tokens", "10"], "level: 'run:*'", "Limits(tokens="),
        (["budgets", "set", "board", "--money", "-1.5"], "--money: '-1.5'", "Give 0 or more"),
        (["submit", "hi", "--board", "A B"], "board: 'A B'", "lower-case"),
        (["submit", "hi", "--url", "http://localhost:6379"], "url", "redis://"),
        (["submit", "hi", "--url", "redis//localhost"], "url", "redis://"),
        (["show", "nothing"], "no run nothing", "arbiter runs"),
        (["show", ""], "no run", "arbiter runs"),
        (["events", "--run", "nothing"], "no run nothing", "arbiter runs"),
        (["cancel", "nothing"], "no run nothing", "arbiter runs"),
        (["capabilities", "show", "nothing"], "nothing", "no capability"),
        (["serve", "--roles", "arbiter,chef"], "'chef'", "arbiter, fabricator, wrapper"),
        (["serve", "--roles", ","], "--roles", "arbiter, fabricator, wrapper"),
        (["serve", "--taint-policy", "/nowhere.json"], "taint: '/nowhere.json'", "cannot be read"),
        (["serve", "--fabrication", "/nowhere.json"], "fabrication: '/nowhere.json'", "cannot be read"),
        (["serve", "--instructions", "/nowhere.txt"], "--instructions: '/nowhere.txt'", "Name an existing file"),
        (["run", "hi", "--model", "SCRIPT", "--instructions", "EMPTY"], "instructions: ''", "Give a text"),
        (["submit", "hi", "--source", "two words"], "sources: 'two words'", "mail:inbox"),
        (["serve", "--capabilities", "no_such_module"], "no_such_module", "cannot be imported"),
        (["serve", "--capabilities", "/nowhere.py"], "/nowhere.py", "No such file"),
        (["serve", "--capabilities", "json:loads"], "json:loads", "arbiter.capability"),
        (["serve", "--capabilities", "json"], "json", "Nothing in it is decorated"),
        (["serve", "--capabilities", "json:price"], "json has no price", "Nothing in it is decorated"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_refusal_names_the_value_and_the_remedy(
    words: list[str], field: str, remedy: str, script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = tmp_path / "twice.json"
    twice.write_text('{"effects": ["irreversible"], "effects": []}')
    (tmp_path / "empty.txt").touch()
    given = {"EMPTY": str(tmp_path / "empty.txt"), "SCRIPT": script, "TWICE": str(twice), "@TWICE": f"@{twice}"}
    line = refused(capsys, *[given.get(word, word) for word in words])
    assert field in line
    assert any(part in line for part in remedy.split("|")), line


def test_an_unreachable_server_is_told_in_one_line_within_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "runs", "--url", "redis://:secret@127.0.0.1:1/0")
    assert "No Redis answered at redis://" in line
    assert "127.0.0.1:1" in line
    assert "secret" not in line


def test_a_refused_submission_writes_nothing(
    redis_server: RedisServer, board_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "submit", "", "--board", board_name)
    refused(capsys, "submit", '{"specversion": "1.0"}', "--board", board_name)

    async def listed() -> int:
        async with await Board.open(redis_server.url, board=board_name) as board:
            return len(await board.runs())

    assert asyncio.run(listed()) == 0


def test_another_request_under_the_same_key_is_a_conflict(board_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "one", "--key", "k", "--board", board_name]) == 0
    first = capsys.readouterr().out
    assert main(["submit", "one", "--key", "k", "--board", board_name]) == 0
    assert capsys.readouterr().out == first
    refused(capsys, "submit", "two", "--key", "k", "--board", board_name)


def test_an_ambiguous_beginning_of_an_id_is_refused_and_an_unambiguous_one_taken(
    board_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = []
    for text in ("one", "two"):
        assert main(["submit", text, "--board", board_name]) == 0
        ids.append(capsys.readouterr().out.strip())
    assert "write more of the id" in refused(capsys, "show", "r", "--board", board_name)
    assert main(["show", ids[1][:-1], "--json", "--board", board_name]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == ids[1]


def test_requests_come_from_words_files_and_standard_input(
    tmp_path: Path, board_name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order, note = tmp_path / "order.json", tmp_path / "note.txt"
    order.write_text('{"items": ["fries"]}')
    note.write_text("make fries")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"from": "stdin"}'))
    seen = []
    for word in ("plain words", '{"a": 1}', f"@{order}", f"@{note}", "-"):
        assert main(["submit", word, "--board", board_name, "--limit-rounds", "7"]) == 0
        run = capsys.readouterr().out.strip()
        assert main(["show", run, "--json", "--board", board_name]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["limits"]["rounds"] == 7
        seen.append(shown["request"])
    assert seen == ["plain words", {"a": 1}, {"items": ["fries"]}, "make fries", {"from": "stdin"}]


def test_a_capability_file_that_fails_is_told_with_its_own_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    assert "ZeroDivisionError: division by zero" in refused(capsys, "serve", "--capabilities", str(file))


def test_a_defect_is_one_line_too_and_its_traceback_comes_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("something nobody thought of")

    monkeypatch.setattr(Board, "open", broken)
    assert main(["runs"]) == 70
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "RuntimeError: something nobody thought of" in told
    monkeypatch.setenv("ARBITER_DEBUG", "1")
    assert main(["runs"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_command_that_does_not_exist_is_a_usage_error() -> None:
    done = arbiter("dance")
    assert done.returncode == 2
    assert "there is no command 'dance'" in done.stderr
    assert "Traceback" not in done.stderr


def test_lines_that_a_record_of_the_log_quotes_cannot_pass_for_records(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    output.log_to_stderr(logging.INFO)
    logging.getLogger("arbiter").warning("%s", "it failed\n12:00:00 INFO arbiter: approved\x1b[2J\x9b1m")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("WARNING arbiter: it failed")
    assert second == "  12:00:00 INFO arbiter: approved\ufffd[2J\ufffd1m"


@pytest.mark.parametrize(
    ("into", "code", "said"),
    [("> /dev/full", 2, "error: could not write all of it: No space left on device\n"), (">&-", 0, "")],
)
def test_an_output_that_takes_nothing_is_told_in_a_line_and_one_that_is_closed_is_nobodys(
    into: str, code: int, said: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m arbiter submit hi {into}'],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (code, said)
