"""The peers that one process serves, each followed by a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from blackboard.ending import end
from blackboard.errors import BadInput
from blackboard.peers import Peers
from registry import Capability, Manifest, Registry
from wrapper.peers.follower import LEAVE_SECONDS, Follower, Sleep
from wrapper.peers.peer import Peer
from wrapper.secrets import Secrets


class Following:
    """The followers of one process.

    Args:
        functions: the capabilities this process can call, by name.
        changed: told when there are other capabilities, or other lanes.
    """

    def __init__(
        self,
        functions: MutableMapping[str, Capability[..., Any]],
        changed: Callable[[], None],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._functions, self._changed, self._sleep = functions, changed, sleep
        self._followers: dict[str, Follower] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._followers)

    def __iter__(self) -> Iterator[Follower]:
        return iter(self._followers.values())

    async def add(self, peer: Peer, registry: Registry, said: Peers, process: str, secrets: Secrets) -> Follower:
        """Follow one more peer; it was asked once when this returns, whether or not it answered.

        Raises:
            BadInput: there is a peer of this kind and name already.
        """
        follower = Follower(peer, registry, said, process, self._functions, secrets, self._changed, self._sleep)
        if follower.lane in self._followers:
            raise BadInput("peers", follower.label, "Give each peer a name of its own.")
        self._followers[follower.lane] = follower
        self._running[follower.lane] = asyncio.create_task(follower.run(), name=follower.label)
        await follower.first()
        return follower

    def get(self, label: str) -> Follower:
        """The follower of a peer, by its label or its name.

        Raises:
            BadInput: this process serves no such peer.
        """
        for each in self._followers.values():
            if label in (each.label, each.peer.name):
                return each
        known = ", ".join(each.label for each in self._followers.values()) or "none"
        raise BadInput("peer", label, f"This process serves {known}.")

    def lanes(self) -> list[str]:
        """The lanes of the peers this process takes work for."""
        return [lane for lane, each in self._followers.items() if each.serves]

    async def renew(self, manifest: Manifest) -> None:
        """Ask the peer a manifest belongs to what it offers; nothing happens for what belongs to none.

        Raises:
            PeerUnavailable: it does not answer.
        """
        follower = self._followers.get(manifest.action)
        if follower is not None:
            await follower.renew()

    async def close(self) -> None:
        """Follow none of them any more: connections are closed, programs that were started here ended."""
        running = list(self._running.values())
        for each in running:
            each.cancel()
        if running:
            # Once, and patiently: a program that is told to end twice is not ended better.
            await asyncio.wait(running, timeout=2 * LEAVE_SECONDS)
        await end(each for each in running if not each.done())
        self._followers.clear()
        self._running.clear()
