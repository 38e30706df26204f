"""What can be said about the agenda of a run."""

from __future__ import annotations

import argparse

from arbiter.cli import words
from arbiter.cli.words import Commands


def agenda(commands: Commands) -> None:
    text = """\
What waits on the agenda of a run because something was written that it can do something with, why it
was picked or not, and overruling that. An ACTIVATION is named by its id, RUN/a/1."""
    agenda = words.command(
        commands, "agenda", "arbiter.cli.agenda:show", "look at the agenda of a run, and overrule it", text
    )
    inner = agenda.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: str, does: str, record: str, about: str) -> argparse.ArgumentParser:
        parser = words.command(
            inner, name, f"arbiter.cli.agenda:{function}", does, f"{does[0].upper()}{does[1:]}. {text}"
        )
        parser.add_argument(about, metavar=about.upper())
        words.as_json(parser, record)
        words.place(parser)
        return parser

    shown = command("list", "show", "print the activations of a run", "one line for each activation", "run")
    shown.add_argument("--state", metavar="STATE", help="waiting, parked, blocked, picked, obviated or stopped")
    command("explain", "explain", "print why an activation was picked or not", "the steps", "activation")
    advice = command("recommend", "recommend", "print what would be picked now", "one line for each", "run")
    advice.add_argument("--limit", metavar="N", type=words.positive, default=5, help="how many (default 5)")
    for verb, does in (
        ("promote", "let an activation stand before all that wait"),
        ("block", "let an activation not be picked"),
        ("unblock", "let a blocked activation wait again"),
        ("rerate", "give an activation a rating that no strategy changes"),
    ):
        parser = command(verb, "change", does, "its state", "activation")
        if verb == "rerate":
            parser.add_argument("rating", metavar="RATING", help="a number; the higher, the sooner")
        parser.add_argument("--reason", metavar="TEXT", default="", help="why, for the record")
        parser.add_argument("--key", metavar="KEY", help="names this change: the same once more has no further effect")
        parser.set_defaults(verb=verb)
    focus = command("focus", "focus", "write the strategy of a run on its control board", "what was written", "run")
    focus.add_argument(
        "strategy", metavar="STRATEGY", help="priority, expected_value, breadth_first, deadline, fair_share, …"
    )
    focus.add_argument(
        "--weight", metavar="CAPABILITY=N", action="append", help="how much it counts (1); may be repeated"
    )
