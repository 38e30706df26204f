"""What can be said about capabilities: their versions, who permits and who vouches for them, and how well they are found."""

from __future__ import annotations

import argparse

from arbiter.cli import words
from arbiter.cli.words import Commands


def capabilities(commands: Commands) -> None:
    everything = words.command(
        commands,
        "capabilities",
        "arbiter.cli.capabilities:listing",
        "list what the board can do, or show one capability",
    )
    everything.add_argument("--tenant", metavar="NAME", help="only what this tenant may use")
    everything.add_argument("--all", action="store_true", help="every version, and not only the active ones")
    words.as_json(everything, "one line for each capability")
    words.place(everything)
    inner = everything.add_subparsers(metavar="COMMAND")
    listing = words.listing(inner, "arbiter.cli.capabilities:listing", "list what the board can do")
    listing.add_argument("--tenant", metavar="NAME", default=argparse.SUPPRESS, help="only what this tenant may use")
    listing.add_argument(
        "--all", action="store_true", default=argparse.SUPPRESS, help="every version, and not only the active ones"
    )
    show = words.command(
        inner, "show", "arbiter.cli.capabilities:show", "show one capability: manifest, versions, exam record, code"
    )
    show.add_argument("name", metavar="NAME")
    show.add_argument("--sha", metavar="SHA", help="a version's hash or its beginning (default: the active version)")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="everything as JSON")
    words.place(show, default=argparse.SUPPRESS)

    search = words.command(
        inner, "search", "arbiter.cli.capabilities:search", "say which capabilities fit a need, and why"
    )
    search.add_argument("need", metavar="NEED", help="what should be done, in words")
    search.add_argument("--goal", metavar="TEXT", default="", help="the request that the need is a part of")
    search.add_argument("--limit", metavar="N", type=words.positive, default=10, help="how many (default 10)")
    search.add_argument("--tenant", metavar="NAME", default=argparse.SUPPRESS, help="only what this tenant may use")
    words.encoder(search)
    search.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="everything as JSON")
    words.place(search, default=argparse.SUPPRESS)

    same = words.command(
        inner,
        "duplicates",
        "arbiter.cli.capabilities:duplicates",
        "list what is nearly the same, or contradicts itself",
    )
    same.add_argument(
        "--least",
        metavar="SHARE",
        type=words.share,
        default=0.7,
        help="likeness from 0 to 1 to begin at (default 0.7)",
    )
    same.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each as JSON")
    words.place(same, default=argparse.SUPPRESS)

    forget = words.command(
        inner, "forget", "arbiter.cli.learning:forget", "forget the needs a capability served, or a tenant had"
    )
    forget.add_argument("name", metavar="NAME", nargs="?", help="of a capability (default: all)")
    forget.add_argument(
        "--tenant", metavar="NAME", default=None, help="only this tenant's needs (default: all tenants')"
    )
    forget.add_argument(
        "--examples", action="store_true", help="the example needs a model wrote, and not those that were served"
    )
    words.place(forget, default=argparse.SUPPRESS)

    text = """\
Have a model write example needs: how people ask for what a capability does, who do not know its words.
Every process matches by them from then on. What is there is not asked for again. See docs/matching.md."""
    illustrate = words.command(
        inner, "illustrate", "arbiter.cli.learning:illustrate", "have a model write example needs of capabilities", text
    )
    illustrate.add_argument("names", metavar="NAME", nargs="*", help="of capabilities")
    illustrate.add_argument("--all", action="store_true", default=False, help="all that want example needs")
    illustrate.add_argument("--model", metavar="MODEL", help=words.MODEL)
    illustrate.add_argument(
        "--at-once", metavar="N", type=words.positive, default=4, help="model calls at a time (default 4)"
    )
    illustrate.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one line for each capability as JSON"
    )
    words.place(illustrate, default=argparse.SUPPRESS)

    text = """\
Read the latest runs that succeeded, keep the needs they served, and fit what turns the signals of a
ranking into probabilities on how the matcher's decisions turned out. See docs/matching.md."""
    refit = words.command(
        inner, "refit", "arbiter.cli.learning:refit", "fit the matcher's probabilities on this board's own runs", text
    )
    refit.add_argument("--runs", metavar="N", type=words.positive, default=5000, help="read so many (default 5000)")
    refit.add_argument("--dry-run", action="store_true", help="say what would come of it, and change nothing")
    refit.add_argument("--shipped", action="store_true", help="go back to the probabilities that are shipped")
    words.taint(refit)
    refit.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="the fit as JSON")
    words.place(refit, default=argparse.SUPPRESS)

    for name, does in (
        ("sign", "vouch for a version with this user's key, after you looked at it"),
        ("activate", "offer a version, such as one to go back to, in place of the one that is active"),
        ("retire", "offer a version no more; what is pinned to it may use it still"),
        ("revoke", "let a version never run again"),
        ("approve", "approve the grants of a version that waits for it, and offer it"),
        ("refuse", "refuse the grants of a version that waits for approval; it never runs"),
    ):
        one = words.command(inner, name, f"arbiter.cli.capabilities:{name}", does)
        one.add_argument("name", metavar="NAME")
        default = "" if name == "activate" else " (default: the one meant)"
        one.add_argument(
            "--sha", metavar="SHA", required=not default, help=f"a version's hash or its beginning{default}"
        )
        if name in ("activate", "retire", "revoke", "refuse"):
            one.add_argument("--reason", metavar="WORDS", default="", help="for the audit")
        if name == "activate":
            one.add_argument(
                "--canary", metavar="SHARE", type=float,
                help="at first for this share of the runs, such as 0.2, beside the active one; see docs/reflection.md",
            )  # fmt: skip
        if name == "approve":
            one.add_argument(
                "--source", metavar="LABEL", action="append", default=[],
                help="each source that is not trusted and asked for it, as 'waiting' tells them; may be repeated",
            )  # fmt: skip
        words.place(one, default=argparse.SUPPRESS)
    waiting = words.command(
        inner, "waiting", "arbiter.cli.capabilities:waiting", "list what waits for approval of its grants"
    )
    waiting.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each as JSON")
    words.place(waiting, default=argparse.SUPPRESS)


def permits(commands: Commands) -> None:
    text = """\
Where the taint policy asks a person before content that is not trusted leads to the use of a secret, the
run rests until the request was approved or refused here. See docs/taint.md."""
    everything = words.command(
        commands, "permits", "arbiter.cli.permits:waiting", "list requests that would carry a secret; answer them", text
    )
    everything.add_argument("--all", action="store_true", help="also what was answered, or not in time")
    words.as_json(everything, "one line for each request")
    words.place(everything)
    inner = everything.add_subparsers(metavar="COMMAND")
    listing = words.listing(inner, "arbiter.cli.permits:waiting", "list requests that wait for a person")
    listing.add_argument(
        "--all", action="store_true", default=argparse.SUPPRESS, help="also what was answered, or not in time"
    )
    approve = words.command(inner, "approve", "arbiter.cli.permits:approve", "permit a request; its run goes on", text)
    approve.add_argument("id", metavar="ID", help="of the request, or its beginning")
    approve.add_argument(
        "--source", metavar="LABEL", action="append", default=[],
        help="each source that is not trusted and led to it, as the list tells them; may be repeated",
    )  # fmt: skip
    refuse = words.command(inner, "refuse", "arbiter.cli.permits:refuse", "refuse a request; its task ends", text)
    refuse.add_argument("id", metavar="ID", help="of the request, or its beginning")
    refuse.add_argument("--reason", metavar="WORDS", default="", help="for the audit and the task's error")
    for parser in (approve, refuse):
        words.place(parser, default=argparse.SUPPRESS)


def approvals(commands: Commands) -> None:
    text = """\
A task whose capability says so, or whose effects the approval policy names, is not begun before a person
approved what it is given; a planning model may ask a person, too. See docs/approvals.md."""
    everything = words.command(
        commands, "approvals", "arbiter.cli.approvals:waiting", "list tasks that wait for a person; answer them", text
    )
    everything.add_argument("--run", metavar="RUN", help="only of this run")
    words.as_json(everything, "one line for each task")
    words.place(everything)
    inner = everything.add_subparsers(metavar="COMMAND")
    listing = words.listing(inner, "arbiter.cli.approvals:waiting", "list tasks that wait for a person")
    listing.add_argument("--run", metavar="RUN", default=argparse.SUPPRESS, help="only of this run")
    show = words.command(inner, "show", "arbiter.cli.approvals:show", "print all that a task is given", text)
    approve = words.command(inner, "approve", "arbiter.cli.approvals:approve", "let a task be done", text)
    refuse = words.command(inner, "refuse", "arbiter.cli.approvals:refuse", "refuse a task, which ends", text)
    answer = words.command(inner, "answer", "arbiter.cli.approvals:answer", "answer what a model asks", text)
    for parser in (show, approve, refuse, answer):
        parser.add_argument("id", metavar="ID", help="of the task, or its beginning")
        words.place(parser, default=argparse.SUPPRESS)
    approve.add_argument("--arguments", metavar="JSON", help="what it is to be given instead; @FILE reads a file")
    refuse.add_argument("--reason", metavar="WORDS", default="", help="for the model, and on record")
    answer.add_argument("answer", metavar="ANSWER", help="in words; one of the options, where there are any")


def callback(commands: Commands) -> None:
    text = """\
A function may have given away a token of its attempt, for something outside that answers in its place.
Whoever holds it says here what came of it. See docs/callbacks.md."""
    everything = words.command(
        commands, "callback", "arbiter.cli.callbacks:complete", "answer a task that waits for something outside", text
    )
    inner = everything.add_subparsers(metavar="COMMAND", required=True)
    complete = words.command(inner, "complete", "arbiter.cli.callbacks:complete", "end its attempt with a result", text)
    fail = words.command(inner, "fail", "arbiter.cli.callbacks:fail", "end its attempt with a failure", text)
    alive = words.command(inner, "heartbeat", "arbiter.cli.callbacks:heartbeat", "say that it goes on", text)
    for parser in (complete, fail, alive):
        parser.add_argument("token", metavar="TOKEN", help="as the function gave it away")
        words.place(parser)
    complete.add_argument("--output", metavar="JSON", required=True, help="the result; it has to fit the output schema")
    fail.add_argument("--error", metavar="NAME", required=True, help="a name for it, by which retry rules may know it")
    fail.add_argument("--cause", metavar="WORDS", default="", help="the same in words")


def eval(commands: Commands) -> None:
    text = """\
Measure how well the matcher finds capabilities and how well it knows that none fits, beside BM25 and
the fusion of both. DIR has tools.jsonl and queries*.jsonl, or folders that have; then all of them are
measured as one pooled registry as well. See docs/matching.md."""
    everything = words.command(
        commands, "eval", "arbiter.cli.evaluation:matching", "measure the matcher on corpora", text
    )
    inner = everything.add_subparsers(metavar="COMMAND", required=True)
    one = words.command(inner, "matching", "arbiter.cli.evaluation:matching", "measure the matcher on corpora", text)
    one.add_argument("folder", metavar="DIR")
    one.add_argument(
        "--limit", metavar="N", type=words.positive, default=500, help="needs of a corpus at most (default 500)"
    )
    one.add_argument("--seed", metavar="N", type=words.number, default=1, help="of samples and intervals (default 1)")
    one.add_argument(
        "--encoder", metavar="NAME", help="measure by meaning too: a folder of weights, package:NAME or bedrock:MODEL"
    )
    one.add_argument("--sha256", metavar="HASH", help="refuse the encoder's weights if they are others than these")
    one.add_argument(
        "--served", metavar="N", type=words.positive,
        help="measure on half of the needs, before and after each capability served up to N of the other half",
    )  # fmt: skip
    one.add_argument("--picture", metavar="FILE", help="draw risk by coverage into an SVG file")
    one.add_argument("--refit", metavar="FILE", help="fit the calibration on these corpora and write it to FILE")
    one.add_argument("--calibration", metavar="FILE", help="measure with a calibration that --refit wrote")
    words.as_json(one, "one line for each corpus")


def keys(commands: Commands) -> None:
    text = """\
Generated code runs only with a signature of a key that the board trusts. Each user has a key of
their own, made when it is first needed; a new board trusts the first that signs for it."""
    keys = words.command(
        commands, "keys", "arbiter.cli.keys:listing", "list, trust, revoke or change signing keys", text
    )
    words.as_json(keys, "one line for each key")
    words.place(keys)
    inner = keys.add_subparsers(metavar="COMMAND")
    words.listing(inner, "arbiter.cli.keys:listing", "list the keys this board trusts or trusted")
    trust = words.command(inner, "trust", "arbiter.cli.keys:trust", "let a key's signatures count on this board")
    trust.add_argument("public", metavar="PUBLIC", nargs="?", help="public key, 64 hex digits (default: this user's)")
    trust.add_argument("--note", metavar="WORDS", default="", help="whose it is")
    words.place(trust, default=argparse.SUPPRESS)
    revoke = words.command(
        inner, "revoke", "arbiter.cli.keys:revoke", "let what a key signed count no more, at once and for ever"
    )
    revoke.add_argument("key", metavar="KEY", help="id of the key, or its beginning")
    revoke.add_argument("--after", metavar="TIME", help="only what it signed from TIME on, such as 2027-03-01T09:00")
    revoke.add_argument("--before", metavar="TIME", help="only what it signed before TIME; the key goes on")
    revoke.add_argument("--reason", metavar="WORDS", default="", help="for the audit")
    words.place(revoke, default=argparse.SUPPRESS)
    rotate = words.command(
        inner, "rotate", "arbiter.cli.keys:rotate", "sign with a new key from now on; old signatures go on counting"
    )
    words.place(rotate, default=argparse.SUPPRESS)
    audit = words.command(inner, "audit", "arbiter.cli.keys:audit", "what was trusted, signed and revoked, and by whom")
    audit.add_argument("--limit", metavar="N", type=words.positive, default=50, help="the last N lines (default 50)")
    audit.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line each as JSON")
    words.place(audit, default=argparse.SUPPRESS)
