"""One request that was let in, with all that answering it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from arbiter.client import Client
from arbiter.http.access import LOCAL, Access
from blackboard import taint
from blackboard.audit import somebody
from blackboard.board import Board
from blackboard.events import Author
from blackboard.tokens import Token


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, who asks, and of what."""

    request: Request
    client: Client
    token: Token
    access: Access
    closing: asyncio.Event
    """Set when this process ends: what waits answers now."""

    @property
    def board(self) -> Board:
        """The open board."""
        return self.client.board

    @property
    def by(self) -> str:
        """Who asks, for the audit."""
        return f"{somebody()} over http" if self.token.id == LOCAL else self.token.label

    @property
    def author(self) -> Author:
        """Who asks, as the author of what is written."""
        if self.token.id == LOCAL:
            return Author(kind="person", name=somebody())
        return Author(kind="program", name=self.token.name, id=self.token.id)

    def sources(self, named: Sequence[str] = ()) -> taint.Taint:
        """Where what is written comes from: the token, whatever else the client names; of this machine's user what is named.

        Raises:
            BadInput: what is named is no source.
        """
        said = taint.given(named, "taint") if named else ()
        return said if self.token.id == LOCAL else taint.merged(said, (taint.source("token", self.token.name),))

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    async def waited(self, something: Coroutine[Any, Any, object]) -> None:
        """Wait until something is over, whatever comes of it, or this process ends."""
        ending, closing = asyncio.ensure_future(something), asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait({ending, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            closing.cancel()
            await asyncio.gather(ending, closing, return_exceptions=True)

    async def still_valid(self) -> None:
        """Whether the token still counts.

        Raises:
            TokenRefused: it does not any more.
        """
        await self.access.known(self.request.headers["authorization"].partition(" ")[2].strip())
