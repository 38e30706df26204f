"""What can be said about a board: schedules, budgets, quotas, tokens, records, entries."""

from __future__ import annotations

import argparse

from arbiter.cli import words
from arbiter.cli.words import Commands


def doctor(commands: Commands) -> None:
    text = """\
Examine the installation, the board's server, the isolation of generated code and the model, one
line each: ok, warn or fail, with a remedy. Exits with 1 when something fails. Without --url a
local server is started, as by any other command."""
    doctor = words.command(commands, "doctor", "arbiter.cli.doctor:run", "say what is missing, and what to do", text)
    doctor.add_argument("--model", metavar="MODEL", help=words.MODEL)
    words.isolation(doctor)
    words.encoder(doctor)
    words.from_sqs(doctor)
    doctor.add_argument("--call", action="store_true", help="also ask the model for a word; costs a few tokens")
    words.as_json(doctor, "one line for each answer")
    words.place(doctor)


def schedules(commands: Commands) -> None:
    text = """\
Have a request submitted at its times, by the processes that serve the board: exactly one run for
each occurrence. In texts of the request {{occurrence}} (UTC), {{local}} and {{schedule}} are filled
in. Adding the same schedule again changes nothing."""
    schedule = words.command(commands, "schedule", "arbiter.cli.schedules:listing", "start runs at their times", text)
    inner = schedule.add_subparsers(metavar="COMMAND", required=True)
    module = "arbiter.cli.schedules"
    add = words.command(inner, "add", f"{module}:add", "store a schedule", text)
    add.add_argument("name", metavar="NAME")
    words.request(add, key=False)
    words.source(add)
    words.plan(add)
    when = add.add_mutually_exclusive_group(required=True)
    when.add_argument("--at", metavar="TIME", help="once: 2027-03-01T09:00, in the time zone, or with an offset")
    when.add_argument(
        "--rate", metavar="INTERVAL", help="every 30s, 5m, 1h or 7d, or '30 seconds', '5 minutes' and so on"
    )
    when.add_argument("--cron", metavar="FIELDS", help="'minute hour day month weekday', or @hourly to @yearly")
    add.add_argument("--timezone", metavar="ZONE", default="UTC", help="such as Europe/Berlin (default UTC)")
    add.add_argument("--start", metavar="TIME", help="no occurrence before; a rate counts from it")
    add.add_argument("--end", metavar="TIME", help="no occurrence after")
    add.add_argument(
        "--window",
        metavar="SECONDS",
        type=words.seconds,
        default=0.0,
        help="spread occurrences over so long (default 0)",
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
    everything = words.command(inner, "list", f"{module}:listing", "list the schedules of the board")
    for parser in (add, everything):
        words.as_json(parser, "schedules, one to a line,")
        words.place(parser)
    for name, does in (
        ("show", "show one schedule"),
        ("remove", "forget a schedule; its runs go on"),
        ("enable", "let a schedule occur again, from now on"),
        ("disable", "keep a schedule from occurring"),
        ("run", "submit the request of a schedule now"),
    ):
        parser = words.command(inner, name, f"{module}:{name}", does)
        parser.add_argument("name", metavar="NAME")
        words.as_json(parser, "the run's id" if name == "run" else "the schedule")
        words.place(parser)


def subscriptions(commands: Commands) -> None:
    text = """\
Programs that follow the events of all runs under a name, and go on where they were: how many events
wait, are held by a program and are done with, how far behind it is, and how often some were gone."""
    subscriptions = words.command(
        commands, "subscriptions", "arbiter.cli.subscriptions:listing", "list who follows all events", text
    )
    words.as_json(subscriptions, "subscriptions, one to a line,")
    words.place(subscriptions)
    inner = subscriptions.add_subparsers(metavar="COMMAND")
    words.listing(inner, "arbiter.cli.subscriptions:listing", "list who follows all events")
    remove = words.command(
        inner, "remove", "arbiter.cli.subscriptions:remove", "forget a subscription and how far it was", text
    )
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="what was done as JSON")
    words.place(remove, default=argparse.SUPPRESS)


def webhooks(commands: Commands) -> None:
    text = """\
Have events sent to an address by the processes that serve the board, as signed CloudEvents, again
and again until each is taken or too old. What waits to be sent is the subscription webhook.NAME.
HANDLE names a secret of those processes: whsec_ and base64, as ARBITER_SECRET_HANDLE or in a file.
A bus or a queue of AWS is an address too, and takes no HANDLE: see docs/aws.md."""
    webhooks = words.command(
        commands, "webhooks", "arbiter.cli.webhooks:listing", "send events to other programs", text
    )
    inner = webhooks.add_subparsers(metavar="COMMAND", required=True)
    module = "arbiter.cli.webhooks"
    put = words.command(inner, "set", f"{module}:put", "send events from now on, or on new terms", text)
    put.add_argument("name", metavar="NAME")
    put.add_argument("webhook_url", metavar="ADDRESS", help="where to: https://..., eventbridge:BUS or sqs:QUEUE_URL")
    put.add_argument("--secret", metavar="HANDLE", help="of the secret that signs; for https only")
    put.add_argument(
        "--kinds", metavar="KINDS", default="run.completed", help="run.*,task.completed (default run.completed)"
    )
    put.add_argument("--tenant", metavar="NAME", help="only of this tenant (default: of all)")
    put.add_argument(
        "--age", metavar="SECONDS", type=words.seconds, default=86_400.0,
        help="how old an event may become while it is sent again (default 86400)",
    )  # fmt: skip
    everything = words.command(inner, "list", f"{module}:listing", "list the webhooks of the board")
    remove = words.command(inner, "remove", f"{module}:remove", "send nothing more")
    test = words.command(inner, "test", f"{module}:test", "send one event that tells of nothing, from here")
    for parser in (remove, test):
        parser.add_argument("name", metavar="NAME")
    test.add_argument(
        "--private", metavar="NETWORK", action="append", default=[], help="may be sent to though not public"
    )
    for parser in (put, everything, remove, test):
        words.as_json(parser, "what is told")
        words.place(parser)


def budgets(commands: Commands) -> None:
    text = """\
What may be spent at each level, and what was. LEVEL is board, tenant:NAME, run:ID, task:ID,
capability:NAME or model:NAME; with /day behind it, its budget is a new one each day (UTC)."""
    budgets = words.command(commands, "budgets", "arbiter.cli.budgets:listing", "list budgets, show or set them", text)
    words.as_json(budgets, "one line for each level")
    words.place(budgets)
    inner = budgets.add_subparsers(metavar="COMMAND")
    words.listing(inner, "arbiter.cli.budgets:listing", "list budgets")
    show = words.command(inner, "show", "arbiter.cli.budgets:show", "show levels, also runs and tasks", text)
    show.add_argument("level", metavar="LEVEL", nargs="+")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each level as JSON")
    words.place(show, default=argparse.SUPPRESS)
    write = words.command(
        inner, "set", "arbiter.cli.budgets:write", "give a level a budget; what it has spent counts", text
    )
    write.add_argument("level", metavar="LEVEL")
    for name, what in (
        ("tokens", "model tokens"),
        ("money", "units of the currency of the price table"),
        ("seconds", "seconds of model calls"),
        ("fabrications", "fabrications"),
    ):
        write.add_argument(f"--{name}", metavar="N", help=f"at most N {what}")
    write.add_argument("--none", action="store_true", help="take the budget away")
    words.place(write, default=argparse.SUPPRESS)


def quotas(commands: Commands) -> None:
    text = """\
How much of the workers somebody may have at a time, how fast, and how many runs may be open.
SUBJECT is board, tenant:NAME, capability:NAME or model:NAME. What a quota holds back waits in its
place; runs beyond one are refused and told when to come again."""
    quotas = words.command(commands, "quotas", "arbiter.cli.quotas:listing", "list quotas, set or remove them", text)
    words.as_json(quotas, "one line for each quota")
    words.place(quotas)
    inner = quotas.add_subparsers(metavar="COMMAND")
    words.listing(inner, "arbiter.cli.quotas:listing", "list quotas")
    write = words.command(
        inner, "set", "arbiter.cli.quotas:write", "give a subject a quota in place of its last one", text
    )
    write.add_argument("subject", metavar="SUBJECT")
    for name, what in (
        ("at-once", "attempts (of a model: calls) at a time"),
        ("per-second", "attempts (of a model: calls) begun in a second"),
        ("burst", "of those at once after a rest (default 1)"),
        ("tokens-per-minute", "tokens of a model's calls begun in a minute"),
        ("open-runs", "runs accepted and not over"),
        ("runs-per-second", "runs accepted in a second"),
        ("runs-burst", "of those at once after a rest (default 1)"),
        ("weight", "share of a tenant's claims beside other tenants' (default 1)"),
    ):
        write.add_argument(f"--{name}", metavar="N", help=what)
    remove = words.command(inner, "remove", "arbiter.cli.quotas:remove", "take a subject's quota away", text)
    remove.add_argument("subject", metavar="SUBJECT")
    for parser in (write, remove):
        words.place(parser, default=argparse.SUPPRESS)


def tokens(commands: Commands) -> None:
    text = """\
Tokens open the HTTP API (serve --http) to programs. Each has scopes, which include nothing of each
other, an end, and perhaps a tenant whose runs are all it sees. A token is shown once, when it is made."""
    tokens = words.command(commands, "tokens", "arbiter.cli.tokens:listing", "list, make or revoke tokens", text)
    words.as_json(tokens, "one line for each token")
    words.place(tokens)
    inner = tokens.add_subparsers(metavar="COMMAND")
    words.listing(inner, "arbiter.cli.tokens:listing", "list the tokens of the board")
    create = words.command(inner, "create", "arbiter.cli.tokens:create", "make a token and print it, this once", text)
    create.add_argument("--name", metavar="NAME", required=True, help="for people; whose it is or what it is for")
    create.add_argument(
        "--scope", metavar="SCOPE", action="append", required=True,
        help="runs:read, runs:write, entries:read, entries:write, entries:erase, capabilities:read, capabilities:approve, "
        "tasks:approve, secrets:permit, limits:read, metrics:read, audit:read, webhooks:write, or group:NAME for entries "
        "of that group; may be repeated",
    )  # fmt: skip
    create.add_argument("--tenant", metavar="NAME", help="confine it to this tenant")
    create.add_argument("--expires", metavar="SPAN", default="90d", help="12h, 90d, 52w or never (default 90d)")
    create.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="with all about it as JSON")
    revoke = words.command(inner, "revoke", "arbiter.cli.tokens:revoke", "let a token open nothing any more")
    revoke.add_argument("token", metavar="TOKEN", help="its id, the beginning of it, or its name")
    revoke.add_argument("--reason", metavar="WORDS", default="", help="for the audit")
    for parser in (create, revoke):
        words.place(parser, default=argparse.SUPPRESS)


def audit(commands: Commands) -> None:
    text = """\
Who did what to the board: keys, versions, grants, tokens, runs that were stopped; and what code used
of what it was granted. The latest records, the oldest of them first."""
    audit = words.command(commands, "audit", "arbiter.cli.audit:run", "read the audit", text)
    audit.add_argument("--where", metavar="TERMS", default="", help=words.RECORDS)
    audit.add_argument("--limit", metavar="N", type=words.positive, default=50, help="how many (default 50)")
    audit.add_argument("--after", metavar="POSITION", help="those before this one, as a page says at its end")
    audit.add_argument("--follow", "-f", action="store_true", help="go on with records as they are written")
    words.as_json(audit, "one line for each record")
    words.place(audit)


def entries(commands: Commands) -> None:
    text = """\
What is written on the board for others to find. SCOPE is tenant:NAME, run:ID, session:NAME, group:NAME
or public. A PATTERN is a topic in which * stands for one word and > at the end for one or more. TERMS
are conditions on the content: amount>=100 status!=paid customer.name~acme due? @confidence>0.5"""
    entries = words.command(
        commands, "entries", "arbiter.cli.entries:query", "write and find entries on the board", text
    )
    inner = entries.add_subparsers(metavar="COMMAND", required=True)
    module = "arbiter.cli.entries"

    def command(name: str, function: str, does: str, record: str) -> argparse.ArgumentParser:
        place = "arbiter.cli.memory" if function in ("promote", "verify") else module
        parser = words.command(inner, name, f"{place}:{function}", does, f"{does[0].upper()}{does[1:]}. {text}")
        parser.add_argument(
            "--scope", metavar="SCOPE", default="tenant:default", help="whose entries (default tenant:default)"
        )
        words.as_json(parser, record)
        words.place(parser)
        return parser

    post = command("post", "post", "write an entry and print its id", "what was written")
    post.add_argument("topic", metavar="TOPIC", help="such as claims.invoice.4711")
    post.add_argument("content", metavar="CONTENT", help="JSON, else text; @FILE, or - for standard input")
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
    for parser in (post, amend, retract):
        parser.add_argument(
            "--expect-topic", metavar="N", type=int, help="only if so many facts were written on the topic"
        )
    read = command("read", "read", "print an entry", "the entry")
    read.add_argument("entry", metavar="ENTRY")
    read.add_argument("--history", action="store_true", help="all it has said, oldest first")
    query = command("query", "query", "print the entries that fit", "one line for each entry")
    query.add_argument("pattern", metavar="PATTERN", nargs="?", default=">", help="of topics (default: all)")
    query.add_argument("--about", metavar="TEXT", help="the best first, by how well they answer to this")
    query.add_argument("--links-to", metavar="ENTRY", help="only entries that link to this one")
    query.add_argument("--rel", metavar="RELATION", help="only by links of this kind")
    query.add_argument("--limit", metavar="N", type=words.positive, default=100, help="how many (default 100)")
    for parser in (read, query):
        parser.add_argument("--at", metavar="POSITION", help="as of this position of the log")
    watch = command("watch", "watch", "print what happens to entries, as it happens", "events")
    watch.add_argument("pattern", metavar="PATTERN", nargs="?", default=">", help="of topics (default: all)")
    watch.add_argument("--after", metavar="POSITION", help="begin after this position; - for all (default: now)")
    watch.add_argument("--count", metavar="N", type=words.positive, help="end after so many")
    take = command("take", "take", "take the first fitting entry off the board: nobody else gets it", "the entry")
    take.add_argument("pattern", metavar="PATTERN", help="of topics")
    take.add_argument("--wait", metavar="S", default="0", help="how long to wait for one, in seconds (default 0)")
    take.add_argument(
        "--lease",
        metavar="S",
        help="hold it for so many seconds; it is back then unless you confirm (default: for good)",
    )
    confirm = command("confirm", "confirm", "have for good what was taken under a lease", "what was written")
    renew = command("renew", "renew", "hold longer what was taken under a lease", "what was written")
    back = command("give-back", "give_back", "let others have what was taken under a lease", "what was written")
    for parser in (confirm, renew, back):
        parser.add_argument("entry", metavar="ENTRY")
        parser.add_argument("fence", metavar="FENCE", type=words.positive, help="as take told it")
    renew.add_argument("lease", metavar="S", help="for so many seconds from now on")
    for parser in (query, watch, take):
        parser.add_argument("--where", metavar="TERMS", default="", help="conditions on the content")
    for parser in (post, amend, retract, take, confirm, renew, back):
        parser.add_argument("--key", metavar="KEY", help="names this writing: the same once more has no further effect")
    promote = command("promote", "promote", "keep what an entry says in a scope that lasts longer", "what was written")
    promote.add_argument("entry", metavar="ENTRY")
    promote.add_argument("--to", metavar="SCOPE", required=True, help="tenant:NAME, session:NAME, group:NAME or public")
    promote.add_argument("--topic", metavar="TOPIC", help="where it is found there (default: as here)")
    command("verify", "verify", "look whether a scope's log still says what was written", "what was found")
    compact = words.command(
        inner, "compact", "arbiter.cli.memory:compact", "take out of a scope's log what counts no more",
        "One summary of it stays. As of positions before that nothing can be read any more.",
    )  # fmt: skip
    compact.add_argument(
        "--scope", metavar="SCOPE", default="tenant:default", help="session:, tenant:, group: or public"
    )
    since = compact.add_mutually_exclusive_group()
    since.add_argument(
        "--older-than", metavar="AGE", default="30d", help="what counted no more so long ago (default 30d)"
    )
    since.add_argument("--before", metavar="POSITION", help="what counted no more as of this position")
    compact.add_argument("--dry-run", action="store_true", help="take nothing out and tell how much it would be")
    words.as_json(compact, "what was taken out")
    words.place(compact)
    erase = words.command(
        inner, "erase", "arbiter.cli.memory:erase", "take off the board what somebody wrote, or a run or a tenant did",
        "What is erased is gone, and the log says by whom it was erased and when. Ask again after a failure: it goes on.",
    )  # fmt: skip
    meant = erase.add_mutually_exclusive_group(required=True)
    meant.add_argument("--author", metavar="NAME", help="what this person, program, event or capability wrote")
    meant.add_argument("--run", metavar="RUN", help="this run, which must be over, and what was made of its entries")
    meant.add_argument("--tenant", metavar="NAME", help="this tenant's runs that are over, and its entries")
    erase.add_argument("--scope", metavar="SCOPE", help="of an author: only here")
    erase.add_argument("--reason", metavar="WORDS", default="", help="for the record")
    words.as_json(erase, "what was erased")
    words.place(erase)
    schemas = command("schema", "schemas", "list the schemas of topics, set one, or take it away", "the schemas")
    schemas.add_argument("pattern", metavar="PATTERN", nargs="?", help="of topics")
    schemas.add_argument("schema", metavar="SCHEMA", nargs="?", help="JSON Schema, @FILE, or - for standard input")
    schemas.add_argument("--none", action="store_true", help="take it away")
