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


def ask(commands: Commands) -> None:
    text = """\
Ask for something without naming who shall do it, on a board that a daemon serves. Whoever watches
the board bids, the best bid is awarded the work, and its result is printed; bids and award are told
on standard error."""
    ask = words.command(commands, "ask", "arbiter.cli.asking:ask", "ask openly, whoever can answer", text)
    ask.add_argument("question", metavar="QUESTION", help="in words by which those who can would know it")
    ask.add_argument("--input", metavar="INPUT", default="{}", help="of who is awarded it: a JSON object, or @FILE")
    ask.add_argument("--seconds", metavar="N", type=words.seconds, help="how long to wait for a bid (default 60)")
    ask.add_argument("--fabricate", metavar="NAME", help="the capability to have written when nobody bids")
    ask.add_argument("--need", metavar="TEXT", help="what that must do, precisely enough to test it")
    ask.add_argument("--name", metavar="NAME", default="asked", help="of its topics, requests.NAME … (default asked)")
    ask.add_argument("--run", metavar="RUN", help="ask in this run, which has an agenda (default: one of its own)")
    ask.add_argument("--tenant", metavar="NAME", default="default", help="whose run it is (default default)")
    ask.add_argument("--key", metavar="KEY", help="idempotency key: the same key with the same request is the same run")
    ask.add_argument("--timeout", metavar="SECONDS", type=words.seconds, help="stop waiting; the run stays")
    words.source(ask)
    words.limits(
        ask, ("tasks", "tasks"), ("fabrications", "fabrications"), ("tokens", "tokens"),
        ("money", "units of the currency of the price table"), ("seconds", "seconds"),
    )  # fmt: skip
    words.as_json(ask, "how it stands")
    words.place(ask)


def standing(commands: Commands) -> None:
    text = """\
Have what is written in a scope that lasts become runs: exactly one for each version of an entry that
fits, on whose agenda the capabilities wait that it triggers. Adding the same watch again changes nothing."""
    standing = words.command(
        commands, "standing", "arbiter.cli.standing:listing", "start runs from what is written outside of runs", text
    )
    inner = standing.add_subparsers(metavar="COMMAND", required=True)
    module = "arbiter.cli.standing"
    add = words.command(inner, "add", f"{module}:add", "store a standing watch", text)
    add.add_argument("name", metavar="NAME")
    add.add_argument("--scope", required=True, help="session:NAME, tenant:NAME, group:NAME or public")
    add.add_argument("--topic", default=">", metavar="PATTERN", help="of which topics (default >)")
    add.add_argument("--where", default="", metavar="CONDITIONS", help="on what is written, as 'amount>=100'")
    add.add_argument("--until", metavar="PATTERN", help="topics of what answers a run; default: until nothing is left")
    add.add_argument("--strategy", default="priority", metavar="STRATEGY", help="of their agendas (default priority)")
    add.add_argument("--tenant", default="default", metavar="NAME", help="whose runs they are (default default)")
    add.add_argument("--after", metavar="POSITION", help="begin behind it, - for all there ever was (default now)")
    words.limits(
        add, ("rounds", "rounds"), ("tasks", "tasks"), ("tokens", "tokens"),
        ("money", "units of the currency of the price table"), ("seconds", "seconds"),
    )  # fmt: skip
    everything = words.command(inner, "list", f"{module}:listing", "list the standing watches of the board")
    for parser in (add, everything):
        words.as_json(parser, "standing watches, one to a line,")
        words.place(parser)
    remove = words.command(inner, "remove", f"{module}:remove", "watch no more; its runs go on")
    remove.add_argument("name", metavar="NAME")
    words.as_json(remove, "what was done")
    words.place(remove)
