"""Options that several commands share, and what their values have to be."""

from __future__ import annotations

import argparse
from typing import Protocol

from arbiter.cli.examples import epilog
from arbiter.cli.mistakes import Parser

MODEL = "bedrock:ID, anthropic:ID, openai:ID, ollama:ID[@host], scripted:FILE, recorded:FILE or none"
WHERE = "terms such as: status=failed,timed_out tenant=acme since=1h until=2026-01-31 text~invoice rounds>3 tasks>=10 seconds>60"
LETTERS = (
    "terms such as: capability=price type=lease_lost,timeout status=failed tenant=acme kind=call run=ID since=1h "
    "until=2026-01-31 redriven=no"
)
OF_RUNS = (
    ("rounds", "decisions of the model"),
    ("tasks", "tasks"),
    ("fabrications", "fabricated capabilities"),
    ("tokens", "model tokens"),
    ("money", "units of the currency of the price table"),
    ("seconds", "seconds from acceptance to the answer"),
    ("round-seconds", "seconds of a round before the model is asked though tasks are still at work; default: no bound"),
)
"""Limits of a run, with what each counts."""
RECORDS = "terms such as: kind=token.*,run.cancelled by~ann subject~r01 since=1d until=2026-01-31"
CAPABILITIES = (
    "functions to offer: path.py or module, with :NAME for one or a list of them (default: CAPABILITIES, else all that "
    "are there); may be repeated"
)


class Commands(Protocol):
    """Where commands are added."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,
        description: str,
        formatter_class: type[argparse.HelpFormatter],
        allow_abbrev: bool,
    ) -> Parser: ...


class Listing:
    """Commands that are listed in groups, which argparse does not know: adds them, and keeps what the help has to say."""

    def __init__(self, commands: argparse._SubParsersAction[Parser]) -> None:  # pyright: ignore[reportPrivateUsage]
        self._commands = commands
        self._groups: list[tuple[str, list[tuple[str, str]]]] = []

    def group(self, title: str) -> None:
        """What is added from here on stands under this title."""
        self._groups.append((title, []))

    def add_parser(
        self,
        name: str,
        *,
        help: str,
        description: str,
        formatter_class: type[argparse.HelpFormatter],
        allow_abbrev: bool,
    ) -> Parser:
        self._groups[-1][1].append((name, help))
        return self._commands.add_parser(
            name, description=description, formatter_class=formatter_class, allow_abbrev=allow_abbrev
        )

    def __str__(self) -> str:
        parts = [
            f"{title}:\n" + "\n".join(f"  {name:<15}{does}" for name, does in listed) for title, listed in self._groups
        ]
        return "\n\n".join(parts)


def command(commands: Commands, name: str, command: str, does: str, text: str | None = None) -> Parser:
    parser = commands.add_parser(
        name, help=does, description=text or does[0].upper() + does[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.epilog = epilog(parser.prog)
    parser.set_defaults(command=command, parser=parser)
    return parser


def listing(inner: Commands, what: str, does: str) -> Parser:
    """The command ``list`` of what lists without it as well. What is said of the options before it counts here, too."""
    parser = command(inner, "list", what, does)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each as JSON")
    place(parser, default=argparse.SUPPRESS)
    return parser


def place(parser: argparse.ArgumentParser, *, default: str | None = None, board: str | None = "main") -> None:
    """Options that say which board is meant."""
    group = parser.add_argument_group("which board")
    group.add_argument(
        "--url", metavar="URL", default=default,
        help="redis://, rediss://, unix:// or memory:// (default: $ARBITER_REDIS_URL, else a local server)",
    )  # fmt: skip
    group.add_argument(
        "--data-dir", metavar="DIR", default=default, help="folder of the local server (default ~/.arbiter)"
    )
    group.add_argument(
        "--namespace", metavar="NAME", default=default or "arbiter", help="namespace of the board (default arbiter)"
    )
    group.add_argument(
        "--board", metavar="NAME", default=default or board,
        help=f"name of the board (default {board or 'a new one for each show'})",
    )  # fmt: skip


def as_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"{what} as JSON on standard output")


def request(parser: argparse.ArgumentParser, *, key: bool = True) -> None:
    parser.add_argument(
        "request",
        help="text, a JSON object, @FILE (JSON or text), or - for standard input; a CloudEvents 1.0 event is one",
    )
    parser.add_argument(
        "--tenant", metavar="NAME", default="default", help="whose run it is (default: the tenant named default)"
    )
    if key:
        parser.add_argument(
            "--key", metavar="KEY", help="idempotency key: the same key with the same request is the same run"
        )
    limits(parser, *OF_RUNS)


def limits(parser: argparse.ArgumentParser, *named: tuple[str, str]) -> None:
    for name, what in named:
        parser.add_argument(f"--limit-{name}", metavar="N", help=f"at most N {what}")


def work(parser: argparse.ArgumentParser) -> None:
    """Options that say which models work, and with which capabilities of the program's own."""
    parser.add_argument("--model", metavar="MODEL", help=MODEL)
    parser.add_argument("--fabricator-model", metavar="MODEL", help="another model for writing capabilities")
    parser.add_argument("--examiner-model", metavar="MODEL", help="another model for specifying them and setting exams")
    parser.add_argument("--capabilities", metavar="WHERE", action="append", default=[], help=CAPABILITIES)


def isolation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--isolation",
        metavar="NAME",
        help="what generated code runs in: zygote-ns, zygote-lsm, seatbelt, or process, which is no sandbox "
        "(default: $ARBITER_ISOLATION, else the strongest of the first three that proves itself)",
    )


def source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", metavar="LABEL", action="append",
        help="where it comes from, such as mail:inbox; may be repeated (default: an event's source, else person)",
    )  # fmt: skip


def plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plan", metavar="FILE", help="JSON: steps to carry out without asking a model, which the request is given to"
    )


def taint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--taint-policy", metavar="FILE",
        help="JSON or TOML: which sources are trusted, and what content from others may do (default: $ARBITER_TAINT_POLICY)",
    )  # fmt: skip


def encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder", metavar="NAME",
        help="match by meaning too: a folder of weights, package:NAME or bedrock:MODEL (default: $ARBITER_ENCODER)",
    )  # fmt: skip


def planning(parser: argparse.ArgumentParser) -> None:
    """Options of what plans: what binds it, what it is told, and how it finds capabilities."""
    taint(parser)
    for name, what in (
        ("fabrication", "how far fabrications go, and who grants what they ask for"),
        ("approval-policy", "which tasks wait for a person, and how one is asked"),
        ("choosing", "which capabilities the planning model may use and is shown"),
    ):
        variable = f"ARBITER_{name.replace('-', '_').upper()}"
        parser.add_argument(f"--{name}", metavar="FILE", help=f"JSON or TOML: {what} (default: ${variable})")
    parser.add_argument(
        "--instructions", metavar="FILE", help="text that the planning model is given behind the system prompt"
    )
    encoder(parser)


def from_sqs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from-sqs", metavar="[TENANT=]QUEUE_URL", action="append", default=[],
        help="take requests from this queue of AWS, for that tenant, see docs/aws.md; may be repeated",
    )  # fmt: skip


def which(parser: argparse.ArgumentParser, when: str = "") -> None:
    """Options that say which events are meant."""
    parser.add_argument("--since", metavar="TIME", help=f"{when}from then on; 24h, 7d or 2026-01-31T08:00")
    parser.add_argument("--until", metavar="TIME", help=f"{when}before")
    parser.add_argument("--type", metavar="GLOB", default="*", help=f"{when}such as task.* or run.completed")
    parser.add_argument("--subject", metavar="GLOB", default="*", help=f"{when}run or task, such as r01*/1.*")
    parser.add_argument(
        "--pattern", metavar="JSON", help=f"{when}what events look like, or @FILE; see docs/retention.md"
    )


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def share(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return number


def number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number
