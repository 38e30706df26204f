"""The commands about signing keys: whose signatures a board accepts."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from arbiter import narration
from arbiter.cli import OK, options, output
from blackboard.board import Board
from blackboard.errors import BadInput
from blackboard.trust import Keys, Span, Trust, TrustedKey
from registry import Signer, keyfile
from registry.signing import key_id, somebody


async def listing(arguments: argparse.Namespace) -> int:
    """List the keys this board trusts or trusted."""
    async with await Board.open(**options.place(arguments)) as board:
        found = await Trust(board.catalog).read()
    keys = sorted(found.keys.values(), key=lambda key: key.added_at)
    if arguments.json:
        for key in keys:
            output.line({**key.model_dump(mode="json"), "state": _state(key, found.now_ms)})
    elif keys:
        head: list[tuple[str, dict[str, Any]]] = [
            ("KEY", {"whole": True}), ("STATE", {"whole": True}), ("SINCE", {"whole": True}),
            ("BY", {}), ("NOTE", {}), ("REVOKED", {})
        ]  # fmt: skip
        rows: list[list[str | Text]] = [
            [
                key.id,
                _state(key, found.now_ms),
                narration.moment(key.added_at),
                narration.one_line(key.by, 60),
                narration.one_line(key.note, 60),
                "; ".join(map(_span, key.revoked)),
            ]
            for key in keys
        ]
        output.print_table(head, rows)
    else:
        output.note("no keys on this board: it will trust the first that signs for it")
    return OK


def _state(key: TrustedKey, now_ms: int) -> str:
    return "revoked" if key.revoked_at(now_ms) else "trusted"


def _span(span: Span) -> str:
    words = [f"from {narration.moment(span.after / 1000)}"] if span.after else []
    words += [f"before {narration.moment(span.before / 1000)}"] if span.before is not None else []
    return " ".join(words) or "all of it"


async def trust(arguments: argparse.Namespace) -> int:
    """Let a key's signatures count on this board."""
    public = arguments.public or Signer.find(None, arguments.data_dir).public
    async with await Board.open(**options.place(arguments)) as board:
        key = key_id(_public(public))
        new = await Trust(board.catalog).add(key, public, by=somebody(), note=arguments.note)
    output.note(f"key {key} is trusted" if new else f"key {key} was trusted already")
    return OK


def _public(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32 or raw.hex() != text:
        raise BadInput(
            "PUBLIC", text, "Give the public key as 64 lower-case hexadecimal digits; 'keys list --json' has it."
        )
    return raw


async def revoke(arguments: argparse.Namespace) -> int:
    """Let what a key signed count no more."""
    after, before = (_ms(f"--{name}", getattr(arguments, name)) for name in ("after", "before"))
    async with await Board.open(**options.place(arguments)) as board:
        trust = Trust(board.catalog)
        key = _meant(await trust.read(), arguments.key)
        new = await trust.revoke(key, by=somebody(), reason=arguments.reason, after_ms=after or 0, before_ms=before)
    what = "what it signed then" if after or before else "all it signed"
    output.note(f"key {key}: {what} {'counts no more' if new else 'counted no more already'}")
    return OK


def _meant(found: Keys, word: str) -> str:
    close = [id for id in found.keys if id.startswith(word)]
    if len(close) != 1:
        known = ", ".join(found.keys) or "none"
        raise BadInput("KEY", word, f"{'Several keys begin' if close else 'No key begins'} like this: {known}.")
    return close[0]


def _ms(field: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(field, text, "Give a time such as 2027-03-01T09:00, or 2027-03-01T09:00+02:00.") from None
    at = int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    if at < 0:
        raise BadInput(field, text, "Give a time after 1970.")
    return at


async def rotate(arguments: argparse.Namespace) -> int:
    """Sign with a new key from now on."""
    if keyfile.given_key() is not None:
        raise BadInput(
            keyfile.ENVIRONMENT,
            "(hidden)",
            "The key is not a file of ours: put another one there, then 'arbiter keys trust'.",
        )
    old = Signer.find(None, arguments.data_dir)
    new = Signer(keyfile.prepared(arguments.data_dir), "rotation")
    async with await Board.open(**options.place(arguments)) as board:
        await Trust(board.catalog).add(new.key, new.public, by=somebody(), note=f"follows {old.key}")
    # Only now: whoever dies before has a trusted key that signs nothing, and the next rotation takes it up.
    keyfile.promote(arguments.data_dir)
    output.note(f"key {new.key} signs from now on; what {old.key} signed counts until it is revoked")
    output.note(
        "other boards: 'arbiter keys trust' on each; running processes sign with the old key until they start again"
    )
    return OK


async def audit(arguments: argparse.Namespace) -> int:
    """What was trusted, signed and revoked, and by whom."""
    async with await Board.open(**options.place(arguments)) as board:
        found = await Trust(board.catalog).audit(arguments.limit)
    for entry in reversed(found):
        if arguments.json:
            output.line(entry.model_dump(mode="json"))
        else:
            said = f"{narration.moment(entry.at)}  {entry.verb:<8} {entry.subject}  by {entry.by}  {entry.reason}"
            output.console().print(Text(narration.one_line(said, 500)), soft_wrap=True)
    return OK
