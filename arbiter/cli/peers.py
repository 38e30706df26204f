"""The commands about peers: what the board knows of them, and what they would offer."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from arbiter import narration
from arbiter.cli import NOT_SUCCEEDED, OK, options, output
from blackboard.board import Board
from registry import Registry
from registry.peers import Listing, label

if TYPE_CHECKING:
    from wrapper.peers import Peer


async def listing(arguments: argparse.Namespace) -> int:
    """List the peers of the board."""
    from arbiter.peers import Peers

    async with await Board.open(**options.place(arguments)) as board:
        found = await Peers(board, Registry(board.catalog)).list()
    if arguments.json:
        for state in found:
            output.line(state.model_dump(mode="json"))
    elif found:
        head: list[tuple[str, dict[str, Any]]] = [
            ("PEER", {"whole": True}), ("STATE", {"whole": True}), ("PROCESSES", {"justify": "right"}),
            ("CAPABILITIES", {"justify": "right"}), ("SINCE", {"whole": True}), ("WHY", {}),
        ]  # fmt: skip
        rows: list[list[str | Text]] = [
            [
                state.peer, "available" if state.available else "unavailable", str(state.processes),
                str(len(state.capabilities)), "" if state.since is None else narration.moment(state.since),
                narration.one_line(state.reason, 200),
            ]
            for state in found
        ]  # fmt: skip
        output.print_table(head, rows)
    else:
        output.note("no peers on this board")
    return OK


async def check(arguments: argparse.Namespace) -> int:
    """Connect to the peers of a file and say what they would offer; nothing is registered."""
    from wrapper.peers.settings import peers

    return await _check(arguments, peers(arguments.file))


async def _check(arguments: argparse.Namespace, peers: Sequence[Peer]) -> int:
    code = OK
    for peer in peers:
        named = label(peer.kind, peer.name)
        try:
            found = await _offers(peer)
        except Exception as error:  # whatever a stranger answers is told, and the next one is asked
            from wrapper.peers.follower import why

            output.note(f"{named}: cannot be reached: {narration.one_line(why(error), 300)}")
            code = NOT_SUCCEEDED
            continue
        for offer in found.offers:
            manifest = offer.manifest
            if arguments.json:
                output.line({"peer": named, "tool": offer.tool, **manifest.model_dump(mode="json")})
            else:
                words = narration.one_line(manifest.description, 100)
                output.text(f"{named}  {manifest.name}  {manifest.effects}  {words}")
        for tool, why_not in found.refused:
            output.note(f"{named}: its tool {narration.one_line(tool, 80)} is not offered: {why_not}")
    return code


async def _offers(peer: Peer) -> Listing:
    from wrapper.secrets import Secrets

    async with asyncio.timeout(peer.open_seconds + peer.answer_seconds):
        async with peer.open(Secrets()) as session:
            return await session.offers()
