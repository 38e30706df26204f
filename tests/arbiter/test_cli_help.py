"""The command line explains itself: what there is, how it is used, and what was meant by a word it does not know."""

from __future__ import annotations

import re
import shlex
import uuid

import pytest

from arbiter.cli import main
from arbiter.cli.examples import EXAMPLES
from arbiter.cli.parser import build, parse
from blackboard.testing import RedisServer


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a line that is refused says on standard error."""
    with pytest.raises(SystemExit) as ended:
        parse(words)
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    return told.err


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_examples_of_a_command_can_be_said(command: str) -> None:
    for line in EXAMPLES[command]:
        words = shlex.split(line.partition("   (")[0])
        assert line.startswith(command)
        assert parse(words[1:]).command


def test_the_help_of_a_command_ends_with_its_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["dead", "redrive", "--help"])
    assert capsys.readouterr().out.rstrip().endswith(EXAMPLES["arbiter dead redrive"][-1])


def test_every_command_is_listed_once_under_a_title() -> None:
    parser = build()
    text = parser.format_help()
    listed = [line.split()[0] for line in text.partition("begin here:")[2].partition("options:")[0].splitlines()
              if line.startswith("  ")]  # fmt: skip
    assert len(listed) == len(set(listed))
    for name in listed:
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([name, "--help"])
        assert ended.value.code == 0
    assert {command.split()[1] for command in EXAMPLES} <= set(listed)


@pytest.mark.parametrize("words", [[], ["schedule"], ["dead"], ["entries"], ["agenda"], ["standing"], ["eval"]])
def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert re.search(r"--help +show this help", said(capsys, *words))


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["rnus"], "there is no command 'rnus' (did you mean runs?). See: arbiter --help"),
        (["dead", "redriv"], "there is no command 'redriv' (did you mean redrive?). See: arbiter dead --help"),
        (["dead", "xyzzy"], "there are discard, list, redrive, show. See: arbiter dead --help"),
        (["runs", "--bord", "x"], "--bord (did you mean --board?), x. See: arbiter runs --help"),
        (["budgets", "set", "board", "--token=3"], "(did you mean --tokens?). See: arbiter budgets set --help"),
        (["events", "--rum", "x"], "does not know: --rum"),
        (["show"], "the following arguments are required: RUN. See: arbiter show --help"),
    ],
)
def test_a_wrong_line_is_answered_in_one(capsys: pytest.CaptureFixture[str], words: list[str], meant: str) -> None:
    (line,) = said(capsys, *words).splitlines()
    assert line.startswith("error: ")
    assert meant in line


def test_the_run_whose_events_are_meant_can_be_named_either_way() -> None:
    assert parse(["events", "r1", "--json"]).run == parse(["events", "--run", "r1"]).run == "r1"
    assert parse(["events"]).run is None


def test_a_listing_keeps_the_order_in_which_commands_were_added() -> None:
    parser = build()
    at = [parser.format_help().index(f"\n  {name} ") for name in ("demo", "run", "serve", "runs", "dead", "prune")]
    assert at == sorted(at)


def test_the_next_time_of_a_schedule_is_that_of_its_own_zone(
    capsys: pytest.CaptureFixture[str], redis_server: RedisServer
) -> None:
    on = ("--url", redis_server.url, "--board", f"t{uuid.uuid4().hex[:12]}")
    for zone in ("Asia/Tokyo", "America/New_York"):
        name = zone.rpartition("/")[2].lower()
        assert main(["schedule", "add", name, "Count.", "--cron", "0 2 * * *", "--timezone", zone, *on]) == 0
        assert capsys.readouterr().out.rstrip().endswith(f" 02:00:00 {zone}")
        assert main(["schedule", "show", name, *on]) == 0
        assert " 02:00:00\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        *(["subscriptions"], ["budgets"], ["quotas"], ["tokens"], ["keys"], ["peers"]),
        *(["capabilities", "--all", "--tenant", "acme"], ["permits", "--all"], ["approvals", "--run", "r1"]),
    ],
)
def test_what_lists_without_a_word_lists_with_it_too(words: list[str]) -> None:
    bare = vars(parse([*words, "--json", "--board", "b"]))
    for named in ([*words, "--json", "--board", "b", "list"], [words[0], "list", *words[1:], "--json", "--board", "b"]):
        assert {**vars(parse(named)), "parser": None} == {**bare, "parser": None}
