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
    words.listing(inner, "arbiter.cli.peers:listing", "list the peers of the board")
    check = words.command(
        inner, "check", "arbiter.cli.peers:check", "connect to the peers of a file and say what they would offer",
        "Connect to each peer of a file and say what it would offer. Nothing is registered.",
    )  # fmt: skip
    check.add_argument("file", metavar="FILE", help="TOML or JSON, as for serve --peers")
    check.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one line for each capability as JSON"
    )


def serve_mcp(commands: Commands) -> None:
    text = """\
Offer what a board can do as an MCP server: its capabilities are the tools, a call is a run. Without
--http it speaks over its standard input and output, to the program that started it; with --http it
answers at /mcp behind the tokens of the HTTP API. Other processes of the board do the work."""
    serve = words.command(
        commands,
        "serve-mcp",
        "arbiter.cli.exporting:serve_mcp",
        "offer the board's capabilities as an MCP server",
        text,
    )
    serve.add_argument("--tenant", metavar="NAME", default="default", help="whose runs calls are (default default)")
    serve.add_argument(
        "--only", metavar="NAME", action="append", help="offer only this capability; may be repeated (default: all)"
    )
    serve.add_argument(
        "--most", metavar="N", type=words.positive, default=64,
        help="list at most N; of more, two tools find and call the rest (default 64)",
    )  # fmt: skip
    http(serve)
    words.place(serve)


def http(parser: argparse.ArgumentParser) -> None:
    """Where the HTTP API answers."""
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
