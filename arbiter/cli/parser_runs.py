"""What can be said about runs: submit, look at, stop, keep, serve."""

from __future__ import annotations

from argparse import SUPPRESS, BooleanOptionalAction

from arbiter.cli import parser_peers, words
from arbiter.cli.words import Commands

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


def demo(commands: Commands) -> None:
    demo = words.command(
        commands, "demo", "arbiter.cli.demonstration:demo", "watch whole runs without an account", DEMO
    )
    demo.add_argument("which", nargs="?", choices=("orders", "invoices", "all"), default="all", help="default: all")
    demo.add_argument("--fresh", action="store_true", help="a new show, even if one is unfinished")
    demo.add_argument("--quiet", action="store_true", help="no progress, only the answers")
    words.as_json(demo, "one line for each run")
    words.place(demo, board=None)


def run(commands: Commands) -> None:
    run = words.command(commands, "run", "arbiter.cli.runs:run", "run a request here and wait for its answer")
    words.request(run)
    words.work(run)
    words.isolation(run)
    words.source(run)
    words.plan(run)
    words.planning(run)
    run.add_argument(
        "--timeout", metavar="SECONDS", type=words.seconds, help="stop waiting after SECONDS; the run stays"
    )
    run.add_argument("--quiet", action="store_true", help="no progress")
    words.as_json(run, "the result")
    words.place(run)


def submit(commands: Commands) -> None:
    submit = words.command(
        commands, "submit", "arbiter.cli.runs:submit", "put a request on the board for a daemon to run"
    )
    words.request(submit)
    words.source(submit)
    words.plan(submit)
    words.as_json(submit, "the run's id")
    words.place(submit)


def call(commands: Commands) -> None:
    text = """\
Call one capability without a model. A process that serves the board and has the capability carries
it out; --wait prints what it returned."""
    call = words.command(commands, "call", "arbiter.cli.runs:call", "call one capability, without a model", text)
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
    words.limits(
        call, ("tokens", "model tokens"), ("money", "units of the currency of the price table"),
        ("seconds", "seconds from acceptance to the end"),
    )  # fmt: skip
    words.source(call)
    call.add_argument("--wait", action="store_true", help="wait for the end and print the result")
    call.add_argument(
        "--timeout", metavar="SECONDS", type=words.seconds, help="stop waiting after SECONDS; the run stays"
    )
    words.as_json(call, "the run's id, or with --wait the result")
    words.place(call)


def rerun(commands: Commands) -> None:
    text = """\
Make a new run of one that is over, with the same request. Calls that succeeded there are not made
again: their results are taken over. What failed, and what was never begun, is done. Asked for
again it is the run there is; where that failed as well, rerun its id."""
    rerun = words.command(commands, "rerun", "arbiter.cli.runs:rerun", "go on from a run that failed", text)
    rerun.add_argument("run", metavar="RUN", help="id of a run, or an unambiguous beginning of one")
    rerun.add_argument(
        "--current-versions", action="store_true",
        help="take over only what the versions returned that are active now (default: whatever succeeded)",
    )  # fmt: skip
    rerun.add_argument("--key", metavar="KEY", help="idempotency key of a rerun of its own (default: one for the run)")
    words.limits(rerun, *words.OF_RUNS)
    words.as_json(rerun, "the run's id")
    words.place(rerun)


def serve(commands: Commands) -> None:
    text = """\
Serve a board until SIGTERM or SIGINT. The first signal drains: nothing new is claimed, running
work may finish within the grace time, and the rest is given back at once for others to take. A
second signal gives everything back immediately."""
    serve = words.command(commands, "serve", "arbiter.cli.daemon:serve", "serve a board as a daemon", text)
    serve.add_argument(
        "--roles",
        metavar="LIST",
        default="arbiter,fabricator,wrapper",
        help="any of arbiter,fabricator,wrapper (default all)",
    )
    worker = words.command(
        commands, "worker", "arbiter.cli.daemon:serve", "run capabilities: serve --roles wrapper", text
    )
    worker.set_defaults(roles="wrapper")
    for parser in (serve, worker):
        words.work(parser)
        parser.add_argument(
            "--strategies", metavar="WHERE", action="append", default=[],
            help="functions that rate what waits on agendas, by name: path.py or module, with :NAME of a mapping (default: "
            "STRATEGIES); may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--peers", metavar="FILE", action="append", default=[],
            help="MCP servers, A2A agents and tables of agents to offer: TOML or JSON, see docs/peers.md; may be repeated",
        )  # fmt: skip
        words.from_sqs(parser)
        words.isolation(parser)
        words.planning(parser)
        parser.add_argument(
            "--no-reflection", dest="reflect", action="store_false",
            help="do not go back from generated code that fails to an earlier version, nor retire it; see docs/reflection.md",
        )  # fmt: skip
        parser.add_argument(
            "--illustrate", action="store_true",
            help="have the model write example needs of what is offered and has none, which costs tokens; see docs/matching.md",
        )  # fmt: skip
        parser.add_argument(
            "--private", metavar="NETWORK", action="append", default=[],
            help="granted requests and webhooks may go to it though it is not public, such as 10.1.0.0/16; may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--lanes", metavar="LIST", default="generic", help="lanes of generated code (default generic)"
        )
        parser.add_argument(
            "--concurrency", metavar="N", type=words.positive, help="tasks this wrapper runs at a time (default 4)"
        )
        parser.add_argument(
            "--grace",
            metavar="SECONDS",
            type=words.seconds,
            default=10.0,
            help="for running work at the end (default 10)",
        )
        parser.add_argument(
            "--health",
            metavar="PORT",
            help="answer /live and /ready on a port of this machine, or on a unix socket's path",
        )
        parser_peers.http(parser)
        parser.add_argument(
            "--console", action=BooleanOptionalAction, default=None,
            help="with --http: serve the page for people at /console (default: with --http-public no, else yes)",
        )  # fmt: skip
        parser.add_argument(
            "--export", choices=("mcp", "a2a"), action="append", default=[],
            help="with --http: offer the capabilities at /mcp as an MCP server, at /a2a as an A2A agent; may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--keep", metavar="LIST", help="how long finished runs stay: 7d, succeeded=7d,failed=30d, forever "
            "(default succeeded=30d, others 90d)",
        )  # fmt: skip
        parser.add_argument(
            "--keep-runs",
            metavar="N",
            type=words.number,
            help="beyond so many the oldest finished runs go (default 100000)",
        )
        parser.add_argument(
            "--compact", metavar="AGE", help="entries' facts that count no more leave scopes that last after so long, such as "
            "90d (default: never)",
        )  # fmt: skip
        parser.add_argument(
            "--lease", metavar="SECONDS", type=words.seconds, default=15.0,
            help="a process silent for so long loses its work to others (default 15)",
        )  # fmt: skip
        parser.add_argument(
            "--log-format",
            choices=("text", "json"),
            help="of the log on standard error (default: ARBITER_LOG_FORMAT, then text)",
        )
        words.place(parser)


def look(commands: Commands) -> None:
    runs = words.command(commands, "runs", "arbiter.cli.runs:runs", "list the latest runs")
    runs.add_argument("--limit", metavar="N", type=words.positive, default=20, help="how many (default 20)")
    runs.add_argument("--where", metavar="TERMS", default="", help=words.WHERE)
    runs.add_argument("--after", metavar="POSITION", help="go on where a page ended")
    words.as_json(runs, "one line for each run")
    show = words.command(commands, "show", "arbiter.cli.runs:show", "show a run: rounds, tasks, answer")
    show.add_argument("run", metavar="RUN", help="id of a run, or an unambiguous beginning of one")
    words.as_json(show, "everything about it")
    why = words.command(
        commands, "why", "arbiter.cli.why:why", "say what was decided in a run, or about a task, and why"
    )
    why.add_argument(
        "run",
        metavar="RUN[/TASK]",
        help="id of a run, or an unambiguous beginning of one; RUN/TASK, as 'show --json' has it, for one of its tasks",
    )
    words.as_json(why, "one line for each decision, or one for the task,")
    events = words.command(
        commands, "events", "arbiter.cli.runs:events", "print events: of one run, or of the latest runs"
    )
    events.add_argument("run", metavar="RUN", nargs="?", default=SUPPRESS, help="only this run, or --run RUN")
    events.add_argument("--run", metavar="RUN", help=SUPPRESS)
    events.add_argument("--follow", "-f", action="store_true", help="go on with events as they happen")
    events.add_argument(
        "--limit", metavar="N", type=words.positive, default=20, help="how many runs to look back (default 20)"
    )
    events.add_argument(
        "--archive", metavar="FILE", help="write events of all runs to FILE (- for output) as CloudEvents"
    )
    words.which(events, "with --archive: ")
    words.as_json(events, "CloudEvents, one to a line,")
    for parser in (runs, show, why, events):
        words.place(parser)


def stop(commands: Commands) -> None:
    module = "arbiter.cli.stopping"
    text = """\
Stop a run, one task of it, or every run that is meant by --where. What waits ends at once; what
runs is told, gets a grace time and is then ended. With --wait, say what became of each task."""
    cancel = words.command(commands, "cancel", f"{module}:cancel", "stop runs, or a task of one", text)
    cancel.add_argument("--task", metavar="KEY", help="only this task of the run, such as price or 2.price")
    cancel.add_argument("--wait", action="store_true", help="until everything has ended, and report each task")
    text = """\
Let a run rest. What runs is left to end; nothing else of the run is handed out, and its deadlines
move on. It goes on by itself when the pause is over."""
    pause = words.command(commands, "pause", f"{module}:pause", "let runs rest", text)
    pause.add_argument("--for", dest="span", metavar="SPAN", default="1d", help="90s, 15m, 2h, 7d (default 1d)")
    resume = words.command(commands, "resume", f"{module}:resume", "let paused runs go on")
    for parser in (cancel, pause, resume):
        parser.add_argument("run", metavar="RUN", nargs="?", help="id of a run, or an unambiguous beginning of one")
        parser.add_argument("--where", metavar="TERMS", help=f"instead of RUN: {words.WHERE}")
        parser.add_argument("--dry-run", action="store_true", help="with --where: do nothing, say which")
        if parser is not resume:
            parser.add_argument("--reason", default="by command", help="kept with the run")
        words.as_json(parser, "one line for each run")
        words.place(parser)


def dead(commands: Commands) -> None:
    text = """\
Dead letters are work that was given up: tasks and runs that failed or ran out of time. redrive makes
a new run of one, of the version of its capability that is active now; discard forgets it."""
    dead = words.command(
        commands, "dead", "arbiter.cli.dead:listing", "look at work that was given up, put it back", text
    )
    inner = dead.add_subparsers(metavar="COMMAND", required=True)
    listing = words.command(inner, "list", "arbiter.cli.dead:listing", "list the latest dead letters")
    listing.add_argument("--limit", metavar="N", type=words.positive, default=20, help="how many (default 20)")
    listing.add_argument("--where", metavar="TERMS", default="", help=words.LETTERS)
    listing.add_argument("--after", metavar="POSITION", help="go on where a page ended")
    words.as_json(listing, "one line for each letter")
    show = words.command(inner, "show", "arbiter.cli.dead:show", "show a dead letter: payload, attempts, reasons")
    show.add_argument("letter", metavar="LETTER", help="id of a task or a run that was given up")
    words.as_json(show, "everything about it")
    redrive = words.command(
        inner, "redrive", "arbiter.cli.dead:redrive", "put dead letters back, each as a run of its own"
    )
    discard = words.command(inner, "discard", "arbiter.cli.dead:discard", "forget dead letters")
    for parser in (redrive, discard):
        parser.add_argument("letter", metavar="LETTER", nargs="*", help="ids of tasks or runs that were given up")
        parser.add_argument("--where", metavar="TERMS", help=words.LETTERS)
        parser.add_argument("--limit", metavar="N", type=words.positive, help="with --where: stop after so many")
        parser.add_argument("--dry-run", action="store_true", help="do nothing, say what would be done")
        words.as_json(parser, "what was done")
    redrive.add_argument("--again", action="store_true", help="also those that were put back before")
    redrive.add_argument(
        "--same-version", action="store_true", help="call the version that failed (default: the one active now)"
    )
    redrive.add_argument("--rerun", action="store_true", help="of runs, take over what succeeded in them")
    for parser in (listing, show, redrive, discard):
        words.place(parser)


def keep(commands: Commands) -> None:
    text = """\
Remove finished runs with everything that belongs to them. Without options by the default policy:
succeeded runs after 30 days, others after 90, and the oldest beyond 100,000. A run that is not
over is never removed. A serving daemon does the same each minute; see serve --keep."""
    prune = words.command(commands, "prune", "arbiter.cli.retention:run", "remove finished runs", text)
    prune.add_argument("--older-than", metavar="AGE", help="those that ended so long ago: 12h, 7d, 4w")
    prune.add_argument("--status", metavar="LIST", help="only these, with commas; with --older-than")
    prune.add_argument("--keep-runs", metavar="N", type=words.number, help="the oldest beyond so many runs")
    prune.add_argument("--limit", metavar="N", type=words.positive, help="stop after so many")
    prune.add_argument("--dry-run", action="store_true", help="remove nothing, say what would be")
    words.as_json(prune, "what was removed")
    words.place(prune)


def archive(commands: Commands) -> None:
    text = """\
Write a finished run to a file: its events as stored, the versions it used with their sources, its
large values, and a hash of it all. Nothing is removed."""
    export = words.command(commands, "export", "arbiter.cli.archive:export", "write a finished run to a file", text)
    export.add_argument("run", metavar="RUN", help="id of a run, or an unambiguous beginning of one")
    export.add_argument("file", metavar="FILE", help="a new file, or - for standard output")
    export.add_argument("--without-values", action="store_true", help="leave large values out, as when one is missing")
    words.place(export)
    text = """\
Put the run in a file on the board as history: listed and shown, never executed. Its hash, its log
and the hashes of its versions and large values are checked first; versions are not registered. A
run of the same id is left alone, and so the command is refused."""
    load = words.command(commands, "import", "arbiter.cli.archive:load", "put an exported run on the board", text)
    load.add_argument("file", metavar="FILE")
    words.as_json(load, "the run")
    words.place(load)

    text = """\
Give the events of an archive again, in order and with their identity: to a file, to a URL as
CloudEvents, or to the board, where requests among them become new runs. Repeating the command
repeats events, and makes no run twice."""
    again = words.command(commands, "replay", "arbiter.cli.archive:replay", "give archived events again", text)
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
        "--batch", metavar="N", type=words.positive, default=50, help="to a URL: events at a time (default 50)"
    )
    again.add_argument(
        "--attempts", metavar="N", type=words.positive, default=5, help="to a URL: for each batch (default 5)"
    )
    words.which(again)
    words.place(again)
