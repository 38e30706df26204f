"""The log of a daemon as JSON: one line to a record, with what the record is about, and without secrets."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from typing import Any

import pytest
from arbiter_support import arbiter as served
from cli_process import Running, arbiter

from arbiter import Call, capability
from arbiter.cli import main, output
from arbiter.cli.json_log import JsonLines
from blackboard import redaction
from blackboard.errors import BadInput
from blackboard.testing import RedisServer

log = logging.getLogger("arbiter.forged")
FORGED = 'a\n{"level": "INFO", "message": "forged"}\r\n\u2028\x85\x1b[31mred'


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said = capsys.readouterr().err
    assert said.isascii()
    assert not said or said.endswith("\n")
    return [json.loads(line) for line in said.splitlines()]


def test_a_record_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    output.log_to_stderr(logging.INFO, "json")
    log.warning("it said %s", FORGED)
    output.note("two\nlines")
    try:
        raise ValueError(FORGED)
    except ValueError:
        log.exception("failed")
    first, note, failed = lines(capsys)
    assert first["message"] == f"it said {FORGED}"
    assert (first["level"], first["logger"], first["time"][-6:]) == ("WARNING", "arbiter.forged", "+00:00")
    assert (note["level"], note["message"]) == ("INFO", "two\nlines")
    assert failed["exception"].startswith("Traceback")
    assert FORGED in failed["exception"]
    assert "run" not in first


def test_arguments_that_do_not_fit_make_a_line_all_the_same() -> None:
    record = logging.LogRecord("arbiter", logging.INFO, "here.py", 1, "%d of %d", (1,), None)
    assert json.loads(JsonLines().format(record))["message"] == "%d of %d (1,)"


def test_half_a_character_makes_a_line_all_the_same() -> None:
    record = logging.LogRecord("arbiter", logging.INFO, "here.py", 1, "red\udc00", (), None)
    assert JsonLines().format(record).isascii()


def test_secrets_are_taken_out_of_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    redaction.remember("key", 'sesame"open')
    output.log_to_stderr(logging.INFO, "json")
    try:
        raise ValueError('with sesame"open')
    except ValueError:
        log.exception("the key is %s", 'sesame"open')
    (line,) = lines(capsys)
    assert line["message"] == "the key is [secret:key]"
    assert "ValueError: with [secret:key]" in line["exception"]
    assert "sesame" not in json.dumps(line)


async def test_what_is_said_about_an_attempt_says_which(
    redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    @capability
    async def tells(word: str) -> str:
        """Say a word, here and in a thread."""
        log.info("%s", word)
        return word

    @capability
    def tells_in_a_thread(word: str) -> str:
        """Say a word."""
        log.info("%s", word)
        return word

    output.log_to_stderr(logging.INFO, "json")
    async with served(redis_server.url, ["unused"], capabilities=(tells, tells_in_a_thread)) as (a, _):
        first = await a.run(Call("tells", {"word": "here"}), tenant="acme")
        second = await a.run(Call("tells_in_a_thread", {"word": "there"}))
    said = {line["message"]: line for line in lines(capsys)}
    for result, word, name, tenant in (
        (first, "here", "tells", "acme"), (second, "there", "tells_in_a_thread", "default"),
    ):  # fmt: skip
        about = {
            "run": result.run_id,
            "task": f"{result.run_id}/0.call",
            "attempt": 1,
            "tenant": tenant,
            "capability": name,
        }
        assert {each: said[word].get(each) for each in about} == about


def test_a_daemon_writes_nothing_but_records(tmp_path: Path, redis_server: RedisServer, board_name: str) -> None:
    on = ["--url", redis_server.url, "--board", board_name]
    env = {"ARBITER_DATA_DIR": str(tmp_path / "data"), "ARBITER_LOG_FORMAT": "json"}
    with Running("worker", "--grace", "1", *on, env=env) as process:
        process.wait_for("ready")
        process.signal(signal.SIGTERM)
        assert process.end() == 0
    said = [json.loads(line) for line in process.said]
    assert said[0]["message"].startswith("serving board")
    assert said[-1]["message"] == "drained"
    refused = arbiter("worker", "--isolation", "none", *on, env=env)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert (json.loads(line)["level"], json.loads(line)["message"][:17]) == ("ERROR", "error: isolation:")


def test_the_option_comes_before_the_environment_and_text_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARBITER_LOG_FORMAT", raising=False)
    assert output.log_format(None) == "text"
    monkeypatch.setenv("ARBITER_LOG_FORMAT", "json")
    assert (output.log_format(None), output.log_format("text")) == ("json", "text")
    monkeypatch.setenv("ARBITER_LOG_FORMAT", "xml")
    with pytest.raises(BadInput, match="ARBITER_LOG_FORMAT: 'xml' was refused"):
        output.log_format(None)
    assert main(["worker", "--url", "memory://"]) == 2
