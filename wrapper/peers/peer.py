"""What a peer is to the rest of the program, whatever protocol it speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import JsonValue

from blackboard.errors import BadInput
from registry.peers import Listing
from wrapper.reporting import Reporter
from wrapper.secrets import PLACEHOLDER, Secrets

REFRESH_SECONDS = 60.0
ANSWER_SECONDS = 10.0
CALL_SECONDS = 60.0
START_SECONDS = 60.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Session(Protocol):
    """A peer that answers."""

    async def offers(self) -> Listing:
        """What it offers now."""
        ...

    async def call(self, tool: str, given: Mapping[str, JsonValue], report: Reporter | None) -> JsonValue:
        """Call a tool and wait for its result. To stop it, cancel this; the peer is told.

        Raises:
            PeerUnavailable: nothing was sent.
            PeerLost: the connection broke; whether it was carried out is not known.
            Permanent: another try would fail in the same way.
            PeerFailed: the peer says that it failed.
        """
        ...

    async def changed(self) -> None:
        """Wait until the peer says that it offers something else. For ever, where it cannot say so."""
        ...


class Peer(Protocol):
    """A system elsewhere."""

    @property
    def kind(self) -> str:
        """The protocol: ``mcp``, ``a2a``."""
        ...

    @property
    def name(self) -> str: ...

    @property
    def refresh_seconds(self) -> float:
        """How often it is asked what it offers, whatever it says by itself."""
        ...

    @property
    def answer_seconds(self) -> float:
        """How long it may take to answer that before it is taken for unreachable."""
        ...

    @property
    def open_seconds(self) -> float:
        """How long it may take to be connected to."""
        ...

    def open(self, secrets: Secrets) -> AbstractAsyncContextManager[Session]:
        """Connect to it."""
        ...


class PeerFailed(Exception):
    """The peer carried the call out, or tried to, and says that it failed."""


def checked_seconds(field: str, seconds: float, most: float = 86_400.0) -> float:
    """A number of seconds as it was given.

    Raises:
        BadInput: it is not above 0, or too much.
    """
    if not 0 < seconds <= most:
        raise BadInput(f"peer.{field}", seconds, f"Give seconds above 0, at most {most:g}.")
    return seconds


def checked_url(url: str, values: Mapping[str, str]) -> str:
    """The address of a peer as it was given.

    Args:
        values: headers that are sent there.

    Raises:
        BadInput: no http or https URL, one with a password in it, or one that would carry a secret unencrypted.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput("peer.url", url, "Give an http or https URL.")
    if parts.username or parts.password:
        raise BadInput("peer.url", "(hidden)", "Put no password into it; use a header with {{secret:HANDLE}}.")
    secret = any(PLACEHOLDER.search(value) for value in values.values())
    if secret and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise BadInput("peer.url", url, "A secret would go there unencrypted; use https.")
    return url


def filled(values: Mapping[str, str], secrets: Secrets) -> dict[str, str]:
    """Values with ``{{secret:HANDLE}}`` replaced by the secret.

    Raises:
        BadInput: there is no such secret, or it cannot be used.
    """

    def value(match: re.Match[str]) -> str:
        found = secrets.get(match[1])
        if found is None:
            raise BadInput(f"secret {match[1]}", None, f"Set ARBITER_SECRET_{match[1].upper().replace('-', '_')}.")
        return found

    return {name: PLACEHOLDER.sub(value, text) for name, text in values.items()}
