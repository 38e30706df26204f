"""What can be said on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Protocol

EPILOG = """\
environment:
  ARBITER_REDIS_URL     board to use when --url is not given
  ARBITER_DATA_DIR      folder of the local server and of this user's signing key (default ~/.arbiter)
  ARBITER_MODEL         model to use when --model is not given
  ARBITER_ISOLATION     isolation of generated code when --isolation is not given
  ARBITER_PRICES        file with the prices of models, for budgets of money
  ARBITER_REDIS_SERVER  server program for the local server
  ARBITER_SIGNING_KEY   key that signs capabilities: PEM, base64, or a file (default: one in the data folder)
  ARBITER_TRUSTED_KEYS  ids of the only keys whose signatures count here (default: all the board trusts)
  ARBITER_DEBUG=1       show tracebacks

exit codes: 0 done, 1 the run did not succeed, 2 refused, 70 defect, 130 interrupted, 143 terminated
"""

DEMO = """\
Watch whole runs without an account: a request is planned, a missing capability is written,
examined and loaded, and the answer is computed from the data shipped with the package.
The model is scripted: its words come from a file, the data and the computation are real.

  orders    a kitchen can make fries; an order also asks for cheesecake
  invoices  more than 500 supplier invoices are checked against orders and receipts

Each call is a new show on a board of its own. A show that was killed or interrupted is
continued by the next call for the same examples, with the same runs and the same answer;
--fresh starts a new one all the same. The exit code is 0 only if every run succeeded.
"""

MODEL = "bedrock:ID, anthropic:ID, openai:ID, ollama:ID[@host], scripted:FILE or recorded:FILE"
WHERE = "terms such as: status=failed,timed_out tenant=acme since=1h until=2026-01-31 text~invoice rounds>3 tasks>=10 seconds>60"
LETTERS = (
    "terms such as: capability=price type=lease_lost,timeout status=failed tenant=acme kind=call run=ID since=1h "
    "until=2026-01-31 redriven=no"
)
RECORDS = "terms such as: kind=token.*,run.cancelled by~ann subject~r01 since=1d until=2026-01-31"
CAPABILITIES = "functions to offer: module:ATTR or path.py[:ATTR]; ATTR defaults to CAPABILITIES; may be repeated"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's name (``module:function``) and its options; exits with code 2 when they make no sense."""
    return build().parse_args(argv)


def build() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="arbiter",
        description="Plan a request, fabricate the capabilities it lacks, run it, answer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _demo(commands)
    _run(commands)
    _submit(commands)
    _call(commands)
    _serve(commands)
    _look(commands)
    _stop(commands)
    _dead(commands)
    _keep(commands)
    _doctor(commands)
    _archive(commands)
    _capabilities(commands)
    _eval(commands)
    _keys(commands)
    _schedules(commands)
    _budgets(commands)
    _quotas(commands)
    _tokens(commands)
    _audit(commands)
    _entries(commands)
    down = _command(commands, "down", "arbiter.cli.daemon:down", "stop the local server of a data folder")
    down.add_argument("--data-dir", metavar="DIR", help="folder of the local server (default ~/.arbiter)")
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"arbiter {version('arbiter')}")
        parser.exit()


class _Commands(Protocol):
    """Where commands are added."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,
        description: str,
        formatter_class: type[argparse.HelpFormatter],
        allow_abbrev: bool,
    ) -> argparse.ArgumentParser: ...


def _command(
    commands: _Commands, name: str, command: str, does: str, text: str | None = None
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=does, description=text or does[0].upper() + does[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(command=command)
    return parser


def _place(parser: argparse.ArgumentParser, *, default: str | None = None, board: str | None = "main") -> None:
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


def _json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"{what} as JSON on standard output")


def _demo(commands: _Commands) -> None:
    demo = _command(commands, "demo", "arbiter.cli.demonstration:demo", "watch whole runs without an account", DEMO)
    demo.add_argument("which", nargs="?", choices=("orders", "invoices", "all"), default="all", help="default: all")
    demo.add_argument("--fresh", action="store_true", help="a new show, even if one is unfinished")
    demo.add_argument("--quiet", action="store_true", help="no progress, only the answers")
    _json(demo, "one line for each run")
    _place(demo, board=None)


def _request(parser: argparse.ArgumentParser, *, key: bool = True) -> None:
    parser.add_argument(
        "request",
        help="text, a JSON object, @FILE (JSON or text), or - for standard input; a CloudEvents 1.0 event is one",
    )
    parser.add_argument("--tenant", metavar="NAME", default="default", help="whose run it is (default default)")
    if key:
        parser.add_argument(
            "--key", metavar="KEY", help="idempotency key: the same key with the same request is the same run"
        )
    _limits(
        parser,
        ("rounds", "decisions of the model"),
        ("tasks", "tasks"),
        ("fabrications", "fabricated capabilities"),
        ("tokens", "model tokens"),
        ("seconds", "seconds from acceptance to the answer"),
    )


def _limits(parser: argparse.ArgumentParser, *named: tuple[str, str]) -> None:
    for name, what in named:
        parser.add_argument(f"--limit-{name}", metavar="N", help=f"at most N {what}")


def _isolation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--isolation",
        metavar="NAME",
        help="what generated code runs in: zygote-ns, zygote-lsm, or process, which is no sandbox "
        "(default: $ARBITER_ISOLATION, else the strongest of the first two that proves itself)",
    )


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", metavar="LABEL", action="append",
        help="where it comes from, such as mail:inbox; may be repeated (default: an event's source, else person)",
    )  # fmt: skip


def _taint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--taint-policy", metavar="FILE",
        help="JSON or TOML: which sources are trusted, and what content from others may do (default: $ARBITER_TAINT_POLICY)",
    )  # fmt: skip


def _run(commands: _Commands) -> None:
    run = _command(commands, "run", "arbiter.cli.runs:run", "run a request here and wait for its answer")
    _request(run)
    run.add_argument("--model", metavar="MODEL", help=MODEL)
    run.add_argument("--fabricator-model", metavar="MODEL", help="another model for writing capabilities")
    run.add_argument("--examiner-model", metavar="MODEL", help="another model for specifying them and setting exams")
    run.add_argument("--capabilities", metavar="WHERE", action="append", default=[], help=CAPABILITIES)
    _isolation(run)
    _source(run)
    _taint(run)
    run.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="stop waiting after SECONDS; the run stays")
    run.add_argument("--quiet", action="store_true", help="no progress")
    _json(run, "the result")
    _place(run)


def _submit(commands: _Commands) -> None:
    submit = _command(commands, "submit", "arbiter.cli.runs:submit", "put a request on the board for a daemon to run")
    _request(submit)
    _source(submit)
    _json(submit, "the run's id")
    _place(submit)


def _call(commands: _Commands) -> None:
    text = """\
Call one capability without a model. A process that serves the board and has the capability carries
it out; --wait prints what it returned."""
    call = _command(commands, "call", "arbiter.cli.runs:call", "call one capability, without a model", text)
    call.add_argument("name", metavar="NAME", help="name of the capability")
    call.add_argument(
        "input",
        metavar="INPUT",
        nargs="?",
        default="{}",
        help="its input: a JSON object, @FILE, or - for standard input",
    )
    call.add_argument("--sha", metavar="SHA", help="hash of the version to call (default: the active one)")
    call.add_argument("--priority", metavar="N", type=int, default=5, help="0 to 9, higher first (default 5)")
    call.add_argument("--tenant", metavar="NAME", default="default", help="whose run it is (default default)")
    call.add_argument("--key", metavar="KEY", help="idempotency key: the same key with the same call is the same run")
    _limits(call, ("tokens", "model tokens"), ("seconds", "seconds from acceptance to the end"))
    _source(call)
    call.add_argument("--wait", action="store_true", help="wait for the end and print the result")
    call.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="stop waiting after SECONDS; the run stays")
    _json(call, "the run's id, or with --wait the result")
    _place(call)


def _serve(commands: _Commands) -> None:
    text = """\
Serve a board until SIGTERM or SIGINT. The first signal drains: nothing new is claimed, running
work may finish within the grace time, and the rest is given back at once for others to take. A
second signal gives everything back immediately."""
    serve = _command(commands, "serve", "arbiter.cli.daemon:serve", "serve a board as a daemon", text)
    serve.add_argument(
        "--roles",
        metavar="LIST",
        default="arbiter,fabricator,wrapper",
        help="any of arbiter,fabricator,wrapper (default all)",
    )
    worker = _command(commands, "worker", "arbiter.cli.daemon:serve", "run capabilities: serve --roles wrapper", text)
    worker.set_defaults(roles="wrapper")
    for parser in (serve, worker):
        parser.add_argument("--model", metavar="MODEL", help=MODEL)
        parser.add_argument("--fabricator-model", metavar="MODEL", help="another model for writing capabilities")
        parser.add_argument(
            "--examiner-model", metavar="MODEL", help="another model for specifying them and setting exams"
        )
        parser.add_argument("--capabilities", metavar="WHERE", action="append", default=[], help=CAPABILITIES)
        _isolation(parser)
        _taint(parser)
        parser.add_argument(
            "--lanes", metavar="LIST", default="generic", help="lanes of generated code (default generic)"
        )
        parser.add_argument(
            "--concurrency", metavar="N", type=_positive, help="tasks this wrapper runs at a time (default 4)"
        )
        parser.add_argument(
            "--grace", metavar="SECONDS", type=_seconds, default=10.0, help="for running work at the end (default 10)"
        )
        parser.add_argument(
            "--health",
            metavar="PORT",
            help="answer /live and /ready on a port of this machine, or on a unix socket's path",
        )
        parser.add_argument(
            "--http",
            metavar="HOST:PORT",
            help="answer the HTTP API there, such as 127.0.0.1:8300 (default: not at all)",
        )
        parser.add_argument(
            "--http-public",
            metavar="NAME",
            action="append",
            default=[],
            help="with --http: clients beyond this machine reach it by this name; needs tokens; may be repeated",
        )
        parser.add_argument(
            "--keep", metavar="LIST", help="how long finished runs stay: 7d, succeeded=7d,failed=30d, forever "
            "(default succeeded=30d, others 90d)",
        )  # fmt: skip
        parser.add_argument(
            "--keep-runs", metavar="N", type=_number, help="beyond so many the oldest finished runs go (default 100000)"
        )
        parser.add_argument(
            "--lease", metavar="SECONDS", type=_seconds, default=15.0,
            help="a process silent for so long loses its work to others (default 15)",
        )  # fmt: skip
        _place(parser)


def _look(commands: _Commands) -> None:
    runs = _command(commands, "runs", "arbiter.cli.runs:runs", "list the latest runs")
    runs.add_argument("--limit", metavar="N", type=_positive, default=20, help="how many (default 20)")
    runs.add_argument("--where", metavar="TERMS", default="", help=WHERE)
    runs.add_argument("--after", metavar="POSITION", help="go on where a page ended")
    _json(runs, "one line for each run")
    show = _command(commands, "show", "arbiter.cli.runs:show", "show a run: rounds, tasks, answer")
    show.add_argument("run", metavar="RUN", help="id of a run, or an unambiguous beginning of one")
    _json(show, "everything about it")
    why = _command(commands, "why", "arbiter.cli.why:why", "say what the matcher decided in a run, and why")
    why.add_argument("run", metavar="RUN", help="id of a run, or an unambiguous beginning of one")
    _json(why, "one line for each decision")
    events = _command(commands, "events", "arbiter.cli.runs:events", "print events: of one run, or of the latest runs")
    events.add_argument("--run", metavar="RUN", help="only this run")
    events.add_argument("--follow", "-f", action="store_true", help="go on with events as they happen")
    events.add_argument(
        "--limit", metavar="N", type=_positive, default=20, help="how many runs to look back (default 20)"
    )
    events.add_argument(
        "--archive", metavar="FILE", help="write events of all runs to FILE (- for output) as CloudEvents"
    )
    _which(events, "with --archive: ")
    _json(events, "CloudEvents, one to a line,")
    for parser in (runs, show, why, events):
        _place(parser)


def _stop(commands: _Commands) -> None:
    module = "arbiter.cli.stopping"
    text = """\
Stop a run, one task of it, or every run that is meant by --where. What waits ends at once; what
runs is told, gets a grace time and is then ended. With --wait, say what became of each task."""
    cancel = _command(commands, "cancel", f"{module}:cancel", "stop runs, or a task of one", text)
    cancel.add_argument("--task", metavar="KEY", help="only this task of the run, such as price or 2.price")
    cancel.add_argument("--wait", action="store_true", help="until everything has ended, and report each task")
    text = """\
Let a run rest. What runs is left to end; nothing else of the run is handed out, and its deadlines
move on. It goes on by itself when the pause is over."""
    pause = _command(commands, "pause", f"{module}:pause", "let runs rest", text)
    pause.add_argument("--for", dest="span", metavar="SPAN", default="1d", help="90s, 15m, 2h, 7d (default 1d)")
    resume = _command(commands, "resume", f"{module}:resume", "let paused runs go on")
    for parser in (cancel, pause, resume):
        parser.add_argument("run", metavar="RUN", nargs="?", help="id of a run, or an unambiguous beginning of one")
        parser.add_argument("--where", metavar="TERMS", help=f"instead of RUN: {WHERE}")
        parser.add_argument("--dry-run", action="store_true", help="with --where: do nothing, say which")
        if parser is not resume:
            parser.add_argument("--reason", default="by command", help="kept with the run")
        _json(parser, "one line for each run")
        _place(parser)


def _quotas(commands: _Commands) -> None:
    text = """\
How much of the workers somebody may have at a time, how fast, and how many runs may be open.
SUBJECT is board, tenant:NAME, capability:NAME or model:NAME. What a quota holds back waits in its
place; runs beyond one are refused and told when to come again."""
    quotas = _command(commands, "quotas", "arbiter.cli.quotas:listing", "list quotas, set or remove them", text)
    _json(quotas, "one line for each quota")
    _place(quotas)
    inner = quotas.add_subparsers(metavar="COMMAND")
    write = _command(inner, "set", "arbiter.cli.quotas:write", "give a subject a quota in place of its last one", text)
    write.add_argument("subject", metavar="SUBJECT")
    for name, what in (
        ("at-once", "attempts (of a model: calls) at a time"),
        ("per-second", "attempts (of a model: calls) begun in a second"),
        ("burst", "of those at once after a rest (default 1)"),
        ("open-runs", "runs accepted and not over"),
        ("runs-per-second", "runs accepted in a second"),
        ("runs-burst", "of those at once after a rest (default 1)"),
        ("weight", "share of a tenant's claims beside other tenants' (default 1)"),
    ):
        write.add_argument(f"--{name}", metavar="N", help=what)
    remove = _command(inner, "remove", "arbiter.cli.quotas:remove", "take a subject's quota away", text)
    remove.add_argument("subject", metavar="SUBJECT")
    for parser in (write, remove):
        _place(parser, default=argparse.SUPPRESS)


def _dead(commands: _Commands) -> None:
    text = """\
Dead letters are work that was given up: tasks and runs that failed or ran out of time. redrive makes
a new run of one, of the version of its capability that is active now; discard forgets it."""
    dead = _command(commands, "dead", "arbiter.cli.dead:listing", "look at work that was given up, put it back", text)
    inner = dead.add_subparsers(metavar="COMMAND", required=True)
    listing = _command(inner, "list", "arbiter.cli.dead:listing", "list the latest dead letters")
    listing.add_argument("--limit", metavar="N", type=_positive, default=20, help="how many (default 20)")
    listing.add_argument("--where", metavar="TERMS", default="", help=LETTERS)
    listing.add_argument("--after", metavar="POSITION", help="go on where a page ended")
    _json(listing, "one line for each letter")
    show = _command(inner, "show", "arbiter.cli.dead:show", "show a dead letter: payload, attempts, reasons")
    show.add_argument("letter", metavar="LETTER", help="id of a task or a run that was given up")
    _json(show, "everything about it")
    redrive = _command(inner, "redrive", "arbiter.cli.dead:redrive", "put dead letters back, each as a run of its own")
    discard = _command(inner, "discard", "arbiter.cli.dead:discard", "forget dead letters")
    for parser in (redrive, discard):
        parser.add_argument("letter", metavar="LETTER", nargs="*", help="ids of tasks or runs that were given up")
        parser.add_argument("--where", metavar="TERMS", help=LETTERS)
        parser.add_argument("--limit", metavar="N", type=_positive, help="with --where: stop after so many")
        parser.add_argument("--dry-run", action="store_true", help="do nothing, say what would be done")
        _json(parser, "what was done")
    redrive.add_argument("--again", action="store_true", help="also those that were put back before")
    redrive.add_argument(
        "--same-version", action="store_true", help="call the version that failed (default: the one active now)"
    )
    for parser in (listing, show, redrive, discard):
        _place(parser)


def _keep(commands: _Commands) -> None:
    text = """\
Remove finished runs with everything that belongs to them. Without options by the default policy:
succeeded runs after 30 days, others after 90, and the oldest beyond 100,000. A run that is not
over is never removed. A serving daemon does the same each minute; see serve --keep."""
    prune = _command(commands, "prune", "arbiter.cli.retention:run", "remove finished runs", text)
    prune.add_argument("--older-than", metavar="AGE", help="those that ended so long ago: 12h, 7d, 4w")
    prune.add_argument("--status", metavar="LIST", help="only these, with commas; with --older-than")
    prune.add_argument("--keep-runs", metavar="N", type=_number, help="the oldest beyond so many runs")
    prune.add_argument("--limit", metavar="N", type=_positive, help="stop after so many")
    prune.add_argument("--dry-run", action="store_true", help="remove nothing, say what would be")
    _json(prune, "what was removed")
    _place(prune)


def _archive(commands: _Commands) -> None:
    text = """\
Write a finished run to a file: its events as stored, the versions it used with their sources, its
large values, and a hash of it all. Nothing is removed."""
    export = _command(commands, "export", "arbiter.cli.archive:export", "write a finished run to a file", text)
    export.add_argument("run", metavar="RUN", help="id of a run, or an unambiguous beginning of one")
    export.add_argument("file", metavar="FILE", help="a new file, or - for standard output")
    export.add_argument("--without-values", action="store_true", help="leave large values out, as when one is missing")
    _place(export)
    text = """\
Put the run in a file on the board as history: listed and shown, never executed. Its hash, its log
and the hashes of its versions and large values are checked first; versions are not registered. A
run of the same id is left alone, and so the command is refused."""
    load = _command(commands, "import", "arbiter.cli.archive:load", "put an exported run on the board", text)
    load.add_argument("file", metavar="FILE")
    _json(load, "the run")
    _place(load)

    text = """\
Give the events of an archive again, in order and with their identity: to a file, to a URL as
CloudEvents, or to the board, where requests among them become new runs. Repeating the command
repeats events, and makes no run twice."""
    again = _command(commands, "replay", "arbiter.cli.archive:replay", "give archived events again", text)
    again.add_argument("file", metavar="FILE", help="an archive, as events --archive writes it")
    again.add_argument(
        "--to", metavar="TARGET", required=True, help="board, http(s)://..., a new file, or - for output"
    )
    again.add_argument(
        "--name", metavar="NAME", default="", help="of the replay: marks what it makes, and makes it anew"
    )
    again.add_argument("--tenant", metavar="NAME", help="to the board: instead of the archived run's")
    again.add_argument("--header", metavar="NAME:VALUE", action="append", default=[], help="to a URL; may be repeated")
    again.add_argument(
        "--batch", metavar="N", type=_positive, default=50, help="to a URL: events at a time (default 50)"
    )
    again.add_argument(
        "--attempts", metavar="N", type=_positive, default=5, help="to a URL: for each batch (default 5)"
    )
    _which(again)
    _place(again)


def _which(parser: argparse.ArgumentParser, when: str = "") -> None:
    """Options that say which events are meant."""
    parser.add_argument("--since", metavar="TIME", help=f"{when}from then on; 24h, 7d or 2026-01-31T08:00")
    parser.add_argument("--until", metavar="TIME", help=f"{when}before")
    parser.add_argument("--type", metavar="GLOB", default="*", help=f"{when}such as task.* or run.completed")
    parser.add_argument("--subject", metavar="GLOB", default="*", help=f"{when}run or task, such as r01*/1.*")
    parser.add_argument(
        "--pattern", metavar="JSON", help=f"{when}what events look like, or @FILE; see docs/retention.md"
    )


def _doctor(commands: _Commands) -> None:
    text = """\
Examine the installation, the board's server, the isolation of generated code and the model, one
line each: ok, warn or fail, with a remedy. Exits with 1 when something fails. Without --url a
local server is started, as by any other command."""
    doctor = _command(commands, "doctor", "arbiter.cli.doctor:run", "say what is missing, and what to do", text)
    doctor.add_argument("--model", metavar="MODEL", help=MODEL)
    _isolation(doctor)
    doctor.add_argument("--call", action="store_true", help="also ask the model for a word; costs a few tokens")
    _json(doctor, "one line for each answer")
    _place(doctor)


def _capabilities(commands: _Commands) -> None:
    everything = _command(
        commands,
        "capabilities",
        "arbiter.cli.capabilities:listing",
        "list what the board can do, or show one capability",
    )
    everything.add_argument("--tenant", metavar="NAME", help="only what this tenant may use")
    _json(everything, "one line for each capability")
    _place(everything)
    inner = everything.add_subparsers(metavar="COMMAND")
    show = _command(
        inner, "show", "arbiter.cli.capabilities:show", "show one capability: manifest, versions, exam record, code"
    )
    show.add_argument("name", metavar="NAME")
    show.add_argument("--sha", metavar="SHA", help="a version's hash or its beginning (default: the active version)")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="everything as JSON")
    _place(show, default=argparse.SUPPRESS)

    search = _command(inner, "search", "arbiter.cli.capabilities:search", "say which capabilities fit a need, and why")
    search.add_argument("need", metavar="NEED", help="what should be done, in words")
    search.add_argument("--limit", metavar="N", type=_positive, default=10, help="how many (default 10)")
    search.add_argument("--tenant", metavar="NAME", default=argparse.SUPPRESS, help="only what this tenant may use")
    search.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="everything as JSON")
    _place(search, default=argparse.SUPPRESS)

    same = _command(
        inner,
        "duplicates",
        "arbiter.cli.capabilities:duplicates",
        "list what is nearly the same, or contradicts itself",
    )
    same.add_argument(
        "--least", metavar="SHARE", type=_share, default=0.75, help="likeness from 0 to 1 to begin at (default 0.75)"
    )
    same.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each as JSON")
    _place(same, default=argparse.SUPPRESS)

    for name, does in (
        ("sign", "vouch for a version with this user's key, after you looked at it"),
        ("revoke", "let a version never run again"),
        ("approve", "approve the grants of a version that waits for it, and offer it"),
        ("refuse", "refuse the grants of a version that waits for approval; it never runs"),
    ):
        one = _command(inner, name, f"arbiter.cli.capabilities:{name}", does)
        one.add_argument("name", metavar="NAME")
        one.add_argument("--sha", metavar="SHA", help="a version's hash or its beginning (default: the one meant)")
        if name in ("revoke", "refuse"):
            one.add_argument("--reason", metavar="WORDS", default="", help="for the audit")
        if name == "approve":
            one.add_argument(
                "--source", metavar="LABEL", action="append", default=[],
                help="each source that is not trusted and asked for it, as 'waiting' tells them; may be repeated",
            )  # fmt: skip
        _place(one, default=argparse.SUPPRESS)
    waiting = _command(
        inner, "waiting", "arbiter.cli.capabilities:waiting", "list what waits for approval of its grants"
    )
    waiting.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each as JSON")
    _place(waiting, default=argparse.SUPPRESS)


def _eval(commands: _Commands) -> None:
    text = """\
Measure how well the matcher finds capabilities and how well it knows that none fits, beside BM25 and
the fusion of both. DIR has tools.jsonl and queries*.jsonl, or folders that have; then all of them are
measured as one pooled registry as well. See docs/matching.md."""
    everything = _command(commands, "eval", "arbiter.cli.evaluation:matching", "measure the matcher on corpora", text)
    inner = everything.add_subparsers(metavar="WHAT", required=True)
    one = _command(inner, "matching", "arbiter.cli.evaluation:matching", "measure the matcher on corpora", text)
    one.add_argument("folder", metavar="DIR")
    one.add_argument(
        "--limit", metavar="N", type=_positive, default=500, help="needs of a corpus at most (default 500)"
    )
    one.add_argument("--seed", metavar="N", type=_number, default=1, help="of samples and intervals (default 1)")
    one.add_argument("--picture", metavar="FILE", help="draw risk by coverage into an SVG file")
    one.add_argument("--refit", metavar="FILE", help="fit the calibration on these corpora and write it to FILE")
    one.add_argument("--calibration", metavar="FILE", help="measure with a calibration that --refit wrote")
    _json(one, "one line for each corpus")


def _keys(commands: _Commands) -> None:
    text = """\
Generated code runs only with a signature of a key that the board trusts. Each user has a key of
their own, made when it is first needed; a new board trusts the first that signs for it."""
    keys = _command(commands, "keys", "arbiter.cli.keys:listing", "list, trust, revoke or change signing keys", text)
    _json(keys, "one line for each key")
    _place(keys)
    inner = keys.add_subparsers(metavar="COMMAND")
    listing = _command(inner, "list", "arbiter.cli.keys:listing", "list the keys this board trusts or trusted", text)
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each key as JSON")
    _place(listing, default=argparse.SUPPRESS)
    trust = _command(inner, "trust", "arbiter.cli.keys:trust", "let a key's signatures count on this board")
    trust.add_argument("public", metavar="PUBLIC", nargs="?", help="public key, 64 hex digits (default: this user's)")
    trust.add_argument("--note", metavar="WORDS", default="", help="whose it is")
    _place(trust, default=argparse.SUPPRESS)
    revoke = _command(
        inner, "revoke", "arbiter.cli.keys:revoke", "let what a key signed count no more, at once and for ever"
    )
    revoke.add_argument("key", metavar="KEY", help="id of the key, or its beginning")
    revoke.add_argument("--after", metavar="TIME", help="only what it signed from TIME on, such as 2027-03-01T09:00")
    revoke.add_argument("--before", metavar="TIME", help="only what it signed before TIME; the key goes on")
    revoke.add_argument("--reason", metavar="WORDS", default="", help="for the audit")
    _place(revoke, default=argparse.SUPPRESS)
    rotate = _command(
        inner, "rotate", "arbiter.cli.keys:rotate", "sign with a new key from now on; old signatures go on counting"
    )
    _place(rotate, default=argparse.SUPPRESS)
    audit = _command(inner, "audit", "arbiter.cli.keys:audit", "what was trusted, signed and revoked, and by whom")
    audit.add_argument("--limit", metavar="N", type=_positive, default=50, help="the last N lines (default 50)")
    audit.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line each as JSON")
    _place(audit, default=argparse.SUPPRESS)


def _schedules(commands: _Commands) -> None:
    text = """\
Have a request submitted at its times, by the processes that serve the board: exactly one run for
each occurrence. In texts of the request {{occurrence}} (UTC), {{local}} and {{schedule}} are filled
in. Adding the same schedule again changes nothing."""
    schedule = _command(commands, "schedule", "arbiter.cli.schedules:listing", "start runs at their times", text)
    inner = schedule.add_subparsers(metavar="COMMAND", required=True)
    module = "arbiter.cli.schedules"
    add = _command(inner, "add", f"{module}:add", "store a schedule", text)
    add.add_argument("name", metavar="NAME")
    _request(add, key=False)
    when = add.add_mutually_exclusive_group(required=True)
    when.add_argument("--at", metavar="TIME", help="once: 2027-03-01T09:00, in the time zone, or with an offset")
    when.add_argument("--rate", metavar="INTERVAL", help="every '30 seconds', '5 minutes', '1 hour', '7 days'")
    when.add_argument("--cron", metavar="FIELDS", help="'minute hour day month weekday', or @hourly to @yearly")
    add.add_argument("--timezone", metavar="ZONE", default="UTC", help="such as Europe/Berlin (default UTC)")
    add.add_argument("--start", metavar="TIME", help="no occurrence before; a rate counts from it")
    add.add_argument("--end", metavar="TIME", help="no occurrence after")
    add.add_argument(
        "--window", metavar="SECONDS", type=_seconds, default=0.0, help="spread occurrences over so long (default 0)"
    )
    add.add_argument(
        "--catch-up",
        choices=("none", "last", "all"),
        help="what was missed while nothing ran (default none; --at: last)",
    )
    add.add_argument("--overlap", choices=("skip", "allow"), default="skip", help="while the run before goes on")
    add.add_argument("--delete-after-completion", action="store_true", help="remove it when it is over")
    add.add_argument("--disabled", action="store_true", help="store it at rest")
    add.add_argument("--replace", action="store_true", help="take the place of another of this name")
    everything = _command(inner, "list", f"{module}:listing", "list the schedules of the board")
    for parser in (add, everything):
        _json(parser, "schedules, one to a line,")
        _place(parser)
    for name, does in (
        ("show", "show one schedule"),
        ("remove", "forget a schedule; its runs go on"),
        ("enable", "let a schedule occur again, from now on"),
        ("disable", "keep a schedule from occurring"),
        ("run", "submit the request of a schedule now"),
    ):
        parser = _command(inner, name, f"{module}:{name}", does)
        parser.add_argument("name", metavar="NAME")
        _json(parser, "the run's id" if name == "run" else "the schedule")
        _place(parser)


def _budgets(commands: _Commands) -> None:
    text = """\
What may be spent at each level, and what was. LEVEL is board, tenant:NAME, run:ID, task:ID,
capability:NAME or model:NAME; with /day behind it, its budget is a new one each day (UTC)."""
    budgets = _command(commands, "budgets", "arbiter.cli.budgets:listing", "list budgets, show or set them", text)
    _json(budgets, "one line for each level")
    _place(budgets)
    inner = budgets.add_subparsers(metavar="COMMAND")
    show = _command(inner, "show", "arbiter.cli.budgets:show", "show levels, also runs and tasks", text)
    show.add_argument("level", metavar="LEVEL", nargs="+")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each level as JSON")
    _place(show, default=argparse.SUPPRESS)
    write = _command(inner, "set", "arbiter.cli.budgets:write", "give a level a budget; what it has spent counts", text)
    write.add_argument("level", metavar="LEVEL")
    for name, what in (
        ("tokens", "model tokens"),
        ("money", "units of the currency of the price table"),
        ("seconds", "seconds of model calls"),
        ("fabrications", "fabrications"),
    ):
        write.add_argument(f"--{name}", metavar="N", help=f"at most N {what}")
    write.add_argument("--none", action="store_true", help="take the budget away")
    _place(write, default=argparse.SUPPRESS)


def _tokens(commands: _Commands) -> None:
    text = """\
Tokens open the HTTP API (serve --http) to programs. Each has scopes, which include nothing of each
other, an end, and perhaps a tenant whose runs are all it sees. A token is shown once, when it is made."""
    tokens = _command(commands, "tokens", "arbiter.cli.tokens:listing", "list, make or revoke tokens", text)
    _json(tokens, "one line for each token")
    _place(tokens)
    inner = tokens.add_subparsers(metavar="COMMAND")
    listing = _command(inner, "list", "arbiter.cli.tokens:listing", "list the tokens of the board")
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each as JSON")
    create = _command(inner, "create", "arbiter.cli.tokens:create", "make a token and print it, this once", text)
    create.add_argument("--name", metavar="NAME", required=True, help="for people; whose it is or what it is for")
    create.add_argument(
        "--scope", metavar="SCOPE", action="append", required=True,
        help="runs:read, runs:write, capabilities:read, capabilities:approve, limits:read, metrics:read or "
        "audit:read; may be repeated",
    )  # fmt: skip
    create.add_argument("--tenant", metavar="NAME", help="confine it to this tenant")
    create.add_argument("--expires", metavar="SPAN", default="90d", help="12h, 90d, 52w or never (default 90d)")
    create.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="with all about it as JSON")
    revoke = _command(inner, "revoke", "arbiter.cli.tokens:revoke", "let a token open nothing any more")
    revoke.add_argument("token", metavar="TOKEN", help="its id, the beginning of it, or its name")
    revoke.add_argument("--reason", metavar="WORDS", default="", help="for the audit")
    for parser in (listing, create, revoke):
        _place(parser, default=argparse.SUPPRESS)


def _audit(commands: _Commands) -> None:
    text = """\
Who did what to the board: keys, versions, grants, tokens, runs that were stopped; and what code used
of what it was granted. The latest records, the oldest of them first."""
    audit = _command(commands, "audit", "arbiter.cli.audit:run", "read the audit", text)
    audit.add_argument("--where", metavar="TERMS", default="", help=RECORDS)
    audit.add_argument("--limit", metavar="N", type=_positive, default=50, help="how many (default 50)")
    audit.add_argument("--after", metavar="POSITION", help="those before this one, as a page says at its end")
    audit.add_argument("--follow", "-f", action="store_true", help="go on with records as they are written")
    _json(audit, "one line for each record")
    _place(audit)


def _entries(commands: _Commands) -> None:
    text = """\
What is written on the board for others to find. SCOPE is tenant:NAME, run:ID, session:NAME, group:NAME
or public. A PATTERN is a topic in which * stands for one word and > at the end for one or more. TERMS
are conditions on the content: amount>=100 status!=paid customer.name~acme due? @confidence>0.5"""
    entries = _command(commands, "entries", "arbiter.cli.entries:query", "write and find entries on the board", text)
    inner = entries.add_subparsers(metavar="COMMAND", required=True)
    module = "arbiter.cli.entries"

    def command(name: str, function: str, does: str, record: str) -> argparse.ArgumentParser:
        parser = _command(inner, name, f"{module}:{function}", does, f"{does[0].upper()}{does[1:]}. {text}")
        parser.add_argument(
            "--scope", metavar="SCOPE", default="tenant:default", help="whose entries (default tenant:default)"
        )
        _json(parser, record)
        _place(parser)
        return parser

    post = command("post", "post", "write an entry and print its id", "what was written")
    post.add_argument("topic", metavar="TOPIC", help="such as claims.invoice.4711")
    post.add_argument("content", metavar="CONTENT", help="JSON, else text; @FILE, or - for standard input")
    post.add_argument("--expect-topic", metavar="N", type=int, help="only if so many facts were written on the topic")
    amend = command("amend", "amend", "let an entry say something else from here on", "what was written")
    amend.add_argument("entry", metavar="ENTRY")
    amend.add_argument("content", metavar="CONTENT", nargs="?", help="as for post (default: as it is)")
    for parser in (post, amend):
        parser.add_argument("--confidence", metavar="P", help="0 to 1")
        parser.add_argument(
            "--link", metavar="RELATION:ENTRY", action="append", help="what it says about another entry"
        )
        parser.add_argument("--taint", metavar="LABEL", action="append", help="where it came from; may be repeated")
        parser.add_argument("--seconds", metavar="S", help="time to live (default: its scope's)")
    retract = command("retract", "retract", "say that what an entry says counts no more", "what was written")
    retract.add_argument("entry", metavar="ENTRY")
    retract.add_argument("--reason", metavar="TEXT", default="", help="why")
    for parser in (amend, retract):
        parser.add_argument("--expect", metavar="N", type=int, help="only this version of it")
    read = command("read", "read", "print an entry", "the entry")
    read.add_argument("entry", metavar="ENTRY")
    read.add_argument("--history", action="store_true", help="all it has said, oldest first")
    query = command("query", "query", "print the entries that fit", "one line for each entry")
    query.add_argument("pattern", metavar="PATTERN", nargs="?", default=">", help="of topics (default: all)")
    query.add_argument("--links-to", metavar="ENTRY", help="only entries that link to this one")
    query.add_argument("--rel", metavar="RELATION", help="only by links of this kind")
    query.add_argument("--limit", metavar="N", type=_positive, default=100, help="how many (default 100)")
    for parser in (read, query):
        parser.add_argument("--at", metavar="POSITION", help="as of this position of the log")
    watch = command("watch", "watch", "print what happens to entries, as it happens", "events")
    watch.add_argument("pattern", metavar="PATTERN", nargs="?", default=">", help="of topics (default: all)")
    watch.add_argument("--after", metavar="POSITION", help="begin after this position; - for all (default: now)")
    watch.add_argument("--count", metavar="N", type=_positive, help="end after so many")
    take = command("take", "take", "take the first fitting entry off the board: nobody else gets it", "the entry")
    take.add_argument("pattern", metavar="PATTERN", help="of topics")
    take.add_argument("--wait", metavar="S", default="0", help="how long to wait for one, in seconds (default 0)")
    for parser in (query, watch, take):
        parser.add_argument("--where", metavar="TERMS", default="", help="conditions on the content")
    for parser in (post, amend, retract, take):
        parser.add_argument("--key", metavar="KEY", help="names this writing: the same once more has no further effect")
    schemas = command("schema", "schemas", "list the schemas of topics, set one, or take it away", "the schemas")
    schemas.add_argument("pattern", metavar="PATTERN", nargs="?", help="of topics")
    schemas.add_argument("schema", metavar="SCHEMA", nargs="?", help="JSON Schema, @FILE, or - for standard input")
    schemas.add_argument("--none", action="store_true", help="take it away")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return number


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return number
