"""The commands about entries: entries post, read, query, watch, amend, retract, take, confirm, renew, give-back, schema."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue
from rich.text import Text

from arbiter import narration
from arbiter.cli import NOT_SUCCEEDED, OK, attended, options, output
from blackboard import strict_json
from blackboard.board import Board
from blackboard.entries import UNSET, Entries, Written
from blackboard.entry import Entry
from blackboard.entry_search import MOST_FOUND
from blackboard.errors import BadInput
from blackboard.events import Author, Relation
from blackboard.meaning import Meaning, Ranked
from registry import schema
from registry.matching import passages
from registry.signing import somebody


@attended
async def post(arguments: argparse.Namespace) -> int:
    """Write an entry and print its id."""
    async with in_scope(arguments) as entries:
        confidence = 1.0 if arguments.confidence is None else _number("--confidence", arguments.confidence)
        return said(
            await entries.post(
                arguments.topic, _value(arguments.content, "content"), confidence=confidence,
                links=_links(arguments.link), taint=arguments.taint or (), seconds=_ttl(arguments.seconds),
                expect_topic=arguments.expect_topic, operation=arguments.key,
            ),
            arguments,
        )  # fmt: skip


@attended
async def read(arguments: argparse.Namespace) -> int:
    """Print an entry, or all it has said."""
    async with in_scope(arguments) as entries:
        if arguments.history:
            found = await entries.history(arguments.entry)
        else:
            entry = await entries.read(arguments.entry, at=arguments.at)
            found = [] if entry is None else [entry]
        for entry in found:
            if arguments.json:
                output.line(entry.record())
            else:
                output.text("\n".join(f"{name:10} {value}" for name, value in _lines(entry)))
        if not found:
            output.note("there is no such entry" + (" at that position" if arguments.at else ""))
        return OK if found else NOT_SUCCEEDED


@attended
async def query(arguments: argparse.Namespace) -> int:
    """Print the entries that fit."""

    meaning = passages.meaning()
    async with in_scope(arguments, meaning) as entries:

        def far() -> str:
            known = meaning.size(entries.owner)
            return f"reading what is to be ranked: {known:,} entries" if known else "looking at what there is"

        kept, ranks = list[Entry](), list[Ranked]()
        left, after = arguments.limit, None
        while left:
            async with output.progress(far):
                found = await entries.query(
                    arguments.pattern, arguments.where, about=arguments.about, links_to=arguments.links_to,
                    rel=arguments.rel, limit=left if arguments.about else min(MOST_FOUND, left), after=after,
                    at=arguments.at,
                )  # fmt: skip
            if arguments.json:
                for entry, rank in zip_longest(found.entries, found.ranks):
                    more = {} if rank is None else {"score": round(rank.score, 6), "reasons": list(rank.reasons)}
                    output.line(entry.record() | more)
            else:
                kept += found.entries
                ranks += found.ranks
            left, after = left - len(found.entries), found.after
            if after is None:
                break
        if kept:
            _print_table(kept)
            for rank in ranks:
                output.text(f"{rank.score:.2f} {rank.id}: {narration.one_line('; '.join(rank.reasons), 200)}")
        elif not arguments.json:
            output.note("no such entries")
        if after is not None:
            output.note(f"there may be more: --limit {10 * arguments.limit}")
        return OK


@attended
async def watch(arguments: argparse.Namespace) -> int:
    """Print what happens to entries, as it happens."""
    async with in_scope(arguments) as entries:
        left = arguments.count
        stream = entries.watch(arguments.pattern, arguments.where, after=arguments.after)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                if arguments.json:
                    print(narration.escaped(event.model_dump_json()), flush=True)
                else:
                    said = narration.narrate(event) or event.type
                    print(f"{event.sequence}  {narration.timestamped(event, said)}", flush=True)
                left = None if left is None else left - 1
                if left == 0:
                    break
        return OK


@attended
async def amend(arguments: argparse.Namespace) -> int:
    """Let an entry say something else."""
    async with in_scope(arguments) as entries:
        given: Any = UNSET if arguments.content is None else _value(arguments.content, "content")
        seconds: Any = UNSET if arguments.seconds is None else _ttl(arguments.seconds)
        confidence = None if arguments.confidence is None else _number("--confidence", arguments.confidence)
        return said(
            await entries.amend(
                arguments.entry, given, confidence=confidence, links=_links(arguments.link) if arguments.link else None,
                taint=arguments.taint or (), seconds=seconds, expect=arguments.expect, expect_topic=arguments.expect_topic,
                operation=arguments.key,
            ),
            arguments,
        )  # fmt: skip


@attended
async def retract(arguments: argparse.Namespace) -> int:
    """Say that an entry counts no more."""
    async with in_scope(arguments) as entries:
        return said(
            await entries.retract(
                arguments.entry, arguments.reason, expect=arguments.expect, expect_topic=arguments.expect_topic,
                operation=arguments.key,
            ),
            arguments,
        )  # fmt: skip


@attended
async def take(arguments: argparse.Namespace) -> int:
    """Take an entry off the board and print it."""
    async with in_scope(arguments) as entries:
        seconds = _number("--wait", arguments.wait)
        lease = None if arguments.lease is None else _number("--lease", arguments.lease)
        entry = await entries.take(
            arguments.pattern, arguments.where, seconds=seconds, lease_seconds=lease, operation=arguments.key
        )
        if entry is None:
            output.note("there was none")
            return NOT_SUCCEEDED
        output.line(entry.record() if arguments.json else entry.content)
        if entry.fence is not None:
            output.note(f"when it is done: arbiter entries confirm {entry.id} {entry.fence} --scope {arguments.scope}")
        return OK


@attended
async def confirm(arguments: argparse.Namespace) -> int:
    """Have for good what was taken under a lease."""
    async with in_scope(arguments) as entries:
        return said(await entries.confirm(arguments.entry, arguments.fence, operation=arguments.key), arguments)


@attended
async def renew(arguments: argparse.Namespace) -> int:
    """Hold it longer."""
    async with in_scope(arguments) as entries:
        lease = _number("S", arguments.lease)
        return said(await entries.renew(arguments.entry, arguments.fence, lease, operation=arguments.key), arguments)


@attended
async def give_back(arguments: argparse.Namespace) -> int:
    """Let others have it."""
    async with in_scope(arguments) as entries:
        return said(await entries.give_back(arguments.entry, arguments.fence, operation=arguments.key), arguments)


@attended
async def schemas(arguments: argparse.Namespace) -> int:
    """List the schemas of topics, or set or take away one."""
    async with in_scope(arguments) as entries:
        if arguments.pattern is None:
            for pattern, text in (await entries.schemas()).items():
                output.line({"pattern": pattern, "schema": text})
            return OK
        if arguments.none == (arguments.schema is not None):
            raise BadInput("SCHEMA", arguments.schema, "Give a JSON Schema, or --none.")
        given = None if arguments.none else _value(arguments.schema, "SCHEMA")
        if given is not None and not isinstance(given, dict):
            raise BadInput("SCHEMA", given, "Give a JSON object.")
        await entries.set_schema(arguments.pattern, given)
        output.note(f"{arguments.pattern} has {'no schema any more' if given is None else 'its schema'}")
        return OK


@contextlib.asynccontextmanager
async def in_scope(arguments: argparse.Namespace, meaning: Meaning | None = None) -> AsyncGenerator[Entries, None]:
    """The entries of the scope that was named; by meaning where something ranks them."""
    async with await Board.open(**options.place(arguments)) as board:
        scope = arguments.scope
        if scope.startswith("run:"):
            scope = f"run:{await options.run_id(board, scope[4:])}"
        yield Entries(board, scope, checker=schema, author=Author(kind="person", name=somebody()), meaning=meaning)


def said(written: Written, arguments: argparse.Namespace) -> int:
    """Print what was written."""
    if arguments.json:
        output.line(
            {"id": written.id, "version": written.version, "position": written.position, "new": written.new}
        )  # fmt: skip
    else:
        output.text(written.id)
    return OK


def _value(word: str, field: str) -> JsonValue:
    """The JSON, or else the text, in a word, in ``@FILE`` or on standard input (``-``)."""
    if word == "-":
        word = sys.stdin.read()
    elif word.startswith("@"):
        try:
            word = Path(word[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(field, word, f"It cannot be read as text: {error}. Name an existing file.") from error
    try:
        return cast(JsonValue, strict_json.loads(word))
    except strict_json.NotStrict as error:
        raise BadInput(field, word, f"It is not strict JSON: {error}.") from None
    except ValueError:
        return word


def _links(given: list[str] | None) -> list[tuple[Relation, str]]:
    found: list[tuple[Relation, str]] = []
    for word in given or ():
        rel, colon, to = word.partition(":")
        if not colon:
            raise BadInput("--link", word, "Write RELATION:ENTRY, such as supports:ID.")
        found.append((cast(Relation, rel), to))
    return found


def _number(field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(field, text, "Give a number.") from None


def _ttl(text: str | None) -> float | None:
    return None if text is None or text == "none" else _number("--seconds", text)


def _lines(entry: Entry) -> list[tuple[str, str]]:
    author = entry.author
    found = [
        ("entry", entry.id), ("topic", entry.topic), ("state", entry.state), ("version", str(entry.version)),
        ("confidence", f"{entry.confidence:g}"), ("author", f"{author.kind} {narration.one_line(author.name, 200)}"),
        ("position", entry.position),
    ]  # fmt: skip
    found += [("link", f"{link.rel} {link.to}") for link in entry.links]
    found += [("taint", narration.one_line(label, 200)) for label in entry.taint]
    if entry.expires_at is not None:
        found.append(("expires", narration.moment(entry.expires_at)))
    return [*found, ("content", narration.printable(json.dumps(entry.content, ensure_ascii=False)))]


def _print_table(found: list[Entry]) -> None:
    right = {"justify": "right"}
    head: list[tuple[str, dict[str, Any]]] = [
        ("ENTRY", {"whole": True}), ("TOPIC", {"min_width": 12}), ("V", right), ("CONF", right), ("AUTHOR", {}),
        ("CONTENT", {}),
    ]  # fmt: skip
    rows: list[list[str | Text]] = [
        [
            entry.id, entry.topic, str(entry.version), f"{entry.confidence:g}", narration.one_line(entry.author.name, 40),
            narration.one_line(json.dumps(entry.content, ensure_ascii=False), 200),
        ]
        for entry in found
    ]  # fmt: skip
    output.print_table(head, rows)
