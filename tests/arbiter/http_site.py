"""A started HTTP API in this process, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from arbiter_support import arbiter
from http_described import awaited

from arbiter import Arbiter
from arbiter.http import local_token
from arbiter.http.server import Api
from blackboard.audit import Audit, Entry
from blackboard.tokens import Tokens


class Site:
    """A started API and clients of it, which let no answer pass that is not as it is described."""

    def __init__(self, served: Arbiter, api: Api, local: str) -> None:
        self.served, self.api, self.local = served, api, local
        self.port = int(api.address.rpartition(":")[2])
        self._clients: list[httpx.AsyncClient] = []

    def client(self, token: str | None = None, **headers: str) -> httpx.AsyncClient:
        if token != "":
            headers = {"Authorization": f"Bearer {self.local if token is None else token}", **headers}
        client = httpx.AsyncClient(
            base_url=self.api.address, headers=headers, timeout=30, event_hooks={"response": [awaited]}
        )
        self._clients.append(client)
        return client

    async def token(self, *scopes: str, **more: Any) -> str:
        return (await Tokens(self.served.board.catalog).create("ci", scopes, **more))[0]

    async def audit(self, where: str = "") -> list[Entry]:
        return list(reversed((await Audit(self.served.board).list(where)).entries))

    async def ended(self, run: str) -> str:
        """How a run ended."""
        async with asyncio.timeout(60):
            return (await self.served.result(run)).status

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@asynccontextmanager
async def running(url: str, folder: Path, turns: tuple[Any, ...] = (), **options: Any) -> AsyncIterator[Site]:
    async with arbiter(url, list(turns) or ["done"], data_dir=folder, **options) as (a, _):
        api = Api("127.0.0.1:0", data_dir=folder)

        async def ready() -> str | None:
            return None

        await api.start(a, ready)
        site = Site(a, api, local_token.made(folder))
        try:
            yield site
        finally:
            await site.close()
            await api.close()
