"""What can be said about peers: those of the board, and what the ones in a file would offer."""

from __future__ import annotations

import argparse

from arbiter.cli import words
from arbiter.cli.words import Commands


def peers(commands: Commands) -> None:
    text = """\
Peers are systems elsewhere whose tools are capabilities here: MCP servers and A2A agents. Which ones a
process serves is said where it is started, with serve --peers FILE; the board knows what they offer and
whether they answer."""
    peers = words.command(commands, "peers", "arbiter.cli.peers:listing", "list peers, or try those of a file", text)
    words.as_json(peers, "one line for each peer")
    words.place(peers)
    inner = peers.add_subparsers(metavar="COMMAND")
    listing = words.command(inner, "list", "arbiter.cli.peers:listing", "list the peers of the board")
    listing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line for each as JSON")
    words.place(listing, default=argparse.SUPPRESS)
    check = words.command(
        inner, "check", "arbiter.cli.peers:check", "connect to the peers of a file and say what they would offer",
        "Connect to each peer of a file and say what it would offer. Nothing is registered.",
    )  # fmt: skip
    check.add_argument("file", metavar="FILE", help="TOML or JSON, as for serve --peers")
    check.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one line for each capability as JSON"
    )
