"""The peers of a board, for people and programs: what is known of each, and those this process serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blackboard.board import Board
from blackboard.peers import Peers as Said
from blackboard.types import Record
from registry import Registry
from registry.peers import label, offered_by, peer_of

if TYPE_CHECKING:
    from arbiter.serving import Serving
    from registry.peers import Refused
    from wrapper.peers import Peer
    from wrapper.peers.follower import Follower


class PeerState(Record):
    """What is known of a peer."""

    peer: str
    """Kind and name, such as ``mcp:files``."""
    available: bool
    """Whether a process reaches it now."""
    reason: str = ""
    """Why not."""
    processes: int
    """How many processes say that they reach it."""
    since: float | None = None
    """Since when it is as it is, by what they say: seconds since the epoch, on the server's clock."""
    capabilities: tuple[str, ...] = ()
    """The active capabilities it offers, by name."""


class Peers:
    """The peers of a board.

    Args:
        board, registry: of them.
    """

    def __init__(self, board: Board, registry: Registry) -> None:
        self._board, self._registry = board, registry

    async def list(self) -> list[PeerState]:
        """What is known of each peer that a process serves, served lately, or offered something that is still active."""
        heard = await Said(self._board.catalog).heard()
        offered: dict[str, list[str]] = {peer: [] for peer in heard.peers()}
        for version in await self._registry.list():
            if (peer := offered_by(version.manifest) or peer_of(version.manifest)) is not None:
                offered.setdefault(label(*peer[:2]), []).append(version.name)
        states: list[PeerState] = []
        for peer, names in sorted(offered.items()):
            why = heard.trouble(peer)
            holding = [each for each in heard.said if each.peer == peer and each.until > heard.now]
            up = [each for each in holding if each.state == "up"]
            states.append(
                PeerState(
                    peer=peer, available=why is None, reason=why or "", processes=len(up),
                    since=min((each.since for each in up or holding), default=None), capabilities=tuple(names),
                )
            )  # fmt: skip
        return states


class ServedPeers(Peers):
    """The peers of a board, and those this process serves.

    Args:
        board, registry: of them.
        serving: serves them.
    """

    def __init__(self, board: Board, registry: Registry, serving: Serving) -> None:
        super().__init__(board, registry)
        self._serving = serving

    @property
    def following(self) -> Sequence[Follower]:
        """The followers of the peers this process serves."""
        return list(self._serving.following or ())

    async def add(self, *peers: Peer) -> None:
        """Serve peers from now on; each was asked once when this returns, whether or not it answered.

        Nothing of their settings is put on the board: a process that is started again is given them again.

        Raises:
            BadInput: a peer of this kind and name is served already, or this process serves no work.
        """
        await self._serving.follow(*peers)

    async def refresh(self, *peers: str) -> None:
        """Ask peers that this process serves (default: all) now what they offer.

        Raises:
            BadInput: this process does not serve such a peer.
        """
        following = self._serving.following
        if following is None:
            return
        for each in [following.get(peer) for peer in peers] if peers else list(following):
            await each.check()

    def refused(self, peer: str) -> Sequence[Refused]:
        """The tools of a peer this process serves that are not offered, each with the reason.

        Raises:
            BadInput: this process does not serve such a peer.
        """
        following = self._serving.following
        return following.get(peer).refused if following is not None else ()
